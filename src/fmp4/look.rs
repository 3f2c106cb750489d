//! What a body looks like that is no MP4, for an error that helps.

use std::fmt;

use super::boxes::Cursor;
use super::{Defect, ParseError};

/// The types a segment may start with, ISO 14496-12 and DASH: seeing one of them settles the question.
const FIRST_BOXES: [[u8; 4]; 15] = [
    *b"ftyp", *b"styp", *b"moov", *b"moof", *b"mdat", *b"sidx", *b"ssix", *b"emsg", *b"prft", *b"free", *b"skip",
    *b"wide", *b"pdin", *b"uuid", *b"meta",
];

/// What the first bytes of a body say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Empty,
    MpegTs,
    Id3,
    Adts,
    AnnexB,
    Matroska,
    Playlist,
    WebVtt,
    Markup,
    Json,
    Gzip,
    Unknown,
}

impl Look {
    /// Whether this is intact media of another container: asking again gives the same.
    pub(super) const fn is_media(self) -> bool {
        matches!(self, Self::MpegTs | Self::Id3 | Self::Adts | Self::AnnexB | Self::Matroska | Self::WebVtt)
    }

    /// `None` for what may be MP4.
    fn of(body: &[u8]) -> Option<Self> {
        let kind: Option<&[u8; 4]> = body.get(4..).and_then(|rest| rest.first_chunk());
        if kind.is_some_and(|kind| FIRST_BOXES.contains(kind)) {
            return None;
        }
        let text = body.trim_ascii_start();
        Some(match body {
            [] => Self::Empty,
            // Transport packets start with 0x47 each 188 bytes, ISO 13818-1 §2.4.3.2.
            [0x47, ..] if body.get(188).is_none_or(|&byte| byte == 0x47) => Self::MpegTs,
            [b'I', b'D', b'3', ..] => Self::Id3,
            // 12 bits of sync word, layer 0: ISO 13818-7 §6.2.
            [0xff, second, ..] if second & 0xf6 == 0xf0 => Self::Adts,
            [0x1a, 0x45, 0xdf, 0xa3, ..] => Self::Matroska,
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A start code and a parameter set, delimiter, SEI or IDR slice. Read as a box, the size would be 1 or the type no text.
            [0, 0, 0, 1, header, ..] | [0, 0, 1, header, ..]
                if matches!(header & 0x9f, 5..=9) && !kind.is_some_and(is_text) =>
            {
                Self::AnnexB
            }
            _ if text.starts_with(b"#EXTM3U") => Self::Playlist,
            _ if text.starts_with(b"WEBVTT") => Self::WebVtt,
            _ if text.starts_with(b"<") || text.starts_with(b"\xef\xbb\xbf<") => Self::Markup,
            _ if text.starts_with(b"{") => Self::Json,
            _ if kind.is_some_and(|kind| !is_text(kind)) => Self::Unknown,
            _ => return None,
        })
    }

    /// Refuses a body that cannot be MP4.
    pub(super) fn check(body: &[u8]) -> Result<(), ParseError> {
        match Self::of(body) {
            Some(look) => Err(Cursor::new(body).defect(Defect::NotMp4(look))),
            None => Ok(()),
        }
    }
}

/// Whether four bytes may be a box type.
fn is_text(kind: &[u8; 4]) -> bool {
    // 0xa9 is the copyright sign that QuickTime's types start with; all zero is padding.
    kind == &[0; 4] || kind.iter().all(|byte| matches!(byte, b' '..=b'~' | 0xa9))
}

impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty body",
            Self::MpegTs => "MPEG-TS",
            Self::Id3 => "packed audio (ID3 tag)",
            Self::Adts => "packed audio (ADTS)",
            Self::AnnexB => "raw H.264 (Annex B)",
            Self::Matroska => "Matroska",
            Self::Playlist => "HLS playlist",
            Self::WebVtt => "WebVTT subtitles",
            Self::Markup => "HTML or XML text",
            Self::Json => "JSON text",
            Self::Gzip => "gzip data",
            Self::Unknown => "data of an unknown kind, perhaps encrypted,",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_kinds_of_body_are_told_apart() {
        let mut ts = vec![0xff; 376];
        (ts[0], ts[188]) = (0x47, 0x47);
        let cases: [(&[u8], Option<Look>); 16] = [
            (b"", Some(Look::Empty)),
            (&ts, Some(Look::MpegTs)),
            (b"ID3\x04\0\0\0\0\0\x3f", Some(Look::Id3)),
            (b"\xff\xf1\x50\x80\x01\x1f\xfc", Some(Look::Adts)),
            (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81", Some(Look::Matroska)),
            (b"\0\0\0\x01\x67\x64\0\x1f\xac", Some(Look::AnnexB)),
            (b"\0\0\x01\x09\x10\0\0\0", Some(Look::AnnexB)),
            (b"#EXTM3U\n#EXT-X", Some(Look::Playlist)),
            (b"\r\n<!DOCTYPE html>", Some(Look::Markup)),
            (b"{\"message\":null}", Some(Look::Json)),
            (b"\x1f\x8b\x08\0\0\0\0\0", Some(Look::Gzip)),
            (b"\x9a\x01\xfe\x02\xd3\x44\0\x12", Some(Look::Unknown)),
            (b"\0\0\x01\x09moof", None),
            (b"\0\0\0\x01mdat", None),
            (b"\0\0\0\x08abcd", None),
            (b"\0\0", None),
        ];
        for (body, look) in cases {
            assert_eq!(Look::of(body), look, "{body:02x?}");
        }
    }
}
