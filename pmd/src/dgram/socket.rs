//! One bound socket: what may stand at its path before, and that nothing stands there after. Moves no
//! frame.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{FileTypeExt, MetadataExt},
    },
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, socket_with, sockopt,
    },
};

use super::path::SocketPath;

/// Bytes of frames that may wait at the peer, the kernel's bookkeeping included; it grants what
/// `net.core.wmem_max` allows.
const SEND_BUFFER: usize = 4 << 20;

/// Why a path cannot be had.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Somebody's socket is there, and open.
    Live,
    /// Something else is there.
    NoSocket,
    /// The system says.
    System(io::Error),
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self::System(errno.into())
    }
}

/// A socket that is bound to its path until it is dropped.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    path: SocketPath,
    /// Device and inode of the path: it is removed only if it is still this socket's.
    identity: Option<(u64, u64)>,
}

impl Socket {
    /// Binds a socket, over what a dead process may have left at its path.
    pub(super) fn bind(path: &SocketPath) -> Result<Self, Refusal> {
        let address = SocketAddrUnix::new(path.as_path())?;
        let fd = fresh()?;
        let bound = match bind(&fd, &address) {
            Err(Errno::ADDRINUSE) => {
                check(path)?;
                match std::fs::remove_file(path.as_path()) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(Refusal::System(error));
                    }
                    _ => bind(&fd, &address),
                }
            }
            bound => bound,
        };
        match bound {
            Ok(()) => {}
            // Somebody was quicker.
            Err(Errno::ADDRINUSE) => return Err(Refusal::Live),
            Err(errno) => return Err(errno.into()),
        }
        // A small buffer slows down and loses nothing.
        let _ = sockopt::set_socket_send_buffer_size(&fd, SEND_BUFFER);
        Ok(Self { fd, path: path.clone(), identity: identity(path) })
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            // Whoever removed it in between did what was to be done.
            let _ = std::fs::remove_file(self.path.as_path());
        }
    }
}

fn fresh() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
}

fn identity(path: &SocketPath) -> Option<(u64, u64)> {
    let there = std::fs::symlink_metadata(path.as_path()).ok()?;
    Some((there.dev(), there.ino()))
}

/// Whether a socket could be bound to that path: nothing is there, or what a dead process left.
pub(super) fn check(path: &SocketPath) -> Result<(), Refusal> {
    match std::fs::symlink_metadata(path.as_path()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => check_folder(path),
        Err(error) => Err(Refusal::System(error)),
        Ok(there) if !there.file_type().is_socket() => Err(Refusal::NoSocket),
        Ok(_) => match reach(path) {
            Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(()),
            Err(errno @ Errno::ACCESS) => Err(errno.into()),
            // Open: taken by its one peer (EPERM), or of another kind (EPROTOTYPE), too.
            _ => Err(Refusal::Live),
        },
    }
}

fn check_folder(path: &SocketPath) -> Result<(), Refusal> {
    let folder = path.as_path().parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder.map(std::fs::metadata) {
        Some(Err(error)) => Err(Refusal::System(error)),
        _ => Ok(()),
    }
}

/// Whether somebody receives there. Sends nothing.
pub(super) fn is_there(path: &SocketPath) -> bool {
    reach(path).is_ok()
}

fn reach(path: &SocketPath) -> rustix::io::Result<()> {
    connect(fresh()?, &SocketAddrUnix::new(path.as_path())?)
}
