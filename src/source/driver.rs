//! Does what the machine says: requests, demuxing, waiting. One task for each camera.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tracing::{debug, info, warn};

use super::capture::{CaptureClock, Start};
use super::frame::{Frame, FrameMeta};
use super::machine::{Action, Download, Input, Machine, Moment};
use super::rhythm::{Rhythm, Span};
use super::shared::Shared;
use crate::decode::{Job, LaneFrame, LaneOutput, LaneStep};
use crate::error::{Error, ErrorKind, Stage};
use crate::fmp4::{Demuxer, InitSegment};
use crate::gap::{Gap, GapCause};
use crate::h264::AccessUnit;
use crate::hls::{self, Segment};
use crate::net::{Fetch, Request, Response};
use crate::session::{Session, SessionProvider, SessionRequest, TimeOrigin};
use crate::time::Pts;

/// From a request to the last byte of its answer.
const PLAYLIST_TIMEOUT: Duration = Duration::from_secs(20);
const SEGMENT_TIMEOUT: Duration = Duration::from_secs(60);

/// Where access units come from: shared by all frames of a segment.
#[derive(Debug)]
pub(super) struct Origin {
    segment: Segment,
    generation: u32,
    start: Start,
    /// A hole before the segment that only its times tell of; for the first frame of it to report.
    hole: AtomicBool,
}

/// Requests that came to an end.
enum Done {
    Opened(Result<Session, Error>),
    Playlist {
        generation: u32,
        requested_at: Instant,
        result: Result<Response, Error>,
    },
    Init(Result<Response, Error>),
    Segment {
        load: u64,
        segment: Box<Segment>,
        generation: u32,
        requested_at: Instant,
        result: Result<Response, Error>,
    },
}

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
    pub(super) session_duration: Duration,
    /// Groups of pictures of an archive that are decoded at once.
    pub(super) decode_ahead: usize,
    pub(super) demuxer: Option<Demuxer>,
    pub(super) captures: CaptureClock,
    pub(super) rhythm: Rhythm,
    pub(super) time_origin: TimeOrigin,
    /// Smoothed bits a second of segment downloads.
    pub(super) bandwidth: Option<f64>,
    /// The segment under way: its count, and how to end it.
    pub(super) loading: (u64, Option<AbortHandle>),
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
                    Ok(Done::Segment { load, .. }) if load != self.loading.0 => {} // given up meanwhile
                    Ok(done) => return Some(self.done(done)),
                    Err(error) if error.is_cancelled() => {}
                    Err(error) => return Some(Input::DecodeFailed(
                        Error::new(ErrorKind::Stopped, "task that panicked; please report this").with_source(error))),
                },
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
                tasks.spawn(async move { Done::Opened(provider.open(request).await) });
            }
            Action::LoadPlaylist { url, generation } => {
                let request = Request::new(url, "max_playlist_bytes", limits.max_playlist_bytes, PLAYLIST_TIMEOUT);
                let fetch = self.fetch.clone();
                tasks.spawn(
                    async move { Done::Playlist { generation, requested_at, result: fetch.fetch(request).await } },
                );
            }
            Action::LoadInit(init) => {
                let request = Request::new(init.url.clone(), "max_init_bytes", limits.max_init_bytes, PLAYLIST_TIMEOUT)
                    .range(init.byte_range.map(range));
                let fetch = self.fetch.clone();
                tasks.spawn(async move { Done::Init(fetch.fetch(request).await) });
            }
            Action::LoadSegment { segment, generation } => {
                let request =
                    Request::new(segment.url.clone(), "max_segment_bytes", limits.max_segment_bytes, SEGMENT_TIMEOUT)
                        .range(segment.byte_range.map(range));
                let fetch = self.fetch.clone();
                self.loading.0 += 1;
                let load = self.loading.0;
                self.loading.1 = Some(tasks.spawn(async move {
                    let result = fetch.fetch(request).await;
                    Done::Segment { load, segment: Box::new(segment), generation, requested_at, result }
                }));
            }
            Action::AbandonSegment => {
                self.loading.0 += 1;
                if let Some(task) = self.loading.1.take() {
                    task.abort();
                }
            }
            Action::Break(gap) => {
                debug!(camera = %self.shared.camera_id, cause = %gap.cause, segments = gap.segments, "gap in the stream");
                self.shared.give(Job::Break(gap));
            }
            Action::Drain => self.shared.give(Job::Drain),
            Action::DecodeAhead => {
                if let Some(lane) = self.shared.lane() {
                    lane.widen(self.decode_ahead);
                }
            }
            Action::State(state) => {
                info!(camera = %self.shared.camera_id, %state, "state");
                self.shared.set_state(state);
            }
            Action::Recovering { error, recovery, retry_in } => {
                warn!(camera = %self.shared.camera_id, error = %Chain(&error), ?recovery, ?retry_in, "recovering");
                self.shared.recovering(&error);
            }
            Action::Waiting { error, retry_in } => {
                info!(camera = %self.shared.camera_id, reason = %Chain(&error), ?retry_in, "camera is silent");
                self.shared.note(&error);
            }
            Action::Silent(is_silent) => self.shared.set_silent(is_silent),
            Action::Began { time_origin, is_refresh } => {
                info!(camera = %self.shared.camera_id, is_refresh, "session began");
                self.time_origin = time_origin;
                self.shared.session_began(is_refresh);
            }
            Action::Switched { bandwidth } => {
                info!(camera = %self.shared.camera_id, bandwidth, "variant switched");
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
            Done::Opened(result) => Input::Opened(result),
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
            Done::Segment { segment, generation, requested_at, result, .. } => match result {
                Ok(response) => {
                    let download = self.measure(response.body.len(), requested_at);
                    let (result, is_in_lane) = self.demux(*segment, generation, response);
                    Input::Segment { result, is_in_lane, download: Some(download) }
                }
                Err(error) => Input::Segment { result: Err(error), is_in_lane: false, download: None },
            },
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

    /// Cuts a segment into access units for the lane, and says whether there were any.
    fn demux(&mut self, segment: Segment, generation: u32, response: Response) -> (Result<(), Error>, bool) {
        let arrived = self.shared.clock.wall();
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
        let times = || units.iter().map(AccessUnit::pts);
        let (Some(first), Some(last)) =
            (times().min_by_key(|pts| pts.as_nanos()), times().max_by_key(|pts| pts.as_nanos()))
        else {
            return (result.map_err(Error::from), false);
        };
        let start = self.captures.start(&segment, self.time_origin, first, last, arrived);
        let span = Span {
            first: start.captured_at(first),
            end: start.captured_at(end_of(&units, last)),
            interval: longest_interval(&units).unwrap_or(segment.duration),
        };
        let hole = self.rhythm.has_hole(span) && start.origin != TimeOrigin::Arrival;
        let origin = Arc::new(Origin { segment, generation, start, hole: hole.into() });
        self.shared.give(Job::Units(units, origin));
        (result.map_err(|error| Error::from(error).at(Stage::Segment)), true)
    }
}

/// Where the last picture ends, as far as the container tells.
fn end_of(units: &[AccessUnit], last: Pts) -> Pts {
    let duration = units.iter().find(|unit| unit.pts() == last).map_or(0, AccessUnit::duration_ticks);
    Pts::new(last.ticks().saturating_add(duration.into()), last.timescale())
}

/// The longest time from one picture to the next.
fn longest_interval(units: &[AccessUnit]) -> Option<Duration> {
    let mut times: Vec<_> = units.iter().map(|unit| unit.pts().as_nanos()).collect();
    times.sort_unstable();
    let steps = times.iter().zip(times.iter().skip(1)).map(|(one, next)| next - one);
    steps.max().and_then(|nanos| u64::try_from(nanos).ok()).map(Duration::from_nanos)
}

fn range(bytes: hls::ByteRange) -> std::ops::Range<u64> {
    bytes.offset..bytes.offset.saturating_add(bytes.length)
}

/// An error with its causes, in one line.
pub(crate) struct Chain<'a>(pub(crate) &'a Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = std::error::Error::source(self.0);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
