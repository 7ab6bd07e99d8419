//! Answers of VFIO's that vary in length: structures followed by a chain of capabilities. Reads bytes
//! and believes no offset in them; makes no request.

use std::{io, mem::offset_of};

use vfio_bindings::bindings::vfio::{
    VFIO_IOMMU_INFO_CAPS, VFIO_IOMMU_INFO_PGSIZES, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE,
    VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, VFIO_REGION_INFO_CAP_MSIX_MAPPABLE,
    VFIO_REGION_INFO_CAP_SPARSE_MMAP, VFIO_REGION_INFO_FLAG_CAPS, vfio_info_cap_header,
    vfio_iommu_type1_info, vfio_region_info,
};

/// More than any answer has.
const LONGEST: usize = 64 << 10;
/// More capabilities than any answer has.
const MOST: usize = 48;

/// Room for an answer, aligned as the kernel's structures are.
#[derive(Clone, Debug)]
pub(crate) struct Buffer {
    words: Vec<u64>,
    len: usize,
}

impl Buffer {
    /// `len` zeroed bytes.
    pub(crate) fn new(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(8)], len }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// States its own length in the first word, as every answer does.
    pub(crate) fn set_argsz(&mut self) {
        self.set_u32(0, u32::try_from(self.len).unwrap_or(u32::MAX));
    }

    /// The length that the kernel would like.
    pub(crate) fn argsz(&self) -> usize {
        self.bytes().u32(0).map_or(0, |len| len as usize)
    }

    pub(crate) fn set_u32(&mut self, at: usize, value: u32) {
        let (word, shift) = (at / 8, at % 8 * 8);
        // In the machine's own order: the first half is the low one on a little-endian machine.
        let shift = if cfg!(target_endian = "little") { shift } else { 32 - shift };
        let mask = u64::from(u32::MAX) << shift;
        self.words[word] = (self.words[word] & !mask) | (u64::from(value) << shift);
    }

    pub(crate) fn grow(&mut self, len: usize) -> io::Result<()> {
        if len > LONGEST {
            return Err(io::Error::other(format!("an answer of {len} bytes")));
        }
        self.words.resize(len.div_ceil(8), 0);
        self.len = len;
        Ok(())
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut u64 {
        self.words.as_mut_ptr()
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let bytes = self.words.iter().flat_map(|word| word.to_ne_bytes());
        bytes.take(self.len).collect()
    }

    fn bytes(&self) -> [u8; 8] {
        self.words.first().copied().unwrap_or(0).to_ne_bytes()
    }
}

/// Numbers in the machine's own order; none beyond the end.
pub(crate) trait Fields {
    fn u16(&self, at: usize) -> Option<u16>;
    fn u32(&self, at: usize) -> Option<u32>;
    fn u64(&self, at: usize) -> Option<u64>;
}

impl Fields for [u8] {
    fn u16(&self, at: usize) -> Option<u16> {
        self.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
    }

    fn u32(&self, at: usize) -> Option<u32> {
        self.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
    }

    fn u64(&self, at: usize) -> Option<u64> {
        self.get(at..)?.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes))
    }
}

/// The capabilities of an answer, from `first` on: id, and the bytes from its header on.
fn capabilities(bytes: &[u8], first: u32) -> Result<Vec<(u16, &[u8])>, String> {
    let mut found = Vec::new();
    let mut at = first as usize;
    while at != 0 {
        let header = bytes.get(at..).filter(|rest| rest.len() >= size_of::<vfio_info_cap_header>());
        let Some(header) = header else {
            return Err(format!("capability at {at:#x} of {:#x} bytes", bytes.len()));
        };
        if found.len() == MOST {
            return Err(format!("capability chain loops at {at:#x} ({MOST} hops)"));
        }
        found.push((header.u16(0).unwrap_or(0), header));
        at = header.u32(offset_of!(vfio_info_cap_header, next)).unwrap_or(0) as usize;
    }
    Ok(found)
}

/// What the kernel says of a region of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RegionInfo {
    /// `VFIO_REGION_INFO_FLAG_*`.
    pub(crate) flags: u32,
    pub(crate) size: u64,
    /// Where it starts in the device's file.
    pub(crate) offset: u64,
    /// The parts that can be mapped, if not all of it: offset and bytes.
    pub(crate) windows: Option<Vec<(u64, u64)>>,
    /// Whether the page of the MSI-X table may be mapped as well.
    pub(crate) maps_msix: bool,
}

/// Reads an answer to `VFIO_DEVICE_GET_REGION_INFO`.
pub(crate) fn region_info(bytes: &[u8]) -> Result<RegionInfo, String> {
    let short = || format!("{} bytes of region information", bytes.len());
    let mut info = RegionInfo {
        flags: bytes.u32(offset_of!(vfio_region_info, flags)).ok_or_else(short)?,
        size: bytes.u64(offset_of!(vfio_region_info, size)).ok_or_else(short)?,
        offset: bytes.u64(offset_of!(vfio_region_info, offset)).ok_or_else(short)?,
        ..RegionInfo::default()
    };
    if info.flags & VFIO_REGION_INFO_FLAG_CAPS == 0 {
        return Ok(info);
    }
    let first = bytes.u32(offset_of!(vfio_region_info, cap_offset)).ok_or_else(short)?;
    for (id, capability) in capabilities(bytes, first)? {
        match u32::from(id) {
            VFIO_REGION_INFO_CAP_SPARSE_MMAP => {
                info.windows = Some(windows(capability, info.size)?);
            }
            VFIO_REGION_INFO_CAP_MSIX_MAPPABLE => info.maps_msix = true,
            _ => {}
        }
    }
    Ok(info)
}

/// `vfio_region_info_cap_sparse_mmap`: header, count, reserved, then offset and bytes each.
fn windows(capability: &[u8], size: u64) -> Result<Vec<(u64, u64)>, String> {
    let mut windows = pairs(capability)?;
    windows.retain(|&(_, len)| len > 0);
    windows.sort_unstable();
    let mut end = 0;
    for &(offset, len) in &windows {
        let beyond = offset.checked_add(len).filter(|&to| offset >= end && to <= size);
        end = beyond.ok_or_else(|| {
            format!("a window of {len:#x} bytes at {offset:#x} in a region of {size:#x}")
        })?;
    }
    Ok(windows)
}

/// A count at +8, and from +16 on as many pairs of numbers.
fn pairs(capability: &[u8]) -> Result<Vec<(u64, u64)>, String> {
    let count = capability.u32(8).unwrap_or(0) as usize;
    let (pairs, _) = capability.get(16..).unwrap_or_default().as_chunks::<16>();
    if count > pairs.len() {
        return Err(format!("{count} ranges in {} bytes", capability.len()));
    }
    let read = |pair: &[u8; 16]| Some((pair.u64(0)?, pair.u64(8)?));
    Ok(pairs.iter().take(count).filter_map(read).collect())
}

/// What the kernel says of a type1 address space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Type1Info {
    /// A bit for each size of page.
    pub(crate) page_sizes: u64,
    /// Addresses that devices can reach, first and last each; none if the kernel does not say.
    pub(crate) ranges: Option<Vec<(u64, u64)>>,
    /// Mappings that can still be made; none if the kernel does not say.
    pub(crate) available: Option<u32>,
}

/// Reads an answer to `VFIO_IOMMU_GET_INFO`.
pub(crate) fn type1_info(bytes: &[u8]) -> Result<Type1Info, String> {
    let short = || format!("{} bytes of IOMMU information", bytes.len());
    let flags = bytes.u32(offset_of!(vfio_iommu_type1_info, flags)).ok_or_else(short)?;
    let mut info = Type1Info::default();
    if flags & VFIO_IOMMU_INFO_PGSIZES != 0 {
        info.page_sizes =
            bytes.u64(offset_of!(vfio_iommu_type1_info, iova_pgsizes)).ok_or_else(short)?;
    }
    if flags & VFIO_IOMMU_INFO_CAPS == 0 {
        return Ok(info);
    }
    let first = bytes.u32(offset_of!(vfio_iommu_type1_info, cap_offset)).ok_or_else(short)?;
    for (id, capability) in capabilities(bytes, first)? {
        match u32::from(id) {
            VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE => info.ranges = Some(pairs(capability)?),
            VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL => info.available = capability.u32(8),
            _ => {}
        }
    }
    Ok(info)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Words of 32 bits, as the kernel lays them out.
    fn answer(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    /// `vfio_region_info` of 16 KiB with a capability at 32.
    fn region(capability: &[u32]) -> Vec<u8> {
        let mut words = vec![0, 0xf, 3, 32, 0x4000, 0, 0, 3];
        words.extend(capability);
        answer(&words)
    }

    #[test]
    fn windows_of_a_region_are_read() {
        let bytes = region(&[1 | 1 << 16, 0, 2, 0, 0, 0, 0x1000, 0, 0x2000, 0, 0x2000, 0]);
        let info = region_info(&bytes).expect("a sound answer");
        assert_eq!((info.size, info.offset), (0x4000, 3 << 32));
        assert_eq!(info.windows, Some(vec![(0, 0x1000), (0x2000, 0x2000)]));
        assert!(!info.maps_msix);
    }

    #[test]
    fn windows_beyond_the_region_or_on_top_of_each_other_are_refused() {
        for (second, why) in [
            ([0x2000, 0, 0x3000, 0], "a window of 0x3000 bytes at 0x2000 in a region of 0x4000"),
            ([0x800, 0, 0x1000, 0], "a window of 0x1000 bytes at 0x800 in a region of 0x4000"),
            (
                [0x1000, 0, u32::MAX, u32::MAX],
                "a window of 0xffffffffffffffff bytes at 0x1000 in a region of 0x4000",
            ),
        ] {
            let mut capability = vec![1 | 1 << 16, 0, 2, 0, 0, 0, 0x1000, 0];
            capability.extend(second);
            assert_eq!(region_info(&region(&capability)), Err(why.to_owned()));
        }
    }

    #[test]
    fn more_ranges_than_bytes_are_refused() {
        let bytes = region(&[1 | 1 << 16, 0, 0x1000_0000, 0, 0, 0, 0x1000, 0]);
        assert_eq!(region_info(&bytes), Err("268435456 ranges in 32 bytes".to_owned()));
    }

    #[test]
    fn a_chain_that_loops_ends_with_an_error() {
        let bytes = region(&[9 | 1 << 16, 32]);
        assert_eq!(region_info(&bytes), Err("capability chain loops at 0x20 (48 hops)".to_owned()));
        let bytes = region(&[9 | 1 << 16, 0x4000]);
        assert_eq!(region_info(&bytes), Err("capability at 0x4000 of 0x28 bytes".to_owned()));
    }

    #[test]
    fn an_address_space_says_its_pages_ranges_and_what_is_left() {
        let mut words = vec![0, 3, 0x1000, 0, 24, 0];
        words.extend([3 | 1 << 16, 40, 65535, 0]); // what is left
        words.extend([1 | 1 << 16, 0, 2, 0, 0, 0, 0xfedf_ffff, 0, 0xfef0_0000, 0, u32::MAX, 0x7f]);
        let info = type1_info(&answer(&words)).expect("a sound answer");
        assert_eq!(info.page_sizes, 0x1000);
        assert_eq!(info.available, Some(65535));
        assert_eq!(info.ranges, Some(vec![(0, 0xfedf_ffff), (0xfef0_0000, 0x7f_ffff_ffff)]));
    }

    #[test]
    fn a_buffer_states_its_length_and_keeps_what_was_set() {
        let mut buffer = Buffer::new(24);
        buffer.set_u32(12, 7);
        buffer.set_u32(8, 9);
        buffer.set_argsz();
        let bytes = buffer.to_bytes();
        assert_eq!((bytes.u32(0), bytes.u32(8), bytes.u32(12)), (Some(24), Some(9), Some(7)));
        assert!(buffer.grow(1 << 20).is_err());
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = region_info(&bytes);
            let _ = type1_info(&bytes);
        }
    }
}
