//! Help for options that are read from text.

use crate::error::{Error, ErrorKind};

/// The error for a word that is none of the allowed ones.
pub(crate) fn unknown_word(word: &str, allowed: &[&str]) -> Error {
    Error::new(ErrorKind::Config, format!("\"{word}\" where one of {} is allowed", allowed.join(", ")))
}

/// `Display` and `FromStr` of an enum whose variants are written as these words.
macro_rules! words {
    ($type:ident, $($variant:ident = $word:literal),+) => {
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$variant => $word),+ })
            }
        }

        impl std::str::FromStr for $type {
            type Err = crate::Error;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(crate::options::unknown_word(word, &[$($word),+])),
                }
            }
        }

        crate::options::as_text!($type);
    };
}
pub(crate) use words;

/// serde of an option is its text.
macro_rules! as_text {
    ($type:ty) => {
        #[cfg(feature = "serde")]
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        #[cfg(feature = "serde")]
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use as_text;

/// serde of a time span that is an option: `1m 30s`.
#[cfg(feature = "serde")]
pub(crate) mod span {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*span))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        humantime::parse_duration(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// The same where there may be none.
#[cfg(feature = "serde")]
pub(crate) mod some_span {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(span: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match span {
            Some(span) => super::span::serialize(span, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| humantime::parse_duration(&text).map_err(D::Error::custom)).transpose()
    }
}

/// serde of a time span that was measured: seconds.
#[cfg(feature = "serde")]
pub(crate) mod seconds {
    use std::time::Duration;

    use serde::Serializer;

    pub(crate) fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(span.as_secs_f64())
    }

    pub(crate) fn some<S: Serializer>(span: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match span {
            Some(span) => serialize(span, serializer),
            None => serializer.serialize_none(),
        }
    }
}

/// Between which fragments a playlist has EXT-X-DISCONTINUITY (`DiscontinuityMode` of Kinesis Video Streams).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum DiscontinuityMode {
    /// Before every one, the first one included: what the service does with server timestamps when it is not told otherwise.
    #[default]
    Always,
    /// Nowhere: what the service does with producer timestamps when it is not told otherwise.
    Never,
    /// Where fragments are more than 50 ms apart or overlap by more than that.
    OnDiscontinuity,
}

words!(DiscontinuityMode, Always = "always", Never = "never", OnDiscontinuity = "on-discontinuity");
