//! Captures built byte by byte, as the formats' drafts say: an oracle that shares no code with the
//! reader.
#![allow(dead_code, reason = "each test target needs its own part")]

/// How numbers stand in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Little,
    Big,
}

pub(crate) use Order::{Big, Little};

impl Order {
    pub(crate) fn u16(self, value: u16) -> [u8; 2] {
        if self == Big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    pub(crate) fn u32(self, value: u32) -> [u8; 4] {
        if self == Big { value.to_be_bytes() } else { value.to_le_bytes() }
    }
}

/// The header of a classic capture.
pub(crate) fn header(order: Order, magic: u32, link: u32) -> Vec<u8> {
    let mut file = order.u32(magic).to_vec();
    file.extend(order.u16(2));
    file.extend(order.u16(4));
    for word in [0, 0, 65535, link] {
        file.extend(order.u32(word));
    }
    file
}

pub(crate) const MICRO: u32 = 0xa1b2_c3d4;
pub(crate) const NANO: u32 = 0xa1b2_3c4d;

/// A record of a classic capture.
pub(crate) fn record(
    order: Order,
    seconds: u32,
    fraction: u32,
    caplen: u32,
    len: u32,
    data: &[u8],
) -> Vec<u8> {
    let mut record: Vec<u8> =
        [seconds, fraction, caplen, len].into_iter().flat_map(|word| order.u32(word)).collect();
    record.extend(data);
    record
}

/// A classic capture of whole frames, one second apart, in microseconds.
pub(crate) fn classic(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = header(Little, MICRO, 1);
    for (at, frame) in (1..).zip(frames) {
        let len = u32::try_from(frame.len()).unwrap();
        file.extend(record(Little, at, 7, len, len, frame));
    }
    file
}

/// A block of a pcapng file.
pub(crate) fn block(order: Order, kind: u32, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len().next_multiple_of(4) + 12).unwrap();
    let mut block = order.u32(kind).to_vec();
    block.extend(order.u32(len));
    block.extend(body);
    block.resize(block.len().next_multiple_of(4), 0);
    block.extend(order.u32(len));
    block
}

/// A section header.
pub(crate) fn section(order: Order) -> Vec<u8> {
    let mut body = order.u32(0x1a2b_3c4d).to_vec();
    body.extend(order.u16(1));
    body.extend(order.u16(0));
    body.extend([0xff; 8]);
    block(order, 0x0a0d_0d0a, &body)
}

/// An option of a block.
pub(crate) fn option(order: Order, code: u16, value: &[u8]) -> Vec<u8> {
    let mut option = order.u16(code).to_vec();
    option.extend(order.u16(u16::try_from(value.len()).unwrap()));
    option.extend(value);
    option.resize(option.len().next_multiple_of(4), 0);
    option
}

/// An interface of a link type, with options.
pub(crate) fn interface(order: Order, link: u16, options: &[u8]) -> Vec<u8> {
    let mut body = order.u16(link).to_vec();
    body.extend([0, 0]);
    body.extend(order.u32(0));
    body.extend(options);
    block(order, 1, &body)
}

/// An enhanced packet, with options.
pub(crate) fn packet(
    order: Order,
    interface: u32,
    time: u64,
    len: u32,
    data: &[u8],
    options: &[u8],
) -> Vec<u8> {
    let caplen = u32::try_from(data.len()).unwrap();
    let (high, low) =
        (u32::try_from(time >> 32).unwrap(), u32::try_from(time & 0xffff_ffff).unwrap());
    let mut body: Vec<u8> =
        [interface, high, low, caplen, len].into_iter().flat_map(|word| order.u32(word)).collect();
    body.extend(data);
    body.resize(body.len().next_multiple_of(4), 0);
    body.extend(options);
    block(order, 6, &body)
}

/// A simple packet.
pub(crate) fn simple(order: Order, len: u32, data: &[u8]) -> Vec<u8> {
    let mut body = order.u32(len).to_vec();
    body.extend(data);
    block(order, 3, &body)
}

/// A pcapng file of one Ethernet interface and whole frames.
pub(crate) fn blocks(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = section(Little);
    file.extend(interface(Little, 1, &[]));
    for (at, frame) in (1..).zip(frames) {
        let len = u32::try_from(frame.len()).unwrap();
        file.extend(packet(Little, 0, at * 1_000_000 + 7, len, frame, &[]));
    }
    file
}

/// A UDP frame of `len` bytes in all, from a flow, with a number in its payload.
pub(crate) fn udp(flow: u16, number: u32, len: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    let total = u16::try_from(len - 14).unwrap().to_be_bytes();
    frame.extend([0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend(flow.to_be_bytes());
    frame.extend(9_u16.to_be_bytes());
    frame.extend(u16::try_from(len - 34).unwrap().to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(number.to_be_bytes());
    frame.resize(len, 0x5a);
    frame
}

/// Frames of these lengths, all of one flow.
pub(crate) fn frames(lengths: &[usize]) -> Vec<Vec<u8>> {
    (0..).zip(lengths).map(|(number, len)| udp(1000, number, *len)).collect()
}
