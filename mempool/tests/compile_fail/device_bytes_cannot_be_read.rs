use mempool::{Buf, Device};

fn read(buf: &Buf<Device>) -> &[u8] {
    buf.bytes()
}

fn main() {}
