//! Writes what several workers captured into one file: a thread of its own, fed by a tape from each.
//! Frames that are there at the same time are sorted by their stamps.

use std::{sync::Arc, time::Duration};

use crossbeam_utils::CachePadded;
use memwire_apps::{Stop, report::Counter};
use pmd::{
    QueueCounters, QueueStats,
    pcap::{TapeReader, pull_earliest},
};

use crate::{
    record::{Broken, Pulse, Target},
    worker::{clock, statistics},
};

/// Frames between two looks at everything else.
const ROUND: usize = 256;
/// How long it sleeps where nothing comes: tapes hold much more than that.
const NAP: Duration = Duration::from_micros(200);

/// The thread that writes.
pub(crate) struct Scribe {
    pub(crate) tapes: Vec<TapeReader>,
    pub(crate) target: Target,
    /// Of every queue of every port.
    pub(crate) counters: Vec<Vec<QueueCounters>>,
    /// When the run began, in nanoseconds since 1970.
    pub(crate) began: u64,
    pub(crate) written: Arc<CachePadded<Counter>>,
    pub(crate) broken: Option<Broken>,
}

impl Scribe {
    /// Writes until the workers have let go of their tapes, and those are empty.
    pub(crate) fn run(mut self, stop: &Stop) -> Self {
        let mut pulse = Pulse::new();
        loop {
            // Asked before the round: what was left on the tapes is in it.
            let have_ended = self.tapes.iter().all(TapeReader::has_ended);
            let got = self.round();
            if self.broken.is_none() {
                self.broken = pulse.round(got, &mut self.target).err();
            }
            if self.broken.is_some() {
                stop.set();
            }
            match (got, have_ended) {
                (0, true) => return self,
                (0, false) => nap(),
                _ => {}
            }
        }
    }

    fn round(&mut self) -> usize {
        if self.target.rotates() {
            let (began, now) = (self.began, clock());
            let stats = self.counters.iter().map(QueueStats::sum);
            self.target.set_statistics(stats.map(|stats| statistics(&stats, None, began, now)));
        }
        let (mut got, mut written) = (0, 0);
        while got < ROUND {
            let Some(entry) = pull_earliest(&mut self.tapes) else {
                break;
            };
            got += 1;
            // After a failure the tapes are emptied all the same: workers count what they gave.
            if self.broken.is_none() {
                let parts = std::iter::once(entry.bytes);
                match self.target.write(&entry.packet, None, parts) {
                    Ok(_) => written += 1,
                    Err(error) => self.broken = Some(error),
                }
            }
        }
        self.written.add(written);
        got
    }
}

#[expect(clippy::disallowed_methods, reason = "not the data path: a thread that waits for it")]
fn nap() {
    std::thread::sleep(NAP);
}
