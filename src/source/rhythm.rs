//! The capture times of frames in a row, and what they tell about missing ones.

use std::time::{Duration, SystemTime};

use crate::gap::{Gap, GapCause};

/// Intervals that tell what is usual.
const REMEMBERED: usize = 8;
/// Server timestamps of neighbouring fragments differ from the truth by up to 0.3 s each; Kinesis Video Streams makes no
/// fragment shorter than one second.
const TOLERANCE: Duration = Duration::from_millis(700);

#[derive(Debug, Default)]
pub(super) struct Rhythm {
    last: Option<SystemTime>,
    /// The latest intervals without a gap; a ring.
    intervals: [Duration; REMEMBERED],
    seen: usize,
}

impl Rhythm {
    /// Takes the time of the next frame. Gives the gap before it with its span, also when only the times tell of one.
    pub(super) fn next(&mut self, captured_at: SystemTime, gap: Option<Gap>) -> Option<Gap> {
        let span = self.last.replace(captured_at).and_then(|last| captured_at.duration_since(last).ok());
        if let Some(gap) = gap {
            return Some(Gap { span, ..gap });
        }
        let span = span?;
        let usual = self.intervals.iter().max().copied().unwrap_or_default();
        if self.seen >= REMEMBERED && span > usual.saturating_mul(2).saturating_add(TOLERANCE) {
            return Some(Gap { span: Some(span), ..Gap::of_segments(GapCause::NotRecorded, 0) });
        }
        if let Some(interval) = self.intervals.get_mut(self.seen % REMEMBERED) {
            *interval = span;
        }
        self.seen = self.seen.saturating_add(1);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The frames, by index, before which something is missing.
    fn gaps(millis: impl IntoIterator<Item = u64>) -> Vec<usize> {
        let mut rhythm = Rhythm::default();
        let times = millis.into_iter().map(|millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
        times.enumerate().filter_map(|(index, time)| rhythm.next(time, None).map(|_| index)).collect()
    }

    #[test]
    fn a_hole_in_the_times_is_a_gap_and_jitter_is_none() {
        let at = |frame: u64| frame * 1000 / 15;
        assert_eq!(gaps((0..60).map(at)), [0; 0]);
        // The second fragment of four is missing: 1 s.
        assert_eq!(gaps((0..15).chain(30..60).map(at)), [15]);
        // Fragments that start up to 0.3 s early or late.
        let jitter = [0, 300, -300, 300, 0, -300];
        assert_eq!(gaps((0..90).map(|frame| (at(frame) as i64 + 1000 + jitter[frame as usize / 15]) as u64)), [0; 0]);
    }

    #[test]
    fn what_is_usual_is_learned() {
        // A frame every five seconds, then one that comes after twenty.
        assert_eq!(gaps((0..20).map(|frame| frame * 5000 + if frame < 15 { 0 } else { 15_000 })), [15]);
        assert_eq!(gaps([0, 5000, 10_000, 60_000]), [0; 0], "too few to tell");
    }

    #[test]
    fn a_gap_that_is_known_gets_its_span() {
        let mut rhythm = Rhythm::default();
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(10);
        let lost = Gap::of_frames(GapCause::Damaged, 3);
        assert_eq!(rhythm.next(start, Some(lost)), Some(lost));
        let span = Some(Duration::from_secs(2));
        assert_eq!(rhythm.next(start + Duration::from_secs(2), Some(lost)), Some(Gap { span, ..lost }));
        assert_eq!(rhythm.next(start, Some(lost)), Some(lost), "time that went back has no span");
    }
}
