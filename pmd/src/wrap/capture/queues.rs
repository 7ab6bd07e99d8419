//! The tapped queues: frames that pass are copied to a tape; those that a transmit queue does not take
//! are not. Nothing is ever waited for.

use std::{os::fd::BorrowedFd, sync::Arc};

use mempool::{
    Burst, Cache, Cpu, Device, DeviceView, Frame, Offload, Pool, Readable, Shared, SplitBurst,
    SplitCache, SplitFrame,
};

use super::{Lent, writer::State};
use crate::{
    MapError, QueueCounters, RxQueue, SplitRxQueue, TxQueue,
    pcap::{Direction, Mark, Packet, TapeWriter, clock},
};

/// The tape of one queue.
pub(super) struct Tap {
    tape: TapeWriter,
    state: Arc<State>,
    direction: Direction,
    snaplen: usize,
    /// Behind each frame of a burst that is being sent: where the tape is, and frames lost so far.
    marks: Vec<(Mark, usize)>,
    /// The time of day, for the frames of one burst that have none.
    now: Option<u64>,
}

impl Tap {
    pub(super) fn new(
        tape: TapeWriter,
        state: Arc<State>,
        direction: Direction,
        snaplen: usize,
    ) -> Self {
        let marks = Vec::with_capacity(Burst::<Cpu>::CAPACITY);
        Self { tape, state, direction, snaplen, marks, now: None }
    }

    /// Begins a burst; false if nobody would write it.
    #[inline]
    fn begin(&mut self) -> bool {
        self.now = None;
        self.state.is_on()
    }

    /// A received frame keeps its stamp; what is sent is sent now.
    #[inline(always)]
    fn stamp<A: Readable>(&mut self, frame: Frame<'_, A>) -> u64 {
        let meta = frame.meta();
        if self.direction == Direction::Inbound && meta.offload().has(Offload::RX_TIMESTAMP) {
            meta.timestamp()
        } else {
            *self.now.get_or_insert_with(clock::now)
        }
    }

    /// Appends a frame; false if there was no room.
    #[inline(always)]
    fn push<A: Readable>(&mut self, frame: Frame<'_, A>) -> bool {
        let timestamp = self.stamp(frame);
        let packet = Packet::whole(0, timestamp, frame.frame_len());
        let parts = frame.segments().map(Frame::bytes);
        self.tape.push(&packet, Some(self.direction), self.snaplen, parts)
    }

    /// Ends a burst of which `lost` frames had no room.
    #[inline]
    fn end(&mut self, lost: usize) {
        if lost > 0 {
            self.state.lost(lost);
        }
        self.tape.commit();
    }
}

pub(super) struct TappedRx {
    tap: Option<Tap>,
    inner: Lent<dyn RxQueue>,
}

impl TappedRx {
    pub(super) fn new(tap: Option<Tap>, inner: Lent<dyn RxQueue>) -> Self {
        Self { tap, inner }
    }
}

impl RxQueue for TappedRx {
    fn recv(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize {
        let before = burst.len();
        let got = self.inner.recv(cache, burst);
        if let Some(tap) = self.tap.as_mut().filter(|_| got > 0)
            && tap.begin()
        {
            let lost = burst.iter().skip(before).filter(|frame| !tap.push(*frame)).count();
            tap.end(lost);
        }
        got
    }

    fn arm(&mut self) -> Option<BorrowedFd<'_>> {
        self.inner.arm()
    }

    fn counters(&self) -> &QueueCounters {
        self.inner.counters()
    }
}

pub(super) struct TappedSplitRx {
    tap: Option<Tap>,
    /// Reads payloads, if they are wanted.
    payloads: Option<DeviceView>,
    payload: Vec<u8>,
    inner: Lent<dyn SplitRxQueue>,
}

impl TappedSplitRx {
    pub(super) fn new(
        tap: Option<Tap>,
        payloads: Option<&Pool<Device>>,
        inner: Lent<dyn SplitRxQueue>,
    ) -> Self {
        let payload = Vec::with_capacity(payloads.map_or(0, Pool::stride));
        Self { tap, payloads: payloads.map(DeviceView::new), payload, inner }
    }
}

/// Appends a split frame: its head, and the payload if there is a view of it. False if there was no
/// room.
fn push_split(
    tap: &mut Tap,
    view: Option<&DeviceView>,
    payload: &mut Vec<u8>,
    frame: SplitFrame<'_>,
) -> bool {
    let head_len = frame.head.frame_len();
    let data_len = frame.data.map_or(0, Frame::frame_len);
    payload.clear();
    if let (Some(view), Some(data)) = (view, frame.data) {
        for segment in data.segments() {
            let at = payload.len();
            payload.resize(at + segment.len(), 0);
            if view.read(segment, &mut payload[at..]).is_err() {
                // Memory without a way out: the head has to do.
                payload.clear();
                break;
            }
        }
    }
    let timestamp = tap.stamp(frame.head);
    let (len, captured) = (head_len + data_len, head_len + payload.len());
    let packet = Packet { interface: 0, timestamp, len, captured };
    let parts = frame.head.segments().map(Frame::bytes).chain([payload.as_slice()]);
    tap.tape.push(&packet, Some(tap.direction), tap.snaplen, parts)
}

impl SplitRxQueue for TappedSplitRx {
    fn recv(&mut self, cache: &mut SplitCache, burst: &mut SplitBurst) -> usize {
        let before = burst.len();
        let got = self.inner.recv(cache, burst);
        let Self { tap, payloads, payload, .. } = self;
        if let Some(tap) = tap.as_mut().filter(|_| got > 0)
            && tap.begin()
        {
            let mut lost = 0;
            for index in before..before + got {
                let frame = burst.frame(index);
                lost += usize::from(!push_split(tap, payloads.as_ref(), payload, frame));
            }
            tap.end(lost);
        }
        got
    }

    fn post(&mut self, data: &mut Burst<Device>) -> usize {
        self.inner.post(data)
    }

    fn meet_areas(&mut self) -> Result<(), MapError> {
        self.inner.meet_areas()
    }

    fn arm(&mut self) -> Option<BorrowedFd<'_>> {
        self.inner.arm()
    }

    fn counters(&self) -> &QueueCounters {
        self.inner.counters()
    }
}

pub(super) struct TappedTx {
    tap: Option<Tap>,
    inner: Lent<dyn TxQueue>,
}

impl TappedTx {
    pub(super) fn new(tap: Option<Tap>, inner: Lent<dyn TxQueue>) -> Self {
        Self { tap, inner }
    }

    /// Frames are gone once they are taken: they are copied before, and those that were not taken
    /// are taken back from the tape.
    fn tapped<A: Readable>(
        &mut self,
        burst: &mut Burst<A>,
        send: impl FnOnce(&mut dyn TxQueue, &mut Burst<A>) -> usize,
    ) -> usize {
        let tap = self.tap.as_mut().filter(|_| !burst.is_empty());
        let Some(tap) = tap.and_then(|tap| tap.begin().then_some(tap)) else {
            return send(&mut *self.inner, burst);
        };
        let (start, mut lost) = (tap.tape.mark(), 0);
        tap.marks.clear();
        for frame in burst.iter() {
            lost += usize::from(!tap.push(frame));
            tap.marks.push((tap.tape.mark(), lost));
        }
        let sent = send(&mut *self.inner, burst);
        let (mark, lost) =
            sent.checked_sub(1).and_then(|last| tap.marks.get(last)).map_or((start, 0), |m| *m);
        tap.tape.rewind(mark);
        tap.end(lost);
        sent
    }
}

impl TxQueue for TappedTx {
    fn send(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize {
        self.tapped(burst, |inner, burst| inner.send(cache, burst))
    }

    fn send_shared(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Shared>) -> usize {
        self.tapped(burst, |inner, burst| inner.send_shared(cache, burst))
    }

    fn reap(&mut self, cache: &mut Cache<Cpu>) -> usize {
        self.inner.reap(cache)
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight()
    }

    fn counters(&self) -> &QueueCounters {
        self.inner.counters()
    }
}
