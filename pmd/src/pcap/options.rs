//! What a `pcap` port spec asks for. Text in, fields out; opens nothing.

use std::path::{Path, PathBuf};

use super::{FileOptions, Format, reader::MAX_CAPTURED};
use crate::{Error, PortSpec};

const KNOWN: &[&str] = &["loop", "pace", "tx", "format", "rotate", "snaplen", "strict"];
const SNAPLENS: std::ops::RangeInclusive<usize> = 14..=MAX_CAPTURED;
/// The smallest size to rotate at: a longest frame and its record always fit.
const LEAST_ROTATE: u64 = 1 << 20;

/// A port spec, read.
pub(super) struct Options {
    pub(super) input: Option<InputOptions>,
    pub(super) output: Option<FileOptions>,
}

/// The side that reads.
pub(super) struct InputOptions {
    /// `-` is standard input.
    pub(super) path: PathBuf,
    pub(super) replay: bool,
    pub(super) pace: bool,
    pub(super) strict: bool,
}

impl Options {
    pub(super) fn read(spec: &PortSpec) -> Result<Self, Error> {
        spec.only(KNOWN)?;
        let bad = |why: String| Error::BadOption { port: spec.to_string(), why };
        for key in ["loop", "pace", "strict"] {
            if let Some(value) = spec.options.get(key).filter(|_| !spec.flag(key)) {
                return Err(bad(format!("option {key}={value}: {key} takes no value")));
            }
        }
        let tx = spec.options.get("tx").filter(|path| !path.is_empty());
        let useless =
            |keys: [&'static str; 3]| keys.into_iter().find(|key| spec.options.contains_key(*key));
        if spec.addr.is_empty() {
            if tx.is_none() {
                return Err(bad(
                    "names neither a file to read (pcap:FILE) nor one to write (tx=FILE)".into(),
                ));
            }
            if let Some(key) = useless(["loop", "pace", "strict"]) {
                return Err(bad(format!("option '{key}' is of no use without a file to read")));
            }
        }
        if tx.is_none() && spec.options.contains_key("tx") {
            return Err(bad("option tx=: should be a file, or - for standard output".into()));
        }
        if let (None, Some(key)) = (tx, useless(["format", "rotate", "snaplen"])) {
            return Err(bad(format!(
                "option '{key}' is of no use without a file to write (tx=FILE)"
            )));
        }
        let input = (!spec.addr.is_empty()).then(|| InputOptions {
            path: PathBuf::from(&spec.addr),
            replay: spec.flag("loop"),
            pace: spec.flag("pace"),
            strict: spec.flag("strict"),
        });
        let output = tx.map(|path| Self::output(spec, path)).transpose()?;
        Ok(Self { input, output })
    }

    fn output(spec: &PortSpec, path: &str) -> Result<FileOptions, Error> {
        let bad = |why: String| Error::BadOption { port: spec.to_string(), why };
        let path = PathBuf::from(path);
        let format = match spec.options.get("format").map(String::as_str) {
            None => Format::of(&path).unwrap_or_default(),
            Some("pcap") => Format::Pcap,
            Some("pcapng") => Format::Pcapng,
            Some(other) => {
                return Err(bad(format!("option format={other}: should be pcap or pcapng")));
            }
        };
        let rotate = match spec.options.get("rotate") {
            None => None,
            Some(text) => {
                Some(size(text).filter(|size| *size >= LEAST_ROTATE).ok_or_else(|| {
                    bad(format!(
                        "option rotate={text}: should be a size of at least 1M, such as 64M or 2G"
                    ))
                })?)
            }
        };
        if rotate.is_some() && (is_standard(&path) || path.starts_with("/dev")) {
            return Err(bad(format!("option rotate: {} cannot be rotated", path.display())));
        }
        let snaplen =
            spec.option("snaplen", "a number of bytes, 14..=262144")?.unwrap_or(MAX_CAPTURED);
        if !SNAPLENS.contains(&snaplen) {
            return Err(bad(format!(
                "option snaplen={snaplen}: should be a number of bytes, 14..=262144"
            )));
        }
        Ok(FileOptions { rotate_bytes: rotate, snaplen, ..FileOptions::new(path, format) })
    }
}

/// Whether a path means standard input or output.
pub(super) fn is_standard(path: &Path) -> bool {
    path == Path::new("-")
}

/// A size with an optional binary suffix.
pub(crate) fn size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' | b'k' => (&text[..text.len() - 1], 10),
        b'M' | b'm' => (&text[..text.len() - 1], 20),
        b'G' | b'g' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::{Options, size};

    #[test]
    fn sizes_take_binary_suffixes() {
        assert_eq!(size("64M"), Some(64 << 20));
        assert_eq!(size("2G"), Some(2 << 30));
        assert_eq!(size("4096"), Some(4096));
        assert_eq!(size("99999999999G"), None);
        assert_eq!(size("M"), None);
        assert_eq!(size(""), None);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_in_words() {
        for (spec, why) in [
            ("pcap:", "names neither a file to read (pcap:FILE) nor one to write (tx=FILE)"),
            ("pcap:,tx=a.pcap,loop", "option 'loop' is of no use without a file to read"),
            (
                "pcap:a.pcap,rotate=64M",
                "option 'rotate' is of no use without a file to write (tx=FILE)",
            ),
            ("pcap:a.pcap,loop=3", "option loop=3: loop takes no value"),
            ("pcap:,tx=a.pcap,format=erf", "option format=erf: should be pcap or pcapng"),
            (
                "pcap:,tx=a.pcap,rotate=3",
                "option rotate=3: should be a size of at least 1M, such as 64M or 2G",
            ),
            ("pcap:,tx=-,rotate=64M", "option rotate: - cannot be rotated"),
            (
                "pcap:,tx=a.pcap,snaplen=3",
                "option snaplen=3: should be a number of bytes, 14..=262144",
            ),
            (
                "pcap:,tx=a.pcap,speed=3",
                "driver 'pcap' has no option 'speed'; it has: loop, pace, tx, format, rotate, snaplen, strict",
            ),
        ] {
            let refused = Options::read(&spec.parse().unwrap()).err().expect(spec);
            assert!(refused.to_string().ends_with(why), "{refused}");
            assert!(refused.is_usage());
        }
    }
}
