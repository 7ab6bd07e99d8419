//! Payload memory that is taken back and comes again, by an operator's signal, while a consumer is there.

use std::{thread::park_timeout, time::Duration};

use serde_json::Value;

use crate::{
    consumed, number,
    partner::{Consumer, Gpurx},
};

/// Between two signals.
const PAUSE: Duration = Duration::from_millis(200);

/// Has memory revoked and given back, `times` times each, and ends gpurx.
fn changed(gpurx: Gpurx, times: usize) -> Value {
    for _ in 0..2 * times {
        gpurx.revoke_or_resume();
        park_timeout(PAUSE);
    }
    park_timeout(PAUSE);
    gpurx.stop()
}

/// Blocks are where they should be, and heads never waited for a consumer.
fn check_gpurx(summary: &Value, least: u64) {
    let consumer = |what: &str| number(summary, &format!("/consumer/{what}"));
    assert!(number(summary, "/revocation/revocations") >= least, "{summary}");
    assert!(number(summary, "/revocation/resumed") >= least, "{summary}");
    assert_eq!(consumer("shown_slots"), 0, "{summary}");
    let refusals = summary["consumer"]["refusals"].as_object().unwrap();
    assert!(refusals.values().all(|count| count == 0), "{summary}");
    let gap = summary["revocation"]["longest_gap_ms"].as_f64().unwrap();
    println!("longest gap {gap:.2} ms, {}", summary["consumer"]);
    // Far less where the machine has time: nobody waits for a consumer.
    assert!(gap < 900.0, "{summary}");
}

#[test]
fn rows_go_on_being_consumed_after_each_of_ten_changes_of_memory() {
    for flags in ["", "-q 2", "--path bounce", "--contiguous"] {
        let gpurx = Gpurx::start(&format!("-t 60s --rate 60kpps {flags}"));
        let consumer = Consumer::start(&gpurx, "");
        consumer.wait_until_attached();
        let summary = changed(gpurx, 5);
        let consumer = consumed(consumer);
        check_gpurx(&summary, 4);
        assert_eq!(number(&consumer, "/bad"), 0, "{flags}: {consumer}");
        let changes =
            number(&summary, "/revocation/revocations") + number(&summary, "/revocation/resumed");
        assert_eq!(number(&consumer, "/changes"), changes, "{flags}: {consumer} {summary}");
        assert_eq!(number(&summary, "/consumer/attached"), 1, "it stays attached: {summary}");
        // What is lost to the consumer is what was on its way to it ten times, no more.
        let (seen, rows) = (number(&consumer, "/ok"), number(&summary, "/frames/rows"));
        assert!(seen * 4 > rows * 3, "{flags}: {seen} of {rows} {summary}");
        assert_eq!(number(&summary, "/verify/missing"), 0, "{flags}: {summary}");
    }
}

#[test]
fn a_consumer_that_is_slow_sees_no_row_change_when_memory_does() {
    let gpurx = Gpurx::start("-t 60s --rate 100kpps");
    // It has a block for longer than memory stays.
    let consumer = Consumer::start(&gpurx, "--delay 300ms");
    consumer.wait_until_attached();
    let summary = changed(gpurx, 5);
    let consumer = consumed(consumer);
    check_gpurx(&summary, 1);
    assert_eq!(number(&consumer, "/bad"), 0, "{consumer}");
    assert_eq!(number(&consumer, "/ok"), number(&consumer, "/rows"));
    assert!(number(&summary, "/consumer/scrubbed") > 0, "{summary}");
}

#[test]
fn while_payloads_are_dropped_a_consumer_waits_and_goes_on_afterwards() {
    let gpurx = Gpurx::start("-t 60s --rate 60kpps --on-revoke drop");
    let consumer = Consumer::start(&gpurx, "");
    consumer.wait_until_attached();
    let summary = changed(gpurx, 3);
    let consumer = consumed(consumer);
    check_gpurx(&summary, 2);
    assert!(number(&summary, "/revocation/payloads_dropped") > 0, "{summary}");
    assert_eq!(number(&consumer, "/bad"), 0);
    assert!(number(&consumer, "/changes") >= 4 && number(&consumer, "/blocks") > 2, "{consumer}");
}

#[test]
fn consumers_that_come_and_die_while_memory_changes_cost_no_slot() {
    let gpurx = Gpurx::start("-t 60s --rate 100kpps");
    for round in 0..12 {
        let consumer = Consumer::start(&gpurx, "--delay 1ms");
        gpurx.revoke_or_resume();
        park_timeout(Duration::from_millis(10 * round));
        consumer.kill();
        let (code, stdout, stderr) = consumer.end();
        assert_eq!((code, &*stdout, &*stderr), (-1, "", ""), "round {round}");
    }
    let last = Consumer::start(&gpurx, "-t 500ms");
    let last = consumed(last);
    let summary = gpurx.stop();
    assert!(number(&last, "/blocks") > 0 && number(&last, "/bad") == 0, "{last}");
    assert_eq!(number(&summary, "/consumer/shown_slots"), 0, "{summary}");
    assert!(number(&summary, "/revocation/revocations") >= 3, "{summary}");
}
