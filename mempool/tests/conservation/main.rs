//! Conservation: random sequences of everything a worker can do with a pool, against a model that
//! names every slot. After each step every slot is in exactly one place, the audit and the counters
//! say which, and every held buffer has the bytes its holder wrote.
//!
//! 500 sequences of 200 operations; with `MEMWIRE_FULL=1`, 20,000.

mod bench;
mod model;

use proptest::{
    collection::vec,
    prelude::{ProptestConfig, any, proptest},
    sample::select,
};

use bench::Bench;

fn cases() -> u32 {
    if std::env::var_os("MEMWIRE_FULL").is_some() { 20_000 } else { 500 }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_slot_is_in_one_place_after_every_operation(
        slots in select(std::vec![3, 16, 24, 48, 200, 640]),
        cache_size in select(std::vec![0, 1, 8, 64, 256]),
        limit in select(std::vec![1, 8, 32, 512]),
        operations in vec(any::<(u8, u8, u16)>(), 200),
    ) {
        let mut bench = Bench::new(slots, cache_size, limit);
        bench.check();
        for (operation, a, b) in operations {
            bench.step(operation, usize::from(a), usize::from(b));
            bench.check();
        }
        bench.end();
    }
}
