//! Through the drivers of the 82574 and the 82576 on models: a million frames a driver and form, ten million
//! descriptors of devices that write whatever they like.

use pmd::{
    Health,
    e1000::model::{Chip, Hostility, Lie, Options, Work, fuzz},
};

use crate::{
    FRAMES,
    rig::CHIPS,
    stream::{Books, Stream, mixed},
};

fn options(chip: Chip, work: Work) -> [Options; 2] {
    [21, 22].map(|seed| Options::new(chip).work(work).seed(seed).flow_control())
}

fn a_million(chip: Chip, split: bool) {
    let frames = FRAMES / 10;
    let mut stream = Stream::new(options(chip, Work::Late), mixed(split));
    stream.run_exactly(frames);
    let (rx, tx) = (stream.pair.ports[1].stats_of(true), stream.pair.ports[0].stats_of(false));
    assert_eq!((rx.offered, rx.delivered, rx.drops.total()), (frames, frames, 0), "{rx:?}");
    assert_eq!((tx.offered, tx.delivered, tx.drops.total()), (frames, frames, 0), "{tx:?}");
    assert_eq!(rx.bytes, tx.bytes);
    stream.end();
}

#[test]
fn a_million_frames_through_the_82574() {
    a_million(Chip::I82574, false);
}

#[test]
fn a_million_frames_split_by_the_82574() {
    a_million(Chip::I82574, true);
}

#[test]
fn a_million_frames_through_the_82576() {
    a_million(Chip::I82576, false);
}

#[test]
fn a_million_frames_split_by_the_82576() {
    a_million(Chip::I82576, true);
}

/// Numbers from a seed (xorshift64).
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn ten_million_descriptors_that_say_anything_are_survived() {
    let (mut seed, mut written) = (0x9e37_79b9_7f4a_7c15, 0);
    let mut input = Vec::new();
    while written < FRAMES {
        input.clear();
        let how = random(&mut seed).to_le_bytes()[0];
        input.push(how);
        let words = if (how & 15) % 5 == 1 { 4 } else { 2 };
        let steps = random(&mut seed) % 2000;
        for _ in 0..steps {
            let [what, kind, ..] = random(&mut seed).to_le_bytes();
            // In order more often than not, so that a run gets further.
            input.push(if kind < 200 { what & !0x40 } else { what });
            for _ in 0..words {
                // Few bits more often than not: plausible words.
                let mask =
                    if kind & 3 == 0 { u64::MAX } else { random(&mut seed) & random(&mut seed) };
                input.extend((random(&mut seed) & mask).to_le_bytes());
            }
        }
        fuzz::run(&input);
        written += steps;
    }
}

#[test]
fn a_device_that_lies_for_long_is_survived_start_after_start() {
    for chip in CHIPS {
        for split in [false, true] {
            let mut stream = Stream::new(options(chip, Work::Late), mixed(split));
            let mut faults = 0;
            while stream.next < FRAMES / 100 {
                for model in &stream.pair.models {
                    model.set_hostility(Hostility { one_in: 3, lies: Lie::ALL.to_vec() });
                }
                stream.run(1000, |one| assert!((1..=9018).contains(&one.bytes.len())));
                let (rx, tx) =
                    (stream.pair.ports[1].stats_of(true), stream.pair.ports[0].stats_of(false));
                assert!(rx.is_balanced() && tx.is_balanced(), "{rx:?} {tx:?}");
                faults += u32::from(pmd::Device::health(&stream.pair.ports[1]) != Health::Good);
                for model in &stream.pair.models {
                    model.set_hostility(Hostility::default());
                }
                stream = stream.restarted();
                stream.run_exactly(50);
            }
            assert!(faults < 3, "{faults} faults, and never a thousand lies in a row");
            stream.end_without_checks().check();
        }
    }
}
