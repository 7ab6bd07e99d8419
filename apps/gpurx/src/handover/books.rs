//! What is shown to a consumer, as only we write it: the count beside the pool's. Numbers only; what a
//! consumer returns is held against it.

use super::layout::{Layout, Ticket};
use crate::place::BlockId;

/// Why a return was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It names an entry that the ring does not have.
    OutOfRange,
    /// It is of another generation of the ring.
    WrongGeneration,
    /// The entry is not the one of that serial.
    Forged,
    /// No such block has been shown yet.
    NeverShown,
    /// The block has been returned already.
    Repeated,
}

/// Returns that were not taken, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// [`Refused::OutOfRange`].
    pub out_of_range: u64,
    /// [`Refused::WrongGeneration`].
    pub wrong_generation: u64,
    /// [`Refused::Forged`].
    pub forged: u64,
    /// [`Refused::NeverShown`].
    pub never_shown: u64,
    /// [`Refused::Repeated`].
    pub repeated: u64,
}

impl Refusals {
    /// Counts one.
    pub fn add(&mut self, why: Refused) {
        *match why {
            Refused::OutOfRange => &mut self.out_of_range,
            Refused::WrongGeneration => &mut self.wrong_generation,
            Refused::Forged => &mut self.forged,
            Refused::NeverShown => &mut self.never_shown,
            Refused::Repeated => &mut self.repeated,
        } += 1;
    }
}

/// A block that is shown.
#[derive(Clone, Copy, Debug)]
struct Line {
    id: BlockId,
    slots: u32,
    at: u64,
}

/// The books of one ring. An entry is free here or it is not, whatever its words say.
#[derive(Clone, Debug)]
pub struct Books {
    layout: Layout,
    lines: Box<[Option<Line>]>,
    /// Serial of the next block; those of the last `entries` may be out.
    next: u32,
    /// Blocks shown so far: tells a serial that was never given from an old one.
    given: u64,
    blocks: u32,
    slots: u64,
    /// The oldest block that has not been counted as overdue.
    watched: u32,
}

impl Books {
    /// Nothing is shown yet.
    #[must_use]
    pub fn new(layout: Layout) -> Self {
        let lines = vec![None; layout.entries as usize].into();
        Self { layout, lines, next: 0, given: 0, blocks: 0, slots: 0, watched: 0 }
    }

    #[inline]
    fn line(&mut self, serial: u32) -> &mut Option<Line> {
        &mut self.lines[(serial & (self.layout.entries - 1)) as usize]
    }

    /// Whether the next block's entry is free.
    #[inline]
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.lines[(self.next & (self.layout.entries - 1)) as usize].is_none()
    }

    /// Writes a block down as shown at `now`; its ticket, or none if its entry is not free.
    #[inline]
    pub fn show(&mut self, id: BlockId, slots: u32, now: u64) -> Option<Ticket> {
        let serial = self.next;
        let line = self.line(serial);
        if line.is_some() {
            return None;
        }
        *line = Some(Line { id, slots, at: now });
        self.next = serial.wrapping_add(1);
        self.given += 1;
        self.blocks += 1;
        self.slots += u64::from(slots);
        Some(self.layout.ticket(serial))
    }

    /// Strikes out what a consumer's word names, and returns the block; from then on its slots are ours.
    ///
    /// # Errors
    /// It names nothing that is out; nothing has changed.
    #[inline]
    pub fn take_back(&mut self, word: u64) -> Result<BlockId, Refused> {
        let ticket = Ticket::of(word);
        let ago = self.next.wrapping_sub(ticket.serial);
        if u32::from(ticket.entry) >= self.layout.entries {
            return Err(Refused::OutOfRange);
        }
        if ticket.generation != self.layout.generation {
            return Err(Refused::WrongGeneration);
        }
        if ticket != self.layout.ticket(ticket.serial) {
            return Err(Refused::Forged);
        }
        // Half of the numbers lie ahead, half behind; before 2^31 blocks were shown, fewer do.
        if ago == 0 || ago > u32::MAX / 2 || u64::from(ago) > self.given {
            return Err(Refused::NeverShown);
        }
        if ago > self.layout.entries {
            return Err(Refused::Repeated);
        }
        let line = self.line(ticket.serial).take().ok_or(Refused::Repeated)?;
        self.forget(&line);
        Ok(line.id)
    }

    fn forget(&mut self, line: &Line) {
        self.blocks -= 1;
        self.slots -= u64::from(line.slots);
    }

    /// Strikes out whatever is left, the oldest first: nobody looks at it any more.
    pub fn scrub(&mut self) -> Option<BlockId> {
        if self.blocks == 0 {
            return None;
        }
        let first = self.next.wrapping_sub(self.layout.entries);
        let line = (0..self.layout.entries)
            .find_map(|ahead| self.line(first.wrapping_add(ahead)).take())?;
        self.forget(&line);
        Some(line.id)
    }

    /// Blocks that have been out for `limit` nanoseconds now, and were not counted before.
    #[inline]
    pub fn overdue(&mut self, now: u64, limit: u64) -> u64 {
        let mut found = 0;
        if self.next.wrapping_sub(self.watched) > self.layout.entries {
            // They were returned in the meantime: their entries are others' now.
            self.watched = self.next.wrapping_sub(self.layout.entries);
        }
        while self.watched != self.next {
            match *self.line(self.watched) {
                Some(line) if now.saturating_sub(line.at) < limit => break,
                Some(_) => found += 1,
                None => {}
            }
            self.watched = self.watched.wrapping_add(1);
        }
        found
    }

    /// Blocks that are out.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Slots that are out: those of the blocks' rows.
    #[must_use]
    pub fn slots(&self) -> u64 {
        self.slots
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use proptest::prelude::*;

    use super::*;

    fn layout(entries: u32) -> Layout {
        Layout { generation: 7, entries, rows: 64, slots: 4096, stride: 2048, row_bits: 0 }
    }

    fn block(number: u16) -> BlockId {
        BlockId::of(number)
    }

    #[test]
    fn each_wrong_return_is_refused_for_its_reason() {
        let layout = layout(4);
        let mut books = Books::new(layout);
        let first = books.show(block(0), 10, 0).unwrap();
        let second = books.show(block(1), 20, 0).unwrap();
        let wrong = |ticket: Ticket| ticket.word();
        for (word, why) in [
            (wrong(Ticket { entry: 4, ..first }), Refused::OutOfRange),
            (u64::MAX, Refused::OutOfRange),
            (wrong(Ticket { generation: 6, ..first }), Refused::WrongGeneration),
            (wrong(Ticket { entry: 1, ..first }), Refused::Forged),
            (wrong(layout.ticket(2)), Refused::NeverShown),
            (wrong(layout.ticket(u32::MAX)), Refused::NeverShown),
            (wrong(layout.ticket(1 << 31)), Refused::NeverShown),
        ] {
            assert_eq!(books.take_back(word), Err(why), "{word:#x}");
        }
        assert_eq!((books.blocks(), books.slots()), (2, 30));
        assert_eq!(books.take_back(second.word()), Ok(block(1)));
        assert_eq!(books.take_back(second.word()), Err(Refused::Repeated));
        assert_eq!(books.take_back(first.word()), Ok(block(0)));
        assert_eq!((books.blocks(), books.slots()), (0, 0));
        for round in 2..12 {
            let ticket = books.show(block(round), 1, 0).unwrap();
            assert_eq!(books.take_back(ticket.word()), Ok(block(round)));
        }
        assert_eq!(books.take_back(first.word()), Err(Refused::Repeated), "laps later too");
    }

    #[test]
    fn a_block_that_stays_out_is_counted_as_overdue_once_and_stays_out() {
        let mut books = Books::new(layout(4));
        let first = books.show(block(0), 1, 100).unwrap();
        books.show(block(1), 1, 150).unwrap();
        assert_eq!(books.overdue(199, 100), 0);
        assert_eq!(books.overdue(200, 100), 1);
        assert_eq!(books.overdue(249, 100), 0, "once");
        assert_eq!(books.overdue(250, 100), 1);
        assert_eq!(books.blocks(), 2);
        assert_eq!(books.take_back(first.word()), Ok(block(0)), "late is not wrong");
        for round in 2..9 {
            let ticket = books.show(block(round), 1, 300);
            ticket.into_iter().for_each(|ticket| assert!(books.take_back(ticket.word()).is_ok()));
        }
        assert_eq!(books.overdue(1000, 100), 0, "what was counted, or returned in time, is not");
    }

    #[derive(Clone, Debug)]
    enum Op {
        Show(u32),
        /// The one of those that are out at this place.
        Return(usize),
        /// One that was returned before.
        Repeat(usize),
        Word(u64),
        /// Nearly one that is out: a field is changed by so much.
        Near(usize, u16, u16, u32),
        Scrub,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => (0u32..64).prop_map(Op::Show),
            5 => (0usize..64).prop_map(Op::Return),
            2 => (0usize..64).prop_map(Op::Repeat),
            1 => any::<u64>().prop_map(Op::Word),
            3 => (0usize..64, 0u16..3, 0u16..2, 0u32..40).prop_map(|(which, entry, generation, serial)| {
                Op::Near(which, entry, generation, serial)
            }),
            1 => Just(Op::Scrub),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 5_000, ..ProptestConfig::default() })]

        #[test]
        fn only_what_is_out_comes_back_and_only_once(
            ops in prop::collection::vec(op(), 1..120),
            entries in prop::sample::select(vec![1u32, 2, 4, 16]),
        ) {
            let mut books = Books::new(layout(entries));
            let mut out: BTreeMap<u64, (u16, u32)> = BTreeMap::new();
            let mut past: Vec<u64> = Vec::new();
            let (mut shown, mut home) = (0u16, HashSet::new());
            for op in ops {
                let oldest = |out: &BTreeMap<u64, (u16, u32)>, at: usize| {
                    (!out.is_empty()).then(|| *out.keys().nth(at % out.len()).unwrap())
                };
                let word = match op {
                    Op::Show(slots) => {
                        match books.show(block(shown), slots, 0) {
                            Some(ticket) => {
                                prop_assert!(out.insert(ticket.word(), (shown, slots)).is_none());
                                shown += 1;
                            }
                            None => prop_assert!(!out.is_empty(), "an empty ring has room"),
                        }
                        continue;
                    }
                    Op::Scrub => {
                        while let Some(id) = books.scrub() {
                            prop_assert!(home.insert(id), "a block came home twice");
                        }
                        past.extend(out.keys());
                        out.clear();
                        continue;
                    }
                    Op::Return(at) => oldest(&out, at),
                    Op::Repeat(at) => (!past.is_empty()).then(|| past[at % past.len()]),
                    Op::Word(word) => Some(word),
                    Op::Near(at, entry, generation, serial) => oldest(&out, at).map(|word| {
                        let ticket = Ticket::of(word);
                        let entry = ticket.entry.wrapping_add(entry);
                        let generation = ticket.generation.wrapping_add(generation);
                        Ticket { entry, generation, serial: ticket.serial.wrapping_add(serial) }.word()
                    }),
                };
                let Some(word) = word else { continue };
                let before = (books.blocks(), books.slots());
                match (books.take_back(word), out.remove(&word)) {
                    (Ok(id), Some((number, _))) => {
                        prop_assert_eq!(id, block(number));
                        prop_assert!(home.insert(id), "a block came home twice");
                        past.push(word);
                    }
                    (Err(_), None) => prop_assert_eq!(before, (books.blocks(), books.slots())),
                    (got, model) => prop_assert!(false, "{:?} of {:#x}, which is {:?}", got, word, model),
                }
                let slots: u64 = out.values().map(|(_, slots)| u64::from(*slots)).sum();
                prop_assert_eq!((books.blocks() as usize, books.slots()), (out.len(), slots));
            }
        }

        #[test]
        fn serials_may_wrap(start in any::<u32>(), returns in prop::collection::vec(any::<bool>(), 1..60)) {
            let mut books = Books::new(layout(8));
            (books.next, books.watched, books.given) = (start, start, u64::from(u32::MAX));
            let mut out = Vec::new();
            for (number, is_return) in (0u16..).zip(returns) {
                if is_return && !out.is_empty() {
                    let word: u64 = out.remove(0);
                    prop_assert!(books.take_back(word).is_ok());
                    prop_assert_eq!(books.take_back(word), Err(Refused::Repeated));
                } else if let Some(ticket) = books.show(block(number), 1, 0) {
                    out.push(ticket.word());
                } else {
                    prop_assert_eq!(out.len(), 8);
                }
            }
        }
    }
}
