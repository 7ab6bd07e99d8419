//! An Ethernet/IPv4/UDP frame with everything but its payload: what the source stamps out. Not on
//! the packet path.

use std::net::Ipv4Addr;

use pmd::headers::{ethertype, protocol};

use super::TestHeader;

const ETHERNET: usize = 14;
const TAG: usize = 4;
const IPV4: usize = 20;
const UDP: usize = 8;

/// Addresses, ports and length of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template {
    /// Station that it is for.
    pub dst_mac: [u8; 6],
    /// Station that sends it.
    pub src_mac: [u8; 6],
    /// VLAN tag, 1..=4094.
    pub vlan: Option<u16>,
    /// From whom.
    pub src: Ipv4Addr,
    /// To whom.
    pub dst: Ipv4Addr,
    /// UDP port of the first flow; the others follow.
    pub src_port: u16,
    /// UDP port that it is for.
    pub dst_port: u16,
    /// Bytes behind the UDP header: the test header and what follows it.
    pub payload_len: usize,
}

impl Default for Template {
    /// From 10.0.0.1:9000 to 10.0.0.2:9000, locally administered addresses, 1 KiB.
    fn default() -> Self {
        Self {
            dst_mac: [0x02, 0, 0, 0, 0, 0x02],
            src_mac: [0x02, 0, 0, 0, 0, 0x01],
            vlan: None,
            src: Ipv4Addr::new(10, 0, 0, 1),
            dst: Ipv4Addr::new(10, 0, 0, 2),
            src_port: 9000,
            dst_port: 9000,
            payload_len: 1024,
        }
    }
}

/// A template that makes no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The payload is too short for the test header, or too long for IPv4.
    #[error("payload of {len} B: should be {} to {} B", TestHeader::LEN, Template::LONGEST)]
    Payload {
        /// Bytes asked.
        len: usize,
    },
    /// No such VLAN.
    #[error("VLAN {vlan}: should be 1 to 4094")]
    Vlan {
        /// What was asked.
        vlan: u16,
    },
    /// The frame does not fit a buffer.
    #[error("frames of {frame_len} B do not fit buffers of {room} B; use --buffer-size {}", needed.next_multiple_of(64))]
    NoRoom {
        /// Bytes of a frame.
        frame_len: usize,
        /// Bytes that fit a buffer.
        room: usize,
        /// Bytes a buffer would need.
        needed: usize,
    },
}

impl Template {
    /// Longest UDP payload in IPv4.
    pub const LONGEST: usize = 65535 - IPV4 - UDP;

    /// Checks lengths and numbers.
    ///
    /// # Errors
    /// The template makes no frame.
    pub fn check(&self) -> Result<(), TemplateError> {
        let len = self.payload_len;
        if !(TestHeader::LEN..=Self::LONGEST).contains(&len) {
            return Err(TemplateError::Payload { len });
        }
        match self.vlan {
            Some(vlan) if !(1..=4094).contains(&vlan) => Err(TemplateError::Vlan { vlan }),
            _ => Ok(()),
        }
    }

    /// Where the UDP header starts, in bytes.
    #[must_use]
    pub fn udp_at(&self) -> usize {
        ETHERNET + self.vlan.map_or(0, |_| TAG) + IPV4
    }

    /// Where the UDP payload starts, in bytes.
    #[must_use]
    pub fn payload_at(&self) -> usize {
        self.udp_at() + UDP
    }

    /// Bytes of a frame, without FCS.
    #[must_use]
    pub fn frame_len(&self) -> usize {
        self.payload_at() + self.payload_len
    }

    /// The headers, up to the UDP payload. The UDP checksum is 0: none, which IPv4 allows.
    ///
    /// # Errors
    /// The template makes no frame.
    pub fn headers(&self) -> Result<Vec<u8>, TemplateError> {
        self.check()?;
        let mut bytes = Vec::with_capacity(self.payload_at());
        bytes.extend(self.dst_mac);
        bytes.extend(self.src_mac);
        if let Some(vlan) = self.vlan {
            bytes.extend(ethertype::VLAN.to_be_bytes());
            bytes.extend(vlan.to_be_bytes());
        }
        bytes.extend(ethertype::IPV4.to_be_bytes());
        let too_long = TemplateError::Payload { len: self.payload_len };
        let udp_len = u16::try_from(UDP + self.payload_len).map_err(|_| too_long.clone())?;
        let ip_len = u16::try_from(IPV4 + UDP + self.payload_len).map_err(|_| too_long)?;
        bytes.extend(self.ipv4(ip_len));
        bytes.extend(self.src_port.to_be_bytes());
        bytes.extend(self.dst_port.to_be_bytes());
        bytes.extend(udp_len.to_be_bytes());
        bytes.extend([0; 2]);
        Ok(bytes)
    }

    /// RFC 791 §3.1: no options, don't fragment, TTL 64.
    fn ipv4(&self, total_len: u16) -> [u8; IPV4] {
        let mut header = [0; IPV4];
        header[0] = 0x45;
        header[2..4].copy_from_slice(&total_len.to_be_bytes());
        header[6] = 0x40;
        header[8] = 64;
        header[9] = protocol::UDP;
        header[12..16].copy_from_slice(&self.src.octets());
        header[16..20].copy_from_slice(&self.dst.octets());
        let checksum = checksum(&header);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        header
    }
}

/// RFC 1071: complement of the ones' complement sum.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let sum = words.fold(0u32, |sum, word| sum + u32::from(word));
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded & 0xffff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_is_what_the_parser_of_the_drivers_reads() {
        for vlan in [None, Some(42)] {
            let template = Template { vlan, ..Template::default() };
            let mut frame = template.headers().unwrap();
            frame.resize(template.frame_len(), 0);
            let layers = pmd::headers::layers(&frame).unwrap();
            assert_eq!(layers.vlan, vlan);
            assert_eq!(layers.protocol, Some(protocol::UDP));
            assert_eq!(layers.transport, template.udp_at());
            assert_eq!(layers.payload, Some(template.payload_at()));
        }
    }

    #[test]
    fn the_ip_checksum_is_right() {
        let frame = Template::default().headers().unwrap();
        assert_eq!(checksum(&frame[ETHERNET..ETHERNET + IPV4]), 0);
        // RFC 1071's example, complemented.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn lengths_and_tags_out_of_range_are_refused() {
        let with = |payload_len, vlan| {
            Template { payload_len, vlan, ..Template::default() }.headers().unwrap_err().to_string()
        };
        assert_eq!(with(23, None), "payload of 23 B: should be 24 to 65507 B");
        assert_eq!(with(65508, None), "payload of 65508 B: should be 24 to 65507 B");
        assert_eq!(with(64, Some(4095)), "VLAN 4095: should be 1 to 4094");
    }
}
