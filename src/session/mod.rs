//! Streaming sessions: a URL that works for a while.

#[cfg(feature = "kvs")]
mod kinesis;

use std::fmt;
#[cfg(feature = "kvs")]
use std::sync::Arc;
use std::time::{Duration, SystemTime};

#[cfg(feature = "kvs")]
pub use kinesis::{FragmentSelector, KinesisSession, Playback};

use crate::error::{Error, ErrorKind};
use crate::net::{BoxFuture, HostPolicy, Hosts};
use crate::secret::SecretUrl;

/// Where capture times come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimeOrigin {
    /// The producer's clock: EXT-X-PROGRAM-DATE-TIME as the camera or encoder set it.
    Producer,
    /// The server's clock, when it began to receive the segment.
    Server,
    /// This machine's clock: the playlist states no times, so the last frame of a segment counts as captured when the
    /// segment arrived.
    Arrival,
}

impl fmt::Display for TimeOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Producer => "producer",
            Self::Server => "server",
            Self::Arrival => "arrival",
        })
    }
}

/// One streaming session.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Session {
    /// A multivariant or media playlist.
    pub url: SecretUrl,
    /// When the server stops answering; `None` for never.
    pub expires_at: Option<SystemTime>,
    /// Whose clock the playlist's dates are.
    pub time_origin: TimeOrigin,
    /// For an archive that one playlist may not hold whole: what this one holds. `None` when its end is the end.
    pub page: Option<Page>,
    /// How often the service wants its playlist loaded, where it says so; a policy set for the source goes first.
    pub reload_interval: Option<Duration>,
    /// Which hosts the playlists may name; what is set for the source goes first.
    pub hosts: HostPolicy,
}

/// What part of an archive a session's playlist holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Segments that the playlist lists at most: when it lists so many, more may follow the last one.
    pub max_segments: usize,
    /// Where the archive goes on after a playlist that lists fewer; `None` when that is its end.
    pub next: Option<SystemTime>,
}

/// What a session is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionRequest {
    /// How long it should last, where that can be chosen.
    pub duration: Duration,
    /// For archives and replays: the capture time of the first segment that is still wanted. `None` for the first session.
    pub resume_from: Option<SystemTime>,
}

impl SessionRequest {
    /// A first session.
    #[must_use]
    pub const fn new(duration: Duration) -> Self {
        Self { duration, resume_from: None }
    }

    /// Whether the service takes the duration.
    pub(crate) fn is_duration_allowed(&self) -> bool {
        (300..=43_200).contains(&self.duration.as_secs()) && self.duration.subsec_nanos() == 0
    }

    /// A session that goes on with the segment that starts at this time.
    #[must_use]
    pub const fn resume_from(mut self, start: SystemTime) -> Self {
        self.resume_from = Some(start);
        self
    }
}

impl Session {
    /// A session that does not expire and whose dates are the producer's.
    #[must_use]
    pub fn new(url: SecretUrl) -> Self {
        Self {
            url,
            expires_at: None,
            time_origin: TimeOrigin::Producer,
            page: None,
            reload_interval: None,
            hosts: HostPolicy::Any,
        }
    }

    /// Says which hosts the playlists may name.
    #[must_use]
    pub fn hosts(mut self, hosts: HostPolicy) -> Self {
        self.hosts = hosts;
        self
    }

    /// Says when the server stops answering.
    #[must_use]
    pub fn expires_at(mut self, time: SystemTime) -> Self {
        self.expires_at = Some(time);
        self
    }

    /// Says whose clock the playlist's dates are.
    #[must_use]
    pub fn time_origin(mut self, origin: TimeOrigin) -> Self {
        self.time_origin = origin;
        self
    }

    /// Says how often the service wants its playlist loaded.
    #[must_use]
    pub fn reload_interval(mut self, interval: Duration) -> Self {
        self.reload_interval = Some(interval);
        self
    }

    /// The hosts that its playlists may name.
    #[must_use]
    pub fn allowed_hosts(&self) -> Hosts {
        match &self.hosts {
            HostPolicy::Any => Hosts::default(),
            HostPolicy::Session => Hosts::only(self.url.expose().host_str().map(str::to_owned)),
            HostPolicy::Only(hosts) => Hosts::only(hosts.iter().cloned()),
        }
    }

    /// Says what part of an archive the playlist holds.
    #[must_use]
    pub fn page(mut self, page: Page) -> Self {
        self.page = Some(page);
        self
    }
}

/// Opens sessions. Implement it for a service that hands out URLs.
pub trait SessionProvider: fmt::Debug + Send + Sync + 'static {
    /// Opens a session, without retrying.
    ///
    /// # Errors
    /// `Session` or `Network`, with status and error name where a server gave them: they decide about the retry.
    fn open(&self, request: SessionRequest) -> BoxFuture<'_, Result<Session, Error>>;

    /// Looks at the provider's own options, before anything is asked for.
    ///
    /// # Errors
    /// `Config` with the option's name, its value and what is allowed.
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Takes part in what the sources of a [`Fleet`](crate::Fleet) share. Called before the first session is opened.
    fn share(&self, shared: &Shared) {
        let _ = shared;
    }

    /// Whether opening again gives another session, with a playlist that counts from zero. False for a fixed URL.
    fn is_renewable(&self) -> bool {
        true
    }
}

impl<P: SessionProvider + ?Sized> SessionProvider for Box<P> {
    fn open(&self, request: SessionRequest) -> BoxFuture<'_, Result<Session, Error>> {
        (**self).open(request)
    }

    fn check(&self) -> Result<(), Error> {
        (**self).check()
    }

    fn share(&self, shared: &Shared) {
        (**self).share(shared);
    }

    fn is_renewable(&self) -> bool {
        (**self).is_renewable()
    }
}

/// What the session providers of a fleet share: the AWS configuration with its credentials.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    #[cfg(feature = "kvs")]
    aws: Arc<kinesis::Configs>,
}

#[cfg(feature = "kvs")]
impl Shared {
    pub(crate) fn set_endpoint_calls_per_second(&self, calls: u32) {
        self.aws.pace.set(calls);
    }
}

/// A URL that stays as it is: any HLS stream with fMP4 segments.
#[derive(Clone, Debug)]
pub struct FixedUrl {
    url: SecretUrl,
}

impl FixedUrl {
    /// The URL of a multivariant or media playlist.
    ///
    /// # Errors
    /// `Config` for a text that is not an absolute http or https URL.
    pub fn new(url: &str) -> Result<Self, Error> {
        let url = SecretUrl::parse(url).map_err(|error| {
            Error::new(ErrorKind::Config, "url that cannot be parsed (an absolute http or https URL is allowed)")
                .with_source(error)
        })?;
        Self::try_from(url)
    }
}

impl TryFrom<SecretUrl> for FixedUrl {
    type Error = Error;

    fn try_from(url: SecretUrl) -> Result<Self, Error> {
        match url.expose().scheme() {
            "http" | "https" => Ok(Self { url }),
            scheme => {
                Err(Error::new(ErrorKind::Config, format!("url with scheme \"{scheme}\" (http and https are allowed)")))
            }
        }
    }
}

impl SessionProvider for FixedUrl {
    fn open(&self, _request: SessionRequest) -> BoxFuture<'_, Result<Session, Error>> {
        Box::pin(std::future::ready(Ok(Session::new(self.url.clone()))))
    }

    fn is_renewable(&self) -> bool {
        false
    }
}
