//! The operator's command: what is here, hugepages, completions, manuals.

fn main() {}
