//! Fake device memory: the CPU is kept out of the front, the back door works, the capacity holds.
#![allow(unsafe_code, reason = "a child that is meant to fault, and a peek through the back door")]

mod support;

use std::{
    env,
    io::Read,
    os::{fd::AsRawFd, unix::process::ExitStatusExt},
    process::Command,
    ptr::NonNull,
};

use mempool::{Backing, Cpu, CpuAccess, Device, Error, Pool, Provider, ProviderError};
use providers::{Fake, PageSize, Revocable};
use support::{ask, has_pages, mappings_named, vma_of};

const CHILD: &str = "PROVIDERS_TEST_TOUCH";

/// In a process of its own, since nothing survives it.
#[test]
fn reading_at_the_base_faults() {
    if let Some(which) = env::var_os(CHILD) {
        let region = ask(&Fake::new(), "touched", 4096).unwrap();
        let address =
            if which == "front" { region.base() } else { region.window().unwrap().base() };
        // SAFETY: mapped, but without rights at the front: the fault is the point.
        unsafe { address.as_ptr().read_volatile() };
        return;
    }
    let child = |which: &str| {
        let mut command = Command::new("sh");
        let line = "ulimit -c 0; exec \"$0\" --exact reading_at_the_base_faults";
        command.args(["-c", line]).arg(env::current_exe().unwrap()).env(CHILD, which);
        command.output().unwrap().status
    };
    assert_eq!(child("front").signal(), Some(libc::SIGSEGV));
    assert!(child("back door").success());
}

#[test]
fn the_kernel_reads_nothing_at_the_base_and_everything_at_the_back_door() {
    let mut region = ask(&Fake::new(), "probed", 8192).unwrap();
    region.write(4096, b"payload").unwrap();
    let (mut read_end, write_end) = std::io::pipe().unwrap();
    let send = |base: NonNull<u8>| {
        let address = base.as_ptr().wrapping_add(4096);
        // SAFETY: the kernel checks the range itself; nothing of ours reads it.
        unsafe { libc::write(write_end.as_raw_fd(), address.cast(), 7) }
    };
    assert_eq!(send(region.base()), -1);
    assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::EFAULT));
    assert_eq!(send(region.window().unwrap().base()), 7);
    let mut bytes = [0; 7];
    read_end.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"payload");
}

#[test]
fn both_mappings_are_kept_out_of_children_and_dumps() {
    let region = ask(&Fake::new(), "fake-flags", 4096).unwrap();
    let (front, back) = (region.base(), region.window().unwrap().base());
    for (address, rights) in [(front, "---s"), (back, "rw-s")] {
        let vma = vma_of(address).unwrap();
        assert_eq!(vma.rights, rights, "{vma:?}");
        assert!(vma.has("dc") && vma.has("dd"), "{vma:?}");
    }
    assert!(matches!(region.backing(), Backing::Memfd { .. }));
    assert_eq!(mappings_named("fake-flags"), 2);
    drop(region);
    assert_eq!(mappings_named("fake-flags"), 0);
}

#[test]
fn only_a_device_pool_takes_it() {
    let fake = Fake::new();
    let cpu = Pool::<Cpu>::builder().slots(4).stride(2048).memory(&fake).build();
    let text = cpu.unwrap_err().to_string();
    assert!(text.contains("use a Device pool"), "{text}");
    let pool = Pool::<Device>::builder().slots(4).stride(2048).memory(&fake).build().unwrap();
    let buf = pool.cache().take_one().unwrap();
    let region = &pool.areas()[0].region;
    assert_eq!(buf.frame().address() - region.base().addr().get(), buf.frame().place().1);
    assert_eq!(region.cpu_access(), CpuAccess::None);
}

#[test]
fn the_capacity_is_exact_and_comes_back() {
    let fake = Fake::with_capacity(10 << 12);
    let kept = ask(&fake, "a", 6 << 12).unwrap();
    let error = ask(&fake, "b", 5 << 12).unwrap_err();
    assert_eq!(
        error.to_string(),
        "fake: needs 20 KiB, but only 16 KiB can be had; ask for fewer or smaller buffers, or give \
         the fake a larger capacity"
    );
    assert_eq!((fake.used(), fake.live()), (6 << 12, 1));
    drop(ask(&fake, "b", 4 << 12).unwrap());
    drop(kept);
    assert_eq!((fake.used(), fake.live()), (0, 0));
    assert!(ask(&fake, "c", 10 << 12).is_ok());
}

#[test]
fn an_exhausted_fake_leaves_a_pool_as_it_was() {
    let fake = Fake::with_capacity(64 * 2048);
    let builder = Pool::<Device>::builder().name("data").slots(64).stride(2048);
    let pool = builder.memory(&fake).build().unwrap();
    let Err(Error::Provider { source, .. }) = pool.add_area(&fake, 1) else { panic!("it grew") };
    assert!(matches!(source, ProviderError::Exhausted { available: 0, .. }), "{source}");
    assert_eq!(pool.capacity(), 64);
}

#[test]
fn a_revoked_fake_keeps_its_bytes_until_the_last_buffer_is_home() {
    let fake = Fake::with_capacity(1 << 20);
    let pool = Pool::<Device>::builder().slots(8).stride(4096).memory(&fake).build().unwrap();
    let buf = pool.cache().take_one().unwrap();
    let memory: &dyn Revocable = &fake;
    assert_eq!(memory.revoke(), 1);
    let handle = pool.areas()[0].region.clone();
    drop(pool);
    // SAFETY: the bytes are those of `buf`, which is ours.
    unsafe { handle.write(buf.frame().place().1, b"late DMA") }.unwrap();
    drop(handle);
    mempool::reap_orphans();
    assert_eq!(fake.live(), 1, "a buffer is out");
    drop(buf);
    // A test beside this one may be the one that reaps.
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while fake.live() > 0 && std::time::Instant::now() < patience {
        mempool::reap_orphans();
    }
    assert_eq!((fake.live(), fake.used()), (0, 0));
}

#[test]
fn a_fake_on_hugepages_is_huge_on_both_sides() {
    if !has_pages("a_fake_on_hugepages_is_huge_on_both_sides", PageSize::TwoMiB, 2) {
        return;
    }
    let fake = Fake::new().on_hugepages(PageSize::TwoMiB).unwrap();
    assert_eq!(fake.info().name, "fake:2M");
    let region = ask(&fake, "fake-huge", 1).unwrap();
    for address in [region.base(), region.window().unwrap().base()] {
        let vma = vma_of(address).unwrap();
        assert!(vma.has("ht"), "{vma:?}");
    }
}
