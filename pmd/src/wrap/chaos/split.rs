//! Split frames on their way from the inner queue to its user. Payloads are reached by the provider's
//! engine alone. Where the app posts payload buffers, one that is lost is posted again: the app waits
//! for it.

use std::{collections::VecDeque, os::fd::BorrowedFd, sync::atomic::Ordering};

use mempool::{Buf, Burst, Cpu, Device, DeviceView, Split, SplitBurst, SplitCache};

use super::{
    Lent,
    books::Books,
    engine::{Engine, Hands, MOST},
    harm::{self, Spare},
    rx::say_busy,
};
use crate::{MapError, PostOrder, QueueCounters, SplitConfig, SplitRxQueue, copy::copy_frame};

/// A splitting receive queue under chaos.
pub(super) struct ChaosSplitRx {
    engine: Engine<Split>,
    spare: Spare,
    /// What the inner queue yielded and no fate was drawn for.
    arrived: Box<SplitBurst>,
    /// What did not fit the user's burst.
    ready: VecDeque<Split>,
    payloads: Payloads,
    books: Books,
    inner: Lent<dyn SplitRxQueue>,
}

/// What it takes to change payloads, copy them, and be rid of them.
struct Payloads {
    view: DeviceView,
    scratch: Vec<u8>,
    order: PostOrder,
    /// Buffers of lost frames that the app posted.
    again: Burst<Device>,
}

impl ChaosSplitRx {
    pub(super) fn new(
        engine: Engine<Split>,
        spare: Spare,
        config: &SplitConfig,
        books: Books,
        inner: Lent<dyn SplitRxQueue>,
    ) -> Self {
        let SplitConfig { heads, data, post, .. } = config;
        let payloads = Payloads {
            view: DeviceView::new(data),
            scratch: vec![0; data.stride()],
            order: *post,
            again: Burst::with_limit(data, Burst::<Device>::CAPACITY),
        };
        let (arrived, ready) =
            (Box::new(SplitBurst::new(heads, data)), VecDeque::with_capacity(MOST));
        Self { engine, spare, arrived, ready, payloads, books, inner }
    }
}

impl SplitRxQueue for ChaosSplitRx {
    fn recv(&mut self, cache: &mut SplitCache, burst: &mut SplitBurst) -> usize {
        let Self { engine, spare, arrived, ready, payloads, books, inner } = self;
        let before = burst.len();
        let mut hands = SplitHands { cache, burst, ready, spare, payloads, bytes: 0 };
        if engine.is_awake() {
            hands.pass_ready();
            if arrived.is_empty() && hands.burst.room() > 0 {
                say_busy(&books.tally);
                if inner.recv(hands.cache, arrived) == 0
                    && let Some(frame) = engine.idle()
                {
                    hands.pass(frame);
                }
            }
            let count = arrived.len();
            let mut frames = arrived.drain();
            for _ in 0..count {
                if hands.burst.room() == 0 || !engine.takes_more() {
                    break;
                }
                let Some(frame) = frames.next() else { break };
                engine.frame(frame, &mut hands);
            }
        }
        let bytes = hands.bytes;
        if !payloads.again.is_empty() {
            inner.post(&mut payloads.again);
        }
        let got = burst.len() - before;
        let holds = !arrived.is_empty() || !ready.is_empty() || engine.holds();
        books.tally.holds.store(holds, Ordering::Release);
        books.outer.delivered(got, bytes);
        books.restate();
        got
    }

    fn post(&mut self, data: &mut Burst<Device>) -> usize {
        let again = &mut self.payloads.again;
        if !again.is_empty() {
            self.inner.post(again);
        }
        self.inner.post(data)
    }

    fn meet_areas(&mut self) -> Result<(), MapError> {
        self.inner.meet_areas()
    }

    fn arm(&mut self) -> Option<BorrowedFd<'_>> {
        // What is here wakes nobody, and what rests looks at a clock.
        if self.engine.is_busy() || !self.arrived.is_empty() || !self.ready.is_empty() {
            return None;
        }
        self.inner.arm()
    }

    fn counters(&self) -> &QueueCounters {
        &self.books.outer
    }
}

impl Drop for ChaosSplitRx {
    fn drop(&mut self) {
        let held = usize::from(self.engine.release().is_some());
        let left = self.arrived.len() + self.ready.len() + held;
        self.books.close(left);
    }
}

impl Payloads {
    /// Is rid of a payload that its user will not see.
    fn lose(&mut self, data: Buf<Device>, cache: &mut SplitCache) {
        if self.order == PostOrder::Cache {
            return cache.data.give(data);
        }
        let mut next = Some(data);
        while let Some(mut segment) = next {
            next = segment.unchain();
            if self.again.room() > 0 {
                self.again.push(segment);
            }
        }
    }

    fn copy(&mut self, data: &Buf<Device>, cache: &mut SplitCache) -> Option<Buf<Device>> {
        let mut copy: Option<Buf<Device>> = None;
        for segment in data.frame().segments() {
            let mut fresh = cache.data.take_one()?;
            let bytes = &mut self.scratch[..segment.len()];
            self.view.read(segment, bytes).ok()?;
            fresh.frame_mut().reset(0);
            fresh.frame_mut().set_len(bytes.len());
            self.view.write(&mut fresh.frame_mut(), bytes).ok()?;
            match &mut copy {
                None => copy = Some(fresh),
                Some(copy) => copy.chain(fresh).ok()?,
            }
        }
        copy
    }
}

struct SplitHands<'a> {
    cache: &'a mut SplitCache,
    burst: &'a mut SplitBurst,
    ready: &'a mut VecDeque<Split>,
    spare: &'a Spare,
    payloads: &'a mut Payloads,
    /// Of the frames put into the burst.
    bytes: usize,
}

impl SplitHands<'_> {
    fn pass_ready(&mut self) {
        while self.burst.room() > 0
            && let Some(frame) = self.ready.pop_front()
        {
            self.push(frame);
        }
    }

    #[inline]
    fn push(&mut self, frame: Split) {
        let payload = frame.data.as_ref().map_or(0, |data| data.frame().frame_len());
        self.bytes += frame.head.frame().frame_len() + payload;
        self.burst.push(frame);
    }
}

impl Hands<Split> for SplitHands<'_> {
    fn lose(&mut self, frame: Split) {
        self.cache.heads.give(frame.head);
        if let Some(data) = frame.data {
            self.payloads.lose(data, self.cache);
        }
    }

    fn copy(&mut self, frame: &Split) -> Option<Split> {
        let head = frame.head.frame();
        let parts = head.segments().map(|segment| segment.bytes());
        let rx = head.meta().rx();
        let head: Buf<Cpu> =
            copy_frame(&mut self.cache.heads, head.frame_len(), parts, &rx).ok()?;
        let data = match &frame.data {
            None => None,
            Some(data) => Some(self.payloads.copy(data, self.cache)?),
        };
        Some(Split { head, data })
    }

    fn flip(&mut self, mut frame: Split, draw: u64) -> (Split, bool) {
        let Payloads { view, scratch, .. } = self.payloads;
        let done = harm::flip_split(&mut frame, self.spare, draw, view, scratch);
        (frame, done)
    }

    fn truncate(&mut self, mut frame: Split, draw: u64) -> (Split, bool) {
        let (done, rest) = harm::truncate_split(&mut frame, self.spare, draw);
        if let Some(data) = rest {
            self.payloads.lose(data, self.cache);
        }
        (frame, done)
    }

    #[inline]
    fn pass(&mut self, frame: Split) {
        if self.ready.is_empty() && self.burst.room() > 0 {
            self.push(frame);
        } else {
            self.ready.push_back(frame);
        }
    }
}
