//! Sessions that take each other's place, pages of an archive, variants, silence.

use super::*;
use crate::session::Page;

fn silence() -> Error {
    let context = "No fragments found in the stream for the streaming request.";
    Error::new(ErrorKind::Session, context).with_status(404).with_code("ResourceNotFoundException")
}

impl Bench {
    /// A machine that reads, and whose next session was just opened.
    fn refreshing() -> Self {
        let mut bench = Self::new(options());
        bench.open(Some(300));
        bench.playlist(media_playlist(0, 2, 0, "a"));
        bench.input(Input::Init(Ok(())));
        bench.segment();
        bench.segment();
        bench.input(Input::Refresh);
        bench.open(Some(600));
        bench.said();
        bench
    }

    fn playlist_of(&mut self, generation: u32, playlist: Playlist) {
        self.input(Input::Playlist { generation, requested_at: self.now, result: Ok(playlist) });
    }

    fn resumes_from(&mut self) -> Option<SystemTime> {
        let resume_from = self.actions.iter().find_map(|action| match action {
            Action::OpenSession { resume_from } => Some(*resume_from),
            _ => None,
        });
        self.said();
        resume_from.expect("a session to be opened")
    }

    fn open_page(&mut self, page: Page) {
        let session = Session::new(SecretUrl::parse(BASE).unwrap()).page(page);
        self.input(Input::Opened(Ok(session)));
    }
}

/// The programme time of a segment of `media_playlist`.
fn start_of(segment: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600 + 2 * segment)
}

#[test]
fn the_old_session_is_read_until_the_next_one_has_a_playlist() {
    let mut bench = Bench::refreshing();
    bench.wait();
    assert_eq!(bench.said(), ["playlist of 1"], "beside the request for the next session's");
    bench.playlist_of(1, media_playlist(0, 3, 0, "a"));
    assert_eq!(bench.said(), ["segment 2 of 1"]);
    bench.segment();
    bench.playlist_of(2, parse("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nmedia?SessionToken=b\n"));
    bench.playlist_of(2, media_playlist(1, 3, 0, "b"));
    assert_eq!(bench.said(), ["playlist of 2", "refreshed", "init"]);
    bench.input(Input::Init(Ok(())));
    assert_eq!(bench.said(), ["segment 3 of 2"], "no gap, nothing twice");
    bench.playlist_of(1, media_playlist(0, 5, 0, "a"));
    assert_eq!(bench.said(), Vec::<String>::new(), "a late answer of the old session");
}

#[test]
fn a_next_session_that_does_not_work_is_forgotten_and_tried_again() {
    for error in [network(403), network(404), Error::new(ErrorKind::Playlist, "HTML")] {
        let is_retried = error.recovery() == Recovery::Retry;
        let mut bench = Bench::refreshing();
        for _ in 0..if is_retried { 4 } else { 1 } {
            bench.playlist_fails(error.clone().at(Stage::Playlist));
            bench.now += Duration::from_secs(1);
            bench.input(Input::Tick);
        }
        let said = bench.said();
        assert!(!said.iter().any(|said| ["reconnecting", "open"].contains(&said.as_str())), "{said:?}");
        assert_eq!(said.iter().filter(|said| *said == "refresh failed").count(), 1, "{said:?}");
        assert!(bench.machine.upcoming.is_none());
        assert_eq!(bench.machine.errors, 0);
        bench.playlist_of(1, media_playlist(0, 3, 0, "a"));
        assert!(bench.said().contains(&"segment 2 of 1".to_owned()), "the old session is read on");
        bench.now += Duration::from_secs(5);
        bench.input(Input::Tick);
        assert!(bench.said().contains(&"open".to_owned()), "the first backoff delay");
    }
}

#[test]
fn an_old_session_that_is_refused_gives_way_to_the_next_one_at_once() {
    let mut bench = Bench::refreshing();
    bench.wait();
    bench.said();
    let refused = Input::Playlist { generation: 1, requested_at: bench.now, result: Err(network(403)) };
    bench.input(refused);
    assert_eq!(bench.said(), ["reconnecting", "RefreshSession"]);
    bench.playlist(media_playlist(1, 3, 0, "b"));
    assert_eq!(bench.said(), ["began", "init"]);
}

#[test]
fn at_most_two_sessions_are_open() {
    let mut bench = Bench::refreshing();
    for _ in 0..30 {
        bench.now += Duration::from_secs(30);
        bench.input(Input::Refresh);
        bench.input(Input::Tick);
    }
    assert!(!bench.said().contains(&"open".to_owned()), "the next one has not answered yet");
}

#[test]
fn the_user_may_ask_for_a_refresh_or_a_reconnect() {
    let mut bench = Bench::reading(options(), 1);
    bench.segment();
    bench.said();
    bench.input(Input::Refresh);
    assert_eq!(bench.said(), ["open"]);
    bench.open(None);
    bench.playlist(media_playlist(0, 2, 0, "b"));
    assert_eq!(bench.said(), ["playlist of 2", "refreshed", "init"]);
    bench.input(Input::Init(Ok(())));
    bench.segment();
    bench.said();
    bench.input(Input::Reconnect);
    assert_eq!(bench.said(), ["reconnecting", "open"], "without a delay");
    bench.open(None);
    bench.playlist(media_playlist(0, 3, 0, "c"));
    assert_eq!(bench.said(), ["playlist of 3", "began", "init"]);
    assert_eq!(bench.machine.errors, 0);
}

#[test]
fn a_camera_without_fragments_is_asked_for_steadily_and_costs_no_patience() {
    let mut bench = Bench::new(MachineOptions { config: Config::aggressive(), ..options() });
    bench.said();
    bench.input(Input::Opened(Err(silence())));
    assert_eq!(bench.said(), ["silent true", "waiting"]);
    for _ in 0..1000 {
        assert_eq!(bench.wait(), Duration::from_secs(1), "no growing delay: every second counts when it is back");
        bench.input(Input::Opened(Err(silence())));
        assert_eq!(bench.said(), ["open", "waiting"]);
    }
    bench.wait();
    bench.open(None);
    bench.playlist(media_playlist(0, 1, 0, "a"));
    assert_eq!(bench.said(), ["open", "playlist of 1", "began", "silent false", "init"]);
}

#[test]
fn patience_with_a_silent_camera_can_be_bounded() {
    let config = Config { max_silence: Some(Duration::from_secs(60)), ..Config::default() };
    let mut bench = Bench::new(MachineOptions { config, ..options() });
    let start = bench.now;
    bench.input(Input::Opened(Err(silence())));
    while !bench.machine.is_stopped {
        bench.wait();
        if bench.said().contains(&"open".to_owned()) {
            bench.input(Input::Opened(Err(silence())));
        }
    }
    assert_eq!(bench.now - start, Duration::from_secs(60));
}

#[test]
fn a_fatal_error_tells_the_whole_story() {
    let mut bench = Bench::new(MachineOptions { config: Config::aggressive(), ..options() });
    let fatal = loop {
        bench.input(Input::Opened(Err(network(500))));
        if let Some(Action::Stop(Err(error))) = bench.actions.pop() {
            break error;
        }
        bench.actions.clear();
        bench.wait();
    };
    let text = fatal.to_string();
    assert!(text.contains("5 failures in a row without a frame since 1970-01-01T00:00:00Z, for 8.1 s"), "{text}");
    let cause = std::error::Error::source(&fatal).unwrap().to_string();
    assert!(cause.contains("opening the session: answer (HTTP 500)"), "{cause}");
}

/// A closed playlist of these segments.
fn archive(first: u64, count: u64) -> Playlist {
    match media_playlist(first, count, 1, "a") {
        Playlist::Media(mut playlist) => {
            playlist.has_ended = true;
            Playlist::Media(playlist)
        }
        other => other,
    }
}

#[test]
fn an_archive_longer_than_a_playlist_is_read_page_by_page() {
    let mut bench = Bench::new(options());
    let page = Page { max_segments: 3, next: None };
    assert_eq!(bench.resumes_from(), None);
    bench.open_page(page);
    bench.playlist(archive(0, 3));
    assert_eq!(bench.resumes_from(), Some(start_of(2)), "the last one once more, to show that nothing is between");
    bench.input(Input::Init(Ok(())));
    bench.segment();
    bench.open_page(page);
    bench.playlist(archive(0, 3));
    assert!(!bench.said().contains(&"open".to_owned()), "a list without news is not asked for in a loop");
    bench.segment();
    bench.segment();
    bench.now += MIN_SESSION;
    bench.input(Input::Tick);
    assert_eq!(bench.resumes_from(), Some(start_of(2) + Duration::from_millis(1)));
    bench.open_page(page);
    bench.playlist(archive(3, 2));
    bench.segment();
    bench.segment();
    let segments: Vec<_> = bench.said().into_iter().filter(|said| !said.starts_with("playlist")).collect();
    assert_eq!(segments, ["refreshed", "init", "segment 3 of 3", "segment 4 of 3", "drain"]);
}

#[test]
fn a_service_that_rounds_times_does_not_hold_an_archive_up() {
    let mut bench = Bench::new(options());
    let page = Page { max_segments: 1, next: None };
    bench.said();
    bench.open_page(page);
    bench.playlist(archive(0, 1));
    let mut asked = Vec::new();
    for _ in 0..12 {
        let start = bench.resumes_from().unwrap();
        asked.push(start.duration_since(start_of(0)).unwrap().as_millis());
        bench.open_page(page);
        bench.playlist(archive(0, 1));
        bench.now += MIN_SESSION;
        bench.input(Input::Tick);
    }
    assert_eq!(asked, [1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]);
}

#[test]
fn an_archive_that_ends_with_a_full_page_ends() {
    let mut bench = Bench::new(options());
    bench.open_page(Page { max_segments: 2, next: None });
    bench.playlist(archive(0, 2));
    bench.input(Input::Init(Ok(())));
    bench.segment();
    bench.segment();
    bench.said();
    bench.input(Input::Opened(Err(silence())));
    assert_eq!(bench.said(), ["drain"], "nothing more lies in the range");
}

#[test]
fn an_archive_goes_on_where_its_page_says() {
    let mut bench = Bench::new(options());
    bench.said();
    bench.open_page(Page { max_segments: 1000, next: Some(start_of(40)) });
    bench.playlist(archive(0, 1));
    bench.said();
    bench.input(Input::Init(Ok(())));
    bench.segment();
    bench.open_page(Page { max_segments: 1000, next: None });
    bench.playlist(archive(20, 1));
    bench.segment();
    let said = bench.said();
    assert!(said.contains(&"gap reconnect 0".to_owned()), "nothing was recorded in between: {said:?}");
    assert_eq!(said.last().unwrap(), "drain");
}

fn multivariant(token: &str) -> Playlist {
    parse(&format!(
        "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000000,RESOLUTION=640x360\nlow?SessionToken={token}\n\
         #EXT-X-STREAM-INF:BANDWIDTH=4000000,RESOLUTION=1280x720\nhigh?SessionToken={token}\n"
    ))
}

impl Bench {
    /// A segment of two seconds that took so long.
    fn segment_in(&mut self, elapsed: Duration) {
        let download = Some(Download { bytes: 1_000_000, elapsed });
        self.now += elapsed;
        self.input(Input::Segment { result: Ok(()), is_in_lane: true, download });
        self.input(Input::Frame);
        self.input(Input::SegmentDecoded);
    }

    fn loaded_playlist(&mut self) -> String {
        let url = self.actions.iter().rev().find_map(|action| match action {
            Action::LoadPlaylist { url, .. } => Some(url.expose().path().to_owned()),
            _ => None,
        });
        self.said();
        url.expect("a playlist to be loaded")
    }

    fn reading_variants() -> Self {
        let mut bench = Self::new(options());
        bench.open(None);
        bench.playlist(multivariant("a"));
        assert_eq!(bench.loaded_playlist(), "/hls/v1/high");
        bench.playlist(media_playlist(0, 3, 0, "high"));
        bench.input(Input::Init(Ok(())));
        bench.said();
        bench
    }
}

#[test]
fn a_variant_that_is_too_large_gives_way_at_a_segment_border() {
    let mut bench = Bench::reading_variants();
    bench.segment_in(Duration::from_millis(1900));
    assert_eq!(bench.loaded_playlist(), "/hls/v1/low");
    bench.playlist(media_playlist(0, 4, 0, "low"));
    assert_eq!(bench.said(), ["switched to 1000000"], "segment 1 is under way");
    bench.segment_in(Duration::from_millis(100));
    assert_eq!(bench.said(), ["init"], "segment 2 comes from the other variant");
    bench.input(Input::Init(Ok(())));
    bench.segment_in(Duration::from_millis(100));
    assert_eq!(bench.said(), ["segment 2 of 1", "segment 3 of 1"]);
}

#[test]
fn a_download_that_takes_too_long_is_given_up_for_a_smaller_variant() {
    let mut bench = Bench::reading_variants();
    assert_eq!(bench.machine.abandon_at(), Some(bench.now + Duration::from_secs(4)));
    bench.now += Duration::from_secs(4);
    bench.input(Input::Tick);
    assert_eq!(bench.loaded_playlist(), "/hls/v1/low");
    bench.playlist(media_playlist(0, 4, 0, "low"));
    assert_eq!(bench.said(), ["switched to 1000000", "abandon", "init"]);
    bench.input(Input::Init(Ok(())));
    assert_eq!(bench.said(), ["segment 0 of 1"], "the same segment, smaller");
}

#[test]
fn a_variant_that_cannot_be_loaded_leaves_the_present_one() {
    let mut bench = Bench::reading_variants();
    bench.segment_in(Duration::from_millis(1900));
    assert_eq!(bench.loaded_playlist(), "/hls/v1/low");
    bench.playlist_fails(network(404));
    assert_eq!(bench.loaded_playlist(), "/hls/v1/high");
    assert_eq!(bench.machine.errors, 0);
    bench.playlist(media_playlist(0, 4, 0, "high"));
    bench.segment_in(Duration::from_millis(100));
    assert_eq!(bench.said(), ["segment 2 of 1"]);
}

#[test]
fn a_playlist_under_way_is_not_taken_for_the_next_variant_s() {
    let mut bench = Bench::reading_variants();
    bench.wait(); // the large variant's playlist is asked for again
    bench.said();
    bench.segment_in(Duration::from_millis(1900));
    bench.said();
    bench.playlist(media_playlist(0, 4, 0, "high"));
    assert_eq!(bench.loaded_playlist(), "/hls/v1/low", "and now the small one's");
    assert_eq!(bench.machine.session.as_ref().unwrap().rung, 1);
    bench.playlist(media_playlist(0, 4, 0, "low"));
    assert_eq!(bench.said(), ["switched to 1000000"]);
}

#[test]
fn an_outage_is_waited_for_and_no_segment_is_given_up() {
    let reset = || Error::new(ErrorKind::Network, "connection refused");
    let mut bench = Bench::reading(MachineOptions { is_renewable: false, ..options() }, 3);
    let mut waited = Vec::new();
    for _ in 0..8 {
        bench.segment_fails(reset());
        let not_before = bench.machine.media.not_before.unwrap();
        waited.push((not_before - bench.now).as_millis());
        bench.now = not_before;
        bench.input(Input::Tick);
    }
    assert_eq!(waited, [250, 500, 1000, 5000, 250, 500, 1000, 10_000], "four tries, then the backoff's delay");
    assert_eq!(bench.machine.errors, 2);
    assert!(!bench.said().iter().any(|said| said.starts_with("gap")));
    bench.segment();
    assert!(bench.said().contains(&"segment 1 of 1".to_owned()));
}

#[test]
fn an_earlier_hiccup_does_not_make_an_outage_look_like_one_bad_segment() {
    let reset = || Error::new(ErrorKind::Network, "connection refused");
    let mut bench = Bench::reading(MachineOptions { is_renewable: false, ..options() }, 3);
    bench.segment_fails(reset());
    bench.now += Duration::from_secs(1);
    bench.input(Input::Tick);
    bench.segment();
    bench.now += Duration::from_secs(10);
    bench.playlist(media_playlist(0, 3, 0, "a"));
    bench.said();
    for _ in 0..4 {
        bench.segment_fails(reset());
        bench.now += Duration::from_secs(2);
        bench.input(Input::Tick);
    }
    let said = bench.said();
    assert!(!said.iter().any(|said| said.starts_with("gap")), "{said:?}");
}

#[test]
fn a_backlog_whose_session_is_over_is_one_failure() {
    let mut bench = Bench::reading(options(), 30);
    bench.input(Input::Refresh);
    bench.open(None);
    bench.playlist(media_playlist(25, 6, 0, "b"));
    bench.said();
    bench.segment_fails(network(403));
    let said = bench.said();
    assert_eq!(said, ["SkipSegment", "init"], "0 to 24 are gone with the old session");
    assert_eq!(bench.machine.errors, 1);
    bench.input(Input::Init(Ok(())));
    assert_eq!(bench.said(), ["gap segment_unavailable 25", "segment 25 of 2"]);
}

#[test]
fn a_backlog_that_left_the_server_is_one_failure() {
    let mut bench = Bench::reading(options(), 30);
    for _ in 0..20 {
        bench.segment_fails(network(404));
    }
    assert_eq!(bench.machine.errors, 1);
    assert!(!bench.machine.is_stopped);
}

#[test]
fn segments_that_a_later_playlist_of_the_new_session_lists_are_loaded_from_there() {
    let mut bench = Bench::reading(options(), 5);
    bench.input(Input::Refresh);
    bench.open(None);
    bench.playlist(media_playlist(0, 1, 0, "b"));
    bench.playlist(media_playlist(0, 3, 0, "b"));
    bench.segment();
    bench.said();
    bench.segment();
    assert_eq!(bench.said(), ["segment 1 of 2", "segment 2 of 2"]);
}

#[test]
fn an_archive_is_read_on_though_its_next_page_is_refused() {
    let mut bench = Bench::new(options());
    bench.open_page(Page { max_segments: 3, next: None });
    bench.playlist(archive(0, 3));
    bench.input(Input::Init(Ok(())));
    bench.said();
    bench.input(Input::Opened(Err(network(403))));
    assert_eq!(bench.said(), ["Retry"], "there is something to read");
    bench.segment();
    bench.segment();
    bench.segment();
    bench.wait();
    bench.said();
    bench.input(Input::Opened(Err(network(403))));
    assert_eq!(bench.said(), ["error", "stop false"], "and now there is not");
}

#[test]
fn a_silent_camera_does_not_shorten_the_delays_of_a_throttled_service() {
    let mut bench = Bench::reading(options(), 1);
    bench.segment();
    let mut opened = Vec::new();
    let start = bench.now;
    while bench.now - start < Duration::from_secs(200) {
        bench.wait();
        let said = bench.said();
        if said.contains(&"open".to_owned()) {
            opened.push((bench.now - start).as_secs());
            bench.input(Input::Opened(Err(network(429))));
        }
        if said.iter().any(|said| said.starts_with("playlist")) {
            bench.playlist(media_playlist(0, 1, 0, "a"));
        }
    }
    let steps: Vec<_> = opened.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(steps.is_sorted() && steps.last() > Some(&40), "{opened:?}");
}

#[test]
fn a_segment_that_fails_while_all_else_works_is_given_up() {
    let mut bench = Bench::reading(options(), 3);
    for _ in 0..3 {
        bench.segment_fails(network(500));
        bench.now += Duration::from_secs(1);
        bench.playlist(media_playlist(0, 3, 0, "a"));
    }
    bench.said();
    bench.segment_fails(network(500));
    assert_eq!(bench.said()[..2], ["SkipSegment", "gap segment_unavailable 1"]);
}

#[test]
fn a_refused_segment_is_not_asked_for_until_a_session_says_where_it_is() {
    let mut bench = Bench::reading(options(), 3);
    bench.segment_fails(network(403));
    bench.said();
    for _ in 0..5 {
        bench.wait();
        bench.input(Input::Opened(Err(network(503))));
        assert_eq!(bench.said(), ["open", "Retry"], "and the segment is left alone");
    }
    assert_eq!(bench.machine.errors, 6, "the refusal and five sessions");
}

#[test]
fn a_segment_under_way_is_found_again_in_the_session_that_came_meanwhile() {
    let mut bench = Bench::reading(options(), 3);
    bench.input(Input::Refresh);
    bench.open(None);
    bench.playlist(media_playlist(0, 3, 0, "b"));
    bench.said();
    bench.segment_fails(network(403));
    assert_eq!(bench.said(), ["Retry", "init"]);
    bench.input(Input::Init(Ok(())));
    assert_eq!(bench.said(), ["segment 0 of 2"]);
}

#[test]
fn a_next_page_that_is_refused_counts() {
    let mut bench = Bench::new(MachineOptions { config: Config::aggressive(), ..options() });
    bench.open_page(Page { max_segments: 2, next: None });
    bench.playlist(archive(0, 2));
    bench.segment();
    bench.segment();
    for _ in 0..4 {
        bench.open_page(Page { max_segments: 2, next: None });
        bench.playlist_fails(network(403));
        bench.wait();
    }
    bench.said();
    bench.open_page(Page { max_segments: 2, next: None });
    bench.playlist_fails(network(403));
    assert_eq!(bench.said().last().unwrap(), "stop false", "and not for ever");
}

#[test]
fn a_damaged_parameter_set_ends_nothing_that_was_readable() {
    let interlaced = || Error::new(ErrorKind::Bitstream, "interlaced").unsupported();
    let mut bench = Bench::reading(options(), 3);
    bench.segment();
    bench.input(Input::DecodeFailed(interlaced().at(Stage::Decode)));
    bench.segment_fails(interlaced());
    let said = bench.said();
    assert!(said.contains(&"ResetDecoder".to_owned()) && said.contains(&"SkipSegment".to_owned()), "{said:?}");
    let mut bench = Bench::reading(options(), 3);
    bench.segment_fails(interlaced());
    assert_eq!(bench.said(), ["error", "stop false"], "at first it is what the camera sends");
}

#[test]
fn multivariant_playlists_that_lead_to_each_other_are_not_asked_for_in_a_loop() {
    let mut bench = Bench::new(options());
    bench.open(None);
    bench.playlist(multivariant("a"));
    bench.said();
    bench.playlist(multivariant("a"));
    assert_eq!(bench.said(), ["Retry"]);
    assert_eq!(bench.wait(), Duration::from_millis(250));
}

#[test]
fn the_next_session_begins_with_the_variant_that_was_read() {
    let mut bench = Bench::reading_variants();
    bench.segment_in(Duration::from_millis(1900));
    bench.playlist(media_playlist(0, 4, 0, "low"));
    bench.input(Input::Refresh);
    bench.open(None);
    bench.playlist(multivariant("b"));
    assert_eq!(bench.loaded_playlist(), "/hls/v1/low");
}

#[test]
fn the_end_is_not_undone_by_a_session_that_is_still_being_opened() {
    let mut bench = Bench::new(options());
    bench.open(Some(600));
    bench.playlist(parse("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na\n"));
    bench.segment();
    bench.input(Input::Refresh);
    assert_eq!(bench.said().last().unwrap(), "open");
    bench.playlist(parse("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na\n#EXT-X-ENDLIST\n"));
    assert_eq!(bench.said(), ["ahead", "drain"]);
    bench.open(Some(600));
    bench.playlist(media_playlist(0, 3, 0, "b"));
    assert_eq!((bench.said(), bench.machine.deadline()), (vec![], None));
    bench.input(Input::Drained);
    assert_eq!(bench.said(), ["disconnected", "stop true"]);
}
