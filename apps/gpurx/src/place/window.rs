//! From sequence numbers to rows of open blocks, and when a block is handed over. Numbers only.

use std::collections::VecDeque;

use super::{BlockId, Geometry, block::Block};

/// Rows that may be missing in a row before a frame ahead is doubted.
const HORIZON: u64 = 1 << 24;
/// Numbers from here on are no counter that started in this century.
const ABSURD: u64 = 1 << 62;
/// Closed blocks that are remembered, to tell a copy from a latecomer.
const HISTORY: usize = 4;

/// What became of the sequence numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Blocks handed over with every row of a whole block.
    pub complete: u64,
    /// Blocks handed over with rows missing, or cut at their deadline.
    pub partial: u64,
    /// Rows in blocks handed over.
    pub rows: u64,
    /// Rows that had not come when their block was handed over.
    pub missing: u64,
    /// Frames placed although a later one had come before.
    pub reordered: u64,
    /// Frames dropped: their row was there already.
    pub duplicate: u64,
    /// Frames dropped: their block was handed over without them.
    pub late: u64,
    /// Frames dropped: their number is far from all others.
    pub jump: u64,
    /// Times the stream was taken up at another number: its sender restarted.
    pub resyncs: u64,
    /// Rows moved for a contiguous consumer.
    pub rows_moved: u64,
    /// Blocks that were moved whole, to the spare run.
    pub relocated: u64,
}

/// Where a sequence number belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spot {
    Row(BlockId, u32),
    Duplicate,
    Late,
    Jump,
}

/// The stream once its first frame has come. Blocks lie on a grid of `rows` numbers from `origin`
/// on; one that is cut at its deadline leaves the rest of its grid cell to another.
#[derive(Clone, Copy, Debug)]
struct Stream {
    origin: u64,
    /// Grid cell of the front of `open`.
    front: u64,
    /// Everything below is handed over.
    floor: u64,
    /// One more than the highest number seen.
    next: u64,
}

#[derive(Clone, Debug, Default)]
struct Closed {
    start: u64,
    len: u32,
    bitmap: Vec<u64>,
}

#[derive(Clone, Debug)]
pub(super) struct Window {
    rows: u32,
    depth: u64,
    deadline: u64,
    start_hint: Option<u64>,
    stream: Option<Stream>,
    /// Number that would prove that the stream has jumped.
    expected: Option<u64>,
    blocks: Vec<Block>,
    unused: Vec<BlockId>,
    open: VecDeque<Option<BlockId>>,
    /// The block that got the last row.
    hot: Option<BlockId>,
    pub(super) ready: VecDeque<BlockId>,
    history: VecDeque<Closed>,
    pub(super) counters: Counters,
}

impl Window {
    pub(super) fn new(geometry: &Geometry) -> Self {
        let Geometry { rows, window, deadline, origin, kept, .. } = *geometry;
        let count = 2 * window + 1 + 2 * kept;
        let closed = Closed { bitmap: vec![0; (rows as usize).div_ceil(64)], ..Closed::default() };
        Self {
            rows,
            depth: u64::from(window),
            deadline,
            start_hint: origin,
            stream: None,
            expected: None,
            blocks: (0..count).map(|_| Block::new(rows)).collect(),
            unused: (0..count).rev().map(BlockId).collect(),
            open: VecDeque::with_capacity(usize::from(window) + 1),
            hot: None,
            ready: VecDeque::with_capacity(usize::from(count)),
            history: vec![closed; HISTORY].into(),
            counters: Counters::default(),
        }
    }

    pub(super) fn block(&self, id: BlockId) -> &Block {
        &self.blocks[usize::from(id.0)]
    }

    pub(super) fn block_mut(&mut self, id: BlockId) -> &mut Block {
        &mut self.blocks[usize::from(id.0)]
    }

    /// The row of its block that a frame will be which comes after `others` others.
    pub(super) fn row_after(&self, others: u32) -> u32 {
        let ahead = self.stream.map_or(0, |stream| stream.next.wrapping_sub(stream.origin));
        #[expect(clippy::cast_possible_truncation, reason = "less than `rows`")]
        let row = (ahead.wrapping_add(u64::from(others)) % u64::from(self.rows)) as u32;
        row
    }

    /// Finds the row of a number, opening its block and closing those it leaves behind.
    #[inline]
    pub(super) fn locate(&mut self, seq: u64, now: u64) -> Spot {
        if let Some(id) = self.hot {
            let block = self.block(id);
            let row = seq.wrapping_sub(block.start);
            if row < u64::from(block.len) {
                #[expect(clippy::cast_possible_truncation, reason = "less than a u32")]
                return Spot::Row(id, row as u32);
            }
        }
        self.locate_slow(seq, now)
    }

    fn locate_slow(&mut self, seq: u64, now: u64) -> Spot {
        if seq >= ABSURD {
            return Spot::Jump;
        }
        let rows = u64::from(self.rows);
        let back = (self.depth + 2) * rows;
        let stream = match self.stream {
            Some(stream) => stream,
            None => {
                let near = |origin: &u64| seq.checked_sub(*origin).is_some_and(|far| far < back);
                self.begin(self.start_hint.filter(near).unwrap_or(seq))
            }
        };
        let behind = stream.floor.checked_sub(seq).is_some_and(|far| far > back);
        let ahead = seq.checked_sub(stream.next).is_some_and(|far| far >= HORIZON);
        let stream = if behind || ahead {
            // RFC 3550 appendix A.1: two in a row prove that the sender has restarted.
            if self.expected != Some(seq) {
                self.expected = Some(seq.wrapping_add(1));
                return Spot::Jump;
            }
            self.flush();
            self.counters.resyncs += 1;
            self.history.iter_mut().for_each(|closed| closed.len = 0);
            self.begin(seq)
        } else {
            stream
        };
        if seq < stream.floor {
            return self.past(seq);
        }
        let cell = (seq - stream.origin) / rows;
        let front = self.advance(cell);
        #[expect(clippy::cast_possible_truncation, reason = "less than the window's depth")]
        let at = (cell - front) as usize;
        if self.open.len() <= at {
            self.open.resize(at + 1, None);
        }
        let id = match self.open[at] {
            Some(id) => id,
            None => self.open_block(at, now),
        };
        self.hot = Some(id);
        #[expect(clippy::cast_possible_truncation, reason = "less than `rows`")]
        Spot::Row(id, (seq - self.block(id).start) as u32)
    }

    fn begin(&mut self, origin: u64) -> Stream {
        let stream = Stream { origin, front: 0, floor: origin, next: origin };
        self.expected = None;
        *self.stream.insert(stream)
    }

    /// A row was put in its place.
    #[inline]
    pub(super) fn placed(&mut self, id: BlockId, seq: u64) {
        if let Some(stream) = &mut self.stream {
            if seq >= stream.next {
                stream.next = seq + 1;
            } else if seq + 1 < stream.next {
                self.counters.reordered += 1;
            }
        }
        let block = self.block(id);
        if block.present == block.len {
            self.close_complete();
        }
    }

    /// Closes blocks from the front until `cell` lies in the window; returns the front's cell.
    fn advance(&mut self, cell: u64) -> u64 {
        loop {
            let Some(stream) = self.stream else { return cell };
            if cell - stream.front < self.depth {
                return stream.front;
            }
            if self.open.is_empty() {
                // Nothing is open: skip to where the cell is the window's last.
                let front = cell + 1 - self.depth;
                let floor = stream.origin + front * u64::from(self.rows);
                self.counters.missing += floor - stream.floor;
                self.stream = Some(Stream { front, floor, ..stream });
            } else {
                self.close_front();
                self.close_complete();
            }
        }
    }

    fn open_block(&mut self, at: usize, now: u64) -> BlockId {
        let Stream { origin, front, floor, .. } = self.stream.unwrap_or_else(|| self.begin(0));
        let cell = origin + (front + at as u64) * u64::from(self.rows);
        let start = cell.max(floor);
        let id = self.unused.pop().unwrap_or_else(|| {
            // Only if the caller leaves ready blocks lying about.
            self.blocks.push(Block::new(self.rows));
            BlockId(u16::try_from(self.blocks.len() - 1).expect("fewer than 65,536 blocks"))
        });
        #[expect(clippy::cast_possible_truncation, reason = "at most `rows`")]
        let len = (cell + u64::from(self.rows) - start) as u32;
        self.block_mut(id).open(start, len, now);
        self.open[at] = Some(id);
        id
    }

    fn close_complete(&mut self) {
        while let Some(Some(id)) = self.open.front() {
            let block = self.block(*id);
            if block.present < block.len {
                break;
            }
            self.close_front();
        }
    }

    /// Hands the front cell over, or skips it if nothing of it came. The last open block is cut
    /// behind the highest number seen if `cut` says so.
    fn close_front(&mut self) {
        self.close(false);
    }

    fn close(&mut self, cut: bool) {
        let (Some(mut stream), Some(front)) = (self.stream, self.open.pop_front()) else { return };
        let mut end = stream.origin + (stream.front + 1) * u64::from(self.rows);
        if cut && stream.next < end {
            end = stream.next;
        } else {
            stream.front += 1;
        }
        match front {
            Some(id) => self.hand_over(id, end),
            None => self.counters.missing += end - stream.floor,
        }
        stream.floor = end;
        self.stream = Some(stream);
    }

    fn hand_over(&mut self, id: BlockId, end: u64) {
        if self.hot == Some(id) {
            self.hot = None;
        }
        let rows = self.rows;
        let block = &mut self.blocks[usize::from(id.0)];
        #[expect(clippy::cast_possible_truncation, reason = "at most `rows`")]
        let len = (end - block.start) as u32;
        block.len = len;
        block.draw_map();
        let (present, start) = (block.present, block.start);
        if let Some(mut closed) = self.history.pop_front() {
            (closed.start, closed.len) = (start, len);
            closed.bitmap.copy_from_slice(block.words());
            self.history.push_back(closed);
        }
        let counters = &mut self.counters;
        counters.rows += u64::from(present);
        counters.missing += u64::from(len - present);
        *(if present == rows { &mut counters.complete } else { &mut counters.partial }) += 1;
        self.ready.push_back(id);
    }

    /// A number below the floor: a copy of a row handed over, or one that comes too late.
    fn past(&mut self, seq: u64) -> Spot {
        for closed in &mut self.history {
            let row = seq.wrapping_sub(closed.start);
            if row < u64::from(closed.len) {
                #[expect(clippy::cast_possible_truncation, reason = "less than a u32")]
                let (word, bit) = (row as usize / 64, 1 << (row % 64));
                let seen = closed.bitmap[word] & bit != 0;
                closed.bitmap[word] |= bit;
                return if seen { Spot::Duplicate } else { Spot::Late };
            }
        }
        Spot::Late
    }

    /// Hands over what has waited until its deadline, and everything before it.
    pub(super) fn expire(&mut self, now: u64) {
        let due = |id: &Option<BlockId>| {
            id.is_some_and(|id| now.saturating_sub(self.block(id).first_at) >= self.deadline)
        };
        if let Some(last) = self.open.iter().rposition(due) {
            for _ in 0..=last {
                self.close(self.open.len() == 1);
            }
            self.close_complete();
        }
    }

    /// Hands over everything: the stream ends here.
    pub(super) fn flush(&mut self) {
        while !self.open.is_empty() {
            self.close(self.open.len() == 1);
        }
    }

    /// Takes a block back.
    pub(super) fn recycle(&mut self, id: BlockId) {
        self.unused.push(id);
    }
}
