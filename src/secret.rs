//! URLs that carry their own authorization.

use std::fmt;

use url::Url;

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
            f.write_str(host)?;
        }
        if let Some(port) = url.port() {
            write!(f, ":{port}")?;
        }
        // A URL that cannot be a base (`data:`) is all content: none of it is shown.
        f.write_str(if url.cannot_be_a_base() { "…" } else { url.path() })?;
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
    }

    #[test]
    fn references_resolve_against_the_document() {
        let base = SecretUrl::parse("https://host/hls/v1/master.m3u8?SessionToken=a").unwrap();
        let joined = base.join("media.m3u8?FragmentNumber=12&SessionToken=b").unwrap();
        assert_eq!(joined.expose().as_str(), "https://host/hls/v1/media.m3u8?FragmentNumber=12&SessionToken=b");
        assert_eq!(joined.query_value("FragmentNumber").as_deref(), Some("12"));
    }
}
