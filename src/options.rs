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
    };
}
pub(crate) use words;

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
