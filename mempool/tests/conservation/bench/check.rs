//! What must be true after every step.

use std::collections::BTreeSet;

use mempool::{Audit, Cache, Frame, Readable, Slot};

use super::{Bench, Slots};

impl Bench {
    /// Everything the model says is so.
    pub(crate) fn check(&mut self) {
        let leaked = usize::try_from(self.model.counters.leaked).expect("few");
        self.check_frames();
        let held = self.check_places();
        let cached = self.model.caches.iter().flatten().map(Vec::len).sum();
        let in_flight = self.model_ledger.iter().flatten().map(Vec::len).sum();
        let capacity = self.model.areas.iter().flatten().sum();
        let (free, drained) = (self.model.free.len(), self.model.drained());
        assert_eq!(free + cached + in_flight + held + leaked + drained, capacity, "conservation");
        let audit = Audit { capacity, free, cached, in_flight, held, leaked, drained };
        assert_eq!(self.pool.audit(), audit);
        assert_eq!(self.pool.counters(), self.model.counters);
    }

    /// Which slots are where, and that their bytes are what their holder wrote.
    pub(super) fn check_frames(&self) {
        for (cache, slots) in self.caches.iter().zip(&self.model.caches) {
            let cached = cache.iter().flat_map(Cache::slots).map(Slot::index);
            assert!(cached.eq(slots.iter().flatten().copied()), "cached slots");
        }
        assert_eq!(self.bufs.len(), self.model_bufs.len());
        for (buf, slots) in self.bufs.iter().zip(&self.model_bufs) {
            self.check_frame(buf.frame(), slots);
        }
        for (buf, slots) in self.shared.iter().zip(&self.model_shared) {
            self.check_frame(buf.frame(), slots);
        }
        for (burst, frames) in self.bursts.iter().zip(&self.model_bursts) {
            assert_eq!(burst.len(), frames.len());
            burst.iter().zip(frames).for_each(|(frame, slots)| self.check_frame(frame, slots));
            let chains = frames.iter().any(|slots| slots.len() > 1);
            assert!(burst.has_chains() || !chains, "a burst does not know of its chain");
        }
        for (burst, frames) in self.shared_bursts.iter().zip(&self.model_shared_bursts) {
            assert_eq!(burst.len(), frames.len());
            burst.iter().zip(frames).for_each(|(frame, slots)| self.check_frame(frame, slots));
        }
        for (position, slots) in self.model_ledger.iter().enumerate() {
            let posted = self.ledger.posted_at(position).map(Slot::index);
            assert_eq!(posted, slots.as_ref().map(|slots| slots[0]), "posted at {position}");
        }
    }

    pub(super) fn check_frame<A: Readable>(&self, frame: Frame<'_, A>, slots: &Slots) {
        assert_eq!(frame.meta().segments(), slots.len(), "segments");
        let mut segments = frame.segments();
        for slot in slots {
            let segment = segments.next().expect("as many segments as slots");
            assert_eq!(segment.slot().index(), *slot);
            let tag = self.tags[*slot as usize];
            assert_eq!(segment.bytes(), tag.to_le_bytes(), "bytes of slot {slot}");
        }
        assert!(segments.next().is_none(), "more segments than slots");
    }

    /// That no slot is in two places; returns how many the application holds.
    pub(super) fn check_places(&mut self) -> usize {
        let (seen, model) = (&mut self.seen, &self.model);
        seen.fill(false);
        let mut place = |slot: &u32| {
            let first = !std::mem::replace(&mut seen[*slot as usize], true);
            assert!(first, "slot {slot} is in two places");
        };
        model.free.iter().for_each(&mut place);
        model.caches.iter().flatten().flatten().for_each(&mut place);
        self.model_ledger.iter().flatten().flatten().for_each(&mut place);
        let mut held = 0;
        let mut hold = |slots: &Slots| {
            slots.iter().for_each(&mut place);
            held += slots.len();
        };
        self.model_bufs.iter().for_each(&mut hold);
        self.model_bursts.iter().flatten().for_each(&mut hold);
        // References to one frame are one place.
        let shared = self.model_shared.iter().chain(self.model_shared_bursts.iter().flatten());
        shared.collect::<BTreeSet<_>>().into_iter().for_each(&mut hold);
        held
    }
}
