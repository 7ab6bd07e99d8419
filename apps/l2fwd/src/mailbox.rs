//! How queues of one port come to workers and go back while all of them run. A worker looks at one
//! flag per round; everything else happens only when there is mail.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
    mpsc::{self, Receiver, Sender},
};

use pmd::{AnyRxQueue, Queues, RxQueue, TxQueue};

/// Some queues of one port: those of one worker, or those that are back.
#[derive(Default)]
pub(crate) struct Share {
    pub(crate) rx: Vec<Box<dyn RxQueue>>,
    pub(crate) tx: Option<Box<dyn TxQueue>>,
}

/// What a worker is to do.
pub(crate) enum Order {
    /// Give back all queues of this port.
    GiveBack(usize),
    /// Serve this port from now on; its address is the last.
    Take(usize, Share, [u8; 6]),
}

/// What a worker gave back: of which port.
pub(crate) type Returned = (usize, Share);

/// The main thread's end of a worker's mailbox.
pub(crate) struct Post {
    has_mail: Arc<AtomicBool>,
    orders: Sender<Order>,
}

/// A worker's end.
pub(crate) struct Mailbox {
    has_mail: Arc<AtomicBool>,
    orders: Receiver<Order>,
    returned: Sender<Returned>,
}

/// A mailbox that answers to `returned`.
pub(crate) fn mailbox(returned: &Sender<Returned>) -> (Post, Mailbox) {
    let (orders, incoming) = mpsc::channel();
    let has_mail = Arc::new(AtomicBool::new(false));
    let sender = Post { has_mail: Arc::clone(&has_mail), orders };
    (sender, Mailbox { has_mail, orders: incoming, returned: returned.clone() })
}

impl Post {
    /// Sends an order; it comes back if the worker is gone.
    pub(crate) fn send(&self, order: Order) -> Result<(), Order> {
        self.orders.send(order).map_err(|error| error.0)?;
        // Release: who sees the flag finds the order.
        self.has_mail.store(true, Ordering::Release);
        Ok(())
    }
}

impl Mailbox {
    /// The next order. One load as long as there is none.
    #[inline]
    pub(crate) fn order(&self) -> Option<Order> {
        // Acquire: pairs with the sender's store.
        if !self.has_mail.load(Ordering::Acquire) {
            return None;
        }
        self.read()
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

    /// Gives queues back.
    pub(crate) fn give_back(&self, port: usize, share: Share) {
        // If nobody waits for them any more, they end here, as they would there.
        let _ = self.returned.send((port, share));
    }

    /// Gives back all queues that are still on their way to this worker.
    pub(crate) fn close(self) {
        while let Ok(order) = self.orders.try_recv() {
            if let Order::Take(port, share, _) = order {
                self.give_back(port, share);
            }
        }
    }
}

impl Share {
    /// Adds its queues to those that go back to their device.
    pub(crate) fn join(self, queues: &mut Queues) {
        queues.rx.extend(self.rx.into_iter().map(AnyRxQueue::Whole));
        queues.tx.extend(self.tx);
    }
}
