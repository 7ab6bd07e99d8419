//! Which frames are of the flow: UDP, and what the user asked for. Reads head bytes only.

use std::{fmt, net::IpAddr, str::FromStr};

use pmd::headers::{self, Layers, ethertype, protocol};

/// An address, or all that share its first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    addr: IpAddr,
    bits: u32,
}

impl Prefix {
    /// Whether the address (4 or 16 bytes) is among them.
    fn covers(&self, addr: &[u8]) -> bool {
        let same = |ours: u128, theirs: u128, width: u32| {
            self.bits == 0 || (ours ^ theirs) >> (width - self.bits) == 0
        };
        match self.addr {
            IpAddr::V4(ours) => addr.try_into().is_ok_and(|theirs| {
                same(u128::from(ours.to_bits()), u128::from(u32::from_be_bytes(theirs)), 32)
            }),
            IpAddr::V6(ours) => addr
                .try_into()
                .is_ok_and(|theirs| same(ours.to_bits(), u128::from_be_bytes(theirs), 128)),
        }
    }
}

/// An address or prefix cannot be read from its text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no IPv4 or IPv6 address or prefix, such as 10.0.0.1, 10.1.0.0/16 or fd00::/8")]
pub struct PrefixError(String);

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let wrong = || PrefixError(text.chars().take(60).collect());
        let (addr, bits) = text.split_once('/').unwrap_or((text, ""));
        let addr: IpAddr = addr.parse().map_err(|_| wrong())?;
        let width = if addr.is_ipv4() { 32 } else { 128 };
        let bits = if text.contains('/') { bits.parse().map_err(|_| wrong())? } else { width };
        if bits > width { Err(wrong()) } else { Ok(Self { addr, bits }) }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.bits)
    }
}

/// What a frame must be to be of the flow. Everything that is not given matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// UDP destination port.
    pub udp_port: Option<u16>,
    /// IP source.
    pub src: Option<Prefix>,
    /// IP destination.
    pub dst: Option<Prefix>,
    /// VLAN id of the outermost tag.
    pub vlan: Option<u16>,
}

impl Flow {
    /// Where the UDP payload starts, if the frame is of the flow. `stripped` is the VLAN tag that
    /// the NIC took off, if it did.
    #[inline]
    #[must_use]
    pub fn payload(&self, head: &[u8], stripped: Option<u16>) -> Option<usize> {
        let layers = headers::layers(head)?;
        let udp = layers.protocol == Some(protocol::UDP);
        let payload = layers.payload.filter(|_| udp)?;
        let port = u16::from_be_bytes([head[layers.transport + 2], head[layers.transport + 3]]);
        if self.udp_port.is_some_and(|wanted| wanted != port) {
            return None;
        }
        if self.vlan.is_some() && self.vlan != stripped.map(|tag| tag & 0xfff).or(layers.vlan) {
            return None;
        }
        let of_the_flow =
            (self.src.is_none() && self.dst.is_none()) || self.addresses(head, &layers);
        of_the_flow.then_some(payload)
    }

    fn addresses(&self, head: &[u8], layers: &Layers) -> bool {
        // RFC 791 §3.1 and RFC 8200 §3.
        let (src, width) = match layers.ethertype {
            ethertype::IPV4 => (layers.network + 12, 4),
            ethertype::IPV6 => (layers.network + 8, 16),
            _ => return false,
        };
        let is = |wanted: Option<Prefix>, at: usize| {
            wanted.is_none_or(|prefix| {
                head.get(at..at + width).is_some_and(|addr| prefix.covers(addr))
            })
        };
        is(self.src, src) && is(self.dst, src + width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(vlan: Option<u16>, src: [u8; 4], dst: [u8; 4], port: u16) -> Vec<u8> {
        let mut frame = vec![2; 12];
        if let Some(vlan) = vlan {
            frame.extend([0x81, 0]);
            frame.extend(vlan.to_be_bytes());
        }
        frame.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 17, 0, 0]);
        frame.extend(src);
        frame.extend(dst);
        frame.extend([0x30, 0x39]);
        frame.extend(port.to_be_bytes());
        frame.extend([0, 20, 0, 0]);
        frame.extend([7; 12]);
        frame
    }

    fn v6(src: &str, dst: &str) -> Vec<u8> {
        let octets = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
        let mut frame = vec![2; 12];
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 17, 64]);
        frame.extend(octets(src));
        frame.extend(octets(dst));
        frame.extend([0, 1, 0x12, 0x34, 0, 20, 0, 0]);
        frame.extend([7; 12]);
        frame
    }

    #[test]
    fn without_conditions_every_udp_frame_is_of_the_flow() {
        let any = Flow::default();
        assert_eq!(any.payload(&v4(None, [10, 0, 0, 1], [10, 0, 0, 2], 9), None), Some(42));
        assert_eq!(any.payload(&v4(Some(5), [10, 0, 0, 1], [10, 0, 0, 2], 9), None), Some(46));
        assert_eq!(any.payload(&v6("fd00::1", "fd00::2"), None), Some(62));
        assert_eq!(any.payload(&[0; 60], None), None, "no IP");
        let mut tcp = v4(None, [1; 4], [2; 4], 9);
        tcp[23] = 6;
        assert_eq!(any.payload(&tcp, None), None);
        assert_eq!(any.payload(&v4(None, [1; 4], [2; 4], 9)[..40], None), None, "cut off");
    }

    #[test]
    fn each_condition_alone_makes_a_frame_foreign() {
        let frame = v4(Some(5), [10, 0, 0, 1], [10, 1, 2, 3], 4321);
        let matches = |flow: Flow| flow.payload(&frame, None).is_some();
        let none = Flow::default;
        let prefix = |text: &str| Some(text.parse().unwrap());
        assert!(matches(Flow { udp_port: Some(4321), ..none() }));
        assert!(!matches(Flow { udp_port: Some(4322), ..none() }));
        assert!(matches(Flow { vlan: Some(5), ..none() }));
        assert!(!matches(Flow { vlan: Some(6), ..none() }));
        assert!(matches(Flow { src: prefix("10.0.0.1"), dst: prefix("10.1.0.0/16"), ..none() }));
        assert!(!matches(Flow { src: prefix("10.0.0.2"), ..none() }));
        assert!(!matches(Flow { dst: prefix("10.2.0.0/16"), ..none() }));
        assert!(matches(Flow { dst: prefix("0.0.0.0/0"), ..none() }));
        assert!(!matches(Flow { dst: prefix("::/0"), ..none() }), "another family");
    }

    #[test]
    fn a_tag_that_the_nic_stripped_counts() {
        let frame = v4(None, [1; 4], [2; 4], 9);
        let flow = Flow { vlan: Some(7), ..Flow::default() };
        assert_eq!(flow.payload(&frame, None), None);
        assert_eq!(flow.payload(&frame, Some(0xa007)), Some(42), "priority bits do not count");
    }

    #[test]
    fn ipv6_prefixes_match_by_bits() {
        let frame = v6("fd00:1:2::1", "fd00:1:3::1");
        let src = |text: &str| Flow { src: Some(text.parse().unwrap()), ..Flow::default() };
        assert!(src("fd00:1::/32").payload(&frame, None).is_some());
        assert!(src("fd00:1:2::1").payload(&frame, None).is_some());
        assert!(src("fd00:1:2::2/127").payload(&frame, None).is_none());
    }

    #[test]
    fn a_text_that_is_no_prefix_is_refused() {
        for text in ["10.0.0", "10.0.0.1/33", "fd00::/129", "10.0.0.1/", "", "/8"] {
            assert!(text.parse::<Prefix>().unwrap_err().to_string().contains("such as"), "{text}");
        }
    }
}
