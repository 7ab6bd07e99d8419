//! Which queue a frame belongs to, as a NIC's flow hash would say it: both directions of a flow, and
//! all fragments of a datagram, meet in one queue.

use crate::headers::{self, ethertype, protocol};

/// The flow hash of a frame; `None` if it is not IP.
pub(super) fn hash(frame: &[u8]) -> Option<u64> {
    let layers = headers::layers(frame)?;
    let (addresses, fragmented) = match layers.ethertype {
        ethertype::IPV4 => {
            let header = frame.get(layers.network..layers.network + 20)?;
            // More fragments, or not the first one.
            (&header[12..20], header[6] & 0x3f != 0 || header[7] != 0)
        }
        ethertype::IPV6 => (frame.get(layers.network + 8..layers.network + 40)?, false),
        _ => return None,
    };
    let (source, destination) = addresses.split_at(addresses.len() / 2);
    let ports = match layers.protocol {
        Some(protocol::TCP | protocol::UDP) if !fragmented => {
            frame.get(layers.transport..layers.transport + 4)
        }
        _ => None,
    };
    let (from, to) = ports.unwrap_or_default().split_at(ports.map_or(0, |_| 2));
    let end = |address, port| mix(mix(0xcbf2_9ce4_8422_2325, address), port);
    // Symmetric: the two ends are added up.
    let sum = end(source, from).wrapping_add(end(destination, to));
    Some(finish(sum ^ u64::from(layers.protocol.filter(|_| !fragmented).unwrap_or(0))))
}

/// FNV-1a.
fn mix(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// The finaliser of MurmurHash3: every bit of the result depends on every bit.
fn finish(mut hash: u64) -> u64 {
    hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

/// A share of a port's frames: what one of several queues receives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) queue: usize,
    pub(super) queues: usize,
}

impl Share {
    /// Whether the frame, the `number`-th of its file, belongs to this queue.
    #[inline]
    pub(super) fn has(self, number: u64, frame: &[u8]) -> bool {
        self.queues == 1 || hash(frame).unwrap_or(number) % self.queues as u64 == self.queue as u64
    }
}
