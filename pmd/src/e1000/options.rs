//! What a port's spec may ask of either chip. Text to values; knows no device.

use super::chip::{LONGEST, STANDARD};
use crate::{Error, PortSpec};

/// How a port is to run, beyond its [`crate::Config`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Longest frame that is let in, in bytes without FCS; the driver's choice if none.
    pub max_frame: Option<usize>,
    /// Least time between two interrupts of a queue, in microseconds.
    pub interrupt_interval_us: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_frame: None, interrupt_interval_us: 20 }
    }
}

impl Options {
    /// The keys in a spec.
    pub const KEYS: [&str; 2] = ["max_frame", "itr"];

    /// Those of a spec.
    ///
    /// # Errors
    /// A value is out of range.
    pub fn of(spec: &PortSpec) -> Result<Self, Error> {
        let default = Self::default();
        let what = "a frame size in bytes without FCS, 1518..=9018";
        let max_frame = spec.option::<usize>("max_frame", what)?;
        if let Some(bytes) = max_frame.filter(|bytes| !(STANDARD..=LONGEST).contains(bytes)) {
            let why = format!("option max_frame={bytes}: should be {what}");
            return Err(Error::BadOption { port: spec.to_string(), why });
        }
        let what = "microseconds between interrupts, 0..=8000";
        let interval = spec.option::<u32>("itr", what)?;
        if let Some(time) = interval.filter(|time| *time > 8000) {
            let why = format!("option itr={time}: should be {what}");
            return Err(Error::BadOption { port: spec.to_string(), why });
        }
        let interrupt_interval_us = interval.unwrap_or(default.interrupt_interval_us);
        Ok(Self { max_frame, interrupt_interval_us })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_held_to_their_range() {
        let spec: PortSpec = "pci:01:00.0,max_frame=1518,itr=0".parse().unwrap();
        let options = Options::of(&spec).unwrap();
        assert_eq!((options.max_frame, options.interrupt_interval_us), (Some(1518), 0));
        let spec: PortSpec = "pci:01:00.0,max_frame=64".parse().unwrap();
        let error = Options::of(&spec).unwrap_err().to_string();
        assert!(error.contains("max_frame=64: should be a frame size in bytes"), "{error}");
    }
}
