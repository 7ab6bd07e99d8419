//! The checks: burst sizes, ring wraps, segments, pool pressure, exhaustion and recovery, split,
//! shared frames.

use mempool::Burst;

use super::{
    Overrun, Wire, WireTraits,
    traffic::{Exchange, Memory},
};
use crate::{HardwareSplit, SplitAt, SplitSupport};

type Outcome = Result<(), String>;

pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) applies: fn(&WireTraits) -> bool,
    pub(super) run: fn(&mut dyn Wire, &Memory<'_>) -> Outcome,
}

pub(super) const ALL: &[Check] = &[
    Check { name: "every burst size from 0 to 1100", applies: |_| true, run: burst_sizes },
    Check { name: "every ring wrap", applies: |_| true, run: ring_wraps },
    Check { name: "frames by reference where one pool serves", applies: |_| true, run: one_pool },
    Check { name: "frames of several segments", applies: |t| t.segments, run: segments },
    Check { name: "pool pressure", applies: |t| t.interactive, run: pressure },
    Check { name: "exhaustion and recovery", applies: |t| t.interactive, run: exhaustion },
    Check { name: "shared frames", applies: |_| true, run: shared },
    Check { name: "split by protocol", applies: |t| cuts_by_protocol(t), run: split_protocol },
    Check { name: "split by length", applies: |t| fixed_head(t).is_some(), run: split_length },
];

const RING: usize = 128;
const SLOTS: usize = 2048;

/// Lengths that walk through a range, so that neighbours differ.
fn walk(traits: &WireTraits, most: usize) -> impl Fn(usize) -> usize + use<> {
    let (low, high) = (traits.min_frame.max(60), most.min(traits.max_frame));
    move |index| low + (index * 97) % (high - low + 1)
}

fn burst_sizes(wire: &mut dyn Wire, memory: &Memory<'_>) -> Outcome {
    let traits = wire.traits();
    let mut exchange =
        Exchange::whole(wire, memory.pool(SLOTS, 2048)?, memory.pool(SLOTS, 2048)?, RING)?;
    // All sizes where the wire is quick, the edges and a stride of the others where it is slow.
    let all = 1100 * 1101 / 2;
    let step = (all / traits.budget.max(1)).max(1);
    let edges = [0, 1, 31, 32, 33, 63, 64, 65, 255, 256, 257, 511, 512, 513, 1099, 1100];
    let len = walk(&traits, 300);
    for size in (0..=1100).filter(|size| size % step == 0 || edges.contains(size)) {
        exchange.send(size, &len, 2048)?;
    }
    exchange.finish()?;
    exchange.close()
}

fn ring_wraps(wire: &mut dyn Wire, memory: &Memory<'_>) -> Outcome {
    let traits = wire.traits();
    let mut exchange = Exchange::whole(wire, memory.pool(512, 2048)?, memory.pool(512, 2048)?, 64)?;
    // 7 is prime to every ring size: each offset is where a burst starts, ends and wraps.
    let len = walk(&traits, 120);
    for _ in 0..(3 * 64).min(traits.budget / 7 + 1) {
        exchange.send(7, &len, 2048)?;
    }
    exchange.finish()?;
    exchange.close()
}

fn one_pool(wire: &mut dyn Wire, memory: &Memory<'_>) -> Outcome {
    let traits = wire.traits();
    let pool = memory.pool(SLOTS, 2048)?;
    let mut exchange = Exchange::whole(wire, pool.clone(), pool, RING)?;
    let len = walk(&traits, 1500);
    for size in [1, 32, 100, 3] {
        exchange.send(size, &len, 2048)?;
    }
    exchange.finish()?;
    exchange.close()
}

fn segments(wire: &mut dyn Wire, memory: &Memory<'_>) -> Outcome {
    let traits = wire.traits();
    let most = traits.max_frame.min(20_000);
    for segment in [64, 256, 1920] {
        // Small receive buffers, so that chains come out as well as go in.
        let stride = 512.max(128 + traits.rx_buffer_step.next_multiple_of(64));
        let mut exchange =
            Exchange::whole(wire, memory.pool(4096, 2048)?, memory.pool(8192, stride)?, RING)?;
        let lens = [60, 64, 65, 383, 384, 385, 512, 1500, 1919, 1920, 1921, 9018, most];
        for len in lens.into_iter().filter(|len| *len <= most) {
            // A frame must not outgrow half of the pool.
            if len.div_ceil(segment) < 1024 {
                exchange.send(5, |_| len, segment)?;
                exchange.finish_if_interactive()?;
            }
        }
        exchange.finish()?;
        exchange.close()?;
    }
    Ok(())
}

fn pressure(wire: &mut dyn Wire, memory: &Memory<'_>) -> Outcome {
    let traits = wire.traits();
    // So few buffers that caches, rings and bursts fight for them.
    let mut exchange = Exchange::whole(wire, memory.pool(96, 2048)?, memory.pool(96, 2048)?, 32)?;
    let len = walk(&traits, 500);
    for size in (1..=64).cycle().take((traits.budget / 32).clamp(64, 2000)) {
        exchange.send(size, &len, 2048)?;
        exchange.finish()?;
    }
    exchange.close()
}

fn exhaustion(wire: &mut dyn Wire, memory: &Memory<'_>) -> Outcome {
    let traits = wire.traits();
    let rx_pool = memory.pool(64, 2048)?;
    let mut exchange = Exchange::whole(wire, memory.pool(512, 2048)?, rx_pool, 64)?;
    let len = walk(&traits, 200);
    for _ in 0..20 {
        let mut hoard = Vec::new();
        let before = exchange.rx_stats();
        // More than the receiver's pool has: 100 frames against 64 buffers, all withheld.
        for _ in 0..4 {
            exchange.send_hoarding(25, &len, &mut hoard)?;
        }
        exchange.drain_hoarding(&mut hoard)?;
        if hoard.len() > 64 {
            return Err(format!("{} frames out of a pool of 64", hoard.len()));
        }
        let skipped = exchange.settle_hoard(hoard)?;
        // Everything is free again: what was neither dropped nor withheld must come now.
        let mut late = 0;
        loop {
            let mut more = Vec::new();
            exchange.drain_hoarding(&mut more)?;
            if more.is_empty() {
                break;
            }
            late += exchange.settle_hoard(more)?;
        }
        let unseen = exchange.forget_expected();
        let after = exchange.rx_stats();
        let dropped = after.drops.total() - before.drops.total();
        let lost = skipped + late + unseen;
        let is_silent = traits.overrun == Overrun::Silent;
        if dropped > lost as u64 || dropped < lost as u64 && !is_silent {
            return Err(format!("{lost} frames missing, {dropped} counted as dropped"));
        }
        // Recovered: traffic passes as if nothing had been.
        exchange.send(32, &len, 2048)?;
        exchange.finish()?;
    }
    exchange.close()
}

fn shared(wire: &mut dyn Wire, memory: &Memory<'_>) -> Outcome {
    let mut exchange =
        Exchange::whole(wire, memory.pool(SLOTS, 2048)?, memory.pool(SLOTS, 2048)?, 256)?;
    for count in [1, 7, Burst::<mempool::Cpu>::DEFAULT] {
        exchange.send_shared(count)?;
        exchange.finish_if_interactive()?;
    }
    exchange.finish()?;
    exchange.close()
}

fn split_protocol(wire: &mut dyn Wire, memory: &Memory<'_>) -> Outcome {
    // Hardware cuts right behind the transport header.
    let extra = if wire.traits().split == SplitSupport::ProtocolAndLength { 8 } else { 0 };
    split(wire, memory, SplitAt::Protocol { extra })
}

fn split_length(wire: &mut dyn Wire, memory: &Memory<'_>) -> Outcome {
    let len = fixed_head(&wire.traits()).unwrap_or(50);
    split(wire, memory, SplitAt::Length(len))
}

fn cuts_by_protocol(traits: &WireTraits) -> bool {
    match traits.split {
        SplitSupport::None => false,
        SplitSupport::ProtocolAndLength => true,
        SplitSupport::Hardware(hardware) => hardware.protocol,
    }
}

/// A length that heads can have whatever they are.
fn fixed_head(traits: &WireTraits) -> Option<usize> {
    match traits.split {
        SplitSupport::None => None,
        SplitSupport::ProtocolAndLength => Some(50),
        SplitSupport::Hardware(HardwareSplit { length_step, longest_head, .. }) => {
            length_step.map(|step| 50usize.next_multiple_of(step).min(longest_head))
        }
    }
}

fn split(wire: &mut dyn Wire, memory: &Memory<'_>, at: SplitAt) -> Outcome {
    let traits = wire.traits();
    let headroom = match traits.split {
        SplitSupport::Hardware(hardware) => hardware.data_offset,
        _ => 0,
    };
    let pools = (memory.pool(SLOTS, 256)?, memory.device_pool(SLOTS, headroom)?);
    let mut exchange = Exchange::split(wire, memory.pool(SLOTS, 2048)?, pools, at, RING)?;
    for len in 60..=traits.max_frame.min(1900) {
        exchange.send(1 + len % 3, |_| len, 1024)?;
    }
    // Payloads longer than a data buffer become chains.
    for len in [4000, 9018].into_iter().filter(|len| *len <= traits.max_frame) {
        exchange.send(3, |_| len, 1024)?;
    }
    exchange.finish()?;
    exchange.close()
}
