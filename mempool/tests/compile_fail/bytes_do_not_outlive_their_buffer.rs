use mempool::{Cache, Cpu};

fn late(cache: &mut Cache<Cpu>) -> &[u8] {
    let buf = cache.take_one().unwrap();
    buf.bytes()
}

fn main() {}
