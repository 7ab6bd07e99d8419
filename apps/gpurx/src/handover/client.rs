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

/// What has become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Nothing.
    None,
    /// Payload memory is another: [`Connection::takers`] are new, and none for now if there is no memory. Blocks
    /// of before are not to be returned any more.
    Changed,
    /// gpurx has closed it, or is gone. What is ready can be taken still.
    Closed,
}

impl Connection {
    /// Greets, and takes what is offered; `map` maps payload memory. What cannot be taken is refused,
    /// which gpurx is told too.
    ///
    /// # Errors
    /// gpurx refuses, or what it offers cannot be used.
    pub fn open(socket: OwnedFd, map: Map<'_>) -> Result<Self, AppError> {
        Message::Greet.send(&socket, &[]).map_err(wire)?;
        let mut this = Self { socket, takers: Vec::new() };
        this.answer(map)?;
        Ok(this)
    }

    /// Looks whether gpurx has said something, and does it. A system call: not one per poll.
    ///
    /// # Errors
    /// gpurx sends us away, or what it offers cannot be used.
    pub fn hear(&mut self, map: Map<'_>) -> Result<News, AppError> {
        let mut byte = [0; 1];
        match recv(&self.socket, &mut byte, RecvFlags::DONTWAIT | RecvFlags::PEEK) {
            Ok((_, 0)) => Ok(News::Closed),
            Ok(_) => self.answer(map).map(|()| News::Changed),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(News::None),
            Err(_) => Ok(News::Closed),
        }
    }

    /// Takes the next offer, or gives up what there is, and says so.
    fn answer(&mut self, map: Map<'_>) -> Result<(), AppError> {
        self.takers.clear();
        match offers(&self.socket, map) {
            Ok(takers) => self.takers = takers,
            Err(error) => {
                // It may be gone already.
                let _ = Message::Refuse(error.to_string()).send(&self.socket, &[]);
                return Err(error);
            }
        }
        Message::Accept.send(&self.socket, &[]).map_err(wire)
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn wire(error: WireError) -> AppError {
    AppError::failed(error.to_string())
}

/// The offers of all queues; none if there is no memory for now.
fn offers(socket: &OwnedFd, map: Map<'_>) -> Result<Vec<Taker>, AppError> {
    let mut takers = Vec::new();
    loop {
        let (message, files) = Message::recv(socket).map_err(wire)?;
        let offer = match message {
            Message::Offer(offer) => offer,
            Message::Pause if takers.is_empty() => return Ok(takers),
            _ => return Err(wire(WireError::Nonsense("an offer was due"))),
        };
        if offer.queue != takers.len() as u64 {
            return Err(wire(WireError::Nonsense("offers are out of order")));
        }
        takers.push(taker(&offer, files, map)?);
        if takers.len() as u64 == offer.queues {
            return Ok(takers);
        }
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
