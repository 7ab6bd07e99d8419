use mempool::{Burst, Cache, Cpu, Device};

fn mix(cache: &mut Cache<Device>, burst: &mut Burst<Cpu>) {
    burst.recycle(cache);
}

fn main() {}
