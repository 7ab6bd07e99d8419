//! Which frames: from flags, from a TOML file, or from both, where flags win.

use std::{fmt, marker::PhantomData, path::PathBuf, str::FromStr};

use clap::ValueEnum;
use memwire_apps::{
    AppError,
    traffic::{
        AddrRange, AppHeader, Flows, HeaderChoice, PortRange, Sizes, Template, Traffic, Transport,
    },
    units::{UnitError, parse_count, parse_share},
};
use serde::{Deserialize, Deserializer, de};

/// Which frames.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Frames")]
pub struct HeaderArgs {
    /// Take the headers from a TOML file; flags win over it
    #[arg(long, value_name = "FILE.toml")]
    pub template: Option<PathBuf>,
    /// Bytes of a frame without FCS: 64, 64-1518, 64-1518/64, 60:7,590:4,1514:1 (weights), or imix
    /// (7:4:1 of 60, 590 and 1514) [default: 64; 1024 for the demo]
    #[arg(long, value_name = "SIZES")]
    pub size: Option<Sizes>,
    /// Flows [default: as many as the ranges of addresses and ports make]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub flows: Option<u64>,
    /// What is taken at random, by --seed, and not in turn: sizes, flows, or both
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    pub random: Vec<Shuffled>,
    /// Station address that frames are for
    #[arg(long, value_name = "MAC")]
    pub dst_mac: Option<Mac>,
    /// Station address that they are from [default: the port's]
    #[arg(long, value_name = "MAC")]
    pub src_mac: Option<Mac>,
    /// VLAN tag (802.1Q)
    #[arg(long, value_name = "ID")]
    pub vlan: Option<u16>,
    /// Service tag (802.1ad) before it
    #[arg(long, value_name = "ID")]
    pub outer_vlan: Option<u16>,
    /// Priority in the tags, 0 to 7
    #[arg(long, value_name = "N")]
    pub priority: Option<u8>,
    /// Source: 10.0.0.1, 10.0.0.1-10.0.0.100, 10.1.0.0/16; or IPv6
    #[arg(long, value_name = "ADDR")]
    pub src: Option<AddrRange>,
    /// Destination, in the same forms
    #[arg(long, value_name = "ADDR")]
    pub dst: Option<AddrRange>,
    /// Time to live, or hop limit
    #[arg(long, value_name = "N")]
    pub ttl: Option<u8>,
    /// Type of service, or traffic class
    #[arg(long, value_name = "N")]
    pub tos: Option<u8>,
    /// Count frames in the IPv4 identification field too (for `gpurx --seq ipid`)
    #[arg(long)]
    pub ip_id: bool,
    /// UDP, which is the default; said to override a file
    #[arg(long, conflicts_with = "tcp")]
    pub udp: bool,
    /// TCP with these flags, such as syn or psh+ack [default flags: ack]
    #[arg(long, value_name = "FLAGS", num_args = 0..=1, require_equals = true, default_missing_value = "ack")]
    pub tcp: Option<TcpFlags>,
    /// Source port, or a range such as 1000-2000
    #[arg(long, value_name = "PORT")]
    pub sport: Option<PortRange>,
    /// Destination port, or a range
    #[arg(long, value_name = "PORT")]
    pub dport: Option<PortRange>,
    /// An RTP header before the payload, with this payload type
    #[arg(long, value_name = "TYPE", num_args = 0..=1, require_equals = true, default_missing_value = "96", conflicts_with_all = ["spead", "tcp"])]
    pub rtp: Option<u8>,
    /// A SPEAD-64-48 header before the payload, with so many items
    #[arg(long, value_name = "ITEMS", num_args = 0..=1, require_equals = true, default_missing_value = "8", conflicts_with = "tcp")]
    pub spead: Option<u8>,
    /// UDP checksums over IPv4 too, where none (0) is allowed and the default
    #[arg(long)]
    pub checksum: bool,
    /// The memwire test header: long (24 B), short (16 B, without timestamp), none, or auto: long
    /// where there is room for it
    #[arg(long, value_name = "FORM")]
    pub header: Option<Form>,
    /// Share of frames of another flow that carry no number, e.g. 1%
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    pub foreign: Option<f64>,
    /// Write and sum a new payload for every frame; otherwise a buffer's payload is written once,
    /// with its CRC, and sent again and again
    #[arg(long)]
    pub fresh_payload: bool,
    /// Seed of all that is random
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// What can be taken at random.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shuffled {
    /// Sizes.
    Sizes,
    /// Flows.
    Flows,
}

/// Which test header.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// Long where there is room for it
    Auto,
    /// 24 bytes
    Long,
    /// 16 bytes, without timestamp
    Short,
    /// None: frames are only counted
    None,
}

impl From<Form> for HeaderChoice {
    fn from(form: Form) -> Self {
        match form {
            Form::Auto => Self::Auto,
            Form::Long => Self::Long,
            Form::Short => Self::Short,
            Form::None => Self::None,
        }
    }
}

/// A station address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl FromStr for Mac {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error = || UnitError {
            text: text.chars().take(80).collect(),
            what: "a station address such as 02:00:00:00:00:01",
        };
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|part| (1..=2).contains(&part.len()));
            *byte = part.and_then(|part| u8::from_str_radix(part, 16).ok()).ok_or_else(error)?;
        }
        if parts.next().is_none() { Ok(Self(bytes)) } else { Err(error()) }
    }
}

/// TCP flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

impl FromStr for TcpFlags {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        const NAMES: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];
        let bit = |name: &str| NAMES.iter().position(|known| *known == name).map(|at| 1 << at);
        let bits = text.split('+').map(bit).try_fold(0, |all, bit| Some(all | bit?));
        bits.map(Self).ok_or_else(|| UnitError {
            text: text.chars().take(80).collect(),
            what: "TCP flags joined by +, of fin, syn, rst, psh, ack, urg, ece, cwr",
        })
    }
}

/// A value that is a text or a number in the file.
struct Text<T>(T);

impl<'de, T: FromStr<Err = UnitError>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor<T>(PhantomData<T>);
        impl<T: FromStr<Err = UnitError>> de::Visitor<'_> for Visitor<T> {
            type Value = Text<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a whole number")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<T>, E> {
                text.parse().map(Text).map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Text<T>, E> {
                self.visit_str(&number.to_string())
            }
        }
        from.deserialize_any(Visitor(PhantomData))
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct File {
    size: Option<Text<Sizes>>,
    flows: Option<Text<Count>>,
    #[serde(default)]
    random: Vec<Shuffled>,
    header: Option<Form>,
    #[serde(default)]
    ethernet: Ethernet,
    #[serde(default)]
    ip: Ip,
    udp: Option<Udp>,
    tcp: Option<Tcp>,
    rtp: Option<Rtp>,
    spead: Option<Spead>,
}

struct Count(u64);

impl FromStr for Count {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse_count(text).map(Self)
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Ethernet {
    dst: Option<Text<Mac>>,
    src: Option<Text<Mac>>,
    vlan: Option<u16>,
    outer_vlan: Option<u16>,
    priority: Option<u8>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Ip {
    src: Option<Text<AddrRange>>,
    dst: Option<Text<AddrRange>>,
    ttl: Option<u8>,
    tos: Option<u8>,
    #[serde(default)]
    id: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Udp {
    src: Option<Text<PortRange>>,
    dst: Option<Text<PortRange>>,
    #[serde(default)]
    checksum: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tcp {
    src: Option<Text<PortRange>>,
    dst: Option<Text<PortRange>>,
    flags: Option<Text<TcpFlags>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rtp {
    #[serde(default = "dynamic")]
    payload_type: u8,
    #[serde(default)]
    ssrc: u32,
    #[serde(default = "one")]
    step: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spead {
    #[serde(default = "eight")]
    items: u8,
}

/// The first dynamic RTP payload type.
fn dynamic() -> u8 {
    96
}

fn one() -> u32 {
    1
}

fn eight() -> u8 {
    8
}

impl HeaderArgs {
    /// The traffic that flags and file ask for; `size` where neither says how long frames are.
    ///
    /// # Errors
    /// The file cannot be read, or the frames cannot be made.
    pub fn traffic(&self, size: usize) -> Result<Traffic, AppError> {
        let file = self.file()?;
        let mut template = Template { header: HeaderChoice::Auto, ..Template::default() };
        let has_l4 = [file.udp.is_some(), file.tcp.is_some()];
        if has_l4 == [true; 2] || (file.rtp.is_some() && file.spead.is_some()) {
            let message = "the template has both [udp] and [tcp], or both [rtp] and [spead]";
            return Err(AppError::usage(message));
        }
        let Ethernet { dst, src, vlan, outer_vlan, priority } = file.ethernet;
        let mac = |flag: Option<Mac>, file: Option<Text<Mac>>| flag.or(file.map(|text| text.0));
        if let Some(Mac(mac)) = mac(self.dst_mac, dst) {
            template.dst_mac = mac;
        }
        if let Some(Mac(mac)) = mac(self.src_mac, src) {
            template.src_mac = mac;
        }
        template.vlan = self.vlan.or(vlan);
        template.outer_vlan = self.outer_vlan.or(outer_vlan);
        template.priority = self.priority.or(priority).unwrap_or(0);
        let (from, to) = (file.ip.src.map(|text| text.0), file.ip.dst.map(|text| text.0));
        let (src, dst) = (self.src.or(from), self.dst.or(to));
        // Where one of the two is IPv6, so is the other's default.
        let is_v6 = src.or(dst).is_some_and(|range| range.first().is_ipv6());
        if is_v6 {
            template.src = [0xfd00, 0, 0, 0, 0, 0, 0, 1].into();
            template.dst = [0xfd00, 0, 0, 0, 0, 0, 0, 2].into();
        }
        template.src = src.map_or(template.src, |range| range.first());
        template.dst = dst.map_or(template.dst, |range| range.first());
        template.ttl = self.ttl.or(file.ip.ttl).unwrap_or(template.ttl);
        template.tos = self.tos.or(file.ip.tos).unwrap_or(0);
        template.ip_id = self.ip_id || file.ip.id;
        let (mut from, mut to) = (None, None);
        if let Some(udp) = file.udp {
            (from, to) = (udp.src, udp.dst);
            template.checksum = udp.checksum;
        }
        if let Some(tcp) = file.tcp {
            (from, to) = (tcp.src, tcp.dst);
            template.transport = Transport::Tcp { flags: tcp.flags.map_or(0x10, |text| text.0.0) };
        }
        template.checksum |= self.checksum;
        match self.tcp {
            Some(TcpFlags(flags)) => template.transport = Transport::Tcp { flags },
            None if self.udp => template.transport = Transport::Udp,
            None => {}
        }
        let src_port = self.sport.or(from.map(|text| text.0));
        let dst_port = self.dport.or(to.map(|text| text.0));
        template.src_port = src_port.map_or(template.src_port, |range| range.first());
        template.dst_port = dst_port.map_or(template.dst_port, |range| range.first());
        template.app = match (self.rtp, self.spead, file.rtp, file.spead) {
            (Some(payload_type), _, file, _) => {
                let (ssrc, step) = file.map_or((0, 1), |rtp| (rtp.ssrc, rtp.step));
                AppHeader::Rtp { payload_type, ssrc, step }
            }
            (None, Some(items), ..) => AppHeader::Spead { items },
            (None, None, Some(Rtp { payload_type, ssrc, step }), _) => {
                AppHeader::Rtp { payload_type, ssrc, step }
            }
            (None, None, None, Some(Spead { items })) => AppHeader::Spead { items },
            (None, None, None, None) => AppHeader::None,
        };
        if let Some(form) = self.header.or(file.header) {
            template.header = form.into();
        }
        let count = self.flows.or(file.flows.map(|text| text.0.0));
        if count == Some(0) {
            return Err(AppError::usage("0 flows: there is nothing to send"));
        }
        let is_random = |what| self.random.contains(&what) || file.random.contains(&what);
        let flows = Flows {
            // More than there can be is refused where flows are counted.
            count: usize::try_from(count.unwrap_or(0)).unwrap_or(usize::MAX),
            src,
            dst,
            src_port,
            dst_port,
            random: is_random(Shuffled::Flows),
        };
        let sizes = self.size.clone().or(file.size.map(|text| text.0));
        let traffic = Traffic {
            template,
            sizes: Some(sizes.unwrap_or_else(|| Sizes::fixed(size.max(template.least_frame())))),
            random_sizes: is_random(Shuffled::Sizes),
            flows,
            foreign: self.foreign.unwrap_or(0.0),
            fresh: self.fresh_payload,
            seed: self.seed,
        };
        let wrong = |error: &dyn fmt::Display| AppError::usage(error.to_string());
        traffic.check().map_err(|error| wrong(&error))?;
        traffic.flows.keys(&traffic.template).map_err(|error| wrong(&error))?;
        Ok(traffic)
    }

    fn file(&self) -> Result<File, AppError> {
        let Some(path) = &self.template else { return Ok(File::default()) };
        let name = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| AppError::missing(format!("--template {name}: {error}")))?;
        toml::from_str(&text).map_err(|error| {
            AppError::usage(format!("--template {name}: {}", error.to_string().trim_end()))
        })
    }
}

#[cfg(test)]
mod tests;
