use mempool::{Burst, Cpu};

fn both(burst: &mut Burst<Cpu>) {
    let mut first = burst.frame_mut(0);
    let mut again = burst.frame_mut(0);
    first.bytes_mut()[0] = again.bytes_mut()[0];
}

fn main() {}
