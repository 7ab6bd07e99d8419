//! The fuzz target for descriptor write-back, by stable `cargo test`: every input that was ever of interest,
//! and random ones.

use std::{fs, path::Path};

use pmd::e1000::model::fuzz;
use proptest::prelude::*;

#[test]
fn the_corpus_is_survived() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/descriptors");
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut replayed = 0;
    for entry in entries {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "md") {
            fuzz::run(&fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}")));
            replayed += 1;
        }
    }
    assert!(replayed >= 10, "only {replayed} inputs in {folder:?}");
}

/// Steps of a device: most of them plausible, so that they reach what lies behind the first checks.
fn steps() -> impl Strategy<Value = Vec<u8>> {
    let step = (any::<u8>(), prop::array::uniform32(any::<u8>()));
    let steps = prop::collection::vec(step, 0..200);
    (any::<u8>(), steps).prop_map(|(how, steps)| {
        let unit = if (how & 15) % 5 == 1 { 32 } else { 16 };
        let mut input = vec![how];
        for (what, bytes) in steps {
            input.push(what);
            input.extend(&bytes[..unit]);
        }
        input
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 2000 } else { 20_000 }))]

    #[test]
    fn random_write_backs_are_survived(input in steps()) {
        fuzz::run(&input);
    }

    #[test]
    fn random_bytes_are_survived(input in prop::collection::vec(any::<u8>(), 0..2000)) {
        fuzz::run(&input);
    }
}
