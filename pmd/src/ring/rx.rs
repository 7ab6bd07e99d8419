//! The receiving end: the software NIC. Takes slots off the lane and delivers them: by reference
//! where both ends use one pool, else by writing into posted buffers, as hardware would.

use std::sync::{Arc, atomic::Ordering};

use mempool::{
    Buf, Burst, Cache, Cpu, Device, Pool, Split, SplitBurst, SplitCache, ring::Consumer,
};

use super::lane::{self, Lane};
use crate::{
    AnyRxQueue, DropReason, MapError, QueueCounters, RxMemory, RxQueue, SplitAt, SplitRxQueue,
    copy::copy_frame, posted::PostedData,
};

/// What both kinds of receiving queue share: the lane, and whose slots are on it.
struct Arrivals {
    lane: Arc<Lane>,
    consumer: Option<Consumer>,
    source: Option<Source>,
    counters: QueueCounters,
}

/// The pool whose slots are on the lane, with this worker's cache of it.
struct Source {
    generation: u32,
    arrived: Burst<Cpu>,
    cache: Cache<Cpu>,
}

impl Arrivals {
    fn new(lane: Arc<Lane>, counters: QueueCounters) -> Self {
        let consumer = lane.attach_rx();
        Self { lane, consumer, source: None, counters }
    }

    /// The lane's source, if anybody ever sent.
    #[inline]
    fn source(&mut self) -> Option<&mut Source> {
        let now = self.lane.generation.load(Ordering::Acquire);
        if self.source.as_ref().is_none_or(|source| source.generation != now) {
            self.renew();
        }
        self.source.as_mut()
    }

    #[cold]
    fn renew(&mut self) {
        let (generation, pool) = self.lane.source();
        self.source = pool.map(|pool| Source {
            generation,
            arrived: Burst::with_limit(&pool, Burst::<Cpu>::CAPACITY),
            cache: pool.cache(),
        });
    }

    /// Takes up to `most` frames off the lane into `arrived`.
    #[inline]
    fn take(&mut self, most: usize) -> usize {
        if self.source().is_none() {
            return 0;
        }
        let (Some(source), Some(consumer)) = (&mut self.source, &mut self.consumer) else {
            return 0;
        };
        let chained = self.lane.chained.load(Ordering::Acquire);
        source.arrived.set_limit(most);
        let got = lane::take(consumer, chained, &mut source.arrived);
        self.lane.note_received(consumer);
        got
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        if let Some(consumer) = self.consumer.take() {
            self.lane.detach_rx(consumer);
        }
    }
}

/// Receives whole frames.
struct WholeRx {
    arrivals: Arrivals,
    pool: Pool<Cpu>,
}

impl RxQueue for WholeRx {
    fn recv(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize {
        let arrivals = &mut self.arrivals;
        if arrivals.take(burst.room()) == 0 {
            return 0;
        }
        let Some(Source { arrived, cache: source_cache, .. }) = &mut arrivals.source else {
            return 0;
        };
        let (mut delivered, mut bytes) = (0, 0);
        if arrived.pool().is_same(&self.pool) {
            if arrived.has_chains() {
                bytes = arrived.iter().map(|frame| frame.frame_len()).sum();
            } else {
                arrived.iter().for_each(|frame| bytes += frame.len());
            }
            delivered = arrived.len();
            burst.append_front(arrived, delivered);
        } else {
            for frame in arrived.iter_prefetched() {
                let parts = frame.segments().map(|segment| segment.bytes());
                let len = frame.frame_len();
                match copy_frame(cache, len, parts, &frame.meta().rx()) {
                    Ok(copy) => {
                        burst.push(copy);
                        delivered += 1;
                        bytes += len;
                    }
                    Err(reason) => arrivals.counters.dropped(reason, 1),
                }
            }
            arrived.recycle(source_cache);
        }
        arrivals.counters.delivered(delivered, bytes);
        delivered
    }

    fn counters(&self) -> &QueueCounters {
        &self.arrivals.counters
    }
}

/// Receives frames cut into heads and payloads.
struct SplitRx {
    arrivals: Arrivals,
    data: PostedData,
    at: SplitAt,
    head_room: usize,
}

/// A queue that is not at a lane yet: its memory can be reached, and nothing else has happened.
pub(super) enum Unattached {
    Whole(Pool<Cpu>),
    Split { data: Box<PostedData>, at: SplitAt, head_room: usize },
}

impl Unattached {
    /// For frames into that memory; `ring` payload buffers can be posted.
    ///
    /// # Errors
    /// The payload memory has no window.
    pub(super) fn new(memory: RxMemory, ring: usize) -> Result<Self, MapError> {
        Ok(match memory {
            RxMemory::Whole(pool) => Self::Whole(pool),
            RxMemory::Split(split) => Self::Split {
                data: Box::new(PostedData::by_window(&split.data, ring, split.post)?),
                at: split.at,
                head_room: split.heads.room(),
            },
        })
    }

    /// The queue at the receiving end of a lane; `None` if that end is taken.
    pub(super) fn attach(self, lane: &Arc<Lane>, counters: &QueueCounters) -> Option<AnyRxQueue> {
        let arrivals = Arrivals::new(Arc::clone(lane), counters.clone());
        arrivals.consumer.as_ref()?;
        Some(match self {
            Self::Whole(pool) => AnyRxQueue::Whole(Box::new(WholeRx { arrivals, pool })),
            Self::Split { data, at, head_room } => {
                AnyRxQueue::Split(Box::new(SplitRx { arrivals, data: *data, at, head_room }))
            }
        })
    }
}

impl SplitRxQueue for SplitRx {
    fn recv(&mut self, cache: &mut SplitCache, burst: &mut SplitBurst) -> usize {
        self.data.refill(&mut cache.data);
        let arrivals = &mut self.arrivals;
        if arrivals.take(burst.room()) == 0 {
            return 0;
        }
        let Some(Source { arrived, cache: source_cache, .. }) = &mut arrivals.source else {
            return 0;
        };
        let (mut delivered, mut bytes) = (0, 0);
        for frame in arrived.iter_prefetched() {
            let len = frame.frame_len();
            let head_len = self.at.head_len(frame.bytes(), len, self.head_room);
            let Some(mut head) = cache.heads.take_one() else {
                arrivals.counters.dropped(DropReason::NoBuffer, 1);
                continue;
            };
            let filled = copy_head(&mut head, frame, head_len);
            head.frame_mut().received(filled, &frame.meta().rx());
            let data = if head_len == len {
                None
            } else {
                // What follows the first `head_len` bytes, segment by segment.
                let mut skip = head_len;
                let parts = frame.segments().map(|segment| {
                    let bytes = segment.bytes();
                    let cut = skip.min(bytes.len());
                    skip -= cut;
                    &bytes[cut..]
                });
                match self.data.fill(len - head_len, parts) {
                    Ok(data) => Some(data),
                    Err(reason) => {
                        arrivals.counters.dropped(reason, 1);
                        cache.heads.give(head);
                        continue;
                    }
                }
            };
            burst.push(Split { head, data });
            delivered += 1;
            bytes += len;
        }
        arrived.recycle(source_cache);
        arrivals.counters.delivered(delivered, bytes);
        delivered
    }

    fn post(&mut self, data: &mut Burst<Device>) -> usize {
        self.data.post(data)
    }

    fn meet_areas(&mut self) -> Result<(), MapError> {
        self.data.meet_areas()
    }

    fn counters(&self) -> &QueueCounters {
        &self.arrivals.counters
    }
}

/// Copies the first `len` bytes of a frame into a head's buffer.
#[inline]
fn copy_head(head: &mut Buf<Cpu>, frame: mempool::Frame<'_, Cpu>, len: usize) -> usize {
    let mut view = head.frame_mut();
    frame.copy_to(&mut view.room_mut()[..len])
}
