//! Live streams and their troubles, over real sockets: what is delivered, what is asked for, what is said.

mod support;

use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use kvs_hls::{
    Config, ConnectionState, Delivery, ErrorKind, FixedUrl, Fleet, Frame, FrameSource, FrameSourceBuilder, Frames,
    GapCause, Output,
};
use support::{FastClock, Files, SlidingPlaylist, camera_segment, chain, fixtures, framemd5, md5, read_all};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use wiremock::matchers::{method, path, path_regex};
use wiremock::{Mock, MockServer, ResponseTemplate};

const PLAYLIST: &str = "/hls/kvs_camera/live.m3u8";

/// A camera whose window slides by one segment for each request.
async fn camera(window: usize) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(path(PLAYLIST)).respond_with(SlidingPlaylist::new("kvs_camera", window)).mount(&server).await;
    Mock::given(method("GET")).respond_with(Files).with_priority(10).mount(&server).await;
    server
}

fn live(server: &MockServer) -> FrameSourceBuilder {
    let url = format!("{}{PLAYLIST}?SessionToken=CiVerySecret~", server.uri());
    FrameSource::builder("front-door", FixedUrl::new(&url).unwrap()).output(Output::i420()).clock(FastClock::new(20))
}

fn camera_hashes() -> Vec<String> {
    framemd5(&fixtures().join("hls/kvs_camera/expected.framemd5")).into_iter().map(|frame| frame.md5).collect()
}

fn hashes(frames: &[Frame]) -> Vec<String> {
    frames.iter().map(|frame| md5(frame.data())).collect()
}

fn gaps(frames: &[Frame]) -> Vec<(usize, GapCause, u64)> {
    let gap = |(index, frame): (usize, &Frame)| frame.meta().gap_before.map(|gap| (index, gap.cause, gap.segments));
    frames.iter().enumerate().filter_map(gap).collect()
}

#[tokio::test]
async fn a_sliding_window_is_read_once_from_its_newest_segment() {
    let server = camera(3).await;
    let source = live(&server).build().unwrap();
    let (frames, error) = read_all(&source).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(hashes(&frames), camera_hashes()[30..], "from the third segment, each frame once");
    assert!(gaps(&frames).is_empty());
    assert_eq!(source.state(), ConnectionState::Disconnected);
    let requests = server.received_requests().await.unwrap();
    let count = |part: &str| requests.iter().filter(|request| request.url.path().contains(part)).count();
    assert_eq!(count("getMP4InitFragment"), 1, "an unchanged EXT-X-MAP is loaded once");
    assert_eq!(count("getMP4MediaFragment"), 8);
}

#[tokio::test]
async fn a_missing_segment_is_a_gap_with_its_cause() {
    let server = camera(3).await;
    Mock::given(path_regex(camera_segment(5))).respond_with(ResponseTemplate::new(404)).mount(&server).await;
    let source = live(&server).build().unwrap();
    let (frames, error) = read_all(&source).await;
    assert!(error.is_none(), "{error:?}");
    let all = camera_hashes();
    assert_eq!(hashes(&frames), [&all[30..75], &all[90..]].concat());
    assert_eq!(gaps(&frames), [(45, GapCause::SegmentUnavailable, 1)]);
    let span = frames[45].meta().gap_before.unwrap().span.unwrap();
    assert_eq!(span, frames[45].captured_at().duration_since(frames[44].captured_at()).unwrap());
    assert_eq!((source.stats().gaps, source.stats().segments_lost, source.stats().errors), (1, 1, 1));
}

#[tokio::test]
async fn what_fails_for_a_moment_is_tried_again() {
    let server = camera(3).await;
    let segment = Mock::given(path_regex(camera_segment(4))).respond_with(ResponseTemplate::new(503));
    segment.up_to_n_times(2).expect(2).mount(&server).await;
    let playlist = Mock::given(path(PLAYLIST)).respond_with(ResponseTemplate::new(429)).with_priority(1);
    playlist.up_to_n_times(1).expect(1).mount(&server).await;
    let source = live(&server).build().unwrap();
    let (frames, error) = read_all(&source).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(hashes(&frames), camera_hashes()[30..]);
    assert!(gaps(&frames).is_empty());
    assert_eq!(source.stats().errors, 3);
}

#[tokio::test]
async fn a_damaged_segment_is_a_gap_and_never_a_picture() {
    let whole = std::fs::read(fixtures().join(camera_segment(4)[1..].trim_end_matches('$'))).unwrap();
    let mut emptied = whole.clone();
    let half = whole.len() / 2;
    emptied[half..].fill(0);
    for (name, body) in [
        ("truncated", whole[..half].to_vec()),
        ("half zeros", emptied),
        ("text", b"<html>please log in</html>".to_vec()),
        ("empty", Vec::new()),
    ] {
        let server = camera(3).await;
        Mock::given(path_regex(camera_segment(4)))
            .respond_with(ResponseTemplate::new(200).set_body_bytes(body))
            .mount(&server)
            .await;
        let source = live(&server).build().unwrap();
        let (frames, error) = read_all(&source).await;
        assert!(error.is_none(), "{name}: {error:?}");
        let all = camera_hashes();
        let seen = hashes(&frames);
        assert_eq!(seen[..30], all[30..60], "{name}: before the damage");
        assert_eq!(seen[seen.len() - 75..], all[75..], "{name}: after it");
        assert!(seen.iter().all(|hash| all.contains(hash)), "{name}: a picture that no camera took");
        let gaps = gaps(&frames);
        assert_eq!((gaps.len(), gaps[0].0, gaps[0].1), (1, seen.len() - 75, GapCause::Damaged), "{name}");
    }
}

/// Answers each connection with the same bytes and closes it.
async fn raw_server(answers: Vec<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut answers = answers.into_iter();
        while let (Ok((mut socket, _)), Some(answer)) = (listener.accept().await, answers.next()) {
            let mut request = [0; 4096];
            let _ = socket.read(&mut request).await;
            let _ = socket.write_all(&answer).await;
            let _ = socket.shutdown().await;
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn a_transfer_that_breaks_off_is_tried_again() {
    let file = |name: &str| std::fs::read(fixtures().join("hls/baseline_640x360").join(name)).unwrap();
    let answer = |body: &[u8], sent: usize| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        [head.as_bytes(), &body[..sent]].concat()
    };
    let playlist = String::from_utf8(file("index.m3u8")).unwrap();
    let names: Vec<_> = playlist.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    let init = playlist.split("URI=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let mut answers =
        vec![answer(playlist.as_bytes(), playlist.len() / 2), answer(playlist.as_bytes(), playlist.len())];
    for body in [init].iter().chain(&names).map(|name| file(name)) {
        answers.extend([answer(&body, body.len() / 3), answer(&body, body.len())]);
    }
    let url = raw_server(answers).await;
    let source = FrameSource::builder("a", FixedUrl::new(&format!("{url}/index.m3u8")).unwrap())
        .output(Output::i420())
        .clock(FastClock::new(20))
        .build()
        .unwrap();
    let (frames, error) = read_all(&source).await;
    assert!(error.is_none(), "{}", chain(&error.unwrap()));
    let expected = framemd5(&fixtures().join("hls/baseline_640x360/expected.framemd5"));
    assert!(hashes(&frames).into_iter().eq(expected.into_iter().map(|frame| frame.md5)));
    assert_eq!(source.stats().errors, 5);
}

/// What no retry makes right is said at once, with what was found and where, and without the token.
#[tokio::test]
async fn wrong_input_is_named_at_once() {
    let server = support::file_server().await;
    let html = ResponseTemplate::new(200).set_body_string("<!DOCTYPE html><html><body>hi</body></html>");
    Mock::given(path("/page")).respond_with(html).with_priority(1).mount(&server).await;
    let garbage = ResponseTemplate::new(200).set_body_string("#EXTM3U\n#EXT-X-TARGETDURATION:x\n#EXTINF:1,\na.mp4\n");
    Mock::given(path("/garbage")).respond_with(garbage).with_priority(1).mount(&server).await;
    for (file, kind, words) in [
        ("page", ErrorKind::Playlist, "HTML"),
        ("garbage", ErrorKind::Playlist, "line 2"),
        ("nothing.m3u8", ErrorKind::Network, "HTTP 404"),
        ("refused/hevc/index.m3u8", ErrorKind::Container, "HEVC"),
        ("refused/encrypted_cenc/index.m3u8", ErrorKind::Container, "encrypted"),
        ("refused/encrypted_aes128/index.m3u8", ErrorKind::Playlist, "AES-128"),
        ("refused/mpegts/index.m3u8", ErrorKind::Container, "MPEG-TS"),
        ("refused/audio_only/index.m3u8", ErrorKind::Container, "only audio"),
        ("refused/high10/index.m3u8", ErrorKind::Bitstream, "High 10"),
        ("refused/high422/index.m3u8", ErrorKind::Bitstream, "High 4:2:2"),
        ("refused/high444/index.m3u8", ErrorKind::Bitstream, "High 4:4:4"),
        ("refused/interlaced_mbaff/index.m3u8", ErrorKind::Bitstream, "interlaced"),
    ] {
        let url = format!("{}/{file}?SessionToken=CiVerySecret~", server.uri());
        let source = support::builder(&url).build().unwrap();
        let (frames, error) = read_all(&source).await;
        let error = error.unwrap_or_else(|| panic!("{file} gave no error"));
        let text = chain(&error);
        assert!(frames.is_empty(), "{file}");
        assert_eq!(error.kind(), kind, "{file}: {text}");
        assert!(text.contains(words), "{file}: \"{words}\" is not in \"{text}\"");
        assert!(!format!("{text} {error:?} {source:?} {:?}", source.stats()).contains("CiVerySecret"), "{file}");
        assert_eq!(source.state(), ConnectionState::Error, "{file}");
    }
}

#[tokio::test]
async fn failures_in_a_row_end_with_the_whole_story() {
    let server = MockServer::start().await;
    Mock::given(method("GET")).respond_with(ResponseTemplate::new(500)).expect(20).mount(&server).await;
    let source = live(&server).clock(FastClock::new(1000)).config(Config::aggressive()).build().unwrap();
    let (_, error) = read_all(&source).await;
    let text = chain(&error.unwrap());
    assert!(text.contains("5 failures in a row"), "{text}");
    assert!(text.contains("HTTP 500"), "{text}");
    assert_eq!(source.state(), ConnectionState::Error);
    assert!(!source.is_healthy());
}

#[tokio::test]
async fn stopping_does_not_wait_for_a_silent_server() {
    let server = MockServer::start().await;
    let silence = ResponseTemplate::new(200).set_delay(Duration::from_secs(3600));
    Mock::given(method("GET")).respond_with(silence).mount(&server).await;
    let source = live(&server).build().unwrap();
    let mut frames = source.start().unwrap();
    assert!(frames.read_frame(Duration::from_millis(100)).unwrap().is_none());
    source.stop();
    let end = frames.next().await.unwrap().unwrap_err();
    assert_eq!(end.kind(), ErrorKind::Stopped);
    assert!(frames.next().await.is_none() && frames.has_ended());
    assert_eq!(source.state(), ConnectionState::Disconnected);
    assert_eq!(source.start().unwrap_err().kind(), ErrorKind::Config, "a source starts once");
}

#[tokio::test]
async fn a_slow_consumer_jumps_to_the_live_edge_with_a_gap() {
    let server = camera(3).await;
    let delivery = Delivery::CatchUp { max_lag: Duration::from_millis(2500) };
    let source = live(&server).delivery(delivery).build().unwrap();
    let mut frames = source.start().unwrap();
    let mut seen = vec![frames.next().await.unwrap().unwrap()];
    // The consumer rests until the whole recording was listed.
    while !playlist_ended(&server).await {
        tokio::task::yield_now().await;
    }
    while let Some(frame) = frames.next().await {
        seen.push(frame.unwrap());
    }
    let all = camera_hashes();
    let seen_hashes = hashes(&seen);
    let gaps = gaps(&seen);
    assert_eq!((gaps.len(), gaps[0].1), (1, GapCause::CatchUp), "{gaps:?}");
    let (before, after) = seen_hashes.split_at(gaps[0].0);
    assert_eq!(before, &all[30..30 + before.len()], "nothing is dropped inside a segment");
    assert_eq!(after, &all[150 - after.len()..], "and nothing after the jump");
    assert_eq!(before.len() + after.len() + 15 * gaps[0].2 as usize, 120, "what is missing is counted");
}

async fn playlist_ended(server: &MockServer) -> bool {
    let requests = server.received_requests().await.unwrap();
    requests.iter().filter(|request| request.url.path() == PLAYLIST).count() > 8
}

#[tokio::test]
async fn delivering_everything_holds_the_stream_back() {
    let server = camera(10).await;
    let source = live(&server).delivery(Delivery::All).live_edge("oldest".parse().unwrap()).build().unwrap();
    let mut frames = source.start().unwrap();
    let mut seen = vec![frames.next().await.unwrap().unwrap()];
    while source.stats().segments < 2 {
        tokio::task::yield_now().await;
    }
    assert!(source.stats().queued <= 8, "decoded frames are few: {}", source.stats().queued);
    while let Some(frame) = frames.next().await {
        seen.push(frame.unwrap());
    }
    assert_eq!(hashes(&seen), camera_hashes());
}

#[tokio::test]
async fn the_latest_frame_is_new_each_time() {
    let server = camera(3).await;
    let source = live(&server).delivery(Delivery::Latest).build().unwrap();
    let mut frames = source.start().unwrap();
    let mut times = Vec::new();
    while let Some(frame) = frames.next().await {
        times.push(frame.unwrap().captured_at());
        tokio::time::sleep(Duration::from_millis(20)).await; // six frames at this clock's speed
    }
    assert!(times.is_sorted_by(|a, b| a < b), "never the same frame twice, never backward");
    assert!(times.len() > 5, "{}", times.len());
    assert!(source.stats().frames_superseded > 0);
    assert_eq!(source.stats().gaps, 0);
}

#[tokio::test]
async fn frames_are_a_stream_with_all_that_streams_have() {
    fn crosses_threads<T: Send + 'static>() {}
    crosses_threads::<(FrameSource, FrameSourceBuilder, Frames, Frame, Fleet)>();
    let servers = [camera(3).await, camera(3).await];
    let sources = servers.each_ref().map(|server| live(server).build().unwrap());
    let [front, back] = sources.each_ref().map(|source| source.start().unwrap());
    let both = stream::select(front.map(|frame| (0, frame.unwrap())), back.map(|frame| (1, frame.unwrap())));
    let hashes: Vec<_> = both.map(|(camera, frame)| (camera, md5(frame.data()))).collect().await;
    for camera in [0, 1] {
        let of_camera: Vec<_> = hashes.iter().filter(|(from, _)| *from == camera).map(|(_, hash)| hash).collect();
        assert!(of_camera.into_iter().eq(&camera_hashes()[30..]), "camera {camera}");
    }
}

#[test]
fn the_blocking_iterator_needs_no_runtime() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(camera(3));
    let source = live(&server).build().unwrap();
    let frames: Vec<_> = source.start().unwrap().blocking().map(Result::unwrap).collect();
    assert_eq!(frames.len(), 120);
}

#[test]
fn dropping_the_source_ends_its_frames() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(camera(3));
    let mut frames = live(&server).build().unwrap().start().unwrap().blocking();
    assert_eq!(frames.next().unwrap().unwrap_err().kind(), ErrorKind::Stopped);
    assert!(frames.next().is_none());
}

#[tokio::test]
async fn redirects_are_followed_and_bounded() {
    let server = camera(3).await;
    let hop = |from: &str, to: &str| {
        let answer = ResponseTemplate::new(302).insert_header("location", format!("{}{to}", server.uri()));
        Mock::given(path(from)).respond_with(answer).with_priority(1)
    };
    hop("/start.m3u8", PLAYLIST).mount(&server).await;
    hop("/loop.m3u8", "/loop.m3u8").expect(4 * 6).mount(&server).await;
    let read = async |file: &str| {
        let url = FixedUrl::new(&format!("{}/{file}", server.uri())).unwrap();
        let mut config = Config::aggressive();
        config.max_consecutive_errors = 1;
        let source = FrameSource::builder("x", url).clock(FastClock::new(50)).config(config).build().unwrap();
        read_all(&source).await
    };
    let (frames, error) = read("start.m3u8").await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(frames.len(), 120, "relative URLs are relative to where the redirect led");
    let (_, error) = read("loop.m3u8").await;
    assert!(chain(&error.unwrap()).contains("redirects"));
}
