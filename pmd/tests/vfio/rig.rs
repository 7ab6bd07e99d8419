//! Pairs of ports that are wired back to back, one test at a time.
#![expect(clippy::disallowed_types, reason = "tests of one process share the ports")]

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use mempool::Provider;
use pmd::{Device, Registry};
use providers::{Host, Hugepages, PageSize};

/// The ports are there once, whatever tests run.
static TURN: Mutex<()> = Mutex::new(());

/// Two functions, as the environment names them.
pub(crate) type Pair = [String; 2];

/// The pairs there are, and the right to use them; `None`, said aloud, where there are none.
pub(crate) fn pairs(test: &str) -> Option<(Vec<Pair>, MutexGuard<'static, ()>)> {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let Ok(text) = std::env::var("MEMWIRE_PCI") else {
        eprintln!("SKIP {test}: MEMWIRE_PCI names no functions");
        return None;
    };
    let names: Vec<_> = text.split(',').map(str::trim).map(str::to_owned).collect();
    let pairs = names.chunks_exact(2).map(|two| [two[0].clone(), two[1].clone()]).collect();
    Some((pairs, turn))
}

/// The address spaces that this kernel makes; `MEMWIRE_IOMMU` names one of them, if not all are meant.
pub(crate) fn spaces() -> Vec<&'static str> {
    if let Ok(one) = std::env::var("MEMWIRE_IOMMU") {
        return ["type1", "iommufd", "none"].into_iter().filter(|space| *space == one).collect();
    }
    if Path::new("/dev/iommu").exists() && Path::new("/dev/vfio/devices").exists() {
        return vec!["type1", "iommufd"];
    }
    eprintln!("SKIP iommufd: this kernel has no /dev/iommu, or no character devices of VFIO");
    vec!["type1"]
}

/// Host memory, of hugepages where there are some.
pub(crate) fn host() -> Box<dyn Provider> {
    match Hugepages::new(PageSize::TwoMiB) {
        Ok(pages) if pages.info().available.is_none_or(|free| free >= 16 << 20) => Box::new(pages),
        _ => Box::new(Host::new()),
    }
}

/// Opens a function in an address space of that kind.
pub(crate) fn open(
    registry: &mut Registry,
    name: &str,
    space: &str,
    more: &str,
) -> Box<dyn Device> {
    // Who names this space in the environment has a machine to throw away.
    let consent = if space == "none" { ",i-accept-unsafe-dma" } else { "" };
    let spec = format!("pci:{name},iommu={space}{consent}{more}");
    registry.open(&spec).unwrap_or_else(|error| panic!("{error}"))
}

/// Who drives a function.
pub(crate) fn driver(name: &str) -> &'static str {
    open(&mut Registry::new(), name, "auto", "").info().driver
}

/// Waits until both ports can send.
pub(crate) fn await_links(ports: &[&dyn Device]) {
    let end = Instant::now() + Duration::from_secs(10);
    while !ports.iter().all(|port| port.link().is_up) {
        assert!(Instant::now() < end, "a link stays down: {}", ports[0].info().port);
        nap();
    }
}

/// Gives the other side a moment.
#[expect(clippy::disallowed_methods, reason = "a test that waits for a link")]
pub(crate) fn nap() {
    std::thread::sleep(Duration::from_millis(5));
}
