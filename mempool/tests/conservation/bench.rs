//! The pool under test and who holds its slots, side by side with the model.
#![allow(unsafe_code, reason = "states that a device which does not exist has stopped")]

use std::collections::BTreeSet;

use mempool::{
    AreaId, Audit, Buf, Burst, Cache, Cpu, Error, Frame, InFlight, Pool, Quiesced, Readable,
    Shared, SharedBuf, Slot, heap::Heap,
};

use crate::model::{AREAS, CACHES, Model};

/// Slots of one frame, in the order of its segments.
type Slots = Vec<u32>;

const STRIDE: usize = 64;
const HEADROOM: usize = 16;
const POSITIONS: usize = 24;

pub(crate) struct Bench {
    pool: Pool<Cpu>,
    area_slots: usize,
    caches: [Option<Cache<Cpu>>; CACHES],
    bufs: Vec<Buf<Cpu>>,
    bursts: [Burst<Cpu>; 2],
    shared: Vec<SharedBuf>,
    shared_bursts: [Burst<Shared>; 2],
    ledger: InFlight<Cpu>,

    model: Model,
    model_bufs: Vec<Slots>,
    model_bursts: [Vec<Slots>; 2],
    model_shared: Vec<Slots>,
    model_shared_bursts: [Vec<Slots>; 2],
    model_ledger: Vec<Option<Slots>>,
    /// What the holder of each slot wrote into it.
    tags: Vec<u64>,
    next_tag: u64,
    /// By slot, for the check that none is in two places.
    seen: Vec<bool>,
}

impl Bench {
    pub(crate) fn new(slots: usize, cache_size: usize, limit: usize) -> Self {
        let pool = Pool::<Cpu>::builder()
            .name("model")
            .slots(slots)
            .stride(STRIDE)
            .headroom(HEADROOM)
            .cache_size(cache_size)
            .max_areas(AREAS)
            .shareable()
            .memory(&Heap::new())
            .build()
            .expect("a small pool");
        let mut model = Model::new(cache_size, slots);
        model.add_area(slots);
        Self {
            caches: [Some(pool.cache()), None],
            bufs: Vec::new(),
            bursts: [0, 1].map(|_| Burst::with_limit(&pool, limit)),
            shared: Vec::new(),
            shared_bursts: [0, 1].map(|_| Burst::of_shared(&pool)),
            ledger: InFlight::new(&pool, POSITIONS),
            area_slots: slots,
            model,
            model_bufs: Vec::new(),
            model_bursts: Default::default(),
            model_shared: Vec::new(),
            model_shared_bursts: Default::default(),
            model_ledger: vec![None; POSITIONS],
            tags: vec![0; pool.slot_bound()],
            next_tag: 0,
            seen: vec![false; pool.slot_bound()],
            pool,
        }
    }

    fn tag(&mut self, slot: u32) -> [u8; 8] {
        self.next_tag += 1;
        self.tags[slot as usize] = self.next_tag;
        self.next_tag.to_le_bytes()
    }

    /// One operation, chosen and parametrised by three bytes; nothing if it does not apply.
    pub(crate) fn step(&mut self, op: u8, a: usize, b: usize) {
        let which = a & 1;
        // A second cache comes and goes; the first serves meanwhile.
        let cache = if self.caches[which].is_some() { which } else { 1 - which };
        if self.caches[cache].is_none() {
            self.open_cache(0);
            return;
        }
        match op % 40 {
            0..=2 => self.take(cache, b & 1, a >> 1, false),
            3 => self.take(cache, b & 1, a >> 1, true),
            4..=7 => self.take_one(cache),
            8 => self.take_one(cache),
            9..=11 => self.give(cache, b),
            12 | 13 => self.recycle(cache, b & 1),
            14 => self.recycle_front(cache, b & 1, a >> 1),
            15 => self.drop_buf(b),
            16 => self.drop_burst(b & 1),
            17 | 18 => self.push(which, b),
            19 => self.pop(which),
            20 => self.swap_remove(which, b),
            21 => self.append_front(which, b),
            22 => self.drain_front(which, a >> 1, b),
            23 | 24 => self.chain(a, b),
            25 => self.unchain(b),
            26 => self.share(b),
            27 => self.clone_shared(b),
            28 => self.unshare(b),
            29 => self.drop_shared(b),
            30 => self.share_burst(which, b),
            31 => self.release(cache, b & 1),
            32 => self.post(a, b),
            33 => self.complete(a),
            34 => self.post_front(which, a >> 1, b),
            35 => self.complete_into(which, a >> 1, b),
            36 => self.end_ledger(b),
            37 => self.change_areas(a, b),
            38 => self.change_areas(a, b),
            _ => match b % 4 {
                0 => {
                    self.caches[cache].as_mut().expect("chosen above").flush();
                    self.model.flush(cache);
                }
                1 => {
                    self.caches[cache].as_mut().expect("chosen above").tidy();
                    self.model.tidy(cache);
                }
                2 => {
                    self.caches[cache] = None;
                    self.model.flush(cache);
                    self.model.caches[cache] = None;
                }
                _ => self.open_cache(which),
            },
        }
    }

    fn open_cache(&mut self, at: usize) {
        if self.caches[at].is_none() {
            self.caches[at] = Some(self.pool.cache());
            self.model.caches[at] = Some(Vec::new());
        }
    }

    fn take(&mut self, cache: usize, to: usize, count: usize, bare: bool) {
        let expected = self.model.take(cache, count.min(self.bursts[to].room()));
        let from = self.caches[cache].as_mut().expect("chosen by `step`");
        let before = self.bursts[to].len();
        let got = if bare {
            from.take_bare(&mut self.bursts[to], count)
        } else {
            from.take(&mut self.bursts[to], count)
        };
        assert_eq!(got, expected.len(), "taken");
        for (at, slot) in (before..).zip(expected) {
            let tag = self.tag(slot);
            let mut frame = self.bursts[to].frame_mut(at);
            if bare {
                frame.received(tag.len(), &Default::default());
                frame.bytes_mut().copy_from_slice(&tag);
            } else {
                assert_eq!((frame.view().len(), frame.headroom()), (0, HEADROOM), "fresh");
                assert!(frame.append(&tag), "a fresh slot has room");
            }
            self.model_bursts[to].push(vec![slot]);
        }
    }

    fn take_one(&mut self, cache: usize) {
        let expected = self.model.take_one(cache);
        let got = self.caches[cache].as_mut().expect("chosen by `step`").take_one();
        assert_eq!(got.as_ref().map(|buf| buf.slot().index()), expected, "taken one");
        let Some(mut buf) = got else { return };
        assert_eq!((buf.len(), buf.frame().meta().segments()), (0, 1), "fresh");
        let tag = self.tag(buf.slot().index());
        assert!(buf.frame_mut().append(&tag), "a fresh slot has room");
        self.model_bufs.push(vec![buf.slot().index()]);
        self.bufs.push(buf);
    }

    /// A held buffer, and its slots.
    fn pick(&mut self, at: usize) -> Option<(Buf<Cpu>, Slots)> {
        let at = at.checked_rem(self.bufs.len())?;
        Some((self.bufs.swap_remove(at), self.model_bufs.swap_remove(at)))
    }

    fn keep(&mut self, buf: Buf<Cpu>, slots: Slots) {
        self.bufs.push(buf);
        self.model_bufs.push(slots);
    }

    fn give(&mut self, cache: usize, at: usize) {
        let Some((buf, slots)) = self.pick(at) else { return };
        self.caches[cache].as_mut().expect("chosen by `step`").give(buf);
        self.model.give(cache, &slots);
    }

    fn recycle(&mut self, cache: usize, from: usize) {
        let fast = !self.bursts[from].has_chains();
        self.bursts[from].recycle(self.caches[cache].as_mut().expect("chosen by `step`"));
        let frames = std::mem::take(&mut self.model_bursts[from]);
        if fast {
            self.model.give_all(cache, &frames.concat());
        } else {
            frames.concat().into_iter().for_each(|slot| self.model.give(cache, &[slot]));
        }
    }

    fn recycle_front(&mut self, cache: usize, from: usize, count: usize) {
        let count = count % (self.bursts[from].len() + 1);
        if count == self.bursts[from].len() {
            return self.recycle(cache, from);
        }
        let to = self.caches[cache].as_mut().expect("chosen by `step`");
        self.bursts[from].recycle_front(to, count);
        let frames: Vec<_> = self.model_bursts[from].drain(..count).collect();
        frames.concat().into_iter().for_each(|slot| self.model.give(cache, &[slot]));
    }

    fn drop_buf(&mut self, at: usize) {
        let Some((buf, slots)) = self.pick(at) else { return };
        drop(buf);
        self.model.put_strays(&slots);
    }

    fn drop_burst(&mut self, which: usize) {
        let limit = self.bursts[which].len() + self.bursts[which].room();
        self.bursts[which] = Burst::with_limit(&self.pool, limit);
        let frames = std::mem::take(&mut self.model_bursts[which]);
        self.model.put_strays(&frames.concat());
    }

    fn push(&mut self, to: usize, at: usize) {
        if self.bursts[to].room() == 0 {
            return;
        }
        let Some((buf, slots)) = self.pick(at) else { return };
        self.bursts[to].push(buf);
        self.model_bursts[to].push(slots);
    }

    fn pop(&mut self, from: usize) {
        let slots = self.model_bursts[from].pop();
        let buf = self.bursts[from].pop();
        assert_eq!(buf.is_some(), slots.is_some(), "popped");
        if let (Some(buf), Some(slots)) = (buf, slots) {
            self.keep(buf, slots);
        }
    }

    fn swap_remove(&mut self, from: usize, at: usize) {
        let Some(at) = at.checked_rem(self.bursts[from].len()) else { return };
        let buf = self.bursts[from].swap_remove(at);
        let slots = self.model_bursts[from].swap_remove(at);
        self.keep(buf, slots);
    }

    fn append_front(&mut self, to: usize, count: usize) {
        let [first, second] = &mut self.bursts;
        let (to_burst, from_burst) = if to == 0 { (first, second) } else { (second, first) };
        let expected = count.min(from_burst.len()).min(to_burst.room());
        assert_eq!(to_burst.append_front(from_burst, count), expected, "appended");
        let moved: Vec<_> = self.model_bursts[1 - to].drain(..expected).collect();
        self.model_bursts[to].extend(moved);
    }

    /// Takes some of the first frames out and lets go of the iterator, by drop or by `forget`.
    fn drain_front(&mut self, from: usize, count: usize, take: usize) {
        let count = count % (self.bursts[from].len() + 1);
        let take = take % (count + 1);
        let mut drain = self.bursts[from].drain_front(count);
        let taken: Vec<_> = drain.by_ref().take(take).collect();
        drop(drain);
        let slots: Vec<_> = self.model_bursts[from].drain(..take).collect();
        taken.into_iter().zip(slots).for_each(|(buf, slots)| self.keep(buf, slots));
    }

    fn chain(&mut self, a: usize, b: usize) {
        if self.bufs.len() < 2 {
            return;
        }
        let picked = self.pick(a).zip(self.pick(b));
        let Some(((mut head, mut slots), (tail, more))) = picked else { return };
        head.chain(tail).expect("short chains of one pool");
        slots.extend(more);
        self.keep(head, slots);
    }

    fn unchain(&mut self, at: usize) {
        let Some((mut head, mut slots)) = self.pick(at) else { return };
        let rest = slots.split_off(1);
        let tail = head.unchain();
        assert_eq!(tail.is_some(), !rest.is_empty(), "unchained");
        if let Some(tail) = tail {
            self.keep(tail, rest);
        }
        self.keep(head, slots);
    }

    fn share(&mut self, at: usize) {
        let Some((buf, slots)) = self.pick(at) else { return };
        self.shared.push(buf.share().expect("the pool is shareable"));
        self.model_shared.push(slots);
    }

    fn references(&self, slots: &Slots) -> usize {
        let in_bursts = self.model_shared_bursts.iter().flatten();
        self.model_shared.iter().chain(in_bursts).filter(|other| *other == slots).count()
    }

    fn clone_shared(&mut self, at: usize) {
        let Some(at) = at.checked_rem(self.shared.len()) else { return };
        self.shared.push(self.shared[at].clone());
        self.model_shared.push(self.model_shared[at].clone());
    }

    fn unshare(&mut self, at: usize) {
        let Some(at) = at.checked_rem(self.shared.len()) else { return };
        let slots = self.model_shared[at].clone();
        let references = self.references(&slots);
        let shared = self.shared.swap_remove(at);
        assert_eq!(shared.references(), references);
        self.model_shared.swap_remove(at);
        match shared.unshare() {
            Ok(buf) => {
                assert_eq!(references, 1, "unshared while others read");
                self.keep(buf, slots);
            }
            Err(shared) => {
                assert_ne!(references, 1, "the only reference could not be unshared");
                self.shared.push(shared);
                self.model_shared.push(slots);
            }
        }
    }

    fn drop_shared(&mut self, at: usize) {
        let Some(at) = at.checked_rem(self.shared.len()) else { return };
        drop(self.shared.swap_remove(at));
        let slots = self.model_shared.swap_remove(at);
        if self.references(&slots) == 0 {
            self.model.put_strays(&slots);
        }
    }

    /// Shares a burst, then clones it into the other shared burst.
    fn share_burst(&mut self, from: usize, to: usize) {
        let to = to & 1;
        let expected = self.bursts[from].len().min(self.shared_bursts[to].room());
        let moved = self.shared_bursts[to].share_from(&mut self.bursts[from]);
        assert_eq!(moved, Ok(expected), "shared");
        let frames: Vec<_> = self.model_bursts[from].drain(..expected).collect();
        self.model_shared_bursts[to].extend(frames);
        let [first, second] = &mut self.shared_bursts;
        let (source, copies) = if to == 0 { (first, second) } else { (second, first) };
        let expected = source.len().min(copies.room());
        assert_eq!(source.clone_into(copies), expected, "cloned");
        let frames = self.model_shared_bursts[to][..expected].to_vec();
        self.model_shared_bursts[1 - to].extend(frames);
    }

    fn release(&mut self, cache: usize, from: usize) {
        let to = self.caches[cache].as_mut().expect("chosen by `step`");
        self.shared_bursts[from].release(to);
        while !self.model_shared_bursts[from].is_empty() {
            let slots = self.model_shared_bursts[from].remove(0);
            if self.references(&slots) == 0 {
                self.model.give(cache, &slots);
            }
        }
    }

    fn post(&mut self, position: usize, at: usize) {
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

    fn complete(&mut self, position: usize) {
        let position = position % (POSITIONS + 1);
        let expected = self.model_ledger.get_mut(position).and_then(Option::take);
        let buf = self.ledger.complete(position);
        assert_eq!(buf.is_some(), expected.is_some(), "completed");
        if let (Some(buf), Some(slots)) = (buf, expected) {
            self.keep(buf, slots);
        }
    }

    fn post_front(&mut self, from: usize, position: usize, count: usize) {
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

    fn complete_into(&mut self, to: usize, position: usize, count: usize) {
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
    fn end_ledger(&mut self, how: usize) {
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

    fn change_areas(&mut self, what: usize, which: usize) {
        let area = self.pool.areas().iter().map(|area| area.id).nth(which % AREAS);
        match (what % 4, area) {
            (0, _) => {
                let slots = 1 + which % self.area_slots;
                let added = self.pool.add_area(&Heap::new(), slots);
                match self.model.add_area(slots) {
                    Some(at) => assert_eq!(added.expect("an area is free").index(), at),
                    None => assert!(matches!(added, Err(Error::NoAreaLeft { .. })), "{added:?}"),
                }
            }
            (1, Some(area)) => {
                self.pool.drain_area(area).expect("there is such an area");
                assert!(self.model.drain_area(area.index()));
            }
            (2, Some(area)) => self.remove_area(area),
            _ => {}
        }
    }

    fn remove_area(&mut self, area: AreaId) {
        let out = self.model.remove_area(area.index()).expect("there is such an area");
        match self.pool.remove_area(area) {
            Ok(_region) => assert_eq!(out, 0, "removed under its buffers"),
            Err(Error::Draining { outstanding, .. }) => assert_eq!(outstanding, out),
            Err(other) => panic!("{other}"),
        }
    }

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
    fn check_frames(&self) {
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

    fn check_frame<A: Readable>(&self, frame: Frame<'_, A>, slots: &Slots) {
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
    fn check_places(&mut self) -> usize {
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

    /// Lets go of everything; what is not lost is home then.
    pub(crate) fn end(self) {
        let Self { pool, caches, bufs, bursts, shared, shared_bursts, ledger, model, .. } = self;
        // SAFETY: there is no device.
        ledger.reclaim(unsafe { Quiesced::new() });
        drop((caches, bufs, bursts, shared, shared_bursts));
        let audit = pool.audit();
        assert_eq!(audit.leaked as u64, model.counters.leaked);
        assert_eq!(audit.free + audit.drained + audit.leaked, audit.capacity, "{audit}");
    }
}
