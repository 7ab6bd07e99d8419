//! VLANs: what a port belongs to, in the user's words, and the tag in a frame. Knows no table and no
//! queue.

use std::str::FromStr;

use mempool::{Cpu, FrameMut};

/// What precedes a tag (IEEE 802.1Q).
const TPID: [u8; 2] = [0x81, 0x00];
/// Both addresses: the tag stands behind them.
const ADDRESSES: usize = 12;
const TAG: usize = 4;
const VID: u16 = 0xfff;
/// VLANs that frames can be in; 0 is "none", 4095 is reserved.
const VIDS: std::ops::RangeInclusive<u16> = 1..=4094;
/// The VLAN of ports that nothing is said of, as on any switch.
const DEFAULT: u16 = 1;

/// Tag control information: priority (with drop eligibility) and VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tci(u16);

impl Tci {
    /// The tag of a frame, if it has one.
    #[inline]
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let tag: &[u8; TAG] = bytes.get(ADDRESSES..ADDRESSES + TAG)?.try_into().ok()?;
        let [a, b, c, d] = *tag;
        ([a, b] == TPID).then_some(Self(u16::from_be_bytes([c, d])))
    }

    /// Its VLAN; 0 in a tag that carries a priority only.
    #[inline]
    pub(crate) fn vid(self) -> u16 {
        self.0 & VID
    }

    /// The same priority in another VLAN.
    #[inline]
    fn in_vlan(self, vid: u16) -> Self {
        Self(self.0 & !VID | vid)
    }
}

/// Gives an owned frame the tag `want` in place of `have`, which it has; false, and nothing done, if
/// its buffer has no room before the frame.
pub(crate) fn set_tag(frame: &mut FrameMut<'_, Cpu>, have: Option<Tci>, want: Option<Tci>) -> bool {
    match (have, want) {
        (None, None) => {}
        (Some(_), None) => {
            frame.bytes_mut().copy_within(..ADDRESSES, TAG);
            return frame.trim_front(TAG);
        }
        (None, Some(_)) => {
            if frame.prepend(TAG).is_none() {
                return false;
            }
            frame.bytes_mut().copy_within(TAG..TAG + ADDRESSES, 0);
        }
        (Some(_), Some(_)) => {}
    }
    if let Some(Tci(tci)) = want {
        let [c, d] = tci.to_be_bytes();
        let tag = [TPID[0], TPID[1], c, d];
        frame.bytes_mut()[ADDRESSES..ADDRESSES + TAG].copy_from_slice(&tag);
    }
    true
}

/// A set of VLANs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Vids(Box<[u64; 64]>);

impl Vids {
    fn none() -> Self {
        Self(Box::new([0; 64]))
    }

    fn add(&mut self, vid: u16) {
        self.0[usize::from(vid / 64) % 64] |= 1 << (vid % 64);
    }

    #[inline]
    fn has(&self, vid: u16) -> bool {
        self.0[usize::from(vid / 64) % 64] >> (vid % 64) & 1 == 1
    }
}

/// Which VLANs a port belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    /// The VLAN of frames without a tag, and the one that leaves without a tag.
    untagged: Option<u16>,
    vids: Vids,
}

impl Default for Membership {
    fn default() -> Self {
        Self::access(DEFAULT)
    }
}

impl Membership {
    fn access(vid: u16) -> Self {
        let mut vids = Vids::none();
        vids.add(vid);
        Self { untagged: Some(vid), vids }
    }

    /// The VLAN of a frame that came in here; none if the port does not belong to it.
    #[inline]
    pub(crate) fn admit(&self, tag: Option<Tci>) -> Option<u16> {
        match tag.map(Tci::vid) {
            None | Some(0) => self.untagged,
            Some(vid) => self.vids.has(vid).then_some(vid),
        }
    }

    /// Whether the port belongs to a VLAN.
    #[inline]
    pub(crate) fn has(&self, vid: u16) -> bool {
        self.vids.has(vid)
    }

    /// The tag with which a frame of `vid` leaves here that came with `tag`.
    #[inline]
    pub(crate) fn leave(&self, vid: u16, tag: Option<Tci>) -> Option<Tci> {
        let is_tagged = self.untagged != Some(vid);
        is_tagged.then(|| tag.unwrap_or(Tci(0)).in_vlan(vid))
    }
}

/// `--vlan`: a port, by its number, and what it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortVlan {
    /// Number of the port, in the order of `-p`.
    pub port: usize,
    pub(crate) membership: Membership,
}

impl FromStr for PortVlan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form =
            || format!("'{text}' is not of the form 0:access=10 or 1:trunk=10,20-29[,native=1]");
        let (port, rest) = text.split_once(':').ok_or_else(form)?;
        let port = port.trim().parse().map_err(|_| form())?;
        let (kind, vids) = rest.split_once('=').ok_or_else(form)?;
        let membership = match kind.trim() {
            "access" => Membership::access(vid(vids)?),
            "trunk" => trunk(vids)?,
            _ => return Err(form()),
        };
        Ok(Self { port, membership })
    }
}

fn trunk(text: &str) -> Result<Membership, String> {
    let (mut vids, mut untagged) = (Vids::none(), None);
    for part in text.split(',') {
        if let Some(native) = part.trim().strip_prefix("native=") {
            let native = vid(native)?;
            if untagged.replace(native).is_some() {
                return Err("native is given twice; untagged frames are in one VLAN".to_owned());
            }
            vids.add(native);
            continue;
        }
        let (first, last) = match part.trim() {
            "all" => (*VIDS.start(), *VIDS.end()),
            part => match part.split_once('-') {
                Some((first, last)) => (vid(first)?, vid(last)?),
                None => (vid(part)?, vid(part)?),
            },
        };
        if last < first {
            return Err(format!("VLANs {first}-{last}: the first is behind the last"));
        }
        (first..=last).for_each(|vid| vids.add(vid));
    }
    Ok(Membership { untagged, vids })
}

fn vid(text: &str) -> Result<u16, String> {
    let vid = text.trim().parse().ok().filter(|vid| VIDS.contains(vid));
    vid.ok_or_else(|| format!("'{text}' is not a VLAN; should be a number, 1 to 4094"))
}

#[cfg(test)]
mod tests {
    use mempool::{Pool, heap::Heap};

    use super::*;

    fn port(text: &str) -> Membership {
        text.parse::<PortVlan>().unwrap().membership
    }

    fn tag(vid: u16) -> Option<Tci> {
        Some(Tci(0x6000 | vid))
    }

    #[test]
    fn an_access_port_is_in_one_vlan_and_sends_without_tags() {
        let port = port("3:access=10");
        assert_eq!(port.admit(None), Some(10));
        assert_eq!(port.admit(tag(0)), Some(10));
        assert_eq!(port.admit(tag(10)), Some(10));
        assert_eq!(port.admit(tag(11)), None);
        assert_eq!(port.leave(10, tag(10)), None);
        assert!(port.has(10) && !port.has(1));
    }

    #[test]
    fn a_trunk_carries_tags_but_for_its_native_vlan() {
        let port = port("0:trunk=10,20-22,native=5");
        assert_eq!(port.admit(None), Some(5));
        assert_eq!(port.admit(tag(21)), Some(21));
        assert_eq!(port.admit(tag(23)), None);
        assert_eq!(port.leave(5, tag(5)), None);
        assert_eq!(port.leave(21, None), Some(Tci(21)));
        assert_eq!(port.leave(21, tag(0)), Some(Tci(0x6000 | 21)), "the priority stays");
        assert_eq!(trunk("10").unwrap().admit(None), None);
        assert!(trunk("all").unwrap().has(4094));
    }

    #[test]
    fn what_cannot_be_says_what_can() {
        for (text, says) in [
            ("", "is not of the form 0:access=10"),
            ("0:10", "is not of the form"),
            ("x:access=10", "is not of the form"),
            ("0:hybrid=10", "is not of the form"),
            ("0:access=0", "'0' is not a VLAN; should be a number, 1 to 4094"),
            ("0:access=4095", "should be a number, 1 to 4094"),
            ("0:access=10,20", "should be a number, 1 to 4094"),
            ("0:trunk=10,70000", "'70000' is not a VLAN"),
            ("0:trunk=20-10", "the first is behind the last"),
            ("0:trunk=", "is not a VLAN"),
            ("0:trunk=1,native=2,native=3", "native is given twice"),
        ] {
            let error = text.parse::<PortVlan>().unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn tags_are_put_in_taken_out_and_changed_in_place() {
        let pool = Pool::<Cpu>::builder().slots(16).memory(&Heap::new()).build().unwrap();
        let mut cache = pool.cache();
        let mut buf = cache.take_one().unwrap();
        let plain: Vec<u8> = (0..64).collect();
        assert!(buf.frame_mut().append(&plain));
        let (ten, twenty) = (Some(Tci(10)), Some(Tci(0x2000 | 20)));
        assert!(set_tag(&mut buf.frame_mut(), None, ten));
        assert_eq!(buf.len(), 68);
        assert_eq!(Tci::of(buf.bytes()), ten);
        assert!(set_tag(&mut buf.frame_mut(), ten, twenty));
        assert_eq!(Tci::of(buf.bytes()), twenty);
        assert_eq!((&buf.bytes()[..12], &buf.bytes()[16..]), (&plain[..12], &plain[12..]));
        assert!(set_tag(&mut buf.frame_mut(), twenty, None));
        assert_eq!(buf.bytes(), plain);
        buf.frame_mut().reset(0);
        assert!(buf.frame_mut().append(&plain));
        assert!(!set_tag(&mut buf.frame_mut(), None, ten), "there is no headroom");
        assert_eq!(buf.bytes(), plain);
    }
}
