//! The terminal is given back whatever happens while the screen is up. The test runs itself again,
//! under a terminal of its own.

use std::{
    io::{IsTerminal, stdout},
    process::{Command, Stdio},
    time::Duration,
};

use clap::Parser;
use memwire_apps::{
    AppError, Stop,
    args::RunArgs,
    watch::{Sample, Watch, WatchArgs},
};

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    watch: WatchArgs,
}

/// Shows the screen, and goes on as `then` says with the screen up.
fn with_the_screen_up(then: impl FnOnce(Watch) -> Result<(), AppError>) {
    if !stdout().is_terminal() {
        println!("SKIP: needs a terminal, which the other tests here give it");
        return;
    }
    let args = Args::parse_from(["test", "--tui"]);
    let mut watch = Watch::new("test", &args.watch, &args.run, &Stop::new()).unwrap();
    for _ in 0..5 {
        watch.tick(Sample::default).unwrap();
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let ended = then(watch);
    println!("ended {}", ended.is_ok());
}

/// Another thread's panic; the main thread goes on watching.
#[test]
#[ignore = "run by the others, under a terminal"]
fn child_panics() {
    with_the_screen_up(|mut watch| {
        let worker = std::thread::spawn(|| panic!("a worker is lost"));
        assert!(worker.join().is_err());
        for _ in 0..20 {
            watch.tick(Sample::default)?;
            std::thread::park_timeout(Duration::from_millis(20));
        }
        watch.finish(Sample::default())
    });
}

/// An error: the app returns, and the screen goes with the watch.
#[test]
#[ignore = "run by the others, under a terminal"]
fn child_fails() {
    with_the_screen_up(|watch| {
        drop(watch);
        Err(AppError::failed("something"))
    });
}

/// What the child wrote to its terminal, before, on and after the screen.
fn run(child: &str) -> Option<[String; 3]> {
    let test = std::env::current_exe().unwrap();
    let line = format!("exec {} --ignored --nocapture --exact {child}", test.display());
    let mut command = Command::new("script");
    command.args(["-q", "-e", "-c", &line, "/dev/null"]).env("TERM", "xterm");
    let output = command.stdin(Stdio::null()).env("NO_COLOR", "1").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (before, rest) = text.split_once("\u{1b}[?1049h").expect(&text);
    let (on, after) = rest.split_once("\u{1b}[?1049l").expect(&text);
    assert!(!after.contains("\u{1b}[?1049h"), "the screen came back: {text}");
    Some([before, on, after].map(str::to_owned))
}

#[test]
fn a_panic_on_any_thread_gives_the_terminal_back_and_is_told() {
    let Some([_, on, after]) = run("child_panics") else {
        println!("SKIP a_panic_on_any_thread_…: no `script` here");
        return;
    };
    assert!(!on.contains("a worker is lost"), "{on}");
    assert!(after.contains("a worker is lost") && after.contains("ended true"), "{after}");
    assert!(after.contains("\u{1b}[?25h"), "the cursor is back: {after}");
}

#[test]
fn an_error_gives_the_terminal_back() {
    let Some([_, on, after]) = run("child_fails") else {
        println!("SKIP an_error_gives_the_terminal_back: no `script` here");
        return;
    };
    assert!(after.contains("ended false"), "{after}");
    assert!(!on.contains("\u{1b}[38;5"), "NO_COLOR is honoured: {on}");
}
