//! What people and probes see of a camera while it is read: its last picture, how it is doing, and what happened.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use kvs_hls::{ConnectionState, Frame, FrameSource, GapCause, Stats};
use serde_json::{Value, json};

use crate::display::count;
use crate::preview::Encoded;

/// How often cameras are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Points of the plots: five minutes.
const MAX_SAMPLES: usize = 300;
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
const MAX_EVENTS: usize = 200;
/// The rate of frames is that of so much time: more than the burst of a segment.
const RATE_OVER: Duration = Duration::from_secs(10);
/// So many seconds older than usual, and a tenth, and a picture is called old.
const PATIENCE: f64 = 0.2;
/// Seconds overdue that are told among the events.
const WORTH_A_LINE: f64 = 1.0;
/// How long the second frame may take, in seconds.
const FIRST_PAUSE: f64 = 4.0;

/// The cameras that are read, by name.
#[derive(Clone, Debug, Default)]
pub struct Views(Arc<Mutex<BTreeMap<String, Arc<View>>>>);

impl Views {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<View>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a camera, or shows the new source of one that is there.
    pub fn add(&self, source: &Arc<FrameSource>) -> Arc<View> {
        let view = self.lock().entry(source.camera_id().to_owned()).or_default().clone();
        let mut state = view.lock();
        (state.source, state.is_over, state.failure) = (Some(source.clone()), false, None);
        drop(state);
        view
    }

    pub fn remove(&self, id: &str) {
        self.lock().remove(id);
    }

    pub fn get(&self, id: &str) -> Option<Arc<View>> {
        self.lock().get(id).cloned()
    }

    pub fn all(&self) -> Vec<(String, Arc<View>)> {
        self.lock().iter().map(|(id, view)| (id.clone(), view.clone())).collect()
    }

    /// Cameras that were never connected, nor known to be silent, nor are through.
    pub fn unready(&self) -> Vec<String> {
        let views = self.lock();
        let unready = views.iter().filter(|(_, view)| !view.lock().is_ready);
        unready.map(|(id, _)| id.clone()).collect()
    }

    /// Looks at all cameras for as long as the runtime lives.
    pub fn watch(&self) {
        let views = self.clone();
        tokio::spawn(async move {
            let mut rhythm = tokio::time::interval(LOOK_EVERY);
            loop {
                rhythm.tick().await;
                views.all().iter().for_each(|(_, view)| view.lock().look());
            }
        });
    }
}

/// One camera.
#[derive(Debug, Default)]
pub struct View {
    state: Mutex<State>,
    pub encoded: Encoded,
}

#[derive(Debug, Default)]
struct State {
    source: Option<Arc<FrameSource>>,
    is_ready: bool,
    /// Nothing more comes: the stream ended or failed.
    is_over: bool,
    /// Why the source ended, and when it is begun anew.
    failure: Option<(String, Instant)>,
    frame: Option<Frame>,
    frames: u64,
    last: Option<(ConnectionState, Stats)>,
    /// When frames came, and how many there were in all then.
    arrivals: VecDeque<(Instant, u64)>,
    last_arrival: Option<Instant>,
    /// How old the last picture became before the next one came, lately: in bursts of segments or in an even rhythm.
    ages: VecDeque<(Instant, f64)>,
    /// For how many seconds the next picture has been due; 0 while they come.
    overdue: f64,
    events: VecDeque<(SystemTime, &'static str, String)>,
    samples: VecDeque<Sample>,
    sampled_at: Option<Instant>,
}

/// A point of the plots.
#[derive(Debug)]
struct Sample {
    at: SystemTime,
    latency: Option<f64>,
    bandwidth: Option<f64>,
    /// Mean time to decode and convert a picture since the point before.
    decode_ms: Option<f64>,
    queued: usize,
    rate: f64,
    decoded: u64,
    decoding: Duration,
}

impl View {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A frame that was read.
    pub fn show(&self, frame: &Frame) {
        let mut state = self.lock();
        if frame.meta().is_synthetic {
            return;
        }
        let now = Instant::now();
        if let Some(gap) = frame.meta().gap_before {
            let mut text = format!(
                "{}: {} and {} lost",
                words(gap.cause),
                count(gap.frames, "frame"),
                count(gap.segments, "segment")
            );
            if let Some(span) = gap.span {
                text += &format!(", {:.1} s", span.as_secs_f64());
            }
            state.say("gap", text);
        }
        state.frames += 1;
        state.last_arrival = Some(now);
        let before = state.frame.replace(frame.clone());
        // What came after an outage is no rhythm.
        if let Some(before) = before.filter(|_| state.overdue <= 0.0) {
            let old = age(&before);
            match state.ages.back_mut() {
                Some((at, oldest)) if now.duration_since(*at) < SAMPLE_EVERY => *oldest = oldest.max(old),
                _ => state.ages.push_back((now, old)),
            }
        }
        state.overdue = 0.0;
    }

    /// The camera's source has ended, with what it said last and when it is begun anew.
    pub fn end(&self, failure: Option<(String, Instant)>) {
        let mut state = self.lock();
        state.look();
        state.is_over = true;
        state.is_ready = true;
        match &failure {
            Some((error, _)) => state.say("error", error.clone()),
            None => state.say("state", "the stream has ended".into()),
        }
        state.failure = failure;
    }

    /// Something else that is worth to be told.
    pub fn note(&self, kind: &'static str, text: String) {
        self.lock().say(kind, text);
    }

    /// Lets go of a source that has ended.
    pub fn forget_source(&self) {
        self.lock().source = None;
    }

    /// The last picture, and how many there were.
    pub fn picture(&self) -> Option<(u64, Frame)> {
        let state = self.lock();
        Some((state.frames, state.frame.clone()?))
    }

    /// What stands on a camera's tile.
    pub fn tile(&self, id: &str) -> Value {
        let state = self.lock();
        let (connection, stats) = state
            .last
            .as_ref()
            .map_or((ConnectionState::Connecting, None), |(connection, stats)| (*connection, Some(stats)));
        let (error, retry_at) = state.failure.as_ref().map(|(error, at)| (error, at)).unzip();
        let latency = stats.and_then(|stats| stats.latency).filter(|_| state.is_fed(connection));
        json!({
            "id": id,
            "state": state.state(connection, stats),
            "frames": state.frames,
            "rate": state.rate(),
            "latency": latency.map(|latency| latency.as_secs_f64()),
            "age": state.last_arrival.map(|at| at.elapsed().as_secs_f64()),
            "retry_in": retry_at.map(|at| at.saturating_duration_since(Instant::now()).as_secs_f64()),
            "silent": stats.and_then(|stats| stats.silent_for).map(|silent| silent.as_secs_f64()),
            "gaps": stats.map_or(0, |stats| stats.gaps),
            "lost_frames": stats.map_or(0, |stats| stats.frames_lost),
            "lost_segments": stats.map_or(0, |stats| stats.segments_lost),
            "errors": stats.map_or(0, |stats| stats.errors),
            "refreshes": stats.map_or(0, |stats| stats.refreshes),
            "reconnects": stats.map_or(0, |stats| stats.reconnects),
            "size": stats.and_then(|stats| stats.size),
            "last_error": stats.and_then(|stats| stats.last_error.as_ref()).or(error),
        })
    }

    /// The same with plots and events.
    pub fn page(&self, id: &str) -> Value {
        let mut page = self.tile(id);
        let state = self.lock();
        let column = |of: fn(&Sample) -> Value| state.samples.iter().map(of).collect::<Vec<_>>();
        page["samples"] = json!({
            "at": column(|sample| seconds(sample.at).into()),
            "latency": column(|sample| sample.latency.into()),
            "bandwidth": column(|sample| sample.bandwidth.into()),
            "decode_ms": column(|sample| sample.decode_ms.into()),
            "queued": column(|sample| sample.queued.into()),
            "rate": column(|sample| sample.rate.into()),
        });
        let event = |(at, kind, text): &(SystemTime, &str, String)| json!({ "at": Timestamp::try_from(*at).ok().map(|at| format!("{at:.0}")), "kind": kind, "text": text });
        page["events"] = state.events.iter().rev().map(event).collect();
        page
    }
}

impl State {
    fn say(&mut self, kind: &'static str, text: String) {
        // What repeats is one line.
        if self.events.back().is_some_and(|(_, last, said)| *last == kind && *said == text) {
            self.events.pop_back();
        }
        self.events.push_back((SystemTime::now(), kind, text));
        if self.events.len() > MAX_EVENTS {
            self.events.pop_front();
        }
    }

    /// One word for how the camera is.
    fn state(&self, connection: ConnectionState, stats: Option<&Stats>) -> &'static str {
        match connection {
            ConnectionState::Error => "error",
            _ if self.failure.is_some() => "error",
            _ if self.is_over => "ended",
            _ if stats.is_some_and(|stats| stats.silent_for.is_some()) => "silent",
            ConnectionState::Connected if self.overdue > 0.0 => "stalled",
            ConnectionState::Connected => "connected",
            ConnectionState::Reconnecting => "reconnecting",
            ConnectionState::Disconnected => "disconnected",
            _ => "connecting",
        }
    }

    /// Whether frames come as they should.
    fn is_fed(&self, connection: ConnectionState) -> bool {
        connection == ConnectionState::Connected && !self.is_over && self.overdue <= 0.0
    }

    fn rate(&self) -> f64 {
        let (Some((from, before)), Some((to, after))) = (self.arrivals.front(), self.arrivals.back()) else {
            return 0.0;
        };
        let over = to.duration_since(*from).as_secs_f64();
        if over > 0.0 { (after - before) as f64 / over } else { 0.0 }
    }

    /// By how old pictures usually become before another one comes; below 0 when none is due yet.
    fn overdue_at(&self, now: Instant) -> f64 {
        let usual = self.ages.iter().map(|(_, age)| *age).reduce(f64::max);
        match (usual, &self.frame, self.last_arrival) {
            (Some(usual), Some(frame), _) => age(frame) - usual - PATIENCE - usual.max(0.0) / 10.0,
            (None, _, Some(at)) => now.duration_since(at).as_secs_f64() - FIRST_PAUSE,
            _ => 0.0,
        }
    }

    fn look(&mut self) {
        let Some(source) = &self.source else { return };
        let (now, connection, stats) = (Instant::now(), source.state(), source.stats());
        let has_new = self.arrivals.back().is_some_and(|(_, before)| *before < self.frames);
        self.arrivals.push_back((now, self.frames));
        while self.arrivals.front().is_some_and(|(at, _)| now.duration_since(*at) > RATE_OVER) {
            self.arrivals.pop_front();
        }
        // A rhythm that is slower than this is kept all the same.
        while self.ages.len() > 2 && self.ages.front().is_some_and(|(at, _)| now.duration_since(*at) > 3 * RATE_OVER) {
            self.ages.pop_front();
        }
        let was_overdue = self.overdue;
        self.overdue = if has_new { 0.0 } else { self.overdue_at(now) };
        let is_connected = connection == ConnectionState::Connected;
        // What is late by one reload of the playlist is seen, and not worth a line.
        if was_overdue <= WORTH_A_LINE && self.overdue > WORTH_A_LINE && is_connected {
            self.say("stall", "no new frame when one was due".into());
        }
        self.is_ready |= is_connected || stats.silent_for.is_some();
        self.changes(connection, &stats);
        if self.sampled_at.is_none_or(|at| now.duration_since(at) >= SAMPLE_EVERY) {
            self.sampled_at = Some(now);
            self.sample(connection, &stats);
        }
        self.last = Some((connection, stats));
    }

    /// Says what is new since the last look.
    fn changes(&mut self, connection: ConnectionState, stats: &Stats) {
        let (before, old) = self.last.take().unwrap_or((ConnectionState::Disconnected, Stats::default()));
        if stats.errors > old.errors
            && let Some(error) = &stats.last_error
        {
            match stats.refresh_failures > old.refresh_failures {
                true => {
                    self.say("refresh", format!("the next session cannot be had yet, this one is read on: {error}"))
                }
                false => self.say("error", error.clone()),
            }
        }
        if stats.refreshes > old.refreshes {
            self.say("refresh", "the session was replaced before its end".into());
        }
        if stats.reconnects > old.reconnects {
            self.say("reconnect", "the stream was lost and is read again".into());
        }
        if stats.variant_switches > old.variant_switches {
            self.say("variant", "another variant is read".into());
        }
        match (old.silent_for.is_some(), stats.silent_for.is_some()) {
            (false, true) => self.say("silent", "the camera sends nothing; it is asked again and again".into()),
            (true, false) => self.say("silent", "the camera sends again".into()),
            _ => {}
        }
        if connection != before {
            self.say("state", connection.to_string());
        }
    }

    fn sample(&mut self, connection: ConnectionState, stats: &Stats) {
        let (decoded, decoding) = self.samples.back().map_or((0, Duration::ZERO), |last| (last.decoded, last.decoding));
        let pictures = stats.decoded.saturating_sub(decoded);
        let is_fed = self.is_fed(connection);
        let spent = stats.decoding.saturating_sub(decoding).as_secs_f64() * 1000.0;
        self.samples.push_back(Sample {
            at: SystemTime::now(),
            latency: stats.latency.filter(|_| is_fed).map(|latency| latency.as_secs_f64()),
            bandwidth: is_fed.then_some(stats.bandwidth),
            decode_ms: (pictures > 0).then(|| spent / pictures as f64),
            queued: stats.queued,
            rate: self.rate(),
            decoded: stats.decoded,
            decoding: stats.decoding,
        });
        if self.samples.len() > MAX_SAMPLES {
            self.samples.pop_front();
        }
    }
}

/// Seconds since it was captured; less than 0 where a clock is wrong.
fn age(frame: &Frame) -> f64 {
    let since = SystemTime::now().duration_since(frame.captured_at());
    since.map_or_else(|error| -error.duration().as_secs_f64(), |since| since.as_secs_f64())
}

fn seconds(at: SystemTime) -> f64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn words(cause: GapCause) -> String {
    cause.as_str().replace('_', " ")
}
