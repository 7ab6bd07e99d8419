//! A bounded tape of frames from a worker to whoever writes them: the worker copies and never waits; what
//! does not fit is the worker's to count. One end writes, one end reads; knows no file.
//!
//! The tape is a ring of 64-bit words that both ends may touch at any time: atomics, so that neither
//! end can break the other, and no unsafe code is needed. An entry is three words and the bytes of the
//! frame, in words.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use crossbeam_utils::CachePadded;

use super::{Direction, Packet};

/// Words of an entry before its bytes.
const HEAD: usize = 3;
const WORD: usize = size_of::<u64>();

struct Ring {
    words: Box<[AtomicU64]>,
    /// Words ever written; masked where they are used.
    head: CachePadded<AtomicUsize>,
    /// Words ever read.
    tail: CachePadded<AtomicUsize>,
}

/// The end that frames come in at.
pub struct TapeWriter {
    ring: Arc<Ring>,
    /// Where the next entry goes: past what the other end knows of, until [`TapeWriter::commit`].
    head: usize,
    /// The other end's place, as last seen.
    tail: usize,
}

/// The end that frames come out at.
pub struct TapeReader {
    ring: Arc<Ring>,
    tail: usize,
    /// This end's copy of the other's place.
    head: usize,
    bytes: Vec<u8>,
}

/// A place on a tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(usize);

/// A frame on a tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Which interface, when, how long it was.
    pub packet: Packet,
    /// Which way it went.
    pub direction: Option<Direction>,
    /// What was kept of it.
    pub bytes: &'a [u8],
}

/// A tape of `bytes`, rounded up to a power of two, at least 4 KiB.
#[must_use]
pub fn tape(bytes: usize) -> (TapeWriter, TapeReader) {
    let count = (bytes.max(4096) / WORD).next_power_of_two();
    let words = std::iter::repeat_with(AtomicU64::default).take(count).collect();
    let ring = Arc::new(Ring { words, head: CachePadded::default(), tail: CachePadded::default() });
    let writer = TapeWriter { ring: Arc::clone(&ring), head: 0, tail: 0 };
    (writer, TapeReader { ring, tail: 0, head: 0, bytes: Vec::new() })
}

impl TapeWriter {
    /// Appends a frame, of which at most `snaplen` bytes are kept; false, and nothing done, if there is
    /// no room. The other end sees it after [`TapeWriter::commit`].
    #[inline]
    pub fn push<'p>(
        &mut self,
        packet: &Packet,
        direction: Option<Direction>,
        snaplen: usize,
        parts: impl Iterator<Item = &'p [u8]>,
    ) -> bool {
        let captured = packet.captured.min(snaplen);
        let need = HEAD + captured.div_ceil(WORD);
        if !self.has_room(need) {
            return false;
        }
        let way = match direction {
            None => 0_u64,
            Some(Direction::Inbound) => 1,
            Some(Direction::Outbound) => 2,
        };
        // Lengths of frames are far below 2^32; so is the number of interfaces below 2^30.
        self.put(0, (captured as u64) << 32 | packet.len as u64 & 0xffff_ffff);
        self.put(1, u64::from(packet.interface) << 2 | way);
        self.put(2, packet.timestamp);
        let mut at = HEAD;
        let (mut word, mut have, mut left) = ([0; WORD], 0, captured);
        for part in parts {
            let mut part = &part[..part.len().min(left)];
            left -= part.len();
            // Fill up a word that the part before began, then go by words.
            if have > 0 {
                let count = (WORD - have).min(part.len());
                word[have..have + count].copy_from_slice(&part[..count]);
                (have, part) = (have + count, &part[count..]);
                if have < WORD {
                    continue;
                }
                self.put(at, u64::from_ne_bytes(word));
                at += 1;
            }
            let (words, rest) = part.as_chunks::<WORD>();
            for word in words {
                self.put(at, u64::from_ne_bytes(*word));
                at += 1;
            }
            word[..rest.len()].copy_from_slice(rest);
            have = rest.len();
        }
        assert!(left == 0, "a frame of {} B came {left} B short", packet.captured);
        if have > 0 {
            self.put(at, u64::from_ne_bytes(word));
        }
        self.head = self.head.wrapping_add(need);
        true
    }

    /// Shows the other end what was appended; once per burst.
    #[inline]
    pub fn commit(&mut self) {
        // Release: the words are there before the place is.
        self.ring.head.store(self.head, Ordering::Release);
    }

    #[inline]
    fn has_room(&mut self, need: usize) -> bool {
        let count = self.ring.words.len();
        if count - self.head.wrapping_sub(self.tail) < need {
            // Acquire: the words were read before the place was given free.
            self.tail = self.ring.tail.load(Ordering::Acquire);
        }
        count - self.head.wrapping_sub(self.tail) >= need
    }

    #[inline(always)]
    fn put(&self, at: usize, word: u64) {
        let mask = self.ring.words.len() - 1;
        // Relaxed: `commit` orders it.
        self.ring.words[self.head.wrapping_add(at) & mask].store(word, Ordering::Relaxed);
    }

    /// Where the tape is, before [`TapeWriter::commit`]: for [`TapeWriter::rewind`].
    #[inline]
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark(self.head)
    }

    /// Takes back what was appended since `mark`, which is younger than the last commit.
    #[inline]
    pub fn rewind(&mut self, mark: Mark) {
        self.head = mark.0;
    }
}

impl TapeReader {
    /// When the next frame was, if there is one.
    #[inline]
    pub fn peek(&mut self) -> Option<u64> {
        if self.head == self.tail {
            // Acquire: pairs with `commit`.
            self.head = self.ring.head.load(Ordering::Acquire);
        }
        (self.head != self.tail).then(|| self.word(2))
    }

    /// Takes the next frame off the tape, if there is one.
    pub fn pull(&mut self) -> Option<Entry<'_>> {
        self.peek()?;
        let (lens, kind, timestamp) = (self.word(0), self.word(1), self.word(2));
        // Both halves fit: they were written from lengths.
        let half = |half: u64| usize::try_from(half).unwrap_or(0);
        let (captured, len) = (half(lens >> 32), half(lens & 0xffff_ffff));
        let words = captured.div_ceil(WORD);
        self.bytes.clear();
        for at in HEAD..HEAD + words {
            let word = self.word(at);
            self.bytes.extend_from_slice(&word.to_ne_bytes());
        }
        self.bytes.truncate(captured);
        self.tail = self.tail.wrapping_add(HEAD + words);
        // Release: these words were read before the other end may write them again.
        self.ring.tail.store(self.tail, Ordering::Release);
        let direction = match kind & 3 {
            1 => Some(Direction::Inbound),
            2 => Some(Direction::Outbound),
            _ => None,
        };
        let interface = u32::try_from(kind >> 2).unwrap_or(u32::MAX);
        Some(Entry {
            packet: Packet { interface, timestamp, len, captured },
            direction,
            bytes: &self.bytes,
        })
    }

    /// Whether the other end is gone; what it left is still there.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        Arc::strong_count(&self.ring) == 1
    }

    #[inline(always)]
    fn word(&self, at: usize) -> u64 {
        let mask = self.ring.words.len() - 1;
        self.ring.words[self.tail.wrapping_add(at) & mask].load(Ordering::Relaxed)
    }
}

/// The next frame of several tapes: the earliest of those that are first on theirs.
pub fn pull_earliest(tapes: &mut [TapeReader]) -> Option<Entry<'_>> {
    let first = tapes.iter_mut().enumerate().filter_map(|(at, tape)| Some((tape.peek()?, at)));
    let (_, at) = first.min()?;
    tapes[at].pull()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(timestamp: u64, len: usize) -> Packet {
        Packet::whole(3, timestamp, len)
    }

    fn frame(number: usize) -> Vec<u8> {
        (0..number * 7 % 300).map(|at| (at + number).to_le_bytes()[0]).collect()
    }

    #[test]
    fn frames_in_several_parts_come_out_whole_or_cut() {
        let (mut writer, mut reader) = tape(4096);
        let bytes: Vec<u8> = (0..100).collect();
        for cuts in [vec![], vec![1], vec![8, 9, 10], vec![3, 50, 97], (0..100).collect()] {
            for snaplen in [1, 7, 8, 60, 100, 200] {
                let mut parts = Vec::new();
                let mut from = 0;
                for cut in &cuts {
                    parts.push(&bytes[from..*cut]);
                    from = *cut;
                }
                parts.push(&bytes[from..]);
                let pushed = writer.push(
                    &packet(5, 100),
                    Some(Direction::Outbound),
                    snaplen,
                    parts.into_iter(),
                );
                assert!(pushed);
                assert!(reader.pull().is_none(), "not shown yet");
                writer.commit();
                let entry = reader.pull().unwrap();
                assert_eq!(
                    (entry.packet, entry.direction),
                    (
                        Packet { captured: snaplen.min(100), ..packet(5, 100) },
                        Some(Direction::Outbound)
                    )
                );
                assert_eq!(entry.bytes, &bytes[..snaplen.min(100)]);
            }
        }
    }

    #[test]
    fn a_full_tape_takes_nothing_and_loses_nothing() {
        let (mut writer, mut reader) = tape(4096);
        let (mut pushed, mut pulled) = (0, 0);
        for round in 0..1000 {
            while writer.push(
                &packet(pushed as u64, frame(pushed).len()),
                None,
                1 << 18,
                [frame(pushed).as_slice()].into_iter(),
            ) {
                pushed += 1;
            }
            writer.commit();
            for _ in 0..=round % 11 {
                if let Some(entry) = reader.pull() {
                    assert_eq!(entry.packet.timestamp, pulled as u64);
                    assert_eq!(entry.bytes, frame(pulled));
                    pulled += 1;
                }
            }
        }
        assert!(pulled > 4000 && pushed > pulled);
    }

    #[test]
    fn two_threads_agree_about_every_frame() {
        let (mut writer, mut reader) = tape(8192);
        let sender = std::thread::spawn(move || {
            let mut sent = 0;
            for number in 0..50_000_usize {
                let bytes = frame(number);
                sent += usize::from(writer.push(
                    &packet(number as u64, bytes.len()),
                    None,
                    1 << 18,
                    [bytes.as_slice()].into_iter(),
                ));
                if number % 5 == 0 {
                    writer.commit();
                }
            }
            writer.commit();
            sent
        });
        let mut got = 0;
        loop {
            let is_last = reader.has_ended();
            while let Some(entry) = reader.pull() {
                let number = usize::try_from(entry.packet.timestamp).unwrap();
                assert_eq!(entry.bytes, frame(number));
                got += 1;
            }
            if is_last {
                break;
            }
            std::thread::yield_now();
        }
        assert_eq!(got, sender.join().unwrap());
    }

    #[test]
    fn tapes_are_merged_by_time() {
        let (mut a, from_a) = tape(4096);
        let (mut b, from_b) = tape(4096);
        for time in [1, 4, 5] {
            assert!(a.push(&packet(time, 0), None, 64, std::iter::empty()));
        }
        for time in [2, 3, 6] {
            assert!(b.push(&packet(time, 0), None, 64, std::iter::empty()));
        }
        a.commit();
        b.commit();
        let mut tapes = [from_a, from_b];
        let times: Vec<_> =
            std::iter::from_fn(|| pull_earliest(&mut tapes).map(|entry| entry.packet.timestamp))
                .collect();
        assert_eq!(times, [1, 2, 3, 4, 5, 6]);
    }
}
