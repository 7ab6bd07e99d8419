//! Who lets us use a BAR, and what can be asked of it while it is in use.

use std::{
    fs::File,
    ops::Range,
    os::{fd::OwnedFd, unix::fs::FileExt},
    ptr::NonNull,
};

use mempool::ProviderError;
use vfio::{
    Bar, Device, Iommu, Notices,
    pci::{Address, Sysfs},
};

use super::{
    BarOptions, check,
    watch::{Cause, HEADER},
};

/// A BAR that may be shared. Whoever shares it has looked at it first ([`check::part`]).
#[derive(Debug)]
pub(super) enum Source {
    /// By VFIO: the function is ours while the source lives.
    Vfio {
        device: Box<Device>,
        /// Its mapping, if the CPU may have one. After the device, whose end takes its bytes away.
        bar: Option<Bar>,
    },
    /// By its files in sysfs: nobody keeps others from the function.
    Sysfs { bar: Bar, config: File },
}

impl Source {
    pub(super) fn vfio(
        name: &str,
        sysfs: &Sysfs,
        (address, index): (Address, u8),
        iommu: &Iommu,
        options: &BarOptions,
        range: &Range<u64>,
    ) -> Result<Self, ProviderError> {
        let bad = |why: String| ProviderError::BadRequest { provider: name.to_owned(), why };
        let refused = |error: vfio::Error| bad(error.to_string());
        let device = Device::open(sysfs, address, iommu).map_err(refused)?;
        // Says what is wrong with I/O ports, and with a BAR that is not there.
        let bar = device.bar(index).map_err(refused)?;
        let mut config = [0; 256];
        device.read_config(0, &mut config).map_err(refused)?;
        // Who may not read all of it in sysfs sees the table here.
        check::interrupt_tables(&config, index, range).map_err(bad)?;
        if range.end > bar.size() {
            let why = format!("VFIO gives {:#x} bytes of it, not {:#x}", bar.size(), range.end);
            return Err(bad(why));
        }
        let bar = (!options.without_cpu).then_some(bar);
        if let Some(bar) = &bar
            && bar.window(range.start, range.end - range.start).is_none()
        {
            return Err(bad(format!(
                "VFIO lets the bytes {:#x}..{:#x} be mapped by nobody, or not all of them",
                range.start, range.end
            )));
        }
        Ok(Self::Vfio { device: Box::new(device), bar })
    }

    pub(super) fn sysfs(
        name: &str,
        sysfs: &Sysfs,
        (address, index): (Address, u8),
    ) -> Result<Self, ProviderError> {
        let bar = Bar::of_resource(sysfs, address, index).map_err(|error| {
            ProviderError::BadRequest { provider: name.to_owned(), why: error.to_string() }
        })?;
        let path = sysfs.function(address).join("config");
        let config = File::open(&path).map_err(|source| ProviderError::System {
            provider: name.to_owned(),
            what: path.display().to_string(),
            source,
            hint: String::new(),
        })?;
        Ok(Self::Sysfs { bar, config })
    }

    /// The CPU's way to a part, if there is one.
    pub(super) fn window(&self, offset: u64, len: u64) -> Option<NonNull<u8>> {
        match self {
            Self::Vfio { bar, .. } => bar.as_ref()?.window(offset, len),
            Self::Sysfs { bar, .. } => bar.window(offset, len),
        }
    }

    /// A dma-buf of a part, if the kernel makes one.
    pub(super) fn export(&self, index: u8, offset: u64, len: u64) -> Option<OwnedFd> {
        let Self::Vfio { device, .. } = self else { return None };
        let exported = device.export(index, offset, len);
        exported.inspect_err(|error| tracing::debug!(%error, "no dma-buf")).ok()
    }

    /// The first bytes of the configuration space, as they are now, as far as they tell something. VFIO's BARs
    /// are its own copies, which no reset changes; each word that is read is a transaction on the bus.
    pub(super) fn header(&self) -> Option<[u8; HEADER]> {
        let mut header = [0; HEADER];
        match self {
            Self::Vfio { device, .. } => device.read_config(0, &mut header[..8]).ok()?,
            Self::Sysfs { config, .. } => config.read_exact_at(&mut header, 0).ok()?,
        }
        Some(header)
    }

    /// What the kernel has said of the function.
    pub(super) fn told(&self) -> Option<Cause> {
        let Self::Vfio { device, .. } = self else { return None };
        let Notices { removal, error } = device.notices();
        match (removal, error) {
            (true, _) => Some(Cause::Removed),
            (_, true) => Some(Cause::BusError),
            _ => None,
        }
    }

    /// Whether the CPU has found its bytes gone.
    pub(super) fn has_vanished(&self) -> bool {
        match self {
            Self::Vfio { bar, .. } => bar.as_ref().is_some_and(Bar::is_gone),
            Self::Sysfs { bar, .. } => bar.is_gone(),
        }
    }
}
