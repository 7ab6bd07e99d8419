//! Writes what ports receive to capture files.

fn main() {}
