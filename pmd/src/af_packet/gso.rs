//! Cuts super-frames: a local sender (a container's veth, a VM's tap) hands over tens of kilobytes
//! of one TCP or UDP flow as one frame, leaving to hardware to make packets of it. Nobody who
//! forwards frames or counts packets wants those, so they are cut as that hardware would. Reads and
//! writes bytes it is given; knows no ring and no buffer.

use super::{
    abi::Offloads,
    checksum::{fold, sum},
};
use crate::headers::{self, ethertype, protocol};

/// How a super-frame is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    network: usize,
    transport: usize,
    /// Bytes of headers that every segment starts with.
    header: usize,
    /// Bytes of payload that follow them, in all segments but the last.
    size: usize,
    /// Bytes of payload of the whole.
    payload: usize,
    is_v6: bool,
    is_tcp: bool,
}

impl Cut {
    /// How `frame` is to be cut, as far as `offloads` says what can be done.
    pub(super) fn plan(frame: &[u8], offloads: &Offloads) -> Option<Self> {
        let layers = headers::layers(frame)?;
        let kind = offloads.gso_type & !Offloads::ECN;
        let (is_v6, is_tcp) = (layers.ethertype == ethertype::IPV6, kind != Offloads::UDP);
        let wanted = match kind {
            Offloads::TCP4 | Offloads::TCP6 => protocol::TCP,
            Offloads::UDP => protocol::UDP,
            _ => return None,
        };
        let (header, size) = (layers.payload?, usize::from(offloads.gso_size));
        let payload = frame.len().checked_sub(header).filter(|payload| *payload > 0)?;
        if layers.protocol != Some(wanted) || size == 0 || header + size > 0xffff {
            return None;
        }
        let (network, transport) = (layers.network, layers.transport);
        Some(Self { network, transport, header, size, payload, is_v6, is_tcp })
    }

    /// Segments there are.
    pub(super) fn segments(&self) -> usize {
        self.payload.div_ceil(self.size)
    }

    /// Writes the `index`-th segment of `frame`, the one that was planned for; returns its length.
    ///
    /// # Panics
    /// If there is no such segment, or `out` is shorter than it.
    pub(super) fn segment(&self, frame: &[u8], index: usize, out: &mut [u8]) -> usize {
        let from = index * self.size;
        let payload = self.size.min(self.payload - from);
        let len = self.header + payload;
        let out = &mut out[..len];
        out[..self.header].copy_from_slice(&frame[..self.header]);
        out[self.header..].copy_from_slice(&frame[self.header + from..][..payload]);
        let is_last = index + 1 == self.segments();
        let (network, transport) = out.split_at_mut(self.transport);
        let network = &mut network[self.network..];
        if self.is_tcp {
            fix_tcp(transport, from, index == 0, is_last);
        } else {
            put(transport, 4, low(transport.len()));
        }
        if self.is_v6 {
            put(network, 4, low(network.len() - 40 + transport.len()));
        } else {
            fix_ipv4(network, transport.len(), index);
        }
        let at = if self.is_tcp { 16 } else { 6 };
        put(transport, at, 0);
        let value = !fold(sum(transport, self.pseudo(network, transport.len())));
        put(transport, at, if value == 0 { 0xffff } else { value });
        len
    }

    /// The sum of the pseudo header (RFC 9293 §3.1, RFC 8200 §8.1).
    fn pseudo(&self, network: &[u8], len: usize) -> u64 {
        let addresses = if self.is_v6 { &network[8..40] } else { &network[12..20] };
        let protocol = if self.is_tcp { protocol::TCP } else { protocol::UDP };
        sum(addresses, u64::from(protocol) + len as u64)
    }
}

fn low(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Each segment is a packet of its own: length, identification, checksum.
fn fix_ipv4(header: &mut [u8], payload: usize, index: usize) {
    put(header, 2, low(header.len() + payload));
    let id = u16::from_be_bytes([header[4], header[5]]);
    #[expect(clippy::cast_possible_truncation, reason = "identifications wrap")]
    let id = id.wrapping_add(index as u16);
    put(header, 4, id);
    put(header, 10, 0);
    put(header, 10, !fold(sum(header, 0)));
}

/// The sequence number moves on; what is said once is said in the first or last segment.
fn fix_tcp(segment: &mut [u8], from: usize, is_first: bool, is_last: bool) {
    const FIN_PSH: u8 = 0x09;
    const CWR: u8 = 0x80;
    let sequence = u32::from_be_bytes([segment[4], segment[5], segment[6], segment[7]]);
    #[expect(clippy::cast_possible_truncation, reason = "sequence numbers wrap")]
    let sequence = sequence.wrapping_add(from as u32);
    segment[4..8].copy_from_slice(&sequence.to_be_bytes());
    if !is_last {
        segment[13] &= !FIN_PSH;
    }
    if !is_first {
        segment[13] &= !CWR;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ethernet, IPv4 10.0.0.1 -> 10.0.0.2, then `transport`.
    fn ipv4(protocol: u8, transport: &[u8]) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
        let len = low(20 + transport.len()).to_be_bytes();
        frame.extend([0x45, 0, len[0], len[1], 0xff, 0xff, 0x40, 0, 64, protocol, 0, 0]);
        frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend(transport);
        frame
    }

    fn ipv6(protocol: u8, transport: &[u8]) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd];
        let len = low(transport.len()).to_be_bytes();
        frame.extend([0x60, 0, 0, 0, len[0], len[1], protocol, 64]);
        frame.extend([0xfd; 16]);
        frame.extend([0xfc; 16]);
        frame.extend(transport);
        frame
    }

    fn tcp(payload: &[u8]) -> Vec<u8> {
        let mut segment = vec![0, 80, 1, 187, 0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 9, 0x50, 0x99];
        segment.extend([1, 0, 0, 0, 0, 0]);
        segment.extend(payload);
        segment
    }

    fn offloads(gso_type: u8, gso_size: u16) -> Offloads {
        Offloads { gso_type, gso_size, ..Offloads::default() }
    }

    fn cut_all(frame: &[u8], offloads: &Offloads) -> Vec<Vec<u8>> {
        let cut = Cut::plan(frame, offloads).unwrap();
        let mut out = vec![0; 1 << 16];
        (0..cut.segments())
            .map(|index| {
                let len = cut.segment(frame, index, &mut out);
                out[..len].to_vec()
            })
            .collect()
    }

    fn transport_sum(cut: &Cut, frame: &[u8]) -> u16 {
        let transport = &frame[cut.transport..];
        fold(sum(transport, cut.pseudo(&frame[cut.network..], transport.len())))
    }

    #[test]
    fn a_tcp_super_frame_becomes_segments_that_say_the_same() {
        let payload: Vec<u8> = (0..=249).collect();
        for (v6, kind) in [(false, Offloads::TCP4), (true, Offloads::TCP6 | Offloads::ECN)] {
            let whole = if v6 { ipv6(6, &tcp(&payload)) } else { ipv4(6, &tcp(&payload)) };
            let offloads = offloads(kind, 100);
            let cut = Cut::plan(&whole, &offloads).unwrap();
            let segments = cut_all(&whole, &offloads);
            assert_eq!(segments.len(), 3);
            let mut seen: Vec<u8> = Vec::new();
            for segment in &segments {
                assert_eq!(transport_sum(&cut, segment), 0xffff);
                if !v6 {
                    assert_eq!(fold(sum(&segment[14..34], 0)), 0xffff);
                }
                seen.extend(&segment[headers::transport_payload(segment).unwrap()..]);
            }
            assert_eq!(seen, payload);
            let sequence =
                |s: &[u8]| u32::from_be_bytes(s[cut.transport + 4..][..4].try_into().unwrap());
            assert_eq!(sequence(&segments[1]), 0xffff_fffe_u32.wrapping_add(100));
            let flags: Vec<u8> = segments.iter().map(|s| s[cut.transport + 13]).collect();
            assert_eq!(flags, [0x90, 0x10, 0x19], "CWR first only, FIN and PSH last only");
        }
    }

    #[test]
    fn each_ipv4_segment_has_its_own_length_and_identification() {
        let segments = cut_all(&ipv4(6, &tcp(&[7; 150])), &offloads(Offloads::TCP4, 100));
        let word = |s: &[u8], at: usize| u16::from_be_bytes([s[at], s[at + 1]]);
        assert_eq!((word(&segments[0], 16), word(&segments[0], 18)), (140, 0xffff));
        assert_eq!((word(&segments[1], 16), word(&segments[1], 18)), (90, 0));
    }

    #[test]
    fn a_udp_super_frame_becomes_datagrams() {
        let mut udp = vec![0, 1, 0, 2, 0, 0, 0, 0];
        udp.extend([5; 250]);
        let whole = ipv4(17, &udp);
        let offloads = offloads(Offloads::UDP, 100);
        let cut = Cut::plan(&whole, &offloads).unwrap();
        let lengths: Vec<u16> = cut_all(&whole, &offloads)
            .iter()
            .map(|s| {
                assert_eq!(transport_sum(&cut, s), 0xffff);
                u16::from_be_bytes([s[38], s[39]])
            })
            .collect();
        assert_eq!(lengths, [108, 108, 58]);
    }

    #[test]
    fn what_cannot_be_cut_is_left_whole() {
        let whole = ipv4(6, &tcp(&[7; 150]));
        assert_eq!(Cut::plan(&whole, &offloads(Offloads::TCP4, 0)), None);
        assert_eq!(Cut::plan(&whole, &offloads(Offloads::UDP, 100)), None);
        assert_eq!(Cut::plan(&whole, &offloads(77, 100)), None);
        assert_eq!(Cut::plan(&whole[..40], &offloads(Offloads::TCP4, 100)), None);
        assert_eq!(Cut::plan(&[], &offloads(Offloads::TCP4, 100)), None);
    }
}
