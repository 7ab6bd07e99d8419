//! What watching costs: the same run with screen and metrics, and without, taken in turn; the best of
//! each is compared, for what else the machine does only ever makes a run slower.
//!
//! ```sh
//! cargo test --release -p gpurx --test soak -- --nocapture
//! ```

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

/// Most that watching may cost.
const MOST: f64 = 0.01;
/// Pairs of runs: at least, at most.
const PAIRS: (usize, usize) = (5, 20);

/// Runs on a port that never rests, under a terminal; returns millions of frames per second.
fn run(more: &str, scraped: Option<u16>, json: &Path) -> Option<f64> {
    let program = env!("CARGO_BIN_EXE_gpurx");
    let line = format!("-p null: -m fake -t 1s --sink count {more} --json={}", json.display());
    let mut command = Command::new("script");
    command.args(["-q", "-e", "-c", &format!("stty rows 30 cols 100; exec {program} {line}")]);
    command.arg("/dev/null").stdin(Stdio::null()).stdout(Stdio::piped()).env("TERM", "xterm");
    let mut child = command.spawn().ok()?;
    let mut stdout = child.stdout.take()?;
    let drain = std::thread::spawn(move || {
        let mut screen = Vec::new();
        stdout.read_to_end(&mut screen).map(|_| screen.len())
    });
    // A scrape every half second, twenty times as often as Prometheus usually asks.
    for _ in 0..2 {
        std::thread::park_timeout(Duration::from_millis(450));
        if let Some(mut stream) =
            scraped.and_then(|port| TcpStream::connect(("127.0.0.1", port)).ok())
        {
            let mut text = String::new();
            stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").ok()?;
            stream.read_to_string(&mut text).ok()?;
            assert!(text.contains("memwire_rx_packets_total"), "{text}");
        }
    }
    assert!(child.wait().ok()?.success());
    let drawn = drain.join().ok()?.ok()?;
    assert_eq!(drawn > 3000, scraped.is_some(), "{drawn} B were drawn");
    let summary: serde_json::Value = serde_json::from_slice(&fs::read(json).ok()?).ok()?;
    summary["rates"]["mpps"].as_f64()
}

#[test]
fn screen_and_metrics_cost_no_more_than_a_hundredth() {
    if cfg!(debug_assertions) {
        println!("SKIP screen_and_metrics_cost_no_more_than_a_hundredth: needs --release");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("summary.json");
    let (mut with, mut without) = (Vec::new(), Vec::new());
    // A hundredth takes a machine of its own to see.
    let most = if std::env::var_os("MEMWIRE_FULL").is_some() { MOST } else { 3.0 * MOST };
    let best = |runs: &[f64]| runs.iter().copied().fold(0.0, f64::max);
    for pair in 1..=PAIRS.1 {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let Some(alone) = run("--quiet", None, &json) else {
            println!("SKIP screen_and_metrics_cost_no_more_than_a_hundredth: no `script` here");
            return;
        };
        without.push(alone);
        with.push(run(&format!("--tui --metrics {port}"), Some(port), &json).unwrap());
        let cost = 1.0 - best(&with) / best(&without);
        println!(
            "pair {pair}: {:.2} Mpps alone, {:.2} watched; best {:.2} and {:.2}: {:+.2} %",
            without[pair - 1],
            with[pair - 1],
            best(&without),
            best(&with),
            -cost * 100.0
        );
        if pair >= PAIRS.0 && cost <= most {
            return;
        }
    }
    panic!("watching costs more than {most}: alone {without:?}, watched {with:?}");
}
