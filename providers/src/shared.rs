//! Memory files that another process has mapped as well: words that both read and write, and bytes of
//! another's that are only looked at. Knows no protocol: what the words mean is its user's.
//!
//! There is no reference to any of it: words are atomics behind an address, bytes are copied out. Files
//! of processes that are not trusted are taken only if they are sealed, so that nobody can cut pages off
//! under a mapping; of what cannot be cut (a dma-buf, a BAR) its owner vouches.
#![allow(unsafe_code, reason = "atomics and raw copies in memory that another process may write")]

use std::{
    fmt, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::fs::{Mode, OFlags, SealFlags, SeekFrom};

use crate::{
    mapping::{Mapping, Protection, Wish},
    memfd,
};

/// Bytes of a word.
const WORD: usize = size_of::<u64>();

/// A file of another process cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SharedError {
    /// Its size may change under us.
    #[error(
        "the file is not sealed against shrinking: its owner could cut pages off under us; pass a \
         memfd with F_SEAL_SHRINK"
    )]
    NotSealed,
    /// It ends too early.
    #[error("the file has {has} B, {needed} are needed")]
    Short {
        /// Bytes there are.
        has: u64,
        /// Bytes that there have to be.
        needed: u64,
    },
    /// A system call failed.
    #[error("{what}: {error}")]
    System {
        /// Which.
        what: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
}

fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> SharedError {
    move |error| SharedError::System { what, error: error.into() }
}

/// Words that two processes read and write. All start as 0.
pub struct SharedWords {
    mapping: Mapping,
    count: usize,
    file: OwnedFd,
}

impl SharedWords {
    /// Makes a sealed file of `count` words, all of them present.
    ///
    /// # Errors
    /// There is no memory for them.
    pub fn create(name: &str, count: usize) -> Result<Self, SharedError> {
        let len = count.saturating_mul(WORD);
        let file = memfd::create(name, len, None).map_err(system("memfd_create"))?;
        memfd::take_pages(&file, len).map_err(system("fallocate"))?;
        memfd::seal(&file).map_err(system("sealing"))?;
        Self::map(file, len)
    }

    /// Maps a file that another process has made, all of it.
    ///
    /// # Errors
    /// It is not sealed, or cannot be mapped writable.
    pub fn open(file: OwnedFd) -> Result<Self, SharedError> {
        let len = sealed_size(file.as_fd())?;
        let len = usize::try_from(len).map_err(|_| system("mmap")(io::ErrorKind::OutOfMemory))?;
        Self::map(file, len)
    }

    fn map(file: OwnedFd, len: usize) -> Result<Self, SharedError> {
        let mapping = Mapping::shared(file.as_fd(), len, WORD, Protection::ReadWrite);
        let mapping = mapping.map_err(system("mmap"))?;
        mapping.wish(Wish::NotInChildren).map_err(system("madvise"))?;
        Ok(Self { mapping, count: len / WORD, file })
    }

    /// Words there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The file, to pass on.
    #[must_use]
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    #[inline]
    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at < self.count, "word {at} of {}", self.count);
        // SAFETY: `at < count`, so the word lies inside the mapping.
        let word = unsafe { self.mapping.base().cast::<u64>().add(at) };
        // SAFETY: 1. mapped readable and writable for as long as `self` lives, aligned (a mapping
        // starts with a page), and no page of it goes (sealed); 2. all accesses here and, as the
        // protocol has it, elsewhere are atomic: an atomic may be changed at any time.
        unsafe { AtomicU64::from_ptr(word.as_ptr()) }
    }

    /// Reads a word, in no order with others.
    ///
    /// # Panics
    /// There is no such word; so do the others.
    #[inline]
    #[must_use]
    pub fn load(&self, at: usize) -> u64 {
        self.word(at).load(Ordering::Relaxed)
    }

    /// Reads a word; what was written before it by [`SharedWords::release`] is seen from here on.
    #[inline]
    #[must_use]
    pub fn acquire(&self, at: usize) -> u64 {
        self.word(at).load(Ordering::Acquire)
    }

    /// Writes a word, in no order with others.
    #[inline]
    pub fn store(&self, at: usize, value: u64) {
        self.word(at).store(value, Ordering::Relaxed);
    }

    /// Writes a word, after everything that was written and read before.
    #[inline]
    pub fn release(&self, at: usize, value: u64) {
        self.word(at).store(value, Ordering::Release);
    }
}

impl fmt::Debug for SharedWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedWords").field("count", &self.count).finish_non_exhaustive()
    }
}

/// A span of a file of another process, mapped to be read.
pub struct SharedView {
    mapping: Mapping,
    offset: usize,
    len: usize,
}

impl SharedView {
    /// Maps `len` bytes at `offset` of a memory file, which has to be sealed against shrinking.
    ///
    /// # Errors
    /// It is not, it is too short, or it cannot be mapped.
    pub fn sealed(file: impl AsFd, offset: u64, len: usize) -> Result<Self, SharedError> {
        let size = sealed_size(file.as_fd())?;
        Self::map(file.as_fd(), size, offset, len)
    }

    /// The same of a file whose size cannot change (a dma-buf, the file of a BAR), or whose owner is
    /// trusted not to change it.
    ///
    /// # Errors
    /// It is too short, or cannot be mapped: dma-bufs of some exporters cannot.
    pub fn fixed(file: impl AsFd, offset: u64, len: usize) -> Result<Self, SharedError> {
        let size = size_of_file(file.as_fd())?;
        Self::map(file.as_fd(), size, offset, len)
    }

    fn map(file: BorrowedFd<'_>, size: u64, offset: u64, len: usize) -> Result<Self, SharedError> {
        let needed = offset.saturating_add(len as u64);
        if size < needed || len == 0 {
            return Err(SharedError::Short { has: size, needed: needed.max(1) });
        }
        let narrow = |bytes: u64| {
            usize::try_from(bytes).map_err(|_| system("mmap")(io::ErrorKind::OutOfMemory))
        };
        // All of it: a span of hugepages can be mapped from a page's start to a page's end only.
        let mapping = Mapping::shared(file, narrow(size)?, 1, Protection::Read);
        let mapping = mapping.map_err(system("mmap"))?;
        mapping.wish(Wish::NotInDumps).map_err(system("madvise"))?;
        Ok(Self { mapping, offset: narrow(offset)?, len })
    }

    /// Bytes of the span.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none, which never is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies bytes out; false, and nothing done, if they are not all inside.
    #[inline]
    #[must_use]
    pub fn read(&self, at: usize, into: &mut [u8]) -> bool {
        if at.checked_add(into.len()).is_none_or(|end| end > self.len) {
            return false;
        }
        // SAFETY: `offset + len` is at most the mapping's length (checked when it was mapped), and the
        // bytes end within `len` (checked above).
        let from = unsafe { self.mapping.base().add(self.offset + at) };
        // SAFETY: 1. mapped readable while `self` lives, and no page of it goes (see the module);
        // 2. `into` is exclusive, and never lies in a mapping that hands out no references; 3. a
        // process that breaks the protocol and writes meanwhile makes the copy worthless, no more.
        unsafe { from.as_ptr().copy_to_nonoverlapping(into.as_mut_ptr(), into.len()) };
        true
    }
}

impl fmt::Debug for SharedView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, len, .. } = self;
        f.debug_struct("SharedView").field("offset", offset).field("len", len).finish()
    }
}

/// The same memory file, opened to be read only: who is given it cannot map it writable by it.
///
/// # Errors
/// `/proc` is not there, or it is no file that can be opened again.
pub fn read_only(file: impl AsFd) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Size of a file that is sealed against shrinking.
fn sealed_size(file: BorrowedFd<'_>) -> Result<u64, SharedError> {
    match rustix::fs::fcntl_get_seals(file) {
        Ok(seals) if seals.contains(SealFlags::SHRINK) => {}
        // EINVAL: a file that cannot be sealed.
        Ok(_) | Err(rustix::io::Errno::INVAL) => return Err(SharedError::NotSealed),
        Err(error) => return Err(system("F_GET_SEALS")(error)),
    }
    size_of_file(file)
}

/// By seeking: dma-bufs state their size so (Documentation/driver-api/dma-buf.rst), and in no other way.
fn size_of_file(file: BorrowedFd<'_>) -> Result<u64, SharedError> {
    rustix::fs::seek(file, SeekFrom::End(0)).map_err(system("lseek"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(file: BorrowedFd<'_>) -> OwnedFd {
        file.try_clone_to_owned().unwrap()
    }

    #[test]
    fn words_are_the_same_in_two_mappings() {
        let ours = SharedWords::create("ring", 1000).unwrap();
        let theirs = SharedWords::open(copy(ours.file())).unwrap();
        assert_eq!((ours.count(), theirs.count()), (1000, 1000));
        ours.store(998, 5);
        ours.release(999, 7);
        assert_eq!((theirs.acquire(999), theirs.load(998), theirs.load(0)), (7, 5, 0));
        assert!(std::panic::catch_unwind(|| theirs.load(1000)).is_err(), "there is no such word");
    }

    #[test]
    fn a_file_that_can_shrink_is_refused() {
        let file = memfd::create("loose", 8192, None).unwrap();
        let error = SharedWords::open(copy(file.as_fd())).unwrap_err();
        assert!(matches!(error, SharedError::NotSealed), "{error}");
        assert!(matches!(SharedView::sealed(&file, 0, 4096), Err(SharedError::NotSealed)));
        let plain = tempfile::tempfile().unwrap();
        assert!(matches!(SharedView::sealed(&plain, 0, 1), Err(SharedError::NotSealed)));
    }

    #[test]
    fn a_view_ends_where_it_was_said_to_and_a_short_file_is_refused() {
        let file = memfd::create("rows", 8192, None).unwrap();
        memfd::seal(&file).unwrap();
        rustix::io::pwrite(&file, b"row", 5000).unwrap();
        let view = SharedView::sealed(&file, 4096, 4096).unwrap();
        let mut bytes = [0; 3];
        assert!(view.read(904, &mut bytes));
        assert_eq!(&bytes, b"row");
        assert!(view.read(4093, &mut bytes) && !view.read(4094, &mut bytes));
        assert!(!view.read(usize::MAX, &mut bytes));
        let error = SharedView::sealed(&file, 4096, 4097).unwrap_err().to_string();
        assert_eq!(error, "the file has 8192 B, 8193 are needed");
        assert!(SharedView::sealed(&file, u64::MAX, 1).is_err());
        assert!(SharedView::fixed(&file, 0, 0).is_err(), "nothing is no view");
    }

    #[test]
    fn what_is_passed_on_to_be_read_cannot_be_mapped_writable() {
        let file = memfd::create("rows", 4096, None).unwrap();
        memfd::seal(&file).unwrap();
        let passed = read_only(&file).unwrap();
        assert!(SharedView::sealed(&passed, 0, 4096).is_ok());
        assert!(SharedWords::open(passed).is_err());
    }
}
