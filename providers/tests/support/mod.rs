//! What the kernel says about this process's memory, and what a child sees of it.
#![allow(unsafe_code, reason = "forks a child that touches an address")]
#![allow(dead_code, reason = "each test binary uses some of it")]

use std::{fs, ptr::NonNull};

use mempool::{Provider, ProviderError, Region, RegionRequest};
use providers::{PageSize, Sysfs};

/// One line of `/proc/self/smaps`, with its flags.
#[derive(Debug)]
pub(crate) struct Vma {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) rights: String,
    pub(crate) flags: Vec<String>,
    pub(crate) name: String,
}

impl Vma {
    pub(crate) fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|known| known == flag)
    }
}

/// Every mapping of this process.
pub(crate) fn vmas() -> Vec<Vma> {
    let mut list: Vec<Vma> = Vec::new();
    for line in fs::read_to_string("/proc/self/smaps").unwrap().lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or("");
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            list.last_mut().unwrap().flags = flags.split_whitespace().map(Into::into).collect();
        } else if let Some((start, end)) = first.split_once('-') {
            let hex = |text| usize::from_str_radix(text, 16);
            if let (Ok(start), Ok(end)) = (hex(start), hex(end)) {
                let rights = words.next().unwrap_or("").into();
                let name = words.skip(3).collect::<Vec<_>>().join(" ");
                list.push(Vma { start, end, rights, flags: Vec::new(), name });
            }
        }
    }
    list
}

/// The mapping that holds an address.
pub(crate) fn vma_of(address: NonNull<u8>) -> Option<Vma> {
    let address = address.addr().get();
    vmas().into_iter().find(|vma| vma.start <= address && address < vma.end)
}

/// The memory policy of the mapping that starts at an address: `default`, `bind:0`.
pub(crate) fn policy_at(address: NonNull<u8>) -> String {
    let maps = fs::read_to_string("/proc/self/numa_maps").unwrap_or_default();
    let start = format!("{:x} ", address.addr());
    let line = maps.lines().find_map(|line| line.trim_start_matches('0').strip_prefix(&start));
    line.and_then(|rest| rest.split(' ').next()).unwrap_or("unknown").into()
}

/// How many mappings carry the name of a region.
pub(crate) fn mappings_named(name: &str) -> usize {
    let wanted = format!("/memfd:memwire:{name} ");
    vmas().iter().filter(|vma| format!("{} ", vma.name).starts_with(&wanted)).count()
}

pub(crate) fn ask(memory: &dyn Provider, name: &str, len: usize) -> Result<Region, ProviderError> {
    memory.alloc(&RegionRequest { name: name.into(), len, align: 64 })
}

/// Whether the machine has so many pages to spare; says SKIP if not.
pub(crate) fn has_pages(test: &str, size: PageSize, pages: u64) -> bool {
    let available = Sysfs::system().available_hugepages(size, None).unwrap_or(0);
    if available < pages {
        eprintln!("SKIP {test}: {available} hugepages of {size} can be had, it needs {pages}");
    }
    available >= pages
}

/// Looks whether `deed` leaves the count of free pages as it was. Others come and go meanwhile, so
/// one quiet moment of many is enough; a leak would show in each.
pub(crate) fn leaves_free_pages_alone(size: PageSize, mut deed: impl FnMut()) -> bool {
    let free = || Sysfs::system().hugepages(size, None).unwrap_or_default();
    (0..50).any(|_| {
        let before = free();
        deed();
        free() == before
    })
}

/// What becomes of a forked child that reads a byte at `address`: its signal, or 0.
pub(crate) fn signal_of_a_child_that_reads(address: NonNull<u8>) -> i32 {
    // SAFETY: between fork and exit the child calls nothing that takes a lock.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork: {}", std::io::Error::last_os_error());
    if child == 0 {
        // SAFETY: async-signal-safe; the default action ends the child without a core dump's delay.
        unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
        let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: async-signal-safe, with a valid limit.
        unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core) };
        // SAFETY: no Rust object lives there; the point is to see it fault.
        let byte = unsafe { address.as_ptr().read_volatile() };
        // SAFETY: ends the child at once, without running anything of the parent's.
        unsafe { libc::_exit(i32::from(byte == 255)) };
    }
    let mut status = 0;
    // SAFETY: waits for the child just made.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child);
    if libc::WIFSIGNALED(status) { libc::WTERMSIG(status) } else { 0 }
}
