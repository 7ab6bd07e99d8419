//! What can go wrong when a pool is made, grown or drained.

use crate::{ProviderError, sizing::format_bytes};

/// A pool could not be made, grown or drained as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument is zero that must not be.
    #[error("pool '{pool}': {what} is 0; it must be at least 1")]
    Zero {
        /// Name of the pool.
        pool: String,
        /// The argument.
        what: &'static str,
    },
    /// An argument is not a multiple of what it must be.
    #[error("pool '{pool}': {what} {value} is not a multiple of {of} (nearest: {nearest})")]
    NotMultiple {
        /// Name of the pool.
        pool: String,
        /// The argument.
        what: &'static str,
        /// What was asked.
        value: usize,
        /// What it must be a multiple of.
        of: usize,
        /// The next larger value that is allowed.
        nearest: usize,
    },
    /// An argument is larger than the limit.
    #[error("pool '{pool}': {what} {value} is more than the limit {limit}")]
    TooLarge {
        /// Name of the pool.
        pool: String,
        /// The argument.
        what: &'static str,
        /// What was asked.
        value: usize,
        /// The limit.
        limit: usize,
    },
    /// Slots times stride does not fit an address.
    #[error("pool '{pool}': {slots} slots of {stride} B overflow the address space")]
    Overflow {
        /// Name of the pool.
        pool: String,
        /// Slots asked.
        slots: usize,
        /// Bytes of a slot.
        stride: usize,
    },
    /// The pool needs more memory than the region or the provider has.
    #[error(
        "pool '{pool}': needs {} ({slots} slots of {stride} B), but {provider} has {}",
        format_bytes(*needed), format_bytes(*available)
    )]
    NotEnoughMemory {
        /// Name of the pool.
        pool: String,
        /// Who was asked.
        provider: String,
        /// Slots asked.
        slots: usize,
        /// Bytes of a slot.
        stride: usize,
        /// Bytes needed.
        needed: u64,
        /// Bytes there are.
        available: u64,
    },
    /// The region cannot be touched the way the pool's access type promises.
    #[error(
        "pool '{pool}': access '{access}' asks for memory the CPU may touch, but {provider} hands out memory with CPU access '{found}'; use a Device pool"
    )]
    WrongAccess {
        /// Name of the pool.
        pool: String,
        /// The pool's access type.
        access: &'static str,
        /// Who was asked.
        provider: String,
        /// What the region allows.
        found: &'static str,
    },
    /// No memory source was named.
    #[error("pool '{pool}': no memory named; call .memory(&provider) before .build()")]
    NoMemory {
        /// Name of the pool.
        pool: String,
    },
    /// The table of areas is full.
    #[error("pool '{pool}': all {limit} areas are in use; remove one, or build with .max_areas(n)")]
    NoAreaLeft {
        /// Name of the pool.
        pool: String,
        /// Areas that the pool was built for.
        limit: usize,
    },
    /// No such area, or it was removed.
    #[error("pool '{pool}': there is no area {area}")]
    NoSuchArea {
        /// Name of the pool.
        pool: String,
        /// The area's number.
        area: usize,
    },
    /// The area still has buffers somewhere else.
    #[error(
        "pool '{pool}': area {area} is draining, {outstanding} of {slots} buffers are still out"
    )]
    Draining {
        /// Name of the pool.
        pool: String,
        /// The area's number.
        area: usize,
        /// Buffers not home yet.
        outstanding: usize,
        /// Buffers in the area.
        slots: usize,
    },
    /// The provider refused.
    #[error("pool '{pool}': {source}")]
    Provider {
        /// Name of the pool.
        pool: String,
        /// The provider's own words.
        #[source]
        source: ProviderError,
    },
}
