use mempool::{Buf, Cpu};

fn twice(buf: Buf<Cpu>) -> (Buf<Cpu>, Buf<Cpu>) {
    (buf, buf)
}

fn main() {}
