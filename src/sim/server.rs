//! The simulated camera as its user holds it: built, started, stopped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use url::Url;

use super::camera::{Camera, FaultEvent, Setup};
use super::connection::{Listener, ResetSwitch};
use super::endpoints::{Endpoint, Requests, router};
use super::{DiscontinuityMode, Fault, FaultScript, FragmentNumbers, Playback, Recording, SessionOptions, Timeline};
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind};
use crate::secret::SecretUrl;

/// How long [`SimulatedCamera::shutdown`] waits for answers under way.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(2);
/// What may stand in a stream's name, up to 256 of them.
const NAME_SIGNS: &[u8] = b"_.-";

/// The choices of a [`SimulatedCamera`].
#[derive(Clone, Debug)]
#[must_use]
pub struct SimulatedCameraBuilder {
    recording: Option<Arc<Recording>>,
    second: Option<Arc<Recording>>,
    stream: String,
    arn: Option<String>,
    session_lifetime: Option<Duration>,
    faults: FaultScript,
    session: SessionOptions,
    epoch_decode_times: bool,
    publish_delay: Duration,
    backlog: Option<u64>,
    speed: u32,
    origin: Option<SystemTime>,
    bind: SocketAddr,
    clock: Arc<dyn Clock>,
}

impl SimulatedCameraBuilder {
    /// What is looped; [`Recording::demo`] by default.
    pub fn recording(mut self, recording: impl Into<Arc<Recording>>) -> Self {
        self.recording = Some(recording.into());
        self
    }

    /// What is filmed during [`Fault::Resolution`]; [`Recording::demo_small`] by default if [`recording`](Self::recording)
    /// is not set either. Its fragments must have as many frames and ticks as those of the first one.
    pub fn second_recording(mut self, recording: impl Into<Arc<Recording>>) -> Self {
        self.second = Some(recording.into());
        self
    }

    /// The stream's name for the session API, 1 to 256 of `a-zA-Z0-9_.-`; `simulated-camera` by default.
    pub fn stream_name(mut self, name: impl Into<String>) -> Self {
        self.stream = name.into();
        self
    }

    /// The stream's ARN for the session API; by default one in `us-east-1` that ends in the stream's name and a number.
    pub fn stream_arn(mut self, arn: impl Into<String>) -> Self {
        self.arn = Some(arn.into());
        self
    }

    /// How long sessions last on the camera's clock. By default those of the session API as long as their `Expires` says,
    /// and others for ever.
    pub fn session_lifetime(mut self, lifetime: Duration) -> Self {
        self.session_lifetime = Some(lifetime);
        self
    }

    /// What goes wrong, and when; nothing by default. Replaces what was set before.
    pub fn faults(mut self, script: FaultScript) -> Self {
        self.faults = script;
        self
    }

    /// Which fragments [`url`](SimulatedCamera::url)'s sessions list; live by default.
    pub fn playback(mut self, playback: Playback) -> Self {
        self.session.playback = playback;
        self
    }

    /// How many fragments a live playlist lists at most, 1 to 5000; 5 by default.
    pub fn window(mut self, fragments: usize) -> Self {
        self.session.window = fragments;
        self
    }

    /// Where EXT-X-DISCONTINUITY stands; before every segment by default.
    pub fn discontinuity(mut self, mode: DiscontinuityMode) -> Self {
        self.session.discontinuity = mode;
        self
    }

    /// Whether each segment has an EXT-X-PROGRAM-DATE-TIME; on by default.
    pub fn timestamps(mut self, shown: bool) -> Self {
        self.session.timestamps = shown;
        self
    }

    /// What stands in `FragmentNumber=`; the stream's 47 digits by default.
    pub fn fragment_numbers(mut self, numbers: FragmentNumbers) -> Self {
        self.session.numbers = numbers;
        self
    }

    /// Whether decoding times (`tfdt`) count from 1970 instead of from the start of the stream; off by default. Such
    /// times need 64 bits.
    pub fn epoch_decode_times(mut self, from_epoch: bool) -> Self {
        self.epoch_decode_times = from_epoch;
        self
    }

    /// How long after its end a fragment is listed; 300 ms by default.
    pub fn publish_delay(mut self, delay: Duration) -> Self {
        self.publish_delay = delay;
        self
    }

    /// How many fragments exist already at the start. By default as many as a playlist lists, so nobody has to wait.
    pub fn backlog(mut self, fragments: u64) -> Self {
        self.backlog = Some(fragments);
        self
    }

    /// How many times faster than the clock the camera films, for tests that cannot wait; 1 by default. Fragments (and
    /// the publish delay) then take a fraction of their time, while their media and capture times stay as filmed and
    /// so run ahead of the wall clock.
    pub fn speed(mut self, factor: u32) -> Self {
        self.speed = factor;
        self
    }

    /// The capture time of the first frame, rounded down to a millisecond. By default such that the newest fragment of
    /// the backlog was listed at the moment of the start.
    pub fn first_frame_at(mut self, time: SystemTime) -> Self {
        self.origin = Some(time);
        self
    }

    /// Where to listen; port 0, the default on 127.0.0.1, is any free one.
    pub fn bind(mut self, address: SocketAddr) -> Self {
        self.bind = address;
        self
    }

    /// The clock that makes the camera go on; the system's by default.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Starts filming and serving, on the current tokio runtime.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for options that are not allowed or an address that cannot be listened on,
    /// [`ErrorKind::Container`] for a recording that fits into no fragment.
    pub async fn start(self) -> Result<SimulatedCamera, Error> {
        self.session.check()?;
        if self.speed == 0 {
            return Err(Error::new(ErrorKind::Config, "speed of 0 (1 or more is allowed)"));
        }
        let is_sign = |byte: u8| byte.is_ascii_alphanumeric() || NAME_SIGNS.contains(&byte);
        if !(1..=256).contains(&self.stream.len()) || !self.stream.bytes().all(is_sign) {
            let allowed = "1 to 256 of a-z, A-Z, 0-9, _, . and - are allowed";
            return Err(Error::new(ErrorKind::Config, format!("stream name \"{}\" ({allowed})", self.stream)));
        }
        let second = self.second.or_else(|| self.recording.is_none().then(|| Arc::new(Recording::demo_small())));
        let recording = self.recording.unwrap_or_else(|| Arc::new(Recording::demo()));
        if second.as_ref().is_some_and(|second| !second.is_cut_like(&recording)) {
            let context = "second recording with other fragments than the first (the same timescale, and as many frames \
                           in each fragment are allowed)";
            return Err(Error::new(ErrorKind::Config, context));
        }
        let backlog = self.backlog.unwrap_or(match self.session.playback {
            Playback::OnDemand { fragments } => fragments,
            _ => self.session.window as u64,
        });

        let listener = TcpListener::bind(self.bind).await.map_err(|error| {
            Error::new(ErrorKind::Config, format!("address {} that cannot be listened on", self.bind))
                .with_source(error)
        })?;
        let address = listener
            .local_addr()
            .map_err(|error| Error::new(ErrorKind::Config, "listening socket without an address").with_source(error))?;

        let lead =
            Timeline::new(Arc::clone(&recording), SystemTime::UNIX_EPOCH, self.publish_delay).published_after(backlog);
        let origin = self.origin.or_else(|| self.clock.wall().checked_sub(lead)).unwrap_or(SystemTime::UNIX_EPOCH);
        let timeline = Timeline::new(recording, origin, self.publish_delay);
        let arn = self.arn.unwrap_or_else(|| {
            format!("arn:aws:kinesisvideo:us-east-1:123456789012:stream/{}/1700000000000", self.stream)
        });
        let setup = Setup {
            timeline,
            second,
            epoch_decode_times: self.epoch_decode_times,
            lead,
            speed: self.speed,
            clock: self.clock,
            stream: self.stream,
            arn,
            session_lifetime: self.session_lifetime,
            numbers: self.session.numbers,
        };
        let camera = Arc::new(Camera::new(setup, self.faults)?);
        let (stop, stopped) = oneshot::channel::<()>();
        let listener = Listener { listener, camera: Arc::clone(&camera) };
        let service = router(Arc::clone(&camera)).into_make_service_with_connect_info::<ResetSwitch>();
        let server = axum::serve(listener, service);
        let server = tokio::spawn(async move {
            // Also resolves when the camera is dropped and the sender with it.
            let stopped = async move { drop(stopped.await) };
            if let Err(error) = server.with_graceful_shutdown(stopped).await {
                tracing::warn!(%error, "simulated camera stopped");
            }
        });
        Ok(SimulatedCamera { camera, session: self.session, address, server, stop: Some(stop) })
    }
}

/// A camera that is not there, behind an HTTP server in the shape of Kinesis Video Streams.
///
/// Dropping it stops it: it takes no more connections, and open ones end after the answer under way.
#[derive(Debug)]
pub struct SimulatedCamera {
    camera: Arc<Camera>,
    session: SessionOptions,
    address: SocketAddr,
    server: JoinHandle<()>,
    /// Dropped with the camera, which stops the server.
    stop: Option<oneshot::Sender<()>>,
}

impl SimulatedCamera {
    /// Live, the demo recording, a window of five fragments, on a free port of 127.0.0.1.
    pub fn builder() -> SimulatedCameraBuilder {
        SimulatedCameraBuilder {
            recording: None,
            second: None,
            stream: "simulated-camera".into(),
            arn: None,
            session_lifetime: None,
            faults: FaultScript::new(),
            session: SessionOptions::default(),
            epoch_decode_times: false,
            publish_delay: Duration::from_millis(300),
            backlog: None,
            speed: 1,
            origin: None,
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            clock: Arc::new(SystemClock),
        }
    }

    /// Opens a session as the builder was told, and gives the URL of its multivariant playlist. Each call opens another.
    #[must_use]
    pub fn url(&self) -> SecretUrl {
        self.open_session(self.session)
    }

    /// Opens a session with options of its own.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for options that are not allowed.
    pub fn new_session(&self, options: SessionOptions) -> Result<SecretUrl, Error> {
        options.check()?;
        Ok(self.open_session(options))
    }

    /// What sessions get from [`url`](Self::url): a start for [`new_session`](Self::new_session).
    #[must_use]
    pub fn session_options(&self) -> SessionOptions {
        self.session
    }

    /// Where the server listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Fragments and their times: the truth that a client can be measured against.
    #[must_use]
    pub fn timeline(&self) -> &Timeline {
        self.camera.timeline()
    }

    /// How many fragments of the timeline can be listed at this moment.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.camera.now().moment.published
    }

    /// The requests so far.
    #[must_use]
    pub fn requests(&self) -> Requests {
        self.camera.requests()
    }

    /// Where the session API is: what an AWS client takes as endpoint URL, with any credentials.
    #[must_use]
    pub fn endpoint_url(&self) -> String {
        format!("http://{}", self.host())
    }

    /// The stream's name for the session API.
    #[must_use]
    pub fn stream_name(&self) -> &str {
        &self.camera.setup().stream
    }

    /// The stream's ARN for the session API.
    #[must_use]
    pub fn stream_arn(&self) -> &str {
        &self.camera.setup().arn
    }

    /// How many sessions are in use: not expired, and asked for a media playlist within the last two target durations.
    /// A session that a player has left counts until then.
    #[must_use]
    pub fn open_sessions(&self) -> usize {
        self.camera.open_sessions()
    }

    /// The most sessions that were in use at the same time.
    #[must_use]
    pub fn peak_sessions(&self) -> usize {
        self.camera.peak_sessions()
    }

    /// Lets something go wrong from now on, for `length` on the camera's clock.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for numbers that are not allowed, or a change of resolution without a second recording.
    pub fn inject(&self, fault: Fault, length: Duration) -> Result<(), Error> {
        self.camera.inject(fault, length)
    }

    /// What goes wrong over the camera's life: the builder's script and all that was [injected](Self::inject).
    #[must_use]
    pub fn fault_script(&self) -> FaultScript {
        self.camera.script()
    }

    /// The answers that a fault touched, oldest first; the newest 100,000 of them.
    ///
    /// Faults that are in the playlists alone (left out, jitter, skew, another resolution, discontinuities) are not here: the
    /// [`timeline`](Self::timeline) has them.
    #[must_use]
    pub fn fault_events(&self) -> Vec<FaultEvent> {
        self.camera.events()
    }

    /// Stops the server and waits for it; answers under way get two seconds.
    pub async fn shutdown(mut self) {
        drop(self.stop.take());
        let patience = self.camera.clock().sleep(SHUTDOWN_PATIENCE);
        tokio::select! {
            _ = &mut self.server => {}
            () = patience => self.server.abort(),
        }
    }

    fn open_session(&self, options: SessionOptions) -> SecretUrl {
        let (token, _) = self.camera.open_session(options, None);
        let text = format!("{}{}?SessionToken={token}", self.endpoint_url(), Endpoint::MasterPlaylist.path());
        // A socket address is a host, and no character of a token has a meaning in URLs.
        #[allow(clippy::expect_used)]
        Url::parse(&text).expect("a URL").into()
    }

    fn host(&self) -> SocketAddr {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        SocketAddr::new(ip, self.address.port())
    }
}
