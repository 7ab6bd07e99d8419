//! The terminal is given back whatever happens while the screen is up. The test runs itself again,
//! under a terminal of its own.

use std::{
    env,
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
    let args = Args::parse_from(["test", "--tui"]);
    let mut watch = Watch::new("test", &args.watch, &args.run, &Stop::new()).unwrap();
    for _ in 0..5 {
        watch.tick(Sample::default).unwrap();
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let ended = then(watch);
    println!("ended {}", ended.is_ok());
}

/// Set where a test runs itself under a terminal.
const INSIDE: &str = "MEMWIRE_TEST_ON_A_TERMINAL";

/// Runs a test of this file under a terminal; what it wrote there, on the screen and after it. `None`
/// where there is no `script`.
fn on_a_terminal(test: &str) -> Option<[String; 2]> {
    let line = format!("exec {} --nocapture --exact {test}", env::current_exe().unwrap().display());
    let mut command = Command::new("script");
    command.args(["-q", "-e", "-c", &line, "/dev/null"]).stdin(Stdio::null());
    let output =
        command.env("TERM", "xterm").env("NO_COLOR", "1").env(INSIDE, "1").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (_, rest) = text.split_once("\u{1b}[?1049h").expect(&text);
    let (on, after) = rest.split_once("\u{1b}[?1049l").expect(&text);
    assert!(!after.contains("\u{1b}[?1049h"), "the screen came back: {text}");
    Some([on, after].map(str::to_owned))
}

#[test]
fn a_panic_on_any_thread_gives_the_terminal_back_and_is_told() {
    const NAME: &str = "a_panic_on_any_thread_gives_the_terminal_back_and_is_told";
    if env::var_os(INSIDE).is_some() {
        return with_the_screen_up(|mut watch| {
            let worker = std::thread::spawn(|| panic!("a worker is lost"));
            assert!(worker.join().is_err());
            // The main thread goes on watching.
            for _ in 0..20 {
                watch.tick(Sample::default)?;
                std::thread::park_timeout(Duration::from_millis(20));
            }
            watch.finish(Sample::default())
        });
    }
    let Some([on, after]) = on_a_terminal(NAME) else {
        println!("SKIP {NAME}: no `script` here");
        return;
    };
    assert!(!on.contains("a worker is lost"), "{on}");
    assert!(after.contains("a worker is lost") && after.contains("ended true"), "{after}");
    assert!(after.contains("\u{1b}[?25h"), "the cursor is back: {after}");
}

#[test]
fn an_error_gives_the_terminal_back() {
    const NAME: &str = "an_error_gives_the_terminal_back";
    if env::var_os(INSIDE).is_some() {
        // The app returns, and the screen goes with the watch.
        return with_the_screen_up(|watch| {
            drop(watch);
            Err(AppError::failed("something"))
        });
    }
    let Some([on, after]) = on_a_terminal(NAME) else {
        println!("SKIP {NAME}: no `script` here");
        return;
    };
    assert!(after.contains("ended false"), "{after}");
    assert!(!on.contains("\u{1b}[38;5"), "NO_COLOR is honoured: {on}");
}
