use mempool::Quiesced;

fn made() -> Quiesced {
    Quiesced::new()
}

fn forged() -> Quiesced {
    Quiesced(())
}

fn main() {}
