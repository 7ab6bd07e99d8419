//! One pool under several ports: functions of vfio-pci share one address space, in which a region is mapped once,
//! however many ports use it, for as long as one does.

use std::time::Instant;

use mempool::{Cache, Cpu, Provider};
use pmd::Registry;
use providers::{Hugepages, PageSize};

use super::rig::{self, Pair, Port};

/// Frames each way, to see that a pair works.
const FRAMES: usize = 200;
/// Slots of the pools, one after the other: less the second time, so what was mapped for devices the first time is
/// not all mapped in the process again.
const SLOTS: [usize; 2] = [12_800, 8_192];
/// There is room for 2048 bytes behind the headroom.
const STRIDE: usize = 2176;

/// Frames both ways, each in one slot.
fn passes([here, there]: &mut [Port; 2], cache: &mut Cache<Cpu>) {
    assert_eq!(rig::exchange(here, there, cache, FRAMES), 1, "slots of a frame");
    assert_eq!(rig::exchange(there, here, cache, FRAMES), 1, "slots of a frame");
}

/// Hugepages that nobody has. One that is mapped for a device stays taken, whoever unmaps it in the process.
fn free(hugepages: &Hugepages) -> usize {
    let bytes = hugepages.info().available.expect("a count of hugepages");
    usize::try_from(bytes).expect("fits") / PageSize::TwoMiB.bytes()
}

/// Has one pair, `leaver`, come and go while the other uses the same pool. The first pair starts first, so its
/// ports are those that had the pool mapped.
fn come_and_go(hugepages: &Hugepages, both: [&Pair; 2], slots: usize, leaver: usize) {
    let pool = rig::pool(hugepages, slots, STRIDE);
    let mut cache = pool.cache();
    let mut pairs = both.map(|pair| Some(Port::start_pair(pair, &pool)));
    let [here, there] = pairs[leaver].take().expect("it was started");
    let mut stays = pairs[1 - leaver].take().expect("it was started");
    // One end goes, then the other; frames of those that stay are read and written where they were.
    passes(&mut stays, &mut cache);
    here.stop();
    passes(&mut stays, &mut cache);
    there.stop();
    passes(&mut stays, &mut cache);
    let mut back = Port::start_pair(both[leaver], &pool);
    passes(&mut back, &mut cache);
    passes(&mut stays, &mut cache);
    // Of those that use it now none was there when it was mapped.
    stays.into_iter().for_each(Port::stop);
    passes(&mut back, &mut cache);
    back.into_iter().for_each(Port::stop);
    drop(cache);
    assert!(pool.audit().is_home(), "{}", pool.audit());
}

#[test]
fn a_pool_that_ports_share_stays_mapped_until_the_last_of_them_is_gone() {
    let name = "a_pool_that_ports_share_stays_mapped_until_the_last_of_them_is_gone";
    let Some(pairs) = rig::pairs(name) else { return };
    let [first, second, ..] = &pairs[..] else {
        eprintln!("SKIP {name}: it takes two pairs of functions");
        return;
    };
    let hugepages = Hugepages::new(PageSize::TwoMiB).expect("hugepages");
    // DPDK is here, and has what it needs for a port of its own.
    let opened = Registry::new().open(&first[0]);
    drop(opened.unwrap_or_else(|error| panic!("{error}")));
    for (leaver, slots) in SLOTS.into_iter().enumerate() {
        let (before, start) = (free(&hugepages), Instant::now());
        come_and_go(&hugepages, [first, second], slots, leaver);
        let (after, pages) = (free(&hugepages), slots * STRIDE / PageSize::TwoMiB.bytes());
        eprintln!(
            "{pages} pages under four ports: {before} were free, {after} are again, {:?}",
            start.elapsed()
        );
        // DPDK may have kept some for itself, but not as many.
        assert!(after + pages / 2 > before, "{pages} pages stay with devices");
    }
}
