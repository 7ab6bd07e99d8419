//! What a function must be, before anything of it is held: reads its files in sysfs, and touches no device.

use std::{fs, io::Read, ops::Range};

use mempool::{ProviderError, format_bytes};
use vfio::pci::{Address, Function, MsixTable, Resource, Sysfs, capabilities};

use super::{BarOptions, PAGE};

/// BARs of a function.
const BARS: usize = 6;
/// The command register, and its bit that makes BARs answer (PCI Local Bus 3.0 §6.2.2).
const COMMAND: usize = 0x04;
pub(super) const MEMORY: u16 = 1 << 1;
/// The id of MSI-X among capabilities, and where it says where its pending bits are (PCI Local Bus 3.0 §6.8.2).
const MSI_X: u8 = 0x11;
const PENDING: usize = 8;

/// How a BAR is to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The function is bound to vfio-pci, and will be opened.
    Vfio,
    /// Its file in sysfs: nobody opens the function.
    Sysfs,
}

/// A part of a BAR that may be shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Its bytes in the BAR, whole pages.
    pub(super) range: Range<u64>,
    /// Where the BAR is on the bus.
    pub(super) bus_address: u64,
    pub(super) numa_node: Option<u32>,
}

/// The part that is asked for, if it can be had.
pub(super) fn part(
    name: &str,
    sysfs: &Sysfs,
    (address, index): (Address, u8),
    options: &BarOptions,
    way: Way,
) -> Result<Part, ProviderError> {
    let bad = |why: String| ProviderError::BadRequest { provider: name.to_owned(), why };
    let function = Function::read(sysfs, address).map_err(|error| bad(error.to_string()))?;
    let bars = function.resources.get(..BARS).unwrap_or(&function.resources);
    let resource = usable(bars, index, options).map_err(bad)?;
    let range = range(resource.size(), options).map_err(bad)?;
    owner(&function, way).map_err(bad)?;
    let config = config(sysfs, address);
    interrupt_tables(&config, index, &range).map_err(bad)?;
    if way == Way::Sysfs {
        awake(sysfs, address, &config).map_err(bad)?;
    }
    Ok(Part { range, bus_address: resource.start, numa_node: function.numa_node })
}

/// The BAR, if it is memory to be shared.
fn usable(bars: &[Resource], index: u8, options: &BarOptions) -> Result<Resource, String> {
    let resource = bars.get(usize::from(index)).copied();
    let resource = resource.ok_or_else(|| format!("a function has {BARS} BARs, from 0 on"))?;
    let size = format_bytes(resource.size());
    if resource.size() == 0 {
        return Err(format!(
            "size 0: there is no such BAR, or it is the upper half of the one before; {}",
            those_of(bars)
        ));
    }
    if !resource.is_memory() {
        let others = those_of(bars);
        return Err(format!("I/O-port BAR of {size}, need a memory BAR; {others}"));
    }
    if resource.size() < PAGE as u64 {
        return Err(format!("{size}, less than a page of {PAGE}: too small to be shared"));
    }
    if !resource.is_prefetchable() && !options.allow_non_prefetchable {
        return Err(
            "not prefetchable: its bytes may be registers, reads may have effects, and writes must \
                    not be combined; add allow-nonpref if it is memory all the same"
                .to_owned(),
        );
    }
    Ok(resource)
}

/// The memory BARs that there are, for whoever asked for another.
fn those_of(bars: &[Resource]) -> String {
    let memory = bars.iter().enumerate().filter(|(_, bar)| bar.is_memory() && bar.size() > 0);
    let words: Vec<String> = memory
        .map(|(index, bar)| {
            let kind = if bar.is_prefetchable() { "prefetchable" } else { "not prefetchable" };
            format!("BAR{index} ({}, {kind})", format_bytes(bar.size()))
        })
        .collect();
    match words.is_empty() {
        true => "the function has no memory BAR".to_owned(),
        false => format!("the function has {}", words.join(", ")),
    }
}

/// The bytes that are asked for.
fn range(size: u64, options: &BarOptions) -> Result<Range<u64>, String> {
    let (page, start) = (PAGE as u64, options.offset);
    let end = options.len.map_or(size, |len| start.saturating_add(len));
    if !start.is_multiple_of(page) {
        return Err(format!("offset {start:#x} is no multiple of {PAGE}"));
    }
    if start >= size || end > size {
        let asked = end.saturating_sub(start);
        return Err(format!(
            "{} at offset {start:#x} are asked for, and the BAR has {}",
            format_bytes(asked),
            format_bytes(size)
        ));
    }
    let end = end / page * page;
    if end <= start {
        return Err(format!("less than a page of {PAGE} is asked for: too small to be shared"));
    }
    Ok(start..end)
}

/// Whether nobody else uses the BAR.
fn owner(function: &Function, way: Way) -> Result<(), String> {
    let address = function.address;
    match (function.driver.as_deref(), way) {
        (_, Way::Vfio) if function.is_on_vfio() => Ok(()),
        (None, Way::Vfio) => {
            Err(format!("bound to no driver: run `memwire bind {address}` as root"))
        }
        (Some(driver), Way::Vfio) => Err(format!(
            "owned by the kernel's driver {driver}: run `memwire bind {address}` as root if nobody needs \
             that any more"
        )),
        (None, Way::Sysfs) => Ok(()),
        (Some(_), Way::Sysfs) if function.is_on_vfio() => Ok(()),
        (Some(driver), Way::Sysfs) => Err(format!(
            "owned by the kernel's driver {driver}: run `memwire unbind {address}` as root if nobody needs \
             that any more"
        )),
    }
}

/// The configuration space, as far as this user may read it; empty if it cannot be read.
fn config(sysfs: &Sysfs, address: Address) -> Vec<u8> {
    let mut bytes = Vec::new();
    let file = fs::File::open(sysfs.function(address).join("config"));
    if let Err(error) = file.and_then(|file| file.take(256).read_to_end(&mut bytes)) {
        tracing::debug!(%address, %error, "no configuration space to look at");
    }
    bytes
}

/// Whether the range is free of what raises the function's interrupts: payloads there would be lost, or raise
/// them. A configuration space that ends before its capabilities, as for an ordinary user, hides them.
pub(super) fn interrupt_tables(config: &[u8], index: u8, range: &Range<u64>) -> Result<(), String> {
    let (Ok(Some(table)), Ok(all)) = (MsixTable::find(config), capabilities(config)) else {
        return Ok(());
    };
    let at = all.iter().find(|found| found.id == MSI_X).map_or(0, |found| found.offset.into());
    let pending: Option<&[u8; 4]> = config.get(at + PENDING..).and_then(|rest| rest.first_chunk());
    let pending = pending.map_or(u32::MAX, |bytes| u32::from_le_bytes(*bytes));
    let bits = u64::from(table.vectors).div_ceil(64) * 8;
    let kept = [
        ("its interrupt table (MSI-X)", u32::from(table.bar), table.offset, table.len()),
        ("its pending interrupts (MSI-X)", pending & 7, pending & !7, bits),
    ];
    for (what, bar, offset, len) in kept {
        let (start, end) = (u64::from(offset), u64::from(offset) + len);
        if bar == u32::from(index) && start < range.end && range.start < end {
            return Err(format!(
                "bytes {start:#x}..{end:#x} hold {what}, and {:#x}..{:#x} are asked for: ask for a part \
                 without those (offset=, len=)",
                range.start, range.end
            ));
        }
    }
    Ok(())
}

/// Whether the function answers, though nobody has opened it.
fn awake(sysfs: &Sysfs, address: Address, config: &[u8]) -> Result<(), String> {
    let folder = sysfs.function(address);
    let state = fs::read_to_string(folder.join("power_state")).unwrap_or_default();
    let state = state.trim();
    if state.starts_with("D3") || state == "D1" || state == "D2" {
        return Err(format!(
            "asleep ({state}), so that its memory is not there: as root, write on to {}",
            folder.join("power/control").display()
        ));
    }
    match command(config) {
        Some(u16::MAX) => Err("reads as all ones: the device is gone, or broken".to_owned()),
        Some(command) if command & MEMORY == 0 => Err(format!(
            "memory decode is off (command register {command:#06x}), so that its memory is not there: as \
             root, write 1 to {}",
            folder.join("enable").display()
        )),
        Some(_) => Ok(()),
        None => Err("its configuration space cannot be read".to_owned()),
    }
}

/// The command register of a configuration space.
pub(super) fn command(config: &[u8]) -> Option<u16> {
    config.get(COMMAND..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
}
