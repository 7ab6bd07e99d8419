//! The link, as STATUS shows it (82574 §10.2.2.2, 82576 §8.2.2).

use super::registers::STATUS;
use crate::Link;

/// The link that a STATUS word describes; down for a device that is gone.
pub(super) fn link(status: STATUS) -> Link {
    if status.0 == u32::MAX || !status.has(STATUS::LU) {
        return Link::default();
    }
    let speed = match status.get(STATUS::SPEED) {
        0 => 10,
        1 => 100,
        _ => 1000,
    };
    Link { is_up: true, speed_mbps: Some(speed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_gone_has_no_link() {
        assert_eq!(link(STATUS(u32::MAX)), Link::default());
        assert_eq!(link(STATUS(0x0008_0083)), Link { is_up: true, speed_mbps: Some(1000) });
        assert_eq!(link(STATUS(0x0008_0043)), Link { is_up: true, speed_mbps: Some(100) });
        assert!(!link(STATUS(0x0008_0081)).is_up);
    }
}
