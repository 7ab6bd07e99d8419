//! The active probe on models: what a truthful mapping proves, and a lying one cannot hide.

use std::{io, os::fd::OwnedFd, sync::Arc};

use mempool::{Backing, Device as DeviceMemory, Pool, RegionHandle};
use pmd::{
    Device, DmaMapper, Iova, MapError, Probe, ProbeError, Probed, Registry, SplitAt,
    e1000::{
        E1000, Options as PortOptions,
        model::{Chip, Model, ModelBus, Options, Work},
    },
    pci::{Bus, Notices, SharedMemory},
};
use providers::Fake;

use super::rig::{self, CHIPS, data_pool, pool};

/// A bus whose mapper says that device memory is where it is not.
struct Crooked(ModelBus, u64);

#[derive(Clone)]
struct Liar(<ModelBus as Bus>::Mapper, u64);

impl DmaMapper for Liar {
    fn name(&self) -> &'static str {
        "a liar"
    }

    fn map(&mut self, region: &RegionHandle) -> Result<Iova, MapError> {
        let Iova(truth) = self.0.map(region)?;
        // Fake device memory is a memory file; heads are on the heap.
        let is_device = matches!(region.backing(), Backing::Memfd { .. });
        Ok(Iova(if is_device { truth + self.1 } else { truth }))
    }

    fn unmap(&mut self, region: &RegionHandle) {
        self.0.unmap(region);
    }
}

impl Bus for Crooked {
    type Mmio = <ModelBus as Bus>::Mmio;
    type Mapper = Liar;

    fn address(&self) -> &str {
        self.0.address()
    }

    fn numa_node(&self) -> Option<u32> {
        self.0.numa_node()
    }

    fn mmio(&self) -> Self::Mmio {
        self.0.mmio()
    }

    fn mapper(&self) -> Liar {
        Liar(self.0.mapper(), self.1)
    }

    fn share(&self, bytes: usize) -> io::Result<SharedMemory> {
        self.0.share(bytes)
    }

    fn set_bus_master(&mut self, on: bool) -> io::Result<()> {
        self.0.set_bus_master(on)
    }

    fn reset(&mut self) -> io::Result<()> {
        self.0.reset()
    }

    fn interrupts(&mut self, vectors: usize) -> io::Result<Vec<Arc<OwnedFd>>> {
        self.0.interrupts(vectors)
    }

    fn notices(&mut self) -> Notices {
        self.0.notices()
    }
}

const STRIDE: usize = 2048;
const AT: SplitAt = SplitAt::Protocol { extra: 0 };

fn open<B: Bus>(chip: Chip, bus: B) -> E1000<B> {
    let kind = rig::chip(chip);
    E1000::open("pci:0000:01:00.0".into(), kind, bus, PortOptions::default()).unwrap()
}

fn model(chip: Chip) -> Model {
    Model::new(Options::new(chip).work(Work::Prompt))
}

fn probe(
    port: &mut dyn Device,
    from: Option<&mut dyn Device>,
    data: &Pool<DeviceMemory>,
) -> Result<Probed, ProbeError> {
    let (heads, frames) = (pool(256, 256), pool(64, 1024));
    let result = Probe { heads: &heads, data, frames: &frames, at: AT }.run(port, from);
    for audit in [heads.audit(), frames.audit(), data.audit()] {
        assert_eq!(audit.free + audit.cached, audit.capacity, "all home: {audit:?}");
    }
    result
}

#[test]
fn patterns_come_back_through_the_chips_own_loopback() {
    for chip in CHIPS {
        let model = model(chip);
        let mut port = open(chip, model.bus());
        let data = data_pool(300, STRIDE);
        data.add_area(&Fake::new(), 200).unwrap();
        let proven = Probed::Proven { areas: 2, places: 4 };
        assert_eq!(probe(&mut port, None, &data).unwrap(), proven, "{chip:?}");
        // And again: nothing of it stays behind.
        assert_eq!(probe(&mut port, None, &data).unwrap(), proven, "{chip:?}");
        assert_eq!(model.violations(), Vec::<String>::new());
        assert!(model.sent().is_empty(), "nothing went out on the wire");
    }
}

#[test]
fn a_mapping_that_lies_is_refused_by_name() {
    for chip in CHIPS {
        // One buffer further: memory of the pool's, mapped, and no fault to be seen.
        let model = model(chip);
        let mut port = open(chip, Crooked(model.bus(), STRIDE as u64));
        let error = probe(&mut port, None, &data_pool(300, STRIDE)).unwrap_err();
        let told = error.to_string();
        assert!(matches!(error, ProbeError::Lies { area: 0, offset: 0, .. }), "{told}");
        assert!(told.starts_with("port 'pci:0000:01:00.0': the mapping of 'fake' lies"), "{told}");
        assert!(told.contains("use the bounce path"), "{told}");
    }
}

#[test]
fn a_mapping_that_ends_too_early_is_refused_too() {
    for chip in CHIPS {
        // The first buffer is right, and where the last one should be nothing is mapped.
        let model = model(chip);
        let mut port = open(chip, Crooked(model.bus(), 1 << 40));
        let error = probe(&mut port, None, &data_pool(64, STRIDE)).unwrap_err();
        assert!(matches!(error, ProbeError::Lies { .. } | ProbeError::Lost { .. }), "{error}");
    }
}

#[test]
fn a_port_without_a_loopback_is_probed_from_another_or_not_at_all() {
    let mut registry = Registry::new();
    let mut port = registry.open("ring:probe,size=256").unwrap();
    let data = data_pool(64, STRIDE);
    let Probed::Not(why) = probe(&mut *port, None, &data).unwrap() else {
        panic!("proven without a sender");
    };
    assert!(why.contains("the ring driver has no loopback"), "{why}");
    let mut peer = registry.open("ring:probe,size=256").unwrap();
    let proven = Probed::Proven { areas: 1, places: 2 };
    assert_eq!(probe(&mut *port, Some(&mut *peer), &data).unwrap(), proven);
}
