//! Each fault that the simulated camera knows, alone: frames go on afterwards, what is missing is said with its cause,
//! nothing comes twice.

mod support;

use std::time::Duration;

use kvs_hls::GapCause;
use kvs_hls::sim::{Fault, FaultScript};
use support::faulty::run;

/// One fault, from the fifth second, for eight seconds.
async fn alone(fault: &str, causes: &[GapCause]) {
    let fault: Fault = fault.parse().unwrap();
    let script = FaultScript::new().at(Duration::from_secs(5), Duration::from_secs(8), fault);
    let ledger = run(&script, Duration::from_secs(13), |_| ()).await;
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
    fragments_403: "status:403@fragments" => [SegmentUnavailable, Reconnect]; // it costs the session
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
    let ledger = run(&script, Duration::from_secs(65), |_| ()).await;
    assert!(ledger.defects.is_empty(), "{:#?}", ledger.defects);
    assert!(ledger.gaps.iter().all(|cause| [NotRecorded, Reconnect].contains(cause)), "{:?}", ledger.gaps);
}
