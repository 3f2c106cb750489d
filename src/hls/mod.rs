//! HLS playlists (RFC 8216): text to values, which variant to watch, and which segments are new.
//!
//! Everything here is pure: bytes, values and times go in, values come out.
//!
//! ```text
//! bytes -> parse() -> Playlist::Multivariant -> select() -> Variant -> (its URL is loaded)
//!                  -> Playlist::Media -> PlaylistTracker::update() -> fresh segments, what happened, when to reload
//! ```
//!
//! The parser forgives what players forgive, and keeps a [`Warning`] for it; what would give wrong segments or wrong
//! sequence numbers is a [`ParseError`] with its line. Neither ever quotes a URL: its query is a secret.
//!
//! | file | decides |
//! | --- | --- |
//! | `parse.rs` | lines, tags, which kind of playlist it is |
//! | `media.rs` | the tags of a media playlist, sequence numbers, byte ranges, start times |
//! | `multivariant.rs` | the tags of a multivariant playlist |
//! | `context.rs` | URLs, variables, warnings |
//! | `sniff.rs` | what a body is that is no playlist |
//! | `variants.rs` | which variant is watched |
//! | `tracker.rs` | which segments are new, what was missed, when to reload |
//! | `policy.rs` | where to start in a live playlist, how often to reload it |

mod attributes;
mod context;
mod decimal;
mod mark;
mod media;
mod multivariant;
mod parse;
mod playlist;
mod policy;
mod sniff;
mod tracker;
mod variants;

pub(crate) use mark::Identity;
pub use parse::parse;
pub use playlist::{
    ByteRange, FragmentNumber, InitRef, MediaPlaylist, MultivariantPlaylist, Playlist, PlaylistType, Rendition,
    RenditionType, Resolution, Segment, Variant, Warning,
};
pub use policy::{LiveEdge, ReloadPolicy};
pub use tracker::{Continuity, PlaylistTracker, TrackerEvent, TrackerOptions, Update};
pub(crate) use variants::ladder;
pub use variants::{Selection, VariantCaps, VariantChoice, select};

use std::fmt;

use crate::error::{Error, ErrorKind};
use sniff::Body;

/// A playlist that cannot be used, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    defect: Defect,
    /// Counted from 1.
    line: Option<usize>,
}

/// The rule that was broken.
///
/// Text of the playlist appears in [`Word`]s only, since any other could hold a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    NotAPlaylist(Body),
    NotUtf8,
    Limit { name: &'static str, limit: usize },
    Value { tag: &'static str, expected: &'static str },
    MissingAttribute { tag: &'static str, name: &'static str },
    UnterminatedQuote { tag: &'static str },
    MissingTargetDuration,
    ZeroTargetDuration,
    SequenceOverflow,
    ByteRangeWithoutStart,
    Url(url::ParseError),
    Scheme(Word),
    Encryption(Word),
    UndefinedVariable,
    ImportedVariable,
    BothKinds(&'static str),
    NoVariants,
    NoVideo,
    VideoCodecs(Vec<Word>),
}

/// A name out of the playlist that is safe to show: short, letters, digits and hyphens only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word(String);

impl Word {
    const MAX_CHARS: usize = 20;

    fn new(text: &str) -> Self {
        Self(text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').take(Self::MAX_CHARS).collect())
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "(unnamed)" } else { &self.0 })
    }
}

impl ParseError {
    fn at(defect: Defect, line: usize) -> Self {
        Self { defect, line: Some(line) }
    }

    /// The line of the playlist, counted from 1, where one is to blame.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        self.line
    }

    /// Whether the playlist is intact but asks for what this crate does not do, so that no retry helps.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        match &self.defect {
            Defect::NotAPlaylist(body) => body.is_other_format(),
            Defect::Scheme(_)
            | Defect::Encryption(_)
            | Defect::ImportedVariable
            | Defect::NoVideo
            | Defect::VideoCodecs(_) => true,
            _ => false,
        }
    }
}

impl From<Defect> for ParseError {
    fn from(defect: Defect) -> Self {
        Self { defect, line: None }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        match &self.defect {
            Defect::NotAPlaylist(body) => write!(f, "no #EXTM3U at the start: the body is {body}"),
            Defect::NotUtf8 => f.write_str("byte that is not UTF-8"),
            Defect::Limit { name, limit } => write!(f, "more than {name} allows ({limit})"),
            Defect::Value { tag, expected } => write!(f, "{tag} without {expected}"),
            Defect::MissingAttribute { tag, name } => write!(f, "{tag} without {name}"),
            Defect::UnterminatedQuote { tag } => write!(f, "{tag} with a quoted string that does not end"),
            Defect::MissingTargetDuration => f.write_str("no EXT-X-TARGETDURATION, and no segment to take it from"),
            Defect::ZeroTargetDuration => f.write_str("target duration of zero"),
            Defect::SequenceOverflow => f.write_str("media sequence number above 2^64 - 1"),
            Defect::ByteRangeWithoutStart => {
                f.write_str("EXT-X-BYTERANGE without an offset, and no range of the same resource before it")
            }
            Defect::Url(reason) => write!(f, "URI that cannot be resolved ({reason})"),
            Defect::Scheme(scheme) => write!(f, "URI of scheme {scheme} (http and https are supported)"),
            Defect::Encryption(method) => write!(f, "EXT-X-KEY with METHOD={method}: encryption is not supported"),
            Defect::UndefinedVariable => f.write_str("reference to a variable that no EXT-X-DEFINE defines"),
            Defect::ImportedVariable => f.write_str("EXT-X-DEFINE with IMPORT, which is not supported"),
            Defect::BothKinds(tag) => write!(f, "{tag} in a playlist of the other kind (RFC 8216 4.1)"),
            Defect::NoVariants => f.write_str("multivariant playlist without a variant"),
            Defect::NoVideo => f.write_str("multivariant playlist with audio only"),
            Defect::VideoCodecs(codecs) => {
                f.write_str("no variant in H.264; found ")?;
                for (index, codec) in codecs.iter().enumerate() {
                    let separator = if index == 0 { "" } else { ", " };
                    write!(f, "{separator}{} ({codec})", variants::video_codec_name(&codec.0).unwrap_or("unknown"))?;
                }
                f.write_str(", not supported")
            }
        }
    }
}

impl std::error::Error for ParseError {}

impl From<ParseError> for Error {
    fn from(error: ParseError) -> Self {
        let is_unsupported = error.is_unsupported();
        let (kind, context) = match &error.defect {
            Defect::Limit { .. } => (ErrorKind::Limit, "playlist too large"),
            Defect::NotAPlaylist(_) => (ErrorKind::Playlist, "not a playlist"),
            _ if is_unsupported => (ErrorKind::Playlist, "unsupported playlist"),
            _ => (ErrorKind::Playlist, "damaged playlist"),
        };
        let result = Self::new(kind, context).with_source(error);
        if is_unsupported { result.unsupported() } else { result }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Recovery, Stage};

    #[test]
    fn defects_become_errors_of_their_kind() {
        let limit = Defect::Limit { name: "max_variants", limit: 3 };
        for (defect, kind, recovery) in [
            (limit, ErrorKind::Limit, Recovery::Retry),
            (Defect::NotUtf8, ErrorKind::Playlist, Recovery::Retry),
            (Defect::NotAPlaylist(Body::Html), ErrorKind::Playlist, Recovery::Retry),
            (Defect::NotAPlaylist(Body::MpegTs), ErrorKind::Playlist, Recovery::Fatal),
            (Defect::Encryption(Word::new("AES-128")), ErrorKind::Playlist, Recovery::Fatal),
        ] {
            let error = Error::from(ParseError::at(defect, 7)).at(Stage::Playlist);
            assert_eq!((error.kind(), error.recovery()), (kind, recovery), "{error}");
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(cause.starts_with("line 7: "), "{cause}");
        }
    }

    #[test]
    fn words_cannot_carry_a_token() {
        assert_eq!(Word::new("AES-128?SessionToken=CiSecret~").0, "AES-128");
        assert_eq!(Word::new("CiAaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa").0.len(), 20);
        assert_eq!(Word::new("?x").to_string(), "(unnamed)");
    }
}
