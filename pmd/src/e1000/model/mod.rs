//! The two NICs in software: what stands where a chip would in tests, benches and fuzzing. Written from the
//! datasheets (82574 revision 3.4, 82576EB revision 2.9), with registers, formats and checksums of its own:
//! it shares nothing with the drivers, so that what both read differently shows.
//!
//! A [`Model`] is correct, and watches: what a driver does that the datasheet forbids is listed in
//! [`Model::violations`]. By its [`Options`] it works at once, in ticks, or late; breaks ([`Faults`]); or
//! lies ([`Hostility`]). Everything random comes from one seed.
//!
//! ```
//! use pmd::{e1000::model::{Chip, Model, Options}, pci::{Bus, Mmio}};
//!
//! let model = Model::new(Options::new(Chip::I82574));
//! let registers = model.bus().mmio();
//! registers.write(0x0000, 1 << 6);
//! assert_eq!(registers.read(0x0008) & 2, 2, "the link is up");
//! assert!(model.violations().is_empty());
//! ```
//!
//! Not modelled: interrupt moderation, wake-up, manageability, virtual functions, timestamps, segmentation
//! on the 82574, header replication.

mod accept;
mod bus;
mod checker;
mod core;
mod counters;
mod frame;
#[doc(hidden)]
pub mod fuzz;
mod interrupt;
mod lies;
mod map;
mod offload;
mod options;
mod phy;
mod random;
mod receive;
mod ring;
mod space;
mod stopping;
mod toeplitz;
mod transmit;
mod wire;
mod work;

use std::{fmt, sync::Arc};

use self::{
    bus::Shared,
    core::{Core, Side},
    space::Space,
    wire::OnWire,
};
pub use self::{
    bus::{ModelBus, ModelMmio},
    options::{Chip, Faults, Hostility, Lie, Options, Work},
    space::{DmaFault, ModelMapper},
};

/// A chip in software, seen from behind: what a test does to it and asks of it. Clones are the same chip.
#[derive(Clone)]
pub struct Model(Arc<Shared>);

impl Model {
    /// A chip after power-up, with a cable that ends in the test.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let space = Arc::new(Space::default());
        Self(Shared::new(Core::new(options, Arc::clone(&space)), space))
    }

    /// The driver's way to it.
    #[must_use]
    pub fn bus(&self) -> ModelBus {
        ModelBus(Arc::clone(&self.0))
    }

    /// Puts a cable between two chips. Each may be joined once.
    ///
    /// # Panics
    /// If one is joined already.
    pub fn join(&self, other: &Self) {
        let end = self.0.core().wire.clone();
        other.0.core().wire = end.opposite();
        let (ours, theirs) = (Arc::downgrade(&self.0), Arc::downgrade(&other.0));
        assert!(self.0.peer.set(theirs).is_ok(), "joined already");
        assert!(other.0.peer.set(ours).is_ok(), "joined already");
    }

    /// Lets time pass: the chip works on what it has to do.
    pub fn tick(&self) {
        self.0.core().tick();
        self.0.stir();
    }

    /// Puts a frame (without check sequence) on the wire to the chip.
    pub fn inject(&self, frame: &[u8]) {
        self.put(frame, false);
    }

    /// The same, with a check sequence that is wrong.
    pub fn inject_damaged(&self, frame: &[u8]) {
        self.put(frame, true);
    }

    fn put(&self, frame: &[u8], damaged: bool) {
        self.0.core().wire.inject(OnWire { bytes: frame.to_vec(), damaged });
        self.0.stir();
    }

    /// Frames that the chip sent since this was asked last (those to a joined chip are taken from it).
    #[must_use]
    pub fn sent(&self) -> Vec<Vec<u8>> {
        self.0.core().wire.take_sent()
    }

    /// Frames that wait on the wire or inside the chip for descriptors.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let core = self.0.core();
        core.wire.waiting() + core.fifo.len()
    }

    /// What the driver did that the datasheet forbids, DMA to what is not mapped included.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        let mut core = self.0.core();
        for fault in self.0.space.take_faults() {
            core.checker.note(fault);
        }
        core.checker.violations()
    }

    /// Spans that are mapped now, and mappings made since the beginning.
    #[must_use]
    pub fn mappings(&self) -> (usize, u64) {
        self.0.space.mappings()
    }

    /// Writes of a receive queue's tail register so far.
    #[must_use]
    pub fn rx_doorbells(&self, queue: usize) -> u64 {
        self.0.core().rx[queue].ring.doorbells()
    }

    /// Writes of a transmit queue's tail register so far.
    #[must_use]
    pub fn tx_doorbells(&self, queue: usize) -> u64 {
        self.0.core().tx[queue].ring.doorbells()
    }

    /// Register accesses so far.
    #[must_use]
    pub fn accesses(&self) -> u64 {
        self.0.core().accesses()
    }

    /// Lies that were told so far ([`Hostility`]).
    #[must_use]
    pub fn lies(&self) -> u64 {
        self.0.core().lies_told
    }

    /// Whether the link is up.
    #[must_use]
    pub fn link_is_up(&self) -> bool {
        self.0.core().link_is_up()
    }

    /// Plugs the cable in or out.
    pub fn set_cable(&self, present: bool) {
        self.0.core().set_cable(present);
        self.0.stir();
    }

    /// Whether the cable is in.
    #[must_use]
    pub fn has_cable(&self) -> bool {
        self.0.core().cable_is_in()
    }

    /// Takes the device away: registers read as all ones, DMA ends.
    pub fn unplug(&self) {
        self.0.core().gone = true;
    }

    /// The system asks for the device back.
    pub fn ask_for_removal(&self) {
        self.0.core().removal = true;
    }

    /// The bus reports an error of the device.
    pub fn report_error(&self) {
        self.0.core().aer = true;
    }

    /// From now on it breaks in these ways.
    pub fn set_faults(&self, faults: Faults) {
        self.0.core().options.faults = faults;
    }

    /// From now on it lies in these ways.
    pub fn set_hostility(&self, hostility: Hostility) {
        self.0.core().options.hostility = hostility;
    }

    /// Reads memory as the device sees it.
    ///
    /// # Panics
    /// If it is not mapped.
    pub fn peek(&self, iova: u64, bytes: &mut [u8]) {
        assert!(self.0.space.read(iova, bytes), "{} B at {iova:#x} are not mapped", bytes.len());
    }

    /// Writes memory as the device sees it.
    ///
    /// # Panics
    /// If it is not mapped.
    pub fn poke(&self, iova: u64, bytes: &[u8]) {
        assert!(self.0.space.write(iova, bytes), "{} B at {iova:#x} are not mapped", bytes.len());
    }

    /// Writes words into a receive descriptor, whatever it is doing: two, or the first of four.
    pub fn forge_rx(&self, queue: usize, index: u32, words: [u64; 4]) {
        self.0.core().forge(Side::Rx, queue, index, &words);
    }

    /// Writes words into a transmit descriptor, whatever it is doing.
    pub fn forge_tx(&self, queue: usize, index: u32, words: [u64; 4]) {
        self.0.core().forge(Side::Tx, queue, index, &words);
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = self.0.core();
        write!(f, "Model({:?}, {} accesses, {:?})", core.chip, core.accesses(), core.checker)
    }
}
