//! Makes traffic, and measures what comes back.

fn main() {}
