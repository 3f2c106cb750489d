//! The reqwest client.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use reqwest::header::{self, HeaderMap};
use reqwest::{Client, StatusCode, redirect as following, retry};

use super::refusal::Refusal;
use super::{BoxFuture, Fetch, Request, Response};
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind};
use crate::secret::SecretUrl;

/// HTTP/1.1 and HTTP/2 over TLS or plain TCP, connections kept and shared between clones.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: Client,
}

/// Waiting for a connection or for the next piece of a body longer than this means that nothing comes any more.
const SILENCE: Duration = Duration::from_secs(10);
/// Time over which the rate of a transfer is looked at.
const RATE_WINDOW: Duration = Duration::from_secs(10);
/// Memory taken on the word of a Content-Length; more comes with the bytes themselves.
const FIRST_BYTES: usize = 4 << 20;
/// From one look at a growing body to the next: about a frame, so that looking sooner would show nothing new. A body that
/// comes within this time is never looked at before it is whole, and costs nothing more.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl HttpClient {
    /// A client of its own.
    ///
    /// # Errors
    /// `Network` when the system's certificates or resolver cannot be set up.
    pub fn new() -> Result<Self, Error> {
        let client = Client::builder()
            .user_agent(concat!("kvs-hls/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(SILENCE)
            .read_timeout(SILENCE)
            .redirect(following::Policy::none()) // followed here, where the request says how far
            .retry(retry::never()) // one place decides about retries, and counts them
            .referer(false) // the query of a session URL is its authorization
            .build()
            .map_err(|error| {
                Error::new(ErrorKind::Network, "HTTP client that cannot be set up").with_source(error.without_url())
            })?;
        Ok(Self { client })
    }

    /// Sends the request, and sends it on where redirects lead.
    async fn send(&self, request: &Request) -> Result<reqwest::Response, Error> {
        let (mut url, mut redirects) = (request.url.clone(), 0);
        let deadline = SystemClock.now() + request.timeout;
        loop {
            request.hosts.check(url.expose())?;
            let left = deadline.saturating_duration_since(SystemClock.now());
            let mut builder = self.client.get(url.expose().clone()).timeout(left);
            if let Some(range) = &request.range {
                // A range counts bytes of the file, so it must not come compressed.
                builder = builder
                    .header(header::RANGE, format!("bytes={}-{}", range.start, range.end.saturating_sub(1)))
                    .header(header::ACCEPT_ENCODING, "identity");
            }
            let response = builder.send().await.map_err(|error| fault(error, &request.url))?;
            let Some(next) = redirect(response.status(), response.headers(), &url)? else { return Ok(response) };
            if redirects == request.max_redirects {
                let what = format!("more redirects from {}, max_redirects is {redirects}", request.url);
                return Err(Error::new(ErrorKind::Limit, what));
            }
            // On the way to plain http everybody could read the token.
            if url.expose().scheme() == "https" && next.expose().scheme() != "https" {
                return Err(Error::new(
                    ErrorKind::Network,
                    format!("redirect from https to http, from {}", request.url),
                ));
            }
            (url, redirects) = (next, redirects + 1);
        }
    }

    async fn get(&self, request: Request, look: &mut (dyn FnMut(&[u8]) + Send)) -> Result<Response, Error> {
        let mut response = self.send(&request).await?;
        let status = response.status();
        if !status.is_success() {
            return Err(Refusal::read(response).await.error(&request.url, status));
        }
        // A server that does not know ranges sends everything with status 200.
        let wanted = request.range.filter(|_| status != StatusCode::PARTIAL_CONTENT);
        let max_bytes = request.max_bytes;
        let too_large = |size: u64| {
            Error::new(
                ErrorKind::Limit,
                format!("body of {size} bytes or more from {}, {} is {max_bytes}", request.url, request.limit_name),
            )
        };
        let announced = response.content_length().unwrap_or(0);
        if announced > max_bytes as u64 {
            return Err(too_large(announced));
        }
        let mut body = BytesMut::with_capacity((announced as usize).min(FIRST_BYTES));
        let mut looked_at = SystemClock.now();
        let mut rate = Rate::new(request.min_bytes_per_second);
        while let Some(chunk) = response.chunk().await.map_err(|error| fault(error, &request.url))? {
            if body.len() + chunk.len() > max_bytes {
                return Err(too_large((body.len() + chunk.len()) as u64));
            }
            body.extend_from_slice(&chunk);
            let now = SystemClock.now();
            rate.check(now, chunk.len(), &request.url)?;
            // The whole file is not the part of it that was asked for.
            if wanted.is_none() && now.saturating_duration_since(looked_at) >= LOOK_EVERY {
                look(&body);
                looked_at = now;
            }
        }
        let url = SecretUrl::from(response.url().clone());
        let body = body.freeze();
        match wanted {
            None => Ok(Response::new(body, url)),
            Some(range) => part(&body, &range).map(|part| Response::new(part, url)).ok_or_else(|| {
                Error::new(
                    ErrorKind::Network,
                    format!(
                        "{} has {} bytes, bytes {}-{} were asked for",
                        request.url,
                        body.len(),
                        range.start,
                        range.end.saturating_sub(1)
                    ),
                )
                .with_status(416)
            }),
        }
    }
}

/// Where a redirect leads; `None` for any other answer.
fn redirect(status: StatusCode, headers: &HeaderMap, url: &SecretUrl) -> Result<Option<SecretUrl>, Error> {
    let location = headers.get(header::LOCATION).and_then(|location| location.to_str().ok());
    let next = location.and_then(|location| url.join(location).ok());
    let Some(next) = next.filter(|_| matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)) else { return Ok(None) };
    // On the way to plain http everybody could read the token.
    if url.expose().scheme() == "https" && next.expose().scheme() != "https" {
        return Err(Error::new(ErrorKind::Network, format!("redirect from https to {next}")));
    }
    Ok(Some(next))
}

/// How fast a body comes.
struct Rate {
    min_bytes: u64,
    bytes: u64,
    since: Instant,
}

impl Rate {
    fn new(min_bytes_per_second: u64) -> Self {
        let min_bytes = min_bytes_per_second.saturating_mul(RATE_WINDOW.as_secs());
        Self { min_bytes, bytes: 0, since: SystemClock.now() }
    }

    fn check(&mut self, now: Instant, bytes: usize, url: &SecretUrl) -> Result<(), Error> {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        if now.saturating_duration_since(self.since) < RATE_WINDOW {
            return Ok(());
        }
        if self.bytes < self.min_bytes {
            let (window, min) = (RATE_WINDOW.as_secs(), self.min_bytes / RATE_WINDOW.as_secs());
            let what = format!("{} bytes in {window} s from {url}, min_bytes_per_second is {min}", self.bytes);
            return Err(Error::new(ErrorKind::Limit, what).timed_out());
        }
        (self.bytes, self.since) = (0, now);
        Ok(())
    }
}

fn part(body: &Bytes, range: &std::ops::Range<u64>) -> Option<Bytes> {
    let (start, end) = (usize::try_from(range.start).ok()?, usize::try_from(range.end).ok()?);
    (start <= end && end <= body.len()).then(|| body.slice(start..end))
}

fn fault(error: reqwest::Error, url: &SecretUrl) -> Error {
    let what = if error.is_timeout() {
        "no answer in time from"
    } else if error.is_connect() {
        "no connection to"
    } else if error.is_decode() || error.is_body() {
        "broken transfer from"
    } else {
        "failed request to"
    };
    let is_timeout = error.is_timeout();
    let result = Error::new(ErrorKind::Network, format!("{what} {url}")).with_source(error.without_url());
    if is_timeout { result.timed_out() } else { result }
}

impl Fetch for HttpClient {
    fn fetch(&self, request: Request) -> BoxFuture<'_, Result<Response, Error>> {
        Box::pin(async { self.get(request, &mut |_| ()).await })
    }

    fn fetch_watched<'a>(
        &'a self,
        request: Request,
        look: &'a mut (dyn FnMut(&[u8]) + Send),
    ) -> BoxFuture<'a, Result<Response, Error>> {
        Box::pin(self.get(request, look))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_never_lead_from_https_to_http() {
        let url = SecretUrl::parse("https://host/a/b.m3u8?SessionToken=CiSecret").unwrap();
        let hop = |status: u16, location: Option<&str>| {
            let location = location.map(|location| (header::LOCATION, location.parse().unwrap()));
            let next = redirect(StatusCode::from_u16(status).unwrap(), &location.into_iter().collect(), &url);
            next.map(|next| next.map(|next| next.expose().to_string())).map_err(|error| error.to_string())
        };
        assert_eq!(hop(302, Some("c.m3u8")), Ok(Some("https://host/a/c.m3u8".into())));
        assert_eq!(hop(308, Some("https://other/")), Ok(Some("https://other/".into())));
        for down in ["http://host/a/b.m3u8", "ftp://host/", "file:///etc/passwd"] {
            let error = hop(301, Some(down)).unwrap_err();
            assert!(error.contains("redirect from https to") && !error.contains("CiSecret"), "{error}");
        }
        assert_eq!(
            [hop(200, Some("c")), hop(304, Some("c")), hop(302, None), hop(302, Some("https://"))],
            [Ok(None), Ok(None), Ok(None), Ok(None)]
        );
    }
}
