//! `-m/--mem`: memory by name. The one place of the apps that names providers, and the one where memory of a
//! device and the ports that write there meet.

mod bar;
mod dmabuf;

use std::{fmt, str::FromStr, sync::Once};

use clap::Args;
use mempool::{Provider, ProviderError};
use pmd::{Device, Registry};
use providers::{Fake, Host, Hugepages, PageSize, Private};

pub use bar::BarSpec;
pub use dmabuf::DmaBufSpec;

use crate::{AppError, units::parse_size};

const HELP: &str =
    "Memory: host, hugepage[:2M|:1G], private, fake[:SIZE], or auto (hugepages if there are any)";

/// Which memory.
#[derive(Args, Clone, Debug)]
pub struct MemoryArgs {
    /// Which memory.
    #[arg(short = 'm', long = "mem", value_name = "MEMORY", default_value = "auto", help = HELP)]
    pub memory: MemorySpec,
}

/// Memory as the user named it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MemorySpec {
    /// Hugepages if there are any, else ordinary pages, which is said once.
    #[default]
    Auto,
    /// Ordinary pages.
    Host,
    /// Hugepages that other processes and devices can be given.
    Hugepage(PageSize),
    /// Hugepages of this process alone.
    Private,
    /// Memory that the CPU may not read, as a device's; with its capacity in bytes.
    Fake(Option<usize>),
    /// A BAR of another device: for payloads alone.
    Bar(BarSpec),
    /// A dma-buf: for payloads alone.
    DmaBuf(DmaBufSpec),
}

/// Who is going to write into memory of a device: it is opened where they can reach it.
pub struct Neighbours {
    registry: Registry,
    /// Their names.
    ports: Vec<String>,
}

impl Neighbours {
    /// These ports, which were opened by that registry.
    pub fn new<'d>(
        registry: &Registry,
        devices: impl IntoIterator<Item = &'d (dyn Device + 'd)>,
    ) -> Self {
        let ports = devices.into_iter().map(|device| device.info().port.clone()).collect();
        Self { registry: registry.clone(), ports }
    }
}

/// A memory spec cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("memory '{text}': {why}")]
pub struct MemorySpecError {
    text: String,
    why: String,
}

const NAMES: [&str; 7] = ["auto", "host", "hugepage", "private", "fake", "p2p", "dmabuf"];

impl FromStr for MemorySpec {
    type Err = MemorySpecError;

    fn from_str(text: &str) -> Result<Self, MemorySpecError> {
        let wrong = |why: String| MemorySpecError { text: text.chars().take(80).collect(), why };
        let (name, argument) = match text.split_once(':') {
            Some((name, argument)) => (name, Some(argument)),
            None => (text, None),
        };
        match (name, argument) {
            ("auto", None) => Ok(Self::Auto),
            ("host", None) => Ok(Self::Host),
            ("private", None) => Ok(Self::Private),
            ("hugepage", None) => Ok(Self::Hugepage(PageSize::TwoMiB)),
            ("hugepage", Some(size)) => {
                let size = size.parse().map_err(|_| wrong("hugepages are 2M or 1G".into()))?;
                Ok(Self::Hugepage(size))
            }
            ("fake", None) => Ok(Self::Fake(None)),
            ("fake", Some(size)) => {
                let size = parse_size(size).map_err(|error| wrong(error.to_string()))?;
                Ok(Self::Fake(Some(size)))
            }
            ("p2p", Some(bar)) => Ok(Self::Bar(BarSpec::read(bar).map_err(wrong)?)),
            ("p2p", None) => Err(wrong(format!("which BAR? write {}", bar::USAGE))),
            ("dmabuf", Some(text)) => Ok(Self::DmaBuf(DmaBufSpec::read(text).map_err(wrong)?)),
            ("dmabuf", None) => Err(wrong(format!("which one? write {}", dmabuf::USAGE))),
            (name, Some(_)) if NAMES.contains(&name) => {
                Err(wrong(format!("'{name}' takes no argument")))
            }
            _ => Err(wrong(unknown(name))),
        }
    }
}

fn unknown(name: &str) -> String {
    let nearest = NAMES.iter().map(|known| (strsim::levenshtein(known, name), known)).min();
    let meant = nearest
        .filter(|(distance, _)| *distance <= 3)
        .map(|(_, known)| format!(" (did you mean '{known}'?)"))
        .unwrap_or_default();
    format!("unknown{meant}; known: {}", NAMES.join(", "))
}

impl fmt::Display for MemorySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Host => f.write_str("host"),
            Self::Private => f.write_str("private"),
            Self::Hugepage(size) => write!(f, "hugepage:{size}"),
            Self::Fake(None) => f.write_str("fake"),
            Self::Fake(Some(bytes)) => write!(f, "fake:{bytes}"),
            Self::Bar(bar) => bar.fmt(f),
            Self::DmaBuf(buffer) => buffer.fmt(f),
        }
    }
}

impl MemorySpec {
    /// Every memory of this machine's own that has a name of its own, in the order of reports.
    pub const NAMED: [Self; 5] = [
        Self::Hugepage(PageSize::TwoMiB),
        Self::Hugepage(PageSize::OneGiB),
        Self::Private,
        Self::Host,
        Self::Fake(None),
    ];

    /// The provider. `needed` bytes are what the caller is going to ask of it in all: `auto` looks
    /// whether there is that much in hugepages, and says so on stderr, once, if there is not. What
    /// was named is never replaced by something else.
    ///
    /// # Errors
    /// The memory is not to be had here, or is a device's, which an app's own buffers cannot be in; the
    /// message carries the fix.
    pub fn open(&self, needed: u64) -> Result<Box<dyn Provider>, AppError> {
        // Whatever it says of its arguments: they are fine, and this machine lacks something.
        let missing = |error: ProviderError| AppError::missing(error.to_string());
        Ok(match *self {
            Self::Auto => default_host(needed),
            Self::Host => Box::new(Host::new()),
            Self::Hugepage(size) => Box::new(Hugepages::new(size).map_err(missing)?),
            Self::Private => Box::new(Private::new().map_err(missing)?),
            Self::Fake(None) => Box::new(Fake::new()),
            Self::Fake(Some(bytes)) => Box::new(Fake::with_capacity(bytes as u64)),
            Self::Bar(_) | Self::DmaBuf(_) => {
                let why = format!(
                    "memory '{self}': it is a device's, and this app's CPU reads every frame that it receives"
                );
                let hint = "only gpurx keeps payloads apart (gpurx -m p2p:...); here take hugepage or host";
                return Err(AppError::usage(why).hint(hint));
            }
        })
    }

    /// Whether it is another device's, so that what reaches it is worth a trial.
    #[must_use]
    pub fn is_of_a_device(&self) -> bool {
        matches!(self, Self::Bar(_) | Self::DmaBuf(_))
    }

    /// The same for payloads alone, which the CPU need not read: also memory of a device, opened where those
    /// ports can reach it.
    ///
    /// # Errors
    /// The memory is not to be had here, or these ports cannot reach it; the message carries the fix.
    pub fn open_beside(
        &self,
        needed: u64,
        beside: &Neighbours,
    ) -> Result<Box<dyn Provider>, AppError> {
        match self {
            Self::Bar(bar) => Ok(Box::new(bar.open(beside)?)),
            Self::DmaBuf(buffer) => Ok(Box::new(buffer.open()?)),
            _ => self.open(needed),
        }
    }
}

/// Memory of the host that other processes can be given: hugepages if there are enough, else ordinary pages in
/// a memory file.
#[must_use]
pub fn host_to_share(needed: u64) -> Box<dyn Provider> {
    let (provider, notice) = providers::default_host(usize::try_from(needed).unwrap_or(usize::MAX));
    if notice.is_none() { provider } else { Box::new(Host::new().shareable()) }
}

fn default_host(needed: u64) -> Box<dyn Provider> {
    static SAID: Once = Once::new();
    let needed = usize::try_from(needed).unwrap_or(usize::MAX);
    let (provider, notice) = providers::default_host(needed);
    if let Some(notice) = notice {
        SAID.call_once(|| eprintln!("memory: {notice}"));
    }
    provider
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_understood_and_printed_as_it_is_read() {
        for text in ["auto", "host", "hugepage:2M", "hugepage:1G", "private", "fake", "fake:65536"]
        {
            assert_eq!(text.parse::<MemorySpec>().unwrap().to_string(), text);
        }
        assert_eq!("hugepage".parse(), Ok(MemorySpec::Hugepage(PageSize::TwoMiB)));
        assert_eq!("fake:64K".parse(), Ok(MemorySpec::Fake(Some(65536))));
    }

    #[test]
    fn what_is_named_is_what_is_opened() {
        let name = |spec: &str| spec.parse::<MemorySpec>().unwrap().open(1 << 20).unwrap().info();
        assert_eq!(name("host").name, "host");
        let fake = name("fake:1M");
        assert_eq!((fake.name.as_str(), fake.cpu_access), ("fake", mempool::CpuAccess::None));
        assert!(!name("auto").name.is_empty());
    }

    #[test]
    fn memory_of_a_device_is_refused_where_the_cpu_reads_frames() {
        let bar: MemorySpec = "p2p:03:00.0/bar2".parse().unwrap();
        let error = bar.open(1 << 20).err().unwrap().to_string();
        assert!(error.starts_with("memory 'p2p:0000:03:00.0/bar2': it is a device's"), "{error}");
        assert!(error.contains("gpurx -m p2p:"), "{error}");
    }

    #[test]
    fn an_unknown_name_gets_a_suggestion() {
        let says = |text: &str| text.parse::<MemorySpec>().unwrap_err().to_string();
        assert_eq!(
            says("hugepages"),
            "memory 'hugepages': unknown (did you mean 'hugepage'?); \
             known: auto, host, hugepage, private, fake, p2p, dmabuf"
        );
        assert!(says("cuda:0").starts_with("memory 'cuda:0': unknown"));
        assert_eq!(says("hugepage:4K"), "memory 'hugepage:4K': hugepages are 2M or 1G");
        assert_eq!(says("host:1G"), "memory 'host:1G': 'host' takes no argument");
        assert!(says("p2p").contains("which BAR? write p2p:BDF/barN"));
        assert!(says("p2p:03:00.0").starts_with("memory 'p2p:03:00.0': '03:00.0' names no BAR"));
        assert!(says("fake:big").contains("a size in bytes such as"));
    }
}
