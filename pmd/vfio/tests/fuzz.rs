//! The fuzz targets, on the corpora that are kept, and on what becomes of them when bytes change.

use std::{fs, path::Path};

use proptest::prelude::*;

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 3] = [
    ("answers", vfio::fuzz::answers),
    ("capabilities", vfio::fuzz::capabilities),
    ("sysfs", vfio::fuzz::sysfs),
];

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).expect("a corpus");
    entries.map(|entry| fs::read(entry.expect("an entry").path()).expect("a file")).collect()
}

#[test]
fn every_corpus_passes_its_target() {
    for (name, target) in TARGETS {
        let inputs = corpus(name);
        assert!(inputs.len() >= 10, "{name}: {} inputs", inputs.len());
        inputs.iter().for_each(|bytes| target(bytes));
    }
}

/// One change of an input: bytes replaced, inserted, or cut off.
#[derive(Clone, Debug)]
enum Change {
    Replace(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    Cut(prop::sample::Index),
}

fn change() -> impl Strategy<Value = Change> {
    // Numbers that readers stumble over, beside any.
    let byte =
        prop_oneof![any::<u8>(), prop::sample::select(vec![0, 1, 0x10, 0x34, 0x40, 0x7f, 0xff])];
    prop_oneof![
        8 => (any::<prop::sample::Index>(), byte.clone()).prop_map(|(at, b)| Change::Replace(at, b)),
        2 => (any::<prop::sample::Index>(), prop::collection::vec(byte, 1..20))
            .prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        1 => any::<prop::sample::Index>().prop_map(Change::Cut),
    ]
}

fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        let len = bytes.len();
        match change {
            Change::Replace(at, byte) if len > 0 => bytes[at.index(len)] = *byte,
            Change::Replace(_, byte) => bytes.push(*byte),
            Change::Insert(at, new) => {
                let at = at.index(len + 1);
                bytes.splice(at..at, new.iter().copied());
            }
            Change::Cut(at) => bytes.truncate(at.index(len + 1)),
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_change_of_an_input_breaks_a_target(
        which in 0..TARGETS.len(),
        seed: prop::sample::Index,
        changes in prop::collection::vec(change(), 0..8),
    ) {
        let (name, target) = TARGETS[which];
        let inputs = corpus(name);
        target(&changed(inputs[seed.index(inputs.len())].clone(), &changes));
    }
}
