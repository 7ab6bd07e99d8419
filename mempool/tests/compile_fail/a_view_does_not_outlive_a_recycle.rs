use mempool::{Burst, Cache, Cpu};

fn late(burst: &mut Burst<Cpu>, cache: &mut Cache<Cpu>) -> usize {
    let frame = burst.frame(0);
    burst.recycle(cache);
    frame.len()
}

fn main() {}
