//! l2fwd between in-process wires: what goes in comes out, and nothing is unaccounted for.

use std::{
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use l2fwd::{Args, Summary};
use mempool::{Burst, Cpu, Pool, heap::Heap};
use memwire_apps::{
    AppError, Exit, Stop,
    report::Output,
    traffic::{Sent, Source, SourceOptions, Template, TestHeader},
};
use pmd::{Config, Device, Queues, Registry};

fn args(line: &str) -> Args {
    let words = ["l2fwd", "-m", "host"].into_iter().chain(line.split_whitespace());
    Args::try_parse_from(words).unwrap()
}

fn run(line: &str) -> Result<Summary, AppError> {
    let args = args(line);
    let mut output = Output::new(&args.run)?;
    l2fwd::run(&args, &mut Registry::new(), &Stop::new(), &mut output)
}

fn error_of(line: &str) -> (Exit, String) {
    let error = run(line).expect_err("an error");
    (error.code(), error.to_string())
}

/// The other end of one of l2fwd's wires.
struct Peer {
    device: Box<dyn Device>,
    pool: Pool<Cpu>,
    queues: Queues,
}

impl Peer {
    fn start(mut device: Box<dyn Device>) -> Self {
        let memory = Heap::new();
        let pool = Pool::builder().name("peer").slots(4096).memory(&memory).build().unwrap();
        let queues = device.start(Config::one_queue(&pool)).unwrap();
        Self { device, pool, queues }
    }

    /// Receives until nothing has come for a while.
    fn receive(&mut self, mut check: impl FnMut(&[u8])) -> u64 {
        let pmd::AnyRxQueue::Whole(rx) = &mut self.queues.rx[0] else { unreachable!() };
        let (mut cache, mut burst) = (self.pool.cache(), Burst::new(&self.pool));
        let (mut count, mut silence) = (0, 0);
        while silence < 2000 {
            let got = rx.recv(&mut cache, &mut burst);
            burst.iter().for_each(|frame| check(frame.bytes()));
            burst.recycle(&mut cache);
            count += got as u64;
            silence = if got == 0 { silence + 1 } else { 0 };
            if got == 0 {
                thread::park_timeout(Duration::from_micros(100));
            }
        }
        count
    }

    fn stop(mut self) {
        self.device.stop(self.queues).unwrap();
    }
}

/// Sends `count` frames into wire `a` while l2fwd runs, and receives from wire `b` (and `m`).
fn through(line: &str, count: u64, mut check: impl FnMut(u64, &[u8])) -> (Summary, Sent, u64, u64) {
    let mut registry = Registry::new();
    let mut near = registry.open("ring:a").unwrap();
    let mut far = Peer::start(registry.open("ring:b").unwrap());
    let mirror = line.contains("ring:m").then(|| Peer::start(registry.open("ring:m").unwrap()));
    let source_pool = Pool::builder().name("source").slots(4096).memory(&Heap::new()).build();
    let source_pool = source_pool.unwrap();
    let mut near_queues = near.start(Config::default().with_tx(&source_pool)).unwrap();
    let template = Template { payload_len: 64, ..Template::default() };
    let options = SourceOptions { template, count: Some(count), ..SourceOptions::default() };
    let source = Source::new(near_queues.tx.remove(0), &source_pool, options).unwrap();

    let args = args(line);
    let stop = Stop::new();
    let asked = stop.clone();
    let app = thread::spawn(move || {
        let mut output = Output::new(&args.run).unwrap();
        l2fwd::run(&args, &mut registry, &asked, &mut output)
    });
    let sender = thread::spawn(move || source.run(&Stop::new()));
    let copies = mirror.map(|mut peer| {
        thread::spawn(move || {
            let count = peer.receive(|_| ());
            (count, peer)
        })
    });
    let mut at = 0;
    let received = far.receive(|frame| {
        check(at, frame);
        at += 1;
    });
    let mirrored = copies.map(|copies| copies.join().unwrap());
    let end = sender.join().unwrap();
    stop.set();
    let summary = app.join().unwrap().unwrap();
    near_queues.tx.push(end.tx);
    near.stop(near_queues).unwrap();
    far.stop();
    let mirrored = mirrored.map_or(0, |(count, peer)| {
        peer.stop();
        count
    });
    (summary, end.sent, received, mirrored)
}

#[test]
fn every_frame_is_forwarded_or_counted_with_its_addresses_swapped() {
    let (summary, sent, received, _) =
        through("-p ring:a -p ring:b --rewrite mac-swap --quiet", 50_000, |_, frame| {
            assert_eq!(frame[..6], Template::default().src_mac);
            assert_eq!(frame[6..12], Template::default().dst_mac);
            let (header, payload) = TestHeader::read(&frame[42..]).unwrap();
            assert!(header.is_intact(payload));
        });
    assert!(summary.is_balanced());
    assert_eq!(summary.received(), sent.frames);
    let (taken, refused) = summary.sent(1);
    assert_eq!(taken + refused, sent.frames);
    assert_eq!(received, taken);
}

#[test]
fn frames_keep_their_order_and_bytes() {
    let mut last = None;
    let line = "-p ring:a -p ring:b --quiet -b 64";
    let (summary, ..) = through(line, 20_000, |_, frame| {
        assert_eq!(frame[..6], Template::default().dst_mac);
        let sequence = TestHeader::read(&frame[42..]).unwrap().0.sequence();
        assert!(last < Some(sequence), "{last:?} then {sequence}");
        last = Some(sequence);
    });
    assert!(summary.is_balanced());
}

#[test]
fn the_mirror_gets_a_copy_of_every_frame() {
    let line = "-p ring:a -p ring:b --mirror ring:m --quiet";
    let (summary, sent, received, mirrored) = through(line, 20_000, |_, _| ());
    assert!(summary.is_balanced());
    for (port, count) in [(1, received), (2, mirrored)] {
        let (taken, refused) = summary.sent(port);
        assert_eq!(taken + refused, sent.frames);
        assert_eq!(count, taken);
    }
}

#[test]
fn one_port_sends_back_what_it_receives() {
    let summary = run("-p null: --rewrite mac-swap -c 10k --quiet").unwrap();
    assert!(summary.is_balanced());
    assert_eq!(summary.sent(0), (summary.received(), 0));
}

#[test]
fn workers_share_ports_and_queues_and_account_for_all() {
    for (line, workers) in [
        ("-p null: -p null: -q 2", 2),
        ("-p null: -p null: -p null: -p null: -q 1 -l 0", 1),
        ("-p null: -p null: -p null: -q 3 --mode switch", 3),
        ("-p null: -p null: --mirror null: -q 2 --mode switch --vlan 0:trunk=all", 2),
        ("-p null: -p null: -q 4 --idle sleep --rewrite mac-update", 4),
    ] {
        let summary = run(&format!("{line} -c 100k --quiet")).unwrap();
        assert!(summary.is_balanced(), "{line}");
        assert!(summary.received() >= 100_000, "{line}");
        assert_eq!(serde_json::to_value(&summary).unwrap()["workers"], workers, "{line}");
    }
}

#[test]
fn cores_share_the_queues_and_those_beyond_stay_free() {
    let test = "cores_share_the_queues_and_those_beyond_stay_free";
    for (line, workers) in [("-p null: -p null: -l 0-1", 2), ("-p null: -l 0-1", 1)] {
        let summary = match run(&format!("{line} -t 300ms --quiet")) {
            Err(error) if error.to_string().contains("not in allowed set") => {
                eprintln!("SKIP {test}: {error}");
                return;
            }
            summary => summary.unwrap(),
        };
        assert_eq!(serde_json::to_value(&summary).unwrap()["workers"], workers);
        assert!(summary.is_balanced());
        assert!((0..workers).all(|port| summary.sent(port).0 > 0));
    }
}

#[test]
fn the_json_is_what_its_schema_says() {
    let schema = include_str!("../../../docs/schema/l2fwd.json");
    let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
    for line in [
        "-p null: -p null: -c 10k --quiet",
        "-p null: -p null: --mirror null: -c 10k",
        "-p null: -p null: -p null: --mode switch --storm 1kpps --vlan 0:trunk=1-9 -c 10k",
    ] {
        let summary = serde_json::to_value(run(line).unwrap()).unwrap();
        memwire_apps::schema::check(&schema, &summary).unwrap();
        assert_eq!(summary["ended"], "count");
        assert_eq!(summary["balanced"], true);
        assert!(summary["rx_packets"].as_u64() >= Some(10_000));
    }
}

#[test]
fn it_stops_by_itself_when_the_time_is_over() {
    let summary = serde_json::to_value(run("-p null: -p null: -t 50ms").unwrap()).unwrap();
    assert_eq!(summary["ended"], "duration");
    assert!(summary["seconds"].as_f64() < Some(2.0));
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    for (line, code, says) in [
        ("", Exit::Usage, "no ports given"),
        (
            "-p null: -p null: -p null:",
            Exit::Usage,
            "pairs need an even number of ports, or one; 3",
        ),
        ("-p null: --mode switch", Exit::Usage, "a switch needs two ports or more"),
        ("-p null: -p null: --storm 1kpps", Exit::Usage, "--storm is for switches"),
        ("-p null: -p null: --fdb 1K", Exit::Usage, "--fdb is for switches"),
        ("-p null: -p null: --vlan 0:access=1", Exit::Usage, "--vlan is for switches"),
        (
            "-p null: -p null: --mode switch --rewrite mac-swap",
            Exit::Usage,
            "--rewrite changes what a switch goes by",
        ),
        (
            "-p null: -p null: --mode switch --vlan 2:access=1",
            Exit::Usage,
            "--vlan 2: there is no port 2",
        ),
        (
            "-p null: -p null: --mode switch --vlan 1:access=1 --vlan 1:trunk=2",
            Exit::Usage,
            "--vlan 1: port 1 is given twice",
        ),
        ("-p null: -p null: --eth-dest 0:02:00:00:00:00:01", Exit::Usage, "is for --rewrite mac-"),
        ("-p null: -p null: --mirror pcap:/dev/null", Exit::Usage, "this port does not send"),
        ("-p null: -p pcap:,tx=/dev/null -q 2", Exit::Usage, "2 workers send to it"),
        ("-p null:a -p null:a", Exit::Usage, "port 'null:a' is named twice"),
        ("-p nul: -p null:", Exit::Usage, "did you mean 'null'?"),
        ("-p null: -p null: -l 1023", Exit::Usage, "core 1023: not in allowed set"),
        ("-p null: -p null: --ring 1000", Exit::Usage, "must be a power of two"),
        ("-p null: -p null: --buffers 1000", Exit::Usage, "pool of 1000 buffers is too small"),
        ("-p null: -p null: --buffer-size 100", Exit::Usage, "not a multiple of 64"),
        ("-p null: -p null: -q 65", Exit::Usage, "65 receive queues asked, it has 64"),
        ("-p null:,size=4000 -p null:", Exit::Usage, "do not fit buffers"),
    ] {
        let (found, message) = error_of(line);
        assert!(message.contains(says), "{line}: {message}");
        assert_eq!(found, code, "{line}: {message}");
    }
}

/// Waits until the port can, or cannot, be opened by somebody else; returns it if so.
fn wait_for(registry: &mut Registry, is_free: bool) -> Option<Box<dyn Device>> {
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        let port = registry.open("null:plugged").ok();
        if port.is_some() == is_free {
            return port;
        }
        drop(port);
        thread::park_timeout(Duration::from_micros(500));
    }
    panic!("the port was not {} in 10 s", if is_free { "let go of" } else { "opened" });
}

#[test]
fn a_port_that_is_taken_away_is_closed_at_once_and_comes_back_while_the_others_go_on() {
    for (mode, idle) in [("pairs", "spin"), ("switch", "interrupt")] {
        let (mut registry, dir) = (Registry::new(), tempfile::tempdir().unwrap());
        let bound = dir.path().join("bound");
        let line = format!(
            "-p null: -p null: -p chaos:rx.remove#1@null:plugged -p dgram:{},peer=/nobody \
             --mode {mode} --idle {idle} -t 20s --quiet",
            bound.display()
        );
        let (args, stop) = (args(&line), Stop::new());
        let running = thread::spawn({
            let (mut registry, stop) = (registry.clone(), stop.clone());
            move || {
                let mut output = Output::new(&args.run)?;
                l2fwd::run(&args, &mut registry, &stop, &mut output)
            }
        });
        // Opening a port to see whether it is open gets into the way of who opens it first: the last
        // one's path is there when all are open.
        let end = Instant::now() + Duration::from_secs(10);
        while !bound.exists() {
            assert!(Instant::now() < end, "it did not start");
            thread::park_timeout(Duration::from_micros(500));
        }
        for round in 0..3 {
            if round > 0 {
                wait_for(&mut registry, false);
            }
            let open = Instant::now();
            let port = wait_for(&mut registry, true);
            assert!(open.elapsed() < Duration::from_secs(3), "{:?}", open.elapsed());
            drop(port);
        }
        stop.set();
        let summary = running.join().unwrap().unwrap();
        let json = serde_json::to_value(&summary).unwrap();
        assert!(json["fault"].is_null() && summary.is_balanced(), "{json}");
        let removals = json["ports"][2]["device"]["chaos_rx_remove"].as_u64();
        assert!(removals >= Some(3), "{}", json["ports"][2]);
        assert!(
            json["ports"][0]["rx"]["delivered"].as_u64().unwrap() > 100_000,
            "{}",
            json["ports"][0]
        );
        for other in [0, 1] {
            assert_eq!(json["ports"][other]["outages"], 0);
        }
    }
}

#[test]
fn a_removal_ends_the_run_where_that_was_asked() {
    let line = "-p null: -p chaos:rx.remove#1000@null:x --on-fault stop -t 10s";
    let start = Instant::now();
    let summary = run(line).unwrap();
    assert!(start.elapsed() < Duration::from_secs(5));
    let json = serde_json::to_value(&summary).unwrap();
    let fault = json["fault"].as_str().unwrap();
    assert!(fault.contains("null:x': injected: rx queue 0 at frame 1000"), "{fault}");
    assert_eq!(json["ports"][1]["state"], "failed", "{json}");
}
