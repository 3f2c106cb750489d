use super::media::LANE_SEGMENTS;
use super::*;
use crate::hls::{LiveEdge, VariantCaps, VariantChoice};
use crate::limits::Limits;
use crate::secret::SecretUrl;
use crate::source::options::Delivery;

/// A machine with its clock, and what it wants done.
struct Bench {
    machine: Machine,
    now: Instant,
    actions: Vec<Action>,
    /// As told last.
    silent_since: Option<Instant>,
}

const BASE: &str = "https://host/hls/v1/media.m3u8?SessionToken=a";

fn options() -> MachineOptions {
    MachineOptions {
        config: Config::default(),
        delivery: Delivery::All,
        live_edge: LiveEdge::Oldest,
        reload: None,
        caps: VariantCaps::default(),
        variant: VariantChoice::default(),
        max_ahead_bytes: 0,
        is_renewable: true,
    }
}

/// KVS-like: global fragment numbers, the token in each URL, two seconds a segment.
fn media_playlist(first: u64, count: u64, sequence: u64, token: &str) -> Playlist {
    let mut text = format!(
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{sequence}\n#EXT-X-MAP:URI=\"init-{token}?SessionToken={token}\"\n"
    );
    for n in first..first + count {
        let second = 2 * n;
        text += &format!("#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:{second:02}Z\n#EXTINF:2,\n");
        text += &format!("fragment?FragmentNumber=9134385233318143243268206200000000{n:05}&SessionToken={token}\n");
    }
    parse(&text)
}

fn parse(text: &str) -> Playlist {
    hls::parse(text.as_bytes(), &SecretUrl::parse(BASE).unwrap(), &Limits::default()).unwrap()
}

fn network(status: u16) -> Error {
    Error::new(ErrorKind::Network, "answer").with_status(status)
}

impl Bench {
    fn new(options: MachineOptions) -> Self {
        let clock = crate::clock::SystemClock;
        let now = crate::clock::Clock::now(&clock);
        let mut bench = Self { machine: Machine::new(options), now, actions: Vec::new(), silent_since: None };
        bench.input(Input::Tick);
        bench
    }

    fn input(&mut self, input: Input) {
        let at = Moment { now: self.now, wall: SystemTime::UNIX_EPOCH, chance: 0.5 };
        self.machine.handle(input, at, &mut self.actions);
    }

    /// Lets time go on to the next deadline.
    fn wait(&mut self) -> Duration {
        let deadline = self.machine.deadline().expect("something to wait for");
        let waited = deadline.saturating_duration_since(self.now);
        self.now = self.now.max(deadline);
        self.input(Input::Tick);
        waited
    }

    /// The actions since the last call, in short.
    fn said(&mut self) -> Vec<String> {
        self.actions
            .drain(..)
            .map(|action| match action {
                Action::OpenSession { .. } => "open".into(),
                Action::LoadPlaylist { generation, .. } => format!("playlist of {generation}"),
                Action::LoadInit(_) => "init".into(),
                Action::LoadSegment { segment, generation, .. } => {
                    let number = segment.fragment_number.map_or_else(
                        || segment.sequence.to_string(),
                        |number| number.as_str()[34..].parse::<u32>().unwrap().to_string(),
                    );
                    format!("segment {number} of {generation}")
                }
                Action::Break(gap) => format!("gap {} {}", gap.cause, gap.segments),
                Action::Drain => "drain".into(),
                Action::DecodeAhead => "ahead".into(),
                Action::State(state) => state.to_string(),
                Action::Recovering { recovery, .. } => format!("{recovery:?}"),
                Action::RefreshFailed { .. } => "refresh failed".into(),
                Action::AbandonSegment => "abandon".into(),
                Action::Waiting { .. } => "waiting".into(),
                Action::Silent(since) => {
                    self.silent_since = since;
                    format!("silent {}", since.is_some())
                }
                Action::Began { is_refresh: true, .. } => "refreshed".into(),
                Action::Began { .. } => "began".into(),
                Action::Switched { bandwidth } => format!("switched to {}", bandwidth.unwrap_or(0)),
                Action::Stop(result) => format!("stop {}", result.is_ok()),
            })
            .collect()
    }

    fn open(&mut self, expires_after: Option<u64>) {
        let mut session = Session::new(SecretUrl::parse(BASE).unwrap());
        session.expires_at = expires_after.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        self.input(Input::Opened(Ok(session)));
    }

    fn playlist(&mut self, playlist: Playlist) {
        let generation = self.machine.generation;
        self.input(Input::Playlist { generation, requested_at: self.now, result: Ok(playlist) });
    }

    fn playlist_fails(&mut self, error: Error) {
        let generation = self.machine.generation;
        self.input(Input::Playlist { generation, requested_at: self.now, result: Err(error) });
    }

    /// The segment that is being loaded comes, after its initialization section if that is asked for first.
    fn segment(&mut self) {
        if self.machine.loading_since.is_none() {
            self.input(Input::Init(Ok(())));
        }
        self.input(Input::Segment { result: Ok(()), is_in_lane: true, download: None });
        self.input(Input::Frame);
        self.input(Input::SegmentDecoded);
    }

    fn segment_fails(&mut self, error: Error) {
        self.input(Input::Segment { result: Err(error), is_in_lane: false, download: None });
    }

    /// A machine that reads segments 0 and on.
    fn reading(options: MachineOptions, listed: u64) -> Self {
        let mut bench = Self::new(options);
        bench.open(None);
        bench.playlist(media_playlist(0, listed, 0, "a"));
        bench.input(Input::Init(Ok(())));
        bench.actions.clear();
        bench
    }
}

#[test]
fn a_stream_is_opened_step_by_step() {
    let mut bench = Bench::new(options());
    assert_eq!(bench.said(), ["connecting", "open"]);
    bench.open(None);
    assert_eq!(bench.said(), ["playlist of 1"]);
    bench.playlist(parse("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nmedia?SessionToken=a\n"));
    assert_eq!(bench.said(), ["playlist of 1"], "the variant's playlist");
    bench.playlist(media_playlist(0, 3, 0, "a"));
    assert_eq!(bench.said(), ["began", "init"]);
    bench.input(Input::Init(Ok(())));
    assert_eq!(bench.said(), ["segment 0 of 1"]);
    bench.input(Input::Segment { result: Ok(()), is_in_lane: true, download: None });
    assert_eq!(bench.said(), ["segment 1 of 1"], "one is decoded, one is loaded");
    bench.input(Input::Segment { result: Ok(()), is_in_lane: true, download: None });
    assert_eq!(bench.said(), Vec::<String>::new(), "the lane is full");
    bench.input(Input::Frame);
    bench.input(Input::SegmentDecoded);
    assert_eq!(bench.said(), ["connected", "segment 2 of 1"]);
    assert_eq!(bench.wait(), Duration::from_secs(2), "RFC 8216 §6.3.4: one target duration");
    assert_eq!(bench.said(), ["playlist of 1"]);
    bench.playlist(media_playlist(0, 3, 0, "a"));
    assert_eq!(bench.wait(), Duration::from_secs(1), "half of it when nothing changed");
}

#[test]
fn what_came_before_a_download_broke_off_counts_until_the_lane_is_through_with_it() {
    let mut bench = Bench::new(options());
    bench.open(None);
    bench.playlist(parse("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na\n#EXTINF:2,\nb\n#EXT-X-ENDLIST\n"));
    bench.said();
    for _ in 0..LANE_SEGMENTS {
        bench.input(Input::Segment { result: Err(network(503)), is_in_lane: true, download: None });
        bench.now += Duration::from_secs(60);
        bench.input(Input::Tick);
    }
    bench.said();
    assert_eq!(bench.machine.lane_segments, LANE_SEGMENTS);
    assert!(bench.machine.loading.is_none(), "the lane is full of beginnings");
    bench.input(Input::SegmentDecoded);
    assert!(bench.said().contains(&"segment 0 of 1".to_owned()));
    bench.input(Input::Segment { result: Ok(()), is_in_lane: true, download: None });
    (0..LANE_SEGMENTS).for_each(|_| bench.input(Input::SegmentDecoded));
    assert_eq!(bench.said(), ["segment 1 of 1"]);
    bench.input(Input::Segment { result: Ok(()), is_in_lane: true, download: None });
    bench.input(Input::SegmentDecoded);
    assert_eq!(bench.said(), ["drain"]);
}

#[test]
fn a_finished_playlist_is_drained() {
    let mut bench = Bench::new(options());
    bench.open(None);
    bench.playlist(parse("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na\n#EXT-X-ENDLIST\n"));
    bench.said();
    bench.segment();
    assert_eq!(bench.said(), ["connected", "drain"]);
    bench.input(Input::Drained);
    assert_eq!(bench.said(), ["disconnected", "stop true"]);
    bench.input(Input::Tick);
    assert_eq!(bench.said(), Vec::<String>::new(), "nothing after the end");
}

#[test]
fn a_finished_playlist_that_gave_nothing_is_an_error() {
    let mut bench = Bench::new(options());
    bench.open(None);
    bench.playlist(parse("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na\n#EXT-X-ENDLIST\n"));
    bench.said();
    bench.segment_fails(network(404));
    assert_eq!(bench.said(), ["SkipSegment", "gap segment_unavailable 1", "drain"]);
    bench.input(Input::Drained);
    assert_eq!(bench.said(), ["error", "stop false"]);
}

#[test]
fn a_session_is_replaced_before_it_expires_and_nothing_is_read_twice() {
    let mut bench = Bench::new(options());
    bench.open(Some(300));
    bench.playlist(media_playlist(0, 3, 0, "a"));
    bench.input(Input::Init(Ok(())));
    bench.segment();
    bench.segment();
    bench.said();
    // 300 s less the margin of 30 s, less a tenth of it by chance.
    let deadline = bench.machine.refresh_at.unwrap();
    assert_eq!(deadline.saturating_duration_since(bench.now), Duration::from_secs(267));
    bench.now = deadline;
    bench.input(Input::Tick);
    assert_eq!(bench.said(), ["playlist of 1", "open"], "the old session goes on meanwhile");
    bench.playlist(media_playlist(0, 4, 0, "a"));
    bench.open(Some(600));
    assert_eq!(bench.said(), ["playlist of 2"]);
    bench.playlist(media_playlist(1, 5, 0, "b"));
    assert_eq!(bench.said(), ["refreshed"], "segment 2 of the old session is under way");
    bench.segment();
    assert_eq!(bench.said(), ["init"], "another session may serve other bytes there");
    bench.input(Input::Init(Ok(())));
    assert_eq!(bench.said(), ["segment 3 of 2"], "listed by the old session, under its new URL");
    bench.segment();
    bench.segment();
    assert_eq!(bench.said(), ["segment 4 of 2", "segment 5 of 2"], "and no gap");
}

#[test]
fn a_refresh_that_fails_leaves_the_old_session_at_work() {
    let mut bench = Bench::new(options());
    bench.open(Some(300));
    bench.playlist(media_playlist(0, 1, 0, "a"));
    bench.input(Input::Init(Ok(())));
    bench.segment();
    bench.now = bench.machine.refresh_at.unwrap();
    bench.input(Input::Tick);
    bench.said();
    bench.input(Input::Opened(Err(network(500))));
    bench.playlist(media_playlist(0, 2, 0, "a"));
    assert_eq!(bench.said(), ["refresh failed", "segment 1 of 1"]);
    assert_eq!(bench.machine.errors, 0, "and no failure of the camera's");
    let retry = bench.machine.refresh_at.unwrap();
    assert_eq!(retry.saturating_duration_since(bench.now), Duration::from_secs(5), "the first backoff delay");
}

#[test]
fn a_refused_segment_is_found_again_in_the_next_session() {
    let mut bench = Bench::reading(options(), 2);
    bench.segment_fails(network(403));
    assert_eq!(bench.said(), ["RefreshSession"]);
    assert_eq!(bench.wait(), Duration::from_secs(5));
    assert_eq!(bench.said(), ["open"]);
    bench.open(None);
    bench.playlist(media_playlist(0, 3, 0, "b"));
    assert_eq!(bench.said(), ["playlist of 2", "began", "init"]);
    bench.input(Input::Init(Ok(())));
    bench.segment();
    bench.segment();
    assert_eq!(bench.said(), ["segment 0 of 2", "segment 1 of 2", "connected", "segment 2 of 2"]);
}

#[test]
fn a_refused_segment_that_is_gone_is_a_gap() {
    let mut bench = Bench::reading(options(), 2);
    bench.segment_fails(network(403));
    bench.wait();
    bench.open(None);
    bench.playlist(media_playlist(1, 2, 0, "b"));
    assert_eq!(bench.said()[3..], ["began", "segment 0 of 1"], "the old URL is tried once more");
    bench.segment_fails(network(403));
    assert_eq!(bench.said(), ["SkipSegment", "init"]);
    bench.input(Input::Init(Ok(())));
    assert_eq!(bench.said(), ["gap segment_unavailable 1", "segment 1 of 2"]);
}

#[test]
fn requests_are_tried_four_times_with_growing_delays() {
    let mut bench = Bench::reading(options(), 2);
    let mut delays = Vec::new();
    for _ in 0..3 {
        bench.segment_fails(network(503));
        delays.push(bench.wait().as_millis());
    }
    assert_eq!(delays, [250, 500, 1000]);
    bench.said();
    bench.segment_fails(network(503));
    assert_eq!(bench.said(), ["Retry"]);
    assert_eq!(bench.machine.errors, 1, "four tries are one failure");
}

#[test]
fn a_playlist_that_fails_too_often_costs_the_session() {
    let mut bench = Bench::reading(options(), 1);
    bench.segment();
    bench.wait();
    bench.said();
    for _ in 0..3 {
        bench.playlist_fails(network(500));
        bench.wait();
    }
    assert_eq!(bench.said()[..2], ["Retry", "playlist of 1"]);
    assert_eq!(bench.machine.errors, 0, "tries are no failures yet");
    bench.playlist_fails(network(500));
    assert_eq!(bench.said(), ["reconnecting", "Retry"]);
    assert_eq!(bench.machine.errors, 1);
    assert_eq!(bench.wait(), Duration::from_secs(5));
    assert_eq!(bench.said(), ["open"]);
}

#[test]
fn a_wrong_fixed_url_is_fatal_at_first_and_retried_later() {
    let fixed = || MachineOptions { is_renewable: false, ..options() };
    for error in [network(404), network(403), Error::new(ErrorKind::Playlist, "HTML")] {
        let mut bench = Bench::new(fixed());
        bench.open(None);
        bench.playlist_fails(error);
        assert_eq!(bench.said()[3..], ["error", "stop false"]);
    }
    let mut bench = Bench::reading(fixed(), 1);
    bench.segment();
    bench.wait();
    bench.playlist_fails(network(404));
    assert_eq!(bench.said(), ["connected", "playlist of 1", "reconnecting", "RefreshSession"]);
}

#[test]
fn the_last_allowed_failure_is_fatal() {
    let mut bench = Bench::new(MachineOptions { config: Config::aggressive(), ..options() });
    for _ in 0..4 {
        bench.input(Input::Opened(Err(network(500))));
        bench.wait();
    }
    bench.said();
    bench.input(Input::Opened(Err(network(500))));
    assert_eq!(bench.said(), ["error", "stop false"]);
}

#[test]
fn reconnect_delays_start_over_after_a_healthy_stretch_only() {
    let mut bench = Bench::new(options());
    bench.input(Input::Opened(Err(network(500))));
    assert_eq!(bench.wait(), Duration::from_secs(5));
    bench.open(None);
    bench.playlist(media_playlist(0, 2, 0, "a"));
    bench.input(Input::Init(Ok(())));
    bench.segment();
    bench.playlist_fails(network(403));
    let delay = |bench: &Bench| bench.machine.opening.not_before.unwrap().saturating_duration_since(bench.now);
    assert_eq!(delay(&bench), Duration::from_secs(10), "one frame is no healthy stretch");
    bench.wait();
    bench.open(None);
    bench.segment();
    bench.now += HEALTHY_AFTER;
    bench.input(Input::Frame);
    bench.playlist_fails(network(403));
    assert_eq!(delay(&bench), Duration::from_millis(500), "what worked well is opened anew within a second");
    bench.wait();
    bench.open(None);
    bench.playlist_fails(network(403));
    assert_eq!(delay(&bench), Duration::from_secs(5), "and then after the first delay");
}

#[test]
fn a_consumer_that_is_too_slow_jumps_to_the_newest_segment() {
    let mut bench = Bench::reading(
        MachineOptions { delivery: Delivery::CatchUp { max_lag: Duration::from_secs(5) }, ..options() },
        2,
    );
    bench.input(Input::Segment { result: Ok(()), is_in_lane: true, download: None });
    bench.input(Input::Segment { result: Ok(()), is_in_lane: true, download: None });
    bench.said();
    bench.playlist(media_playlist(0, 6, 0, "a"));
    assert_eq!(bench.machine.queue.len(), 4, "eight seconds are listed: five, and four for where it began");
    bench.playlist(media_playlist(0, 7, 0, "a"));
    assert_eq!(bench.machine.queue.len(), 1);
    bench.input(Input::SegmentDecoded);
    assert_eq!(bench.said(), ["gap catch_up 4", "segment 6 of 1"]);
}

#[test]
fn who_wants_the_newest_frame_is_spared_a_backlog() {
    let mut bench = Bench::reading(MachineOptions { delivery: Delivery::Latest, ..options() }, 1);
    bench.input(Input::Segment { result: Ok(()), is_in_lane: true, download: None });
    bench.playlist(media_playlist(0, 2, 0, "a"));
    bench.input(Input::Segment { result: Ok(()), is_in_lane: true, download: None });
    bench.said();
    bench.playlist(media_playlist(0, 9, 0, "a"));
    bench.input(Input::SegmentDecoded);
    assert_eq!(bench.said(), ["gap catch_up 6", "segment 8 of 1"]);
}

#[test]
fn a_silent_camera_is_waited_for() {
    let mut bench = Bench::reading(options(), 1);
    bench.segment();
    bench.said();
    let last_news = bench.now;
    let mut reopened = 0;
    for _ in 0..200 {
        let mut said = bench.said();
        if said.is_empty() {
            bench.wait();
            said = bench.said();
        }
        for said in said {
            match said.as_str() {
                "open" => {
                    reopened += 1;
                    bench.open(None);
                }
                said if said.starts_with("playlist") => bench.playlist(media_playlist(0, 1, 0, "a")),
                said => {
                    assert!(["reconnecting", "RefreshSession", "silent true", "refreshed"].contains(&said), "{said}")
                }
            }
        }
    }
    assert!(reopened > 3, "with new sessions: {reopened}");
    assert_eq!(bench.silent_since, Some(last_news), "since the last news, not since it was noticed");
    assert_eq!(bench.machine.errors, 0, "and that is no failure");
    bench.now += Duration::from_secs(60);
    bench.input(Input::Tick);
    bench.playlist(media_playlist(0, 2, 0, "a"));
    let said = bench.said();
    assert!(said.contains(&"silent false".into()), "{said:?}");
    bench.input(Input::Init(Ok(())));
    assert_eq!(bench.said(), [format!("segment 1 of {}", bench.machine.generation)], "after {said:?}");
}

#[test]
fn a_refresh_that_is_refused_for_good_is_not_fatal_while_the_old_session_works() {
    let mut bench = Bench::new(options());
    bench.open(Some(300));
    bench.playlist(media_playlist(0, 1, 0, "a"));
    bench.now = bench.machine.refresh_at.unwrap();
    bench.input(Input::Tick);
    bench.said();
    bench.input(Input::Opened(Err(network(401))));
    assert_eq!(bench.said(), ["refresh failed"]);
}

#[test]
fn a_session_that_is_over_at_once_is_not_replaced_without_a_pause() {
    let mut bench = Bench::new(options());
    bench.open(Some(0));
    assert_eq!(bench.machine.refresh_at.unwrap().saturating_duration_since(bench.now), Duration::from_secs(1));
    bench.open(Some(u64::MAX / 4));
    assert!(bench.machine.refresh_at.is_some());
}

#[test]
fn a_deadline_that_passed_is_not_waited_for_again() {
    let mut bench = Bench::reading(options(), 4);
    bench.input(Input::Segment { result: Ok(()), is_in_lane: true, download: None });
    bench.segment_fails(network(503));
    bench.input(Input::Segment { result: Ok(()), is_in_lane: true, download: None });
    bench.machine.lane_segments = 2;
    for _ in 0..10 {
        let Some(deadline) = bench.machine.deadline() else { return };
        bench.now = bench.now.max(deadline);
        bench.input(Input::Tick);
        if bench.said().iter().any(|said| said.starts_with("playlist")) {
            bench.playlist(media_playlist(0, 4, 0, "a"));
        }
        assert!(bench.machine.deadline().is_none_or(|deadline| deadline > bench.now), "the driver would spin");
    }
}

mod sessions;
