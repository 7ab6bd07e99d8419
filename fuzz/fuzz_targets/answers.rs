//! VFIO's answers of varying length.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vfio::fuzz::answers(bytes));
