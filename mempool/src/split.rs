//! Header/data split: the head in memory the CPU reads, the payload anywhere.

use crate::{Buf, Burst, Cache, Cpu, Device, Frame, Pool, burst::Drain};

/// One received frame: its headers in host memory, its payload (if it has one) in device memory.
#[derive(Debug)]
pub struct Split {
    /// The headers, or all of a frame that was not split.
    pub head: Buf<Cpu>,
    /// The payload; `None` if the frame has none or was short enough to stay whole.
    pub data: Option<Buf<Device>>,
}

/// The two caches of a worker that receives split frames.
pub struct SplitCache {
    /// For heads.
    pub heads: Cache<Cpu>,
    /// For payloads.
    pub data: Cache<Device>,
}

impl SplitCache {
    /// Fresh caches of both pools.
    #[must_use]
    pub fn new(heads: &Pool<Cpu>, data: &Pool<Device>) -> Self {
        Self { heads: heads.cache(), data: data.cache() }
    }

    /// What an idle worker calls now and then: [`Cache::tidy`] of both.
    pub fn tidy(&mut self) {
        self.heads.tidy();
        self.data.tidy();
    }
}

/// A borrowed [`Split`].
#[derive(Clone, Copy)]
pub struct SplitFrame<'a> {
    /// The headers.
    pub head: Frame<'a, Cpu>,
    /// The payload.
    pub data: Option<Frame<'a, Device>>,
}

/// A bounded batch of split frames. Heads and payloads are two bursts; a table says which frame has
/// which payload.
pub struct SplitBurst {
    heads: Burst<Cpu>,
    data: Burst<Device>,
    /// Per frame: index of its payload in `data`, or `NO_DATA`.
    at: [u16; Burst::<Cpu>::CAPACITY],
}

const NO_DATA: u16 = u16::MAX;

impl SplitBurst {
    /// An empty burst of the customary 32 frames.
    #[must_use]
    pub fn new(heads: &Pool<Cpu>, data: &Pool<Device>) -> Self {
        Self::with_limit(heads, data, Burst::<Cpu>::DEFAULT)
    }

    /// An empty burst of up to `limit` frames (at most [`Burst::CAPACITY`]).
    #[must_use]
    pub fn with_limit(heads: &Pool<Cpu>, data: &Pool<Device>, limit: usize) -> Self {
        Self {
            heads: Burst::with_limit(heads, limit),
            data: Burst::with_limit(data, limit),
            at: [NO_DATA; Burst::<Cpu>::CAPACITY],
        }
    }

    /// Frames in the burst.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Frames that may still be appended.
    #[must_use]
    pub fn room(&self) -> usize {
        self.heads.room()
    }

    /// Appends a frame.
    ///
    /// # Panics
    /// If the burst is full, or a buffer is of another pool.
    #[inline]
    pub fn push(&mut self, frame: Split) {
        let at = self.heads.len();
        self.heads.push(frame.head);
        self.at[at] = match frame.data {
            Some(data) => {
                self.data.push(data);
                u16::try_from(self.data.len() - 1).unwrap_or(NO_DATA)
            }
            None => NO_DATA,
        };
    }

    /// Appends frames in bulk: `fill` puts as many heads behind the others as payloads, in order.
    ///
    /// # Panics
    /// If it does not.
    #[inline(always)]
    pub fn push_pairs(&mut self, fill: impl FnOnce(&mut Burst<Cpu>, &mut Burst<Device>)) {
        let (heads, data) = (self.heads.len(), self.data.len());
        fill(&mut self.heads, &mut self.data);
        let more = self.heads.len() - heads;
        assert!(self.data.len() - data == more, "{more} heads need as many payloads");
        for (place, at) in self.at[heads..heads + more].iter_mut().zip(data..) {
            #[expect(clippy::cast_possible_truncation, reason = "below a burst's capacity, 512")]
            let at = at as u16;
            *place = at;
        }
    }

    /// The `index`-th frame.
    ///
    /// # Panics
    /// If there are fewer.
    #[inline]
    #[must_use]
    pub fn frame(&self, index: usize) -> SplitFrame<'_> {
        let head = self.heads.frame(index);
        let at = self.at[index];
        SplitFrame { head, data: (at != NO_DATA).then(|| self.data.frame(usize::from(at))) }
    }

    /// The frames, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = SplitFrame<'_>> {
        (0..self.len()).map(|index| self.frame(index))
    }

    /// Takes all frames out, in order; those not taken stay.
    pub fn drain(&mut self) -> impl Iterator<Item = Split> + '_ {
        let (frames, payloads) = (self.heads.len(), self.data.len());
        SplitDrain {
            heads: self.heads.drained(frames),
            data: self.data.drained(payloads),
            at: &mut self.at,
            frames,
            taken: 0,
            payloads_taken: 0,
        }
    }

    /// Takes the heads and payloads apart: what a receiver wants that frees all heads at once and
    /// keeps the payloads. Which payload belongs to which head is known only for as long as both
    /// are left as they are: empty both before the next frame is pushed.
    pub fn parts_mut(&mut self) -> (&mut Burst<Cpu>, &mut Burst<Device>) {
        (&mut self.heads, &mut self.data)
    }

    /// Frees all frames into the worker's caches.
    ///
    /// # Panics
    /// If the caches are of other pools.
    pub fn recycle(&mut self, cache: &mut SplitCache) {
        self.heads.recycle(&mut cache.heads);
        self.data.recycle(&mut cache.data);
    }
}

/// Both bursts' frames on their way out, and the table that has to follow them.
struct SplitDrain<'a> {
    heads: Drain<'a, Cpu>,
    data: Drain<'a, Device>,
    at: &'a mut [u16; Burst::<Cpu>::CAPACITY],
    frames: usize,
    taken: usize,
    payloads_taken: u16,
}

impl Iterator for SplitDrain<'_> {
    type Item = Split;

    fn next(&mut self) -> Option<Split> {
        let head = self.heads.next()?;
        // Payloads were pushed in the frames' order, so they come in it too.
        let data = if self.at[self.taken] == NO_DATA { None } else { self.data.next() };
        self.taken += 1;
        self.payloads_taken += u16::from(data.is_some());
        Some(Split { head, data })
    }
}

impl Drop for SplitDrain<'_> {
    fn drop(&mut self) {
        self.at.copy_within(self.taken..self.frames, 0);
        for at in &mut self.at[..self.frames - self.taken] {
            if *at != NO_DATA {
                *at = at.saturating_sub(self.payloads_taken);
            }
        }
    }
}
