//! `pcap`: receives frames out of a capture file and sends frames into one.
//!
//! `pcap:[IN][,loop][,pace][,strict][,tx=OUT[,format=pcap|pcapng][,rotate=64M][,snaplen=N]]`
//!
//! * **Reading.** pcap and pcapng of either byte order and any time resolution; files, FIFOs, and `-`
//!   for standard input. Frames carry their timestamp (nanoseconds since 1970) and say whether they
//!   were truncated. Frames longer than a buffer come in several segments.
//! * **Full speed** is the default: a frame waits in the file until there is a buffer for it, so none
//!   is dropped for want of one. `pace` keeps the capture's own time instead, from the first frame
//!   on; then a frame that is due and finds no buffer is dropped and counted.
//! * **`loop`** holds the file in memory (up to 1 GiB) and replays it for ever. With `pace`, a round
//!   starts one mean gap after the last frame of the one before. Timestamps stay those of the file.
//! * **Several queues** each read the file for themselves and take their share: by a flow hash that
//!   keeps both directions and all fragments of a flow together; frames that are not IP go round by
//!   their number. Streams, which can be read once, have one queue.
//! * **Broken files.** A broken file header refuses to open. A record that is broken later on ends the
//!   queues behind the frames before it: it is counted once as malformed, and
//!   [`crate::Device::health`] names its number, its offset and what is wrong. `strict` reads the whole
//!   file when it is opened, and refuses records longer than the file's own snaplen, too; `loop`
//!   refuses a broken file as well.
//! * **Writing.** One transmit queue, if `tx=` names a file (`-`: standard output); pcapng by the
//!   extension `.pcapng` or `format=`. A frame keeps the timestamp it was received with; others get
//!   the time of day, read once per burst. `rotate` begins `OUT.1.pcap`, `OUT.2.pcap` … at that
//!   size, and so does every further start. What is held in memory (up to 1 MiB) is written when the
//!   queue is stopped or dropped. A full disk drops the frames and is a fault.
//!
//! [`Reader`] and [`Writer`] do the same without a port; [`Files`] rotates, and says what was counted.

mod arena;
mod blocks;
mod classic;
pub(crate) mod clock;
mod error;
mod files;
mod flow;
mod input;
mod options;
mod port;
mod probe;
mod reader;
mod replay;
mod rx;
mod section;
mod sink;
mod source;
mod state;
mod tape;
mod tx;
mod window;
mod writer;

pub use error::{ReadError, WriteError};
pub use files::{FileOptions, Files};
pub(crate) use options::size as parse_size;
pub use port::Pcap;
pub use reader::{MAX_CAPTURED, Reader, Record};
pub use section::{Direction, Interface, Note, Section, Statistics};
pub use tape::{Entry, Mark, TapeReader, TapeWriter, pull_earliest, tape};
pub use writer::{Format, Packet, Writer};

/// The driver's entry in the registry.
pub const DRIVER: crate::Driver = crate::Driver {
    name: "pcap",
    usage: "pcap:[FILE|-][,loop][,pace][,strict][,tx=FILE|-][,format=pcap|pcapng][,rotate=64M][,snaplen=N]",
    about: "frames out of a capture file, and into one",
    open: |registry, spec| Ok(Box::new(Pcap::open(registry, spec)?)),
};
