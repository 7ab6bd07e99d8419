//! What is said over the socket before the first block: a datagram per message, of little-endian 64-bit
//! words, with the files beside it. Unix sockets of type SEQPACKET keep messages whole and in order, and
//! tell each end when the other has gone.
//!
//! ```text
//!   consumer                          gpurx
//!   greet (version)        -->
//!                          <--        offer: queue i of n, its ring, its areas, and their files; n times
//!   accept                 -->
//! ```
//!
//! When the payload memory changes, gpurx offers again, or says `pause` if there is none for now. Each is answered
//! by `accept`, which gives up all that was offered before. An area that comes to a queue is told by `add`, with its
//! file, and answered by `accept` too; that it has gone, by `remove`, which is not answered. Either may say `refuse` with a text instead, and close.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::layout::{Layout, LayoutError, VERSION};

/// First word of each message.
const MAGIC: u64 = 0x6d65_6d77_6861_6e64;
/// Areas of a pool that can be passed.
pub const MOST_AREAS: usize = 8;
/// Queues that can be passed.
pub const MOST_QUEUES: u64 = 1024;
/// Bytes of a message.
const LONGEST: usize = 2048;
/// Bytes of a refusal's text.
const LONGEST_TEXT: usize = 1024;

/// The conversation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The other end has closed.
    #[error("the other end closed the connection")]
    Closed,
    /// It says why it will not.
    #[error("refused: {0}")]
    Refused(String),
    /// It speaks another version.
    #[error(
        "the other end speaks version {theirs} of the hand-over; this program speaks {VERSION}"
    )]
    Version {
        /// Its version.
        theirs: u64,
    },
    /// It says what makes no sense.
    #[error("what the other end says is no hand-over: {0}")]
    Nonsense(&'static str),
    /// The ring that it offers cannot be.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A system call failed.
    #[error("{what}: {error}")]
    System {
        /// Which.
        what: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
}

pub(super) fn system<E: Into<io::Error>>(what: &'static str) -> impl Fn(E) -> WireError {
    move |error| WireError::System { what, error: error.into() }
}

/// What names an area's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AreaKind {
    /// A sealed memory file.
    Memfd,
    /// A dma-buf.
    DmaBuf,
    /// A dma-buf of just this range of a PCI BAR; the offset is the one into the BAR.
    Bar,
}

impl AreaKind {
    const ALL: [Self; 3] = [Self::Memfd, Self::DmaBuf, Self::Bar];

    /// The word used in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memfd => "memfd",
            Self::DmaBuf => "dma-buf",
            Self::Bar => "PCI BAR as dma-buf",
        }
    }
}

/// Consecutive slots in one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// What the file is.
    pub kind: AreaKind,
    /// Number of its first slot.
    pub first_slot: u32,
    /// Slots.
    pub slots: u32,
    /// Where in the file the first slot starts, in bytes.
    pub offset: u64,
}

impl Area {
    fn words(&self) -> [u64; 4] {
        let kind = AreaKind::ALL.iter().position(|kind| *kind == self.kind);
        let kind = kind.unwrap_or_default() as u64;
        [kind, self.first_slot.into(), self.slots.into(), self.offset]
    }

    /// Bytes of all slots.
    #[must_use]
    pub fn len(&self, stride: u32) -> usize {
        self.slots as usize * stride as usize
    }

    /// Whether a slot is one of these.
    #[inline]
    #[must_use]
    pub fn holds(&self, slot: u32) -> bool {
        slot.wrapping_sub(self.first_slot) < self.slots
    }
}

/// One queue's ring and memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Which queue.
    pub queue: u64,
    /// Of how many.
    pub queues: u64,
    /// Its ring, which is the first file.
    pub layout: Layout,
    /// Its areas, which are the others.
    pub areas: Vec<Area>,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A consumer is there.
    Greet,
    /// One queue.
    Offer(Offer),
    /// The consumer has mapped everything, and has given up what was offered before.
    Accept,
    /// No, because.
    Refuse(String),
    /// What was offered is to be given up; another offer will follow.
    Pause,
    /// A queue has another area, whose file comes with this. To be answered by [`Message::Accept`]; blocks in it
    /// are shown from then on.
    Add {
        /// Which queue.
        queue: u64,
        /// Which area.
        area: Area,
    },
    /// An area has gone, in which nothing is shown. Not to be answered.
    Remove {
        /// Which queue.
        queue: u64,
        /// First slot of the area.
        first_slot: u32,
    },
}

impl Message {
    const fn kind(&self) -> u64 {
        match self {
            Self::Greet => 1,
            Self::Offer(_) => 2,
            Self::Accept => 3,
            Self::Refuse(_) => 4,
            Self::Pause => 5,
            Self::Add { .. } => 6,
            Self::Remove { .. } => 7,
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut words = vec![MAGIC, VERSION.into(), self.kind()];
        let mut text: &[u8] = &[];
        match self {
            Self::Greet | Self::Accept | Self::Pause => {}
            Self::Offer(offer) => {
                words.extend([offer.queue, offer.queues]);
                words.extend(offer.layout.numbers());
                words.extend(offer.areas.iter().flat_map(Area::words));
            }
            Self::Add { queue, area } => {
                words.push(*queue);
                words.extend(area.words());
            }
            Self::Remove { queue, first_slot } => words.extend([*queue, (*first_slot).into()]),
            Self::Refuse(why) => text = &why.as_bytes()[..why.floor_char_boundary(LONGEST_TEXT)],
        }
        let mut bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
        bytes.extend(text);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let (words, rest) = bytes.as_chunks::<8>();
        let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let [MAGIC, version, kind, body @ ..] = &words[..] else {
            return Err(WireError::Nonsense("a message begins with something else"));
        };
        // A refusal is understood whatever the version: it says what is wrong.
        if *kind == 4 {
            let text = String::from_utf8_lossy(&bytes[24..]);
            return Ok(Self::Refuse(text.chars().filter(|c| !c.is_control()).collect()));
        }
        if *version != u64::from(VERSION) {
            return Err(WireError::Version { theirs: *version });
        }
        match (kind, body) {
            (1, []) if rest.is_empty() => Ok(Self::Greet),
            (3, []) if rest.is_empty() => Ok(Self::Accept),
            (5, []) if rest.is_empty() => Ok(Self::Pause),
            (6, [queue, words @ ..]) if rest.is_empty() && words.len() == 4 => {
                let area = words.first_chunk().map_or(Err(NO_AREA), area)?;
                Ok(Self::Add { queue: *queue, area })
            }
            (7, [queue, first_slot]) if rest.is_empty() => {
                let first_slot = u32::try_from(*first_slot).map_err(|_| NO_AREA)?;
                Ok(Self::Remove { queue: *queue, first_slot })
            }
            (2, [queue, queues, numbers @ ..]) if rest.is_empty() => {
                let Some((numbers, areas)) = numbers.split_first_chunk::<6>() else {
                    return Err(WireError::Nonsense("an offer is cut off"));
                };
                let (areas, rest) = areas.as_chunks::<4>();
                if !rest.is_empty() || areas.is_empty() || areas.len() > MOST_AREAS {
                    return Err(WireError::Nonsense("an offer has no areas, or too many"));
                }
                if !(1..=MOST_QUEUES).contains(queues) || queue >= queues {
                    return Err(WireError::Nonsense("an offer is of a queue that there is not"));
                }
                let areas = areas.iter().map(area).collect::<Result<Vec<_>, _>>()?;
                let layout = Layout::of(*numbers)?;
                Ok(Self::Offer(Offer { queue: *queue, queues: *queues, layout, areas }))
            }
            _ => Err(WireError::Nonsense("there is no such message")),
        }
    }

    /// Sends it, with files.
    ///
    /// # Errors
    /// The other end is gone, or does not take it in time.
    pub fn send(&self, socket: impl AsFd, files: &[BorrowedFd<'_>]) -> Result<(), WireError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_AREAS + 1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
            return Err(WireError::Nonsense("too many files for one message"));
        }
        let bytes = self.encode();
        let sent = sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL);
        match sent {
            Ok(_) => Ok(()),
            Err(rustix::io::Errno::PIPE) => Err(WireError::Closed),
            Err(error) => Err(system("sendmsg")(error)),
        }
    }

    /// Receives one, with its files. Waits no longer than the socket's timeout.
    ///
    /// # Errors
    /// There is none in time, the other end is gone, or says what makes no sense. A refusal is an error.
    pub fn recv(socket: impl AsFd) -> Result<(Self, Vec<OwnedFd>), WireError> {
        let mut bytes = [0; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_AREAS + 1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let got = recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC);
        let got = got.map_err(|error| match error {
            rustix::io::Errno::CONNRESET => WireError::Closed,
            rustix::io::Errno::AGAIN => system("no answer")(io::ErrorKind::TimedOut),
            error => system("recvmsg")(error),
        })?;
        let mut files = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(passed) = message {
                files.extend(passed);
            }
        }
        if got.bytes == 0 {
            return Err(WireError::Closed);
        }
        if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(WireError::Nonsense("a message is too long"));
        }
        match Self::decode(&bytes[..got.bytes])? {
            Self::Refuse(why) => Err(WireError::Refused(why)),
            message => Ok((message, files)),
        }
    }
}

const NO_AREA: WireError = WireError::Nonsense("an area is not one that can be");

fn area(words: &[u64; 4]) -> Result<Area, WireError> {
    let [kind, first_slot, slots, offset] = *words;
    let kind =
        usize::try_from(kind).ok().and_then(|kind| AreaKind::ALL.get(kind)).ok_or(NO_AREA)?;
    let first_slot = u32::try_from(first_slot).map_err(|_| NO_AREA)?;
    let slots = u32::try_from(slots).map_err(|_| NO_AREA)?;
    if slots == 0 || first_slot.checked_add(slots).is_none() {
        return Err(NO_AREA);
    }
    Ok(Area { kind: *kind, first_slot, slots, offset })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        socketpair(family, kind, SocketFlags::CLOEXEC, None).unwrap()
    }

    fn offer() -> Message {
        let layout = Layout {
            generation: 2,
            entries: 16,
            rows: 256,
            slots: 4096,
            stride: 2048,
            row_bits: 16,
        };
        let area = Area { kind: AreaKind::DmaBuf, first_slot: 7, slots: 4089, offset: 1 << 40 };
        let areas = vec![area, Area { kind: AreaKind::Memfd, ..area }];
        Message::Offer(Offer { queue: 1, queues: 2, layout, areas })
    }

    #[test]
    fn messages_arrive_as_they_were_sent_and_files_with_them() {
        let (here, there) = pair();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"four").unwrap();
        let area = Area { kind: AreaKind::Bar, first_slot: 1 << 20, slots: 3, offset: 4096 };
        let add = Message::Add { queue: 3, area };
        let remove = Message::Remove { queue: 3, first_slot: 1 << 20 };
        for message in [Message::Greet, offer(), Message::Accept, Message::Pause, add, remove] {
            message.send(&here, &[file.as_fd(), file.as_fd()]).unwrap();
            let (got, files) = Message::recv(&there).unwrap();
            assert_eq!((got, files.len()), (message, 2));
            assert_eq!(rustix::fs::fstat(&files[1]).unwrap().st_size, 4);
        }
        Message::Refuse("é\n".repeat(2000)).send(&here, &[]).unwrap();
        let refused = Message::recv(&there).unwrap_err().to_string();
        assert!(refused.starts_with("refused: éé") && !refused.contains('\n'), "{refused}");
        drop(here);
        assert!(matches!(Message::recv(&there), Err(WireError::Closed)));
        assert!(matches!(Message::Greet.send(&there, &[]), Err(WireError::Closed)));
    }

    #[test]
    fn another_version_is_named_and_nonsense_is_refused() {
        let says = |bytes: &[u8]| {
            let (here, there) = pair();
            rustix::io::write(&here, bytes).unwrap();
            Message::recv(&there).unwrap_err().to_string()
        };
        let mut other = Message::Greet.encode();
        other[8] = 2;
        assert_eq!(
            says(&other),
            "the other end speaks version 2 of the hand-over; this program speaks 1"
        );
        other[16] = 4;
        other.extend(b"no");
        assert_eq!(says(&other), "refused: no", "whatever the version");
        assert!(says(b"GET / HTTP/1.1").contains("begins with something else"));
        assert!(says(&[0; 4000]).contains("too long"));
        let offer = offer().encode();
        assert!(says(&offer[..offer.len() - 8]).contains("no areas, or too many"));
        assert!(says(&offer[..40]).contains("cut off"));
        let with = |word: usize, value: u64| {
            let mut bytes = offer.clone();
            bytes[8 * word..][..8].copy_from_slice(&value.to_le_bytes());
            says(&bytes)
        };
        assert!(with(2, 9).contains("no such message"));
        assert!(with(3, 2).contains("a queue that there is not"));
        assert!(with(6, 15).contains("a power of two"));
        assert!(with(11, 3).contains("not one that can be"));
        assert!(with(13, 0).contains("not one that can be"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0u8..9) {
            let _ = Message::decode(&bytes);
            let head = Message::Greet.encode();
            if bytes.len() >= head.len() {
                bytes[..head.len()].copy_from_slice(&head);
                bytes[16] = kind;
                let _ = Message::decode(&bytes);
            }
        }
    }
}
