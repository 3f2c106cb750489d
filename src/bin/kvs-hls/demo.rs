//! `demo`: reads a simulated camera live through the AWS SDK, as any client would, and checks every frame.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use kvs_hls::net::BoxFuture;
use kvs_hls::sim::{Recording, SimulatedCamera};
use kvs_hls::{
    ConnectionState, Error, Frame, FrameSource, Frames, KinesisSession, Output, Pacing, Session, SessionProvider,
    SessionRequest, Stats,
};
use prometheus::Registry;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use crate::args::DemoArgs;
use crate::check::{Check, Expected};
use crate::display::{REDRAW_EVERY, Screen, Style, bar, bit_rate, count};
use crate::failure::Failure;
use crate::serve;
use crate::stop::Stop;
use crate::summary::{End, Summary, Tally};
use crate::view::{View, Views};
use crate::write;

/// How long the simulated sessions last: short enough to see one replaced every few seconds.
const SESSION: Duration = Duration::from_secs(12);
/// Between two lines where nothing can be drawn over.
const PLAIN_EVERY: Duration = Duration::from_secs(3);
const BAR_WIDTH: usize = 30;

/// Sessions that the camera ends sooner than the service lets anybody ask for.
#[derive(Debug)]
struct ShortSessions(KinesisSession);

impl ShortSessions {
    fn of(camera: &SimulatedCamera) -> Self {
        // The camera takes any credentials.
        let credentials = Credentials::new("simulated", "simulated", None, None, "demo");
        let config = SdkConfig::builder()
            .region(Region::new("us-east-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .build();
        Self(KinesisSession::live(camera.stream_name()).sdk_config(&config).endpoint_url(camera.endpoint_url()))
    }
}

impl SessionProvider for ShortSessions {
    fn open(&self, request: SessionRequest) -> BoxFuture<'_, Result<Session, Error>> {
        let expires_at = SystemTime::now() + SESSION;
        Box::pin(async move { Ok(self.0.open(request).await?.expires_at(expires_at)) })
    }
}

pub async fn run(args: DemoArgs) -> Result<(), Failure> {
    let mut demo = Demo::start(&args).await?;
    serve::start(&args.serving, &demo.registry, &demo.views).await?;
    let mut summary = args.summary_json.as_deref().map(Summary::open).transpose()?;
    let mut snapshot = None;
    let screen = Screen::of_stderr();
    let mut frames = demo.source.start()?;
    let result = demo.read(&mut frames, &args, screen, &mut snapshot).await;
    if let Some(screen) = screen {
        screen.draw(&demo.lines(&args, Style::of_stderr()));
    }
    // Before the camera ends: a client that still asks would hold it up.
    demo.source.stop();
    let end = match &result {
        Ok(end) => *end,
        Err(_) => End::Error,
    };
    let stats = demo.source.stats();
    let failure = match result {
        Err(error) => Some(Failure::Library(error)),
        Ok(_) => demo.verdict(&stats).map(Failure::Check),
    };
    eprintln!("{}", demo.tally.text(&stats, end, None));
    if let (Some(path), Some(frame)) = (&args.snapshot, &snapshot) {
        write::save_png(frame, path).map_err(|error| Failure::unwritable(path, error))?;
        eprintln!("picture saved to {}", path.display());
    }
    if let Some(summary) = &mut summary {
        summary.save(&demo.json(&stats, end, failure.is_none()))?;
    }
    match failure {
        Some(failure) => Err(failure),
        None => {
            eprintln!("every frame came once, in order and in time");
            Ok(())
        }
    }
}

/// A camera, what reads it, and what was seen so far.
struct Demo {
    camera: SimulatedCamera,
    source: Arc<FrameSource>,
    view: Arc<View>,
    views: Views,
    registry: Registry,
    tally: Tally,
    check: Check,
    is_painted: bool,
    /// When the last frames arrived, for the present rate.
    arrivals: std::collections::VecDeque<Instant>,
}

/// The present rate is that of so much time: more than the burst of a segment.
const RATE_OVER: Duration = Duration::from_secs(10);

impl Demo {
    async fn start(args: &DemoArgs) -> Result<Self, Failure> {
        let is_painted = args.video.is_none();
        let recording = match &args.video {
            Some(path) => Recording::open(path)?,
            None => Recording::demo(),
        };
        let frames = recording.samples() as u64;
        let step = recording.duration().div_f64(frames.max(1) as f64);
        let camera = SimulatedCamera::builder().recording(recording).session_lifetime(SESSION).start().await?;
        let (registry, views) = (Registry::new(), Views::default());
        // Who looks sees the rhythm of capture instead of a burst for each segment.
        let pacing = if args.serving.preview.is_some() { Pacing::ByTime } else { Pacing::AsDecoded };
        let source = FrameSource::builder("simulated-camera", ShortSessions::of(&camera)).registry(&registry);
        let source = Arc::new(source.output(Output::bgr()).pacing(pacing).build()?);
        Ok(Self {
            camera,
            view: views.add(&source),
            source,
            views,
            registry,
            tally: Tally::start(),
            check: Check::new(is_painted.then_some(Expected { frames, step })),
            is_painted,
            arrivals: std::collections::VecDeque::new(),
        })
    }

    async fn read(
        &mut self,
        frames: &mut Frames,
        args: &DemoArgs,
        screen: Option<Screen>,
        snapshot: &mut Option<Frame>,
    ) -> Result<End, Error> {
        let mut stop = Stop::listen();
        let style = Style::of_stderr();
        let deadline = Instant::now() + args.duration;
        let period = if screen.is_some() { REDRAW_EVERY } else { PLAIN_EVERY };
        let mut redraw = interval_at(Instant::now() + period, period);
        redraw.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = tokio::select! {
                biased;
                () = stop.requested() => return Ok(End::Signal),
                () = sleep_until(deadline) => return Ok(End::Duration),
                _ = redraw.tick() => {
                    match screen {
                        Some(screen) => screen.draw(&self.lines(args, style)),
                        None => eprintln!("{}", self.plain_line()),
                    }
                    continue;
                }
                next = frames.next() => next,
            };
            let Some(frame) = next.transpose()? else { return Ok(End::StreamEnded) };
            self.view.show(&frame);
            self.check.look(&frame);
            self.tally.add(&frame);
            let now = Instant::now();
            self.arrivals.push_back(now);
            while self.arrivals.front().is_some_and(|time| now.duration_since(*time) > RATE_OVER) {
                self.arrivals.pop_front();
            }
            if args.snapshot.is_some() {
                *snapshot = Some(frame);
            }
        }
    }

    /// What is wrong, in one line; `None` when all is well.
    fn verdict(&self, stats: &Stats) -> Option<String> {
        let defects = &self.check.defects;
        if self.tally.frames == 0 {
            Some("no frame came".into())
        } else if let Some(first) = &defects.first {
            let total = count(defects.total(), "defect");
            Some(format!("{total} in {}; the first: {first}", count(self.tally.frames, "frame")))
        } else if stats.gaps + stats.frames_lost + stats.segments_lost > 0 {
            Some(format!("{} reported, {} lost", count(stats.gaps, "gap"), count(stats.frames_lost, "frame")))
        } else {
            None
        }
    }

    /// Frames a second, as they arrived lately.
    fn present_rate(&self) -> f64 {
        let over = self.tally.elapsed().min(RATE_OVER).as_secs_f64();
        if over > 0.0 { self.arrivals.len() as f64 / over } else { 0.0 }
    }

    fn lines(&self, args: &DemoArgs, style: Style) -> Vec<String> {
        let stats = self.source.stats();
        let state = self.source.state();
        let recording = self.camera.timeline().recording();
        let row = |label: &str, text: String| format!("  {} {text}", style.dim(format!("{label:<11}")));
        let painted_state = match state {
            ConnectionState::Connected => style.good(state),
            ConnectionState::Error => style.bad(state),
            _ => state.to_string(),
        };
        let size = stats.size.map_or_else(String::new, |(width, height)| format!("  {width}x{height}"));
        let rate = self.tally.rate().map_or_else(String::new, |rate| format!("  filmed at {rate:.2} a second"));
        let video_rate = stats.bytes as f64 * 8.0 / self.tally.elapsed().as_secs_f64().max(1.0);
        let (total, passed) = (args.duration.as_secs_f64(), self.tally.elapsed().min(args.duration).as_secs_f64());
        vec![
            format!(
                "{}  {}x{}, {} fragments in a loop of {:.0} s",
                style.bold("simulated camera"),
                recording.width(),
                recording.height(),
                recording.fragments(),
                recording.duration().as_secs_f64()
            ),
            row("address", format!("http://{}", self.camera.address())),
            row("state", painted_state),
            row("sessions", sessions(&stats)),
            row("frames", format!("{}{size}{rate}", self.tally.frames)),
            row("rate", format!("{:.1} frames a second", self.present_rate())),
            row("latency", latency(&stats)),
            row("bandwidth", format!("{} of video, downloaded at {}", bit_rate(video_rate), bit_rate(stats.bandwidth))),
            row("gaps", format!("{}, {} lost", stats.gaps, count(stats.frames_lost, "frame"))),
            row("checks", self.checks(&stats, style)),
            format!("  {} {passed:.0} s of {total:.0} s", bar(passed / total, BAR_WIDTH)),
        ]
    }

    fn checks(&self, stats: &Stats, style: Style) -> String {
        let counter = match self.check.counter() {
            Some(counter) if self.is_painted => format!("  painted counter {counter}"),
            _ => String::new(),
        };
        let defects = self.check.defects.total();
        match defects.max(stats.gaps) {
            0 if self.tally.frames == 0 => "waiting for the first frame".into(),
            0 => format!("{}{counter}", style.good("none lost, repeated or out of order")),
            _ => style.bad(format!("{}, {}", count(defects, "defect"), count(stats.gaps, "gap"))),
        }
    }

    fn plain_line(&self) -> String {
        let stats = self.source.stats();
        format!(
            "{:.0} s: {}, {}, {:.1} a second, latency {}, {}, {} refreshed",
            self.tally.elapsed().as_secs_f64(),
            self.source.state(),
            count(self.tally.frames, "frame"),
            self.present_rate(),
            latency(&stats),
            count(stats.gaps, "gap"),
            count(stats.refreshes, "session")
        )
    }

    fn json(&self, stats: &Stats, end: End, is_ok: bool) -> serde_json::Value {
        let mut summary = self.tally.json(stats, end, None);
        let defects = &self.check.defects;
        summary["ok"] = is_ok.into();
        summary["checks"] = json!({
            "painted_counter": self.is_painted,
            "gaps": defects.gaps,
            "out_of_order": defects.out_of_order,
            "uneven": defects.uneven,
            "unreadable": defects.unreadable,
            "miscounted": defects.miscounted,
            "first_defect": defects.first,
        });
        summary
    }
}

/// How many there were, and how old the present one is.
fn sessions(stats: &Stats) -> String {
    let age = stats.session_age.unwrap_or_default().as_secs();
    format!("{} refreshed; the present one is {age} s old and would end after {} s", stats.refreshes, SESSION.as_secs())
}

fn latency(stats: &Stats) -> String {
    stats.latency.map_or_else(|| "unknown".into(), |latency| format!("{:.2} s", latency.as_secs_f64()))
}
