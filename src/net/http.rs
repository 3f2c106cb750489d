//! The reqwest client.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::{Client, StatusCode, header, redirect, retry};

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
const MAX_REDIRECTS: usize = 5;
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
            .redirect(redirect::Policy::custom(redirected))
            .retry(retry::never()) // one place decides about retries, and counts them
            .referer(false) // the query of a session URL is its authorization
            .build()
            .map_err(|error| {
                Error::new(ErrorKind::Network, "HTTP client that cannot be set up").with_source(error.without_url())
            })?;
        Ok(Self { client })
    }

    async fn get(&self, request: Request, look: &mut (dyn FnMut(&[u8]) + Send)) -> Result<Response, Error> {
        let mut builder = self.client.get(request.url.expose().clone()).timeout(request.timeout);
        if let Some(range) = &request.range {
            // A range counts bytes of the file, so it must not come compressed.
            builder = builder
                .header(header::RANGE, format!("bytes={}-{}", range.start, range.end.saturating_sub(1)))
                .header(header::ACCEPT_ENCODING, "identity");
        }
        let mut response = builder.send().await.map_err(|error| fault(error, &request.url))?;
        let status = response.status();
        if !status.is_success() {
            let Refusal { name, message } = Refusal::read(response).await;
            let said = message.as_deref().unwrap_or(reason(status));
            let error = Error::new(ErrorKind::Network, format!("{} answered \"{said}\"", request.url))
                .with_status(status.as_u16());
            return Err(match name {
                Some(name) => error.with_code(name),
                None => error,
            });
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
        while let Some(chunk) = response.chunk().await.map_err(|error| fault(error, &request.url))? {
            if body.len() + chunk.len() > max_bytes {
                return Err(too_large((body.len() + chunk.len()) as u64));
            }
            body.extend_from_slice(&chunk);
            let now = SystemClock.now();
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

/// Few hops, and never from https to plain http, where everybody on the way could read the token.
fn redirected(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let is_downgrade =
        attempt.url().scheme() != "https" && attempt.previous().iter().any(|url| url.scheme() == "https");
    if is_downgrade {
        attempt.error("redirect from https to http")
    } else if attempt.previous().len() > MAX_REDIRECTS {
        attempt.error("too many redirects")
    } else {
        attempt.follow()
    }
}

fn part(body: &Bytes, range: &std::ops::Range<u64>) -> Option<Bytes> {
    let (start, end) = (usize::try_from(range.start).ok()?, usize::try_from(range.end).ok()?);
    (start <= end && end <= body.len()).then(|| body.slice(start..end))
}

fn reason(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("unknown status")
}

fn fault(error: reqwest::Error, url: &SecretUrl) -> Error {
    let what = if error.is_timeout() {
        "no answer in time from"
    } else if error.is_connect() {
        "no connection to"
    } else if error.is_redirect() {
        "too many or wrong redirects from"
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
