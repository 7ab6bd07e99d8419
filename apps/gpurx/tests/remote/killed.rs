//! Consumers that die with blocks in their hands, again and again, while traffic runs.

use std::time::{Duration, Instant};

use crate::{
    consumed, number,
    partner::{Consumer, Gpurx},
};

/// Deaths, and how many will do where a hundred take too long.
const DEATHS: (u64, u64) = (100, 10);
const LONG: Duration = Duration::from_secs(20);

#[test]
fn consumers_that_are_killed_with_blocks_in_their_hands_cost_no_slot_and_no_row() {
    let gpurx = Gpurx::start("-t 120s --rate 150kpps --loss 0.1% --swap 0.1%");
    let (start, mut deaths, mut mid_block) = (Instant::now(), 0, 0);
    while deaths < DEATHS.0 && (deaths < DEATHS.1 || start.elapsed() < LONG) {
        // By turns: at a certain block, which it holds and others behind it, and at any moment, from the
        // greeting on.
        let blocks = 1 + deaths % 37;
        let consumer = if deaths % 2 == 0 {
            Consumer::start(&gpurx, &format!("--die-after {blocks}"))
        } else {
            let consumer = Consumer::start(&gpurx, "--delay 2ms");
            std::thread::park_timeout(Duration::from_millis(5 + deaths * 7 % 80));
            consumer.kill();
            consumer
        };
        let (code, stdout, stderr) = consumer.end();
        assert_eq!((code, &*stdout, &*stderr), (-1, "", ""), "death {deaths}");
        mid_block += u64::from(deaths % 2 == 0);
        deaths += 1;
    }
    println!(
        "{deaths} deaths in {:.1} s, {mid_block} of them mid-block for certain",
        start.elapsed().as_secs_f64()
    );
    let last = Consumer::start(&gpurx, "-t 500ms");
    let last = consumed(last);
    let summary = gpurx.stop();
    assert!(number(&last, "/blocks") > 0 && number(&last, "/bad") == 0, "{last}");
    let consumer = |what: &str| number(&summary, &format!("/consumer/{what}"));
    assert!(consumer("attached") > mid_block, "{summary}");
    assert!(consumer("scrubbed") >= mid_block, "{summary}");
    assert_eq!(consumer("shown_slots"), 0);
    assert_eq!(
        consumer("shown"),
        consumer("returned") + consumer("scrubbed") + consumer("unreturned")
    );
    let blocks = number(&summary, "/blocks/complete") + number(&summary, "/blocks/partial");
    assert_eq!(blocks, consumer("shown") + consumer("unconsumed"));
    let refusals = summary["consumer"]["refusals"].as_object().unwrap();
    assert!(refusals.values().all(|count| count == 0), "{summary}");
}
