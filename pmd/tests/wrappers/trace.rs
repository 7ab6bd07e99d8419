//! What `trace` writes.

use mempool::{Burst, SplitBurst, SplitCache};
use pmd::{AnyRxQueue, RxMemory, SplitAt, SplitConfig};

use crate::rig::{device_pool, ends, pool, refusal, udp_frames};

/// The lines of a file, without times (which are checked to be times).
fn lines(path: &std::path::Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let line = |line: &str| {
        if line.starts_with("        ") {
            return line.to_owned();
        }
        let (start, rest) = line.split_at(2);
        let (time, rest) = rest.trim_start().split_once(' ').unwrap();
        assert!(time.parse::<f64>().is_ok_and(|time| time < 100.0), "{line}");
        format!("{start}{rest}")
    };
    text.lines().map(line).collect()
}

const UDP: &str = "02:00:00:00:00:01 > 02:00:00:00:00:02 IPv4 10.0.0.1:9000 > 10.0.0.2:9001 UDP";

#[test]
fn frames_and_events_are_written_in_order_at_both_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (out, into) = (folder.path().join("tx.txt"), folder.path().join("rx.txt"));
    let pool = pool(256);
    let sender = format!("trace:{}@ring:a,size=4", out.display());
    let receiver = format!("trace:{},hex,count=1@ring:a,size=4", into.display());
    let mut ends = ends(&sender, &receiver, &pool, RxMemory::Whole(pool.clone()));
    let (mut cache, mut burst) = (pool.cache(), Burst::new(&pool));
    cache.take(&mut burst, 6);
    udp_frames(&mut burst, 58);
    let slots: Vec<_> = burst.iter().map(|frame| frame.slot().index()).collect();
    assert_eq!(ends.tx.tx[0].send(&mut cache, &mut burst), 4);
    let mut received = Burst::new(&pool);
    assert_eq!(ends.whole().recv(&mut cache, &mut received), 4);
    assert_eq!(ends.tx.tx[0].send(&mut cache, &mut burst), 2);
    assert!(ends.sender.link().is_up);
    ends.stop();
    let mut expected = vec!["# ring:a,size=4 start rx 0 tx 1".to_owned()];
    let frame = |slot: &u32| format!("  ring:a,size=4 tx0 100 B {UDP} slot {slot}");
    expected.extend(slots.iter().map(frame));
    expected.extend(["# ring:a,size=4 link up".into(), "# ring:a,size=4 stop".into()]);
    assert_eq!(lines(&out), expected);
    let got = lines(&into);
    assert_eq!(got[1], format!("  ring:a,size=4 rx0 100 B {UDP} slot {}", slots[0]));
    assert_eq!(got[2], "        0000  02 00 00 00 00 02 02 00 00 00 00 01 08 00 45 00");
    assert_eq!(got.len(), 2 + 7 + 1, "one frame with its bytes, and two events: {got:?}");
    let counts = ends.receiver.stats().2;
    assert_eq!(counts, [("trace_lines".to_owned(), 1), ("trace_lost".to_owned(), 0)]);
}

#[test]
fn every_nth_frame_is_counted_over_bursts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.txt");
    let pool = pool(256);
    let sender = format!("trace:{},every=3@ring:a", path.display());
    let mut ends = ends(&sender, "ring:a", &pool, RxMemory::Whole(pool.clone()));
    let (mut cache, mut burst) = (pool.cache(), Burst::new(&pool));
    for _ in 0..5 {
        cache.take(&mut burst, 4);
        udp_frames(&mut burst, 20);
        assert_eq!(ends.tx.tx[0].send(&mut cache, &mut burst), 4);
    }
    ends.stop();
    // Frames 0, 3, 6 ... 18 of 20.
    assert_eq!(lines(&path).len(), 7 + 2);
}

#[test]
fn of_split_frames_the_payload_is_told_and_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.txt");
    let (tx_pool, heads, data) = (pool(64), pool(64), device_pool(64));
    let at = SplitAt::Length(42);
    let config =
        SplitConfig { heads: heads.clone(), data: data.clone(), at, post: Default::default() };
    let receiver = format!("trace:{}@ring:a", path.display());
    let mut ends = ends("ring:a", &receiver, &tx_pool, RxMemory::Split(config));
    let (mut cache, mut burst) = (tx_pool.cache(), Burst::new(&tx_pool));
    cache.take(&mut burst, 1);
    udp_frames(&mut burst, 1000);
    ends.tx.tx[0].send(&mut cache, &mut burst);
    let mut caches = SplitCache::new(&heads, &data);
    let mut frames = SplitBurst::new(&heads, &data);
    let AnyRxQueue::Split(queue) = &mut ends.rx.rx[0] else { panic!("split frames") };
    assert_eq!(queue.recv(&mut caches, &mut frames), 1);
    let frame = frames.frame(0);
    let (head, payload) = (frame.head.slot().index(), frame.data.unwrap().slot().index());
    ends.stop();
    let line = format!(
        "  ring:a rx0 1042 B {UDP} slot {head} head 42 B, payload 1000 B in device memory, slot {payload}"
    );
    assert_eq!(lines(&path)[1], line);
}

#[test]
fn a_file_that_cannot_be_written_is_named_and_one_that_fills_up_stops_only_the_trace() {
    let error = refusal("trace:/nowhere/at/all.txt@ring:a");
    assert!(
        error.to_string().contains("trace file '/nowhere/at/all.txt': No such file"),
        "{error}"
    );
    let pool = pool(256);
    let mut ends = ends("trace:/dev/full@ring:a", "ring:a", &pool, RxMemory::Whole(pool.clone()));
    let (mut cache, mut burst) = (pool.cache(), Burst::new(&pool));
    let mut sent = 0;
    for _ in 0..100 {
        cache.take(&mut burst, 32);
        sent += ends.tx.tx[0].send(&mut cache, &mut burst);
        ends.whole().recv(&mut cache, &mut burst);
        burst.recycle(&mut cache);
    }
    assert_eq!(sent, 3200);
    ends.stop();
    let counts = ends.sender.stats().2;
    assert_eq!(counts[0], ("trace_lines".to_owned(), 0));
    assert!(counts[1].1 > 0);
}
