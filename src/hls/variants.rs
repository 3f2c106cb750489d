//! Which variant of a multivariant playlist is watched.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

use super::playlist::{MultivariantPlaylist, Variant};
use super::{Defect, ParseError, Word, decimal};
use crate::error::{Error, ErrorKind};

/// What a variant may have at most. The default caps nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VariantCaps {
    /// Rows of the picture.
    pub max_height: Option<u32>,
    /// Peak bits a second.
    pub max_bandwidth: Option<u64>,
}

impl VariantCaps {
    /// What is not stated is within the caps.
    fn allow(&self, variant: &Variant) -> bool {
        let is_above = |stated: Option<u64>, cap: Option<u64>| matches!((stated, cap), (Some(n), Some(max)) if n > max);
        let height = variant.resolution.map(|resolution| u64::from(resolution.height));
        !is_above(height, self.max_height.map(u64::from)) && !is_above(variant.bandwidth, self.max_bandwidth)
    }
}

/// How a variant is chosen among those within the caps.
///
/// As text: `adaptive`, `highest`, `lowest`, or the place in the playlist, from 1, such as `2`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum VariantChoice {
    /// The best one at first; a smaller one when the measured bandwidth cannot keep up, and back up again.
    #[default]
    Adaptive,
    /// The best one, whatever the bandwidth.
    Highest,
    /// The smallest one.
    Lowest,
    /// The one at this place in the playlist, from 1, whatever the caps.
    Listed(u32),
}

impl fmt::Display for VariantChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Adaptive => f.write_str("adaptive"),
            Self::Highest => f.write_str("highest"),
            Self::Lowest => f.write_str("lowest"),
            Self::Listed(place) => write!(f, "{place}"),
        }
    }
}

crate::options::as_text!(VariantChoice);

impl FromStr for VariantChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "adaptive" => Ok(Self::Adaptive),
            "highest" => Ok(Self::Highest),
            "lowest" => Ok(Self::Lowest),
            _ => decimal::integer(text)
                .and_then(|place| u32::try_from(place).ok())
                .filter(|place| *place > 0)
                .map(Self::Listed)
                .ok_or_else(|| {
                    let allowed = "adaptive, highest, lowest or a place in the playlist from 1";
                    Error::new(ErrorKind::Config, format!("variant {text:?} ({allowed} is allowed)"))
                }),
        }
    }
}

/// A variant, and whether it is what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Selection<'a> {
    /// The variant to watch.
    pub variant: &'a Variant,
    /// False when every variant exceeds the caps, and this one is the smallest.
    pub is_within_caps: bool,
}

/// What a codec name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Codec {
    H264,
    OtherVideo,
    NotVideo,
    Unknown,
}

/// The format behind a sample entry name, for video that is not H.264.
pub(super) fn video_codec_name(sample_entry: &str) -> Option<&'static str> {
    Some(match sample_entry {
        "hvc1" | "hev1" => "HEVC",
        "dvh1" | "dvhe" | "dav1" | "dva1" | "dvav" => "Dolby Vision",
        "av01" => "AV1",
        "vp08" | "vp8" => "VP8",
        "vp09" | "vp9" => "VP9",
        "vvc1" | "vvi1" => "VVC",
        "mp4v" => "MPEG-4 Visual",
        _ => return None,
    })
}

fn sample_entry(codec: &str) -> &str {
    codec.split_once('.').map_or(codec, |(sample_entry, _profile)| sample_entry)
}

impl Codec {
    /// By the sample entry, which a codec name begins with (RFC 6381 §3.3).
    fn of(codec: &str) -> Self {
        match sample_entry(codec) {
            "avc1" | "avc3" => Self::H264,
            entry if video_codec_name(entry).is_some() => Self::OtherVideo,
            "mp4a" | "ac-3" | "ec-3" | "ac-4" | "opus" | "Opus" | "flac" | "fLaC" | "alac" | "mp3" | "dtsc"
            | "dtse" | "dtsh" | "dtsl" | "dtsx" | "mha1" | "mhm1" | "samr" | "stpp" | "wvtt" | "tx3g" => Self::NotVideo,
            _ => Self::Unknown,
        }
    }
}

/// Whether the variant may hold H.264: a variant that says nothing may.
fn is_candidate(variant: &Variant) -> bool {
    let (mut has_h264, mut has_other_video, mut has_unknown, mut has_names) = (false, false, false, false);
    for name in variant.codec_names() {
        has_names = true;
        match Codec::of(name) {
            Codec::H264 => has_h264 = true,
            Codec::OtherVideo => has_other_video = true,
            Codec::Unknown => has_unknown = true,
            Codec::NotVideo => {}
        }
    }
    if has_h264 || !has_names {
        return true;
    }
    // Names of sound only: with a resolution the picture's codec was left out.
    !has_other_video && (has_unknown || variant.resolution.is_some())
}

/// The best H.264 variant within the caps: most pixels, then most bits a second, then first listed.
///
/// When none is within the caps, the smallest is taken, and the [`Selection`] says so.
///
/// # Errors
/// When no variant holds H.264; the error names the codecs found and is
/// [unsupported](ParseError::is_unsupported).
pub fn select<'a>(playlist: &'a MultivariantPlaylist, caps: &VariantCaps) -> Result<Selection<'a>, ParseError> {
    let candidates = || playlist.variants.iter().filter(|variant| is_candidate(variant));
    let size = |variant: &Variant| variant.resolution.map(|resolution| resolution.pixels());
    // `min_by_key` takes the first of equals.
    let best = candidates()
        .filter(|variant| caps.allow(variant))
        .min_by_key(|variant| Reverse((size(variant).unwrap_or(0), variant.bandwidth.unwrap_or(0))));
    if let Some(variant) = best {
        return Ok(Selection { variant, is_within_caps: true });
    }
    candidates()
        .min_by_key(|variant| (size(variant).unwrap_or(u64::MAX), variant.bandwidth.unwrap_or(u64::MAX)))
        .map(|variant| Selection { variant, is_within_caps: false })
        .ok_or_else(|| nothing_to_watch(playlist).into())
}

/// The variants that may be switched between, the smallest first: the last one is what [`select`] takes. Of those that are
/// of one size and one bandwidth, the first listed is meant, the others stand by for it.
pub(crate) fn ladder(playlist: &MultivariantPlaylist, caps: &VariantCaps) -> Result<Vec<Variant>, ParseError> {
    let best = select(playlist, caps)?;
    if !best.is_within_caps {
        return Ok(vec![best.variant.clone()]);
    }
    let size = |variant: &Variant| (variant.resolution.map_or(0, |size| size.pixels()), variant.bandwidth.unwrap_or(0));
    let mut rungs: Vec<_> =
        playlist.variants.iter().filter(|variant| is_candidate(variant) && caps.allow(variant)).collect();
    rungs.sort_by_key(|variant| size(variant)); // stable, so that the first listed stays first
    rungs.dedup_by_key(|variant| size(variant));
    Ok(rungs.into_iter().cloned().collect())
}

fn nothing_to_watch(playlist: &MultivariantPlaylist) -> Defect {
    let mut codecs: Vec<Word> = Vec::new();
    for name in playlist.variants.iter().flat_map(Variant::codec_names) {
        let entry = sample_entry(name);
        // The list stays short: only known names get in.
        if video_codec_name(entry).is_some() && !codecs.iter().any(|codec| codec.0 == entry) {
            codecs.push(Word::new(entry));
        }
    }
    if codecs.is_empty() { Defect::NoVideo } else { Defect::VideoCodecs(codecs) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hls::{Playlist, parse};
    use crate::limits::Limits;
    use crate::secret::SecretUrl;

    /// A playlist of variants `a`, `b`, … from their attributes.
    fn multivariant(attributes: &[&str]) -> MultivariantPlaylist {
        let mut text = String::from("#EXTM3U\n");
        for (list, name) in attributes.iter().zip('a'..) {
            text.push_str(&format!("#EXT-X-STREAM-INF:{list}\n{name}\n"));
        }
        let base = SecretUrl::parse("https://host/").unwrap();
        match parse(text.as_bytes(), &base, &Limits::default()).unwrap() {
            Playlist::Multivariant(playlist) => playlist,
            Playlist::Media(_) => panic!("not multivariant"),
        }
    }

    #[test]
    fn the_best_variant_within_the_caps_is_watched() {
        let ladder = [
            "BANDWIDTH=1000,RESOLUTION=640x360,CODECS=\"avc1.64001e,mp4a.40.2\"",
            "BANDWIDTH=3000,RESOLUTION=1280x720,CODECS=\"avc1.64001f\"",
            "BANDWIDTH=4000,RESOLUTION=1280x720,CODECS=\"avc1.64001f\"",
            "BANDWIDTH=9000,RESOLUTION=1920x1080,CODECS=\"avc1.640028\"",
            "BANDWIDTH=9000,RESOLUTION=1920x1080,CODECS=\"avc1.640028\"",
            "BANDWIDTH=9999,RESOLUTION=3840x2160,CODECS=\"hvc1.1.6.L150.90\"",
            "BANDWIDTH=64000,CODECS=\"mp4a.40.2\"",
        ];
        let playlist = multivariant(&ladder);
        for (max_height, max_bandwidth, path, is_within_caps) in [
            (None, None, "/d", true),
            (Some(1080), None, "/d", true),
            (Some(1079), None, "/c", true),
            (Some(720), Some(3999), "/b", true),
            (None, Some(2999), "/a", true),
            (Some(200), None, "/a", false),
            (None, Some(1), "/a", false),
        ] {
            let selection = select(&playlist, &VariantCaps { max_height, max_bandwidth }).unwrap();
            assert_eq!((selection.variant.url.expose().path(), selection.is_within_caps), (path, is_within_caps));
        }
    }

    #[test]
    fn the_ladder_ends_with_the_best_and_names_each_size_once() {
        let playlist = multivariant(&[
            "BANDWIDTH=9000,RESOLUTION=1920x1080",
            "BANDWIDTH=1000,RESOLUTION=640x360",
            "BANDWIDTH=9000,RESOLUTION=1920x1080",
            "BANDWIDTH=3000,RESOLUTION=1280x720",
            "BANDWIDTH=64,CODECS=\"mp4a.40.2\"",
        ]);
        let paths = |caps| {
            let rungs = ladder(&playlist, &caps).unwrap();
            rungs.iter().map(|variant| variant.url.expose().path().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(paths(VariantCaps::default()), ["/b", "/d", "/a"]);
        assert_eq!(paths(VariantCaps { max_height: Some(720), max_bandwidth: None }), ["/b", "/d"]);
        assert_eq!(paths(VariantCaps { max_height: Some(72), max_bandwidth: None }), ["/b"]);
    }

    #[test]
    fn choices_are_read_as_they_are_written() {
        for text in ["adaptive", "highest", "lowest", "2"] {
            assert_eq!(text.parse::<VariantChoice>().unwrap().to_string(), text);
        }
        for text in ["", "0", "best", "-1"] {
            let error = text.parse::<VariantChoice>().unwrap_err();
            assert!(error.to_string().contains("a place in the playlist from 1"), "{error}");
        }
    }

    #[test]
    fn variants_that_say_little_are_watched() {
        for list in [
            "BANDWIDTH=1",
            "BANDWIDTH=1,CODECS=\"\"",
            "BANDWIDTH=1,RESOLUTION=640x360,CODECS=\"mp4a.40.2\"",
            "BANDWIDTH=1,CODECS=\"xyz1\"",
            "BANDWIDTH=1,CODECS=\"hvc1.1.6.L93.B0, avc3.42e01e\"",
        ] {
            assert!(select(&multivariant(&[list]), &VariantCaps::default()).is_ok(), "{list}");
        }
    }

    #[test]
    fn codecs_that_cannot_be_decoded_are_named() {
        for (lists, text) in [
            (
                &["CODECS=\"hev1.1.6.L93.B0,mp4a.40.2\"", "CODECS=\"hvc1.2\"", "CODECS=\"av01.0.04M.08\""][..],
                "no variant in H.264; found HEVC (hev1), HEVC (hvc1), AV1 (av01), not supported",
            ),
            (&["CODECS=\"mp4a.40.2\""], "multivariant playlist with audio only"),
            (&["RESOLUTION=2x2,CODECS=\"vp09.00.10.08\""], "no variant in H.264; found VP9 (vp09), not supported"),
        ] {
            let error = select(&multivariant(lists), &VariantCaps::default()).unwrap_err();
            assert_eq!(error.to_string(), text);
            assert!(error.is_unsupported());
        }
    }
}
