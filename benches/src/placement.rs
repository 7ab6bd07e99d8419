//! Where the two cores are: a hypervisor moves virtual CPUs, and a cross-core figure means nothing
//! without saying how far apart they were. A ping-pong of one cache line each way tells.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Instant,
};

use crossbeam_utils::CachePadded;

/// How far apart two cores are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Two threads of one core: less than 60 ns a round trip.
    Smt,
    /// One L3 cache: less than 250 ns.
    Near,
    /// Two L3 caches.
    Far,
}

impl Placement {
    /// The word in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Smt => "smt",
            Self::Near => "near",
            Self::Far => "far",
        }
    }
}

/// Pins this thread to a core of this process's set; says whether it worked.
#[must_use]
pub fn pin(index: usize) -> bool {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    cores.get(index).is_some_and(|core| core_affinity::set_for_current(*core))
}

/// Cores this process may use. Ask before pinning: a pinned thread sees one.
#[must_use]
pub fn cores() -> Vec<core_affinity::CoreId> {
    core_affinity::get_core_ids().unwrap_or_default()
}

/// Probes two cores for about 30 ms.
#[must_use]
pub fn probe(cores: [core_affinity::CoreId; 2]) -> Placement {
    const TRIPS: u64 = 1000;
    const ROUNDS: u64 = 31;
    let ping = CachePadded::new(AtomicU64::new(0));
    let pong = CachePadded::new(AtomicU64::new(0));
    let mut nanos: Vec<u128> = thread::scope(|scope| {
        scope.spawn(|| {
            core_affinity::set_for_current(cores[1]);
            for want in 1..=ROUNDS * TRIPS {
                while ping.load(Ordering::Acquire) != want {
                    std::hint::spin_loop();
                }
                pong.store(want, Ordering::Release);
            }
        });
        let here = scope.spawn(|| {
            core_affinity::set_for_current(cores[0]);
            let mut want = 0;
            let mut round = || {
                let start = Instant::now();
                for _ in 0..TRIPS {
                    want += 1;
                    ping.store(want, Ordering::Release);
                    while pong.load(Ordering::Acquire) != want {
                        std::hint::spin_loop();
                    }
                }
                start.elapsed().as_nanos() / u128::from(TRIPS)
            };
            (0..ROUNDS).map(|_| round()).collect()
        });
        here.join().unwrap_or_default()
    });
    nanos.sort_unstable();
    match nanos.get(nanos.len() / 2) {
        Some(..60) => Placement::Smt,
        Some(..250) => Placement::Near,
        _ => Placement::Far,
    }
}
