//! Where everything is in the words of a ring. Numbers only.
//!
//! ```text
//!   word 0         magic          1  version       2  words of all
//!        3         generation     4  entries       5  rows of an entry, at most
//!        6         slots          7  stride        8  bits of the number that a row begins with
//!   word 16        the return ring: a word per entry; 0, or a ticket
//!   word 16 + entries, up to a multiple of 16: the entries, each
//!        0         ticket
//!        1         sequence number of row 0
//!        2         rows | runs << 32
//!        3         1 + slot of row 0, if the block is a contiguous tensor, else 0
//!        4         bitmap of the rows that are there: row r is bit r % 64 of word r / 64
//!        ..        row map, two words a run: first row | first slot << 32, rows
//!        ..        a word per row: bytes | 1 << 31 if a CRC-32C follows | CRC-32C << 32
//! ```
//!
//! Bitmap, map and rows start where they do for the most rows there can be. A slot's bytes start at its
//! number times the stride, from where slot 0 of its area does.

use providers::SharedWords;

/// Of the words, and of the socket's messages.
pub const VERSION: u32 = 1;
/// Word 0, in the byte order of whoever wrote it.
pub const MAGIC: u64 = 0x6d65_6d77_6972_6572;

/// Words of the header, and what parts are aligned to: two cache lines.
const LINE: usize = 16;
/// Words that an entry begins with.
const FIXED: usize = 4;
/// Most words of a ring: 1 GiB.
const MOST: usize = 1 << 27;
/// Bit of a row's word that says that a CRC follows.
const HAS_CRC: u64 = 1 << 31;

/// One ring's sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Which ring of this program's run it is, from 1 on.
    pub generation: u16,
    /// Entries: a power of two, at most 2^15.
    pub entries: u32,
    /// Rows of a block, at most.
    pub rows: u32,
    /// Bound of the slots' numbers.
    pub slots: u32,
    /// Bytes from one slot to the next; a row is no longer.
    pub stride: u32,
    /// Bits of the sequence number that the test header of each row is held against; 0: rows begin with
    /// none.
    pub row_bits: u32,
}

/// A ring cannot be as it is described.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// It is none.
    #[error("no hand-over ring: word 0 is {0:#x}")]
    Magic(u64),
    /// It is of another version.
    #[error("version {theirs} of the hand-over ring; this program speaks version {VERSION}")]
    Version {
        /// Its version.
        theirs: u64,
    },
    /// A number is out of range.
    #[error("{what} of the hand-over ring is {value}: {should}")]
    Number {
        /// Which.
        what: &'static str,
        /// What it is.
        value: u64,
        /// What it should be.
        should: &'static str,
    },
    /// The file does not have the words that the numbers make.
    #[error("the hand-over ring has {has} words, its numbers make {needed}")]
    Size {
        /// Words there are.
        has: u64,
        /// Words that the numbers make.
        needed: u64,
    },
    /// The ring says other than the socket did.
    #[error(
        "the hand-over ring is not the one that was announced: {ring:?}, announced {announced:?}"
    )]
    Other {
        /// What its header says.
        ring: Box<Layout>,
        /// What the socket said.
        announced: Box<Layout>,
    },
}

impl Layout {
    /// The header's numbers, in order, from word 3 on.
    #[must_use]
    pub fn numbers(&self) -> [u64; 6] {
        let Self { generation, entries, rows, slots, stride, row_bits } = *self;
        [
            generation.into(),
            entries.into(),
            rows.into(),
            slots.into(),
            stride.into(),
            row_bits.into(),
        ]
    }

    /// From the numbers, checked.
    ///
    /// # Errors
    /// One is out of range, or they make a ring that is too large.
    pub fn of(numbers: [u64; 6]) -> Result<Self, LayoutError> {
        let wrong = |what, value, should| LayoutError::Number { what, value, should };
        let narrow = |what, value: u64, least: u32, most: u32, should| match u32::try_from(value) {
            Ok(number) if (least..=most).contains(&number) => Ok(number),
            _ => Err(wrong(what, value, should)),
        };
        let [generation, entries, rows, slots, stride, row_bits] = numbers;
        let layout = Self {
            generation: u16::try_from(generation)
                .ok()
                .filter(|number| *number > 0)
                .ok_or(wrong("the generation", generation, "1 to 65535"))?,
            entries: narrow("the number of entries", entries, 1, 1 << 15, "1 to 32768")?,
            rows: narrow("the number of rows", rows, 1, 1 << 24, "1 to 2^24")?,
            slots: narrow("the number of slots", slots, 1, u32::MAX, "1 to 2^32 - 1")?,
            stride: narrow("the stride", stride, 1, 1 << 30, "1 to 2^30")?,
            row_bits: narrow("the number of bits", row_bits, 0, 63, "0 to 63")?,
        };
        if !layout.entries.is_power_of_two() {
            return Err(wrong("the number of entries", entries, "a power of two"));
        }
        if layout.words() > MOST {
            return Err(wrong("the number of rows", rows, "fewer: a ring has 1 GiB at most"));
        }
        Ok(layout)
    }

    /// Words of the bitmap.
    #[must_use]
    pub fn bitmap_words(&self) -> usize {
        (self.rows as usize).div_ceil(64)
    }

    fn entry_words(&self) -> usize {
        (FIXED + self.bitmap_words() + 3 * self.rows as usize).next_multiple_of(LINE)
    }

    fn entries_at(&self) -> usize {
        LINE + (self.entries as usize).next_multiple_of(LINE)
    }

    /// Words of the ring.
    #[must_use]
    pub fn words(&self) -> usize {
        self.entries_at() + self.entries as usize * self.entry_words()
    }

    /// Index of the return ring's cell for return number `count`.
    #[inline]
    #[must_use]
    pub fn cell(&self, count: u32) -> usize {
        LINE + (count & (self.entries - 1)) as usize
    }

    /// Index of a serial's entry: of its ticket.
    #[inline]
    #[must_use]
    pub fn entry(&self, serial: u32) -> usize {
        self.entries_at() + (serial & (self.entries - 1)) as usize * self.entry_words()
    }

    /// Index of the entry's bitmap, from its ticket on.
    #[must_use]
    pub fn bitmap_at(&self) -> usize {
        FIXED
    }

    /// Index of the entry's row map.
    #[must_use]
    pub fn map_at(&self) -> usize {
        FIXED + self.bitmap_words()
    }

    /// Index of the words of its rows.
    #[must_use]
    pub fn rows_at(&self) -> usize {
        self.map_at() + 2 * self.rows as usize
    }

    /// The ticket of a serial.
    #[inline]
    #[must_use]
    pub fn ticket(&self, serial: u32) -> Ticket {
        #[expect(clippy::cast_possible_truncation, reason = "entries are 2^15 at most")]
        let entry = (serial & (self.entries - 1)) as u16;
        Ticket { entry, generation: self.generation, serial }
    }

    /// Writes the header.
    pub fn write(&self, words: &SharedWords) {
        let head = [MAGIC, VERSION.into(), self.words() as u64];
        for (at, word) in head.into_iter().chain(self.numbers()).enumerate() {
            words.store(at, word);
        }
    }

    /// Reads and checks the header, each word once.
    ///
    /// # Errors
    /// These words are no ring of this version, or not as many as the header makes.
    pub fn read(words: &SharedWords) -> Result<Self, LayoutError> {
        let has = words.count() as u64;
        if words.count() < LINE {
            return Err(LayoutError::Size { has, needed: LINE as u64 });
        }
        let head: [u64; 9] = std::array::from_fn(|at| words.load(at));
        let [magic, version, total, numbers @ ..] = head;
        if magic != MAGIC {
            return Err(LayoutError::Magic(magic));
        }
        if version != u64::from(VERSION) {
            return Err(LayoutError::Version { theirs: version });
        }
        let layout = Self::of(numbers)?;
        let needed = layout.words() as u64;
        // A file has whole pages.
        if has < needed || total != needed {
            return Err(LayoutError::Size { has: has.min(total), needed });
        }
        Ok(layout)
    }
}

/// Names a block that is shown. As a word it is never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// Entry of the ring.
    pub entry: u16,
    /// Of the ring.
    pub generation: u16,
    /// Of the block, from 0 on; after 2^32 blocks again.
    pub serial: u32,
}

impl Ticket {
    /// As a word.
    #[inline]
    #[must_use]
    pub fn word(self) -> u64 {
        u64::from(self.entry) << 48 | u64::from(self.generation) << 32 | u64::from(self.serial)
    }

    /// Any word is one.
    #[inline]
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "a word's parts")]
    pub fn of(word: u64) -> Self {
        Self { entry: (word >> 48) as u16, generation: (word >> 32) as u16, serial: word as u32 }
    }
}

/// A row's word: its bytes, and its CRC if there is one.
#[inline]
pub(super) fn row_word(len: u32, crc: Option<u32>) -> u64 {
    u64::from(len) | crc.map_or(0, |crc| HAS_CRC | u64::from(crc) << 32)
}

/// What a row's word says.
#[inline]
pub(super) fn row_of(word: u64) -> (u32, Option<u32>) {
    let has_crc = word & HAS_CRC != 0;
    ((word & (HAS_CRC - 1)) as u32, has_crc.then_some((word >> 32) as u32))
}

/// Two halves of a word.
#[inline]
pub(super) fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// The halves again.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "a word's parts")]
pub(super) fn halves(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) const LAYOUT: Layout =
        Layout { generation: 3, entries: 16, rows: 100, slots: 2048, stride: 2048, row_bits: 0 };

    #[test]
    fn parts_do_not_overlap_and_begin_with_a_cache_line() {
        for entries in [1, 2, 16, 64] {
            let layout = Layout { entries, ..LAYOUT };
            assert_eq!(layout.bitmap_words(), 2);
            assert_eq!((layout.bitmap_at(), layout.map_at(), layout.rows_at()), (4, 6, 206));
            assert!(layout.cell(entries - 1) < layout.entry(0));
            for serial in 1..entries {
                let before = layout.entry(serial - 1);
                assert!(before + layout.rows_at() + 100 <= layout.entry(serial));
                assert_eq!(before % LINE, 0);
            }
            assert!(layout.entry(entries - 1) + layout.rows_at() + 100 <= layout.words());
            assert_eq!(layout.entry(entries), layout.entry(0));
            assert_eq!(layout.cell(entries), layout.cell(0));
        }
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let words = SharedWords::create("ring", LAYOUT.words()).unwrap();
        LAYOUT.write(&words);
        assert_eq!(Layout::read(&words), Ok(LAYOUT));
    }

    #[test]
    fn a_header_that_cannot_be_is_refused_in_words() {
        let says = |at: usize, value: u64| {
            let words = SharedWords::create("ring", LAYOUT.words()).unwrap();
            LAYOUT.write(&words);
            words.store(at, value);
            Layout::read(&words).unwrap_err().to_string()
        };
        assert_eq!(says(0, 5), "no hand-over ring: word 0 is 0x5");
        let version = "version 2 of the hand-over ring; this program speaks version 1";
        assert_eq!(says(1, 2), version);
        let needed = LAYOUT.words();
        assert_eq!(
            says(2, 9),
            format!("the hand-over ring has 9 words, its numbers make {needed}")
        );
        assert_eq!(says(3, 0), "the generation of the hand-over ring is 0: 1 to 65535");
        assert!(says(4, 12).ends_with("entries of the hand-over ring is 12: a power of two"));
        assert!(says(4, 1 << 40).ends_with("1 to 32768"));
        assert!(says(5, 1 << 24).ends_with("1 GiB at most"));
        assert!(says(5, 300).contains("its numbers make"), "more rows than there is room for");
        assert!(says(7, 0).starts_with("the stride"));
        assert!(says(8, 64).starts_with("the number of bits"));
        let short = SharedWords::create("ring", 8).unwrap();
        assert!(Layout::read(&short).unwrap_err().to_string().contains("has 8 words"));
    }

    #[test]
    fn tickets_and_rows_are_words_and_back() {
        let ticket = LAYOUT.ticket(0x1_0013);
        assert_eq!(ticket, Ticket { entry: 3, generation: 3, serial: 0x1_0013 });
        assert_eq!(Ticket::of(ticket.word()), ticket);
        for (len, crc) in [(0, None), (1 << 30, Some(0)), (64, Some(u32::MAX)), (1500, None)] {
            assert_eq!(row_of(row_word(len, crc)), (len, crc));
        }
        assert_eq!(halves(pair(7, u32::MAX)), (7, u32::MAX));
    }
}
