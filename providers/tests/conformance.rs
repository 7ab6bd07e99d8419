//! Every provider of this crate keeps the promises of [`providers::conformance`].

use mempool::ProviderError;
use providers::{
    Fake, Host, Hugepages, PageSize, Private, Sysfs,
    conformance::{self, Subject},
};

/// Pages the suite has in use at most, and as many for a neighbour.
const PAGES: u64 = 16;

fn has_pages(test: &str, size: PageSize, needed: u64) -> bool {
    let available = Sysfs::system().available_hugepages(size, None).unwrap_or(0);
    if available < needed {
        eprintln!("SKIP {test}: {available} hugepages of {size} can be had, it needs {needed}");
    }
    available >= needed
}

fn must<T>(provider: Result<T, ProviderError>) -> T {
    provider.unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn hugepages_of_2m_conform() {
    if has_pages("hugepages_of_2m_conform", PageSize::TwoMiB, PAGES) {
        conformance::run(&|| Subject::of_shared_source(must(Hugepages::new(PageSize::TwoMiB))));
    }
}

#[test]
fn hugepages_of_1g_conform() {
    if has_pages("hugepages_of_1g_conform", PageSize::OneGiB, 4) {
        conformance::run(&|| Subject::of_shared_source(must(Hugepages::new(PageSize::OneGiB))));
    }
}

#[test]
fn hugepages_bound_to_a_node_conform() {
    if has_pages("hugepages_bound_to_a_node_conform", PageSize::TwoMiB, PAGES) {
        let node = Sysfs::system().nodes()[0];
        conformance::run(&|| {
            let provider = Hugepages::new(PageSize::TwoMiB).and_then(|huge| huge.on_node(node));
            Subject::of_shared_source(must(provider))
        });
    }
}

#[test]
fn private_hugepages_conform() {
    if has_pages("private_hugepages_conform", PageSize::TwoMiB, PAGES) {
        conformance::run(&|| Subject::of_shared_source(must(Private::new())));
    }
}

#[test]
fn host_pages_conform() {
    conformance::run(&|| Subject::of_shared_source(Host::new()));
    conformance::run(&|| Subject::of_shared_source(Host::new().shareable()));
}

#[test]
fn a_fake_conforms() {
    conformance::run(&|| Subject::of_shared_source(Fake::new()));
}

#[test]
fn a_small_fake_conforms_and_counts_exactly() {
    conformance::run(&|| Subject::new(Fake::with_capacity(1 << 16)));
}

#[test]
fn a_fake_on_hugepages_conforms() {
    if has_pages("a_fake_on_hugepages_conforms", PageSize::TwoMiB, PAGES) {
        conformance::run(&|| {
            let fake = Fake::with_capacity(8 << 21).on_hugepages(PageSize::TwoMiB);
            Subject::new(must(fake))
        });
    }
}
