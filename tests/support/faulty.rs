//! A camera with faults, read to their end.

use std::time::Duration;

use kvs_hls::sim::{FaultScript, Recording};
use kvs_hls::{Clock, Config};

use super::FastClock;
use super::camera::{camera, source};
use super::painted::Ledger;

pub const SPEED: u32 = 20;
/// Long enough for every backoff and every time limit to pass after a fault.
const QUIET: Duration = Duration::from_secs(40);
/// At the end every frame must come, and must have come for so long.
const LAST: Duration = Duration::from_secs(10);

fn patient() -> Config {
    let mut config = Config::aggressive();
    config.max_consecutive_errors = 1000;
    config
}

/// Runs a camera with this script to the end and a quiet time behind it.
///
/// `look` is called with the camera's time, about every ten seconds of it.
pub async fn run(script: &FaultScript, total: Duration, look: impl FnMut(Duration)) -> Ledger {
    run_at(SPEED, script, total, look).await
}

/// The same, so many times as fast as the clock.
pub async fn run_at(speed: u32, script: &FaultScript, total: Duration, mut look: impl FnMut(Duration)) -> Ledger {
    let clock = FastClock::new(speed);
    let lifetime = Duration::from_secs(25);
    let demo = Recording::demo();
    let camera = camera(&clock, lifetime).second_recording(demo).faults(script.clone()).start().await.unwrap();
    let source = source(&camera, &clock, lifetime).config(patient()).build().unwrap();
    let mut frames = source.start().unwrap();
    let mut ledger = Ledger::default();
    let start = clock.now();
    let end = total + QUIET;
    let mut frames_before_last = None;
    let mut next_look = Duration::ZERO;
    while clock.now() - start < end {
        let wait = clock.sleep(end.saturating_sub(clock.now() - start));
        tokio::select! {
            frame = frames.next() => {
                let frame = frame.expect("the source ended").unwrap_or_else(|error| panic!("{}", super::chain(&error)));
                ledger.look(&frame, camera.timeline());
            }
            () = wait => {}
        }
        let now = clock.now() - start;
        if now >= next_look {
            look(now);
            next_look = now + Duration::from_secs(10);
        }
        if now >= end - LAST {
            frames_before_last.get_or_insert((ledger.frames, ledger.gaps.len()));
        }
    }
    source.stop();
    let (frames, gaps) = frames_before_last.unwrap();
    let stats = source.stats();
    let missing = 15 * LAST.as_secs() * 8 / 10;
    assert!(
        ledger.frames >= frames + missing,
        "frames do not go on: {} of {}\n{script}{stats:?}",
        ledger.frames - frames,
        150
    );
    assert_eq!(ledger.gaps.len(), gaps, "still gaps {:?}\n{script}{stats:?}", ledger.gaps);
    ledger
}
