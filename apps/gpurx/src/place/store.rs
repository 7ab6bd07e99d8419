//! The buffers behind the slot numbers: every data buffer that is not posted, by slot.

use mempool::{Buf, Burst, Device, Frame, FrameMut, Pool};

use crate::errand::Extent;

/// Owns the pool's data buffers while they are with us, whatever the placement does with their
/// numbers.
pub struct Store {
    bufs: Vec<Option<Buf<Device>>>,
    /// Buffers on their way to the queue, in order.
    staged: Burst<Device>,
}

impl Store {
    /// Takes every free buffer of the pool.
    #[must_use]
    pub fn take_all(pool: &Pool<Device>) -> Self {
        let mut bufs: Vec<Option<Buf<Device>>> = Vec::new();
        bufs.resize_with(pool.slot_bound(), || None);
        let mut cache = pool.cache();
        while let Some(buf) = cache.take_one() {
            let at = buf.slot().index() as usize;
            bufs[at] = Some(buf);
        }
        Self { bufs, staged: Burst::new(pool) }
    }

    /// Takes the free buffers of one more area; returns how many.
    pub fn take_area(&mut self, area: Extent) -> usize {
        let mut cache = self.staged.pool().cache();
        let (mut others, mut taken) = (Vec::new(), 0);
        while let Some(buf) = cache.take_one() {
            let slot = buf.slot().index();
            if area.holds(slot) {
                self.bufs[slot as usize] = Some(buf);
                taken += 1;
            } else {
                // Of an area that has just come, and is not ours yet.
                others.push(buf);
            }
        }
        taken
    }

    /// Gives the buffers of an area back to the pool.
    pub fn give_area(&mut self, area: Extent) {
        self.bufs[area.first as usize..area.end() as usize].fill_with(|| None);
    }

    /// The pool that they are of.
    #[must_use]
    pub fn pool(&self) -> &Pool<Device> {
        self.staged.pool()
    }

    /// Numbers of the buffers that are here, ascending.
    #[must_use]
    pub fn slots(&self) -> Vec<u32> {
        self.bufs.iter().flatten().map(|buf| buf.slot().index()).collect()
    }

    /// The buffer of a slot that is here: not posted, not handed to anybody else.
    #[inline]
    #[must_use]
    pub fn frame(&self, slot: u32) -> Option<Frame<'_, Device>> {
        self.bufs.get(slot as usize)?.as_ref().map(Buf::frame)
    }

    /// The buffer of a slot that is here, to write.
    #[must_use]
    pub fn frame_mut(&mut self, slot: u32) -> Option<FrameMut<'_, Device>> {
        self.bufs.get_mut(slot as usize)?.as_mut().map(Buf::frame_mut)
    }

    /// Stages slots that `next` names, as many as a burst holds, and gives them to `post`, which says
    /// how many it took; what it leaves goes first the next time. Returns how many went.
    pub fn post(
        &mut self,
        mut next: impl FnMut() -> Option<u32>,
        mut post: impl FnMut(&mut Burst<Device>) -> usize,
    ) -> usize {
        let mut total = 0;
        loop {
            while self.staged.room() > 0 {
                let Some(buf) = next().and_then(|slot| self.bufs[slot as usize].take()) else {
                    break;
                };
                self.staged.push(buf);
            }
            let posted = if self.staged.is_empty() { 0 } else { post(&mut self.staged) };
            total += posted;
            if posted == 0 || !self.staged.is_empty() {
                return total;
            }
        }
    }

    /// Buffers came back with frames, or without.
    #[inline]
    pub fn put(&mut self, burst: &mut Burst<Device>) {
        let chained = burst.has_chains();
        for mut buf in burst.drain_front(burst.len()) {
            while chained && let Some(rest) = buf.unchain() {
                self.keep(buf);
                buf = rest;
            }
            self.keep(buf);
        }
    }

    #[inline]
    fn keep(&mut self, buf: Buf<Device>) {
        let at = buf.slot().index() as usize;
        self.bufs[at] = Some(buf);
    }
}
