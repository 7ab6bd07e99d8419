//! Watching the program: the screen under a real terminal, metrics of a running one, files after the
//! run, and what cannot be.

mod common;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use clap::Parser;
use common::{gpurx, json, outcome, run};
use gpurx::{args::Args, run::receive};
use mempool::{Cpu, Pool};
use memwire_apps::{
    Stop,
    report::Output,
    traffic::{Source, SourceOptions, Template},
};
use pmd::{Config, Queues, Registry};
use providers::Host;

/// What a scrape yields: values by name and labels.
type Values = BTreeMap<String, f64>;

fn scrape(addr: SocketAddr) -> Option<Values> {
    let mut stream = TcpStream::connect(addr).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(3))).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, text) = answer.split_once("\r\n\r\n")?;
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let value = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        (name.to_owned(), value.parse().expect("a number"))
    };
    Some(lines.map(value).collect())
}

/// The address that the program says it serves metrics at.
fn metrics_of(child: &mut Child) -> SocketAddr {
    let mut line = String::new();
    BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
    let addr = line.trim().strip_prefix("metrics http://").and_then(|s| s.strip_suffix("/metrics"));
    addr.expect(&line).parse().unwrap()
}

#[test]
fn counters_of_a_running_demo_only_grow() {
    let mut command = gpurx("-t 1500ms --rate 200kpps --loss 1% --metrics 0 --json -m fake");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let addr = metrics_of(&mut child);
    let mut scrapes: Vec<Values> = Vec::new();
    while let Some(values) = scrape(addr) {
        scrapes.push(values);
        std::thread::park_timeout(Duration::from_millis(100));
    }
    let (code, stdout, stderr) = outcome(&child.wait_with_output().unwrap());
    assert_eq!(code, 0, "{stderr}");
    let summary: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert!(scrapes.len() >= 3, "{}", scrapes.len());
    for pair in scrapes.windows(2) {
        for (name, before) in pair[0].iter().filter(|(name, _)| name.contains("_total")) {
            assert!(pair[1][name] >= *before, "{name}: {before} then {}", pair[1][name]);
        }
    }
    let last = scrapes.last().unwrap();
    let sum = |prefix: &str| -> f64 {
        last.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, value)| value).sum()
    };
    // At every moment: offered = packets + drops, and nothing beyond the summary.
    assert_eq!(
        sum("memwire_rx_offered_packets_total") + sum("memwire_tx_offered_packets_total"),
        sum("memwire_rx_packets_total")
            + sum("memwire_tx_packets_total")
            + sum("memwire_drops_total")
    );
    assert!(sum("memwire_rx_packets_total") > 0.0 && sum("memwire_drops_total") > 0.0);
    assert!(sum("memwire_rx_packets_total") <= summary["rx_packets"].as_f64().unwrap());
}

#[test]
fn the_last_scrape_is_what_the_summary_says() {
    const FRAMES: u64 = 5000;
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let line =
        format!("gpurx -p chaos:seed=7,rx.drop=2%@ring:w,size=64 -m fake --quiet --metrics {addr}");
    let args = Args::parse_from(line.split(' '));
    let (stop, mut registry) = (Stop::new(), Registry::new());
    let mut sender = registry.open("ring:w,size=64").unwrap();
    let pool: Pool<Cpu> =
        Pool::builder().name("source").slots(1024).memory(&Host::new()).build().unwrap();
    let tx = sender.start(Config::default().with_tx(&pool)).unwrap().tx.remove(0);
    let template = Template { payload_len: 200, ..Template::default() };
    let options = SourceOptions { template, count: Some(FRAMES), ..SourceOptions::default() };
    let source = Source::new(tx, &pool, options).unwrap();
    let (last, sent, ended) = std::thread::scope(|scope| {
        let stopper = stop.clone();
        let watching = scope.spawn(move || {
            let end = Instant::now() + Duration::from_secs(10);
            let (mut source, mut sent, mut last) = (Some(source), None, Values::new());
            let dropped = |values: &Values| -> f64 {
                values.iter().filter(|(name, _)| name.contains("injected")).map(|(_, n)| n).sum()
            };
            while Instant::now() < end {
                last = scrape(addr).unwrap_or(last);
                // Once somebody answers, somebody receives.
                if let Some(source) = source.take_if(|_| !last.is_empty()) {
                    sent = Some(source.run(&Stop::new()));
                }
                let rows = last.get("memwire_gpurx_rows_total").copied().unwrap_or(0.0);
                if rows > 0.0 && rows + dropped(&last) >= FRAMES as f64 {
                    break;
                }
                std::thread::park_timeout(Duration::from_millis(20));
            }
            stopper.set();
            (last, sent.expect("somebody received"))
        });
        let mut output = Output::new(&args.run).unwrap();
        let ended = receive(&args, &mut registry, &stop, &mut output).unwrap();
        let (last, sent) = watching.join().unwrap();
        (last, sent, ended)
    });
    sender.stop(Queues { rx: Vec::new(), tx: vec![sent.tx] }).unwrap();
    ended.watched.unwrap();
    let summary = ended.summary;
    assert_eq!(summary.offered, FRAMES);
    let (spec, driver) = (&summary.ports[0].port, &summary.ports[0].driver);
    let port = format!(r#"{{port="{spec}",driver="{driver}"#);
    let injected = format!(r#"memwire_drops_total{port}",direction="rx",reason="injected"}}"#);
    for (name, count) in [
        (format!(r#"memwire_rx_offered_packets_total{port}"}}"#), summary.offered),
        (format!(r#"memwire_rx_packets_total{port}"}}"#), summary.rx_packets),
        (format!(r#"memwire_rx_bytes_total{port}"}}"#), summary.rx_bytes),
        (injected, summary.drops.0["injected"]),
        ("memwire_gpurx_rows_total".into(), summary.frames.rows),
        ("memwire_gpurx_rows_ok_total".into(), summary.verify.ok),
        ("memwire_gpurx_blocks_partial_total".into(), summary.blocks.partial),
    ] {
        assert_eq!(last.get(&name), Some(&(count as f64)), "{name} of {last:#?}");
    }
}

#[test]
fn chart_and_page_are_written_when_the_run_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (svg, html) = (at("out.svg"), at("out.html"));
    let line = format!("-t 700ms --rate 200kpps --loss 1% --plot {svg} --report {html} --json");
    let summary: serde_json::Value = serde_json::from_str(&run(&line, 0).0).unwrap();
    let (svg, html) = (fs::read_to_string(svg).unwrap(), fs::read_to_string(html).unwrap());
    assert!(svg.starts_with("<svg") && svg.contains("Frames per second"), "{svg}");
    // The page ends with the counts of the summary.
    let grouped = |count: &serde_json::Value| {
        let digits = count.to_string();
        let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(<[u8]>::to_vec).collect();
        String::from_utf8(groups.join(&b","[..])).unwrap()
    };
    for count in [&summary["rx_packets"], &summary["rx_bytes"], &summary["verify"]["missing"]] {
        assert!(html.contains(&format!("<td>{}</td>", grouped(count))), "{count}");
    }
    assert!(html.contains("all home") && !html.contains("NOT ALL HOME"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no draft is left");
}

#[test]
fn a_full_disk_is_an_error_behind_the_summary() {
    let (stdout, stderr) = run("-c 1k --report /dev/full", 1);
    assert!(stdout.contains("rows    1000"), "{stdout}");
    assert!(stderr.contains("error: --report /dev/full: No space left on device"), "{stderr}");
    // What was checked comes first, and neither is kept quiet about.
    let (_, stderr) = run("-c 100k --loss 5% --max-loss 1% --report /dev/full", 4);
    assert!(stderr.contains("No space left") && stderr.contains("are missing"), "{stderr}");
}

#[test]
fn what_cannot_be_is_refused_before_anything_runs() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = format!("--metrics {}", taken.local_addr().unwrap());
    for (line, code, says) in [
        (&*busy, 3, "somebody listens there already\n hint: another port"),
        ("--metrics here", 2, "no address; such as 127.0.0.1:9464"),
        ("--metrics 192.0.2.1:9464", 3, "no address of this machine"),
        ("--tui", 3, "--tui: stdout is no terminal\n hint: leave --tui out"),
        ("--tui --json-stream", 2, "cannot be used with"),
        ("--tui --quiet", 2, "cannot be used with"),
        ("--plot /nonexistent/out.svg", 3, "--plot /nonexistent/out.svg: No such file"),
        ("--report /", 3, "--report /: "),
        ("--report x --plot x", 2, "name the same file"),
        ("--idle nap", 2, "possible values: spin, pause, sleep"),
    ] {
        let began = Instant::now();
        let (stdout, stderr) = run(line, code);
        assert!(stderr.contains(says), "gpurx {line}: {stderr}");
        assert!(!stdout.contains("rx "), "{stdout}");
        assert!(began.elapsed() < Duration::from_secs(4), "gpurx {line}");
    }
}

#[test]
fn a_reader_that_leaves_early_ends_nothing() {
    let mut command = gpurx("-t 600ms -i 100ms --rate 100kpps --metrics 0");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let addr = metrics_of(&mut child);
    drop(child.stdout.take());
    // One that asks and is gone before the answer.
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    drop(stream);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn every_way_to_idle_receives_every_frame() {
    for how in ["spin", "pause", "sleep"] {
        let summary = json(&format!("-c 20k --rate 100kpps --idle {how}"));
        assert_eq!(summary["verify"]["ok"], 20_000, "{how}");
        let worker = &summary["workers"][0];
        let (rounds, empty) =
            (worker["rounds"].as_u64().unwrap(), worker["empty"].as_u64().unwrap());
        assert!(empty > 0 && empty < rounds, "{how}: {worker}");
    }
}

/// Runs it under a terminal of its own and types; `None` where there is no `script`.
fn on_a_terminal(line: &str, keys: &[u8]) -> Option<(i32, String)> {
    let program = env!("CARGO_BIN_EXE_gpurx");
    let mut command = Command::new("script");
    command.args(["-q", "-e", "-c", &format!("stty rows 30 cols 100; exec {program} {line}")]);
    command.arg("/dev/null").stdin(Stdio::piped()).stdout(Stdio::piped()).env("TERM", "xterm");
    let mut child = command.spawn().ok()?;
    let mut typing = child.stdin.take().unwrap();
    std::thread::park_timeout(Duration::from_millis(900));
    for key in keys {
        typing.write_all(&[*key]).unwrap();
        std::thread::park_timeout(Duration::from_millis(100));
    }
    let output = child.wait_with_output().unwrap();
    let (code, stdout, _) = outcome(&output);
    Some((code, stdout))
}

#[test]
fn the_screen_is_left_as_it_was_and_the_summary_follows() {
    const ENTER: &str = "\u{1b}[?1049h";
    const LEAVE: &str = "\u{1b}[?1049l";
    for (key, line) in [(b'q', "-t 20s"), (0x03, "-t 20s"), (0x1b, "-t 20s"), (b'x', "-t 1500ms")] {
        let began = Instant::now();
        let Some((code, text)) = on_a_terminal(&format!("--tui --rate 100kpps {line}"), &[key])
        else {
            println!("SKIP the_screen_is_left_as_it_was_and_the_summary_follows: no `script` here");
            return;
        };
        assert_eq!(code, 0, "key {key:#x}: {text}");
        let (before, screen) = text.split_once(ENTER).expect(&text);
        let (screen, after) = screen.split_once(LEAVE).expect(&text);
        assert!(before.contains("port 0  ring:demo"), "{before}");
        for part in ["received", "payloads", "worker", "counts"] {
            assert!(screen.contains(part), "{part} in {screen:?}");
        }
        assert!(after.contains("verify  ok") && after.contains("all home"), "{after}");
        assert!(!text.contains("Mpps     Gb/s"), "no live lines: {text}");
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}
