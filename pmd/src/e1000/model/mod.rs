//! The two NICs in software, for tests, benches and fuzzing.
