//! Faults by chance, alone and in pairs: frames go on, nothing comes twice, nothing grows.

mod support;

use std::time::Duration;

use kvs_hls::sim::FaultScript;
use support::faulty::{SPEED, run_at};

/// Threads, open files and resident bytes of this process.
#[derive(Clone, Copy, Debug)]
struct Usage {
    threads: usize,
    files: usize,
    bytes: usize,
}

fn usage() -> Usage {
    let entries = |path: &str| std::fs::read_dir(path).unwrap().count();
    let pages: usize = std::fs::read_to_string("/proc/self/statm").unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    Usage { threads: entries("/proc/self/task"), files: entries("/proc/self/fd"), bytes: pages * 4096 }
}

/// Runs longer where `KVS_HLS_SOAK` gives seconds of the cameras' time, from the seed `KVS_HLS_SEED` on with so many cameras as
/// `KVS_HLS_CAMERAS` says, each with faults of its own, `KVS_HLS_SPEED` times as fast as the clock.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn pairs_by_chance() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let total = Duration::from_secs(number("KVS_HLS_SOAK", 300));
    let seed = number("KVS_HLS_SEED", 1);
    let speed = number("KVS_HLS_SPEED", SPEED.into()) as u32;
    assert_eq!(
        FaultScript::random(seed, total, true),
        FaultScript::random(seed, total, true),
        "the same seed, the same faults"
    );
    let others = seed + 1..seed + number("KVS_HLS_CAMERAS", 1);
    let others: Vec<_> = others.map(|seed| tokio::spawn(soak(seed, total, speed, || ()))).collect();
    let mut usages = Vec::new();
    soak(seed, total, speed, || usages.push(usage())).await;
    // What the second half needs at most is what the first half needed.
    let (first, second) = usages.split_at(usages.len() / 2);
    let most = |part: &[Usage], of: fn(&Usage) -> usize| part.iter().map(of).max().unwrap();
    println!("first half {:?}, last {:?}", first.last(), second.last());
    for other in others {
        other.await.unwrap();
    }
    let cameras = number("KVS_HLS_CAMERAS", 1) as usize;
    assert!(most(second, |usage| usage.threads) <= most(first, |usage| usage.threads) + cameras, "{usages:#?}");
    assert!(most(second, |usage| usage.files) <= most(first, |usage| usage.files) + 4 * cameras, "{usages:#?}");
    let (before, after) = (most(first, |usage| usage.bytes), most(second, |usage| usage.bytes));
    assert!(after <= before + before / 4, "{before} bytes, then {after}\n{usages:#?}");
}

#[cfg(target_os = "linux")]
async fn soak(seed: u64, total: Duration, speed: u32, mut look: impl FnMut()) {
    let script = FaultScript::random(seed, total, true);
    let ledger = run_at(speed, &script, total, |_| look()).await;
    println!("seed {seed}: {} frames, gaps {:?}", ledger.frames, ledger.gaps);
    assert!(ledger.defects.is_empty(), "seed {seed}\n{script}{:#?}", ledger.defects);
}
