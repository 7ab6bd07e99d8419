//! The capability lists of a PCI configuration space.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vfio::fuzz::capabilities(bytes));
