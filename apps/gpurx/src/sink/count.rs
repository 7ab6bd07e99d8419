//! Counts frames of the flow, and frees them. Places nothing: as asked, or while the memory for payloads is
//! revoked and nothing shall take its place.

use mempool::{SplitBurst, SplitCache};

use super::Sink;
use crate::{head::HeadReader, totals::Totals};

/// `--sink count`, and what `--on-revoke drop` does meanwhile.
pub struct Count {
    /// Tells frames of the flow.
    pub heads: HeadReader,
    /// Whether they are rows, or frames whose payloads are dropped.
    pub is_revoked: bool,
}

impl Sink for Count {
    fn burst(
        &mut self,
        burst: &mut SplitBurst,
        cache: &mut SplitCache,
        _now: u64,
        totals: &mut Totals,
    ) {
        let ours =
            burst.iter().filter(|frame| self.heads.payload(frame.head).is_some()).count() as u64;
        *(if self.is_revoked { &mut totals.revoked } else { &mut totals.rows }) += ours;
        totals.foreign += burst.len() as u64 - ours;
        burst.recycle(cache);
    }
}
