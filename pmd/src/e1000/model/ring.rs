//! A descriptor ring as the device sees it: what it was given, what it has done, what it has told. Keeps a
//! copy of every descriptor it was given, and notices when one changes under it. Knows no format.

use std::collections::VecDeque;

use super::{checker::Checker, space::Space};

/// A descriptor: two words, or four (82574 packet split).
pub(super) type Words = [u64; 4];

/// One ring. Indices are descriptors of `unit` bytes.
#[derive(Debug)]
pub(super) struct Ring {
    name: String,
    base: u64,
    unit: u32,
    count: u32,
    active: bool,
    /// Next descriptor to be worked on.
    next: u32,
    /// Descriptors from there to the tail.
    ready: u32,
    /// First descriptor that the driver cannot know to be done.
    home: u32,
    /// Descriptors from there to the tail: the device's.
    owned: u32,
    copies: Vec<Words>,
    done: VecDeque<Done>,
    doorbells: u64,
}

/// A descriptor that was worked on.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) index: u32,
    /// What is to be written back, if the driver is to be told.
    pub(super) words: Option<Words>,
}

impl Ring {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            base: 0,
            unit: 16,
            count: 0,
            active: false,
            next: 0,
            ready: 0,
            home: 0,
            owned: 0,
            copies: Vec::new(),
            done: VecDeque::new(),
            doorbells: 0,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_active(&self) -> bool {
        self.active
    }

    /// Writes of the tail register since the beginning.
    pub(super) fn doorbells(&self) -> u64 {
        self.doorbells
    }

    /// Descriptors that can be worked on.
    pub(super) fn ready(&self) -> u32 {
        self.ready
    }

    /// Descriptors in all.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Descriptors done that the driver was not told of.
    pub(super) fn untold(&self) -> usize {
        self.done.len()
    }

    /// The head register, in units of 16 bytes.
    pub(super) fn head(&self) -> u32 {
        self.next * (self.unit / 16)
    }

    /// The queue is enabled: takes up its registers (head and tail in units of 16 bytes).
    pub(super) fn start(
        &mut self,
        (base, bytes, unit): (u64, u32, u32),
        (head, tail): (u32, u32),
        space: &Space,
        checker: &mut Checker,
    ) {
        let name = &self.name;
        let count = bytes / unit;
        if bytes == 0 || !bytes.is_multiple_of(128) || bytes > 1 << 20 {
            checker.note(format!("{name} enabled with a ring of {bytes} B: a multiple of 128"));
            return;
        }
        if base & 0x7f != 0 || !space.is_mapped(base, bytes as usize) {
            checker
                .note(format!("{name} enabled with a ring at {base:#x}: not mapped and aligned"));
            return;
        }
        checker.demand(head == 0, || format!("{name} enabled with its head at {head}"));
        (self.base, self.unit, self.count, self.active) = (base, unit, count, true);
        (self.next, self.ready, self.home, self.owned) = (0, 0, 0, 0);
        self.copies = vec![[0; 4]; count as usize];
        self.done.clear();
        if tail != 0 {
            self.advance(tail, space, checker);
        }
    }

    /// The queue is stopped, or the device reset: everything is forgotten.
    pub(super) fn stop(&mut self) {
        self.active = false;
        (self.next, self.ready, self.home, self.owned) = (0, 0, 0, 0);
        self.done.clear();
    }

    /// The descriptors that are the device's, as they were given.
    pub(super) fn held(&self) -> impl Iterator<Item = Words> {
        (0..self.owned).map(|step| self.copies[((self.home + step) % self.count.max(1)) as usize])
    }

    /// Counts a write of the tail register.
    pub(super) fn bell(&mut self) {
        self.doorbells += 1;
    }

    /// The tail register was written (in units of 16 bytes): the descriptors up to it are ours.
    pub(super) fn advance(&mut self, tail: u32, space: &Space, checker: &mut Checker) {
        let per = self.unit / 16;
        let (name, count) = (&self.name, self.count);
        if !tail.is_multiple_of(per) || tail / per >= count {
            checker.note(format!(
                "tail of {name} set to {tail}: the ring has {count} descriptors of {per} units"
            ));
            return;
        }
        let tail = tail / per;
        let given = (tail + count - (self.home + self.owned) % count) % count;
        if self.owned + given >= count {
            let owned = self.owned;
            checker.note(format!(
                "tail of {name} set to {tail}: {given} descriptors more than the {owned} the device has \
                 leave none of {count} empty"
            ));
            return;
        }
        for step in 0..given {
            let index = (self.home + self.owned + step) % count;
            self.copies[index as usize] = self.load(index, space);
        }
        self.owned += given;
        self.ready += given;
    }

    fn words(&self) -> usize {
        self.unit as usize / 8
    }

    fn place(&self, index: u32) -> u64 {
        self.base + u64::from(index) * u64::from(self.unit)
    }

    fn load(&self, index: u32, space: &Space) -> Words {
        let mut words = [0; 4];
        let _recorded = space.load(self.place(index), &mut words[..self.words()]);
        words
    }

    fn unchanged(&self, index: u32, space: &Space, checker: &mut Checker) {
        let now = self.load(index, space);
        if now != self.copies[index as usize] {
            checker.note(format!(
                "descriptor {index} of {} was changed while the device owned it: {:x?} became {now:x?}",
                self.name, self.copies[index as usize],
            ));
        }
    }

    /// The descriptors that were given since `seen` were, for checks of their fields.
    pub(super) fn given(&self, seen: u32) -> impl Iterator<Item = (u32, Words)> {
        let fresh = self.ready.saturating_sub(seen);
        (0..fresh).map(move |step| {
            let index = (self.next + seen + step) % self.count.max(1);
            (index, self.copies[index as usize])
        })
    }

    /// The next descriptor to work on.
    pub(super) fn take(&mut self, space: &Space, checker: &mut Checker) -> Option<(u32, Words)> {
        if !self.active || self.ready == 0 {
            return None;
        }
        let index = self.next;
        self.unchanged(index, space, checker);
        self.next = (self.next + 1) % self.count;
        self.ready -= 1;
        Some((index, self.copies[index as usize]))
    }

    /// A descriptor is done.
    pub(super) fn finish(&mut self, index: u32, words: Option<Words>) {
        self.done.push_back(Done { index, words });
    }

    /// Tells the driver of the next descriptor that is done; true if one was written back.
    pub(super) fn tell(&mut self, space: &Space, checker: &mut Checker) -> bool {
        while let Some(Done { index, words }) = self.done.pop_front() {
            // One that is not reported goes home with the next that is.
            let Some(words) = words else { continue };
            self.unchanged(index, space, checker);
            let freed = (index + self.count - self.home) % self.count + 1;
            self.home = (index + 1) % self.count;
            self.owned = self.owned.saturating_sub(freed);
            space.store(self.place(index), &words[..self.words()]);
            return true;
        }
        false
    }

    /// Writes a descriptor that is not due, as no correct device does.
    pub(super) fn forge(&mut self, index: u32, words: &Words, space: &Space) {
        if self.active && self.count > 0 {
            let index = index % self.count;
            space.store(self.place(index), &words[..self.words()]);
            // What it was given is what it would now find there.
            self.copies[index as usize] = self.load(index, space);
        }
    }
}
