//! What to do next. Pure: values in, actions out; time and chance are arguments.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::options::{Config, Delivery};
use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind, Recovery, Stage};
use crate::gap::{Gap, GapCause};
use crate::hls::{
    self, Continuity, InitRef, LiveEdge, MediaPlaylist, Playlist, PlaylistTracker, ReloadPolicy, Segment, TrackerEvent,
    TrackerOptions, VariantCaps,
};
use crate::secret::SecretUrl;
use crate::session::Session;

/// Where a source stands. The numbers are those that users already chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectionState {
    /// Not started, or stopped.
    Disconnected = 0,
    /// Started; no frame has come yet.
    Connecting = 1,
    /// Frames come.
    Connected = 2,
    /// Frames came, and something is in the way of more.
    Reconnecting = 3,
    /// Given up: the last error tells why.
    Error = 4,
}

impl std::fmt::Display for ConnectionState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Disconnected => "disconnected",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Reconnecting => "reconnecting",
            Self::Error => "error",
        })
    }
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Input {
    /// Time passed; also the first input.
    Tick,
    /// An answer to [`Action::OpenSession`].
    Opened(Result<Session, Error>),
    /// An answer to [`Action::LoadPlaylist`], parsed.
    Playlist { generation: u32, requested_at: Instant, result: Result<Playlist, Error> },
    /// An answer to [`Action::LoadInit`]: it was parsed and holds from now on.
    Init(Result<(), Error>),
    /// An answer to [`Action::LoadSegment`]. What was demuxed before an error went to the lane, where anything was.
    Segment { result: Result<(), Error>, is_in_lane: bool },
    /// The lane is through with a segment.
    SegmentDecoded,
    /// The lane met an error, and waits for an IDR picture.
    DecodeFailed(Error),
    /// A frame reached the consumer's queue.
    Frame,
    /// An answer to [`Action::Drain`].
    Drained,
}

/// What is to be done. At most one session, one playlist and one of init and segment are under way at a time.
#[derive(Debug)]
pub(crate) enum Action {
    OpenSession,
    LoadPlaylist {
        url: SecretUrl,
        generation: u32,
    },
    LoadInit(Arc<InitRef>),
    LoadSegment {
        segment: Segment,
        generation: u32,
    },
    /// Tell the lane that something is missing here.
    Break(Gap),
    /// Tell the lane that nothing more comes.
    Drain,
    State(ConnectionState),
    /// A failure that the machine recovers from, for the log and the counters, and when it is tried again.
    Recovering {
        error: Error,
        recovery: Recovery,
        retry_in: Option<Duration>,
    },
    /// A session took the place of one that still worked.
    Refreshed,
    /// The end: all is delivered, or the error cannot be recovered from.
    Stop(Result<(), Error>),
}

/// The choices that the machine depends on.
#[derive(Clone, Debug)]
pub(crate) struct MachineOptions {
    pub(crate) config: Config,
    pub(crate) delivery: Delivery,
    pub(crate) live_edge: LiveEdge,
    pub(crate) reload: ReloadPolicy,
    pub(crate) caps: VariantCaps,
    /// Whether the provider gives a new session each time.
    pub(crate) is_renewable: bool,
}

/// Segments in the lane at most: one being decoded and one ready behind it.
const LANE_SEGMENTS: usize = 2;
/// Tries of one request before something larger is tried.
const REQUEST_TRIES: u32 = 4;
const REQUEST_DELAY: Duration = Duration::from_millis(250);
const MAX_REQUEST_DELAY: Duration = Duration::from_secs(4);
/// Frames must come for so long before delays start from the first one again.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);
/// Bounds of the time to a refresh, should a clock be wrong: no hammering, no overflow.
const MIN_SESSION: Duration = Duration::from_secs(1);
const MAX_SESSION: Duration = Duration::from_secs(7 * 24 * 3600);
/// Segments known and not yet loaded; more than any playlist of the service lists.
const MAX_QUEUE: usize = 100_000;

/// One request that may be under way, and its retries.
#[derive(Debug)]
struct Slot {
    is_busy: bool,
    not_before: Option<Instant>,
    retries: Backoff,
}

impl Default for Slot {
    fn default() -> Self {
        Self { is_busy: false, not_before: None, retries: Backoff::new(REQUEST_DELAY, MAX_REQUEST_DELAY, 2.0) }
    }
}

impl Slot {
    fn is_ready(&self, now: Instant) -> bool {
        !self.is_busy && self.not_before.is_none_or(|time| time <= now)
    }

    fn begin(&mut self) {
        (self.is_busy, self.not_before) = (true, None);
    }

    fn succeed(&mut self) {
        self.is_busy = false;
        self.retries.reset();
    }

    /// The delay before the next try; `None` when there were enough.
    fn fail(&mut self, now: Instant, chance: f64) -> Option<Duration> {
        self.is_busy = false;
        if self.retries.tries() + 1 >= REQUEST_TRIES {
            self.retries.reset();
            return None;
        }
        let delay = self.retries.next(chance);
        self.not_before = Some(now + delay);
        Some(delay)
    }
}

/// A segment to be loaded, and what is missing before it.
#[derive(Debug)]
struct Item {
    segment: Segment,
    generation: u32,
    gap_before: Option<Gap>,
}

#[derive(Debug)]
struct ActiveSession {
    generation: u32,
    url: SecretUrl,
    /// Whether a playlist of it was read.
    is_proven: bool,
}

/// The state of one camera.
#[derive(Debug)]
pub(crate) struct Machine {
    options: MachineOptions,
    state: ConnectionState,
    session: Option<ActiveSession>,
    generation: u32,
    opening: Slot,
    refresh_at: Option<Instant>,
    reconnect: Backoff,
    playlist: Slot,
    /// Whether any playlist was ever read: before that, a wrong URL is a wrong URL.
    is_proven: bool,
    tracker: PlaylistTracker,
    queue: VecDeque<Item>,
    media: Slot,
    loading: Option<Item>,
    init: Option<Arc<InitRef>>,
    lane_segments: usize,
    /// What was lost after the last segment given to the lane.
    trailing_gap: Option<Gap>,
    has_ended: bool,
    is_draining: bool,
    is_stopped: bool,
    /// How much the consumer was meant to be behind from the start.
    initial_lag: Option<Duration>,
    errors: u32,
    failing_since: Option<Instant>,
    healthy_since: Option<Instant>,
    frames: u64,
    last_error: Option<Error>,
}

impl Machine {
    pub(crate) fn new(options: MachineOptions) -> Self {
        let tracker =
            TrackerOptions { live_edge: options.live_edge, reload: options.reload, ..TrackerOptions::default() };
        let Config { reconnect_delay, max_reconnect_delay, backoff_multiplier, .. } = options.config;
        Self {
            tracker: PlaylistTracker::new(tracker),
            reconnect: Backoff::new(reconnect_delay, max_reconnect_delay, backoff_multiplier),
            options,
            state: ConnectionState::Disconnected,
            session: None,
            generation: 0,
            opening: Slot::default(),
            refresh_at: None,
            playlist: Slot::default(),
            is_proven: false,
            queue: VecDeque::new(),
            media: Slot::default(),
            loading: None,
            init: None,
            lane_segments: 0,
            trailing_gap: None,
            has_ended: false,
            is_draining: false,
            is_stopped: false,
            initial_lag: None,
            errors: 0,
            failing_since: None,
            healthy_since: None,
            frames: 0,
            last_error: None,
        }
    }

    /// When [`Input::Tick`] is due next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let opening = self.opening.not_before.filter(|_| self.session.is_none() && !self.opening.is_busy);
        let refresh = self.refresh_at.filter(|_| !self.opening.is_busy && !self.has_ended);
        let playlist = self.playlist.not_before.filter(|_| self.session.is_some() && !self.playlist.is_busy);
        let media = self.media.not_before.filter(|_| !self.media.is_busy);
        [opening, refresh, playlist, media].into_iter().flatten().min()
    }

    /// Takes in what happened. `chance` is in `0.0..1.0`.
    pub(crate) fn handle(&mut self, input: Input, now: Instant, wall: SystemTime, chance: f64, out: &mut Vec<Action>) {
        if self.is_stopped {
            return;
        }
        match input {
            Input::Tick => {}
            Input::Opened(result) => self.opened(result, now, wall, chance, out),
            Input::Playlist { generation, requested_at, result } => {
                self.playlist.is_busy = false;
                if self.session.as_ref().is_some_and(|session| session.generation == generation) {
                    match result {
                        Ok(playlist) => self.read_playlist(playlist, requested_at, now, chance, out),
                        Err(error) => self.playlist_failed(error.at(Stage::Playlist), now, chance, out),
                    }
                } else {
                    self.playlist.not_before = Some(now);
                }
            }
            Input::Init(Ok(())) => {
                self.media.succeed();
                self.init = self.loading.as_ref().and_then(|item| item.segment.init.clone());
                if let Some(item) = self.loading.take() {
                    self.queue.push_front(item);
                }
            }
            Input::Init(Err(error)) => self.media_failed(error.at(Stage::Init), now, chance, out),
            Input::Segment { result, is_in_lane } => {
                if !is_in_lane {
                    self.lane_segments = self.lane_segments.saturating_sub(1);
                }
                match result {
                    Ok(()) => {
                        self.media.succeed();
                        self.loading = None;
                    }
                    Err(error) => self.media_failed(error.at(Stage::Segment), now, chance, out),
                }
            }
            Input::SegmentDecoded => self.lane_segments = self.lane_segments.saturating_sub(1),
            Input::DecodeFailed(error) => {
                let recovery = error.recovery();
                self.fail(error, recovery, None, now, out);
            }
            Input::Frame => self.frame(now, out),
            Input::Drained => self.finish(out),
        }
        self.advance(now, out);
    }

    fn set_state(&mut self, state: ConnectionState, out: &mut Vec<Action>) {
        if self.state != state {
            self.state = state;
            out.push(Action::State(state));
        }
    }

    fn stop(&mut self, result: Result<(), Error>, out: &mut Vec<Action>) {
        self.is_stopped = true;
        let state = if result.is_ok() { ConnectionState::Disconnected } else { ConnectionState::Error };
        self.set_state(state, out);
        out.push(Action::Stop(result));
    }

    /// The end of a finished playlist. One that gave nothing but errors is an error.
    fn finish(&mut self, out: &mut Vec<Action>) {
        let result = match self.last_error.take() {
            Some(error) if self.frames == 0 => Err(error),
            _ => Ok(()),
        };
        self.stop(result, out);
    }

    fn frame(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.frames += 1;
        self.errors = 0;
        self.failing_since = None;
        self.set_state(ConnectionState::Connected, out);
        let healthy_since = *self.healthy_since.get_or_insert(now);
        if now.saturating_duration_since(healthy_since) >= HEALTHY_AFTER {
            self.reconnect.reset();
        }
    }

    /// Tells of a failure that a second try may mend. Only when the tries are used up it counts as one.
    fn retry(&mut self, error: Error, delay: Duration, out: &mut Vec<Action>) {
        self.healthy_since = None;
        self.last_error = Some(error.clone());
        out.push(Action::Recovering { error, recovery: Recovery::Retry, retry_in: Some(delay) });
    }

    /// Counts a failure and tells of it; ends everything if it cannot be recovered from or is one too many.
    fn fail(
        &mut self,
        error: Error,
        recovery: Recovery,
        retry_in: Option<Duration>,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        self.errors += 1;
        self.healthy_since = None;
        let since = *self.failing_since.get_or_insert(now);
        if recovery == Recovery::Fatal {
            return self.stop(Err(error), out);
        }
        if self.errors >= self.options.config.max_consecutive_errors {
            let story = format!(
                "{} failures in a row within {:.1} s without a frame (max_consecutive_errors is {})",
                self.errors,
                now.saturating_duration_since(since).as_secs_f64(),
                self.options.config.max_consecutive_errors
            );
            let fatal = Error::new(error.kind(), story);
            return self.stop(Err(fatal.with_source(error)), out);
        }
        if self.state == ConnectionState::Connected
            && !matches!(recovery, Recovery::SkipSegment | Recovery::ResetDecoder)
        {
            self.set_state(ConnectionState::Reconnecting, out);
        }
        self.last_error = Some(error.clone());
        out.push(Action::Recovering { error, recovery, retry_in });
    }

    fn opened(
        &mut self,
        result: Result<Session, Error>,
        now: Instant,
        wall: SystemTime,
        chance: f64,
        out: &mut Vec<Action>,
    ) {
        self.opening.is_busy = false;
        match result {
            Ok(session) => {
                self.generation += 1;
                if self.session.is_some() {
                    out.push(Action::Refreshed);
                }
                if self.options.is_renewable && self.is_proven {
                    self.tracker.begin_session();
                }
                self.refresh_at = session.expires_at.map(|time| {
                    let left = time.duration_since(wall).unwrap_or_default();
                    // Up to a fifth of the margin earlier, so that cameras started together do not refresh together.
                    let margin = self.options.config.refresh_margin.min(left / 2).mul_f64(1.0 + 0.2 * chance);
                    now + left.saturating_sub(margin).clamp(MIN_SESSION, MAX_SESSION)
                });
                self.session = Some(ActiveSession { generation: self.generation, url: session.url, is_proven: false });
                self.playlist.not_before = Some(now);
                self.playlist.retries.reset();
            }
            Err(error) => {
                let error = error.at(Stage::OpenSession);
                let delay = self.reconnect.next(chance);
                if self.session.is_some() {
                    self.refresh_at = Some(now + delay);
                } else {
                    self.opening.not_before = Some(now + delay);
                }
                // While the old session works, nothing is fatal: it is used until it is refused.
                let recovery = if self.session.is_some() { Recovery::Retry } else { error.recovery() };
                self.fail(error, recovery, Some(delay), now, out);
            }
        }
    }

    /// Gives the session up and opens another one after a delay.
    fn reopen(&mut self, now: Instant, chance: f64) -> Duration {
        let delay = self.reconnect.next(chance);
        self.session = None;
        self.refresh_at = None;
        self.opening.not_before = Some(now + delay);
        delay
    }

    fn playlist_failed(&mut self, error: Error, now: Instant, chance: f64, out: &mut Vec<Action>) {
        // A wrong URL, or something that is no playlist: no retry makes it right. A session that was handed out a moment
        // ago is another matter: there the camera may be silent.
        let is_refused =
            error.status().is_some_and(|status| matches!(status, 400..=499) && !matches!(status, 408 | 429));
        let is_throttled = error.code().is_some_and(|code| code.starts_with("ClientLimitExceeded"));
        let is_wrong = error.kind() == ErrorKind::Playlist || is_refused && !is_throttled;
        if is_wrong && !self.is_proven && !self.options.is_renewable {
            return self.fail(error, Recovery::Fatal, None, now, out);
        }
        let recovery = error.recovery();
        if recovery == Recovery::Retry
            && let Some(delay) = self.playlist.fail(now, chance)
        {
            return self.retry(error, delay, out);
        }
        let delay = self.reopen(now, chance);
        self.fail(error, recovery, Some(delay), now, out);
    }

    fn read_playlist(
        &mut self,
        playlist: Playlist,
        requested_at: Instant,
        now: Instant,
        chance: f64,
        out: &mut Vec<Action>,
    ) {
        self.playlist.succeed();
        match playlist {
            Playlist::Multivariant(playlist) => {
                let Some(session) = &mut self.session else { return };
                match hls::select(&playlist, &self.options.caps) {
                    Ok(choice) => {
                        session.url = choice.variant.url.clone();
                        self.playlist.not_before = Some(now);
                    }
                    Err(error) => self.playlist_failed(Error::from(error).at(Stage::Playlist), now, chance, out),
                }
            }
            Playlist::Media(playlist) => self.read_media_playlist(&playlist, requested_at, now, chance, out),
        }
    }

    fn read_media_playlist(
        &mut self,
        playlist: &MediaPlaylist,
        requested_at: Instant,
        now: Instant,
        chance: f64,
        out: &mut Vec<Action>,
    ) {
        let Some(session) = &mut self.session else { return };
        let generation = session.generation;
        if !std::mem::replace(&mut session.is_proven, true) {
            remap(&mut self.queue, playlist, generation);
            if !self.media.is_busy {
                self.media.not_before = None; // what was refused may have a new URL now
            }
        }
        self.is_proven = true;
        let update = self.tracker.update(playlist, requested_at, now);
        self.playlist.not_before = update.reload_at;
        self.has_ended = update.reload_at.is_none();
        let mut gap_before = match update.event {
            Some(TrackerEvent::WindowPassed { missed }) => Some(Gap::of_segments(GapCause::WindowPassed, missed)),
            Some(TrackerEvent::Skipped { missed }) => Some(Gap::of_segments(GapCause::CatchUp, missed)),
            Some(
                TrackerEvent::Reset { continuity: Continuity::Lost { .. } }
                | TrackerEvent::Rejoined { continuity: Continuity::Lost { .. } },
            ) => Some(Gap::of_segments(GapCause::Reconnect, 0)),
            Some(TrackerEvent::Stuck { unchanged_for }) => {
                self.stuck(unchanged_for, now, chance, out);
                None
            }
            _ => None,
        };
        for segment in update.fresh {
            let gap_before = gap_before.take();
            self.queue.push_back(Item { segment, generation, gap_before });
        }
        if let (Some(gap), Some(last)) = (gap_before, self.queue.back_mut()) {
            last.gap_before = Some(Gap::merge(last.gap_before, gap));
        }
        while self.queue.len() > MAX_QUEUE {
            self.skip_front(GapCause::CatchUp);
        }
        let lag = self.lag();
        self.initial_lag.get_or_insert(lag);
    }

    /// A silent camera is no failure: it is waited for, with a new session where there are such.
    fn stuck(&mut self, unchanged_for: Duration, now: Instant, chance: f64, out: &mut Vec<Action>) {
        let retry_in = self.options.is_renewable.then(|| self.reopen(now, chance));
        if self.state != ConnectionState::Reconnecting {
            self.set_state(ConnectionState::Reconnecting, out);
            let seconds = unchanged_for.as_secs_f64();
            let error = Error::new(ErrorKind::Playlist, format!("playlist that did not change for {seconds:.1} s"));
            let error = error.at(Stage::Playlist);
            out.push(Action::Recovering { error, recovery: Recovery::RefreshSession, retry_in });
        }
    }

    /// How much video is listed and not yet loaded.
    fn lag(&self) -> Duration {
        self.queue.iter().map(|item| item.segment.duration).sum()
    }

    /// Leaves out the first segment of the queue; the next one reports it.
    fn skip_front(&mut self, cause: GapCause) {
        let Some(item) = self.queue.pop_front() else { return };
        self.skip(item, Gap::of_segments(cause, 1));
    }

    fn skip(&mut self, item: Item, gap: Gap) {
        let gap = Gap::merge(item.gap_before, gap);
        match self.queue.front_mut() {
            Some(next) => {
                next.gap_before =
                    Some(Gap::merge(Some(gap), next.gap_before.unwrap_or(Gap { segments: 0, frames: 0, ..gap })))
            }
            None => self.trailing_gap = Some(Gap::merge(self.trailing_gap, gap)),
        }
    }

    fn media_failed(&mut self, error: Error, now: Instant, chance: f64, out: &mut Vec<Action>) {
        let recovery = error.recovery();
        let Some(item) = self.loading.take() else { return };
        match recovery {
            Recovery::Retry | Recovery::RefreshSession => {
                let session = self.session.as_ref();
                let is_gone = session.is_some_and(|session| session.is_proven && session.generation != item.generation);
                if recovery == Recovery::RefreshSession && self.options.is_renewable && !is_gone {
                    // The playlist of the next session says where this segment is then.
                    let delay = session.is_some_and(|session| session.is_proven).then(|| self.reopen(now, chance));
                    self.media.is_busy = false;
                    self.media.not_before = Some(now + delay.unwrap_or_default() + MAX_REQUEST_DELAY);
                    self.queue.push_front(item);
                    return self.fail(error, recovery, delay, now, out);
                }
                let is_final = is_gone && recovery == Recovery::RefreshSession;
                let delay = if is_final { None } else { self.media.fail(now, chance) };
                if let Some(delay) = delay {
                    self.queue.push_front(item);
                    return self.retry(error, delay, out);
                }
                self.media.succeed();
                self.skip(item, Gap::of_segments(GapCause::SegmentUnavailable, 1));
                self.fail(error, Recovery::SkipSegment, None, now, out);
            }
            _ => {
                let is_damaged = matches!(error.kind(), ErrorKind::Container | ErrorKind::Bitstream);
                let cause = if is_damaged { GapCause::Damaged } else { GapCause::SegmentUnavailable };
                self.media.succeed();
                self.skip(item, Gap::of_segments(cause, 1));
                self.fail(error, recovery, None, now, out);
            }
        }
    }

    /// Starts everything that can be started.
    fn advance(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.is_stopped {
            return;
        }
        if self.state == ConnectionState::Disconnected {
            self.set_state(ConnectionState::Connecting, out);
        }
        let is_refresh_due = self.refresh_at.is_some_and(|time| time <= now) && !self.has_ended;
        if (self.session.is_none() || is_refresh_due)
            && !self.opening.is_busy
            && (is_refresh_due || self.opening.is_ready(now))
        {
            self.opening.begin();
            self.refresh_at = None;
            out.push(Action::OpenSession);
        }
        if let Some(session) = &self.session
            && !self.playlist.is_busy
            && self.playlist.not_before.is_some_and(|time| time <= now)
        {
            self.playlist.begin();
            out.push(Action::LoadPlaylist { url: session.url.clone(), generation: session.generation });
        }
        self.catch_up();
        self.load_media(now, out);
        let is_done = self.has_ended && self.queue.is_empty() && self.loading.is_none() && self.lane_segments == 0;
        if is_done && !self.is_draining {
            self.is_draining = true;
            if let Some(gap) = self.trailing_gap.take() {
                out.push(Action::Break(gap));
            }
            out.push(Action::Drain);
        }
    }

    /// Jumps to the newest segment when the consumer holds the lane back for too long.
    fn catch_up(&mut self) {
        let Delivery::CatchUp { max_lag } = self.options.delivery else { return };
        let limit = max_lag.saturating_add(self.initial_lag.unwrap_or_default());
        if self.has_ended || self.lane_segments < LANE_SEGMENTS || self.lag() <= limit {
            return;
        }
        while self.queue.len() > 1 {
            self.skip_front(GapCause::CatchUp);
        }
    }

    fn load_media(&mut self, now: Instant, out: &mut Vec<Action>) {
        while self.queue.front().is_some_and(|item| item.segment.is_gap) {
            self.skip_front(GapCause::SegmentUnavailable);
        }
        if !self.media.is_ready(now) {
            return;
        }
        self.media.not_before = None; // a deadline that passed must not be waited for again
        if self.lane_segments >= LANE_SEGMENTS {
            return;
        }
        let Some(mut item) = self.queue.pop_front() else { return };
        self.media.begin();
        match &item.segment.init {
            Some(init) if self.init.as_ref() != Some(init) => out.push(Action::LoadInit(init.clone())),
            _ => {
                let gap = item.gap_before.take();
                let gap = self
                    .trailing_gap
                    .take()
                    .map_or(gap, |first| Some(gap.map_or(first, |gap| Gap::merge(Some(first), gap))));
                out.extend(gap.map(Action::Break));
                self.lane_segments += 1;
                out.push(Action::LoadSegment { segment: item.segment.clone(), generation: item.generation });
            }
        }
        self.loading = Some(item);
    }
}

/// Gives the segments that an earlier session listed the URLs that this one has for them.
fn remap(items: &mut VecDeque<Item>, playlist: &MediaPlaylist, generation: u32) {
    for item in items.iter_mut().filter(|item| item.generation != generation) {
        let same =
            playlist.segments.iter().find(|segment| match (&segment.fragment_number, &item.segment.fragment_number) {
                (Some(new), Some(old)) if new.is_global() && old.is_global() => new == old,
                _ => segment.program_date_time.is_some() && segment.program_date_time == item.segment.program_date_time,
            });
        if let Some(segment) = same {
            (item.segment, item.generation) = (segment.clone(), generation);
        }
    }
}

#[cfg(test)]
mod tests;
