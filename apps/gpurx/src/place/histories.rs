//! Random histories of traffic, consumers and areas, against the model of [`super::tests`].

use proptest::prelude::*;

use super::{
    Geometry,
    tests::{World, geometry},
};
use crate::errand::Extent;

#[derive(Clone, Copy, Debug)]
enum Op {
    InOrder(u8),
    Lose(u8),
    Foreign,
    /// Hold the next frame back for so many others.
    Delay(u8),
    /// Repeat the frame so many numbers ago.
    Repeat(u8),
    Deadline,
    Restart(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => (1u8..30).prop_map(Op::InOrder),
        4 => (1u8..4).prop_map(Op::Lose),
        1 => (4u8..60).prop_map(Op::Lose),
        4 => Just(Op::Foreign),
        4 => (1u8..6).prop_map(Op::Delay),
        1 => (6u8..40).prop_map(Op::Delay),
        3 => (1u8..30).prop_map(Op::Repeat),
        1 => Just(Op::Deadline),
        1 => (0u64..5000).prop_map(Op::Restart),
    ]
}

/// Turns ops into frames: `Some(Some(seq))` of the stream, `Some(None)` foreign, `None` a deadline.
fn frames(ops: &[Op]) -> Vec<Option<Option<u64>>> {
    let (mut seq, mut frames) = (0u64, Vec::new());
    let mut delayed: Vec<(u8, u64)> = Vec::new();
    for op in ops {
        match *op {
            Op::InOrder(count) => {
                for _ in 0..count {
                    frames.push(Some(Some(seq)));
                    seq += 1;
                    delayed.iter_mut().for_each(|(left, _)| *left -= 1);
                    let due = delayed.extract_if(.., |(left, _)| *left == 0);
                    frames.extend(due.map(|(_, seq)| Some(Some(seq))));
                }
            }
            Op::Lose(count) => seq += u64::from(count),
            Op::Foreign => frames.push(Some(None)),
            Op::Delay(by) => {
                delayed.push((by, seq));
                seq += 1;
            }
            Op::Repeat(ago) => frames.push(Some(Some(seq.saturating_sub(u64::from(ago))))),
            Op::Deadline => frames.push(None),
            Op::Restart(at) => seq = at,
        }
    }
    frames
}

fn play(world: &mut World, frames: &[Option<Option<u64>>]) {
    play_on(world, frames);
    world.end();
}

fn play_on(world: &mut World, frames: &[Option<Option<u64>>]) {
    for (at, frame) in frames.iter().enumerate() {
        if world.ring.is_empty() {
            // Nothing can land any more until a block comes back.
            world.give_back(at);
            world.post();
        }
        match frame {
            Some(seq) => world.frame(*seq),
            None => world.expire(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn both_consumers_see_the_same_bytes_and_no_slot_is_lost_or_used_twice(
        ops in prop::collection::vec(op(), 1..40),
        rows in prop::sample::select(vec![4u32, 8, 13, 16]),
        ring in prop::sample::select(vec![4usize, 8, 32]),
    ) {
        let frames = frames(&ops);
        let mut mapped = World::new(geometry(rows, false), 40, ring);
        let mut contiguous = World::new(geometry(rows, true), 40, ring);
        play(&mut mapped, &frames);
        play(&mut contiguous, &frames);
        prop_assert_eq!(mapped.received, contiguous.received);
        prop_assert_eq!(mapped.handed, contiguous.handed);
    }

    #[test]
    fn what_a_consumer_keeps_is_not_touched_whatever_the_order_it_is_returned_in(
        ops in prop::collection::vec(op(), 1..40),
        rows in prop::sample::select(vec![4u32, 8, 13]),
        kept in 1u16..12,
        blocks in prop::sample::select(vec![3usize, 6, 40]),
    ) {
        let frames = frames(&ops);
        let mut world = World::new(Geometry { kept, ..geometry(rows, false) }, blocks, 8);
        play(&mut world, &frames);
    }

    #[test]
    fn slots_of_runs_that_are_not_whole_are_used_once_and_none_lies_idle(
        ops in prop::collection::vec(op(), 1..40),
        rows in prop::sample::select(vec![4u32, 8, 13]),
        kept in 0u16..12,
        contiguous in any::<bool>(),
        blocks in prop::sample::select(vec![3usize, 6]),
    ) {
        let frames = frames(&ops);
        // A tensor that is kept may have the spare run: the sink's case, not the placement's.
        let kept = if contiguous { 0 } else { kept };
        let mut world = World::new(Geometry { kept, ..geometry(rows, contiguous) }, blocks, 8);
        world.coalesces = true;
        play(&mut world, &frames);
    }
}

/// An area of a history: none, there, or on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Out,
    Here,
    Leaving,
}

/// Areas behind the first one, as a main thread would have them come and go.
struct Tides {
    extents: [Extent; 2],
    stages: [Stage; 2],
    added: u32,
    removed: u32,
}

impl Tides {
    /// Two numbers of areas as large as the first one, in a world that has room for them.
    fn new(world: &mut World, span: usize) -> Self {
        let size = u32::try_from(world.slots.next_power_of_two()).unwrap();
        let count = u32::try_from(2 * span + 2).unwrap().min(size);
        let extents = [Extent { first: size, count }, Extent { first: 2 * size, count }];
        world.memory.resize(3 * size as usize, None);
        Self { extents, stages: [Stage::Out; 2], added: 0, removed: 0 }
    }

    /// The next thing that can happen to an area does.
    fn turn(&mut self, world: &mut World, which: usize) {
        let extent = self.extents[which];
        match self.stages[which] {
            Stage::Out => {
                world.placer.add(extent);
                world.slots += extent.count as usize;
                self.added += 1;
                self.stages[which] = Stage::Here;
            }
            Stage::Here => {
                world.placer.retire(extent);
                self.stages[which] = Stage::Leaving;
            }
            Stage::Leaving => self.see_off(world, which),
        }
        world.post();
    }

    fn see_off(&mut self, world: &mut World, which: usize) {
        let extent = self.extents[which];
        if self.stages[which] != Stage::Leaving || !world.placer.has_left(extent) {
            return;
        }
        let is_out = |slot: &u32| extent.holds(*slot);
        assert!(!world.ring.iter().any(is_out), "a slot of an area that has left is posted");
        world.memory[extent.first as usize..extent.end() as usize].fill(None);
        world.slots -= extent.count as usize;
        self.removed += 1;
        self.stages[which] = Stage::Out;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn areas_come_and_go_and_no_row_is_lost_or_touched(
        ops in prop::collection::vec((op(), 0u8..8), 1..80),
        rows in prop::sample::select(vec![4u32, 8, 13, 32]),
        kept in 0u16..6,
        coalesces in any::<bool>(),
        contiguous in any::<bool>(),
    ) {
        let kept = if contiguous { 0 } else { kept };
        let geometry = Geometry { kept, ..geometry(rows, contiguous) };
        let mut world = World::new(geometry, 4, 8);
        world.coalesces = coalesces;
        let mut tides = Tides::new(&mut world, geometry.span());
        for (op, turn) in &ops {
            play_on(&mut world, &frames(&[*op]));
            if let 0..2 = turn {
                tides.turn(&mut world, usize::from(*turn));
            }
        }
        // What is posted there comes back with frames, and goes.
        for which in 0..2 {
            if tides.stages[which] == Stage::Here {
                tides.turn(&mut world, which);
            }
        }
        for seq in 0..400 {
            play_on(&mut world, &[Some(Some(100_000 + seq))]);
            (0..2).for_each(|which| tides.see_off(&mut world, which));
        }
        while !world.shown.is_empty() {
            world.give_back(0);
        }
        for seq in 400..800 {
            play_on(&mut world, &[Some(Some(100_000 + seq))]);
        }
        world.expire();
        while !world.shown.is_empty() {
            world.give_back(0);
        }
        (0..2).for_each(|which| tides.see_off(&mut world, which));
        prop_assert_eq!(tides.stages, [Stage::Out; 2]);
        prop_assert_eq!(tides.added, tides.removed);
    }
}
