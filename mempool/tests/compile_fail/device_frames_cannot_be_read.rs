use mempool::{Burst, Device};

fn read(burst: &Burst<Device>) -> usize {
    burst.iter().map(|frame| frame.bytes().len()).sum()
}

fn main() {}
