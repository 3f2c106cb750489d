//! Putting a source together.

use std::fmt;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::available_parallelism;
use std::time::Duration;

use prometheus::Registry;
use tracing::Instrument;

use super::FrameSource;
use super::delivery::Queue;
use super::driver::{Driver, Inbox, Output as LaneSide};
use super::engine::Engine;
use super::machine::{Machine, MachineOptions};
use super::options::{Config, Delivery, GapFill, Pacing};
use super::reach::Reach;
use super::shared::Shared;
use super::spans;
use crate::clock::{Clock, SystemClock};
use crate::decode::{Decoder, FrameSelection, Lane, LaneOptions, Openh264Decoder, Output};
#[cfg(unix)]
use crate::decode::{DecoderProcess, IsolatedDecoder};
use crate::error::{Error, ErrorKind};
use crate::hls::{LiveEdge, ReloadPolicy, VariantCaps, VariantChoice};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::net::{Fetch, HostPolicy};
use crate::session::{self, SessionProvider, TimeOrigin};

type MakeDecoder = Arc<dyn Fn(&Limits) -> Box<dyn Decoder> + Send + Sync>;

const MAX_BUFFER_FRAMES: usize = 1000;
const MAX_DECODE_AHEAD: usize = 64;
/// More cores than this are rarely worth the memory: say so with `decode_ahead`.
const DEFAULT_DECODE_AHEAD: usize = 8;

/// The options of a [`FrameSource`]; all have defaults.
#[must_use]
pub struct FrameSourceBuilder {
    camera_id: String,
    provider: Arc<dyn SessionProvider>,
    config: Config,
    delivery: Delivery,
    pacing: Pacing,
    gap_fill: GapFill,
    buffer_frames: usize,
    decode_ahead: Option<usize>,
    selection: FrameSelection,
    output: Output,
    live_edge: LiveEdge,
    reload: Option<ReloadPolicy>,
    caps: VariantCaps,
    variant: VariantChoice,
    limits: Limits,
    hosts: Option<HostPolicy>,
    healthy_within: Duration,
    registry: Option<Registry>,
    clock: Arc<dyn Clock>,
    fetch: Option<Arc<dyn Fetch>>,
    decoder: MakeDecoder,
}

impl fmt::Debug for FrameSourceBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameSourceBuilder").field("camera_id", &self.camera_id).finish_non_exhaustive()
    }
}

impl FrameSourceBuilder {
    pub(super) fn new(camera_id: String, provider: Arc<dyn SessionProvider>) -> Self {
        Self {
            camera_id,
            provider,
            config: Config::default(),
            delivery: Delivery::default(),
            pacing: Pacing::default(),
            gap_fill: GapFill::default(),
            buffer_frames: 4,
            decode_ahead: None,
            selection: FrameSelection::default(),
            output: Output::default(),
            live_edge: LiveEdge::default(),
            reload: None,
            caps: VariantCaps::default(),
            variant: VariantChoice::default(),
            limits: Limits::default(),
            hosts: None,
            healthy_within: Duration::from_secs(10),
            registry: None,
            clock: Arc::new(SystemClock),
            fetch: None,
            decoder: Arc::new(|limits| Box::new(Openh264Decoder::new(limits.clone()))),
        }
    }

    /// Sessions and reconnects.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// What happens when frames come faster than they are taken.
    pub fn delivery(mut self, delivery: Delivery) -> Self {
        self.delivery = delivery;
        self
    }

    /// When a decoded frame is handed out.
    pub fn pacing(mut self, pacing: Pacing) -> Self {
        self.pacing = pacing;
        self
    }

    /// What is handed out while the connection is lost: nothing, unless told otherwise.
    pub fn gap_fill(mut self, fill: GapFill) -> Self {
        self.gap_fill = fill;
        self
    }

    /// How many segments of a finished playlist are decoded at once, each on a thread of its own: 1 to 64; by default as many
    /// as there are cores, up to 8. Frames come out in order all the same, and are the same. Those of later segments wait,
    /// which takes memory: up to [`Limits::max_waiting_bytes`]. Live streams are decoded on one thread, and so is what
    /// is [paced](Pacing::ByTime).
    pub fn decode_ahead(mut self, segments: usize) -> Self {
        self.decode_ahead = Some(segments);
        self
    }

    /// How many decoded frames may wait for the consumer: 1 to 1000, 4 by default. Each takes `height * stride` bytes; what
    /// waits as compressed data is not counted here.
    pub fn buffer_frames(mut self, frames: usize) -> Self {
        self.buffer_frames = frames;
        self
    }

    /// Which frames are delivered.
    pub fn select(mut self, selection: FrameSelection) -> Self {
        self.selection = selection;
        self
    }

    /// What frames look like.
    pub fn output(mut self, output: Output) -> Self {
        self.output = output;
        self
    }

    /// Where in a live playlist reading begins.
    pub fn live_edge(mut self, live_edge: LiveEdge) -> Self {
        self.live_edge = live_edge;
        self
    }

    /// How often a live playlist is loaded again. By default as the service advises (Kinesis Video Streams: every second),
    /// else as the specification says.
    pub fn reload(mut self, reload: ReloadPolicy) -> Self {
        self.reload = Some(reload);
        self
    }

    /// The largest variant of a multivariant playlist that is taken.
    pub fn variant_caps(mut self, caps: VariantCaps) -> Self {
        self.caps = caps;
        self
    }

    /// How a variant of a multivariant playlist is chosen; by measured bandwidth, unless told otherwise.
    pub fn variant(mut self, choice: VariantChoice) -> Self {
        self.variant = choice;
        self
    }

    /// Which hosts may be asked for playlists and segments. By default a session of Kinesis Video Streams is kept to its own
    /// host, and a [`FixedUrl`](crate::FixedUrl) may lead anywhere, as content networks do.
    pub fn hosts(mut self, hosts: HostPolicy) -> Self {
        self.hosts = Some(hosts);
        self
    }

    /// Bounds on everything that a server or a stream drives.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The age of the last frame up to which [`FrameSource::is_healthy`] says yes; 10 s.
    pub fn healthy_within(mut self, age: Duration) -> Self {
        self.healthy_within = age;
        self
    }

    /// Registers the camera's metrics, with the label `camera_id`. They leave the registry with the source.
    pub fn registry(mut self, registry: &Registry) -> Self {
        self.registry = Some(registry.clone());
        self
    }

    /// Another clock, for tests.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Another HTTP client than the source's own.
    pub fn fetch(mut self, fetch: impl Fetch) -> Self {
        self.fetch = Some(Arc::new(fetch));
        self
    }

    /// Another decoder than openh264.
    pub fn decoder(mut self, make: impl Fn(&Limits) -> Box<dyn Decoder> + Send + Sync + 'static) -> Self {
        self.decoder = Arc::new(make);
        self
    }

    /// Decodes in a process of its own: should the decoder crash, want for memory or never answer, that costs a reported gap
    /// and nothing else. Takes the place of [`decoder`](Self::decoder).
    ///
    /// The price is two copies of each picture. An archive has a process for each segment that is decoded at once.
    #[cfg(unix)]
    pub fn isolate(self, process: DecoderProcess) -> Self {
        self.decoder(move |limits| Box::new(IsolatedDecoder::new(process.clone(), limits.clone())))
    }

    /// Checks the options. Nothing is started yet.
    ///
    /// # Errors
    /// `Config` with the option's name, its value and what is allowed.
    pub fn build(self) -> Result<FrameSource, Error> {
        self.config.check()?;
        self.provider.check()?;
        self.hosts.as_ref().map_or(Ok(()), HostPolicy::check)?;
        self.selection.checked()?;
        self.output.check()?;
        if !(1..=MAX_BUFFER_FRAMES).contains(&self.buffer_frames) {
            let context = format!("buffer_frames of {} (1 to {MAX_BUFFER_FRAMES} is allowed)", self.buffer_frames);
            return Err(Error::new(ErrorKind::Config, context));
        }
        if let Some(segments) = self.decode_ahead
            && !(1..=MAX_DECODE_AHEAD).contains(&segments)
        {
            let context = format!("decode_ahead of {segments} (1 to {MAX_DECODE_AHEAD} is allowed)");
            return Err(Error::new(ErrorKind::Config, context));
        }
        if self.camera_id.is_empty() || self.camera_id.contains('\0') {
            return Err(Error::new(
                ErrorKind::Config,
                "camera_id that is empty or holds a NUL (any other text is allowed)",
            ));
        }
        let is_paced = self.pacing == Pacing::ByTime || self.delivery == Delivery::Latest;
        let cores = || available_parallelism().map_or(1, usize::from).min(DEFAULT_DECODE_AHEAD);
        let decode_ahead = if is_paced { 1 } else { self.decode_ahead.unwrap_or_else(cores) };
        let metrics = Metrics::new(&self.camera_id, self.registry.as_ref())?;
        let queue = Queue::new(self.delivery, self.pacing, self.gap_fill, self.buffer_frames);
        let shared = Shared::new(self.camera_id, self.clock, self.limits, self.output, queue, metrics);
        let machine = MachineOptions {
            config: self.config,
            delivery: self.delivery,
            live_edge: self.live_edge,
            reload: self.reload,
            caps: self.caps,
            variant: self.variant,
            max_ahead_bytes: shared.limits.max_ahead_bytes,
            is_renewable: self.provider.is_renewable(),
        };
        let plan = Plan {
            shared: Arc::new(shared),
            provider: self.provider,
            fetch: self.fetch,
            hosts: self.hosts,
            decoder: self.decoder,
            selection: self.selection,
            decode_ahead,
            machine,
            healthy_within: self.healthy_within,
        };
        Ok(FrameSource { plan, running: Mutex::default() })
    }
}

/// A source that can be started.
pub(super) struct Plan {
    pub(super) shared: Arc<Shared>,
    provider: Arc<dyn SessionProvider>,
    fetch: Option<Arc<dyn Fetch>>,
    hosts: Option<HostPolicy>,
    decoder: MakeDecoder,
    selection: FrameSelection,
    decode_ahead: usize,
    machine: MachineOptions,
    pub(super) healthy_within: Duration,
}

impl Plan {
    pub(super) fn share(&self, shared: &session::Shared) {
        self.provider.share(shared);
    }

    /// Starts on these threads. The receiver hears nothing until the source has ended, and then that nobody speaks.
    pub(super) fn start(&self, engine: &Engine) -> Result<(Receiver<()>, Arc<Inbox>), Error> {
        let shared = &self.shared;
        let fetch = match &self.fetch {
            Some(fetch) => fetch.clone(),
            None => engine.http()?,
        };
        let inbox = Arc::<Inbox>::default();
        let output =
            LaneSide { shared: shared.clone(), inbox: inbox.clone(), last: Mutex::default(), hole: false.into() };
        let (make_decoder, limits) = (self.decoder.clone(), shared.limits.clone());
        let options = LaneOptions {
            make_decoder: Box::new(move || make_decoder(&limits)),
            selection: self.selection,
            format: shared.output,
            max_waiting_bytes: shared.limits.max_waiting_bytes,
            clock: shared.clock.clone(),
        };
        shared.decode_on(Lane::new(engine.pool().clone(), options, output));
        let driver = Driver {
            shared: shared.clone(),
            inbox: inbox.clone(),
            machine: Machine::new(self.machine.clone()),
            provider: self.provider.clone(),
            fetch,
            reach: Reach::new(self.hosts.clone()),
            session_duration: self.machine.config.session_duration,
            decode_ahead: self.decode_ahead,
            demuxer: None,
            captures: Default::default(),
            rhythm: Default::default(),
            time_origin: TimeOrigin::Producer,
            bandwidth: None,
            loads: 0,
            loading: None,
            begun: None,
            sessions: Default::default(),
            told: String::new(),
        };
        let (running, ended) = sync_channel(0);
        let run = async move {
            driver.run().await;
            drop(running);
        };
        engine.spawn(run.instrument(spans::camera(&shared.camera_id)));
        Ok((ended, inbox))
    }
}
