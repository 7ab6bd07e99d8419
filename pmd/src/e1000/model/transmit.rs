//! From descriptors to the wire: legacy, context and data of the 82574 (§7.2), context and data of the 82576
//! (§7.2.2). What is done to a frame on its way is in `offload`.

use std::sync::Arc;

use super::{
    core::Core,
    counters, frame, map,
    offload::{self, Context, Segmentation},
    options::Chip,
    ring::{Ring, Words},
    wire::OnWire,
};

/// A transmit queue.
#[derive(Debug)]
pub(super) struct TxQueue {
    pub(super) ring: Ring,
    /// The frame that is being gathered.
    frame: Vec<u8>,
    first: Option<Descriptor>,
    /// The 82574 has one context, the 82576 two for each queue.
    contexts: [Option<Context>; 2],
}

impl TxQueue {
    pub(super) fn new(ring: Ring) -> Self {
        Self { ring, frame: Vec::new(), first: None, contexts: [None; 2] }
    }

    pub(super) fn reset(&mut self) {
        self.ring.stop();
        self.frame.clear();
        self.first = None;
        self.contexts = [None; 2];
    }
}

/// Bits of the command byte that all formats share (82574 §7.2.10).
mod command {
    pub(super) const END: u32 = 1;
    pub(super) const INSERT_FCS: u32 = 1 << 1;
    /// Legacy: insert a checksum. 82574 data: segment.
    pub(super) const CHECKSUM: u32 = 1 << 2;
    pub(super) const REPORT: u32 = 1 << 3;
    pub(super) const EXTENDED: u32 = 1 << 5;
    pub(super) const VLAN: u32 = 1 << 6;
    /// 82576 data: segment.
    pub(super) const SEGMENT: u32 = 1 << 7;
}

/// What a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Legacy,
    Context,
    Data,
    Unknown,
}

/// A descriptor that names a buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Descriptor {
    kind: Kind,
    address: u64,
    len: usize,
    command: u32,
    /// Bit 0: the IP checksum; bit 1: the transport's.
    pub(super) options: u32,
    /// Legacy: where the checksum starts and goes.
    pub(super) start: usize,
    pub(super) place: usize,
    vlan: u16,
    context: usize,
    /// 82576: bytes of the frame, or of its payload where it is segmented.
    payload: usize,
}

impl Descriptor {
    pub(super) fn is_legacy(&self) -> bool {
        self.kind == Kind::Legacy
    }

    pub(super) fn wants_legacy_sum(&self) -> bool {
        self.is_legacy() && self.command & command::CHECKSUM != 0
    }
}

fn bits(word: u64, low: u32, count: u32) -> u32 {
    u32::try_from(word >> low & ((1 << count) - 1)).unwrap_or(0)
}

fn kind(chip: Chip, words: &Words) -> Kind {
    if bits(words[1], 24, 8) & command::EXTENDED == 0 {
        return Kind::Legacy;
    }
    match (chip, bits(words[1], 20, 4)) {
        (Chip::I82574, 0) | (Chip::I82576, 2) => Kind::Context,
        (Chip::I82574, 1) | (Chip::I82576, 3) => Kind::Data,
        _ => Kind::Unknown,
    }
}

fn parse(chip: Chip, kind: Kind, words: &Words) -> Descriptor {
    let word = words[1];
    let extended = kind != Kind::Legacy;
    let len_bits = if extended && chip == Chip::I82574 { 20 } else { 16 };
    let is_82576 = chip == Chip::I82576 && extended;
    Descriptor {
        kind,
        address: words[0],
        len: bits(word, 0, len_bits) as usize,
        command: bits(word, 24, 8),
        options: if extended { bits(word, 40, if is_82576 { 6 } else { 8 }) } else { 0 },
        start: bits(word, 40, 8) as usize,
        place: bits(word, 16, 8) as usize,
        vlan: u16::try_from(word >> 48).unwrap_or(0),
        context: if is_82576 { bits(word, 36, 3) as usize } else { 0 },
        payload: if is_82576 { bits(word, 46, 18) as usize } else { 0 },
    }
}

impl Core {
    /// A descriptor was given: are its fields what the datasheet asks for?
    pub(super) fn check_tx_descriptor(&mut self, queue: usize, index: u32, words: &Words) {
        let kind = kind(self.chip, words);
        let mut wrong = None;
        if bits(words[1], 32, 4) != 0 {
            wrong = Some("its status is not 0");
        }
        match kind {
            Kind::Unknown => wrong = Some("its type is reserved"),
            Kind::Context => {}
            Kind::Legacy | Kind::Data => {
                let Descriptor { address, len, .. } = parse(self.chip, kind, words);
                if len == 0 {
                    wrong = Some("its buffer has 0 bytes");
                } else if !self.space.is_mapped(address, len) {
                    wrong = Some("its buffer is not mapped");
                }
            }
        }
        if let Some(wrong) = wrong {
            self.checker
                .note(format!("descriptor {index} of tx queue {queue}: {wrong}: {words:x?}"));
        }
    }

    /// Works on one descriptor of the first queue that has any.
    pub(super) fn send_one(&mut self) -> bool {
        if !self.has(map::TCTL, map::TCTL_EN) || !self.link_is_up() {
            return false;
        }
        let Some(queue) = (0..self.tx.len()).find(|at| self.tx[*at].ring.ready() > 0) else {
            return false;
        };
        let space = Arc::clone(&self.space);
        let mut checker = std::mem::take(&mut self.checker);
        let taken = self.tx[queue].ring.take(&space, &mut checker);
        self.checker = checker;
        let Some((index, words)) = taken else { return false };
        match kind(self.chip, &words) {
            Kind::Context => {
                let context = Context::parse(self.chip, &words);
                let slot =
                    if self.chip == Chip::I82576 { bits(words[1], 36, 3) as usize } else { 0 };
                match self.tx[queue].contexts.get_mut(slot) {
                    Some(place) => *place = Some(context),
                    None => {
                        self.checker.note(format!("tx queue {queue}: there is no context {slot}"))
                    }
                }
            }
            Kind::Unknown => {}
            kind @ (Kind::Legacy | Kind::Data) => {
                let descriptor = parse(self.chip, kind, &words);
                self.gather(queue, descriptor);
            }
        }
        let reports = bits(words[1], 24, 8) & command::REPORT != 0;
        let told = reports.then(|| match self.chip {
            Chip::I82574 => [words[0], words[1] | 1 << 32, 0, 0],
            // Nothing of what was there stays (82576 §7.2.2.4).
            Chip::I82576 => [0, 1 << 32, 0, 0],
        });
        self.report_sent(queue, index, told);
        true
    }

    fn gather(&mut self, queue: usize, descriptor: Descriptor) {
        let mut bytes = vec![0; descriptor.len];
        if !self.space.read(descriptor.address, &mut bytes) {
            bytes.fill(0);
        }
        let state = &mut self.tx[queue];
        state.frame.extend(bytes);
        let first = *state.first.get_or_insert(descriptor);
        let same = command::VLAN
            | command::EXTENDED
            | command::INSERT_FCS
            | if self.chip == Chip::I82576 { command::SEGMENT } else { 0 };
        let differs = (first.command ^ descriptor.command) & same != 0;
        self.checker.demand(!differs, || {
            format!("tx queue {queue}: descriptors of one frame with different commands")
        });
        if descriptor.command & command::END != 0 {
            let frame = std::mem::take(&mut self.tx[queue].frame);
            self.tx[queue].first = None;
            self.send_frame(queue, &first, &descriptor, frame);
        }
    }

    fn send_frame(&mut self, queue: usize, first: &Descriptor, last: &Descriptor, frame: Vec<u8>) {
        let name = format!("tx queue {queue}");
        self.checker.demand(last.command & command::INSERT_FCS != 0, || {
            format!("{name}: a frame without \"insert FCS\" and without one")
        });
        self.checker.demand(frame.len() >= 17, || {
            format!("{name}: a frame of {} B: at least 17 are asked for", frame.len())
        });
        let context = self.tx[queue].contexts.get(first.context).copied().flatten();
        let segment = match self.chip {
            Chip::I82574 => first.kind == Kind::Data && first.command & command::CHECKSUM != 0,
            Chip::I82576 => first.kind == Kind::Data && first.command & command::SEGMENT != 0,
        };
        if segment && self.chip == Chip::I82574 {
            return self.checker.note(format!("{name}: segmentation on the 82574 is not modelled"));
        }
        let asks = first.kind == Kind::Data && (first.options & 3 != 0 || segment);
        if asks && context.is_none() {
            return self.checker.note(format!("{name}: offloads asked for without a context"));
        }
        let tag = self.tag_of(&name, first, last, context.as_ref());
        if self.chip == Chip::I82576 && first.kind == Kind::Data {
            let head = if segment { context.map_or(0, |context| context.headers()) } else { 0 };
            let right = frame.len().saturating_sub(head);
            self.checker.demand(first.payload == right, || {
                format!("{name}: PAYLEN is {}, the frame has {right} B", first.payload)
            });
        }
        let frames = match context {
            Some(context) if segment => {
                counters::count(self, map::TSCTC);
                match Segmentation::new(&frame, &context, first.options) {
                    Ok(segments) => segments.collect(),
                    Err(why) => return self.checker.note(format!("{name}: {why}")),
                }
            }
            context => {
                let mut frame = frame;
                let wrong = offload::insert_sums(&mut frame, first, context.as_ref(), self.chip);
                if let Err(why) = wrong {
                    self.checker.note(format!("{name}: {why}"));
                }
                vec![frame]
            }
        };
        for frame in frames {
            self.put_on_wire(&name, frame, tag);
        }
    }

    /// The tag to insert. Inserting needs CTRL.VME in both chips.
    fn tag_of(
        &mut self,
        name: &str,
        first: &Descriptor,
        last: &Descriptor,
        context: Option<&Context>,
    ) -> Option<u16> {
        if last.command & command::VLAN == 0 {
            return None;
        }
        if !self.has(map::CTRL, map::CTRL_VME) {
            self.checker.note(format!("{name}: a tag to insert while CTRL.VME is off"));
            return None;
        }
        if self.chip == Chip::I82576 && first.kind == Kind::Data {
            if context.is_none() {
                self.checker.note(format!("{name}: a tag to insert without a context"));
            }
            return context.map(|context| context.vlan);
        }
        Some(last.vlan)
    }

    fn put_on_wire(&mut self, name: &str, mut frame: Vec<u8>, tag: Option<u16>) {
        if let Some(tag) = tag
            && frame.len() >= 12
        {
            let [a, b] = self.vet().to_be_bytes();
            let [c, d] = tag.to_be_bytes();
            frame.splice(12..12, [a, b, c, d]);
        }
        if frame.len() < 60 {
            if self.has(map::TCTL, map::TCTL_PSP) {
                frame.resize(60, 0);
            } else {
                self.checker
                    .note(format!("{name}: a frame of {} B goes out unpadded", frame.len()));
            }
        }
        let longest = self.chip.longest();
        if frame.len() + 4 > longest {
            let len = frame.len();
            self.checker
                .note(format!("{name}: a frame of {len} B; with FCS, {longest} are the most"));
            return;
        }
        counters::sent(self, &frame, frame.len() + 4);
        match self.reg(map::RCTL) & map::RCTL_LBM {
            0 => self.wire.send(frame),
            map::RCTL_LBM_MAC => self.wire.inject(OnWire { bytes: frame, damaged: false }),
            mode => self.checker.note(format!("{name}: loopback mode {mode:#x} is reserved")),
        }
    }
}

/// Sums, for `offload`.
pub(super) fn checksum(bytes: &[u8]) -> u16 {
    !frame::ones_sum(bytes, 0)
}
