//! A packet socket as a program without a framework has it: sends bursts of equal frames by `sendmmsg`, and receives
//! nothing. The peers in C send by the same.
#![allow(unsafe_code, reason = "binding a packet socket, and sendmmsg")]

use std::{
    ffi::CString,
    io, iter,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

/// A socket bound to an interface, and a burst for it.
pub struct PlainSocket {
    socket: OwnedFd,
    frame: Vec<u8>,
    burst: usize,
}

/// Bytes of a `T`, as the kernel wants them.
fn len_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0)
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

impl PlainSocket {
    /// Of `interface`, past its queueing discipline, for bursts of `burst` times `frame`.
    ///
    /// # Errors
    /// There is no such interface, or the process may not open packet sockets.
    pub fn open(interface: &str, frame: Vec<u8>, burst: usize) -> io::Result<Self> {
        // SAFETY: makes a descriptor; touches no memory of ours.
        let raw = checked(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) })?;
        // SAFETY: new, and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(raw) };
        let name = CString::new(interface)?;
        // SAFETY: reads a string that ends with zero.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        let index = libc::c_int::try_from(index).map_err(|_| io::ErrorKind::NotFound)?;
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: all zero is a valid address of no protocol: it receives nothing.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::sa_family_t::try_from(libc::AF_PACKET).unwrap_or(0);
        address.sll_ifindex = index;
        let len = len_of::<libc::sockaddr_ll>();
        // SAFETY: the address is of that length.
        checked(unsafe { libc::bind(raw, (&raw const address).cast(), len) })?;
        let one: libc::c_int = 1;
        let (level, len) = (libc::SOL_PACKET, len_of::<libc::c_int>());
        let option = libc::PACKET_QDISC_BYPASS;
        // SAFETY: reads an integer of that length. Without effect on old kernels: the same for all.
        let _ = unsafe { libc::setsockopt(raw, level, option, (&raw const one).cast(), len) };
        Ok(Self { socket, frame, burst })
    }

    /// Sends a burst; returns how many frames went, none if there was no room.
    ///
    /// # Errors
    /// Whatever else the kernel says.
    pub fn send(&mut self) -> io::Result<usize> {
        let part = |frame: &mut Vec<u8>| libc::iovec {
            iov_base: frame.as_mut_ptr().cast(),
            iov_len: frame.len(),
        };
        let mut part = part(&mut self.frame);
        let message = || {
            // SAFETY: all zero is a message without address, parts or control data.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            (message.msg_hdr.msg_iov, message.msg_hdr.msg_iovlen) = (&raw mut part, 1);
            message
        };
        let mut messages: Vec<libc::mmsghdr> =
            iter::repeat_with(message).take(self.burst).collect();
        let count = libc::c_uint::try_from(messages.len()).unwrap_or(0);
        // SAFETY: as many messages, each with one part, which all read the one frame; it outlives the call.
        let sent =
            unsafe { libc::sendmmsg(self.socket.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
        match checked(sent) {
            Ok(sent) => Ok(usize::try_from(sent).unwrap_or(0)),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS)) => {
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_not_there_is_an_error() {
        // Without the right to open packet sockets, that is the error.
        assert!(PlainSocket::open("no-such-if", vec![0; 64], 1).is_err());
        assert!(PlainSocket::open("a\0b", vec![0; 64], 1).is_err());
    }
}
