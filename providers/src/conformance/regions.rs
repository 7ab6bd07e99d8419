//! Promises about single regions.
#![allow(unsafe_code, reason = "reads memory at the addresses a provider vouches for")]

use mempool::{Backing, CopyError, CpuAccess, Provider, ProviderError, Region};

use super::{Make, Watched, access};

/// Bytes that tell where they are, and which region they are in.
fn pattern(seed: u8, len: usize) -> Vec<u8> {
    let byte = |at: u8| at.wrapping_mul(31).wrapping_add(seed);
    (0..=u8::MAX).cycle().take(len).map(byte).collect()
}

/// Offsets worth trying: both ends, and the middle across a line.
fn offsets(region: &Region, len: usize) -> [usize; 3] {
    [0, region.len() / 2 - len / 2, region.len() - len]
}

/// Whether the memory has a way in for the host at all.
fn is_writable(region: &mut Region) -> bool {
    region.write(0, &[0]) != Err(CopyError::NoWay { what: "written" })
}

fn read(region: &Region, offset: usize, len: usize) -> Vec<u8> {
    let mut bytes = vec![0xee; len];
    region.read(offset, &mut bytes).unwrap_or_else(|error| panic!("read at {offset}: {error}"));
    bytes
}

/// Reads at an address, as a device or the CPU would.
fn look(base: std::ptr::NonNull<u8>, offset: usize, len: usize) -> Vec<u8> {
    let byte = |at| {
        // SAFETY: callers stay inside a live region's span.
        let place = unsafe { base.add(offset + at) };
        // SAFETY: the provider vouches for a readable mapping there; volatile, since a device's
        // memory may change at any time.
        unsafe { place.read_volatile() }
    };
    (0..len).map(byte).collect()
}

pub(super) fn is_one_aligned_span(make: Make<'_>) {
    let memory = Watched::new(make);
    let page = memory.info().page_size;
    assert!(page.is_power_of_two(), "a page of {page} B");
    for len in [1, page - 1, page, page + 1] {
        let region = memory.request(len, 64).unwrap();
        assert!(region.len() >= len, "{} of {len} B", region.len());
        assert_eq!(region.len(), len.next_multiple_of(page), "rounded to whole pages, not beyond");
        assert!(region.base().addr().get().checked_add(region.len()).is_some());
        assert!(!region.is_empty());
    }
    for align in [1, 64, 4096, page, 2 * page, 64 * page, 512 * page] {
        match memory.request(page, align) {
            Ok(region) => {
                let base = region.base().addr().get();
                assert_eq!(base % align, 0, "base {base:#x} for alignment {align}");
            }
            // Beyond a page a provider may be unable to.
            Err(ProviderError::BadRequest { .. }) if align > page => {}
            Err(error) => panic!("alignment {align}: {error}"),
        }
    }
}

pub(super) fn says_what_its_provider_says(make: Make<'_>) {
    let memory = Watched::new(make);
    let (info, region) = (memory.info(), memory.page());
    assert_eq!(region.cpu_access(), info.cpu_access);
    assert_eq!(region.page_size(), info.page_size);
    assert!(info.numa_node.is_none() || region.numa_node() == info.numa_node);
    assert!(!info.name.is_empty() && !info.name.contains(char::is_whitespace), "{info:?}");
}

pub(super) fn backing_holds_all_of_it(make: Make<'_>) {
    let memory = Watched::new(make);
    let mut region = memory.page();
    let Backing::Memfd { fd, offset } = region.backing() else {
        return;
    };
    let size = rustix::fs::fstat(&fd).unwrap().st_size;
    let end = offset + region.len() as u64;
    assert!(u64::try_from(size).unwrap() >= end, "a file of {size} B, a region up to {end}");
    assert_eq!(offset % region.page_size() as u64, 0);
    let (last, mut seen) = (region.len() - 8, [0; 8]);
    region.write(last, b"same one").unwrap();
    assert_eq!(rustix::io::pread(&fd, &mut seen, offset + last as u64), Ok(8));
    assert_eq!(&seen, b"same one", "the file names other bytes than the region");
    let seals = rustix::fs::fcntl_get_seals(&fd).unwrap();
    assert!(seals.contains(rustix::fs::SealFlags::SHRINK), "a peer could cut it off: {seals:?}");
    let flags = rustix::io::fcntl_getfd(&fd).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC), "inherited by whatever is executed");
}

pub(super) fn arrives_zeroed(make: Make<'_>) {
    let memory = Watched::new(make);
    if access(&memory) == CpuAccess::None {
        return;
    }
    for round in 0..3 {
        let mut region = memory.page();
        let len = region.len();
        assert!(read(&region, 0, len).iter().all(|byte| *byte == 0), "round {round}: stale bytes");
        region.write(0, &vec![0xa5; len]).unwrap();
    }
}

pub(super) fn reads_what_was_written(make: Make<'_>) {
    let memory = Watched::new(make);
    let mut region = memory.page();
    if !is_writable(&mut region) {
        assert!(region.window().is_none() && access(&memory) == CpuAccess::None);
        return;
    }
    for (seed, offset) in (1..).zip(offsets(&region, 100)) {
        let bytes = pattern(seed, 100);
        region.write(offset, &bytes).unwrap();
        assert_eq!(read(&region, offset, 100), bytes, "read at {offset}");
        if let Some(window) = region.window() {
            assert_eq!(window.len(), region.len());
            assert_eq!(look(window.base(), offset, 100), bytes, "window at {offset}");
        }
        if access(&memory) != CpuAccess::None {
            assert_eq!(look(region.base(), offset, 100), bytes, "base at {offset}");
        }
    }
    region.write(region.len(), &[]).unwrap();
}

pub(super) fn refuses_copies_that_leave(make: Make<'_>) {
    let memory = Watched::new(make);
    let mut region = memory.page();
    if !is_writable(&mut region) {
        return;
    }
    let len = region.len();
    for (offset, count) in [(len, 1), (len - 1, 2), (usize::MAX, 1), (usize::MAX - 1, 4)] {
        let out = |result| matches!(result, Err(CopyError::OutOfBounds { .. }));
        assert!(out(region.write(offset, &vec![1; count])), "write of {count} at {offset}");
        assert!(out(region.read(offset, &mut vec![1; count])), "read of {count} at {offset}");
    }
}

pub(super) fn never_overlap(make: Make<'_>) {
    let memory = Watched::new(make);
    let mut regions: Vec<Region> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(|| memory.page())).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    for (at, one) in regions.iter().enumerate() {
        for other in &regions[..at] {
            let (low, high) = if one.base() < other.base() { (one, other) } else { (other, one) };
            let distance = high.base().addr().get() - low.base().addr().get();
            assert!(distance >= low.len(), "{one:?} and {other:?}");
        }
    }
    if !is_writable(&mut regions[0]) {
        return;
    }
    for (seed, region) in (1..).zip(&mut regions) {
        region.write(0, &pattern(seed, 64)).unwrap();
    }
    for (seed, region) in (1..).zip(&regions) {
        assert_eq!(read(region, 0, 64), pattern(seed, 64), "two regions share bytes");
    }
}

pub(super) fn outlives_its_provider(make: Make<'_>) {
    let memory = Watched::new(make);
    let (witness, mut region) = (memory.witness.clone(), memory.page());
    drop(memory);
    if is_writable(&mut region) {
        region.write(0, b"still here").unwrap();
        assert_eq!(read(&region, 0, 10), b"still here");
    }
    let handle = region.handle();
    drop(region);
    assert_eq!(witness.live(), 1, "a mapper's handle keeps the memory");
    drop(handle);
    assert_eq!(witness.live(), 0);
}

pub(super) fn refuses_nonsense(make: Make<'_>) {
    let memory = Watched::new(make);
    let page = memory.info().page_size;
    for (len, align) in [(0, 64), (page, 0), (page, 3), (page, page + 64)] {
        match memory.request(len, align) {
            Err(ProviderError::BadRequest { .. }) => {}
            other => panic!("{len} B aligned to {align}: {other:?}"),
        }
    }
    for len in [usize::MAX, usize::MAX - page, isize::MAX as usize] {
        assert!(memory.request(len, 64).is_err(), "{len} B");
    }
    assert!(memory.request(page, 1 << 63).is_err());
    assert_eq!(memory.witness.live(), 0);
    drop(memory.page());
}

pub(super) fn gives_back(make: Make<'_>) {
    let memory = Watched::new(make);
    let before = memory.info().available;
    for _ in 0..64 {
        let regions = [memory.page(), memory.page()];
        if let (true, Some(before)) = (memory.subject.counts_are_its_own, before) {
            let taken: u64 = regions.iter().map(|region| region.len() as u64).sum();
            assert_eq!(memory.info().available, Some(before - taken));
        }
        drop(regions);
        assert_eq!(memory.witness.live(), 0);
    }
    if memory.subject.counts_are_its_own {
        assert_eq!(memory.info().available, before, "released memory is available again");
    }
}

pub(super) fn exhausts(make: Make<'_>) {
    let memory = Watched::new(make);
    let (info, kept) = (memory.info(), memory.page());
    let page = info.page_size;
    let Some(available) = info.available else {
        assert!(memory.request((isize::MAX as usize / 2).next_multiple_of(page), 64).is_err());
        return;
    };
    // Others may give back meanwhile: ask for what cannot be there.
    let most = if memory.subject.counts_are_its_own { available } else { available * 8 };
    let len = usize::try_from(most).unwrap().next_multiple_of(page) + 16 * page;
    for _ in 0..32 {
        match memory.request(len, 64) {
            Err(ProviderError::Exhausted { provider, needed, available, fix }) => {
                assert_eq!(provider, info.name);
                assert_eq!(needed, len as u64);
                assert!(available < needed, "{available} of {needed} B is no shortage");
                assert!(!fix.is_empty(), "what can the user do?");
            }
            other => panic!("{len} B of {available}: {other:?}"),
        }
    }
    assert_eq!(memory.witness.live(), 1);
    drop(kept);
    if memory.subject.counts_are_its_own {
        assert_eq!(memory.info().available, Some(available), "nothing is held");
    }
    drop(memory.page());
}
