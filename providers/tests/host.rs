//! Ordinary pages: present, on their node, out of children, limited by what there is.

mod support;

use mempool::{Backing, ProviderError};
use providers::{Host, Sysfs, default_host, numa};
use support::{ask, policy_at, signal_of_a_child_that_reads, vma_of, vmas};

#[test]
fn a_region_is_present_and_kept_out_of_children() {
    let region = ask(&Host::new(), "host", 3 << 20).unwrap();
    assert_eq!(region.base().addr().get() % (2 << 20), 0, "ready for transparent hugepages");
    assert!(matches!(region.backing(), Backing::Anonymous));
    let vma = vma_of(region.base()).unwrap();
    assert!(vma.has("dc") && vma.has("dd"), "{vma:?}");
    for page in (0..region.len()).step_by(4096) {
        let address = region.base().map_addr(|base| base.saturating_add(page));
        // A kernel without NUMA cannot say.
        let node = numa::node_of(address);
        let absent = node.is_err_and(|error| error.raw_os_error() != Some(libc::ENOSYS));
        assert!(!absent, "the page at {page} is not there yet");
    }
    assert_eq!(signal_of_a_child_that_reads(region.base()), libc::SIGSEGV);
}

#[test]
fn a_region_lands_on_the_node_it_is_bound_to() {
    for node in Sysfs::system().nodes() {
        let region = match ask(&Host::new().on_node(node).unwrap(), "bound", 1 << 20) {
            Ok(region) => region,
            Err(error @ ProviderError::System { .. }) => {
                eprintln!("SKIP a_region_lands_on_the_node_it_is_bound_to: {error}");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        assert_eq!(region.numa_node(), Some(node));
        assert!(policy_at(region.base()).starts_with("bind:"));
        assert_eq!(numa::node_of(region.base()).unwrap(), node);
    }
}

#[test]
fn the_mapping_is_gone_with_the_region() {
    let region = ask(&Host::new(), "gone", 37 << 20).unwrap();
    let (start, end) = (region.base().addr().get(), region.base().addr().get() + region.len());
    let holds = || vmas().iter().any(|vma| vma.start <= start && end <= vma.end);
    assert!(holds());
    drop(region);
    assert!(!holds());
}

#[test]
fn more_than_the_machine_has_is_an_error() {
    let host = Host::new();
    let error = ask(&host, "all", 1 << 46).unwrap_err();
    assert!(matches!(error, ProviderError::Exhausted { .. }), "{error}");
    assert!(error.to_string().starts_with("host: needs 64 TiB, but only "), "{error}");
}

#[test]
fn the_default_is_hugepages_where_there_are_enough() {
    let (memory, notice) = default_host(1);
    match notice {
        None => assert!(memory.info().name.starts_with("hugepage:"), "{:?}", memory.info()),
        Some(notice) => {
            assert_eq!(memory.info().name, "host");
            assert!(!notice.to_string().contains('\n'));
            eprintln!("SKIP the_default_is_hugepages_where_there_are_enough: {notice}");
        }
    }
    drop(ask(&*memory, "default", 1).unwrap());
}
