//! A consumer in another process: killed, absent, slow, wrong, and the two programs' refusals of each
//! other.

mod changes;
#[path = "../common/mod.rs"]
mod common;
mod hostile;
mod killed;
mod ladder;
mod partner;
mod refusals;

use std::time::Duration;

use common::{check, json, run};
use hostile::Hostile;
use partner::{Consumer, Gpurx};
use serde_json::Value;

fn number(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path}: {value}"))
}

/// What a consumer that ended well says, held against its schema.
fn consumed(consumer: Consumer) -> Value {
    let (code, stdout, stderr) = consumer.end();
    assert_eq!((code, &*stderr), (0, ""), "{stdout}");
    let summary: Value = serde_json::from_str(&stdout).unwrap();
    let schema = include_str!("../../../../docs/schema/gpurx-consumer.json");
    let mut wrong = Vec::new();
    check(&serde_json::from_str(schema).unwrap(), &summary, "$", &mut wrong);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    summary
}

/// Both ends of a run in which nothing went wrong: everything that was shown was read, and is right.
fn check_both(gpurx: &Value, consumer: &Value) {
    assert_eq!(number(consumer, "/ok"), number(consumer, "/rows"), "{consumer}");
    assert_eq!(number(consumer, "/blocks"), number(gpurx, "/consumer/returned"), "{gpurx}");
    assert_eq!(number(gpurx, "/consumer/shown"), number(gpurx, "/consumer/returned"), "{gpurx}");
    for what in ["scrubbed", "unreturned", "shown_slots"] {
        assert_eq!(number(gpurx, &format!("/consumer/{what}")), 0, "{gpurx}");
    }
    assert_eq!(number(gpurx, "/host_payload_bytes"), 0);
}

/// Every row that was received was read, but for those of blocks that were shed, whole, as the consumer did not
/// get a turn on this machine.
fn check_rows(gpurx: &Value, consumer: &Value) {
    let (rows, shed) = (number(gpurx, "/frames/rows"), number(gpurx, "/shortage/rows_shed"));
    assert_eq!(number(consumer, "/ok") + shed, rows, "{gpurx}");
    let unconsumed = number(gpurx, "/consumer/unconsumed");
    assert_eq!(unconsumed, number(gpurx, "/shortage/blocks_shed"), "{gpurx}");
}

#[test]
fn every_row_that_is_received_is_read_by_another_process() {
    for (flags, more) in [
        ("", ""),
        ("--seq ipid", ""),
        ("--loss 1% --swap 1% --foreign 1%", "--idle spin"),
        ("--path bounce", "--sink tensor"),
    ] {
        let gpurx = Gpurx::start(&format!("-c 60k --rate 100kpps --consumer-wait {flags}"));
        let consumer = Consumer::start(&gpurx, more);
        let summary = gpurx.end();
        let consumer = consumed(consumer);
        check_rows(&summary, &consumer);
        assert_eq!(number(&consumer, "/bad"), 0);
        assert_eq!(number(&consumer, "/ok"), number(&consumer, "/rows"));
    }
}

#[test]
fn a_tensor_in_another_process_is_the_tensor_in_this_one() {
    let line = "-c 40k --rate 100kpps --loss 1% --swap 1% --deadline 2s";
    let here = json(&format!("{line} --sink tensor"));
    for flags in ["", "--contiguous"] {
        let gpurx = Gpurx::start(&format!("{line} --consumer-wait {flags}"));
        let consumer = Consumer::start(&gpurx, "--sink tensor");
        let summary = gpurx.end();
        let consumer = consumed(consumer);
        assert_eq!(summary["drops"].as_object().unwrap().len(), 0, "{summary}");
        assert_eq!(consumer["digests"], here["digests"], "{flags} {summary} {here}");
        assert_eq!(number(&summary, "/rows_moved") > 0, !flags.is_empty());
    }
}

#[test]
fn two_queues_have_two_rings() {
    let gpurx = Gpurx::start("-q 2 -c 60k --rate 80kpps --consumer-wait");
    let consumer = Consumer::start(&gpurx, "");
    let summary = gpurx.end();
    let consumer = consumed(consumer);
    assert_eq!(number(&consumer, "/queues"), 2);
    check_rows(&summary, &consumer);
    check_both(&summary, &consumer);
}

#[test]
fn payloads_on_hugepages_are_passed_too() {
    let free = std::fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    let free: u64 = free.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    if free < 64 {
        println!("SKIP payloads_on_hugepages_are_passed_too: {free} hugepages are free, not 64");
        return;
    }
    let gpurx = Gpurx::start("-m hugepage -c 30k --rate 80kpps --consumer-wait");
    let consumer = Consumer::start(&gpurx, "");
    let summary = gpurx.end();
    let consumer = consumed(consumer);
    check_rows(&summary, &consumer);
    check_both(&summary, &consumer);
}

#[test]
fn without_a_consumer_blocks_are_dropped_and_counted_and_traffic_goes_on() {
    let gpurx = Gpurx::start("-c 40k --rate 200kpps");
    let summary = gpurx.end();
    let blocks = number(&summary, "/blocks/complete") + number(&summary, "/blocks/partial");
    assert_eq!(number(&summary, "/consumer/unconsumed"), blocks, "{summary}");
    assert_eq!(number(&summary, "/consumer/shown"), 0);
    assert_eq!(number(&summary, "/frames/rows"), 40_000);
}

#[test]
fn a_consumer_that_is_slow_costs_whole_blocks_and_never_a_row_that_is_shown() {
    let gpurx =
        Gpurx::start("-t 2s --rate 400kpps --blocks 10 --consumer-wait --consumer-deadline 1ms");
    let consumer = Consumer::start(&gpurx, "--delay 20ms");
    let summary = gpurx.end();
    let (code, stdout, stderr) = consumer.end();
    assert_eq!((code, &*stderr), (0, ""), "{stdout}");
    let consumer: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(number(&consumer, "/bad"), 0);
    assert_eq!(number(&consumer, "/ok"), number(&consumer, "/rows"));
    let shortage = |what: &str| number(&summary, &format!("/shortage/{what}"));
    assert!(shortage("events") > 0 && shortage("blocks_shed") > 10, "{summary}");
    check_rows(&summary, &consumer);
    // Whole blocks are given up, and not frames here and there: heads never wait for memory.
    let dropped = number(&summary, "/offered") - number(&summary, "/rx_packets");
    println!("{dropped} of {} frames dropped, {}", summary["offered"], summary["shortage"]);
    assert!(dropped * 10 < number(&summary, "/offered"), "{summary}");
    assert!(number(&summary, "/consumer/overdue") > 0, "{summary}");
    assert_eq!(number(&summary, "/consumer/scrubbed"), 0, "late is not gone: {summary}");
}

#[test]
fn consumers_come_one_at_a_time_and_as_often_as_they_like() {
    let gpurx = Gpurx::start("-t 20s --rate 100kpps");
    let mut generations = Vec::new();
    for _ in 0..3 {
        let consumer = Consumer::start(&gpurx, "-t 300ms");
        generations.push(number(&consumed(consumer), "/generation"));
    }
    assert_eq!(generations, [1, 2, 3], "a ring of its own each");
    let first = Consumer::start(&gpurx, "--sink count");
    first.wait_until_attached();
    let (code, _, stderr) = Consumer::start(&gpurx, "").end();
    assert_eq!(code, 1);
    assert!(stderr.contains("another consumer is attached; there is one at a time"), "{stderr}");
    let summary = gpurx.stop();
    let (code, _, _) = first.end();
    assert_eq!(code, 0);
    assert_eq!(number(&summary, "/consumer/attached"), 4);
    assert_eq!(number(&summary, "/consumer/refused"), 1);
}

#[test]
fn one_that_goes_at_once_makes_room_for_the_next() {
    let gpurx = Gpurx::start("-t 60s --rate 10kpps");
    for _ in 0..500 {
        // Its answer and its end are often there together, and the next one too.
        drop(Hostile::attach(&gpurx));
    }
    let summary = gpurx.stop();
    assert_eq!(number(&summary, "/consumer/attached"), 500);
    assert_eq!(number(&summary, "/consumer/refused"), 0);
}

#[test]
fn what_cannot_be_passed_is_refused_by_name() {
    let socket = partner::socket();
    let path = socket.path().join("s").display().to_string();
    let long = "x".repeat(120);
    for (line, code, says) in [
        (format!("-m host --consumer {path}"), 3, "payload memory 'host' is anonymous memory"),
        (format!("-m host --consumer {path}"), 3, "hint: -m fake, -m hugepage and dma-bufs"),
        (format!("--sink count --consumer {path}"), 2, "hint: --sink verify or --sink tensor"),
        (format!("--consumer /tmp/{long}"), 2, "longer than 107 bytes"),
        ("--consumer /nonexistent/s".into(), 3, "--consumer /nonexistent/s: No such file"),
        ("--consumer-wait".into(), 2, "--consumer <SOCKET>"),
        (format!("--rows 16777216 --consumer {path} -m fake"), 2, "a ring has 1 GiB at most"),
    ] {
        let (_, stderr) = run(&line, code);
        assert!(stderr.contains(says), "gpurx {line}: {stderr}");
    }
}

#[test]
fn a_socket_is_taken_over_from_the_dead_and_not_from_the_living() {
    let mut gpurx = Gpurx::start("-t 20s --rate 10kpps");
    let path = gpurx.path().display().to_string();
    let (_, stderr) = run(&format!("-t 100ms --consumer {path}"), 3);
    assert!(stderr.contains("another gpurx listens there"), "{stderr}");
    gpurx.kill();
    assert!(gpurx.path().exists(), "a killed process leaves its socket");
    run(&format!("-t 100ms --quiet --consumer {path}"), 0);
    assert!(!gpurx.path().exists(), "one that ends well does not");
}

#[test]
fn a_gpurx_that_dies_ends_its_consumer() {
    let mut gpurx = Gpurx::start("-t 20s --rate 100kpps");
    let consumer = Consumer::start(&gpurx, "");
    consumer.wait_until_attached();
    std::thread::park_timeout(Duration::from_millis(100));
    gpurx.kill();
    let summary = consumed(consumer);
    assert_eq!(summary["is_closed"], true);
    assert_eq!(number(&summary, "/bad"), 0);
}
