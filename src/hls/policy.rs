//! Where to start in a live playlist, and how often to reload it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::decimal;
use crate::error::{Error, ErrorKind};

/// Where a live playlist is entered. A complete one is entered at its first segment.
///
/// As text: `newest`, `oldest`, or a number of segments from the end, such as `3`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LiveEdge {
    /// At the last listed segment: the least delay.
    #[default]
    Newest,
    /// So many segments from the end, the last one counted: more delay, and more to go on with when the network falters.
    /// Zero means the same as one.
    Segments(u32),
    /// At the first listed segment.
    Oldest,
}

impl LiveEdge {
    /// The index to start at in a list of `listed` segments.
    pub(super) fn start_index(self, listed: usize) -> usize {
        match self {
            Self::Newest => listed.saturating_sub(1),
            Self::Segments(count) => listed.saturating_sub(usize::try_from(count.max(1)).unwrap_or(usize::MAX)),
            Self::Oldest => 0,
        }
    }
}

impl fmt::Display for LiveEdge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest => f.write_str("newest"),
            Self::Segments(count) => write!(f, "{count}"),
            Self::Oldest => f.write_str("oldest"),
        }
    }
}

crate::options::as_text!(LiveEdge);

impl FromStr for LiveEdge {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "newest" => Ok(Self::Newest),
            "oldest" => Ok(Self::Oldest),
            _ => decimal::integer(text).and_then(|count| u32::try_from(count).ok()).map(Self::Segments).ok_or_else(
                || {
                    let allowed = "newest, oldest or a number of segments";
                    Error::new(ErrorKind::Config, format!("live edge {text:?} ({allowed} is allowed)"))
                },
            ),
        }
    }
}

/// How often a live playlist is reloaded, counted from the start of one request to the start of the next.
///
/// As text: `spec`, or an interval such as `1s`, `1.5s`, `500ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReloadPolicy {
    /// After one target duration, or half of it when the playlist had not changed (RFC 8216 §6.3.4).
    #[default]
    Spec,
    /// After this time. Kinesis Video Streams advises one second: its target duration is the longest fragment rounded
    /// up, so that a fragment may wait for long in the list.
    Every(Duration),
}

impl fmt::Display for ReloadPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spec => f.write_str("spec"),
            Self::Every(interval) => match (interval.as_secs(), interval.subsec_nanos()) {
                (seconds, 0) => write!(f, "{seconds}s"),
                (seconds, nanos) => write!(f, "{seconds}.{}s", format!("{nanos:09}").trim_end_matches('0')),
            },
        }
    }
}

crate::options::as_text!(ReloadPolicy);

impl FromStr for ReloadPolicy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text == "spec" {
            return Ok(Self::Spec);
        }
        let interval = match text.strip_suffix("ms") {
            Some(millis) => decimal::seconds(millis).map(|thousandfold| thousandfold / 1000),
            None => text.strip_suffix('s').and_then(decimal::seconds),
        };
        interval.filter(|interval| !interval.is_zero()).map(Self::Every).ok_or_else(|| {
            let allowed = "spec or an interval such as 1s or 500ms";
            Error::new(ErrorKind::Config, format!("reload policy {text:?} ({allowed} is allowed)"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_as_they_are_written() {
        for edge in [LiveEdge::Newest, LiveEdge::Segments(3), LiveEdge::Oldest] {
            assert_eq!(edge.to_string().parse::<LiveEdge>().unwrap(), edge);
        }
        for micros in [1_000_000, 1_500_000, 250_000, 1, 90_000_000] {
            let policy = ReloadPolicy::Every(Duration::from_micros(micros));
            assert_eq!(policy.to_string().parse::<ReloadPolicy>().unwrap(), policy);
        }
        assert_eq!("spec".parse::<ReloadPolicy>().unwrap(), ReloadPolicy::Spec);
        assert_eq!("500ms".parse::<ReloadPolicy>().unwrap(), ReloadPolicy::Every(Duration::from_millis(500)));
        assert_eq!(ReloadPolicy::Every(Duration::from_millis(1500)).to_string(), "1.5s");
    }

    #[test]
    fn wrong_policies_say_what_is_allowed() {
        for text in ["", "new", "-1", "4294967296"] {
            let error = text.parse::<LiveEdge>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains("newest, oldest or a number of segments"), "{error}");
        }
        for text in ["", "1", "0s", "-1s", "s", "ms", "1m", "Spec"] {
            let error = text.parse::<ReloadPolicy>().unwrap_err();
            assert!(error.to_string().contains("such as 1s or 500ms"), "{error}");
        }
    }

    #[test]
    fn edges_stay_inside_the_list() {
        for (edge, listed, index) in [
            (LiveEdge::Newest, 0, 0),
            (LiveEdge::Newest, 5, 4),
            (LiveEdge::Segments(0), 5, 4),
            (LiveEdge::Segments(3), 5, 2),
            (LiveEdge::Segments(9), 5, 0),
            (LiveEdge::Oldest, 5, 0),
        ] {
            assert_eq!(edge.start_index(listed), index, "{edge} of {listed}");
        }
    }
}
