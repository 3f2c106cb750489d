//! What a body is that is not a playlist: the most useful word in the error that follows.

use std::fmt;

/// What a body without `#EXTM3U` looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Empty,
    Html,
    Dash,
    Xml,
    Json,
    Mp4,
    MpegTs,
    Matroska,
    Gzip,
    Tags,
    Text,
    Binary,
}

/// How far markup is searched for the name of its root element.
const MARKUP_BYTES: usize = 1024;

/// Boxes that open an MP4 file or segment (ISO 14496-12 §4.3, §8.16).
const MP4_BOXES: [&[u8]; 9] = [b"ftyp", b"styp", b"moov", b"moof", b"sidx", b"emsg", b"prft", b"free", b"mdat"];

const MPEG_TS_PACKET_BYTES: usize = 188;
const MPEG_TS_SYNC: u8 = 0x47;

impl Body {
    pub(super) fn sniff(body: &[u8]) -> Self {
        let text = body.trim_ascii_start();
        let Some(&first) = text.first() else { return Self::Empty };
        if body.get(4..8).is_some_and(|name| MP4_BOXES.contains(&name)) {
            return Self::Mp4;
        }
        if body.first() == Some(&MPEG_TS_SYNC) && body.get(MPEG_TS_PACKET_BYTES) == Some(&MPEG_TS_SYNC) {
            return Self::MpegTs;
        }
        if body.starts_with(&[0x1a, 0x45, 0xdf, 0xa3]) {
            return Self::Matroska;
        }
        if body.starts_with(&[0x1f, 0x8b]) {
            return Self::Gzip;
        }
        match first {
            b'<' => Self::of_markup(text.get(..MARKUP_BYTES).unwrap_or(text)),
            b'{' | b'[' => Self::Json,
            b'#' => Self::Tags,
            _ if std::str::from_utf8(body).is_ok_and(|text| !text.contains('\0')) => Self::Text,
            _ => Self::Binary,
        }
    }

    fn of_markup(head: &[u8]) -> Self {
        let head = String::from_utf8_lossy(head).to_ascii_lowercase();
        if head.contains("<mpd") {
            Self::Dash
        } else if head.contains("<html") || head.contains("<!doctype html") {
            Self::Html
        } else {
            Self::Xml
        }
    }

    /// Whether the URL leads to media of another format, which asking again will not change. An error page may.
    pub(super) fn is_other_format(self) -> bool {
        matches!(self, Self::Dash | Self::Mp4 | Self::MpegTs | Self::Matroska)
    }
}

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty",
            Self::Html => "an HTML page",
            Self::Dash => "a DASH manifest (MPD), not HLS",
            Self::Xml => "an XML document",
            Self::Json => "a JSON document",
            Self::Mp4 => "an MP4 file or segment, not a playlist",
            Self::MpegTs => "an MPEG transport stream, not a playlist",
            Self::Matroska => "a Matroska file, not a playlist",
            Self::Gzip => "compressed with gzip",
            Self::Tags => "tags or comments without the first line",
            Self::Text => "some other text",
            Self::Binary => "binary data",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_named() {
        let mut transport_stream = [0_u8; 400];
        transport_stream[0] = 0x47;
        transport_stream[188] = 0x47;
        let cases: [(&[u8], Body); 15] = [
            (b"", Body::Empty),
            (b" \r\n\t", Body::Empty),
            (b"\n<!DOCTYPE html><p>403", Body::Html),
            (b"<HTML>", Body::Html),
            (b"<?xml version=\"1.0\"?>\n<MPD xmlns=\"urn:mpeg:dash\">", Body::Dash),
            (b"<Error><Code>AccessDenied</Code></Error>", Body::Xml),
            (b"{\"message\":\"no\"}", Body::Json),
            (b"\x00\x00\x00\x18ftypiso5", Body::Mp4),
            (b"\x00\x00\x00\x18moof....", Body::Mp4),
            (&transport_stream, Body::MpegTs),
            (b"\x1a\x45\xdf\xa3\x01", Body::Matroska),
            (b"\x1f\x8b\x08", Body::Gzip),
            (b"#EXT-X-VERSION:3\n", Body::Tags),
            (b"Service Unavailable", Body::Text),
            (b"\xff\xfe\x00", Body::Binary),
        ];
        for (body, expected) in cases {
            assert_eq!(Body::sniff(body), expected, "{:?}", String::from_utf8_lossy(body));
        }
    }
}
