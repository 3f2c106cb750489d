//! Does what the machine says: requests, demuxing, waiting. One task for each camera.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tracing::{Instrument, debug, info, warn};

use super::capture::{CaptureClock, Start};
use super::frame::{Frame, FrameMeta};
use super::machine::{Action, ConnectionState, Download, Input, Machine, Moment};
use super::reach::Reach;
use super::rhythm::{Rhythm, Span};
use super::shared::Shared;
use super::spans::{self, Sessions};
use crate::decode::{Job, LaneFrame, LaneOutput, LaneStep};
use crate::error::{Error, ErrorKind, Stage};
use crate::fmp4::{Demuxer, InitSegment};
use crate::gap::{Gap, GapCause};
use crate::h264::AccessUnit;
use crate::hls::{self, Identity, Segment};
use crate::net::{Fetch, Request, Response};
use crate::session::{Session, SessionProvider, SessionRequest, TimeOrigin};
use crate::time::Pts;

/// Where access units come from: shared by all frames of a segment.
#[derive(Debug)]
pub(super) struct Origin {
    segment: Segment,
    generation: u32,
    start: Start,
    /// A hole before the segment that only its times tell of; for the first frame of it to report.
    hole: AtomicBool,
    span: tracing::Span,
}

/// The segment under way.
#[derive(Debug)]
pub(super) struct Loading {
    segment: Segment,
    generation: u32,
    requested_at: Instant,
    task: AbortHandle,
    /// What has come of it so far, the newest only.
    beginnings: mpsc::Receiver<Bytes>,
    /// Whether the lane has anything of it from this request.
    is_in_lane: bool,
    span: tracing::Span,
}

/// A segment of which the lane has the first access units. It outlives a request that breaks off: the next one for the same
/// segment goes on behind them.
#[derive(Debug)]
pub(super) struct Begun {
    origin: Arc<Origin>,
    count: usize,
    /// The last of them.
    last: AccessUnit,
}

impl Begun {
    fn is_of(&self, segment: &Segment, generation: u32) -> bool {
        match (Identity::of(&self.origin.segment), Identity::of(segment)) {
            (Some(own), Some(other)) => own == other,
            _ => self.origin.generation == generation && self.origin.segment.sequence == segment.sequence,
        }
    }

    /// Whether a segment's access units begin with those that the lane has.
    fn fits(&self, units: &[AccessUnit]) -> bool {
        let last = self.count.checked_sub(1).and_then(|index| units.get(index));
        last.is_some_and(|unit| unit.dts() == self.last.dts() && unit.data() == self.last.data())
    }
}

/// Requests that came to an end.
enum Done {
    Opened(Result<Session, Error>),
    Playlist { generation: u32, requested_at: Instant, result: Result<Response, Error> },
    Init(Result<Response, Error>),
    Segment { load: u64, result: Result<Response, Error> },
}

/// Tries that follow one another so soon are one story in the log, unless they fail in different ways.
const QUICK: Duration = Duration::from_secs(2);

/// What the lane has to tell the driver.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    inputs: Mutex<VecDeque<Input>>,
    notify: Notify,
}

impl Inbox {
    pub(super) fn put(&self, input: Input) {
        let mut inputs = self.inputs.lock().unwrap_or_else(PoisonError::into_inner);
        // Frames are news only to somebody who has seen the one before.
        if !(matches!(input, Input::Frame) && matches!(inputs.back(), Some(Input::Frame))) {
            inputs.push_back(input);
        }
        drop(inputs);
        self.notify.notify_one();
    }

    fn take(&self) -> Option<Input> {
        self.inputs.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// Turns the lane's pictures into frames.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) shared: Arc<Shared>,
    pub(super) inbox: Arc<Inbox>,
    /// Capture time of the last frame, for the span of a gap.
    pub(super) last: Mutex<Option<std::time::SystemTime>>,
    /// A hole before a segment that gave no frame to report it.
    pub(super) hole: AtomicBool,
}

impl Output {
    fn frame(&self, frame: LaneFrame<Arc<Origin>>) -> Frame {
        let origin = &*frame.origin;
        let captured_at = origin.start.captured_at(frame.pts);
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).replace(captured_at);
        let span = last.and_then(|last| captured_at.duration_since(last).ok());
        let is_hole = origin.hole.swap(false, Ordering::Relaxed) | self.hole.swap(false, Ordering::Relaxed);
        let hole = is_hole.then_some(Gap::of_segments(GapCause::NotRecorded, 0));
        let gap_before = frame.gap_before.or(hole).map(|gap| Gap { span, ..gap });
        Frame {
            pixels: frame.pixels,
            width: frame.width,
            height: frame.height,
            format: self.shared.output.format(),
            meta: FrameMeta {
                pts: frame.pts,
                captured_at,
                time_origin: origin.start.origin,
                source_size: frame.source_size,
                sample_aspect_ratio: frame.sample_aspect_ratio,
                is_keyframe: frame.is_keyframe,
                fragment_number: origin.segment.fragment_number.clone(),
                media_sequence: origin.segment.sequence,
                discontinuity_sequence: origin.segment.discontinuity_sequence,
                session_generation: origin.generation,
                gap_before,
                resolution_changed: frame.resolution_changed,
                is_synthetic: false,
            },
        }
    }
}

impl LaneOutput<Arc<Origin>> for Output {
    fn has_room(&self) -> bool {
        self.shared.queue.has_room()
    }

    fn step(&self, step: LaneStep<Arc<Origin>>) {
        match step {
            LaneStep::Frame(frame) => {
                let frame = self.frame(frame);
                if let Some(gap) = &frame.meta.gap_before {
                    self.shared.metrics.count_gap(gap);
                }
                self.shared.queue.push(frame, self.shared.clock.now());
                self.inbox.put(Input::Frame);
            }
            LaneStep::Failed(error) => self.inbox.put(Input::DecodeFailed(error)),
            LaneStep::SegmentDone(origin) => {
                self.hole.fetch_or(origin.hole.swap(false, Ordering::Relaxed), Ordering::Relaxed);
                self.inbox.put(Input::SegmentDecoded);
            }
            LaneStep::Drained(gap) => {
                if let Some(gap) = gap {
                    self.shared.metrics.count_gap(&gap);
                }
                self.inbox.put(Input::Drained);
            }
        }
    }

    fn span(&self, origin: &Arc<Origin>) -> tracing::Span {
        origin.span.clone()
    }

    fn decoded_in(&self, time: Duration) {
        self.shared.metrics.decode_seconds.observe(time.as_secs_f64());
    }
}

/// The task of one camera.
pub(super) struct Driver {
    pub(super) shared: Arc<Shared>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) machine: Machine,
    pub(super) provider: Arc<dyn SessionProvider>,
    pub(super) fetch: Arc<dyn Fetch>,
    pub(super) reach: Reach,
    pub(super) session_duration: Duration,
    /// Groups of pictures of an archive that are decoded at once.
    pub(super) decode_ahead: usize,
    pub(super) demuxer: Option<Demuxer>,
    pub(super) captures: CaptureClock,
    pub(super) rhythm: Rhythm,
    pub(super) time_origin: TimeOrigin,
    /// Smoothed bits a second of segment downloads.
    pub(super) bandwidth: Option<f64>,
    /// Counts the segments asked for.
    pub(super) loads: u64,
    pub(super) loading: Option<Loading>,
    pub(super) begun: Option<Begun>,
    pub(super) sessions: Sessions,
    /// The error that was last logged.
    pub(super) told: String,
}

impl Driver {
    /// Runs until the machine stops or the source is.
    pub(super) async fn run(mut self) {
        let mut tasks = JoinSet::new();
        let mut actions = Vec::new();
        let mut input = Input::Tick;
        loop {
            let (now, wall) = (self.shared.clock.now(), self.shared.clock.wall());
            self.machine.handle(input, Moment { now, wall, chance: fastrand::f64() }, &mut actions);
            for action in actions.drain(..) {
                if self.act(action, &mut tasks) {
                    return;
                }
            }
            input = match self.next(&mut tasks).await {
                Some(input) => input,
                None => return,
            };
        }
    }

    /// Waits for something to happen; `None` when the source is stopped.
    async fn next(&mut self, tasks: &mut JoinSet<Done>) -> Option<Input> {
        loop {
            if let Some(input) = self.inbox.take() {
                return Some(input);
            }
            let now = self.shared.clock.now();
            let (pruned, superseded) = self.shared.queue.prune(now);
            if superseded > 0 {
                self.shared.metrics.frames_superseded.inc_by(superseded);
                self.shared.schedule();
            }
            let deadline = self.machine.deadline();
            let wake_at = [deadline, pruned].into_iter().flatten().min();
            let wait = wake_at.map_or(Duration::from_secs(3600), |time| time.saturating_duration_since(now));
            tokio::select! {
                () = self.shared.stop.notified() => return None,
                () = self.inbox.notify.notified() => {}
                Some(done) = tasks.join_next() => match done {
                    Ok(Done::Segment { load, .. }) if load != self.loads => {} // given up meanwhile
                    Ok(done) => return Some(self.done(done)),
                    Err(error) if error.is_cancelled() => {}
                    Err(error) => return Some(Input::DecodeFailed(
                        Error::new(ErrorKind::Stopped, "task that panicked; please report this").with_source(error))),
                },
                Some(bytes) = newest(&mut self.loading) => self.begin(bytes),
                () = self.shared.clock.sleep(wait) => if deadline.is_some_and(|time| time <= self.shared.clock.now()) {
                    return Some(Input::Tick);
                },
            }
        }
    }

    /// Starts what an action asks for; true when it was the last.
    fn act(&mut self, action: Action, tasks: &mut JoinSet<Done>) -> bool {
        let requested_at = self.shared.clock.now();
        let limits = &self.shared.limits;
        match action {
            Action::OpenSession { resume_from } => {
                let provider = self.provider.clone();
                let request = SessionRequest { duration: self.session_duration, resume_from };
                tasks.spawn(async move { Done::Opened(provider.open(request).await) }.in_current_span());
            }
            Action::LoadPlaylist { url, generation } => {
                let request = Request::playlist(url, limits).hosts(self.reach.hosts());
                let fetch = self.fetch.clone();
                let loaded =
                    async move { Done::Playlist { generation, requested_at, result: fetch.fetch(request).await } };
                tasks.spawn(loaded.instrument(self.sessions.get(generation)));
            }
            Action::LoadInit(init) => {
                let request =
                    Request::init(init.url.clone(), limits).hosts(self.reach.hosts()).range(init.byte_range.map(range));
                let fetch = self.fetch.clone();
                tasks.spawn(async move { Done::Init(fetch.fetch(request).await) }.in_current_span());
            }
            Action::LoadSegment { segment, generation, may_be_abandoned } => {
                let request = Request::segment(segment.url.clone(), limits)
                    .hosts(self.reach.hosts())
                    .range(segment.byte_range.map(range));
                let fetch = self.fetch.clone();
                let is_whole = may_be_abandoned || self.shared.needs_whole_segments();
                self.begun = self.begun.take().filter(|begun| begun.is_of(&segment, generation));
                self.loads += 1;
                let load = self.loads;
                let (sender, beginnings) = mpsc::channel(1);
                let span = spans::segment(&self.sessions.get(generation), &segment);
                let loaded = async move {
                    let mut look = |bytes: &[u8]| {
                        if let Ok(place) = sender.try_reserve() {
                            place.send(Bytes::copy_from_slice(bytes));
                        }
                    };
                    let result = match is_whole {
                        true => fetch.fetch(request).await,
                        false => fetch.fetch_watched(request, &mut look).await,
                    };
                    Done::Segment { load, result }
                };
                let task = tasks.spawn(loaded.instrument(span.clone()));
                let is_in_lane = false;
                self.loading = Some(Loading { segment, generation, requested_at, task, beginnings, is_in_lane, span });
            }
            Action::AbandonSegment => {
                self.loads += 1;
                if let Some(loading) = self.loading.take() {
                    loading.task.abort();
                }
            }
            Action::Break(gap) => {
                debug!(cause = %gap.cause, segments = gap.segments, "gap in the stream");
                self.shared.give(Job::Break(gap));
            }
            Action::Drain => self.shared.give(Job::Drain),
            Action::DecodeAhead => {
                if let Some(lane) = self.shared.lane() {
                    lane.widen(self.decode_ahead);
                }
            }
            Action::State(state) => {
                info!(%state, "state");
                if state == ConnectionState::Connected {
                    self.told.clear();
                }
                self.shared.set_state(state);
            }
            Action::Recovering { error, recovery, retry_in } => {
                let text = format!("{error:?}");
                let is_told = text == self.told && retry_in.is_some_and(|delay| delay < QUICK);
                match is_told {
                    true => debug!(?error, ?recovery, retry_in = wait(retry_in), "recovering"),
                    false => warn!(?error, ?recovery, retry_in = wait(retry_in), "recovering"),
                }
                self.told = text;
                self.shared.recovering(&error);
            }
            Action::RefreshFailed { error, retry_in } => {
                warn!(?error, retry_in = wait(Some(retry_in)), "session not replaced yet");
                self.shared.metrics.url_refresh_failures.inc();
                self.shared.recovering(&error);
            }
            Action::Waiting { error, retry_in } => {
                info!(reason = ?error, retry_in = wait(Some(retry_in)), "camera is silent");
                self.shared.note(&error);
            }
            Action::Silent(since) => self.shared.set_silent(since),
            Action::Began { generation, time_origin, is_refresh } => {
                self.sessions.began(generation).in_scope(|| info!(is_refresh, "session began"));
                self.time_origin = time_origin;
                self.shared.session_began(is_refresh);
            }
            Action::Switched { bandwidth } => {
                info!(bandwidth, "variant switched");
                self.shared.metrics.variant_switches.inc();
            }
            Action::Stop(result) => {
                self.shared.finish(result.err());
                return true;
            }
        }
        false
    }

    fn done(&mut self, done: Done) -> Input {
        match done {
            Done::Opened(result) => Input::Opened(result.inspect(|session| self.reach.opened(session))),
            Done::Playlist { generation, requested_at, result } => {
                let result = result.and_then(|response| {
                    self.shared.metrics.bytes.inc_by(response.body.len() as u64);
                    Ok(hls::parse(&response.body, &response.url, &self.shared.limits)?)
                });
                Input::Playlist { generation, requested_at, result }
            }
            Done::Init(result) => Input::Init(result.and_then(|response| {
                self.shared.metrics.bytes.inc_by(response.body.len() as u64);
                let init = InitSegment::parse(&response.body, &self.shared.limits)?;
                self.demuxer = Some(Demuxer::new(init, self.shared.limits.clone()));
                Ok(())
            })),
            Done::Segment { result, .. } => self.loaded(result),
        }
    }

    /// The segment under way came, or broke off.
    fn loaded(&mut self, result: Result<Response, Error>) -> Input {
        let Some(loading) = self.loading.take() else {
            return Input::Segment { result: result.map(drop), is_in_lane: false, download: None };
        };
        match result {
            Ok(response) => {
                let _entered = loading.span.clone().entered();
                let download = self.measure(response.body.len(), loading.requested_at);
                debug!(bytes = download.bytes, elapsed = ?download.elapsed, "segment loaded");
                let (result, is_in_lane) = self.demux(loading, response);
                Input::Segment { result, is_in_lane, download: Some(download) }
            }
            Err(error) => {
                if let Some(begun) = self.begun.as_ref().filter(|_| loading.is_in_lane) {
                    // No more comes of this request: when the lane is through with what came, it has to say so.
                    self.shared.give(Job::Units(Vec::new(), begun.origin.clone()));
                }
                Input::Segment { result: Err(error), is_in_lane: loading.is_in_lane, download: None }
            }
        }
    }

    fn measure(&mut self, bytes: usize, requested_at: Instant) -> Download {
        let elapsed = self.shared.clock.now().saturating_duration_since(requested_at);
        let seconds = elapsed.as_secs_f64();
        let metrics = &self.shared.metrics;
        metrics.segments.inc();
        metrics.bytes.inc_by(bytes as u64);
        metrics.segment_seconds.observe(seconds);
        let rate = bytes as f64 * 8.0 / seconds.max(1e-6);
        let smoothed = self.bandwidth.map_or(rate, |before| before + 0.3 * (rate - before));
        self.bandwidth = Some(smoothed);
        metrics.bandwidth.set(smoothed);
        Download { bytes, elapsed }
    }

    /// Gives the lane what can be displayed of a segment that is still coming.
    fn begin(&mut self, bytes: Bytes) {
        let Some(loading) = self.loading.as_mut().filter(|_| !self.shared.needs_whole_segments()) else { return };
        let prefix = match &self.demuxer {
            Some(demuxer) => demuxer.peek(bytes),
            None => InitSegment::parse(&bytes, &self.shared.limits)
                .and_then(|init| Demuxer::new(init, self.shared.limits.clone()).peek(bytes)),
        };
        // What cannot be read now may be read when more of it is there.
        let Ok(prefix) = prefix else { return };
        let Some(times) = Times::of(prefix.times()) else { return };
        let (origin, known) = match &self.begun {
            Some(begun) if begun.fits(prefix.units()) => (Some(begun.origin.clone()), begun.count),
            Some(_) => return,
            None => (None, 0),
        };
        let units = prefix.units().get(known..prefix.closed()).unwrap_or_default();
        // The lane may hold them for longer than this beginning is of use.
        let units: Vec<_> = units.iter().map(AccessUnit::detached).collect();
        let (Some(last), Some(interval)) = (units.last().cloned(), times.interval) else { return };
        let (segment, generation, span) = (loading.segment.clone(), loading.generation, loading.span.clone());
        loading.is_in_lane = true;
        let origin = origin.unwrap_or_else(|| self.place(segment, generation, span, &times, times.last, interval));
        self.begun = Some(Begun { origin: origin.clone(), count: known + units.len(), last });
        self.shared.give(Job::Part(units, origin));
    }

    /// Cuts a segment into access units for the lane, and says whether it got any.
    fn demux(&mut self, loading: Loading, response: Response) -> (Result<(), Error>, bool) {
        let mut units = Vec::new();
        let result = match &mut self.demuxer {
            Some(demuxer) => demuxer.push(response.body, &mut units),
            // No EXT-X-MAP: the segment may bring its own header.
            None => InitSegment::parse(&response.body, &self.shared.limits).and_then(|init| {
                let mut demuxer = Demuxer::new(init, self.shared.limits.clone());
                let result = demuxer.push(response.body, &mut units);
                self.demuxer = Some(demuxer);
                result
            }),
        };
        let result = result.map_err(|error| Error::from(error).at(Stage::Segment));
        let times = Times::of(units.iter().map(AccessUnit::pts)).map(|times| {
            let (end, interval) = (end_of(&units, times.last), times.interval.unwrap_or(loading.segment.duration));
            (times, end, interval)
        });
        let origin = match (self.begun.take(), times) {
            (Some(begun), times) => {
                if let Some((times, end, interval)) = times {
                    self.rhythm.complete(times.span(&begun.origin.start, end, interval));
                }
                if !begun.fits(&units) {
                    // Loaded again it is another one, to which the pictures decoded so far say nothing.
                    self.shared.give(Job::Break(Gap::of_segments(GapCause::Damaged, 0)));
                }
                units.drain(..begun.count.min(units.len()));
                begun.origin
            }
            (None, Some((times, end, interval))) => {
                self.place(loading.segment, loading.generation, loading.span, &times, end, interval)
            }
            (None, None) => return (result, false),
        };
        self.shared.give(Job::Units(units, origin));
        (result, true)
    }

    /// Finds a segment's place in time, once for each.
    fn place(
        &mut self,
        segment: Segment,
        generation: u32,
        span: tracing::Span,
        times: &Times,
        end: Pts,
        interval: Duration,
    ) -> Arc<Origin> {
        let arrived = self.shared.clock.wall();
        let start = self.captures.start(&segment, self.time_origin, times.first, times.last, arrived);
        let hole = self.rhythm.has_hole(times.span(&start, end, interval)) && start.origin != TimeOrigin::Arrival;
        Arc::new(Origin { segment, generation, start, hole: hole.into(), span })
    }
}

/// The newest of what has come of a segment, when there is more than before.
async fn newest(loading: &mut Option<Loading>) -> Option<Bytes> {
    loading.as_mut()?.beginnings.recv().await
}

/// The presentation times of a segment.
struct Times {
    first: Pts,
    last: Pts,
    /// The longest time from one picture to the next; `None` where there is one only.
    interval: Option<Duration>,
}

impl Times {
    fn of(times: impl Iterator<Item = Pts>) -> Option<Self> {
        let mut times: Vec<_> = times.collect();
        times.sort_unstable_by_key(|pts| pts.as_nanos());
        let steps = times.iter().zip(times.iter().skip(1)).map(|(one, next)| next.as_nanos() - one.as_nanos());
        let interval = steps.max().and_then(|nanos| u64::try_from(nanos).ok()).map(Duration::from_nanos);
        Some(Self { first: *times.first()?, last: *times.last()?, interval })
    }

    fn span(&self, start: &Start, end: Pts, interval: Duration) -> Span {
        Span { first: start.captured_at(self.first), end: start.captured_at(end), interval }
    }
}

/// Where the last picture ends, as far as the container tells.
fn end_of(units: &[AccessUnit], last: Pts) -> Pts {
    let duration = units.iter().find(|unit| unit.pts() == last).map_or(0, AccessUnit::duration_ticks);
    Pts::new(last.ticks().saturating_add(duration.into()), last.timescale())
}

fn range(bytes: hls::ByteRange) -> std::ops::Range<u64> {
    bytes.offset..bytes.offset.saturating_add(bytes.length)
}

/// A delay for people: `1.2s`.
fn wait(delay: Option<Duration>) -> Option<String> {
    delay.map(|delay| format!("{:.1}s", delay.as_secs_f64()))
}
