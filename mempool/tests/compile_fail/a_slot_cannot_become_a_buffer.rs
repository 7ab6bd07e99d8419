use mempool::{Cpu, Pool, Slot};

fn forge(pool: &Pool<Cpu>, slot: Slot) {
    let _ = mempool::Buf::<Cpu>::from_raw(pool, slot);
    let _ = Slot(3);
}

fn main() {}
