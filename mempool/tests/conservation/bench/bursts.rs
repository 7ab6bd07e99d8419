//! Frames in bursts and in chains.

use mempool::Burst;

use super::Bench;

impl Bench {
    pub(super) fn drop_burst(&mut self, which: usize) {
        let limit = self.bursts[which].len() + self.bursts[which].room();
        self.bursts[which] = Burst::with_limit(&self.pool, limit);
        let frames = std::mem::take(&mut self.model_bursts[which]);
        self.model.put_strays(&frames.concat());
    }

    pub(super) fn push(&mut self, to: usize, at: usize) {
        if self.bursts[to].room() == 0 {
            return;
        }
        let Some((buf, slots)) = self.pick(at) else { return };
        self.bursts[to].push(buf);
        self.model_bursts[to].push(slots);
    }

    pub(super) fn pop(&mut self, from: usize) {
        let slots = self.model_bursts[from].pop();
        let buf = self.bursts[from].pop();
        assert_eq!(buf.is_some(), slots.is_some(), "popped");
        if let (Some(buf), Some(slots)) = (buf, slots) {
            self.keep(buf, slots);
        }
    }

    pub(super) fn swap_remove(&mut self, from: usize, at: usize) {
        let Some(at) = at.checked_rem(self.bursts[from].len()) else { return };
        let buf = self.bursts[from].swap_remove(at);
        let slots = self.model_bursts[from].swap_remove(at);
        self.keep(buf, slots);
    }

    pub(super) fn append_front(&mut self, to: usize, count: usize) {
        let [first, second] = &mut self.bursts;
        let (to_burst, from_burst) = if to == 0 { (first, second) } else { (second, first) };
        let expected = count.min(from_burst.len()).min(to_burst.room());
        assert_eq!(to_burst.append_front(from_burst, count), expected, "appended");
        let moved: Vec<_> = self.model_bursts[1 - to].drain(..expected).collect();
        self.model_bursts[to].extend(moved);
    }

    /// Takes some of the first frames out and lets go of the iterator, by drop or by `forget`.
    pub(super) fn drain_front(&mut self, from: usize, count: usize, take: usize) {
        let count = count % (self.bursts[from].len() + 1);
        let take = take % (count + 1);
        let mut drain = self.bursts[from].drain_front(count);
        let taken: Vec<_> = drain.by_ref().take(take).collect();
        drop(drain);
        let slots: Vec<_> = self.model_bursts[from].drain(..take).collect();
        taken.into_iter().zip(slots).for_each(|(buf, slots)| self.keep(buf, slots));
    }

    pub(super) fn chain(&mut self, a: usize, b: usize) {
        if self.bufs.len() < 2 {
            return;
        }
        let picked = self.pick(a).zip(self.pick(b));
        let Some(((mut head, mut slots), (tail, more))) = picked else { return };
        head.chain(tail).expect("short chains of one pool");
        slots.extend(more);
        self.keep(head, slots);
    }

    pub(super) fn unchain(&mut self, at: usize) {
        let Some((mut head, mut slots)) = self.pick(at) else { return };
        let rest = slots.split_off(1);
        let tail = head.unchain();
        assert_eq!(tail.is_some(), !rest.is_empty(), "unchained");
        if let Some(tail) = tail {
            self.keep(tail, rest);
        }
        self.keep(head, slots);
    }
}
