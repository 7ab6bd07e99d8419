//! An importer's end: a dma-buf comes over a Unix socket, and the connection stays for as long as it is used,
//! so that each side learns of the other's end. Believes nothing that the peer says before it has looked.

use std::{
    io::{self, ErrorKind, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use mempool::ProviderError;
use rustix::{
    fs::SealFlags,
    io::Errno,
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, sockopt},
};

use super::{
    Buffer,
    buffer::Origin,
    message::{LEN, Message},
    same,
};
use crate::socket;

/// How long the exporter may take to say something.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// The way to the process that a buffer came from.
#[derive(Debug)]
pub(super) struct Link {
    socket: OwnedFd,
    path: PathBuf,
    /// The exporter's process.
    pid: i32,
}

impl Link {
    /// Whether the exporter still stands by it. Never waits.
    ///
    /// # Errors
    /// It does not, in words.
    pub(super) fn check(&self) -> Result<(), String> {
        let who = format!("process {}, which exports it at {}", self.pid, self.path.display());
        let mut bytes = [0; LEN + 1];
        match rustix::net::recv(&self.socket, &mut bytes, RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(error) => Err(format!("the connection to {who}, broke: {error}")),
            Ok((0, _)) => Err(format!("{who}, has ended, or closed the connection")),
            Ok((len, _)) => match Message::decode(&bytes[..len.min(LEN + 1)]) {
                Ok(Message::TakenBack) => Err(format!("{who}, takes it back")),
                Ok(other) => Err(format!("{who}, says what makes no sense now: {other:?}")),
                Err(why) => Err(format!("{who}, cannot be understood: {why}")),
            },
        }
    }
}

impl Buffer {
    /// Imports what a process offers at the path of a socket (`memwire dmabuf export`). With it comes the memory
    /// file behind it, if there is one, which NICs take that take no dma-buf.
    ///
    /// # Errors
    /// Nobody offers there, or somebody else than this user or root; or what came is no dma-buf, not the one it is
    /// said to be, or imported already.
    pub fn receive(path: &Path) -> Result<Self, ProviderError> {
        let shown = path.display().to_string().replace(char::is_whitespace, "_");
        let name = format!("dmabuf:{shown}");
        let bad = |why: String| ProviderError::BadRequest { provider: name.clone(), why };
        let link = connect(&name, path)?;
        let (message, mut fds) = hear(&link.socket).map_err(|error| {
            let why = match error.kind() {
                ErrorKind::WouldBlock => format!("it said nothing in {} s", PATIENCE.as_secs()),
                ErrorKind::UnexpectedEof => {
                    "it hung up: it offers to processes of its own user, and to root".into()
                }
                _ => error.to_string(),
            };
            bad(format!("process {} at the other end: {why}", link.pid))
        })?;
        let Message::Here { bytes, page, has_memory, name: theirs } = message else {
            return Err(bad(format!("process {} takes it back already", link.pid)));
        };
        let expected = 1 + usize::from(has_memory);
        if fds.len() != expected {
            let why = format!("descriptors announced: {expected}, received: {}", fds.len());
            return Err(bad(why));
        }
        let memory = fds.split_off(1).pop();
        let Some(fd) = fds.pop() else { return Err(bad("no descriptor came".into())) };
        let what = format!("what process {} calls {theirs}", link.pid);
        let origin = Origin {
            memory: memory.map(Arc::new),
            page: Some(checked_page(page).map_err(&bad)?),
            link: Some(link),
            is_shared: true,
            ..Origin::default()
        };
        let buffer = Self::adopt(&name, &what, fd, origin)?;
        if buffer.bytes() != bytes || !bytes.is_multiple_of(buffer.page_size() as u64) {
            return Err(bad(format!(
                "{what} has {} B in pages of {} B, and is said to have {bytes} B",
                buffer.bytes(),
                buffer.page_size()
            )));
        }
        if let Some(memory) = buffer.memory() {
            is_behind(memory, &buffer).map_err(|why| bad(format!("{what}: {why}")))?;
        }
        Ok(buffer)
    }
}

/// A page size that somebody else named.
fn checked_page(page: u32) -> Result<usize, String> {
    match page {
        4096 | 0x20_0000 | 0x4000_0000 => Ok(page as usize),
        _ => Err(format!("pages of {page} B, and there are such of 4 KiB, 2 MiB and 1 GiB")),
    }
}

/// A file that is said to be the memory of a dma-buf: it must keep its pages, and be the same bytes.
fn is_behind(memory: &OwnedFd, buffer: &Buffer) -> Result<(), String> {
    let seals = rustix::fs::fcntl_get_seals(memory);
    let seals = seals.map_err(|error| format!("the memory file that came along: {error}"))?;
    if !seals.contains(SealFlags::SHRINK) {
        return Err("the memory file that came along could be cut off: it is not sealed".into());
    }
    let size = rustix::fs::fstat(memory).map_err(|error| error.to_string())?.st_size;
    if u64::try_from(size).ok().is_none_or(|size| size < buffer.bytes()) {
        return Err(format!("the memory file that came along has {size} B"));
    }
    match same::are_one(memory.as_fd(), buffer.fd().as_fd(), buffer.bytes()) {
        Ok(true) => Ok(()),
        Ok(false) => {
            Err("the memory file that came along holds other bytes than the dma-buf".into())
        }
        Err(error) => Err(format!("comparing the memory file with the dma-buf: {error}")),
    }
}

/// The process at the other end, and its user.
pub(super) fn peer(socket: &OwnedFd) -> rustix::io::Result<(i32, u32)> {
    let peer = sockopt::socket_peercred(socket)?;
    Ok((peer.pid.as_raw_nonzero().get(), peer.uid.as_raw()))
}

/// Whether a user may exchange memory with this process.
pub(super) fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

fn connect(name: &str, path: &Path) -> Result<Link, ProviderError> {
    let failed = |error: Errno| {
        let hint = match error {
            Errno::NOENT => "nobody offers there: memwire dmabuf export ... --socket PATH",
            Errno::CONNREFUSED => {
                "nobody listens: who offered there has ended, or it is no socket; start memwire dmabuf export again"
            }
            Errno::PROTOTYPE => "that socket is some other program's",
            Errno::NOTSOCK => {
                "that is no socket; a dma-buf that is open here is named by its number"
            }
            Errno::ACCESS | Errno::PERM => "it is offered to another user's processes",
            Errno::AGAIN => "the exporter takes nobody now; try again",
            _ => "",
        };
        ProviderError::System {
            provider: name.to_owned(),
            what: format!("connecting to {}", path.display()),
            source: error.into(),
            hint: hint.into(),
        }
    };
    let socket = socket::connect(path).map_err(failed)?;
    socket::limit(&socket, PATIENCE).map_err(failed)?;
    let (pid, uid) = peer(&socket).map_err(failed)?;
    if !is_trusted(uid) {
        let why = format!(
            "process {pid} of user {uid} offers at {}: memory is taken from this user and from root only",
            path.display()
        );
        return Err(ProviderError::BadRequest { provider: name.to_owned(), why });
    }
    Ok(Link { socket, path: path.to_owned(), pid })
}

/// The first message, and what came with it.
fn hear(socket: &OwnedFd) -> io::Result<(Message, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let (mut beside, mut bytes) = (RecvAncillaryBuffer::new(&mut space), [0; LEN + 1]);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let heard = rustix::net::recvmsg(socket, &mut slices, &mut beside, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if heard.bytes == 0 && fds.is_empty() {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    if heard.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::other("it sent more descriptors than there can be"));
    }
    let message = Message::decode(&bytes[..heard.bytes.min(LEN + 1)]);
    Ok((message.map_err(io::Error::other)?, fds))
}
