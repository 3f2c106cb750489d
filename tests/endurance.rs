//! What months bring: clocks that jump, processes that are suspended, consumers that panic or fall asleep, no more files.
//! Alone in its process, since it counts threads and memory.
#![cfg(target_os = "linux")]

mod support;

use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use kvs_hls::sim::{Recording, SimulatedCamera};
use kvs_hls::{Clock, Delivery, FrameSource, KinesisSession, Output};
use support::camera::{ShortSessions, camera, sdk_config};
use support::painted::Ledger;
use support::{FastClock, file_server};

/// Threads and memory are counted.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn threads() -> Vec<String> {
    let names = std::fs::read_dir("/proc/self/task").unwrap().filter_map(|task| {
        let name = std::fs::read_to_string(task.ok()?.path().join("comm")).ok()?;
        (name.starts_with("source ") || name.starts_with("decode")).then_some(name)
    });
    names.collect()
}

fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// A clock whose wall time somebody sets.
#[derive(Clone, Debug)]
struct JumpyClock(FastClock, Arc<AtomicI64>);

impl Clock for JumpyClock {
    fn now(&self) -> Instant {
        self.0.now()
    }

    fn wall(&self) -> SystemTime {
        let offset = self.1.load(Ordering::Relaxed);
        let seconds = Duration::from_secs(offset.unsigned_abs());
        if offset < 0 { self.0.wall() - seconds } else { self.0.wall() + seconds }
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.0.sleep(duration)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_costs_nothing() {
    let _alone = ALONE.lock().await;
    const HOUR: i64 = 3600;
    for jumps in [[HOUR, 2 * HOUR], [-HOUR, -2 * HOUR], [HOUR, 0], [-HOUR, 0]] {
        let lifetime = Duration::from_secs(8);
        let clock = JumpyClock(FastClock::new(20), Arc::default());
        let camera = camera(&clock.0, lifetime).start().await.unwrap();
        let inner = KinesisSession::live(camera.stream_name())
            .sdk_config(&sdk_config(&camera.endpoint_url()))
            .clock(clock.clone());
        let provider = ShortSessions { inner, lifetime, clock: clock.clone() };
        let source = FrameSource::builder("x", provider).delivery(Delivery::All).output(Output::gray());
        let source = source.clock(clock.clone()).build().unwrap();
        let mut frames = source.start().unwrap();
        let mut ledger = Ledger::default();
        for (count, jump) in [(200, jumps[0]), (400, jumps[1]), (700, 0)] {
            while ledger.frames < count {
                ledger.look(&frames.next().await.expect("no end").unwrap(), camera.timeline());
            }
            clock.1.store(jump, Ordering::Relaxed);
        }
        assert!(ledger.defects.is_empty() && ledger.gaps.is_empty(), "{jumps:?}: {ledger:#?}");
        assert!(ledger.generations > 4, "{jumps:?}: sessions went on being replaced: {}", ledger.generations);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_process_resumes_at_the_live_edge() {
    let _alone = ALONE.lock().await;
    let camera = SimulatedCamera::builder().recording(Recording::demo_small()).window(8).speed(4);
    let camera = camera.start().await.unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_kvs-hls"))
        .args(["frames", "--stream", camera.stream_name(), "--region", "us-east-1"])
        .args(["--endpoint-url", &camera.endpoint_url(), "--reload", "250ms", "--duration", "12s"])
        .args(["--delivery", "all", "--summary-json", "-"])
        .envs([("AWS_ACCESS_KEY_ID", "AKIDTEST"), ("AWS_SECRET_ACCESS_KEY", "none")])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let signal =
        |name: &str| assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
    tokio::time::sleep(Duration::from_secs(4)).await;
    signal("-STOP");
    tokio::time::sleep(Duration::from_secs(4)).await; // sixteen of the camera, of which the playlist lists eight
    signal("-CONT");
    let stdout = child.stdout.take().unwrap();
    let summary = tokio::task::spawn_blocking(move || {
        let summary: serde_json::Value = serde_json::from_reader(stdout).unwrap();
        assert!(child.wait().unwrap().success());
        summary
    });
    let summary = summary.await.unwrap();
    let number = |name: &str| summary[name].as_u64().unwrap_or_else(|| panic!("{name} in {summary:#}"));
    assert!((1..=2).contains(&number("gaps")), "{summary:#}");
    // What was listed when it slept, and what was filmed while it was awake.
    assert!(number("frames") > 15 * 4 * 6, "{summary:#}");
    assert!((3..=14).contains(&number("segments_lost")), "{summary:#}");
}

#[test]
fn a_consumer_that_panics_takes_its_source_along() {
    let _alone = ALONE.blocking_lock();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(file_server());
    let url = format!("{}/hls/kvs_camera/index.m3u8", server.uri());
    let consumer = std::thread::spawn(move || {
        let source = support::builder(&url).build().unwrap();
        let frame = source.start().unwrap().blocking().next().expect("a frame").expect("no error");
        panic!("as a model may on {frame:?}");
    });
    assert!(consumer.join().is_err());
    assert_eq!(threads(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_can_be_dropped_at_any_time() {
    let _alone = ALONE.lock().await;
    let clock = FastClock::new(10);
    let camera = camera(&clock, Duration::from_secs(3)).start().await.unwrap();
    for after in (0..22).map(|step| Duration::from_millis(step * step / 3)) {
        for end in ["source", "frames", "stop", "next"] {
            let lifetime = Duration::from_secs(3);
            let source = support::camera::source(&camera, &clock, lifetime).build().unwrap();
            let mut frames = source.start().unwrap();
            let read = async { while frames.next().await.is_some() {} };
            assert!(tokio::time::timeout(after, read).await.is_err(), "a live camera does not end");
            match end {
                "source" => drop(source),
                "frames" => drop(frames),
                "stop" => source.stop(),
                _ => {
                    // A future that is dropped takes no frame with it.
                    let _ = tokio::time::timeout(Duration::ZERO, frames.next()).await;
                    drop(frames);
                }
            }
            assert_eq!(threads(), Vec::<String>::new(), "{end} after {after:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_that_fall_asleep_cost_a_bounded_amount() {
    let _alone = ALONE.lock().await;
    let clock = FastClock::new(40);
    let lifetime = Duration::from_secs(300);
    let camera = camera(&clock, lifetime).start().await.unwrap();
    let asleep = [Delivery::All, Delivery::default(), Delivery::Latest].map(|delivery| {
        let source = support::camera::source(&camera, &clock, lifetime).delivery(delivery).build().unwrap();
        let frames = source.start().unwrap();
        (source, frames)
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = resident_bytes();
    tokio::time::sleep(Duration::from_secs(4)).await; // 160 of the camera
    let after = resident_bytes();
    assert!(after < before + (8 << 20), "{before} bytes, then {after}");
    for (source, _frames) in &asleep {
        // Four may wait, and behind them what leaves the order of decoding together (H.264 A.3.1: 16 pictures at most).
        assert!(source.stats().queued <= 4 + 16, "{:?}", source.stats());
    }
}

#[test]
fn a_process_without_files_left_says_so() {
    let _alone = ALONE.blocking_lock();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(file_server());
    let url = format!("{}/hls/kvs_camera/index.m3u8", server.uri());
    let mut told = 0;
    for files in 4..24 {
        let output = Command::new("sh")
            .args(["-c", "ulimit -n \"$1\"; shift; exec \"$@\"", "sh", &files.to_string()])
            .args([env!("CARGO_BIN_EXE_kvs-hls"), "frames", "--max-errors", "1", "--url", &url])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("panicked"), "{files} files: {said}");
        match output.status.code() {
            Some(0) => assert!(files > 6, "{files} files are enough"),
            Some(1) => {
                let is_told =
                    ["Too many open files", "no more files can be opened"].iter().any(|text| said.contains(text));
                assert!(is_told, "{files} files: {said}");
                told += 1;
            }
            // The dynamic linker and the kernel speak for themselves.
            code => assert!(files < 6, "{files} files: {code:?} {said}"),
        }
    }
    assert!(told > 0);
}
