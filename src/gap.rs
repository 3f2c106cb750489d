//! What is missing before a frame.

use std::fmt;
use std::time::Duration;

/// Why frames are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GapCause {
    /// Segments left the playlist before they were loaded.
    WindowPassed,
    /// A segment could not be loaded, or the playlist marks it as missing (EXT-X-GAP).
    SegmentUnavailable,
    /// Data was damaged, and what refers to it was left out up to the next IDR picture.
    Damaged,
    /// The stream did not begin with an IDR picture.
    NoKeyframe,
    /// The consumer was too slow, and the source jumped to the live edge.
    CatchUp,
    /// The connection was lost, and the server had moved on when it was back.
    Reconnect,
    /// The server has nothing: the list goes on without a break, its times do not. The camera filmed nothing then, or what
    /// it sent did not arrive. Only times tell: where they jitter by more than a quarter of a segment, a single missing one may
    /// not show.
    NotRecorded,
}

impl GapCause {
    /// All causes, for counters that exist before the first loss.
    pub(crate) const ALL: [Self; 7] = [
        Self::WindowPassed,
        Self::SegmentUnavailable,
        Self::Damaged,
        Self::NoKeyframe,
        Self::CatchUp,
        Self::Reconnect,
        Self::NotRecorded,
    ];

    /// The cause as a metric's label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WindowPassed => "window_passed",
            Self::SegmentUnavailable => "segment_unavailable",
            Self::Damaged => "damaged",
            Self::NoKeyframe => "no_keyframe",
            Self::CatchUp => "catch_up",
            Self::Reconnect => "reconnect",
            Self::NotRecorded => "not_recorded",
        }
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for GapCause {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Display for GapCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is missing between the frame before and this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Gap {
    /// Why; the first cause when several came together.
    pub cause: GapCause,
    /// Frames known to be lost one by one; those of whole missing segments are not among them.
    pub frames: u64,
    /// Whole segments that are missing.
    pub segments: u64,
    /// From the frame before to this one by capture time; `None` when time went back or no frame was before.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::options::seconds::some"))]
    pub span: Option<Duration>,
}

impl Gap {
    pub(crate) const fn of_frames(cause: GapCause, frames: u64) -> Self {
        Self { cause, frames, segments: 0, span: None }
    }

    pub(crate) const fn of_segments(cause: GapCause, segments: u64) -> Self {
        Self { cause, frames: 0, segments, span: None }
    }

    /// What was lost in two places, before any frame came.
    pub(crate) fn join(earlier: Option<Self>, later: Option<Self>) -> Option<Self> {
        later.map_or(earlier, |later| Some(Self::merge(earlier, later)))
    }

    /// Adds what was lost after this, before any frame came.
    pub(crate) fn merge(earlier: Option<Self>, later: Self) -> Self {
        earlier.map_or(later, |gap| Self {
            frames: gap.frames.saturating_add(later.frames),
            segments: gap.segments.saturating_add(later.segments),
            ..gap
        })
    }
}
