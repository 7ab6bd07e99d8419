//! Whether two files are the same memory: what is written to one is read from the other.
#![allow(unsafe_code, reason = "touches bytes that another process may write")]

use std::{
    hash::{BuildHasher, RandomState},
    io,
    os::fd::BorrowedFd,
};

use super::sys::{self, Touch};
use crate::mapping::{Mapping, Protection};

const ATTEMPTS: usize = 8;

/// Whether `file` and `buffer`, a dma-buf of `bytes`, are the same memory at both ends. What was there is
/// written back.
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
    let (before, seen) = (word(ours, offset), word(theirs, offset));
    if before != seen {
        return false;
    }
    put(ours, offset, pattern);
    let seen = word(theirs, offset);
    put(ours, offset, before);
    seen == pattern
}

fn word(mapping: &Mapping, offset: usize) -> u64 {
    // SAFETY: callers stay 8 bytes inside the mapping.
    let at = unsafe { mapping.base().add(offset) };
    // SAFETY: mapped readable, and aligned: a page starts there, or ends 8 bytes later. Volatile: another
    // process may write.
    unsafe { at.cast::<u64>().read_volatile() }
}

fn put(mapping: &Mapping, offset: usize, value: u64) {
    // SAFETY: callers stay 8 bytes inside the mapping.
    let at = unsafe { mapping.base().add(offset) };
    // SAFETY: mapped writable, aligned as above, and nobody in this process has a reference to it: the import
    // is not carved yet.
    unsafe { at.cast::<u64>().write_volatile(value) };
}
