//! A fixed window over a byte stream that counts how far it has come. Knows no capture format; its
//! one allocation is made when it is.

use std::io::{self, ErrorKind, Read};

/// Bytes of the window: more than any block that is read in one piece.
pub(super) const WINDOW: usize = 512 << 10;

/// What asking for bytes came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fill {
    /// They are all there.
    Ready,
    /// The stream ended; this many are there.
    Ended(usize),
    /// The stream has no more just now.
    Pending,
}

/// A window over `source`.
pub(super) struct Window<R> {
    source: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Offset in the stream of the byte at `start`.
    offset: u64,
    ended: bool,
}

impl<R: Read> Window<R> {
    pub(super) fn new(source: R) -> Self {
        let buffer = vec![0; WINDOW].into_boxed_slice();
        Self { source, buffer, start: 0, end: 0, offset: 0, ended: false }
    }

    /// Offset in the stream of the next byte.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The bytes that are there.
    #[inline(always)]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Sees to it that the next `count` bytes are there. At most [`WINDOW`].
    #[inline(always)]
    pub(super) fn need(&mut self, count: usize) -> io::Result<Fill> {
        if self.end - self.start >= count { Ok(Fill::Ready) } else { self.fill(count) }
    }

    #[cold]
    #[inline(never)]
    fn fill(&mut self, count: usize) -> io::Result<Fill> {
        debug_assert!(count <= WINDOW, "{count} B asked of a window of {WINDOW} B");
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        while self.end < count {
            if self.ended {
                return Ok(Fill::Ended(self.end));
            }
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.ended = true,
                Ok(more) => self.end += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Fill::Pending),
                Err(error) => return Err(error),
            }
        }
        Ok(Fill::Ready)
    }

    /// Goes `count` bytes further; they are there.
    #[inline(always)]
    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
        self.offset += count as u64;
    }

    /// Goes `*left` bytes further, counting it down, whether they are there yet or not.
    pub(super) fn skip(&mut self, left: &mut u64) -> io::Result<Fill> {
        while *left > 0 {
            match self.need(1)? {
                Fill::Ready => {}
                other => return Ok(other),
            }
            let there = self.end - self.start;
            let count = usize::try_from(*left).map_or(there, |left| left.min(there));
            self.consume(count);
            *left -= count as u64;
        }
        Ok(Fill::Ready)
    }
}
