//! Requests and answers.

mod hosts;
mod http;
mod refusal;

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;

pub use hosts::{HostPolicy, Hosts};
pub use http::HttpClient;
#[cfg(feature = "fuzzing")]
pub(crate) use refusal::Refusal;
#[cfg(feature = "kvs")]
pub(crate) use refusal::{ERROR_NAME_HEADERS, error_name};

use crate::error::Error;
use crate::limits::Limits;
use crate::secret::SecretUrl;

/// A GET request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Request {
    /// What to get.
    pub url: SecretUrl,
    /// The bytes wanted of it; all when `None`.
    pub range: Option<Range<u64>>,
    /// Bytes that the body may have at most, after decompression.
    pub max_bytes: usize,
    /// The limit's name, for the error.
    pub limit_name: &'static str,
    /// From the request to the body's last byte.
    pub timeout: Duration,
    /// Bytes a second that a body must come with, seen over any ten seconds.
    pub min_bytes_per_second: u64,
    /// Redirects that are followed.
    pub max_redirects: usize,
    /// Where the request, and its redirects, may go.
    pub hosts: Hosts,
}

impl Request {
    /// A request for everything at the URL, of at most `max_bytes`, within the default limits to anywhere.
    #[must_use]
    pub fn new(url: SecretUrl, limit_name: &'static str, max_bytes: usize, timeout: Duration) -> Self {
        let Limits { min_bytes_per_second, max_redirects, .. } = Limits::default();
        let hosts = Hosts::default();
        Self { url, range: None, max_bytes, limit_name, timeout, min_bytes_per_second, max_redirects, hosts }
    }

    /// A playlist.
    #[must_use]
    pub fn playlist(url: SecretUrl, limits: &Limits) -> Self {
        Self::new(url, "max_playlist_bytes", limits.max_playlist_bytes, limits.playlist_timeout).within(limits)
    }

    /// An initialization segment.
    #[must_use]
    pub fn init(url: SecretUrl, limits: &Limits) -> Self {
        Self::new(url, "max_init_bytes", limits.max_init_bytes, limits.playlist_timeout).within(limits)
    }

    /// A media segment.
    #[must_use]
    pub fn segment(url: SecretUrl, limits: &Limits) -> Self {
        Self::new(url, "max_segment_bytes", limits.max_segment_bytes, limits.segment_timeout).within(limits)
    }

    fn within(mut self, limits: &Limits) -> Self {
        (self.min_bytes_per_second, self.max_redirects) = (limits.min_bytes_per_second, limits.max_redirects);
        self
    }

    /// Asks these hosts only.
    #[must_use]
    pub fn hosts(mut self, hosts: Hosts) -> Self {
        self.hosts = hosts;
        self
    }

    /// Asks for this part only.
    #[must_use]
    pub fn range(mut self, range: Option<Range<u64>>) -> Self {
        self.range = range;
        self
    }
}

/// The answer to a request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Response {
    /// The whole body, or the part that was asked for.
    pub body: Bytes,
    /// Where it came from after redirects: what relative references in it are relative to.
    pub url: SecretUrl,
}

impl Response {
    /// An answer.
    #[must_use]
    pub fn new(body: Bytes, url: SecretUrl) -> Self {
        Self { body, url }
    }
}

/// A future on the heap, as trait objects need it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Gets bytes from URLs. Implement it to bring another transport.
pub trait Fetch: fmt::Debug + Send + Sync + 'static {
    /// Gets what is asked for, without retrying: retries are the source's business.
    ///
    /// # Errors
    /// `Network` with the status that was answered or the fault that happened, `Limit` for a body that is too large. No
    /// error text may hold the URL's query.
    fn fetch(&self, request: Request) -> BoxFuture<'_, Result<Response, Error>>;

    /// The same for a body that is of use before it is whole: while it comes slowly, `look` is shown what has come of it
    /// so far, from its first byte, a few times a second at most. Without effect unless implemented.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    fn fetch_watched<'a>(
        &'a self,
        request: Request,
        look: &'a mut (dyn FnMut(&[u8]) + Send),
    ) -> BoxFuture<'a, Result<Response, Error>> {
        let _ = look;
        self.fetch(request)
    }
}
