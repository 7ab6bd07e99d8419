//! A frame with everything but its payload: Ethernet, tags, IPv4 or IPv6, UDP or TCP, an application
//! header, the test header. What the generator stamps out. Not on the packet path.

use std::net::{IpAddr, Ipv4Addr};

use pmd::headers::{ethertype, protocol};

use super::{HeaderForm, checksum};

const ETHERNET: usize = 14;
const TAG: usize = 4;
const IPV4: usize = 20;
const IPV6: usize = 40;
const UDP: usize = 8;
const TCP: usize = 20;
const RTP: usize = 12;
const SPEAD: usize = 8;

/// What carries the payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// RFC 768.
    #[default]
    Udp,
    /// RFC 9293, without options.
    Tcp {
        /// The flags byte: 0x10 is ACK, 0x02 is SYN.
        flags: u8,
    },
}

/// What stands between the transport header and the test header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AppHeader {
    /// Nothing.
    #[default]
    None,
    /// RFC 3550 §5.1: sequence number and timestamp follow the frame's number.
    Rtp {
        /// Payload type, 0 to 127.
        payload_type: u8,
        /// Synchronisation source.
        ssrc: u32,
        /// What the timestamp grows by from frame to frame.
        step: u32,
    },
    /// SPEAD-64-48, one packet per heap: the heap counter is the frame's number.
    Spead {
        /// Item pointers, 4 to 15: heap counter, heap size, heap offset, payload length, padding.
        items: u8,
    },
}

/// Which test header frames carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderChoice {
    /// The long form where there is room for it, else the short one.
    Auto,
    /// 24 bytes.
    #[default]
    Long,
    /// 16 bytes, without timestamp.
    Short,
    /// None.
    None,
}

/// Headers, addresses and length of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template {
    /// Station that it is for.
    pub dst_mac: [u8; 6],
    /// Station that sends it.
    pub src_mac: [u8; 6],
    /// VLAN tag (802.1Q), 1..=4094.
    pub vlan: Option<u16>,
    /// Service tag (802.1ad) before it, 1..=4094.
    pub outer_vlan: Option<u16>,
    /// Priority in both tags, 0..=7.
    pub priority: u8,
    /// From whom: the first flow; others may follow.
    pub src: IpAddr,
    /// To whom, of the same version.
    pub dst: IpAddr,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Type of service, or traffic class.
    pub tos: u8,
    /// Whether the IPv4 identification is the frame's number (its low 16 bits); 0 otherwise.
    pub ip_id: bool,
    /// UDP or TCP.
    pub transport: Transport,
    /// Source port of the first flow; the others follow.
    pub src_port: u16,
    /// Port that it is for.
    pub dst_port: u16,
    /// Between the transport header and the test header.
    pub app: AppHeader,
    /// The test header.
    pub header: HeaderChoice,
    /// Write the UDP checksum over IPv4 too, where 0 (none) is allowed. IPv6 and TCP always have
    /// theirs.
    pub checksum: bool,
    /// Bytes behind the transport header.
    pub payload_len: usize,
}

impl Default for Template {
    /// UDP from 10.0.0.1:9000 to 10.0.0.2:9000, locally administered addresses, 1 KiB.
    fn default() -> Self {
        Self {
            dst_mac: [0x02, 0, 0, 0, 0, 0x02],
            src_mac: [0x02, 0, 0, 0, 0, 0x01],
            vlan: None,
            outer_vlan: None,
            priority: 0,
            src: Ipv4Addr::new(10, 0, 0, 1).into(),
            dst: Ipv4Addr::new(10, 0, 0, 2).into(),
            ttl: 64,
            tos: 0,
            ip_id: false,
            transport: Transport::Udp,
            src_port: 9000,
            dst_port: 9000,
            app: AppHeader::None,
            header: HeaderChoice::Long,
            checksum: false,
            payload_len: 1024,
        }
    }
}

/// A template that makes no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The payload is too short for what it has to hold, or too long for IP.
    #[error("payload of {len} B: should be {least} to {most} B")]
    Payload {
        /// Bytes asked.
        len: usize,
        /// Least.
        least: usize,
        /// Most.
        most: usize,
    },
    /// The frame is too short for its headers, or too long for IP.
    #[error("frames of {len} B: these headers need {least} to {most} B (without FCS)")]
    Frame {
        /// Bytes asked.
        len: usize,
        /// Least.
        least: usize,
        /// Most.
        most: usize,
    },
    /// No such VLAN.
    #[error("VLAN {vlan}: should be 1 to 4094")]
    Vlan {
        /// What was asked.
        vlan: u16,
    },
    /// A number out of its range.
    #[error("{what} {value}: should be {range}")]
    Range {
        /// Which.
        what: &'static str,
        /// What was asked.
        value: u64,
        /// What is allowed.
        range: &'static str,
    },
    /// Source and destination are of two IP versions.
    #[error("from {src} to {dst}: both must be IPv4, or both IPv6")]
    Versions {
        /// From whom.
        src: IpAddr,
        /// To whom.
        dst: IpAddr,
    },
    /// Headers that do not go together.
    #[error("{what}")]
    Conflict {
        /// Which.
        what: &'static str,
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
    /// The flows cannot be made.
    #[error(transparent)]
    Flows(#[from] super::FlowError),
}

impl Template {
    /// Checks numbers, and the length.
    ///
    /// # Errors
    /// The template makes no frame.
    pub fn check(&self) -> Result<(), TemplateError> {
        self.check_headers()?;
        let least = self.app_len() + self.least_form().len();
        let most = self.longest() - self.payload_at();
        let len = self.payload_len;
        if (least..=most).contains(&len) {
            return Ok(());
        }
        Err(TemplateError::Payload { len, least, most })
    }

    /// Checks all but the length.
    ///
    /// # Errors
    /// A number is out of its range, or headers do not go together.
    pub fn check_headers(&self) -> Result<(), TemplateError> {
        let tags = [self.vlan, self.outer_vlan];
        if let Some(vlan) = tags.into_iter().flatten().find(|vlan| !(1..=4094).contains(vlan)) {
            return Err(TemplateError::Vlan { vlan });
        }
        if self.outer_vlan.is_some() && self.vlan.is_none() {
            return Err(TemplateError::Conflict { what: "an outer VLAN needs an inner one" });
        }
        let range = |what, value: u8, range| {
            Err(TemplateError::Range { what, value: u64::from(value), range })
        };
        if self.priority > 7 {
            return range("VLAN priority", self.priority, "0 to 7");
        }
        if self.ttl == 0 {
            return range("TTL", 0, "1 to 255");
        }
        if self.src.is_ipv4() != self.dst.is_ipv4() {
            return Err(TemplateError::Versions { src: self.src, dst: self.dst });
        }
        if self.ip_id && self.src.is_ipv6() {
            return Err(TemplateError::Conflict { what: "only IPv4 has an identification field" });
        }
        match self.app {
            AppHeader::Rtp { payload_type, .. } if payload_type > 127 => {
                return range("RTP payload type", payload_type, "0 to 127");
            }
            AppHeader::Spead { items } if !(4..=15).contains(&items) => {
                return range("SPEAD items", items, "4 to 15");
            }
            AppHeader::None => {}
            _ if self.transport != Transport::Udp => {
                return Err(TemplateError::Conflict { what: "RTP and SPEAD go over UDP" });
            }
            _ => {}
        }
        Ok(())
    }

    /// The same template for frames of `frame_len` bytes, without FCS.
    ///
    /// # Errors
    /// The headers do not fit, or the frame is longer than IP allows; the message names the limits.
    pub fn with_frame_len(mut self, frame_len: usize) -> Result<Self, TemplateError> {
        let (least, most) = (self.least_frame(), self.longest());
        if !(least..=most).contains(&frame_len) {
            return Err(TemplateError::Frame { len: frame_len, least, most });
        }
        self.payload_len = frame_len - self.payload_at();
        self.check()?;
        Ok(self)
    }

    /// Bytes of the shortest frame with these headers: 60 at least, as Ethernet demands.
    #[must_use]
    pub fn least_frame(&self) -> usize {
        (self.test_at() + self.least_form().len()).max(60)
    }

    /// Bytes of the longest frame that IP's 16-bit length allows.
    #[must_use]
    pub fn longest(&self) -> usize {
        let fixed = if self.src.is_ipv4() { 0 } else { IPV6 };
        self.ip_at() + fixed + 65535
    }

    /// The test header of a frame with this payload.
    #[must_use]
    pub fn form(&self) -> HeaderForm {
        match self.header {
            HeaderChoice::Long => HeaderForm::Long,
            HeaderChoice::Short => HeaderForm::Short,
            HeaderChoice::None => HeaderForm::None,
            HeaderChoice::Auto => {
                let room = self.payload_len.saturating_sub(self.app_len());
                if room >= HeaderForm::Long.len() { HeaderForm::Long } else { HeaderForm::Short }
            }
        }
    }

    fn least_form(&self) -> HeaderForm {
        match self.header {
            HeaderChoice::Auto => HeaderForm::Short,
            _ => self.form(),
        }
    }

    /// Where the IP header starts, in bytes.
    #[must_use]
    pub fn ip_at(&self) -> usize {
        ETHERNET + [self.vlan, self.outer_vlan].iter().flatten().count() * TAG
    }

    /// Where the UDP or TCP header starts, in bytes.
    #[must_use]
    pub fn udp_at(&self) -> usize {
        self.ip_at() + if self.src.is_ipv4() { IPV4 } else { IPV6 }
    }

    /// Where the transport's payload starts, in bytes.
    #[must_use]
    pub fn payload_at(&self) -> usize {
        let transport = match self.transport {
            Transport::Udp => UDP,
            Transport::Tcp { .. } => TCP,
        };
        self.udp_at() + transport
    }

    /// Bytes of the application header.
    #[must_use]
    pub fn app_len(&self) -> usize {
        match self.app {
            AppHeader::None => 0,
            AppHeader::Rtp { .. } => RTP,
            AppHeader::Spead { items } => SPEAD + SPEAD * usize::from(items),
        }
    }

    /// Where the test header starts, in bytes.
    #[must_use]
    pub fn test_at(&self) -> usize {
        self.payload_at() + self.app_len()
    }

    /// Bytes of a frame, without FCS.
    #[must_use]
    pub fn frame_len(&self) -> usize {
        self.payload_at() + self.payload_len
    }

    /// Whether frames carry a UDP or TCP checksum.
    #[must_use]
    pub fn has_checksum(&self) -> bool {
        self.checksum || self.src.is_ipv6() || self.transport != Transport::Udp
    }

    /// The headers, up to the transport's payload. The IPv4 checksum is right; that of UDP or TCP is
    /// 0, for it needs the payload.
    ///
    /// # Errors
    /// The template makes no frame.
    pub fn headers(&self) -> Result<Vec<u8>, TemplateError> {
        self.check()?;
        let mut bytes = Vec::with_capacity(self.payload_at());
        bytes.extend(self.dst_mac);
        bytes.extend(self.src_mac);
        for (tag, kind) in [(self.outer_vlan, ethertype::QINQ), (self.vlan, ethertype::VLAN)] {
            if let Some(vlan) = tag {
                bytes.extend(kind.to_be_bytes());
                bytes.extend((u16::from(self.priority) << 13 | vlan).to_be_bytes());
            }
        }
        let ethertype = if self.src.is_ipv4() { ethertype::IPV4 } else { ethertype::IPV6 };
        bytes.extend(ethertype.to_be_bytes());
        // `check` has seen to it that all lengths are of 16 bits.
        let short = |len: usize| u16::try_from(len).unwrap_or(u16::MAX);
        self.ip(short(self.frame_len() - self.ip_at()), &mut bytes);
        bytes.extend(self.src_port.to_be_bytes());
        bytes.extend(self.dst_port.to_be_bytes());
        match self.transport {
            Transport::Udp => {
                bytes.extend(short(UDP + self.payload_len).to_be_bytes());
                bytes.extend([0; 2]);
            }
            Transport::Tcp { flags } => {
                // Sequence, acknowledgement; five words of header; the largest window.
                bytes.extend([0; 8]);
                bytes.extend([0x50, flags, 0xff, 0xff]);
                bytes.extend([0; 4]);
            }
        }
        Ok(bytes)
    }

    fn ip(&self, len: u16, to: &mut Vec<u8>) {
        let protocol = self.protocol();
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                // RFC 791 §3.1: no options, don't fragment.
                let mut header = [0; IPV4];
                header[0] = 0x45;
                header[1] = self.tos;
                header[2..4].copy_from_slice(&len.to_be_bytes());
                header[6] = 0x40;
                header[8] = self.ttl;
                header[9] = protocol;
                header[12..16].copy_from_slice(&src.octets());
                header[16..20].copy_from_slice(&dst.octets());
                let checksum = checksum::finish(checksum::add(0, &header));
                header[10..12].copy_from_slice(&checksum.to_be_bytes());
                to.extend(header);
            }
            _ => {
                // RFC 8200 §3; the length is that of what follows.
                let octets = |addr| match addr {
                    IpAddr::V6(addr) => addr.octets(),
                    IpAddr::V4(addr) => addr.to_ipv6_mapped().octets(),
                };
                let first = 0x6000_0000 | u32::from(self.tos) << 20;
                to.extend(first.to_be_bytes());
                to.extend(
                    (usize::from(len).saturating_sub(IPV6))
                        .to_be_bytes()
                        .last_chunk::<2>()
                        .unwrap_or(&[0; 2]),
                );
                to.extend([protocol, self.ttl]);
                to.extend(octets(self.src));
                to.extend(octets(self.dst));
            }
        }
    }

    /// The IP protocol number of the transport.
    #[must_use]
    pub fn protocol(&self) -> u8 {
        match self.transport {
            Transport::Udp => protocol::UDP,
            Transport::Tcp { .. } => protocol::TCP,
        }
    }

    /// The application header of frame 0.
    pub(super) fn app_header(&self) -> Vec<u8> {
        match self.app {
            AppHeader::None => Vec::new(),
            AppHeader::Rtp { payload_type, ssrc, .. } => {
                let mut bytes = vec![0x80, payload_type];
                bytes.extend([0; 6]);
                bytes.extend(ssrc.to_be_bytes());
                bytes
            }
            AppHeader::Spead { items } => {
                const IMMEDIATE: u64 = 1 << 63;
                let heap = (self.payload_len - self.app_len()) as u64;
                let mut bytes = vec![0x53, 4, 2, 6, 0, 0, 0, items];
                // Heap counter, heap size, heap offset, payload length; then padding.
                let values = [(1, 0), (2, heap), (3, 0), (4, heap)].into_iter();
                let items = values.chain(std::iter::repeat((0, 0))).take(usize::from(items));
                for (id, value) in items {
                    bytes.extend((IMMEDIATE | id << 48 | value).to_be_bytes());
                }
                bytes
            }
        }
    }
}

#[cfg(test)]
mod tests;
