//! A simulated camera that ends its sessions all the time, read by the real SDK clients: every painted number once.

mod support;

use std::time::Duration;

use kvs_hls::sim::{DiscontinuityMode, Fault, FaultScript, FragmentNumbers, SimulatedCamera};
use kvs_hls::{Config, FrameSource, Stats};
use support::FastClock;
use support::camera::{camera, source};
use support::painted::Ledger;

/// Reads until so many sessions were refreshed.
async fn read(camera: &SimulatedCamera, source: &FrameSource, refreshes: u64) -> (Ledger, Stats) {
    let mut frames = source.start().unwrap();
    let mut ledger = Ledger::default();
    while source.stats().refreshes < refreshes {
        let frame = frames.next().await.expect("no end").unwrap();
        ledger.look(&frame, camera.timeline());
    }
    source.stop();
    (ledger, source.stats())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_refreshes_lose_and_repeat_nothing() {
    let clock = FastClock::new(40);
    let lifetime = Duration::from_secs(7);
    let camera = camera(&clock, lifetime).start().await.unwrap();
    let mut config = Config::default();
    config.refresh_margin = Duration::from_secs(1); // less, and the camera counts sessions that were left a moment ago
    let source = source(&camera, &clock, lifetime).config(config).build().unwrap();
    let (ledger, stats) = read(&camera, &source, 100).await;
    assert!(ledger.defects.is_empty(), "{:#?} {stats:?}", ledger.defects);
    assert_eq!((ledger.gaps.len(), stats.gaps, stats.errors, stats.reconnects), (0, 0, 0, 0), "{stats:?}");
    assert!(ledger.frames > 100 * 15, "{} frames", ledger.frames);
    assert!(ledger.generations >= 100);
    assert!(camera.peak_sessions() <= 2, "{} sessions at once", camera.peak_sessions());
    let requests = camera.requests();
    assert_eq!(requests.refused, 0);
    println!("{} frames, {stats:?}, {requests:?}", ledger.frames);
}

#[tokio::test(flavor = "multi_thread")]
async fn fragments_are_matched_whatever_the_service_calls_them() {
    let always = Duration::from_secs(3600);
    let jitter = |seed| FaultScript::new().at(Duration::ZERO, always, Fault::Jitter { max_ms: 300, seed });
    for (name, numbers, mode, faults) in [
        ("session-local numbers", FragmentNumbers::Session, DiscontinuityMode::Always, FaultScript::new()),
        ("session-local numbers, jitter", FragmentNumbers::Session, DiscontinuityMode::Always, jitter(1)),
        ("session-local numbers, jitter, no tags", FragmentNumbers::Session, DiscontinuityMode::Never, jitter(2)),
        ("long numbers, jitter", FragmentNumbers::Stream, DiscontinuityMode::OnDiscontinuity, jitter(3)),
    ] {
        let clock = FastClock::new(20);
        let lifetime = Duration::from_secs(4);
        let camera = camera(&clock, lifetime);
        let camera = camera.fragment_numbers(numbers).discontinuity(mode).faults(faults).start().await.unwrap();
        let source = source(&camera, &clock, lifetime).build().unwrap();
        let (ledger, stats) = read(&camera, &source, 20).await;
        assert!(ledger.defects.is_empty(), "{name}: {:#?} {stats:?}", ledger.defects);
        assert_eq!((stats.gaps, stats.errors), (0, 0), "{name}: {stats:?}");
    }
}
