use mempool::{Buf, Cpu, InFlight};

fn post(ledger: &mut InFlight<Cpu>, buf: Buf<Cpu>) -> usize {
    let posted = ledger.post(0, buf);
    assert!(posted.is_ok());
    buf.len()
}

fn main() {}
