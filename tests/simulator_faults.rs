//! What goes wrong with the simulated camera, as it looks on the wire.
#![cfg(feature = "sim")]

#[path = "support/hand_clock.rs"]
mod hand_clock;
#[path = "support/player.rs"]
mod player;
mod support;

use std::io::ErrorKind::{ConnectionReset, UnexpectedEof};
use std::time::Duration;

use kvs_hls::sim::{Availability, DiscontinuityMode, Endpoint, Fault, FaultScript, Playback, SimulatedCamera, Target};
use kvs_hls::{ErrorKind, SecretUrl};
use mp4_atom::{Any, DecodeMaybe};
use player::{SECOND, bytes, camera, fetch, listed, media, media_url, segment_urls, status, text, times};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The start of an answer that is told how to end by the connection alone.
struct Raw(TcpStream);

impl Raw {
    async fn get(camera: &SimulatedCamera, url: &SecretUrl) -> Self {
        let mut stream = TcpStream::connect(camera.address()).await.unwrap();
        let url = url.expose();
        let request = format!("GET {}?{} HTTP/1.1\r\nHost: camera\r\n\r\n", url.path(), url.query().unwrap());
        stream.write_all(request.as_bytes()).await.unwrap();
        Self(stream)
    }

    /// Reads the head: the length of the body.
    async fn length(&mut self) -> usize {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head.push(char::from(self.0.read_u8().await.unwrap()));
        }
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        length.parse().unwrap()
    }

    async fn body(&mut self, length: usize) -> std::io::Result<Vec<u8>> {
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.map(|_| body)
    }
}

#[tokio::test]
async fn statuses_come_from_the_chosen_endpoints_alone() {
    let (camera, clock) = camera(|builder| builder.window(10)).await;
    let master = camera.url();
    let playlists = media_url(&master).await;
    let playlist = media(&playlists).await;
    let init = playlists.join(&playlist.segments[0].map.as_ref().unwrap().uri).unwrap();
    let fragment = segment_urls(&playlists, &playlist).remove(0);
    let api = format!("{}/getDataEndpoint", camera.endpoint_url());
    for (code, target) in [
        (401, Target::Sessions),
        (403, Target::Playlists),
        (404, Target::Init),
        (410, Target::Fragments),
        (429, Target::All),
        (500, Target::Playlists),
        (503, Target::Fragments),
    ] {
        camera.inject(Fault::Status { status: code, target }, SECOND).unwrap();
        for (url, own) in [
            (&master, Target::Playlists),
            (&playlists, Target::Playlists),
            (&init, Target::Init),
            (&fragment, Target::Fragments),
        ] {
            let expected = if target == own || target == Target::All { code } else { 200 };
            assert_eq!(status(url).await, expected, "{code} on {target} for {own}");
        }
        let answer = reqwest::Client::new().post(&api).send().await.unwrap();
        let is_hit = matches!(target, Target::Sessions | Target::All);
        assert_eq!(answer.status().as_u16(), if is_hit { code } else { 403 });
        clock.forward(SECOND);
        assert_eq!(status(&fragment).await, 200, "the fault is over");
    }
    let event = camera.fault_events().into_iter().find(|event| event.fragment.is_some()).unwrap();
    assert_eq!((event.at, event.fragment, event.endpoint), (SECOND * 3, Some(0), Some(Endpoint::MediaFragment)));
    assert_eq!(camera.fault_events().len(), 1 + 2 + 1 + 1 + 5 + 2 + 1);
}

#[tokio::test]
async fn bodies_end_too_early() {
    let (camera, clock) = camera(|builder| builder).await;
    let playlists = media_url(&camera.url()).await;
    let fragment = segment_urls(&playlists, &media(&playlists).await).remove(0);
    let whole = bytes(&fragment).await;
    for (fault, end) in [
        (Fault::Truncated { target: Target::Fragments }, UnexpectedEof),
        (Fault::Reset { target: Target::Fragments }, ConnectionReset),
    ] {
        camera.inject(fault, SECOND).unwrap();
        let mut raw = Raw::get(&camera, &fragment).await;
        assert_eq!(raw.length().await, whole.len());
        if end == UnexpectedEof {
            assert_eq!(raw.body(whole.len() / 2).await.unwrap(), whole[..whole.len() / 2]);
            assert_eq!(raw.body(1).await.unwrap_err().kind(), end);
        } else {
            // A reset may overtake what was sent before it.
            assert_eq!(raw.body(whole.len()).await.unwrap_err().kind(), end);
        }
        assert!(fetch(&fragment).await.bytes().await.is_err());
        text(&playlists).await;
        clock.forward(SECOND);
        assert_eq!(bytes(&fragment).await, whole);
    }
}

#[tokio::test]
async fn bodies_stall_and_trickle() {
    let (camera, clock) = camera(|builder| builder).await;
    let playlists = media_url(&camera.url()).await;
    let fragment = segment_urls(&playlists, &media(&playlists).await).remove(0);
    let whole = bytes(&fragment).await;
    let is_quiet = async |raw: &mut Raw| {
        let read = tokio::time::timeout(Duration::from_millis(30), raw.0.read_u8());
        assert!(read.await.is_err(), "a byte too early");
    };

    camera.inject(Fault::Stalled { target: Target::Fragments }, SECOND * 5).unwrap();
    let mut raw = Raw::get(&camera, &fragment).await;
    assert_eq!(raw.length().await, whole.len());
    let mut got = raw.body(whole.len() / 2).await.unwrap();
    clock.forward(Duration::from_millis(4_999));
    is_quiet(&mut raw).await;
    clock.forward(Duration::from_millis(1));
    got.extend(raw.body(whole.len() - got.len()).await.unwrap());
    assert_eq!(got, whole);

    camera.inject(Fault::Slow { bytes_per_second: 4000, target: Target::Fragments }, SECOND * 2).unwrap();
    let mut raw = Raw::get(&camera, &fragment).await;
    raw.length().await;
    let mut got = vec![];
    for _ in 0..8 {
        got.extend(raw.body(1000).await.unwrap());
        is_quiet(&mut raw).await;
        clock.forward(Duration::from_millis(250));
    }
    // The fault is over: the rest comes at once.
    got.extend(raw.body(whole.len() - got.len()).await.unwrap());
    assert_eq!(got, whole);
}

#[tokio::test]
async fn playlist_freezes_while_the_camera_films() {
    let (camera, clock) = camera(|builder| builder.faults("2s+5s:frozen".parse().into_iter().collect())).await;
    let url = media_url(&camera.url()).await;
    clock.forward(SECOND * 2);
    let before = media(&url).await;
    assert_eq!(listed(&camera, &before), [2, 3, 4, 5, 6]);
    clock.forward(Duration::from_millis(4_999));
    assert_eq!(media(&url).await, before);
    // Another session sees no more.
    assert_eq!(listed(&camera, &media(&media_url(&camera.url()).await).await), [2, 3, 4, 5, 6]);
    assert_eq!(camera.published(), 11);
    clock.forward(Duration::from_millis(1));
    assert_eq!(listed(&camera, &media(&url).await), [7, 8, 9, 10, 11]);
}

#[tokio::test]
async fn fragments_are_missing_or_left_out() {
    let (camera, clock) = camera(|builder| builder.discontinuity(DiscontinuityMode::OnDiscontinuity)).await;
    let url = media_url(&camera.url()).await;
    camera.inject(Fault::Missing { every: 2 }, SECOND * 3).unwrap();
    clock.forward(SECOND * 3);
    let playlist = media(&url).await;
    assert_eq!(listed(&camera, &playlist), [3, 4, 5, 6, 7]);
    let mut statuses = vec![];
    for segment in segment_urls(&url, &playlist) {
        statuses.push(status(&segment).await);
    }
    assert_eq!(statuses, [200, 200, 404, 200, 404]);
    assert!(playlist.segments.iter().all(|segment| !segment.discontinuity));
    let events: Vec<_> = camera.fault_events().iter().map(|event| event.fragment).collect();
    assert_eq!(events, [Some(5), Some(7)]);

    camera.inject(Fault::Unlisted { every: 1000 }, SECOND * 3).unwrap();
    clock.forward(SECOND * 3);
    let playlist = media(&url).await;
    assert_eq!(listed(&camera, &playlist), [5, 6, 7, 9, 10]);
    assert_eq!(playlist.media_sequence, 5);
    let breaks: Vec<_> = playlist.segments.iter().map(|segment| segment.discontinuity).collect();
    assert_eq!(breaks, [false, false, false, true, false]);
    clock.forward(SECOND * 3);
    let playlist = media(&url).await;
    assert_eq!(
        (listed(&camera, &playlist), playlist.media_sequence),
        (vec![9, 10, 11, 12, 13], 8),
        "none is counted twice"
    );

    // The truth: which frames nobody could get.
    let timeline = camera.timeline();
    let lost = |index: &u64| timeline.availability(*index) != Availability::Whole;
    let frames: Vec<_> = (0..camera.published()).filter(lost).map(|index| timeline.frames(index)).collect();
    assert_eq!(frames, [75..90, 105..120, 120..135]);
}

#[tokio::test]
async fn fragment_times_jitter_the_same_in_every_session() {
    let script = FaultScript::new().at(Duration::ZERO, SECOND * 20, Fault::Jitter { max_ms: 300, seed: 7 });
    let (camera, clock) = camera(|builder| builder.window(30).faults(script.clone())).await;
    let old = media_url(&camera.url()).await;
    clock.forward(SECOND * 20);
    let playlist = media(&old).await;
    assert_eq!(times(&media(&media_url(&camera.url()).await).await), times(&playlist));
    let steps: Vec<_> = times(&playlist).windows(2).map(|pair| pair[1].duration_since(pair[0]).unwrap()).collect();
    let off = steps.iter().filter(|step| **step != SECOND).count();
    assert!((15..=20).contains(&off), "{steps:?}");
    assert!(steps.iter().all(|step| step.abs_diff(SECOND) <= Duration::from_millis(600)));
    let urls = segment_urls(&old, &playlist);
    for ((index, time), url) in listed(&camera, &playlist).into_iter().zip(times(&playlist)).zip(urls) {
        assert_eq!(camera.timeline().capture_time(index * 15), time);
        // The truth is in the fragment, too.
        let body = bytes(&url).await;
        let Some(Any::Moof(moof)) = Any::decode_maybe(&mut body.as_slice()).unwrap() else { panic!() };
        let media_time = moof.traf[0].tfdt.as_ref().unwrap().base_media_decode_time as f64 / 15_360.0;
        let said = time.duration_since(camera.timeline().origin()).unwrap().as_secs_f64();
        assert!((media_time - said).abs() < 0.001, "{media_time} for {said}");
    }
}

#[tokio::test]
async fn camera_clock_is_wrong_for_a_while() {
    let (camera, clock) = camera(|builder| builder.discontinuity(DiscontinuityMode::OnDiscontinuity)).await;
    let url = media_url(&camera.url()).await;
    camera.inject(Fault::Skew { ms: -2500 }, SECOND * 2).unwrap();
    clock.forward(SECOND * 3);
    let playlist = media(&url).await;
    let ms: Vec<_> = times(&playlist)
        .into_iter()
        .map(|time| time.duration_since(camera.timeline().origin()).unwrap().as_millis())
        .collect();
    assert_eq!(ms, [3000, 4000, 2500, 3500, 7000]);
    let breaks: Vec<_> = playlist.segments.iter().map(|segment| segment.discontinuity).collect();
    assert_eq!(breaks, [false, false, true, false, true]);

    camera.inject(Fault::Discontinuity, SECOND * 5).unwrap();
    clock.forward(SECOND * 5);
    assert!(media(&url).await.segments.iter().all(|segment| segment.discontinuity));
}

#[tokio::test]
async fn corrupt_fragments_are_always_the_same() {
    let (camera, clock) = camera(|builder| builder).await;
    let url = media_url(&camera.url()).await;
    clock.forward(SECOND * 5);
    let sound = bytes(&segment_urls(&url, &media(&url).await)[4]).await;
    camera.inject(Fault::Corrupt { every: 2 }, SECOND * 5).unwrap();
    clock.forward(SECOND * 5);
    let urls = segment_urls(&url, &media(&url).await);
    // A pass later: the same pictures at another time.
    let (fourth, fifth) = (bytes(&urls[3]).await, bytes(&urls[4]).await);
    assert_eq!(fifth, bytes(&urls[4]).await);
    assert_eq!(fifth.len(), sound.len());
    let moof = u32::from_be_bytes(sound[..4].try_into().unwrap()) as usize;
    let differing = (moof..sound.len()).filter(|&at| sound[at] != fifth[at]).count();
    assert_eq!(differing, 64);
    assert_eq!(camera.timeline().availability(14), Availability::Corrupt);
    assert_eq!(camera.timeline().availability(13), Availability::Whole);
    assert_ne!(fourth, fifth);
    assert!(camera.fault_events().iter().all(|event| event.fragment == Some(14)));

    // No decoder takes any of the recording's fragments for sound.
    camera.inject(Fault::Corrupt { every: 1 }, SECOND * 5).unwrap();
    clock.forward(SECOND * 10);
    let mut options = camera.session_options();
    options.playback = Playback::OnDemand { fragments: 25 };
    let source = support::builder(camera.new_session(options).unwrap().expose().as_str()).build().unwrap();
    let (frames, error) = support::read_all(&source).await;
    assert!(error.is_none(), "{error:?}");
    let seen: Vec<_> = frames.iter().map(|frame| frame.captured_at()).collect();
    let timeline = camera.timeline();
    let whole = (0..25).filter(|&index| timeline.availability(index) == Availability::Whole);
    let expected: Vec<_> = whole.flat_map(|index| timeline.frames(index)).map(|n| timeline.capture_time(n)).collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn server_is_gone_and_comes_back() {
    let (camera, clock) = camera(|builder| builder).await;
    let url = camera.url();
    let client = reqwest::Client::new();
    let ask = || async { client.get(url.expose().clone()).send().await };
    ask().await.unwrap();
    let mut idle = Raw::get(&camera, &url).await;
    let length = idle.length().await;
    idle.body(length).await.unwrap();
    camera.inject(Fault::Gone, SECOND * 3).unwrap();
    assert!(ask().await.is_err());
    idle.0.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    assert_eq!(idle.body(1).await.unwrap_err().kind(), ConnectionReset);
    let mut fresh = TcpStream::connect(camera.address()).await.unwrap();
    assert_eq!(fresh.read_u8().await.unwrap_err().kind(), ConnectionReset);
    assert!(camera.fault_events().iter().all(|event| event.fault == Fault::Gone && event.endpoint.is_none()));
    clock.forward(SECOND * 3);
    ask().await.unwrap();
}

#[tokio::test]
async fn silence_lets_times_jump_and_numbers_go_on() {
    let (camera, clock) = camera(|builder| builder.faults("1500ms+10s:silent".parse().into_iter().collect())).await;
    let url = media_url(&camera.url()).await;
    clock.forward(SECOND * 11);
    let playlist = media(&url).await;
    // The fragment under way was ended.
    assert_eq!(listed(&camera, &playlist), [2, 3, 4, 5, 6]);
    clock.forward(SECOND);
    assert_eq!(media(&url).await, playlist);
    clock.forward(SECOND * 2);
    let playlist = media(&url).await;
    assert_eq!(listed(&camera, &playlist), [4, 5, 6, 7, 8]);
    let jump = times(&playlist)[3].duration_since(times(&playlist)[2]).unwrap();
    assert_eq!(jump, SECOND * 11);
    assert_eq!(camera.timeline().capture_time(7 * 15), times(&playlist)[3]);
}

#[tokio::test]
async fn faults_scale_with_the_camera_clock_and_speed() {
    let (camera, clock) = camera(|builder| builder.speed(10)).await;
    camera.inject(Fault::Silent, SECOND).unwrap();
    clock.forward(SECOND * 2);
    // The fragment under way was ended first, and the next one began ten seconds of media later.
    assert_eq!(camera.published(), 5 + 10);
    let error = camera.inject(Fault::Status { status: 200, target: Target::All }, SECOND).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(camera.fault_script().to_string(), "0s+1s:silent\n");

    let fast = std::sync::Arc::new(support::FastClock::new(100));
    let camera = SimulatedCamera::builder().clock(fast).start().await.unwrap();
    let playlists = media_url(&camera.url()).await;
    let fragment = segment_urls(&playlists, &media(&playlists).await).remove(0);
    let whole = bytes(&fragment).await;
    camera.inject(Fault::Stalled { target: Target::Fragments }, SECOND * 20).unwrap();
    let start = std::time::Instant::now();
    assert_eq!(bytes(&fragment).await, whole);
    assert!((100..2000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
}

/// The number painted into a picture of BGR.
fn painted(frame: &kvs_hls::Frame) -> u64 {
    let row = &frame.data()[8 * frame.stride()..];
    (0..16).map(|bit| u64::from(row[(bit * 16 + 8) * 3] > 128) << bit).sum()
}

#[tokio::test]
async fn resolution_changes_there_and_back_and_the_counter_goes_on() {
    let (camera, clock) = camera(|builder| builder.discontinuity(DiscontinuityMode::Never)).await;
    camera.inject(Fault::Resolution, SECOND * 3).unwrap();
    clock.forward(SECOND * 5);
    let mut options = camera.session_options();
    options.playback = Playback::OnDemand { fragments: 10 };
    let master = camera.new_session(options).unwrap();
    let url = media_url(&master).await;
    let maps: Vec<_> = text(&url)
        .await
        .lines()
        .filter(|line| line.starts_with("#EXT-X-MAP"))
        .map(|line| line.rsplit_once("SequenceNumber=").unwrap().1.trim_end_matches('"').to_owned())
        .collect();
    assert_eq!(maps, ["0", "1", "2"]);
    for (sequence, width) in [("0", Some(640)), ("1", Some(320)), ("2", Some(640)), ("3", None), ("x", None)] {
        let init = format!(
            "getMP4InitFragment.mp4?{}&TrackNumber=1&SequenceNumber={sequence}",
            url.expose().query().unwrap().split('&').next().unwrap()
        );
        let answer = fetch(&url.join(&init).unwrap()).await;
        let Some(width) = width else {
            assert_eq!(answer.status(), 404);
            continue;
        };
        let init = answer.bytes().await.unwrap();
        let mut rest = &init[..];
        Any::decode_maybe(&mut rest).unwrap();
        let Some(Any::Moov(moov)) = Any::decode_maybe(&mut rest).unwrap() else { panic!() };
        assert_eq!(moov.trak[0].tkhd.width.integer(), width);
    }

    let source = support::builder(master.expose().as_str()).build().unwrap();
    let (frames, error) = support::read_all(&source).await;
    assert!(error.is_none(), "{error:?}");
    let seen: Vec<_> = frames.iter().map(|frame| (painted(frame), frame.width())).collect();
    let width = |number: u64| if (75..120).contains(&number) { 320 } else { 640 };
    let expected: Vec<_> = (0..150).map(|number| (number % 75, width(number))).collect();
    assert_eq!(seen, expected);
    for (number, frame) in (0..).zip(&frames) {
        assert_eq!(frame.captured_at(), camera.timeline().capture_time(number));
    }
}
