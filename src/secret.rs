//! URLs that carry their own authorization.

use std::borrow::Cow;
use std::fmt;

use url::Url;

/// Longer messages are cut: those about wrong signatures repeat the request.
const MAX_MESSAGE: usize = 500;
/// No word of a message is so long, every token is.
const MIN_TOKEN: usize = 32;
/// Longer hosts and longer paths are cut: a playlist may name any.
const MAX_PART: usize = 300;

/// A URL whose query, fragment and user information are never printed.
///
/// The session token in the query of a Kinesis Video Streams URL is the whole authorization: whoever reads it in a log
/// can watch the camera. `Debug` and `Display` show scheme, host and path only.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SecretUrl(Url);

impl SecretUrl {
    /// Parses an absolute URL.
    ///
    /// # Errors
    /// The parser's reason, which never repeats the text.
    pub fn parse(text: &str) -> Result<Self, url::ParseError> {
        Url::parse(text).map(Self)
    }

    /// Resolves a reference that stands in the document at this URL (RFC 3986 §5).
    ///
    /// # Errors
    /// The parser's reason, which never repeats the text.
    pub fn join(&self, reference: &str) -> Result<Self, url::ParseError> {
        self.0.join(reference).map(Self)
    }

    /// The whole URL, secrets included: for the request itself, not for people.
    #[must_use]
    pub fn expose(&self) -> &Url {
        &self.0
    }

    /// The value of a query parameter, decoded.
    pub(crate) fn query_value(&self, name: &str) -> Option<String> {
        self.0.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }
}

impl From<Url> for SecretUrl {
    fn from(url: Url) -> Self {
        Self(url)
    }
}

impl std::str::FromStr for SecretUrl {
    type Err = url::ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = &self.0;
        write!(f, "{}://", url.scheme())?;
        if let Some(host) = url.host_str() {
            f.write_str(&cut(host, MAX_PART))?;
        }
        if let Some(port) = url.port() {
            write!(f, ":{port}")?;
        }
        // A URL that cannot be a base (`data:`) is all content: none of it is shown.
        f.write_str(&cut(if url.cannot_be_a_base() { "…" } else { url.path() }, MAX_PART))?;
        if url.query().is_some() {
            f.write_str("?…")?;
        }
        Ok(())
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretUrl({self})")
    }
}

/// A message fit for a log: one line, not too long, without what looks like a token.
pub(crate) fn scrubbed(message: &str) -> String {
    let is_between = |c: char| c.is_whitespace() || is_unprintable(c);
    let words = message.split(is_between).filter(|word| !word.is_empty());
    let words: Vec<String> = words.map(scrubbed_word).collect();
    cut(&words.join(" "), MAX_MESSAGE).into_owned()
}

/// What would steer a terminal, or turn the direction of the text around it.
fn is_unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// At most so many characters of a text.
fn cut(text: &str, max: usize) -> Cow<'_, str> {
    match text.char_indices().nth(max).and_then(|(end, _)| text.get(..end)) {
        Some(start) => Cow::Owned(format!("{start}…")),
        None => Cow::Borrowed(text),
    }
}

fn scrubbed_word(word: &str) -> String {
    // An ARN may be long, and is what the message is about.
    if word.trim_start_matches(['"', '\'', '(', '`']).starts_with("arn:") {
        return word.to_owned();
    }
    let is_inside = |c: char| c.is_ascii_alphanumeric() || "+/_~%.-".contains(c);
    let (mut text, mut is_token_next) = (String::new(), false);
    for piece in word.split_inclusive(|c| !is_inside(c)) {
        let end = piece.find(|c| !is_inside(c)).unwrap_or(piece.len());
        let (body, separator) = piece.split_at(end);
        text.push_str(if is_token_next || is_token(body) { "…" } else { body });
        text.push_str(separator);
        let name = body.to_ascii_lowercase();
        is_token_next = ["token", "signature", "credential"].iter().any(|ending| name.ends_with(ending))
            && matches!(separator, "=" | ":");
    }
    text
}

/// Whether a text looks like a token or an access key.
pub(crate) fn is_token(text: &str) -> bool {
    let is_key_id = text.len() >= 16 && ["AKIA", "ASIA"].iter().any(|start| text.starts_with(start));
    let has = |is: fn(&u8) -> bool| text.as_bytes().iter().any(is);
    is_key_id
        || (text.len() >= MIN_TOKEN
            && has(u8::is_ascii_digit)
            && has(u8::is_ascii_uppercase)
            && has(u8::is_ascii_lowercase))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_printed() {
        let url = SecretUrl::parse("https://user:pass@host:8443/hls/v1/a.m3u8?SessionToken=CiSecret~#frag").unwrap();
        for text in [url.to_string(), format!("{url:?}")] {
            assert!(text.contains("https://host:8443/hls/v1/a.m3u8?…"), "{text}");
            assert!(!["user", "pass", "CiSecret", "frag"].iter().any(|secret| text.contains(secret)), "{text}");
        }
        assert_eq!(SecretUrl::parse("data:text/plain,secret").unwrap().to_string(), "data://…");
        let long = SecretUrl::parse(&format!("https://{}/{0}?a", "long".repeat(1000))).unwrap().to_string();
        assert_eq!(long.chars().count(), "https://…/…?…".chars().count() - 1 + 2 * MAX_PART);
    }

    #[test]
    fn references_resolve_against_the_document() {
        let base = SecretUrl::parse("https://host/hls/v1/master.m3u8?SessionToken=a").unwrap();
        let joined = base.join("media.m3u8?FragmentNumber=12&SessionToken=b").unwrap();
        assert_eq!(joined.expose().as_str(), "https://host/hls/v1/media.m3u8?FragmentNumber=12&SessionToken=b");
        assert_eq!(joined.query_value("FragmentNumber").as_deref(), Some("12"));
    }

    #[test]
    fn messages_keep_their_sense_and_lose_their_tokens() {
        let long = "IQoJb3JpZ2luX2VjEAcaCXVzLWVhc3QtMSJHMEUCIQC+/8fKxyz0123456789==";
        let arn = "arn:aws:kinesisvideo:us-east-1:123456789012:stream/Front-Door-Camera-North-1/1500000000000";
        for (message, expected) in [
            ("No fragments found in the stream.", "No fragments found in the stream."),
            (&format!("User: {arn} is not\nauthorized"), &format!("User: {arn} is not authorized")),
            (&format!("x-amz-security-token:{long} is wrong"), "x-amz-security-token:…== is wrong"),
            (&format!("the value {long}"), "the value …=="),
            ("https://host/a.m3u8?SessionToken=CiShort~&x=1", "https://host/a.m3u8?SessionToken=…&x=1"),
            ("Credential=AKIDEXAMPLE/20260101 gone", "Credential=… gone"),
            ("key AKIAIOSFODNN7EXAMPLE, unknown", "key …, unknown"),
        ] {
            assert_eq!(scrubbed(message), expected);
        }
        assert_eq!(scrubbed(&"ü ".repeat(10_000)).chars().count(), MAX_MESSAGE + 1);
        assert_eq!(scrubbed("a\u{1b}[2Jb \u{202e}c\u{7}"), "a [2Jb c", "nothing that steers a terminal");
    }
}
