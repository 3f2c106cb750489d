//! Sessions of Amazon Kinesis Video Streams.

mod failure;
mod options;
mod service;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use tokio::sync::Mutex;

use options::{Stream, check_region, wrong};
use service::Service;

pub(super) use service::Configs;

pub use options::{FragmentSelector, Playback};

use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind, Stage};
use crate::net::{BoxFuture, HostPolicy};
use crate::options::DiscontinuityMode;
use crate::secret::SecretUrl;
use crate::session::{Page, Session, SessionProvider, SessionRequest, Shared, TimeOrigin};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// An archive is asked for day by day, so its length bounds the number of requests for one session.
const MAX_ARCHIVE: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// As the service advises: a fragment is listed as soon as it is complete, whatever the target duration says. It allows
/// five requests a second.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);
/// What the service lists of an archive when it is not told otherwise.
const DEFAULT_ARCHIVE_FRAGMENTS: u16 = 1000;

/// Sessions of a stream in Amazon Kinesis Video Streams.
///
/// ```no_run
/// use kvs_hls::{FrameSource, KinesisSession};
///
/// # fn example() -> Result<(), kvs_hls::Error> {
/// let camera = KinesisSession::live("front-door").region("us-east-1");
/// let source = FrameSource::builder("front-door", camera).build()?;
/// # Ok(())
/// # }
/// ```
///
/// # Region and credentials
///
/// Both are looked for when the first session is opened. The region is that of [`region`](Self::region), of the stream's
/// ARN, of [`sdk_config`](Self::sdk_config), of `AWS_REGION`, of the profile or of the EC2 instance, whichever comes first.
/// A stream is only found in its own region. The credentials are those of `sdk_config`, else of the AWS default chain:
/// environment, profile files, web identity token, ECS container, EC2 instance. (Profiles that use SSO or a credential
/// process need an `sdk_config` made with those features of `aws-config`.)
///
/// # Permissions
///
/// `kinesisvideo:GetDataEndpoint` and `kinesisvideo:GetHLSStreamingSessionURL` on the resource
/// `arn:aws:kinesisvideo:REGION:ACCOUNT:stream/NAME/NUMBER`, with `*` for a number that is not known. Playlists and segments
/// need none: the session's URL is their whole authorization.
///
/// # Errors
///
/// Neither this type nor the SDK under it retries: the source does, and counts. (Retries that `sdk_config` asks for are turned
/// off.) A call that takes longer than 20 s, or whatever `sdk_config` says, is a `Network` error that timed out. What the
/// service answers is a `Session` error with its status, name and message.
///
/// - "No fragments found" of a live stream, throttling, 5xx, faults of the network: [`Recovery::Retry`](crate::Recovery).
/// - Credentials that are refused are loaded anew and tried once more; refused again, they are fatal.
/// - An unknown stream, missing credentials, a range without fragments and arguments that the service refuses are fatal.
///
/// The data endpoint is asked for once and again after a failure that is neither throttling nor "No fragments found".
///
/// # Quotas
///
/// AWS allows 5 GetDataEndpoint and 25 GetHLSStreamingSessionURL calls a second for a stream, and 300 GetDataEndpoint calls a
/// second for an account. A source opens a session each [`Config::session_duration`](crate::Config). Each playlist request
/// costs [`max_fragments`](Self::max_fragments) of the stream's 10,000 metadata points a second.
#[must_use]
pub struct KinesisSession {
    stream: String,
    playback: Playback,
    selector: FragmentSelector,
    discontinuity: Option<DiscontinuityMode>,
    display_fragment_timestamp: bool,
    max_fragments: Option<u16>,
    region: Option<String>,
    endpoint_url: Option<String>,
    sdk_config: Option<SdkConfig>,
    clock: Arc<dyn Clock>,
    /// `None` until the first session and after credentials were refused. Held while a session is opened: one at a time.
    service: Mutex<Option<Service>>,
    /// What a fleet's cameras have in common.
    configs: OnceLock<Arc<Configs>>,
}

/// A part of the stream that one session can play.
#[derive(Clone, Copy)]
struct Window {
    start: SystemTime,
    end: Option<SystemTime>,
    /// Where the archive goes on.
    next: Option<SystemTime>,
}

impl KinesisSession {
    /// The newest fragments of the stream with this name or ARN.
    pub fn live(stream: impl Into<String>) -> Self {
        Self {
            stream: stream.into(),
            playback: Playback::Live,
            selector: FragmentSelector::default(),
            discontinuity: None,
            display_fragment_timestamp: true,
            max_fragments: None,
            region: None,
            endpoint_url: None,
            sdk_config: None,
            clock: Arc::new(SystemClock),
            service: Mutex::new(None),
            configs: OnceLock::new(),
        }
    }

    /// From a time on at the speed of capture, and on into the present when there is no end.
    pub fn live_replay(stream: impl Into<String>, start: SystemTime, end: Option<SystemTime>) -> Self {
        Self::live(stream).playback(Playback::LiveReplay { start, end })
    }

    /// What was stored between two times, as fast as it is read. A range of more than a day, or of more fragments than
    /// [`max_fragments`](Self::max_fragments), takes several sessions, which [`Session::page`] tells.
    pub fn on_demand(stream: impl Into<String>, start: SystemTime, end: SystemTime) -> Self {
        Self::live(stream).playback(Playback::OnDemand { start, end })
    }

    /// Another part of the stream.
    pub fn playback(mut self, playback: Playback) -> Self {
        self.playback = playback;
        self
    }

    /// The stream's AWS region, like `us-east-1`.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Credentials, and all else that a configuration of `aws-config` 1 holds. By default the AWS default chain is asked.
    pub fn sdk_config(mut self, config: &SdkConfig) -> Self {
        self.sdk_config = Some(config.clone());
        self
    }

    /// Another server for GetDataEndpoint, an absolute http or https URL. What that answers is used as it is.
    pub fn endpoint_url(mut self, url: impl Into<String>) -> Self {
        self.endpoint_url = Some(url.into());
        self
    }

    /// Whose clock the times of ranges and frames are; the server's by default.
    pub fn selector(mut self, selector: FragmentSelector) -> Self {
        self.selector = selector;
        self
    }

    /// Where the playlist marks discontinuities. The source does not need them.
    pub fn discontinuity(mut self, mode: DiscontinuityMode) -> Self {
        self.discontinuity = Some(mode);
        self
    }

    /// Whether the playlist states the time of each fragment. True by default: without it, frames are only known by the
    /// time they arrived.
    pub fn display_fragment_timestamp(mut self, is_displayed: bool) -> Self {
        self.display_fragment_timestamp = is_displayed;
        self
    }

    /// Fragments that a playlist lists at most, 1 to 5000. By default the service's choice: 5, of an archive 1000.
    pub fn max_fragments(mut self, count: u16) -> Self {
        self.max_fragments = Some(count);
        self
    }

    /// Another clock, for tests.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    fn check_options(&self) -> Result<Stream<'_>, Error> {
        let stream = Stream::parse(&self.stream)?;
        if let Some(region) = &self.region {
            check_region(region, self.endpoint_url.is_some())?;
            if let Stream::Arn { region: own, .. } = stream
                && own != region
            {
                return Err(wrong("region", format_args!("{region:?}"), &format!("\"{own}\", the stream's own,")));
            }
        }
        if let Some(url) = &self.endpoint_url {
            // The value may hold a password.
            let is_right = SecretUrl::parse(url).is_ok_and(|url| matches!(url.expose().scheme(), "http" | "https"));
            if !is_right {
                let context = "endpoint_url that cannot be used (an absolute http or https URL is allowed)";
                return Err(Error::new(ErrorKind::Config, context));
            }
        }
        if let Some(count) = self.max_fragments
            && !(1..=5000).contains(&count)
        {
            return Err(wrong("max_fragments", count, "1 to 5000"));
        }
        self.check_range()?;
        Ok(stream)
    }

    fn check_range(&self) -> Result<(), Error> {
        let (start, end, longest, limit) = match self.playback {
            Playback::Live => return Ok(()),
            Playback::LiveReplay { start, end } => (start, end, DAY, "24 hours"),
            Playback::OnDemand { start, end } => (start, Some(end), MAX_ARCHIVE, "366 days"),
        };
        if start < SystemTime::UNIX_EPOCH {
            return Err(wrong("start", date(start), "1970 or later"));
        }
        let Some(end) = end else { return Ok(()) };
        let length = end.duration_since(start).unwrap_or_default();
        if length.is_zero() {
            return Err(wrong("end", date(end), &format!("a time after the start at {}", date(start))));
        }
        if length > longest {
            return Err(wrong("end", date(end), &format!("at most {limit} after the start at {}", date(start))));
        }
        let now = self.clock.wall();
        if self.selector == FragmentSelector::ServerTimestamp && end >= now {
            let allowed = format!("with server timestamps a time before now, {},", date(now));
            return Err(wrong("end", date(end), &allowed));
        }
        Ok(())
    }

    /// What the next session plays, `None` for what is newest.
    fn window(&self, resume_from: Option<SystemTime>) -> Option<Window> {
        let (start, end) = match self.playback {
            Playback::Live => return None,
            Playback::LiveReplay { start, end } => (start, end),
            Playback::OnDemand { start, end } => (start, Some(end)),
        };
        let start = resume_from.map_or(start, |time| time.max(start));
        // The service plays a day at most.
        let stop = end.map(|end| start.checked_add(DAY).map_or(end, |limit| end.min(limit)));
        Some(Window { start, end: stop, next: stop.filter(|_| stop < end) })
    }

    async fn open_session(&self, request: SessionRequest) -> Result<Session, Error> {
        let stream = self.check_options()?;
        let duration = request.duration;
        if !request.is_duration_allowed() {
            return Err(wrong("duration", format_args!("{duration:?}"), "300s to 43200s in whole seconds"));
        }
        let service = &mut *self.service.lock().await;
        let first = self.window(request.resume_from);
        let mut window = first;
        let mut is_second_try = false;
        loop {
            if let Some(Window { start, end: Some(end), .. }) = window
                && start >= end
            {
                return Err(nothing_between(start, Some(end)));
            }
            let asked_at = self.clock.wall();
            let error = match self.ask(service, stream, window, duration).await {
                Ok(url) => return Ok(self.session(url, asked_at.checked_add(duration), window)),
                Err(error) => error,
            };
            if is_refusal(&error) && !is_second_try {
                tracing::debug!(%error, "credentials refused, loading them again");
                is_second_try = true;
                *service = None;
                if let Some(configs) = self.configs.get() {
                    configs.forget().await;
                }
            } else if let Some((first, empty)) = first.zip(window).filter(|_| error.is_silence()) {
                let has_caught_up = empty.end.is_none() && request.resume_from.is_some();
                if has_caught_up {
                    return Err(error);
                }
                // A day without fragments in the middle of an archive is not its end.
                let Some(next) = empty.next else { return Err(nothing_between(first.start, empty.end)) };
                window = self.window(Some(next));
            } else {
                return Err(error);
            }
        }
    }

    async fn ask(
        &self,
        service: &mut Option<Service>,
        stream: Stream<'_>,
        window: Option<Window>,
        duration: Duration,
    ) -> Result<SecretUrl, Error> {
        let service = match service {
            Some(service) => service,
            None => service.insert(Service::load(self, stream).await?),
        };
        service.session_url(self, stream, window, duration).await
    }

    fn session(&self, url: SecretUrl, expires_at: Option<SystemTime>, window: Option<Window>) -> Session {
        let mut session = Session::new(url).hosts(HostPolicy::Session).reload_interval(RELOAD_INTERVAL).time_origin(
            match self.selector {
                _ if !self.display_fragment_timestamp => TimeOrigin::Arrival,
                FragmentSelector::ServerTimestamp => TimeOrigin::Server,
                FragmentSelector::ProducerTimestamp => TimeOrigin::Producer,
            },
        );
        session.expires_at = expires_at;
        if matches!(self.playback, Playback::OnDemand { .. }) {
            let max_segments = self.max_fragments.unwrap_or(DEFAULT_ARCHIVE_FRAGMENTS).into();
            session = session.page(Page { max_segments, next: window.and_then(|window| window.next) });
        }
        session
    }
}

impl SessionProvider for KinesisSession {
    fn open(&self, request: SessionRequest) -> BoxFuture<'_, Result<Session, Error>> {
        Box::pin(async move { self.open_session(request).await.map_err(|error| error.at(Stage::OpenSession)) })
    }

    fn check(&self) -> Result<(), Error> {
        self.check_options().map(drop)
    }

    fn share(&self, shared: &Shared) {
        let _ = self.configs.set(shared.aws.clone());
    }
}

impl fmt::Debug for KinesisSession {
    /// Without what may hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stream, playback, selector, discontinuity, max_fragments, region, .. } = self;
        f.debug_struct("KinesisSession")
            .field("stream", stream)
            .field("playback", playback)
            .field("selector", selector)
            .field("discontinuity", discontinuity)
            .field("display_fragment_timestamp", &self.display_fragment_timestamp)
            .field("max_fragments", max_fragments)
            .field("region", region)
            .finish_non_exhaustive()
    }
}

/// Whether other credentials might be accepted.
fn is_refusal(error: &Error) -> bool {
    let names = [
        "AccessDenied",
        "ExpiredToken",
        "InvalidClientTokenId",
        "InvalidSignature",
        "NotAuthorized",
        "UnrecognizedClient",
    ];
    let code = error.code().unwrap_or_default();
    matches!(error.status(), Some(401 | 403)) || names.iter().any(|name| code.starts_with(name))
}

/// The error for a range without fragments. Waiting fills no past range, so its words are not those of a silent camera.
fn nothing_between(start: SystemTime, end: Option<SystemTime>) -> Error {
    let context = match end {
        Some(end) => format!("no fragments between {} and {}", date(start), date(end)),
        None => format!("no fragments since {}", date(start)),
    };
    Error::new(ErrorKind::Session, context).with_status(404).with_code("ResourceNotFoundException")
}

fn date(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| format!("{time:?}"), |time| time.to_string())
}
