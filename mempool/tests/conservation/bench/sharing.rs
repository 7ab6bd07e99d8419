//! Frames that several may read.

use super::{Bench, Slots};

impl Bench {
    pub(super) fn share(&mut self, at: usize) {
        let Some((buf, slots)) = self.pick(at) else { return };
        self.shared.push(buf.share().expect("the pool is shareable"));
        self.model_shared.push(slots);
    }

    pub(super) fn references(&self, slots: &Slots) -> usize {
        let in_bursts = self.model_shared_bursts.iter().flatten();
        self.model_shared.iter().chain(in_bursts).filter(|other| *other == slots).count()
    }

    pub(super) fn clone_shared(&mut self, at: usize) {
        let Some(at) = at.checked_rem(self.shared.len()) else { return };
        self.shared.push(self.shared[at].clone());
        self.model_shared.push(self.model_shared[at].clone());
    }

    pub(super) fn unshare(&mut self, at: usize) {
        let Some(at) = at.checked_rem(self.shared.len()) else { return };
        let slots = self.model_shared[at].clone();
        let references = self.references(&slots);
        let shared = self.shared.swap_remove(at);
        assert_eq!(shared.references(), references);
        self.model_shared.swap_remove(at);
        match shared.unshare() {
            Ok(buf) => {
                assert_eq!(references, 1, "unshared while others read");
                self.keep(buf, slots);
            }
            Err(shared) => {
                assert_ne!(references, 1, "the only reference could not be unshared");
                self.shared.push(shared);
                self.model_shared.push(slots);
            }
        }
    }

    pub(super) fn drop_shared(&mut self, at: usize) {
        let Some(at) = at.checked_rem(self.shared.len()) else { return };
        drop(self.shared.swap_remove(at));
        let slots = self.model_shared.swap_remove(at);
        if self.references(&slots) == 0 {
            self.model.put_strays(&slots);
        }
    }

    /// Shares a burst, then clones it into the other shared burst.
    pub(super) fn share_burst(&mut self, from: usize, to: usize) {
        let to = to & 1;
        let expected = self.bursts[from].len().min(self.shared_bursts[to].room());
        let moved = self.shared_bursts[to].share_from(&mut self.bursts[from]);
        assert_eq!(moved, Ok(expected), "shared");
        let frames: Vec<_> = self.model_bursts[from].drain(..expected).collect();
        self.model_shared_bursts[to].extend(frames);
        let [first, second] = &mut self.shared_bursts;
        let (source, copies) = if to == 0 { (first, second) } else { (second, first) };
        let expected = source.len().min(copies.room());
        assert_eq!(source.clone_into(copies), expected, "cloned");
        let frames = self.model_shared_bursts[to][..expected].to_vec();
        self.model_shared_bursts[1 - to].extend(frames);
    }

    pub(super) fn release(&mut self, cache: usize, from: usize) {
        let to = self.caches[cache].as_mut().expect("chosen by `step`");
        self.shared_bursts[from].release(to);
        while !self.model_shared_bursts[from].is_empty() {
            let slots = self.model_shared_bursts[from].remove(0);
            if self.references(&slots) == 0 {
                self.model.give(cache, &slots);
            }
        }
    }
}
