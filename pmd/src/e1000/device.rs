//! A port of either chip: checks, starts, stops, and tells how it is. The order of things is here, what
//! each is stands in the other files. Knows no queue's inside and no bus' kind.
#![allow(unsafe_code, reason = "vouches to queues that the device has stopped")]

use std::{cell::RefCell, hash::BuildHasher, io};

use super::{
    Options,
    chip::Chip,
    chip_82574, chip_82576, filters,
    init::{self, Trouble},
    interrupts::Vectors,
    link,
    plan::Plan,
    queues::{Builder, Built, RingMemory, Rx},
    register::Registers,
    registers::{CTRL_EXT, RCTL, STATUS, TCTL},
    ring::Start,
    stats::Statistics,
};
use crate::{
    Config, Device, DeviceInfo, DropReason, Error, Health, Link, QueueCounters, QueueStats, Queues,
    RebindError, Rebound, RxMemory, TakeQueue,
    pci::{Bus, Gate, Notices},
};

/// A port of the e1000 family on any bus.
pub struct E1000<B: Bus> {
    info: DeviceInfo,
    chip: Chip,
    options: Options,
    regs: Registers<B::Mmio>,
    bus: RefCell<B>,
    statistics: RefCell<Statistics>,
    /// What the system said so far; it says everything once.
    notices: RefCell<Notices>,
    running: Option<Running>,
    /// The last stop ended DMA, but could not reach the registers: they have to be reset first.
    unreset: bool,
    /// Why the last stop could not end it; a port that may still write to memory is not started again.
    lost: Option<Trouble>,
    /// Sums of the queues of earlier starts.
    past: (QueueStats, QueueStats),
}

/// A start.
struct Running {
    /// What it was started with, and what it does now.
    plan: Plan,
    gate: Gate,
    /// Of receive queues, by number.
    rx_gates: Vec<Gate>,
    /// Of receive queues that did not stop when they were to.
    stuck: Vec<Gate>,
    rx: Vec<QueueCounters>,
    tx: Vec<QueueCounters>,
    vectors: Option<Vectors>,
}

impl<B: Bus> E1000<B> {
    /// Takes the function on `bus` over: resets it and sets its link up. It receives and sends nothing
    /// before it is started.
    ///
    /// # Errors
    /// The device is gone, or does not do what its datasheet says.
    pub fn open(port: String, chip: Chip, mut bus: B, options: Options) -> Result<Self, Error> {
        let system = |what: &str| {
            let (port, what) = (port.clone(), what.to_owned());
            move |source: io::Error| Error::System { port, what, source }
        };
        bus.set_bus_master(false).map_err(system("bus master off"))?;
        let regs = Registers::new(bus.mmio());
        if init::is_gone(&regs) {
            return Err(Trouble::Gone.of(&port));
        }
        let clean = clean(&regs, chip, &mut bus).and_then(|()| init::set_link_up(&regs, chip));
        clean.map_err(|trouble| trouble.of(&port))?;
        let mac = init::permanent_address(&regs).unwrap_or_else(|read| {
            let mac = random_address();
            let (read, taken) = (text(read), text(mac));
            tracing::warn!(port, "permanent MAC {read} invalid, taking {taken} instead");
            mac
        });
        Statistics::clear(&regs, chip);
        let info = DeviceInfo {
            driver: chip.driver(),
            port,
            mac,
            numa_node: bus.numa_node(),
            capabilities: chip.capabilities(),
        };
        Ok(Self {
            info,
            chip,
            options,
            regs,
            bus: RefCell::new(bus),
            statistics: RefCell::new(Statistics::new(chip)),
            notices: RefCell::default(),
            running: None,
            unreset: false,
            lost: None,
            past: Default::default(),
        })
    }

    /// Which chip it is.
    #[must_use]
    pub fn chip(&self) -> Chip {
        self.chip
    }

    fn trouble(&self, trouble: Trouble) -> Error {
        trouble.of(&self.info.port)
    }

    fn system(&self, what: &str, source: io::Error) -> Error {
        Error::System { port: self.info.port.clone(), what: what.into(), source }
    }

    /// Makes the queues and lets the chip run them. What fails is undone by the caller, with what was
    /// built so far.
    fn bring_up(
        &mut self,
        (plan, memory): (&Plan, &[RxMemory]),
        gate: &Gate,
        built: &mut Built<B>,
    ) -> Result<Option<Vectors>, Error> {
        let (chip, regs) = (self.chip, self.regs.clone());
        let bus = self.bus.get_mut();
        let vectors =
            Vectors::new(bus, &regs, chip, plan.rx.len(), self.options.interrupt_interval_us);
        built
            .add(chip, bus, &regs, (plan, memory), gate, vectors.as_ref())
            .map_err(|failure| failure.of(&self.info.port))?;
        let on = self.bus.get_mut().set_bus_master(true);
        on.map_err(|source| self.system("bus master on", source))?;
        filters::write(&regs, chip, self.info.mac, &plan.filters);
        filters::strip_vlan(&regs, plan.strip_vlan);
        regs.update(|control: CTRL_EXT| control.with(CTRL_EXT::DRV_LOAD, true));
        match chip {
            Chip::E82574 => {
                chip_82574::receive(&regs, plan, &built.rx_rings);
                chip_82574::transmit(&regs, &built.tx_rings);
            }
            Chip::E82576 => {
                chip_82576::receive(&regs, plan, &built.rx_rings)
                    .and_then(|()| chip_82576::transmit(&regs, &built.tx_rings))
                    .map_err(|trouble| self.trouble(trouble))?;
            }
        }
        if init::is_gone(&regs) {
            return Err(self.trouble(Trouble::Gone));
        }
        built.fill();
        Ok(vectors)
    }

    /// Ends every DMA. On success nothing of this function reads or writes memory any more; what went
    /// wrong otherwise.
    fn halt(&mut self, rx: usize, tx: usize) -> Result<(), Trouble> {
        let removal = self.notices().removal;
        let (chip, regs) = (self.chip, &self.regs);
        let bus = self.bus.get_mut();
        init::mask_interrupts(regs, chip);
        regs.update(|control: RCTL| control.with(RCTL::EN, false));
        regs.update(|control: TCTL| control.with(TCTL::EN, false));
        if chip == Chip::E82576 {
            chip_82576::disable_queues(regs, rx, tx);
        }
        regs.update(|control: CTRL_EXT| control.with(CTRL_EXT::DRV_LOAD, false));
        let mut reset = clean(regs, chip, bus);
        // Registers that cannot be reached may be behind a memory decode that somebody switched off; a
        // reset of the function brings them back. Not where the system wants the device: it holds it.
        let is_silent = reset.is_err_and(Trouble::is_silence);
        if is_silent && !removal && bus.reset().is_ok() {
            reset = init::reset(regs, chip);
        }
        // Bus mastering off ends DMA too, even of a device whose registers cannot be reached: switching
        // it off is waited for by the configuration write.
        let mastering = bus.set_bus_master(false);
        if let Err(error) = bus.interrupts(0) {
            tracing::debug!(address = bus.address(), %error, "interrupts stay on");
        }
        self.unreset = reset.is_err();
        match (reset, mastering) {
            (Ok(()), _) => {
                // What the bus reported was of the time before.
                self.notices.get_mut().error = false;
                Ok(())
            }
            (Err(trouble), Ok(())) if trouble.is_silence() => Ok(()),
            (Err(trouble), _) => Err(trouble),
        }
    }

    /// After a stop: the link comes up again while nobody uses the port.
    fn set_link_up(&self) {
        if let Err(trouble) = init::set_link_up(&self.regs, self.chip) {
            tracing::debug!(port = self.info.port, %trouble, "link stays down");
        }
    }

    /// Makes the queue that is to take the place of the `index`-th; the chip knows nothing of it yet.
    fn prepare(
        &mut self,
        index: usize,
        memory: &RxMemory,
    ) -> Result<(Plan, Rx<B>, RingMemory), Error> {
        let port = &self.info.port;
        let state = |why| Error::State { port: port.clone(), why };
        let running = self.running.as_ref().ok_or_else(|| state("not started"))?;
        if running.gate.why().is_some() {
            return Err(state("a queue of it is faulted; stop it"));
        }
        let (chip, regs) = (self.chip, &self.regs);
        if init::is_gone(regs) {
            return Err(Trouble::Gone.of(port));
        }
        let plan = running.plan.rebound(chip, &self.info, &self.options, (index, memory))?;
        // The counters go on: one queue's, whichever memory it is on.
        let start = Start { gate: running.gate.sibling(), counters: running.rx[index].clone() };
        let (bus, vectors) = (&*self.bus.get_mut(), running.vectors.as_ref());
        let builder = Builder { chip, bus, regs, plan: &plan, vectors };
        let (queue, ring) =
            builder.receiver(index, memory, start).map_err(|failure| failure.of(port))?;
        Ok((plan, queue, ring))
    }

    /// Stops the `index`-th receive queue, lets it have its buffers back, and has the chip work on another
    /// ring in its place.
    fn exchange(
        &mut self,
        index: usize,
        plan: Plan,
        ring: &RingMemory,
        gate: Gate,
    ) -> Result<(), Trouble> {
        let (chip, regs) = (self.chip, &self.regs);
        let Some(running) = &mut self.running else { return Ok(()) };
        running.plan = plan;
        let former = std::mem::replace(&mut running.rx_gates[index], gate);
        let stopped = match chip {
            Chip::E82574 => chip_82574::rebind(regs, &running.plan, (index, ring)),
            Chip::E82576 => chip_82576::disable(regs, index),
        };
        if let Err(trouble) = stopped {
            running.stuck.push(former);
            return Err(trouble);
        }
        close_alone(&former);
        match chip {
            Chip::E82574 => Ok(()),
            Chip::E82576 => chip_82576::enable(regs, &running.plan, (index, ring)),
        }
    }

    fn take_statistics(&self) {
        let mut statistics = self.statistics.borrow_mut();
        let queues = self.running.as_ref().map_or(0, |running| running.rx.len());
        statistics.take(&self.regs, queues);
        if let Some(vectors) = self.running.as_ref().and_then(|running| running.vectors.as_ref()) {
            statistics.link_changes += vectors.take_link_changes(&self.regs);
        }
    }

    /// What the system says of the device, now or ever before.
    fn notices(&self) -> Notices {
        let fresh = self.bus.borrow_mut().notices();
        let mut known = self.notices.borrow_mut();
        known.removal |= fresh.removal;
        known.error |= fresh.error;
        *known
    }
}

/// Lets queues have their buffers back. Only after [`E1000::halt`] succeeded.
fn close(gate: &Gate) {
    // SAFETY: the chip was reset, or is gone and may not master the bus: no descriptor of this start is
    // read or written any more. The caller saw `halt` succeed.
    unsafe { gate.close() };
}

/// Lets one receive queue have its buffers back. Only after the chip has said that it stopped.
fn close_alone(gate: &Gate) {
    // SAFETY: the 82576 cleared the queue's ENABLE, which it does after its last access; the 82574 had no
    // transaction open while the ring's registers were set to another one. The caller saw that succeed.
    unsafe { gate.close() };
}

/// Resets the chip; if it cannot do so by itself, the whole function by the bus.
fn clean<B: Bus>(regs: &Registers<B::Mmio>, chip: Chip, bus: &mut B) -> Result<(), Trouble> {
    let trouble = match init::reset(regs, chip) {
        Err(Trouble::Reset) => Trouble::Reset,
        done => return done,
    };
    tracing::warn!(address = bus.address(), %trouble, "resetting the function by the bus");
    bus.reset().map_err(|_| trouble)?;
    init::reset(regs, chip)
}

impl<B: Bus> Device for E1000<B> {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn start(&mut self, config: Config) -> Result<Queues, Error> {
        self.info.check_start(self.running.is_some(), &config)?;
        let (plan, memory) = Plan::new(self.chip, &self.info, &self.options, config)?;
        if let Some(trouble) = self.lost {
            return Err(self.trouble(trouble));
        }
        if init::is_gone(&self.regs) {
            return Err(self.trouble(Trouble::Gone));
        }
        if self.unreset {
            clean(&self.regs, self.chip, self.bus.get_mut()).map_err(|why| self.trouble(why))?;
            self.unreset = false;
            self.set_link_up();
        }
        let (gate, mut built) = (Gate::new(), Built::default());
        match self.bring_up((&plan, &memory), &gate, &mut built) {
            Ok(vectors) => {
                let rx_gates = built.rx_gates.clone();
                let queues = built.into_queues();
                let rx = queues.rx.iter().map(|queue| queue.counters().clone()).collect();
                let tx = queues.tx.iter().map(|queue| queue.counters().clone()).collect();
                let stuck = Vec::new();
                self.running = Some(Running { plan, gate, rx_gates, stuck, rx, tx, vectors });
                Ok(queues)
            }
            Err(error) => {
                // As before: nothing runs, the link is up, and what was built so far goes home.
                match self.halt(plan.rx.len(), plan.tx.len()) {
                    Ok(()) => {
                        built.rx_gates.iter().chain([&gate]).for_each(close);
                        self.set_link_up();
                    }
                    Err(trouble) => self.lost = Some(trouble),
                }
                drop(built);
                Err(error)
            }
        }
    }

    /// Stops it: queues that come back are quiesced and give their buffers back; those that do not
    /// keep them until they are dropped, and take part in nothing any more.
    fn stop(&mut self, queues: Queues) -> Result<(), Error> {
        self.take_statistics();
        let Some(running) = self.running.take() else {
            return Ok(());
        };
        running.gate.fault("port is stopped");
        let halted = self.halt(running.rx.len(), running.tx.len());
        if halted.is_ok() {
            let gates = running.rx_gates.iter().chain(&running.stuck);
            gates.chain([&running.gate]).for_each(close);
        }
        // Now, not before: a queue's end asks the gate.
        drop(queues);
        self.past.0.merge(&QueueStats::sum(&running.rx));
        self.past.1.merge(&QueueStats::sum(&running.tx));
        match halted {
            Ok(()) => {
                self.set_link_up();
                Ok(())
            }
            Err(trouble) => {
                self.lost = Some(trouble);
                Err(self.trouble(trouble))
            }
        }
    }

    /// With the 82576 no other queue notices, and frames that come for this one meanwhile are dropped by the
    /// chip, and counted by it (`mpc`). With the 82574 both receive queues pause, and so do the transmit
    /// queues; frames wait in the chip's memory. Its queues cannot change between whole and split one at a
    /// time: they share their form.
    fn rebind(
        &mut self,
        index: usize,
        memory: RxMemory,
        queue: TakeQueue<'_>,
    ) -> Result<Rebound, RebindError> {
        let prepared = self.prepare(index, &memory);
        drop(memory);
        let (plan, mut fresh, ring) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return Err(RebindError::early(error)),
        };
        let Some(queue) = queue() else {
            return Err(RebindError::not_taken(&self.info.port));
        };
        match self.exchange(index, plan, &ring, fresh.gate()) {
            Ok(()) => {
                fresh.fill();
                Ok(Rebound { queue: fresh.boxed(), former: Some(queue) })
            }
            Err(trouble) => {
                let why = format!("receive queue {index} was to get other memory: {trouble}");
                if let Some(running) = &self.running {
                    running.gate.fault(why);
                }
                drop((fresh, queue));
                Err(RebindError::lost(self.trouble(trouble)))
            }
        }
    }

    fn link(&self) -> Link {
        link::link(self.regs.read::<STATUS>())
    }

    fn stats(&self) -> (QueueStats, QueueStats, Vec<(String, u64)>) {
        self.take_statistics();
        let (mut rx, mut tx) = self.past;
        if let Some(running) = &self.running {
            rx.merge(&QueueStats::sum(&running.rx));
            tx.merge(&QueueStats::sum(&running.tx));
        }
        let statistics = self.statistics.borrow();
        let missed = statistics.missed();
        rx.drops.add(DropReason::Device, missed);
        rx.offered += missed;
        (rx, tx, statistics.named())
    }

    fn health(&self) -> Health {
        let notices = self.notices();
        if notices.removal {
            return Health::Removed("the system wants the device back".into());
        }
        if init::is_gone(&self.regs) {
            return Health::Removed(Trouble::Gone.to_string());
        }
        if notices.error {
            return Health::Faulted("PCIe error reported by the bus".into());
        }
        if let Some(trouble) = self.lost {
            return Health::Faulted(trouble.to_string());
        }
        // Set by every start, and lost by a reset; registers that cannot be reached may read as zero too.
        let state: CTRL_EXT = self.regs.read();
        if self.running.is_some() && !state.has(CTRL_EXT::DRV_LOAD) {
            return Health::Faulted(format!(
                "registers do not hold what they were set to (CTRL_EXT {:#x}): memory decode was \
                 switched off, or somebody else reset the device; open it again",
                state.0
            ));
        }
        let why = self.running.as_ref().and_then(|running| running.gate.why());
        why.map_or(Health::Good, |why| Health::Faulted(why.to_owned()))
    }
}

impl<B: Bus> Drop for E1000<B> {
    /// A port that is dropped while it runs is stopped first; its queues are still somewhere.
    fn drop(&mut self) {
        if let Err(error) = self.stop(Queues::default()) {
            tracing::warn!(%error, "dropped while it may still write to memory");
        }
    }
}

/// A locally administered address that nobody else has taken, most likely.
fn random_address() -> [u8; 6] {
    // The standard library's only source of randomness.
    let random = std::collections::hash_map::RandomState::new().hash_one(0);
    let [a, b, c, d, e, f, ..] = random.to_le_bytes();
    [a & 0xFC | 0x02, b, c, d, e, f]
}

fn text([a, b, c, d, e, f]: [u8; 6]) -> String {
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_address_is_of_one_station_and_locally_administered() {
        assert_eq!(random_address()[0] & 3, 2);
        assert_ne!(random_address(), random_address());
    }
}
