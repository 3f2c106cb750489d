//! Recorded video through the session API: archives longer than a playlist, replays.

mod support;

use std::time::{Duration, SystemTime};

use kvs_hls::sim::{Recording, SimulatedCamera};
use kvs_hls::{Clock, Delivery, Error, FrameSource, KinesisSession, Output};
use support::FastClock;
use support::camera::sdk_config;
use support::painted::Ledger;

/// A camera that filmed so many seconds before the test began.
async fn camera(seconds: u64, clock: &FastClock) -> SimulatedCamera {
    let camera = SimulatedCamera::builder().recording(Recording::demo_small()).backlog(seconds);
    camera.clock(std::sync::Arc::new(clock.clone())).start().await.unwrap()
}

fn stream(camera: &SimulatedCamera) -> KinesisSession {
    KinesisSession::live(camera.stream_name()).sdk_config(&sdk_config(&camera.endpoint_url()))
}

/// The start of the n-th fragment.
fn start(camera: &SimulatedCamera, fragment: u64) -> SystemTime {
    camera.timeline().fragment(fragment).captured_at
}

async fn read(camera: &SimulatedCamera, source: &FrameSource, max: u64) -> (Ledger, Option<Error>) {
    let mut frames = source.start().unwrap();
    let mut ledger = Ledger::default();
    while ledger.frames < max {
        match frames.next().await {
            Some(Ok(frame)) => ledger.look(&frame, camera.timeline()),
            Some(Err(error)) => return (ledger, Some(error)),
            None => break,
        }
    }
    (ledger, None)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_read_to_its_end_in_as_many_sessions_as_it_takes() {
    let clock = FastClock::new(20);
    let camera = camera(100, &clock).await;
    // 61 fragments: the first and the last are those that start at the bounds.
    let range = (start(&camera, 20), start(&camera, 80));
    for (max_fragments, sessions) in [(1000, 1), (61, 2), (60, 2), (7, 11), (2, 61), (1, 62)] {
        let provider = stream(&camera).playback(kvs_hls::Playback::OnDemand { start: range.0, end: range.1 });
        let source = FrameSource::builder("archive", provider.max_fragments(max_fragments).clock(clock.clone()))
            .output(Output::gray())
            .clock(clock.clone())
            .build()
            .unwrap();
        let before = camera.requests();
        let (ledger, error) = read(&camera, &source, u64::MAX).await;
        assert!(error.is_none(), "{error:?}");
        assert!(ledger.defects.is_empty(), "{max_fragments} a page: {:#?}", ledger.defects);
        assert_eq!((ledger.frames, ledger.gaps.len()), (61 * 15, 0), "{max_fragments} a page");
        let requests = camera.requests();
        assert_eq!(requests.fragment - before.fragment, 61, "{max_fragments} a page: each fragment once");
        let opened = requests.session_url - before.session_url;
        assert!(opened.abs_diff(sessions) <= 1, "{max_fragments} a page: {opened} sessions");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_read_to_its_end_though_its_sessions_expire() {
    let clock = FastClock::new(20);
    let lifetime = Duration::from_secs(8);
    let builder = SimulatedCamera::builder().recording(Recording::demo_small()).backlog(60).session_lifetime(lifetime);
    let camera = builder.clock(std::sync::Arc::new(clock.clone())).start().await.unwrap();
    let playback = kvs_hls::Playback::OnDemand { start: start(&camera, 0), end: start(&camera, 49) };
    let inner = stream(&camera).playback(playback).clock(clock.clone());
    let provider = support::camera::ShortSessions { inner, lifetime, clock: clock.clone() };
    let mut limits = kvs_hls::Limits::default();
    limits.max_ahead_bytes = 0; // else all of it is there before the first session ends
    let source = FrameSource::builder("archive", provider)
        .delivery(Delivery::All)
        .output(Output::gray())
        .limits(limits)
        .clock(clock.clone())
        .build()
        .unwrap();
    let mut frames = source.start().unwrap();
    let mut ledger = Ledger::default();
    while let Some(frame) = frames.next().await {
        ledger.look(&frame.unwrap(), camera.timeline());
        // A slow consumer: 50 seconds of video in about a minute.
        if ledger.frames.is_multiple_of(15) {
            clock.sleep(Duration::from_millis(1200)).await;
        }
    }
    assert!(ledger.defects.is_empty(), "{:#?}", ledger.defects);
    assert_eq!((ledger.frames, ledger.gaps.len()), (50 * 15, 0));
    assert!(source.stats().refreshes >= 4, "{:?}", source.stats());
    assert_eq!(camera.requests().refused, 0, "each session was left in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_without_fragments_is_an_error_that_says_so() {
    let clock = FastClock::new(20);
    let camera = camera(10, &clock).await;
    let long_ago = start(&camera, 0) - Duration::from_secs(7200);
    let playback = kvs_hls::Playback::OnDemand { start: long_ago, end: long_ago + Duration::from_secs(3600) };
    let provider = stream(&camera).playback(playback).clock(clock.clone());
    let source = FrameSource::builder("archive", provider).clock(clock.clone()).build().unwrap();
    let (_, error) = read(&camera, &source, 1).await;
    let text = support::chain(&error.unwrap());
    assert!(text.contains("no fragments between"), "{text}");
    assert_eq!(camera.requests().session_url, 1, "and no second try");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_goes_on_through_its_sessions() {
    let clock = FastClock::new(20);
    let lifetime = Duration::from_secs(8);
    let builder = SimulatedCamera::builder().recording(Recording::demo_small()).backlog(100).session_lifetime(lifetime);
    let camera = builder.clock(std::sync::Arc::new(clock.clone())).start().await.unwrap();
    let inner = stream(&camera).playback(kvs_hls::Playback::LiveReplay { start: start(&camera, 30), end: None });
    let provider = support::camera::ShortSessions { inner, lifetime, clock: clock.clone() };
    let source = FrameSource::builder("replay", provider)
        .delivery(Delivery::All)
        .live_edge(kvs_hls::LiveEdge::Oldest)
        .output(Output::gray())
        .clock(clock.clone())
        .build()
        .unwrap();
    let (ledger, error) = read(&camera, &source, 40 * 15).await;
    assert!(error.is_none(), "{error:?}");
    assert!(ledger.defects.is_empty(), "{:#?} {:?}", ledger.defects, source.stats());
    assert!(ledger.gaps.is_empty(), "{:?}", ledger.gaps);
    assert!(source.stats().refreshes >= 3, "{:?}", source.stats());
}
