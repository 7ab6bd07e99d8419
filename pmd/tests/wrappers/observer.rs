//! A sender of numbered, checksummed frames, and a receiver that finds out by them alone what has
//! happened on the way.

use std::collections::{BTreeSet, HashMap};

use mempool::{Burst, Cache, Cpu, DeviceView, SplitFrame};

/// Where the payload starts, and how long the test header in it is.
const PAYLOAD: usize = 42;
pub(crate) const HEADERS: usize = PAYLOAD + 24;

/// FNV-1a: changes with every single bit.
fn sum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// The frame of a number, `len` bytes long: at least [`HEADERS`].
pub(crate) fn frame(number: u64, len: usize) -> Vec<u8> {
    let ip = u16::try_from(len - 14).unwrap().to_be_bytes();
    let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, ip[0], ip[1]];
    bytes.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    bytes.extend([0x23, 0x28, 0x23, 0x29, 0, 0, 0, 0]);
    let first = number.to_le_bytes()[0].wrapping_mul(31);
    let payload: Vec<u8> =
        (HEADERS..len).map(|at| first.wrapping_add(at.to_le_bytes()[0])).collect();
    bytes.extend(*b"memw");
    bytes.extend(sum(&payload).to_be_bytes());
    bytes.extend(number.to_be_bytes());
    bytes.extend([0; 8]);
    bytes.extend(payload);
    bytes
}

/// Appends frames `from..to` to a burst, each in segments of `segment` bytes; stops where the burst or
/// the pool ends, and returns the number that is next.
pub(crate) fn make(
    burst: &mut Burst<Cpu>,
    cache: &mut Cache<Cpu>,
    (from, to): (u64, u64),
    len: usize,
    segment: usize,
) -> u64 {
    for number in from..to {
        if burst.room() == 0 {
            return number;
        }
        let bytes = frame(number, len);
        let mut parts = bytes.chunks(segment).map(|part| {
            let mut buf = cache.take_one()?;
            assert!(buf.frame_mut().append(part));
            Some(buf)
        });
        let Some(Some(mut head)) = parts.next() else { return number };
        for part in parts {
            let Some(part) = part else { return number };
            head.chain(part).unwrap();
        }
        burst.push(head);
    }
    to
}

/// What a receiver sees.
#[derive(Debug, Default)]
pub(crate) struct Observer {
    seen: BTreeSet<u64>,
    sound: BTreeSet<u64>,
    highest: Option<u64>,
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    pub(crate) dup: u64,
    pub(crate) reorder: u64,
    pub(crate) flip: u64,
    pub(crate) truncate: u64,
    /// Changes with everything that came, and its order.
    pub(crate) trace: u64,
}

impl Observer {
    pub(crate) fn burst(&mut self, burst: &Burst<Cpu>) {
        for frame in burst.iter() {
            let mut bytes = vec![0; frame.frame_len()];
            frame.copy_to(&mut bytes);
            self.frame(&bytes);
        }
    }

    pub(crate) fn split(&mut self, frame: SplitFrame<'_>, view: &DeviceView) {
        let mut bytes = frame.head.bytes().to_vec();
        for segment in frame.data.into_iter().flat_map(|data| data.segments()) {
            let at = bytes.len();
            bytes.resize(at + segment.len(), 0);
            view.read(segment, &mut bytes[at..]).unwrap();
        }
        self.frame(&bytes);
    }

    fn frame(&mut self, bytes: &[u8]) {
        self.frames += 1;
        self.bytes += bytes.len() as u64;
        self.trace = self.trace.rotate_left(7) ^ u64::from(sum(bytes)) ^ bytes.len() as u64;
        assert_eq!(&bytes[PAYLOAD..PAYLOAD + 4], b"memw", "the test header is spared");
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        let number = u64::from(word(PAYLOAD + 8)) << 32 | u64::from(word(PAYLOAD + 12));
        self.seen.insert(number);
        if bytes.len() < 14 + usize::from(u16::from_be_bytes([bytes[16], bytes[17]])) {
            self.truncate += 1;
            return;
        }
        if sum(&bytes[HEADERS..]) != word(PAYLOAD + 4) {
            self.flip += 1;
            return;
        }
        assert_eq!(bytes, frame(number, bytes.len()), "a sound frame is what was sent");
        if !self.sound.insert(number) {
            self.dup += 1;
        } else if self.highest.is_some_and(|highest| number < highest) {
            self.reorder += 1;
        }
        self.highest = self.highest.max(Some(number));
    }

    /// Frames of `sent` that never came.
    pub(crate) fn missing(&self, sent: u64) -> u64 {
        sent - self.seen.len() as u64
    }
}

/// What a port counted, by name.
pub(crate) fn counts(device: &dyn pmd::Device) -> HashMap<String, u64> {
    device.stats().2.into_iter().collect()
}

/// What a port says it injected, by kind; 0 for what was not planned.
pub(crate) struct Injected(HashMap<String, u64>, &'static str);

impl Injected {
    pub(crate) fn of(device: &dyn pmd::Device, direction: &'static str) -> Self {
        Self(counts(device), direction)
    }

    pub(crate) fn kind(&self, kind: &str) -> u64 {
        self.0.get(&format!("chaos_{}_{kind}", self.1)).copied().unwrap_or(0)
    }

    /// Frames that did not come, for whatever reason.
    pub(crate) fn lost(&self) -> u64 {
        ["drop", "exhaust", "down", "undelivered"].into_iter().map(|kind| self.kind(kind)).sum()
    }
}
