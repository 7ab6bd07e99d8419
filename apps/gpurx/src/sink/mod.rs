//! What becomes of received frames. A worker drives one sink and knows no more of it.

mod capture;
mod count;
mod placed;

use mempool::{SplitBurst, SplitCache};
use pmd::SplitRxQueue;

pub use capture::Capture;
pub use count::Count;
pub use placed::Placed;

use crate::{errand::Errand, totals::Totals};

/// Takes bursts.
pub trait Sink: Send {
    /// Takes all frames out of `burst`; what they were is added to `totals`. `now` is in nanoseconds
    /// since the worker started.
    fn burst(
        &mut self,
        burst: &mut SplitBurst,
        cache: &mut SplitCache,
        now: u64,
        totals: &mut Totals,
    );

    /// Once per poll, frames or not: hands over what is due. Returns whether buffers have come free, so
    /// that there is something to post.
    fn tick(&mut self, _now: u64, _totals: &mut Totals) -> bool {
        false
    }

    /// Gives the queue buffers to fill, if the sink is the one who posts.
    fn post(&mut self, _rx: &mut dyn SplitRxQueue) {}

    /// Sees to an area of payload memory that comes or goes. A sink that takes its buffers elsewhere than from the
    /// pool's areas one by one cannot.
    fn attend(&mut self, errand: Errand, _rx: &mut dyn SplitRxQueue) {
        errand.ticket.close(false);
    }

    /// The end: hands over what is left.
    fn finish(&mut self, _totals: &mut Totals) {}

    /// The end of its memory, while the worker goes on with another: as [`Sink::finish`], and waits for nobody.
    fn leave(&mut self, totals: &mut Totals) {
        self.finish(totals);
    }

    /// A digest of all bytes, if the sink makes one.
    fn digest(&self) -> Option<u32> {
        None
    }

    /// Why the sink can take no more, if so.
    fn fault(&self) -> Option<&str> {
        None
    }
}
