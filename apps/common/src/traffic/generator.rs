//! Makes frames in the buffers of a pool of its own. A buffer holds a whole frame from the start on;
//! what is sent of it comes back with its payload and checksum still valid, so that per frame only
//! the sequence number is written, and a timestamp, and where sizes or flows change, a head. Knows
//! no port and no clock.

use std::net::IpAddr;

use mempool::{Burst, Cache, Cpu, Frame, FrameMut, Pool, RxMeta};

use super::{
    AppHeader, HeaderForm, Made, TemplateError, TestHeader, Traffic, Transport, checksum,
    flows::{FlowError, FlowKey},
    random::Random,
    shape::{Shape, Shapes},
};

/// One flow: what it writes into a frame, and how far it is.
struct FlowState {
    src: [u8; 16],
    dst: [u8; 16],
    ports: [u8; 4],
    addr_sum: u64,
    port_sum: u64,
    sequence: u64,
    tcp: u32,
}

impl FlowState {
    fn new(key: &FlowKey) -> Self {
        let octets = |addr: IpAddr| {
            let mut bytes = [0; 16];
            match addr {
                IpAddr::V4(addr) => bytes[..4].copy_from_slice(&addr.octets()),
                IpAddr::V6(addr) => bytes = addr.octets(),
            }
            bytes
        };
        let (src, dst) = (octets(key.src), octets(key.dst));
        let [a, b] = key.src_port.to_be_bytes();
        let [c, d] = key.dst_port.to_be_bytes();
        Self {
            addr_sum: checksum::add(checksum::add(0, &src), &dst),
            port_sum: u64::from(key.src_port) + u64::from(key.dst_port),
            src,
            dst,
            ports: [a, b, c, d],
            sequence: 0,
            tcp: 0,
        }
    }
}

/// Where things stand in every frame, and what is to be written.
#[derive(Clone, Copy)]
struct Layout {
    is_v4: bool,
    is_tcp: bool,
    has_checksum: bool,
    has_id: bool,
    app: AppHeader,
    ip: usize,
    l4: usize,
    app_at: usize,
    test: usize,
}

/// Makes one worker's share of the traffic.
pub struct Generator {
    layout: Layout,
    shapes: Shapes,
    schedule: Vec<u32>,
    turn: usize,
    random_sizes: bool,
    /// The worker's flows; behind them the foreign one.
    flows: Vec<FlowState>,
    own: usize,
    flow_turn: usize,
    random_flows: bool,
    /// The worker's share: flow `i` of its own is flow `first + i * of` of all.
    share: (usize, usize),
    /// The flow of the frame that was last made in each slot.
    made_for: Vec<u32>,
    random: Random,
    /// Below this draw a frame is foreign.
    foreign_below: u64,
    fresh: bool,
    /// Frames differ in more than their number and what depends on it.
    has_variants: bool,
    /// Nothing but the test header changes from frame to frame.
    is_uniform: bool,
    made: Made,
}

impl Generator {
    /// A generator that makes part `index` of `of` equal parts of the traffic: every `of`-th flow.
    /// All of the pool's buffers are written now. Nobody else may draw on the pool, nor write what
    /// is in its buffers, except whole frames of this generator.
    ///
    /// # Errors
    /// The template makes no frame, or one that does not fit a buffer; there are fewer flows than
    /// parts.
    pub fn new(
        pool: &Pool<Cpu>,
        traffic: &Traffic,
        index: usize,
        of: usize,
    ) -> Result<Self, TemplateError> {
        traffic.check()?;
        let template = &traffic.template;
        let sizes = traffic.sizes();
        let (frame_len, room) = (sizes.longest(), pool.room());
        if frame_len > room {
            let needed = frame_len + pool.headroom();
            return Err(TemplateError::NoRoom { frame_len, room, needed });
        }
        let keys = traffic.flows.keys(template)?;
        let mut flows: Vec<_> =
            keys.iter().skip(index).step_by(of.max(1)).map(FlowState::new).collect();
        let Some(own) = Some(flows.len()).filter(|own| *own > 0) else {
            return Err(FlowError::Queues { flows: keys.len(), queues: of }.into());
        };
        let first = keys[index];
        flows.push(FlowState::new(&FlowKey { dst_port: first.dst_port.wrapping_add(1), ..first }));
        flows[own].sequence = u64::MAX;
        #[expect(clippy::cast_possible_truncation, reason = "a share of 2^64; casts saturate")]
        #[expect(clippy::cast_sign_loss, reason = "clamped")]
        let foreign_below = (traffic.foreign.clamp(0.0, 1.0) * u64::MAX as f64) as u64;
        let seed = traffic.seed.wrapping_add(index as u64);
        let shapes = Shapes::new(template, &sizes.distinct(), seed)?;
        let layout = Layout {
            is_v4: template.src.is_ipv4(),
            is_tcp: template.transport != Transport::Udp,
            has_checksum: template.has_checksum(),
            has_id: template.ip_id,
            app: template.app,
            ip: template.ip_at(),
            l4: template.udp_at(),
            app_at: template.payload_at(),
            test: template.test_at(),
        };
        let has_variants = shapes.len() > 1 || own > 1 || foreign_below > 0;
        let mut generator = Self {
            has_variants,
            is_uniform: !has_variants
                && !traffic.fresh
                && !layout.has_checksum
                && !layout.has_id
                && layout.app == AppHeader::None,
            layout,
            shapes,
            schedule: sizes.schedule(),
            turn: 0,
            random_sizes: traffic.random_sizes,
            flows,
            own,
            flow_turn: 0,
            random_flows: traffic.flows.random,
            share: (index, of.max(1)),
            made_for: vec![0; pool.slot_bound()],
            random: Random::new(seed),
            foreign_below,
            fresh: traffic.fresh,
            made: Made::default(),
        };
        generator.prepare(pool);
        Ok(generator)
    }

    /// Writes a whole frame into every buffer of the pool.
    fn prepare(&mut self, pool: &Pool<Cpu>) {
        let (mut cache, mut full) = (pool.cache(), Vec::new());
        loop {
            let mut burst = Burst::with_limit(pool, Burst::<Cpu>::CAPACITY);
            if cache.take(&mut burst, Burst::<Cpu>::CAPACITY) == 0 {
                break;
            }
            for at in 0..burst.len() {
                let mut frame = burst.frame_mut(at);
                frame.set_len(self.shapes.longest());
                self.shapes.fill(frame.bytes_mut());
                self.write(&mut frame, 0, 0, (0, 0), true);
            }
            full.push(burst);
        }
        full.iter_mut().for_each(|burst| burst.recycle(&mut cache));
    }

    /// Appends up to `want` frames to `burst`, stamped `now_ns`; returns how many there were buffers
    /// for.
    #[inline]
    pub fn fill(
        &mut self,
        cache: &mut Cache<Cpu>,
        burst: &mut Burst<Cpu>,
        want: usize,
        now_ns: u64,
    ) -> usize {
        let before = burst.len();
        let got = cache.take_bare(burst, want);
        if self.is_uniform {
            self.number(burst, before, now_ns);
        } else {
            for at in before..before + got {
                self.make(&mut burst.frame_mut(at), now_ns);
            }
        }
        got
    }

    /// Frames made so far.
    #[must_use]
    pub fn made(&self) -> Made {
        self.made
    }

    /// Whether frames carry a timestamp.
    #[must_use]
    pub fn is_stamped(&self) -> bool {
        // Sizes ascend, and the long form is that of the longer ones.
        self.shapes.last().is_some_and(|shape| shape.form == HeaderForm::Long)
    }

    /// Takes frames back that were made last and not sent, so that their numbers are used again.
    pub fn unmake(&mut self, burst: &Burst<Cpu>) {
        for frame in burst.iter() {
            self.made.bytes -= frame.len() as u64;
            if self.is_foreign(frame) {
                self.made.foreign -= 1;
            } else {
                let flow = self.made_for[frame.slot().index() as usize];
                self.flows[flow as usize].sequence -= 1;
                self.made.frames -= 1;
            }
        }
    }

    /// Whether a frame that this generator made is a foreign one.
    #[must_use]
    pub fn is_foreign(&self, frame: Frame<'_, Cpu>) -> bool {
        self.made_for[frame.slot().index() as usize] as usize == self.own
    }

    /// For each flow of this generator: its number among all flows, and the number of its next
    /// frame.
    pub fn flows(&self) -> impl Iterator<Item = (usize, u64)> {
        let (first, of) = self.share;
        let own = self.flows[..self.own].iter().enumerate();
        own.map(move |(at, flow)| (first + at * of, flow.sequence))
    }

    /// Frames of one shape and one flow: their numbers, and the time.
    #[inline]
    fn number(&mut self, burst: &mut Burst<Cpu>, from: usize, now_ns: u64) {
        let shape = self.shapes.get(0);
        let got = (burst.len() - from) as u64;
        burst.received_alike(from, shape.len, &RxMeta::default());
        let at = self.layout.test + TestHeader::SEQUENCE_AT;
        let mut sequence = self.flows[0].sequence;
        match shape.form {
            HeaderForm::None => sequence += got,
            HeaderForm::Short => burst.for_each_mut(from, |mut frame| {
                frame.bytes_mut()[at..at + 8].copy_from_slice(&sequence.to_be_bytes());
                sequence += 1;
            }),
            HeaderForm::Long => {
                let now = now_ns.to_be_bytes();
                burst.for_each_mut(from, |mut frame| {
                    let header = &mut frame.bytes_mut()[at..at + 16];
                    header[..8].copy_from_slice(&sequence.to_be_bytes());
                    header[8..].copy_from_slice(&now);
                    sequence += 1;
                });
            }
        }
        self.flows[0].sequence = sequence;
        self.made.frames += got;
        self.made.bytes += got * shape.len as u64;
    }

    /// Makes one frame: its turn of size and flow.
    #[inline]
    fn make(&mut self, frame: &mut FrameMut<'_, Cpu>, now_ns: u64) {
        let turn = self.next_turn();
        let shape = self.schedule[turn];
        let is_foreign = self.foreign_below > 0 && self.random.draw() < self.foreign_below;
        let at = if is_foreign { self.own } else { self.next_flow() };
        let sequence = self.flows[at].sequence;
        let len = self.shapes.get(shape).len;
        frame.received(len, &RxMeta::default());
        self.write(frame, shape, at, (sequence, now_ns), false);
        // What IP's length leaves for it is of 16 bits.
        let carried = u32::try_from(len - self.layout.app_at).unwrap_or(0);
        let flow = &mut self.flows[at];
        flow.tcp = flow.tcp.wrapping_add(carried);
        self.made.bytes += len as u64;
        if is_foreign {
            self.made.foreign += 1;
        } else {
            flow.sequence += 1;
            self.made.frames += 1;
        }
    }

    #[inline]
    fn next_turn(&mut self) -> usize {
        if self.random_sizes {
            return self.random.below(self.schedule.len());
        }
        let turn = self.turn;
        self.turn = if turn + 1 < self.schedule.len() { turn + 1 } else { 0 };
        turn
    }

    #[inline]
    fn next_flow(&mut self) -> usize {
        if self.random_flows {
            return self.random.below(self.own);
        }
        let turn = self.flow_turn;
        self.flow_turn = if turn + 1 < self.own { turn + 1 } else { 0 };
        turn
    }

    /// Writes what a buffer does not hold yet, and what is new about the frame.
    #[inline]
    fn write(
        &mut self,
        frame: &mut FrameMut<'_, Cpu>,
        shape_index: u32,
        flow_index: usize,
        (sequence, now_ns): (u64, u64),
        is_new: bool,
    ) {
        let layout = self.layout;
        #[expect(clippy::cast_possible_truncation, reason = "at most 2^20 flows and one")]
        let number = flow_index as u32;
        self.made_for[frame.view().slot().index() as usize] = number;
        let shape = self.shapes.get(shape_index);
        let flow = &self.flows[flow_index];
        let bytes = frame.bytes_mut();
        // Without asking what the buffer holds: a port may have copied one frame over another, as
        // one that duplicates does. Both were ours, so the payload is right in either case.
        if self.shapes.len() > 1 || is_new {
            let head = self.shapes.head(shape_index);
            bytes[..head.len()].copy_from_slice(head);
        }
        if self.has_variants || is_new {
            write_flow(bytes, &layout, shape, flow);
        }
        if layout.has_id {
            write_id(bytes, &layout, shape, flow, sequence);
        }
        let test = &mut bytes[layout.test..];
        match shape.form {
            HeaderForm::None => {}
            HeaderForm::Short => test[8..16].copy_from_slice(&sequence.to_be_bytes()),
            HeaderForm::Long => TestHeader::restamp(test, sequence, now_ns),
        }
        let mut sum = write_app(&mut bytes[layout.app_at..], layout.app, sequence);
        if layout.is_tcp {
            bytes[layout.l4 + 4..layout.l4 + 8].copy_from_slice(&flow.tcp.to_be_bytes());
            sum = checksum::add_u64(sum, u64::from(flow.tcp));
        }
        if self.fresh {
            return write_fresh(bytes, &layout, shape, &mut self.random);
        }
        if layout.has_checksum {
            sum += shape.l4_sum + flow.addr_sum + flow.port_sum;
            match shape.form {
                HeaderForm::None => {}
                HeaderForm::Short => sum = checksum::add_u64(sum, sequence),
                HeaderForm::Long => {
                    sum = checksum::add_u64(checksum::add_u64(sum, sequence), now_ns);
                }
            }
            write_l4_checksum(bytes, &layout, checksum::finish(sum));
        }
    }
}

/// Addresses, ports, and the IPv4 checksum that goes with them.
fn write_flow(bytes: &mut [u8], layout: &Layout, shape: &Shape, flow: &FlowState) {
    let ip = layout.ip;
    if layout.is_v4 {
        bytes[ip + 12..ip + 16].copy_from_slice(&flow.src[..4]);
        bytes[ip + 16..ip + 20].copy_from_slice(&flow.dst[..4]);
        let checksum = checksum::finish(shape.ip_sum + flow.addr_sum);
        bytes[ip + 10..ip + 12].copy_from_slice(&checksum.to_be_bytes());
    } else {
        bytes[ip + 8..ip + 24].copy_from_slice(&flow.src);
        bytes[ip + 24..ip + 40].copy_from_slice(&flow.dst);
    }
    bytes[layout.l4..layout.l4 + 4].copy_from_slice(&flow.ports);
}

/// The IPv4 identification, and the checksum that goes with it.
#[inline]
fn write_id(bytes: &mut [u8], layout: &Layout, shape: &Shape, flow: &FlowState, sequence: u64) {
    let ip = layout.ip;
    #[expect(clippy::cast_possible_truncation, reason = "the low bits: the counter wraps")]
    let id = sequence as u16;
    bytes[ip + 4..ip + 6].copy_from_slice(&id.to_be_bytes());
    let checksum = checksum::finish(shape.ip_sum + flow.addr_sum + u64::from(id));
    bytes[ip + 10..ip + 12].copy_from_slice(&checksum.to_be_bytes());
}

/// What changes in the application header; returns its sum.
#[inline]
fn write_app(bytes: &mut [u8], app: AppHeader, sequence: u64) -> u64 {
    match app {
        AppHeader::None => 0,
        AppHeader::Rtp { step, .. } => {
            // Both counters wrap.
            #[expect(clippy::cast_possible_truncation, reason = "the low bits")]
            let (number, time) = (sequence as u16, (sequence as u32).wrapping_mul(step));
            bytes[2..4].copy_from_slice(&number.to_be_bytes());
            bytes[4..8].copy_from_slice(&time.to_be_bytes());
            checksum::add_u64(u64::from(number), u64::from(time))
        }
        AppHeader::Spead { .. } => {
            let heap = sequence & 0xffff_ffff_ffff;
            bytes[10..16].copy_from_slice(&heap.to_be_bytes()[2..]);
            checksum::add_u64(0, heap)
        }
    }
}

/// RFC 768: a UDP checksum of 0 means none, and is sent as its other form.
#[inline]
fn write_l4_checksum(bytes: &mut [u8], layout: &Layout, checksum: u16) {
    let (at, checksum) = match layout.is_tcp {
        true => (layout.l4 + 16, checksum),
        false => (layout.l4 + 6, if checksum == 0 { 0xffff } else { checksum }),
    };
    bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// A new payload, and the sums over it.
fn write_fresh(bytes: &mut [u8], layout: &Layout, shape: &Shape, random: &mut Random) {
    let (head, payload) = bytes.split_at_mut(layout.test + shape.form.len());
    random.fill(payload);
    if !shape.form.is_empty() {
        let crc = crc32c::crc32c(payload);
        head[layout.test + 4..layout.test + 8].copy_from_slice(&crc.to_be_bytes());
    }
    if layout.has_checksum {
        let zero = if layout.is_tcp { layout.l4 + 16 } else { layout.l4 + 6 };
        bytes[zero..zero + 2].fill(0);
        let addresses = if layout.is_v4 { layout.ip + 12 } else { layout.ip + 8 };
        let protocol = if layout.is_tcp { 6 } else { 17 };
        let sum = protocol + (bytes.len() - layout.l4) as u64;
        let sum = checksum::add(sum, &bytes[addresses..]);
        write_l4_checksum(bytes, layout, checksum::finish(sum));
    }
}

#[cfg(test)]
mod tests;
