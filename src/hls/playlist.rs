//! Playlists as values: every URL is absolute, every number is checked.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::secret::SecretUrl;

/// A playlist of either kind (RFC 8216 §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Playlist {
    /// A list of variants, also called a master playlist.
    Multivariant(MultivariantPlaylist),
    /// A list of segments.
    Media(MediaPlaylist),
}

/// A list of variants of the same content (RFC 8216 §4.3.4).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MultivariantPlaylist {
    /// The variants in their order; at least one.
    pub variants: Vec<Variant>,
    /// The renditions in their order (`EXT-X-MEDIA`).
    pub renditions: Vec<Rendition>,
    /// `EXT-X-INDEPENDENT-SEGMENTS`, said for all variants.
    pub has_independent_segments: bool,
    /// Defects that were tolerated: the first 16.
    pub warnings: Vec<Warning>,
}

/// One encoding of the content (`EXT-X-STREAM-INF`, RFC 8216 §4.3.4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Variant {
    /// Where its media playlist is.
    pub url: SecretUrl,
    /// Peak bits a second, where stated.
    pub bandwidth: Option<u64>,
    /// Average bits a second, where stated.
    pub average_bandwidth: Option<u64>,
    /// Size of the picture, where stated.
    pub resolution: Option<Resolution>,
    /// Frames in 1000 seconds, where stated: the attribute has three decimal places.
    pub frame_rate_millihertz: Option<u64>,
    /// The `CODECS` attribute, where stated: RFC 6381 names, separated by commas.
    pub codecs: Option<String>,
    /// The group of audio renditions that goes with it.
    pub audio_group: Option<String>,
    /// The line of its `EXT-X-STREAM-INF`, from 1.
    pub line: usize,
}

impl Variant {
    /// The names in `CODECS`, for example `avc1.4d4032`.
    pub fn codec_names(&self) -> impl Iterator<Item = &str> {
        self.codecs.as_deref().unwrap_or_default().split(',').map(str::trim).filter(|name| !name.is_empty())
    }
}

/// Size of a picture in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Resolution {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Resolution {
    /// Pixels of the picture.
    #[must_use]
    pub fn pixels(self) -> u64 {
        u64::from(self.width).saturating_mul(u64::from(self.height))
    }
}

impl fmt::Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// An alternative rendition (`EXT-X-MEDIA`, RFC 8216 §4.3.4.1), kept lightly: it is never loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rendition {
    /// What it holds.
    pub rendition_type: RenditionType,
    /// `GROUP-ID`, which variants refer to.
    pub group_id: String,
    /// `NAME`, for people.
    pub name: String,
    /// Whether it has a playlist of its own; otherwise it is inside the variant's segments.
    pub has_uri: bool,
}

/// The `TYPE` of a rendition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RenditionType {
    /// `AUDIO`
    Audio,
    /// `VIDEO`
    Video,
    /// `SUBTITLES`
    Subtitles,
    /// `CLOSED-CAPTIONS`
    ClosedCaptions,
    /// Any other.
    Other,
}

/// A list of segments (RFC 8216 §4.3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MediaPlaylist {
    /// Longest segment, rounded; never zero, since reloads are timed by it.
    pub target_duration: Duration,
    /// Sequence number of the first segment, zero when not stated. A new session counts anew.
    pub media_sequence: u64,
    /// Discontinuities before the first segment, zero when not stated.
    pub discontinuity_sequence: u64,
    /// `EXT-X-PLAYLIST-TYPE`, where stated.
    pub playlist_type: Option<PlaylistType>,
    /// `EXT-X-ENDLIST`: no segment will follow.
    pub has_ended: bool,
    /// `EXT-X-INDEPENDENT-SEGMENTS`: the server claims that every segment decodes alone.
    pub has_independent_segments: bool,
    /// The segments, sequence numbers ascending.
    pub segments: Vec<Segment>,
    /// Defects that were tolerated: the first 16.
    pub warnings: Vec<Warning>,
}

impl MediaPlaylist {
    /// Whether the list will never change, so that reloading it is of no use (RFC 8216 §6.3.4).
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.has_ended || self.playlist_type == Some(PlaylistType::Vod)
    }
}

/// How a media playlist may change (RFC 8216 §4.3.3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PlaylistType {
    /// It does not change.
    Vod,
    /// Segments are only added at its end.
    Event,
}

/// A part of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ByteRange {
    /// Position of the first byte.
    pub offset: u64,
    /// Bytes, at least one; `offset + length` fits.
    pub length: u64,
}

/// A media segment (RFC 8216 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Segment {
    /// Where it is.
    pub url: SecretUrl,
    /// The part of the resource that it is; all of it when `None`.
    pub byte_range: Option<ByteRange>,
    /// Media sequence number, unique within a session.
    pub sequence: u64,
    /// Discontinuity sequence number (RFC 8216 §6.2.2). Where the server states no `EXT-X-DISCONTINUITY-SEQUENCE` and
    /// the list slides, as on Kinesis Video Streams, compare it within one playlist only.
    pub discontinuity_sequence: u64,
    /// Whether `EXT-X-DISCONTINUITY` stands directly before it.
    pub is_discontinuity: bool,
    /// Its length by `EXTINF`: never exact enough to add up times.
    pub duration: Duration,
    /// The time of its first sample by its own `EXT-X-PROGRAM-DATE-TIME`.
    pub program_date_time: Option<SystemTime>,
    /// Its own time, else the nearest tagged one carried over by durations (RFC 8216 §4.3.2.6): an estimate.
    pub estimated_start: Option<SystemTime>,
    /// The initialization section that holds for it, shared by all segments under one `EXT-X-MAP`.
    pub init: Option<Arc<InitRef>>,
    /// `EXT-X-GAP`: the segment is listed but not there.
    pub is_gap: bool,
    /// The fragment number in its URL.
    pub fragment_number: Option<FragmentNumber>,
}

/// Where an initialization section is (`EXT-X-MAP`, RFC 8216 §4.3.2.5).
///
/// Two are equal when they lead to the same place, whatever their session token and order of parameters. A new session
/// may serve other bytes from the same place.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InitRef {
    /// Where it is.
    pub url: SecretUrl,
    /// The part of the resource that it is; all of it when `None`.
    pub byte_range: Option<ByteRange>,
}

impl PartialEq for InitRef {
    fn eq(&self, other: &Self) -> bool {
        self.byte_range == other.byte_range && is_same_resource(&self.url, &other.url)
    }
}

impl Eq for InitRef {}

/// Whether two URLs name the same resource, whatever their session token, order of parameters and fragment.
pub(super) fn is_same_resource(one: &SecretUrl, other: &SecretUrl) -> bool {
    fn parameters(url: &url::Url) -> Vec<(std::borrow::Cow<'_, str>, std::borrow::Cow<'_, str>)> {
        let mut pairs: Vec<_> = url.query_pairs().filter(|(name, _)| name != "SessionToken").collect();
        pairs.sort_unstable();
        pairs
    }
    let (one, other) = (one.expose(), other.expose());
    one.origin() == other.origin() && one.path() == other.path() && parameters(one) == parameters(other)
}

/// The number that Kinesis Video Streams gives to a fragment: too large for any integer type, ordered by ingestion.
///
/// Numbers are equal and ordered by value; leading zeros count for [`is_global`](Self::is_global) and for display only.
#[derive(Clone, Debug)]
pub struct FragmentNumber(Arc<str>);

impl FragmentNumber {
    /// The most digits that the service documents.
    const MAX_DIGITS: usize = 128;
    /// Real numbers have 47 digits; those that count within a session have few.
    const MIN_GLOBAL_DIGITS: usize = 20;

    /// `None` unless the text is 1 to 128 decimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_number = (1..=Self::MAX_DIGITS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| Self(text.into()))
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the number identifies the fragment in its stream, not merely in one session.
    #[must_use]
    pub fn is_global(&self) -> bool {
        self.0.len() >= Self::MIN_GLOBAL_DIGITS
    }

    fn key(&self) -> (usize, &str) {
        let significant = self.0.trim_start_matches('0');
        (significant.len(), significant)
    }
}

impl fmt::Display for FragmentNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq for FragmentNumber {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for FragmentNumber {}

impl Hash for FragmentNumber {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl Ord for FragmentNumber {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for FragmentNumber {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A defect that was tolerated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Warning {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub text: &'static str,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragment_numbers_are_ordered_by_value() {
        let number = |text: &str| FragmentNumber::parse(text).unwrap();
        let a = number("91343852333181432392682062607743349713112230400");
        let b = number("91343852333181432392682062607743349713112230401");
        assert!(a < b && number("9") < number("10") && number("0") < number("1"));
        assert!(number("99999999999999999999") < a);
        assert_eq!(number("007"), number("7"));
        assert_eq!(number("007").to_string(), "007");
        assert!(a.is_global() && !number("1234").is_global());
        for text in ["", "-1", "1a", "1.0", "٤", &"1".repeat(129)] {
            assert_eq!(FragmentNumber::parse(text), None, "{text}");
        }
    }

    #[test]
    fn inits_are_equal_by_place() {
        let init = |url: &str, byte_range| InitRef { url: SecretUrl::parse(url).unwrap(), byte_range };
        let base = init("https://h/i.mp4?SessionToken=a&TrackNumber=1&SequenceNumber=0", None);
        assert_eq!(base, init("https://h/i.mp4?SequenceNumber=0&TrackNumber=1&SessionToken=b", None));
        let range = Some(ByteRange { offset: 0, length: 800 });
        for other in [
            init("https://h/i.mp4?SessionToken=a&TrackNumber=1&SequenceNumber=1", None),
            init("https://h/i.mp4?SessionToken=a&TrackNumber=1", None),
            init("https://h/j.mp4?SessionToken=a&TrackNumber=1&SequenceNumber=0", None),
            init("https://g/i.mp4?SessionToken=a&TrackNumber=1&SequenceNumber=0", None),
            init("https://h/i.mp4?SessionToken=a&TrackNumber=1&SequenceNumber=0", range),
        ] {
            assert_ne!(base, other, "{:?}", other.url.expose().query());
        }
    }
}
