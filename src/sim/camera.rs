//! What the handlers share: time, sessions, faults.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use super::changes::{Availability, Changes};
use super::endpoints::{Counters, Endpoint, Requests};
use super::faults::{Fault, FaultScript, ScheduledFault};
use super::refusal::Refusal;
use super::session::{Moment, Session, random_token};
use super::{FragmentNumbers, Playback, Recording, SessionOptions, Timeline, mux, playlist};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind};
use crate::h264::{LengthSize, NalUnits, nal_type};

/// Open sessions; one more closes the oldest.
const MAX_SESSIONS: usize = 1000;
/// Faulty answers that are remembered; one more forgets the oldest.
const MAX_EVENTS: usize = 100_000;
/// A live session is over when so long no fragment has come.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// Bytes that are flipped in a damaged picture.
const FLIPPED: usize = 64;

/// An answer that a fault touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FaultEvent {
    /// Since the camera's start, on its clock.
    pub at: Duration,
    /// What went wrong.
    pub fault: Fault,
    /// The fragment that was asked for.
    pub fragment: Option<u64>,
    /// What was asked for; `None` for a connection that was reset before anyone could ask.
    pub endpoint: Option<Endpoint>,
}

/// The time of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// Since the camera's start, on its clock.
    pub(super) running: Duration,
    pub(super) moment: Moment,
}

/// What a camera is made of, beside its faults.
pub(super) struct Setup {
    pub(super) timeline: Timeline,
    pub(super) second: Option<Arc<Recording>>,
    pub(super) epoch_decode_times: bool,
    /// How much had been filmed at the start.
    pub(super) lead: Duration,
    pub(super) speed: u32,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) stream: String,
    pub(super) arn: String,
    /// Of all sessions, whatever they ask for.
    pub(super) session_lifetime: Option<Duration>,
    /// In the sessions of the API.
    pub(super) numbers: FragmentNumbers,
}

/// A session, and how it is used.
struct Open {
    session: Session,
    expires: Option<Duration>,
    last_playlist: Option<Duration>,
    /// A live session whose stream fell silent.
    is_over: bool,
}

pub(super) struct Camera {
    setup: Setup,
    /// By recording.
    inits: Vec<Bytes>,
    started: Instant,
    script: Mutex<FaultScript>,
    sessions: Mutex<Sessions>,
    events: Mutex<VecDeque<FaultEvent>>,
    pub(super) counters: Counters,
}

#[derive(Default)]
struct Sessions {
    open: VecDeque<Open>,
    /// The most that were in use at a time.
    peak: usize,
}

/// Without sessions: their tokens are secrets.
impl fmt::Debug for Camera {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setup { lead, speed, stream, .. } = &self.setup;
        f.debug_struct("Camera")
            .field("stream", stream)
            .field("lead", lead)
            .field("speed", speed)
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Camera {
    pub(super) fn new(setup: Setup, script: FaultScript) -> Result<Self, Error> {
        let recordings = [Some(setup.timeline.recording()), setup.second.as_ref()];
        let inits = recordings.into_iter().flatten().map(|recording| mux::init(recording.track()));
        let inits = inits.collect::<Result<_, _>>()?;
        let started = setup.clock.now();
        let (sessions, events, counters) = Default::default();
        let camera = Self { setup, inits, started, script: Mutex::default(), sessions, events, counters };
        camera.add_faults(script)?;
        Ok(camera)
    }

    pub(super) fn setup(&self) -> &Setup {
        &self.setup
    }

    pub(super) fn timeline(&self) -> &Timeline {
        &self.setup.timeline
    }

    pub(super) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.setup.clock)
    }

    pub(super) fn requests(&self) -> Requests {
        self.counters.snapshot()
    }

    fn running(&self) -> Duration {
        self.setup.clock.now().saturating_duration_since(self.started)
    }

    /// Media time since the start.
    fn elapsed(&self, running: Duration) -> Duration {
        running.saturating_mul(self.setup.speed)
    }

    /// Media time since the timeline's origin.
    fn filmed(&self, running: Duration) -> Duration {
        self.setup.lead.saturating_add(self.elapsed(running))
    }

    fn moment(&self, running: Duration) -> Moment {
        Moment { published: self.timeline().published(self.filmed(running)), elapsed: self.elapsed(running) }
    }

    pub(super) fn now(&self) -> Now {
        let running = self.running();
        Now { running, moment: self.moment(running) }
    }

    /// What the playlists know of: nothing new while they are frozen.
    pub(super) fn moment_of_playlists(&self, now: Now) -> Moment {
        let Some(from) = self.frozen_since(now) else { return now.moment };
        self.log(now, Fault::Frozen, None, Some(Endpoint::MediaPlaylist));
        self.moment(from)
    }

    fn frozen_since(&self, now: Now) -> Option<Duration> {
        self.active_faults(now).iter().filter(|s| s.fault == Fault::Frozen).map(|s| s.from).min()
    }

    /// The capture time that a camera whose clock is right has reached.
    pub(super) fn capture_now(&self) -> SystemTime {
        let filmed = self.filmed(self.running());
        self.timeline().origin().checked_add(filmed).unwrap_or_else(|| self.setup.clock.wall())
    }

    /// Whether for 30 s no fragment has come.
    pub(super) fn is_silent(&self, now: Now) -> bool {
        let newest = self.timeline().published_after(now.moment.published);
        let limit = SILENCE_LIMIT.saturating_mul(self.setup.speed);
        now.moment.published == 0 || self.filmed(now.running).saturating_sub(newest) > limit
    }

    // Sessions.

    /// Opens a session: its token, and whether it has nothing to list.
    pub(super) fn open_session(&self, options: SessionOptions, expires: Option<Duration>) -> (String, bool) {
        let token = random_token(&mut fastrand::Rng::new());
        let now = self.now();
        // What a frozen playlist hides, a session opened meanwhile does not know either.
        let moment = self.frozen_since(now).map_or(now.moment, |from| self.moment(from));
        let session = Session::open(token.clone(), options, self.timeline(), moment);
        let is_empty = session.listed(self.timeline(), moment).is_empty();
        let lifetime = self.setup.session_lifetime.or(expires);
        let expires = lifetime.map(|lifetime| now.running.saturating_add(lifetime));
        let mut sessions = lock(&self.sessions);
        if sessions.open.len() >= MAX_SESSIONS {
            sessions.open.pop_front();
        }
        sessions.open.push_back(Open { session, expires, last_playlist: None, is_over: false });
        (token, is_empty)
    }

    /// The session of a request.
    pub(super) fn use_session(&self, token: &str, endpoint: Endpoint, now: Now) -> Result<Session, Refusal> {
        let mut guard = lock(&self.sessions);
        let sessions = &mut *guard;
        let found = sessions.open.iter_mut().find(|open| open.session.token() == token);
        let open = found.ok_or(Refusal::TOKEN_REFUSED)?;
        if open.expires.is_some_and(|expires| now.running >= expires) {
            return Err(Refusal::TOKEN_REFUSED);
        }
        // A stream that has just begun may be waited for, one that has ended may not.
        let is_live = open.session.options().playback == Playback::Live;
        open.is_over |= is_live && now.moment.published > 0 && self.is_silent(now);
        if open.is_over {
            self.log(now, Fault::Silent, None, Some(endpoint));
            return Err(Refusal::NOTHING_TO_LIST);
        }
        let session = open.session.clone();
        if endpoint == Endpoint::MediaPlaylist {
            open.last_playlist = Some(now.running);
            sessions.peak = sessions.peak.max(self.in_use(sessions, now.running));
        }
        Ok(session)
    }

    fn in_use(&self, sessions: &Sessions, running: Duration) -> usize {
        let target = Duration::from_secs(playlist::target_duration(self.timeline().recording()));
        let recent = target.saturating_mul(2) / self.setup.speed;
        let is_used = |open: &&Open| {
            open.last_playlist.is_some_and(|last| running.saturating_sub(last) <= recent)
                && open.expires.is_none_or(|expires| running < expires)
        };
        sessions.open.iter().filter(is_used).count()
    }

    pub(super) fn open_sessions(&self) -> usize {
        self.in_use(&lock(&self.sessions), self.running())
    }

    pub(super) fn peak_sessions(&self) -> usize {
        lock(&self.sessions).peak
    }

    // Faults.

    pub(super) fn inject(&self, fault: Fault, length: Duration) -> Result<(), Error> {
        self.add_faults([ScheduledFault::new(self.running(), length, fault)].into_iter().collect())
    }

    fn add_faults(&self, added: FaultScript) -> Result<(), Error> {
        added.check()?;
        if self.setup.second.is_none() && added.iter().any(|scheduled| scheduled.fault == Fault::Resolution) {
            return Err(Error::new(ErrorKind::Config, "fault resolution without a second recording"));
        }
        let mut script = lock(&self.script);
        script.extend(added.iter().copied());
        self.timeline().change(self.changes(&script));
        Ok(())
    }

    /// What the script does to fragments. Silences first: they decide which fragment is published when.
    fn changes(&self, script: &FaultScript) -> Changes {
        let draft = self.timeline().without_faults();
        let mut changes = Changes::default();
        for scheduled in script.iter().filter(|scheduled| scheduled.fault == Fault::Silent) {
            changes.pause(draft.first_filmed_from(self.filmed(scheduled.from)), self.elapsed(scheduled.length));
            draft.change(changes.clone());
        }
        for scheduled in script.iter() {
            match scheduled.fault {
                Fault::Missing { .. }
                | Fault::Unlisted { .. }
                | Fault::Corrupt { .. }
                | Fault::Jitter { .. }
                | Fault::Skew { .. }
                | Fault::Resolution
                | Fault::Discontinuity => {
                    let [from, until] = [scheduled.from, scheduled.until()].map(|at| draft.published(self.filmed(at)));
                    changes.touch(from..until, scheduled.fault);
                }
                _ => {}
            }
        }
        changes
    }

    pub(super) fn active_faults(&self, now: Now) -> Vec<ScheduledFault> {
        lock(&self.script).iter().filter(|scheduled| scheduled.is_active(now.running)).copied().collect()
    }

    pub(super) fn script(&self) -> FaultScript {
        lock(&self.script).clone()
    }

    /// Whether the server is gone, with an entry in the log.
    pub(super) fn is_gone(&self) -> bool {
        let running = self.running();
        let is_gone = lock(&self.script).iter().any(|s| s.fault == Fault::Gone && s.is_active(running));
        if is_gone {
            self.record(FaultEvent { at: running, fault: Fault::Gone, fragment: None, endpoint: None });
        }
        is_gone
    }

    pub(super) fn log(&self, now: Now, fault: Fault, fragment: Option<u64>, endpoint: Option<Endpoint>) {
        self.record(FaultEvent { at: now.running, fault, fragment, endpoint });
    }

    fn record(&self, event: FaultEvent) {
        let mut events = lock(&self.events);
        if events.len() >= MAX_EVENTS {
            events.pop_front();
        }
        events.push_back(event);
    }

    pub(super) fn events(&self) -> Vec<FaultEvent> {
        lock(&self.events).iter().copied().collect()
    }

    // Media.

    /// The recording of an init fragment's number.
    pub(super) fn recording(&self, sequence: u64) -> &Recording {
        match &self.setup.second {
            Some(second) if !sequence.is_multiple_of(2) => second,
            _ => self.timeline().recording(),
        }
    }

    pub(super) fn init(&self, sequence: u64) -> Bytes {
        let own = if sequence.is_multiple_of(2) { self.inits.first() } else { self.inits.last() };
        own.cloned().unwrap_or_default()
    }

    pub(super) fn fragment(&self, index: u64) -> Result<Bytes, Error> {
        let timeline = self.timeline();
        let recording = self.recording(timeline.init_sequence(index));
        let (_, cut) = recording.cut(index);
        let epoch = if self.setup.epoch_decode_times { timeline.epoch_ticks() } else { 0 };
        let decode_time = epoch.saturating_add(timeline.fragment(index).decode_time);
        let mut samples = recording.samples_of(cut).to_vec();
        if timeline.availability(index) == Availability::Corrupt {
            // The first picture, on which all others of the fragment rest.
            if let Some(sample) = samples.first_mut() {
                sample.data = damaged(&sample.data, recording.track().length_size);
            }
        }
        // Sequence numbers count from 1, and have 32 bits whatever the index.
        mux::media(&samples, (index as u32).wrapping_add(1), decode_time)
    }
}

/// Flips bytes behind the header of the first IDR slice: from its slice header on, which a decoder cannot take for sound.
fn damaged(sample: &Bytes, length_size: LengthSize) -> Bytes {
    let field = length_size.bytes();
    let mut start = 0;
    for nal in NalUnits::new(sample, length_size).flatten() {
        start += field;
        if nal.kind() == nal_type::IDR_SLICE {
            break;
        }
        start += nal.bytes().len();
    }
    let mut data = sample.to_vec();
    data.iter_mut().skip(start + 1).take(FLIPPED).for_each(|byte| *byte = !*byte);
    data.into()
}
