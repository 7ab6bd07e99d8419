//! Payload memory that runs short as a consumer is slow: each step of what is done about it, and back.

use std::{thread::park_timeout, time::Duration};

use serde_json::Value;

use crate::{
    check_rows, consumed, number,
    partner::{Consumer, Gpurx},
};

fn shortage(summary: &Value, what: &str) -> u64 {
    number(summary, &format!("/shortage/{what}"))
}

/// Nothing is out, nothing was refused, each row is right.
fn check_end(gpurx: &Value, consumer: &Value) {
    check_rows(gpurx, consumer);
    assert_eq!(number(gpurx, "/consumer/shown_slots"), 0, "{gpurx}");
    let refusals = gpurx["consumer"]["refusals"].as_object().unwrap();
    assert!(refusals.values().all(|count| count == 0), "{gpurx}");
    assert_eq!(number(consumer, "/bad"), 0, "{consumer}");
    println!("{} {}", gpurx["shortage"], gpurx["consumer"]);
}

#[test]
fn memory_grows_then_spills_to_the_host_then_blocks_are_shed() {
    for flags in ["", "--path bounce", "--contiguous"] {
        let gpurx = Gpurx::start(&format!(
            "-t 3s --rate 100kpps --blocks 10 --grow 6 --spill 4 --consumer-wait {flags}"
        ));
        let consumer = Consumer::start(&gpurx, "--delay 20ms");
        let (summary, consumer) = (gpurx.end(), consumed(consumer));
        check_end(&summary, &consumer);
        assert!(shortage(&summary, "events") > 0, "{flags} {summary}");
        assert_eq!(shortage(&summary, "areas_added"), 2, "{flags} {summary}");
        assert_eq!(number(&consumer, "/areas"), 2, "{flags} {consumer}");
        assert!(shortage(&summary, "rows_to_host") > 0, "{flags} {summary}");
        assert!(shortage(&summary, "blocks_shed") > 0, "{flags} {summary}");
        let pool = summary["pool"].as_array().unwrap();
        let slots = pool.iter().find(|pool| pool["name"] == "payloads").unwrap();
        assert_eq!(slots["capacity"].as_u64().unwrap(), shortage(&summary, "peak_slots"));
    }
}

#[test]
fn areas_go_again_when_the_consumer_has_caught_up_and_come_back_when_it_has_not() {
    let gpurx = Gpurx::start("-t 60s --rate 60kpps --blocks 10 --grow 8 --spill 8");
    let mut rows = 0;
    for round in 0..2 {
        let slow = Consumer::start(&gpurx, "--delay 30ms -t 1500ms");
        let slow = consumed(slow);
        assert_eq!(number(&slow, "/bad"), 0, "{slow}");
        assert!(number(&slow, "/areas") >= 1, "round {round}: {slow}");
        // It has gone, and with it what it kept: the areas go, the host's first.
        park_timeout(Duration::from_secs(4));
        rows += number(&slow, "/ok");
    }
    let quick = consumed(Consumer::start(&gpurx, "-t 300ms"));
    assert_eq!(number(&quick, "/bad"), 0, "{quick}");
    let summary = gpurx.stop();
    println!("{} {rows}", summary["shortage"]);
    let (added, removed) = (shortage(&summary, "areas_added"), shortage(&summary, "areas_removed"));
    assert!(added >= 3 && removed >= 2 && removed <= added, "{summary}");
    assert_eq!(number(&summary, "/consumer/shown_slots"), 0, "{summary}");
}

#[test]
fn consumers_that_are_killed_while_memory_grows_cost_no_slot() {
    let gpurx = Gpurx::start("-t 60s --rate 100kpps --blocks 10 --grow 8 --spill 4");
    for round in 0..20 {
        let consumer = Consumer::start(&gpurx, "--delay 50ms");
        consumer.wait_until_attached();
        park_timeout(Duration::from_millis(7 * round));
        consumer.kill();
        let (code, stdout, stderr) = consumer.end();
        assert_eq!((code, &*stdout, &*stderr), (-1, "", ""), "round {round}");
    }
    let last = consumed(Consumer::start(&gpurx, "-t 500ms"));
    assert!(number(&last, "/blocks") > 0 && number(&last, "/bad") == 0, "{last}");
    let summary = gpurx.stop();
    assert!(shortage(&summary, "areas_added") >= 1, "{summary}");
    assert_eq!(number(&summary, "/consumer/shown_slots"), 0, "{summary}");
}

#[test]
fn memory_that_grew_is_revoked_and_grows_again() {
    let gpurx = Gpurx::start("-t 60s --rate 100kpps --blocks 10 --grow 6 --spill 4");
    let consumer = Consumer::start(&gpurx, "--delay 20ms");
    consumer.wait_until_attached();
    for _ in 0..6 {
        park_timeout(Duration::from_millis(400));
        gpurx.revoke_or_resume();
    }
    park_timeout(Duration::from_millis(400));
    let summary = gpurx.stop();
    let consumer = consumed(consumer);
    println!("{} {}", summary["shortage"], summary["revocation"]);
    assert!(number(&summary, "/revocation/revocations") >= 2, "{summary}");
    assert!(shortage(&summary, "areas_added") >= 2, "{summary}");
    assert!(shortage(&summary, "areas_removed") >= 1, "{summary}");
    assert_eq!(number(&consumer, "/bad"), 0, "{consumer}");
    assert_eq!(number(&summary, "/consumer/shown_slots"), 0, "{summary}");
}

#[test]
fn nothing_grows_when_nobody_is_slow_and_nothing_is_told() {
    let gpurx = Gpurx::start("-c 20k --rate 20kpps --grow 8 --spill 8 --consumer-wait");
    let consumer = Consumer::start(&gpurx, "");
    let (summary, consumer) = (gpurx.end(), consumed(consumer));
    check_end(&summary, &consumer);
    assert_eq!(shortage(&summary, "areas_added"), 0, "{summary}");
}
