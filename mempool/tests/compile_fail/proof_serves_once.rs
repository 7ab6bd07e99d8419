use mempool::{Device, InFlight, Quiesced};

fn both(first: InFlight<Device>, second: InFlight<Device>, proof: Quiesced) {
    first.reclaim(proof);
    second.reclaim(proof);
}

fn main() {}
