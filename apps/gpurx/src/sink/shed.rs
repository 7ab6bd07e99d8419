//! Takes heads and drops payloads, counted: what is done while memory for payloads is revoked, and nothing
//! shall take its place.

use mempool::{SplitBurst, SplitCache};

use super::Sink;
use crate::{head::HeadReader, totals::Totals};

/// `--on-revoke drop`.
pub struct Shed(pub HeadReader);

impl Sink for Shed {
    fn burst(
        &mut self,
        burst: &mut SplitBurst,
        cache: &mut SplitCache,
        _now: u64,
        totals: &mut Totals,
    ) {
        let ours = burst.iter().filter(|frame| self.0.payload(frame.head).is_some()).count() as u64;
        totals.revoked += ours;
        totals.foreign += burst.len() as u64 - ours;
        burst.recycle(cache);
    }
}
