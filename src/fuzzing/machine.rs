//! Steps of the state machine of a source, against a service that keeps the rules of KVS and fails in every way.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::{BASE, Choices, SECRET, SEGMENT, ZERO, check_error, list};
use crate::hls::{FragmentNumber, InitRef, LiveEdge, Playlist, Segment, VariantCaps, VariantChoice};
use crate::session::Session;
use crate::source::machine::{Action, ConnectionState, Download, Input, Machine, MachineOptions, Moment};
use crate::{Config, Delivery, Error, ErrorKind};

/// Segments that a playlist lists.
const WINDOW: u64 = 5;

/// Fragment numbers and times, as KVS gives them.
const NAMING: u8 = 3;

enum Media {
    Init,
    Segment(u64),
}

/// What is under way, and what has been.
struct Service {
    machine: Machine,
    now: Instant,
    wall: SystemTime,
    /// One more than the last content that exists.
    end: u64,
    has_init: bool,
    is_opening: bool,
    /// Requests for playlists: by session, when.
    playlists: BTreeMap<u32, Instant>,
    /// By session: the contents listed last, and which of them had sequence number zero.
    sessions: BTreeMap<u32, (Range<u64>, u64)>,
    media: Option<Media>,
    lane: usize,
    is_draining: bool,
    /// The content that reached the lane last.
    last: Option<u64>,
    is_loss_told: bool,
    is_stopped: bool,
}

/// The first bytes choose the options, the others what happens next.
pub fn machine_steps(data: &[u8]) {
    let mut choices = Choices(data);
    let mut config = Config::aggressive();
    config.max_consecutive_errors = 1 + choices.below(20) as u32;
    config.max_silence = Some(Duration::from_secs(choices.below(100) * 10)).filter(|silence| !silence.is_zero());
    let delivery = match choices.below(3) {
        0 => Delivery::All,
        1 => Delivery::default(),
        _ => Delivery::Latest,
    };
    let live_edge = match choices.below(3) {
        0 => LiveEdge::Newest,
        1 => LiveEdge::Oldest,
        _ => LiveEdge::Segments(2),
    };
    let options = MachineOptions {
        config,
        delivery,
        live_edge,
        reload: None,
        caps: VariantCaps::default(),
        variant: VariantChoice::default(),
        max_ahead_bytes: 1 << 20,
        is_renewable: true,
    };
    let mut service = Service {
        machine: Machine::new(options),
        now: *ZERO,
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        end: 1,
        has_init: choices.below(2) == 1,
        is_opening: false,
        playlists: BTreeMap::new(),
        sessions: BTreeMap::new(),
        media: None,
        lane: 0,
        is_draining: false,
        last: None,
        is_loss_told: false,
        is_stopped: false,
    };
    service.handle(Input::Tick, 0);
    while !choices.0.is_empty() && !service.is_stopped {
        service.step(&mut choices);
    }
}

impl Service {
    fn step(&mut self, choices: &mut Choices<'_>) {
        let (event, detail) = (choices.below(12), choices.next());
        match event {
            0 | 1 => self.wait(u64::from(detail) * 100),
            2 => self.tick(),
            3 if self.is_opening => {
                let result = self.open(detail);
                self.is_opening = false;
                self.handle(Input::Opened(result), detail);
            }
            4 | 5 if !self.playlists.is_empty() => {
                let index = usize::from(detail) % self.playlists.len();
                let (&generation, &requested_at) = self.playlists.iter().nth(index).expect("counted");
                self.playlists.remove(&generation);
                let result = self.playlist(generation, choices.next());
                self.handle(Input::Playlist { generation, requested_at, result }, detail);
            }
            6 | 7 => match self.media.take() {
                Some(Media::Init) => self.handle(Input::Init(answer(detail)), detail),
                Some(Media::Segment(content)) => self.segment(content, detail),
                None => {}
            },
            8 if self.lane > 0 => {
                self.lane -= 1;
                self.handle(Input::SegmentDecoded, detail);
            }
            9 if self.lane > 0 => match detail % 8 {
                0 => {
                    let error = Error::new(ErrorKind::Decoder, "damage").at(crate::Stage::Decode);
                    self.handle(Input::DecodeFailed(error), detail);
                }
                _ => self.handle(Input::Frame, detail),
            },
            10 if self.is_draining && self.lane == 0 => {
                self.is_draining = false;
                self.handle(Input::Drained, detail);
            }
            11 => match detail % 16 {
                0 => self.handle(Input::Refresh, detail),
                1 => self.handle(Input::Reconnect, detail),
                2 => self.wall += Duration::from_secs(3600),
                3 => self.wall -= Duration::from_secs(3600),
                _ => self.tick(),
            },
            _ => self.wait(50),
        }
    }

    fn wait(&mut self, milliseconds: u64) {
        let time = Duration::from_millis(milliseconds);
        self.now += time;
        self.wall += time;
        self.end = 1 + ((self.now - *ZERO).as_nanos() / SEGMENT.as_nanos()) as u64;
        self.handle(Input::Tick, 7);
    }

    /// Goes on to the machine's next deadline, as its driver does; once there, nothing is due any more.
    fn tick(&mut self) {
        if let Some(deadline) = self.machine.deadline() {
            let wait = deadline.saturating_duration_since(self.now);
            assert!(wait < Duration::from_secs(8 * 24 * 3600), "waits {wait:?}");
            self.wait(wait.as_millis() as u64 + 1);
        }
        self.handle(Input::Tick, 9);
        let is_due = self.machine.deadline().is_some_and(|deadline| deadline <= self.now);
        assert!(self.is_stopped || !is_due, "due, and nothing comes of it: {:#?}", self.machine);
    }

    fn open(&self, detail: u8) -> Result<Session, Error> {
        let session = Session::new(BASE.clone()).reload_interval(Duration::from_secs(1));
        match detail % 16 {
            0..=2 => answer(detail / 16).map(|()| session),
            3 => Ok(session),
            lifetime => Ok(session.expires_at(self.wall + Duration::from_secs(u64::from(lifetime) * 30))),
        }
    }

    fn playlist(&mut self, generation: u32, detail: u8) -> Result<Playlist, Error> {
        if detail % 8 == 0 {
            answer(detail / 8)?;
        }
        let newest = self.end.saturating_sub(WINDOW)..self.end;
        let (listed, origin) = self.sessions.entry(generation).or_insert((newest.clone(), newest.start));
        // A cache may answer with the list before.
        if detail % 8 != 1 {
            *listed = newest;
        }
        let mut playlist = list(NAMING, listed.start - *origin, listed.clone().collect());
        playlist.has_ended = detail == 255;
        if self.has_init {
            let init = InitRef { url: BASE.join("init").expect("a URL"), byte_range: None };
            let init = Arc::new(init);
            playlist.segments.iter_mut().for_each(|segment| segment.init = Some(init.clone()));
        }
        Ok(Playlist::Media(playlist))
    }

    fn segment(&mut self, content: u64, detail: u8) {
        let result = if detail % 4 == 0 { answer(detail / 4) } else { Ok(()) };
        // Nothing of it, or all, or what came before it broke off.
        let is_in_lane = result.is_ok() || detail % 32 == 4;
        if is_in_lane {
            self.lane += 1;
        }
        if result.is_ok() {
            if let Some(last) = self.last {
                assert!(content > last, "content {content} after {last}");
                assert!(content == last + 1 || self.is_loss_told, "{last} to {content} without a word");
            }
            (self.last, self.is_loss_told) = (Some(content), false);
        }
        let download = result.is_ok().then_some(Download { bytes: 1 << 18, elapsed: Duration::from_millis(300) });
        self.handle(Input::Segment { result, is_in_lane, download }, detail);
    }

    fn handle(&mut self, input: Input, chance: u8) {
        let mut actions = Vec::new();
        let at = Moment { now: self.now, wall: self.wall, chance: f64::from(chance) / 256.0 };
        self.machine.handle(input, at, &mut actions);
        for action in actions {
            assert!(!self.is_stopped, "{action:?} after the end");
            assert!(!format!("{action:?}").contains(SECRET), "a secret");
            self.act(action);
        }
        let is_waiting = self.is_opening || !self.playlists.is_empty() || self.media.is_some() || self.lane > 0;
        assert!(
            self.is_stopped || is_waiting || self.is_draining || self.machine.deadline().is_some(),
            "nothing to wait for: {:#?}",
            self.machine
        );
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::OpenSession { .. } => {
                assert!(!std::mem::replace(&mut self.is_opening, true), "two sessions are being opened");
            }
            Action::LoadPlaylist { generation, .. } => {
                assert!(self.playlists.insert(generation, self.now).is_none(), "two playlists of session {generation}");
            }
            Action::LoadInit(_) => {
                assert!(self.media.replace(Media::Init).is_none(), "an init segment beside something else");
            }
            Action::LoadSegment { segment, .. } => {
                assert!(!self.is_draining, "a segment after the last");
                assert!(self.media.replace(Media::Segment(content(&segment))).is_none(), "two segments");
            }
            Action::AbandonSegment => {
                assert!(matches!(self.media.take(), Some(Media::Segment(_))), "no segment to abandon");
            }
            Action::Break(_) => self.is_loss_told = true,
            Action::Drain => assert!(!std::mem::replace(&mut self.is_draining, true), "drained twice"),
            Action::Recovering { error, .. } | Action::Waiting { error, .. } => check_error(error),
            Action::Stop(result) => {
                self.is_stopped = true;
                result.err().into_iter().for_each(check_error);
            }
            Action::State(state) => assert!(state != ConnectionState::Disconnected || self.lane == 0),
            Action::DecodeAhead | Action::Silent(_) | Action::Began { .. } | Action::Switched { .. } => {}
        }
    }
}

fn content(segment: &Segment) -> u64 {
    let number = segment.fragment_number.as_ref().map(FragmentNumber::as_str).expect("all have one");
    number.trim_start_matches('0').parse::<u64>().expect("a small one") - 1
}

/// A request that goes well or fails in one of the ways there are.
fn answer(detail: u8) -> Result<(), Error> {
    let network = |status: u16| Error::new(ErrorKind::Network, "answer").with_status(status);
    Err(match detail % 16 {
        0..=2 => return Ok(()),
        3 => network(401),
        4 => network(403),
        5 => network(404),
        6 => network(410),
        7 => network(416),
        8 => network(429),
        9 => network(500),
        10 => network(503),
        11 => Error::new(ErrorKind::Network, "no answer").timed_out(),
        12 => Error::new(ErrorKind::Limit, "too large"),
        13 => Error::new(ErrorKind::Container, "damaged"),
        14 => Error::new(ErrorKind::Session, "No fragments found").with_status(404),
        _ => Error::new(ErrorKind::Playlist, "damaged"),
    })
}
