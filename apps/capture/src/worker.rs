//! The loop: takes bursts from ports, runs the filter, writes what passes. Knows queues and a program;
//! knows no driver, no provider, no file.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use crossbeam_utils::CachePadded;
use mempool::{Burst, Cache, Cpu, Frame, Offload, Pool};
use memwire_apps::{
    Stop,
    idle::{Activity, Idle, IdleMode},
    report::Counter,
};
use pmd::{
    DropReason, QueueCounters, QueueStats, RxQueue,
    bpf::Program,
    pcap::{Note, Packet, Statistics},
};

use crate::record::{Broken, Pulse, Target};

/// What a worker counts besides its queues. One writer; readable while it runs.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Frames that did not pass the filter.
    pub(crate) filtered: Counter,
    /// Frames given to the target.
    pub(crate) passed: Counter,
    /// Frames after the last one that was wanted (`-c`).
    pub(crate) after_count: Counter,
    /// Frames that came after writing had failed, and the one that it failed with.
    pub(crate) unwritten: Counter,
    /// Frames that the tape to the writer had no room for.
    pub(crate) writer_full: Counter,
    /// Rounds, and those that found nothing.
    pub(crate) activity: Activity,
}

/// When a worker leaves its loop, besides the common stop flag.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leave {
    /// Set when ports have ended: leave once nothing more comes from them.
    pub(crate) drain: Stop,
    /// How many more frames are wanted.
    pub(crate) wanted: Option<Arc<AtomicU64>>,
}

impl Leave {
    /// How many of `frames` are wanted.
    fn grant(&self, frames: usize) -> usize {
        let Some(wanted) = &self.wanted else {
            return frames;
        };
        // Relaxed: a count, ordered by nothing; once per burst, and only with `-c`.
        let take = |left: u64| Some(left.saturating_sub(frames as u64));
        let before = wanted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        usize::try_from(before.unwrap_or(0)).map_or(frames, |left| left.min(frames))
    }

    /// Whether there were enough.
    pub(crate) fn is_reached(&self) -> bool {
        self.wanted.as_ref().is_some_and(|left| left.load(Ordering::Relaxed) == 0)
    }
}

/// A queue of a port, and what came of it in this round.
pub(crate) struct Port {
    rx: Box<dyn RxQueue>,
    interface: u32,
    counters: QueueCounters,
    burst: Burst<Cpu>,
    /// Frames that the queue had dropped when it was last looked at.
    dropped: u64,
    /// Frames dropped since the last one that was written.
    lost: u64,
    /// When frames without a stamp of their own came: read once per burst.
    now: Option<u64>,
    /// The latest stamp, so that a port's frames keep their order.
    latest: u64,
}

impl Port {
    pub(crate) fn new(
        rx: Box<dyn RxQueue>,
        interface: u32,
        pool: &Pool<Cpu>,
        burst: usize,
    ) -> Self {
        let counters = rx.counters().clone();
        let burst = Burst::with_limit(pool, burst);
        Self { rx, interface, counters, burst, dropped: 0, lost: 0, now: None, latest: 0 }
    }

    fn recv(&mut self, cache: &mut Cache<Cpu>) -> usize {
        let got = self.rx.recv(cache, &mut self.burst);
        if got > 0 {
            self.now = None;
            let dropped = self.counters.snapshot().drops.total();
            self.lost += dropped - self.dropped;
            self.dropped = dropped;
        }
        got
    }
}

/// When a frame came.
#[inline(always)]
fn stamp(frame: Frame<'_, Cpu>, now: &mut Option<u64>) -> u64 {
    let meta = frame.meta();
    if meta.offload().has(Offload::RX_TIMESTAMP) {
        meta.timestamp()
    } else {
        *now.get_or_insert_with(clock)
    }
}

/// The time of day, in nanoseconds since 1970.
pub(crate) fn clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// What a worker leaves behind.
pub(crate) struct Left {
    /// Queues, with the number of their port.
    pub(crate) queues: Vec<(u32, Box<dyn RxQueue>)>,
    pub(crate) target: Target,
    /// Why nothing more could be written.
    pub(crate) broken: Option<Broken>,
}

/// Queue i of every port, and what one worker needs to serve them.
pub(crate) struct Worker {
    ports: Vec<Port>,
    filter: Option<Program>,
    target: Target,
    cache: Cache<Cpu>,
    /// Frames of a round that pass: when, which port, which of its burst.
    order: Vec<(u64, u32, u32)>,
    /// A frame of several segments, in one piece, for the filter.
    whole: Vec<u8>,
    broken: Option<Broken>,
    leave: Leave,
    /// When the run began, in nanoseconds since 1970.
    began: u64,
    idle: Idle,
    tally: Arc<CachePadded<Tally>>,
}

impl Worker {
    pub(crate) fn new(
        ports: Vec<Port>,
        filter: Option<Program>,
        target: Target,
        pool: &Pool<Cpu>,
        leave: &Leave,
        (idle, began): (IdleMode, u64),
    ) -> Self {
        let room = ports.iter().map(|port| port.burst.room()).sum();
        Self {
            ports,
            filter,
            target,
            cache: pool.cache(),
            order: Vec::with_capacity(room),
            whole: Vec::new(),
            broken: None,
            leave: leave.clone(),
            began,
            idle: Idle::new(idle),
            tally: Arc::default(),
        }
    }

    pub(crate) fn tally(&self) -> Arc<CachePadded<Tally>> {
        Arc::clone(&self.tally)
    }

    /// Captures until asked to leave, or until there is no use in it.
    pub(crate) fn run(mut self, stop: &Stop) -> Self {
        let mut pulse = Pulse::new();
        while !stop.is_set() {
            // Asked before the round: what came before the ports ended is in it.
            let is_draining = self.leave.drain.is_set();
            let got = self.round();
            if self.broken.is_none() {
                self.broken = pulse.round(got, &mut self.target).err();
            }
            self.tally.activity.rounds.add(1);
            if self.idle.round(got) {
                self.tally.activity.empty.add(1);
                self.cache.tidy();
                if is_draining {
                    break;
                }
                if self.idle.wants_arming() {
                    self.idle.arm(self.ports.iter_mut().map(|port| port.rx.arm()));
                }
            }
            if self.broken.is_some() || self.leave.is_reached() {
                stop.set();
            }
        }
        self.target.leave();
        self
    }

    /// Serves every port once; returns how many frames came.
    fn round(&mut self) -> usize {
        let (mut got, mut busy) = (0, 0);
        for port in &mut self.ports {
            let more = port.recv(&mut self.cache);
            got += more;
            busy += usize::from(more > 0);
        }
        if got == 0 {
            return 0;
        }
        if self.target.rotates() {
            self.tell_statistics();
        }
        let is_plain = busy == 1 && self.filter.is_none() && self.leave.wanted.is_none();
        if is_plain && self.broken.is_none() {
            self.write_all(got);
        } else {
            self.choose();
            self.write_chosen();
        }
        for port in &mut self.ports {
            port.burst.recycle(&mut self.cache);
        }
        self.target.commit();
        got
    }

    /// The file may end in this round: it will say what was counted so far.
    fn tell_statistics(&mut self) {
        let written = self.tally.passed.get();
        let passed =
            (self.ports.len() == 1).then(|| (written + self.tally.after_count.get(), written));
        let (began, now) = (self.began, clock());
        let stats = self.ports.iter().map(|port| port.counters.snapshot());
        self.target.set_statistics(stats.map(|stats| statistics(&stats, passed, began, now)));
    }

    /// One port has frames, and all of them are wanted: the shortest way.
    fn write_all(&mut self, got: usize) {
        let Self { ports, target, broken, tally, .. } = self;
        let (mut written, mut full) = (0, 0);
        for port in ports.iter_mut().filter(|port| !port.burst.is_empty()) {
            let Port { burst, now, lost, counters, interface, .. } = port;
            for frame in burst.iter() {
                let timestamp = stamp(frame, now);
                let packet = Packet::whole(*interface, timestamp, frame.frame_len());
                match put(target, &packet, frame, lost, counters) {
                    Ok(true) => written += 1,
                    Ok(false) => full += 1,
                    Err(error) => {
                        *broken = Some(error);
                        break;
                    }
                }
            }
        }
        tally.passed.add(written);
        tally.writer_full.add(full);
        tally.unwritten.add(got - written - full);
    }

    /// Runs the filter over all that came, and puts what passes in order.
    fn choose(&mut self) {
        self.order.clear();
        let mut filtered = 0;
        for (at, port) in (0..).zip(&mut self.ports) {
            let Port { burst, now, latest, .. } = port;
            for (index, frame) in (0..).zip(burst.iter()) {
                if let Some(program) = &self.filter
                    && !matches(program, frame, &mut self.whole)
                {
                    filtered += 1;
                    continue;
                }
                *latest = (*latest).max(stamp(frame, now));
                self.order.push((*latest, at, index));
            }
        }
        self.tally.filtered.add(filtered);
        // In place; a port's own order is part of the key. One port is in order already.
        if self.ports.len() > 1 {
            self.order.sort_unstable();
        }
    }

    /// Writes what was chosen, as far as it is wanted.
    fn write_chosen(&mut self) {
        let order = mem::take(&mut self.order);
        let chosen = order.len();
        let granted = if self.broken.is_some() { 0 } else { self.leave.grant(chosen) };
        let (mut written, mut full) = (0, 0);
        for (_, at, index) in &order[..granted] {
            let Port { burst, now, lost, counters, interface, .. } = &mut self.ports[*at as usize];
            let frame = burst.frame(*index as usize);
            let timestamp = stamp(frame, now);
            let packet = Packet::whole(*interface, timestamp, frame.frame_len());
            match put(&mut self.target, &packet, frame, lost, counters) {
                Ok(true) => written += 1,
                Ok(false) => full += 1,
                Err(error) => {
                    self.broken = Some(error);
                    break;
                }
            }
        }
        let failed = granted - written - full;
        if self.broken.is_some() && granted == 0 {
            self.tally.unwritten.add(chosen);
        } else {
            self.tally.unwritten.add(failed);
            self.tally.after_count.add(chosen - granted);
        }
        self.tally.passed.add(written);
        self.tally.writer_full.add(full);
        self.order = order;
    }

    /// What is left when the loop has ended.
    pub(crate) fn into_parts(self) -> Left {
        let queues = self.ports.into_iter().map(|port| (port.interface, port.rx)).collect();
        Left { queues, target: self.target, broken: self.broken }
    }
}

/// Whether a frame passes.
#[inline(always)]
fn matches(program: &Program, frame: Frame<'_, Cpu>, whole: &mut Vec<u8>) -> bool {
    if frame.next().is_none() {
        let bytes = frame.bytes();
        return program.matches(bytes, bytes.len());
    }
    matches_chain(program, frame, whole)
}

#[cold]
fn matches_chain(program: &Program, frame: Frame<'_, Cpu>, whole: &mut Vec<u8>) -> bool {
    whole.clear();
    frame.segments().for_each(|segment| whole.extend(segment.bytes()));
    program.matches(whole, whole.len())
}

/// Writes a frame; the first one after a loss says what was lost. False if there was no room.
#[inline(always)]
fn put(
    target: &mut Target,
    packet: &Packet,
    frame: Frame<'_, Cpu>,
    lost: &mut u64,
    counters: &QueueCounters,
) -> Result<bool, Broken> {
    let parts = frame.segments().map(Frame::bytes);
    if *lost == 0 {
        return target.write(packet, None, parts);
    }
    let comment = losses(*lost, counters);
    let note = Note { dropped: Some(mem::take(lost)), comment: Some(&comment), direction: None };
    target.write(packet, Some(&note), parts)
}

/// What a queue has lost, in words.
#[cold]
fn losses(lost: u64, counters: &QueueCounters) -> String {
    let drops = counters.snapshot().drops;
    let reasons: Vec<_> =
        drops.iter().map(|(reason, count)| format!("{} {count}", reason.name())).collect();
    format!("{lost} frames lost before this one; since the start: {}", reasons.join(", "))
}

/// What to say of an interface at the end of a file. How many frames passed the filter and how many
/// were written is known of a single port; of several only their sum is.
pub(crate) fn statistics(
    stats: &QueueStats,
    passed: Option<(u64, u64)>,
    began: u64,
    now: u64,
) -> Statistics {
    let kernel = stats.drops.of(DropReason::Kernel);
    Statistics {
        start: Some(began),
        end: Some(now),
        received: Some(stats.offered),
        dropped: Some(stats.drops.total() - kernel),
        os_dropped: Some(kernel),
        accepted: passed.map(|(accepted, _)| accepted),
        delivered: passed.map(|(_, written)| written),
    }
}
