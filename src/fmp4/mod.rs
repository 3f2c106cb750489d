//! Fragmented MP4 (ISO 14496-12) with H.264 (ISO 14496-15): segments in, access units out.
//!
//! ```text
//! init segment  --InitSegment::parse--> tracks, the video track: timescale, sample entries, defaults, edit list
//! media segment --Demuxer::push-------> access units: views into the segment, never copies
//! its beginning --Demuxer::peek-------> the access units that are there, the times of those to come
//! ```
//!
//! Only the boxes that matter are read: `moov/{mvhd, mvex/trex, trak/{tkhd, edts/elst, mdia/{mdhd, hdlr,
//! minf/stbl/stsd}}}` and `moof/traf/{tfhd, tfdt, trun}`. All others are stepped over by their size, whatever they hold.
//! Every error says at which byte of which box it happened, and what the body looks like when it is no MP4 at all.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

mod boxes;
mod demux;
mod init;
mod look;
mod prefix;
mod sample_entry;
mod traf;

pub use boxes::FourCc;
pub use demux::Demuxer;
pub use init::{InitSegment, Track, TrackSummary};
pub use prefix::Prefix;
pub use sample_entry::SampleEntry;

use std::fmt;

use crate::error::{Error, ErrorKind};
use crate::h264;
use boxes::Path;
use look::Look;

/// A segment that cannot be read, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Position in the body, of a box header or of a field in it.
    offset: u64,
    path: Path,
    defect: Defect,
}

/// The rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    NotMp4(Look),
    BoxHeader { left: u64 },
    BoxSize(u64),
    BoxTooLong { size: u64, left: u64 },
    SizeZero,
    EndsTooEarly,
    MissingBox(FourCc),
    MediaWithoutMoov,
    MoovWithoutMoof,
    Version(u8),
    NoTracks,
    OnlyTracks { handler: FourCc, codec: Option<FourCc> },
    ZeroTimescale,
    EditTime(i64),
    EntryCount(u32),
    NoSampleEntry,
    SampleEntryIndex { index: u32, count: usize },
    Codec(FourCc),
    Encrypted { codec: Option<FourCc>, scheme: Option<FourCc> },
    UnknownTracks { id: u32, wanted: u32 },
    RunTooLong { count: u32, left: u64 },
    RunWithoutSizes(u32),
    DataOffset,
    SampleOutsideData { size: u64 },
    SamplesOverlap,
    TimeOverflow,
    TooMany { limit: &'static str, allowed: usize },
    H264(h264::ParseError),
}

impl ParseError {
    /// Position in the body, from 0, of the box or field that is wrong.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether the input is intact but of a kind that this crate does not read: another codec, encryption, MPEG-TS.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        match &self.defect {
            Defect::Codec(_) | Defect::Encrypted { .. } | Defect::OnlyTracks { .. } => true,
            Defect::NotMp4(look) => look.is_media(),
            _ => false,
        }
    }

    fn is_limit(&self) -> bool {
        matches!(self.defect, Defect::TooMany { .. })
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}", self.offset)?;
        if !self.path.is_top() {
            write!(f, " in {}", self.path)?;
        }
        write!(f, ": {}", self.defect)
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMp4(look) => write!(f, "{look} where MP4 was expected"),
            Self::BoxHeader { left } => write!(f, "box header cut short after {left} bytes"),
            Self::BoxSize(size) => write!(f, "box size of {size} bytes, less than its header"),
            Self::BoxTooLong { size, left } => write!(f, "box of {size} bytes where {left} are left"),
            Self::SizeZero => f.write_str("box size of zero inside another box"),
            Self::EndsTooEarly => f.write_str("box ends too early"),
            Self::MissingBox(kind) => write!(f, "box {kind} missing"),
            Self::MediaWithoutMoov => f.write_str("media fragment (moof) where an initialization segment was expected"),
            Self::MoovWithoutMoof => f.write_str("movie (moov) without fragments (moof), a plain MP4 file"),
            Self::Version(version) => write!(f, "box of unknown version {version}"),
            Self::NoTracks => f.write_str("no tracks"),
            Self::OnlyTracks { handler, codec } => {
                write!(f, "no video track, only {}", sample_entry::handler_name(*handler))?;
                codec.map_or(Ok(()), |codec| write!(f, " ({codec})"))
            }
            Self::ZeroTimescale => f.write_str("timescale of zero"),
            Self::EditTime(time) => write!(f, "media time of {time} in the edit list"),
            Self::EntryCount(count) => write!(f, "count of {count} entries that do not fit the box"),
            Self::NoSampleEntry => f.write_str("no sample description"),
            Self::SampleEntryIndex { index, count } => {
                write!(f, "sample description {index} where {count} are defined")
            }
            Self::Codec(codec) => {
                write!(f, "{} video ({codec}), only H.264 (avc1, avc3) is supported", sample_entry::codec_name(*codec))
            }
            Self::Encrypted { codec, scheme } => {
                f.write_str("encrypted video (encv")?;
                scheme.map_or(Ok(()), |scheme| write!(f, ", scheme {scheme}"))?;
                codec.map_or(Ok(()), |codec| write!(f, ", codec {codec}"))?;
                f.write_str(")")
            }
            Self::UnknownTracks { id, wanted } => {
                write!(f, "data of track {id} only, where the initialization segment has video track {wanted}")
            }
            Self::RunTooLong { count, left } => write!(f, "run of {count} samples described in {left} bytes"),
            Self::RunWithoutSizes(count) => write!(f, "run of {count} samples of size zero"),
            Self::DataOffset => f.write_str("data offset outside the segment"),
            Self::SampleOutsideData { size } => write!(f, "sample of {size} bytes outside the media data (mdat)"),
            Self::SamplesOverlap => f.write_str("samples together larger than the segment"),
            Self::TimeOverflow => f.write_str("time too large to be counted"),
            Self::TooMany { limit, allowed } => write!(f, "more than {limit} ({allowed}) allows"),
            Self::H264(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ParseError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.defect {
            // Its text is in our own already: hand on what is under it.
            Defect::H264(error) => error.source(),
            _ => None,
        }
    }
}

impl From<ParseError> for Error {
    fn from(error: ParseError) -> Self {
        let is_unsupported = error.is_unsupported();
        let (kind, context) = match &error.defect {
            _ if is_unsupported => (ErrorKind::Container, "unsupported media"),
            Defect::TooMany { .. } => (ErrorKind::Limit, "segment beyond the limits"),
            Defect::H264(_) => (ErrorKind::Bitstream, "damaged H.264"),
            Defect::NotMp4(_) => (ErrorKind::Container, "not an MP4 segment"),
            _ => (ErrorKind::Container, "damaged MP4 segment"),
        };
        let result = Self::new(kind, context).with_source(error);
        if is_unsupported { result.unsupported() } else { result }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    fn error(defect: Defect) -> ParseError {
        ParseError { offset: 1234, path: Path::of(FourCc(*b"moof")), defect }
    }

    #[test]
    fn errors_say_where_and_map_to_kinds() {
        let cases = [
            (error(Defect::SamplesOverlap), ErrorKind::Container, false),
            (error(Defect::Codec(FourCc(*b"hvc1"))), ErrorKind::Container, true),
            (error(Defect::TooMany { limit: "max_samples", allowed: 5 }), ErrorKind::Limit, false),
            (error(Defect::H264(h264::LengthSize::new(3).unwrap_err())), ErrorKind::Bitstream, false),
            (error(Defect::NotMp4(Look::MpegTs)), ErrorKind::Container, true),
            (error(Defect::NotMp4(Look::Markup)), ErrorKind::Container, false),
        ];
        for (cause, kind, is_unsupported) in cases {
            assert!(cause.to_string().starts_with("at byte 1234 in moof: "), "{cause}");
            let text = cause.to_string();
            let error = Error::from(cause);
            assert_eq!((error.kind(), error.is_unsupported()), (kind, is_unsupported), "{text}");
            assert_eq!(error.source().unwrap().to_string(), text);
        }
    }
}
