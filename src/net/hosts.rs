//! Which hosts may be asked.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use url::Url;

use crate::error::{Error, ErrorKind};

/// Which hosts a source may ask. A playlist, or a redirect, names where to go next: without bounds, whoever writes it makes
/// this machine ask others that only it can reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostPolicy {
    /// All that are named.
    #[default]
    Any,
    /// The host of the session's URL, and those of the sessions shortly before.
    Session,
    /// These, and no others: `media.example.com`, or `.example.com` for all below it.
    Only(Vec<String>),
}

impl fmt::Display for HostPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Session => f.write_str("session"),
            Self::Only(hosts) => f.write_str(&hosts.join(",")),
        }
    }
}

crate::options::as_text!(HostPolicy);

impl FromStr for HostPolicy {
    type Err = Error;

    /// `any`, `session`, or hosts with commas between them.
    fn from_str(text: &str) -> Result<Self, Error> {
        let policy = match text {
            "any" => Self::Any,
            "session" => Self::Session,
            hosts => Self::Only(hosts.split(',').map(|host| host.trim().to_ascii_lowercase()).collect()),
        };
        policy.check().map(|()| policy)
    }
}

impl HostPolicy {
    /// Whether the names are such as hosts have.
    ///
    /// # Errors
    /// `Config` for a text that no host has as its name.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let Self::Only(hosts) = self else { return Ok(()) };
        let is_host = |host: &str| {
            let name = host.strip_prefix('.').unwrap_or(host);
            url::Host::parse(name).is_ok_and(|parsed| parsed.to_string() == name)
        };
        match hosts.iter().find(|host| !is_host(host)) {
            Some(host) => Err(Error::new(
                ErrorKind::Config,
                format!("hosts with \"{host}\" (any, session, or names such as media.example.com and .example.com)"),
            )),
            None if hosts.is_empty() => Err(Error::new(ErrorKind::Config, "hosts of which there are none (name one)")),
            None => Ok(()),
        }
    }
}

/// The hosts that one request may go to.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Option<Arc<[String]>>);

impl Hosts {
    /// No host but these: names, or `.example.com` for all below it.
    pub fn only(hosts: impl IntoIterator<Item = String>) -> Self {
        Self(Some(hosts.into_iter().collect()))
    }

    /// Whether the URL is one of http or https at an allowed host.
    ///
    /// # Errors
    /// `Limit` that names the host.
    pub fn check(&self, url: &Url) -> Result<(), Error> {
        let refused = |what: String| Err(Error::new(ErrorKind::Limit, what));
        if !matches!(url.scheme(), "http" | "https") {
            return refused(format!("URL with scheme \"{}\" (http and https are allowed)", url.scheme()));
        }
        let host = url.host_str().unwrap_or_default();
        match &self.0 {
            Some(hosts) if !hosts.iter().any(|allowed| is_in(host, allowed)) => {
                refused(format!("host \"{host}\" is not among those allowed (hosts: {})", hosts.join(",")))
            }
            _ => Ok(()),
        }
    }
}

fn is_in(host: &str, allowed: &str) -> bool {
    host == allowed || (allowed.starts_with('.') && host.ends_with(allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_compared_whole() {
        let hosts = Hosts::only(["media.example.com".to_owned(), ".cdn.net".to_owned(), "[::1]".to_owned()]);
        for url in
            ["https://media.example.com/a", "http://MEDIA.example.com:81/", "https://a.b.cdn.net/", "http://[::1]/"]
        {
            assert!(hosts.check(&Url::parse(url).unwrap()).is_ok(), "{url}");
        }
        let others = [
            "https://example.com/",
            "https://media.example.com.evil.org/",
            "https://evil-media.example.com/",
            "https://cdn.net/",
            "https://xcdn.net/",
            "http://169.254.169.254/latest/meta-data/?token=secret",
            "http://media.example.com@10.0.0.1/",
            "http://[::1%25eth0]/",
            "ftp://media.example.com/",
            "file:///etc/passwd",
        ];
        for url in others {
            let Ok(url) = Url::parse(url) else { continue };
            let error = hosts.check(&url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Limit);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        assert!(Hosts::default().check(&Url::parse("http://10.0.0.1/").unwrap()).is_ok());
        assert!(Hosts::default().check(&Url::parse("ftp://10.0.0.1/").unwrap()).is_err());
    }

    #[test]
    fn policies_are_read_as_they_are_written() {
        for text in ["any", "session", "a.example.com,.b.net", "127.0.0.1"] {
            assert_eq!(text.parse::<HostPolicy>().unwrap().to_string(), text);
        }
        for text in ["", ",", "a b", "http://a", "a/b", "a:80", "."] {
            assert_eq!(text.parse::<HostPolicy>().unwrap_err().kind(), ErrorKind::Config, "{text:?}");
        }
    }
}
