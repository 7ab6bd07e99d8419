//! Rates, sizes, counts and durations as people write them. Text in, numbers out.

use std::{str::FromStr, time::Duration};

/// A quantity cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not {what}")]
pub struct UnitError {
    /// The text.
    pub text: String,
    /// What it should have been, with an example.
    pub what: &'static str,
}

const RATE: &str = "a rate such as 10mpps, 5gbps or 50%";
const SIZE: &str = "a size in bytes such as 64, 64K, 2M or 1G";
const COUNT: &str = "a count such as 1000, 10k or 1m";
const DURATION: &str = "a duration such as 10s, 500ms or 2m";
const SHARE: &str = "a share such as 1% or 0.5%";

fn wrong(text: &str, what: &'static str) -> UnitError {
    UnitError { text: text.to_owned(), what }
}

/// Bytes that a frame takes on the wire besides its own: FCS, preamble, and the gap behind it.
pub const OVERHEAD: usize = 24;

/// How fast to send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// Frames per second.
    Frames(f64),
    /// Bits per second, Ethernet header to payload, without FCS, preamble and gap.
    Bits(f64),
    /// Share of the link, 0..=1, of which each frame takes [`OVERHEAD`] bytes more than its length.
    Share(f64),
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error = || wrong(text, RATE);
        let lower = text.trim().to_ascii_lowercase();
        if lower.ends_with('%') {
            return parse_share(&lower).map(Self::Share).map_err(|_| error());
        }
        let (number, make): (_, fn(f64) -> Self) = if let Some(number) = lower.strip_suffix("pps") {
            (number, Self::Frames)
        } else if let Some(number) = lower.strip_suffix("bps") {
            (number, Self::Bits)
        } else {
            return Err(error());
        };
        let (number, scale) = match number.as_bytes().last() {
            Some(b'k') => (&number[..number.len() - 1], 1e3),
            Some(b'm') => (&number[..number.len() - 1], 1e6),
            Some(b'g') => (&number[..number.len() - 1], 1e9),
            _ => (number, 1.0),
        };
        let value = decimal(number).ok_or_else(error)? * scale;
        (value > 0.0).then(|| make(value)).ok_or_else(error)
    }
}

impl Rate {
    /// Frames per second for frames of `frame_len` bytes on a link of `link_mbps`; `None` where a
    /// share is asked of a link whose speed is not known.
    #[must_use]
    pub fn frames_per_second(self, frame_len: usize, link_mbps: Option<u32>) -> Option<f64> {
        self.mean_frames_per_second(frame_len as f64, link_mbps)
    }

    /// As [`Rate::frames_per_second`], for frames of `frame_len` bytes on average.
    #[must_use]
    pub fn mean_frames_per_second(self, frame_len: f64, link_mbps: Option<u32>) -> Option<f64> {
        let bits = |bytes: f64| bytes.max(1.0) * 8.0;
        match self {
            Self::Frames(rate) => Some(rate),
            Self::Bits(rate) => Some(rate / bits(frame_len)),
            Self::Share(share) => {
                Some(share * f64::from(link_mbps?) * 1e6 / bits(frame_len + OVERHEAD as f64))
            }
        }
    }
}

/// A plain decimal number: no sign, no exponent, no `inf`.
fn decimal(text: &str) -> Option<f64> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    text.parse().ok().filter(|_| plain)
}

/// Reads `1%`, as 0.01; at most `100%`.
///
/// # Errors
/// It is not a share.
pub fn parse_share(text: &str) -> Result<f64, UnitError> {
    let percent = text.trim().strip_suffix('%').and_then(decimal);
    percent
        .filter(|percent| *percent <= 100.0)
        .map(|percent| percent / 100.0)
        .ok_or_else(|| wrong(text, SHARE))
}

/// Reads `64`, `64K`, `2M`, `1G`: bytes, powers of 1024.
///
/// # Errors
/// It is not a size, or more than an address holds.
pub fn parse_size(text: &str) -> Result<usize, UnitError> {
    let units = [("k", 1 << 10), ("m", 1 << 20), ("g", 1 << 30), ("t", 1 << 40)];
    let value = scaled(text, "b", &units).ok_or_else(|| wrong(text, SIZE))?;
    usize::try_from(value).map_err(|_| wrong(text, SIZE))
}

/// Reads `1000`, `10k`, `1m`, `2g`: powers of 1000.
///
/// # Errors
/// It is not a count, or more than 64 bits hold.
pub fn parse_count(text: &str) -> Result<u64, UnitError> {
    let units = [("k", 1_000), ("m", 1_000_000), ("g", 1_000_000_000)];
    scaled(text, "", &units).ok_or_else(|| wrong(text, COUNT))
}

fn scaled(text: &str, tail: &str, units: &[(&str, u64)]) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let unit = unit.strip_suffix(tail).filter(|_| !tail.is_empty()).unwrap_or(unit);
    let unit = unit.strip_suffix('i').filter(|unit| !unit.is_empty()).unwrap_or(unit);
    let scale = match unit {
        "" => 1,
        _ => units.iter().find(|(name, _)| *name == unit)?.1,
    };
    number.parse::<u64>().ok()?.checked_mul(scale)
}

/// Reads `10s`, `500ms`, `1m 30s`; a bare number is seconds. Zero is refused.
///
/// # Errors
/// It is not a duration.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let error = || wrong(text, DURATION);
    let duration = match decimal(text.trim()) {
        Some(seconds) => Duration::try_from_secs_f64(seconds).map_err(|_| error())?,
        None => humantime::parse_duration(text.trim()).map_err(|_| error())?,
    };
    if duration.is_zero() { Err(error()) } else { Ok(duration) }
}

/// A rate of frames for people: `3.21 Mpps`, `12.0 kpps`.
#[must_use]
pub fn format_frames(per_second: f64) -> String {
    scale_1000(per_second, "pps")
}

/// A rate of bits for people: `9.87 Gb/s`.
#[must_use]
pub fn format_bits(per_second: f64) -> String {
    scale_1000(per_second, "b/s")
}

fn scale_1000(value: f64, unit: &str) -> String {
    let (value, prefix) = match value {
        v if v >= 1e9 => (v / 1e9, "G"),
        v if v >= 1e6 => (v / 1e6, "M"),
        v if v >= 1e3 => (v / 1e3, "k"),
        v => (v, ""),
    };
    let digits = if value >= 100.0 || prefix.is_empty() { 0 } else { 2 };
    format!("{value:.digits$} {prefix}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_frames_bits_or_a_share() {
        assert_eq!("10mpps".parse(), Ok(Rate::Frames(10e6)));
        assert_eq!("100kpps".parse(), Ok(Rate::Frames(100e3)));
        assert_eq!("7pps".parse(), Ok(Rate::Frames(7.0)));
        assert_eq!("5gbps".parse(), Ok(Rate::Bits(5e9)));
        assert_eq!("2.5Gbps".parse(), Ok(Rate::Bits(2.5e9)));
        assert_eq!("50%".parse(), Ok(Rate::Share(0.5)));
    }

    #[test]
    fn a_rate_without_a_unit_or_of_nothing_is_refused_by_example() {
        for text in ["10", "", "mpps", "0pps", "-1mpps", "1e3pps", "101%", "10 apples", "infpps"] {
            let error = text.parse::<Rate>().unwrap_err();
            assert_eq!(error.to_string(), format!("'{text}' is not {RATE}"));
        }
    }

    #[test]
    fn a_rate_becomes_frames_per_second() {
        assert_eq!(Rate::Bits(8e9).frames_per_second(1000, None), Some(1e6));
        // Gigabit Ethernet: 1.488 million frames of 64 bytes with FCS.
        let most = Rate::Share(1.0).frames_per_second(60, Some(1000)).unwrap();
        assert!((most - 1_488_095.2).abs() < 1.0, "{most}");
        assert_eq!(Rate::Share(0.5).frames_per_second(125, None), None);
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(parse_size("64"), Ok(64));
        assert_eq!(parse_size("64K"), Ok(64 << 10));
        assert_eq!(parse_size("2MiB"), Ok(2 << 20));
        assert_eq!(parse_size("1g"), Ok(1 << 30));
        for text in ["", "K", "1.5K", "1X", "-1", "99999999999999999999", "18446744073709551615G"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn counts_are_powers_of_1000() {
        assert_eq!(parse_count("10k"), Ok(10_000));
        assert_eq!(parse_count("3M"), Ok(3_000_000));
        assert!(parse_count("3q").is_err());
        assert!(parse_count("b").is_err());
    }

    #[test]
    fn durations_are_humantime_or_seconds() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("0.5"), Ok(Duration::from_millis(500)));
        for text in ["", "0s", "0", "-1s", "soon", "99999999999999999999999"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shares_need_a_percent_sign() {
        assert_eq!(parse_share("1%"), Ok(0.01));
        assert_eq!(parse_share("0%"), Ok(0.0));
        assert!(parse_share("0.01").is_err());
        assert!(parse_share("200%").is_err());
    }

    #[test]
    fn rates_are_printed_with_three_digits_or_so() {
        assert_eq!(format_frames(3_214_000.0), "3.21 Mpps");
        assert_eq!(format_bits(987e6), "987 Mb/s");
        assert_eq!(format_frames(12.0), "12 pps");
    }
}
