//! From the wire to the packet buffer: which frames are for us, what is found out about them, which queue
//! they go to (82574 §7.1.1, §7.1.8; 82576 §7.1.1, §7.1.2). Knows no descriptor.

use super::{
    core::Core,
    counters, frame,
    frame::{Ip, Net, Transport},
    map,
    options::Chip,
    receive::Waiting,
    toeplitz,
    wire::OnWire,
};

/// What goes into the last descriptor of a frame, whatever its format. Bits as in the extended formats.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// Status (19:0) and errors (31:20), without "done" and "end of packet".
    pub(super) status: u32,
    pub(super) vlan: u16,
    pub(super) hash: u32,
    pub(super) rss_type: u32,
    /// The low 16 bits of an IP identification, where the hash is not wanted.
    pub(super) identification: Option<u16>,
    pub(super) ip: Option<Ip>,
}

/// Status bits that both chips share.
pub(super) const DONE: u32 = 1;
pub(super) const END: u32 = 1 << 1;
const VLAN_PRESENT: u32 = 1 << 3;
const UDP_SUM: u32 = 1 << 4;
const TRANSPORT_SUM: u32 = 1 << 5;
const IP_SUM: u32 = 1 << 6;
const INEXACT: u32 = 1 << 7;
const IDENTIFICATION: u32 = 1 << 9;
const CRC_ERROR: u32 = 1 << 24;
const TRANSPORT_ERROR: u32 = 1 << 29;
const IP_ERROR: u32 = 1 << 30;
const DATA_ERROR: u32 = 1 << 31;

/// RSS types of descriptors (82574 §7.1.5.2, 82576 §7.1.5.2).
mod rss_type {
    pub(super) const TCP_V4: u32 = 1;
    pub(super) const V4: u32 = 2;
    pub(super) const TCP_V6: u32 = 3;
    pub(super) const V6: u32 = 5;
    pub(super) const UDP_V4: u32 = 7;
    pub(super) const UDP_V6: u32 = 8;
}

/// How a frame came past the address filters.
#[derive(PartialEq, Eq)]
enum Match {
    Exact,
    /// Only its hash matched.
    Inexact,
}

impl Core {
    /// Takes the next frame off the wire, if there is one that may come now.
    pub(super) fn take_from_wire(&mut self) -> bool {
        let (used, most, waits) =
            (self.fifo_bytes, self.options.packet_buffer, self.options.flow_control);
        // With flow control, a sender waits for us; without, what comes now is lost.
        let fits = |frame: &OnWire| !waits || used == 0 || used + frame.bytes.len() <= most;
        let frame = self.wire.receive_if(fits);
        frame.map(|frame| self.hear(frame)).is_some()
    }

    fn hear(&mut self, on_wire: OnWire) {
        let on = self.has(map::RCTL, map::RCTL_EN) && self.link_is_up() && !self.gone;
        if !on {
            return;
        }
        let OnWire { bytes, damaged } = on_wire;
        let len = bytes.len() + 4;
        counters::heard(self, len);
        let Some(matched) = self.filter(&bytes) else { return };
        let store_bad = self.has(map::RCTL, map::RCTL_SBP);
        if damaged {
            counters::count(self, map::CRCERRS);
        } else if len < 64 {
            counters::count(self, map::RUC);
        } else if len > self.longest_frame(&bytes) {
            counters::count(self, map::ROC);
        }
        let is_bad = damaged || len < 64;
        if len > self.longest_frame(&bytes) || is_bad && !store_bad {
            return;
        }
        if self.fifo_bytes + bytes.len() > self.options.packet_buffer && self.fifo_bytes > 0 {
            counters::count(self, map::MPC);
            self.raise(map::INT_RXO);
            return;
        }
        if !is_bad {
            counters::received(self, &bytes, len);
        }
        let (bytes, mut findings) = self.examine(bytes);
        if damaged {
            findings.status |= CRC_ERROR;
            findings.status |= DATA_ERROR;
        }
        if matched == Match::Inexact {
            findings.status |= INEXACT;
        }
        let queue = self.choose_queue(&bytes, &mut findings);
        self.enqueue(Waiting { bytes, queue, findings });
    }

    /// Longest frame that is taken, with its check sequence.
    fn longest_frame(&self, bytes: &[u8]) -> usize {
        let vet = self.vet();
        let tag = if frame::vlan_tag(bytes, vet).is_some() { 4 } else { 0 };
        if !self.has(map::RCTL, map::RCTL_LPE) {
            return 1518 + tag;
        }
        match (self.chip, self.reg(map::RLPML) & 0x3fff) {
            (Chip::I82576, limit) if limit > 0 => (limit as usize).min(self.chip.longest()),
            _ => self.chip.longest(),
        }
    }

    pub(super) fn vet(&self) -> u16 {
        u16::try_from(self.reg(map::VET) & 0xffff).unwrap_or(0)
    }

    fn filter(&self, bytes: &[u8]) -> Option<Match> {
        let rctl = self.reg(map::RCTL);
        let destination: [u8; 6] = bytes.get(..6)?.try_into().ok()?;
        if rctl & map::RCTL_VFE != 0 {
            let tag = frame::vlan_tag(bytes, self.vet());
            let known = tag.is_none_or(|tag| {
                let id = u32::from(tag & 0xfff);
                self.reg(map::VFTA + 4 * (id >> 5)) >> (id & 31) & 1 == 1
            });
            if !known {
                return None;
            }
        }
        let is_group = destination[0] & 1 == 1;
        if destination == [0xff; 6] && rctl & map::RCTL_BAM != 0 {
            return Some(Match::Exact);
        }
        if self.is_station_address(destination) {
            return Some(Match::Exact);
        }
        let all = if is_group { map::RCTL_MPE } else { map::RCTL_UPE };
        if rctl & all != 0 {
            return Some(Match::Exact);
        }
        (is_group && self.is_in_table(destination)).then_some(Match::Inexact)
    }

    fn is_station_address(&self, address: [u8; 6]) -> bool {
        let low = u32::from_le_bytes([address[0], address[1], address[2], address[3]]);
        let high = u32::from(u16::from_le_bytes([address[4], address[5]]));
        let entries = if self.chip == Chip::I82574 { 16 } else { 24 };
        (0..entries).any(|at| {
            let ral = if at < 16 { map::RAL + 8 * at } else { map::RAL_FURTHER + 8 * (at - 16) };
            let rah = self.reg(ral + 4);
            rah & map::RAH_AV != 0 && rah & 0xffff == high && self.reg(ral) == low
        })
    }

    /// The multicast table: 12 bits of the address choose a bit of 4096 (82574 §10.2.5.19).
    fn is_in_table(&self, address: [u8; 6]) -> bool {
        let last = u32::from(u16::from_le_bytes([address[4], address[5]]));
        let shift = [4, 3, 2, 0][(self.reg(map::RCTL) >> 12 & 3) as usize];
        let hash = last >> shift & 0xfff;
        self.reg(map::MTA + 4 * (hash >> 5)) >> (hash & 31) & 1 == 1
    }

    /// Strips what is to be stripped, adds what is to be added, and looks at the rest.
    fn examine(&mut self, mut bytes: Vec<u8>) -> (Vec<u8>, Findings) {
        let mut findings = Findings::default();
        // The check sequence is that of the frame on the wire, a tag included.
        let kept = !self.has(map::RCTL, map::RCTL_SECRC);
        let check = kept.then(|| frame::fcs(&bytes));
        if let Some(tag) = frame::vlan_tag(&bytes, self.vet())
            && self.has(map::CTRL, map::CTRL_VME)
        {
            bytes.drain(12..16);
            findings.vlan = tag;
            findings.status |= VLAN_PRESENT;
        }
        let ip = frame::ip(&bytes, self.vet());
        findings.ip = ip;
        let rxcsum = self.reg(map::RXCSUM);
        if let Some(ip) = ip {
            if rxcsum & map::RXCSUM_IPOFLD != 0
                && let Some(right) = ip.header_sum_is_right(&bytes)
            {
                findings.status |= IP_SUM | if right { 0 } else { IP_ERROR };
            }
            if rxcsum & map::RXCSUM_TUOFLD != 0
                && let Some(right) = ip.transport_sum_is_right(&bytes)
            {
                let kind = if ip.transport == Transport::Udp { UDP_SUM } else { 0 };
                findings.status |= TRANSPORT_SUM | kind | if right { 0 } else { TRANSPORT_ERROR };
            }
            if rxcsum & map::RXCSUM_PCSD == 0 && ip.net == Net::V4 {
                let at = ip.at + 4;
                findings.identification = Some(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
                findings.status |= IDENTIFICATION;
            }
        }
        bytes.extend(check.into_iter().flatten());
        (bytes, findings)
    }

    fn choose_queue(&mut self, bytes: &[u8], findings: &mut Findings) -> usize {
        let mrqc = self.reg(map::MRQC);
        let on = match self.chip {
            Chip::I82574 => mrqc & 3 == 1,
            Chip::I82576 => mrqc & 7 == 2,
        };
        let Some(ip) = findings.ip.filter(|_| on) else { return 0 };
        let Some((kind, ports)) = self.hash_kind(&ip, mrqc) else { return 0 };
        let ports = if ports { &bytes[ip.end..ip.end + 4] } else { &[] };
        let mut key = [0; 40];
        for (at, four) in (0..).zip(key.as_chunks_mut::<4>().0) {
            *four = self.reg(map::RSSRK + 4 * at).to_le_bytes();
        }
        let input = ip.addresses(bytes).iter().chain(ports).copied();
        let hash = toeplitz::hash(&key, input);
        if self.has(map::RXCSUM, map::RXCSUM_PCSD) {
            (findings.hash, findings.rss_type) = (hash, kind);
        } else {
            self.checker.note("RSS is on, and RXCSUM.PCSD says that its hash is not wanted");
        }
        let entry = hash & 127;
        let byte = self.reg(map::RETA + (entry & !3)).to_le_bytes()[(entry & 3) as usize];
        match self.chip {
            Chip::I82574 => usize::from(byte >> 7),
            Chip::I82576 => usize::from(byte & 15),
        }
    }

    /// Which hash a frame gets, and whether ports are in it (82574 §10.2.5.21, 82576 §8.10.18).
    fn hash_kind(&self, ip: &Ip, mrqc: u32) -> Option<(u32, bool)> {
        let on = |bit: u32| mrqc >> bit & 1 == 1;
        let is_82576 = self.chip == Chip::I82576;
        let whole = ip.transport_end.is_some();
        let (tcp, udp) = (
            whole && ip.transport == Transport::Tcp,
            whole && ip.transport == Transport::Udp && is_82576,
        );
        match ip.net {
            Net::V4 if tcp && on(16) => Some((rss_type::TCP_V4, true)),
            Net::V4 if udp && on(22) => Some((rss_type::UDP_V4, true)),
            Net::V4 => on(17).then_some((rss_type::V4, false)),
            Net::V6 if tcp && (on(18) || is_82576 && on(21)) => Some((rss_type::TCP_V6, true)),
            Net::V6 if udp && on(23) => Some((rss_type::UDP_V6, true)),
            Net::V6 => (on(20) || on(19)).then_some((rss_type::V6, false)),
        }
    }
}
