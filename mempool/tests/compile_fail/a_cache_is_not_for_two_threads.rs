use mempool::{Cache, Cpu};

fn both(cache: &mut Cache<Cpu>) {
    std::thread::scope(|scope| {
        scope.spawn(|| drop(cache.take_one()));
        scope.spawn(|| drop(cache.take_one()));
    });
}

fn main() {}
