//! Expressions: checks of a field, joined by and, or, not; and the checks that packet words stand for.
//! The same as libpcap's for Ethernet, offset by offset.

use std::net::{Ipv4Addr, Ipv6Addr};

/// How many bytes a field has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    Byte,
    Half,
    Word,
}

/// Where a field stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// From the start of the frame.
    Fixed(u32),
    /// Behind the IPv4 header that starts at `header`: there and `at` on.
    BehindIpv4 { header: u32, at: u32 },
    /// Not in the frame: its length.
    Length,
}

/// How a field is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cond {
    Equal,
    Greater,
    GreaterEqual,
    AnyBit,
}

/// A comparison of one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) size: Size,
    pub(super) place: Place,
    pub(super) mask: Option<u32>,
    pub(super) cond: Cond,
    pub(super) value: u32,
}

/// An expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expr {
    Check(Check),
    Not(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
}

impl Expr {
    pub(super) fn and(self, other: Self) -> Self {
        Self::And(Box::new(self), Box::new(other))
    }

    pub(super) fn or(self, other: Self) -> Self {
        Self::Or(Box::new(self), Box::new(other))
    }

    pub(super) fn not(self) -> Self {
        Self::Not(Box::new(self))
    }

    /// At least one of them; there is one.
    fn any(first: Self, others: impl IntoIterator<Item = Self>) -> Self {
        others.into_iter().fold(first, Self::or)
    }

    fn field(size: Size, at: u32, value: u32) -> Self {
        let place = Place::Fixed(at);
        Self::Check(Check { size, place, mask: None, cond: Cond::Equal, value })
    }

    fn masked(size: Size, at: u32, mask: u32, value: u32) -> Self {
        let (place, mask) = (Place::Fixed(at), (mask != u32::MAX).then_some(mask));
        Self::Check(Check { size, place, mask, cond: Cond::Equal, value })
    }
}

/// Source or destination, or both ways of joining them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Destination,
    #[default]
    Either,
    Both,
}

impl Side {
    fn join(self, source: Expr, destination: Expr) -> Expr {
        match self {
            Self::Source => source,
            Self::Destination => destination,
            Self::Either => source.or(destination),
            Self::Both => source.and(destination),
        }
    }
}

pub(super) const IPV4: u32 = 0x0800;
pub(super) const IPV6: u32 = 0x86dd;
pub(super) const ARP: u32 = 0x0806;
pub(super) const RARP: u32 = 0x8035;
pub(super) const TCP: u32 = 6;
pub(super) const UDP: u32 = 17;
pub(super) const SCTP: u32 = 132;

/// Where headers stand: `vlan` moves them for what comes after it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Layers {
    /// Bytes of the VLAN tags before the EtherType.
    pub(super) tags: u32,
}

impl Layers {
    fn network(self) -> u32 {
        14 + self.tags
    }

    pub(super) fn ethertype(self, value: u32) -> Expr {
        Expr::field(Size::Half, 12 + self.tags, value)
    }

    /// The EtherType is that of a tag; of this VLAN, if one is named.
    pub(super) fn vlan(self, id: Option<u32>) -> Expr {
        let tag =
            Expr::any(self.ethertype(0x8100), [0x88a8, 0x9100].map(|kind| self.ethertype(kind)));
        match id {
            None => tag,
            Some(id) => tag.and(Expr::masked(Size::Half, self.network(), 0xfff, id)),
        }
    }

    pub(super) fn ipv4_protocol(self, protocol: u32) -> Expr {
        let field = Expr::field(Size::Byte, self.network() + 9, protocol);
        self.ethertype(IPV4).and(field)
    }

    /// The next header, or the one behind a fragment header.
    pub(super) fn ipv6_protocol(self, protocol: u32) -> Expr {
        let next = |at, value| Expr::field(Size::Byte, self.network() + at, value);
        let fragment = next(6, 44).and(next(40, protocol));
        self.ethertype(IPV6).and(next(6, protocol).or(fragment))
    }

    pub(super) fn protocol(self, protocol: u32) -> Expr {
        self.ipv6_protocol(protocol).or(self.ipv4_protocol(protocol))
    }

    /// A port from `low` to `high`, of these protocols (all three if there are none), of IPv4 first
    /// fragments and of IPv6 without extension headers.
    pub(super) fn port(self, side: Side, protocols: &[u32], low: u32, high: u32) -> Expr {
        let protocols = if protocols.is_empty() { &[SCTP, TCP, UDP] } else { protocols };
        let within = |place: Place| {
            let check = |cond, value| {
                Expr::Check(Check { size: Size::Half, place, mask: None, cond, value })
            };
            if low == high {
                check(Cond::Equal, low)
            } else {
                check(Cond::GreaterEqual, low).and(check(Cond::Greater, high).not())
            }
        };
        let of = |at: u32| {
            let is = |protocol| Expr::field(Size::Byte, self.network() + at, protocol);
            Expr::any(is(protocols[0]), protocols[1..].iter().map(|protocol| is(*protocol)))
        };
        let header = self.network();
        let ports = side.join(within(Place::Fixed(header + 40)), within(Place::Fixed(header + 42)));
        let v6 = self.ethertype(IPV6).and(of(6)).and(ports);
        let later = Expr::Check(Check {
            size: Size::Half,
            place: Place::Fixed(header + 6),
            mask: None,
            cond: Cond::AnyBit,
            value: 0x1fff,
        });
        let ports = side.join(
            within(Place::BehindIpv4 { header, at: header }),
            within(Place::BehindIpv4 { header, at: header + 2 }),
        );
        let v4 = self.ethertype(IPV4).and(of(9)).and(later.not()).and(ports);
        v6.or(v4)
    }

    /// An IPv4 network: addresses of packets of these EtherTypes (of IPv4, ARP and RARP if there are
    /// none).
    pub(super) fn net4(self, side: Side, kinds: &[u32], address: Ipv4Addr, bits: u32) -> Expr {
        let kinds = if kinds.is_empty() { &[IPV4, ARP, RARP] } else { kinds };
        let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
        let of = |kind: u32| {
            let [source, destination] = if kind == IPV4 { [12, 16] } else { [14, 24] };
            let is =
                |at| Expr::masked(Size::Word, self.network() + at, mask, u32::from(address) & mask);
            self.ethertype(kind).and(side.join(is(source), is(destination)))
        };
        Expr::any(of(kinds[0]), kinds[1..].iter().map(|kind| of(*kind)))
    }

    /// An IPv6 network.
    pub(super) fn net6(self, side: Side, address: Ipv6Addr, bits: u32) -> Expr {
        let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
        let word = |of: u128, at: u32| (of >> (96 - 32 * at) & 0xffff_ffff) as u32;
        let is = |start: u32| {
            let part = |at: u32| {
                let mask = word(mask, at);
                let value = word(address.to_bits(), at) & mask;
                Expr::masked(Size::Word, self.network() + start + 4 * at, mask, value)
            };
            let used = bits.div_ceil(32).max(1);
            (1..used).map(part).fold(part(0), Expr::and)
        };
        self.ethertype(IPV6).and(side.join(is(8), is(24)))
    }

    /// An Ethernet address; tags are behind the addresses.
    pub(super) fn mac(side: Side, mac: [u8; 6]) -> Expr {
        let [a, b, c, d, e, f] = mac;
        let is = |at| {
            let front = Expr::field(Size::Half, at, u32::from_be_bytes([0, 0, a, b]));
            let back = Expr::field(Size::Word, at + 2, u32::from_be_bytes([c, d, e, f]));
            back.and(front)
        };
        side.join(is(6), is(0))
    }

    /// The group bit of the destination.
    pub(super) fn group() -> Expr {
        let (size, place, value) = (Size::Byte, Place::Fixed(0), 1);
        Expr::Check(Check { size, place, mask: None, cond: Cond::AnyBit, value })
    }

    /// Frames at least, or at most, that long.
    pub(super) fn length(is_least: bool, len: u32) -> Expr {
        let check = |cond| {
            let (size, place) = (Size::Word, Place::Length);
            Expr::Check(Check { size, place, mask: None, cond, value: len })
        };
        if is_least { check(Cond::GreaterEqual) } else { check(Cond::Greater).not() }
    }
}
