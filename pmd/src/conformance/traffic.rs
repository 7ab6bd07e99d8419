//! The frames of the suite, and the exchange that holds a wire against a `VecDeque`.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use mempool::{
    Access, Buf, Burst, Cpu, Device, DeviceView, Pool, Provider, SplitBurst, SplitCache, SplitFrame,
};

use super::{Joined, Overrun, Setup, Wire};
use crate::{AnyRxQueue, PostOrder, QueueStats, RxMemory, SplitAt, SplitConfig};

/// How long nothing may arrive before a frame counts as lost.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Memory<'m> {
    pub(super) host: &'m dyn Provider,
    pub(super) device: &'m dyn Provider,
}

impl Memory<'_> {
    pub(super) fn pool(&self, slots: usize, stride: usize) -> Result<Pool<Cpu>, String> {
        let pool = Pool::builder().name("conformance").slots(slots).stride(stride).shareable();
        pool.cache_size(32).memory(self.host).build().map_err(|error| error.to_string())
    }

    pub(super) fn device_pool(
        &self,
        slots: usize,
        headroom: usize,
    ) -> Result<Pool<Device>, String> {
        let pool = Pool::builder().name("conformance data").slots(slots).stride(2048);
        let pool = pool.headroom(headroom);
        pool.cache_size(32).memory(self.device).build().map_err(|error| error.to_string())
    }
}

/// The frame of a number: an Ethernet header with a test EtherType (0x88b5, IEEE 802 local
/// experimental), the number, then a pattern of it. UDP over IPv4 where `udp` asks.
pub(super) fn frame(number: u64, len: usize, udp: bool) -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2];
    if udp && len > 42 {
        frame.extend([
            0x08, 0x00, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ]);
        frame.extend([0x10, 0, 0x10, 1, 0, 0, 0, 0]);
    } else {
        frame.extend([0x88, 0xb5]);
    }
    frame.extend(number.to_be_bytes());
    let (start, at) = (number.to_le_bytes()[0], frame.len());
    let pattern = (0..len.saturating_sub(at)).map(|step| start.wrapping_add(step.to_le_bytes()[0]));
    frame.extend(pattern);
    frame.truncate(len);
    frame
}

/// A pair of queues with everything that is needed to use them, and the reference beside it.
pub(super) struct Exchange {
    pub(super) joined: Box<dyn Joined>,
    pub(super) tx_pool: Pool<Cpu>,
    tx_cache: mempool::Cache<Cpu>,
    receiver: Receiver,
    /// What must come out next.
    expected: VecDeque<Vec<u8>>,
    pub(super) sent: u64,
    pub(super) received: u64,
    interactive: bool,
    /// Descriptors' worth of frames that may be on their way at a time, and bytes that one takes.
    window: usize,
    step: usize,
    udp: bool,
}

enum Receiver {
    Whole {
        pool: Pool<Cpu>,
        cache: mempool::Cache<Cpu>,
        burst: Box<Burst<Cpu>>,
    },
    Split {
        heads: Pool<Cpu>,
        data: Pool<Device>,
        view: DeviceView,
        cache: SplitCache,
        burst: Box<SplitBurst>,
    },
}

impl Exchange {
    /// Whole frames from one pool to another.
    pub(super) fn whole(
        wire: &mut dyn Wire,
        tx_pool: Pool<Cpu>,
        rx_pool: Pool<Cpu>,
        ring: usize,
    ) -> Result<Self, String> {
        let rx = RxMemory::Whole(rx_pool.clone());
        let burst = Box::new(Burst::with_limit(&rx_pool, Burst::<Cpu>::CAPACITY));
        let receiver = Receiver::Whole { cache: rx_pool.cache(), burst, pool: rx_pool };
        Self::new(wire, tx_pool, rx, receiver, ring, false)
    }

    /// Split frames.
    pub(super) fn split(
        wire: &mut dyn Wire,
        tx_pool: Pool<Cpu>,
        (heads, data): (Pool<Cpu>, Pool<Device>),
        at: SplitAt,
        ring: usize,
    ) -> Result<Self, String> {
        let config =
            SplitConfig { heads: heads.clone(), data: data.clone(), at, post: PostOrder::Cache };
        let receiver = Receiver::Split {
            view: DeviceView::new(&data),
            cache: SplitCache::new(&heads, &data),
            burst: Box::new(SplitBurst::with_limit(&heads, &data, 256)),
            heads,
            data,
        };
        Self::new(wire, tx_pool, RxMemory::Split(config), receiver, ring, true)
    }

    fn new(
        wire: &mut dyn Wire,
        tx_pool: Pool<Cpu>,
        rx: RxMemory,
        receiver: Receiver,
        ring: usize,
        udp: bool,
    ) -> Result<Self, String> {
        let setup = Setup { rx, tx: tx_pool.clone(), ring };
        let joined = wire.connect(&setup).map_err(|error| error.to_string())?;
        Ok(Self {
            joined,
            tx_cache: tx_pool.cache(),
            tx_pool,
            receiver,
            expected: VecDeque::new(),
            sent: 0,
            received: 0,
            interactive: wire.traits().interactive,
            window: match wire.traits().overrun {
                Overrun::HeldBack => usize::MAX,
                // A queue may leave the rest without descriptors for a while.
                Overrun::Silent => ring / 2,
            },
            step: wire.traits().rx_buffer_step,
            udp,
        })
    }

    /// Makes the next frame, in segments of `segment` bytes.
    fn next(&mut self, len: usize, segment: usize) -> Option<Buf<Cpu>> {
        let bytes = frame(self.sent, len, self.udp);
        let mut parts = bytes.chunks(segment);
        let mut head = self.tx_cache.take_one()?;
        let _fits = head.frame_mut().append(parts.next().unwrap_or_default());
        for part in parts {
            let mut tail = self.tx_cache.take_one()?;
            let _fits = tail.frame_mut().append(part);
            head.chain(tail).ok()?;
        }
        self.expected.push_back(bytes);
        self.sent += 1;
        Some(head)
    }

    /// Sends `count` frames in one burst (several, beyond its capacity), receiving where the wire
    /// is full.
    pub(super) fn send(
        &mut self,
        count: usize,
        mut len: impl FnMut(usize) -> usize,
        segment: usize,
    ) -> Result<(), String> {
        let pool = self.tx_pool.clone();
        let mut burst = Burst::with_limit(&pool, Burst::<Cpu>::CAPACITY);
        let mut left = count;
        while left > 0 || !burst.is_empty() {
            while left > 0 && burst.room() > 0 {
                let Some(buf) = self.next(len(count - left), segment) else {
                    // All of the pool is on the wire: let it arrive first.
                    break;
                };
                burst.push(buf);
                left -= 1;
            }
            self.push(&mut burst)?;
        }
        Ok(())
    }

    /// Sends a burst, receiving where the wire is full.
    fn push(&mut self, burst: &mut Burst<Cpu>) -> Result<(), String> {
        let mut deadline = deadline();
        while !burst.is_empty() {
            if self.send_some(burst) > 0 {
                deadline = self::deadline();
            } else if self.interactive {
                self.receive()?;
            }
            if past(deadline) {
                return Err(format!("{} frames were not taken for 2 s", burst.len()));
            }
        }
        self.joined.tx().reap(&mut self.tx_cache);
        if self.interactive { self.receive().map(drop) } else { Ok(()) }
    }

    /// Sends from the front of a burst, as far as the window goes; returns how many.
    fn send_some(&mut self, burst: &mut Burst<Cpu>) -> usize {
        let Self { joined, tx_cache, expected, window, step, .. } = self;
        if *window == usize::MAX {
            return joined.tx().send(tx_cache, burst);
        }
        // What is in the burst is expected already.
        let mut costs = expected.iter().map(|bytes| bytes.len().div_ceil(*step));
        let on_wire: usize = costs.by_ref().take(expected.len() - burst.len()).sum();
        let mut room = window.saturating_sub(on_wire);
        let fits = costs.take_while(|cost| {
            let fits = *cost <= room;
            room = room.saturating_sub(*cost);
            fits
        });
        let count = fits.count().max(usize::from(on_wire == 0));
        let mut part = Burst::with_limit(&self.tx_pool, count.max(1));
        burst.drain_front(count).for_each(|frame| part.push(frame));
        let taken = joined.tx().send(tx_cache, &mut part);
        if !part.is_empty() {
            let mut rest = Burst::with_limit(&self.tx_pool, Burst::<Cpu>::CAPACITY);
            let frames = part.drain_front(part.len());
            frames.for_each(|frame| rest.push(frame));
            burst.drain_front(burst.len()).for_each(|frame| rest.push(frame));
            std::mem::swap(burst, &mut rest);
        }
        taken
    }

    /// Sends one burst of shared frames, twice each.
    pub(super) fn send_shared(&mut self, count: usize) -> Result<(), String> {
        let pool = self.tx_pool.clone();
        let mut burst = Burst::with_limit(&pool, count);
        for _ in 0..count {
            burst.push(self.next(200, 2048).ok_or("no buffer to share")?);
        }
        let mut shared = Burst::of_shared(&pool);
        shared.share_from(&mut burst).map_err(|error| error.to_string())?;
        let mut again = Burst::of_shared(&pool);
        shared.clone_into(&mut again);
        let again_expected: Vec<_> = self.expected.iter().rev().take(count).cloned().collect();
        self.expected.extend(again_expected.into_iter().rev());
        self.sent += count as u64;
        for mut references in [shared, again] {
            let deadline = deadline();
            while !references.is_empty() {
                let taken = self.joined.tx().send_shared(&mut self.tx_cache, &mut references);
                if taken == 0 && self.interactive {
                    self.receive()?;
                }
                if past(deadline) {
                    return Err("shared frames were not taken for 2 s".into());
                }
            }
        }
        Ok(())
    }

    /// Receives what is there and holds it against the reference; returns how many frames.
    pub(super) fn receive(&mut self) -> Result<usize, String> {
        let got = match (self.joined.rx(), &mut self.receiver) {
            (AnyRxQueue::Whole(rx), Receiver::Whole { cache, burst, .. }) => {
                let got = rx.recv(cache, burst);
                for frame in burst.iter() {
                    let mut bytes = vec![0; frame.frame_len()];
                    frame.copy_to(&mut bytes);
                    compare(&mut self.expected, &bytes, self.received)?;
                    self.received += 1;
                }
                burst.recycle(cache);
                got
            }
            (AnyRxQueue::Split(rx), Receiver::Split { cache, burst, view, .. }) => {
                let got = rx.recv(cache, burst);
                for frame in burst.iter() {
                    let bytes = joined_bytes(frame, view)?;
                    compare(&mut self.expected, &bytes, self.received)?;
                    self.received += 1;
                }
                burst.recycle(cache);
                got
            }
            _ => return Err("the queue is not of the kind that was asked for".into()),
        };
        Ok(got)
    }

    /// Receives without freeing, as an application does that hoards buffers; frames are compared.
    pub(super) fn hoard(&mut self, hoard: &mut Vec<Buf<Cpu>>) -> Result<usize, String> {
        let (AnyRxQueue::Whole(rx), Receiver::Whole { cache, burst, .. }) =
            (self.joined.rx(), &mut self.receiver)
        else {
            return Err("the queue does not receive whole frames".into());
        };
        let got = rx.recv(cache, burst);
        for frame in burst.drain_front(got) {
            hoard.push(frame);
        }
        Ok(got)
    }

    /// As [`Exchange::send`], hoarding what arrives meanwhile.
    pub(super) fn send_hoarding(
        &mut self,
        count: usize,
        len: impl Fn(usize) -> usize,
        hoard: &mut Vec<Buf<Cpu>>,
    ) -> Result<(), String> {
        let pool = self.tx_pool.clone();
        let mut burst = Burst::with_limit(&pool, count);
        for index in 0..count {
            burst.push(self.next(len(index), 2048).ok_or("no buffer to send")?);
        }
        let deadline = deadline();
        while !burst.is_empty() {
            self.joined.tx().send(&mut self.tx_cache, &mut burst);
            self.hoard(hoard)?;
            if past(deadline) {
                return Err(format!("{} frames were not taken for 2 s", burst.len()));
            }
        }
        Ok(())
    }

    /// Hoards until nothing more arrives.
    pub(super) fn drain_hoarding(&mut self, hoard: &mut Vec<Buf<Cpu>>) -> Result<(), String> {
        let mut quiet = 0;
        while quiet < 100 {
            self.joined.tx().reap(&mut self.tx_cache);
            quiet = if self.hoard(hoard)? > 0 { 0 } else { quiet + 1 };
        }
        Ok(())
    }

    /// Receives everything sent so far, where the wire allows it before the end.
    pub(super) fn finish_if_interactive(&mut self) -> Result<(), String> {
        if self.interactive { self.finish() } else { Ok(()) }
    }

    /// Takes hoarded frames for received: each must be the next or a later one, in order.
    pub(super) fn settle_hoard(&mut self, hoard: Vec<Buf<Cpu>>) -> Result<usize, String> {
        let mut skipped = 0;
        for frame in hoard {
            let mut bytes = vec![0; frame.frame().frame_len()];
            frame.frame().copy_to(&mut bytes);
            while self.expected.front().is_some_and(|next| *next != bytes) {
                self.expected.pop_front();
                skipped += 1;
            }
            compare(&mut self.expected, &bytes, self.received)?;
            self.received += 1;
        }
        Ok(skipped)
    }

    /// Forgets frames that the queue says it dropped.
    pub(super) fn forget_expected(&mut self) -> usize {
        std::mem::take(&mut self.expected).len()
    }

    /// Receives until everything sent has come.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        let mut deadline = deadline();
        while !self.expected.is_empty() {
            if self.receive()? > 0 {
                deadline = self::deadline();
            }
            if self.interactive {
                self.joined.tx().reap(&mut self.tx_cache);
            }
            if past(deadline) {
                let (missing, rx) = (self.expected.len(), self.rx_stats());
                return Err(format!("{missing} frames did not arrive; the queue says {rx:?}"));
            }
        }
        Ok(())
    }

    pub(super) fn rx_stats(&mut self) -> QueueStats {
        self.joined.rx().counters().snapshot()
    }

    /// Checks the books and that every buffer is home once the queues are gone.
    pub(super) fn close(mut self) -> Result<(), String> {
        let tx = self.joined.tx().counters().snapshot();
        let rx = self.rx_stats();
        if !rx.is_balanced() || !tx.is_balanced() {
            return Err(format!("the books do not balance: tx {tx:?}, rx {rx:?}"));
        }
        if rx.delivered != self.received {
            return Err(format!("{} received, the queue says {}", self.received, rx.delivered));
        }
        if tx.delivered != self.sent {
            return Err(format!("{} sent, the queue says {}", self.sent, tx.delivered));
        }
        drop(self.joined);
        drop(self.tx_cache);
        home(&self.tx_pool)?;
        match self.receiver {
            Receiver::Whole { pool, cache, burst } => {
                drop((cache, burst));
                home(&pool)
            }
            Receiver::Split { heads, data, view, cache, burst } => {
                drop((view, cache, burst));
                home(&heads)?;
                home(&data)
            }
        }
    }
}

fn home<A: Access>(pool: &Pool<A>) -> Result<(), String> {
    let audit = pool.audit();
    if audit.is_home() { Ok(()) } else { Err(format!("buffers are not home: {audit}")) }
}

fn compare(expected: &mut VecDeque<Vec<u8>>, got: &[u8], index: u64) -> Result<(), String> {
    let Some(want) = expected.pop_front() else {
        return Err(format!("frame {index} of {} B was never sent", got.len()));
    };
    if want == got {
        return Ok(());
    }
    let at = want.iter().zip(got).position(|(a, b)| a != b).unwrap_or(want.len().min(got.len()));
    Err(format!(
        "frame {index}: {} B sent, {} B came, first differing at {at}",
        want.len(),
        got.len()
    ))
}

/// Head and payload of a split frame, read back through the memory's own engine.
fn joined_bytes(frame: SplitFrame<'_>, view: &DeviceView) -> Result<Vec<u8>, String> {
    let mut bytes = frame.head.bytes().to_vec();
    for segment in frame.data.into_iter().flat_map(|payload| payload.segments()) {
        let at = bytes.len();
        bytes.resize(at + segment.len(), 0);
        view.read(segment, &mut bytes[at..]).map_err(|error| error.to_string())?;
    }
    Ok(bytes)
}

fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

fn past(deadline: Instant) -> bool {
    Instant::now() > deadline
}
