//! The active probe: before any frame of a user's, patterns go through the NIC into each area of a payload pool and
//! are read where they should be. A mapping that lies is found by what it does, not by what it says.
//!
//! The first and the last buffer of each area are tried: both ends of what was mapped. Frames come from the port
//! itself where it has a loopback, else from another port that sends to it. Knows no memory's kind.

use std::{
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

use mempool::{Buf, Burst, Cpu, Device as DeviceMemory, DeviceView, Pool, SplitBurst, SplitCache};

use crate::{
    Config, Device, Error, PostOrder, Queues, RxConfig, RxMemory, SplitAt, SplitConfig,
    SplitRxQueue, TxConfig, TxQueue,
};

/// Bytes of headers: Ethernet, IPv4, UDP.
const HEADERS: usize = 42;
/// Bytes of a probe frame at most: more than a NIC keeps in a head's buffer, so that there is a payload.
const FRAME: usize = 512;
/// Descriptors of the rings that are started for it; so many areas less some can be told apart.
const RING: usize = 64;
/// Areas that are tried.
const AREAS: usize = 16;
/// How long links may take to come up, and frames to come back.
const LINK: Duration = Duration::from_secs(3);
const ANSWER: Duration = Duration::from_secs(5);
/// A frame that has not come by then is sent again.
const AGAIN: Duration = Duration::from_millis(200);
/// UDP port of the discard protocol (RFC 863): whoever else hears a probe throws it away.
const DISCARD: u16 = 9;

/// What is probed.
#[derive(Clone, Copy)]
pub struct Probe<'a> {
    /// For heads, as they will be.
    pub heads: &'a Pool<Cpu>,
    /// For payloads: the pool in question. All its buffers have to be home.
    pub data: &'a Pool<DeviceMemory>,
    /// Where probe frames are made: buffers of 512 bytes at least.
    pub frames: &'a Pool<Cpu>,
    /// Where frames are cut.
    pub at: SplitAt,
}

/// How it went, where nothing is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probed {
    /// Patterns went to so many places of so many areas, and were found there.
    Proven {
        /// Areas.
        areas: usize,
        /// Buffers.
        places: usize,
    },
    /// Nothing was proven, for this reason.
    Not(String),
}

/// A port must not be used with this memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// It could not be started with it, or stopped.
    #[error(transparent)]
    Port(#[from] Error),
    /// What the port wrote is not where it should be.
    #[error(
        "port '{port}': the mapping of '{memory}' lies: a pattern that was received for byte {offset:#x} of its \
         area {area} is not there, so payloads would be written elsewhere; use the bounce path, and look at the \
         IOMMU and at ACS between the two devices"
    )]
    Lies {
        /// The port.
        port: String,
        /// Who gave the memory.
        memory: String,
        /// The area's number in the pool.
        area: usize,
        /// Offset of the buffer in it, in bytes.
        offset: usize,
    },
    /// Probe frames were lost on the way.
    #[error(
        "port '{port}': {missing} of {sent} probe frames for '{memory}' did not come back in {} s: the device \
         cannot write there, or frames do not reach it; use the bounce path, or see the kernel's log for faults \
         of the IOMMU",
        ANSWER.as_secs()
    )]
    Lost {
        /// The port.
        port: String,
        /// Who gave the memory.
        memory: String,
        /// How many were missed.
        missing: usize,
        /// Of how many.
        sent: usize,
    },
}

/// A place that a pattern is to be found at.
struct Place {
    slot: u32,
    area: usize,
    offset: usize,
    is_proven: bool,
}

impl Probe<'_> {
    /// Starts the port for this alone, sends patterns by its own loopback or from another port, and stops it.
    ///
    /// # Errors
    /// The port cannot be started with this memory, or does not write where it should.
    pub fn run(
        &self,
        port: &mut dyn Device,
        from: Option<&mut dyn Device>,
    ) -> Result<Probed, ProbeError> {
        if from.is_none() && !port.info().capabilities.loopback {
            let driver = port.info().driver;
            return Ok(Probed::Not(format!(
                "the {driver} driver has no loopback, and no other port sends to this one"
            )));
        }
        let (mut targets, mut places, _others) = self.targets();
        if let Err(why) = self.blank(&mut targets) {
            return Ok(Probed::Not(format!("the CPU has no way to look there: {why}")));
        }
        let mut sender = Sender::new(from);
        let started = port.start(self.config(sender.from.is_none()))?;
        let Queues { mut rx, tx } = started;
        let sending = sender.start(tx, self.frames);
        let result = match (sending, rx.pop()) {
            (Ok(()), Some(crate::AnyRxQueue::Split(mut queue))) => {
                sender.wait_for_link(port);
                let outcome = self.exchange(&mut *queue, &mut sender, targets, &mut places);
                rx.push(crate::AnyRxQueue::Split(queue));
                outcome
            }
            (Ok(()), queue) => {
                rx.extend(queue);
                Err(Fault::Lost)
            }
            (Err(error), queue) => {
                rx.extend(queue);
                Err(Fault::Port(error))
            }
        };
        let (tx, silent) = sender.stop();
        port.stop(Queues { rx, tx })?;
        silent?;
        self.judge(port, &places, result)
    }

    fn config(&self, loopback: bool) -> Config {
        let Self { heads, data, frames, at } = *self;
        let (heads, data) = (heads.clone(), data.clone());
        let split = SplitConfig { heads, data, at, post: PostOrder::App };
        let tx = TxConfig { pool: frames.clone(), ring: RING };
        Config {
            rx: vec![RxConfig { memory: RxMemory::Split(split), ring: RING }],
            tx: if loopback { vec![tx] } else { Vec::new() },
            promiscuous: true,
            loopback,
            ..Config::default()
        }
    }

    /// The buffers that patterns go to, where they are, and all others of the pool.
    fn targets(&self) -> (Vec<Buf<DeviceMemory>>, Vec<Place>, Vec<Buf<DeviceMemory>>) {
        let mut cache = self.data.cache();
        let mut bufs: Vec<_> = std::iter::from_fn(|| cache.take_one()).collect();
        bufs.sort_unstable_by_key(|buf| buf.slot().index());
        let area_of = |buf: &Buf<DeviceMemory>| buf.frame().place().0.index();
        let areas: Vec<usize> = bufs.iter().map(area_of).collect();
        let (mut targets, mut places, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for (at, buf) in bufs.into_iter().enumerate() {
            let is_first = at == 0 || areas[at - 1] != areas[at];
            let is_last = areas.get(at + 1) != Some(&areas[at]);
            if (is_first || is_last) && places.len() < 2 * AREAS {
                let (slot, (area, offset)) = (buf.slot().index(), buf.frame().place());
                places.push(Place { slot, area: area.index(), offset, is_proven: false });
                targets.push(buf);
            } else {
                others.push(buf);
            }
        }
        (targets, places, others)
    }

    /// Bytes of a payload that fit a buffer.
    fn frame_len(&self) -> usize {
        HEADERS + self.data.stride().min(FRAME - HEADERS)
    }

    /// Writes what no pattern has; says why if nobody can.
    fn blank(&self, targets: &mut [Buf<DeviceMemory>]) -> Result<(), mempool::CopyError> {
        let view = DeviceView::new(self.data);
        let blank = vec![0; self.frame_len() - HEADERS];
        targets.iter_mut().try_for_each(|buf| view.write(&mut buf.frame_mut(), &blank))
    }

    /// Sends and receives until every place is proven, one is not what it should be, or time is over.
    fn exchange(
        &self,
        queue: &mut dyn SplitRxQueue,
        sender: &mut Sender<'_>,
        targets: Vec<Buf<DeviceMemory>>,
        places: &mut [Place],
    ) -> Result<(), Fault> {
        let view = DeviceView::new(self.data);
        let patterns = Patterns::new(places.len(), self.frame_len());
        let mut cache = SplitCache::new(self.heads, self.data);
        let mut burst = SplitBurst::new(self.heads, self.data);
        let mut posted = Burst::new(self.data);
        targets.into_iter().for_each(|buf| posted.push(buf));
        let mut home = Vec::new();
        let (end, mut next) = (Instant::now() + ANSWER, Instant::now());
        let mut found = vec![0; FRAME];
        while places.iter().any(|place| !place.is_proven) {
            let now = Instant::now();
            if now >= end {
                return Err(Fault::Lost);
            }
            queue.post(&mut posted);
            let got = queue.recv(&mut cache, &mut burst);
            if now >= next {
                // Any pattern proves any place: one that came twice, since it was sent again, took another's.
                let missing = (0..places.len()).filter(|at| !places[*at].is_proven);
                sender.send(self.frames, missing.map(|at| patterns.frame(at)));
                next = now + AGAIN;
            }
            if got == 0 {
                std::hint::spin_loop();
                continue;
            }
            for frame in burst.iter() {
                let (Some(number), Some(data)) = (patterns.number(frame.head.bytes()), frame.data)
                else {
                    continue;
                };
                let slot = data.slot().index();
                let at = places.iter().position(|place| place.slot == slot && !place.is_proven);
                let Some(at) = at else { continue };
                let sent = patterns.frame(number);
                let cut = self.at.head_len(&sent, sent.len(), frame.head.bytes().len());
                let found = &mut found[..sent.len() - cut];
                let is_there = view.read(data, found).is_ok() && *found == sent[cut..];
                if !is_there {
                    return Err(Fault::Lies(at));
                }
                places[at].is_proven = true;
            }
            let (heads, data) = burst.parts_mut();
            heads.recycle(&mut cache.heads);
            for buf in data.drain_front(data.len()) {
                // A frame of somebody else's took it: it is posted again.
                let slot = buf.slot().index();
                let is_open = places.iter().any(|place| place.slot == slot && !place.is_proven);
                if is_open { posted.push(buf) } else { home.push(buf) }
            }
        }
        Ok(())
    }

    fn judge(
        &self,
        port: &dyn Device,
        places: &[Place],
        result: Result<(), Fault>,
    ) -> Result<Probed, ProbeError> {
        let port = port.info().port.clone();
        let areas = self.data.areas();
        let name = |at: usize| areas.iter().find(|area| area.id.index() == at);
        let memory = |at: usize| name(at).map_or_else(String::new, |area| area.provider.clone());
        match result {
            Ok(()) => {
                let mut areas: Vec<usize> = places.iter().map(|place| place.area).collect();
                areas.dedup();
                Ok(Probed::Proven { areas: areas.len(), places: places.len() })
            }
            Err(Fault::Port(error)) => Err(error.into()),
            Err(Fault::Lies(at)) => {
                let Place { area, offset, .. } = places[at];
                Err(ProbeError::Lies { port, memory: memory(area), area, offset })
            }
            Err(Fault::Lost) => {
                let missing = places.iter().filter(|place| !place.is_proven).count();
                let memory = memory(places.first().map_or(0, |place| place.area));
                Err(ProbeError::Lost { port, memory, missing, sent: places.len() })
            }
        }
    }
}

/// What was wrong.
enum Fault {
    Port(Error),
    /// The place with this number does not hold its pattern.
    Lies(usize),
    Lost,
}

/// Who sends.
struct Sender<'a> {
    /// None where the port sends to itself.
    from: Option<&'a mut (dyn Device + 'a)>,
    queue: Option<Box<dyn TxQueue>>,
}

impl<'a> Sender<'a> {
    fn new(from: Option<&'a mut (dyn Device + 'a)>) -> Self {
        Self { from, queue: None }
    }

    fn start(&mut self, own: Vec<Box<dyn TxQueue>>, frames: &Pool<Cpu>) -> Result<(), Error> {
        let queues = match &mut self.from {
            None => own,
            Some(from) => {
                let tx = vec![TxConfig { pool: frames.clone(), ring: RING }];
                from.start(Config { tx, ..Config::default() })?.tx
            }
        };
        self.queue = queues.into_iter().next();
        Ok(())
    }

    /// Waits until frames can pass; what does not come up in time shows by what is lost.
    fn wait_for_link(&self, port: &dyn Device) {
        let end = Instant::now() + LINK;
        let is_up = || port.link().is_up && self.from.as_ref().is_none_or(|from| from.link().is_up);
        while !is_up() && Instant::now() < end {
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    fn send(&mut self, frames: &Pool<Cpu>, texts: impl Iterator<Item = Vec<u8>>) {
        let Some(queue) = &mut self.queue else { return };
        let mut cache = frames.cache();
        let mut burst = Burst::new(frames);
        queue.reap(&mut cache);
        for text in texts {
            let Some(mut buf) = cache.take_one() else { break };
            if buf.frame_mut().append(&text) {
                burst.push(buf);
            }
        }
        queue.send(&mut cache, &mut burst);
        burst.recycle(&mut cache);
    }

    /// Stops the other port; the queue of a loopback goes back to its own.
    fn stop(self) -> (Vec<Box<dyn TxQueue>>, Result<(), Error>) {
        let queues: Vec<_> = self.queue.into_iter().collect();
        match self.from {
            None => (queues, Ok(())),
            Some(from) => (Vec::new(), from.stop(Queues { rx: Vec::new(), tx: queues })),
        }
    }
}

/// Frames that nobody else sends, each with a payload of its own.
struct Patterns {
    count: usize,
    len: usize,
    /// Chosen anew for each probe: the sender's address, and the seed of payloads.
    nonce: u64,
}

impl Patterns {
    fn new(count: usize, len: usize) -> Self {
        // The standard library's only source of randomness.
        Self { count, len, nonce: RandomState::new().hash_one(count) }
    }

    /// Locally administered.
    fn address(&self) -> [u8; 6] {
        let [a, b, c, d, e, ..] = self.nonce.to_le_bytes();
        [2, a, b, c, d, e]
    }

    fn frame(&self, number: usize) -> Vec<u8> {
        let big = |value: usize| u16::try_from(value).unwrap_or(0).to_be_bytes();
        let mut frame = vec![0xff; 6];
        frame.extend(self.address());
        frame.extend([0x08, 0x00, 0x45, 0x00]);
        frame.extend(big(self.len - 14));
        frame.extend(big(number));
        // No fragment; 64 hops; UDP; the sum comes below; documentation addresses (RFC 5737).
        frame.extend([0x00, 0x00, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
        let sum: u32 = frame[14..34]
            .chunks_exact(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        #[expect(clippy::cast_possible_truncation, reason = "folded to 16 bits")]
        let sum = !(((folded & 0xffff) + (folded >> 16)) as u16);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame.extend(
            [DISCARD.to_be_bytes(), DISCARD.to_be_bytes(), big(self.len - 34), [0, 0]].concat(),
        );
        let mut state = self.nonce ^ (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        while frame.len() < self.len {
            // xorshift64 (Marsaglia 2003): never zero, which is what a blank buffer holds.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            frame.extend((state | 0x0101_0101_0101_0101).to_le_bytes());
        }
        frame.truncate(self.len);
        frame
    }

    /// Which of the patterns starts like this, if one does.
    fn number(&self, head: &[u8]) -> Option<usize> {
        let is_ours = head.get(6..12) == Some(&self.address()) && head.get(12..14) == Some(&[8, 0]);
        let number = usize::from(u16::from_be_bytes([*head.get(18)?, *head.get(19)?]));
        (is_ours && number < self.count).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers;

    #[test]
    fn patterns_are_frames_that_split_behind_udp_and_differ() {
        let patterns = Patterns::new(3, FRAME);
        let frames: Vec<_> = (0..3).map(|number| patterns.frame(number)).collect();
        for (number, frame) in frames.iter().enumerate() {
            assert_eq!(frame.len(), FRAME);
            assert_eq!(headers::transport_payload(frame), Some(HEADERS));
            assert_eq!(patterns.number(&frame[..HEADERS]), Some(number));
            assert!(frame[HEADERS..].iter().all(|byte| *byte != 0));
        }
        assert_ne!(frames[0][HEADERS..], frames[1][HEADERS..]);
        assert_eq!(patterns.number(&[0; 60]), None);
        assert_eq!(Patterns::new(3, FRAME).number(&frames[0]), None, "another probe's");
    }
}
