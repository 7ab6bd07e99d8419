use mempool::{Access, CpuAccess};

enum Mine {}

impl Access for Mine {
    const NAME: &'static str = "mine";
    const COUNTED: bool = false;

    fn accepts(_: CpuAccess) -> bool {
        true
    }
}

fn main() {}
