//! Bytes to a playlist: lines, tags, and which kind of playlist it is.

use super::context::Context;
use super::media::MediaBuilder;
use super::multivariant::MultivariantBuilder;
use super::playlist::Playlist;
use super::sniff::Body;
use super::{Defect, ParseError};
use crate::limits::Limits;
use crate::secret::SecretUrl;

const FIRST_TAG: &str = "#EXTM3U";
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Parses a playlist that was loaded from `base`, which relative URIs refer to.
///
/// One pass over the bytes for each of encoding, kind and content; no input takes longer than in proportion to its
/// length.
///
/// # Errors
/// When the body is no playlist (the error names what it looks like instead), breaks a rule that would give wrong
/// segments, asks for what is not supported ([`ParseError::is_unsupported`]), or exceeds one of the limits.
pub fn parse(body: &[u8], base: &SecretUrl, limits: &Limits) -> Result<Playlist, ParseError> {
    if body.len() > limits.max_playlist_bytes {
        return Err(Defect::Limit { name: "max_playlist_bytes", limit: limits.max_playlist_bytes }.into());
    }
    let mut context = Context::new(base, limits);
    let mut rest = body;
    if let Some(after) = body.strip_prefix(BYTE_ORDER_MARK) {
        context.warn_at(1, "byte order mark, which RFC 8216 4.1 forbids");
        rest = after;
    }
    if !starts_with_first_tag(rest.trim_ascii_start()) {
        return Err(Defect::NotAPlaylist(Body::sniff(rest)).into());
    }
    let text = std::str::from_utf8(rest).map_err(|error| {
        let intact = rest.get(..error.valid_up_to()).unwrap_or_default();
        ParseError::at(Defect::NotUtf8, line_at(intact))
    })?;
    match kind_of(text) {
        Kind::Media => {
            let mut builder = MediaBuilder::default();
            for_each_line(text, &mut context, |line, context| match line {
                Line::Tag(name, value) => builder.tag(name, value, context),
                Line::Uri(uri) => builder.uri(uri, context),
            })?;
            builder.finish(context).map(Playlist::Media)
        }
        Kind::Multivariant => {
            let mut builder = MultivariantBuilder::default();
            for_each_line(text, &mut context, |line, context| match line {
                Line::Tag(name, value) => builder.tag(name, value, context),
                Line::Uri(uri) => builder.uri(uri, context),
            })?;
            builder.finish(context).map(Playlist::Multivariant)
        }
    }
}

/// `#EXTM3U`, alone or with attributes that some servers add to it.
fn starts_with_first_tag(body: &[u8]) -> bool {
    body.strip_prefix(FIRST_TAG.as_bytes()).is_some_and(|rest| !rest.first().is_some_and(u8::is_ascii_alphanumeric))
}

/// The number, from 1, of the line that these bytes end in.
fn line_at(bytes: &[u8]) -> usize {
    let line_feeds = bytes.iter().filter(|byte| **byte == b'\n').count();
    let lone_returns = bytes.windows(2).filter(|pair| matches!(pair, [b'\r', next] if *next != b'\n')).count();
    1 + line_feeds + lone_returns
}

/// Lines end with LF or CRLF (RFC 8216 §4.1); a lone CR is taken as players do.
struct Lines<'a> {
    rest: Option<&'a str>,
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.rest?;
        let Some(end) = text.bytes().position(|byte| matches!(byte, b'\n' | b'\r')) else {
            self.rest = None;
            return Some(text);
        };
        let (line, rest) = text.split_at_checked(end)?;
        self.rest = rest.strip_prefix("\r\n").or_else(|| rest.get(1..));
        Some(line)
    }
}

enum Line<'a> {
    /// Name without `#`, and what stands behind the colon.
    Tag(&'a str, &'a str),
    Uri(&'a str),
}

/// `None` for blank lines and comments.
fn classify(line: &str) -> Option<Line<'_>> {
    let line = line.trim_matches([' ', '\t']);
    match line.strip_prefix('#') {
        None if line.is_empty() => None,
        None => Some(Line::Uri(line)),
        Some(tag) if tag.starts_with("EXT") => {
            let (name, value) = tag.split_once(':').unwrap_or((tag, ""));
            Some(Line::Tag(name, value.trim_matches([' ', '\t'])))
        }
        Some(_) => None,
    }
}

fn for_each_line<'a, 'c>(
    text: &'a str,
    context: &mut Context<'c>,
    mut take: impl FnMut(Line<'a>, &mut Context<'c>) -> Result<(), ParseError>,
) -> Result<(), ParseError> {
    for (index, line) in (Lines { rest: Some(text) }).enumerate() {
        context.line = index + 1;
        match classify(line) {
            // Attributes behind `#EXTM3U` are none of HLS.
            Some(Line::Tag(name, _)) if name.starts_with("EXTM3U") && index == 0 => {}
            Some(Line::Tag(name, _)) if name.starts_with("EXTM3U") => {
                context.warn("#EXTM3U that is not the first line")
            }
            Some(Line::Tag("EXT-X-DEFINE", value)) => context.define(value)?,
            Some(line) => take(line, context)?,
            None => {}
        }
    }
    Ok(())
}

enum Kind {
    Media,
    Multivariant,
}

/// Decided by the first tag that only one kind may have, as players do.
fn kind_of(text: &str) -> Kind {
    for line in (Lines { rest: Some(text) }) {
        if let Some(Line::Tag(name, _)) = classify(line) {
            if is_multivariant_tag(name) {
                return Kind::Multivariant;
            }
            if is_media_tag(name) {
                return Kind::Media;
            }
        }
    }
    Kind::Media
}

/// RFC 8216 §4.3.4.
fn is_multivariant_tag(name: &str) -> bool {
    matches!(
        name,
        "EXT-X-STREAM-INF" | "EXT-X-MEDIA" | "EXT-X-I-FRAME-STREAM-INF" | "EXT-X-SESSION-DATA" | "EXT-X-SESSION-KEY"
    )
}

/// RFC 8216 §4.3.2 and §4.3.3.
fn is_media_tag(name: &str) -> bool {
    matches!(
        name,
        "EXTINF"
            | "EXT-X-BYTERANGE"
            | "EXT-X-DISCONTINUITY"
            | "EXT-X-KEY"
            | "EXT-X-MAP"
            | "EXT-X-PROGRAM-DATE-TIME"
            | "EXT-X-TARGETDURATION"
            | "EXT-X-MEDIA-SEQUENCE"
            | "EXT-X-DISCONTINUITY-SEQUENCE"
            | "EXT-X-ENDLIST"
            | "EXT-X-PLAYLIST-TYPE"
            | "EXT-X-I-FRAMES-ONLY"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<&str> {
        Lines { rest: Some(text) }.collect()
    }

    #[test]
    fn lines_end_in_three_ways() {
        assert_eq!(lines("a\nb\r\nc\rd"), ["a", "b", "c", "d"]);
        assert_eq!(lines("a\n\r\n\r"), ["a", "", "", ""]);
        assert_eq!(lines(""), [""]);
        // A line that ends in CR CR LF is followed by an empty one.
        assert_eq!(lines("a\r\r\nb"), ["a", "", "b"]);
    }

    #[test]
    fn the_line_of_a_byte_is_counted_as_lines_are() {
        for text in ["", "a", "a\n", "a\nb", "a\r\nb", "a\rb", "a\r\rb\r\n\nc"] {
            assert_eq!(line_at(text.as_bytes()), lines(text).len(), "{text:?}");
        }
    }

    #[test]
    fn tags_match_by_their_whole_name() {
        let tag = |line| match classify(line) {
            Some(Line::Tag(name, value)) => Some((name, value)),
            _ => None,
        };
        assert_eq!(tag("#EXT-X-MEDIA-SEQUENCE: 4 "), Some(("EXT-X-MEDIA-SEQUENCE", "4")));
        assert_eq!(tag("#EXT-X-ENDLIST  "), Some(("EXT-X-ENDLIST", "")));
        assert_eq!(tag("  #EXTINF:4,a:b"), Some(("EXTINF", "4,a:b")));
        assert_eq!(tag("# EXTINF:4,"), None);
        assert_eq!(tag("#"), None);
    }
}
