//! A Unix socket at a path, over which processes of one user share memory: messages stay whole, descriptors
//! travel along. Knows nothing of what is said.

use std::{
    fs,
    io::{self, ErrorKind},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use rustix::{
    fs::RenameFlags,
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt},
};

/// Connections that may wait to be taken.
const BACKLOG: i32 = 16;
/// Who may connect: this user.
const MODE: u32 = 0o600;
/// Sockets made by this process.
static MADE: AtomicU32 = AtomicU32::new(0);

/// A socket that is listened at: once its path is there, whoever may connect can. The path goes with it.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    path: PathBuf,
    /// Which file is ours.
    inode: (u64, u64),
}

impl Listener {
    /// Listens at a path that is free, or where nobody listens any more.
    ///
    /// # Errors
    /// [`ErrorKind::AddrInUse`]: something else is there; [`ErrorKind::InvalidFilename`]: more than 107 bytes; or the
    /// path cannot be made.
    pub fn open(path: &Path) -> io::Result<Self> {
        // Made beside its place and then moved there: nobody sees a socket that refuses.
        // Relaxed: a number that nobody else has is all that is asked.
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let beside = path.with_file_name(format!(".{}.{number}", std::process::id()));
        SocketAddrUnix::new(path)?;
        let socket = new()?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(&beside)?)?;
        let moved = move_in(&socket, &beside, path);
        if moved.is_err() {
            let _ = fs::remove_file(&beside);
        }
        let inode = moved?;
        Ok(Self { socket, path: path.to_owned(), inode })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Somebody else may have put something there since.
        let is_ours = |stat: fs::Metadata| (stat.dev(), stat.ino()) == self.inode;
        if fs::symlink_metadata(&self.path).is_ok_and(is_ours) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A connection to who listens at a path.
///
/// # Errors
/// `ECONNREFUSED`: nobody listens there any more; or there is no socket.
pub fn connect(path: &Path) -> rustix::io::Result<OwnedFd> {
    let (socket, address) = (new()?, SocketAddrUnix::new(path)?);
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}

/// Nothing on this socket waits for longer.
///
/// # Errors
/// Not a socket.
pub fn limit(socket: &OwnedFd, patience: Duration) -> rustix::io::Result<()> {
    for timeout in [sockopt::Timeout::Recv, sockopt::Timeout::Send] {
        sockopt::set_socket_timeout(socket, timeout, Some(patience))?;
    }
    Ok(())
}

fn new() -> rustix::io::Result<OwnedFd> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)
}

/// Listens, and takes the place; which file it is.
fn move_in(socket: &OwnedFd, beside: &Path, path: &Path) -> io::Result<(u64, u64)> {
    fs::set_permissions(beside, fs::Permissions::from_mode(MODE))?;
    rustix::net::listen(socket, BACKLOG)?;
    let stat = fs::symlink_metadata(beside)?;
    let here = rustix::fs::CWD;
    match rustix::fs::renameat_with(here, beside, here, path, RenameFlags::NOREPLACE) {
        Err(Errno::EXIST) if is_left_over(path) => fs::rename(beside, path)?,
        Err(Errno::EXIST) => return Err(ErrorKind::AddrInUse.into()),
        moved => moved?,
    }
    Ok((stat.dev(), stat.ino()))
}

/// Whether nobody listens at a socket any more.
fn is_left_over(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|stat| stat.file_type().is_socket());
    is_socket && connect(path).is_err_and(|error| error == Errno::CONNREFUSED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_taken_by_one_and_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let listener = Listener::open(&path).unwrap();
        connect(&path).unwrap();
        let second = Listener::open(&path).err().unwrap();
        assert_eq!(second.kind(), ErrorKind::AddrInUse);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_that_was_left_over_is_replaced_and_a_file_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let left = Listener::open(&path).unwrap();
        let Listener { socket, .. } = &left;
        let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
        std::mem::forget(left);
        // Its descriptor is still open, as another process's might be; only who listens counts.
        let again = Listener::open(&path);
        assert!(again.is_ok(), "{again:?}");
        drop(again);
        fs::write(&path, "text").unwrap();
        assert_eq!(Listener::open(&path).err().unwrap().kind(), ErrorKind::AddrInUse);
        assert_eq!(fs::read(&path).unwrap(), b"text");
    }

    #[test]
    fn what_has_taken_the_place_since_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let listener = Listener::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "text").unwrap();
        drop(listener);
        assert!(path.exists());
    }
}
