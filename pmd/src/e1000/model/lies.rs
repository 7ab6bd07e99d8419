//! Where a model breaks or lies: reports that never come, and reports that are made up. What a correct
//! device does passes through unchanged.

use std::sync::Arc;

use super::{
    accept::{DONE, END},
    core::{Core, Side},
    options::{Chip, Lie},
    receive::Form,
    ring::Words,
};

impl Core {
    fn lies(&mut self, among: &[Lie]) -> Option<Lie> {
        let told: Vec<Lie> =
            self.options.hostility.lies.iter().copied().filter(|lie| among.contains(lie)).collect();
        if told.is_empty() || !self.random.one_in(self.options.hostility.one_in) {
            return None;
        }
        self.lies_told += 1;
        told.get(self.random.below(told.len())).copied()
    }

    /// A receive descriptor is done.
    pub(super) fn report(&mut self, queue: usize, index: u32, words: Words, given: &Words) {
        const RX: [Lie; 9] = [
            Lie::TooLong,
            Lie::Empty,
            Lie::NoEnd,
            Lie::OutOfOrder,
            Lie::Twice,
            Lie::Garbage,
            Lie::AllOnes,
            Lie::LongHead,
            Lie::Errors,
        ];
        let Some(lie) = self.lies(&RX) else {
            return self.rx[queue].ring.finish(index, Some(words));
        };
        let form = self.form(queue);
        let mut words = words;
        let random = self.random.next();
        match lie {
            Lie::TooLong => set_len(form, &mut words, 65535),
            Lie::Empty => set_len(form, &mut words, 0),
            Lie::NoEnd => {
                words[1] &= !match form {
                    Form::Legacy(_) => u64::from(END) << 32,
                    _ => u64::from(END),
                }
            }
            Lie::Garbage => {
                words = std::array::from_fn(|_| self.random.next());
                words[1] |= done(form);
            }
            Lie::AllOnes => words = [u64::MAX; 4],
            Lie::LongHead => match form {
                Form::PacketSplit(_) => words[2] |= 0x83ff,
                _ => words[0] |= 0x8000_0000 | 0x3ff << 21,
            },
            Lie::Errors => {
                words[1] |= match form {
                    Form::Legacy(_) => 0xff << 40,
                    _ => 0x97 << 24,
                };
            }
            Lie::OutOfOrder => {
                // One further on, with these words; its own report comes when it is due.
                let space = Arc::clone(&self.space);
                let ahead = 1 + u32::try_from(random & 7).unwrap_or(0);
                self.rx[queue].ring.forge(index.wrapping_add(ahead), &words, &space);
            }
            Lie::Twice => {
                let space = Arc::clone(&self.space);
                let count = self.rx[queue].ring.count().max(1);
                let behind = 1 + u32::try_from(random & 7).unwrap_or(0) % count;
                self.rx[queue].ring.forge(index + count - behind.min(count), &words, &space);
            }
            Lie::Scribble | Lie::Head | Lie::EarlySent | Lie::AfterStop => {}
        }
        if words[1] & done(form) == 0 {
            words[1] = given[1] | done(form);
        }
        self.rx[queue].ring.finish(index, Some(words));
    }

    /// A transmit descriptor is done.
    pub(super) fn report_sent(&mut self, queue: usize, index: u32, words: Option<Words>) {
        let lost = words.is_some() && self.random.one_in(self.options.faults.lost_reports);
        if self.lies(&[Lie::EarlySent]).is_some() {
            let space = Arc::clone(&self.space);
            let ahead = u32::try_from(self.random.below(16)).unwrap_or(0);
            let words = [0, 1 << 32 | u64::from(self.chip == Chip::I82574) << 24, 0, 0];
            self.tx[queue].ring.forge(index.wrapping_add(ahead), &words, &space);
        }
        self.tx[queue].ring.finish(index, if lost { None } else { words });
    }

    /// Remembers a buffer that a frame was put into.
    pub(super) fn remember(&mut self, address: u64, len: usize) {
        if self.options.hostility.lies.contains(&Lie::Scribble) {
            self.touched.push_back((address, len));
            if self.touched.len() > 256 {
                self.touched.pop_front();
            }
        }
    }

    /// Writes into buffers that it should have no business with any more, as far as they are mapped.
    pub(super) fn scribble(&mut self) {
        if !self.is_alive() || self.lies(&[Lie::Scribble]).is_none() || self.touched.is_empty() {
            return;
        }
        let (address, len) = self.touched[self.random.below(self.touched.len())];
        let count = (1 + self.random.below(64)).min(len);
        let at = address + self.random.below(len - count + 1) as u64;
        let bytes: Vec<u8> = (0..count).map(|_| self.random.next().to_le_bytes()[0]).collect();
        if self.space.is_mapped(at, count) {
            self.space.write(at, &bytes);
        }
    }

    /// A receive queue is about to be stopped alone: what a liar remembers of it.
    pub(super) fn remember_stopped(&mut self, queue: usize) {
        if self.options.hostility.lies.contains(&Lie::AfterStop) {
            let at = usize::from(matches!(self.form(queue), Form::PacketSplit(_)));
            self.stale.extend(self.rx[queue].ring.held().map(|words| words[at]));
        }
    }

    /// Writes into a buffer of a queue that was stopped, whoever has it now.
    pub(super) fn write_after_stop(&mut self) {
        if !self.is_alive() || self.stale.is_empty() || self.lies(&[Lie::AfterStop]).is_none() {
            return;
        }
        let at = self.stale[self.random.below(self.stale.len())];
        let _recorded = self.space.write(at, &[0xa5; 64]);
    }

    /// Writes these words into a descriptor, whatever it is doing.
    pub(super) fn forge(&mut self, side: Side, queue: usize, index: u32, words: &Words) {
        let space = Arc::clone(&self.space);
        self.ring(side, queue).forge(index, words, &space);
    }
}

/// "Done" of a receive descriptor.
fn done(form: Form) -> u64 {
    if matches!(form, Form::Legacy(_)) { u64::from(DONE) << 32 } else { u64::from(DONE) }
}

fn set_len(form: Form, words: &mut Words, len: u64) {
    match form {
        Form::Legacy(_) => words[1] = words[1] & !0xffff | len,
        Form::PacketSplit(_) => {
            words[1] = words[1] & !(0xffff << 32) | len << 32;
            words[2] = words[2] & 0xffff | len << 16 | len << 32 | len << 48;
        }
        _ => {
            words[1] = words[1] & !(0xffff << 32) | len << 32;
            if len == 0 {
                // Nothing in the header buffer either.
                words[0] &= !(0xffff << 16);
            }
        }
    }
}
