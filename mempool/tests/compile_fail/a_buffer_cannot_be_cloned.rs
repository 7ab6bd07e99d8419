use mempool::{Buf, Cpu};

fn twice(buf: &Buf<Cpu>) -> Buf<Cpu> {
    Buf::clone(buf)
}

fn main() {}
