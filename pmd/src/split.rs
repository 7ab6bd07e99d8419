//! Where a frame is cut into head and payload. Arithmetic on header bytes; moves nothing.

use crate::headers;

/// Where a split queue cuts a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitAt {
    /// Behind the last protocol header that is understood (Ethernet, VLAN, IPv4/IPv6, UDP/TCP) and
    /// `extra` bytes more (an application header such as RTP's). Frames that are not UDP or TCP over
    /// IP are not cut as long as they fit the head's buffer.
    Protocol {
        /// Bytes behind the transport header that belong to the head.
        extra: usize,
    },
    /// After that many bytes, whatever they are.
    Length(usize),
}

impl SplitAt {
    /// Bytes of the head of a frame that starts with `start` and is `frame_len` long, given that
    /// heads hold `head_room` bytes. What lies beyond is payload.
    #[must_use]
    #[inline]
    pub fn head_len(self, start: &[u8], frame_len: usize, head_room: usize) -> usize {
        let head = match self {
            Self::Protocol { extra } => {
                headers::transport_payload(start).map_or(frame_len, |offset| offset + extra)
            }
            Self::Length(len) => len,
        };
        head.min(frame_len).min(head_room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_end_where_asked_and_never_outgrow_the_frame_or_their_buffer() {
        let mut udp = vec![0; 12];
        udp.extend([8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17]);
        udp.resize(200, 0);
        let protocol = SplitAt::Protocol { extra: 16 };
        assert_eq!(protocol.head_len(&udp, 200, 128), 42 + 16);
        assert_eq!(protocol.head_len(&udp, 50, 128), 50, "the frame ends first");
        assert_eq!(protocol.head_len(&udp, 200, 48), 48, "the buffer ends first");
        // Not IP: whole if it fits, else cut where the buffer ends.
        let arp = [0u8; 60];
        assert_eq!(protocol.head_len(&arp, 60, 128), 60);
        assert_eq!(protocol.head_len(&arp, 600, 128), 128);
        assert_eq!(SplitAt::Length(64).head_len(&arp, 60, 128), 60);
        assert_eq!(SplitAt::Length(64).head_len(&udp, 200, 128), 64);
    }
}
