use mempool::SharedBuf;

fn change(buf: &mut SharedBuf) {
    buf.bytes_mut()[0] = 1;
}

fn change_meta(buf: &mut SharedBuf) {
    buf.frame_mut().set_len(1);
}

fn main() {}
