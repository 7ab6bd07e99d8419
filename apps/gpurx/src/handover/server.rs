//! The socket that consumers come to, as the rest of the program sees it: what queues offer, and a thread of its
//! own that sleeps, and does what `desk` says.

use std::{
    cell::Cell,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use mempool::{AreaInfo, Backing, Device, Pool};
use memwire_apps::{AppError, mailbox};
use providers::{shared, socket::Listener};
use rustix::event::{EventfdFlags, eventfd};

use super::{
    Layout, Mailbox, Post,
    desk::{Command, Desk},
    wire::{Area, AreaKind, MOST_AREAS},
};
use crate::errand::Ticket;

/// What a queue offers.
pub(crate) struct Queue {
    pub(super) layout: Layout,
    pub(super) areas: Vec<(Area, Arc<OwnedFd>)>,
    pub(super) post: Post,
}

impl Queue {
    /// A queue whose payloads are in that pool, and the mailbox of its worker. Of `layout` all is taken
    /// but the generation, the slots and the stride.
    ///
    /// # Errors
    /// The pool's memory cannot be passed to another process; the message says which can.
    pub(crate) fn new(pool: &Pool<Device>, layout: Layout) -> Result<(Self, Mailbox), AppError> {
        let areas = pool.areas();
        if areas.len() > MOST_AREAS {
            let why = format!("--consumer: the payload pool has {} areas", areas.len());
            return Err(AppError::usage(why).hint(format!("{MOST_AREAS} at most can be passed")));
        }
        let areas = areas.iter().map(passed).collect::<Result<Vec<_>, AppError>>()?;
        let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let (slots, stride) = (narrow(pool.slot_bound()), narrow(pool.stride()));
        let layout = Layout { slots, stride, ..layout };
        check_ring(&layout)?;
        let (post, orders) = mailbox::mailbox();
        Ok((Self { layout, areas, post }, orders))
    }
}

/// Whether there can be such a ring, whatever its generation.
///
/// # Errors
/// A number is out of range.
pub(crate) fn check_ring(layout: &Layout) -> Result<(), AppError> {
    match Layout::of(Layout { generation: 1, ..*layout }.numbers()) {
        Ok(_) => Ok(()),
        Err(error) => Err(AppError::usage(format!("--consumer: {error}"))),
    }
}

/// An area as another process is given it.
fn passed(area: &AreaInfo) -> Result<(Area, Arc<OwnedFd>), AppError> {
    let (kind, fd, offset) = named(&area.provider, area.region.backing())?;
    #[expect(clippy::cast_possible_truncation, reason = "slots are numbered by a u32")]
    let slots = area.slots as u32;
    Ok((Area { kind, first_slot: area.first_slot, slots, offset }, fd))
}

/// What another process can be given, and where the region starts in it.
fn named(provider: &str, backing: Backing) -> Result<(AreaKind, Arc<OwnedFd>, u64), AppError> {
    let cannot = |what: &str| {
        let why = format!("--consumer: payload memory '{provider}' is {what}");
        AppError::missing(why).hint("-m fake, -m hugepage and dma-bufs can be passed on")
    };
    match backing {
        Backing::Memfd { fd, offset } => {
            let file = shared::read_only(&fd).map_err(|error| {
                cannot(&format!("a memory file that is not to be had: {error}"))
            })?;
            Ok((AreaKind::Memfd, Arc::new(file), offset))
        }
        Backing::DmaBuf { fd, offset, .. } => Ok((AreaKind::DmaBuf, fd, offset)),
        Backing::Bar { export: Some(fd), offset, .. } => Ok((AreaKind::Bar, fd, offset)),
        Backing::Bar { address, index, .. } => Err(cannot(&format!(
            "BAR {index} of {address}, of which there is no dma-buf to pass to another process"
        ))),
        Backing::Anonymous => {
            Err(cannot("anonymous memory, which has no name that another process could be given"))
        }
        other => Err(cannot(&format!("{}, which cannot be passed", other.name()))),
    }
}

/// Consumers there were.
#[derive(Debug, Default)]
pub struct Visits {
    pub(super) attached: AtomicU64,
    pub(super) refused: AtomicU64,
}

impl Visits {
    /// Consumers that were shown blocks.
    #[must_use]
    pub fn attached(&self) -> u64 {
        self.attached.load(Ordering::Relaxed)
    }

    /// Those that were sent away.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// What the thread and others both see.
pub(super) struct Shared {
    pub(super) visits: Visits,
    /// Wakes the thread.
    pub(super) bell: OwnedFd,
    ends: AtomicBool,
    /// Whether a consumer is there.
    pub(super) has_client: AtomicBool,
    /// Changes of memory that every consumer knows of, and has given up earlier memory for.
    pub(super) settled: AtomicU64,
}

/// The thread, and its socket. Dropping it ends both.
pub struct Server {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    /// Changes of memory so far.
    renewed: Cell<u64>,
    thread: Option<JoinHandle<()>>,
    path: PathBuf,
}

impl Server {
    /// Listens at `path`, for consumers of this user.
    ///
    /// # Errors
    /// The path cannot be, or somebody listens there.
    pub(crate) fn start(path: &Path, queues: Vec<Queue>) -> Result<Self, AppError> {
        let listener = open(path)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let bell =
            bell.map_err(|error| AppError::failed(format!("--consumer: eventfd: {error}")))?;
        let shared = Arc::new(Shared {
            visits: Visits::default(),
            bell,
            ends: AtomicBool::new(false),
            has_client: AtomicBool::new(false),
            settled: AtomicU64::new(0),
        });
        let (commands, orders) = mpsc::channel();
        let seen = Arc::clone(&shared);
        let mut desk = Desk::new(listener, queues, orders, Arc::clone(&shared));
        let body = move || {
            while !seen.ends.load(Ordering::Acquire) {
                desk.wait();
            }
        };
        let thread = thread::Builder::new().name("gpurx hand-over".into()).spawn(body)?;
        let (thread, path) = (Some(thread), path.to_owned());
        Ok(Self { shared, commands, renewed: Cell::new(0), thread, path })
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who came.
    #[must_use]
    pub fn visits(&self) -> &Visits {
        &self.shared.visits
    }

    /// Whether a consumer is there now.
    pub(crate) fn has_client(&self) -> bool {
        self.shared.has_client.load(Ordering::Acquire)
    }

    /// Whether no consumer reads memory of before the last change any more: it has accepted what came later, or
    /// is gone. Who does not answer is sent away in time.
    pub(crate) fn is_settled(&self) -> bool {
        // Acquire: pairs with the thread's store.
        self.shared.settled.load(Ordering::Acquire) == self.renewed.get()
    }

    /// The memory of all queues is another: consumers are offered that. None for now if there are no queues.
    pub(crate) fn renew(&self, queues: Vec<Queue>) {
        self.renewed.set(self.renewed.get() + 1);
        self.command(Command::Renew(queues));
    }

    /// An area has come to a queue's memory: consumers are given it too. What names its slots is shown only when
    /// the ticket says that whoever is there has mapped it.
    ///
    /// # Errors
    /// It cannot be passed to another process.
    pub(crate) fn add(&self, queue: usize, area: &AreaInfo) -> Result<Ticket, AppError> {
        let ticket = Ticket::default();
        let (area, file) = passed(area)?;
        self.command(Command::Add { queue, area, file, ticket: ticket.clone() });
        Ok(ticket)
    }

    /// The area that began with that slot has gone, and no block is in it.
    pub(crate) fn remove(&self, queue: usize, first_slot: u32) {
        self.command(Command::Remove { queue, first_slot });
    }

    fn command(&self, command: Command) {
        // It ends with us.
        let _ = self.commands.send(command);
        let _ = rustix::io::write(&self.shared.bell, &1u64.to_ne_bytes());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Release: nothing depends on it but the end.
        self.shared.ends.store(true, Ordering::Release);
        let _ = rustix::io::write(&self.shared.bell, &1u64.to_ne_bytes());
        // A panic in there was printed; what it leaves is cleaned up here.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Makes the socket, in the place of one that nobody listens at any more.
fn open(path: &Path) -> Result<Listener, AppError> {
    Listener::open(path).map_err(|error| {
        let name = path.display();
        match error.kind() {
            io::ErrorKind::InvalidFilename => {
                AppError::usage(format!("--consumer {name}: longer than 107 bytes"))
            }
            io::ErrorKind::AddrInUse => AppError::missing(format!("--consumer {name}: {error}"))
                .hint("another gpurx listens there, or it is no socket: name another path"),
            _ => AppError::missing(format!("--consumer {name}: {error}")),
        }
    })
}
