//! Wrappers: what goes around any port, and needs no change in an app or a driver.
//!
//! `WRAPPER:OPTIONS@SPEC` opens the port `SPEC` and puts a wrapper around it; the wrapped port is a
//! [`crate::Device`] like any other, so wrappers nest: `trace:@chaos:seed=7,rx.drop=1%@eth0` traces
//! what a bad wire leaves over. The name ends at the first `:` (or at the `@` if there are no
//! options), the options at the first `@`.
//!
//! A wrapper is a [`Layer`]: it is told of each queue and may put its own around it; [`Wrapped`] does
//! the rest. A port without a wrapper has none of this on its path: wrapped queues are types of their
//! own, and nothing in a driver asks whether it is wrapped.

pub mod capture;
pub mod chaos;
mod lent;
pub mod trace;
mod wrapped;

pub use lent::Lent;
pub use wrapped::{DeviceStats, Layer, Wrapped};

use crate::Error;

/// One wrapper: its name, a line for `--help`, and how its options are read.
#[derive(Clone, Copy)]
pub struct Wrapper {
    /// Name in port specs.
    pub name: &'static str,
    /// The form of the spec, with the options.
    pub usage: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// Reads the options, before the port is opened.
    pub layer: MakeLayer,
}

/// How a wrapper is made of its options.
pub type MakeLayer = fn(&WrapSpec) -> Result<Box<dyn Layer>, Error>;

/// Every wrapper of this crate, in the order of reports.
pub(crate) const WRAPPERS: &[Wrapper] = &[capture::WRAPPER, chaos::WRAPPER, trace::WRAPPER];

/// Wrappers around one port at most.
pub(crate) const DEEPEST: usize = 8;

/// A wrapper as the user named it: `WRAPPER:OPTIONS@INNER`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrapSpec {
    /// The wrapper's name.
    pub name: String,
    /// Its options, as they were written.
    pub options: String,
    /// Spec of the port that it goes around.
    pub inner: String,
}

impl WrapSpec {
    /// Cuts a spec into wrapper, options and port; `None` if it names no wrapper.
    ///
    /// # Errors
    /// It names a wrapper and no port to go around.
    pub(crate) fn read(text: &str) -> Option<Result<(Self, &'static Wrapper), Error>> {
        let name = &text[..text.find([':', '@'])?];
        let wrapper = WRAPPERS.iter().find(|wrapper| wrapper.name == name)?;
        let rest = &text[name.len()..];
        let Some((options, inner)) = rest.split_once('@') else {
            let why = format!(
                "{name} goes around a port, which stands behind an '@': {}, such as {name}:@eth0",
                wrapper.usage
            );
            return Some(Err(Error::BadOption { port: text.to_owned(), why }));
        };
        let options = options.strip_prefix(':').unwrap_or(options).to_owned();
        let spec = Self { name: name.to_owned(), options, inner: inner.to_owned() };
        Some(Ok((spec, wrapper)))
    }

    /// An error about the options.
    #[must_use]
    pub fn bad(&self, why: impl Into<String>) -> Error {
        let Self { name, options, inner } = self;
        Error::BadOption { port: format!("{name}:{options}@{inner}"), why: why.into() }
    }
}
