//! What the user can say.

use std::{num::NonZeroU64, path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};
use memwire_apps::{
    AppError,
    args::{PoolArgs, PortArgs, RunArgs},
    memory::MemoryArgs,
    ports,
    units::{parse_duration, parse_size},
    watch::WatchArgs,
};
use pmd::pcap::{FileOptions, Format, MAX_CAPTURED, Section};

use crate::filter::{Compiler, Filter};

const LONG_ABOUT: &str = "\
Writes what ports receive to a capture file, as tcpdump and dumpcap do for interfaces; without -w, \
prints a line for each frame.

Any port will do: an interface, a wire inside the process, another capture. Several ports go into \
one pcapng file as several interfaces: frames of one port keep their order, and those that different \
ports had at the same poll are sorted by their timestamps. Ports are promiscuous.

FILTER is an expression as for tcpdump. The system's libpcap compiles it where tcpdump is installed, \
a small compiler of our own elsewhere; --bpf takes a program that was compiled before.

Received = written + filtered out + dropped, by reason, exactly; or the exit code is 4. Runs until ^C, \
-t, -c, or until ports that end by themselves (a capture file) have ended. Counts go to stderr at the \
end; with -w - nothing but the capture goes to stdout.";

const EXAMPLES: &str = "\
Examples:
  capture -p eth0
      a line for each frame (needs CAP_NET_RAW)
  capture -p eth0 -w out.pcapng -c 100 udp port 53
      the first 100 DNS frames
  capture -p eth0 -w - | tshark -r -
      looks at them while they come
  capture -p eth0 -p eth1 -w ring.pcapng -C 100M --files 10
      two interfaces, into at most ten files of 100 MiB, the oldest written anew
  capture -p pcap:in.pcap -w small.pcapng -s 96 -G 60s host 10.0.0.1
      cuts a capture: one host, 96 bytes of a frame, a file per minute
  capture -p eth0 -w out.pcapng --bpf filter.txt
      with a program that tcpdump -ddd printed

Exit codes:
  0 ok, also after ^C, and if the reader of -w - goes away    1 the run failed (disk full, a port)
  2 bad usage    3 something is missing here    4 frames or buffers unaccounted for    130 second ^C";

/// Writes what ports receive to capture files
#[derive(Parser, Clone, Debug)]
#[command(name = "capture", version, long_about = LONG_ABOUT, after_help = after_help())]
pub struct Args {
    /// The ports: one or more.
    #[command(flatten)]
    pub ports: PortArgs,
    /// Frames wanted, as for tcpdump; several words are joined [default: all]
    #[arg(value_name = "FILTER")]
    pub filter: Vec<String>,
    /// Write to this file; - is standard output [default: print a line for each frame]
    #[arg(short = 'w', long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Format of the file [default: pcap if it is named .pcap, else pcapng]
    #[arg(long, value_name = "FORMAT", requires = "write")]
    pub format: Option<FileFormat>,
    /// Bytes kept of a frame, 14 to 256K
    #[arg(short = 's', long, value_name = "SIZE", default_value = "256K", value_parser = parse_size)]
    pub snaplen: usize,
    /// Begin the next file before this one grows beyond SIZE, e.g. 100M
    #[arg(short = 'C', long, value_name = "SIZE", value_parser = parse_size, requires = "write")]
    pub rotate_size: Option<usize>,
    /// Begin the next file after this much time of frames, e.g. 60s
    #[arg(short = 'G', long, value_name = "TIME", value_parser = parse_duration, requires = "write")]
    pub rotate_time: Option<Duration>,
    /// Keep at most N files, with -C or -G: then the first is written anew
    #[arg(long, value_name = "N", requires = "write")]
    pub files: Option<NonZeroU64>,
    /// A comment for the file's section header (pcapng)
    #[arg(long, value_name = "TEXT", requires = "write")]
    pub comment: Option<String>,
    /// Filter by this program, as printed by tcpdump -ddd -y EN10MB
    #[arg(long, value_name = "FILE", conflicts_with = "filter")]
    pub bpf: Option<PathBuf>,
    /// Who compiles the filter
    #[arg(long, value_name = "WHO", default_value = "auto")]
    pub compiler: Compiler,
    /// Where buffers are.
    #[command(flatten)]
    pub memory: MemoryArgs,
    /// How many buffers.
    #[command(flatten)]
    pub pool: PoolArgs,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
    /// How to watch.
    #[command(flatten)]
    pub watch: WatchArgs,
}

/// A file format.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// Classic, with nanoseconds: one interface, no comments, no counts
    Pcap,
    /// The next generation
    Pcapng,
}

impl Args {
    /// The filter that is asked for.
    ///
    /// # Errors
    /// It cannot be compiled or read.
    pub fn filter(&self) -> Result<Option<Filter>, AppError> {
        if let Some(path) = &self.bpf {
            return Filter::read(path).map(Some);
        }
        let text = self.filter.join(" ");
        if text.trim().is_empty() {
            return Ok(None);
        }
        Filter::compile(text.trim(), self.compiler).map(Some)
    }

    /// Whether something other than text for people goes to stdout.
    pub(crate) fn is_capture_on_stdout(&self) -> bool {
        self.write.as_ref().is_some_and(|path| path.as_os_str() == "-")
    }

    /// What is written where, but for the interfaces; `None` if lines are printed.
    pub(crate) fn file_options(&self) -> Result<Option<FileOptions>, AppError> {
        if !(14..=MAX_CAPTURED).contains(&self.snaplen) {
            let message = format!("-s {}: should be 14 to {MAX_CAPTURED} bytes", self.snaplen);
            return Err(AppError::usage(message));
        }
        let Some(path) = &self.write else {
            return Ok(None);
        };
        let format = match self.format {
            Some(FileFormat::Pcap) => Format::Pcap,
            Some(FileFormat::Pcapng) => Format::Pcapng,
            None => Format::of(path).unwrap_or(Format::Pcapng),
        };
        if format == Format::Pcap {
            if self.ports.ports.len() > 1 {
                let message = "a classic pcap file cannot say which port a frame came from";
                return Err(AppError::usage(message).hint("--format pcapng, or -w FILE.pcapng"));
            }
            if self.comment.is_some() {
                let message = "--comment: a classic pcap file has no comments";
                return Err(AppError::usage(message).hint("--format pcapng, or -w FILE.pcapng"));
            }
        }
        let mut options = FileOptions::new(path, format);
        options.snaplen = self.snaplen;
        options.rotate_after = self.rotate_time;
        options.rotate_bytes = self.rotate_size.map(|size| size as u64);
        options.files = self.files;
        if self.rotate_size.is_some_and(|size| size < LEAST_ROTATE) {
            let message = "-C: should be at least 64K";
            return Err(AppError::usage(message).hint("a size such as 100M or 2G"));
        }
        if self.files.is_some() && !options.rotates() {
            let message = "--files: there is one file only";
            return Err(AppError::usage(message).hint("-C SIZE or -G TIME begins further ones"));
        }
        if options.rotates() && (self.is_capture_on_stdout() || path.starts_with("/dev")) {
            let message = format!("-w {}: cannot be rotated", path.display());
            return Err(AppError::usage(message));
        }
        let application = concat!("memwire capture ", env!("CARGO_PKG_VERSION"));
        options.section = Section { comment: self.comment.clone(), ..Section::here(application) };
        Ok(Some(options))
    }

    /// Refuses two things on stdout.
    pub(crate) fn check_stdout(&self) -> Result<(), AppError> {
        if self.is_capture_on_stdout() && self.run.is_json_on_stdout() {
            let message = "the capture and the JSON cannot both go to stdout";
            return Err(AppError::usage(message).hint("--json=FILE"));
        }
        if self.watch.tui && (self.is_capture_on_stdout() || self.write.is_none()) {
            let message = "--tui: stdout is for the frames";
            return Err(AppError::usage(message).hint("-w FILE"));
        }
        Ok(())
    }
}

/// The smallest size to rotate at.
const LEAST_ROTATE: usize = 64 << 10;

fn after_help() -> String {
    format!("{EXAMPLES}\n\n{}", ports::drivers_help())
}
