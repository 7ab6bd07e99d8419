//! The traced queues: what passes is written down; what a transmit queue does not take is not.

use std::{fmt::Write, os::fd::BorrowedFd};

use mempool::{Burst, Cache, Cpu, Device, Readable, Shared, SplitBurst, SplitCache};

use super::{Lent, line, options::Options, writer::Handle};
use crate::{MapError, QueueCounters, RxQueue, SplitRxQueue, TxQueue};

/// The lines of one queue.
pub(super) struct Recorder {
    to: Handle,
    /// Port, direction and number.
    label: String,
    every: u64,
    hex: bool,
    /// Frames that passed.
    seen: u64,
    text: String,
    /// Of each line in `text`: the frame's place in the burst, and where the line ends.
    lines: Vec<(usize, usize)>,
    /// The time, as it stands in each line of a burst.
    stamp: String,
}

impl Recorder {
    pub(super) fn new(to: Handle, label: String, options: &Options) -> Self {
        let (text, lines, stamp) = (String::new(), Vec::new(), String::new());
        Self { to, label, every: options.every, hex: options.hex, seen: 0, text, lines, stamp }
    }

    /// Begins a burst of so many frames; false if none of them is to be written.
    #[inline]
    fn begin(&mut self, count: usize) -> bool {
        self.lines.clear();
        let next = self.seen.next_multiple_of(self.every);
        if next >= self.seen + count as u64 || !self.to.is_on() {
            return false;
        }
        self.text.clear();
        self.stamp.clear();
        let _ = write!(self.stamp, "  {:>11.6} {} ", self.to.now().as_secs_f64(), self.label);
        true
    }

    /// Writes the line of the burst's `index`-th frame, if it is one of those that are traced.
    fn note(&mut self, index: usize, line: impl FnOnce(&mut String, bool)) {
        if (self.seen + index as u64).is_multiple_of(self.every) {
            self.text.push_str(&self.stamp);
            line(&mut self.text, self.hex);
            self.lines.push((index, self.text.len()));
        }
    }

    /// `taken` frames of the burst passed: hands over their lines.
    fn commit(&mut self, taken: usize) {
        self.seen += taken as u64;
        let wanted = self.lines.partition_point(|(index, _)| *index < taken);
        if wanted == 0 {
            return;
        }
        let granted = self.to.claim(wanted as u64);
        let Some(last) = usize::try_from(granted).unwrap_or(0).checked_sub(1) else { return };
        self.text.truncate(self.lines[last].1);
        self.to.lines(std::mem::take(&mut self.text), granted);
    }
}

pub(super) struct TracedRx {
    recorder: Option<Recorder>,
    inner: Lent<dyn RxQueue>,
}

impl TracedRx {
    pub(super) fn new(recorder: Option<Recorder>, inner: Lent<dyn RxQueue>) -> Self {
        Self { recorder, inner }
    }
}

impl RxQueue for TracedRx {
    fn recv(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize {
        let before = burst.len();
        let got = self.inner.recv(cache, burst);
        let Some(recorder) = &mut self.recorder else { return got };
        if recorder.begin(got) {
            for (index, frame) in burst.iter().skip(before).enumerate() {
                recorder.note(index, |to, hex| line::whole(to, frame, hex));
            }
        }
        recorder.commit(got);
        got
    }

    fn arm(&mut self) -> Option<BorrowedFd<'_>> {
        self.inner.arm()
    }

    fn counters(&self) -> &QueueCounters {
        self.inner.counters()
    }
}

pub(super) struct TracedSplitRx {
    recorder: Option<Recorder>,
    inner: Lent<dyn SplitRxQueue>,
}

impl TracedSplitRx {
    pub(super) fn new(recorder: Option<Recorder>, inner: Lent<dyn SplitRxQueue>) -> Self {
        Self { recorder, inner }
    }
}

impl SplitRxQueue for TracedSplitRx {
    fn recv(&mut self, cache: &mut SplitCache, burst: &mut SplitBurst) -> usize {
        let before = burst.len();
        let got = self.inner.recv(cache, burst);
        let Some(recorder) = &mut self.recorder else { return got };
        if recorder.begin(got) {
            for index in 0..got {
                let frame = burst.frame(before + index);
                recorder.note(index, |to, hex| line::split(to, frame, hex));
            }
        }
        recorder.commit(got);
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

pub(super) struct TracedTx {
    recorder: Option<Recorder>,
    inner: Lent<dyn TxQueue>,
}

impl TracedTx {
    pub(super) fn new(recorder: Option<Recorder>, inner: Lent<dyn TxQueue>) -> Self {
        Self { recorder, inner }
    }

    /// Frames are gone once they are taken: their lines are made before, and those of frames that
    /// were not taken are forgotten.
    fn traced<A: Readable>(
        &mut self,
        burst: &mut Burst<A>,
        send: impl FnOnce(&mut dyn TxQueue, &mut Burst<A>) -> usize,
    ) -> usize {
        let Some(recorder) = &mut self.recorder else { return send(&mut *self.inner, burst) };
        if recorder.begin(burst.len()) {
            for (index, frame) in burst.iter().enumerate() {
                recorder.note(index, |to, hex| line::whole(to, frame, hex));
            }
        }
        let sent = send(&mut *self.inner, burst);
        recorder.commit(sent);
        sent
    }
}

impl TxQueue for TracedTx {
    fn send(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize {
        self.traced(burst, |inner, burst| inner.send(cache, burst))
    }

    fn send_shared(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Shared>) -> usize {
        self.traced(burst, |inner, burst| inner.send_shared(cache, burst))
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
