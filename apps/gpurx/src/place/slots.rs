//! The data slots: cut into runs, posted in tensor order, taken back. Numbers only.

use std::collections::VecDeque;

use super::PlaceError;
use crate::errand::Extent;

/// Where a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// With us, and empty: may be posted, or take a row that moves.
    Home,
    /// Given out to be posted; not come back yet.
    Posted,
    /// Holds a row of that block.
    Held { block: u16, row: u32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// In the queue of runs to post.
    Ready,
    /// Being posted.
    Active,
    /// Posted; waits for its slots.
    Out,
    /// Kept for blocks that fit nowhere else.
    Spare,
    /// Not ours any more.
    Gone,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    first: u32,
    /// Slots that are not home.
    out: u32,
    phase: Phase,
    /// Whether it is posted no more, and gone once it is whole.
    leaves: bool,
}

/// The run being posted: offsets in it of the next slot, and of the end.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    run: usize,
    at: u32,
    end: u32,
}

/// Every slot, and the order in which they are posted.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    rows: u32,
    guard: u32,
    states: Vec<State>,
    run_of: Vec<u32>,
    runs: Vec<Run>,
    ready: VecDeque<usize>,
    active: Option<Cursor>,
    spare: Option<usize>,
    posted: u32,
    /// Empty slots of runs that are not whole, to be posted all the same; the next one last. Some may have
    /// found another use since.
    loose: Vec<u32>,
    /// Of those, slots posted so far.
    coalesced: u64,
}

const NO_RUN: u32 = u32::MAX;

impl Slots {
    /// Cuts `slots` (ascending) into runs of consecutive numbers. What is left over stays unused.
    pub(super) fn new(
        slots: &[u32],
        rows: u32,
        guard: u32,
        spare: bool,
    ) -> Result<Self, PlaceError> {
        let span = (rows + 2 * guard) as usize;
        let bound = slots.last().map_or(0, |last| *last as usize + 1);
        let mut this = Self {
            rows,
            guard,
            states: vec![State::Home; bound],
            run_of: vec![NO_RUN; bound],
            runs: Vec::new(),
            ready: VecDeque::new(),
            active: None,
            spare: None,
            posted: 0,
            loose: Vec::with_capacity(slots.len()),
            coalesced: 0,
        };
        let mut rest = slots;
        while rest.len() >= span {
            let first = rest[0];
            let consecutive = (first..).zip(rest).take_while(|(want, slot)| want == *slot).count();
            if consecutive < span {
                rest = &rest[consecutive..];
                continue;
            }
            let index = this.runs.len();
            this.run_of[first as usize..][..span].fill(u32::try_from(index).unwrap_or(NO_RUN));
            this.runs.push(Run { first, out: 0, phase: Phase::Ready, leaves: false });
            rest = &rest[span..];
        }
        let least = 2 + usize::from(spare);
        if this.runs.len() < least {
            let runs = this.runs.len();
            return Err(PlaceError::TooFewSlots { slots: slots.len(), span, runs, least });
        }
        let postable = this.runs.len() - usize::from(spare);
        this.ready.extend(0..postable);
        if spare {
            this.runs[postable].phase = Phase::Spare;
            this.spare = Some(postable);
        }
        Ok(this)
    }

    /// Slots given out to be posted and not come back.
    pub(super) fn posted(&self) -> u32 {
        self.posted
    }

    pub(super) fn state(&self, slot: u32) -> State {
        self.states[slot as usize]
    }

    /// The next slot to post; `row_of` says which row of its block the frame will be that comes
    /// after so many others.
    ///
    /// Rows shift against the runs when frames are lost or foreign ones take slots. A run that would
    /// start with row `r` leaves its first `r` places to the rows that come before it; a run that
    /// would end `r` rows early goes on into its guard. Either way the next block starts a run.
    // Always: it has two callers, and called it costs 28 instructions a packet more (717 to 745, `gpurx --cost` in
    // the testbed).
    #[inline(always)]
    pub(super) fn next(&mut self, row_of: impl Fn(u32) -> u32) -> Option<u32> {
        loop {
            let Some(mut cursor) = self.active else {
                let Some(run) = self.ready.pop_front() else { return self.next_loose() };
                let row = row_of(self.posted);
                let skip = if row <= self.rows / 2 { row } else { 0 };
                let (at, end) = (self.guard + skip, self.guard + self.rows);
                self.runs[run].phase = Phase::Active;
                self.active = Some(Cursor { run, at, end });
                continue;
            };
            if cursor.at == cursor.end {
                let row = row_of(self.posted);
                if row <= self.rows / 2 || cursor.end == self.rows + 2 * self.guard {
                    self.active = None;
                    self.runs[cursor.run].phase = Phase::Out;
                    self.settle(cursor.run);
                    continue;
                }
                cursor.end += 1;
            }
            let slot = self.runs[cursor.run].first + cursor.at;
            cursor.at += 1;
            self.active = Some(cursor);
            // A row may have moved here meanwhile.
            if self.states[slot as usize] == State::Home {
                self.states[slot as usize] = State::Posted;
                self.runs[cursor.run].out += 1;
                self.posted += 1;
                return Some(slot);
            }
        }
    }

    /// The next slot of a run that is not whole.
    #[cold]
    fn next_loose(&mut self) -> Option<u32> {
        while let Some(slot) = self.loose.pop() {
            let run = &mut self.runs[self.run_of[slot as usize] as usize];
            let is_open = run.phase == Phase::Out && !run.leaves;
            if is_open && self.states[slot as usize] == State::Home {
                self.states[slot as usize] = State::Posted;
                run.out += 1;
                self.posted += 1;
                self.coalesced += 1;
                return Some(slot);
            }
        }
        None
    }

    /// Whether there is nothing to post.
    pub(super) fn is_dry(&self) -> bool {
        self.active.is_none() && self.ready.is_empty() && self.loose.is_empty()
    }

    /// Empty slots that could be posted, those of runs that are not whole among them.
    pub(super) fn empty(&self) -> u32 {
        let span = self.rows + 2 * self.guard;
        let runs = self
            .runs
            .iter()
            .filter(|run| !run.leaves && run.phase != Phase::Spare && run.phase != Phase::Gone);
        runs.map(|run| span - run.out).sum()
    }

    /// Has the empty slots of runs that are not whole posted next, once whole runs have run out. A run is
    /// whole later for it.
    pub(super) fn coalesce(&mut self) {
        let span = self.rows + 2 * self.guard;
        self.loose.clear();
        for run in self.runs.iter().rev() {
            if run.phase == Phase::Out && !run.leaves && run.out < span {
                let slots = (run.first..run.first + span).rev();
                let states = &self.states;
                self.loose.extend(slots.filter(|slot| states[*slot as usize] == State::Home));
            }
        }
    }

    /// No more slots of runs that are not whole: there is enough.
    pub(super) fn rest(&mut self) {
        self.loose.clear();
    }

    /// Cuts slots that have come into runs, which are posted behind those there are. The first and the last are
    /// left alone, so that no stretch of a row map goes from one area into another.
    pub(super) fn add(&mut self, area: Extent) {
        let span = self.rows + 2 * self.guard;
        let bound = (area.end() as usize).max(self.states.len());
        self.states.resize(bound, State::Home);
        self.run_of.resize(bound, NO_RUN);
        let mut first = area.first + 1;
        while first + span < area.end() {
            let fresh = Run { first, out: 0, phase: Phase::Ready, leaves: false };
            // The number of a run that was there before, in another area with this number.
            let old =
                self.runs.iter().position(|run| run.phase == Phase::Gone && run.first == first);
            let index = old.unwrap_or(self.runs.len());
            if old.is_some() {
                self.runs[index] = fresh;
            } else {
                self.runs.push(fresh);
            }
            let number = u32::try_from(index).unwrap_or(NO_RUN);
            self.run_of[first as usize..][..span as usize].fill(number);
            self.ready.push_back(index);
            first += span;
        }
        let slots = self.states.len();
        self.loose.reserve(slots.saturating_sub(self.loose.len()));
    }

    /// Posts no more of these slots.
    pub(super) fn retire(&mut self, area: Extent) {
        for index in 0..self.runs.len() {
            if !area.holds(self.runs[index].first) || self.runs[index].phase == Phase::Gone {
                continue;
            }
            self.runs[index].leaves = true;
            if self.active.is_some_and(|cursor| cursor.run == index) {
                self.active = None;
            }
            self.runs[index].phase = Phase::Out;
            self.settle(index);
        }
        let runs = &self.runs;
        self.ready.retain(|index| !runs[*index].leaves);
    }

    /// Whether all of these slots are home, and are not posted any more.
    pub(super) fn has_left(&self, area: Extent) -> bool {
        let mut runs = self.runs.iter().filter(|run| area.holds(run.first));
        runs.all(|run| run.phase == Phase::Gone)
    }

    /// Slots of runs that were not whole posted so far.
    pub(super) fn coalesced(&self) -> u64 {
        self.coalesced
    }

    /// A posted slot came back with a frame. False, and nothing done, if it was not posted.
    #[inline]
    pub(super) fn came(&mut self, slot: u32, holds: Option<(u16, u32)>) -> bool {
        if self.states.get(slot as usize) != Some(&State::Posted) {
            return false;
        }
        self.posted -= 1;
        match holds {
            Some((block, row)) => self.states[slot as usize] = State::Held { block, row },
            None => self.free(slot),
        }
        true
    }

    /// The slot is empty again.
    #[inline]
    pub(super) fn free(&mut self, slot: u32) {
        let run = self.run_of[slot as usize] as usize;
        self.states[slot as usize] = State::Home;
        self.runs[run].out -= 1;
        self.settle(run);
    }

    /// A home slot takes a row.
    pub(super) fn hold(&mut self, slot: u32, block: u16, row: u32) {
        debug_assert_eq!(self.states[slot as usize], State::Home);
        self.states[slot as usize] = State::Held { block, row };
        self.runs[self.run_of[slot as usize] as usize].out += 1;
    }

    #[inline]
    fn settle(&mut self, run: usize) {
        let state = &mut self.runs[run];
        if state.out == 0 && state.phase == Phase::Out {
            if state.leaves {
                state.phase = Phase::Gone;
                return;
            }
            state.phase = Phase::Ready;
            self.ready.push_back(run);
        }
    }

    /// First slot and end of the run that a slot belongs to.
    pub(super) fn span_of(&self, slot: u32) -> (u32, u32) {
        let first = self.runs[self.run_of[slot as usize] as usize].first;
        (first, first + self.rows + 2 * self.guard)
    }

    /// First slot of the spare run, if it is empty.
    pub(super) fn spare(&self) -> Option<u32> {
        let run = self.runs[self.spare?];
        (run.out == 0).then_some(run.first)
    }

    /// Whether a slot is part of a run.
    #[cfg(test)]
    pub(super) fn is_of_a_run(&self, slot: u32) -> bool {
        self.run_of.get(slot as usize).is_some_and(|run| *run != NO_RUN)
    }

    /// Counts slots by state (home, posted, held) and checks the runs' own counts.
    #[cfg(test)]
    pub(super) fn census(&self) -> (usize, usize, usize) {
        let mut census = (0, 0, 0);
        let mut out = vec![0; self.runs.len()];
        for (state, run) in self.states.iter().zip(&self.run_of) {
            match state {
                State::Home => census.0 += 1,
                State::Posted => census.1 += 1,
                State::Held { .. } => census.2 += 1,
            }
            if *state != State::Home {
                out[*run as usize] += 1;
            }
        }
        assert!(self.runs.iter().map(|run| run.out).eq(out), "runs count their slots");
        assert_eq!(self.posted as usize, census.1);
        let ready: Vec<_> =
            (0..self.runs.len()).filter(|run| self.runs[*run].phase == Phase::Ready).collect();
        let mut queued: Vec<_> = self.ready.iter().copied().collect();
        queued.sort_unstable();
        assert_eq!(queued, ready, "each ready run is queued once");
        census
    }
}
