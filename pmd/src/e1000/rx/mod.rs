//! Receiving. Queues of whole frames and of split ones; both keep to the same rules: a descriptor is read
//! once, what it says is checked against our own books, and a device that says nonsense for long is not
//! listened to any more.

mod payloads;
mod split;
mod suspicion;
#[cfg(test)]
mod tests_split;
#[cfg(test)]
mod tests_whole;
mod wake;
mod whole;

use payloads::Payloads;
pub(super) use split::{SplitRx, SplitShape};
use suspicion::{Bad, Suspicion};
pub(super) use wake::Wake;
pub(super) use whole::{Shape, WholeRx};

/// Descriptors looked at in one go.
const BATCH: usize = 32;

/// Buffers that have to be missing before a ring is topped up: a burst, or half of a small ring.
fn refill_at(ring: usize) -> usize {
    (ring / 4).clamp(1, BATCH)
}
