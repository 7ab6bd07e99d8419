//! One pool under several ports: functions of vfio-pci share one address space, in which a region is mapped once,
//! however many ports use it, for as long as one does.

use std::time::Instant;

use mempool::{Cache, Cpu, Provider};
use providers::{Hugepages, PageSize};

use super::rig::{self, Pair, Port};

/// Frames each way, to see that a pair works.
const FRAMES: usize = 200;
/// 13 hugepages and a bit: more than what DPDK takes for a port of its own.
const SLOTS: usize = 12_800;
const STRIDE: usize = 2176;

/// Frames both ways, each in its slot.
fn passes([here, there]: &mut [Port; 2], cache: &mut Cache<Cpu>) {
    rig::exchange(here, there, cache, FRAMES);
    rig::exchange(there, here, cache, FRAMES);
}

/// Hugepages that nobody has. One that is mapped for a device stays taken, whoever unmaps it in the process.
fn free(hugepages: &Hugepages) -> u64 {
    hugepages.info().available.expect("a count of hugepages") / PageSize::TwoMiB.bytes() as u64
}

/// Has one pair come and go while another uses the same pool; `first` starts first, and so its ports are those
/// that have the pool mapped.
fn come_and_go(hugepages: &Hugepages, first: &Pair, second: &Pair, leaver_is_first: bool) {
    let pool = rig::pool(hugepages, SLOTS, STRIDE);
    let mut cache = pool.cache();
    let mut pairs = [first, second].map(|pair| Some(Port::start_pair(pair, &pool)));
    for pair in pairs.iter_mut().flatten() {
        passes(pair, &mut cache);
    }
    let (leaver, stayer) = if leaver_is_first { (0, 1) } else { (1, 0) };
    let names = [first, second][leaver];
    let Some([here, there]) = pairs[leaver].take() else { unreachable!("it was started") };
    let mut stays = pairs[stayer].take().expect("it was started");
    // One end, and traffic of the others; the other end, and traffic; and both again.
    here.stop();
    passes(&mut stays, &mut cache);
    there.stop();
    passes(&mut stays, &mut cache);
    let mut back = Port::start_pair(names, &pool);
    passes(&mut back, &mut cache);
    passes(&mut stays, &mut cache);
    // Those that had it mapped by now are the ones that stayed.
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
    let start = Instant::now();
    // What DPDK needs for ports of its own it has after this.
    come_and_go(&hugepages, first, second, true);
    let before = free(&hugepages);
    come_and_go(&hugepages, first, second, false);
    come_and_go(&hugepages, second, first, true);
    assert_eq!(free(&hugepages), before, "hugepages are back");
    eprintln!("{name}: {before} hugepages free before and after, {:?}", start.elapsed());
}

#[test]
fn ports_come_back_after_their_pools_memory_is_gone() {
    let name = "ports_come_back_after_their_pools_memory_is_gone";
    let Some(pairs) = rig::pairs(name) else { return };
    let hugepages = Hugepages::new(PageSize::TwoMiB).expect("hugepages");
    for pair in &pairs {
        // Less each time: what was mapped for the devices before is not all mapped in the process again.
        for slots in [4096, 2048, 1024] {
            let pool = rig::pool(&hugepages, slots, STRIDE);
            let ports = [0, 1].map(|end: usize| Port::start(&pair[end], &pool));
            ports.into_iter().for_each(Port::stop);
            assert!(pool.audit().is_home(), "{pair:?}: {}", pool.audit());
        }
    }
}
