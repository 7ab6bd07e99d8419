//! The functions that the environment names, one test at a time.
#![expect(clippy::disallowed_types, reason = "tests of one process share the functions")]

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use vfio::{
    Device, Iommu, Kind,
    pci::{Address, Function, Sysfs},
};

/// As long as a test waits for anything.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

static TURN: Mutex<()> = Mutex::new(());

/// What there is to test with.
pub(crate) struct Bench {
    functions: Vec<Function>,
    _turn: MutexGuard<'static, ()>,
}

impl Bench {
    /// The functions that `MEMWIRE_MEMORY` names; none, said aloud, if it names none.
    pub(crate) fn named(test: &str) -> Option<Self> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(text) = std::env::var("MEMWIRE_MEMORY") else {
            println!("SKIP {test}: MEMWIRE_MEMORY names no functions");
            return None;
        };
        let read = |name: &str| {
            let address = name.trim().parse().unwrap_or_else(|error| panic!("{error}"));
            Function::read(&Sysfs::system(), address).unwrap_or_else(|error| panic!("{error}"))
        };
        Some(Self { functions: text.split(',').map(read).collect(), _turn: turn })
    }

    /// The NIC and the BAR, for a test that needs both.
    pub(crate) fn nic_and_bar(test: &str) -> Option<(Self, Address, (Address, u8))> {
        let bench = Self::named(test)?;
        let found = bench.nic().and_then(|nic| Ok((nic, bench.bar()?)));
        match found {
            Ok((nic, bar)) => Some((bench, nic, bar)),
            Err(why) => {
                println!("SKIP {test}: {why}");
                None
            }
        }
    }

    /// A NIC that is ours.
    pub(crate) fn nic(&self) -> Result<Address, String> {
        let is_it = |function: &&Function| function.is_on_vfio() && function.class.is_network();
        let nic = self.functions.iter().find(is_it);
        nic.map(|nic| nic.address)
            .ok_or_else(|| "MEMWIRE_MEMORY names no NIC on vfio-pci".to_owned())
    }

    /// A BAR that is ours, and memory.
    pub(crate) fn bar(&self) -> Result<(Address, u8), String> {
        let ours = self.functions.iter().filter(|function| function.is_on_vfio());
        let mut bars = ours.flat_map(|function| {
            let all = (0u8..6).zip(&function.resources);
            let shared = all.filter(|(_, bar)| bar.is_prefetchable() && bar.size() >= 1 << 20);
            shared.map(|(index, _)| (function.address, index))
        });
        bars.next().ok_or_else(|| {
            "MEMWIRE_MEMORY names no function on vfio-pci with a prefetchable BAR".to_owned()
        })
    }

    /// A function whose driver gives memory away.
    pub(crate) fn p2pmem(&self) -> Result<Address, String> {
        let has = |function: &&Function| {
            Sysfs::system().function(function.address).join("p2pmem").exists()
        };
        let giver = self.functions.iter().find(has);
        giver.map(|function| function.address).ok_or_else(|| {
            "MEMWIRE_MEMORY names no function whose kernel driver has p2pmem".to_owned()
        })
    }
}

/// The interfaces that this kernel has, one loud line for each that it has not.
pub(crate) fn kinds() -> Vec<Kind> {
    let all = [(Kind::Type1, "/dev/vfio/vfio"), (Kind::Iommufd, "/dev/iommu")];
    let here = all.into_iter().filter(|(kind, node)| {
        let is_here = Path::new(node).exists();
        if !is_here {
            println!("SKIP {kind:?}: no {node}");
        }
        is_here
    });
    here.map(|(kind, _)| kind).collect()
}

/// An address space with a NIC in it.
pub(crate) fn space(nic: Address, kind: Kind) -> (Iommu, Device) {
    let iommu = Iommu::new(kind);
    let device = Device::open(&Sysfs::system(), nic, &iommu);
    (iommu, device.unwrap_or_else(|error| panic!("{kind:?}: {error}")))
}

/// Asks every few milliseconds until there is something.
#[expect(clippy::disallowed_methods, reason = "a test that waits for a device may sleep")]
pub(crate) fn wait_for<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(found) = done() {
            return found;
        }
        assert!(Instant::now() < end, "{what} did not happen in {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
