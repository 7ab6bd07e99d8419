//! Which memory reaches a NIC by which interface of VFIO's, as a table for people: each kind of memory is made
//! up, and the code that maps regions is asked what it would do with it. Maps nothing.
#![allow(unsafe_code, reason = "regions that have a name and no bytes")]

use std::{fs::File, io, os::fd::OwnedFd, ptr::NonNull, sync::Arc};

use mempool::{Backing, CpuAccess, Memory, Region, Window};

use super::space;

/// One kind of memory, and the answer of each interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImporterRow {
    /// The kind of memory, in words.
    pub memory: &'static str,
    /// Interfaces by their names in port specs (`iommu=`); why not, and what works instead, where it does not
    /// work.
    pub answers: [(&'static str, Result<(), String>); 3],
}

/// The table: what the mapper of `pci:` ports says to each kind of memory.
///
/// # Errors
/// There is no file here to stand for those that memory is made of (`/dev/null`).
pub fn importers() -> io::Result<Vec<ImporterRow>> {
    let rows = samples()?.into_iter().map(|(memory, sample)| {
        let region = Region::new(sample);
        ImporterRow { memory, answers: space::answers(&region.handle()) }
    });
    Ok(rows.collect())
}

/// One of each kind.
fn samples() -> io::Result<[(&'static str, Sample); 7]> {
    let file: Arc<OwnedFd> = Arc::new(File::open("/dev/null")?.into());
    let bar = |export| Backing::Bar {
        address: "the device's".into(),
        index: 0,
        offset: 0,
        bus_address: 0,
        export,
    };
    let dma_buf = |memory| Backing::DmaBuf { fd: file.clone(), offset: 0, memory };
    let mapped = |backing| Sample { backing, is_mapped: true };
    Ok([
        ("hugepages (a memory file)", mapped(Backing::Memfd { fd: file.clone(), offset: 0 })),
        ("private and host memory", mapped(Backing::Anonymous)),
        ("BAR of a device on vfio-pci", mapped(bar(Some(file.clone())))),
        (
            "the same, without a mapping here",
            Sample { backing: bar(Some(file.clone())), is_mapped: false },
        ),
        ("the same, without a dma-buf", mapped(bar(None))),
        ("udmabuf that was made here", mapped(dma_buf(Some(file.clone())))),
        ("dma-buf from elsewhere", mapped(dma_buf(None))),
    ])
}

/// Memory that can be named, and that nobody touches.
pub(super) struct Sample {
    pub(super) backing: Backing,
    /// Whether it has an address here that may be used.
    pub(super) is_mapped: bool,
}

// SAFETY: the address is never used: no pool is made of it, nothing is mapped, and nobody reads or writes
// through it.
unsafe impl Memory for Sample {
    fn base(&self) -> NonNull<u8> {
        NonNull::dangling()
    }

    fn len(&self) -> usize {
        4096
    }

    fn page_size(&self) -> usize {
        4096
    }

    fn cpu_access(&self) -> CpuAccess {
        CpuAccess::None
    }

    fn backing(&self) -> Backing {
        self.backing.clone()
    }

    fn window(&self) -> Option<Window> {
        self.is_mapped.then(|| Window::new(NonNull::dangling(), 4096))
    }
}

#[cfg(test)]
mod tests {
    use vfio::{Iommu, Kind, UnsafeDmaAccepted};

    use super::*;
    use crate::{DmaMapper, MapError, pci::VfioMapper};

    #[test]
    fn the_table_says_what_the_mapper_of_ports_does() {
        let no_iommu = Kind::NoIommu(UnsafeDmaAccepted::i_accept_unsafe_dma());
        for (row, (_, sample)) in importers().unwrap().into_iter().zip(samples().unwrap()) {
            let region = Region::new(sample);
            for (known_as, answer) in row.answers {
                let kind = match known_as {
                    "type1" => Kind::Type1,
                    "iommufd" => Kind::Iommufd,
                    _ => no_iommu,
                };
                // Without a device nothing can be mapped: what the table lets pass gets as far as that.
                let mapped = VfioMapper::new(Iommu::new(kind)).map(&region.handle());
                match (answer, mapped) {
                    (Err(table), Err(MapError::Unsupported { why, .. })) => assert_eq!(table, why),
                    (Ok(()), Err(MapError::Refused { .. })) => {}
                    // An address on the bus is all that is needed there.
                    (Ok(()), Ok(_)) if known_as == "none" && row.memory.contains("the same") => {}
                    (Ok(()), Ok(_)) if known_as == "none" && row.memory.contains("BAR") => {}
                    (answer, mapped) => {
                        panic!("{} over {known_as}: {answer:?} but {mapped:?}", row.memory)
                    }
                }
            }
        }
    }

    #[test]
    fn every_interface_takes_hugepages_and_each_takes_a_bar_in_its_own_way() {
        let rows = importers().unwrap();
        let answers = |memory: &str| {
            let row = rows.iter().find(|row| row.memory.starts_with(memory)).expect(memory);
            row.answers.clone().map(|(_, answer)| answer.is_ok())
        };
        assert_eq!(answers("hugepages"), [true; 3]);
        assert_eq!(answers("BAR of a device"), [true; 3]);
        assert_eq!(answers("the same, without a mapping"), [false, true, true]);
        assert_eq!(answers("the same, without a dma-buf"), [true, false, true]);
        assert_eq!(answers("dma-buf from"), [false, true, false]);
    }
}
