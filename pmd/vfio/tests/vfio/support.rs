//! Functions to test with, and the least of a driver for an 82574: one frame sent shows whether the
//! device reads and writes our memory.
#![allow(unsafe_code, reason = "descriptors that a device writes")]
#![expect(clippy::disallowed_types, reason = "one test at a time has the devices")]

use std::{
    env,
    sync::{Mutex, MutexGuard, PoisonError, atomic::Ordering, atomic::fence},
    time::{Duration, Instant},
};

use vfio::{
    Bar, Device, DmaBlock, Iommu, Kind,
    pci::{Address, Function, Sysfs},
};

/// The 82574L.
pub(crate) const E1000E: (u16, u16) = (0x8086, 0x10d3);
/// The 82576.
pub(crate) const IGB: (u16, u16) = (0x8086, 0x10c9);
/// QEMU's memory with a doorbell; BAR 2 is the memory.
pub(crate) const IVSHMEM: (u16, u16) = (0x1af4, 0x1110);

/// As long as a test waits for a device under an emulator.
const LIMIT: Duration = Duration::from_secs(5);

/// The devices, for one test at a time.
pub(crate) type Bench = MutexGuard<'static, ()>;

/// The functions that `MEMWIRE_PCI` names; none, loudly, if it names none or one of another kind.
pub(crate) fn bench(test: &str, wanted: &[(u16, u16)]) -> Option<(Bench, Vec<Address>)> {
    static ONE: Mutex<()> = Mutex::new(());
    let lock = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let named = env::var("MEMWIRE_PCI").unwrap_or_default();
    let functions: Vec<Function> = named
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.trim().parse().expect("MEMWIRE_PCI: addresses, with commas"))
        .map(|address| Function::read(&Sysfs::system(), address).expect("a function"))
        .collect();
    let find = |id: &(u16, u16)| functions.iter().find(|f| (f.vendor, f.device) == *id);
    let found: Option<Vec<Address>> = wanted.iter().map(|id| Some(find(id)?.address)).collect();
    if found.is_none() {
        println!(
            "SKIP {test}: MEMWIRE_PCI names no function of {wanted:04x?} that is bound to vfio-pci"
        );
    }
    Some((lock, found?))
}

/// The interfaces that this kernel has, one loud line for each that it has not.
pub(crate) fn kinds(test: &str) -> Vec<Kind> {
    let all = [(Kind::Type1, "/dev/vfio/vfio"), (Kind::Iommufd, "/dev/iommu")];
    let has_iommu = std::fs::read_dir("/sys/class/iommu").is_ok_and(|mut all| all.next().is_some());
    if !has_iommu {
        println!("SKIP {test}: no IOMMU here");
        return Vec::new();
    }
    all.into_iter()
        .filter(|(kind, node)| {
            let is_here = std::path::Path::new(node).exists();
            if !is_here {
                println!("SKIP {test} over {kind:?}: no {node}");
            }
            is_here
        })
        .map(|(kind, _)| kind)
        .collect()
}

/// Opens a function alone in an address space.
pub(crate) fn open(address: Address, kind: Kind) -> Device {
    Device::open(&Sysfs::system(), address, &Iommu::new(kind)).expect("opened")
}

/// Asks until it is so, or the limit has passed.
pub(crate) fn eventually(mut is_so: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < LIMIT {
        if is_so() {
            return true;
        }
        std::thread::yield_now();
    }
    false
}

/// Sends frames of an 82574, by its legacy descriptors (datasheet §7.2.10.1).
pub(crate) struct Sender {
    registers: Bar,
    ring: DmaBlock,
    tail: u32,
}

/// Resets an 82574 by its own register (§10.2.2.1, CTRL.RST): whatever the test before left.
pub(crate) fn restart(registers: &Bar) {
    registers.write32(0, registers.read32(0) | 1 << 26);
    assert!(eventually(|| registers.read32(0) & 1 << 26 == 0), "reset does not end");
}

/// Descriptors in the ring.
const DESCRIPTORS: u32 = 8;

impl Sender {
    /// Starts the transmitter of a device, after a reset of its own; bus mastering goes on.
    pub(crate) fn start(device: &mut Device) -> Self {
        let registers = device.bar(0).and_then(|bar| bar.at_least(128 << 10)).expect("registers");
        let ring = device.dma_block(DESCRIPTORS as usize * 16).expect("a ring");
        device.set_bus_master(true).expect("a bus master");
        restart(&registers);
        let [low, high] = [ring.iova(), ring.iova() >> 32].map(|half| half & 0xffff_ffff);
        let words = [low, high].map(|half| u32::try_from(half).expect("32 bits"));
        // TDBAL, TDBAH, TDLEN, TDH, TDT (§10.2.6.3 to 10.2.6.7), TCTL (§10.2.6.1): enable, pad.
        for (register, value) in [
            (0x3800, words[0]),
            (0x3804, words[1]),
            (0x3808, DESCRIPTORS * 16),
            (0x3810, 0),
            (0x3818, 0),
            (0x0400, 0xa),
        ] {
            registers.write32(register, value);
        }
        Self { registers, ring, tail: 0 }
    }

    /// Posts a frame that starts at an address of the device's; whether the device said that it is done.
    pub(crate) fn send(&mut self, iova: u64, len: u16) -> bool {
        self.post(iova, len);
        eventually(|| self.is_done())
    }

    /// Posts a frame.
    pub(crate) fn post(&mut self, iova: u64, len: u16) {
        let at = self.descriptor(self.tail);
        // SAFETY: inside the ring, aligned; volatile, for the device reads and writes it as well.
        unsafe { at.write_volatile(iova) };
        // End of packet, insert FCS, report status.
        let command = u64::from(len) | 0x0b << 24;
        // SAFETY: as above, the second half of the descriptor.
        unsafe { at.wrapping_add(1).write_volatile(command) };
        self.tail = (self.tail + 1) % DESCRIPTORS;
        self.registers.write32(0x3818, self.tail);
    }

    /// Whether the device is done with the frame posted last.
    pub(crate) fn is_done(&self) -> bool {
        let last = (self.tail + DESCRIPTORS - 1) % DESCRIPTORS;
        let at = self.descriptor(last).wrapping_add(1);
        // SAFETY: as in `post`.
        let status = unsafe { at.read_volatile() };
        fence(Ordering::Acquire);
        status >> 32 & 1 == 1
    }

    fn descriptor(&self, index: u32) -> *mut u64 {
        self.ring.base().cast::<u64>().as_ptr().wrapping_add(index as usize * 2)
    }
}
