//! Every bound on what input may make the engine do.

use std::time::Duration;

/// Bounds on everything that a server or a stream drives.
///
/// The defaults admit all that Kinesis Video Streams may send (fragments of up to 50 MB, 5,000 of them in a playlist)
/// and pictures of up to 36,864 macroblocks, which is what the decoder takes. Exceeding one gives
/// [`ErrorKind::Limit`](crate::ErrorKind::Limit) with its name and value; a time limit that runs out gives
/// [`ErrorKind::Network`](crate::ErrorKind::Network).
///
/// What has no place here is fixed: ten seconds for a connection, for the first byte of an answer and between two pieces
/// of it, the HTTP library's own bounds on headers (about 400 KB), nine levels of boxes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of a playlist.
    pub max_playlist_bytes: usize,
    /// Segments listed in a playlist.
    pub max_playlist_segments: usize,
    /// Variants listed in a multivariant playlist.
    pub max_variants: usize,
    /// Bytes of an initialization segment.
    pub max_init_bytes: usize,
    /// Bytes of a media segment.
    pub max_segment_bytes: usize,
    /// Samples in a media segment, of all its tracks together.
    pub max_samples: usize,
    /// Tracks in an initialization segment.
    pub max_tracks: usize,
    /// Macroblocks (16x16 pixels) of a picture, from the sequence parameter set.
    pub max_macroblocks: u32,
    /// Bytes of segments that an archive is downloaded ahead of the decoder, but for the last one.
    pub max_ahead_bytes: usize,
    /// Bytes of decoded frames that wait until those before them are decoded, when an archive is decoded on several threads
    /// ([`decode_ahead`](crate::FrameSourceBuilder::decode_ahead)): half a group of pictures for each thread but one is
    /// all that is needed.
    pub max_waiting_bytes: usize,
    /// From the request for a playlist or an initialization segment to its last byte.
    #[cfg_attr(feature = "serde", serde(with = "crate::options::span"))]
    pub playlist_timeout: Duration,
    /// From the request for a media segment to its last byte.
    #[cfg_attr(feature = "serde", serde(with = "crate::options::span"))]
    pub segment_timeout: Duration,
    /// Bytes a second that a body must come with, seen over any ten seconds: a server that sends a byte now and then would
    /// else hold a source until the time limit.
    pub min_bytes_per_second: u64,
    /// Redirects that a request follows.
    pub max_redirects: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_playlist_bytes: 8 << 20,
            max_playlist_segments: 100_000,
            max_variants: 1_000,
            max_init_bytes: 1 << 20,
            max_segment_bytes: 64 << 20,
            max_samples: 100_000,
            max_tracks: 64,
            max_macroblocks: 36_864,
            max_ahead_bytes: 32 << 20,
            max_waiting_bytes: 512 << 20,
            playlist_timeout: Duration::from_secs(20),
            segment_timeout: Duration::from_secs(60),
            min_bytes_per_second: 1_000,
            max_redirects: 5,
        }
    }
}
