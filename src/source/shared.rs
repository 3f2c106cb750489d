//! What the driver, the lane and the user's handles have in common.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;

use super::delivery::Queue;
use super::driver::Origin;
use super::frame::Frame;
use super::machine::ConnectionState;
use crate::clock::Clock;
use crate::decode::{Job, Lane, Output};
use crate::error::Error;
use crate::limits::Limits;
use crate::metrics::Metrics;

/// What a source has done so far, and how it is doing.
///
/// With the feature `serde` times are seconds.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Stats {
    /// Frames handed to the user.
    pub frames: u64,
    /// Gaps reported with frames, or at the end.
    pub gaps: u64,
    /// Frames known to be lost one by one.
    pub frames_lost: u64,
    /// Whole segments lost.
    pub segments_lost: u64,
    /// Frames that a newer one replaced before they were asked for ([`Delivery::Latest`](crate::Delivery::Latest)).
    pub frames_superseded: u64,
    /// Segments downloaded.
    pub segments: u64,
    /// Frames repeated while the connection was lost ([`GapFill::HoldLast`](crate::GapFill::HoldLast)).
    pub frames_synthetic: u64,
    /// Bytes downloaded.
    pub bytes: u64,
    /// Smoothed download rate of segments, bits a second.
    pub bandwidth: f64,
    /// Times another variant was switched to.
    pub variant_switches: u64,
    /// Times the stream was lost and opened again.
    pub reconnects: u64,
    /// Sessions opened to replace one before it expired.
    pub refreshes: u64,
    /// Sessions that were to replace one and could not be had or did not work; each was tried again.
    pub refresh_failures: u64,
    /// Requests, segments and pictures that failed.
    pub errors: u64,
    /// Age of the session that is read.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::options::seconds::some"))]
    pub session_age: Option<Duration>,
    /// How long the camera has been found silent; `None` while it sends.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::options::seconds::some"))]
    pub silent_for: Option<Duration>,
    /// Pictures decoded, also those that nobody wanted.
    pub decoded: u64,
    /// Time that decoding and converting them took, in all.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::options::seconds::serialize"))]
    pub decoding: Duration,
    /// Frames decoded and not yet taken.
    pub queued: usize,
    /// Width and height of the last frame handed out.
    pub size: Option<(usize, usize)>,
    /// How old the last frame was when it was handed out.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::options::seconds::some"))]
    pub latency: Option<Duration>,
    /// Time since the last frame was handed out.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::options::seconds::some"))]
    pub last_frame_age: Option<Duration>,
    /// The last failure that was recovered from, with its causes.
    pub last_error: Option<String>,
}

#[derive(Debug, Default)]
struct Latest {
    size: Option<(usize, usize)>,
    latency: Option<Duration>,
    taken_at: Option<Instant>,
    session_began: Option<Instant>,
    silent_since: Option<Instant>,
    error: Option<String>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) camera_id: String,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) limits: Limits,
    pub(super) output: Output,
    pub(super) queue: Queue,
    pub(super) metrics: Metrics,
    pub(super) stop: Notify,
    state: AtomicU8,
    latest: Mutex<Latest>,
    /// Its output points back here, so this is taken out at the end.
    lane: Mutex<Option<Arc<Lane<Arc<Origin>>>>>,
}

impl Shared {
    pub(super) fn new(
        camera_id: String,
        clock: Arc<dyn Clock>,
        limits: Limits,
        output: Output,
        queue: Queue,
        metrics: Metrics,
    ) -> Self {
        Self {
            camera_id,
            clock,
            limits,
            output,
            queue,
            metrics,
            stop: Notify::new(),
            state: AtomicU8::new(ConnectionState::Disconnected as u8),
            latest: Mutex::default(),
            lane: Mutex::default(),
        }
    }

    pub(super) fn decode_on(&self, lane: Arc<Lane<Arc<Origin>>>) {
        *lock(&self.lane) = Some(lane);
    }

    /// The lane, until the end.
    pub(super) fn lane(&self) -> Option<Arc<Lane<Arc<Origin>>>> {
        lock(&self.lane).clone()
    }

    /// Gives the lane a job.
    pub(super) fn give(&self, job: Job<Arc<Origin>>) {
        if let Some(lane) = self.lane() {
            lane.push(job);
        }
    }

    /// Whether segments are decoded whole only, because the stream's times are wrong.
    pub(super) fn needs_whole_segments(&self) -> bool {
        self.lane().is_some_and(|lane| lane.are_times_wrong())
    }

    /// Tells the lane that there is room for frames.
    pub(super) fn schedule(&self) {
        if let Some(lane) = self.lane() {
            lane.schedule();
        }
    }

    pub(super) fn set_state(&self, state: ConnectionState) {
        self.state.store(state as u8, Ordering::Relaxed);
        self.metrics.connection_state.set(state as i64);
        self.queue.interrupt(state == ConnectionState::Reconnecting);
    }

    pub(super) fn set_silent(&self, since: Option<Instant>) {
        self.metrics.camera_silent.set(since.is_some().into());
        lock(&self.latest).silent_since = since;
    }

    /// A session is read from now on, in place of one that worked or of one that was lost.
    pub(super) fn session_began(&self, is_refresh: bool) {
        let metrics = &self.metrics;
        if let Ok(time) = self.clock.wall().duration_since(SystemTime::UNIX_EPOCH) {
            metrics.session_start_timestamp.set(time.as_secs_f64());
        }
        let is_first = lock(&self.latest).session_began.replace(self.clock.now()).is_none();
        if is_refresh {
            metrics.url_refreshes.inc();
        } else if !is_first {
            metrics.reconnects.inc();
        }
    }

    /// Keeps the last failure for [`Stats`].
    pub(super) fn note(&self, error: &Error) {
        lock(&self.latest).error = Some(format!("{error:?}"));
    }

    pub(super) fn state(&self) -> ConnectionState {
        use ConnectionState::{Connected, Connecting, Disconnected, Error, Reconnecting};
        let state = self.state.load(Ordering::Relaxed);
        [Disconnected, Connecting, Connected, Reconnecting]
            .into_iter()
            .find(|known| *known as u8 == state)
            .unwrap_or(Error)
    }

    pub(super) fn recovering(&self, error: &Error) {
        self.metrics.read_errors.inc();
        self.note(error);
    }

    /// The driver's last word.
    pub(super) fn finish(&self, error: Option<Error>) {
        if let Some(error) = &error {
            self.recovering(error);
        }
        self.queue.end(error);
    }

    /// Counts a frame that goes to the user, and lets the lane make another one.
    pub(super) fn taken(&self, frame: &Frame) {
        if frame.meta.is_synthetic {
            return self.metrics.frames_synthetic.inc();
        }
        // Who holds the first frame should not be told that none has come yet: the driver is about to say the same.
        if self.state() == ConnectionState::Connecting {
            self.set_state(ConnectionState::Connected);
        }
        let latency = self.clock.wall().duration_since(frame.captured_at()).ok();
        let metrics = &self.metrics;
        metrics.frames.inc();
        metrics.queue_frames.set(i64::try_from(self.queue.len()).unwrap_or(i64::MAX));
        if let Ok(time) = frame.captured_at().duration_since(SystemTime::UNIX_EPOCH) {
            metrics.last_frame_timestamp.set(time.as_secs_f64());
        }
        if let Some(latency) = latency {
            metrics.latency_seconds.observe(latency.as_secs_f64());
        }
        let mut latest = lock(&self.latest);
        latest.size = Some((frame.width(), frame.height()));
        latest.latency = latency;
        latest.taken_at = Some(self.clock.now());
        drop(latest);
        self.schedule();
    }

    pub(super) fn last_frame_age(&self) -> Option<Duration> {
        lock(&self.latest).taken_at.map(|time| self.clock.now().saturating_duration_since(time))
    }

    pub(super) fn stats(&self) -> Stats {
        let metrics = &self.metrics;
        let latest = lock(&self.latest);
        let since = |time: Option<Instant>| Some(self.clock.now().saturating_duration_since(time?));
        Stats {
            frames: metrics.frames.get(),
            gaps: metrics.gaps(),
            frames_lost: metrics.frames_lost(),
            segments_lost: metrics.segments_lost(),
            frames_superseded: metrics.frames_superseded.get(),
            segments: metrics.segments.get(),
            frames_synthetic: metrics.frames_synthetic.get(),
            bytes: metrics.bytes.get(),
            bandwidth: metrics.bandwidth.get(),
            variant_switches: metrics.variant_switches.get(),
            reconnects: metrics.reconnects.get(),
            refreshes: metrics.url_refreshes.get(),
            refresh_failures: metrics.url_refresh_failures.get(),
            errors: metrics.read_errors.get(),
            session_age: since(latest.session_began),
            silent_for: since(latest.silent_since),
            decoded: metrics.decode_seconds.get_sample_count(),
            decoding: Duration::try_from_secs_f64(metrics.decode_seconds.get_sample_sum()).unwrap_or_default(),
            queued: self.queue.len(),
            size: latest.size,
            latency: latest.latency,
            last_frame_age: since(latest.taken_at),
            last_error: latest.error.clone(),
        }
    }

    /// Ends the lane.
    pub(super) fn close(&self, error: Option<Error>) {
        self.queue.cancel(error);
        let lane = lock(&self.lane).take();
        drop(lane); // outside the lock: its threads may be waiting for it
        if self.state() != ConnectionState::Error {
            self.set_state(ConnectionState::Disconnected);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
