//! How rings come to a worker and go: one flag that it looks at per poll; everything else happens only
//! when there is mail.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
    mpsc::{self, Receiver, Sender},
};

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
pub(crate) struct Post {
    has_mail: Arc<AtomicBool>,
    orders: Sender<Order>,
}

/// The worker's end.
pub(crate) struct Mailbox {
    has_mail: Arc<AtomicBool>,
    orders: Receiver<Order>,
}

/// Both ends.
pub(crate) fn mailbox() -> (Post, Mailbox) {
    let (sender, orders) = mpsc::channel();
    let has_mail = Arc::new(AtomicBool::new(false));
    let post = Post { has_mail: Arc::clone(&has_mail), orders: sender };
    (post, Mailbox { has_mail, orders })
}

impl Post {
    /// Sends an order; false if the worker has ended.
    pub(crate) fn send(&self, order: Order) -> bool {
        let is_sent = self.orders.send(order).is_ok();
        // Release: who sees the flag finds the order.
        self.has_mail.store(true, Ordering::Release);
        is_sent
    }
}

impl Mailbox {
    /// The next order. One load as long as there is none.
    #[inline]
    pub(crate) fn order(&self) -> Option<Order> {
        // Acquire: pairs with the sender's store.
        if self.has_mail.load(Ordering::Acquire) { self.read() } else { None }
    }

    #[cold]
    fn read(&self) -> Option<Order> {
        // Cleared first, by an exchange: either this sees the sender's store, and with it the order, or
        // that store comes later and stays.
        self.has_mail.swap(false, Ordering::AcqRel);
        let order = self.orders.try_recv().ok();
        if order.is_some() {
            // There may be another one behind it.
            self.has_mail.store(true, Ordering::Relaxed);
        }
        order
    }
}
