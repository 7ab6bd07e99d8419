//! Several datagrams to one system call: `recvmmsg(2)`, `sendmmsg(2)`. Knows addresses and lengths; not
//! whose they are.
#![allow(unsafe_code, reason = "system calls that no crate wraps")]

use std::{
    io,
    mem::{self, MaybeUninit},
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

use libc::{c_int, c_uint, iovec, mmsghdr, sockaddr_un, socklen_t};

use super::path::SocketPath;

/// Datagrams of one call at most.
pub(super) const MOST: usize = 32;
/// Parts of one datagram at most (`UIO_MAXIOV`).
pub(super) const PARTS: usize = 1024;

/// The datagrams of one call, put together part by part.
pub(super) struct Batch {
    parts: Vec<iovec>,
    /// Where the parts of each datagram end.
    ends: Vec<usize>,
    messages: Vec<mmsghdr>,
    /// Where they go; `None` for those that are received.
    to: Option<Box<sockaddr_un>>,
}

// SAFETY: the addresses in it are used within one call only, by whoever put them there just before.
unsafe impl Send for Batch {}

impl Batch {
    /// For datagrams that are received.
    pub(super) fn receiving() -> Self {
        Self { parts: Vec::new(), ends: Vec::new(), messages: Vec::new(), to: None }
    }

    /// For datagrams to that path.
    pub(super) fn sending(to: &SocketPath) -> Self {
        // SAFETY: all zeroes are an address.
        let mut address: sockaddr_un = unsafe { mem::zeroed() };
        address.sun_family = libc::sa_family_t::try_from(libc::AF_UNIX).unwrap_or(1);
        for (to, from) in address.sun_path.iter_mut().zip(to.as_str().bytes()) {
            *to = from.cast_signed();
        }
        Self { to: Some(Box::new(address)), ..Self::receiving() }
    }

    /// Begins anew.
    pub(super) fn clear(&mut self) {
        self.parts.clear();
        self.ends.clear();
    }

    /// Datagrams so far.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Adds a part to the datagram that is being put together.
    #[inline]
    pub(super) fn part(&mut self, base: *mut u8, len: usize) {
        self.parts.push(iovec { iov_base: base.cast(), iov_len: len });
    }

    /// Ends a datagram.
    #[inline]
    pub(super) fn end(&mut self) {
        self.ends.push(self.parts.len());
    }

    /// Makes the headers, now that no part will move.
    fn seal(&mut self) -> c_uint {
        let Self { parts, ends, messages, to } = self;
        messages.clear();
        let (name, name_len) = match to {
            Some(address) => (ptr::from_mut(&mut **address).cast(), size_of::<sockaddr_un>()),
            None => (ptr::null_mut(), 0),
        };
        let mut start = 0;
        for end in ends {
            // SAFETY: all zeroes are a header of nothing.
            let mut message: mmsghdr = unsafe { MaybeUninit::zeroed().assume_init() };
            message.msg_hdr.msg_name = name;
            message.msg_hdr.msg_namelen = socklen_t::try_from(name_len).unwrap_or(0);
            message.msg_hdr.msg_iov = parts[start..].as_mut_ptr();
            message.msg_hdr.msg_iovlen = *end - start;
            messages.push(message);
            start = *end;
        }
        c_uint::try_from(messages.len()).unwrap_or(0)
    }

    /// Sends them; returns how many went. The first that did not names the error, if none went.
    ///
    /// # Safety
    /// Every part is readable memory until this returns.
    pub(super) unsafe fn send(&mut self, socket: BorrowedFd<'_>) -> Result<usize, c_int> {
        let (count, fd) = (self.seal(), socket.as_raw_fd());
        let first = self.messages.as_mut_ptr();
        // SAFETY: `count` headers, whose parts are readable (the caller's word) and whose address lives
        // in `self`.
        let sent = unsafe { libc::sendmmsg(fd, first, count, libc::MSG_DONTWAIT) };
        checked(sent)
    }

    /// Receives into them what is there; returns how many came.
    ///
    /// # Safety
    /// Every part is writable memory that nobody else uses until this returns.
    pub(super) unsafe fn receive(&mut self, socket: BorrowedFd<'_>) -> Result<usize, c_int> {
        let (count, fd) = (self.seal(), socket.as_raw_fd());
        let first = self.messages.as_mut_ptr();
        // SAFETY: `count` headers, whose parts are writable and the caller's alone (its word); no
        // address is asked for and there is no time limit.
        let came = unsafe { libc::recvmmsg(fd, first, count, libc::MSG_DONTWAIT, ptr::null_mut()) };
        checked(came)
    }

    /// Bytes of the `index`-th datagram that was received; `None` if it had more than its parts held.
    #[inline]
    pub(super) fn received(&self, index: usize) -> Option<usize> {
        let message = &self.messages[index];
        let is_cut = message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        (!is_cut).then_some(message.msg_len as usize)
    }
}

fn checked(count: c_int) -> Result<usize, c_int> {
    usize::try_from(count).map_err(|_| io::Error::last_os_error().raw_os_error().unwrap_or(0))
}
