//! What the chips see in a frame: where headers end, whether checksums are right. Written for the models
//! from the RFCs, apart from what drivers and apps use, so that two readings can disagree.

/// Network header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Net {
    V4,
    V6,
}

/// Transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Udp,
    Other,
}

/// A frame that carries IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ip {
    pub(super) net: Net,
    /// First byte of the IP header.
    pub(super) at: usize,
    /// First byte behind the IP header and its extensions.
    pub(super) end: usize,
    /// First byte behind the packet; the rest is padding. The frame's end where the header's length is
    /// wrong.
    pub(super) packet_end: usize,
    /// Whether the header's length can be right.
    pub(super) has_length: bool,
    pub(super) fragment: bool,
    /// IPv4 options, or IPv6 extension headers.
    pub(super) extended: bool,
    pub(super) transport: Transport,
    /// First byte behind the transport header, where one is whole.
    pub(super) transport_end: Option<usize>,
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// The tag of a frame that has one of this type (VET, usually 0x8100).
pub(super) fn vlan_tag(frame: &[u8], vet: u16) -> Option<u16> {
    (be16(frame, 12)? == vet).then(|| be16(frame, 14)).flatten()
}

/// The frame's IP headers, if it has any that are whole.
pub(super) fn ip(frame: &[u8], vet: u16) -> Option<Ip> {
    let at = if vlan_tag(frame, vet).is_some() { 18 } else { 14 };
    match be16(frame, at - 2)? {
        0x0800 => ipv4(frame, at),
        0x86dd => ipv6(frame, at),
        _ => None,
    }
}

fn ipv4(frame: &[u8], at: usize) -> Option<Ip> {
    let first = *frame.get(at)?;
    let header = usize::from(first & 15) * 4;
    let total = usize::from(be16(frame, at + 2)?);
    if first >> 4 != 4 || header < 20 || at + header > frame.len() {
        return None;
    }
    let has_length = total >= header && at + total <= frame.len();
    // More fragments, or a fragment offset (RFC 791).
    let fragment = be16(frame, at + 6)? & 0x3fff != 0;
    let ip = Ip {
        net: Net::V4,
        at,
        end: at + header,
        packet_end: if has_length { at + total } else { frame.len() },
        has_length,
        fragment,
        extended: header > 20,
        transport: Transport::Other,
        transport_end: None,
    };
    Some(ip.with_transport(frame, frame[at + 9]))
}

fn ipv6(frame: &[u8], at: usize) -> Option<Ip> {
    let payload = usize::from(be16(frame, at + 4)?);
    if frame.get(at)? >> 4 != 6 || at + 40 > frame.len() {
        return None;
    }
    let has_length = at + 40 + payload <= frame.len();
    let packet_end = if has_length { at + 40 + payload } else { frame.len() };
    let (mut end, mut next, mut fragment) = (at + 40, frame[at + 6], false);
    // Hop by hop, routing, fragment, destination options (RFC 8200 §4).
    while let (0 | 43 | 44 | 60, true) = (next, end + 8 <= packet_end) {
        let units = if next == 44 { 0 } else { usize::from(frame[end + 1]) };
        fragment |= next == 44;
        next = frame[end];
        end += 8 + 8 * units;
    }
    let ip = Ip {
        net: Net::V6,
        at,
        end,
        packet_end,
        has_length,
        fragment,
        extended: end > at + 40,
        transport: Transport::Other,
        transport_end: None,
    };
    (end <= packet_end).then(|| ip.with_transport(frame, next))
}

impl Ip {
    fn with_transport(mut self, frame: &[u8], protocol: u8) -> Self {
        if self.fragment {
            return self;
        }
        let (transport, len) = match protocol {
            6 => {
                let words = frame.get(self.end + 12).map_or(0, |byte| byte >> 4);
                (Transport::Tcp, usize::from(words) * 4)
            }
            17 => (Transport::Udp, 8),
            _ => return self,
        };
        let least = if transport == Transport::Tcp { 20 } else { 8 };
        if len >= least && self.end + len <= self.packet_end {
            (self.transport, self.transport_end) = (transport, Some(self.end + len));
        }
        self
    }

    /// Where a protocol split cuts.
    pub(super) fn header_end(&self) -> usize {
        self.transport_end.unwrap_or(self.end)
    }

    /// Both addresses, in the order of the wire.
    pub(super) fn addresses<'f>(&self, frame: &'f [u8]) -> &'f [u8] {
        match self.net {
            Net::V4 => &frame[self.at + 12..self.at + 20],
            Net::V6 => &frame[self.at + 8..self.at + 40],
        }
    }

    /// Whether the header's own checksum is right; none over IPv6.
    pub(super) fn header_sum_is_right(&self, frame: &[u8]) -> Option<bool> {
        (self.net == Net::V4).then(|| ones_sum(&frame[self.at..self.end], 0) == 0xffff)
    }

    /// Whether the transport checksum is right; `None` where there is none.
    pub(super) fn transport_sum_is_right(&self, frame: &[u8]) -> Option<bool> {
        let protocol = match self.transport {
            _ if !self.has_length => return None,
            Transport::Tcp => 6,
            Transport::Udp if be16(frame, self.end + 6)? == 0 => return None,
            Transport::Udp => 17,
            Transport::Other => return None,
        };
        let segment = &frame[self.end..self.packet_end];
        Some(ones_sum(segment, self.pseudo(frame, protocol, segment.len())) == 0xffff)
    }

    /// The pseudo header's sum.
    pub(super) fn pseudo(&self, frame: &[u8], protocol: u16, len: usize) -> u32 {
        let len = u32::try_from(len).unwrap_or(0);
        u32::from(ones_sum(self.addresses(frame), 0)) + u32::from(protocol) + len
    }
}

/// The folded one's complement sum of big-endian words (RFC 1071).
pub(super) fn ones_sum(bytes: &[u8], start: u32) -> u16 {
    let mut sum = u64::from(start);
    for pair in bytes.chunks(2) {
        sum += u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(0)
}

/// The frame check sequence (IEEE 802.3 §3.2.9), as its four bytes on the wire.
pub(super) fn fcs(bytes: &[u8]) -> [u8; 4] {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    (!crc).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VET: u16 = 0x8100;

    fn udp4(payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend([8, 0, 0x45, 0]);
        frame.extend(u16::try_from(28 + payload.len()).unwrap().to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 9, 0, 9]);
        frame.extend(u16::try_from(8 + payload.len()).unwrap().to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(payload);
        let sum = !ones_sum(&frame[14..34], 0);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    #[test]
    fn headers_end_where_they_should() {
        let mut frame = udp4(&[7; 30]);
        let seen = ip(&frame, VET).unwrap();
        assert_eq!((seen.at, seen.end, seen.header_end()), (14, 34, 42));
        assert_eq!(seen.header_sum_is_right(&frame), Some(true));
        assert_eq!(seen.transport_sum_is_right(&frame), None, "UDP without a checksum");
        frame[25] ^= 1;
        assert_eq!(seen.header_sum_is_right(&frame), Some(false));
        // A tag in front moves everything by 4.
        frame.splice(12..12, [0x81, 0, 0x20, 5]);
        assert_eq!(vlan_tag(&frame, VET), Some(0x2005));
        assert_eq!(ip(&frame, VET).unwrap().header_end(), 46);
        // Fragments have no transport header.
        frame[24] = 0x20;
        assert_eq!(ip(&frame, VET).unwrap().header_end(), 38);
    }

    #[test]
    fn headers_that_leave_the_frame_are_none() {
        let frame = udp4(&[7; 30]);
        for len in 0..34 {
            assert_eq!(ip(&frame[..len], VET), None, "{len}");
        }
        for len in 34..frame.len() {
            let seen = ip(&frame[..len], VET).unwrap();
            assert!(!seen.has_length && seen.header_end() <= len, "{len}");
            assert_eq!(seen.transport_end.is_some(), len >= 42, "{len}");
        }
        assert_eq!(ip(&[0; 60], VET), None);
    }

    #[test]
    fn extension_headers_are_part_of_ipv6() {
        let mut frame = vec![2; 12];
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 8 + 8 + 4, 0, 64]);
        frame.extend([1; 32]);
        frame.extend([17, 0, 0, 0, 0, 0, 0, 0]);
        frame.extend([0, 1, 0, 2, 0, 12, 0, 0, 9, 9, 9, 9]);
        let seen = ip(&frame, VET).unwrap();
        assert_eq!((seen.end, seen.header_end(), seen.extended), (62, 70, true));
        let sum = !ones_sum(&frame[62..74], seen.pseudo(&frame, 17, 12));
        frame[68..70].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(seen.transport_sum_is_right(&frame), Some(true));
    }

    #[test]
    fn the_frame_check_sequence_is_that_of_ethernet() {
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(u32::from_le_bytes(fcs(b"123456789")), 0xcbf4_3926);
    }
}
