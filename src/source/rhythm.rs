//! The capture times of segments in a row, and what they tell about missing ones.

use std::time::{Duration, SystemTime};

/// Server timestamps of neighbouring fragments differ from the truth by up to 0.3 s each; Kinesis Video Streams makes no
/// fragment shorter than one second.
const TOLERANCE: Duration = Duration::from_millis(700);

/// The times of all pictures of a segment, whichever of them are delivered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// When the first picture was captured, and when the last one ends.
    pub(super) first: SystemTime,
    pub(super) end: SystemTime,
    /// The longest time between two pictures in a row; the segment's duration where there is one only.
    pub(super) interval: Duration,
}

/// Follows a stream from segment to segment.
#[derive(Debug, Default)]
pub(super) struct Rhythm {
    last: Option<Span>,
}

impl Rhythm {
    /// Takes the next segment, and says whether its times leave a hole behind the one before.
    pub(super) fn has_hole(&mut self, next: Span) -> bool {
        let Some(last) = self.last.replace(next) else { return false };
        let usual = last.interval.max(next.interval);
        let between = next.first.duration_since(last.end).unwrap_or_default();
        between > usual.saturating_add(TOLERANCE)
    }

    /// Takes the whole of a segment of which only the beginning was known before.
    pub(super) fn complete(&mut self, whole: Span) {
        self.last = Some(whole);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The segments, by index, before which something is missing: starts in milliseconds, pictures 200 ms apart.
    fn holes(starts: impl IntoIterator<Item = u64>, pictures: u64, interval: u64) -> Vec<usize> {
        let mut rhythm = Rhythm::default();
        let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        let span = |start: u64| Span {
            first: at(start),
            end: at(start + pictures * interval),
            interval: Duration::from_millis(interval),
        };
        starts
            .into_iter()
            .enumerate()
            .filter(|(_, start)| rhythm.has_hole(span(*start)))
            .map(|(index, _)| index)
            .collect()
    }

    #[test]
    fn a_hole_in_the_times_is_found_and_jitter_is_none() {
        assert_eq!(holes([0, 1000, 2000, 3000], 5, 200), [0; 0]);
        // The third segment of a second is missing.
        assert_eq!(holes([0, 1000, 3000, 4000], 5, 200), [2]);
        // Starts that are up to 0.3 s early or late.
        assert_eq!(holes([300, 700, 2300, 2700, 4000, 5300], 5, 200), [0; 0]);
        // Times that go back.
        assert_eq!(holes([9000, 1000, 2000], 5, 200), [0; 0]);
    }

    #[test]
    fn a_slow_camera_has_long_intervals() {
        // A picture every five seconds, alone in its segment, then one that comes after twenty.
        assert_eq!(holes([0, 5000, 10_000, 30_000, 35_000], 1, 5000), [3]);
    }
}
