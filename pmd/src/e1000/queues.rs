//! From a plan to queues: memory for rings, queues of the right form around it. Knows which type serves
//! which chip; what queues do is theirs.

use std::io;

use super::{
    chip::{Chip, LONGEST},
    descriptor::{
        receive::{HeaderSplit, PacketSplit},
        transmit::{Advanced, Legacy, TxFormat},
    },
    interrupts::Vectors,
    plan::{Plan, RxForm, RxPlan},
    register::Registers,
    registers::{RDBAH, RDBAL, RDH, RDLEN, RDT, TDBAH, TDBAL, TDH, TDLEN, TDT},
    ring::{Long, Short, Start, Wiring},
    rx::{Shape, SplitRx, SplitShape, Wake, WholeRx},
    tx::Tx,
};
use crate::{
    AnyRxQueue, Error, Iova, MapError, QueueCounters, Queues, RxMemory, TxConfig, TxQueue,
    pci::{Bus, Gate, Mmio, SharedMemory},
};

/// Where a ring is, for the chip.
pub(super) struct RingMemory {
    iova: Iova,
    bytes: usize,
}

impl RingMemory {
    fn of(memory: &SharedMemory, bytes: usize) -> Self {
        Self { iova: memory.iova(), bytes }
    }

    /// Base, length, and both ends at the start (82574 §4.6.5, 82576 §4.5.9).
    pub(super) fn program_rx<M: Mmio>(&self, queue: &Registers<M>) {
        let (low, high, bytes) = self.words();
        queue.write(RDBAL(low));
        queue.write(RDBAH(high));
        queue.write(RDLEN(bytes));
        queue.write(RDH(0));
        queue.write(RDT(0));
    }

    /// As [`Self::program_rx`], of a transmit ring (82574 §4.6.6, 82576 §4.5.10).
    pub(super) fn program_tx<M: Mmio>(&self, queue: &Registers<M>) {
        let (low, high, bytes) = self.words();
        queue.write(TDBAL(low));
        queue.write(TDBAH(high));
        queue.write(TDLEN(bytes));
        queue.write(TDH(0));
        queue.write(TDT(0));
    }

    fn words(&self) -> (u32, u32, u32) {
        let half = |shift: u32| u32::try_from(self.iova.0 >> shift & 0xFFFF_FFFF).unwrap_or(0);
        (half(0), half(32), u32::try_from(self.bytes).unwrap_or(0))
    }
}

/// A receive queue of any form.
pub(super) enum Rx<B: Bus> {
    Whole(WholeRx<B::Mmio, B::Mapper>),
    Split82574(SplitRx<PacketSplit, B::Mmio, B::Mapper>),
    Split82576(SplitRx<HeaderSplit, B::Mmio, B::Mapper>),
}

impl<B: Bus> Rx<B> {
    /// Gives it its first buffers; the chip runs it.
    pub(super) fn fill(&mut self) {
        match self {
            Self::Whole(queue) => queue.fill(),
            Self::Split82574(queue) => queue.fill(),
            Self::Split82576(queue) => queue.fill(),
        }
    }

    /// Its gate.
    pub(super) fn gate(&self) -> Gate {
        match self {
            Self::Whole(queue) => queue.gate(),
            Self::Split82574(queue) => queue.gate(),
            Self::Split82576(queue) => queue.gate(),
        }
    }

    /// The queue, for the app.
    pub(super) fn boxed(self) -> AnyRxQueue {
        match self {
            Self::Whole(queue) => AnyRxQueue::Whole(Box::new(queue)),
            Self::Split82574(queue) => AnyRxQueue::Split(Box::new(queue)),
            Self::Split82576(queue) => AnyRxQueue::Split(Box::new(queue)),
        }
    }
}

/// The queues of a start, and where their rings are.
pub(super) struct Built<B: Bus> {
    rx: Vec<Rx<B>>,
    tx: Vec<Box<dyn TxQueue>>,
    /// Of the receive queues: each can stop alone.
    pub(super) rx_gates: Vec<Gate>,
    pub(super) rx_rings: Vec<RingMemory>,
    pub(super) tx_rings: Vec<RingMemory>,
}

impl<B: Bus> Default for Built<B> {
    fn default() -> Self {
        let (rx_rings, tx_rings) = (Vec::new(), Vec::new());
        Self { rx: Vec::new(), tx: Vec::new(), rx_gates: Vec::new(), rx_rings, tx_rings }
    }
}

impl<B: Bus> Built<B> {
    /// Makes the queues of a plan. Their rings are empty, and nobody looks at them yet.
    pub(super) fn add(
        &mut self,
        chip: Chip,
        bus: &B,
        regs: &Registers<B::Mmio>,
        (plan, memory): (&Plan, &[RxMemory]),
        gate: &Gate,
        vectors: Option<&Vectors>,
    ) -> Result<(), Failure> {
        for (index, memory) in memory.iter().enumerate() {
            let start = Start { gate: gate.sibling(), counters: QueueCounters::default() };
            let builder = Builder { chip, bus, regs, plan, vectors };
            self.rx_gates.push(start.gate.clone());
            let (queue, ring) = builder.receiver(index, memory, start)?;
            self.rx.push(queue);
            self.rx_rings.push(ring);
        }
        for (index, queue) in plan.tx.iter().enumerate() {
            let tail = regs.at(chip.tx_queue(index)).offset_of::<TDT>();
            let start = Start { gate: gate.clone(), counters: QueueCounters::default() };
            let wiring = wiring(bus, (index, tail), queue.ring, size_of::<Short>(), start)?;
            self.tx_rings.push(RingMemory::of(&wiring.memory, queue.ring * size_of::<Short>()));
            self.tx.push(sender(chip, bus, wiring, plan, queue).map_err(Failure::Map)?);
        }
        Ok(())
    }

    /// Gives every receive queue its first buffers; the chip runs.
    pub(super) fn fill(&mut self) {
        self.rx.iter_mut().for_each(Rx::fill);
    }

    /// The queues, for the app.
    pub(super) fn into_queues(self) -> Queues {
        Queues { rx: self.rx.into_iter().map(Rx::boxed).collect(), tx: self.tx }
    }
}

/// What any queue needs: a ring of `count` descriptors of `size` bytes, and the place of its registers.
fn wiring<B: Bus>(
    bus: &B,
    (index, tail): (usize, u32),
    count: usize,
    size: usize,
    Start { gate, counters }: Start,
) -> Result<Wiring<B::Mmio>, Failure> {
    let memory = bus.share(count * size).map_err(Failure::Memory)?;
    Ok(Wiring { index, memory, descriptors: count, mmio: bus.mmio(), tail, gate, counters })
}

/// What receive queues are made of, at a start and later.
pub(super) struct Builder<'a, B: Bus> {
    pub(super) chip: Chip,
    pub(super) bus: &'a B,
    pub(super) regs: &'a Registers<B::Mmio>,
    pub(super) plan: &'a Plan,
    pub(super) vectors: Option<&'a Vectors>,
}

impl<B: Bus> Builder<'_, B> {
    /// The `index`-th receive queue of the plan on that memory, which is mapped. Its ring is empty, and
    /// nobody looks at it yet.
    pub(super) fn receiver(
        &self,
        index: usize,
        memory: &RxMemory,
        start: Start,
    ) -> Result<(Rx<B>, RingMemory), Failure> {
        let &Self { chip, bus, regs, plan, vectors } = self;
        let queue = &plan.rx[index];
        let size = match (chip, queue.form) {
            (Chip::E82574, RxForm::Split { .. }) => size_of::<Long>(),
            _ => size_of::<Short>(),
        };
        let tail = regs.at(chip.rx_queue(index)).offset_of::<RDT>();
        let wiring = wiring(bus, (index, tail), queue.descriptors, size, start)?;
        let ring = RingMemory::of(&wiring.memory, queue.descriptors * size);
        let wake = vectors.and_then(|vectors| vectors.of_queue(regs, chip, index));
        let mmio = || regs.mmio().clone();
        let wake = wake.map(|(fd, register, bits)| Wake { fd, mmio: mmio(), register, bits });
        let queue = receiver(chip, bus, wiring, wake, plan, (queue, memory));
        Ok((queue.map_err(Failure::Map)?, ring))
    }
}

fn receiver<B: Bus>(
    chip: Chip,
    bus: &B,
    wiring: Wiring<B::Mmio>,
    wake: Option<Wake<B::Mmio>>,
    plan: &Plan,
    (queue, memory): (&RxPlan, &RxMemory),
) -> Result<Rx<B>, MapError> {
    let (max_frame, strip_vlan, mapper) = (plan.max_frame, plan.strip_vlan, bus.mapper());
    let (head_buffer, data_buffer) = queue.form.sizes();
    match memory {
        RxMemory::Whole(pool) => {
            let buffer = data_buffer;
            let shape = Shape { buffer, max_frame, strip_vlan };
            WholeRx::new(wiring, shape, wake, pool, mapper).map(Rx::Whole)
        }
        RxMemory::Split(split) => {
            let shape = SplitShape { head_buffer, data_buffer, max_frame, strip_vlan };
            Ok(match chip {
                Chip::E82574 => Rx::Split82574(SplitRx::new(wiring, shape, wake, split, mapper)?),
                Chip::E82576 => Rx::Split82576(SplitRx::new(wiring, shape, wake, split, mapper)?),
            })
        }
    }
}

/// Why queues could not be made.
pub(super) enum Failure {
    /// A pool's memory cannot be reached.
    Map(MapError),
    /// There is no memory for a ring.
    Memory(io::Error),
}

impl Failure {
    /// As the error of a port.
    pub(super) fn of(self, port: &str) -> Error {
        let port = port.to_owned();
        match self {
            Self::Map(source) => Error::Map { port, source },
            Self::Memory(source) => {
                Error::System { port, what: "memory for descriptors".into(), source }
            }
        }
    }
}

fn sender<B: Bus>(
    chip: Chip,
    bus: &B,
    wiring: Wiring<B::Mmio>,
    plan: &Plan,
    queue: &TxConfig,
) -> Result<Box<dyn TxQueue>, MapError> {
    match chip {
        Chip::E82574 => sender_of::<Legacy, B>(bus, wiring, plan, queue),
        Chip::E82576 => sender_of::<Advanced, B>(bus, wiring, plan, queue),
    }
}

fn sender_of<F: TxFormat, B: Bus>(
    bus: &B,
    wiring: Wiring<B::Mmio>,
    plan: &Plan,
    queue: &TxConfig,
) -> Result<Box<dyn TxQueue>, MapError> {
    let sender = Tx::<F, _, _>::new(wiring, LONGEST, &queue.pool, bus.mapper())?;
    // CTRL.VME is one switch for both ways.
    Ok(Box::new(if plan.strip_vlan { sender } else { sender.without_device_tags() }))
}
