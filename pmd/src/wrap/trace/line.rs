//! A frame in a line of text. Reads what it is given, and never device memory.

use std::fmt::{self, Display, Write};

use mempool::{Access, Frame, Offload, Readable, SplitFrame};

use crate::headers::{self, Layers, ethertype, protocol};

/// Bytes that `hex` shows at most.
const HEX: usize = 256;

/// Writes the line of a frame in memory that may be read.
pub(super) fn whole<A: Readable>(to: &mut String, frame: Frame<'_, A>, hex: bool) {
    let segments = frame.meta().segments();
    let len = if segments > 1 { frame.frame_len() } else { frame.len() };
    start(to, len, frame, frame.bytes());
    if segments > 1 {
        let _ = write!(to, " {segments} segments");
    }
    end(to, frame.bytes(), hex);
}

/// Writes the line of a split frame: of the payload only where it is.
pub(super) fn split(to: &mut String, frame: SplitFrame<'_>, hex: bool) {
    let head = frame.head;
    let payload = frame.data.map_or(0, Frame::frame_len);
    start(to, head.frame_len() + payload, head, head.bytes());
    let _ = write!(to, " head {} B", head.frame_len());
    if let Some(data) = frame.data {
        let segments = data.segments().count();
        let _ = write!(to, ", payload {payload} B in device memory, slot {}", data.slot().index());
        if segments > 1 {
            let _ = write!(to, ", {segments} segments");
        }
    }
    end(to, head.bytes(), hex);
}

fn start<A: Access>(to: &mut String, len: usize, frame: Frame<'_, A>, bytes: &[u8]) {
    let meta = frame.meta();
    let _ = write!(to, "{len} B {}", Summary(bytes));
    if meta.offload().has(Offload::RX_VLAN_STRIPPED) {
        let _ = write!(to, " vlan {} (stripped)", meta.vlan() & 0xfff);
    }
    let _ = write!(to, " slot {}", frame.slot().index());
}

fn end(to: &mut String, bytes: &[u8], hex: bool) {
    to.push('\n');
    if !hex {
        return;
    }
    for (row, chunk) in bytes[..bytes.len().min(HEX)].chunks(16).enumerate() {
        let _ = write!(to, "        {:04x} ", row * 16);
        chunk.iter().for_each(|byte| _ = write!(to, " {byte:02x}"));
        to.push('\n');
    }
    if bytes.len() > HEX {
        let _ = writeln!(to, "        ... {} B more", bytes.len() - HEX);
    }
}

/// Addresses and protocols of a frame.
struct Summary<'a>(&'a [u8]);

impl Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(layers) = headers::layers(self.0) else {
            return f.write_str("cut off in its Ethernet header");
        };
        write!(f, "{} > {}", Mac(&self.0[6..12]), Mac(&self.0[..6]))?;
        if let Some(vlan) = layers.vlan {
            write!(f, " vlan {vlan}")?;
        }
        network(f, self.0, &layers)
    }
}

fn network(f: &mut fmt::Formatter<'_>, bytes: &[u8], layers: &Layers) -> fmt::Result {
    let at = layers.network;
    let ports = layers.payload.map(|_| {
        let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        (port(layers.transport), port(layers.transport + 2))
    });
    match layers.ethertype {
        ethertype::IPV4 if bytes.len() >= at + 20 => {
            let address = |at: usize| {
                let octets: [u8; 4] = std::array::from_fn(|byte| bytes[at + byte]);
                std::net::Ipv4Addr::from(octets)
            };
            let (from, to) = (address(at + 12), address(at + 16));
            match ports {
                Some((source, port)) => write!(f, " IPv4 {from}:{source} > {to}:{port}")?,
                None => write!(f, " IPv4 {from} > {to}")?,
            }
            if layers.protocol.is_none() {
                return f.write_str(" fragment or damaged");
            }
        }
        ethertype::IPV6 if bytes.len() >= at + 40 => {
            let address = |at: usize| {
                let octets: [u8; 16] = std::array::from_fn(|byte| bytes[at + byte]);
                std::net::Ipv6Addr::from(octets)
            };
            let (from, to) = (address(at + 8), address(at + 24));
            match ports {
                Some((source, port)) => write!(f, " IPv6 [{from}]:{source} > [{to}]:{port}")?,
                None => write!(f, " IPv6 {from} > {to}")?,
            }
            if layers.protocol.is_none() {
                return f.write_str(" fragment or damaged");
            }
        }
        0x0806 => return f.write_str(" ARP"),
        0x88cc => return f.write_str(" LLDP"),
        0x88f7 => return f.write_str(" PTP"),
        0x8809 => return f.write_str(" slow protocol"),
        other => return write!(f, " type {other:04x}"),
    }
    match layers.protocol {
        Some(protocol::UDP) => f.write_str(" UDP"),
        Some(protocol::TCP) => {
            f.write_str(" TCP")?;
            flags(f, bytes.get(layers.transport + 13).copied().unwrap_or(0))
        }
        Some(1) => f.write_str(" ICMP"),
        Some(2) => f.write_str(" IGMP"),
        Some(47) => f.write_str(" GRE"),
        Some(58) => f.write_str(" ICMPv6"),
        Some(132) => f.write_str(" SCTP"),
        Some(other) => write!(f, " protocol {other}"),
        None => Ok(()),
    }
}

/// TCP flags (RFC 9293 §3.1), as tcpdump writes them.
fn flags(f: &mut fmt::Formatter<'_>, flags: u8) -> fmt::Result {
    f.write_str(" [")?;
    for (bit, letter) in [(1, 'F'), (2, 'S'), (4, 'R'), (8, 'P'), (16, '.'), (32, 'U')] {
        if flags & bit != 0 {
            f.write_char(letter)?;
        }
    }
    f.write_char(']')
}

struct Mac<'a>(&'a [u8]);

impl Display for Mac<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if at == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: [u8; 2], behind: &[u8]) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        frame.extend(kind);
        frame.extend(behind);
        frame
    }

    fn ipv4(protocol: u8) -> Vec<u8> {
        vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]
    }

    #[test]
    fn frames_are_named_by_their_innermost_known_protocol() {
        let with = |protocol, behind: &[u8]| [ipv4(protocol), behind.to_vec()].concat();
        let mut tcp = vec![0, 80, 0x1f, 0x90, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x12];
        tcp.resize(20, 0);
        let mut tagged = vec![0, 7, 8, 6];
        tagged.resize(30, 0);
        let udp = [0x23, 0x28, 0x23, 0x29, 0, 8, 0, 0];
        for (bytes, text) in [
            (frame([8, 0], &with(17, &udp)), "IPv4 10.0.0.1:9000 > 10.0.0.2:9001 UDP"),
            (frame([8, 0], &with(6, &tcp)), "IPv4 10.0.0.1:80 > 10.0.0.2:8080 TCP [S.]"),
            (frame([8, 0], &with(1, &[0; 8])), "IPv4 10.0.0.1 > 10.0.0.2 ICMP"),
            (frame([0x81, 0], &tagged), "vlan 7 ARP"),
            (frame([0x88, 0xb5], &[]), "type 88b5"),
        ] {
            let line = Summary(&bytes).to_string();
            assert_eq!(line, format!("02:00:00:00:00:01 > 02:00:00:00:00:02 {text}"));
        }
        assert_eq!(Summary(&[0; 13]).to_string(), "cut off in its Ethernet header");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), kind in 0..4usize) {
            let start: &[u8] = [&[8, 0, 0x45][..], &[0x86, 0xdd, 0x60], &[0x81, 0, 0, 1, 8, 0, 0x4f], &[]][kind];
            for (at, byte) in start.iter().enumerate() {
                if let Some(place) = bytes.get_mut(12 + at) {
                    *place = *byte;
                }
            }
            prop_assert!(!Summary(&bytes).to_string().is_empty());
        }
    }
}
