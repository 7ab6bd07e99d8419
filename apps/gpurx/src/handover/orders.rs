//! How rings come to a worker and go.

use memwire_apps::mailbox;
use providers::SharedWords;

use super::Layout;

/// What a worker is to do.
pub(crate) enum Order {
    /// A consumer is there: show it blocks in this ring.
    Attach(SharedWords, Layout),
    /// It is gone: take back what it was shown.
    Detach,
}

/// The server's end.
pub(crate) type Post = mailbox::Post<Order>;
/// The worker's end.
pub(crate) type Mailbox = mailbox::Mailbox<Order>;
