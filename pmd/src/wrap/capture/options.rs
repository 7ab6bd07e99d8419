//! The options of `capture`, from text.

use std::path::PathBuf;

use super::WrapSpec;
use crate::{
    Error,
    pcap::{Direction, FileOptions, Format, MAX_CAPTURED, Section, parse_size},
};

const KNOWN: &str = "FILE (first), dir=, snaplen=, payloads, queue=, format=, rotate=, files=";
/// Bytes of a tape unless the user says otherwise, and what may be said.
const QUEUE: usize = 4 << 20;
const QUEUES: std::ops::RangeInclusive<u64> = 64 << 10..=1 << 30;
const LEAST_ROTATE: u64 = 64 << 10;

/// What is captured, and where to.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) files: FileOptions,
    /// `None` is both.
    pub(super) direction: Option<Direction>,
    pub(super) payloads: bool,
    /// Bytes of a tape.
    pub(super) queue: usize,
}

impl Options {
    pub(super) fn read(spec: &WrapSpec) -> Result<Self, Error> {
        let mut items = spec.options.split(',');
        let path = items.next().unwrap_or_default();
        if path.is_empty() || path.contains('=') {
            return Err(spec.bad("names no file to write: capture:FILE@PORT"));
        }
        if path == "-" {
            return Err(spec.bad("cannot write to standard output; name a file or a FIFO"));
        }
        let path = PathBuf::from(path);
        let format = Format::of(&path).unwrap_or(Format::Pcapng);
        let mut options = Self {
            files: FileOptions::new(path, format),
            direction: None,
            payloads: false,
            queue: QUEUE,
        };
        let application = concat!("memwire capture tap ", env!("CARGO_PKG_VERSION"));
        options.files.section = Section::here(application);
        for item in items {
            let bad = |what: &str| spec.bad(format!("option {item}: should be {what}"));
            match item.split_once('=') {
                None if item == "payloads" => options.payloads = true,
                Some(("dir", "rx")) => options.direction = Some(Direction::Inbound),
                Some(("dir", "tx")) => options.direction = Some(Direction::Outbound),
                Some(("dir", "both")) => options.direction = None,
                Some(("dir", _)) => return Err(bad("rx, tx or both")),
                Some(("format", "pcap")) => options.files.format = Format::Pcap,
                Some(("format", "pcapng")) => options.files.format = Format::Pcapng,
                Some(("format", _)) => return Err(bad("pcap or pcapng")),
                Some(("snaplen", text)) => {
                    let snaplen = text.parse().ok().filter(|len| (14..=MAX_CAPTURED).contains(len));
                    options.files.snaplen =
                        snaplen.ok_or_else(|| bad("a number of bytes, 14..=262144"))?;
                }
                Some(("queue", text)) => {
                    let size = parse_size(text).filter(|size| QUEUES.contains(size));
                    options.queue = size
                        .and_then(|size| usize::try_from(size).ok())
                        .ok_or_else(|| bad("a size from 64K to 1G, such as 4M"))?;
                }
                Some(("rotate", text)) => {
                    let size = parse_size(text).filter(|size| *size >= LEAST_ROTATE);
                    let size = size.ok_or_else(|| bad("a size of at least 64K, such as 64M"))?;
                    options.files.rotate_bytes = Some(size);
                }
                Some(("files", text)) => {
                    let files = text.parse().map_err(|_| bad("a number from 1"))?;
                    options.files.files = Some(files);
                }
                _ => {
                    return Err(
                        spec.bad(format!("capture has no option '{item}'; it has: {KNOWN}"))
                    );
                }
            }
        }
        if options.files.files.is_some() && !options.files.rotates() {
            return Err(spec.bad("option files=: of no use without rotate="));
        }
        Ok(options)
    }

    /// Whether frames that go that way are captured.
    pub(super) fn wants(&self, direction: Direction) -> bool {
        self.direction.is_none_or(|wanted| wanted == direction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &str) -> Result<Options, String> {
        let (name, inner) = ("capture".to_owned(), "ring:a".to_owned());
        let spec = WrapSpec { name, options: options.to_owned(), inner };
        Options::read(&spec).map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_read_and_what_cannot_be_meant_is_refused_in_words() {
        let options = read("t.pcap,dir=tx,snaplen=96,payloads,queue=1M,rotate=1M,files=3").unwrap();
        assert_eq!((options.files.format, options.files.snaplen), (Format::Pcap, 96));
        assert!(options.wants(Direction::Outbound) && !options.wants(Direction::Inbound));
        assert!(options.payloads && options.queue == 1 << 20);
        assert_eq!(read("t").unwrap().files.format, Format::Pcapng);
        for (text, why) in [
            ("", "names no file to write: capture:FILE@PORT"),
            ("dir=rx", "names no file to write: capture:FILE@PORT"),
            ("-", "cannot write to standard output; name a file or a FIFO"),
            ("t,dir=up", "option dir=up: should be rx, tx or both"),
            ("t,snaplen=13", "option snaplen=13: should be a number of bytes, 14..=262144"),
            ("t,queue=1K", "option queue=1K: should be a size from 64K to 1G, such as 4M"),
            ("t,rotate=1", "option rotate=1: should be a size of at least 64K, such as 64M"),
            ("t,files=0,rotate=1M", "option files=0: should be a number from 1"),
            ("t,files=2", "option files=: of no use without rotate="),
            ("t,format=erf", "option format=erf: should be pcap or pcapng"),
            (
                "t,fast",
                "capture has no option 'fast'; it has: FILE (first), dir=, snaplen=, payloads, queue=, format=, rotate=, files=",
            ),
        ] {
            let error = read(text).expect_err(text);
            assert_eq!(error, format!("port 'capture:{text}@ring:a': {why}"));
        }
    }
}
