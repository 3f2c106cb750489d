//! What to do next. Pure: values in, actions out; time and chance are arguments.

mod adaptation;
mod media;
mod queue;
mod session;
mod slot;
mod types;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

pub(crate) use adaptation::Download;
pub use types::ConnectionState;
pub(crate) use types::{Action, Input, MachineOptions, Moment};

use adaptation::Adaptation;
use queue::{Item, MediaQueue};
use session::ActiveSession;
use slot::Slot;

use super::options::Config;
use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind, Recovery, Stage};
use crate::gap::{Gap, GapCause};
use crate::hls::{
    self, Continuity, InitRef, MediaPlaylist, MultivariantPlaylist, Playlist, PlaylistTracker, ReloadPolicy, Segment,
    TrackerEvent, TrackerOptions,
};
use crate::session::Session;

/// Frames must come for so long before delays start from the first one again.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);
/// The longest pause before the session of a camera that worked well is opened anew: chance spreads many cameras over it.
const FIRST_REOPEN: Duration = Duration::from_secs(1);
/// Bounds of the time to a refresh, should a clock be wrong: no hammering, no overflow.
const MIN_SESSION: Duration = Duration::from_secs(1);
const MAX_SESSION: Duration = Duration::from_secs(7 * 24 * 3600);
/// A page without news is followed by one that begins up to 2^10 ms later, which is as long as the shortest fragment.
const MAX_STALE_PAGES: u32 = 10;
/// The next page of an archive is opened when no more than so many segments are left of the one before.
const PAGE_AHEAD: usize = 10;

/// The state of one camera.
#[derive(Debug)]
pub(crate) struct Machine {
    options: MachineOptions,
    state: ConnectionState,
    session: Option<ActiveSession>,
    /// The session that will take the place of the present one when a media playlist of it was read.
    upcoming: Option<ActiveSession>,
    generation: u32,
    opening: Slot,
    refresh_at: Option<Instant>,
    reconnect: Backoff,
    /// Delays between sessions that could not be had beside one that works.
    refresh: Backoff,
    is_page_opening: bool,
    /// Whether any playlist was ever read: before that, a wrong URL is a wrong URL.
    is_proven: bool,
    tracker: PlaylistTracker,
    /// Where an archive goes on that the present playlist does not hold whole.
    next_page: Option<SystemTime>,
    /// Pages in a row that listed nothing new.
    stale_pages: u32,
    /// The start of the last segment that was listed.
    last_start: Option<SystemTime>,
    adaptation: Adaptation,
    queue: MediaQueue,
    media: Slot,
    loading: Option<Item>,
    loading_since: Option<Instant>,
    /// Whether the segment under way may be given up: none of it is decoded yet.
    may_be_abandoned: bool,
    /// Whether a smaller variant is asked for because the download under way takes too long.
    is_abandoning: bool,
    /// Where a newer playlist lists the segment that is being loaded.
    elsewhere: Option<(Segment, u32)>,
    /// The newest session of which a segment was refused.
    refused: u32,
    /// Whether the segment before was not there.
    is_skipping: bool,
    /// When any answer was last as it should be.
    succeeded_at: Option<Instant>,
    /// The initialization section in use, and the session it came from: another one may serve other bytes there.
    init: Option<(u32, Arc<InitRef>)>,
    lane_segments: usize,
    /// The sizes of those that have come, the first to be decoded first.
    lane_bytes: VecDeque<usize>,
    /// Whether the present playlist is complete, be it one page of an archive.
    is_archive: bool,
    has_ended: bool,
    is_draining: bool,
    is_stopped: bool,
    /// How much the consumer was meant to be behind from the start.
    initial_lag: Option<Duration>,
    /// Since when the camera has sent nothing, though the server works.
    silent_since: Option<Instant>,
    errors: u32,
    failing_since: Option<(Instant, SystemTime)>,
    healthy_since: Option<Instant>,
    frames: u64,
    last_error: Option<Error>,
}

impl Machine {
    pub(crate) fn new(options: MachineOptions) -> Self {
        let reload = options.reload.unwrap_or_default();
        let tracker = TrackerOptions { live_edge: options.live_edge, reload, ..TrackerOptions::default() };
        let Config { reconnect_delay, max_reconnect_delay, backoff_multiplier, .. } = options.config;
        Self {
            tracker: PlaylistTracker::new(tracker),
            reconnect: Backoff::new(reconnect_delay, max_reconnect_delay, backoff_multiplier),
            refresh: Backoff::new(reconnect_delay, max_reconnect_delay, backoff_multiplier),
            is_page_opening: false,
            adaptation: Adaptation::new(options.variant),
            options,
            state: ConnectionState::Disconnected,
            session: None,
            upcoming: None,
            generation: 0,
            opening: Slot::default(),
            refresh_at: None,
            is_proven: false,
            next_page: None,
            stale_pages: 0,
            last_start: None,
            queue: MediaQueue::default(),
            media: Slot::default(),
            loading: None,
            loading_since: None,
            may_be_abandoned: false,
            is_abandoning: false,
            elsewhere: None,
            refused: 0,
            is_skipping: false,
            succeeded_at: None,
            init: None,
            lane_segments: 0,
            lane_bytes: VecDeque::new(),
            is_archive: false,
            has_ended: false,
            is_draining: false,
            is_stopped: false,
            initial_lag: None,
            silent_since: None,
            errors: 0,
            failing_since: None,
            healthy_since: None,
            frames: 0,
            last_error: None,
        }
    }

    /// When [`Input::Tick`] is due next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if self.is_draining {
            return None;
        }
        let is_opening_possible = self.upcoming.is_none() && !self.opening.is_busy && !self.is_all_loaded();
        let is_opening_wanted = is_opening_possible && (self.session.is_none() || self.is_page_wanted());
        let opening = self.opening.deadline().filter(|_| is_opening_wanted);
        let refresh = self.refresh_at.filter(|_| is_opening_possible);
        let playlists = [&self.session, &self.upcoming].map(|session| session.as_ref()?.playlist.deadline());
        let silence = self.options.config.max_silence.and_then(|longest| self.silent_since?.checked_add(longest));
        let others = [opening, refresh, silence, self.media.deadline(), self.abandon_at()];
        playlists.into_iter().chain(others).flatten().min()
    }

    /// Takes in what happened.
    pub(crate) fn handle(&mut self, input: Input, at: Moment, out: &mut Vec<Action>) {
        // Once the lane knows of the end, no answer that is still on its way counts.
        let is_of_lane = matches!(input, Input::Frame | Input::Drained | Input::DecodeFailed(_));
        if self.is_stopped || self.is_draining && !is_of_lane {
            return;
        }
        match input {
            Input::Tick => {}
            Input::Opened(Ok(session)) => self.opened(session, at),
            Input::Opened(Err(error)) => self.open_failed(error.at(Stage::OpenSession), at, out),
            Input::Playlist { generation, requested_at, result } => {
                let result = match result {
                    Ok(Playlist::Multivariant(playlist)) => self.read_multivariant(&playlist, generation, at),
                    Ok(Playlist::Media(playlist)) => {
                        self.read_media_playlist(&playlist, generation, requested_at, at, out);
                        Ok(())
                    }
                    Err(error) => Err(error),
                };
                if let Err(error) = result {
                    self.playlist_failed(error.at(Stage::Playlist), generation, at, out);
                }
            }
            Input::Init(Ok(())) => {
                self.media_succeeded(at.now);
                self.init = self.loading.as_ref().and_then(|item| Some((item.generation, item.segment.init.clone()?)));
                if !self.load_elsewhere()
                    && let Some(item) = self.loading.take()
                {
                    self.queue.put_back(item);
                }
            }
            Input::Init(Err(error)) => self.media_failed(error.at(Stage::Init), at, out),
            Input::Segment { result, is_in_lane, download } => self.segment(result, is_in_lane, download, at, out),
            Input::SegmentDecoded => {
                self.lane_segments = self.lane_segments.saturating_sub(1);
                self.lane_bytes.pop_front();
            }
            Input::DecodeFailed(error) => {
                // A stream that was readable does not become another one by a damaged parameter set.
                let is_spoilt = error.recovery() == Recovery::Fatal && self.frames > 0 && error.is_unsupported();
                let recovery = if is_spoilt { Recovery::ResetDecoder } else { error.recovery() };
                self.fail(error, recovery, None, at, out);
            }
            Input::Frame => self.frame(at.now, out),
            Input::Drained => self.finish(out),
            Input::Refresh => {
                if self.session.is_some() && self.upcoming.is_none() && self.options.is_renewable {
                    self.refresh_at = Some(at.now);
                }
            }
            Input::Reconnect => {
                (self.session, self.upcoming, self.refresh_at) = (None, None, None);
                self.opening.not_before = Some(at.now);
                self.is_connected_no_more(out);
            }
        }
        self.advance(at, out);
    }

    fn set_state(&mut self, state: ConnectionState, out: &mut Vec<Action>) {
        if self.state != state {
            self.state = state;
            out.push(Action::State(state));
        }
    }

    fn is_connected_no_more(&mut self, out: &mut Vec<Action>) {
        if self.state == ConnectionState::Connected {
            self.set_state(ConnectionState::Reconnecting, out);
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
        // What was decoded before the session was lost may still come.
        let is_read = self.session.as_ref().is_some_and(|session| session.is_proven)
            && self.silent_since.is_none()
            && self.queue.front().is_none_or(|item| item.rounds == 0);
        if is_read {
            self.set_state(ConnectionState::Connected, out);
        }
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
        at: Moment,
        out: &mut Vec<Action>,
    ) {
        self.errors += 1;
        self.healthy_since = None;
        let (since, since_wall) = *self.failing_since.get_or_insert((at.now, at.wall));
        if recovery == Recovery::Fatal {
            return self.stop(Err(error), out);
        }
        let max_errors = self.options.config.max_consecutive_errors;
        if self.errors >= max_errors {
            let story = format!(
                "{} failures in a row without a frame since {}, for {:.1} s (max_consecutive_errors is {max_errors})",
                self.errors,
                crate::time::rfc3339(since_wall),
                at.now.saturating_duration_since(since).as_secs_f64(),
            );
            let fatal = Error::new(error.kind(), story);
            return self.stop(Err(fatal.with_source(error)), out);
        }
        if !matches!(recovery, Recovery::SkipSegment | Recovery::ResetDecoder) {
            self.is_connected_no_more(out);
        }
        self.last_error = Some(error.clone());
        out.push(Action::Recovering { error, recovery, retry_in });
    }

    fn opened(&mut self, session: Session, at: Moment) {
        self.opening.succeed();
        self.generation += 1;
        self.refresh_at = session.expires_at.map(|time| {
            let left = time.duration_since(at.wall).unwrap_or_default();
            // Up to a fifth of the margin earlier, so that cameras started together do not refresh together.
            let margin = self.options.config.refresh_margin.min(left / 2).mul_f64(1.0 + 0.2 * at.chance);
            at.now + left.saturating_sub(margin).clamp(MIN_SESSION, MAX_SESSION)
        });
        let mut session = ActiveSession::new(self.generation, session);
        session.playlist.not_before = Some(at.now);
        if self.session.is_some() {
            self.upcoming = Some(session);
        } else {
            self.session = Some(session);
        }
    }

    fn open_failed(&mut self, error: Error, at: Moment, out: &mut Vec<Action>) {
        self.opening.is_busy = false;
        let is_page = std::mem::take(&mut self.is_page_opening);
        if is_page && error.status() == Some(404) {
            // The stream exists, since it was read from: nothing more lies in the range.
            (self.next_page, self.has_ended) = (None, true);
            return;
        }
        let is_silence = error.is_silence();
        // While the old session works and there is something to read of it, nothing is fatal: it is used until it is refused.
        let has_work = !self.queue.is_empty() || self.loading.is_some() || self.lane_segments > 0;
        let is_spare = self.session.is_some() && (self.next_page.is_none() || has_work);
        let delay = match (is_silence, is_spare) {
            (true, _) => self.reconnect.steady(at.chance), // when the camera is back, every second counts
            (false, true) => self.refresh.next(at.chance),
            (false, false) => self.reconnect.next(at.chance),
        };
        self.opening.not_before = Some(at.now + delay);
        if is_spare && !is_page {
            self.refresh_at = Some(at.now + delay);
        }
        if is_silence {
            // The server answers well.
            (self.errors, self.failing_since) = (0, None);
            self.silent(at.now, out);
            self.last_error = Some(error.clone());
            out.push(Action::Waiting { error, retry_in: delay });
        } else if is_spare && !is_page {
            out.push(Action::RefreshFailed { error, retry_in: delay });
        } else if is_spare {
            out.push(Action::Recovering { error, recovery: Recovery::Retry, retry_in: Some(delay) });
        } else {
            let recovery = error.recovery();
            self.fail(error, recovery, Some(delay), at, out);
        }
    }

    fn silent(&mut self, since: Instant, out: &mut Vec<Action>) {
        if self.silent_since.is_none() {
            self.silent_since = Some(since);
            out.push(Action::Silent(Some(since)));
        }
        self.healthy_since = None;
        self.is_connected_no_more(out);
    }

    /// Gives the session up and opens another one after a delay.
    fn reopen(&mut self, at: Moment) -> Duration {
        self.session = self.upcoming.take();
        if self.session.is_some() {
            return Duration::ZERO;
        }
        let was_healthy =
            self.healthy_since.is_some_and(|since| at.now.saturating_duration_since(since) >= HEALTHY_AFTER);
        self.healthy_since = None;
        let first = self.options.config.reconnect_delay.min(FIRST_REOPEN).mul_f64(at.chance);
        let delay = if was_healthy { first } else { self.reconnect.next(at.chance) };
        self.refresh_at = None;
        self.opening.not_before = Some(at.now + delay);
        delay
    }

    /// The session that a playlist was asked for; `None` when it is gone.
    fn session_of(&mut self, generation: u32) -> Option<&mut ActiveSession> {
        [&mut self.session, &mut self.upcoming].into_iter().flatten().find(|session| session.generation == generation)
    }

    fn playlist_failed(&mut self, error: Error, generation: u32, at: Moment, out: &mut Vec<Action>) {
        let is_upcoming = self.upcoming.as_ref().is_some_and(|session| session.generation == generation);
        let Some(session) = self.session_of(generation) else { return };
        if session.requested_rung.take().is_some() {
            session.next_rung = None;
            // The variant that was read so far is still there.
            session.playlist.is_busy = false;
            session.playlist.not_before = Some(at.now);
            self.adaptation.failed(at.now);
            return self.retry(error, Duration::ZERO, out);
        }
        let recovery = error.recovery();
        let delay = if recovery == Recovery::Retry { session.playlist.fail(at.now, at.chance).ok() } else { None };
        session.playlist.is_busy = false;
        if is_upcoming {
            // No harm done: the present session goes on.
            if delay.is_some() {
                return out.push(Action::Recovering { error, recovery: Recovery::Retry, retry_in: delay });
            }
            self.upcoming = None;
            let delay = self.refresh.next(at.chance);
            self.opening.not_before = Some(at.now + delay);
            self.refresh_at = Some(at.now + delay);
            if self.next_page.is_some() {
                return self.fail(error, Recovery::Retry, Some(delay), at, out); // the next page is waited for
            }
            return out.push(Action::RefreshFailed { error, retry_in: delay });
        }
        // A wrong URL, or something that is no playlist: no retry makes it right. A session that was handed out a moment
        // ago is another matter: there the camera may be silent.
        let is_refused =
            error.status().is_some_and(|status| matches!(status, 400..=499) && !matches!(status, 408 | 429));
        let is_throttled = error.code().is_some_and(|code| code.starts_with("ClientLimitExceeded"));
        let is_wrong = error.kind() == ErrorKind::Playlist || is_refused && !is_throttled;
        if recovery == Recovery::Fatal || is_wrong && !self.is_proven && !self.options.is_renewable {
            return self.fail(error, Recovery::Fatal, None, at, out);
        }
        if let Some(delay) = delay {
            return self.retry(error, delay, out);
        }
        let delay = self.reopen(at);
        self.fail(error, recovery, Some(delay), at, out);
    }

    fn read_multivariant(&mut self, playlist: &MultivariantPlaylist, generation: u32, at: Moment) -> Result<(), Error> {
        let rungs = hls::ladder(playlist, &self.options.caps).map_err(Error::from)?;
        let (rungs, rung) = self.adaptation.begin(&playlist.variants, rungs)?;
        if let Some(session) = self.session_of(generation) {
            if !session.rungs.is_empty() {
                let context = "multivariant playlist where the media playlist of a variant was expected";
                return Err(Error::new(ErrorKind::Playlist, context));
            }
            session.playlist.succeed();
            session.playlist.not_before = Some(at.now);
            session.enter(rungs, rung);
        }
        Ok(())
    }

    fn read_media_playlist(
        &mut self,
        playlist: &MediaPlaylist,
        generation: u32,
        requested_at: Instant,
        at: Moment,
        out: &mut Vec<Action>,
    ) {
        let is_refresh = self.upcoming.as_ref().is_some_and(|session| session.generation == generation);
        if is_refresh {
            self.session = self.upcoming.take();
        }
        let Some(session) = self.session.as_mut().filter(|session| session.generation == generation) else { return };
        session.playlist.succeed();
        let is_first = !std::mem::replace(&mut session.is_proven, true);
        let left_rung = session.arrive();
        if is_first {
            self.refresh.reset();
            if self.options.is_renewable && self.is_proven {
                self.tracker.begin_session();
            }
            let suggested = session.reload_interval.map(ReloadPolicy::Every);
            self.tracker.set_reload(self.options.reload.or(suggested).unwrap_or_default());
            out.push(Action::Began { generation, time_origin: session.time_origin, is_refresh });
        }
        if let Some(left) = left_rung {
            self.tracker.begin_variant();
            self.adaptation.switched(&session.rungs, left, session.rung, at.now);
            let bandwidth = session.rungs.get(session.rung).and_then(|variant| variant.bandwidth);
            out.push(Action::Switched { bandwidth });
        }
        self.is_proven = true;
        let update = self.tracker.update(playlist, requested_at, at.now);
        // A switch that was asked for while this playlist was under way does not wait for the next reload.
        session.playlist.not_before = if session.next_rung.is_some() { Some(at.now) } else { update.reload_at };
        self.succeeded_at = Some(at.now);
        let is_news = !update.fresh.is_empty();
        self.next_page = update.reload_at.is_none().then(|| session.next_page(playlist, is_news)).flatten();
        self.has_ended = update.reload_at.is_none() && self.next_page.is_none();
        if !std::mem::replace(&mut self.is_archive, update.reload_at.is_none()) && self.is_archive {
            out.push(Action::DecodeAhead);
        }
        let is_older = |item: &Item| item.generation != generation;
        let has_older = self.queue.front().is_some_and(is_older) || self.loading.as_ref().is_some_and(is_older);
        if is_first || left_rung.is_some() || has_older {
            self.remap(playlist, generation, left_rung.is_some(), out);
        }
        if is_news {
            self.stale_pages = 0;
        } else if let Some(start) = self.next_page {
            // A list that does not help is not asked for in a loop, nor from nearly the same time again and again.
            self.opening.not_before = Some(at.now + MIN_SESSION);
            self.next_page = start.checked_add(Duration::from_millis((1 << self.stale_pages) - 1));
            self.stale_pages = (self.stale_pages + 1).min(MAX_STALE_PAGES);
        }
        let gap_before = match update.event {
            Some(TrackerEvent::WindowPassed { missed }) => Some(Gap::of_segments(GapCause::WindowPassed, missed)),
            Some(TrackerEvent::Skipped { missed }) => Some(Gap::of_segments(GapCause::CatchUp, missed)),
            Some(
                TrackerEvent::Reset { continuity: Continuity::Lost { .. } }
                | TrackerEvent::Rejoined { continuity: Continuity::Lost { .. } },
            ) => Some(Gap::of_segments(GapCause::Reconnect, 0)),
            Some(TrackerEvent::Stuck { unchanged_for }) => {
                self.stuck(unchanged_for, at, out);
                None
            }
            _ => None,
        };
        if let Some(last) = playlist.segments.last() {
            self.last_start = last.estimated_start;
        }
        if is_news && self.silent_since.take().is_some() {
            out.push(Action::Silent(None));
        }
        self.queue.extend(update.fresh, generation, gap_before);
        let lag = self.queue.lag();
        self.initial_lag.get_or_insert(lag);
    }

    /// A silent camera is no failure: it is waited for, with a new session where there are such.
    fn stuck(&mut self, unchanged_for: Duration, at: Moment, out: &mut Vec<Action>) {
        let mut retry_in = None;
        if self.options.is_renewable && self.upcoming.is_none() && !self.opening.is_busy {
            let delay = self.reconnect.steady(at.chance);
            let soon = (at.now + delay).max(self.opening.not_before.unwrap_or(at.now));
            // Once planned it stays: every reload of a list that is stuck comes here.
            if self.silent_since.is_none() || self.refresh_at.is_none_or(|time| time > soon) {
                self.refresh_at = Some(soon);
                retry_in = Some(delay);
            }
        }
        if self.silent_since.is_none() {
            self.silent(at.now.checked_sub(unchanged_for).unwrap_or(at.now), out);
            let seconds = unchanged_for.as_secs_f64();
            let error = Error::new(ErrorKind::Playlist, format!("playlist that did not change for {seconds:.1} s"));
            let error = error.at(Stage::Playlist);
            self.last_error = Some(error.clone());
            out.push(Action::Recovering { error, recovery: Recovery::RefreshSession, retry_in });
        }
    }

    /// Whether a complete playlist was read to its last segment.
    fn is_all_loaded(&self) -> bool {
        self.has_ended && self.queue.is_empty() && self.loading.is_none()
    }

    fn is_page_wanted(&self) -> bool {
        self.next_page.is_some() && self.queue.len() <= PAGE_AHEAD
    }

    /// The start of the first segment that is still wanted.
    fn resume_from(&self) -> Option<SystemTime> {
        let waiting = self.loading.as_ref().or(self.queue.front());
        waiting.and_then(|item| item.segment.estimated_start).or(self.next_page).or(self.last_start)
    }

    /// Starts everything that can be started.
    fn advance(&mut self, at: Moment, out: &mut Vec<Action>) {
        if self.is_stopped || self.is_draining {
            return;
        }
        if self.state == ConnectionState::Disconnected {
            self.set_state(ConnectionState::Connecting, out);
        }
        if let Some((longest, since)) = self.options.config.max_silence.zip(self.silent_since)
            && at.now.saturating_duration_since(since) >= longest
        {
            let context = format!("camera that sent nothing for {longest:?} (max_silence)");
            let mut error = Error::new(ErrorKind::Session, context);
            if let Some(cause) = self.last_error.take() {
                error = error.with_source(cause);
            }
            return self.stop(Err(error), out);
        }
        if self.abandon_at().is_some_and(|time| time <= at.now) {
            self.is_abandoning = true;
            self.adaptation.overload();
            self.adapt(at.now);
        }
        for session in [&mut self.session, &mut self.upcoming].into_iter().flatten() {
            if session.playlist.is_due(at.now) {
                session.playlist.begin();
                session.requested_rung = session.next_rung;
                out.push(Action::LoadPlaylist { url: session.playlist_url(), generation: session.generation });
            }
        }
        self.catch_up();
        self.load_media(at.now, out);
        self.open_session(at.now, out); // what is loaded last may make the next page wanted
        if self.is_all_loaded() && self.lane_segments == 0 {
            self.is_draining = true;
            out.extend(self.queue.gap_at_end().map(Action::Break));
            out.push(Action::Drain);
        }
    }

    fn open_session(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.opening.is_busy || self.upcoming.is_some() {
            return;
        }
        let is_refresh_due = self.refresh_at.is_some_and(|time| time <= now) && !self.is_all_loaded();
        let is_wanted =
            (self.session.is_none() || self.is_page_wanted()) && self.opening.is_ready(now) && !self.is_all_loaded();
        if is_refresh_due || is_wanted {
            self.opening.begin();
            self.refresh_at = None;
            // The session of the present page lists what is still to be loaded of it.
            self.is_page_opening = self.session.is_some() && !is_refresh_due;
            let resume_from = if self.is_page_opening { self.next_page } else { self.resume_from() };
            out.push(Action::OpenSession { resume_from });
        }
    }
}

#[cfg(test)]
mod tests;
