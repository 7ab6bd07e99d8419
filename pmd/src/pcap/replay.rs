//! The receive queue for replay at full speed: frames that fit a buffer each, out of an arena, in
//! copies of whole lines. What [`super::rx`] does in general, without its branches.

use std::sync::Arc;

use mempool::{Burst, Cache, Cpu, Offload, RxMeta};

use super::arena::{Arena, Entry, LINE};
use crate::{QueueCounters, RxQueue};

/// Lines up to which a frame is copied line by line rather than by `memcpy`.
const LINES: usize = 4;

/// A frame of the arena, as the copy needs it.
#[derive(Clone, Copy)]
struct Job {
    line: u32,
    len: u32,
    timestamp: u64,
    offload: Offload,
}

/// A queue that replays an arena.
pub(super) struct Replay {
    arena: Arc<Arena>,
    jobs: Vec<Job>,
    next: usize,
    counters: QueueCounters,
}

impl Replay {
    /// A queue for these frames, none longer than the pool's buffers.
    pub(super) fn new(arena: Arc<Arena>, table: &[Entry], counters: QueueCounters) -> Self {
        let job = |entry: &Entry| {
            let mut offload = Offload::NONE;
            if entry.is_stamped() {
                offload = offload.with(Offload::RX_TIMESTAMP);
            }
            if entry.is_truncated() {
                offload = offload.with(Offload::RX_TRUNCATED);
            }
            #[expect(clippy::cast_possible_truncation, reason = "at most MAX_CAPTURED")]
            let len = entry.len() as u32;
            Job { line: entry.line, len, timestamp: entry.timestamp, offload }
        };
        Self { jobs: table.iter().map(job).collect(), arena, next: 0, counters }
    }
}

impl RxQueue for Replay {
    fn recv(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize {
        let (jobs, lines) = (self.jobs.as_slice(), self.arena.lines());
        if jobs.is_empty() {
            return 0;
        }
        let (before, want) = (burst.len(), burst.room());
        // Without buffers the capture waits: nothing is offered, nothing is dropped.
        let got = cache.take_bare(burst, want);
        let (mut next, mut bytes) = (self.next, 0);
        burst.for_each_mut(before, |mut frame| {
            let Job { line, len, timestamp, offload } = jobs[next];
            next += 1;
            if next == jobs.len() {
                next = 0;
            }
            let (line, len) = (line as usize, len as usize);
            frame.received(len, &RxMeta { offload, timestamp, ..RxMeta::default() });
            bytes += len;
            let room = frame.room_mut();
            if let (1..=LINE, Some(to)) = (len, room.first_chunk_mut::<LINE>()) {
                *to = lines[line];
                return;
            }
            let count = len.div_ceil(LINE);
            if count <= LINES && count * LINE <= room.len() {
                let (to, _) = room.as_chunks_mut::<LINE>();
                for (to, from) in to.iter_mut().zip(&lines[line..line + count]) {
                    *to = *from;
                }
                return;
            }
            room[..len].copy_from_slice(&lines[line..line + count].as_flattened()[..len]);
        });
        self.next = next;
        self.counters.delivered(got, bytes);
        got
    }

    fn counters(&self) -> &QueueCounters {
        &self.counters
    }
}
