//! The bounce path: receive whole frames into host memory, copy the payloads into device memory in
//! bulk. Always available; what a direct path is compared against. An app's loop sees a split queue
//! and cannot tell.

use std::os::fd::BorrowedFd;

use mempool::{Burst, Cpu, Device, Pool, Split, SplitBurst, SplitCache};

use crate::{
    DropReason, Drops, Error, MapError, PostOrder, QueueCounters, RxQueue, SplitAt, SplitConfig,
    SplitRxQueue, posted::PostedData,
};

/// Splits what another queue receives whole. The heads' pool is the one the inner queue receives
/// into: a head is the received buffer itself, cut to its headers.
pub struct Bounce {
    inner: Box<dyn RxQueue>,
    at: SplitAt,
    data: PostedData,
    arrived: Burst<Cpu>,
    carried: Drops,
    counters: QueueCounters,
}

impl Bounce {
    /// Wraps a queue that was started with `config.heads` as its pool; `ring` payload buffers can be
    /// posted.
    ///
    /// # Errors
    /// The ring size is not a power of two.
    pub fn new(inner: Box<dyn RxQueue>, config: SplitConfig, ring: usize) -> Result<Self, Error> {
        crate::config::check_ring("bounce", ring)?;
        Ok(Self {
            inner,
            at: config.at,
            data: PostedData::by_any_door(&config.data, ring, config.post),
            arrived: Burst::with_limit(&config.heads, Burst::<Cpu>::CAPACITY),
            carried: Drops::default(),
            counters: QueueCounters::default(),
        })
    }

    /// Copies payloads into another pool from here on, which `post` fills; what was posted of the former
    /// one goes home. Frames are received on as before, and the counters count on.
    pub fn rebind(&mut self, data: &Pool<Device>, post: PostOrder) {
        self.data = self.data.moved_to(data, post);
    }

    /// The queue that receives whole frames.
    #[must_use]
    pub fn into_inner(self) -> Box<dyn RxQueue> {
        self.inner
    }

    /// Takes over what the inner queue dropped since the last time.
    fn carry_drops(&mut self) {
        let drops = self.inner.counters().snapshot().drops;
        for reason in DropReason::ALL {
            let new = drops.of(reason) - self.carried.of(reason);
            if new > 0 {
                self.counters.dropped(reason, usize::try_from(new).unwrap_or(0));
            }
        }
        self.carried = drops;
    }
}

impl SplitRxQueue for Bounce {
    fn recv(&mut self, cache: &mut SplitCache, burst: &mut SplitBurst) -> usize {
        self.data.refill(&mut cache.data);
        self.arrived.set_limit(burst.room());
        let got = self.inner.recv(&mut cache.heads, &mut self.arrived);
        self.carry_drops();
        if got == 0 {
            return 0;
        }
        let (mut delivered, mut bytes) = (0, 0);
        let count = self.arrived.len();
        for mut head in self.arrived.drain_front(count) {
            let first = head.len();
            let len = if head.is_chain() { head.frame().frame_len() } else { first };
            let head_len = self.at.head_len(head.bytes(), len, first);
            let data = if head_len == len {
                None
            } else {
                let frame = head.frame();
                let parts = frame.segments().enumerate().map(|(index, segment)| {
                    if index == 0 { &segment.bytes()[head_len..] } else { segment.bytes() }
                });
                match self.data.fill(len - head_len, parts) {
                    Ok(data) => Some(data),
                    Err(reason) => {
                        self.counters.dropped(reason, 1);
                        continue;
                    }
                }
            };
            drop(head.unchain());
            head.frame_mut().set_len(head_len);
            burst.push(Split { head, data });
            delivered += 1;
            bytes += len;
        }
        self.counters.delivered(delivered, bytes);
        delivered
    }

    fn post(&mut self, data: &mut Burst<Device>) -> usize {
        self.data.post(data)
    }

    fn meet_areas(&mut self) -> Result<(), MapError> {
        self.data.meet_areas()
    }

    fn arm(&mut self) -> Option<BorrowedFd<'_>> {
        self.inner.arm()
    }

    fn counters(&self) -> &QueueCounters {
        &self.counters
    }
}
