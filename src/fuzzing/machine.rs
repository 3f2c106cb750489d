//! Steps of the state machine of a source, against a service that keeps its own rules and fails in every way.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::{BASE, Choices, SECRET, SEGMENT, ZERO, check_error, limits, list};
use crate::hls::{InitRef, LiveEdge, MediaPlaylist, Playlist, ReloadPolicy, VariantCaps, VariantChoice, parse};
use crate::session::{Page, Session};
use crate::source::machine::{Action, ConnectionState, Download, Input, Machine, MachineOptions, Moment};
use crate::{Config, Delivery, Error, ErrorKind, SecretUrl, Stage};

/// Segments that a live playlist lists.
const WINDOW: u64 = 5;
/// Segments in the lane of a live source.
const MAX_IN_LANE: usize = 2;
/// Requests of a kind that may follow each other with no time between.
const MAX_AT_ONCE: u32 = 8;
/// Steps and time in which a service that works again is made use of.
const MAX_STEPS: u32 = 3000;
const MAX_TIME: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Sessions that count anew, as KVS has them.
    Live,
    /// Sessions that list a page each.
    Archive,
    /// One URL for ever, whose list may end.
    Fixed,
}

enum Media {
    Init(Arc<InitRef>),
    Segment { content: u64, may_be_abandoned: bool },
}

/// What a session lists.
struct Listing {
    /// The contents listed last.
    listed: Range<u64>,
    /// The content that has sequence number zero.
    origin: u64,
}

/// What is under way, and what has been.
struct Service {
    machine: Machine,
    kind: Kind,
    /// Bit 0: fragment numbers; bit 1: times.
    naming: u8,
    has_variants: bool,
    has_init: bool,
    /// Whether every thirteenth content is listed as missing.
    has_gaps: bool,
    /// Segments that a page of an archive lists at most, and whether fewer may be listed of a range.
    page: (u64, bool),
    now: Instant,
    wall: SystemTime,
    /// One more than the last content that exists.
    end: u64,
    has_ended: bool,
    generation: u32,
    /// Where the session under way is to begin.
    opening: Option<Option<SystemTime>>,
    /// Requests for playlists by session.
    playlists: BTreeMap<u32, (Instant, SecretUrl)>,
    sessions: BTreeMap<u32, Listing>,
    media: Option<Media>,
    /// The initialization section that the demuxer has.
    init: Option<Arc<InitRef>>,
    lane: usize,
    is_lane_wide: bool,
    is_draining: bool,
    /// The content that reached the lane last.
    last: Option<u64>,
    delivered: u32,
    is_loss_told: bool,
    /// Whether the service said wrongly that an archive holds nothing more.
    is_end_wrong: bool,
    /// Sessions and playlists asked for since time passed.
    requests: (u32, u32),
    is_stopped: bool,
}

/// The first bytes choose camera and options, the others what happens next. Then everything works again, and frames must
/// come or the end.
pub fn machine_steps(data: &[u8]) {
    let mut choices = Choices(data);
    let mut service = Service::new(&mut choices);
    service.handle(Input::Tick, 0);
    while !choices.0.is_empty() && !service.is_stopped {
        service.step(&mut choices);
    }
    service.recover();
    assert!(!format!("{:?}", service.machine).contains(SECRET), "a secret");
    for input in [Input::Tick, Input::Reconnect, Input::Refresh, Input::SegmentDecoded, Input::Frame, Input::Drained] {
        if service.is_stopped {
            service.handle(input, 0);
        }
    }
}

impl Service {
    fn new(choices: &mut Choices<'_>) -> Self {
        let mut config = if choices.below(2) == 0 { Config::aggressive() } else { Config::default() };
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
        let kind = [Kind::Live, Kind::Archive, Kind::Fixed][choices.below(3) as usize];
        let naming = match (kind, choices.below(4) as u8) {
            (Kind::Live, naming) => naming.max(1),
            (Kind::Archive, naming) => naming | 2,
            (Kind::Fixed, naming) => naming,
        };
        let flags = choices.next();
        let variant = match choices.below(6) {
            0..=2 => VariantChoice::Adaptive,
            3 => VariantChoice::Highest,
            4 => VariantChoice::Lowest,
            _ => VariantChoice::Listed(2),
        };
        let reload = Some(ReloadPolicy::Every(Duration::from_millis(choices.below(20) * 500)));
        let options = MachineOptions {
            config,
            delivery,
            live_edge,
            reload: reload.filter(|_| flags & 8 != 0),
            caps: VariantCaps::default(),
            variant,
            max_ahead_bytes: 1 << 20,
            is_renewable: kind != Kind::Fixed,
        };
        Self {
            machine: Machine::new(options),
            kind,
            naming,
            has_variants: flags & 1 != 0,
            has_init: flags & 2 != 0,
            has_gaps: flags & 4 != 0,
            page: (1 + choices.below(10), flags & 16 != 0),
            now: *ZERO,
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            end: if kind == Kind::Archive { 1 + choices.below(60) } else { 1 },
            has_ended: kind == Kind::Archive,
            generation: 0,
            opening: None,
            playlists: BTreeMap::new(),
            sessions: BTreeMap::new(),
            media: None,
            init: None,
            lane: 0,
            is_lane_wide: false,
            is_draining: false,
            last: None,
            delivered: 0,
            is_loss_told: false,
            is_end_wrong: false,
            requests: (0, 0),
            is_stopped: false,
        }
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        let (event, detail) = (choices.below(13), choices.next());
        match event {
            0 | 1 => self.wait(u64::from(detail) * 100),
            2 => self.tick(),
            3 if self.opening.is_some() => {
                let error = answer(detail / 16).err().filter(|_| detail % 16 < 3);
                self.open(detail, error);
            }
            4 | 5 if !self.playlists.is_empty() => {
                let how = choices.next();
                self.playlist(usize::from(detail), how);
            }
            6 | 7 if self.media.is_some() => self.media(detail),
            8 if self.lane > 0 => self.decoded(detail),
            9 if self.lane > 0 => match detail % 16 {
                0 | 1 => {
                    let error = Error::new(ErrorKind::Decoder, "damage").at(Stage::Decode);
                    self.handle(Input::DecodeFailed(if detail == 0 { error.unsupported() } else { error }), detail);
                }
                _ => self.handle(Input::Frame, detail),
            },
            10 if self.is_draining && self.lane == 0 => self.handle(Input::Drained, detail),
            11 => match detail % 16 {
                0 | 1 => {
                    self.requests = (0, 0);
                    self.handle(if detail % 16 == 0 { Input::Refresh } else { Input::Reconnect }, detail);
                }
                2 => self.wall += Duration::from_secs(3600),
                3 => self.wall -= Duration::from_secs(3600),
                4 => self.has_ended |= self.kind == Kind::Fixed,
                _ => self.tick(),
            },
            // Time that the machine does not hear of.
            12 => self.pass(u64::from(detail) * 100),
            _ => self.wait(50),
        }
    }

    fn pass(&mut self, milliseconds: u64) {
        let time = Duration::from_millis(milliseconds);
        if !time.is_zero() {
            self.requests = (0, 0);
        }
        self.now += time;
        self.wall += time;
        if !self.has_ended {
            self.end = self.end.max(1 + ((self.now - *ZERO).as_nanos() / SEGMENT.as_nanos()) as u64);
        }
    }

    fn wait(&mut self, milliseconds: u64) {
        self.pass(milliseconds);
        self.handle(Input::Tick, 7);
    }

    /// Goes on to the machine's next deadline, as its driver does.
    fn tick(&mut self) {
        if let Some(deadline) = self.machine.deadline() {
            let wait = deadline.saturating_duration_since(self.now);
            assert!(wait < Duration::from_secs(8 * 24 * 3600), "waits {wait:?}");
            self.wait(wait.as_millis() as u64 + 1);
        }
    }

    /// From now on nothing fails.
    fn recover(&mut self) {
        let (start, delivered) = (self.now, self.delivered);
        for _ in 0..MAX_STEPS {
            if self.is_stopped || !self.has_ended && self.delivered > delivered + 2 {
                return;
            }
            if self.media.is_some() {
                self.pass(100);
                self.media(1);
            } else if self.lane > 0 {
                self.handle(Input::Frame, 99);
                self.decoded(99);
            } else if self.is_draining {
                self.handle(Input::Drained, 99);
            } else if self.opening.is_some() {
                self.open(3, None);
            } else if !self.playlists.is_empty() {
                self.playlist(0, 7);
            } else {
                self.tick();
            }
            assert!(self.now - start < MAX_TIME, "nothing came for {MAX_TIME:?}: {:#?}", self.machine);
        }
        panic!("nothing came in {MAX_STEPS} steps: {:#?}", self.machine);
    }

    /// The sessions of a fixed URL are one.
    fn key(&self, generation: u32) -> u32 {
        if self.kind == Kind::Fixed { 0 } else { generation }
    }

    /// A URL that holds a session's token.
    fn url(&self, name: &str, generation: u32) -> SecretUrl {
        let join = if name.contains('?') { '&' } else { '?' };
        BASE.join(&format!("{name}{join}SessionToken={SECRET}{}", self.key(generation))).expect("a URL")
    }

    fn check_token(&self, url: &SecretUrl, generation: u32) {
        let token = url.query_value("SessionToken");
        assert_eq!(token, Some(format!("{SECRET}{}", self.key(generation))), "another session's URL");
    }

    fn open(&mut self, detail: u8, error: Option<Error>) {
        let resume_from = self.opening.take().expect("asked for");
        let result = match error {
            Some(error) => Err(error),
            None => self.session(resume_from, detail),
        };
        match &result {
            Ok(_) => self.generation += 1,
            Err(error) => self.is_end_wrong |= self.kind == Kind::Archive && error.status() == Some(404),
        }
        self.handle(Input::Opened(result), detail);
    }

    fn session(&mut self, resume_from: Option<SystemTime>, detail: u8) -> Result<Session, Error> {
        let generation = self.generation + 1;
        let name = if self.has_variants { "multivariant" } else { "2/media" };
        let mut session = Session::new(self.url(name, generation)).reload_interval(Duration::from_secs(1));
        session.expires_at = match detail % 16 {
            0..=3 => None,
            4 => Some(SystemTime::UNIX_EPOCH),
            5 => self.wall.checked_add(Duration::from_secs(u64::MAX >> 2)),
            lifetime => Some(self.wall + Duration::from_secs(u64::from(lifetime) * 30)),
        };
        if self.kind != Kind::Archive {
            return Ok(session);
        }
        let is_wanted = |content: &u64| resume_from.is_none_or(|from| start_of(*content) >= from);
        let start = (0..self.end).find(is_wanted).ok_or_else(|| answer(14).expect_err("silence"))?;
        let (max_segments, is_ranged) = self.page;
        let length = if is_ranged { max_segments.min(3) } else { max_segments };
        let listed = start..self.end.min(start + length);
        let next = (is_ranged && listed.end < self.end).then(|| start_of(listed.end));
        session.page = Some(Page { max_segments: max_segments as usize, next });
        self.sessions.insert(generation, Listing { listed, origin: start });
        Ok(session)
    }

    /// Answers one of the playlists under way.
    fn playlist(&mut self, index: usize, how: u8) {
        let generation = *self.playlists.keys().nth(index % self.playlists.len()).expect("counted");
        let (requested_at, url) = self.playlists.remove(&generation).expect("listed");
        let result = match answer(how / 8).err().filter(|_| how.is_multiple_of(8)) {
            Some(error) => Err(error),
            None if url.expose().path().ends_with("multivariant") || how == 253 => self.multivariant(generation),
            None => Ok(Playlist::Media(self.media_playlist(&url, generation, how))),
        };
        self.handle(Input::Playlist { generation, requested_at, result }, how);
    }

    fn multivariant(&self, generation: u32) -> Result<Playlist, Error> {
        let variants = (0..3).map(|rung| {
            let bandwidth = 1_000_000 << rung;
            format!(
                "#EXT-X-STREAM-INF:BANDWIDTH={bandwidth}\n{}\n",
                self.url(&format!("{rung}/media"), generation).expose()
            )
        });
        let text = format!("#EXTM3U\n{}", variants.collect::<String>());
        Ok(parse(text.as_bytes(), &BASE, &limits())?)
    }

    fn media_playlist(&mut self, url: &SecretUrl, generation: u32, how: u8) -> MediaPlaylist {
        // A server may be late by a segment, and a cache may answer with the list before.
        let end = if how % 8 == 2 { self.end.saturating_sub(1).max(1) } else { self.end };
        let newest = end.saturating_sub(WINDOW)..end;
        let key = self.key(generation);
        let origin = if self.kind == Kind::Fixed { 0 } else { newest.start };
        let listing = self.sessions.entry(key).or_insert(Listing { listed: newest.clone(), origin });
        if how % 8 != 1 && self.kind != Kind::Archive && newest.end >= listing.listed.end {
            listing.listed = newest;
        }
        let (listed, origin) = (listing.listed.clone(), listing.origin);
        let mut playlist = list(self.naming, listed.start - origin, listed.clone().collect());
        playlist.has_ended = self.has_ended && listed.end == self.end || self.kind == Kind::Archive;
        let rung = url.expose().path().rsplit('/').nth(1).expect("a folder").to_owned();
        for (segment, content) in playlist.segments.iter_mut().zip(listed) {
            segment.url = self.url(&format!("/{rung}/segment?n={content}"), generation);
            segment.is_gap = self.has_gaps && content % 13 == 12;
            // The encoder's parameters change now and then.
            let init = self.url(&format!("/{rung}/init?n={}", content / 20), generation);
            segment.init = self.has_init.then(|| Arc::new(InitRef { url: init, byte_range: None }));
        }
        playlist
    }

    /// Answers what is under way of segments and their headers.
    fn media(&mut self, detail: u8) {
        let result = if detail.is_multiple_of(4) { answer(detail / 4) } else { Ok(()) };
        let (content, may_be_abandoned) = match self.media.take().expect("asked for") {
            Media::Init(init) => {
                if result.is_ok() {
                    self.init = Some(init);
                }
                return self.handle(Input::Init(result), detail);
            }
            Media::Segment { content, may_be_abandoned } => (content, may_be_abandoned),
        };
        // Nothing of it, or all, or what came before it broke off.
        let is_in_lane = if result.is_ok() { detail != 255 } else { detail % 32 == 4 && !may_be_abandoned };
        self.lane += usize::from(is_in_lane);
        if result.is_ok() {
            if let Some(last) = self.last {
                assert!(content > last, "content {content} after {last}");
                assert!(content == last + 1 || self.is_loss_told, "{last} to {content} without a word");
            }
            (self.last, self.is_loss_told) = (Some(content), false);
            self.delivered += 1;
        }
        let elapsed = Duration::from_millis(u64::from(detail) * 10);
        let download = result.is_ok().then_some(Download { bytes: 1 << 18, elapsed });
        self.handle(Input::Segment { result, is_in_lane, download }, detail);
    }

    fn decoded(&mut self, detail: u8) {
        self.lane -= 1;
        self.handle(Input::SegmentDecoded, detail);
    }

    fn handle(&mut self, input: Input, chance: u8) {
        if matches!(input, Input::Drained) {
            self.is_draining = false;
        }
        let is_tick = matches!(input, Input::Tick);
        let mut actions = Vec::new();
        let at = Moment { now: self.now, wall: self.wall, chance: f64::from(chance) / 256.0 };
        self.machine.handle(input, at, &mut actions);
        for action in actions {
            assert!(!self.is_stopped, "{action:?} after the end");
            assert!(!format!("{action:?}").contains(SECRET), "a secret");
            self.act(action);
        }
        if self.is_stopped {
            return;
        }
        let is_waiting = self.opening.is_some() || !self.playlists.is_empty() || self.media.is_some() || self.lane > 0;
        let deadline = self.machine.deadline();
        assert!(is_waiting || self.is_draining || deadline.is_some(), "nothing to wait for: {:#?}", self.machine);
        if deadline.is_some_and(|at| at <= self.now) {
            assert!(!is_tick, "due, and nothing comes of it: {:#?}", self.machine);
            self.handle(Input::Tick, chance);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::OpenSession { resume_from } => {
                assert!(!self.is_draining, "a session after the end");
                assert!(self.opening.replace(resume_from).is_none(), "two sessions are being opened");
                self.requests.0 += 1;
                assert!(self.requests.0 <= MAX_AT_ONCE, "one session after the other");
            }
            Action::LoadPlaylist { url, generation } => {
                assert!(!self.is_draining, "a playlist after the end");
                self.check_token(&url, generation);
                let before = self.playlists.insert(generation, (self.now, url));
                assert!(before.is_none(), "two playlists of session {generation}");
                self.requests.1 += 1;
                assert!(self.requests.1 <= MAX_AT_ONCE, "one playlist after the other");
            }
            Action::LoadInit(init) => {
                assert!(!self.is_draining && self.media.is_none(), "an init segment beside something else");
                self.media = Some(Media::Init(init));
            }
            Action::LoadSegment { segment, generation, may_be_abandoned } => {
                assert!(!self.is_draining && self.media.is_none(), "a segment beside something else");
                assert!(!segment.is_gap, "a segment that is not there");
                assert!(self.lane < MAX_IN_LANE || self.is_lane_wide, "{} segments in the lane", self.lane);
                self.check_token(&segment.url, generation);
                let is_init_there = segment.init.is_none() || segment.init == self.init;
                assert!(is_init_there, "the header is {:?}, not {:?}", self.init, segment.init);
                let content = segment.url.query_value("n").and_then(|content| content.parse().ok());
                let content = content.expect("all have one");
                self.media = Some(Media::Segment { content, may_be_abandoned });
            }
            Action::AbandonSegment => {
                let is_abandoned = matches!(self.media.take(), Some(Media::Segment { may_be_abandoned: true, .. }));
                assert!(is_abandoned, "no segment to abandon");
            }
            Action::Break(_) => self.is_loss_told = true,
            Action::Drain => {
                assert!(!std::mem::replace(&mut self.is_draining, true), "drained twice");
                assert!(self.media.is_none() && self.lane == 0, "drained beside something else");
            }
            Action::Recovering { error, .. } | Action::RefreshFailed { error, .. } | Action::Waiting { error, .. } => {
                check_error(error);
            }
            Action::Stop(result) => {
                self.is_stopped = true;
                match result {
                    Ok(()) => {
                        assert!(self.has_ended, "an end without an end");
                        let is_all = self.last.is_none_or(|last| last + 1 == self.end);
                        assert!(is_all || self.is_loss_told || self.is_end_wrong, "the end is missing");
                    }
                    Err(error) => check_error(error),
                }
            }
            Action::State(state) => assert!(state != ConnectionState::Disconnected || self.lane == 0),
            Action::DecodeAhead => self.is_lane_wide = true,
            Action::Silent(_) | Action::Began { .. } | Action::Switched { .. } => {}
        }
    }
}

/// When a content begins, as [`list`] has it.
fn start_of(content: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + SEGMENT * content as u32
}

/// A request that goes well or fails in one of the ways there are.
fn answer(detail: u8) -> Result<(), Error> {
    let network = |status: u16| Error::new(ErrorKind::Network, "answer").with_status(status);
    Err(match detail % 18 {
        0 | 1 => return Ok(()),
        2 => network(400).with_code("ClientLimitExceededException"),
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
        15 => Error::new(ErrorKind::Bitstream, "HEVC").unsupported(),
        16 => Error::new(ErrorKind::Session, "credentials").with_code("CredentialsNotLoaded"),
        _ => Error::new(ErrorKind::Playlist, "damaged"),
    })
}
