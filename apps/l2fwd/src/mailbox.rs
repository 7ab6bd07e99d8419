//! How queues of one port come to workers and go back while all of them run.

use std::sync::mpsc::Sender;

use memwire_apps::mailbox;
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
pub(crate) type Post = mailbox::Post<Order>;

/// A worker's end.
pub(crate) struct Mailbox {
    orders: mailbox::Mailbox<Order>,
    returned: Sender<Returned>,
}

/// A mailbox that answers to `returned`.
pub(crate) fn mailbox(returned: &Sender<Returned>) -> (Post, Mailbox) {
    let (post, orders) = mailbox::mailbox();
    (post, Mailbox { orders, returned: returned.clone() })
}

impl Mailbox {
    /// The next order. One load as long as there is none.
    #[inline]
    pub(crate) fn order(&self) -> Option<Order> {
        self.orders.order()
    }

    /// Gives queues back.
    pub(crate) fn give_back(&self, port: usize, share: Share) {
        // If nobody waits for them any more, they end here, as they would there.
        let _ = self.returned.send((port, share));
    }

    /// Gives back all queues that are still on their way to this worker.
    pub(crate) fn close(self) {
        for order in self.orders.drain() {
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
