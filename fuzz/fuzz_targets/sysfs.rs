//! The text of a PCI function's files in sysfs.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vfio::fuzz::sysfs(bytes));
