//! Orders for a worker that polls: it looks at one flag per round; everything else happens only when there
//! is mail.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
    mpsc::{self, Receiver, Sender},
};

/// The end of who gives orders.
pub struct Post<T> {
    has_mail: Arc<AtomicBool>,
    orders: Sender<T>,
}

/// The worker's end.
pub struct Mailbox<T> {
    has_mail: Arc<AtomicBool>,
    orders: Receiver<T>,
}

/// Both ends.
#[must_use]
pub fn mailbox<T>() -> (Post<T>, Mailbox<T>) {
    let (sender, orders) = mpsc::channel();
    let has_mail = Arc::new(AtomicBool::new(false));
    let post = Post { has_mail: Arc::clone(&has_mail), orders: sender };
    (post, Mailbox { has_mail, orders })
}

impl<T> Post<T> {
    /// Sends an order.
    ///
    /// # Errors
    /// The worker is gone: the order comes back.
    pub fn send(&self, order: T) -> Result<(), T> {
        self.orders.send(order).map_err(|error| error.0)?;
        // Release: who sees the flag finds the order.
        self.has_mail.store(true, Ordering::Release);
        Ok(())
    }
}

impl<T> Mailbox<T> {
    /// The next order. One load as long as there is none.
    #[inline]
    pub fn order(&self) -> Option<T> {
        // Acquire: pairs with the sender's store.
        if self.has_mail.load(Ordering::Acquire) { self.read() } else { None }
    }

    #[cold]
    fn read(&self) -> Option<T> {
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

    /// The orders that are still on their way, at the end.
    pub fn drain(&self) -> impl Iterator<Item = T> + '_ {
        self.orders.try_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_come_in_order_and_none_is_left_behind() {
        let (post, mailbox) = mailbox();
        assert_eq!(mailbox.order(), None);
        for order in 0..3 {
            post.send(order).unwrap();
        }
        assert_eq!((mailbox.order(), mailbox.order()), (Some(0), Some(1)));
        post.send(3).unwrap();
        assert_eq!(mailbox.drain().collect::<Vec<_>>(), [2, 3]);
        assert_eq!(mailbox.order(), None);
        drop(mailbox);
        assert_eq!(post.send(4), Err(4), "nobody is there any more");
    }

    #[test]
    fn no_order_is_lost_between_two_threads() {
        let (post, mailbox) = mailbox();
        let sender = std::thread::spawn(move || {
            (0..10_000).for_each(|order| post.send(order).unwrap());
        });
        let mut expected = 0;
        while expected < 10_000 {
            if let Some(order) = mailbox.order() {
                assert_eq!(order, expected);
                expected += 1;
            }
        }
        sender.join().unwrap();
    }
}
