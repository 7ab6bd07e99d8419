//! Walks the frames of one block of a receive ring. Believes no length the block states: each is
//! read once, and checked against the block on our own copy. Copies no payload, knows no socket.

use mempool::{Offload, RxMeta};

use super::{
    abi::{BlockHeader, FrameHeader, FrameTag, Offloads},
    mapping::Span,
};
use crate::headers::ethertype;

/// Where one frame stands, and what the kernel says of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// Where its bytes start in the block.
    pub(super) at: usize,
    /// Bytes there are.
    pub(super) len: usize,
    /// Hash and time.
    pub(super) meta: RxMeta,
}

/// What distinguishes a frame whose bytes there are not those on the wire.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Altered {
    /// Whether the kernel kept less than came.
    pub(super) is_cut: bool,
    /// The VLAN tag that the kernel took out, as it was on the wire.
    pub(super) tag: Option<[u8; 4]>,
    /// What a local sender left to hardware.
    pub(super) offloads: Offloads,
}

impl Altered {
    /// The length of the frame once its tag is back in.
    pub(super) fn wire_len(&self, found: &Found) -> usize {
        found.len + self.tag.map_or(0, |tag| tag.len())
    }

    /// Whether it is of several frames in one, to be cut.
    pub(super) fn is_super(&self) -> bool {
        self.offloads.gso_type & !Offloads::ECN != 0
    }
}

/// What comes next in a block.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// A frame as it was on the wire.
    Plain(Found),
    /// One that is to be mended.
    Altered(Found, Altered),
    /// Lengths that lead out of the block: this many frames cannot be found any more.
    Broken(usize),
    /// All frames were seen.
    Done,
}

/// A place in a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    at: usize,
    left: usize,
}

const HEADER: usize = FrameHeader::WHOLE;
const OFFLOADS: usize = size_of::<Offloads>();
/// A frame without a whole Ethernet header is none.
const SHORTEST: usize = 14;

impl Walk {
    /// At the first frame of a block; the block is ours.
    pub(super) fn start(block: Span<'_>) -> Self {
        let header: BlockHeader = block.read(0);
        Self { at: header.first as usize, left: header.frames as usize }
    }

    /// Frames not yet seen, as the block says: an upper bound.
    #[inline]
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// The next frame of that block.
    #[inline(always)]
    pub(super) fn step(&mut self, block: Span<'_>) -> Step {
        if self.left == 0 {
            return Step::Done;
        }
        let Some((step, next)) = self.look(block) else {
            return Step::Broken(std::mem::take(&mut self.left));
        };
        self.left -= 1;
        self.at = next;
        step
    }

    /// The frame here, and where the next one is.
    #[inline(always)]
    fn look(&self, block: Span<'_>) -> Option<(Step, usize)> {
        let room = block.len().checked_sub(self.at)?;
        if room < HEADER || !self.at.is_multiple_of(8) {
            return None;
        }
        let header: FrameHeader = block.read(self.at);
        let (mac, kept) = (usize::from(header.mac), header.kept as usize);
        if mac < HEADER + OFFLOADS || kept < SHORTEST || kept > room.checked_sub(mac)? {
            return None;
        }
        // The last frame's link leads nowhere; the others' lead on, so that a walk ends.
        let next = header.next as usize;
        if self.left > 1 && next < HEADER {
            return None;
        }
        let found = Found { at: self.at + mac, len: kept, meta: meta(&header) };
        let [flags, gso_type]: [u8; 2] = block.read(found.at - OFFLOADS);
        let is_plain = flags & Offloads::NEEDS_CHECKSUM == 0
            && gso_type & !Offloads::ECN == 0
            && header.status & libc::TP_STATUS_VLAN_VALID == 0
            && header.len <= header.kept;
        let step = if is_plain {
            Step::Plain(found)
        } else {
            let is_cut = header.len > header.kept;
            let tag_at = self.at + FrameHeader::TAG;
            let altered = Altered { is_cut, ..altered(block, header.status, tag_at, found.at) };
            Step::Altered(found, altered)
        };
        Some((step, self.at.checked_add(next)?))
    }
}

#[inline(always)]
fn meta(header: &FrameHeader) -> RxMeta {
    let mut offload = Offload::RX_TIMESTAMP;
    if header.hash != 0 {
        offload = offload.with(Offload::RX_HASH);
    }
    if header.status & libc::TP_STATUS_CSUM_VALID != 0 {
        offload = offload.with(Offload::RX_L4_CSUM_GOOD);
    }
    let timestamp = u64::from(header.seconds) * 1_000_000_000 + u64::from(header.nanoseconds);
    RxMeta { offload, hash: header.hash, timestamp, ..RxMeta::default() }
}

/// What is to be mended in the frame with that status: what is said of its tag stands at `tag_at`, its bytes at `at`.
/// Given the status and not the header, which stays in registers as long as nobody asks where it is.
#[cold]
fn altered(block: Span<'_>, status: u32, tag_at: usize, at: usize) -> Altered {
    let has = |bit| status & bit != 0;
    let tag = has(libc::TP_STATUS_VLAN_VALID).then(|| {
        let tag: FrameTag = block.read(tag_at);
        let has_type = has(libc::TP_STATUS_VLAN_TPID_VALID);
        let kind = if has_type { tag.tpid } else { ethertype::VLAN };
        let [_, _, high, low] = tag.tci.to_be_bytes();
        let [first, second] = kind.to_be_bytes();
        [first, second, high, low]
    });
    Altered { is_cut: false, tag, offloads: block.read(at - OFFLOADS) }
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::{super::mapping::Mapping, *};

    const BLOCK: usize = 4096;
    const BASE: usize = BLOCK;

    /// A ring of two blocks; the second one holds `frames`.
    fn ring(frames: &[FrameHeader]) -> Mapping {
        let ring = Mapping::anonymous(2 * BLOCK).unwrap();
        let count = u32::try_from(frames.len()).unwrap();
        ring.write(
            BASE,
            &BlockHeader { status: 1, frames: count, first: 48, ..Default::default() },
        );
        let mut at = BASE + 48;
        for frame in frames {
            ring.write(at, frame);
            at += 256;
        }
        ring
    }

    fn frame(kept: u32) -> FrameHeader {
        FrameHeader { next: 256, kept, len: kept, mac: 80, ..Default::default() }
    }

    fn walk(ring: &Mapping) -> Vec<Step> {
        let block = ring.span(BASE, BLOCK);
        let (mut walk, mut steps) = (Walk::start(block), Vec::new());
        loop {
            let step = walk.step(block);
            if matches!(step, Step::Done) {
                return steps;
            }
            steps.push(step);
        }
    }

    #[test]
    fn frames_are_found_in_order_where_their_headers_say() {
        let last = FrameHeader { next: 0, ..frame(100) };
        let steps = walk(&ring(&[frame(60), frame(80), last]));
        let places: Vec<_> = steps
            .iter()
            .map(|step| match step {
                Step::Plain(found) => (found.at, found.len),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(places, [(128, 60), (384, 80), (640, 100)]);
    }

    #[test]
    fn an_empty_block_has_no_frames() {
        assert!(walk(&ring(&[])).is_empty());
    }

    #[test]
    fn a_stripped_tag_is_restated_as_on_the_wire() {
        let status = libc::TP_STATUS_VLAN_VALID | libc::TP_STATUS_VLAN_TPID_VALID;
        let ring = ring(&[FrameHeader { status, ..frame(60) }]);
        let tag = FrameTag { tci: 0xa123, tpid: 0x88a8, ..Default::default() };
        ring.write(BASE + 48 + FrameHeader::TAG, &tag);
        let Step::Altered(found, altered) = walk(&ring)[0] else { panic!("no frame") };
        assert_eq!(altered.tag, Some([0x88, 0xa8, 0xa1, 0x23]));
        assert_eq!(altered.wire_len(&found), 64);
    }

    #[test]
    fn what_a_sender_left_to_hardware_is_read_whole_and_plain_frames_leave_nothing() {
        let ring = ring(&[frame(60), frame(60)]);
        let left = Offloads {
            flags: Offloads::NEEDS_CHECKSUM,
            gso_type: Offloads::TCP4,
            header_len: 54,
            gso_size: 1448,
            checksum_start: 34,
            checksum_offset: 16,
        };
        ring.write(BASE + 48 + 256 + 80 - OFFLOADS, &left);
        let steps = walk(&ring);
        let [Step::Plain(_), Step::Altered(_, altered)] = steps[..] else { panic!("{steps:?}") };
        assert!(altered.is_super());
        assert_eq!(altered.offloads.as_bytes(), left.as_bytes());
    }

    #[test]
    fn a_frame_of_which_the_kernel_kept_less_says_so() {
        let header = FrameHeader { len: 2000, ..frame(60) };
        let Step::Altered(_, altered) = walk(&ring(&[header]))[0] else { panic!("no frame") };
        assert!(altered.is_cut);
    }

    #[test]
    fn lengths_that_lead_out_of_the_block_lose_the_rest_of_it_and_nothing_else() {
        for broken in [
            frame(u32::MAX),
            frame(4096),
            frame(13),
            FrameHeader { mac: 0, ..frame(60) },
            FrameHeader { mac: 57, ..frame(60) },
            FrameHeader { mac: u16::MAX, ..frame(60) },
            FrameHeader { next: 0, ..frame(60) },
            FrameHeader { next: 47, ..frame(60) },
        ] {
            let steps = walk(&ring(&[frame(60), broken, frame(60), frame(60)]));
            let lost = steps.iter().map(|step| match step {
                Step::Broken(lost) => *lost,
                _ => 0,
            });
            assert_eq!(lost.sum::<usize>(), 3, "{broken:?}: {steps:?}");
            assert_eq!(steps.len(), 2, "{broken:?}");
        }
        for next in [u32::MAX, 4096, 4048, 49] {
            let ring = ring(&[frame(60), frame(60)]);
            ring.write(BASE + 48, &FrameHeader { next, ..frame(60) });
            let steps = walk(&ring);
            assert!(matches!(steps[..], [Step::Plain(_), Step::Broken(1)]), "{next}: {steps:?}");
        }
    }

    #[test]
    fn a_count_or_a_start_that_cannot_be_ends_the_walk() {
        for (frames, first) in [(u32::MAX, 48), (3, u32::MAX), (3, 4090), (3, 50)] {
            let ring = ring(&[frame(60)]);
            let header = BlockHeader { status: 1, frames, first, ..Default::default() };
            ring.write(BASE, &header);
            let steps = walk(&ring);
            let frames = frames as usize;
            let seen = steps.iter().map(|step| match step {
                Step::Broken(lost) => *lost,
                _ => 1,
            });
            assert_eq!(seen.sum::<usize>(), frames);
        }
    }
}
