//! A decoder in a process of its own: the same pictures, and what it costs when that process crashes or hangs.
#![cfg(target_os = "linux")]

mod support;

#[allow(dead_code, reason = "shared with the demuxer's tests")]
#[path = "demux/recording.rs"]
mod recording;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use kvs_hls::decode::{DecoderProcess, IsolatedDecoder, Openh264Decoder, Picture};
use kvs_hls::fmp4::{Demuxer, InitSegment};
use kvs_hls::h264::AccessUnit;
use kvs_hls::{Decoder, Error, ErrorKind, Fleet, Frame, Frames, GapCause, Limits, Output};
use support::{builder, chain, file_server, framemd5, md5, read_all};

fn program() -> DecoderProcess {
    DecoderProcess::new(env!("CARGO_BIN_EXE_kvs-hls")).arg("decoder")
}

fn decoder(process: DecoderProcess) -> IsolatedDecoder {
    IsolatedDecoder::new(process, Limits::default())
}

fn units(name: &str) -> Vec<AccessUnit> {
    let mut units = Vec::new();
    for part in recording::parts(&recording::fixtures().join("hls").join(name)) {
        let init = InitSegment::parse(&part.init, &Limits::default()).unwrap();
        let mut demuxer = Demuxer::new(init, Limits::default());
        part.segments.iter().for_each(|segment| demuxer.push(segment.clone(), &mut units).unwrap());
    }
    units
}

fn decode(decoder: &mut impl Decoder, unit: &AccessUnit) -> Result<usize, Error> {
    let mut pictures = 0;
    decoder.decode(unit, &mut |_| pictures += 1).map(|()| pictures)
}

/// Sends a signal until the process has ended or stands still. One SIGSEGV is not enough: Rust's own handler looks whether
/// the stack overflowed, gives up its place, and counts on the fault to come again.
fn signal(id: u32, signal: &str) {
    while !matches!(state(id), None | Some('Z' | 'T')) {
        assert!(Command::new("kill").args([signal, &id.to_string()]).status().unwrap().success());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The state letter of a process, `None` when there is none.
fn state(id: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Processes that are started where open files are counted: more than the files of a test that waits for its turn.
const ROUNDS: usize = 30;

/// Open files are counted.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// What is visible of a picture, and what it says of itself.
fn look(decoder: &mut impl Decoder, unit: &AccessUnit) -> Vec<(String, Vec<u8>)> {
    let mut seen = Vec::new();
    let mut look = |picture: Picture<'_>| {
        let Picture { planes, strides, width, height, color, sample_aspect_ratio, pts } = picture;
        let mut bytes = Vec::new();
        let half = (strides[1], width.div_ceil(2), height.div_ceil(2));
        for (plane, (stride, width, height)) in planes.iter().zip([(strides[0], width, height), half, half]) {
            plane.chunks(stride).take(height).for_each(|row| bytes.extend_from_slice(&row[..width]));
        }
        seen.push((format!("{width} x {height} {color:?} {sample_aspect_ratio:?} {pts:?}"), bytes));
    };
    decoder.decode(unit, &mut look).unwrap();
    seen
}

#[test]
fn pictures_are_those_of_the_decoder_in_this_process() {
    let _alone = ALONE.blocking_lock();
    for name in [
        "kvs_camera",
        "bframes_open_gop_160x90",
        "resolution_change",
        "monochrome",
        "colour_bt601_full",
        "main_638x358",
        "avc3_inband_only",
    ] {
        let (mut here, mut there) = (Openh264Decoder::new(Limits::default()), decoder(program()));
        let units = units(name);
        assert!(!units.is_empty(), "{name}");
        for (index, unit) in units.iter().enumerate() {
            let picture = look(&mut here, unit);
            assert_eq!(picture.len(), 1, "{name} picture {index}");
            assert!(picture == look(&mut there, unit), "{name} picture {index}");
        }
    }
}

#[tokio::test]
async fn frames_through_the_whole_engine_are_ffmpegs() {
    let _alone = ALONE.lock().await;
    let server = file_server().await;
    let source = builder(&format!("{}/hls/kvs_camera/index.m3u8", server.uri())).output(Output::i420());
    let (frames, error) = read_all(&source.isolate(program()).build().unwrap()).await;
    assert!(error.is_none(), "{}", chain(&error.unwrap()));
    let expected = framemd5(&recording::fixtures().join("hls/kvs_camera/expected.framemd5"));
    assert!(frames.iter().map(|frame| md5(frame.data())).eq(expected.into_iter().map(|frame| frame.md5)));
}

#[test]
fn errors_of_the_decoder_cross_over_and_leave_it_running() {
    let _alone = ALONE.blocking_lock();
    let units = units("kvs_camera");
    let small = |max_macroblocks| {
        let mut limits = Limits::default();
        limits.max_macroblocks = max_macroblocks;
        limits
    };
    let mut there = IsolatedDecoder::new(program(), small(1));
    let mut here = Openh264Decoder::new(small(1));
    let errors = [decode(&mut here, &units[0]).unwrap_err(), decode(&mut there, &units[0]).unwrap_err()];
    assert_eq!(chain(&errors[0]), chain(&errors[1]));
    assert!(errors.iter().all(|error| error.kind() == ErrorKind::Limit && error.is_unsupported()), "{errors:?}");
    // A picture without the one it is predicted from, then one that needs none.
    let mut there = decoder(program());
    let error = decode(&mut there, &units[1]).unwrap_err();
    assert_eq!(chain(&error), chain(&decode(&mut Openh264Decoder::new(Limits::default()), &units[1]).unwrap_err()));
    let id = there.id();
    there.reset();
    assert_eq!(decode(&mut there, &units[0]).unwrap(), 1);
    assert!(id.is_some() && id == there.id());
}

#[test]
fn a_dead_process_is_an_error_that_says_how_it_ended_and_the_next_one_goes_on() {
    let _alone = ALONE.blocking_lock();
    let units = units("kvs_camera");
    let before = open_files();
    let mut there = decoder(program());
    let mut ids = Vec::new();
    for (name, said) in [("-SEGV", "signal: 11 (SIGSEGV)"), ("-KILL", "signal: 9 (SIGKILL)")].repeat(ROUNDS / 2) {
        assert_eq!(decode(&mut there, &units[0]).unwrap(), 1);
        let id = there.id().unwrap();
        signal(id, name);
        let error = decode(&mut there, &units[1]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decoder);
        assert!(error.to_string().contains(said), "{error}");
        there.reset();
        ids.push(id);
    }
    assert_eq!(decode(&mut there, &units[0]).unwrap(), 1);
    ids.extend(there.id());
    drop(there);
    assert_eq!(ids.iter().filter_map(|id| state(*id)).collect::<String>(), "", "a process is left");
    assert!(open_files() < before + ROUNDS, "{} open files, {before} before", open_files());
}

#[test]
fn a_process_that_hangs_is_killed_after_its_time() {
    let _alone = ALONE.blocking_lock();
    let units = units("kvs_camera");
    let mut there = decoder(program().time_limit(Duration::from_millis(500)));
    assert_eq!(decode(&mut there, &units[0]).unwrap(), 1);
    let id = there.id().unwrap();
    signal(id, "-STOP");
    let error = decode(&mut there, &units[1]).unwrap_err();
    assert!(error.is_timeout() && error.kind() == ErrorKind::Decoder, "{error:?}");
    assert!(error.to_string().contains("took longer than 500ms"), "{error}");
    assert_eq!(state(id), None);
    there.reset();
    assert_eq!(decode(&mut there, &units[0]).unwrap(), 1);
}

#[test]
fn programs_that_are_no_decoder_are_named() {
    let _alone = ALONE.blocking_lock();
    let unit = units("kvs_camera").remove(0);
    let before = open_files();
    for (program, said) in [
        ("/nowhere/decoder", "/nowhere/decoder that cannot be started"),
        ("/bin/true", "/bin/true that does not answer"),
        ("/bin/cat", "/bin/cat that is no decoder of this version"),
    ]
    .repeat(ROUNDS / 3)
    {
        let error = decode(&mut decoder(DecoderProcess::new(program)), &unit).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
    assert!(open_files() < before + ROUNDS, "{} open files, {before} before", open_files());
}

#[test]
fn the_process_sees_no_environment_and_ends_with_its_input() {
    let _alone = ALONE.blocking_lock();
    let mut there = decoder(program());
    decode(&mut there, &units("kvs_camera")[0]).unwrap();
    assert_eq!(std::fs::read(format!("/proc/{}/environ", there.id().unwrap())).unwrap(), b"");
    let mut orphan = Command::new(env!("CARGO_BIN_EXE_kvs-hls"));
    let orphan = orphan.arg("decoder").stdin(std::process::Stdio::null()).output().unwrap();
    assert!(!orphan.status.success(), "nobody greeted it");
    assert!(String::from_utf8_lossy(&orphan.stderr).contains("cannot decode for others"));
}

#[test]
fn the_process_ends_when_its_parent_is_gone_though_its_input_stays_open() {
    let _alone = ALONE.blocking_lock();
    let script = r#"sleep 20 2> /dev/null | "$0" decoder > /dev/null 2>&1 & echo $!; sleep 1"#;
    let output = Command::new("sh").args(["-c", script, env!("CARGO_BIN_EXE_kvs-hls")]).output().unwrap();
    let id = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    let ended = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        matches!(state(id), None | Some('Z'))
    });
    assert!(ended, "process {id}");
}

/// A decoder whose process gets a signal before the n-th access unit. It tells which process it has.
struct Shot {
    decoder: IsolatedDecoder,
    left: u32,
    signal: &'static str,
    last_id: Arc<AtomicU32>,
}

impl Decoder for Shot {
    fn decode(&mut self, unit: &AccessUnit, out: &mut dyn FnMut(Picture<'_>)) -> Result<(), Error> {
        self.left = self.left.wrapping_sub(1);
        if let (0, Some(id)) = (self.left, self.decoder.id()) {
            signal(id, self.signal);
        }
        let result = self.decoder.decode(unit, out);
        self.last_id.store(self.decoder.id().unwrap_or_default(), SeqCst);
        result
    }

    fn drain(&mut self, out: &mut dyn FnMut(Picture<'_>)) -> Result<(), Error> {
        self.decoder.drain(out)
    }

    fn reset(&mut self) {
        self.decoder.reset();
    }
}

async fn all(mut frames: Frames) -> Vec<Frame> {
    let mut all = Vec::new();
    while let Some(frame) = frames.next().await {
        all.push(frame.unwrap());
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_costs_one_camera_one_gap_and_the_others_nothing() {
    let _alone = ALONE.lock().await;
    let server = file_server().await;
    let url = format!("{}/hls/kvs_camera/index.m3u8", server.uri());
    let expected = framemd5(&recording::fixtures().join("hls/kvs_camera/expected.framemd5"));
    for signal in ["-SEGV", "-KILL", "-STOP"] {
        let fleet = Fleet::with_decode_threads(2).unwrap();
        let last_id = Arc::new(AtomicU32::new(0));
        let seen = last_id.clone();
        // Ten segments of fifteen frames: the sixth of the third one is hit.
        let make = move |limits: &Limits| {
            let process = program().time_limit(Duration::from_secs(1));
            let decoder = IsolatedDecoder::new(process, limits.clone());
            Box::new(Shot { decoder, left: 36, signal, last_id: seen.clone() }) as Box<dyn Decoder>
        };
        let hit = builder(&url).output(Output::i420()).decode_ahead(1).decoder(make);
        let other = kvs_hls::FrameSource::builder("other", kvs_hls::FixedUrl::new(&url).unwrap());
        let other = other.delivery(kvs_hls::Delivery::All).output(Output::i420()).isolate(program());
        let hit = fleet.start(hit.build().unwrap()).unwrap();
        let other = fleet.start(other.build().unwrap()).unwrap();
        let (hit, other) = tokio::join!(all(hit), all(other));
        assert_eq!(other.len(), 150, "{signal}");
        assert!(other.iter().all(|frame| frame.meta().gap_before.is_none()), "{signal}");
        let hashes = |frames: &[Frame]| frames.iter().map(|frame| md5(frame.data())).collect::<Vec<_>>();
        let expected: Vec<_> = expected.iter().map(|frame| frame.md5.clone()).collect();
        assert_eq!(hashes(&other), expected, "{signal}");
        // Frames 35 to 44 are lost.
        assert_eq!(hashes(&hit), [&expected[..35], &expected[45..]].concat(), "{signal}");
        let gaps: Vec<_> =
            hit.iter().enumerate().filter_map(|(at, frame)| Some((at, frame.meta().gap_before?))).collect();
        assert_eq!(
            gaps.iter().map(|(at, gap)| (*at, gap.frames)).collect::<Vec<_>>(),
            [(35, 10)],
            "{signal}: {gaps:?}"
        );
        assert_eq!(gaps[0].1.cause, GapCause::Damaged, "{signal}");
        drop(fleet);
        assert_eq!(state(last_id.load(SeqCst)), None, "{signal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_isolates_on_request() {
    let _alone = ALONE.lock().await;
    let server = file_server().await;
    let url = format!("{}/hls/kvs_camera/index.m3u8", server.uri());
    let mut frames = Command::new(env!("CARGO_BIN_EXE_kvs-hls"));
    frames.args(["frames", "--isolate", "--write", "framemd5", "--url", &url]).env_remove("RUST_LOG");
    let output = frames.output().unwrap();
    let (text, words) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{words}");
    let hashes =
        text.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit(", ").next().unwrap().trim());
    let expected = framemd5(&recording::fixtures().join("hls/kvs_camera/expected.framemd5"));
    assert!(hashes.eq(expected.iter().map(|frame| frame.md5.as_str())), "{text}");
}

#[tokio::test]
async fn a_program_that_is_no_decoder_ends_the_source_at_once() {
    let _alone = ALONE.lock().await;
    let server = file_server().await;
    let url = format!("{}/hls/kvs_camera/index.m3u8", server.uri());
    let source = builder(&url).isolate(DecoderProcess::new(PathBuf::from("/bin/cat"))).build().unwrap();
    let (frames, error) = read_all(&source).await;
    assert_eq!((frames.len(), error.unwrap().kind()), (0, ErrorKind::Config));
}
