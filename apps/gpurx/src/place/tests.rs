//! Placement against a model of the queue and of the memory: what a slot holds is the number of the
//! frame that landed there.

use std::collections::{HashSet, VecDeque};

use super::*;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Handed {
    base_seq: u64,
    rows: u32,
    /// What the consumer found in each row.
    found: Vec<Option<u64>>,
}

pub(super) struct World {
    pub(super) placer: Placer,
    contiguous: bool,
    pub(super) ring: VecDeque<u32>,
    ring_size: usize,
    pub(super) memory: Vec<Option<u64>>,
    pub(super) slots: usize,
    now: u64,
    pub(super) handed: Vec<Handed>,
    runs_per_block: Vec<usize>,
    pub(super) received: u64,
    foreign: u64,
    /// Blocks that may be with the consumer, and those that are, with what it was shown.
    keeps: usize,
    pub(super) shown: Vec<(BlockId, Vec<Option<u64>>)>,
    /// Whether slots of runs that are not whole are posted when little else is.
    pub(super) coalesces: bool,
}

impl World {
    pub(super) fn new(geometry: Geometry, blocks: usize, ring_size: usize) -> Self {
        let slots = geometry.slots(blocks);
        let numbers: Vec<u32> = (0..u32::try_from(slots).unwrap()).collect();
        let mut world = Self {
            placer: Placer::new(&numbers, &geometry).unwrap(),
            contiguous: geometry.contiguous,
            ring: VecDeque::new(),
            ring_size,
            memory: vec![None; slots],
            slots,
            now: 0,
            handed: Vec::new(),
            runs_per_block: Vec::new(),
            received: 0,
            foreign: 0,
            keeps: usize::from(geometry.kept),
            shown: Vec::new(),
            coalesces: false,
        };
        world.post();
        world
    }

    pub(super) fn post(&mut self) {
        while self.ring.len() < self.ring_size {
            let Some(slot) = self.placer.next_slot() else {
                let is_short = self.coalesces && self.ring.len() < self.ring_size / 2;
                if is_short && self.placer.empty() > 0 {
                    self.placer.coalesce();
                    continue;
                }
                break;
            };
            assert!(!self.ring.contains(&slot), "slot {slot} is posted twice");
            self.memory[slot as usize] = None;
            self.ring.push_back(slot);
        }
    }

    pub(super) fn frame(&mut self, seq: Option<u64>) {
        let Some(slot) = self.ring.pop_front() else { return };
        self.received += 1;
        self.memory[slot as usize] = seq;
        let info = RowInfo { len: 64, crc: None };
        match seq {
            Some(seq) => {
                self.placer.arrived(slot, seq, info, self.now);
            }
            None => {
                self.foreign += 1;
                self.placer.foreign(slot);
            }
        }
        self.hand_over();
        self.post();
    }

    pub(super) fn expire(&mut self) {
        self.now += 10_000_000;
        self.placer.expire(self.now);
        self.hand_over();
        self.post();
    }

    fn hand_over(&mut self) {
        while let Some(id) = self.placer.take_ready() {
            if self.contiguous {
                self.move_rows(id);
            }
            let block = self.placer.block(id);
            let found = (0..block.rows())
                .map(|row| block.slot(row).map(|slot| self.memory[slot as usize].expect("a row")))
                .collect();
            self.handed.push(Handed { base_seq: block.base_seq(), rows: block.rows(), found });
            self.runs_per_block.push(block.map().len());
            let by_map: u32 = block.map().iter().map(|run| run.len).sum();
            assert_eq!(by_map, block.present());
            if self.keeps > 0 {
                let found = self.found(id);
                self.shown.push((id, found));
            } else {
                self.placer.release(id);
            }
            if self.shown.len() > self.keeps {
                self.give_back(self.handed.len());
            }
        }
    }

    fn found(&self, id: BlockId) -> Vec<Option<u64>> {
        let block = self.placer.block(id);
        let rows = 0..block.rows();
        rows.map(|row| block.slot(row).and_then(|slot| self.memory[slot as usize])).collect()
    }

    /// The consumer returns one of the blocks that it has: what it was shown is there still.
    pub(super) fn give_back(&mut self, which: usize) {
        if self.shown.is_empty() {
            return;
        }
        let (id, found) = self.shown.swap_remove(which % self.shown.len());
        assert_eq!(self.found(id), found, "a row was overwritten while it was shown");
        self.placer.release(id);
    }

    fn move_rows(&mut self, id: BlockId) {
        let before: Vec<_> =
            (0..self.placer.block(id).rows()).map(|row| self.placer.block(id).slot(row)).collect();
        let fewest_moves = self.fewest_moves(id, &before);
        let (plan, _) = self.placer.make_contiguous(id);
        let base = plan.base().expect("the spare run is free");
        let out_of_place: HashSet<u32> = (0..)
            .zip(&before)
            .filter(|(row, slot)| slot.is_some_and(|slot| slot != base + row))
            .map(|(row, _)| row)
            .collect();
        assert_eq!(plan.moved() as usize, out_of_place.len());
        if !plan.is_relocation() {
            assert_eq!(plan.moved(), fewest_moves, "another base would have moved fewer rows");
        }
        let (mut side, mut moved) = (None, HashSet::new());
        for step in plan.steps() {
            let (row, to) = match *step {
                Step::Copy { row, from, to } => {
                    self.memory[to as usize] = self.memory[from as usize];
                    (row, to)
                }
                Step::Save { from, .. } => {
                    side = self.memory[from as usize];
                    continue;
                }
                Step::Restore { row, to } => {
                    self.memory[to as usize] = side.take();
                    (row, to)
                }
            };
            assert_eq!(to, base + row);
            assert!(!self.ring.contains(&to), "moved into a posted slot");
            assert!(moved.insert(row), "row {row} moved twice");
        }
        assert_eq!(moved, out_of_place);
        for (row, slot) in (0..).zip(before) {
            assert_eq!(self.placer.block(id).slot(row), slot.map(|_| base + row));
        }
    }

    /// Tries every base there could be.
    fn fewest_moves(&self, id: BlockId, rows: &[Option<u32>]) -> u32 {
        let slots = &self.placer.slots;
        let moves = |base: u32| {
            let end = base + u32::try_from(rows.len()).unwrap();
            let (_, end_of_run) = slots.span_of(base);
            let movers =
                (base..).zip(rows).filter(|(place, slot)| slot.is_some_and(|s| s != *place));
            let free = |place: u32| match slots.state(place) {
                State::Home => true,
                State::Held { block, .. } => block == id.0,
                State::Posted => false,
            };
            let fits = end <= end_of_run && movers.clone().all(|(place, _)| free(place));
            fits.then(|| u32::try_from(movers.count()).unwrap())
        };
        let present = rows.iter().flatten().count();
        let all = u32::try_from(present).unwrap();
        // A base with no row in place is no better than the spare run.
        let bases =
            (0..u32::try_from(self.memory.len()).unwrap()).filter(|base| slots.is_of_a_run(*base));
        bases.filter_map(moves).chain([all]).min().unwrap()
    }

    pub(super) fn end(&mut self) {
        self.placer.flush();
        self.hand_over();
        while !self.shown.is_empty() {
            self.give_back(0);
        }
        let (home, posted, held) = self.placer.slots.census();
        assert_eq!((posted, held), (self.ring.len(), 0));
        assert_eq!(home + posted, self.slots);
        let counters = self.placer.counters();
        let Counters { rows, duplicate, late, jump, missing, complete, partial, .. } = counters;
        assert_eq!(self.received, rows + duplicate + late + jump + self.foreign);
        let present = self.handed.iter().flat_map(|block| &block.found).flatten().count();
        assert_eq!(present as u64, rows);
        let absent: u64 = self
            .handed
            .iter()
            .map(|b| b.found.iter().filter(|row| row.is_none()).count() as u64)
            .sum();
        assert!(absent <= missing, "rows of blocks never opened are missing too");
        assert_eq!(self.handed.len() as u64, complete + partial);
        for block in &self.handed {
            for (seq, found) in (block.base_seq..).zip(&block.found) {
                assert!(found.is_none_or(|found| found == seq), "a row holds another's payload");
            }
        }
        if !self.contiguous {
            assert_eq!(counters.rows_moved, 0);
        }
    }
}

pub(super) fn geometry(rows: u32, contiguous: bool) -> Geometry {
    Geometry { origin: Some(0), ..Geometry::of(rows, contiguous) }
}

#[test]
fn traffic_in_order_is_one_run_per_block_and_moves_nothing() {
    for contiguous in [false, true] {
        for ring in [4, 16, 33, 64] {
            let mut world = World::new(geometry(16, contiguous), 8, ring);
            (0..1600).for_each(|seq| world.frame(Some(seq)));
            world.end();
            assert_eq!(world.runs_per_block, [1; 100], "ring {ring}");
            let Counters { complete, partial, missing, rows_moved, reordered, .. } =
                world.placer.counters();
            assert_eq!((complete, partial, missing), (100, 0, 0));
            assert_eq!((rows_moved, reordered), (0, 0));
        }
    }
}

#[test]
fn after_a_loss_and_after_foreign_frames_blocks_start_runs_again() {
    for contiguous in [false, true] {
        for disturb in [|world: &mut World| world.frame(None), |_: &mut World| ()] {
            let mut world = World::new(geometry(64, contiguous), 8, 32);
            (0..100).for_each(|seq| world.frame(Some(seq)));
            disturb(&mut world);
            // In the other case number 100 is lost.
            (101..6400).for_each(|seq| world.frame(Some(seq)));
            world.end();
            assert!(world.runs_per_block[5..].iter().all(|runs| *runs == 1), "{contiguous}");
        }
    }
}

#[test]
fn a_lost_row_shifts_those_behind_it_and_the_smaller_part_moves() {
    let mut world = World::new(geometry(64, true), 8, 32);
    (0..64).filter(|seq| *seq != 10).for_each(|seq| world.frame(Some(seq)));
    world.end();
    let counters = world.placer.counters();
    assert_eq!((counters.missing, counters.partial), (1, 1));
    assert_eq!(counters.rows_moved, 10, "rows 0 to 9 follow the others into the guard");
}

#[test]
fn a_place_that_is_posted_is_not_to_be_had() {
    let mut world = World::new(geometry(64, true), 8, 32);
    (0..64).filter(|seq| *seq != 50).for_each(|seq| world.frame(Some(seq)));
    world.end();
    // Row 63 belongs where the next frame will land: the 50 rows in front move instead of 13.
    assert_eq!(world.placer.counters().rows_moved, 50);
}

#[test]
fn two_rows_that_swapped_change_places_by_way_of_the_side() {
    let mut world = World::new(geometry(16, true), 8, 8);
    for seq in [0, 1, 2, 4, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15] {
        world.frame(Some(seq));
    }
    world.end();
    let Counters { rows_moved, reordered, complete, .. } = world.placer.counters();
    assert_eq!((rows_moved, reordered, complete), (2, 1, 1));
}

#[test]
fn a_block_waits_for_latecomers_until_the_window_moves_on() {
    let mut world = World::new(geometry(8, false), 8, 8);
    (0..8).filter(|seq| *seq != 3).for_each(|seq| world.frame(Some(seq)));
    (8..12).for_each(|seq| world.frame(Some(seq)));
    assert!(world.handed.is_empty());
    world.frame(Some(3));
    assert_eq!(world.handed.len(), 1, "complete");
    (12..24).filter(|seq| *seq != 14).for_each(|seq| world.frame(Some(seq)));
    assert_eq!(world.handed.len(), 1);
    world.frame(Some(24));
    assert_eq!(world.handed.len(), 3, "block 3 pushes block 1 out, and block 2 was complete");
    world.frame(Some(14));
    world.frame(Some(13));
    let Counters { late, duplicate, missing, .. } = world.placer.counters();
    assert_eq!((late, duplicate, missing), (1, 1, 1));
}

#[test]
fn the_newest_block_is_cut_at_its_deadline_and_loses_nothing() {
    let mut world = World::new(geometry(8, true), 8, 8);
    for seq in 0..20 {
        world.frame(Some(seq));
        if seq % 3 == 2 {
            world.expire();
        }
    }
    world.end();
    let starts: Vec<_> = world.handed.iter().map(|block| (block.base_seq, block.rows)).collect();
    assert_eq!(
        starts,
        [(0, 3), (3, 3), (6, 2), (8, 1), (9, 3), (12, 3), (15, 1), (16, 2), (18, 2)]
    );
    let Counters { missing, late, rows_moved, .. } = world.placer.counters();
    assert_eq!((missing, late, rows_moved), (0, 0, 0));
}

#[test]
fn a_sender_that_restarts_is_followed_from_its_second_frame_on() {
    let mut world = World::new(geometry(8, false), 8, 8);
    (0..100).for_each(|seq| world.frame(Some(seq)));
    (0..16).for_each(|seq| world.frame(Some(seq)));
    world.end();
    let Counters { resyncs, jump, missing, rows, .. } = world.placer.counters();
    assert_eq!((resyncs, jump, missing, rows), (1, 1, 0, 115));
    assert_eq!(world.handed.last().map(|block| block.base_seq), Some(9), "a grid from 1 on");
}

#[test]
fn a_stray_number_far_away_is_dropped_alone() {
    let mut world = World::new(geometry(8, false), 8, 8);
    for seq in [0, 1, 1 << 40, 2, u64::MAX, 3, 4, 5, 6, 7] {
        world.frame(Some(seq));
    }
    let Counters { resyncs, jump, complete, .. } = world.placer.counters();
    assert_eq!((resyncs, jump, complete), (0, 2, 1));
}

#[test]
fn rows_of_blocks_that_never_came_are_missing() {
    let mut world = World::new(geometry(8, false), 8, 8);
    (0..8).chain(80..88).for_each(|seq| world.frame(Some(seq)));
    world.end();
    assert_eq!(world.placer.counters().missing, 72);
    assert_eq!(world.handed.len(), 2);
}

#[test]
fn too_few_slots_say_how_many_runs_they_make() {
    let numbers: Vec<u32> = (0..40).collect();
    let error = Placer::new(&numbers, &geometry(32, true)).unwrap_err().to_string();
    assert_eq!(
        error,
        "40 data slots make 0 runs of 48, at least 3 are needed: more blocks, or fewer rows"
    );
}

#[test]
fn slots_with_holes_make_runs_around_them() {
    let numbers: Vec<u32> = (0..100).filter(|slot| *slot != 20).collect();
    let mut placer = Placer::new(&numbers, &geometry(16, false)).unwrap();
    let posted: Vec<u32> = std::iter::from_fn(|| placer.next_slot()).collect();
    assert!(posted.len() >= 64 && !posted.contains(&20));
}

#[test]
fn what_lies_about_is_posted_when_memory_is_short_and_runs_become_whole_again() {
    let numbers: Vec<u32> = (0..48).collect();
    let mut placer = Placer::new(&numbers, &geometry(16, false)).unwrap();
    let take =
        |placer: &mut Placer| -> Vec<u32> { std::iter::from_fn(|| placer.next_slot()).collect() };
    assert_eq!(take(&mut placer), numbers);
    [20, 3, 40].into_iter().for_each(|slot| placer.foreign(slot));
    assert!(placer.is_dry() && placer.empty() == 3);
    placer.coalesce();
    assert_eq!(placer.next_slot(), Some(3));
    placer.rest();
    assert_eq!(placer.next_slot(), None, "there is enough: run 1 and run 2 wait to be whole");
    placer.coalesce();
    // Meanwhile run 1 becomes whole: it is posted first, and its slot once.
    (16..32).filter(|slot| *slot != 20).for_each(|slot| placer.foreign(slot));
    assert_eq!(take(&mut placer), (16..32).chain([40]).collect::<Vec<_>>());
    assert_eq!((placer.coalesced(), placer.posted(), placer.empty()), (2, 48, 0));
    numbers.iter().for_each(|slot| placer.foreign(*slot));
    assert_eq!(take(&mut placer), numbers);
}
