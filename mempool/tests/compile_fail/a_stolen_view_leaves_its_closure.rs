use mempool::{Burst, Cpu, FrameMut};

fn steal(burst: &mut Burst<Cpu>) -> Vec<FrameMut<'_, Cpu>> {
    let mut stolen = Vec::new();
    burst.for_each_mut(0, |frame| stolen.push(frame));
    stolen
}

fn main() {}
