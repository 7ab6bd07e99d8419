//! From the packet buffer to descriptors: legacy, extended and packet split of the 82574 (§7.1.4 to §7.1.6),
//! one buffer and header split of the 82576 (§7.1.5, §7.1.6). Knows no filter.

use std::sync::Arc;

use super::{
    accept::{DONE, END, Findings},
    core::{Core, Side},
    counters,
    frame::{Net, Transport},
    map::{self, queue},
    options::Chip,
    ring::{Ring, Words},
};

/// A frame in the packet buffer.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) bytes: Vec<u8>,
    pub(super) queue: usize,
    pub(super) findings: Findings,
}

/// A receive queue.
#[derive(Debug)]
pub(super) struct RxQueue {
    pub(super) ring: Ring,
    /// The frame that is being written, and how far.
    pub(super) current: Option<(Waiting, Progress)>,
    /// Since it was told to stop: whether one more buffer may be filled.
    pub(super) stopping: Option<bool>,
    /// Whether it ran before, and was stopped since.
    pub(super) was_stopped: bool,
}

/// How far a frame is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    pub(super) at: usize,
    is_first: bool,
    cut: Cut,
}

/// Where a frame is cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// Bytes that go to the header buffer of the first descriptor.
    head: usize,
    /// Whether payload starts in the second buffer, whatever room the first has.
    is_split: bool,
    /// What the descriptor says of the header: its length, whether it was split, whether it is longer
    /// than its buffer.
    stated: usize,
    says_split: bool,
    overflows: bool,
}

impl Cut {
    const NONE: Self =
        Self { head: 0, is_split: false, stated: 0, says_split: false, overflows: false };
}

/// A queue's descriptor format, with the sizes of its buffers in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Legacy(usize),
    Extended(usize),
    PacketSplit([usize; 4]),
    OneBuffer(usize),
    HeaderSplit { head: usize, data: usize, always: bool },
}

impl RxQueue {
    pub(super) fn new(ring: Ring) -> Self {
        Self { ring, current: None, stopping: None, was_stopped: false }
    }

    pub(super) fn reset(&mut self) {
        self.ring.stop();
        (self.current, self.stopping, self.was_stopped) = (None, None, false);
    }
}

impl Core {
    /// Bytes of a receive descriptor.
    pub(super) fn rx_unit(&self) -> u32 {
        if matches!(self.form(0), Form::PacketSplit(_)) { 32 } else { 16 }
    }

    /// The buffer size of RCTL (82574 §10.2.5.1).
    fn rctl_buffer(&self) -> usize {
        let rctl = self.reg(map::RCTL);
        let kib = (rctl >> 27 & 15) as usize;
        if kib > 0 && self.chip == Chip::I82574 {
            return kib << 10;
        }
        let shift = rctl >> 16 & 3;
        if rctl & map::RCTL_BSEX != 0 && self.chip == Chip::I82574 {
            return 32768 >> shift;
        }
        2048 >> shift
    }

    pub(super) fn form(&self, queue: usize) -> Form {
        if self.chip == Chip::I82576 {
            let srrctl = self.reg(self.queue_block(Side::Rx, queue) + queue::SRRCTL);
            let size = (srrctl & 0x7f) as usize * 1024;
            let data = if size == 0 { self.rctl_buffer() } else { size };
            let head = (srrctl >> 8 & 0x3f) as usize * 64;
            return match srrctl >> 25 & 7 {
                0 => Form::Legacy(data),
                2 => Form::HeaderSplit { head, data, always: false },
                5 => Form::HeaderSplit { head, data, always: true },
                _ => Form::OneBuffer(data),
            };
        }
        if !self.has(map::RFCTL, map::RFCTL_EXSTEN) {
            return Form::Legacy(self.rctl_buffer());
        }
        if self.reg(map::RCTL) >> 10 & 3 == 1 {
            let psrctl = self.reg(map::PSRCTL);
            return Form::PacketSplit([
                (psrctl & 0x7f) as usize * 128,
                (psrctl >> 8 & 0x3f) as usize * 1024,
                (psrctl >> 16 & 0x3f) as usize * 1024,
                (psrctl >> 24 & 0x3f) as usize * 1024,
            ]);
        }
        Form::Extended(self.rctl_buffer())
    }

    /// A queue was enabled: do its buffers have sizes?
    pub(super) fn check_rx_buffers(&mut self, queue: usize) {
        let srrctl = self.reg(self.queue_block(Side::Rx, queue) + queue::SRRCTL);
        let wrong = match self.form(queue) {
            Form::PacketSplit([0, ..] | [_, 0, ..]) => Some("packet split with buffers of 0 B"),
            Form::HeaderSplit { head: 0, .. } => Some("header split with header buffers of 0 B"),
            Form::HeaderSplit { head, .. } if head > 960 => Some("header buffers beyond 960 B"),
            Form::OneBuffer(_) if self.chip == Chip::I82576 && srrctl >> 25 & 7 != 1 => {
                Some("a descriptor type that is reserved")
            }
            _ => None,
        };
        if let Some(wrong) = wrong {
            self.checker.note(format!("rx queue {queue} enabled with {wrong}"));
        }
    }

    /// A descriptor was given: are its fields what the datasheet asks for?
    pub(super) fn check_rx_descriptor(&mut self, queue: usize, index: u32, words: &Words) {
        let form = self.form(queue);
        let mapped = |core: &Self, at: u64, len: usize| core.space.is_mapped(at, len);
        let mut wrong = None;
        match form {
            // The second word is where "done" will stand (82574 §7.1.5.1: reserved, written as 0).
            Form::Extended(size) => {
                if words[1] != 0 {
                    wrong = Some("its reserved word is not 0");
                } else if !mapped(self, words[0], size) {
                    wrong = Some("its buffer is not mapped");
                }
            }
            Form::Legacy(size) | Form::OneBuffer(size) => {
                if words[1] & 1 != 0 {
                    wrong = Some("it says \"done\" already");
                } else if !mapped(self, words[0], size) {
                    wrong = Some("its buffer is not mapped");
                }
            }
            Form::PacketSplit(sizes) => {
                let whole = sizes
                    .iter()
                    .zip(words)
                    .all(|(size, at)| *size == 0 || mapped(self, *at, *size));
                if words[1] & 1 != 0 {
                    wrong = Some("it says \"done\" already");
                } else if !whole {
                    wrong = Some("a buffer of it is not mapped");
                }
            }
            Form::HeaderSplit { head, data, .. } => {
                if words[1] & 1 != 0 {
                    wrong = Some("its header buffer has an odd address");
                } else if !mapped(self, words[1], head) || !mapped(self, words[0], data) {
                    wrong = Some("a buffer of it is not mapped");
                }
            }
        }
        if let Some(wrong) = wrong {
            self.checker
                .note(format!("descriptor {index} of rx queue {queue}: {wrong}: {words:x?}"));
        }
    }

    /// A frame for a queue: into the packet buffer.
    pub(super) fn enqueue(&mut self, frame: Waiting) {
        let ring = &self.rx[frame.queue].ring;
        if !ring.is_active() {
            let at = frame.queue;
            self.checker.demand(self.rx[at].was_stopped, || {
                format!("frames go to rx queue {at}, which is not enabled")
            });
            counters::count(self, map::MPC);
            return;
        }
        if ring.ready() == 0 {
            counters::count(self, map::RNBC);
        }
        self.fifo_bytes += frame.bytes.len();
        self.fifo.push_back(frame);
    }

    /// Fills one descriptor; false if there is no frame or no descriptor for it.
    pub(super) fn receive_one(&mut self) -> bool {
        let runs = |queue: &RxQueue| queue.current.is_some() && !queue.is_stopping();
        let busy = self.rx.iter().position(runs);
        let queue = match busy {
            Some(queue) => queue,
            None => match self.next_frame() {
                Some(queue) => queue,
                None => return false,
            },
        };
        self.fill(queue)
    }

    /// Takes the first frame out of the packet buffer. The rest waits behind it, unless its queue drops
    /// what it has no descriptors for (82576 §8.10.2, DROP_EN).
    fn next_frame(&mut self) -> Option<usize> {
        loop {
            let frame = self.fifo.pop_front()?;
            let queue = frame.queue;
            if self.chip == Chip::I82576 && self.rx[queue].is_off() {
                // Further frames for a queue that was disabled are dropped (82576 §4.5.9).
                self.fifo_bytes -= frame.bytes.len();
                counters::count(self, map::MPC);
                continue;
            }
            let form = self.form(queue);
            let needed = self.descriptors_for(&frame, form);
            let block = self.queue_block(Side::Rx, queue);
            let drops = self.chip == Chip::I82576 && self.has(block + queue::SRRCTL, 1 << 31);
            if drops && (self.rx[queue].ring.ready() as usize) < needed {
                self.fifo_bytes -= frame.bytes.len();
                counters::count(self, block + queue::DROPPED);
                continue;
            }
            let cut = self.cut(&frame, form, queue);
            self.rx[queue].current = Some((frame, Progress { at: 0, is_first: true, cut }));
            return Some(queue);
        }
    }

    fn descriptors_for(&self, frame: &Waiting, form: Form) -> usize {
        let size = match form {
            Form::Legacy(size) | Form::Extended(size) | Form::OneBuffer(size) => size,
            Form::PacketSplit(sizes) => sizes[1..].iter().sum(),
            Form::HeaderSplit { data, .. } => data,
        };
        frame.bytes.len().div_ceil(size.max(1)).max(1)
    }

    fn cut(&self, frame: &Waiting, form: Form, queue: usize) -> Cut {
        let whole = Cut::NONE;
        let splits = |header: usize| Cut {
            head: header,
            is_split: true,
            stated: header,
            says_split: true,
            overflows: false,
        };
        let header = frame.findings.ip.map(|ip| ip.header_end());
        match form {
            Form::PacketSplit([head, ..]) => {
                let stays = frame
                    .findings
                    .ip
                    .is_some_and(|ip| ip.fragment && self.has(map::RFCTL, map::RFCTL_IPFRSP_DIS));
                match header {
                    Some(header) if header <= head && !stays => splits(header),
                    _ => whole,
                }
            }
            Form::HeaderSplit { head, always, .. } => {
                let len = frame.bytes.len();
                let first =
                    |stated: usize| Cut { head: head.min(len), is_split: true, stated, ..whole };
                if always && len <= head {
                    return first(len);
                }
                let header = header.filter(|_| self.splits(queue, &frame.findings));
                match header {
                    Some(header) if header <= head => splits(header),
                    Some(header) if always => {
                        Cut { says_split: true, overflows: true, ..first(header) }
                    }
                    Some(header) => Cut { stated: header, overflows: true, ..whole },
                    None if always => first(head),
                    None => whole,
                }
            }
            _ => whole,
        }
    }

    /// Whether this packet type splits (82576 §8.10.4).
    fn splits(&self, queue: usize, findings: &Findings) -> bool {
        let Some(ip) = findings.ip else { return false };
        if ip.fragment && self.has(map::RFCTL, map::RFCTL_IPFRSP_DIS) {
            return false;
        }
        let pool = u32::try_from(queue & 7).unwrap_or(0);
        let types = self.reg(map::PSRTYPE + 4 * pool);
        let transport = ip.transport_end.map(|_| ip.transport);
        let bit = match (ip.net, transport) {
            (Net::V4, Some(Transport::Tcp)) => 2,
            (Net::V4, Some(Transport::Udp)) => 3,
            (Net::V4, _) => 1,
            (Net::V6, Some(Transport::Tcp)) => 8,
            (Net::V6, Some(Transport::Udp)) => 9,
            (Net::V6, _) => 7,
        };
        types >> bit & 1 == 1
    }

    /// Writes the next part of the current frame into the next descriptor.
    pub(super) fn fill(&mut self, queue: usize) -> bool {
        let space = Arc::clone(&self.space);
        let mut checker = std::mem::take(&mut self.checker);
        let taken = self.rx[queue].ring.take(&space, &mut checker);
        self.checker = checker;
        let Some((index, given)) = taken else { return false };
        let Some((frame, mut progress)) = self.rx[queue].current.take() else { return false };
        let form = self.form(queue);
        let cut = progress.cut;
        let mut lens = [0; 4];
        // Which buffers this descriptor has, and how much goes into each.
        let buffers: Vec<(u64, usize)> = match form {
            Form::Legacy(size) | Form::Extended(size) | Form::OneBuffer(size) => {
                vec![(given[0], size)]
            }
            Form::PacketSplit(sizes) => {
                let mut buffers: Vec<_> = given.into_iter().zip(sizes).collect();
                if cut.is_split {
                    // Of further descriptors, the first buffer stays empty (82574 §7.1.6.1).
                    buffers[0].1 = if progress.is_first { cut.head } else { 0 };
                }
                buffers
            }
            Form::HeaderSplit { data, .. } => {
                let head = if progress.is_first { cut.head } else { 0 };
                vec![(given[1], head), (given[0], data)]
            }
        };
        for (len, (address, size)) in lens.iter_mut().zip(buffers) {
            let part = &frame.bytes[progress.at..];
            let part = &part[..part.len().min(size)];
            if !part.is_empty() {
                if space.write(address, part) {
                    self.remember(address, size.max(part.len()));
                }
                *len = part.len();
                progress.at += part.len();
            }
        }
        let ends = progress.at == frame.bytes.len();
        let words = write_back(self.chip, form, &given, &lens, &progress, ends, &frame);
        progress.is_first = false;
        self.report(queue, index, words, &given);
        if ends {
            self.fifo_bytes = self.fifo_bytes.saturating_sub(frame.bytes.len());
        } else {
            self.rx[queue].current = Some((frame, progress));
        }
        true
    }
}

fn word(at: usize) -> u64 {
    at as u64 & 0xffff
}

/// A descriptor as it is written back. What is known of a frame stands in its last descriptor, what is
/// known of its header in the first.
fn write_back(
    chip: Chip,
    form: Form,
    given: &Words,
    lens: &[usize; 4],
    progress: &Progress,
    ends: bool,
    frame: &Waiting,
) -> Words {
    let none = Findings::default();
    let found = if ends { &frame.findings } else { &none };
    let mut status = found.status | DONE | if ends { END } else { 0 };
    if chip == Chip::I82574 {
        status |= packet_type_82574(found) << 16;
    }
    let vlan = u64::from(found.vlan) << 48;
    let upper = found.identification.map_or(found.hash, u32::from);
    let cut = if progress.is_first { progress.cut } else { Cut::NONE };
    match form {
        Form::Legacy(_) => {
            // Status and errors are a byte each (82574 §7.1.4).
            let bits = u64::from(status & 0xff) << 32 | u64::from(status >> 24) << 40;
            [given[0], vlan | bits | word(lens[0]), 0, 0]
        }
        Form::Extended(_) => {
            let low = u64::from(found.rss_type) | u64::from(queue_number(frame, found)) << 8;
            [low | u64::from(upper) << 32, vlan | word(lens[0]) << 32 | u64::from(status), 0, 0]
        }
        Form::PacketSplit(_) => {
            let low = u64::from(found.rss_type) | u64::from(queue_number(frame, found)) << 8;
            let header = word(cut.stated) & 0x3ff | u64::from(cut.says_split) << 15;
            [
                low | u64::from(upper) << 32,
                vlan | word(lens[0]) << 32 | u64::from(status),
                header | word(lens[1]) << 16 | word(lens[2]) << 32 | word(lens[3]) << 48,
                0,
            ]
        }
        Form::OneBuffer(_) | Form::HeaderSplit { .. } => {
            let len = if matches!(form, Form::OneBuffer(_)) { lens[0] } else { lens[1] };
            let header = (cut.stated as u64 & 0x3ff) << 21 | u64::from(cut.says_split) << 31;
            let low = u64::from(found.rss_type) | packet_type_82576(found) << 4 | header;
            // Header buffer overflow is error bit 3 (82576 §7.1.5.2).
            let status = status | u32::from(cut.overflows) << 23;
            [low | u64::from(upper) << 32, vlan | word(len) << 32 | u64::from(status), 0, 0]
        }
    }
}

/// The queue that RSS chose, as the 82574 states it.
fn queue_number(frame: &Waiting, found: &Findings) -> u32 {
    if found.rss_type == 0 { 0 } else { u32::try_from(frame.queue).unwrap_or(0) }
}

/// 82574 §7.1.5.2, table of packet types: without and with a transport header.
fn packet_type_82574(found: &Findings) -> u32 {
    match found.ip {
        None => 0,
        Some(ip) => {
            let transport = u32::from(ip.transport_end.is_some());
            transport + if ip.net == Net::V4 { 1 } else { 5 }
        }
    }
}

/// 82576 §7.1.5.2: a bit for each header.
fn packet_type_82576(found: &Findings) -> u64 {
    let Some(ip) = found.ip else { return 0 };
    let net = match (ip.net, ip.extended) {
        (Net::V4, false) => 1,
        (Net::V4, true) => 2,
        (Net::V6, false) => 4,
        (Net::V6, true) => 8,
    };
    let transport = match (ip.transport_end, ip.transport) {
        (Some(_), Transport::Tcp) => 16,
        (Some(_), Transport::Udp) => 32,
        _ => 0,
    };
    net | transport
}
