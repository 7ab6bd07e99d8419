//! Hugepages, shared and private: what the kernel says of them, and how a shortage ends.

mod support;

use std::process::Command;

use mempool::{Backing, Provider, ProviderError, RegionRequest};
use providers::{Hugepages, PageSize, Private, Sysfs, numa};
use rustix::fs::SealFlags;
use support::{
    ask, has_pages, leaves_free_pages_alone, mappings_named, policy_at,
    signal_of_a_child_that_reads, vma_of,
};

const SIZE: PageSize = PageSize::TwoMiB;
const PAGE: usize = 2 << 20;

fn huge() -> Hugepages {
    Hugepages::new(SIZE).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_region_is_huge_shared_and_kept_out_of_children_and_dumps() {
    if !has_pages("a_region_is_huge_shared_and_kept_out_of_children_and_dumps", SIZE, 2) {
        return;
    }
    let mut region = ask(&huge(), "flags", PAGE + 1).unwrap();
    assert_eq!(region.len(), 2 * PAGE);
    let vma = vma_of(region.base()).unwrap();
    assert_eq!(vma.rights, "rw-s", "{vma:?}");
    for flag in ["ht", "dc", "dd", "sh"] {
        assert!(vma.has(flag), "no '{flag}' in {vma:?}");
    }
    assert!(vma.name.contains("memwire:flags"), "{vma:?}");
    assert_eq!(signal_of_a_child_that_reads(region.base()), libc::SIGSEGV);
    region.write(0, &[7]).unwrap();
}

#[test]
fn a_private_region_is_huge_and_kept_out_of_children() {
    if !has_pages("a_private_region_is_huge_and_kept_out_of_children", SIZE, 1) {
        return;
    }
    let private = Private::new().unwrap();
    let region = ask(&private, "private", 1).unwrap();
    assert!(matches!(region.backing(), Backing::Anonymous));
    let vma = vma_of(region.base()).unwrap();
    assert_eq!(vma.rights, "rw-p", "{vma:?}");
    for flag in ["ht", "dc", "dd"] {
        assert!(vma.has(flag), "no '{flag}' in {vma:?}");
    }
    assert_eq!(signal_of_a_child_that_reads(region.base()), libc::SIGSEGV);
    let request = RegionRequest { name: "far".into(), len: 1, align: 2 * PAGE };
    let error = private.alloc(&request).unwrap_err().to_string();
    assert!(error.contains("alignment 4194304 is more than a page of 2M"), "{error}");
}

#[test]
fn the_file_is_sealed_and_another_mapping_shows_the_same_bytes() {
    if !has_pages("the_file_is_sealed_and_another_mapping_shows_the_same_bytes", SIZE, 1) {
        return;
    }
    let mut region = ask(&huge(), "sealed", PAGE).unwrap();
    region.write(12345, b"seen by a peer").unwrap();
    let Backing::Memfd { fd, offset } = region.backing() else { panic!("{:?}", region.backing()) };
    assert_eq!(offset, 0);
    let seals = rustix::fs::fcntl_get_seals(&fd).unwrap();
    assert!(seals.contains(SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL), "{seals:?}");
    assert!(rustix::fs::ftruncate(&fd, 0).is_err(), "a peer cut the file off");
    assert!(rustix::fs::ftruncate(&fd, 2 * PAGE as u64).is_err(), "a peer took more pages");
    let mut bytes = [0; 14];
    assert_eq!(rustix::io::pread(&fd, &mut bytes, 12345), Ok(14));
    assert_eq!(&bytes, b"seen by a peer");
}

#[test]
fn no_file_descriptor_reaches_what_is_executed() {
    if !has_pages("no_file_descriptor_reaches_what_is_executed", SIZE, 1) {
        return;
    }
    let _region = ask(&huge(), "inherited", PAGE).unwrap();
    let listing = Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
    let listing = String::from_utf8_lossy(&listing.stdout);
    assert!(listing.contains("/dev/null") || listing.contains("pipe:"), "{listing}");
    assert!(!listing.contains("memfd:"), "{listing}");
}

#[test]
fn pages_are_free_again_when_the_region_goes() {
    if !has_pages("pages_are_free_again_when_the_region_goes", SIZE, 8) {
        return;
    }
    let (shared, private) = (huge(), Private::new().unwrap());
    assert!(leaves_free_pages_alone(SIZE, || {
        drop(ask(&shared, "back", 4 * PAGE).unwrap());
        drop(ask(&private, "back", 4 * PAGE).unwrap());
    }));
    assert_eq!(mappings_named("back"), 0);
}

#[test]
fn a_shortage_is_an_error_with_its_fix_and_holds_nothing() {
    if !has_pages("a_shortage_is_an_error_with_its_fix_and_holds_nothing", SIZE, 1) {
        return;
    }
    let total = Sysfs::system().hugepages(SIZE, None).unwrap().total;
    let len = (usize::try_from(total).unwrap() + 1) * PAGE;
    let (shared, private) = (huge(), Private::new().unwrap());
    for provider in [&shared as &dyn Provider, &private] {
        let error = ask(provider, "short", len).unwrap_err();
        let text = error.to_string();
        let ProviderError::Exhausted { needed, available, .. } = error else { panic!("{text}") };
        assert_eq!(needed, len as u64);
        assert!(available < needed);
        assert!(text.contains("run `sysctl -w vm.nr_hugepages="), "{text}");
        assert!(leaves_free_pages_alone(SIZE, || drop(ask(provider, "short", len).unwrap_err())));
    }
    assert_eq!(mappings_named("short"), 0);
}

#[test]
fn a_region_lands_on_the_node_it_is_bound_to() {
    if !has_pages("a_region_lands_on_the_node_it_is_bound_to", SIZE, 6) {
        return;
    }
    for node in Sysfs::system().nodes() {
        let (shared, private) = (huge().on_node(node), Private::new().unwrap().on_node(node));
        let providers: [Box<dyn Provider>; 2] =
            [Box::new(shared.unwrap()), Box::new(private.unwrap())];
        for provider in providers {
            assert_eq!(provider.info().numa_node, Some(node));
            let region = match ask(&*provider, "bound", 3 * PAGE) {
                Ok(region) => region,
                Err(error @ ProviderError::Exhausted { .. }) => {
                    eprintln!("SKIP a_region_lands_on_the_node_it_is_bound_to: {error}");
                    continue;
                }
                Err(error) => panic!("{error}"),
            };
            assert_eq!(region.numa_node(), Some(node));
            assert_eq!(policy_at(region.base()), format!("bind:{node}"));
            for page in 0..3 {
                let address = region.base().map_addr(|base| base.saturating_add(page * PAGE));
                assert_eq!(numa::node_of(address).unwrap(), node, "page {page}");
            }
        }
    }
    let error = huge().on_node(900).unwrap_err().to_string();
    assert!(error.contains("there is no NUMA node 900 with memory"), "{error}");
}

#[test]
fn pages_of_1g_come_aligned_or_with_the_command_that_makes_them() {
    let size = PageSize::OneGiB;
    let gig = match Hugepages::new(size) {
        Ok(gig) => gig,
        Err(error) => {
            assert!(error.to_string().contains("no 1G hugepages"), "{error}");
            eprintln!("SKIP pages_of_1g_come_aligned_or_with_the_command_that_makes_them: {error}");
            return;
        }
    };
    match ask(&gig, "gig", 1) {
        Ok(mut region) => {
            assert_eq!(region.len(), 1 << 30);
            assert_eq!(region.base().addr().get() % (1 << 30), 0);
            region.write((1 << 30) - 3, b"end").unwrap();
        }
        Err(error) => {
            let text = error.to_string();
            assert!(
                text.starts_with("hugepage:1G: needs 1 GiB, but only 0 B can be had"),
                "{text}"
            );
            assert!(text.contains("hugepages-1048576kB/nr_hugepages"), "{text}");
            eprintln!("SKIP pages_of_1g_come_aligned_or_with_the_command_that_makes_them: {text}");
        }
    }
}

#[test]
fn a_region_may_be_aligned_beyond_its_pages() {
    if !has_pages("a_region_may_be_aligned_beyond_its_pages", SIZE, 1) {
        return;
    }
    let request = RegionRequest { name: "aligned".into(), len: PAGE, align: 1 << 30 };
    let region = huge().alloc(&request).unwrap();
    assert_eq!(region.base().addr().get() % (1 << 30), 0);
    assert_eq!(mappings_named("aligned"), 1, "no try is left behind");
}
