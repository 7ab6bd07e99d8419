//! What every provider promises, as a suite that any provider can run: those of this crate do, and
//! so should one for a GPU, a dma-buf or a PCI BAR.
//!
//! ```
//! use providers::{Fake, conformance::{self, Subject}};
//!
//! conformance::run(&|| Subject::new(Fake::with_capacity(1 << 20)));
//! ```
//!
//! A subject must be able to hand out four regions of one page at a time, and each call makes a fresh
//! one. [`run`] panics with the name of the case that failed; a harness that wants them one by one
//! walks [`CASES`].
#![expect(clippy::disallowed_types, reason = "a test kit, off every path")]

mod pools;
mod regions;
mod teardown;

use std::sync::{Arc, Mutex, PoisonError};

use mempool::{
    CpuAccess, Error, Provider, ProviderError, ProviderInfo, Region, RegionRequest, Revoker,
};

use crate::Revocable;

/// A provider under test.
pub struct Subject {
    provider: Box<dyn Revocable>,
    counts_are_its_own: bool,
}

impl Subject {
    /// A provider that alone decides how much is available, so that the count can be checked.
    #[must_use]
    pub fn new(provider: impl Revocable + 'static) -> Self {
        Self { provider: Box::new(provider), counts_are_its_own: true }
    }

    /// A provider whose source others take from too (the machine's hugepages): what is available
    /// changes while we look.
    #[must_use]
    pub fn of_shared_source(provider: impl Revocable + 'static) -> Self {
        Self { provider: Box::new(provider), counts_are_its_own: false }
    }

    /// The provider, for whoever wants to know more of it than the suite does.
    #[must_use]
    pub fn provider(&self) -> &dyn Revocable {
        &*self.provider
    }
}

/// Makes a fresh subject.
pub type Make<'a> = &'a dyn Fn() -> Subject;

/// A case: panics if the provider breaks the promise in its name.
pub type Case = fn(Make<'_>);

/// Every case, by the promise that it checks.
pub const CASES: &[(&str, Case)] = &[
    ("a region is one aligned span, as long as asked", regions::is_one_aligned_span),
    ("a region says what its provider says", regions::says_what_its_provider_says),
    ("a region's backing holds all of it", regions::backing_holds_all_of_it),
    ("memory the CPU may touch arrives zeroed, again and again", regions::arrives_zeroed),
    ("what is written is read back, by every way in", regions::reads_what_was_written),
    ("a copy that leaves the region is refused", regions::refuses_copies_that_leave),
    ("regions never overlap", regions::never_overlap),
    ("memory outlives its provider", regions::outlives_its_provider),
    ("a request that makes no sense is refused", regions::refuses_nonsense),
    ("what is released can be had again", regions::gives_back),
    ("exhaustion names what is needed and what there is, and holds nothing", regions::exhausts),
    ("a pool takes only memory it may touch", pools::takes_what_it_may_touch),
    ("a pool's buffers carry their bytes", pools::carries_bytes),
    ("a pool grows and shrinks while buffers are out", pools::grows_and_shrinks),
    ("a revoked provider hands out nothing, and freeing still works", pools::survives_revocation),
    ("revocation reaches regions made in that moment", pools::revokes_what_is_on_its_way),
    ("memory goes with its last user, in every order", teardown::goes_with_its_last_user),
];

/// Runs every case.
///
/// # Panics
/// With the provider, the case and what went wrong.
pub fn run(make: Make<'_>) {
    for (promise, case) in CASES {
        let name = make().provider.info().name;
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(make)));
        // The case's own message was printed when it panicked.
        assert!(outcome.is_ok(), "conformance of {name} broken: {promise}");
    }
}

/// A subject, with a record of every region it handed out.
struct Watched {
    subject: Subject,
    witness: Witness,
}

/// Knows whether regions still exist, without keeping them.
#[derive(Clone, Default)]
struct Witness(Arc<Mutex<Vec<Revoker>>>);

impl Witness {
    fn live(&self) -> usize {
        let regions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        regions.iter().filter(|region| region.is_live()).count()
    }
}

impl Watched {
    fn new(make: Make<'_>) -> Self {
        Self { subject: make(), witness: Witness::default() }
    }

    fn request(&self, len: usize, align: usize) -> Result<Region, ProviderError> {
        self.alloc(&RegionRequest { name: "conformance".into(), len, align })
    }

    /// One page, aligned like a cache line.
    fn page(&self) -> Region {
        let page = self.info().page_size;
        self.request(page, 64).unwrap_or_else(|error| panic!("one page was refused: {error}"))
    }

    fn revoke(&self) -> usize {
        self.subject.provider.revoke()
    }
}

impl Provider for Watched {
    fn info(&self) -> ProviderInfo {
        self.subject.provider.info()
    }

    fn alloc(&self, request: &RegionRequest) -> Result<Region, ProviderError> {
        let region = self.subject.provider.alloc(request)?;
        let mut known = self.witness.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.push(region.revoker());
        Ok(region)
    }
}

/// Slots of the kit's pools: a page of them.
const SLOTS: usize = 64;

/// A pool of one page.
fn pool<A: mempool::Access>(memory: &Watched) -> Result<mempool::Pool<A>, Error> {
    let stride = (memory.info().page_size / SLOTS).max(64);
    let builder = mempool::Pool::builder().name("conformance").cache_size(8).max_areas(2);
    builder.slots(SLOTS).stride(stride).memory(memory).build()
}

/// A pool of one page, or the panic that says why not.
fn must_pool<A: mempool::Access>(memory: &Watched) -> mempool::Pool<A> {
    pool(memory).unwrap_or_else(|error| panic!("no {} pool: {error}", A::NAME))
}

fn access(memory: &dyn Provider) -> CpuAccess {
    memory.info().cpu_access
}
