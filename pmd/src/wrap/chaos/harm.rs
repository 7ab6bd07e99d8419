//! What is done to the bytes of a frame: one bit changed, or the end cut off. By default only what lies
//! behind the headers and the memwire test header (24 bytes of the UDP or TCP payload), so that a
//! receiver that checks sums sees each harm as what it is and as nothing else.

use mempool::{Access, Buf, Cpu, Device, DeviceView, Offload, Split};

use super::{
    fate::below,
    plan::{Side, TEST_HEADER},
};
use crate::headers::{self, ethertype};

/// What flips and cuts leave alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spare {
    flip_skip: Option<usize>,
    truncate_skip: Option<usize>,
    truncate_len: Option<usize>,
}

impl Spare {
    pub(super) fn of(side: &Side) -> Self {
        let Side { flip_skip, truncate_skip, truncate_len, .. } = *side;
        Self { flip_skip, truncate_skip, truncate_len }
    }

    /// The bit to change in a frame of `len` bytes that begins with `start`: byte and mask. `None` if
    /// there is none that may be changed.
    pub(super) fn bit(&self, start: &[u8], len: usize, draw: u64) -> Option<(usize, u8)> {
        let (from, to) = match self.flip_skip {
            Some(skip) => (skip, len),
            None => open_to_harm(start, len)?,
        };
        // The upper bits choose the byte, the lowest the bit.
        (from < to).then(|| (from + below(draw, to - from), 1 << (draw & 7)))
    }

    /// What is left of a frame of `len` bytes that begins with `start`, of which `least` must be.
    /// `None` if nothing may be cut off.
    pub(super) fn cut(&self, start: &[u8], len: usize, draw: u64, least: usize) -> Option<usize> {
        if let Some(fixed) = self.truncate_len {
            return (fixed < len).then_some(fixed);
        }
        let (from, to) = match self.truncate_skip {
            Some(skip) => (skip, len),
            // A byte of payload is left: who splits frames still has one to split.
            None => open_to_harm(start, len).map(|(from, to)| (from + 1, to))?,
        };
        let from = from.max(least);
        (from < to).then(|| from + below(draw, to - from))
    }
}

/// From where to where a frame may be harmed: from behind the test header to the end of what IP says
/// it is (padding has no sum). `None` for what is not UDP or TCP.
fn open_to_harm(start: &[u8], len: usize) -> Option<(usize, usize)> {
    let layers = headers::layers(start)?;
    let from = layers.payload? + TEST_HEADER;
    let word = |at: usize| {
        let bytes = start.get(layers.network + at..layers.network + at + 2)?;
        Some(usize::from(u16::from_be_bytes([bytes[0], bytes[1]])))
    };
    let stated = match layers.ethertype {
        ethertype::IPV4 => word(2)?,
        // 0: a jumbogram, or not filled in.
        _ => word(4).map(|len| if len == 0 { 0 } else { len + 40 })?,
    };
    let end = if stated == 0 { len } else { len.min(layers.network + stated) };
    Some((from, end))
}

/// Changes one bit; false if none may be changed.
pub(super) fn flip(buf: &mut Buf<Cpu>, spare: &Spare, draw: u64) -> bool {
    let len = buf.frame().frame_len();
    let Some((at, bit)) = spare.bit(buf.bytes(), len, draw) else { return false };
    let flipped = at_byte(buf, at, &mut |segment, at| {
        segment.bytes_mut()[at] ^= bit;
        true
    });
    if flipped {
        distrust(buf);
    }
    flipped
}

/// Cuts the end off; false if nothing may be cut off.
pub(super) fn truncate(buf: &mut Buf<Cpu>, spare: &Spare, draw: u64) -> bool {
    let len = buf.frame().frame_len();
    let Some(left) = spare.cut(buf.bytes(), len, draw, 1) else { return false };
    let cut = cut_at(buf, left);
    distrust(buf);
    cut
}

/// As [`flip`], of a frame whose payload may be in device memory, by its provider's engine.
pub(super) fn flip_split(
    frame: &mut Split,
    spare: &Spare,
    draw: u64,
    view: &DeviceView,
    scratch: &mut [u8],
) -> bool {
    let head = frame.head.frame().frame_len();
    let payload = frame.data.as_ref().map_or(0, |data| data.frame().frame_len());
    let bit = spare.bit(frame.head.bytes(), head + payload, draw);
    let Some((at, bit)) = bit else { return false };
    let flipped = match &mut frame.data {
        Some(data) if at >= head => at_byte(data, at - head, &mut |segment, at| {
            // The engine copies from the payload's start on.
            let bytes = &mut scratch[..=at];
            let read = view.read(segment.frame(), bytes);
            bytes[at] ^= bit;
            read.is_ok() && view.write(&mut segment.frame_mut(), bytes).is_ok()
        }),
        _ => at_byte(&mut frame.head, at, &mut |segment, at| {
            segment.bytes_mut()[at] ^= bit;
            true
        }),
    };
    if flipped {
        distrust(&mut frame.head);
    }
    flipped
}

/// As [`truncate`], of a split frame; a payload of which nothing is left comes back.
pub(super) fn truncate_split(
    frame: &mut Split,
    spare: &Spare,
    draw: u64,
) -> (bool, Option<Buf<Device>>) {
    let head = frame.head.frame().frame_len();
    let payload = frame.data.as_ref().map_or(0, |data| data.frame().frame_len());
    // By default at least a byte of payload is left: the frame stays one with a payload.
    let least = if payload > 0 { head + 1 } else { 1 };
    let left = spare.cut(frame.head.bytes(), head + payload, draw, least);
    let Some(left) = left else { return (false, None) };
    distrust(&mut frame.head);
    match &mut frame.data {
        Some(data) if left > head => (cut_at(data, left - head), None),
        data => {
            let data = data.take();
            (left == head || cut_at(&mut frame.head, left), data)
        }
    }
}

/// Calls `change` with the segment that holds the frame's byte `at`, and where it stands there.
fn at_byte<A: Access>(
    buf: &mut Buf<A>,
    at: usize,
    change: &mut dyn FnMut(&mut Buf<A>, usize) -> bool,
) -> bool {
    let len = buf.len();
    if at < len {
        return change(buf, at);
    }
    let Some(mut rest) = buf.unchain() else { return false };
    let changed = at_byte(&mut rest, at - len, change);
    let whole = buf.chain(rest);
    debug_assert!(whole.is_ok(), "it was a chain before");
    changed
}

/// Keeps the first `left` bytes of a frame, at least one.
fn cut_at<A: Cuttable>(buf: &mut Buf<A>, left: usize) -> bool {
    let len = buf.len();
    if left <= len {
        drop(buf.unchain());
        A::set_len(buf, left);
        return true;
    }
    let Some(mut rest) = buf.unchain() else { return false };
    let cut = cut_at(&mut rest, left - len);
    let whole = buf.chain(rest);
    debug_assert!(whole.is_ok(), "it was a chain before");
    cut
}

/// Buffers whose length their owner sets.
trait Cuttable: Access + Sized {
    fn set_len(buf: &mut Buf<Self>, len: usize);
}

impl Cuttable for Cpu {
    fn set_len(buf: &mut Buf<Self>, len: usize) {
        buf.frame_mut().set_len(len);
    }
}

impl Cuttable for Device {
    fn set_len(buf: &mut Buf<Self>, len: usize) {
        buf.frame_mut().set_len(len);
    }
}

/// What hardware said of a sum holds no more: it would have found it wrong.
fn distrust(buf: &mut Buf<Cpu>) {
    let mut rx = buf.frame().meta().rx();
    if !rx.offload.has(Offload::RX_L4_CSUM_GOOD) {
        return;
    }
    let others = [
        Offload::RX_IP_CSUM_GOOD,
        Offload::RX_IP_CSUM_BAD,
        Offload::RX_VLAN_STRIPPED,
        Offload::RX_HASH,
        Offload::RX_TIMESTAMP,
        Offload::RX_TRUNCATED,
        Offload::RX_CSUM_PARTIAL,
    ];
    let kept = others.into_iter().filter(|bit| rx.offload.has(*bit));
    rx.offload = kept.fold(Offload::RX_L4_CSUM_BAD, Offload::with);
    buf.frame_mut().set_rx(&rx);
}

#[cfg(test)]
mod tests {
    use mempool::{Pool, heap::Heap};

    use super::*;

    /// A UDP frame over IPv4 with that payload, padded with `padding` bytes.
    fn udp(payload: usize, padding: usize) -> Vec<u8> {
        let mut bytes = vec![0; 12];
        let ip = u16::try_from(28 + payload).unwrap().to_be_bytes();
        bytes.extend([8, 0, 0x45, 0, ip[0], ip[1], 0, 0, 0, 0, 64, 17]);
        bytes.resize(42 + payload + padding, 0);
        bytes
    }

    const DEFAULT: Spare = Spare { flip_skip: None, truncate_skip: None, truncate_len: None };

    #[test]
    fn headers_the_test_header_and_padding_are_left_alone() {
        let bytes = udp(30, 10);
        for draw in (0..=64).map(|step: u64| step.saturating_mul(u64::MAX / 64)) {
            let (at, _) = DEFAULT.bit(&bytes, bytes.len(), draw).unwrap();
            assert!((66..72).contains(&at), "{at}");
            let left = DEFAULT.cut(&bytes, bytes.len(), draw, 1).unwrap();
            assert!((67..72).contains(&left), "{left}");
        }
        for short in [udp(24, 10), udp(3, 15), vec![0; 200], vec![0; 3]] {
            assert_eq!(DEFAULT.bit(&short, short.len(), 5), None);
            assert_eq!(DEFAULT.cut(&short, short.len(), 5, 1), None);
        }
    }

    #[test]
    fn who_says_where_may_harm_any_frame() {
        let spare = Spare { flip_skip: Some(0), truncate_skip: Some(14), truncate_len: None };
        assert_eq!(spare.bit(&[0; 20], 20, 0), Some((0, 1)));
        assert_eq!(spare.cut(&[0; 20], 20, u64::MAX, 1), Some(19));
        assert_eq!(spare.cut(&[0; 14], 14, 0, 1), None);
        let spare = Spare { truncate_len: Some(40), ..spare };
        assert_eq!(spare.cut(&[0; 60], 60, 7, 1), Some(40));
        assert_eq!(spare.cut(&[0; 40], 40, 7, 1), None);
    }

    /// The frame in segments of `segment` bytes.
    fn chain(pool: &Pool<Cpu>, bytes: &[u8], segment: usize) -> Buf<Cpu> {
        let mut cache = pool.cache();
        let mut parts = bytes.chunks(segment).map(|part| {
            let mut buf = cache.take_one().unwrap();
            assert!(buf.frame_mut().append(part));
            buf
        });
        let mut head = parts.next().unwrap();
        parts.for_each(|part| head.chain(part).unwrap());
        head
    }

    fn bytes_of(buf: &Buf<Cpu>) -> Vec<u8> {
        let mut bytes = vec![0; buf.frame().frame_len()];
        buf.frame().copy_to(&mut bytes);
        bytes
    }

    #[test]
    fn one_bit_is_flipped_and_one_end_is_cut_wherever_segments_end() {
        let pool: Pool<Cpu> =
            Pool::builder().slots(64).stride(2048).memory(&Heap::new()).build().unwrap();
        let bytes = udp(400, 0);
        for segment in [60, 66, 67, 100, 442, 1000] {
            for draw in (0..50).map(super::super::fate::mix) {
                let mut buf = chain(&pool, &bytes, segment);
                let segments = buf.frame().meta().segments();
                assert!(flip(&mut buf, &DEFAULT, draw));
                assert_eq!(buf.frame().meta().segments(), segments);
                let flipped = bytes_of(&buf);
                let bits = flipped.iter().zip(&bytes).map(|(a, b)| (a ^ b).count_ones());
                assert_eq!(bits.sum::<u32>(), 1);
                assert_eq!(flipped[..66], bytes[..66]);

                assert!(truncate(&mut buf, &DEFAULT, draw));
                let left = bytes_of(&buf);
                assert!((67..442).contains(&left.len()) && flipped.starts_with(&left));
                assert_eq!(buf.frame().meta().segments(), left.len().div_ceil(segment));
                assert_eq!(buf.frame().segments().count(), left.len().div_ceil(segment));
            }
        }
        assert!(pool.audit().is_home());
    }

    #[test]
    fn what_hardware_said_of_a_sum_is_taken_back() {
        let pool: Pool<Cpu> =
            Pool::builder().slots(64).stride(2048).memory(&Heap::new()).build().unwrap();
        let mut buf = chain(&pool, &udp(100, 0), 1000);
        let mut rx = buf.frame().meta().rx();
        rx.offload = Offload::RX_L4_CSUM_GOOD.with(Offload::RX_HASH);
        buf.frame_mut().set_rx(&rx);
        assert!(flip(&mut buf, &DEFAULT, 3));
        let now = buf.frame().meta().offload();
        assert!(now.has(Offload::RX_L4_CSUM_BAD.with(Offload::RX_HASH)));
        assert!(!now.has(Offload::RX_L4_CSUM_GOOD));
    }
}
