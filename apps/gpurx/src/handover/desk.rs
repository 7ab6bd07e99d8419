//! What the thread behind the socket does: meets who comes, offers the memory there is, hears answers, and sees
//! who has gone. One consumer at a time. Workers hear of it by mail; nobody waits for a consumer but this.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, atomic::Ordering, mpsc},
    time::{Duration, Instant},
};

use memwire_apps::AppError;
use providers::{
    SharedWords,
    socket::{self, Listener},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{SocketFlags, accept_with, sockopt::socket_peercred},
};

use super::{
    Layout, Order,
    server::{Queue, Shared},
    wire::{Area, Message, Offer, WireError},
};
use crate::errand::Ticket;

/// How long a consumer may take for its first answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long one that is busy with a block may take to give up old memory, which is not used again until then.
const LONG_PATIENCE: Duration = Duration::from_secs(10);
/// How often the end, and answers that are late, are looked for.
const NAP: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// What the thread is told.
pub(super) enum Command {
    /// The memory of all queues is another; none for now if there are no queues.
    Renew(Vec<Queue>),
    /// An area has come to a queue.
    Add {
        queue: usize,
        area: Area,
        file: Arc<OwnedFd>,
        /// Is closed when whoever is there has mapped it.
        ticket: Ticket,
    },
    /// An area has gone.
    Remove { queue: usize, first_slot: u32 },
}

/// An answer that a consumer owes.
enum Owed {
    /// To an offer with these rings.
    Offer(Vec<(SharedWords, Layout)>),
    /// To a pause.
    Pause,
    /// To an area.
    Area(Ticket),
}

impl Owed {
    /// Whether memory that was given up before waits for it.
    fn is_pressing(&self) -> bool {
        !matches!(self, Self::Area(_))
    }
}

/// Who is there.
struct Client {
    socket: OwnedFd,
    /// In the order in which they will come.
    owed: VecDeque<(Owed, Instant)>,
    /// Whether it has accepted an offer.
    has_accepted: bool,
}

/// What the thread works with.
pub(super) struct Desk {
    listener: Listener,
    commands: mpsc::Receiver<Command>,
    shared: Arc<Shared>,
    queues: Vec<Queue>,
    client: Option<Client>,
    generation: u16,
    /// Changes of memory seen to.
    renewed: u64,
}

impl Desk {
    pub(super) fn new(
        listener: Listener,
        queues: Vec<Queue>,
        commands: mpsc::Receiver<Command>,
        shared: Arc<Shared>,
    ) -> Self {
        Self { listener, commands, shared, queues, client: None, generation: 0, renewed: 0 }
    }

    /// Waits for something to happen, and sees to it.
    pub(super) fn wait(&mut self) {
        let mut watched = vec![
            PollFd::new(&self.listener, PollFlags::IN),
            PollFd::new(&self.shared.bell, PollFlags::IN),
        ];
        watched.extend(self.client.iter().map(|client| PollFd::new(&client.socket, PollFlags::IN)));
        if poll(&mut watched, Some(&NAP)).is_err() {
            return;
        }
        let is_set = |at: usize| watched.get(at).is_some_and(|fd| !fd.revents().is_empty());
        let (came, rang) = (is_set(0), is_set(1));
        drop(watched);
        if rang {
            // It counts how often it was rung; the commands are in the queue.
            let _ = rustix::io::read(&self.shared.bell, &mut [0; 8]);
            while let Ok(command) = self.commands.try_recv() {
                self.follow(command);
            }
        }
        // All of it: who comes now finds the place of one that has answered and gone free.
        while self.has_spoken() {
            self.hear();
        }
        if came {
            match accept_with(&self.listener, SocketFlags::CLOEXEC) {
                Ok(socket) => self.meet(socket),
                Err(error) => eprintln!("--consumer: accept: {error}"),
            }
        }
        self.send_away_who_is_late();
        self.settle();
    }

    fn tell(&self, order: impl Fn(usize) -> Order) {
        for (index, queue) in self.queues.iter().enumerate() {
            // A worker that has ended, or has other memory by now, wants no orders.
            let _ended = queue.post.send(order(index));
        }
    }

    fn follow(&mut self, command: Command) {
        match command {
            Command::Renew(queues) => {
                self.queues = queues;
                self.renewed += 1;
                if self.client.is_none() {
                    // Who was there when memory changed has gone meanwhile.
                    self.tell(|_| Order::Detach);
                } else if let Err(error) = self.offer() {
                    self.send_away(&error);
                }
            }
            Command::Add { queue, area, file, ticket } => self.add(queue, (area, file), ticket),
            Command::Remove { queue, first_slot } => {
                let Some(known) = self.queues.get_mut(queue) else { return };
                known.areas.retain(|(area, _)| area.first_slot != first_slot);
                let message = Message::Remove { queue: queue as u64, first_slot };
                // Nothing that is shown is there: who does not hear of it keeps a mapping too many.
                let client = self.client.as_ref();
                let _ = client.map(|client| message.send(&client.socket, &[]));
            }
        }
    }

    fn add(&mut self, queue: usize, (area, file): (Area, Arc<OwnedFd>), ticket: Ticket) {
        let Some(known) = self.queues.get_mut(queue) else { return ticket.close(false) };
        known.areas.push((area, Arc::clone(&file)));
        let Some(client) = &mut self.client else { return ticket.close(true) };
        let message = Message::Add { queue: queue as u64, area };
        match message.send(&client.socket, &[file.as_fd()]) {
            Ok(()) => client.owed.push_back((Owed::Area(ticket), Instant::now())),
            Err(error) => {
                self.send_away(&failed(&error));
                ticket.close(true);
            }
        }
    }

    /// Says whether every consumer has given up all memory but the one there is now.
    fn settle(&self) {
        let mut owed = self.client.iter().flat_map(|client| &client.owed);
        if !owed.any(|(owed, _)| owed.is_pressing()) {
            // Release: what was given up is not read any more.
            self.shared.settled.store(self.renewed, Ordering::Release);
        }
        self.shared.has_client.store(self.client.is_some(), Ordering::Release);
    }

    fn has_spoken(&self) -> bool {
        let Some(client) = &self.client else { return false };
        let mut watched = [PollFd::new(&client.socket, PollFlags::IN)];
        poll(&mut watched, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// The consumer has answered, or is gone.
    fn hear(&mut self) {
        let Some(client) = &mut self.client else { return };
        let answer = match Message::recv(&client.socket) {
            Ok((Message::Accept, _)) => client.owed.pop_front(),
            Ok(_) => None,
            Err(error) => return self.lose(&error),
        };
        match answer {
            Some((Owed::Offer(rings), _)) => {
                if !client.has_accepted {
                    client.has_accepted = true;
                    self.shared.visits.attached.fetch_add(1, Ordering::Relaxed);
                }
                // An offer behind it is the one that counts.
                if !client.owed.iter().any(|(owed, _)| owed.is_pressing()) {
                    for (queue, (words, layout)) in self.queues.iter().zip(rings) {
                        let _ended = queue.post.send(Order::Attach(words, layout));
                    }
                }
            }
            Some((Owed::Pause, _)) => {}
            Some((Owed::Area(ticket), _)) => ticket.close(true),
            None => {
                self.send_away(&failed(&WireError::Nonsense("an answer that nobody waited for")));
            }
        }
    }

    /// The consumer has closed, or said that it will not.
    fn lose(&mut self, error: &WireError) {
        if let Some(Client { has_accepted: false, .. }) = self.client {
            self.refuse_count(error);
        }
        self.forget();
    }

    fn forget(&mut self) {
        for (owed, _) in self.client.take().into_iter().flat_map(|client| client.owed) {
            if let Owed::Area(ticket) = owed {
                // Nobody is there who would have to know.
                ticket.close(true);
            }
        }
        self.tell(|_| Order::Detach);
    }

    fn refuse_count(&self, why: &dyn std::fmt::Display) {
        self.shared.visits.refused.fetch_add(1, Ordering::Relaxed);
        eprintln!("--consumer: a consumer was sent away: {why}");
    }

    /// Tells the consumer why, and that is its end.
    fn send_away(&mut self, why: &AppError) {
        if let Some(client) = &self.client {
            let told = Message::Refuse(why.to_string()).send(&client.socket, &[]);
            // One that was attached, and has gone by itself just now, was not sent away.
            if !client.has_accepted || !matches!(told, Err(WireError::Closed)) {
                self.refuse_count(why);
            }
        }
        self.forget();
    }

    fn send_away_who_is_late(&mut self) {
        let Some(client) = &self.client else { return };
        let patience = if client.has_accepted { LONG_PATIENCE } else { PATIENCE };
        let mut pressing = client.owed.iter().filter(|(owed, _)| owed.is_pressing());
        if pressing.any(|(_, since)| since.elapsed() > patience) {
            let why = format!("no answer to an offer within {} s", patience.as_secs());
            self.send_away(&AppError::failed(why));
        }
    }

    fn meet(&mut self, socket: OwnedFd) {
        if let Err(error) = self.check(&socket) {
            let _ = Message::Refuse(error.to_string()).send(&socket, &[]);
            return self.refuse_count(&error);
        }
        self.client = Some(Client { socket, owed: VecDeque::new(), has_accepted: false });
        if let Err(error) = self.offer() {
            self.send_away(&error);
        }
    }

    /// Whether it may come, and speaks our language.
    fn check(&self, socket: &OwnedFd) -> Result<(), AppError> {
        let system = |what: &str, error: rustix::io::Errno| {
            AppError::failed(format!("{what}: {}", io::Error::from(error)))
        };
        socket::limit(socket, PATIENCE).map_err(|error| system("setsockopt", error))?;
        // First of all: a socket that is closed with something unread takes our answer with it.
        let greeting = Message::recv(socket);
        let peer = socket_peercred(socket).map_err(|error| system("SO_PEERCRED", error))?;
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
            Ok(_) => Err(failed(&WireError::Nonsense("a greeting was due"))),
            Err(error) => Err(failed(&error)),
        }
    }

    /// Makes rings of a new generation, and hands them over with the memory; says that there is none for now
    /// if so.
    fn offer(&mut self) -> Result<(), AppError> {
        let Some(client) = &mut self.client else { return Ok(()) };
        let queues = self.queues.len() as u64;
        if queues == 0 {
            Message::Pause.send(&client.socket, &[]).map_err(|error| failed(&error))?;
            client.owed.push_back((Owed::Pause, Instant::now()));
            return Ok(());
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
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
            let sent = Message::Offer(offer).send(&client.socket, &files);
            sent.map_err(|error| failed(&error))?;
            rings.push((words, layout));
        }
        client.owed.push_back((Owed::Offer(rings), Instant::now()));
        Ok(())
    }
}

fn failed(error: &WireError) -> AppError {
    AppError::failed(error.to_string())
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.forget();
    }
}
