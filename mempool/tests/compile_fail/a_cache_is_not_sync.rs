use mempool::{Cache, Cpu};

fn lend(cache: &Cache<Cpu>) {
    std::thread::scope(|scope| {
        scope.spawn(|| cache.len());
    });
}

fn main() {}
