//! The payload buffers of a split queue: handed to the device in the order of their posting. One that a
//! frame leaves empty is posted again at once, behind those posted by then.

use mempool::{Buf, Burst, Cache, Device, RxMeta};

use crate::{
    DmaMapper, Iova, MapError, PostOrder, SplitConfig,
    e1000::held::{Ledger, Mapping},
    pci::Gate,
};

/// Payload buffers by descriptor. One may be in the ledger before its descriptor is the device's: a head
/// is still to come.
pub(super) struct Payloads<D: DmaMapper> {
    ledger: Ledger<Device>,
    mapping: Mapping<Device, D>,
    /// Their addresses.
    at: Box<[Iova]>,
    /// The first descriptor without one; runs free.
    posted: usize,
    order: PostOrder,
    /// Fresh buffers on their way; empty between calls.
    stock: Burst<Device>,
}

impl<D: DmaMapper> Payloads<D> {
    pub(super) fn new(
        config: &SplitConfig,
        mapper: D,
        ring: usize,
        origin: usize,
        gate: Gate,
    ) -> Result<Self, MapError> {
        let pool = &config.data;
        Ok(Self {
            mapping: Mapping::new(pool, mapper, gate.clone())?,
            ledger: Ledger::new(pool, ring, gate),
            at: vec![Iova(0); ring].into(),
            posted: origin,
            order: config.post,
            stock: Burst::with_limit(pool, Burst::<Device>::CAPACITY),
        })
    }

    /// A fresh cache of the pool.
    pub(super) fn cache(&self) -> Cache<Device> {
        self.ledger.pool().cache()
    }

    /// Who posts.
    pub(super) fn order(&self) -> PostOrder {
        self.order
    }

    /// The first descriptor without a payload buffer.
    #[inline(always)]
    pub(super) fn posted(&self) -> usize {
        self.posted
    }

    fn place(&self, index: usize) -> usize {
        index & (self.at.len() - 1)
    }

    /// Addresses of the buffers from a descriptor on, `count` that do not wrap.
    #[inline(always)]
    pub(super) fn addresses(&self, index: usize, count: usize) -> &[Iova] {
        &self.at[self.place(index)..][..count]
    }

    /// Takes the buffer at a descriptor, which is done.
    #[inline(always)]
    pub(super) fn complete(&mut self, index: usize) -> Option<Buf<Device>> {
        self.ledger.complete(self.place(index))
    }

    /// Takes those of `count` descriptors, which are done.
    #[inline(always)]
    pub(super) fn complete_into(&mut self, index: usize, count: usize, to: &mut Burst<Device>) {
        let done = self.ledger.complete_into(self.place(index), count, to);
        debug_assert_eq!(done, count, "what was given is in the ledger");
    }

    /// Posts up to `room` buffers of the worker's.
    pub(super) fn refill(&mut self, cache: &mut Cache<Device>, mut room: usize) {
        while room > 0 {
            let place = self.place(self.posted);
            let most = room.min(self.at.len() - place);
            let got = cache.take_bare(&mut self.stock, most);
            let mapped =
                self.mapping.describe(&self.stock, self.at[place..][..most].iter_mut(), note);
            self.ledger.post(place, &mut self.stock, mapped);
            self.posted = self.posted.wrapping_add(mapped);
            room -= mapped;
            if mapped < most || got < most {
                break;
            }
        }
        if !self.stock.is_empty() {
            // Of memory that the device cannot reach.
            self.stock.received_alike(0, 0, &RxMeta::default());
            self.stock.recycle(cache);
        }
    }

    /// Posts up to `room` buffers of the application's; returns how many.
    pub(super) fn post(&mut self, burst: &mut Burst<Device>, room: usize) -> usize {
        let mut posted = 0;
        while posted < room && !burst.is_empty() {
            let place = self.place(self.posted);
            let most = (room - posted).min(self.at.len() - place).min(burst.len());
            let mapped = self.mapping.describe(burst, self.at[place..][..most].iter_mut(), note);
            self.ledger.post(place, burst, mapped);
            self.posted = self.posted.wrapping_add(mapped);
            posted += mapped;
            if mapped < most {
                break;
            }
        }
        posted
    }

    /// Maps areas that have come, unmaps those that have gone: none of their buffers is in the ledger then.
    pub(super) fn meet_areas(&mut self) -> Result<(), MapError> {
        self.mapping.refresh()
    }

    /// Posts a buffer once more that was not filled, or whose frame is thrown away. The place that it
    /// left has to be free still.
    pub(super) fn post_again(&mut self, buf: Buf<Device>) {
        let place = self.place(self.posted);
        // Its area is known: it was mapped when the buffer was posted first.
        let Some(iova) = self.mapping.iova(buf.frame().home()) else { return };
        if self.ledger.post_one(place, buf).is_ok() {
            self.at[place] = iova;
            self.posted = self.posted.wrapping_add(1);
        }
    }
}

fn note(place: &mut Iova, iova: Iova) {
    *place = iova;
}
