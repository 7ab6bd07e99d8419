//! Whether two files are the same memory: what is written to one is read from the other.
#![allow(unsafe_code, reason = "touches bytes that another process may write")]

use std::{
    hash::{BuildHasher, RandomState},
    io,
    os::fd::BorrowedFd,
    sync::atomic::{AtomicU64, Ordering},
};

use super::sys::{self, Touch};
use crate::mapping::{Mapping, Protection};

const ATTEMPTS: usize = 8;

/// Whether `file` and `buffer`, a dma-buf of `bytes`, are the same memory at both ends. What was there is
/// written back: but who looks there just then may see 8 other bytes, so import before traffic runs.
pub(super) fn are_one(
    file: BorrowedFd<'_>,
    buffer: BorrowedFd<'_>,
    bytes: u64,
) -> io::Result<bool> {
    let len = usize::try_from(bytes).map_err(io::Error::other)?;
    let map = |fd| Mapping::part((fd, 0), len, 1, Protection::ReadWrite);
    let (ours, theirs) = (map(file)?, map(buffer)?);
    sys::begin(buffer, Touch::Write)?;
    let random = RandomState::new();
    // Somebody may write there just now: memory that is the same shows it in one of a few tries.
    let is_one =
        |offset| (0..ATTEMPTS).any(|round| is_same(&ours, &theirs, offset, random.hash_one(round)));
    let same = [0, len - 8].into_iter().all(is_one);
    sys::end(buffer, Touch::Write)?;
    Ok(same)
}

fn is_same(ours: &Mapping, theirs: &Mapping, offset: usize, pattern: u64) -> bool {
    let before = word(ours, offset).load(Ordering::SeqCst);
    if word(theirs, offset).load(Ordering::SeqCst) != before {
        return false;
    }
    // Never over what somebody wrote meanwhile.
    let swap = |from, to| {
        word(ours, offset).compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    };
    let is_put = swap(before, pattern);
    let seen = word(theirs, offset).load(Ordering::SeqCst);
    swap(pattern, before);
    is_put && seen == pattern
}

fn word(mapping: &Mapping, offset: usize) -> &AtomicU64 {
    // SAFETY: callers stay 8 bytes inside the mapping.
    let at = unsafe { mapping.base().add(offset) };
    // SAFETY: 1. mapped readable and writable for as long as the mapping is borrowed; 2. aligned: a page starts
    // there, or ends 8 bytes later; 3. this process touches these bytes through atomics only: the import is not
    // carved yet.
    unsafe { AtomicU64::from_ptr(at.cast::<u64>().as_ptr()) }
}
