//! The options of an `af_packet` port spec. Text in, numbers out; asks the system nothing.

use crate::{Error, PortSpec};

/// How the kernel spreads frames over several receive queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fanout {
    mode: u32,
    flags: u32,
}

impl Fanout {
    /// The value of `PACKET_FANOUT` that starts a group: the kernel picks its number.
    pub(super) fn new_group(self) -> u32 {
        self.join(0) | libc::PACKET_FANOUT_FLAG_UNIQUEID << 16
    }

    /// The value of `PACKET_FANOUT` that joins the group `id`.
    pub(super) fn join(self, id: u16) -> u32 {
        // Frames that we sent are no news, in a group as in a socket.
        let flags = self.flags | libc::PACKET_FANOUT_FLAG_IGNORE_OUTGOING;
        u32::from(id) | (self.mode | flags) << 16
    }
}

/// What a port spec may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// Blocks of a receive ring.
    pub(super) blocks: usize,
    /// Bytes of a block.
    pub(super) block: usize,
    /// A block that is not full is handed over after that time.
    pub(super) timeout_ms: u32,
    pub(super) fanout: Fanout,
    /// Whether frames go to the driver past the queueing discipline.
    pub(super) qdisc_bypass: bool,
}

const KEYS: [&str; 5] = ["blocks", "block", "timeout", "fanout", "qdisc_bypass"];
const PAGE: usize = 4096;

impl Options {
    pub(super) fn of(spec: &PortSpec) -> Result<Self, Error> {
        spec.only(&KEYS)?;
        let blocks = number(spec, "blocks", 64, 2..=4096)?;
        let block = number(spec, "block", 256 << 10, PAGE..=16 << 20)?;
        let timeout_ms = number(spec, "timeout", 1, 1..=1000)?;
        Ok(Self {
            blocks,
            block,
            timeout_ms: u32::try_from(timeout_ms).unwrap_or(1000),
            fanout: fanout(spec)?,
            qdisc_bypass: match spec.options.get("qdisc_bypass").map(String::as_str) {
                None | Some("" | "1") => true,
                Some("0") => false,
                Some(other) => return Err(bad(spec, "qdisc_bypass", other, "0 or 1")),
            },
        })
    }
}

fn bad(spec: &PortSpec, key: &str, value: &str, should: &str) -> Error {
    let why = format!("option {key}={value}: should be {should}");
    Error::BadOption { port: spec.to_string(), why }
}

/// A number in a range; sizes and counts of rings are powers of two, `timeout` is any.
fn number(
    spec: &PortSpec,
    key: &str,
    default: usize,
    range: std::ops::RangeInclusive<usize>,
) -> Result<usize, Error> {
    let Some(text) = spec.options.get(key) else {
        return Ok(default);
    };
    let power = key != "timeout";
    let value = parse_size(text).filter(|value| range.contains(value));
    value.filter(|value| !power || value.is_power_of_two()).ok_or_else(|| {
        let kind = if power { "a power of two (K and M are understood)" } else { "milliseconds" };
        bad(spec, key, text, &format!("{kind} in {}..={}", range.start(), range.end()))
    })
}

fn parse_size(text: &str) -> Option<usize> {
    let (digits, shift) = match text.strip_suffix(['K', 'k']) {
        Some(digits) => (digits, 10),
        None => text.strip_suffix(['M', 'm']).map_or((text, 0), |digits| (digits, 20)),
    };
    digits.parse::<usize>().ok()?.checked_mul(1 << shift)
}

fn fanout(spec: &PortSpec) -> Result<Fanout, Error> {
    let text = spec.options.get("fanout").map_or("hash", String::as_str);
    let mut words = text.split('+');
    let mode = match words.next() {
        Some("hash") => Some(libc::PACKET_FANOUT_HASH),
        Some("cpu") => Some(libc::PACKET_FANOUT_CPU),
        Some("lb") => Some(libc::PACKET_FANOUT_LB),
        Some("qm") => Some(libc::PACKET_FANOUT_QM),
        _ => None,
    };
    let flags = words.try_fold(0, |flags, word| match word {
        "rollover" => Some(flags | libc::PACKET_FANOUT_FLAG_ROLLOVER),
        "defrag" => Some(flags | libc::PACKET_FANOUT_FLAG_DEFRAG),
        _ => None,
    });
    match (mode, flags) {
        (Some(mode), Some(flags)) => Ok(Fanout { mode, flags }),
        _ => Err(bad(spec, "fanout", text, "hash, cpu, lb or qm, then +rollover, +defrag")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Result<Options, String> {
        Options::of(&text.parse().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_bare_interface_gets_the_defaults() {
        let options = options("af_packet:eth7").unwrap();
        assert_eq!((options.blocks, options.block, options.timeout_ms), (64, 256 << 10, 1));
        assert!(options.qdisc_bypass);
        assert_eq!(options.fanout.join(5), 5 | 0x4000 << 16);
    }

    #[test]
    fn every_option_is_read() {
        let text = "af_packet:e,blocks=8,block=1M,timeout=20,fanout=qm+rollover,qdisc_bypass=0";
        let options = options(text).unwrap();
        assert_eq!((options.blocks, options.block, options.timeout_ms), (8, 1 << 20, 20));
        assert!(!options.qdisc_bypass);
        assert_eq!(options.fanout.new_group(), (5 | 0x1000 | 0x4000 | 0x2000) << 16);
    }

    #[test]
    fn a_value_that_cannot_be_says_what_can() {
        for (text, part) in [
            ("af_packet:e,blocks=3", "option blocks=3: should be a power of two"),
            ("af_packet:e,block=2K", "in 4096..=16777216"),
            ("af_packet:e,timeout=0", "milliseconds in 1..=1000"),
            ("af_packet:e,fanout=best", "hash, cpu, lb or qm"),
            ("af_packet:e,qdisc_bypass=2", "0 or 1"),
            ("af_packet:e,size=64", "has no option 'size'; it has: blocks, block, timeout"),
        ] {
            let message = options(text).unwrap_err();
            assert!(message.contains(part), "{message}");
        }
    }
}
