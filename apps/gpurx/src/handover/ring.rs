//! Our side of a ring: blocks are written into entries, returns are read out of cells. What the words say
//! decides nothing; the books do.

use providers::SharedWords;

use super::{
    Books, Layout,
    books::Refusals,
    layout::{pair, row_word},
};
use crate::{consumer::BlockView, place::BlockId};

/// A ring that a consumer has mapped.
#[derive(Debug)]
pub struct Ring {
    words: SharedWords,
    layout: Layout,
    books: Books,
    /// Cells read so far.
    returns: u32,
}

impl Ring {
    /// A fresh ring of that layout, whose header is written.
    #[must_use]
    pub fn new(words: SharedWords, layout: Layout) -> Self {
        Self { words, layout, books: Books::new(layout), returns: 0 }
    }

    /// What is out.
    #[must_use]
    pub fn books(&self) -> &Books {
        &self.books
    }

    /// The same, to count what is late and to strike out what is left.
    pub fn books_mut(&mut self) -> &mut Books {
        &mut self.books
    }

    /// Shows a block; false if its entry is not free.
    pub fn show(&mut self, id: BlockId, block: &BlockView<'_>, now: u64) -> bool {
        let present: u32 = block.map().iter().map(|run| run.len).sum();
        let Some(ticket) = self.books.show(id, present, now) else { return false };
        let (words, layout) = (&self.words, &self.layout);
        let at = layout.entry(ticket.serial);
        words.store(at + 1, block.base_seq());
        #[expect(clippy::cast_possible_truncation, reason = "a run has a row at least")]
        words.store(at + 2, pair(block.rows(), block.map().len() as u32));
        words.store(at + 3, block.tensor().map_or(0, |slot| u64::from(slot) + 1));
        for (word, bits) in (at + layout.bitmap_at()..).zip(block.bitmap()) {
            words.store(word, *bits);
        }
        let (map, rows) = (at + layout.map_at(), at + layout.rows_at());
        for (index, run) in block.map().iter().enumerate() {
            words.store(map + 2 * index, pair(run.first_row, run.first_slot));
            words.store(map + 2 * index + 1, run.len.into());
            for row in run.first_row..run.first_row + run.len {
                let info = block.info(row);
                words.store(rows + row as usize, row_word(info.len, info.crc));
            }
        }
        // Release: the entry, and the rows that the device had written before their frames were
        // delivered to us, come before the ticket.
        words.release(at, ticket.word());
        true
    }

    /// The next block that the consumer has returned. Words that name none are counted; of those, so
    /// many are read at a time as there are cells.
    #[inline]
    pub fn take_back(&mut self, refusals: &mut Refusals) -> Option<BlockId> {
        for _ in 0..self.layout.entries {
            let cell = self.layout.cell(self.returns);
            // Acquire: the consumer has read its last row by then. Read once: it may write on.
            let word = self.words.acquire(cell);
            if word == 0 {
                return None;
            }
            self.words.store(cell, 0);
            self.returns = self.returns.wrapping_add(1);
            match self.books.take_back(word) {
                Ok(id) => return Some(id),
                Err(why) => refusals.add(why),
            }
        }
        None
    }
}
