//! The transmit queue of both chips.

use mempool::{Access, Buf, Burst, Cache, Cpu, Frame, Pool, Readable, Shared};

use super::{
    fate::{Fate, decide},
    marks::{Mark, Marks},
    tag,
};
use crate::{
    DmaMapper, DropReason, MapError, QueueCounters, TxQueue,
    copy::copy_frame,
    e1000::{
        descriptor::transmit::{LAST, REPORT, Request, SHORTEST, TxFormat},
        held::{Ledger, Mapping},
        ring::{Doorbell, Report, Ring, Short, Wiring},
    },
    pci::Mmio,
};

/// Frames between two reports within one call; each call's last frame reports.
const REPORT_EVERY: usize = 32;
/// Pieces of a frame that are sent from where they lie; frames of more are copied together.
const MOST_PIECES: usize = 32;

/// A transmit queue.
pub(in crate::e1000) struct Tx<F: TxFormat, M: Mmio, D: DmaMapper> {
    ring: Ring<Short>,
    doorbell: Doorbell<M>,
    /// Frames by number, modulo the ring: a frame takes a descriptor at least.
    own: Ledger<Cpu>,
    shared: Ledger<Shared>,
    mapping: Mapping<Cpu, D>,
    /// The next descriptor to write, and the first that may not be done; both run free.
    next: usize,
    done: usize,
    /// The second word of the last descriptor written, to ask for a report in.
    last_word: (u64, u64),
    /// Frames sent, and frames that came home; they run free.
    sent: Counts,
    home: Counts,
    marks: Marks,
    /// Where the last mark was set.
    marked: usize,
    /// The context descriptor that the device has.
    context: Option<[u64; 2]>,
    max_frame: usize,
    /// Whether the device inserts tags; if not, the queue does.
    device_tags: bool,
    /// Frames on their way home; empty between calls.
    stock: Burst<Cpu>,
    shared_stock: Burst<Shared>,
    report: Report,
    format: std::marker::PhantomData<F>,
}

/// Frames of the queue's own buffers, and of shared ones.
#[derive(Clone, Copy, Default)]
struct Counts {
    own: usize,
    shared: usize,
}

/// What became of the frame at the front of a burst.
enum Offered {
    /// Its descriptors are written: it goes into the ledger.
    Written(usize),
    /// A copy is under way: it can be freed.
    Copied(usize),
    /// It was thrown away, and counted: it can be freed.
    Refused,
    /// There is no room now.
    Full,
}

impl<F: TxFormat, M: Mmio, D: DmaMapper> Tx<F, M, D> {
    /// A queue that has sent nothing. `max_frame` is the longest frame, in bytes without FCS and
    /// without a tag that is inserted.
    ///
    /// # Errors
    /// The pool's memory cannot be mapped for the device.
    pub(in crate::e1000) fn new(
        wiring: Wiring<M>,
        max_frame: usize,
        pool: &Pool<Cpu>,
        mapper: D,
    ) -> Result<Self, MapError> {
        assert!((SHORTEST..=F::LONGEST_PIECE).contains(&max_frame), "frames of {max_frame} B");
        let (count, gate) = (wiring.descriptors, wiring.gate.clone());
        let (ring, doorbell, report) = wiring.split::<Short>(1);
        let origin = ring.origin();
        let mut shared_stock = Burst::of_shared(pool);
        shared_stock.set_limit(Burst::<Shared>::CAPACITY);
        let counts = Counts { own: origin, shared: origin };
        Ok(Self {
            ring,
            doorbell,
            own: Ledger::new(pool, count, gate.clone()),
            shared: Ledger::new(shared_stock.pool(), count, gate.clone()),
            mapping: Mapping::new(pool, mapper, gate)?,
            next: origin,
            done: origin,
            last_word: (0, 0),
            sent: counts,
            home: counts,
            marks: Marks::new(count),
            marked: origin,
            context: None,
            max_frame,
            device_tags: true,
            stock: Burst::with_limit(pool, Burst::<Cpu>::CAPACITY),
            shared_stock,
            report,
            format: std::marker::PhantomData,
        })
    }

    /// The same of a device that was not told to insert tags.
    pub(in crate::e1000) fn without_device_tags(mut self) -> Self {
        self.device_tags = false;
        self
    }

    /// Descriptors that may be written: one stays free, or a full ring would look empty.
    #[inline(always)]
    fn room(&self) -> usize {
        self.ring.count() - 1 - self.next.wrapping_sub(self.done)
    }

    #[inline(always)]
    fn write(&mut self, address: u64, word: u64) {
        self.ring.at(self.next).store([address, word]);
        self.last_word = (address, word);
        self.next = self.next.wrapping_add(1);
    }

    /// Asks for a report with the last descriptor.
    #[inline(always)]
    fn mark(&mut self) {
        let (address, word) = self.last_word;
        self.ring.at(self.next.wrapping_sub(1)).store([address, word | REPORT]);
        let Counts { own, shared } = self.sent;
        self.marks.push(Mark { next: self.next, own, shared });
        self.marked = self.next;
    }

    /// Sends frames of one plain buffer from the front of the burst, as far as they are such and there
    /// is room, [`REPORT_EVERY`] at most; returns how many, and their bytes.
    #[inline(always)]
    fn send_plain(&mut self, burst: &mut Burst<Cpu>) -> (usize, usize) {
        let most = burst.len().min(self.room()).min(REPORT_EVERY);
        let run = self.ring.run(self.next, most);
        let (mut known, span) = (self.mapping.known(), self.max_frame - SHORTEST);
        let (mut count, mut bytes, mut last) = (0, 0, (0, 0));
        for (to, (meta, place)) in run.iter().zip(burst.places()) {
            let len = meta.len();
            if len.wrapping_sub(SHORTEST) > span || meta.asks() {
                break;
            }
            let Some(iova) = known.iova(place) else { break };
            last = (iova.0, F::plain(len) | LAST | len as u64);
            to.store([last.0, last.1]);
            count += 1;
            bytes += len;
        }
        if count > 0 {
            self.next = self.next.wrapping_add(count);
            self.last_word = last;
            self.own.post(self.ring.place(self.sent.own), burst, count);
            self.sent.own = self.sent.own.wrapping_add(count);
            self.mark();
        }
        (count, bytes)
    }

    /// Writes the descriptors of a frame, for which there is room; false, and nothing done, if the
    /// device cannot reach it.
    fn write_frame<A: Access>(&mut self, frame: Frame<'_, A>, request: Request) -> bool {
        let start = self.next;
        let context = request.context.filter(|context| self.context != Some(*context));
        if let Some([low, high]) = context {
            self.write(low, high);
        }
        for piece in frame.segments().filter(|piece| !piece.is_empty()) {
            let Some(iova) = self.mapping.iova(piece.place()) else {
                self.next = start;
                return false;
            };
            self.write(iova.0, request.data | piece.len() as u64);
        }
        self.context = context.or(self.context);
        let (address, word) = self.last_word;
        self.next = self.next.wrapping_sub(1);
        self.write(address, word | LAST);
        true
    }

    /// Tries to send a frame that may be anything, from where it lies or, if `copy` says so or it has to
    /// be, from a copy.
    fn offer<A: Readable>(
        &mut self,
        cache: &mut Cache<Cpu>,
        frame: Frame<'_, A>,
        copy: bool,
    ) -> Offered {
        let most = MOST_PIECES.min(self.ring.count() / 2);
        let copy = copy || !self.device_tags && tag::is_asked(frame.meta());
        match decide::<F, A>(frame, self.max_frame, most) {
            Fate::Dropped(reason) => self.refuse(reason),
            Fate::Sent { request, pieces, len } if !copy => {
                // A context, if there is one.
                if pieces + 1 > self.room() {
                    Offered::Full
                } else if self.write_frame(frame, request) {
                    Offered::Written(len)
                } else {
                    self.refuse(DropReason::SendError)
                }
            }
            Fate::Sent { len, .. } | Fate::Copied { len } => self.offer_copy(cache, frame, len),
        }
    }

    fn offer_copy<A: Readable>(
        &mut self,
        cache: &mut Cache<Cpu>,
        frame: Frame<'_, A>,
        len: usize,
    ) -> Offered {
        let tagged = !self.device_tags && tag::is_asked(frame.meta());
        let bytes = if tagged { tag::of(frame.meta()) } else { [0; tag::LEN] };
        let inserted = if tagged { &bytes[..] } else { &[] };
        let len = len + inserted.len();
        let most = len.div_ceil(self.own.pool().room()) + 1;
        if most >= self.ring.count() || !cache.pool().is_same(self.own.pool()) {
            return self.refuse(DropReason::SendError);
        }
        if most > self.room() {
            return Offered::Full;
        }
        let nothing = mempool::RxMeta::default();
        let copied = if tagged {
            let Some(parts) = tag::parts(frame, inserted) else {
                return self.refuse(DropReason::SendError);
            };
            copy_frame(cache, len, parts, &nothing)
        } else {
            copy_frame(cache, len, frame.segments().map(Frame::bytes), &nothing)
        };
        let Ok(mut copy) = copied else {
            return Offered::Full;
        };
        let padding = SHORTEST.saturating_sub(len);
        if !copy.frame_mut().append(&[0; SHORTEST][..padding]) {
            return self.refuse(DropReason::SendError);
        }
        if tagged {
            tag::ask_the_rest(&mut copy.frame_mut(), frame.meta());
        } else if frame.meta().asks() {
            copy.frame_mut().ask(&frame.meta().tx());
        }
        let most_bytes = self.max_frame + inserted.len();
        let fate = decide::<F, Cpu>(copy.frame(), most_bytes, most);
        let Fate::Sent { request, .. } = fate else {
            return self.refuse(DropReason::SendError);
        };
        if !self.write_frame(copy.frame(), request) {
            return self.refuse(DropReason::SendError);
        }
        self.keep_own(copy);
        Offered::Copied(len - inserted.len())
    }

    #[cold]
    fn refuse(&mut self, reason: DropReason) -> Offered {
        self.report.counters.dropped(reason, 1);
        Offered::Refused
    }

    /// Puts a frame whose descriptors are written into the ledger.
    fn keep_own(&mut self, frame: Buf<Cpu>) {
        keep(&mut self.own, self.ring.place(self.sent.own), frame);
        self.sent.own = self.sent.own.wrapping_add(1);
    }

    fn keep_shared(&mut self, frame: Buf<Shared>) {
        keep(&mut self.shared, self.ring.place(self.sent.shared), frame);
        self.sent.shared = self.sent.shared.wrapping_add(1);
    }

    /// Sends frames that may be anything; returns how many it took. `keep` puts one into its ledger.
    fn send_any<A: Readable>(
        &mut self,
        cache: &mut Cache<Cpu>,
        burst: &mut Burst<A>,
        keep: fn(&mut Self, Buf<A>),
    ) -> usize {
        let is_foreign = !burst.pool().is_same(self.own.pool());
        let (mut taken, mut sent, mut bytes) = (0, 0, 0);
        while !burst.is_empty() {
            let offered = self.offer(cache, burst.frame(0), is_foreign);
            if matches!(offered, Offered::Full) {
                break;
            }
            let mut front = burst.drain_front(1);
            let Some(frame) = front.next() else { break };
            taken += 1;
            match offered {
                Offered::Written(len) => {
                    keep(self, frame);
                    (sent, bytes) = (sent + 1, bytes + len);
                }
                Offered::Copied(len) => (sent, bytes) = (sent + 1, bytes + len),
                Offered::Refused | Offered::Full => {}
            }
            if sent % REPORT_EVERY == 0 && self.marked != self.next {
                self.mark();
            }
        }
        if self.marked != self.next {
            self.mark();
        }
        if sent > 0 {
            self.report.counters.delivered(sent, bytes);
        }
        taken
    }

    /// Brings frames home that were reported; returns how many. `any` looks past reports that are
    /// missing.
    #[inline(always)]
    fn bring_home(&mut self, cache: &mut Cache<Cpu>, any: bool) -> usize {
        let mut newest = self.marks.take(&self.ring);
        if newest.is_none() && any {
            newest = self.marks.take_any(&self.ring);
        }
        newest.map_or(0, |mark| self.bring_home_to(cache, mark))
    }

    #[inline(always)]
    fn bring_home_to(&mut self, cache: &mut Cache<Cpu>, mark: Mark) -> usize {
        let own = mark.own.wrapping_sub(self.home.own);
        let shared = mark.shared.wrapping_sub(self.home.shared);
        let is_ours = cache.pool().is_same(self.own.pool());
        let mut left = own;
        while left > 0 {
            let at = self.ring.place(self.home.own);
            let count = self.own.complete_into(at, left, &mut self.stock);
            if is_ours {
                self.stock.recycle(cache);
            } else {
                self.stock.drain_front(count).for_each(drop);
            }
            if count == 0 {
                break;
            }
            self.home.own = self.home.own.wrapping_add(count);
            left -= count;
        }
        if shared > 0 {
            self.bring_shared_home(cache, shared, is_ours);
        }
        self.done = mark.next;
        own + shared
    }

    #[cold]
    fn bring_shared_home(&mut self, cache: &mut Cache<Cpu>, mut left: usize, is_ours: bool) {
        while left > 0 {
            let at = self.ring.place(self.home.shared);
            let count = self.shared.complete_into(at, left, &mut self.shared_stock);
            if is_ours {
                self.shared_stock.release(cache);
            } else {
                self.shared_stock.drain_front(count).for_each(drop);
            }
            if count == 0 {
                break;
            }
            self.home.shared = self.home.shared.wrapping_add(count);
            left -= count;
        }
    }

    /// Makes room for `want` frames if reports allow.
    #[inline(always)]
    fn make_room(&mut self, cache: &mut Cache<Cpu>, want: usize) {
        self.bring_home(cache, false);
        if self.room() < want {
            self.bring_home(cache, true);
        }
    }

    /// Hands what was written to the device.
    #[inline(always)]
    fn hand_over(&mut self, before: usize) {
        if self.next != before {
            self.doorbell.ring(self.ring.place(self.next));
        }
    }
}

/// Posts one frame where the queue knows room. Should there be none, its descriptors are written: it is
/// lost rather than freed.
fn keep<A: Access>(ledger: &mut Ledger<A>, place: usize, frame: Buf<A>) {
    if let Err(lost) = ledger.post_one(place, frame) {
        debug_assert!(false, "a frame's place is free once its descriptors are");
        std::mem::forget(lost);
    }
}

impl<F: TxFormat, M: Mmio, D: DmaMapper> TxQueue for Tx<F, M, D> {
    fn send(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize {
        if burst.is_empty() || !self.report.gate.is_live() {
            return 0;
        }
        self.make_room(cache, burst.len());
        let before = self.next;
        let (mut taken, mut bytes) = (0, 0);
        if !burst.has_chains() && burst.pool().is_same(self.own.pool()) {
            loop {
                let (count, sum) = self.send_plain(burst);
                (taken, bytes) = (taken + count, bytes + sum);
                if count == 0 {
                    break;
                }
            }
            if taken > 0 {
                self.report.counters.delivered(taken, bytes);
            }
        }
        if !burst.is_empty() && self.room() > 0 {
            taken += self.send_any(cache, burst, Self::keep_own);
        }
        self.hand_over(before);
        taken
    }

    fn send_shared(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Shared>) -> usize {
        if burst.is_empty() || !self.report.gate.is_live() {
            return 0;
        }
        self.make_room(cache, burst.len());
        let before = self.next;
        let taken = self.send_any(cache, burst, Self::keep_shared);
        self.hand_over(before);
        taken
    }

    fn reap(&mut self, cache: &mut Cache<Cpu>) -> usize {
        if !self.report.gate.is_live() {
            return 0;
        }
        self.bring_home(cache, true)
    }

    fn in_flight(&self) -> usize {
        self.own.len() + self.shared.len()
    }

    fn counters(&self) -> &QueueCounters {
        &self.report.counters
    }
}
