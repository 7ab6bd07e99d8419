//! A PCI function in our hands: its configuration space, BARs, interrupts and reset, by VFIO.
#![expect(clippy::disallowed_types, reason = "control plane: BARs are mapped when a driver starts")]

use std::{
    mem::offset_of,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use vfio_bindings::bindings::vfio::{
    VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_RESET, VFIO_PCI_CONFIG_REGION_INDEX,
    VFIO_REGION_INFO_FLAG_MMAP, vfio_device_info, vfio_region_info,
};

use crate::{
    Bar, DmaBlock, Error, Iommu, Result,
    abi::{Buffer, Fields, RegionInfo, region_info},
    bar,
    interrupts::{Set, was_signalled},
    iommu::{Attachment, page_size},
    pci::{Address, Function, MsixTable, Sysfs},
    sys,
};

/// Registers of the configuration space (PCI Local Bus 3.0 §6.2).
const COMMAND: u16 = 0x04;
const FIRST_BAR: u16 = 0x10;
/// Bits of the command register.
const MEMORY: u16 = 1 << 1;
const BUS_MASTER: u16 = 1 << 2;
/// The bit of a BAR that says that it is of I/O ports.
const IO_PORTS: u32 = 1;
/// BARs of a function.
const BARS: u8 = 6;

/// An open device. Dropping it turns bus mastering and interrupts off, takes the registers away from
/// every handle, and then gives it back.
#[derive(Debug)]
pub struct Device {
    function: Function,
    attachment: Attachment,
    config: RegionInfo,
    can_reset: bool,
    bars: Mutex<[Weak<bar::Map>; BARS as usize]>,
    /// The set that is on.
    interrupts: Option<Set>,
    request: Option<Arc<OwnedFd>>,
    error: Option<Arc<OwnedFd>>,
}

/// What the kernel says about a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notices {
    /// Somebody wants it back (unplugged, unbound): close it soon, and touch its files no more.
    pub removal: bool,
    /// The bus reported an error of it (PCIe AER).
    pub error: bool,
}

/// A region of a device: a BAR, or its configuration space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Bytes.
    pub size: u64,
    /// Whether parts of it can be mapped.
    pub is_mappable: bool,
    /// Which parts, if not all: offset and bytes.
    pub windows: Option<Vec<(u64, u64)>>,
}

impl Device {
    /// Opens a function that is bound to vfio-pci, into an address space. Memory decode is on, bus
    /// mastering off.
    ///
    /// # Errors
    /// It is not there, not bound, in a group that is not viable, not permitted, or in use.
    pub fn open(sysfs: &Sysfs, address: Address, iommu: &Iommu) -> Result<Self> {
        let function = Function::read(sysfs, address)?;
        if !function.is_on_vfio() {
            return Err(Error::NotBound { address, driver: function.driver });
        }
        let attachment = iommu.attach(sysfs, &function)?;
        let fd = attachment.device().as_fd();
        let buffer = Buffer::new(size_of::<vfio_device_info>());
        let failed = |doing: &str| Error::system(format!("{address}: {doing}"));
        let info = sys::info(fd, sys::Info::Device, buffer).map_err(failed("asking what it is"))?;
        let flags = info.to_bytes().u32(offset_of!(vfio_device_info, flags)).unwrap_or(0);
        if flags & VFIO_DEVICE_FLAGS_PCI == 0 {
            return Err(Error::Unsupported {
                what: address.to_string(),
                why: format!("not a PCI device to VFIO (flags {flags:#x})"),
            });
        }
        let mut device = Self {
            config: ask_region(address, fd, VFIO_PCI_CONFIG_REGION_INDEX)?,
            can_reset: flags & VFIO_DEVICE_FLAGS_RESET != 0,
            bars: Mutex::default(),
            interrupts: None,
            request: None,
            error: None,
            function,
            attachment,
        };
        device.request = device.notice(Set::Request)?;
        device.error = device.notice(Set::Error)?;
        device.set_command(MEMORY, BUS_MASTER)?;
        Ok(device)
    }

    /// What it was when it was opened. Reads no file: who holds a device that is wanted back must not.
    #[must_use]
    pub fn function(&self) -> &Function {
        &self.function
    }

    /// Where it stands.
    #[must_use]
    pub fn address(&self) -> Address {
        self.function.address
    }

    /// Its address space.
    #[must_use]
    pub fn iommu(&self) -> &Iommu {
        self.attachment.iommu()
    }

    /// What the kernel says of a region: 0–5 are the BARs, 7 the configuration space.
    ///
    /// # Errors
    /// There is none.
    pub fn region(&self, index: u32) -> Result<Region> {
        let info = ask_region(self.address(), self.fd(), index)?;
        let is_mappable = info.flags & VFIO_REGION_INFO_FLAG_MMAP != 0;
        Ok(Region { size: info.size, is_mappable, windows: info.windows })
    }

    /// The registers or the memory behind BAR 0–5.
    ///
    /// # Errors
    /// I/O ports, size 0, or the kernel refused.
    pub fn bar(&self, index: u8) -> Result<Bar> {
        let address = self.address();
        let refused = |why: String| Error::Bar { address, index, why };
        if index >= BARS {
            return Err(refused(format!("a function has {BARS}, counted from 0")));
        }
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut bars[usize::from(index)];
        if let Some(bar) = Bar::upgrade(slot) {
            return Ok(bar);
        }
        let info = ask_region(address, self.fd(), u32::from(index))?;
        if info.size == 0 {
            let why = "size 0, need a memory BAR: not there, or the upper half of the one before";
            return Err(refused(why.to_owned()));
        }
        let mut register = [0; 4];
        self.read_config(FIRST_BAR + 4 * u16::from(index), &mut register)?;
        if u32::from_le_bytes(register) & IO_PORTS != 0 {
            let why = format!("I/O-port BAR of {}, need a memory BAR", bar::bytes(info.size));
            return Err(refused(why));
        }
        let windows = if info.flags & VFIO_REGION_INFO_FLAG_MMAP == 0 {
            Vec::new()
        } else {
            bar::windows(&info, self.unmappable_table(index, &info)?, page_size())
        };
        let bar = Bar::map((address, index), self.attachment.device(), &info, &windows)?;
        *slot = bar.downgrade();
        Ok(bar)
    }

    /// Exports `len` bytes of a BAR as a dma-buf, whole pages: what iommufd takes to let another device
    /// reach them. The kernel revokes it while the device is reset, or decodes no memory.
    ///
    /// # Errors
    /// The kernel cannot (`CONFIG_VFIO_PCI_DMABUF`, Linux 6.19), or the range is not in the BAR.
    pub fn export(&self, bar: u8, offset: u64, len: u64) -> Result<OwnedFd> {
        let address = self.address();
        sys::export(self.fd(), bar, offset, len).map_err(|error| match error.raw_os_error() {
            Some(libc::ENOTTY) => Error::Unsupported {
                what: format!("{address} BAR{bar}: a dma-buf"),
                why:
                    "the kernel exports none (CONFIG_VFIO_PCI_DMABUF): use type1, which takes the \
                      BAR's mapping"
                        .to_owned(),
            },
            _ => Error::system(format!(
                "{address} BAR{bar}: exporting {len:#x} bytes at {offset:#x}"
            ))(error),
        })
    }

    /// Where in this BAR the table of interrupts is that the kernel keeps for itself.
    fn unmappable_table(
        &self,
        index: u8,
        info: &RegionInfo,
    ) -> Result<Option<std::ops::Range<u64>>> {
        if info.maps_msix {
            return Ok(None);
        }
        let mut config = [0; 256];
        self.read_config(0, &mut config)?;
        let table = MsixTable::find(&config)?.filter(|table| table.bar == index);
        Ok(table.map(|table| u64::from(table.offset)..u64::from(table.offset) + table.len()))
    }

    /// Reads configuration space.
    ///
    /// # Errors
    /// Beyond its end, or the device is gone.
    pub fn read_config(&self, offset: u16, bytes: &mut [u8]) -> Result<()> {
        let at = self.config_range(offset, bytes.len())?;
        let read = rustix::io::pread(self.fd(), &mut *bytes, at);
        self.whole(read, bytes.len(), offset, "reading")
    }

    /// Writes configuration space, as far as VFIO lets it through.
    ///
    /// # Errors
    /// Beyond its end, or the device is gone.
    pub fn write_config(&mut self, offset: u16, bytes: &[u8]) -> Result<()> {
        let at = self.config_range(offset, bytes.len())?;
        let written = rustix::io::pwrite(self.fd(), bytes, at);
        self.whole(written, bytes.len(), offset, "writing")
    }

    fn config_range(&self, offset: u16, len: usize) -> Result<u64> {
        let end = u64::from(offset) + len as u64;
        if end > self.config.size {
            return Err(Error::Capabilities(format!(
                "{}: {len} bytes at {offset:#x} of a configuration space of {:#x}",
                self.address(),
                self.config.size
            )));
        }
        Ok(self.config.offset + u64::from(offset))
    }

    fn whole(
        &self,
        done: rustix::io::Result<usize>,
        len: usize,
        at: u16,
        doing: &str,
    ) -> Result<()> {
        let done = done.map_err(std::io::Error::from).and_then(|done| {
            if done == len { Ok(()) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
        });
        let address = self.address();
        done.map_err(Error::system(format!("{address}: {doing} configuration space at {at:#x}")))
    }

    /// Lets the device read and write memory, or stops it.
    ///
    /// # Errors
    /// The configuration space cannot be written, or did not take the bit.
    pub fn set_bus_master(&mut self, on: bool) -> Result<()> {
        if on { self.set_command(BUS_MASTER, 0) } else { self.set_command(0, BUS_MASTER) }
    }

    /// Sets bits of the command register, clears others, and looks whether it took them.
    fn set_command(&mut self, set: u16, clear: u16) -> Result<()> {
        let mut bytes = [0; 2];
        self.read_config(COMMAND, &mut bytes)?;
        let wanted = (u16::from_le_bytes(bytes) | set) & !clear;
        self.write_config(COMMAND, &wanted.to_le_bytes())?;
        self.read_config(COMMAND, &mut bytes)?;
        let command = u16::from_le_bytes(bytes);
        if command & set == set && command & clear == 0 {
            return Ok(());
        }
        let address = self.address();
        let what = format!("{address}: command register is {command:#06x}, {wanted:#06x} written");
        Err(Error::system(what)(std::io::Error::other("the device is gone, or broken")))
    }

    /// Resets the function, by what the kernel finds best (FLR, power state, bus). DMA has stopped when
    /// this returns: bus mastering is off, memory decode on. What registers hold depends on the way:
    /// QEMU's 82574L, which has no FLR, keeps them through a change of power state.
    ///
    /// # Errors
    /// It cannot be reset alone, or did not come back.
    pub fn reset(&mut self) -> Result<()> {
        let address = self.address();
        if !self.can_reset {
            return Err(Error::CannotReset(address));
        }
        self.set_bus_master(false)?;
        sys::reset(self.fd()).map_err(Error::system(format!("{address}: reset")))?;
        self.set_command(MEMORY, BUS_MASTER)
    }

    /// Turns `vectors` MSI-X interrupts on, each with an eventfd that becomes readable; turns off those
    /// that were on.
    ///
    /// # Errors
    /// The function has fewer.
    pub fn enable_msix(&mut self, vectors: usize) -> Result<Vec<Arc<OwnedFd>>> {
        self.enable(&[Set::Msix], vectors)
    }

    /// As [`enable_msix`](Self::enable_msix), with MSI where the function has no or too few MSI-X.
    ///
    /// # Errors
    /// The function has fewer of both.
    pub fn enable_interrupts(&mut self, vectors: usize) -> Result<Vec<Arc<OwnedFd>>> {
        self.enable(&[Set::Msix, Set::Msi], vectors)
    }

    fn enable(&mut self, sets: &[Set], vectors: usize) -> Result<Vec<Arc<OwnedFd>>> {
        let address = self.address();
        let failed = |doing: &str| Error::system(format!("{address}: {doing} interrupts"));
        self.disable_interrupts()?;
        if vectors == 0 {
            return Ok(Vec::new());
        }
        let mut has = 0;
        for &set in sets {
            let count = set.count(self.fd()).map_err(failed("counting"))?;
            if count >= vectors {
                let fds = set.enable(self.fd(), vectors).map_err(failed("enabling"))?;
                self.interrupts = Some(set);
                return Ok(fds);
            }
            has = has.max(count);
        }
        Err(Error::Vectors { address, asked: vectors, has })
    }

    /// Turns message-signalled interrupts off.
    ///
    /// # Errors
    /// The device is gone.
    pub fn disable_interrupts(&mut self) -> Result<()> {
        let address = self.address();
        let Some(set) = self.interrupts.take() else { return Ok(()) };
        set.disable(self.fd()).map_err(Error::system(format!("{address}: disabling interrupts")))
    }

    fn notice(&self, set: Set) -> Result<Option<Arc<OwnedFd>>> {
        let address = self.address();
        let failed = || Error::system(format!("{address}: asking for notices"));
        if set.count(self.fd()).map_err(failed())? == 0 {
            return Ok(None);
        }
        Ok(set.enable(self.fd(), 1).map_err(failed())?.pop())
    }

    /// What the kernel had to say since it was asked last. Never waits.
    pub fn notices(&self) -> Notices {
        let heard = |fd: &Option<Arc<OwnedFd>>| fd.as_deref().is_some_and(was_signalled);
        Notices { removal: heard(&self.request), error: heard(&self.error) }
    }

    /// Zeroed memory in pages that hold nothing else, mapped for the device.
    ///
    /// # Errors
    /// No memory, or it cannot be mapped.
    pub fn dma_block(&self, bytes: usize) -> Result<DmaBlock> {
        DmaBlock::new(self.iommu(), bytes)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.attachment.device().as_fd()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let address = self.address();
        // A device that is gone refuses both, and needs neither.
        if let Err(error) = self.set_bus_master(false) {
            tracing::debug!(%address, %error, "bus mastering stays as it is");
        }
        if let Err(error) = self.disable_interrupts() {
            tracing::debug!(%address, %error, "interrupts stay as they are");
        }
        let bars = self.bars.get_mut().unwrap_or_else(PoisonError::into_inner);
        for bar in bars.iter().filter_map(Bar::upgrade) {
            bar.retire();
        }
        // Then the attachment: the device closes, and leaves its group and address space.
    }
}

fn ask_region(address: Address, device: BorrowedFd<'_>, index: u32) -> Result<RegionInfo> {
    let mut buffer = Buffer::new(size_of::<vfio_region_info>());
    buffer.set_u32(offset_of!(vfio_region_info, index), index);
    let what = || format!("{address}: region {index}");
    let answer = sys::info(device, sys::Info::Region, buffer).map_err(Error::system(what()))?;
    region_info(&answer.to_bytes()).map_err(|problem| Error::Malformed { path: what(), problem })
}
