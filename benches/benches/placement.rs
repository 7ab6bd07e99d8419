//! Placement: what reordering by row map costs a frame, in order and with losses.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gpurx::place::{Geometry, Placer, RowInfo};

const ROWS: u32 = 256;
const BLOCKS: usize = 8;

/// Places `frames` frames; every `gap`-th number is lost (0: none). Returns the blocks handed over.
fn place(placer: &mut Placer, seq: &mut u64, frames: usize, gap: u64) -> usize {
    let mut blocks = 0;
    for _ in 0..frames {
        *seq += 1;
        if gap > 0 && seq.is_multiple_of(gap) {
            *seq += 1;
        }
        let Some(slot) = placer.next_slot() else { break };
        placer.arrived(slot, *seq, RowInfo::default(), 0);
        while let Some(id) = placer.take_ready() {
            std::hint::black_box(placer.block(id).map());
            placer.release(id);
            blocks += 1;
        }
    }
    blocks
}

fn placement(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("placement");
    for (name, gap) in [("in order", 0), ("1 % lost", 100)] {
        let geometry = Geometry::of(ROWS, false);
        let slots: Vec<u32> = (0..).take(geometry.slots(BLOCKS)).collect();
        let mut placer = Placer::new(&slots, &geometry).expect("enough slots");
        let mut seq = 0;
        group.throughput(Throughput::Elements(u64::from(ROWS)));
        group.bench_function(name, |bencher| {
            bencher.iter(|| place(&mut placer, &mut seq, ROWS as usize, gap));
        });
    }
    group.finish();
}

criterion_group!(benches, placement);
criterion_main!(benches);
