//! How fast a port's link runs, as sysfs says it.

use std::{fmt, path::Path};

use crate::pci::text;

/// A link as it was trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Megatransfers a second and lane: 2500, 5000, 8000, 16000, 32000, 64000.
    pub speed: u32,
    /// Lanes.
    pub width: u8,
}

impl Link {
    /// What a function's link runs at, or (`max`) could; none for one that has no link, or whose is down.
    pub(super) fn read(folder: &Path, which: &str) -> Option<Self> {
        let text = |name: &str| text(&folder.join(format!("{which}_link_{name}"))).ok();
        Self::of(&text("speed")?, &text("width")?)
    }

    fn of(speed: &str, width: &str) -> Option<Self> {
        let (whole, tenth) = speed.trim().strip_suffix(" GT/s PCIe")?.split_once('.')?;
        let speed =
            whole.parse::<u32>().ok()?.checked_mul(1000)? + tenth.parse::<u32>().ok()? % 10 * 100;
        let width = width.trim().parse().ok()?;
        (speed > 0 && width > 0).then_some(Self { speed, width })
    }

    /// Megabits a second in one direction, line code taken off (8b/10b up to 5 GT/s, 128b/130b above; PCI
    /// Express Base 5.0 §4.2), headers not.
    #[must_use]
    pub fn mbps(self) -> u64 {
        let raw = u64::from(self.speed) * u64::from(self.width);
        if self.speed <= 5000 { raw * 8 / 10 } else { raw * 128 / 130 }
    }
}

/// `8.0 GT/s x4`.
impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} GT/s x{}", self.speed / 1000, self.speed % 1000 / 100, self.width)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_link_is_read_as_sysfs_writes_it() {
        let link = Link::of("2.5 GT/s PCIe\n", "1\n").expect("a link");
        assert_eq!((link.to_string().as_str(), link.mbps()), ("2.5 GT/s x1", 2000));
        let link = Link::of("16.0 GT/s PCIe\n", "16\n").expect("a link");
        assert_eq!((link.to_string().as_str(), link.mbps()), ("16.0 GT/s x16", 252_061));
        for (speed, width) in
            [("Unknown\n", "0\n"), ("8.0 GT/s PCIe\n", "0\n"), ("", ""), ("8 GT/s PCIe", "1")]
        {
            assert_eq!(Link::of(speed, width), None, "{speed:?} {width:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_link_without_lanes_or_speed(speed in "[0-9]{0,12}[.]?[0-9]{0,12}( GT/s PCIe)?\n?", width in ".{0,4}") {
            let link = Link::of(&speed, &width);
            prop_assert!(link.is_none_or(|link| link.mbps() > 0));
        }
    }
}
