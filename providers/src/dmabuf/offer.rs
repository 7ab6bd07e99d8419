//! An exporter's end: a dma-buf is handed to every process of this user that connects to a socket, and each
//! connection stays until one of both ends. Knows nothing of what importers do with it.

use std::{
    io::{self, ErrorKind, IoSlice},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::Arc,
    time::Duration,
};

use mempool::ProviderError;
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
    net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags},
};

use super::{Buffer, link, message::Message};
use crate::socket::{self, Listener};

/// A buffer at the path of a socket, until it is dropped.
#[derive(Debug)]
pub struct Offer {
    buffer: Arc<Buffer>,
    listener: Listener,
    importers: Vec<Importer>,
}

/// A process that has the buffer.
#[derive(Debug)]
struct Importer {
    pid: i32,
    socket: OwnedFd,
}

/// What became of an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A process has it.
    Taken {
        /// Which.
        pid: i32,
    },
    /// A process did not get it.
    Refused {
        /// Which.
        pid: i32,
        /// Why.
        why: String,
    },
    /// A process that had it has ended, or let it go.
    Left {
        /// Which.
        pid: i32,
    },
}

impl Offer {
    /// Offers a buffer at a path, to processes of this user and to root. What an exporter that died left there is
    /// replaced.
    ///
    /// # Errors
    /// Something else is there, the folder cannot be written, or a pool of this process is alone with the buffer.
    pub fn new(buffer: &Arc<Buffer>, path: &Path) -> Result<Self, ProviderError> {
        let failed = |source: io::Error| {
            let hint = match source.kind() {
                ErrorKind::NotFound => "the folder is not there",
                ErrorKind::AddrInUse => {
                    "another process offers there, or it is no socket: name another path"
                }
                _ => "",
            };
            ProviderError::System {
                provider: buffer.name().to_owned(),
                what: format!("offering at {}", path.display()),
                source,
                hint: hint.into(),
            }
        };
        buffer.share()?;
        let listener = Listener::open(path).map_err(failed)?;
        // `serve` asks when there may be nobody.
        rustix::io::ioctl_fionbio(&listener, true).map_err(|error| failed(error.into()))?;
        Ok(Self { buffer: Arc::clone(buffer), listener, importers: Vec::new() })
    }

    /// Where it is offered.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.listener.path()
    }

    /// Processes that have it.
    #[must_use]
    pub fn importers(&self) -> usize {
        self.importers.len()
    }

    /// Hands the buffer to who connects, and looks who left, for `limit` at most.
    ///
    /// # Errors
    /// The system refused to wait.
    pub fn serve(&mut self, limit: Duration) -> Result<Vec<Event>, ProviderError> {
        if !self.wait(limit).map_err(|source| self.failed(source))? {
            return Ok(Vec::new());
        }
        let mut events = Vec::new();
        self.importers.retain(|importer| {
            let is_here = importer.is_here();
            if !is_here {
                events.push(Event::Left { pid: importer.pid });
            }
            is_here
        });
        let accepted = rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC);
        match accepted
            .map_err(io::Error::from)
            .and_then(|socket| Ok((link::peer(&socket)?, socket)))
        {
            Ok((who, socket)) => events.push(self.hand_over(socket, who)),
            // Nobody; or who wanted it has gone again, or signals came: the next round finds out.
            Err(error) => tracing::trace!(%error, "nobody connected"),
        }
        Ok(events)
    }

    /// Whether something is to be done.
    fn wait(&self, limit: Duration) -> io::Result<bool> {
        let sockets = self.importers.iter().map(|importer| importer.socket.as_fd());
        let sockets = [self.listener.as_fd()].into_iter().chain(sockets);
        let mut sockets: Vec<_> =
            sockets.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
        match rustix::event::poll(&mut sockets, Some(&limit)) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn hand_over(&mut self, socket: OwnedFd, (pid, uid): (i32, u32)) -> Event {
        if !link::is_trusted(uid) {
            return Event::Refused { pid, why: format!("it is user {uid}'s") };
        }
        let sent =
            socket::limit(&socket, link::PATIENCE).and_then(|()| send(&socket, &self.buffer));
        if let Err(error) = sent {
            return Event::Refused { pid, why: error.to_string() };
        }
        self.importers.push(Importer { pid, socket });
        Event::Taken { pid }
    }

    fn failed(&self, source: io::Error) -> ProviderError {
        ProviderError::System {
            provider: self.buffer.name().to_owned(),
            what: format!("serving {}", self.listener.path().display()),
            source,
            hint: String::new(),
        }
    }
}

impl Importer {
    /// Whether it still has the connection open. What it says is not for us.
    fn is_here(&self) -> bool {
        let mut bytes = [0; 64];
        match rustix::net::recv(&self.socket, &mut bytes, RecvFlags::DONTWAIT) {
            Ok((0, _)) => false,
            Ok(_) => true,
            Err(error) => matches!(error, Errno::AGAIN | Errno::INTR),
        }
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        for importer in &self.importers {
            // Who does not hear it sees the connection close.
            let bytes = Message::TakenBack.encode();
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            let _ = rustix::net::send(&importer.socket, &bytes, flags);
        }
    }
}

fn send(socket: &OwnedFd, buffer: &Buffer) -> rustix::io::Result<()> {
    let memory = buffer.memory();
    let here = Message::Here {
        bytes: buffer.bytes(),
        page: u32::try_from(buffer.page_size()).unwrap_or_default(),
        has_memory: memory.is_some(),
        name: buffer.name().to_owned(),
    };
    let mut fds: Vec<BorrowedFd<'_>> = vec![buffer.fd().as_fd()];
    fds.extend(memory.map(|memory| memory.as_fd()));
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    // There is room for both.
    let has_room = beside.push(SendAncillaryMessage::ScmRights(&fds));
    debug_assert!(has_room, "{} descriptors", fds.len());
    let bytes = here.encode();
    rustix::net::sendmsg(socket, &[IoSlice::new(&bytes)], &mut beside, SendFlags::NOSIGNAL)?;
    Ok(())
}
