//! The program as a user runs it: what it prints, writes and answers.
#![cfg(feature = "cli")]

#[path = "support/program.rs"]
mod program;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::thread;

use program::{Running, get};
use serde_json::Value;

/// Stands in the query of every URL: whoever reads it could watch the camera.
const TOKEN: &str = "CiVerySecretToken";

/// Serves the fixtures, byte ranges included, and a page for people under `/page`.
fn server() -> &'static str {
    static BASE: OnceLock<String> = OnceLock::new();
    BASE.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || _ = answer(&stream));
            }
        });
        base
    })
}

fn answer(mut stream: &TcpStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let target = request.split(' ').nth(1).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default().trim_start_matches('/').to_owned();
    let mut range = None;
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        if let Some(bytes) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            let (start, end) = bytes.split_once('-').expect("a range");
            range = Some((start.parse::<usize>().expect("a number"), end.parse::<usize>().expect("a number")));
        }
    }
    let (status, body) = match (path.as_str(), fs::read(fixtures().join(&path))) {
        ("page", _) => ("200 OK", b"<!DOCTYPE html><title>Log in</title>".to_vec()),
        (_, Err(_)) => ("404 Not Found", Vec::new()),
        (_, Ok(file)) => match range {
            Some((start, end)) => ("206 Partial Content", file[start..=end.min(file.len() - 1)].to_vec()),
            None => ("200 OK", file),
        },
    };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    stream.write_all(&body)
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn url(path: &str) -> String {
    format!("{}/{path}?SessionToken={TOKEN}", server())
}

fn program(args: &[&str]) -> Command {
    let mut command = program::program();
    command.args(args);
    command
}

/// What a run gave. None may show the token.
struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Run {
    fn of(output: Output) -> Self {
        let run = Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        assert!(!run.stderr.contains(TOKEN), "the token is in {}", run.stderr);
        run
    }

    #[track_caller]
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        self
    }

    #[track_caller]
    fn says(&self, words: &[&str]) {
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in {}", self.stderr);
        }
    }
}

fn run(args: &[&str]) -> Run {
    Run::of(program(args).output().expect("the program runs"))
}

fn frames(path: &str, args: &[&str]) -> Run {
    let url = url(path);
    run(&[&["frames", "--url", &url], args].concat())
}

#[test]
fn a_url_can_come_from_standard_input() {
    let mut child = program(&["frames", "--url", "-", "--max-frames", "3"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut input = child.stdin.take().expect("a pipe");
    writeln!(input, "{}", url("hls/kvs_camera/index.m3u8")).expect("a reader");
    drop(input);
    let arguments = fs::read_to_string(format!("/proc/{}/cmdline", child.id())).unwrap_or_default();
    assert!(!arguments.contains(TOKEN), "{arguments}");
    Run::of(child.wait_with_output().expect("an end")).expect(0);
    let refused = Run::of(program(&["frames", "--url", "-"]).output().expect("the program runs")).expect(2);
    refused.says(&["--url -: no URL came from standard input"]);
}

#[test]
fn options_that_would_do_nothing_or_mean_nothing_are_refused() {
    let url = "http://127.0.0.1:1/a.m3u8";
    for (args, words) in [
        (&["--url", url, "--out", "shots"][..], "--out without --write"),
        (&["--url", url, "--region", "us-east-1"], "cannot be used with"),
        (&["--url", url, "--playback", "on-demand"], "cannot be used with"),
        (&["--stream", "front-door", "--region", "nowhere"], "a name like \"us-east-1\""),
        (&["--url", "no-url"], "--url that is no absolute"),
        (&["--url", url, "--log", "loud"], "--log loud: error, warn, info"),
    ] {
        run(&[&["frames"], args].concat()).expect(2).says(&[words]);
    }
    let mut elsewhere = program(&["frames", "--stream", "front-door"]);
    let elsewhere = elsewhere.env("AWS_REGION", "nowhere").output().expect("the program runs");
    Run::of(elsewhere).expect(2).says(&["region of \"nowhere\"", "a name like \"us-east-1\""]);
}

#[test]
fn a_stretch_without_a_frame_is_a_failure_and_says_why() {
    let nobody = run(&["frames", "--url", "http://127.0.0.1:1/a.m3u8", "--duration", "1s"]).expect(1);
    nobody.says(&["error: no frame in 1.", "onnection refused"]);
    let hints = nobody.stderr.matches("hint: nothing listens there").count();
    assert_eq!(hints, 2, "while it waits, and at the end: {}", nobody.stderr);
    assert!(!nobody.stderr.contains("nothing lost"), "{}", nobody.stderr);
}

/// An empty directory for one test.
fn scratch(test: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    if path.exists() {
        fs::remove_dir_all(&path).expect("the directory goes away");
    }
    fs::create_dir_all(&path).expect("a directory");
    path
}

fn hashes(text: &str) -> Vec<&str> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit(' ').next().unwrap_or_default()).collect()
}

fn expected(path: &str) -> String {
    fs::read_to_string(fixtures().join("hls").join(path)).expect("an expectation")
}

#[test]
fn framemd5_is_what_ffmpeg_says() {
    for name in [
        "main_cabac_720p",
        "byte_range_single_file",
        "avc3_inband_only",
        "audio_in_fragments",
        "baseline_640x360",
        "kvs_camera",
        "monochrome",
        "segments_without_idr",
        "timescale_1000",
        "vfr_jitter_90khz",
    ] {
        let run = frames(&format!("hls/{name}/index.m3u8"), &["--write", "framemd5", "--pixel", "i420"]).expect(0);
        let expected = expected(&format!("{name}/expected.framemd5"));
        assert_eq!(hashes(&run.stdout), hashes(&expected), "{name}");
    }
}

/// The expectation is that of `ffmpeg -vf scale=320:180:flags=area+accurate_rnd -pix_fmt yuv420p -f framemd5`.
#[test]
fn scaled_frames_are_what_ffmpeg_says() {
    let path = "hls/baseline_640x360/index.m3u8";
    let run = frames(path, &["--size", "fit:320x180", "--write", "framemd5", "--max-frames", "3"]).expect(0);
    let hashes = hashes(&run.stdout);
    assert_eq!(
        hashes,
        ["9145f8d6a2af14ccf52ae31d6389a63f", "335ce5674113ca7a638724adeaa84237", "f99f455a68c597e0ef0fa80b00d1bd80"]
    );
    assert!(run.stdout.contains("#dimensions 0: 320x180\n"));
    let run = frames(path, &["--size", "letterbox:64x64", "--write", "y4m", "--max-frames", "1"]);
    assert!(run.stdout.starts_with("YUV4MPEG2 W64 H64 "));
}

#[test]
fn framemd5_goes_on_when_the_size_changes() {
    let run = frames("hls/resolution_change/index.m3u8", &["--write", "framemd5"]).expect(0);
    let parts = [0, 1, 2].map(|part| expected(&format!("resolution_change/expected.part{part}.framemd5")));
    assert_eq!(hashes(&run.stdout), parts.iter().flat_map(|part| hashes(part)).collect::<Vec<_>>());
    let counts: Vec<_> = run.stdout.lines().filter_map(|line| line.strip_prefix("0, ")?.get(..10)).collect();
    assert_eq!(counts, (0..75).map(|count| format!("{count:>10}")).collect::<Vec<_>>());
}

#[test]
fn framemd5_has_the_header_and_columns_of_ffmpeg() {
    let head = |name: &str| {
        let run = frames(&format!("hls/{name}/index.m3u8"), &["--write", "framemd5", "--max-frames", "12"]).expect(0);
        let lines = run.stdout.lines().filter(|line| !line.starts_with("#software"));
        // Without the hash, which other tests look at.
        lines.map(|line| line.rsplit_once(", ").map_or(line, |(line, _)| line).to_owned()).collect::<Vec<_>>()
    };
    let lines = head("timescale_1000");
    assert_eq!(
        lines[..10],
        [
            "#format: frame checksums",
            "#version: 2",
            "#hash: MD5",
            "#tb 0: 1/30",
            "#media_type 0: video",
            "#codec_id 0: rawvideo",
            "#dimensions 0: 320x180",
            "#sar 0: 1/1",
            "#stream#, dts,        pts, duration,     size",
            "0,          0,          0,        1,    86400",
        ]
    );
    assert_eq!(lines[20], "0,         11,         11,        1,    86400");
    assert_eq!(head("kvs_camera")[3], "#tb 0: 1/15");
    assert_eq!(head("vfr_jitter_90khz")[3], "#tb 0: 1/90000", "uneven times stay as they are");
}

#[test]
fn raw_and_y4m_hold_the_planes() {
    let directory = scratch("planes");
    let (raw, y4m) = (directory.join("raw"), directory.join("y4m"));
    let path = "hls/main_322x178/index.m3u8";
    let out = |path: &Path| path.to_str().expect("a path of text").to_owned();
    frames(path, &["--write", "raw", "--pixel", "i420", "--out", &out(&raw)]).expect(0);
    frames(path, &["--write", "y4m", "--out", &out(&y4m)]).expect(0);
    let (raw, y4m) = (fs::read(raw).expect("a file"), fs::read(y4m).expect("a file"));
    let frame_bytes = 322 * 178 * 3 / 2;
    assert_eq!(raw.len(), 50 * frame_bytes);
    let header = b"YUV4MPEG2 W322 H178 F25:1 Ip A1:1 C420mpeg2\n";
    assert_eq!(&y4m[..header.len()], header);
    let frames = y4m[header.len()..].chunks(b"FRAME\n".len() + frame_bytes);
    assert!(frames.map(|frame| &frame[b"FRAME\n".len()..]).eq(raw.chunks(frame_bytes)));
}

#[test]
fn y4m_ends_where_the_size_changes() {
    let run = frames("hls/resolution_change/index.m3u8", &["--write", "raw", "--pixel", "i420"]).expect(0);
    run.says(&["raw frames: 640x360 i420", "raw frames: 1280x720 i420"]);
    let run = frames("hls/resolution_change/index.m3u8", &["--write", "y4m"]).expect(1);
    run.says(&["the size changed from 640x360 to 1280x720"]);
}

#[test]
fn images_are_named_by_time_and_index() {
    let directory = scratch("images");
    let out = directory.to_str().expect("a path of text");
    let args = ["--write", "png", "--select", "keyframes", "--max-frames", "2", "--out", out];
    frames("hls/kvs_camera/index.m3u8", &args).expect(0);
    let mut names: Vec<_> = fs::read_dir(&directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name of text"))
        .collect();
    names.sort();
    assert_eq!(names, ["2025-03-14T09-26-53.589Z_000000.png", "2025-03-14T09-26-54.589Z_000001.png"]);
    let png = image::open(directory.join(&names[0])).expect("a picture");
    assert_eq!((png.width(), png.height()), (640, 360));
}

#[test]
fn wrong_usage_is_told_and_is_2() {
    for (args, words) in [
        (&[][..], &["Usage"][..]),
        (&["frames"], &["--url"]),
        (&["frames", "https://host/a.m3u8?SessionToken=CiVerySecretToken"], &["unexpected argument"]),
        (&["frames", "--url", "no-url?CiVerySecretToken"], &["absolute http or https URL"]),
        (&["frames", "--url", "ftp://host/?CiVerySecretToken"], &["scheme \"ftp\""]),
        (&["frames", "--url", "http://host", "--duration", "soon"], &["10s, 1m30s"]),
        (&["frames", "--url", "http://host", "--delivery", "soon"], &["catch-up, catch-up:SECONDS, all, latest"]),
        (&["frames", "--url", "http://host", "--max-errors", "0"], &["max_consecutive_errors"]),
        (&["frames", "--url", "http://host", "--write", "y4m", "--pixel", "bgr"], &["i420 is allowed"]),
        (&["frames", "--url", "http://host", "--write", "png"], &["--out DIR"]),
        (&["frames", "--url", "http://host", "--write", "raw", "--summary-json", "-"], &["give one of them a file"]),
        (&["simulate", "--window", "0"], &["window"]),
        (&["simulate", "--fleet", "Cargo.toml"], &["Cargo.toml: that file is another's"]),
        (&["fleet", "--preview", "cameras.toml"], &["a file before the option"]),
        (
            &["demo", "--preview", "0", "--preview-remote"],
            &["--preview at 127.0.0.1, where other machines cannot come"],
        ),
        (&["fleet", "http://host/a?CiVerySecretToken"], &["a URL where a file", "frames --url"]),
        (&["frames", "--stream", "http://host/a?CiVerySecretToken"], &["stream of a URL"]),
        (
            &["frames", "--url", "http://host", "--hosts", "a.example"],
            &["--hosts", "\"host\" is not among", "a.example"],
        ),
        (&["fleet", "none/cameras.toml"], &["no file none/cameras.toml", "fleet --example > none/cameras.toml"]),
        (&["frames", "--url", "http://host", "--stream", "a"], &["cannot be used with"]),
        (&["frames", "--stream", "a/b"], &["stream", "a/b"]),
        (&["frames", "--stream", "a", "--session-duration", "10s"], &["session_duration of 10s (300s to 43200s"]),
        (&["frames", "--stream", "a", "--playback", "on-demand"], &["without --start and --end"]),
        (&["frames", "--stream", "a", "--start", "yesterday"], &["2026-01-31T12:00:00Z"]),
        (&["frames", "--stream", "a", "--max-fragments", "5001"], &["max_fragments"]),
        (&["frames", "--url", "http://host", "--variant", "best"], &["adaptive, highest, lowest"]),
        (&["frames", "--url", "http://host", "--gap-fill", "black"], &["none, hold-last"]),
        (&["frames", "--url", "http://host", "--size", "640x360"], &["native, fit:WIDTHxHEIGHT"]),
        (&["frames", "--url", "http://host", "--size", "fit:0x360"], &["fit:0x360 (1 to 8192 is allowed"]),
        (&["frames", "--url", "http://host", "--buffer-frames", "0"], &["buffer_frames of 0"]),
        (&["frames", "--url", "http://host", "--metrics", "many"], &["a port such as 9100"]),
    ] {
        run(args).expect(2).says(words);
    }
    assert!(run(&["frames", "--help"]).expect(0).stdout.contains("Examples:"));
}

#[test]
fn errors_say_why_and_what_next() {
    for (path, words) in [
        ("page", &["error: ", "  cause: ", "HTML", "hint: "][..]),
        ("README.md", &["not a playlist", "hint: is that the URL of the playlist"]),
        ("nothing.m3u8", &["HTTP 404", "hint: nothing is there"]),
        ("refused/hevc/index.m3u8", &["HEVC", "hint: only H.264 is decoded"]),
        ("refused/encrypted_aes128/index.m3u8", &["AES-128", "hint: encrypted"]),
        ("refused/encrypted_cenc/index.m3u8", &["scheme cenc", "hint: encrypted"]),
        ("refused/mpegts/index.m3u8", &["MPEG-TS", "FRAGMENTED_MP4"]),
        ("refused/interlaced_mbaff/index.m3u8", &["interlaced", "hint: set the camera"]),
        ("refused/high10/index.m3u8", &["High 10 profile", "hint: set the camera"]),
        ("refused/audio_only/index.m3u8", &["no video track", "hint: there is sound only"]),
        ("refused/hevc/init.mp4", &["hint: give the URL of the playlist"]),
    ] {
        let run = frames(path, &["--log", "trace"]).expect(1);
        run.says(words);
        // `--log` writes nothing there either.
        assert_eq!(run.stdout, "", "{path}");
    }
}

#[test]
fn a_server_that_is_not_there_is_told() {
    // A port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let url = format!("http://{address}/live.m3u8?SessionToken={TOKEN}");
    let refused = run(&["frames", "--url", &url, "--max-errors", "1"]).expect(1);
    refused.says(&["no connection to", "?…", "hint: nothing listens there"]);
    run(&["probe", "--url", &url]).expect(1).says(&["hint: nothing listens there"]);
    // Before anything is read.
    let args = ["frames", "--url", &url, "--summary-json", "/dev/null/summary"];
    run(&args).expect(1).says(&["error: cannot write to /dev/null/summary"]);
}

#[test]
fn a_closed_pipe_ends_it_quietly() {
    let url = url("hls/main_cabac_720p/index.m3u8");
    let mut child = program(&["frames", "--url", &url, "--write", "y4m"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut stdout = child.stdout.take().expect("a pipe");
    stdout.read_exact(&mut [0; 100]).expect("the start of the file");
    drop(stdout);
    let run = Run::of(child.wait_with_output().expect("an end")).expect(0);
    assert_eq!(run.stderr, "");
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn the_summary_is_json() {
    let run = frames("hls/kvs_camera/index.m3u8", &["--summary-json", "-"]).expect(0);
    let summary = json(&run.stdout);
    for (name, value) in [
        ("frames", 150.into()),
        ("keyframes", 10.into()),
        ("segments", 10.into()),
        ("sizes", serde_json::json!([[640, 360]])),
        ("first_captured_at", "2025-03-14T09:26:53.589Z".into()),
        ("time_origin", "producer".into()),
        ("gaps", 0.into()),
        ("frames_lost", 0.into()),
        ("reconnects", 0.into()),
        ("ended_by", "end of stream".into()),
        ("error", Value::Null),
    ] {
        assert_eq!(summary[name], value, "{name}");
    }
    run.says(&["150 frames", "nothing lost"]);

    let file = scratch("summary").join("summary.json");
    let path = file.to_str().expect("a path of text");
    frames("hls/kvs_camera/index.m3u8", &["--max-frames", "7", "--summary-json", path]).expect(0);
    let summary = json(&fs::read_to_string(&file).expect("a file"));
    assert_eq!((&summary["frames"], &summary["ended_by"]), (&7.into(), &"max frames".into()));

    frames("refused/hevc/index.m3u8", &["--summary-json", path]).expect(1);
    let summary = json(&fs::read_to_string(&file).expect("a file"));
    assert_eq!((&summary["frames"], &summary["ended_by"]), (&0.into(), &"error".into()));
    assert!(summary["error"].as_str().is_some_and(|error| error.contains("HEVC")), "{summary}");
}

fn probe(path: &str) -> Value {
    json(&run(&["probe", "--json", "--url", &url(path)]).expect(0).stdout)
}

#[test]
fn probe_describes_what_is_there() {
    let report = probe("hls/multivariant/master.m3u8");
    let variants = report["variants"]["variants"].as_array().expect("a list");
    let chosen = variants.iter().find(|variant| variant["chosen"] == true).expect("a chosen one");
    assert_eq!(chosen["resolution"], "640x360");

    let report = probe("hls/kvs_camera/index.m3u8");
    assert_eq!(report["playlist"]["segments"]["count"], 10);
    assert_eq!(report["playlist"]["discontinuities"], 10);
    assert_eq!(report["playlist"]["program_date_time"]["first"], "2025-03-14T09:26:53.589Z");
    assert_eq!(report["video"]["profile"], "Main");
    assert_eq!(report["video"]["size"], serde_json::json!([640, 360]));
    assert_eq!(report["segment"]["frame_rate"], 15.0);
    assert_eq!(report["segment"]["starts_with_idr"], true);
    assert_eq!(report["verdict"]["decodable"], true);

    let report = probe("hls/avc3_inband_only/index.m3u8");
    assert_eq!(report["container"]["parameter_sets"], 0);
    assert_eq!(report["segment"]["in_band_parameter_sets"], true);
    assert_eq!(probe("hls/byte_range_single_file/index.m3u8")["playlist"]["byte_ranges"], true);
    assert_eq!(probe("hls/high_bframes_pyramid_640x360/index.m3u8")["segment"]["reorder_depth"], 2);

    let text = run(&["probe", "--url", &url("hls/kvs_camera/index.m3u8")]).expect(0).stdout;
    assert!(text.contains("\nvideo\n  profile ") && !text.contains(TOKEN), "{text}");
}

#[test]
fn probe_describes_what_cannot_be_decoded() {
    for (name, reason, described) in [
        ("hevc", "HEVC", "playlist"),
        ("mpegts", "MPEG-TS", "playlist"),
        ("encrypted_aes128", "AES-128", "video"),
        ("encrypted_cenc", "cenc", "playlist"),
        ("interlaced_mbaff", "interlaced", "video"),
        ("high10", "High 10", "video"),
        ("audio_only", "audio", "playlist"),
    ] {
        let report = probe(&format!("refused/{name}/index.m3u8"));
        assert_eq!(report["verdict"]["decodable"], false, "{name}");
        let given = report["verdict"]["reason"].as_str().expect("a reason");
        assert!(given.contains(reason), "{name}: {given}");
        assert!(report[described].is_object(), "{name}: {report}");
    }
    run(&["probe", "--url", &url("page")]).expect(1).says(&["HTML"]);
}

#[test]
fn demo_checks_every_frame() {
    let snapshot = scratch("demo").join("snapshot.png");
    let path = snapshot.to_str().expect("a path of text");
    let run = run(&["demo", "--duration", "4s", "--summary-json", "-", "--snapshot", path]).expect(0);
    let summary = json(&run.stdout);
    assert_eq!(summary["ok"], true);
    assert_eq!(summary["checks"]["painted_counter"], true);
    assert!(summary["frames"].as_u64().is_some_and(|frames| frames >= 15), "{summary}");
    assert!(!run.stderr.contains('\x1b'), "control sequences without a terminal");
    let picture = image::open(snapshot).expect("a picture");
    assert_eq!((picture.width(), picture.height()), (640, 360));
}

impl Running {
    fn start(args: &[&str]) -> (Self, BufReader<ChildStdout>) {
        let mut child = program(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program runs");
        let stdout = child.stdout.take().expect("a pipe");
        (Self(child), BufReader::new(stdout))
    }

    fn send(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.0.id().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()));
    }

    fn wait(mut self) -> (ExitStatus, String) {
        let mut words = String::new();
        let mut stderr = self.0.stderr.take().expect("a pipe");
        stderr.read_to_string(&mut words).expect("words");
        (self.0.wait().expect("an end"), words)
    }
}

#[cfg(unix)]
#[test]
fn signals_end_it_cleanly() {
    let (camera, mut stdout) = Running::start(&["simulate", "--window", "7", "--discontinuity", "never"]);
    let mut url = String::new();
    stdout.read_line(&mut url).expect("the URL");
    let url = url.trim();
    assert!(url.starts_with("http://127.0.0.1:") && url.contains("SessionToken="), "{url}");

    let report = json(&run(&["probe", "--json", "--url", url]).expect(0).stdout);
    assert_eq!(report["playlist"]["live"], true);
    assert_eq!(report["playlist"]["segments"]["count"], 7);
    assert_eq!(report["playlist"]["discontinuities"], 0);

    let file = scratch("signals").join("summary.json");
    let path = file.to_str().expect("a path of text");
    let args = ["frames", "--url", url, "--write", "framemd5", "--live-edge", "3", "--summary-json", path];
    let (client, mut stdout) = Running::start(&args);
    // From here on it reads live, and would do so for ever.
    let mut line = String::new();
    while !line.starts_with("0,") {
        line.clear();
        assert_ne!(stdout.read_line(&mut line).expect("a line"), 0);
    }
    // As `timeout` does: once to the program, once to its group.
    client.send("-TERM");
    client.send("-TERM");
    stdout.read_to_string(&mut line).expect("the rest");
    let (status, words) = client.wait();
    assert!(status.success(), "{words}");
    assert!(words.contains("ended by: signal") && !words.contains("SessionToken"), "{words}");
    let summary = json(&fs::read_to_string(file).expect("a file"));
    assert_eq!(summary["ended_by"], "signal");

    camera.send("-INT");
    let (status, words) = camera.wait();
    assert!(status.success(), "{words}");
    assert!(words.contains("kvs-hls frames --url '"), "{words}");
}

/// Waits for a line on standard error that begins so, and gives the rest of it.
fn told(child: &mut Child, start: &str) -> String {
    let stderr = child.stderr.as_mut().expect("a pipe");
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        assert_eq!(stderr.read(&mut byte).expect("a byte"), 1, "it ended before it said {start:?}");
        if byte[0] != b'\n' {
            line.push(byte[0]);
        } else if let Some(rest) = String::from_utf8_lossy(&std::mem::take(&mut line)).strip_prefix(start) {
            return rest.to_owned();
        }
    }
}

/// A program with credentials of its own and nothing of the machine's.
fn with_credentials<'a>(command: &'a mut Command, secret: &str) -> &'a mut Command {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_")) {
        command.env_remove(name);
    }
    command
        .env("HOME", env!("CARGO_TARGET_TMPDIR"))
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_ACCESS_KEY_ID", "AKIDTEST")
        .env("AWS_SECRET_ACCESS_KEY", secret)
}

#[test]
fn a_stream_is_read_by_its_name() {
    let (_camera, mut stdout) = Running::start(&["simulate", "--stream", "front-door"]);
    let mut url = String::new();
    stdout.read_line(&mut url).expect("the URL");
    let endpoint = url.split("/hls").next().expect("a host").to_owned();
    let stream = ["--stream", "front-door", "--region", "us-east-1", "--endpoint-url", &endpoint];

    let args = [&["frames"], &stream[..], &["--max-frames", "40", "--summary-json", "-"]].concat();
    let run = Run::of(with_credentials(&mut program(&args), "secret").output().expect("the program runs")).expect(0);
    let summary = json(&run.stdout);
    assert_eq!((&summary["frames"], &summary["gaps"]), (&40.into(), &0.into()));
    assert_eq!(summary["time_origin"], "server");

    let arn = "arn:aws:kinesisvideo:us-east-1:123456789012:stream/front-door/1700000000000";
    let args = ["frames", "--stream", arn, "--endpoint-url", &endpoint, "--max-frames", "1", "--write", "json"];
    let run = Run::of(with_credentials(&mut program(&args), "secret").output().expect("the program runs")).expect(0);
    assert_eq!(json(&run.stdout)["camera"], "front-door");

    let args = [&["probe", "--json"], &stream[..]].concat();
    let run = Run::of(with_credentials(&mut program(&args), "secret").output().expect("the program runs")).expect(0);
    assert_eq!(json(&run.stdout)["verdict"]["decodable"], true);

    let args = [&["frames"], &stream[..], &["--metrics", "0"]].concat();
    let mut command = program(&args);
    let child = with_credentials(&mut command, "secret").stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut client = Running(child.expect("the program runs"));
    let metrics = told(&mut client.0, "metrics at http://");
    let metrics = metrics.trim_end_matches("/metrics");
    let counter = |text: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix("kvs_hls_frames_total{camera_id=\"front-door\"} "));
        line.and_then(|count| count.parse::<u64>().ok()).unwrap_or_default()
    };
    let mut text = get(metrics, "/metrics").1;
    while counter(&text) < 10 {
        thread::sleep(std::time::Duration::from_millis(50));
        text = get(metrics, "/metrics").1;
    }
    assert!(
        text.contains("Content-Type: text/plain; version=0.0.4")
            || text.contains("content-type: text/plain; version=0.0.4")
    );
    assert!(text.contains("kvs_hls_connection_state{camera_id=\"front-door\"} 2"), "{text}");

    let args = ["frames", "--stream", "back-door", "--region", "us-east-1", "--endpoint-url", &endpoint];
    let run = Run::of(with_credentials(&mut program(&args), "verysecret").output().expect("the program runs"));
    assert!(!run.stderr.contains("verysecret"));
    run.expect(1).says(&["ResourceNotFoundException", "hint: is the stream's name right, and the region?"]);
}

#[test]
fn completions_and_manual_pages_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let completions = run(&["completions", shell]).expect(0).stdout;
        assert!(completions.contains("simulate") && completions.contains("preview-remote"), "{shell}");
        assert!(!completions.contains("decoder's process"), "{shell} offers what is hidden");
    }
    // What bash itself offers.
    let offered = |words: &str, last: usize| {
        let script = format!(
            "source <({} completions bash); COMP_WORDS=({words}); COMP_CWORD={last}; offer=$(complete -p kvs-hls); \
             offer=${{offer#*-F }}; ${{offer%% *}} kvs-hls \"${{COMP_WORDS[{last}]}}\" \"${{COMP_WORDS[{}]}}\"; \
             echo \"${{COMPREPLY[@]}}\"",
            env!("CARGO_BIN_EXE_kvs-hls"),
            last - 1
        );
        let output = Command::new("bash").args(["-c", &script]).output().expect("bash");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(offered("kvs-hls fra", 1), "frames");
    assert_eq!(offered("kvs-hls frames --wri", 2), "--write");
    assert_eq!(offered("kvs-hls frames --write fra", 3), "framemd5");
    let directory = scratch("man");
    run(&["man", directory.to_str().expect("UTF-8")]).expect(0);
    let page = |name: &str| fs::read_to_string(directory.join(name)).unwrap_or_else(|_| panic!("no {name}"));
    assert!(page("kvs-hls.1").starts_with(".ie") && page("kvs-hls-fleet.1").contains("SIGHUP"));
    assert!(!directory.join("kvs-hls-decoder.1").exists());
}

#[test]
fn missing_credentials_and_regions_are_told() {
    let mut command = program(&["frames", "--stream", "a", "--region", "us-east-1"]);
    with_credentials(&mut command, "").env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    Run::of(command.output().expect("the program runs")).expect(1).says(&["no AWS credentials", "AWS_PROFILE"]);
    let mut command = program(&["frames", "--stream", "a"]);
    Run::of(with_credentials(&mut command, "x").output().expect("the program runs")).expect(2).says(&["region"]);
}
