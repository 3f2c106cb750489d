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
            let anchor = self.anchor.filter(|_| is_continuous)?;
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
