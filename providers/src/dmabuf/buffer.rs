//! One dma-buf, and what must live as long: who made it, what it is made of, who else has it. Hands out no
//! region; that is [`super::DmaBuf`]'s.
#![expect(clippy::disallowed_types, reason = "control plane: touched when a buffer comes and goes")]

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

use mempool::{ProviderError, Region};

use super::{identity::Identity, link::Link, sys};
use crate::mapping::{Mapping, Protection};

/// A dma-buf that this process has, once.
#[derive(Debug)]
pub struct Buffer {
    /// How reports and errors call it: `dmabuf:udmabuf`, `dmabuf:fd=9`.
    name: String,
    identity: Identity,
    /// Bytes of a page: of 4096, or of a hugepage.
    page: usize,
    fd: Arc<OwnedFd>,
    /// The memory file behind it.
    memory: Option<Arc<OwnedFd>>,
    /// Why the CPU cannot map it, if so.
    unmappable: Option<io::Error>,
    use_: AtomicU8,
    /// To the process that it came from.
    link: Option<Link>,
    /// The BAR that it is made of, if it is.
    _bar: Option<Region>,
    _claim: Claim,
}

/// Nobody has carved it yet.
const UNUSED: u8 = 0;
/// Pools of this process alone.
const PRIVATE: u8 = 1;
/// Other processes have it, or are going to: they may write at any time.
const SHARED: u8 = 2;

/// How a buffer came to be.
#[derive(Debug, Default)]
pub(super) struct Origin {
    /// The memory file behind it.
    pub(super) memory: Option<Arc<OwnedFd>>,
    /// Bytes of a page, if not 4096.
    pub(super) page: Option<usize>,
    /// To the process that it came from.
    pub(super) link: Option<Link>,
    /// The BAR that it is made of.
    pub(super) bar: Option<Region>,
    /// Whether somebody else has it from the start.
    pub(super) is_shared: bool,
}

impl Buffer {
    /// Takes what is said to be a dma-buf. `what` is how errors call the descriptor.
    pub(super) fn adopt(
        name: &str,
        what: &str,
        fd: OwnedFd,
        origin: Origin,
    ) -> Result<Self, ProviderError> {
        let bad = |why| ProviderError::BadRequest { provider: name.to_owned(), why };
        let identity = Identity::of(what, fd.as_fd()).map_err(bad)?;
        let claim = Claim::new(name, what, identity.inode).map_err(bad)?;
        let len = usize::try_from(identity.bytes)
            .map_err(|_| bad(format!("{what} has more bytes than an address space")))?;
        let probe = Mapping::part((fd.as_fd(), 0), len, 1, Protection::ReadWrite);
        let Origin { memory, page, link, bar, is_shared } = origin;
        Ok(Self {
            name: name.to_owned(),
            identity,
            page: page.unwrap_or(4096),
            fd: Arc::new(fd),
            memory,
            unmappable: probe.err(),
            use_: AtomicU8::new(if is_shared { SHARED } else { UNUSED }),
            link,
            _bar: bar,
            _claim: claim,
        })
    }

    /// Imports what a number stands for in this process: a dma-buf that was inherited, or that a library
    /// made. The number stays the caller's, to close or not.
    ///
    /// # Errors
    /// It stands for nothing, for no dma-buf, or for one that cannot be used or is imported already; the text
    /// says what it is.
    pub fn from_number(number: RawFd) -> Result<Self, ProviderError> {
        let (name, what) = (format!("dmabuf:fd={number}"), format!("fd {number}"));
        let fd = sys::duplicate(number).map_err(|_| ProviderError::BadRequest {
            provider: name.clone(),
            why: format!(
                "{what} is not open in this process: who starts it must let it inherit the dma-buf"
            ),
        })?;
        Self::adopt(&name, &what, fd, Origin { is_shared: true, ..Origin::default() })
    }

    /// Imports a dma-buf that a library handed over.
    ///
    /// # Errors
    /// As [`Buffer::from_number`].
    pub fn from_fd(fd: OwnedFd) -> Result<Self, ProviderError> {
        let number = std::os::fd::AsRawFd::as_raw_fd(&fd);
        let (name, what) = (format!("dmabuf:fd={number}"), format!("fd {number}"));
        Self::adopt(&name, &what, fd, Origin { is_shared: true, ..Origin::default() })
    }

    /// How reports and errors call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who exported it, and how large it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.identity.bytes
    }

    /// Bytes of a page: 4096, or those of the hugepages that it is made of.
    #[must_use]
    pub fn page_size(&self) -> usize {
        self.page
    }

    /// Whether the CPU can have a mapping of it; if not, why. udmabufs and dma-heaps can be mapped, what VFIO
    /// exports cannot (its exporter has no `mmap`: `EINVAL`), and GPUs differ.
    ///
    /// # Errors
    /// What `mmap` said.
    pub fn cpu_mapping(&self) -> Result<(), &io::Error> {
        self.unmappable.as_ref().map_or(Ok(()), Err)
    }

    /// The memory file that it is made of, where that is known: what NICs can be given in its place.
    #[must_use]
    pub fn memory(&self) -> Option<&Arc<OwnedFd>> {
        self.memory.as_ref()
    }

    /// The dma-buf.
    #[must_use]
    pub fn fd(&self) -> &Arc<OwnedFd> {
        &self.fd
    }

    /// Whether other processes have it, and may write at any time.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.use_.load(Ordering::Acquire) == SHARED
    }

    /// Says that others get it; not if a pool of this process relies on being alone with it.
    pub(super) fn share(&self) -> Result<(), ProviderError> {
        let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
        match self.use_.compare_exchange(UNUSED, SHARED, success, failure) {
            Ok(_) | Err(SHARED) => Ok(()),
            Err(_) => Err(ProviderError::BadRequest {
                provider: self.name.clone(),
                why: "pools of this process use it as their own memory; offer it to others before the first \
                      pool is made of it"
                    .into(),
            }),
        }
    }

    /// Notes that a pool uses it; returns whether it is shared.
    pub(super) fn use_up(&self) -> bool {
        let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
        self.use_.compare_exchange(UNUSED, PRIVATE, success, failure) == Err(SHARED)
    }

    /// What of it the CPU maps: the memory behind it, which also has pages that can be pinned, or itself.
    pub(super) fn mappable(&self) -> Option<BorrowedFd<'_>> {
        match &self.memory {
            Some(memory) => Some(memory.as_fd()),
            None => self.unmappable.is_none().then(|| self.fd.as_fd()),
        }
    }

    /// The way to the process that it came from.
    pub(super) fn link(&self) -> Option<&Link> {
        self.link.as_ref()
    }
}

/// The dma-bufs that this process has, by inode, and how they are called.
static CLAIMS: Mutex<Vec<((u64, u64), String)>> = Mutex::new(Vec::new());

/// This process has a dma-buf, once: two imports would carve the same bytes twice.
#[derive(Debug)]
struct Claim((u64, u64));

impl Claim {
    fn new(name: &str, what: &str, inode: (u64, u64)) -> Result<Self, String> {
        let mut claims = CLAIMS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = claims.iter().find(|(claimed, _)| *claimed == inode) {
            return Err(format!(
                "{what} is a dma-buf that this process has already, as {known}: two pools would be given the \
                 same bytes; carve both out of one import"
            ));
        }
        claims.push((inode, name.to_owned()));
        Ok(Self(inode))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claims = CLAIMS.lock().unwrap_or_else(PoisonError::into_inner);
        claims.retain(|(inode, _)| *inode != self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsRawFd, os::unix::net::UnixStream};

    use super::*;

    fn refusal(fd: OwnedFd) -> String {
        let number = fd.as_raw_fd();
        let why = Buffer::from_number(number).unwrap_err().to_string();
        let other = Buffer::from_fd(fd).unwrap_err().to_string();
        assert_eq!(why, other, "both ways say the same");
        why.replace(&number.to_string(), "N")
    }

    #[test]
    fn what_is_no_dma_buf_is_refused_by_name() {
        let file = File::open("/proc/self/exe").unwrap();
        let why = refusal(file.into());
        assert!(why.starts_with("dmabuf:fd=N: fd N is a regular file (/"), "{why}");
        assert!(why.ends_with("), not a dma-buf"), "{why}");
        let why = refusal(crate::memfd::create("rx", 4096, None).unwrap());
        let says =
            "dmabuf:fd=N: fd N is a memory file (memfd:memwire:rx), not a dma-buf: have one made";
        assert!(why.starts_with(says), "{why}");
        let (socket, _peer) = UnixStream::pair().unwrap();
        let why = refusal(socket.into());
        assert!(why.starts_with("dmabuf:fd=N: fd N is a socket, not a dma-buf"), "{why}");
        let why = refusal(File::open("/dev/null").unwrap().into());
        assert!(why.ends_with("is a device (/dev/null), not a dma-buf"), "{why}");
    }

    #[test]
    fn a_closed_descriptor_says_so() {
        for number in [987_654, -1] {
            let why = Buffer::from_number(number).unwrap_err().to_string();
            assert!(why.contains(&format!("fd {number} is not open in this process")), "{why}");
        }
    }

    #[test]
    fn a_dma_buf_is_claimed_once_and_again_when_it_is_gone() {
        let inode = (u64::MAX, 1);
        let claim = Claim::new("dmabuf:fd=7", "fd 7", inode).unwrap();
        let why = Claim::new("dmabuf:fd=9", "fd 9", inode).unwrap_err();
        assert!(
            why.starts_with("fd 9 is a dma-buf that this process has already, as dmabuf:fd=7"),
            "{why}"
        );
        drop(claim);
        drop(Claim::new("dmabuf:fd=9", "fd 9", inode).unwrap());
    }
}
