//! Capture times from programme dates.

use std::time::SystemTime;

use crate::hls::Segment;
use crate::session::TimeOrigin;
use crate::time::{Pts, offset};

/// A segment's place in time: `captured_at` of a frame is `start + (pts - first_pts)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) time: SystemTime,
    pub(crate) first_pts: Pts,
    pub(crate) origin: TimeOrigin,
}

impl Start {
    pub(crate) fn captured_at(&self, pts: Pts) -> SystemTime {
        offset(self.time, pts.nanos_since(self.first_pts)).unwrap_or(self.time)
    }
}

/// Finds each segment's start.
///
/// A segment's own date is taken as it stands. A segment without one follows the last dated segment on the media
/// timeline; durations (EXTINF) are rounded and are summed up only where that timeline is broken (RFC 8216 §4.3.2.6).
#[derive(Debug, Default)]
pub(crate) struct CaptureClock {
    anchor: Option<Start>,
}

impl CaptureClock {
    /// `first_pts` and `last_pts` are the earliest and the latest of the segment, `arrived` is when it was downloaded.
    pub(crate) fn start(
        &mut self,
        segment: &Segment,
        origin: TimeOrigin,
        first_pts: Pts,
        last_pts: Pts,
        arrived: SystemTime,
    ) -> Start {
        let is_continuous = !segment.is_discontinuity;
        let dated = |time| Start { time, first_pts, origin };
        let by_timeline = || {
            // A timeline that goes back is another one, tag or no tag.
            let anchor = self.anchor.filter(|anchor| is_continuous && first_pts.nanos_since(anchor.first_pts) >= 0)?;
            Some(Start { time: anchor.captured_at(first_pts), first_pts, origin: anchor.origin })
        };
        let by_arrival = || {
            let time = offset(arrived, -last_pts.nanos_since(first_pts)).unwrap_or(arrived);
            Start { time, first_pts, origin: TimeOrigin::Arrival }
        };
        let start = segment
            .program_date_time
            .map(dated)
            .or_else(by_timeline)
            .or_else(|| segment.estimated_start.map(dated))
            .unwrap_or_else(by_arrival);
        self.anchor = Some(start);
        start
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::hls::{self, Playlist};
    use crate::limits::Limits;
    use crate::secret::SecretUrl;
    use crate::time::Timescale;

    fn segments(lines: &str) -> Vec<Segment> {
        let text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n{lines}");
        let base = SecretUrl::parse("http://host/a.m3u8").unwrap();
        match hls::parse(text.as_bytes(), &base, &Limits::default()).unwrap() {
            Playlist::Media(playlist) => playlist.segments,
            Playlist::Multivariant(_) => panic!("a media playlist was written"),
        }
    }

    /// Capture times of each segment's first frame in milliseconds of 1970, and their origin.
    fn starts(lines: &str, first_pts: &[i64]) -> Vec<(u128, TimeOrigin)> {
        let mut clock = CaptureClock::default();
        let pts = |ticks| Pts::new(ticks, Timescale::new(1000).unwrap());
        let start = |(segment, &first): (&Segment, &i64)| {
            let arrived = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
            let start = clock.start(segment, TimeOrigin::Server, pts(first), pts(first + 900), arrived);
            let time = start.captured_at(pts(first)).duration_since(SystemTime::UNIX_EPOCH).unwrap();
            (time.as_millis(), start.origin)
        };
        segments(lines).iter().zip(first_pts).map(start).collect()
    }

    #[test]
    fn own_dates_are_taken_as_they_stand() {
        let lines = "#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:00:05Z\n#EXTINF:1.001,\na\n\
                     #EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:00:05.900Z\n#EXTINF:1,\nb\n";
        assert_eq!(
            starts(lines, &[0, 77]),
            [(5000, TimeOrigin::Server), (5900, TimeOrigin::Server)],
            "an overlap stays"
        );
    }

    #[test]
    fn undated_segments_follow_the_media_timeline_not_the_durations() {
        let lines =
            "#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:00:05Z\n#EXTINF:1.001,\na\n#EXTINF:1.001,\nb\n#EXTINF:1,\nc\n";
        let times: Vec<_> = starts(lines, &[10_000, 11_000, 12_500]).into_iter().map(|(time, _)| time).collect();
        assert_eq!(times, [5000, 6000, 7500]);
    }

    #[test]
    fn a_broken_timeline_falls_back_to_durations() {
        let lines = "#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:00:05Z\n#EXTINF:2,\na\n#EXT-X-DISCONTINUITY\n#EXTINF:2,\nb\n#EXTINF:2,\nc\n";
        let times: Vec<_> = starts(lines, &[10_000, 0, 1900]).into_iter().map(|(time, _)| time).collect();
        assert_eq!(times, [5000, 7000, 8900]);
    }

    #[test]
    fn a_timeline_that_goes_back_is_another_one_though_no_tag_says_so() {
        let restarted = starts("#EXTINF:1,\na\n#EXTINF:1,\nb\n#EXTINF:1,\nc\n", &[80_000, 0, 1000]);
        let times: Vec<_> = restarted.into_iter().map(|(time, _)| time).collect();
        assert_eq!(times, [999_100, 999_100, 1_000_100], "each arrived at the thousandth second");
    }

    #[test]
    fn without_any_date_arrival_counts_once() {
        let found = starts("#EXTINF:1,\na\n#EXTINF:1,\nb\n", &[0, 1000]);
        assert_eq!(
            found,
            [(999_100, TimeOrigin::Arrival), (1_000_100, TimeOrigin::Arrival)],
            "the last frame came at once"
        );
    }
}
