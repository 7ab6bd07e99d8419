//! Which flows there are: how many, and the addresses and ports that tell them apart.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
    str::FromStr,
};

use super::Template;
use crate::units::UnitError;

/// Most flows.
pub const MAX_FLOWS: usize = 1 << 20;

/// Addresses: one, `10.0.0.1-10.0.0.100`, or `10.1.0.0/16` (all of them).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddrRange {
    first: IpAddr,
    count: u128,
}

const ADDRESSES: &str =
    "an address, a range such as 10.0.0.1-10.0.0.100 or a prefix such as 10.1.0.0/16";
const PORTS: &str = "a port, or a range such as 1000-2000";

fn wrong(text: &str, what: &'static str) -> UnitError {
    UnitError { text: text.chars().take(80).collect(), what }
}

fn number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => u128::from(addr.to_bits()),
        IpAddr::V6(addr) => addr.to_bits(),
    }
}

impl From<IpAddr> for AddrRange {
    fn from(first: IpAddr) -> Self {
        Self { first, count: 1 }
    }
}

impl FromStr for AddrRange {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error = || wrong(text, ADDRESSES);
        let addr = |text: &str| text.trim().parse::<IpAddr>().map_err(|_| error());
        if let Some((base, bits)) = text.split_once('/') {
            let (base, bits) = (addr(base)?, bits.parse::<u32>().map_err(|_| error())?);
            let width: u32 = if base.is_ipv4() { 32 } else { 128 };
            let host = width.checked_sub(bits).ok_or_else(error)?;
            let mask = 1u128.checked_shl(host).map_or(u128::MAX, |size| size - 1);
            let first = with_number(base, number(base) & !mask);
            return Ok(Self { first, count: mask.saturating_add(1) });
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (addr(first)?, addr(last)?);
        let same = first.is_ipv4() == last.is_ipv4();
        let span = number(last).checked_sub(number(first)).filter(|_| same).ok_or_else(error)?;
        Ok(Self { first, count: span.saturating_add(1) })
    }
}

fn with_number(like: IpAddr, number: u128) -> IpAddr {
    match like {
        #[expect(clippy::cast_possible_truncation, reason = "from a 32-bit address and its range")]
        IpAddr::V4(_) => Ipv4Addr::from_bits(number as u32).into(),
        IpAddr::V6(_) => Ipv6Addr::from_bits(number).into(),
    }
}

impl AddrRange {
    /// The first.
    #[must_use]
    pub fn first(&self) -> IpAddr {
        self.first
    }

    fn at(&self, index: usize) -> IpAddr {
        with_number(self.first, number(self.first) + index as u128 % self.count)
    }
}

/// Ports: one, or `1000-2000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl From<u16> for PortRange {
    fn from(port: u16) -> Self {
        Self { first: port, last: port }
    }
}

impl From<RangeInclusive<u16>> for PortRange {
    /// A range that is empty is its first port.
    fn from(ports: RangeInclusive<u16>) -> Self {
        Self { first: *ports.start(), last: *ports.end().max(ports.start()) }
    }
}

impl FromStr for PortRange {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error = || wrong(text, PORTS);
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| text.trim().parse::<u16>().map_err(|_| error());
        let (first, last) = (port(first)?, port(last)?);
        if last < first { Err(error()) } else { Ok(Self { first, last }) }
    }
}

impl PortRange {
    /// The first.
    #[must_use]
    pub fn first(&self) -> u16 {
        self.first
    }

    fn count(self) -> usize {
        usize::from(self.last - self.first) + 1
    }

    fn at(self, index: usize) -> u16 {
        let step = u16::try_from(index % self.count()).unwrap_or(0);
        self.first + step
    }
}

/// The flows. Ranges that are not given are the template's one value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flows {
    /// How many; 0 is as many as the ranges make.
    pub count: usize,
    /// Sources.
    pub src: Option<AddrRange>,
    /// Destinations.
    pub dst: Option<AddrRange>,
    /// Source ports.
    pub src_port: Option<PortRange>,
    /// Destination ports.
    pub dst_port: Option<PortRange>,
    /// In random order, not in turn.
    pub random: bool,
}

/// Flows that cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlowError {
    /// More than there may be.
    #[error(
        "{asked} flows: should be 1 to {MAX_FLOWS}; narrow the ranges, or say how many with --flows"
    )]
    TooMany {
        /// What was asked, or what the ranges make.
        asked: u128,
    },
    /// Fewer than the ranges make.
    #[error("{asked} flows, and these addresses and ports make {made}; widen a range")]
    TooFew {
        /// What was asked.
        asked: usize,
        /// What the ranges make.
        made: u128,
    },
    /// Ranges of two IP versions.
    #[error("addresses of IPv4 and of IPv6 in one template")]
    Versions,
    /// Fewer flows than queues.
    #[error("{flows} flows for {queues} queues: each queue needs one of its own")]
    Queues {
        /// Flows.
        flows: usize,
        /// Queues.
        queues: usize,
    },
}

/// What tells a flow apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// From whom.
    pub src: IpAddr,
    /// To whom.
    pub dst: IpAddr,
    /// From which port.
    pub src_port: u16,
    /// To which port.
    pub dst_port: u16,
}

impl Flows {
    /// The flows, each once. Source ports vary fastest, then sources, destinations, destination
    /// ports. Where only a count is given, source ports go on from the template's.
    ///
    /// # Errors
    /// There would be none, too many, or fewer than asked.
    pub fn keys(&self, template: &Template) -> Result<Vec<FlowKey>, FlowError> {
        let src = self.src.unwrap_or_else(|| template.src.into());
        let dst = self.dst.unwrap_or_else(|| template.dst.into());
        if src.first.is_ipv4() != dst.first.is_ipv4() {
            return Err(FlowError::Versions);
        }
        let mut src_port = self.src_port.unwrap_or_else(|| template.src_port.into());
        let dst_port = self.dst_port.unwrap_or_else(|| template.dst_port.into());
        let others = src.count.saturating_mul(dst.count).saturating_mul(dst_port.count() as u128);
        if self.src_port.is_none() && (self.count as u128) > others {
            let ports = (self.count as u128).div_ceil(others);
            let last = u128::from(src_port.first) + ports - 1;
            src_port.last = u16::try_from(last).unwrap_or(u16::MAX);
        }
        let made = others.saturating_mul(src_port.count() as u128);
        let asked = if self.count == 0 { made } else { self.count as u128 };
        let Some(count) = usize::try_from(asked).ok().filter(|count| *count <= MAX_FLOWS) else {
            return Err(FlowError::TooMany { asked });
        };
        if asked > made {
            return Err(FlowError::TooFew { asked: count, made });
        }
        // A range longer than there are flows is a number of flows to whoever counts in `usize`.
        let len = |count: u128| usize::try_from(count).unwrap_or(usize::MAX);
        Ok((0..count)
            .map(|index| {
                let (rest, port) = (index / src_port.count(), index % src_port.count());
                let (rest, from) = (rest / len(src.count), rest % len(src.count));
                let (rest, to) = (rest / len(dst.count), rest % len(dst.count));
                FlowKey {
                    src: src.at(from),
                    dst: dst.at(to),
                    src_port: src_port.at(port),
                    dst_port: dst_port.at(rest),
                }
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn keys(flows: Flows) -> Result<Vec<FlowKey>, FlowError> {
        flows.keys(&Template::default())
    }

    fn range<T: FromStr<Err = UnitError>>(text: &str) -> Option<T> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn flows_are_distinct_and_within_their_ranges() {
        let flows = Flows {
            src: range("10.0.0.1-10.0.0.3"),
            dst: range("10.1.0.9/30"),
            dst_port: range("5-6"),
            ..Flows::default()
        };
        let all = keys(flows.clone()).unwrap();
        assert_eq!(all.len(), 3 * 4 * 2);
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
        assert_eq!(all[0].dst, IpAddr::from([10, 1, 0, 8]));
        let few = keys(Flows { count: 5, ..flows.clone() }).unwrap();
        assert_eq!(few[..], all[..5]);
        let many = keys(Flows { count: 30, ..flows.clone() }).unwrap();
        assert_eq!(many.iter().collect::<HashSet<_>>().len(), 30);
        assert!(many.iter().all(|key| (9000..=9001).contains(&key.src_port)));
        let fixed = Flows { count: 30, src_port: range("9000"), ..flows };
        assert_eq!(keys(fixed), Err(FlowError::TooFew { asked: 30, made: 24 }));
    }

    #[test]
    fn a_count_alone_takes_source_ports() {
        let all = keys(Flows { count: 3, ..Flows::default() }).unwrap();
        assert_eq!(all.iter().map(|key| key.src_port).collect::<Vec<_>>(), [9000, 9001, 9002]);
        let error = keys(Flows { count: 60_000, ..Flows::default() }).unwrap_err();
        assert_eq!(error, FlowError::TooFew { asked: 60_000, made: 56_536 });
    }

    #[test]
    fn there_is_an_end_to_flows() {
        let error = keys(Flows { dst: range("10.0.0.0/8"), ..Flows::default() }).unwrap_err();
        assert!(error.to_string().starts_with("16777216 flows: should be 1 to 1048576"), "{error}");
        let wide = Flows { dst: range("::/0"), src: range("::1"), count: 9, ..Flows::default() };
        assert_eq!(keys(wide).unwrap().len(), 9);
    }

    #[test]
    fn ranges_that_are_none_are_refused_by_example() {
        for text in ["", "10.0.0", "10.0.0.2-10.0.0.1", "10.0.0.0/33", "10.0.0.1-::1", "::/129"] {
            let error = text.parse::<AddrRange>().unwrap_err().to_string();
            assert!(error.contains("a prefix such as 10.1.0.0/16"), "{text}: {error}");
        }
        for text in ["", "70000", "5-4", "a-b", "-1"] {
            let error = text.parse::<PortRange>().unwrap_err().to_string();
            assert!(error.contains("a range such as 1000-2000"), "{text}: {error}");
        }
    }
}
