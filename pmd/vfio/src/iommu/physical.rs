//! Where memory of this process lies in the machine, for devices without an IOMMU. Reads `/proc`; pins
//! nothing, which is why only hugepages will do: the kernel leaves those where they are.

use std::{fs, fs::File, os::unix::fs::FileExt, ptr::NonNull};

use crate::{Error, Result};

/// A page of `/proc/self/pagemap` (Documentation/admin-guide/mm/pagemap.rst).
const PAGE: usize = 4096;
const PRESENT: u64 = 1 << 63;
const FRAME: u64 = (1 << 55) - 1;

/// The physical address of a region that is one piece, made of hugepages.
pub(super) fn address_of(base: NonNull<u8>, len: usize) -> Result<u64> {
    let start = base.as_ptr().addr();
    let smaps =
        fs::read_to_string("/proc/self/smaps").map_err(Error::system("/proc/self/smaps"))?;
    if !is_hugepages(&smaps, start as u64, len as u64) {
        return Err(unsupported(
            "the memory is not made of hugepages, which alone stay where they are",
        ));
    }
    let map = File::open("/proc/self/pagemap").map_err(Error::system("/proc/self/pagemap"))?;
    let mut entries = vec![0; len.div_ceil(PAGE) * 8];
    map.read_exact_at(&mut entries, (start / PAGE * 8) as u64)
        .map_err(Error::system("/proc/self/pagemap"))?;
    let (entries, _) = entries.as_chunks::<8>();
    one_piece(entries.iter().map(|bytes| u64::from_ne_bytes(*bytes)))
}

fn unsupported(why: &str) -> Error {
    Error::Unsupported { what: "DMA without an IOMMU".to_owned(), why: why.to_owned() }
}

/// Entries of consecutive pages to the address of the first.
fn one_piece(entries: impl Iterator<Item = u64>) -> Result<u64> {
    let mut first = None;
    for (at, entry) in entries.enumerate() {
        if entry & PRESENT == 0 {
            return Err(unsupported("the memory was never touched, so that it lies nowhere yet"));
        }
        let frame = entry & FRAME;
        if frame == 0 {
            return Err(unsupported(
                "who lacks CAP_SYS_ADMIN cannot learn where memory lies: run as root",
            ));
        }
        if *first.get_or_insert(frame) + at as u64 != frame {
            return Err(Error::NotContiguous { offset: at * PAGE });
        }
    }
    first.map(|frame| frame * PAGE as u64).ok_or_else(|| unsupported("there is no memory"))
}

/// Whether `smaps` says that all of these bytes are in pages of at least 2 MiB.
fn is_hugepages(smaps: &str, start: u64, len: u64) -> bool {
    let (mut at, end) = (start, start.saturating_add(len));
    let mut span = None;
    for line in smaps.lines() {
        if let Some(next) = span_of(line) {
            span = Some(next);
        } else if let (Some((from, to)), Some(kib)) = (span, line.strip_prefix("KernelPageSize:")) {
            let kib = kib.trim().strip_suffix(" kB").and_then(|kib| kib.parse::<u64>().ok());
            if from <= at && at < to && kib.is_some_and(|kib| kib >= 2048) {
                at = to;
            }
        }
    }
    at >= end
}

/// `7f0000000000-7f0000200000 rw-s …`: the head of a mapping.
fn span_of(line: &str) -> Option<(u64, u64)> {
    let (from, to) = line.split_once(' ')?.0.split_once('-')?;
    Some((u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_in_a_row_are_one_piece() {
        let entries = [7, 8, 9].map(|frame| PRESENT | 1 << 61 | frame);
        assert_eq!(one_piece(entries.into_iter()).expect("in a row"), 7 * 4096);
    }

    #[test]
    fn a_break_is_named_by_where_it_is() {
        let entries = [7, 8, 10].map(|frame| PRESENT | frame);
        let error = one_piece(entries.into_iter()).expect_err("a break").to_string();
        assert!(error.contains("broken at 0x2000: use one hugepage per region"), "{error}");
    }

    #[test]
    fn memory_that_is_nowhere_and_frames_that_are_hidden_are_told_apart() {
        let nowhere = one_piece([PRESENT | 7, 0].into_iter()).expect_err("absent").to_string();
        assert!(nowhere.contains("never touched"), "{nowhere}");
        let hidden = one_piece([PRESENT].into_iter()).expect_err("hidden").to_string();
        assert!(hidden.contains("CAP_SYS_ADMIN"), "{hidden}");
    }

    #[test]
    fn hugepages_are_told_from_small_ones() {
        let smaps = "00400000-00600000 rw-s 0 0:0 1 /x\nSize: 2048 kB\nKernelPageSize:     2048 kB\n\
                     00600000-00800000 rw-s 0 0:0 1 /x\nKernelPageSize:     2048 kB\n\
                     00800000-00801000 rw-p 0 0:0 0\nKernelPageSize:        4 kB\n";
        assert!(is_hugepages(smaps, 0x40_0000, 0x40_0000));
        assert!(is_hugepages(smaps, 0x50_0000, 0x1000));
        assert!(!is_hugepages(smaps, 0x70_0000, 0x20_0000));
        assert!(!is_hugepages(smaps, 0x30_0000, 0x1000));
    }

    #[test]
    fn ordinary_memory_is_refused() {
        let page = vec![1u8; 8192];
        let base = NonNull::from(&page[0]);
        let error = address_of(base, 8192).expect_err("not hugepages").to_string();
        assert!(error.contains("not made of hugepages"), "{error}");
    }
}
