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
    /// A queue has one more area of memory; blocks may be in it from now on.
    Area,
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
        match this.answer(map)? {
            News::Closed => Err(wire(WireError::Closed)),
            _ => Ok(this),
        }
    }

    /// Looks whether gpurx has said something, and does it. A system call: not one per poll.
    ///
    /// # Errors
    /// gpurx sends us away, or what it offers cannot be used.
    pub fn hear(&mut self, map: Map<'_>) -> Result<News, AppError> {
        let mut byte = [0; 1];
        match recv(&self.socket, &mut byte, RecvFlags::DONTWAIT | RecvFlags::PEEK) {
            Ok((_, 0)) => Ok(News::Closed),
            Ok(_) => self.answer(map),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(News::None),
            Err(_) => Ok(News::Closed),
        }
    }

    /// Does what the next message says, and answers. That gpurx has ended meanwhile is no error.
    fn answer(&mut self, map: Map<'_>) -> Result<News, AppError> {
        match self.follow(map) {
            Ok(News::None) => Ok(News::None),
            Ok(news) => match Message::Accept.send(&self.socket, &[]) {
                Err(WireError::Closed) => Ok(News::Closed),
                sent => sent.map(|()| news).map_err(wire),
            },
            Err(Trouble::Wire(WireError::Closed)) => Ok(News::Closed),
            Err(trouble) => {
                let error = AppError::from(trouble);
                // It may be gone already.
                let _ = Message::Refuse(error.to_string()).send(&self.socket, &[]);
                Err(error)
            }
        }
    }

    fn follow(&mut self, map: Map<'_>) -> Result<News, Trouble> {
        let (message, files) = Message::recv(&self.socket)?;
        match message {
            Message::Offer(_) | Message::Pause => {
                self.takers.clear();
                self.takers = offers(&self.socket, (message, files), map)?;
                Ok(News::Changed)
            }
            Message::Add { queue, area } => {
                let (taker, mut files) = (self.taker(queue)?, files.into_iter());
                let (Some(file), None) = (files.next(), files.next()) else {
                    return Err(WireError::Nonsense("an area comes with one file").into());
                };
                let view = map(&area, &file, taker.layout())?;
                taker.payloads_mut().add(area, view);
                Ok(News::Area)
            }
            Message::Remove { queue, first_slot } => {
                self.taker(queue)?.payloads_mut().remove(first_slot);
                Ok(News::None)
            }
            _ => Err(WireError::Nonsense("an offer was due").into()),
        }
    }

    fn taker(&mut self, queue: u64) -> Result<&mut Taker, WireError> {
        let taker = usize::try_from(queue).ok().and_then(|queue| self.takers.get_mut(queue));
        taker.ok_or(WireError::Nonsense("an area is of a queue that there is not"))
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Why a message could not be followed.
enum Trouble {
    Wire(WireError),
    /// Ours.
    Here(AppError),
}

impl From<WireError> for Trouble {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl From<AppError> for Trouble {
    fn from(error: AppError) -> Self {
        Self::Here(error)
    }
}

impl From<Trouble> for AppError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Wire(error) => wire(error),
            Trouble::Here(error) => error,
        }
    }
}

fn wire(error: WireError) -> AppError {
    AppError::failed(error.to_string())
}

/// The offers of all queues, from the first on; none if there is no memory for now.
fn offers(
    socket: &OwnedFd,
    first: (Message, Vec<OwnedFd>),
    map: Map<'_>,
) -> Result<Vec<Taker>, Trouble> {
    let (mut takers, mut first) = (Vec::new(), Some(first));
    loop {
        let next = first.take().map_or_else(|| Message::recv(socket), Ok);
        let (message, files) = next?;
        let offer = match message {
            Message::Offer(offer) => offer,
            Message::Pause if takers.is_empty() => return Ok(takers),
            _ => return Err(WireError::Nonsense("an offer was due").into()),
        };
        if offer.queue != takers.len() as u64 {
            return Err(WireError::Nonsense("offers are out of order").into());
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
