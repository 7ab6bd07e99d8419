//! What a fuzzer calls: each takes any bytes, and panics if a reader of this crate breaks its word. Also
//! run by `cargo test`, on the corpora that are kept.

use std::collections::HashSet;

use crate::{abi, pci};

/// Bytes as a configuration space: the lists end, and lead to what is there.
pub fn capabilities(bytes: &[u8]) {
    if let Ok(found) = pci::capabilities(bytes) {
        let places: HashSet<u16> = found.iter().map(|found| found.offset).collect();
        assert_eq!(places.len(), found.len(), "a list that loops");
        for found in found {
            let at = usize::from(found.offset);
            assert!(at >= 0x40 && at + 2 <= bytes.len(), "a capability at {at:#x}");
            assert_eq!(bytes[at], found.id);
        }
    }
    if let Ok(found) = pci::extended_capabilities(bytes) {
        let places: HashSet<u16> = found.iter().map(|found| found.offset).collect();
        assert_eq!(places.len(), found.len(), "an extended list that loops");
        let inside = |at: u16| at >= 0x100 && usize::from(at) + 4 <= bytes.len();
        assert!(found.iter().all(|found| inside(found.offset)));
    }
    if let Ok(Some(table)) = pci::MsixTable::find(bytes) {
        assert!((1..=2048).contains(&table.vectors) && table.bar < 8);
        assert!(table.offset.is_multiple_of(8));
    }
}

/// Bytes as the text of files in sysfs: what is read is what is there.
pub fn sysfs(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(windows) = pci::text::resources(text) {
        assert_eq!(windows.len(), text.lines().count());
        for (window, line) in windows.iter().zip(text.lines()) {
            assert!(window.start <= window.end);
            let numbers: Vec<u64> = line
                .split(' ')
                .map(|word| u64::from_str_radix(&word[2..], 16).expect("it was read"))
                .collect();
            assert_eq!(numbers, [window.start, window.end, window.flags]);
            let _ = window.size();
        }
    }
    if let Ok(id) = pci::text::hex::<u16>(text) {
        assert!(u32::from_str_radix(text.trim_end().trim_start_matches("0x"), 16) == Ok(id.into()));
    }
    let _ = pci::text::number::<i64>(text);
    if let Ok(address) = text.parse::<pci::Address>() {
        assert_eq!(address.to_string().parse::<pci::Address>().expect("its own"), address);
    }
}

/// Bytes as an answer of VFIO's: what can be mapped lies inside the region, in order, apart.
pub fn answers(bytes: &[u8]) {
    if let Ok(info) = abi::region_info(bytes) {
        let mut end = 0;
        for (at, len) in info.windows.unwrap_or_default() {
            assert!(at >= end && len > 0, "windows on top of each other");
            end = at + len;
            assert!(end <= info.size, "a window beyond the region");
        }
    }
    if let Ok(info) = abi::type1_info(bytes) {
        let room = bytes.len() / 16;
        assert!(info.ranges.is_none_or(|ranges| ranges.len() <= room), "ranges out of nowhere");
    }
}
