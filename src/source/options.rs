//! What the user can choose.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::session::SessionRequest;

/// How long sessions last and how failures are met: the numbers that users of the Python class know.
///
/// With the feature `serde` it is a map with the fields' names and times such as `5m`; what is left out is the default's.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct Config {
    /// How long a KVS session is asked for: 300 s to 43,200 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::options::span"))]
    pub session_duration: Duration,
    /// How long before its expiry a session is replaced. Less than `session_duration`.
    #[cfg_attr(feature = "serde", serde(with = "crate::options::span"))]
    pub refresh_margin: Duration,
    /// The first delay before a reconnect.
    #[cfg_attr(feature = "serde", serde(with = "crate::options::span"))]
    pub reconnect_delay: Duration,
    /// The longest delay before a reconnect.
    #[cfg_attr(feature = "serde", serde(with = "crate::options::span"))]
    pub max_reconnect_delay: Duration,
    /// What each delay is to the one before; at least 1.
    pub backoff_multiplier: f64,
    /// So many failures in a row without a frame end the source with a fatal error. At least 1. A camera that sends
    /// nothing is no failure.
    pub max_consecutive_errors: u32,
    /// How long a camera may send nothing before that ends the source with a fatal error; `None` waits for ever.
    #[cfg_attr(feature = "serde", serde(with = "crate::options::some_span"))]
    pub max_silence: Option<Duration>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            session_duration: Duration::from_secs(300),
            refresh_margin: Duration::from_secs(30),
            reconnect_delay: Duration::from_secs(5),
            max_reconnect_delay: Duration::from_secs(60),
            backoff_multiplier: 2.0,
            max_consecutive_errors: 10,
            max_silence: None,
        }
    }
}

impl Config {
    /// Long sessions, slow and patient reconnects.
    #[must_use]
    pub fn conservative() -> Self {
        Self {
            session_duration: Duration::from_secs(1800),
            refresh_margin: Duration::from_secs(120),
            reconnect_delay: Duration::from_secs(10),
            max_reconnect_delay: Duration::from_secs(300),
            backoff_multiplier: 2.0,
            max_consecutive_errors: 20,
            max_silence: None,
        }
    }

    /// Fast reconnects, early surrender.
    #[must_use]
    pub fn aggressive() -> Self {
        Self {
            session_duration: Duration::from_secs(300),
            refresh_margin: Duration::from_secs(10),
            reconnect_delay: Duration::from_secs(1),
            max_reconnect_delay: Duration::from_secs(10),
            backoff_multiplier: 1.5,
            max_consecutive_errors: 5,
            max_silence: None,
        }
    }

    /// # Errors
    /// `Config` with the option's name, its value and what is allowed.
    pub(super) fn check(&self) -> Result<(), Error> {
        let Self { session_duration, refresh_margin, reconnect_delay, max_reconnect_delay, .. } = self;
        let wrong = |option: &str, value: &dyn fmt::Debug, allowed: &str| {
            Err(Error::new(ErrorKind::Config, format!("{option} of {value:?} ({allowed} is allowed)")))
        };
        if !SessionRequest::new(*session_duration).is_duration_allowed() {
            wrong("session_duration", session_duration, "300s to 43200s in whole seconds")
        } else if refresh_margin >= session_duration {
            wrong("refresh_margin", refresh_margin, &format!("less than the session_duration of {session_duration:?}"))
        } else if reconnect_delay.is_zero() {
            wrong("reconnect_delay", reconnect_delay, "more than 0s")
        } else if max_reconnect_delay < reconnect_delay {
            wrong(
                "max_reconnect_delay",
                max_reconnect_delay,
                &format!("at least the reconnect_delay of {reconnect_delay:?}"),
            )
        } else if !(1.0..=100.0).contains(&self.backoff_multiplier) {
            wrong("backoff_multiplier", &self.backoff_multiplier, "1 to 100")
        } else if self.max_consecutive_errors == 0 {
            wrong("max_consecutive_errors", &0, "at least 1")
        } else if self.max_silence.is_some_and(|longest| longest.is_zero()) {
            wrong("max_silence", &Duration::ZERO, "more than 0s, or none")
        } else {
            Ok(())
        }
    }
}

/// What happens when frames come faster than they are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// The decoder waits for the consumer; nothing is dropped inside a segment. A live consumer that is behind by more
    /// than `max_lag` jumps to the newest segment, and the next frame reports the gap. A finished playlist is delivered
    /// whole.
    CatchUp {
        /// How far the consumer may be behind what the server has.
        max_lag: Duration,
    },
    /// The decoder waits for the consumer; the source drops nothing. Segments that leave the server's window meanwhile
    /// are reported as a gap.
    All,
    /// Always the newest frame that is due, paced by capture time, never the same frame twice. Frames nobody asked for
    /// in time are replaced; that is no gap.
    Latest,
}

impl Default for Delivery {
    fn default() -> Self {
        Self::CatchUp { max_lag: Duration::from_secs(6) }
    }
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CatchUp { max_lag } => write!(f, "catch-up:{}", max_lag.as_secs_f64()),
            Self::All => f.write_str("all"),
            Self::Latest => f.write_str("latest"),
        }
    }
}

crate::options::as_text!(Delivery);

impl FromStr for Delivery {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let seconds = |text: &str| text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        match text {
            "catch-up" => Ok(Self::default()),
            "all" => Ok(Self::All),
            "latest" => Ok(Self::Latest),
            _ => {
                text.strip_prefix("catch-up:").and_then(seconds).map(|max_lag| Self::CatchUp { max_lag }).ok_or_else(
                    || crate::options::unknown_word(text, &["catch-up", "catch-up:SECONDS", "all", "latest"]),
                )
            }
        }
    }
}

/// When a decoded frame is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Pacing {
    /// At once: segments come in bursts, and so do frames.
    #[default]
    AsDecoded,
    /// In the rhythm of capture, which costs up to a segment's duration of latency.
    ByTime,
}

crate::options::words!(Pacing, AsDecoded = "as-decoded", ByTime = "by-time");

/// What is handed out while the connection is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum GapFill {
    /// Nothing.
    #[default]
    None,
    /// The last frame again and again, in the stream's rhythm, with
    /// [`is_synthetic`](crate::FrameMeta::is_synthetic) set and the time it was really captured at. Such frames are
    /// counted apart and make nobody healthy.
    HoldLast,
}

crate::options::words!(GapFill, None = "none", HoldLast = "hold-last");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_valid_and_wrong_numbers_are_named() {
        for config in [Config::default(), Config::conservative(), Config::aggressive()] {
            config.check().unwrap();
        }
        type Change = fn(&mut Config);
        let cases: [(Change, &str); 7] = [
            (
                |c| c.session_duration = Duration::from_secs(299),
                "session_duration of 299s (300s to 43200s in whole seconds is allowed)",
            ),
            (|c| c.session_duration = Duration::from_secs(43_201), "session_duration of 43201s"),
            (
                |c| c.refresh_margin = Duration::from_secs(300),
                "refresh_margin of 300s (less than the session_duration of 300s is allowed)",
            ),
            (|c| c.reconnect_delay = Duration::ZERO, "reconnect_delay of 0ns"),
            (
                |c| c.max_reconnect_delay = Duration::from_secs(1),
                "max_reconnect_delay of 1s (at least the reconnect_delay of 5s is allowed)",
            ),
            (|c| c.backoff_multiplier = f64::NAN, "backoff_multiplier of NaN (1 to 100 is allowed)"),
            (|c| c.max_consecutive_errors = 0, "max_consecutive_errors of 0 (at least 1 is allowed)"),
        ];
        for (change, text) in cases {
            let mut config = Config::default();
            change(&mut config);
            let error = config.check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(text), "{error} lacks {text}");
        }
    }

    #[test]
    fn words_read_back() {
        for text in ["catch-up:6", "catch-up:0.5", "all", "latest"] {
            assert_eq!(text.parse::<Delivery>().unwrap().to_string(), text);
        }
        assert_eq!("catch-up".parse::<Delivery>().unwrap(), Delivery::default());
        for text in ["catch-up:-1", "catch-up:x", "newest"] {
            assert_eq!(text.parse::<Delivery>().unwrap_err().kind(), ErrorKind::Config);
        }
        assert_eq!("by-time".parse::<Pacing>().unwrap(), Pacing::ByTime);
    }
}
