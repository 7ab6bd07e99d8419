//! What becomes of a frame that is not simply one plain buffer. Looks at metadata only.

use mempool::{Access, Frame};

use crate::{
    DropReason,
    e1000::descriptor::transmit::{Request, SHORTEST, TxFormat},
};

/// An Ethernet header: there is no shorter frame.
const HEADER: usize = 14;

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Sent in this many pieces.
    Sent { request: Request, pieces: usize, len: usize },
    /// Copied into fresh buffers first: too short to be sent as it is, or in too many pieces.
    Copied { len: usize },
    /// Thrown away.
    Dropped(DropReason),
}

/// Decides. A frame is sent in `most` pieces, or copied.
pub(super) fn decide<F: TxFormat, A: Access>(
    frame: Frame<'_, A>,
    max_frame: usize,
    most: usize,
) -> Fate {
    let (mut len, mut pieces, mut longest) = (0, 0, 0);
    for segment in frame.segments() {
        let piece = segment.len();
        len += piece;
        pieces += usize::from(piece > 0);
        longest = longest.max(piece);
    }
    if len < HEADER {
        return Fate::Dropped(DropReason::SendError);
    }
    let asked = frame.meta().tx();
    let segments = asked.offload.has(mempool::Offload::TX_TCP_SEGMENT);
    if len > max_frame && !segments {
        return Fate::Dropped(DropReason::TooLong);
    }
    let request = if frame.meta().asks() {
        let Some(request) = F::request(&asked, len, max_frame) else {
            return Fate::Dropped(DropReason::SendError);
        };
        request
    } else {
        Request { context: None, data: F::plain(len) }
    };
    if len < SHORTEST || pieces > most || longest > F::LONGEST_PIECE {
        return Fate::Copied { len };
    }
    Fate::Sent { request, pieces, len }
}
