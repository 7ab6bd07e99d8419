//! The chip as a whole: registers, reset, link, and who works when. What registers mean for frames is in
//! `receive`, `transmit` and `interrupt`.

use std::{collections::VecDeque, os::fd::OwnedFd, sync::Arc, time::Instant};

use super::{
    checker::Checker,
    counters,
    map::{self, queue},
    options::{Chip, Lie, Options},
    phy::Phy,
    random::Random,
    receive::{RxQueue, Waiting},
    ring::Ring,
    space::Space,
    transmit::TxQueue,
    wire::End,
};

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Rx,
    Tx,
}

/// A register of a queue.
struct QueueRegister {
    side: Side,
    queue: usize,
    /// Relative to the queue's first.
    register: u32,
    /// Of the queue's first.
    block: u32,
}

/// What stands behind the registers.
pub(super) struct Core {
    pub(super) chip: Chip,
    pub(super) options: Options,
    pub(super) regs: Vec<u32>,
    pub(super) rx: Vec<RxQueue>,
    pub(super) tx: Vec<TxQueue>,
    pub(super) fifo: VecDeque<Waiting>,
    pub(super) fifo_bytes: usize,
    pub(super) space: Arc<Space>,
    pub(super) checker: Checker,
    pub(super) random: Random,
    pub(super) phy: Phy,
    pub(super) vectors: Vec<Arc<OwnedFd>>,
    pub(super) wire: End,
    pub(super) bus_master: bool,
    pub(super) gone: bool,
    pub(super) removal: bool,
    pub(super) aer: bool,
    pub(super) lies_told: u64,
    /// Where frames were put, for those who write there again.
    pub(super) touched: VecDeque<(u64, usize)>,
    /// Buffers of receive queues that were stopped, for those who write there again.
    pub(super) stale: Vec<u64>,
    accesses: u64,
    pub(super) cable_in: bool,
    pub(super) link: bool,
    /// How long until the link is up, once it can be.
    pub(super) link_wait: u32,
    reset: Option<(Instant, u32)>,
}

impl Core {
    pub(super) fn new(options: Options, space: Arc<Space>) -> Self {
        let chip = options.chip;
        let ring = |side: &str, at| Ring::new(format!("{side} queue {at}"));
        let mut core = Self {
            chip,
            regs: vec![0; map::BAR_BYTES as usize / 4],
            rx: (0..chip.queues()).map(|at| RxQueue::new(ring("rx", at))).collect(),
            tx: (0..chip.queues()).map(|at| TxQueue::new(ring("tx", at))).collect(),
            fifo: VecDeque::new(),
            fifo_bytes: 0,
            space,
            checker: Checker::default(),
            random: Random::new(options.seed),
            phy: Phy::new(chip),
            vectors: Vec::new(),
            wire: End::default(),
            bus_master: false,
            gone: false,
            removal: false,
            aer: false,
            lies_told: 0,
            touched: VecDeque::new(),
            stale: Vec::new(),
            accesses: 0,
            cable_in: true,
            link: false,
            link_wait: options.link_delay,
            reset: None,
            options,
        };
        core.reset_registers();
        core
    }

    pub(super) fn reg(&self, offset: u32) -> u32 {
        self.regs[offset as usize / 4]
    }

    pub(super) fn set(&mut self, offset: u32, value: u32) {
        self.regs[offset as usize / 4] = value;
    }

    pub(super) fn has(&self, offset: u32, bits: u32) -> bool {
        self.reg(offset) & bits == bits
    }

    /// Register accesses so far.
    pub(super) fn accesses(&self) -> u64 {
        self.accesses
    }

    /// Whether DMA can happen at all.
    pub(super) fn is_alive(&self) -> bool {
        let held = self.reg(map::CTRL) & map::CTRL_GIO_MASTER_DISABLE != 0;
        !held && self.may_write()
    }

    /// Whether what has begun can end.
    pub(super) fn may_write(&self) -> bool {
        !self.gone && self.reset.is_none() && self.bus_master
    }

    fn access(&mut self, offset: u32) -> bool {
        let at = self.accesses;
        self.accesses += 1;
        if self.options.faults.gone_at.is_some_and(|gone| at >= gone) {
            self.gone = true;
        }
        if self.gone {
            return false;
        }
        if offset >= map::BAR_BYTES || !offset.is_multiple_of(4) {
            self.checker.note(format!("no register at {offset:#x}"));
            return false;
        }
        true
    }

    /// The chip is in reset: only a few registers answer (82574 §10.2.2.1, 82576 §8.2.1).
    fn in_reset(&mut self, offset: u32) -> bool {
        let Some((since, left)) = self.reset else { return false };
        let over = left == 0 || since.elapsed().as_millis() >= 1;
        if over && !self.options.faults.reset_sticks {
            self.reset = None;
            return false;
        }
        if !matches!(offset, map::CTRL | map::STATUS | map::EEC) {
            self.checker.note(format!("register {offset:#x} touched while the chip is in reset"));
        }
        true
    }

    /// Both names of a register lead to one.
    fn canonical(&self, offset: u32) -> u32 {
        if offset == map::CTRL_ALIAS {
            return map::CTRL;
        }
        if self.chip == Chip::I82574 {
            return offset;
        }
        match offset {
            map::ICR => map::ICR_82576,
            map::ICS => map::ICS_82576,
            map::IMS => map::IMS_82576,
            map::IMC => map::IMC_82576,
            map::IAM => map::IAM_82576,
            0x2800..0x2c00 if offset & 0xff < 0x40 => {
                map::RX_QUEUES_82576 + (offset - 0x2800) / 0x100 * 0x40 + (offset & 0xff)
            }
            0x3800..0x3c00 if offset & 0xff < 0x40 => {
                map::TX_QUEUES_82576 + (offset - 0x3800) / 0x100 * 0x40 + (offset & 0xff)
            }
            _ => offset,
        }
    }

    /// First register of a queue.
    pub(super) fn queue_block(&self, side: Side, queue: usize) -> u32 {
        let at = u32::try_from(queue).unwrap_or(0);
        match (self.chip, side) {
            (Chip::I82574, Side::Rx) => map::RX_QUEUES + at * map::QUEUE_STEP,
            (Chip::I82574, Side::Tx) => map::TX_QUEUES + at * map::QUEUE_STEP,
            (Chip::I82576, Side::Rx) => map::RX_QUEUES_82576 + at * map::QUEUE_STEP_82576,
            (Chip::I82576, Side::Tx) => map::TX_QUEUES_82576 + at * map::QUEUE_STEP_82576,
        }
    }

    fn queue_register(&self, offset: u32) -> Option<QueueRegister> {
        let step = match self.chip {
            Chip::I82574 => map::QUEUE_STEP,
            Chip::I82576 => map::QUEUE_STEP_82576,
        };
        for side in [Side::Rx, Side::Tx] {
            let first = self.queue_block(side, 0);
            let queue = (offset.wrapping_sub(first) / step) as usize;
            if offset >= first && queue < self.chip.queues() {
                let block = self.queue_block(side, queue);
                return Some(QueueRegister { side, queue, register: offset - block, block });
            }
        }
        None
    }

    pub(super) fn ring(&mut self, side: Side, queue: usize) -> &mut Ring {
        match side {
            Side::Rx => &mut self.rx[queue].ring,
            Side::Tx => &mut self.tx[queue].ring,
        }
    }

    pub(super) fn read(&mut self, offset: u32) -> u32 {
        if !self.access(offset) {
            return u32::MAX;
        }
        let offset = self.canonical(offset);
        let in_reset = self.in_reset(offset);
        match offset {
            map::CTRL if in_reset => {
                if let Some((_, left)) = &mut self.reset {
                    *left = left.saturating_sub(1);
                }
                self.reg(offset) | map::CTRL_RST
            }
            _ if in_reset => 0,
            map::STATUS => {
                self.wait_for_link();
                self.end_transactions();
                self.read_status()
            }
            map::EEC => self.reg(offset) | map::EEC_READY,
            map::SWSM => {
                // Reading takes the semaphore if it is free: bit 0 reads 0 then (82574 §10.2.2.18).
                let now = self.reg(offset);
                self.set(offset, now | 1);
                now
            }
            map::RDFPC if self.chip == Chip::I82574 => self.drain_fifo(),
            map::ICR | map::ICR_82576 => self.read_causes(offset),
            _ if map::STATISTICS.contains(&offset) => counters::read(self, offset),
            _ => match self.queue_register(offset) {
                Some(QueueRegister { side, queue, register: queue::HEAD, .. }) => {
                    if self.options.hostility.lies.contains(&Lie::Head) {
                        return u32::try_from(self.random.next() >> 32).unwrap_or(0);
                    }
                    self.ring(side, queue).head()
                }
                Some(QueueRegister { side: Side::Rx, register: queue::DROPPED, .. })
                    if self.chip == Chip::I82576 =>
                {
                    std::mem::take(&mut self.regs[offset as usize / 4])
                }
                Some(QueueRegister { side: Side::Rx, queue, register: queue::CONTROL, .. })
                    if self.rx[queue].is_stopping() =>
                {
                    self.stop_a_little(queue);
                    let still =
                        if self.rx[queue].is_stopping() { queue::CONTROL_ENABLE } else { 0 };
                    self.reg(offset) | still
                }
                Some(QueueRegister { register: queue::CONTROL, .. })
                    if self.options.faults.enable_sticks && self.chip == Chip::I82576 =>
                {
                    self.reg(offset) & !queue::CONTROL_ENABLE
                }
                _ => self.reg(offset),
            },
        }
    }

    fn read_status(&self) -> u32 {
        let mut status = self.reg(map::STATUS);
        if self.link {
            status |= map::STATUS_LU | map::STATUS_FD | map::STATUS_SPEED_1000;
        }
        if self.reg(map::CTRL) & map::CTRL_GIO_MASTER_DISABLE == 0 || self.has_transactions() {
            status |= map::STATUS_GIO_MASTER;
        }
        status
    }

    pub(super) fn write(&mut self, offset: u32, value: u32) {
        if !self.access(offset) {
            return;
        }
        let offset = self.canonical(offset);
        if self.in_reset(offset) {
            return;
        }
        match offset {
            map::CTRL => self.write_ctrl(value),
            map::STATUS => {
                // Only "PHY reset asserted" can be cleared (82574 §10.2.2.2).
                let now = self.reg(offset);
                self.set(offset, now & !(map::STATUS_PHYRA & !value));
            }
            map::EERD => {
                let answer = super::phy::eeprom(&self.options, value);
                self.set(offset, answer);
            }
            map::MDIC => self.write_mdic(value),
            map::RCTL => {
                self.checker.demand(value & map::RCTL_RESERVED == 0, || {
                    format!("RCTL written with reserved bits: {value:#x}")
                });
                self.set(offset, value);
                self.start_queues(Side::Rx);
            }
            map::TCTL => {
                self.set(offset, value);
                self.start_queues(Side::Tx);
            }
            map::SWSM => self.set(offset, value),
            _ if map::STATISTICS.contains(&offset) => {}
            _ if self.write_interrupt(offset, value) => {}
            _ => match self.queue_register(offset) {
                Some(register) => self.write_queue(&register, value),
                None => self.set(offset, value),
            },
        }
        self.watch_link();
    }

    fn write_ctrl(&mut self, value: u32) {
        self.set(map::CTRL, value & !(map::CTRL_RST | map::CTRL_PHY_RST));
        if value & map::CTRL_PHY_RST != 0 {
            self.phy = Phy::new(self.chip);
            let status = self.reg(map::STATUS);
            self.set(map::STATUS, status | map::STATUS_PHYRA);
        }
        if value & map::CTRL_RST != 0 {
            self.reset_registers();
            self.reset = Some((Instant::now(), self.options.reset_delay));
        }
    }

    fn write_mdic(&mut self, value: u32) {
        let link = self.link;
        let answer = self.phy.access(value, link);
        self.set(map::MDIC, answer);
    }

    /// What a reset of any kind does to registers, rings and frames inside.
    fn reset_registers(&mut self) {
        self.regs.fill(0);
        self.rx.iter_mut().for_each(RxQueue::reset);
        self.tx.iter_mut().for_each(TxQueue::reset);
        self.fifo.clear();
        self.fifo_bytes = 0;
        self.set(map::CTRL, map::CTRL_FD);
        self.set(map::VET, 0x8100);
        self.set(map::RXCSUM, map::RXCSUM_IPOFLD | map::RXCSUM_TUOFLD);
        let mac = self.options.mac;
        self.set(map::RAL, u32::from_le_bytes([mac[0], mac[1], mac[2], mac[3]]));
        self.set(map::RAL + 4, u32::from_le_bytes([mac[4], mac[5], 0, 0]) | map::RAH_AV);
        if self.chip == Chip::I82576 {
            // Every packet type splits unless told otherwise (82576 §8.10.4).
            (0..8).for_each(|pool| self.set(map::PSRTYPE + 4 * pool, 0x7_fffe));
            // Transmit queue 0 and receive queue 0 are enabled after reset in the 82575 only.
        }
        self.link = false;
        self.link_wait = self.options.link_delay;
    }

    /// A reset through configuration space: the bus does it, whatever the chip is doing.
    pub(super) fn function_reset(&mut self) {
        self.reset_registers();
        self.phy = Phy::new(self.chip);
        self.reset = None;
        self.vectors.clear();
    }

    fn write_queue(&mut self, at: &QueueRegister, value: u32) {
        let &QueueRegister { side, queue, register, block } = at;
        let active = self.ring(side, queue).is_active();
        let name = self.ring(side, queue).name().to_owned();
        match register {
            queue::BASE_LOW | queue::BASE_HIGH | queue::LENGTH | queue::HEAD => {
                let active = active && !self.forget_paused(side, queue);
                self.checker.demand(!active, || {
                    format!("register {register:#x} of {name} changed while it runs")
                });
                self.set(block + register, value);
            }
            queue::TAIL => {
                self.set(block + register, value);
                self.ring(side, queue).bell();
                self.checker.demand(self.bus_master, || {
                    format!("tail of {name} written while the device may not master the bus")
                });
                if active {
                    self.give(side, queue, value);
                } else if self.chip == Chip::I82576 && value != 0 {
                    self.checker.note(format!("tail of {name} written before it was enabled"));
                }
            }
            queue::CONTROL => {
                let was = self.reg(block + register) & queue::CONTROL_ENABLE;
                self.set(block + register, value);
                if self.chip == Chip::I82574 {
                    return;
                }
                match (was != 0, value & queue::CONTROL_ENABLE != 0) {
                    (false, true) => {
                        // What was in the tail register before does not count (82576 §8.10.8).
                        self.set(block + queue::TAIL, 0);
                        self.start_queue(side, queue);
                    }
                    (true, false) if side == Side::Rx => self.begin_stop(queue),
                    (true, false) => self.ring(side, queue).stop(),
                    _ => {}
                }
            }
            _ => self.set(block + register, value),
        }
    }

    /// The device is given the descriptors up to this tail.
    fn give(&mut self, side: Side, queue: usize, tail: u32) {
        let space = Arc::clone(&self.space);
        let mut checker = std::mem::take(&mut self.checker);
        let ring = self.ring(side, queue);
        let seen = ring.ready();
        ring.advance(tail, &space, &mut checker);
        let given: Vec<_> = ring.given(seen).collect();
        self.checker = checker;
        for (index, words) in given {
            match side {
                Side::Rx => self.check_rx_descriptor(queue, index, &words),
                Side::Tx => self.check_tx_descriptor(queue, index, &words),
            }
        }
    }

    /// The 82574's queues start with the unit they belong to (82574 §4.6.5, §4.6.6).
    fn start_queues(&mut self, side: Side) {
        let on = match side {
            Side::Rx => self.has(map::RCTL, map::RCTL_EN),
            Side::Tx => self.has(map::TCTL, map::TCTL_EN),
        };
        if self.chip == Chip::I82576 {
            return;
        }
        for queue in 0..self.chip.queues() {
            let block = self.queue_block(side, queue);
            match (on, self.ring(side, queue).is_active()) {
                (true, false) if self.reg(block + queue::LENGTH) != 0 => {
                    self.start_queue(side, queue);
                }
                // The receive unit goes on with what its memory holds.
                (false, true) if side == Side::Tx => self.ring(side, queue).stop(),
                _ => {}
            }
        }
    }

    fn start_queue(&mut self, side: Side, queue: usize) {
        let block = self.queue_block(side, queue);
        let register = |at| self.reg(block + at);
        let base =
            u64::from(register(queue::BASE_HIGH)) << 32 | u64::from(register(queue::BASE_LOW));
        let length = register(queue::LENGTH);
        let ends = (register(queue::HEAD), 0);
        let tail = register(queue::TAIL);
        let unit = if side == Side::Rx { self.rx_unit() } else { 16 };
        let space = Arc::clone(&self.space);
        let mut checker = std::mem::take(&mut self.checker);
        self.ring(side, queue).start((base, length, unit), ends, &space, &mut checker);
        self.checker = checker;
        if side == Side::Rx {
            self.check_rx_buffers(queue);
        }
        if self.ring(side, queue).is_active() && tail != 0 {
            self.give(side, queue, tail);
        }
    }
}
