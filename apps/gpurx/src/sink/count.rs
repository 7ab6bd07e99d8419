//! Counts frames of the flow, and frees them. Places nothing.

use mempool::{SplitBurst, SplitCache};

use super::Sink;
use crate::{head::HeadReader, totals::Totals};

/// `--sink count`.
pub struct Count(pub HeadReader);

impl Sink for Count {
    fn burst(&mut self, burst: &mut SplitBurst, cache: &mut SplitCache, _now: u64, totals: &mut Totals) {
        let ours = burst.iter().filter(|frame| self.0.payload(frame.head).is_some()).count() as u64;
        totals.rows += ours;
        totals.foreign += burst.len() as u64 - ours;
        burst.recycle(cache);
    }
}
