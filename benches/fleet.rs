//! How many cameras one process carries, and what each costs: a [`Fleet`] in a process of its own reads simulated cameras
//! that run in this one, sessions through the AWS SDK included. Nothing may be lost.
//!
//! ```sh
//! cargo bench --bench fleet --features sim -- --cameras 200 --select keyframes --duration 300
//! cargo bench --bench fleet --features sim -- 1080p.mp4 --cameras 6
//! cargo bench --bench fleet --features sim -- --cameras 200 --silent     # cameras that wait
//! ```
//!
//! The video is a plain MP4 file with an IDR picture each second; without one, the 640x360 that comes with the crate. The
//! simulated cameras need cores as well, so a fleet carries more than is shown. *Wait* is the time from the end of a
//! fragment's capture, which is when it is listed, to its first frame in the reader's hands: up to a reload of the
//! playlist (one second), a download, and the decoder. Linux only.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use kvs_hls::sim::{Fault, FaultScript, Recording, ScheduledFault, SimulatedCamera};
use kvs_hls::{Delivery, Fleet, FrameSelection, FrameSource, Frames, KinesisSession};
use tokio::runtime::Runtime;

const TICKS_A_SECOND: f64 = 100.0;

struct Options {
    video: Option<String>,
    cameras: usize,
    select: FrameSelection,
    seconds: u64,
    silent: bool,
}

fn options(mut words: impl Iterator<Item = String>) -> Options {
    let mut options = Options { video: None, cameras: 8, select: FrameSelection::All, seconds: 20, silent: false };
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} wants a value"));
        match word.as_str() {
            "--cameras" => options.cameras = value().parse().expect("--cameras: a number"),
            "--select" => options.select = value().parse().expect("--select"),
            "--duration" => options.seconds = value().parse().expect("--duration: seconds"),
            "--silent" => options.silent = true,
            "--quick" => (options.cameras, options.seconds) = (2, 4),
            "--bench" => {} // from cargo
            _ => options.video = Some(word),
        }
    }
    options
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match &words[..] {
        [mark, rest @ ..] if mark == "--watch" => watch(&options(rest.iter().cloned())),
        _ => film(&words),
    }
}

/// Runs the cameras, and the fleet in a process of its own.
fn film(words: &[String]) {
    let Options { video, cameras, seconds, silent, .. } = options(words.iter().cloned());
    let recording = Arc::new(video.map_or_else(Recording::demo, |path| Recording::open(path).expect("a recording")));
    println!(
        "{cameras} cameras, {}x{}, {} frames in {} s, for {seconds} s",
        recording.width(),
        recording.height(),
        recording.samples(),
        recording.duration().as_secs_f64()
    );
    let runtime = Runtime::new().expect("threads");
    let start = async |index: usize| {
        let silence = ScheduledFault::new(Duration::ZERO, Duration::from_secs(86_400), Fault::Silent);
        let script = silent.then_some(silence).into_iter().collect::<FaultScript>();
        let camera =
            SimulatedCamera::builder().recording(recording.clone()).faults(script).publish_delay(Duration::ZERO);
        let camera = if silent { camera.backlog(0) } else { camera };
        let camera = camera.stream_name(format!("camera-{index}")).start().await.expect("a port");
        // Spread over a second, as cameras are.
        tokio::time::sleep(Duration::from_secs(1) / cameras as u32).await;
        camera
    };
    let filming: Vec<_> = (0..cameras).map(|index| runtime.block_on(start(index))).collect();
    let mut child = Command::new(std::env::current_exe().expect("a path"))
        .arg("--watch")
        .args(words)
        .env("AWS_ACCESS_KEY_ID", "AKIDBENCH")
        .env("AWS_SECRET_ACCESS_KEY", "none")
        .stdin(Stdio::piped())
        .spawn()
        .expect("a process");
    let mut pipe = child.stdin.take().expect("a pipe");
    for camera in &filming {
        writeln!(pipe, "{}", camera.endpoint_url()).expect("a reader");
    }
    drop(pipe);
    assert!(child.wait().expect("the fleet's end").success(), "the fleet lost something");
}

/// What a process takes.
#[derive(Clone, Copy)]
struct Usage {
    cpu: f64,
    resident: f64,
    threads: f64,
}

fn usage() -> Usage {
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    let cpu = (fields[11].parse::<f64>().expect("utime") + fields[12].parse::<f64>().expect("stime")) / TICKS_A_SECOND;
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
        line.split_whitespace().next().and_then(|word| word.parse::<f64>().ok()).expect("a number")
    };
    Usage { cpu, resident: field("VmRSS:") / 1024.0, threads: field("Threads:") }
}

/// What one reader saw.
#[derive(Default)]
struct Seen {
    first_frame: Option<Duration>,
    waits: Vec<Duration>,
    gaps: usize,
    /// Distances of capture times, in milliseconds.
    steps: BTreeMap<u128, usize>,
}

async fn read(mut frames: Frames, started: Instant, until: Instant, total: Arc<AtomicU64>) -> Seen {
    let mut seen = Seen::default();
    let mut before = None;
    let mut fragment = None;
    while let Ok(Some(frame)) = tokio::time::timeout_at(until.into(), frames.next()).await {
        let frame = frame.unwrap_or_else(|error| panic!("{error}"));
        total.fetch_add(1, Ordering::Relaxed);
        let captured = frame.captured_at();
        seen.first_frame.get_or_insert_with(|| started.elapsed());
        seen.gaps += usize::from(frame.meta().gap_before.is_some());
        if let Some(before) = before.replace(captured) {
            let step = captured.duration_since(before).expect("time goes on").as_micros();
            *seen.steps.entry((step + 500) / 1000).or_default() += 1;
        }
        let media_sequence = Some((frame.meta().session_generation, frame.meta().media_sequence));
        // The first fragments were there before the reader was.
        if std::mem::replace(&mut fragment, media_sequence).is_some_and(|before| Some(before) != media_sequence) {
            let listed = captured + Duration::from_secs(1);
            seen.waits.push(SystemTime::now().duration_since(listed).unwrap_or_default());
        }
    }
    seen
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    sorted
        .get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)))
        .map_or(f64::NAN, Duration::as_secs_f64)
        * 1e3
}

/// Reads the cameras whose endpoints stand on standard input.
fn watch(options: &Options) {
    let endpoints: Vec<String> = BufReader::new(std::io::stdin()).lines().map(|line| line.expect("text")).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let fleet = Fleet::new().expect("threads");
    let before = usage();
    let total = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let until = started + Duration::from_secs(options.seconds);
    let readers: Vec<_> = endpoints
        .iter()
        .enumerate()
        .map(|(index, endpoint)| {
            let name = format!("camera-{index}");
            let session = KinesisSession::live(&name).region("us-east-1").endpoint_url(endpoint);
            let source = FrameSource::builder(&name, session).delivery(Delivery::All).select(options.select);
            let frames = fleet.start(source.build().expect("valid options")).expect("a new name");
            runtime.spawn(read(frames, Instant::now(), until, total.clone()))
        })
        .collect();
    // The second half counts: all are under way by then, and what is kept has been filled.
    let usage_at = |at: Instant| {
        runtime.block_on(async { tokio::time::sleep_until(at.into()).await });
        usage()
    };
    let settled = usage_at(started + (until - started) / 2);
    let after = usage_at(until - Duration::from_millis(100));
    let seen = runtime.block_on(async {
        let mut seen = Vec::new();
        for reader in readers {
            seen.push(reader.await.expect("a reader that does not panic"));
        }
        seen
    });
    let sum =
        |field: fn(&kvs_hls::Stats) -> u64| fleet.cameras().iter().map(|camera| field(&camera.stats())).sum::<u64>();
    let steps = seen.iter().flat_map(|seen| &seen.steps).fold(
        BTreeMap::new(),
        |mut all: BTreeMap<u128, usize>, (step, count)| {
            *all.entry(*step).or_default() += count;
            all
        },
    );
    let sorted = |durations: Vec<Duration>| {
        let mut durations = durations;
        durations.sort_unstable();
        durations
    };
    let waits = sorted(seen.iter().flat_map(|seen| seen.waits.clone()).collect());
    let firsts = sorted(seen.iter().filter_map(|seen| seen.first_frame).collect());
    let (count, half) = (endpoints.len() as f64, options.seconds as f64 / 2.0);
    let gaps: usize = seen.iter().map(|seen| seen.gaps).sum();
    let lost = sum(|stats| stats.frames_lost) + sum(|stats| stats.segments_lost);
    println!(
        "frames           {:10}   gaps {gaps}, lost {lost}, superseded {}, errors {}",
        total.load(Ordering::Relaxed),
        sum(|stats| stats.frames_superseded),
        sum(|stats| stats.errors)
    );
    println!("steps, ms                     {steps:?}");
    println!(
        "CPU              {:9.1}%   {:.2}% a camera",
        (after.cpu - settled.cpu) / half * 100.0,
        (after.cpu - settled.cpu) / half * 100.0 / count
    );
    println!(
        "resident memory  {:7.0} MB   {:.2} MB a camera above the {:.0} MB of a fleet without; {:+.2} MB a minute in the second half",
        after.resident,
        (after.resident - before.resident) / count,
        before.resident,
        (after.resident - settled.resident) / half * 60.0
    );
    println!("threads          {:10}", after.threads);
    println!(
        "first frame, ms  {:10.0}   p95 {:.0} (all started at once)",
        percentile(&firsts, 50),
        percentile(&firsts, 95)
    );
    println!(
        "wait, ms         {:10.0}   p95 {:.0}, p99 {:.0}",
        percentile(&waits, 50),
        percentile(&waits, 95),
        percentile(&waits, 99)
    );
    if gaps > 0 || lost > 0 || (!options.silent && firsts.len() < endpoints.len()) {
        std::process::exit(1);
    }
}
