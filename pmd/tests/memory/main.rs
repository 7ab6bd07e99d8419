//! Every kind of memory that the providers know, against the promises of [`providers::conformance`] and against
//! a NIC's address space, on real functions: in the testbed's guest, or on a machine that has them.
//! `MEMWIRE_MEMORY=01:00.0,03:00.0,04:00.0` names a NIC and a device with a prefetchable BAR, both bound to
//! vfio-pci, and a function whose kernel driver gives p2pmem away; what is missing is said aloud, as SKIP.
//!
//! ```text
//! cargo test -p memwire-pmd --test memory --no-run
//! cargo xtask testbed run -- bash -c 'memwire bind 01:00.0 03:00.0 && \
//!     MEMWIRE_MEMORY=01:00.0,03:00.0,04:00.0 target/debug/deps/memory-… --test-threads 1 --nocapture'
//! ```

mod bar;
mod bench;
mod importers;
mod kernel;
mod revoked;
mod subjects;

use providers::conformance;

/// The list, one line for each subject: what it could and could not do, and why.
#[test]
fn every_kind_of_memory_keeps_its_promises_and_says_who_can_map_it() {
    let test = "every_kind_of_memory_keeps_its_promises_and_says_who_can_map_it";
    let Some(bench) = bench::Bench::named(test) else { return };
    for entry in subjects::ALL {
        let make = match (entry.open)(&bench) {
            Ok(make) => make,
            Err(why) => {
                println!("SKIP {}: {why}", entry.name);
                continue;
            }
        };
        let start = std::time::Instant::now();
        conformance::run(&*make);
        println!(
            "{}: {} promises kept in {:.1} s; {}",
            entry.name,
            conformance::CASES.len(),
            start.elapsed().as_secs_f64(),
            importers::line(&bench, entry, &make())
        );
    }
}
