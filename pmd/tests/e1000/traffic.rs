//! Traffic of all sizes and kinds between two ports: nothing lost that is not counted, nothing changed, every
//! buffer home, nothing done that a datasheet forbids.

use pmd::{
    Device, DropReason,
    e1000::model::{Chip, Options, Work},
};

use super::{
    rig::CHIPS,
    stream::{Books, Plan, Stream, frame, mixed, number_of},
};

const WORK: [Work; 3] = [Work::Prompt, Work::Ticked, Work::Late];

/// Every way to run: chip, when it works, whether frames are split.
fn ways() -> impl Iterator<Item = (Chip, Work, bool)> {
    CHIPS.into_iter().flat_map(|chip| {
        WORK.into_iter().flat_map(move |work| [false, true].map(|split| (chip, work, split)))
    })
}

fn pair_of(chip: Chip, work: Work) -> [Options; 2] {
    [7, 8].map(|seed| Options::new(chip).work(work).seed(seed).flow_control())
}

#[test]
fn every_size_passes_whole_and_split() {
    for (chip, work, split) in ways() {
        let plan = Plan { len: |number| 60 + (number as usize) % 8959, ..mixed(split) };
        let mut stream = Stream::new(pair_of(chip, work), plan);
        // A packet split cannot hand over a frame that has no header to split behind and does not fit
        // the first descriptor: its next bytes are in a head's buffer.
        let most = if chip == Chip::I82574 && split { 256 + 2048 } else { 9018 };
        let is_refused = |number: u64| number % 7 == 6 && (plan.len)(number) > most;
        let refused = stream.run_but(8959, is_refused);
        let rx = stream.pair.ports[1].stats_of(true);
        assert_eq!((rx.offered, rx.drops.of(DropReason::TooLong)), (8959, refused), "{rx:?}");
        assert_eq!(refused > 0, most < 9018);
        stream.end();
    }
}

#[test]
fn twenty_thousand_frames_pass_in_order() {
    for (chip, work, split) in ways() {
        let mut stream = Stream::new(pair_of(chip, work), mixed(split));
        stream.run_exactly(20_000);
        let (rx, tx) = (stream.pair.ports[1].stats_of(true), stream.pair.ports[0].stats_of(false));
        assert_eq!((rx.delivered, tx.delivered), (20_000, 20_000));
        assert_eq!((rx.offered, tx.offered), (20_000, 20_000), "{rx:?} {tx:?}");
        stream.end();
    }
}

#[test]
fn small_rings_and_few_buffers_only_slow_things_down() {
    for (chip, work, split) in ways() {
        let plan = Plan { ring: 8, slots: 48, ..mixed(split) };
        let mut stream = Stream::new(pair_of(chip, work), plan);
        stream.run_exactly(2000);
        stream.end();
    }
}

#[test]
fn heads_end_behind_the_transport_header() {
    for chip in CHIPS {
        let plan = Plan { len: |_| 600, ..mixed(true) };
        let mut stream = Stream::new(pair_of(chip, Work::Prompt), plan);
        let mut seen = [0; 7];
        stream.run(700, |arrived| {
            let number = number_of(&arrived.bytes);
            let kind = (number % 7) as usize;
            // UDP, UDP, TCP, TCP with options, TCP over IPv6, a fragment; the last is no IP, and fills
            // the head's buffer.
            let ends = [42, 42, 54, 14 + 28 + 32, 74, 34, 256];
            assert_eq!(arrived.head, ends[kind], "{number}");
            assert_eq!(arrived.bytes, frame(number, 600));
            seen[kind] += 1;
        });
        assert_eq!(seen, [100; 7]);
        stream.end();
    }
}

#[test]
fn what_the_chip_missed_is_counted_as_dropped_by_it() {
    for (chip, work, split) in ways() {
        let options = [3, 4].map(|seed| {
            let options = Options::new(chip).work(work).seed(seed);
            Options { packet_buffer: 8192, ..options }
        });
        let plan = Plan { ring: 16, ..mixed(split) };
        let mut stream = Stream::new(options, plan);
        let (mut last, mut arrived) = (None, 0);
        for round in 0..200 {
            // Bursts that nobody receives for a while.
            (0..4).for_each(|_| {
                stream.send(32);
                stream.pair.tick();
                stream.reap();
            });
            if round % 3 == 0 {
                for one in stream.receive() {
                    let number = number_of(&one.bytes);
                    assert!(last < Some(number), "out of order");
                    assert_eq!(one.bytes, frame(number, (stream.plan.len)(number)));
                    (last, arrived) = (Some(number), arrived + 1);
                }
            }
        }
        stream.run(0, |_| arrived += 1);
        let sent = stream.next;
        let rx = stream.pair.ports[1].stats_of(true);
        assert!(rx.is_balanced(), "{rx:?}");
        assert_eq!((rx.offered, rx.delivered), (sent, arrived), "{chip:?} {work:?} {split} {rx:?}");
        assert!(rx.drops.of(DropReason::Device) > 0, "nothing was missed: {rx:?}");
        stream.end();
    }
}

#[test]
fn one_doorbell_for_each_burst() {
    for chip in CHIPS {
        for split in [false, true] {
            let mut stream = Stream::new(pair_of(chip, Work::Ticked), mixed(split));
            stream.run_exactly(512);
            for _ in 0..64 {
                let before = stream.pair.models[0].tx_doorbells(0);
                assert_eq!(stream.send(32), 32);
                assert_eq!(stream.pair.models[0].tx_doorbells(0) - before, 1);
                stream.pair.tick();
                stream.pair.tick();
                let before = stream.pair.models[1].rx_doorbells(0);
                let first = stream.receive().len();
                let bells = stream.pair.models[1].rx_doorbells(0) - before;
                assert!(bells <= 1, "{bells} doorbells for {first} frames");
                assert_eq!(first, 32);
                stream.reap();
            }
            stream.end();
        }
    }
}

#[test]
fn a_full_ring_takes_no_more_and_keeps_one_descriptor_empty() {
    for chip in CHIPS {
        let plan = Plan { ring: 64, len: |_| 60, ..mixed(false) };
        let mut stream = Stream::new(pair_of(chip, Work::Ticked), plan);
        let mut taken = 0;
        for _ in 0..10 {
            taken += stream.send(32);
        }
        assert!((32..64).contains(&taken), "{taken} of a ring of 64");
        stream.run(0, |_| {});
        stream.end();
    }
}

#[test]
fn a_port_is_stopped_and_started_a_hundred_times() {
    for chip in CHIPS {
        for split in [false, true] {
            let plan = mixed(split);
            let options = pair_of(chip, Work::Late);
            let mut stream = Stream::new(options, plan);
            for _ in 0..100 {
                stream.send(32);
                stream.pair.tick();
                stream = stream.restarted();
                stream.run_exactly(20);
            }
            let mappings = stream.pair.models.each_ref().map(|model| model.mappings().0);
            stream.pair.check();
            assert!(mappings.iter().all(|spans| *spans < 8), "{mappings:?} spans mapped");
            stream.end();
        }
    }
}

#[test]
fn link_flaps_delay_and_lose_only_what_is_counted() {
    for (chip, work, split) in ways() {
        let mut stream = Stream::new(pair_of(chip, work), mixed(split));
        for _ in 0..50 {
            stream.pair.models[0].set_cable(false);
            stream.send(8);
            stream.pair.tick();
            assert!(!stream.pair.ports[0].link().is_up);
            stream.pair.models[0].set_cable(true);
            stream.pair.tick();
        }
        assert!(stream.pair.ports[0].link().is_up);
        let before = stream.next;
        let mut arrived = Vec::new();
        stream.run(1000, |one| arrived.push(number_of(&one.bytes)));
        assert_eq!(arrived, (0..before + 1000).collect::<Vec<_>>());
        stream.end();
    }
}
