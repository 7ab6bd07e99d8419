//! Which bytes are mapped where, and how often they were asked for. Maps nothing.

use std::{collections::BTreeMap, ptr::NonNull};

use super::{
    Access,
    space::{Place, Space},
};
use crate::{Error, Result};

/// What is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Memory of this process.
    Memory {
        /// Where it starts.
        base: u64,
    },
    /// Bytes of a file.
    File { device: u64, inode: u64, offset: u64 },
}

impl Source {
    /// Where the bytes start in their own space.
    fn start(self) -> u64 {
        match self {
            Self::Memory { base } => base,
            Self::File { offset, .. } => offset,
        }
    }

    /// How far behind `other` it starts, if both are of the same memory or file.
    fn behind(self, other: Self) -> Option<u64> {
        let is_same = match (self, other) {
            (Self::Memory { .. }, Self::Memory { .. }) => true,
            (
                Self::File { device, inode, .. },
                Self::File { device: other_device, inode: other_inode, .. },
            ) => (device, inode) == (other_device, other_inode),
            _ => false,
        };
        if is_same { self.start().checked_sub(other.start()) } else { None }
    }
}

/// What bytes are of, which decides whether they count as pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// The machine's memory: its pages are pinned.
    Pages,
    /// A BAR: there is nothing to pin.
    Device,
}

impl Behind {
    /// How many of `len` bytes are pinned.
    pub(super) fn pins(self, len: u64) -> u64 {
        match self {
            Self::Pages => len,
            Self::Device => 0,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    source: Source,
    behind: Behind,
    len: u64,
    access: Access,
    uses: usize,
}

/// The mappings of one address space.
#[derive(Clone, Debug, Default)]
pub(super) struct Books {
    space: Space,
    entries: BTreeMap<u64, Entry>,
}

impl Books {
    pub(super) fn set_ranges(&mut self, ranges: &[(u64, u64)], page: u64) {
        self.space.set_ranges(ranges, page);
    }

    /// Counts one more use of bytes that are mapped for this access, and yields where.
    pub(super) fn share(&mut self, source: Source, len: u64, access: Access) -> Option<u64> {
        self.entries.iter_mut().find_map(|(&iova, entry)| {
            let behind = source.behind(entry.source)?;
            let is_inside = behind.checked_add(len).is_some_and(|end| end <= entry.len);
            if !is_inside || entry.access != access || len == 0 {
                return None;
            }
            entry.uses += 1;
            Some(iova + behind)
        })
    }

    /// Whether these are whole pages of the IOMMU's, and more than none.
    pub(super) fn check_pages(&self, source: Source, len: u64) -> Result<()> {
        let (at, page) = (source.start(), self.space.page());
        if len == 0 || !at.is_multiple_of(page) || !len.is_multiple_of(page) {
            return Err(Error::Misaligned { at, len, page });
        }
        Ok(())
    }

    /// Takes a place for new bytes.
    pub(super) fn place(
        &mut self,
        source: Source,
        len: u64,
        access: Access,
        behind: Behind,
    ) -> Result<u64> {
        self.check_pages(source, len)?;
        let place = Place::like(source.start(), len, self.space.page());
        let (limit, free) = (self.space.limit(), self.space.free_bytes());
        let iova = self.space.take(len, place).ok_or(Error::NoIova { len, limit, free })?;
        self.note(iova, source, len, access, behind);
        Ok(iova)
    }

    /// Notes bytes whose place is not ours to choose: the same may be there already, known to this
    /// process by another address.
    pub(super) fn fix(&mut self, iova: u64, source: Source, len: u64, access: Access) {
        self.note(iova, source, len, access, Behind::Pages);
    }

    fn note(&mut self, iova: u64, source: Source, len: u64, access: Access, behind: Behind) {
        let new = Entry { source, behind, len, access, uses: 0 };
        let entry = self.entries.entry(iova).or_insert(new);
        entry.len = entry.len.max(len);
        entry.uses += 1;
    }

    /// One use less of the bytes at `iova`. Yields the whole mapping, first address and bytes, if it was
    /// the last; it is kept until [`remove`](Self::remove).
    pub(super) fn release(&mut self, iova: u64, len: u64) -> Result<Option<(u64, u64)>> {
        let missing = Error::NotMapped { iova, len };
        let Some((&start, entry)) = self.entries.range_mut(..=iova).next_back() else {
            return Err(missing);
        };
        let end = (iova - start).checked_add(len);
        if len == 0 || end.is_none_or(|end| end > entry.len) {
            return Err(missing);
        }
        if entry.uses > 1 {
            entry.uses -= 1;
            return Ok(None);
        }
        Ok(Some((start, entry.len)))
    }

    /// Forgets a mapping.
    pub(super) fn remove(&mut self, iova: u64) {
        self.entries.remove(&iova);
        self.space.give(iova);
    }

    /// Forgets all mappings, and yields them.
    pub(super) fn drain(&mut self) -> Vec<(u64, u64)> {
        let entries = std::mem::take(&mut self.entries);
        entries.into_iter().map(|(iova, entry)| (iova, entry.len)).collect()
    }

    /// Mappings there are.
    pub(super) fn mappings(&self) -> usize {
        self.entries.len()
    }

    /// Bytes mapped that are pinned.
    pub(super) fn pinned(&self) -> u64 {
        self.entries.values().map(|entry| entry.behind.pins(entry.len)).sum()
    }

    /// The mappings of memory of this process: where devices see it, where it is, bytes, access.
    pub(super) fn memory(&self) -> Vec<(u64, NonNull<u8>, u64, Access)> {
        let memory = self.entries.iter().filter_map(|(&iova, entry)| {
            let Source::Memory { base } = entry.source else { return None };
            let base = std::ptr::with_exposed_provenance_mut(usize::try_from(base).ok()?);
            Some((iova, NonNull::new(base)?, entry.len, entry.access))
        });
        memory.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 0x7f00_0000_0000;
    const MIB: u64 = 1 << 20;

    fn books() -> Books {
        let mut books = Books::default();
        books.set_ranges(&[(0, 0x7f_ffff_ffff)], 4096);
        books
    }

    fn memory(base: u64) -> Source {
        Source::Memory { base }
    }

    #[test]
    fn bytes_that_are_mapped_are_shared_and_go_with_their_last_user() {
        let mut books = books();
        let iova =
            books.place(memory(BASE), 4 * MIB, Access::ReadWrite, Behind::Pages).expect("room");
        let again = books.share(memory(BASE), 4 * MIB, Access::ReadWrite);
        let inside = books.share(memory(BASE + MIB), MIB, Access::ReadWrite);
        assert_eq!((again, inside), (Some(iova), Some(iova + MIB)));
        assert_eq!((books.mappings(), books.pinned()), (1, 4 * MIB));
        assert_eq!(books.release(iova + MIB, MIB).expect("mapped"), None);
        assert_eq!(books.release(iova, 4 * MIB).expect("mapped"), None);
        assert_eq!(books.release(iova, 4 * MIB).expect("mapped"), Some((iova, 4 * MIB)));
        books.remove(iova);
        assert_eq!((books.mappings(), books.pinned()), (0, 0));
        assert!(books.release(iova, 4 * MIB).is_err());
    }

    #[test]
    fn a_bar_takes_a_place_and_pins_nothing() {
        let mut books = books();
        let bar = books.place(memory(BASE), 64 * MIB, Access::ReadWrite, Behind::Device);
        let pages = memory(BASE + 128 * MIB);
        books.place(pages, 2 * MIB, Access::ReadWrite, Behind::Pages).expect("room");
        assert_eq!((books.mappings(), books.pinned()), (2, 2 * MIB));
        let iova = bar.expect("room");
        assert_eq!(books.release(iova, 64 * MIB).expect("mapped"), Some((iova, 64 * MIB)));
    }

    #[test]
    fn other_access_other_files_and_more_bytes_are_not_shared() {
        let mut books = books();
        books.place(memory(BASE), 4 * MIB, Access::Read, Behind::Pages).expect("room");
        assert_eq!(books.share(memory(BASE), 4 * MIB, Access::ReadWrite), None);
        assert_eq!(books.share(memory(BASE), 8 * MIB, Access::Read), None);
        assert_eq!(books.share(memory(BASE - MIB), MIB, Access::Read), None);
        let file = |inode, offset| Source::File { device: 1, inode, offset };
        books.place(file(7, 0), MIB, Access::Read, Behind::Pages).expect("room");
        assert_eq!(books.share(file(8, 0), MIB, Access::Read), None);
        assert_eq!(books.share(memory(0), MIB, Access::Read), None);
        assert!(books.share(file(7, 4096), 4096, Access::Read).is_some());
    }

    #[test]
    fn parts_of_pages_and_nothing_at_all_are_refused() {
        let mut books = books();
        for (base, len) in [(BASE + 1, 4096), (BASE, 4095), (BASE, 0)] {
            let error =
                books.place(memory(base), len, Access::Read, Behind::Pages).expect_err("not pages");
            assert!(
                error
                    .to_string()
                    .ends_with("must be multiples of 0x1000, the IOMMU's smallest page"),
                "{error}"
            );
        }
    }

    #[test]
    fn beyond_the_aperture_there_is_no_place() {
        let mut books = Books::default();
        books.set_ranges(&[(0, 0xffff_ffff)], 4096);
        let error =
            books.place(memory(BASE), 1 << 33, Access::Read, Behind::Pages).expect_err("too large");
        assert_eq!(
            error.to_string(),
            "IOVA: no 0x200000000 bytes free below 0xffffffff, beyond which the device or its IOMMU \
             cannot reach (aperture): 0x100000000 bytes are free"
        );
    }

    #[test]
    fn what_is_not_mapped_cannot_be_released() {
        let mut books = books();
        let iova = books.place(memory(BASE), MIB, Access::Read, Behind::Pages).expect("room");
        for (at, len) in [(iova - 4096, 4096), (iova, 2 * MIB), (iova + MIB, 4096), (iova, 0)] {
            assert!(books.release(at, len).is_err(), "{at:#x} {len:#x}");
        }
        assert_eq!(books.release(iova, MIB).expect("mapped"), Some((iova, MIB)));
    }
}
