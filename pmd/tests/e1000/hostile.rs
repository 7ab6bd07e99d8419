//! Devices that lie. Whatever a descriptor says: no panic, no byte beyond what was posted, every bad frame
//! counted, every buffer accounted for, and the port works again once it is started anew.

use pmd::{
    Device, Health,
    e1000::model::{Chip, Hostility, Lie, Options, Work},
};

use super::{
    rig::CHIPS,
    stream::{Books, Plan, Stream, frame, mixed, number_of},
};

fn ways() -> impl Iterator<Item = (Chip, bool)> {
    CHIPS.into_iter().flat_map(|chip| [false, true].map(|split| (chip, split)))
}

fn stream(chip: Chip, work: Work, plan: Plan) -> Stream {
    Stream::new([11, 12].map(|seed| Options::new(chip).work(work).seed(seed).flow_control()), plan)
}

/// From now on the receiving chip lies, and the sending one too.
fn lie(stream: &Stream, one_in: u32, lies: &[Lie]) {
    for model in &stream.pair.models {
        model.set_hostility(Hostility { one_in, lies: lies.to_vec() });
    }
}

#[test]
fn a_lie_that_can_be_seen_costs_its_frame_and_no_other() {
    for (chip, split) in ways() {
        for told in [Lie::TooLong, Lie::Empty, Lie::AllOnes, Lie::Errors] {
            let plan = Plan { len: |number| 60 + (number as usize * 37) % 1400, ..mixed(split) };
            let mut stream = stream(chip, Work::Late, plan);
            lie(&stream, 3, &[told]);
            let (mut last, mut came) = (None, 0);
            stream.run(3000, |one| {
                let number = number_of(&one.bytes);
                assert!(last < Some(number), "{told:?}: {number} after {last:?}");
                assert_eq!(one.bytes, frame(number, (plan.len)(number)), "{told:?}");
                (last, came) = (Some(number), came + 1);
            });
            let lies = stream.pair.models[1].lies();
            let rx = stream.pair.ports[1].stats_of(true);
            assert!(lies > 500, "{told:?}: only {lies} lies");
            assert_eq!((rx.delivered, rx.offered), (came, 3000), "{told:?}");
            assert_eq!(rx.drops.total(), lies, "{chip:?} {split} {told:?}: {rx:?}");
            assert_eq!(stream.pair.ports[1].health(), Health::Good);
            // Honest again: nothing is left of it.
            lie(&stream, 0, &[]);
            stream.run_exactly(500);
            stream.end();
        }
    }
}

#[test]
fn frames_are_never_longer_than_what_was_posted() {
    for (chip, split) in ways() {
        for (seed, told) in (0..).zip(Lie::ALL) {
            let plan = Plan { ring: 64, slots: 512, ..mixed(split) };
            let options = [seed, !seed]
                .map(|seed| Options::new(chip).work(Work::Late).seed(seed).flow_control());
            let mut stream = Stream::new(options, plan);
            lie(&stream, 4, &[told]);
            stream.run(2000, |one| assert!((1..=9018).contains(&one.bytes.len()), "{told:?}"));
            let (rx, tx) =
                (stream.pair.ports[1].stats_of(true), stream.pair.ports[0].stats_of(false));
            assert!(rx.is_balanced() && tx.is_balanced(), "{told:?}: {rx:?} {tx:?}");
            // Whatever it broke ends with the next start.
            lie(&stream, 0, &[]);
            let mut stream = stream.restarted();
            stream.run_exactly(300);
            stream.end_without_checks().check();
        }
    }
}

#[test]
fn all_lies_at_once_are_survived() {
    for (chip, split) in ways() {
        for seed in 0..8 {
            let plan = Plan { ring: 64, slots: 512, len: |n| 60 + n as usize % 5000, split };
            let options = [seed, !seed]
                .map(|seed| Options::new(chip).work(Work::Late).seed(seed).flow_control());
            let mut stream = Stream::new(options, plan);
            lie(&stream, 3, &Lie::ALL);
            stream.run(2000, |one| assert!((1..=9018).contains(&one.bytes.len())));
            lie(&stream, 0, &[]);
            stream.end_without_checks().check();
        }
    }
}

#[test]
fn more_than_a_thousand_lies_in_a_row_are_a_fault() {
    for (chip, split) in ways() {
        let plan = Plan { len: |_| 1000, ..mixed(split) };
        let mut stream = stream(chip, Work::Prompt, plan);
        stream.run_exactly(10);
        lie(&stream, 1, &[Lie::TooLong]);
        stream.run(1000, |_| panic!("a frame of a lying device"));
        assert_eq!(stream.pair.ports[1].health(), Health::Good, "a thousand are borne");
        stream.run(10, |_| panic!("a frame of a lying device"));
        // Packet split states both lengths; the head's is looked at first.
        let buffer = if chip == Chip::I82574 && split { 256 } else { 2048 };
        let why = format!("queue 0 faulted: device reported length 65535 for {buffer}-byte buffer");
        assert_eq!(stream.pair.ports[1].health(), Health::Faulted(why));
        assert_eq!(stream.pair.ports[1].stats_of(true).drops.total(), 1001);
        // A new start begins anew.
        lie(&stream, 0, &[]);
        let mut stream = stream.restarted();
        assert_eq!(stream.pair.ports[1].health(), Health::Good);
        stream.run_exactly(100);
        stream.end_without_checks().check();
    }
}
