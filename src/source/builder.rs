//! Putting a source together.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use prometheus::Registry;
use tokio::runtime;

use super::delivery::Queue;
use super::driver::{Driver, Inbox, Output as LaneSide};
use super::machine::{Machine, MachineOptions};
use super::options::{Config, Delivery, GapFill, Pacing};
use super::shared::Shared;
use super::{FrameSource, SHUTDOWN};
use crate::clock::{Clock, SystemClock};
use crate::decode::{DecodePool, Decoder, FrameSelection, Lane, Openh264Decoder, Output};
use crate::error::{Error, ErrorKind};
use crate::hls::{LiveEdge, ReloadPolicy, VariantCaps, VariantChoice};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::net::{Fetch, HttpClient};
use crate::session::{SessionProvider, TimeOrigin};

type MakeDecoder = Arc<dyn Fn(&Limits) -> Box<dyn Decoder> + Send + Sync>;

const MAX_BUFFER_FRAMES: usize = 1000;

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
    selection: FrameSelection,
    output: Output,
    live_edge: LiveEdge,
    reload: Option<ReloadPolicy>,
    caps: VariantCaps,
    variant: VariantChoice,
    limits: Limits,
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
            selection: FrameSelection::default(),
            output: Output::default(),
            live_edge: LiveEdge::default(),
            reload: None,
            caps: VariantCaps::default(),
            variant: VariantChoice::default(),
            limits: Limits::default(),
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

    /// Checks the options. Nothing is started yet.
    ///
    /// # Errors
    /// `Config` with the option's name, its value and what is allowed.
    pub fn build(self) -> Result<FrameSource, Error> {
        self.config.check()?;
        self.provider.check()?;
        self.selection.checked()?;
        if !(1..=MAX_BUFFER_FRAMES).contains(&self.buffer_frames) {
            let context = format!("buffer_frames of {} (1 to {MAX_BUFFER_FRAMES} is allowed)", self.buffer_frames);
            return Err(Error::new(ErrorKind::Config, context));
        }
        if self.camera_id.is_empty() || self.camera_id.contains('\0') {
            return Err(Error::new(
                ErrorKind::Config,
                "camera_id that is empty or holds a NUL (any other text is allowed)",
            ));
        }
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
            is_renewable: self.provider.is_renewable(),
        };
        let plan = Plan {
            shared: Arc::new(shared),
            provider: self.provider,
            fetch: self.fetch,
            decoder: self.decoder,
            selection: self.selection,
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
    decoder: MakeDecoder,
    selection: FrameSelection,
    machine: MachineOptions,
    pub(super) healthy_within: Duration,
}

impl Plan {
    pub(super) fn start(&self) -> Result<(JoinHandle<()>, Arc<Inbox>), Error> {
        let shared = &self.shared;
        let no_thread =
            |error: std::io::Error| Error::new(ErrorKind::Decoder, "thread that cannot be started").with_source(error);
        let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(no_thread)?;
        let fetch = match &self.fetch {
            Some(fetch) => fetch.clone(),
            None => Arc::new(HttpClient::new()?),
        };
        let inbox = Arc::<Inbox>::default();
        let output =
            LaneSide { shared: shared.clone(), inbox: inbox.clone(), last: Mutex::default(), hole: false.into() };
        let decoder = (self.decoder)(&shared.limits);
        let lane = Lane::new(decoder, self.selection, shared.output, Arc::new(output), shared.clock.clone());
        let pool = DecodePool::start(1, &shared.camera_id).map_err(no_thread)?;
        shared.decode_on(Arc::new(pool), Arc::new(lane));
        let driver = Driver {
            shared: shared.clone(),
            inbox: inbox.clone(),
            machine: Machine::new(self.machine.clone()),
            provider: self.provider.clone(),
            fetch,
            session_duration: self.machine.config.session_duration,
            demuxer: None,
            captures: Default::default(),
            rhythm: Default::default(),
            time_origin: TimeOrigin::Producer,
            bandwidth: None,
            loading: (0, None),
        };
        let thread = Builder::new().name(format!("source {}", shared.camera_id)).spawn(move || {
            runtime.block_on(driver.run());
            runtime.shutdown_timeout(SHUTDOWN);
        });
        Ok((thread.map_err(no_thread)?, inbox))
    }
}
