//! What a NIC writes into descriptors, and when.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pmd::e1000::model::fuzz::run(bytes));
