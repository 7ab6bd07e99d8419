//! Blocks for a consumer in another process: a ring in shared memory, and the socket over which it and
//! the payload memory are passed. Knows no port; the consumer may as well be a kernel on a GPU that polls.
//!
//! # The ring
//!
//! One per queue, in a sealed memory file of native 64-bit words ([`layout`]). An entry is
//!
//! ```text
//!   FREE --show: gpurx writes the entry, then its ticket (release)--> READY
//!   READY --the consumer reads the ticket (acquire), the entry, the rows; then returns the ticket
//!           by writing it into the next cell of the return ring (release)--> DONE
//!   DONE --gpurx takes the ticket out of the cell (acquire), and clears it--> FREE
//! ```
//!
//! A *ticket* names an entry, the generation of the ring and the block's serial number, so that the word
//! that says READY is also the word that is returned. Serials count up from 0, and the entry of serial
//! *n* is *n* modulo the entries: the consumer waits for one word. Blocks may be returned in any order.
//! Per block each side makes one release store and one acquire load; there is no other traffic.
//!
//! # Who believes whom
//!
//! gpurx believes no word that the consumer can write. It reads nothing of the ring but return cells, each
//! once, and holds what it has read against its own [`books`]: only a ticket that is out frees slots,
//! those that the books name, once. Anything else is counted by its reason and changes nothing. Pools know
//! nothing of this: to them the slots of a block that is shown are held by the application.
//!
//! The consumer checks what it is told against the sizes of what it has mapped ([`taker`]), and maps
//! payload memory to be read only.
//!
//! # When memory changes
//!
//! When payloads get other memory ([`crate::exchange`]), what a consumer was shown in the old one is taken back at
//! once, and it is offered the new memory over the same socket, with new rings. Its answer says that it reads nothing
//! older any more; only then is older memory used again. Who does not answer is sent away.
//!
//! # When a consumer goes
//!
//! The end of its socket's connection is the sign, as the kernel closes it however a process dies. All
//! that it was shown is taken back. The next one gets a new ring of a new generation: an older process
//! that is not dead, and goes on writing, writes into a ring that nobody reads.

pub mod books;
pub mod client;
mod desk;
pub mod layout;
mod orders;
mod ring;
pub mod server;
pub mod taker;
pub mod wire;

pub use books::{Books, Refused};
pub use layout::{Layout, Ticket};
pub(crate) use orders::{Mailbox, Order, Post};
pub use ring::Ring;
pub use taker::{Taken, Taker};
