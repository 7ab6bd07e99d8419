use mempool::{Buf, Peer};

fn borrow(buf: &Buf<Peer>) -> &[u8] {
    buf.bytes()
}

fn main() {}
