//! From words to an expression. A small part of pcap-filter(7), with its meaning: `and` and `or` bind
//! alike and from left to right, `not` binds tighter, `vlan` moves what stands behind it.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{
    FilterError,
    expr::{ARP, Expr, IPV4, IPV6, Layers, RARP, SCTP, Side, TCP, UDP},
    words::{Word, words},
};

/// Parentheses and negations in each other, at most.
const DEEPEST: usize = 64;
const KNOWN: &str = "ip, ip6, arp, rarp, tcp, udp, sctp, icmp, icmp6, igmp, [src|dst] port, portrange, \
                     host or net, vlan, ether host or proto, ip proto, broadcast, multicast, less, greater";

/// What kind of value a number or an address is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Host,
    Net,
    Port,
    PortRange,
}

/// What stands before a value; what follows `or` may leave it out.
#[derive(Clone, Debug, Default)]
struct Qualifiers {
    /// `ip`, `arp`, `tcp` …
    family: Option<&'static str>,
    side: Side,
    kind: Kind,
}

struct Parser<'a> {
    words: Vec<Word<'a>>,
    next: usize,
    end: usize,
    depth: usize,
    layers: Layers,
    last: Option<Qualifiers>,
}

/// Reads an expression.
pub(super) fn parse(text: &str) -> Result<Expr, FilterError> {
    let words = words(text)?;
    let mut parser =
        Parser { words, next: 0, end: text.len(), depth: 0, layers: Layers::default(), last: None };
    let expr = parser.joined()?;
    match parser.peek() {
        None => Ok(expr),
        Some(")") => Err(parser.wrong("this parenthesis was never opened")),
        Some(_) => Err(parser.wrong("expected 'and' or 'or'")),
    }
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.next).map(|word| word.text)
    }

    fn take(&mut self, text: &str) -> bool {
        let is = self.peek() == Some(text);
        self.next += usize::from(is);
        is
    }

    fn wrong(&self, why: impl Into<String>) -> FilterError {
        let at = self.words.get(self.next).map_or(self.end, |word| word.at);
        FilterError { at: Some(at), why: why.into() }
    }

    /// The next word, read by `read`; it is gone on to only if it could be read.
    fn value<T>(
        &mut self,
        what: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, FilterError> {
        let value = self.peek().and_then(read).ok_or_else(|| {
            let found = self.peek().map_or("the end".to_owned(), |word| format!("'{word}'"));
            self.wrong(format!("expected {what}, found {found}"))
        })?;
        self.next += 1;
        Ok(value)
    }

    fn joined(&mut self) -> Result<Expr, FilterError> {
        let mut expr = self.negated()?;
        loop {
            expr = if self.take("and") {
                expr.and(self.negated()?)
            } else if self.take("or") {
                expr.or(self.negated()?)
            } else {
                return Ok(expr);
            };
        }
    }

    fn negated(&mut self) -> Result<Expr, FilterError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.wrong(format!("more than {DEEPEST} levels deep")));
        }
        let expr = if self.take("not") {
            self.negated()?.not()
        } else if self.take("(") {
            let inner = self.joined()?;
            if !self.take(")") {
                return Err(self.wrong("expected ')'"));
            }
            inner
        } else {
            self.primitive()?
        };
        self.depth -= 1;
        Ok(expr)
    }

    fn primitive(&mut self) -> Result<Expr, FilterError> {
        let Some(word) = self.peek() else {
            return Err(self.wrong("expected a test, found the end"));
        };
        let layers = self.layers;
        if matches!(word, "and" | "or" | ")") {
            return Err(self.wrong(format!("expected a test, found '{word}'")));
        }
        // `port 53 or 54`: the value alone.
        let is_value = word.starts_with(|c: char| c.is_ascii_digit()) || word.contains(':');
        if let (true, Some(last)) = (is_value, self.last.clone()) {
            return self.address_or_port(&last);
        }
        match word {
            "vlan" => {
                self.next += 1;
                let is_number = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
                let id = match self.peek().filter(|word| is_number(word)) {
                    None => None,
                    Some(_) => Some(self.value("a VLAN from 0 to 4095", |word| {
                        number(word).filter(|id| *id < 4096)
                    })?),
                };
                self.layers.tags += 4;
                return Ok(layers.vlan(id));
            }
            "ether" => {
                self.next += 1;
                return self.ether();
            }
            "broadcast" => {
                self.next += 1;
                return Ok(Layers::mac(Side::Destination, [0xff; 6]));
            }
            "multicast" => {
                self.next += 1;
                return Ok(Layers::group());
            }
            "less" | "greater" => {
                self.next += 1;
                let len = self.value("a length in bytes", number)?;
                return Ok(Layers::length(word == "greater", len));
            }
            _ => {}
        }
        let mut qualifiers = Qualifiers::default();
        for family in ["ip", "ip6", "arp", "rarp", "tcp", "udp", "sctp", "icmp", "icmp6", "igmp"] {
            if self.take(family) {
                qualifiers.family = Some(family);
                if matches!(family, "ip" | "ip6") && self.take("proto") {
                    let protocol = self.value("a protocol", protocol)?;
                    return Ok(match family {
                        "ip" => layers.ipv4_protocol(protocol),
                        _ => layers.ipv6_protocol(protocol),
                    });
                }
                break;
            }
        }
        let side = self.side();
        qualifiers.side = side.unwrap_or_default();
        let kind = [
            ("host", Kind::Host),
            ("net", Kind::Net),
            ("port", Kind::Port),
            ("portrange", Kind::PortRange),
        ];
        let kind = kind.into_iter().find(|(word, _)| self.take(word));
        qualifiers.kind = kind.map(|(_, kind)| kind).unwrap_or_default();
        match (qualifiers.family, side, kind) {
            (None, None, None) => {
                Err(self.wrong(format!("'{word}' is not known here; known: {KNOWN}")))
            }
            (Some(family), None, None) => Ok(self.family(family)),
            _ => self.address_or_port(&qualifiers),
        }
    }

    /// `src`, `dst`, `src or dst`, `src and dst`.
    fn side(&mut self) -> Option<Side> {
        let (first, second, side) = match self.peek()? {
            "src" => ("src", "dst", Side::Source),
            "dst" => ("dst", "src", Side::Destination),
            _ => return None,
        };
        self.take(first);
        let joint = self.peek();
        let other = self.words.get(self.next + 1).map(|word| word.text);
        if other == Some(second) && matches!(joint, Some("and" | "or")) {
            self.next += 2;
            return Some(if joint == Some("and") { Side::Both } else { Side::Either });
        }
        Some(side)
    }

    fn family(&self, family: &str) -> Expr {
        let layers = self.layers;
        match family {
            "ip" => layers.ethertype(IPV4),
            "ip6" => layers.ethertype(IPV6),
            "arp" => layers.ethertype(ARP),
            "rarp" => layers.ethertype(RARP),
            "icmp" => layers.ipv4_protocol(1),
            "igmp" => layers.ipv4_protocol(2),
            "icmp6" => layers.ipv6_protocol(58),
            "tcp" => layers.protocol(TCP),
            "udp" => layers.protocol(UDP),
            _ => layers.protocol(SCTP),
        }
    }

    fn ether(&mut self) -> Result<Expr, FilterError> {
        if self.take("proto") {
            let value = self.value("an EtherType, or ip, ip6, arp, rarp", |word| match word {
                "ip" => Some(IPV4),
                "ip6" => Some(IPV6),
                "arp" => Some(ARP),
                "rarp" => Some(RARP),
                _ => number(word).filter(|value| (0x600..=0xffff).contains(value)),
            })?;
            return Ok(self.layers.ethertype(value));
        }
        if self.take("broadcast") {
            return Ok(Layers::mac(Side::Destination, [0xff; 6]));
        }
        if self.take("multicast") {
            return Ok(Layers::group());
        }
        let side = self.side();
        if !self.take("host") && side.is_none() {
            return Err(self.wrong("expected host, src, dst, proto, broadcast or multicast"));
        }
        let mac = self.value("an address such as 02:00:00:00:00:01", mac)?;
        Ok(Layers::mac(side.unwrap_or_default(), mac))
    }

    fn address_or_port(&mut self, qualifiers: &Qualifiers) -> Result<Expr, FilterError> {
        let Qualifiers { family, side, kind } = *qualifiers;
        self.last = Some(qualifiers.clone());
        let layers = self.layers;
        let wrong_family = |parser: &Self, what: &str| {
            Err(parser.wrong(format!("'{}' has no {what}", family.unwrap_or_default())))
        };
        match kind {
            Kind::Port | Kind::PortRange => {
                let protocols: &[u32] = match family {
                    None => &[],
                    Some("tcp") => &[TCP],
                    Some("udp") => &[UDP],
                    Some("sctp") => &[SCTP],
                    Some(_) => return wrong_family(self, "ports"),
                };
                let (low, high) = if kind == Kind::Port {
                    let port = self.value("a port number from 0 to 65535", port)?;
                    (port, port)
                } else {
                    self.value("a range of ports such as 5000-5010", |word| {
                        let (low, high) = word.split_once('-')?;
                        let (low, high) = (port(low)?, port(high)?);
                        Some((low.min(high), low.max(high)))
                    })?
                };
                Ok(layers.port(side, protocols, low, high))
            }
            Kind::Host | Kind::Net => {
                let what = if kind == Kind::Host {
                    "an address such as 10.0.0.1 or fe80::1"
                } else {
                    "a network such as 10.0.0.0/8 or fd00::/8"
                };
                let (address, bits) = self.value(what, |word| network(word, kind))?;
                let family = match (address, family) {
                    (_, None) => None,
                    (Address::V4(_), Some("ip")) => Some(IPV4),
                    (Address::V4(_), Some("arp")) => Some(ARP),
                    (Address::V4(_), Some("rarp")) => Some(RARP),
                    (Address::V6(_), Some("ip6")) => None,
                    _ => {
                        self.next -= 1;
                        return wrong_family(self, "such addresses");
                    }
                };
                Ok(match address {
                    Address::V4(address) => layers.net4(side, family.as_slice(), address, bits),
                    Address::V6(address) => layers.net6(side, address, bits),
                })
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Address {
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

/// An address, with the bits of its network if it is one; bits beyond those are zero.
fn network(word: &str, kind: Kind) -> Option<(Address, u32)> {
    let (address, bits) = match word.split_once('/') {
        Some((address, bits)) if kind == Kind::Net => (address, Some(number(bits)?)),
        Some(_) => return None,
        None => (word, None),
    };
    if let Ok(address) = address.parse::<Ipv4Addr>() {
        let bits = bits.unwrap_or(32);
        let rest = u32::MAX.checked_shr(bits).unwrap_or(0);
        return (bits <= 32 && u32::from(address) & rest == 0)
            .then_some((Address::V4(address), bits));
    }
    let address = address.parse::<Ipv6Addr>().ok()?;
    let bits = bits.unwrap_or(128);
    let rest = u128::MAX.checked_shr(bits).unwrap_or(0);
    (bits <= 128 && address.to_bits() & rest == 0).then_some((Address::V6(address), bits))
}

fn number(word: &str) -> Option<u32> {
    match word.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}

fn port(word: &str) -> Option<u32> {
    number(word).filter(|port| *port <= 65535)
}

fn protocol(word: &str) -> Option<u32> {
    match word {
        "icmp" => Some(1),
        "igmp" => Some(2),
        "tcp" => Some(TCP),
        "udp" => Some(UDP),
        "icmp6" => Some(58),
        "sctp" => Some(SCTP),
        _ => number(word).filter(|protocol| *protocol <= 255),
    }
}

fn mac(word: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = word.split([':', '-']);
    for byte in &mut mac {
        let part = parts.next().filter(|part| (1..=2).contains(&part.len()))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn what_is_wrong_is_named_by_its_column() {
        for (text, why) in [
            ("udp prt 53", "column 5: expected 'and' or 'or'"),
            ("udp port", "column 9: expected a port number from 0 to 65535, found the end"),
            ("port 70000", "column 6: expected a port number from 0 to 65535, found '70000'"),
            ("(ip or arp", "column 11: expected ')'"),
            ("ip)", "column 3: this parenthesis was never opened"),
            ("ip or", "column 6: expected a test, found the end"),
            ("or ip", "column 1: expected a test, found 'or'"),
            (
                "host 10.0.0",
                "column 6: expected an address such as 10.0.0.1 or fe80::1, found '10.0.0'",
            ),
            (
                "net 10.0.0.1/8",
                "column 5: expected a network such as 10.0.0.0/8 or fd00::/8, found '10.0.0.1/8'",
            ),
            ("icmp port 5", "column 11: 'icmp' has no ports"),
            ("ip6 host 10.0.0.1", "column 10: 'ip6' has no such addresses"),
            ("vlan 4096", "column 6: expected a VLAN from 0 to 4095, found '4096'"),
            (
                "ether host 1:2:3",
                "column 12: expected an address such as 02:00:00:00:00:01, found '1:2:3'",
            ),
            ("ip[0] = 4", "column 3: '[' is not known"),
            ("", "column 1: expected a test, found the end"),
        ] {
            assert_eq!(parse(text).expect_err(text).to_string(), why, "{text}");
        }
        let unknown = parse("quic").unwrap_err().to_string();
        assert!(
            unknown.starts_with("column 1: 'quic' is not known here; known: ip, "),
            "{unknown}"
        );
        assert!(parse(&"(".repeat(4000)).is_err());
        assert!(parse(&"not ".repeat(63)).is_err());
        let long = "x".repeat(5000);
        assert_eq!(
            parse(&long).unwrap_err().to_string(),
            "the expression is longer than 4096 bytes"
        );
    }
}
