//! What a received frame is: one of ours, whole or damaged, or somebody else's. Each frame is exactly
//! one of *good*, *corrupt*, *truncated* and *foreign*; a good one is in order, reordered, a
//! duplicate, or stale (see `track`).
//!
//! * **foreign**: not IP, not UDP or TCP, or of no flow that was asked for.
//! * **truncated**: it ends before the end that its IP header states, or inside its headers.
//! * **corrupt**: a sum is wrong (IPv4 header; UDP or TCP, where there is one; CRC-32C), or the test
//!   header is not there. Its number counts as arrived if it is near those that did.

use std::{net::IpAddr, sync::Arc};

use crossbeam_utils::CachePadded;
use mempool::{Burst, Cpu, Frame, Offload};
use memwire_apps::{
    report::Counter,
    traffic::{Distribution, FlowKey, HeaderChoice, Stamp, Template, checksum},
};
use pmd::headers::{Layers, ethertype, layers, protocol};

use crate::track::{Arrival, FlowCounts, Tracker};

/// What a receiver counts, for other threads to read. One writer.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) frames: Counter,
    pub(crate) bytes: Counter,
    pub(crate) good: Counter,
    pub(crate) reordered: Counter,
    pub(crate) duplicate: Counter,
    pub(crate) stale: Counter,
    pub(crate) corrupt: Counter,
    pub(crate) truncated: Counter,
    pub(crate) foreign: Counter,
    /// Numbers up to the highest of each flow.
    pub(crate) span: Counter,
    /// Numbers that arrived.
    pub(crate) arrived: Counter,
}

/// What one frame is.
enum Verdict {
    Good(usize, Option<Stamp>),
    Corrupt(Option<(usize, Option<u64>)>),
    Truncated(Option<(usize, Option<u64>)>),
    Foreign,
}

/// Finds the number of a flow by its addresses and ports.
struct Lookup {
    keys: Vec<FlowKey>,
    /// Places in `keys`, plus one; 0 is free. A power of two, at most half full.
    table: Vec<u32>,
    last: usize,
}

impl Lookup {
    fn new(keys: Vec<FlowKey>) -> Self {
        let mut table = vec![0; (keys.len() * 2).next_power_of_two().max(2)];
        for (index, key) in keys.iter().enumerate() {
            let mut at = hash(key) & (table.len() - 1);
            while table[at] != 0 {
                at = (at + 1) & (table.len() - 1);
            }
            table[at] = u32::try_from(index + 1).unwrap_or(0);
        }
        Self { keys, table, last: 0 }
    }

    #[inline]
    fn find(&mut self, key: &FlowKey) -> Option<usize> {
        // Flows mostly come in turn, or there is but one.
        let next = if self.last + 1 < self.keys.len() { self.last + 1 } else { 0 };
        if self.keys.get(next) == Some(key) {
            self.last = next;
            return Some(next);
        }
        let mut at = hash(key) & (self.table.len() - 1);
        loop {
            let index = (self.table[at] as usize).checked_sub(1)?;
            if self.keys[index] == *key {
                self.last = index;
                return Some(index);
            }
            at = (at + 1) & (self.table.len() - 1);
        }
    }
}

fn hash(key: &FlowKey) -> usize {
    let word = |addr: IpAddr| match addr {
        IpAddr::V4(addr) => u64::from(addr.to_bits()),
        IpAddr::V6(addr) => {
            let bits = addr.to_bits();
            #[expect(clippy::cast_possible_truncation, reason = "both halves are mixed")]
            let (high, low) = ((bits >> 64) as u64, bits as u64);
            high.rotate_left(29) ^ low
        }
    };
    let ports = u64::from(key.src_port) << 16 | u64::from(key.dst_port);
    let mut mixed =
        word(key.src).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ word(key.dst).rotate_left(32);
    mixed = (mixed ^ ports << 8).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    #[expect(clippy::cast_possible_truncation, reason = "a hash")]
    let hash = (mixed ^ mixed >> 31) as usize;
    hash
}

/// Looks at what one worker receives.
pub(crate) struct Analyser {
    lookup: Lookup,
    tracker: Tracker,
    app_len: usize,
    /// Whether frames carry a test header.
    is_numbered: bool,
    counts: Arc<CachePadded<Counts>>,
    latency: Distribution,
    /// For frames of several segments.
    scratch: Vec<u8>,
}

impl Analyser {
    /// For frames of `template` in the flows of `keys`; none of both counts every frame as good.
    pub(crate) fn new(template: Option<&Template>, keys: Vec<FlowKey>) -> Self {
        Self {
            tracker: Tracker::new(keys.len()),
            lookup: Lookup::new(keys),
            app_len: template.map_or(0, Template::app_len),
            is_numbered: template.is_some_and(|template| template.header != HeaderChoice::None),
            counts: Arc::default(),
            latency: Distribution::default(),
            scratch: Vec::new(),
        }
    }

    pub(crate) fn counts(&self) -> Arc<CachePadded<Counts>> {
        Arc::clone(&self.counts)
    }

    pub(crate) fn latency(&self) -> Distribution {
        self.latency.clone()
    }

    /// For each flow: its counts, and the span of its numbers.
    pub(crate) fn flows(&self) -> impl Iterator<Item = (FlowCounts, u64)> {
        self.tracker.flows()
    }

    /// Forgets what came; flow `i` goes on with number `first(i)`. Counts go on.
    pub(crate) fn restart(&mut self, first: impl Fn(usize) -> u64) {
        self.tracker.restart(first);
        self.latency.clear();
    }

    /// Looks at every frame of a burst that came at `now_ns`.
    pub(crate) fn look(&mut self, burst: &Burst<Cpu>, now_ns: u64) {
        let mut sums = Sums::default();
        let is_chained = burst.has_chains();
        let mut scratch = std::mem::take(&mut self.scratch);
        for frame in burst.iter() {
            let bytes = match is_chained && frame.next().is_some() {
                true => {
                    scratch.resize(frame.frame_len(), 0);
                    frame.copy_to(&mut scratch);
                    &scratch[..]
                }
                false => frame.bytes(),
            };
            sums.frames += 1;
            sums.bytes += bytes.len();
            let verdict = self.judge(bytes, frame);
            self.count(verdict, now_ns, &mut sums);
        }
        self.scratch = scratch;
        sums.publish(&self.counts);
    }

    fn judge(&mut self, bytes: &[u8], frame: Frame<'_, Cpu>) -> Verdict {
        if self.lookup.keys.is_empty() {
            return Verdict::Good(usize::MAX, None);
        }
        let Some(layers) = layers(bytes) else { return Verdict::Truncated(None) };
        let Some(end) = stated_end(bytes, &layers) else {
            let is_ip = matches!(layers.ethertype, ethertype::IPV4 | ethertype::IPV6);
            return if is_ip { Verdict::Truncated(None) } else { Verdict::Foreign };
        };
        let is_cut = end > bytes.len() || frame.meta().offload().has(Offload::RX_TRUNCATED);
        let Some(payload) = layers.payload else {
            return if is_cut { Verdict::Truncated(None) } else { Verdict::Foreign };
        };
        let key = key(bytes, &layers);
        let Some(flow) = self.lookup.find(&key) else { return Verdict::Foreign };
        let payload = bytes.get(payload + self.app_len..end.min(bytes.len())).unwrap_or(&[]);
        let stamp = if self.is_numbered { Stamp::read(payload) } else { None };
        let known = Some((flow, stamp.map(|stamp| stamp.sequence)));
        if is_cut {
            return Verdict::Truncated(known);
        }
        let is_whole = has_right_sums(bytes, &layers, end, frame.meta().offload())
            && match stamp {
                Some(stamp) => crc32c::crc32c(&payload[stamp.len..]) == stamp.crc,
                None => !self.is_numbered,
            };
        if is_whole { Verdict::Good(flow, stamp) } else { Verdict::Corrupt(known) }
    }

    #[inline]
    fn count(&mut self, verdict: Verdict, now_ns: u64, sums: &mut Sums) {
        match verdict {
            Verdict::Good(_, None) => sums.good += 1,
            Verdict::Good(flow, Some(stamp)) => {
                let (arrival, grown) = self.tracker.arrive(flow, stamp.sequence, true);
                sums.span += grown;
                match arrival {
                    Arrival::InOrder => {}
                    Arrival::Reordered => sums.reordered += 1,
                    Arrival::Duplicate => sums.duplicate += 1,
                    Arrival::Stale => sums.stale += 1,
                    Arrival::Absurd => {
                        sums.corrupt += 1;
                        return self.tracker.damaged(flow, false);
                    }
                }
                let is_new = matches!(arrival, Arrival::InOrder | Arrival::Reordered);
                sums.arrived += u64::from(is_new);
                sums.good += 1;
                if let Some(sent_ns) = stamp.timestamp_ns {
                    self.latency.record(now_ns.saturating_sub(sent_ns), 1);
                }
            }
            Verdict::Corrupt(known) => {
                sums.corrupt += 1;
                self.damage(known, false, sums);
            }
            Verdict::Truncated(known) => {
                sums.truncated += 1;
                self.damage(known, true, sums);
            }
            Verdict::Foreign => sums.foreign += 1,
        }
    }

    /// A damaged frame of a known flow arrived, if its number may be believed.
    #[cold]
    fn damage(&mut self, known: Option<(usize, Option<u64>)>, is_truncated: bool, sums: &mut Sums) {
        let Some((flow, number)) = known else { return };
        self.tracker.damaged(flow, is_truncated);
        if let Some(number) = number {
            let (arrival, grown) = self.tracker.arrive(flow, number, false);
            sums.span += grown;
            let is_new = matches!(arrival, Arrival::InOrder | Arrival::Reordered);
            sums.arrived += u64::from(is_new);
        }
    }
}

/// Counts of one burst.
#[derive(Default)]
struct Sums {
    frames: usize,
    bytes: usize,
    good: usize,
    reordered: usize,
    duplicate: usize,
    stale: usize,
    corrupt: usize,
    truncated: usize,
    foreign: usize,
    span: u64,
    arrived: u64,
}

impl Sums {
    fn publish(&self, counts: &Counts) {
        let wide = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        for (counter, more) in [
            (&counts.frames, self.frames),
            (&counts.bytes, self.bytes),
            (&counts.good, self.good),
            (&counts.reordered, self.reordered),
            (&counts.duplicate, self.duplicate),
            (&counts.stale, self.stale),
            (&counts.corrupt, self.corrupt),
            (&counts.truncated, self.truncated),
            (&counts.foreign, self.foreign),
            (&counts.span, wide(self.span)),
            (&counts.arrived, wide(self.arrived)),
        ] {
            if more > 0 {
                counter.add(more);
            }
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Where IP says that the frame ends; `None` if it is not IP, or its header is not whole.
fn stated_end(bytes: &[u8], layers: &Layers) -> Option<usize> {
    let ip = layers.network;
    match layers.ethertype {
        ethertype::IPV4 if bytes.len() >= ip + 20 => Some(ip + usize::from(word(bytes, ip + 2)?)),
        ethertype::IPV6 if bytes.len() >= ip + 40 => {
            Some(ip + 40 + usize::from(word(bytes, ip + 4)?))
        }
        _ => None,
    }
}

/// Addresses and ports of a frame whose transport header is whole.
fn key(bytes: &[u8], layers: &Layers) -> FlowKey {
    let (ip, l4) = (layers.network, layers.transport);
    let (src, dst): (IpAddr, IpAddr) = if layers.ethertype == ethertype::IPV4 {
        let addr = |at: usize| <[u8; 4]>::try_from(&bytes[at..at + 4]).unwrap_or_default();
        (addr(ip + 12).into(), addr(ip + 16).into())
    } else {
        let addr = |at: usize| <[u8; 16]>::try_from(&bytes[at..at + 16]).unwrap_or_default();
        (addr(ip + 8).into(), addr(ip + 24).into())
    };
    let port = |at| word(bytes, at).unwrap_or(0);
    FlowKey { src, dst, src_port: port(l4), dst_port: port(l4 + 2) }
}

/// Whether the Internet checksums are right, as far as there are any and nobody has looked yet.
fn has_right_sums(bytes: &[u8], layers: &Layers, end: usize, offload: Offload) -> bool {
    let (ip, l4) = (layers.network, layers.transport);
    if offload.has(Offload::RX_L4_CSUM_BAD) || offload.has(Offload::RX_IP_CSUM_BAD) {
        return false;
    }
    let is_v4 = layers.ethertype == ethertype::IPV4;
    if is_v4
        && !offload.has(Offload::RX_IP_CSUM_GOOD)
        && checksum::finish(checksum::add(0, &bytes[ip..l4.min(ip + 60)])) != 0
    {
        return false;
    }
    let is_udp = layers.protocol == Some(protocol::UDP);
    let has_none = is_udp && is_v4 && bytes[l4 + 6..l4 + 8] == [0; 2];
    if has_none || offload.has(Offload::RX_L4_CSUM_GOOD) || offload.has(Offload::RX_CSUM_PARTIAL) {
        return true;
    }
    let addresses = if is_v4 { ip + 12..ip + 20 } else { ip + 8..ip + 40 };
    let sum = u64::from(layers.protocol.unwrap_or(0)) + (end - l4) as u64;
    let sum = checksum::add(sum, &bytes[addresses]);
    checksum::finish(checksum::add(sum, &bytes[l4..end])) == 0
}

#[cfg(test)]
mod tests;
