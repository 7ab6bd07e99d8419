//! Units of time: what the timestamps of an interface are in nanoseconds.

use rustix::time::{ClockId, clock_gettime};

const NANOSECONDS: u64 = 1_000_000_000;

/// How an interface counts time (pcapng §4.2, `if_tsresol` and `if_tsoffset`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    scale: Scale,
    offset: i128,
}

#[derive(Clone, Copy, Debug)]
enum Scale {
    /// Nanoseconds of a unit.
    Times(u64),
    /// Units of a nanosecond.
    Divided(u64),
    /// Units of a second, as a power of two.
    Binary(u32),
    /// Units so small that the count cannot reach a nanosecond.
    Nothing,
}

impl Clock {
    /// A clock of this resolution: units of 10^-n seconds, or 2^-n if the upper bit is set.
    pub(super) fn new(resolution: u8, offset_seconds: i64) -> Self {
        let exponent = u32::from(resolution & 0x7f);
        let scale = if resolution & 0x80 != 0 {
            Scale::Binary(exponent)
        } else if exponent <= 9 {
            Scale::Times(10_u64.pow(9 - exponent))
        } else {
            10_u64.checked_pow(exponent - 9).map_or(Scale::Nothing, Scale::Divided)
        };
        Self { scale, offset: i128::from(offset_seconds) * i128::from(NANOSECONDS) }
    }

    /// Nanoseconds since 1970; what does not fit is as near as can be.
    #[inline]
    pub(super) fn nanoseconds(&self, count: u64) -> u64 {
        let time = match self.scale {
            Scale::Times(unit) => u128::from(count) * u128::from(unit),
            Scale::Divided(units) => u128::from(count / units),
            // 64 bits times 30 bits leave room in 128.
            Scale::Binary(exponent) => (u128::from(count) * u128::from(NANOSECONDS)) >> exponent,
            Scale::Nothing => 0,
        };
        let time = i128::try_from(time).unwrap_or(i128::MAX).saturating_add(self.offset);
        u64::try_from(time.max(0)).unwrap_or(u64::MAX)
    }
}

/// The time of day, in nanoseconds since 1970.
pub(crate) fn now() -> u64 {
    let now = clock_gettime(ClockId::Realtime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * NANOSECONDS + u64::try_from(now.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::Clock;

    #[test]
    fn resolutions_of_both_bases_are_nanoseconds() {
        let second = |resolution, units| Clock::new(resolution, 0).nanoseconds(units);
        assert_eq!(second(0, 7), 7_000_000_000);
        assert_eq!(second(3, 7_001), 7_001_000_000);
        assert_eq!(second(6, 7_000_001), 7_000_001_000);
        assert_eq!(second(9, 7_000_000_001), 7_000_000_001);
        assert_eq!(second(12, 7_000_000_001_999), 7_000_000_001);
        assert_eq!(second(0x80, 7), 7_000_000_000);
        assert_eq!(second(0x80 | 10, 7 * 1024 + 512), 7_500_000_000);
        assert_eq!(second(0x80 | 32, 1 << 31), 500_000_000);
        assert_eq!(second(0xff, u64::MAX), 0);
        assert_eq!(second(0x7f, u64::MAX), 0);
        assert_eq!(second(0, u64::MAX), u64::MAX);
    }

    #[test]
    fn an_offset_moves_the_clock_and_never_below_zero() {
        assert_eq!(Clock::new(6, 10).nanoseconds(1), 10_000_001_000);
        assert_eq!(Clock::new(6, -10).nanoseconds(11_000_000), 1_000_000_000);
        assert_eq!(Clock::new(6, i64::MIN).nanoseconds(u64::MAX), 0);
        assert_eq!(Clock::new(0, i64::MAX).nanoseconds(u64::MAX), u64::MAX);
    }
}
