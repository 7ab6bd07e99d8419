//! One line for a frame, as tcpdump prints it: when, which port, who to whom, what, how long. Bytes in,
//! text out.

use std::{
    fmt::{self, Write},
    net::{Ipv4Addr, Ipv6Addr},
};

use pmd::headers::{self, Layers, ethertype, protocol};

const ARP: u16 = 0x0806;
const ICMP: u8 = 1;
const ICMP6: u8 = 58;

/// Appends the line of a frame of `len` bytes on the wire, of which `bytes` are there: time of day in
/// UTC, the port, addresses, what it is.
///
/// # Errors
/// Whatever `to` has against more text.
pub fn print_line(
    to: &mut impl Write,
    timestamp: u64,
    port: &str,
    bytes: &[u8],
    len: usize,
) -> fmt::Result {
    let (seconds, nanoseconds) = (timestamp / 1_000_000_000, timestamp % 1_000_000_000);
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    write!(to, "{hours:02}:{minutes:02}:{:02}.{nanoseconds:09} {port} ", seconds % 60)?;
    let Some(layers) = headers::layers(bytes) else {
        return writeln!(to, "[{} of {len} bytes: no Ethernet header]", bytes.len());
    };
    if let Some(vlan) = layers.vlan {
        write!(to, "vlan {vlan} ")?;
    }
    let network = bytes.get(layers.network..).unwrap_or_default();
    match layers.ethertype {
        ethertype::IPV4 => ipv4(to, &layers, network, bytes)?,
        ethertype::IPV6 => ipv6(to, &layers, network, bytes)?,
        ARP => arp(to, network)?,
        kind => {
            mac(to, &bytes[6..12])?;
            to.write_str(" > ")?;
            mac(to, &bytes[..6])?;
            write!(to, ", ethertype {kind:#06x}")?;
        }
    }
    writeln!(to, ", length {len}")
}

fn ipv4(to: &mut impl Write, layers: &Layers, header: &[u8], frame: &[u8]) -> fmt::Result {
    let Some(header) = header.first_chunk::<20>() else {
        return to.write_str("IP [cut]");
    };
    let address =
        |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
    to.write_str("IP ")?;
    ends(to, layers, frame, &address(12), &address(16), ".")?;
    // First fragments have a transport; others have their offset.
    if layers.protocol.is_none() {
        let offset = (u16::from_be_bytes([header[6], header[7]]) & 0x1fff) * 8;
        return write!(to, ": {} fragment at {offset}", Name(header[9]));
    }
    transport(to, layers, frame)
}

fn ipv6(to: &mut impl Write, layers: &Layers, header: &[u8], frame: &[u8]) -> fmt::Result {
    let Some(header) = header.first_chunk::<40>() else {
        return to.write_str("IP6 [cut]");
    };
    let address = |at: usize| {
        let bytes: [u8; 16] = std::array::from_fn(|byte| header[at + byte]);
        Ipv6Addr::from(bytes)
    };
    to.write_str("IP6 ")?;
    ends(to, layers, frame, &address(8), &address(24), ".")?;
    transport(to, layers, frame)
}

/// `10.0.0.1.1000 > 10.0.0.2.53`, or without ports.
fn ends(
    to: &mut impl Write,
    layers: &Layers,
    frame: &[u8],
    source: &dyn fmt::Display,
    destination: &dyn fmt::Display,
    dot: &str,
) -> fmt::Result {
    match ports(layers, frame) {
        Some((from, at)) => write!(to, "{source}{dot}{from} > {destination}{dot}{at}"),
        None => write!(to, "{source} > {destination}"),
    }
}

fn ports(layers: &Layers, frame: &[u8]) -> Option<(u16, u16)> {
    if !matches!(layers.protocol?, protocol::TCP | protocol::UDP) {
        return None;
    }
    let [a, b, c, d] = *frame.get(layers.transport..)?.first_chunk::<4>()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

fn transport(to: &mut impl Write, layers: &Layers, frame: &[u8]) -> fmt::Result {
    let Some(kind) = layers.protocol else {
        return Ok(());
    };
    let header = frame.get(layers.transport..).unwrap_or_default();
    write!(to, ": {}", Name(kind))?;
    match kind {
        protocol::TCP => match header.first_chunk::<20>() {
            Some(header) => tcp(to, header),
            None => to.write_str(" [cut]"),
        },
        ICMP | ICMP6 => match (kind, header.first()) {
            (ICMP, Some(8)) | (ICMP6, Some(128)) => to.write_str(" echo request"),
            (ICMP, Some(0)) | (ICMP6, Some(129)) => to.write_str(" echo reply"),
            (ICMP, Some(3)) | (ICMP6, Some(1)) => to.write_str(" unreachable"),
            (ICMP, Some(11)) | (ICMP6, Some(3)) => to.write_str(" time exceeded"),
            (ICMP6, Some(133)) => to.write_str(" router solicitation"),
            (ICMP6, Some(134)) => to.write_str(" router advertisement"),
            (ICMP6, Some(135)) => to.write_str(" neighbor solicitation"),
            (ICMP6, Some(136)) => to.write_str(" neighbor advertisement"),
            (_, Some(kind)) => write!(to, " type {kind}"),
            (_, None) => to.write_str(" [cut]"),
        },
        _ => Ok(()),
    }
}

fn tcp(to: &mut impl Write, header: &[u8; 20]) -> fmt::Result {
    let word = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    to.write_str(" [")?;
    for (bit, letter) in
        [(1, 'S'), (0, 'F'), (2, 'R'), (3, 'P'), (4, '.'), (5, 'U'), (6, 'E'), (7, 'W')]
    {
        if header[13] & 1 << bit != 0 {
            to.write_char(letter)?;
        }
    }
    write!(to, "], seq {}, ack {}", word(4), word(8))
}

/// Request and reply of Ethernet and IPv4 (RFC 826).
fn arp(to: &mut impl Write, packet: &[u8]) -> fmt::Result {
    let Some(packet) = packet.first_chunk::<28>() else {
        return to.write_str("ARP [cut]");
    };
    let address =
        |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
    match packet[7] {
        1 => write!(to, "ARP, who has {} tell {}", address(24), address(14)),
        2 => {
            write!(to, "ARP, {} is at ", address(14))?;
            mac(to, &packet[8..14])
        }
        operation => write!(to, "ARP, operation {operation}"),
    }
}

fn mac(to: &mut impl Write, bytes: &[u8]) -> fmt::Result {
    for (at, byte) in bytes.iter().enumerate() {
        write!(to, "{}{byte:02x}", if at == 0 { "" } else { ":" })?;
    }
    Ok(())
}

/// The name of an IP protocol.
struct Name(u8);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ICMP => f.write_str("ICMP"),
            2 => f.write_str("IGMP"),
            protocol::TCP => f.write_str("TCP"),
            protocol::UDP => f.write_str("UDP"),
            ICMP6 => f.write_str("ICMP6"),
            132 => f.write_str("SCTP"),
            other => write!(f, "protocol {other}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::print_line;

    fn line(bytes: &[u8]) -> String {
        let mut text = String::new();
        print_line(&mut text, 1_700_000_000_000_000_001, "eth0", bytes, bytes.len()).unwrap();
        text.strip_prefix("22:13:20.000000001 eth0 ").unwrap().trim_end().to_owned()
    }

    fn frame(behind: &[&[u8]]) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        behind.iter().for_each(|part| frame.extend_from_slice(part));
        frame
    }

    fn ipv4(protocol: u8, offset: u8) -> [u8; 22] {
        let mut header = [0; 22];
        header[..3].copy_from_slice(&[8, 0, 0x45]);
        header[9] = offset;
        header[11] = protocol;
        header[14..].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        header
    }

    #[test]
    fn usual_frames_are_told_in_a_line() {
        let ports = [3, 232, 0, 53, 0, 8, 0, 0];
        let mut tcp = [0; 20];
        (tcp[1], tcp[3], tcp[7], tcp[12], tcp[13]) = (80, 81, 9, 0x50, 0x12);
        let mut arp = [0; 30];
        arp[..2].copy_from_slice(&[8, 6]);
        (arp[9], arp[16], arp[19], arp[26], arp[29]) = (1, 10, 1, 10, 2);
        for (frame, text) in [
            (frame(&[&ipv4(17, 0), &ports]), "IP 10.0.0.1.1000 > 10.0.0.2.53: UDP, length 42"),
            (
                frame(&[&[0x81, 0, 0, 7], &ipv4(6, 0), &tcp]),
                "vlan 7 IP 10.0.0.1.80 > 10.0.0.2.81: TCP [S.], seq 9, ack 0, length 58",
            ),
            (frame(&[&ipv4(1, 0), &[8]]), "IP 10.0.0.1 > 10.0.0.2: ICMP echo request, length 35"),
            (frame(&[&ipv4(17, 2)]), "IP 10.0.0.1 > 10.0.0.2: UDP fragment at 16, length 34"),
            (frame(&[&arp]), "ARP, who has 10.0.0.2 tell 10.0.0.1, length 42"),
            (
                frame(&[&[0x88, 0xb5, 1]]),
                "02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype 0x88b5, length 15",
            ),
            (frame(&[&[8, 0, 0x45]]), "IP [cut], length 15"),
            (vec![1; 13], "[13 of 13 bytes: no Ethernet header]"),
            (vec![], "[0 of 0 bytes: no Ethernet header]"),
        ] {
            assert_eq!(line(&frame), text);
        }
    }

    #[test]
    fn no_cut_frame_makes_it_panic() {
        let mut tcp = [0; 20];
        tcp[12] = 0x50;
        let whole = frame(&[&[0x81, 0, 0, 7], &ipv4(6, 0), &tcp]);
        let mut ipv6 = frame(&[&[0x86, 0xdd, 0x60], &[0; 60]]);
        ipv6[20] = 58;
        for frame in [whole, ipv6] {
            for end in 0..=frame.len() {
                line(&frame[..end]);
            }
        }
    }
}
