//! Descriptors that point where nothing is mapped: the IOMMU stops the device, and a reset mends it. And
//! resets of a whole function, which leave it as it was.
//!
//! What the kernel logs of the faults (`DMAR: [DMA Write …]`), the guest's tests look for.

use std::{io, os::fd::OwnedFd, sync::Arc};

use mempool::{Burst, Pool, RegionHandle};
use pmd::{
    AnyRxQueue, Device, DmaMapper, Iova, MapError, Registry,
    e1000::{Chip, E1000, Options},
    pci::{Bus, Notices, SharedMemory, VfioBus, VfioMapper},
};
use vfio::{
    Bar, Iommu, Kind,
    pci::{Address, Function, Sysfs},
};

use super::{
    lifecycle::{config, exchange},
    rig,
};

/// Where buffers are said to be: ordinary memory of the machine, if the IOMMU did not stand before it.
const ELSEWHERE: u64 = 0x3000_0000;

/// Bytes of BAR 0 of either chip.
const REGISTERS: u64 = 128 << 10;

/// A bus that lies about where pools are.
struct Astray(VfioBus);

/// Maps pools where they belong, and says something else.
#[derive(Clone)]
struct Liar(VfioMapper);

impl DmaMapper for Liar {
    fn name(&self) -> &'static str {
        "a liar"
    }

    fn map(&mut self, region: &RegionHandle) -> Result<Iova, MapError> {
        let Iova(iova) = self.0.map(region)?;
        let end = iova + region.len() as u64;
        assert!(end <= ELSEWHERE || iova >= ELSEWHERE + region.len() as u64, "mapped: {iova:#x}");
        Ok(Iova(ELSEWHERE))
    }

    fn unmap(&mut self, region: &RegionHandle) {
        self.0.unmap(region);
    }
}

impl Bus for Astray {
    type Mmio = Bar;
    type Mapper = Liar;

    fn address(&self) -> &str {
        self.0.address()
    }

    fn numa_node(&self) -> Option<u32> {
        self.0.numa_node()
    }

    fn mmio(&self) -> Bar {
        self.0.mmio()
    }

    fn mapper(&self) -> Liar {
        Liar(self.0.mapper())
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

fn rounds() -> usize {
    if std::env::var_os("MEMWIRE_FULL").is_some() { 50 } else { 5 }
}

/// A function in an address space of its own, and what chip it is.
fn open(name: &str, space: &str) -> (VfioBus, Chip, Iommu) {
    let (sysfs, address): (_, Address) = (Sysfs::system(), name.parse().unwrap());
    let function = Function::read(&sysfs, address).unwrap();
    let chip = Chip::of(function.vendor, function.device).expect("a chip of ours");
    let iommu = Iommu::new(if space == "type1" { Kind::Type1 } else { Kind::Iommufd });
    let mapper = VfioMapper::new(iommu.clone());
    (VfioBus::open(&sysfs, address, mapper, REGISTERS, ()).unwrap(), chip, iommu)
}

#[test]
fn a_device_whose_descriptors_point_outside_the_map_is_stopped_and_usable_after_a_reset() {
    let name =
        "a_device_whose_descriptors_point_outside_the_map_is_stopped_and_usable_after_a_reset";
    let Some((pairs, _turn)) = rig::pairs(name) else { return };
    for pair in &pairs {
        let mut registry = Registry::new();
        let mut sender = rig::open(&mut registry, &pair[1], "type1", "");
        let pool = Pool::builder().name("frames").slots(1024).stride(2048 + 128);
        let pool = pool.memory(&*rig::host()).build().unwrap();
        for round in 0..rounds() {
            let (bus, chip, _iommu) = open(&pair[0], "type1");
            let options = Options::default();
            let mut stray = E1000::open("stray".into(), chip, Astray(bus), options).unwrap();
            let mut theirs = sender.start(config(&pool)).unwrap();
            let mut ours = stray.start(config(&pool)).unwrap();
            rig::await_links(&[&stray, &*sender]);
            let mut cache = pool.cache();
            let mut burst = Burst::with_limit(&pool, 16);
            while burst.len() < 16 {
                let mut frame = cache.take_one().expect("a buffer");
                assert!(frame.frame_mut().append(&[0xff; 200]));
                burst.push(frame);
            }
            assert_eq!(theirs.tx[0].send(&mut cache, &mut burst), 16);
            // What the chip makes of writes that fail is its own affair: some say nothing, some claim
            // to have received.
            let AnyRxQueue::Whole(rx) = &mut ours.rx[0] else { panic!("whole frames") };
            for _ in 0..20 {
                let mut arrived = Burst::with_limit(&pool, 32);
                rx.recv(&mut cache, &mut arrived);
                arrived.recycle(&mut cache);
                rig::nap();
            }
            theirs.tx[0].reap(&mut cache);
            drop(cache);
            stray.stop(ours).unwrap();
            drop(stray);

            let mut honest = rig::open(&mut Registry::new(), &pair[0], "type1", "");
            let mut ours = honest.start(config(&pool)).unwrap();
            rig::await_links(&[&*honest, &*sender]);
            let mut cache = pool.cache();
            for _ in 0..5 {
                assert_eq!(exchange(&mut theirs, &mut ours, &mut cache, 20), 20, "round {round}");
            }
            drop(cache);
            honest.stop(ours).unwrap();
            sender.stop(theirs).unwrap();
            assert!(pool.audit().is_home(), "round {round}: {}", pool.audit());
        }
    }
}

#[test]
fn a_function_that_is_reset_over_and_over_keeps_its_address_and_leaves_no_mapping() {
    let name = "a_function_that_is_reset_over_and_over_keeps_its_address_and_leaves_no_mapping";
    let Some((pairs, _turn)) = rig::pairs(name) else { return };
    for pair in &pairs {
        let mut macs = Vec::new();
        let pool = Pool::builder().name("frames").slots(1024).stride(2048 + 128);
        let pool = pool.memory(&*rig::host()).build().unwrap();
        for round in 0..rounds() {
            let (mut bus, chip, iommu) = open(&pair[0], "type1");
            bus.reset().unwrap();
            let before = iommu.mappings();
            let mut port = E1000::open("reset".into(), chip, bus, Options::default()).unwrap();
            macs.push(port.info().mac);
            assert_eq!(macs[round], macs[0]);
            let queues = port.start(config(&pool)).unwrap();
            assert!(iommu.mappings() > before, "rings and pool are mapped");
            port.stop(queues).unwrap();
            assert_eq!(iommu.mappings(), before, "round {round}");
        }
    }
}
