//! What a device has.
#![allow(unsafe_code, reason = "states that a device which does not exist has stopped")]

use mempool::{InFlight, Quiesced};

use super::{Bench, POSITIONS};

impl Bench {
    pub(super) fn post(&mut self, position: usize, at: usize) {
        // One position too many, now and then.
        let position = position % (POSITIONS + 1);
        let Some((buf, slots)) = self.pick(at) else { return };
        let expected = self.model_ledger.get(position).is_some_and(Option::is_none);
        match self.ledger.post(position, buf) {
            Ok(slot) => {
                assert!(expected, "posted twice at {position}");
                assert_eq!(slot.index(), slots[0]);
                self.model_ledger[position] = Some(slots);
            }
            Err(buf) => {
                assert!(!expected, "refused at {position}");
                self.keep(buf, slots);
            }
        }
    }

    pub(super) fn complete(&mut self, position: usize) {
        let position = position % (POSITIONS + 1);
        let expected = self.model_ledger.get_mut(position).and_then(Option::take);
        let buf = self.ledger.complete(position);
        assert_eq!(buf.is_some(), expected.is_some(), "completed");
        if let (Some(buf), Some(slots)) = (buf, expected) {
            self.keep(buf, slots);
        }
    }

    pub(super) fn post_front(&mut self, from: usize, position: usize, count: usize) {
        let frames = &mut self.model_bursts[from];
        let most = count.min(frames.len());
        let expected = (0..most.min(POSITIONS))
            .take_while(|at| self.model_ledger[(position + at) % POSITIONS].is_none())
            .count();
        let posted = self.ledger.post_front(position, &mut self.bursts[from], count);
        assert_eq!(posted, expected, "posted");
        for (at, slots) in frames.drain(..posted).enumerate() {
            self.model_ledger[(position + at) % POSITIONS] = Some(slots);
        }
    }

    pub(super) fn complete_into(&mut self, to: usize, position: usize, count: usize) {
        let most = count.min(self.bursts[to].room()).min(POSITIONS);
        let expected = (0..most)
            .take_while(|at| self.model_ledger[(position + at) % POSITIONS].is_some())
            .count();
        let done = self.ledger.complete_into(position, count, &mut self.bursts[to]);
        assert_eq!(done, expected, "completed");
        let entries = (0..done).map(|at| (position + at) % POSITIONS);
        self.model_bursts[to].extend(entries.filter_map(|at| self.model_ledger[at].take()));
    }

    /// The queue goes: mostly with proof that the device has stopped, sometimes without.
    pub(super) fn end_ledger(&mut self, how: usize) {
        let new = InFlight::new(&self.pool, POSITIONS);
        let old = std::mem::replace(&mut self.ledger, new);
        let posted: Vec<_> = self.model_ledger.iter_mut().filter_map(Option::take).collect();
        if how.is_multiple_of(8) {
            drop(old);
            self.model.counters.leaked += posted.concat().len() as u64;
        } else {
            // SAFETY: there is no device.
            old.reclaim(unsafe { Quiesced::new() });
            self.model.put_strays(&posted.concat());
        }
    }
}
