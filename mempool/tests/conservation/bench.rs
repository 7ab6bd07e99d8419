//! The pool under test and who holds its slots, side by side with the model.
#![allow(unsafe_code, reason = "states that a device which does not exist has stopped")]

mod bursts;
mod check;
mod flight;
mod sharing;

use mempool::{
    AreaId, Buf, Burst, Cache, Cpu, Error, InFlight, Pool, Quiesced, Shared, SharedBuf, heap::Heap,
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
