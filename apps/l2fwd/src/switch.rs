//! The switch: decides by VLAN and address where a frame leaves, learns where stations are, and
//! spreads what nobody knows. Knows outlets; knows no driver, and no clock but the coarse one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mempool::{Buf, Burst, Cache, Cpu};

use crate::{
    copy::copy,
    fdb::{Fdb, Learnt, Station},
    outlet::{Outlet, Parcel},
    storm::{Storm, StormRate},
    tally::{PortTally, Reason, Tally, Unsent},
    vlan::{Membership, Tci, set_tag},
};

/// Addresses that end at a bridge: 01:80:c2:00:00:00 to 0f.
const RESERVED: [u8; 5] = [0x01, 0x80, 0xc2, 0, 0];
const HEADER: usize = 14;

/// What all workers share.
pub(crate) struct Fabric {
    pub(crate) fdb: Fdb,
    /// Milliseconds since the start, as the main thread last saw them.
    now_ms: AtomicU64,
    storms: Option<Vec<Storm>>,
    /// One for each port; none if tags are not looked at.
    vlans: Option<Vec<Membership>>,
    passes_reserved: bool,
}

impl Fabric {
    pub(crate) fn new(
        ports: usize,
        fdb: Fdb,
        vlans: Option<Vec<Membership>>,
        storm: Option<StormRate>,
        passes_reserved: bool,
    ) -> Self {
        let storms = storm.map(|rate| (0..ports).map(|_| Storm::new(rate)).collect());
        Self { fdb, now_ms: AtomicU64::new(0), storms, vlans, passes_reserved }
    }

    /// Sets the time, and refills what goes by it; `rests` are what was left over, for each port. For
    /// the main thread.
    pub(crate) fn set_time(&self, now: Duration, rests: &mut Vec<f64>) {
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let before = self.now_ms.swap(now_ms, Ordering::Relaxed);
        let time = Duration::from_millis(now_ms.saturating_sub(before));
        let storms = self.storms.as_deref().unwrap_or_default();
        rests.resize(storms.len(), 0.0);
        for (storm, rest) in storms.iter().zip(rests) {
            *rest = storm.refill(time, *rest);
        }
    }

    #[inline]
    pub(crate) fn now_ms(&self) -> u64 {
        // Relaxed: a number that orders nothing.
        self.now_ms.load(Ordering::Relaxed)
    }
}

/// Where one frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    To(u16),
    Flood,
    Drop(Reason),
}

/// What was decided about one frame.
#[derive(Clone, Copy, Debug)]
struct Verdict {
    fate: Fate,
    vlan: u16,
    tag: Option<Tci>,
}

/// The frame before, and what was decided about it.
struct Last {
    dst: [u8; 6],
    src: [u8; 6],
    verdict: Verdict,
}

impl Default for Last {
    fn default() -> Self {
        let verdict = Verdict { fate: Fate::Flood, vlan: 0, tag: None };
        Self { dst: [0; 6], src: [0; 6], verdict }
    }
}

/// One worker's part of the switch.
pub(crate) struct Switch {
    fabric: Arc<Fabric>,
    verdicts: Vec<Verdict>,
    /// Ports that a flooded frame leaves by: without a tag, and with one.
    plain: Vec<usize>,
    tagged: Vec<usize>,
}

/// What forwarding a burst needs of its worker.
pub(crate) struct Bench<'a> {
    pub(crate) outlets: &'a mut [Outlet],
    pub(crate) mirror: Option<&'a mut Outlet>,
    pub(crate) cache: &'a mut Cache<Cpu>,
    pub(crate) tally: &'a Tally,
}

impl Bench<'_> {
    fn push(&mut self, port: usize, parcel: Parcel) {
        self.outlets[port].push(self.cache, parcel, &self.tally.ports[port]);
    }
}

impl Switch {
    pub(crate) fn new(fabric: &Arc<Fabric>, ports: usize, burst: usize) -> Self {
        Self {
            fabric: Arc::clone(fabric),
            verdicts: Vec::with_capacity(burst),
            plain: Vec::with_capacity(ports),
            tagged: Vec::with_capacity(ports),
        }
    }

    /// Forwards a burst that came from port `from`; it is empty then.
    #[inline]
    pub(crate) fn forward(&mut self, from: usize, burst: &mut Burst<Cpu>, mut bench: Bench<'_>) {
        let now_ms = self.fabric.now_ms();
        let mut verdicts = std::mem::take(&mut self.verdicts);
        verdicts.clear();
        let mut last = Last::default();
        for frame in burst.iter() {
            verdicts.push(self.judge(from, frame.bytes(), now_ms, &mut last, bench.tally));
        }
        match self.common_way(&verdicts) {
            Some(to) if bench.mirror.is_none() => {
                bench.tally.ports[from].forwarded.add(burst.len());
                let outlet = &mut bench.outlets[to];
                outlet.send(bench.cache, burst, &bench.tally.ports[to]);
                outlet.note_used();
            }
            _ => self.scatter(from, &verdicts, burst, &mut bench),
        }
        self.verdicts = verdicts;
    }

    /// The port that all frames leave by as they are, if they do.
    #[inline]
    fn common_way(&self, verdicts: &[Verdict]) -> Option<usize> {
        let Fate::To(to) = verdicts.first()?.fate else {
            return None;
        };
        let to = usize::from(to);
        let is_alike = |verdict: &Verdict| {
            verdict.fate == verdicts[0].fate && self.tag_of(to, verdict) == verdict.tag
        };
        verdicts.iter().all(is_alike).then_some(to)
    }

    /// The tag with which a frame leaves by a port.
    #[inline]
    fn tag_of(&self, port: usize, verdict: &Verdict) -> Option<Tci> {
        match &self.fabric.vlans {
            Some(vlans) => vlans[port].leave(verdict.vlan, verdict.tag),
            None => verdict.tag,
        }
    }

    /// Decides about one frame, by its header, and learns its source.
    #[inline]
    fn judge(
        &self,
        from: usize,
        bytes: &[u8],
        now_ms: u64,
        last: &mut Last,
        tally: &Tally,
    ) -> Verdict {
        let drop = |reason| Verdict { fate: Fate::Drop(reason), vlan: 0, tag: None };
        let Some(header) = bytes.first_chunk::<HEADER>() else {
            return drop(Reason::Runt);
        };
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, ..] = *header;
        let (dst, src) = ([d0, d1, d2, d3, d4, d5], [s0, s1, s2, s3, s4, s5]);
        let tag = if self.fabric.vlans.is_some() { Tci::of(bytes) } else { None };
        // Frames come in runs. What was known a moment ago is known; all else is looked at anew.
        if (last.dst, last.src, last.verdict.tag) == (dst, src, tag)
            && matches!(last.verdict.fate, Fate::To(_))
        {
            return last.verdict;
        }
        let mut vlan = 0;
        if let Some(vlans) = &self.fabric.vlans {
            match vlans[from].admit(tag) {
                Some(vid) => vlan = vid,
                None => return drop(Reason::Vlan),
            }
        }
        if dst[..5] == RESERVED && dst[5] < 0x10 && !self.fabric.passes_reserved {
            return drop(Reason::Reserved);
        }
        // Neither a group nor nobody sends frames.
        if src[0] & 1 == 0 && src != [0; 6] {
            #[expect(clippy::cast_possible_truncation, reason = "at most 4096 ports")]
            let learnt = self.fabric.fdb.learn(Station::new(vlan, src), from as u16, now_ms);
            if learnt != Learnt::Known {
                note(learnt, tally);
            }
        }
        let known = if dst[0] & 1 == 0 {
            self.fabric.fdb.find_port(Station::new(vlan, dst), now_ms)
        } else {
            None
        };
        let fate = match known {
            Some(to) if usize::from(to) == from => Fate::Drop(Reason::SamePort),
            Some(to) => Fate::To(to),
            None => self.flood(from),
        };
        *last = Last { dst, src, verdict: Verdict { fate, vlan, tag } };
        last.verdict
    }

    #[inline]
    fn flood(&self, from: usize) -> Fate {
        match &self.fabric.storms {
            Some(storms) if !storms[from].admits() => Fate::Drop(Reason::Storm),
            _ => Fate::Flood,
        }
    }

    /// Takes the burst apart, frame by frame.
    fn scatter(
        &mut self,
        from: usize,
        verdicts: &[Verdict],
        burst: &mut Burst<Cpu>,
        bench: &mut Bench<'_>,
    ) {
        let here = &bench.tally.ports[from];
        let mut forwarded = 0;
        let count = burst.len();
        for (buf, verdict) in burst.drain_front(count).zip(verdicts) {
            let parcel = bench.mirrored(buf);
            match verdict.fate {
                Fate::To(to) => {
                    forwarded += 1;
                    let to = usize::from(to);
                    let want = self.tag_of(to, verdict);
                    if want == verdict.tag {
                        bench.push(to, parcel);
                    } else {
                        bench.push_retagged(&[to], parcel, verdict.tag, want);
                    }
                }
                Fate::Flood => self.spread(from, verdict, parcel, bench),
                Fate::Drop(reason) => {
                    here.dropped(reason, 1);
                    parcel.free(bench.cache);
                }
            }
        }
        here.forwarded.add(forwarded);
        for (outlet, tally) in bench.outlets.iter_mut().zip(&bench.tally.ports) {
            outlet.flush(bench.cache, tally);
        }
        if let (Some(mirror), Some(tally)) = (&mut bench.mirror, bench.tally.ports.last()) {
            mirror.flush(bench.cache, tally);
        }
    }

    /// Gives a frame to every port that it can leave by.
    fn spread(&mut self, from: usize, verdict: &Verdict, parcel: Parcel, bench: &mut Bench<'_>) {
        self.plain.clear();
        self.tagged.clear();
        // All ports that send a tag send the same one.
        let mut tag = verdict.tag;
        for port in (0..bench.outlets.len()).filter(|port| *port != from) {
            let is_member =
                self.fabric.vlans.as_ref().is_none_or(|vlans| vlans[port].has(verdict.vlan));
            if !is_member || !bench.outlets[port].is_open() {
                continue;
            }
            match self.tag_of(port, verdict) {
                None => self.plain.push(port),
                some => {
                    tag = some;
                    self.tagged.push(port);
                }
            }
        }
        let here = &bench.tally.ports[from];
        let replicas = self.plain.len() + self.tagged.len();
        if replicas == 0 {
            here.dropped(Reason::Nowhere, 1);
            return parcel.free(bench.cache);
        }
        here.flooded.add(1);
        here.replicas.add(replicas);
        // Where both kinds of ports are, the one kind gets the frame, and the other a copy.
        let (plain, tagged) = ((&self.plain[..], None), (&self.tagged[..], tag));
        let frame_is_for_plain = match (&self.plain[..], &self.tagged[..]) {
            (_, []) => true,
            ([], _) => false,
            _ => verdict.tag.is_none(),
        };
        let (first, second) = if frame_is_for_plain { (plain, tagged) } else { (tagged, plain) };
        if !second.0.is_empty() {
            bench.push_copy(second.0, &parcel, verdict.tag, second.1);
        }
        if first.1 == verdict.tag {
            bench.push_all(first.0, parcel);
        } else {
            bench.push_retagged(first.0, parcel, verdict.tag, first.1);
        }
    }
}

impl Bench<'_> {
    /// Gives the mirror a reference, if there is one.
    #[inline]
    fn mirrored(&mut self, buf: Buf<Cpu>) -> Parcel {
        let Some(mirror) = &mut self.mirror else {
            return Parcel::Own(buf);
        };
        let Some(tally) = self.tally.ports.last() else {
            return Parcel::Own(buf);
        };
        match buf.share() {
            Ok(shared) => {
                mirror.push(self.cache, Parcel::Shared(shared.clone()), tally);
                Parcel::Shared(shared)
            }
            Err(buf) => unreachable!("slot {:?}: the pool is shareable", buf.slot()),
        }
    }

    /// Gives a frame to ports, by reference if they are several.
    fn push_all(&mut self, ports: &[usize], parcel: Parcel) {
        let Some((last, others)) = ports.split_last() else {
            return parcel.free(self.cache);
        };
        let parcel = match parcel {
            Parcel::Own(buf) if !others.is_empty() => match buf.share() {
                Ok(shared) => Parcel::Shared(shared),
                Err(buf) => unreachable!("slot {:?}: the pool is shareable", buf.slot()),
            },
            parcel => parcel,
        };
        if let Parcel::Shared(shared) = &parcel {
            for port in others {
                self.push(*port, Parcel::Shared(shared.clone()));
            }
        }
        self.push(*last, parcel);
    }

    /// Gives a frame to ports with another tag: changed in place if nobody else reads it.
    fn push_retagged(
        &mut self,
        ports: &[usize],
        mut parcel: Parcel,
        have: Option<Tci>,
        want: Option<Tci>,
    ) {
        if let Parcel::Own(buf) = &mut parcel
            && set_tag(&mut buf.frame_mut(), have, want)
        {
            return self.push_all(ports, parcel);
        }
        self.push_copy(ports, &parcel, have, want);
        parcel.free(self.cache);
    }

    /// Gives ports a copy of a frame, with another tag.
    fn push_copy(
        &mut self,
        ports: &[usize],
        parcel: &Parcel,
        have: Option<Tci>,
        want: Option<Tci>,
    ) {
        let copied = match parcel {
            Parcel::Own(buf) => copy(self.cache, buf.frame()),
            Parcel::Shared(buf) => copy(self.cache, buf.frame()),
        };
        if let Some(mut copied) = copied {
            if set_tag(&mut copied.frame_mut(), have, want) {
                self.tally.copied.add(1);
                return self.push_all(ports, Parcel::Own(copied));
            }
            Parcel::Own(copied).free(self.cache);
        }
        for port in ports {
            let tally: &PortTally = &self.tally.ports[*port];
            tally.handed.add(1);
            tally.unsent(Unsent::NoBuffer, 1);
        }
    }
}

#[cold]
fn note(learnt: Learnt, tally: &Tally) {
    match learnt {
        Learnt::Known => {}
        Learnt::New => tally.learnt.add(1),
        Learnt::Moved => tally.moved.add(1),
        Learnt::Full => tally.full.add(1),
        Learnt::Busy => tally.deferred.add(1),
    }
}

#[cfg(test)]
mod tests;
