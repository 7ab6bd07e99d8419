//! Just enough of Ethernet, VLAN, IPv4, IPv6, UDP and TCP to find where a payload starts. Bounds are
//! checked; lengths that frames state are believed for nothing else.

/// EtherTypes (IEEE 802 numbers).
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// 802.1Q customer tag.
    pub const VLAN: u16 = 0x8100;
    /// 802.1ad service tag.
    pub const QINQ: u16 = 0x88a8;
}

/// IP protocol numbers.
pub mod protocol {
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
}

const ETHERNET: usize = 14;

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// What stands between the Ethernet addresses and the payload of a UDP or TCP frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    /// VLAN id of the outermost tag.
    pub vlan: Option<u16>,
    /// EtherType behind the tags.
    pub ethertype: u16,
    /// Where the network header starts.
    pub network: usize,
    /// IP protocol of the transport header, if the frame is IP and its first fragment.
    pub protocol: Option<u8>,
    /// Where the transport header starts.
    pub transport: usize,
    /// Where the transport payload starts, if the transport is UDP or TCP and its header is whole.
    pub payload: Option<usize>,
}

/// Those of UDP over IPv4 without tags and options.
const PLAIN_UDP: Layers = Layers {
    vlan: None,
    ethertype: ethertype::IPV4,
    network: ETHERNET,
    protocol: Some(protocol::UDP),
    transport: ETHERNET + 20,
    payload: Some(ETHERNET + 28),
};

/// Reads the layers of a frame; `None` if there is no whole Ethernet header.
#[must_use]
#[inline]
pub fn layers(frame: &[u8]) -> Option<Layers> {
    // What nearly all frames are is seen at one look, and its layers are constants to the caller.
    if frame.first_chunk().is_some_and(is_plain_udp) { Some(PLAIN_UDP) } else { walk(frame) }
}

/// RFC 791 §3.1: version 4, a header of five words, the first fragment or all, UDP.
#[inline]
fn is_plain_udp(frame: &[u8; ETHERNET + 28]) -> bool {
    const START: [u8; 3] = [0x08, 0x00, 0x45];
    let fragment_offset = u16::from_be_bytes([frame[20], frame[21]]) & 0x1fff;
    frame[12..15] == START && fragment_offset == 0 && frame[23] == protocol::UDP
}

/// Reads the layers one after the other.
fn walk(frame: &[u8]) -> Option<Layers> {
    let mut layers =
        Layers { ethertype: u16_at(frame, 12)?, network: ETHERNET, ..Layers::default() };
    while matches!(layers.ethertype, ethertype::VLAN | ethertype::QINQ) {
        let (Some(tag), Some(next)) =
            (u16_at(frame, layers.network), u16_at(frame, layers.network + 2))
        else {
            return Some(layers);
        };
        layers.vlan = layers.vlan.or(Some(tag & 0xfff));
        layers.ethertype = next;
        layers.network += 4;
    }
    match layers.ethertype {
        ethertype::IPV4 => ipv4(frame, &mut layers),
        ethertype::IPV6 => ipv6(frame, &mut layers),
        _ => None,
    };
    Some(layers)
}

/// RFC 791 §3.1.
fn ipv4(frame: &[u8], layers: &mut Layers) -> Option<()> {
    let header = frame.get(layers.network..layers.network + 20)?;
    let len = usize::from(header[0] & 0xf) * 4;
    let fragment_offset = u16_at(header, 6)? & 0x1fff;
    if header[0] >> 4 != 4 || len < 20 || fragment_offset != 0 {
        return None;
    }
    layers.transport = layers.network + len;
    layers.protocol = Some(header[9]);
    transport(frame, layers)
}

/// RFC 8200 §3 and §4: extension headers are walked as far as the frame goes.
fn ipv6(frame: &[u8], layers: &mut Layers) -> Option<()> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const DESTINATION: u8 = 60;
    let header = frame.get(layers.network..layers.network + 40)?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let mut next = header[6];
    let mut at = layers.network + 40;
    loop {
        let extension = frame.get(at..at + 8);
        match next {
            HOP_BY_HOP | ROUTING | DESTINATION => {
                let extension = extension?;
                next = extension[0];
                at += (usize::from(extension[1]) + 1) * 8;
            }
            FRAGMENT => {
                let extension = extension?;
                if u16_at(extension, 2)? >> 3 != 0 {
                    return None;
                }
                next = extension[0];
                at += 8;
            }
            _ => break,
        }
    }
    layers.transport = at;
    layers.protocol = Some(next);
    transport(frame, layers)
}

fn transport(frame: &[u8], layers: &mut Layers) -> Option<()> {
    let len = match layers.protocol? {
        protocol::UDP => frame.get(layers.transport..layers.transport + 8).map(|_| 8)?,
        protocol::TCP => {
            let header = frame.get(layers.transport..layers.transport + 20)?;
            let len = usize::from(header[12] >> 4) * 4;
            (len >= 20).then_some(len)?
        }
        _ => return None,
    };
    layers.payload = Some(layers.transport + len).filter(|payload| *payload <= frame.len());
    Some(())
}

/// Where the payload of a UDP or TCP frame starts; `None` for other frames.
#[must_use]
#[inline]
pub fn transport_payload(frame: &[u8]) -> Option<usize> {
    layers(frame)?.payload
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Addresses, then these EtherTypes and tags, then the rest.
    fn frame(behind: &[&[u8]]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        behind.iter().for_each(|part| frame.extend_from_slice(part));
        frame
    }

    fn ipv4(protocol: u8, options: usize, fragment: u16) -> Vec<u8> {
        let words = u8::try_from(5 + options / 4).unwrap();
        let mut header = vec![0x40 | words, 0, 0, 0, 0, 0];
        header.extend(fragment.to_be_bytes());
        header.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        header.resize(20 + options, 0);
        header
    }

    fn ipv6(next: u8) -> Vec<u8> {
        let mut header = vec![0x60, 0, 0, 0, 0, 0, next, 64];
        header.resize(40, 0);
        header
    }

    fn tcp(words: u8) -> Vec<u8> {
        let mut header = vec![0; 12];
        header.push(words << 4);
        header.resize(usize::from(words) * 4, 0);
        header
    }

    #[test]
    fn payloads_are_found_behind_tags_options_and_extension_headers() {
        let udp = [0u8; 8];
        let cases: [(&str, Vec<u8>, usize); 8] = [
            ("udp", frame(&[&[8, 0], &ipv4(17, 0, 0), &udp, b"x"]), 42),
            ("tcp with options", frame(&[&[8, 0], &ipv4(6, 0, 0), &tcp(8), b"x"]), 66),
            ("ip options", frame(&[&[8, 0], &ipv4(17, 12, 0), &udp]), 54),
            ("vlan", frame(&[&[0x81, 0, 0, 7, 8, 0], &ipv4(17, 0, 0), &udp, b"x"]), 46),
            ("qinq", frame(&[&[0x88, 0xa8, 0, 9, 0x81, 0, 0, 7, 8, 0], &ipv4(17, 0, 0), &udp]), 50),
            ("ipv6", frame(&[&[0x86, 0xdd], &ipv6(17), &udp]), 62),
            ("ipv6 hop-by-hop", frame(&[&[0x86, 0xdd], &ipv6(0), &[17, 1], &[0; 14], &udp]), 78),
            (
                "ipv6 first fragment",
                frame(&[&[0x86, 0xdd], &ipv6(44), &[17, 0, 0, 1, 0, 0, 0, 1], &udp]),
                70,
            ),
        ];
        for (what, frame, payload) in cases {
            assert_eq!(transport_payload(&frame), Some(payload), "{what}");
        }
    }

    #[test]
    fn frames_without_a_whole_transport_header_have_no_payload() {
        for (what, frame) in [
            ("arp", frame(&[&[8, 6], &[0; 28]])),
            ("icmp", frame(&[&[8, 0], &ipv4(1, 0, 0), &[0; 8]])),
            ("later fragment", frame(&[&[8, 0], &ipv4(17, 0, 100), &[0; 8]])),
            ("cut udp", frame(&[&[8, 0], &ipv4(17, 0, 0), &[0; 7]])),
            ("cut tcp options", frame(&[&[8, 0], &ipv4(6, 0, 0), &tcp(8)[..30]])),
            ("tcp header of 16 bytes", frame(&[&[8, 0], &ipv4(6, 0, 0), &tcp(4), &[0; 8]])),
            ("cut tag", frame(&[&[0x81, 0, 0]])),
            ("nothing", vec![]),
        ] {
            assert_eq!(transport_payload(&frame), None, "{what}");
        }
    }

    /// EtherType and IPv4 header up to the protocol, UDP.
    const PLAIN: [u8; 12] = [8, 0, 0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17];

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_point_outside(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..6usize) {
            let start: &[u8] = [&[8, 0, 0x45][..], &[0x86, 0xdd, 0x60], &[0x81, 0, 0, 1, 8, 0, 0x4f], &[], &PLAIN, &PLAIN[..8]][kind];
            for (at, byte) in start.iter().enumerate() {
                if let Some(place) = bytes.get_mut(12 + at) {
                    *place = *byte;
                }
            }
            prop_assert_eq!(layers(&bytes), walk(&bytes), "seen at one look, or walked");
            if let Some(layers) = layers(&bytes) {
                prop_assert!(layers.payload.is_none_or(|payload| payload <= bytes.len()));
            }
        }
    }
}
