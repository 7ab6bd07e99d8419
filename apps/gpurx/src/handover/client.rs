//! How a consumer gets its rings: connects, greets, maps what it is offered, accepts.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    time::Duration,
};

use memwire_apps::AppError;
use providers::{SharedView, SharedWords, socket};
use rustix::net::{RecvFlags, recv};

use super::{
    Layout, Taker,
    taker::Payloads,
    wire::{Area, Message, Offer, WireError, system},
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection to gpurx, and a ring per queue. Closing it gives everything back.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    /// The rings.
    pub takers: Vec<Taker>,
}

/// Maps an area of payload memory from the file that came with it.
pub type Map<'a> = &'a dyn Fn(&Area, &OwnedFd, &Layout) -> Result<SharedView, AppError>;

/// Connects to `path`.
///
/// # Errors
/// Nobody listens there.
pub fn dial(path: &Path) -> Result<OwnedFd, WireError> {
    let socket = socket::connect(path).map_err(system("connect"))?;
    socket::limit(&socket, PATIENCE).map_err(system("setsockopt"))?;
    Ok(socket)
}

impl Connection {
    /// Greets, and takes what is offered; `map` maps payload memory. What cannot be taken is refused,
    /// which gpurx is told too.
    ///
    /// # Errors
    /// gpurx refuses, or what it offers cannot be used.
    pub fn open(socket: OwnedFd, map: Map<'_>) -> Result<Self, AppError> {
        let wire = |error: WireError| AppError::failed(error.to_string());
        Message::Greet.send(&socket, &[]).map_err(wire)?;
        let mut takers = Vec::new();
        loop {
            let taken = Message::recv(&socket).map_err(wire).and_then(|(message, files)| {
                let Message::Offer(offer) = message else {
                    return Err(wire(WireError::Nonsense("an offer was due")));
                };
                if offer.queue != takers.len() as u64 {
                    return Err(wire(WireError::Nonsense("offers are out of order")));
                }
                Ok((taker(&offer, files, map)?, offer.queues))
            });
            match taken {
                Ok((taker, queues)) => {
                    takers.push(taker);
                    if takers.len() as u64 == queues {
                        break;
                    }
                }
                Err(error) => {
                    // It may be gone already.
                    let _ = Message::Refuse(error.to_string()).send(&socket, &[]);
                    return Err(error);
                }
            }
        }
        Message::Accept.send(&socket, &[]).map_err(wire)?;
        Ok(Self { socket, takers })
    }

    /// Whether gpurx has closed the connection, or is gone. A system call: not one per poll.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        let mut byte = [0; 1];
        match recv(&self.socket, &mut byte, RecvFlags::DONTWAIT | RecvFlags::PEEK) {
            Ok((_, 0)) => true,
            Ok(_) => false,
            Err(error) => error != rustix::io::Errno::AGAIN && error != rustix::io::Errno::INTR,
        }
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn taker(offer: &Offer, files: Vec<OwnedFd>, map: Map<'_>) -> Result<Taker, AppError> {
    let failed = |what: &str, why: &dyn std::fmt::Display| {
        AppError::failed(format!("queue {}: {what}: {why}", offer.queue))
    };
    let mut files = files.into_iter();
    let ring = files.next().ok_or_else(|| failed("the ring", &"no file came with the offer"))?;
    if files.len() != offer.areas.len() {
        return Err(failed("payload memory", &"not a file per area came with the offer"));
    }
    let words = SharedWords::open(ring).map_err(|error| failed("the ring", &error))?;
    let mut areas = Vec::with_capacity(offer.areas.len());
    for (area, file) in offer.areas.iter().zip(files) {
        areas.push((*area, map(area, &file, &offer.layout)?));
    }
    let payloads = Payloads::new(areas, offer.layout.stride);
    Taker::new(words, offer.layout, payloads).map_err(|error| failed("the ring", &error))
}
