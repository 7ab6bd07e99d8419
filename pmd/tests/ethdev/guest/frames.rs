//! Frames of every length between two ports, read and written where they lie in our hugepages.

use std::time::Instant;

use pmd::QueueCounters;
use providers::{Hugepages, PageSize};

use super::rig::{self, Port};

/// Frames each way.
const FRAMES: usize = 2_500;
const SLOTS: usize = 4096;
/// Behind 128 bytes of headroom there is room for less than the 2048 bytes that these NICs like best, of which they
/// use 1024: long frames come in two slots.
const STRIDE: usize = 2048;

fn delivered(counters: &QueueCounters) -> (u64, u64) {
    let counts = counters.snapshot();
    (counts.delivered, counts.bytes)
}

#[test]
fn nics_read_and_write_our_hugepages_and_every_buffer_comes_home() {
    let name = "nics_read_and_write_our_hugepages_and_every_buffer_comes_home";
    let Some(pairs) = rig::pairs(name) else { return };
    let hugepages = Hugepages::new(PageSize::TwoMiB).expect("hugepages");
    let bytes: usize = (0..FRAMES).map(|number| rig::frame(number).len()).sum();
    let expected = (FRAMES as u64, bytes as u64);
    for pair in &pairs {
        let pool = rig::pool(&hugepages, SLOTS, STRIDE);
        let [mut here, mut there] = Port::start_pair(pair, &pool);
        let (mut cache, clock) = (pool.cache(), Instant::now());
        let there_most = rig::exchange(&mut here, &mut there, &mut cache, FRAMES);
        let here_most = rig::exchange(&mut there, &mut here, &mut cache, FRAMES);
        assert_eq!((there_most, here_most), (2, 2), "slots of a frame");
        for port in [&here, &there] {
            assert_eq!(delivered(port.rx.counters()), expected);
            assert_eq!(delivered(port.tx.counters()), expected);
        }
        let seconds = clock.elapsed().as_secs_f64();
        eprintln!("{pair:?}: {FRAMES} frames each way in our slots, {seconds:.1} s");
        drop(cache);
        here.stop();
        there.stop();
        let audit = pool.audit();
        assert!(audit.is_home(), "{pair:?}: {audit}");
    }
}
