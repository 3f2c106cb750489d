//! The table of docs/migrating.md for those who come from a class around boto3 and OpenCV, row by row.

mod support;

use std::time::Duration;

use kvs_hls::sim::{Fault, SimulatedCamera, Target};
use kvs_hls::{Clock, Config, ConnectionState, ErrorKind, FrameSource, FrameSourceBuilder, KinesisSession};
use prometheus::{Registry, TextEncoder};
use support::FastClock;
use support::camera::{camera, sdk_config, source};

const LIFETIME: Duration = Duration::from_secs(3600);

/// Says which row of the table a test is for.
fn row(there: &str, here: &str) {
    let document = include_str!("../docs/migrating.md");
    let found = document.lines().any(|line| line.starts_with(&format!("| {there} |")) && line.contains(here));
    assert!(found, "docs/migrating.md lacks a row of {there} and {here}");
}

async fn running() -> (SimulatedCamera, FastClock, FrameSourceBuilder) {
    let clock = FastClock::new(20);
    let camera = camera(&clock, LIFETIME).start().await.unwrap();
    let source = source(&camera, &clock, LIFETIME);
    (camera, clock, source)
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn start_stop_and_scope() {
    row("`start()`", "source.start()");
    row("`stop()`", "source.stop()");
    row("`with …:`", "drop");
    let (camera, _clock, builder) = running().await;
    let source = builder.build().unwrap();
    assert_eq!(source.state(), ConnectionState::Disconnected);
    let mut frames = source.start().unwrap();
    assert!(frames.next().await.unwrap().is_ok());
    assert_eq!(source.start().unwrap_err().kind(), ErrorKind::Config, "started twice");
    source.stop();
    assert_eq!(source.state(), ConnectionState::Disconnected);
    while let Some(item) = frames.next().await {
        assert_eq!(item.unwrap_err().kind(), ErrorKind::Stopped);
    }
    let (_, clock, _) = running().await;
    let source = support::camera::source(&camera, &clock, LIFETIME).build().unwrap();
    let mut frames = source.start().unwrap();
    assert!(frames.next().await.unwrap().is_ok());
    drop(frames);
    assert_eq!(source.state(), ConnectionState::Disconnected, "by scope");
}

#[tokio::test(flavor = "multi_thread")]
async fn read_frame_and_read_frames() {
    row("`read_frame(timeout)`", "frames.read_frame(timeout)");
    row("`for frame in read_frames()`", "frames.blocking()");
    let (_camera, _clock, builder) = running().await;
    let source = builder.build().unwrap();
    let mut frames = source.start().unwrap();
    let frame = tokio::task::spawn_blocking(move || {
        let frame = frames.read_frame(Duration::from_secs(3600)).unwrap().unwrap();
        assert!(frames.read_frame(Duration::ZERO).is_ok(), "there or not, it does not wait");
        let next: Vec<_> = frames.blocking().take(30).map(|frame| frame.unwrap().captured_at()).collect();
        assert!(next.is_sorted() && next.len() == 30);
        frame
    });
    assert_eq!(frame.await.unwrap().width(), 320);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_state_and_health() {
    row("metrics", ".registry(&registry)");
    row("`get_state()`", "source.state()");
    row("`is_healthy()`", "source.is_healthy()");
    let (camera, clock, builder) = running().await;
    let registry = Registry::new();
    let source = builder.registry(&registry).healthy_within(5 * SECOND).build().unwrap();
    assert!(!source.is_healthy(), "before the first frame");
    let mut frames = source.start().unwrap();
    assert!(frames.next().await.unwrap().is_ok());
    assert!(source.is_healthy());
    assert_eq!((source.state(), source.state() as u8), (ConnectionState::Connected, 2));
    let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    for name in [
        "reconnects_total",
        "frames_total",
        "url_refreshes_total",
        "read_errors_total",
        "last_frame_timestamp",
        "connection_state",
    ] {
        assert!(text.contains(&format!("kvs_hls_{name}{{camera_id=\"simulated\"}}")), "{name}\n{text}");
    }
    assert!(text.contains("kvs_hls_connection_state{camera_id=\"simulated\"} 2"));
    camera.inject(Fault::Gone, 600 * SECOND).unwrap();
    while source.state() != ConnectionState::Reconnecting {
        tokio::time::timeout(SECOND / 20, frames.next()).await.ok();
    }
    clock.sleep(6 * SECOND).await;
    assert!(!source.is_healthy());
    assert_eq!(source.state() as u8, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_and_reconnect() {
    row("`refresh_url()`", "source.refresh()");
    row("`reconnect()`", "source.reconnect()");
    let (camera, _clock, builder) = running().await;
    let source = builder.build().unwrap();
    let mut frames = source.start().unwrap();
    let mut ledger = support::painted::Ledger::default();
    ledger.look(&frames.next().await.unwrap().unwrap(), camera.timeline());
    source.refresh();
    while source.stats().refreshes == 0 {
        ledger.look(&frames.next().await.unwrap().unwrap(), camera.timeline());
    }
    source.reconnect();
    while source.stats().reconnects == 0 {
        ledger.look(&frames.next().await.unwrap().unwrap(), camera.timeline());
    }
    for _ in 0..30 {
        ledger.look(&frames.next().await.unwrap().unwrap(), camera.timeline());
    }
    assert!(ledger.defects.is_empty() && ledger.gaps.is_empty(), "{ledger:?}");
    assert_eq!(camera.requests().session_url, 3);
}

#[test]
fn options() {
    row("stream name, region, camera id", "KinesisSession::live(name).region(region)");
    let camera =
        KinesisSession::live("front-door").region("eu-central-1").sdk_config(&sdk_config("http://127.0.0.1:1"));
    assert_eq!(FrameSource::builder("door", camera).build().unwrap().camera_id(), "door");
    let refused = |there: &str, name: &str, change: fn(&mut Config)| {
        row(&format!("`{there}`"), &format!("`Config::{name}`"));
        let mut config = Config::default();
        change(&mut config);
        let error = FrameSource::builder("door", KinesisSession::live("a").region("us-east-1")).config(config).build();
        let text = error.unwrap_err().to_string();
        assert!(text.contains(name), "{text}");
    };
    refused("hls_session_seconds", "session_duration", |config| config.session_duration = SECOND);
    refused("url_refresh_margin", "refresh_margin", |config| config.refresh_margin = 600 * SECOND);
    refused("reconnect_delay", "reconnect_delay", |config| config.reconnect_delay = Duration::ZERO);
    refused("max_reconnect_delay", "max_reconnect_delay", |config| config.max_reconnect_delay = Duration::ZERO);
    refused("backoff_multiplier", "backoff_multiplier", |config| config.backoff_multiplier = 0.5);
    refused("max_consecutive_errors", "max_consecutive_errors", |config| config.max_consecutive_errors = 0);
}

#[test]
fn presets() {
    row("presets", "`Config::default()`, `Config::conservative()`, `Config::aggressive()`");
    let numbers = |config: Config| {
        let seconds =
            [config.session_duration, config.refresh_margin, config.reconnect_delay, config.max_reconnect_delay];
        (seconds.map(|time| time.as_secs()), config.backoff_multiplier, config.max_consecutive_errors)
    };
    assert_eq!(numbers(Config::default()), ([300, 30, 5, 60], 2.0, 10));
    assert_eq!(numbers(Config::conservative()), ([1800, 120, 10, 300], 2.0, 20));
    assert_eq!(numbers(Config::aggressive()), ([300, 10, 1, 10], 1.5, 5));
}

/// The wishes below the table: the last frame is held in its rhythm, and is never taken for a new one.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_frame_is_held_through_a_reconnect() {
    let (camera, clock, builder) = running().await;
    let source = builder.gap_fill(kvs_hls::GapFill::HoldLast).buffer_frames(30).build().unwrap();
    let mut frames = source.start().unwrap();
    let mut ledger = support::painted::Ledger::default();
    while ledger.frames < 15 {
        ledger.look(&frames.next().await.unwrap().unwrap(), camera.timeline());
    }
    camera.inject(Fault::Status { status: 403, target: Target::Playlists }, 10 * SECOND).unwrap();
    let start = clock.now();
    while ledger.synthetic == 0 || ledger.frames < 60 {
        ledger.look(&frames.next().await.unwrap().unwrap(), camera.timeline());
        assert!(clock.now() - start < 300 * SECOND, "{ledger:?}");
    }
    assert!(ledger.defects.is_empty(), "{ledger:?}");
    let stats = source.stats();
    assert_eq!((stats.frames_synthetic, stats.frames), (ledger.synthetic, ledger.frames));
    // 15 a second for as long as nothing came: some seconds.
    assert!((15..600).contains(&ledger.synthetic), "{ledger:?}");
}
