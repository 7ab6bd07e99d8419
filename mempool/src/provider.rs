//! Where memory comes from. The consumer states what it needs, as page_pool does; `providers`
//! implements it.

use crate::{CpuAccess, Region};

/// A source of memory. Called when a pool is built or grown, never on the packet path.
pub trait Provider: Send + Sync {
    /// What it hands out and how much is left, for reports and errors.
    fn info(&self) -> ProviderInfo;

    /// Hands out one region of at least `request.len` bytes (rounded up to the provider's page).
    ///
    /// # Errors
    /// [`ProviderError`] says what is missing and what to do about it. Nothing is held afterwards.
    fn alloc(&self, request: &RegionRequest) -> Result<Region, ProviderError>;

    /// Looks after memory that can be lost, without waiting: for the main thread of an app, every few
    /// milliseconds. Says why if it can no longer be used, then and ever after; every region is revoked
    /// then. Memory of this machine's own is never lost.
    fn check(&self) -> Option<String> {
        None
    }
}

/// What a provider says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderInfo {
    /// Short name with its variant: `hugepage:2M`, `host`, `fake`.
    pub name: String,
    /// Whether the CPU may touch what it hands out.
    pub cpu_access: CpuAccess,
    /// Bytes of a page; every region is a multiple of it.
    pub page_size: usize,
    /// Bytes it could still hand out, where that is knowable.
    pub available: Option<u64>,
    /// NUMA node the memory is bound to, if it is bound.
    pub numa_node: Option<u32>,
}

/// What a consumer asks for.
#[derive(Clone, Debug)]
pub struct RegionRequest {
    /// Who asks; appears in errors.
    pub name: String,
    /// Bytes needed; more than zero.
    pub len: usize,
    /// Alignment of the base; a power of two.
    pub align: usize,
}

/// A provider could not hand out a region.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderError {
    /// Not enough left: how much is needed, how much there is, and what helps.
    #[error(
        "{provider}: needs {}, but only {} can be had; {fix}",
        crate::format_bytes(*needed), crate::format_bytes(*available)
    )]
    Exhausted {
        /// Who was asked.
        provider: String,
        /// Bytes needed.
        needed: u64,
        /// Bytes there are.
        available: u64,
        /// What the user can do.
        fix: String,
    },
    /// The request itself cannot be served (length 0, alignment not a power of two, …).
    #[error("{provider}: {why}")]
    BadRequest {
        /// Who was asked.
        provider: String,
        /// What is wrong with it.
        why: String,
    },
    /// The provider was revoked: nothing more comes from it.
    #[error("{provider}: revoked; it hands out no more memory")]
    Revoked {
        /// Who was asked.
        provider: String,
    },
    /// The system refused.
    #[error("{provider}: {what}: {source}{}{hint}", if hint.is_empty() { "" } else { "; " })]
    System {
        /// Who was asked.
        provider: String,
        /// Which step failed.
        what: String,
        /// The system's reason.
        #[source]
        source: std::io::Error,
        /// What the user can do, or empty.
        hint: String,
    },
}
