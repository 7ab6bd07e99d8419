//! The socket that consumers come to: who may, what they get, and when they have gone. A thread of its own
//! that sleeps; workers hear of it by mail.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use mempool::{Backing, Device, Pool};
use memwire_apps::{AppError, mailbox};
use providers::{
    SharedWords, shared,
    socket::{self, Listener},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{SocketFlags, accept_with, sockopt::socket_peercred},
};

use super::{
    Layout, Mailbox, Order, Post,
    wire::{Area, AreaKind, MOST_AREAS, Message, Offer, WireError},
};

/// How long a consumer may take for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the end is looked for.
const NAP: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// What a queue offers.
pub(crate) struct Queue {
    layout: Layout,
    areas: Vec<(Area, Arc<OwnedFd>)>,
    post: Post,
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
        let passed = areas.iter().map(|area| {
            let (kind, fd, offset) = named(&area.provider, area.region.backing())?;
            #[expect(clippy::cast_possible_truncation, reason = "slots are numbered by a u32")]
            let slots = area.slots as u32;
            Ok((Area { kind, first_slot: area.first_slot, slots, offset }, fd))
        });
        let areas = passed.collect::<Result<Vec<_>, AppError>>()?;
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
    attached: AtomicU64,
    refused: AtomicU64,
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

/// The thread, and its socket. Dropping it ends both.
pub struct Server {
    visits: Arc<Visits>,
    ends: Arc<AtomicBool>,
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
        let (visits, ends) = (Arc::new(Visits::default()), Arc::new(AtomicBool::new(false)));
        let mut desk =
            Desk { listener, queues, visits: Arc::clone(&visits), client: None, generation: 0 };
        let is_over = Arc::clone(&ends);
        let body = move || {
            while !is_over.load(Ordering::Acquire) {
                desk.wait();
            }
        };
        let thread = thread::Builder::new().name("gpurx hand-over".into()).spawn(body)?;
        Ok(Self { visits, ends, thread: Some(thread), path: path.to_owned() })
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who came.
    #[must_use]
    pub fn visits(&self) -> &Visits {
        &self.visits
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Release: nothing depends on it but the end.
        self.ends.store(true, Ordering::Release);
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

/// What the thread works with.
struct Desk {
    listener: Listener,
    queues: Vec<Queue>,
    visits: Arc<Visits>,
    client: Option<OwnedFd>,
    generation: u16,
}

impl Desk {
    /// Waits for somebody to come or go, and sees to it.
    fn wait(&mut self) {
        let mut watched = vec![PollFd::new(&self.listener, PollFlags::IN)];
        watched.extend(self.client.iter().map(|client| PollFd::new(client, PollFlags::IN)));
        if poll(&mut watched, Some(&NAP)).is_err() {
            return;
        }
        let came = watched[0].revents().intersects(PollFlags::IN);
        // A consumer has nothing more to say: whatever happens there is its end.
        let went = watched.get(1).is_some_and(|client| !client.revents().is_empty());
        drop(watched);
        if went {
            self.client = None;
            self.tell(|_| Order::Detach);
        }
        if came {
            match accept_with(&self.listener, SocketFlags::CLOEXEC) {
                Ok(socket) => self.meet(socket),
                Err(error) => eprintln!("--consumer: accept: {error}"),
            }
        }
    }

    fn tell(&self, order: impl Fn(usize) -> Order) {
        for (index, queue) in self.queues.iter().enumerate() {
            // A worker that has ended wants no orders.
            let _ended = queue.post.send(order(index));
        }
    }

    fn meet(&mut self, socket: OwnedFd) {
        let rings = self.check(&socket).and_then(|()| self.offer(&socket));
        match rings {
            Ok(rings) => {
                self.visits.attached.fetch_add(1, Ordering::Relaxed);
                self.client = Some(socket);
                for (queue, (words, layout)) in self.queues.iter().zip(rings) {
                    let _ended = queue.post.send(Order::Attach(words, layout));
                }
            }
            Err(error) => {
                self.visits.refused.fetch_add(1, Ordering::Relaxed);
                eprintln!("--consumer: a consumer was sent away: {error}");
                // It may be gone already.
                let _ = Message::Refuse(error.to_string()).send(&socket, &[]);
            }
        }
    }

    /// Whether it may come, and speaks our language.
    fn check(&self, socket: &OwnedFd) -> Result<(), AppError> {
        let failed = |what: &str, error: rustix::io::Errno| {
            AppError::failed(format!("{what}: {}", io::Error::from(error)))
        };
        socket::limit(socket, PATIENCE).map_err(|error| failed("setsockopt", error))?;
        // First of all: a socket that is closed with something unread takes our answer with it.
        let greeting = Message::recv(socket);
        let peer = socket_peercred(socket).map_err(|error| failed("SO_PEERCRED", error))?;
        let us = rustix::process::geteuid();
        if peer.uid != us {
            let (theirs, ours) = (peer.uid.as_raw(), us.as_raw());
            return Err(AppError::failed(format!(
                "the consumer runs as user {theirs}, gpurx as user {ours}: rows are for one user"
            )));
        }
        if self.client.is_some() {
            return Err(AppError::failed("another consumer is attached; there is one at a time"));
        }
        match greeting {
            Ok((Message::Greet, _)) => Ok(()),
            Ok(_) => Err(AppError::failed(WireError::Nonsense("a greeting was due").to_string())),
            Err(error) => Err(AppError::failed(error.to_string())),
        }
    }

    /// Makes rings of a new generation, and hands them over with the memory.
    fn offer(&mut self, socket: &OwnedFd) -> Result<Vec<(SharedWords, Layout)>, AppError> {
        let failed = |error: WireError| AppError::failed(error.to_string());
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        let queues = self.queues.len() as u64;
        let mut rings = Vec::with_capacity(self.queues.len());
        for (number, queue) in (0u64..).zip(&self.queues) {
            let layout = Layout { generation: self.generation, ..queue.layout };
            let words = SharedWords::create("hand-over", layout.words())
                .map_err(|error| AppError::failed(format!("the ring: {error}")))?;
            layout.write(&words);
            let areas = queue.areas.iter().map(|(area, _)| *area).collect();
            let offer = Offer { queue: number, queues, layout, areas };
            let files = queue.areas.iter().map(|(_, file)| file.as_fd());
            let files: Vec<_> = [words.file()].into_iter().chain(files).collect();
            Message::Offer(offer).send(socket, &files).map_err(failed)?;
            rings.push((words, layout));
        }
        match Message::recv(socket) {
            Ok((Message::Accept, _)) => Ok(rings),
            Ok(_) => Err(failed(WireError::Nonsense("an answer to the offer was due"))),
            Err(error) => Err(failed(error)),
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.client = None;
        self.tell(|_| Order::Detach);
    }
}
