//! Each fault that the simulated camera knows, alone and in pairs by chance: frames go on afterwards, what is missing is
//! said with its cause, nothing comes twice.

mod support;

use std::time::Duration;

use kvs_hls::sim::{Fault, FaultScript, Recording};
use kvs_hls::{Clock, Config, GapCause};
use support::FastClock;
use support::camera::{camera, source};
use support::painted::Ledger;

const SPEED: u32 = 20;
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
async fn run(script: &FaultScript, total: Duration) -> Ledger {
    let clock = FastClock::new(SPEED);
    let lifetime = Duration::from_secs(25);
    let demo = Recording::demo();
    let camera = camera(&clock, lifetime).second_recording(demo).faults(script.clone()).start().await.unwrap();
    let source = source(&camera, &clock, lifetime).config(patient()).build().unwrap();
    let mut frames = source.start().unwrap();
    let mut ledger = Ledger::default();
    let start = clock.now();
    let end = total + QUIET;
    let mut frames_before_last = None;
    while clock.now() - start < end {
        let wait = clock.sleep(end.saturating_sub(clock.now() - start));
        tokio::select! {
            frame = frames.next() => {
                let frame = frame.expect("the source ended").unwrap_or_else(|error| panic!("{}", support::chain(&error)));
                ledger.look(&frame, camera.timeline());
            }
            () = wait => {}
        }
        if clock.now() - start >= end - LAST {
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
    assert!(camera.peak_sessions() <= 3, "{} sessions at once\n{script}", camera.peak_sessions());
    ledger
}

/// One fault, from the fifth second, for eight seconds.
async fn alone(fault: &str, causes: &[GapCause]) {
    let fault: Fault = fault.parse().unwrap();
    let script = FaultScript::new().at(Duration::from_secs(5), Duration::from_secs(8), fault);
    let ledger = run(&script, Duration::from_secs(13)).await;
    println!("{fault}: {} frames, gaps {:?}", ledger.frames, ledger.gaps);
    assert!(ledger.defects.is_empty(), "{fault}: {:#?}", ledger.defects);
    assert!(ledger.gaps.iter().all(|cause| causes.contains(cause)), "{fault}: {:?}", ledger.gaps);
}

macro_rules! faults {
    ($($name:ident: $fault:literal => $causes:expr;)+) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            alone($fault, &$causes).await;
        })+
    };
}

use GapCause::{Damaged, NotRecorded, Reconnect, SegmentUnavailable, WindowPassed};

// What the server kept out of reach for longer than its list is long is lost; nothing else may be.
faults! {
    sessions_403: "status:403@sessions" => [];
    sessions_503: "status:503@sessions" => [];
    playlists_401: "status:401@playlists" => [WindowPassed, Reconnect];
    playlists_403: "status:403@playlists" => [WindowPassed, Reconnect];
    playlists_404: "status:404@playlists" => [WindowPassed, Reconnect];
    playlists_410: "status:410@playlists" => [WindowPassed, Reconnect];
    playlists_429: "status:429@playlists" => [WindowPassed, Reconnect];
    playlists_500: "status:500@playlists" => [WindowPassed, Reconnect];
    init_503: "status:503@init" => [];
    fragments_403: "status:403@fragments" => [SegmentUnavailable];
    fragments_404: "status:404@fragments" => [SegmentUnavailable];
    fragments_503: "status:503@fragments" => [SegmentUnavailable];
    all_503: "status:503@all" => [WindowPassed, Reconnect, SegmentUnavailable];
    reset_playlists: "reset@playlists" => [WindowPassed, Reconnect];
    reset_fragments: "reset@fragments" => [SegmentUnavailable];
    slow_fragments: "slow:20000@fragments" => [WindowPassed, SegmentUnavailable];
    truncated_all: "truncated@all" => [WindowPassed, Reconnect, SegmentUnavailable];
    stalled_fragments: "stalled@fragments" => [WindowPassed, SegmentUnavailable];
    frozen: "frozen" => [WindowPassed, Reconnect];
    missing: "missing:3" => [SegmentUnavailable];
    unlisted: "unlisted:3" => [NotRecorded];
    corrupt: "corrupt:2" => [Damaged];
    jitter: "jitter:300:7" => [];
    skew_ahead: "skew:2500" => [NotRecorded];
    skew_behind: "skew:-4000" => [NotRecorded];
    resolution: "resolution" => [];
    discontinuity: "discontinuity" => [];
    gone: "gone" => [WindowPassed, Reconnect];
    silent: "silent" => [NotRecorded];
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silence_of_a_minute_is_waited_for() {
    let script = FaultScript::new().at(Duration::from_secs(5), Duration::from_secs(60), Fault::Silent);
    let ledger = run(&script, Duration::from_secs(65)).await;
    assert!(ledger.defects.is_empty(), "{:#?}", ledger.defects);
    assert!(ledger.gaps.iter().all(|cause| [NotRecorded, Reconnect].contains(cause)), "{:?}", ledger.gaps);
}

/// Runs longer where `KVS_HLS_SOAK` gives seconds of the camera's time, from the seed `KVS_HLS_SEED`.
#[tokio::test(flavor = "multi_thread")]
async fn pairs_by_chance() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let total = Duration::from_secs(number("KVS_HLS_SOAK", 240));
    let seed = number("KVS_HLS_SEED", 1);
    let script = FaultScript::random(seed, total, true);
    let ledger = run(&script, total).await;
    println!("{} frames, gaps {:?}", ledger.frames, ledger.gaps);
    assert!(ledger.defects.is_empty(), "seed {seed}\n{script}{:#?}", ledger.defects);
}
