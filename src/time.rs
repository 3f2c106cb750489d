//! Media time in ticks, by integer arithmetic only.

use std::fmt;
use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

/// Ticks a second of a track's clock, never zero (`timescale` of the `mdhd` box, ISO 14496-12 §8.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timescale(NonZeroU32);

impl Timescale {
    /// Whole seconds.
    pub(crate) const SECONDS: Self = Self(NonZeroU32::MIN);

    /// `None` for zero, which would make every time infinite.
    #[must_use]
    pub const fn new(ticks_per_second: u32) -> Option<Self> {
        match NonZeroU32::new(ticks_per_second) {
            Some(ticks) => Some(Self(ticks)),
            None => None,
        }
    }

    /// Ticks a second.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

/// Decoding time in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dts(pub i64);

/// Presentation time in ticks of its own timescale, on the media timeline: signed, since edit lists and composition
/// offsets may put it before zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pts {
    ticks: i64,
    timescale: Timescale,
}

impl Pts {
    /// A time of `ticks` at `timescale`.
    #[must_use]
    pub const fn new(ticks: i64, timescale: Timescale) -> Self {
        Self { ticks, timescale }
    }

    /// Ticks since the zero of the media timeline.
    #[must_use]
    pub const fn ticks(self) -> i64 {
        self.ticks
    }

    /// The clock these ticks belong to.
    #[must_use]
    pub const fn timescale(self) -> Timescale {
        self.timescale
    }

    /// Nanoseconds since the zero of the media timeline, rounded toward negative infinity.
    #[must_use]
    pub const fn as_nanos(self) -> i128 {
        (self.ticks as i128 * 1_000_000_000).div_euclid(self.timescale.get() as i128)
    }

    /// Nanoseconds from `earlier` to this time, rounded once. The two may have different timescales.
    #[must_use]
    pub const fn nanos_since(self, earlier: Self) -> i128 {
        if self.timescale.get() == earlier.timescale.get() {
            let ticks = self.ticks as i128 - earlier.ticks as i128;
            (ticks * 1_000_000_000).div_euclid(self.timescale.get() as i128)
        } else {
            self.as_nanos() - earlier.as_nanos()
        }
    }
}

/// Seconds to the microsecond: `12.345678 s`.
impl fmt::Display for Pts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.as_nanos().div_euclid(1000);
        let (sign, micros) = (if micros < 0 { "-" } else { "" }, micros.unsigned_abs());
        write!(f, "{sign}{}.{:06} s", micros / 1_000_000, micros % 1_000_000)
    }
}

/// `time` moved by signed nanoseconds; `None` where the clock cannot show the result.
pub(crate) fn offset(time: SystemTime, nanos: i128) -> Option<SystemTime> {
    let by = Duration::from_nanos(u64::try_from(nanos.unsigned_abs()).ok()?);
    if nanos < 0 { time.checked_sub(by) } else { time.checked_add(by) }
}

/// A wall-clock time in UTC to the second, for people.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| "an unknown time".into(), |time| format!("{time:.0}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pts(ticks: i64, timescale: u32) -> Pts {
        Pts::new(ticks, Timescale::new(timescale).unwrap())
    }

    #[test]
    fn times_are_exact_and_signed() {
        assert_eq!(pts(90_000, 90_000).as_nanos(), 1_000_000_000);
        assert_eq!(pts(1, 3).as_nanos(), 333_333_333);
        assert_eq!(pts(-1, 3).as_nanos(), -333_333_334);
        // An epoch-based time at a fine timescale keeps its nanoseconds where f64 would lose them.
        assert_eq!(pts(1_700_000_000_123_456_789, 1_000_000_000).as_nanos(), 1_700_000_000_123_456_789);
        assert_eq!(pts(i64::MAX, 1).nanos_since(pts(i64::MIN, 1)), i128::from(u64::MAX) * 1_000_000_000);
        assert_eq!(pts(2, 3).nanos_since(pts(1, 3)), 333_333_333);
        assert_eq!(pts(1, 1).nanos_since(pts(500, 1000)), 500_000_000);
        assert_eq!((pts(4, 3).to_string(), pts(-3, 2).to_string()), ("1.333333 s".into(), "-1.500000 s".into()));
    }

    #[test]
    fn offsets_stay_inside_the_clock() {
        let epoch = SystemTime::UNIX_EPOCH;
        assert_eq!(offset(epoch, 1_500_000_000), Some(epoch + Duration::from_millis(1500)));
        assert_eq!(offset(epoch, -5), Some(epoch - Duration::from_nanos(5)));
        assert_eq!(offset(epoch, i128::MAX), None);
    }
}
