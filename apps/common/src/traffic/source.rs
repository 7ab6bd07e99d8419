//! Sends the test traffic as fast as asked. A frame is written once per buffer; after that its
//! payload and checksum stay valid, and only ports, sequence number and timestamp are rewritten.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mempool::{Burst, Cache, Cpu, Frame, FrameMut, Pool, RxMeta};
use pmd::TxQueue;
use zerocopy::IntoBytes;

use super::{Template, TemplateError, TestHeader};
use crate::Stop;

/// What to send.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// The frame.
    pub template: Template,
    /// Frames per second; `None` is as fast as the port takes them.
    pub rate: Option<f64>,
    /// Test frames to send, foreign ones not counted; `None` is until stopped.
    pub count: Option<u64>,
    /// Flows, told apart by UDP source port, each with sequence numbers of its own; taken in turn.
    pub flows: u16,
    /// Share of frames of no concern to the receiver (the next UDP port, no sequence number), 0..1.
    pub foreign: f64,
    /// Frames per burst.
    pub burst: usize,
    /// Seed of payloads, and of which frames are foreign: the same seed, the same traffic.
    pub seed: u64,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            template: Template::default(),
            rate: None,
            count: None,
            flows: 1,
            foreign: 0.0,
            burst: 32,
            seed: 1,
        }
    }
}

/// What a source has sent: what the port took over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Frames with a test header that counts.
    pub frames: u64,
    /// Foreign frames in between.
    pub foreign: u64,
    /// Bytes of both, without FCS.
    pub bytes: u64,
    /// Bursts that the port had no room for at first.
    pub stalls: u64,
}

/// What is left of a source that has ended.
pub struct SourceEnd {
    /// What it has sent.
    pub sent: Sent,
    /// Its queue, to bring back to [`pmd::Device::stop`].
    pub tx: Box<dyn TxQueue>,
}

/// A load generator on one transmit queue.
pub struct Source {
    tx: Box<dyn TxQueue>,
    cache: Cache<Cpu>,
    burst: Burst<Cpu>,
    options: SourceOptions,
    headers: Vec<u8>,
    /// Slots that hold a whole frame.
    prepared: Vec<bool>,
    random: Random,
    /// Below this draw a frame is foreign.
    foreign_below: u64,
    /// Test frames made so far.
    made: u64,
    /// All frames made so far.
    made_all: u64,
    flow: u16,
    sequence: u64,
    stalls: u64,
    start: Instant,
    start_ns: u64,
}

/// How long an ending source waits for the port to give buffers back.
const REAP: Duration = Duration::from_millis(500);

impl Source {
    /// A source on `tx`. Nobody else may draw on `pool`, nor write what is in its buffers: a frame
    /// that was sent is found there again.
    ///
    /// # Errors
    /// The template makes no frame, or one that does not fit a buffer.
    pub fn new(
        tx: Box<dyn TxQueue>,
        pool: &Pool<Cpu>,
        options: SourceOptions,
    ) -> Result<Self, TemplateError> {
        let headers = options.template.headers()?;
        let (frame_len, room) = (options.template.frame_len(), pool.room());
        if frame_len > room {
            let needed = frame_len + pool.headroom();
            return Err(TemplateError::NoRoom { frame_len, room, needed });
        }
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        #[expect(clippy::cast_possible_truncation, reason = "a share of 2^64; casts saturate")]
        let foreign_below = (options.foreign.clamp(0.0, 1.0) * u64::MAX as f64) as u64;
        Ok(Self {
            cache: pool.cache(),
            burst: Burst::with_limit(pool, options.burst),
            prepared: vec![false; pool.slot_bound()],
            random: Random::new(options.seed),
            foreign_below,
            headers,
            made: 0,
            made_all: 0,
            flow: 0,
            sequence: 0,
            stalls: 0,
            start: Instant::now(),
            start_ns: u64::try_from(epoch.as_nanos()).unwrap_or(u64::MAX),
            tx,
            options,
        })
    }

    /// Sends until the count is reached or `stop` is set, then waits a little for the port to give
    /// its buffers back.
    #[must_use]
    pub fn run(mut self, stop: &Stop) -> SourceEnd {
        while !stop.is_set() && !self.is_done() {
            if self.poll() == 0 {
                std::thread::yield_now();
            }
        }
        self.end()
    }

    /// Whether the count is reached and the port has taken all of it.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.burst.is_empty() && self.options.count.is_some_and(|count| self.made >= count)
    }

    /// Sends one burst, or what the port left of the last; returns how many frames it took.
    pub fn poll(&mut self) -> usize {
        if self.burst.is_empty() {
            self.fill();
        }
        if self.burst.is_empty() {
            self.tx.reap(&mut self.cache);
            return 0;
        }
        let taken = self.tx.send(&mut self.cache, &mut self.burst);
        self.stalls += u64::from(taken == 0);
        taken
    }

    /// What the port has taken so far.
    #[must_use]
    pub fn sent(&self) -> Sent {
        let waiting = self.burst.iter().filter(|frame| !self.is_foreign(*frame)).count() as u64;
        let frames = self.made - waiting;
        let all = self.made_all - self.burst.len() as u64;
        let bytes = all * self.options.template.frame_len() as u64;
        Sent { frames, foreign: all - frames, bytes, stalls: self.stalls }
    }

    /// Ends: frames that the port did not take are dropped, uncounted.
    #[must_use]
    pub fn end(mut self) -> SourceEnd {
        let sent = self.sent();
        self.burst.recycle(&mut self.cache);
        let deadline = Instant::now() + REAP;
        while self.tx.in_flight() > 0 && Instant::now() < deadline {
            if self.tx.reap(&mut self.cache) == 0 {
                std::thread::yield_now();
            }
        }
        SourceEnd { sent, tx: self.tx }
    }

    /// Makes as many frames as the burst holds, the rate allows and the count leaves.
    fn fill(&mut self) {
        let elapsed = self.start.elapsed();
        let mut want = self.options.burst;
        if let Some(rate) = self.options.rate {
            #[expect(clippy::cast_possible_truncation, reason = "casts of floats saturate")]
            let due = (elapsed.as_secs_f64() * rate) as u64;
            let late = due.saturating_sub(self.made_all);
            want = want.min(usize::try_from(late).unwrap_or(usize::MAX));
        }
        if let Some(count) = self.options.count {
            let left = count.saturating_sub(self.made);
            want = want.min(usize::try_from(left).unwrap_or(usize::MAX));
        }
        let got = self.cache.take_bare(&mut self.burst, want);
        self.burst.received_alike(0, self.options.template.frame_len(), &RxMeta::default());
        let since_start = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let now_ns = self.start_ns.saturating_add(since_start);
        for at in 0..got {
            self.stamp(at, now_ns);
        }
    }

    /// Writes what is new about the `at`-th frame of the burst.
    #[inline]
    fn stamp(&mut self, at: usize, now_ns: u64) {
        let is_foreign = self.foreign_below > 0 && self.random.next() < self.foreign_below;
        let (mut src_port, mut dst_port) =
            (self.options.template.src_port, self.options.template.dst_port);
        let mut sequence = u64::MAX;
        if is_foreign {
            dst_port = dst_port.wrapping_add(1);
        } else {
            src_port = src_port.wrapping_add(self.flow);
            sequence = self.sequence;
            self.made += 1;
            self.flow += 1;
            if self.flow >= self.options.flows {
                self.flow = 0;
                self.sequence += 1;
            }
        }
        self.made_all += 1;
        let (udp, payload) = (self.options.template.udp_at(), self.options.template.payload_at());
        let mut frame = self.burst.frame_mut(at);
        let slot = frame.view().slot().index() as usize;
        if !self.prepared[slot] {
            prepare(&mut frame, &self.headers, self.options.seed ^ slot as u64);
            self.prepared[slot] = true;
        }
        let bytes = frame.bytes_mut();
        bytes[udp..udp + 2].copy_from_slice(&src_port.to_be_bytes());
        bytes[udp + 2..udp + 4].copy_from_slice(&dst_port.to_be_bytes());
        TestHeader::restamp(&mut bytes[payload..payload + TestHeader::LEN], sequence, now_ns);
    }

    fn is_foreign(&self, frame: Frame<'_, Cpu>) -> bool {
        let at = self.options.template.udp_at() + 2;
        frame.bytes()[at..at + 2] != self.options.template.dst_port.to_be_bytes()
    }
}

/// Writes a whole frame into a buffer: the first time that it is used.
#[cold]
fn prepare(frame: &mut FrameMut<'_, Cpu>, headers: &[u8], seed: u64) {
    let bytes = frame.bytes_mut();
    let (head, udp_payload) = bytes.split_at_mut(headers.len());
    head.copy_from_slice(headers);
    let (test_header, payload) = udp_payload.split_at_mut(TestHeader::LEN);
    let mut random = Random::new(seed);
    for chunk in payload.chunks_mut(8) {
        chunk.copy_from_slice(&random.next().to_le_bytes()[..chunk.len()]);
    }
    test_header.copy_from_slice(TestHeader::new(0, 0, payload).as_bytes());
}

/// xorshift64* (Marsaglia, Vigna): quick, and good enough for payloads and coin tosses.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    #[inline]
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

#[cfg(test)]
mod tests;
