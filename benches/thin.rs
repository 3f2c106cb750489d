//! How much CPU time the engine takes above its decoder: pairs of (a) the bare `openh264` crate and `convert` on access
//! units in memory, on one thread, and (b) a source that reads the same recording from a server in a process of its own.
//!
//! CPU time of all threads counts, not time on the clock, so the number of threads does not matter. Other work on the
//! machine does, through its caches: then believe the ratio of the lowest. Linux only.
//!
//! ```sh
//! cargo bench --bench thin                              # fixtures/hls/high_1080p, played until there are 1500 frames
//! cargo bench --bench thin -- FOLDER --frames 3000 --pairs 9
//! cargo bench --bench thin -- FOLDER --decode-ahead 2   # on several cores
//! cargo bench --bench thin -- FOLDER --only source      # for a profiler
//! ```
//!
//! `FOLDER` has an `index.m3u8` with one EXT-X-MAP and its segments.

#[allow(dead_code, reason = "shared with the tests")]
#[path = "../tests/demux/recording.rs"]
mod recording;

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use kvs_hls::decode::{ColorSpace, Picture, convert};
use kvs_hls::fmp4::{Demuxer, InitSegment};
use kvs_hls::h264::AccessUnit;
use kvs_hls::{ColorMatrix, ColorRange, Delivery, FixedUrl, FrameSource, Limits, Output, PixelFormat, Pts, Timescale};
use openh264::OpenH264API;
use openh264::decoder::{DecodedYUV, Decoder, DecoderConfig, Flush};
use openh264::formats::YUVSource;

/// The kernel counts the CPU time of processes in hundredths of a second, whatever its own clock does.
const TICKS_A_SECOND: f64 = 100.0;
/// How often the start of a source is repeated: once is too short for the kernel's clock.
const STARTS: u32 = 20;

/// CPU seconds of all threads of this process, ended ones too: in user space and in the kernel.
fn cpu_seconds() -> (f64, f64) {
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux");
    // The second field is a name that may hold anything; utime and stime are the fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    let seconds = |index: usize| fields[index].parse::<f64>().expect("a number") / TICKS_A_SECOND;
    (seconds(11), seconds(12))
}

/// What something took.
#[derive(Clone, Copy, Default)]
struct Cost {
    user: f64,
    system: f64,
    wall: f64,
}

impl Cost {
    fn of(work: impl FnOnce()) -> Self {
        let ((user, system), started) = (cpu_seconds(), Instant::now());
        work();
        let (user_after, system_after) = cpu_seconds();
        Self { user: user_after - user, system: system_after - system, wall: started.elapsed().as_secs_f64() }
    }

    fn cpu(self) -> f64 {
        self.user + self.system
    }
}

/// The access units of a recording with start codes, parameter sets in front of the first.
fn annex_b(folder: &Path) -> Vec<Vec<u8>> {
    let parts = recording::parts(folder);
    assert_eq!(parts.len(), 1, "one EXT-X-MAP");
    let init = InitSegment::parse(&parts[0].init, &Limits::default()).expect("an initialization segment");
    let mut demuxer = Demuxer::new(init, Limits::default());
    let mut units = Vec::<AccessUnit>::new();
    for segment in &parts[0].segments {
        demuxer.push(segment.clone(), &mut units).expect("a segment");
    }
    let with_start_codes = |unit: &AccessUnit| {
        let mut bytes = Vec::new();
        let mut append = |nal: &[u8]| bytes.extend_from_slice(&[&[0, 0, 0, 1], nal].concat());
        for set in unit.config().parameter_sets().filter(|_| unit.is_idr()) {
            match &set[..] {
                // Profile 83 for 100, as the engine writes it: pictures leave at once, and are converted while the cache
                // has them.
                [0x67, 100, rest @ ..] => append(&[&[0x67, 83], rest].concat()),
                set => append(set),
            }
        }
        unit.nal_units().filter(|nal| nal.is_slice()).for_each(|nal| append(nal.bytes()));
        bytes
    };
    units.iter().map(with_start_codes).collect()
}

/// Decodes and converts so often, on this thread.
fn decode_bare(units: &[Vec<u8>], times: usize) {
    let config = DecoderConfig::new().flush_after_decode(Flush::NoFlush);
    let mut decoder = Decoder::with_api_config(OpenH264API::from_source(), config).expect("a decoder");
    let mut out = Vec::new();
    let mut frames = 0;
    let mut take = |picture: &DecodedYUV<'_>| {
        let (width, height) = picture.dimensions();
        let (luma, chroma, _) = picture.strides();
        let picture = Picture {
            planes: [picture.y(), picture.u(), picture.v()],
            strides: [luma, chroma],
            width,
            height,
            color: ColorSpace::new(ColorMatrix::Bt709, ColorRange::Limited),
            sample_aspect_ratio: None,
            pts: Pts::new(0, Timescale::new(1).expect("one")),
        };
        out.resize(PixelFormat::Bgr.frame_bytes(width, height), 0);
        assert!(convert(&picture, Output::bgr(), &mut out));
        frames += 1;
    };
    for unit in std::iter::repeat_n(units, times).flatten() {
        if let Some(picture) = decoder.decode(unit).expect("an access unit that decodes") {
            take(&picture);
        }
    }
    decoder.flush_remaining().expect("the last pictures").iter().for_each(&mut take);
    assert_eq!(frames, units.len() * times, "frames of the bare decoder");
}

/// Reads to the end; how many frames came.
fn read_source(url: &str, ahead: usize) -> usize {
    let session = FixedUrl::new(url).expect("a URL");
    let builder = FrameSource::builder("thin", session).delivery(Delivery::All).decode_ahead(ahead);
    let source = builder.build().expect("valid options");
    let frames = source.start().expect("threads");
    frames.blocking().inspect(|frame| assert!(frame.is_ok(), "{frame:?}")).count()
}

/// Starts a source and stops it after its first frame.
fn start_source(url: &str) {
    let session = FixedUrl::new(url).expect("a URL");
    let builder = FrameSource::builder("start", session).delivery(Delivery::All).buffer_frames(1);
    let source = builder.build().expect("valid options");
    let frames = source.start().expect("threads");
    assert!(frames.blocking().next().is_some_and(|frame| frame.is_ok()), "the first frame");
}

/// The same segments so often, as a list.
fn playlist(folder: &Path, times: usize) -> String {
    let text = fs::read_to_string(folder.join("index.m3u8")).expect("index.m3u8");
    let is_of_segments = |line: &&str| line.starts_with("#EXTINF:") || !(line.is_empty() || line.starts_with('#'));
    let head = |line: &&str| !is_of_segments(line) && !["#EXT-X-ENDLIST", "#EXT-X-DISCONTINUITY"].contains(line);
    let mut list: String = text.lines().filter(head).map(|line| format!("{line}\n")).collect();
    for index in 0..times {
        let mark = if index == 0 { "" } else { "#EXT-X-DISCONTINUITY\n" };
        list.push_str(mark);
        text.lines().filter(is_of_segments).for_each(|line| writeln!(list, "{line}").expect("a string takes all"));
    }
    list + "#EXT-X-ENDLIST\n"
}

/// Serves the folder until standard input ends, with the list as `/long.m3u8`. Prints its address.
fn serve(folder: PathBuf, list: String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    println!("http://{}/long.m3u8", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (folder, list) = (folder.clone(), list.clone());
            std::thread::spawn(move || answer(&stream, &folder, &list));
        }
    });
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).expect("a pipe");
}

fn answer(mut stream: &TcpStream, folder: &Path, list: &str) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut lines = BufReader::new(stream).lines();
    loop {
        let request = lines.next()?.ok()?;
        let name = request.split(' ').nth(1)?.split('?').next()?.trim_start_matches('/').to_owned();
        while !lines.next()?.ok()?.is_empty() {}
        let (status, body) = match name.as_str() {
            "long.m3u8" => ("200 OK", list.as_bytes().to_vec()),
            name => fs::read(folder.join(name)).map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body)),
        };
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len()).ok()?;
        stream.write_all(&body).ok()?;
    }
}

/// Starts [`serve`] in a process of its own.
fn server(folder: &Path, times: usize) -> (Child, String) {
    let program = std::env::current_exe().expect("a path");
    let mut command = Command::new(program);
    command.arg("--serve").arg(folder).arg(times.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("a process");
    let mut url = String::new();
    BufReader::new(child.stdout.as_mut().expect("a pipe")).read_line(&mut url).expect("an address");
    (child, url.trim().to_owned())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
}

struct Options {
    folder: PathBuf,
    frames: usize,
    pairs: usize,
    ahead: usize,
    only: Option<String>,
}

fn options(mut words: impl Iterator<Item = String>) -> Options {
    let folder = recording::fixtures().join("hls/high_1080p");
    let mut options = Options { folder, frames: 1500, pairs: 5, ahead: 1, only: None };
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} wants a value"));
        let number = |text: String| text.parse().unwrap_or_else(|_| panic!("{text} is no number"));
        match word.as_str() {
            "--frames" => options.frames = number(value()),
            "--pairs" => options.pairs = number(value()).max(1),
            "--decode-ahead" => options.ahead = number(value()),
            "--only" => options.only = Some(value()),
            "--quick" => (options.frames, options.pairs) = (500, 1),
            "--bench" => {} // from cargo
            folder => options.folder = fs::canonicalize(folder).unwrap_or_else(|error| panic!("{folder}: {error}")),
        }
    }
    options
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [mark, folder, times] = &words[..]
        && mark == "--serve"
    {
        let list = playlist(Path::new(folder), times.parse().expect("a number"));
        return serve(folder.into(), list);
    }
    let Options { folder, frames, pairs, ahead, only } = options(words.into_iter());
    let units = annex_b(&folder);
    let times = frames.div_ceil(units.len());
    let frames = units.len() * times;
    let (mut child, url) = server(&folder, times);
    let bare = || decode_bare(&units, times);
    let source = || assert_eq!(read_source(&url, ahead), frames, "frames of the source");
    match only.as_deref() {
        Some("bare") => (0..pairs).for_each(|_| bare()),
        Some("source") => (0..pairs).for_each(|_| source()),
        Some(other) => panic!("--only {other}: bare or source"),
        None => compare(&folder, &url, frames, pairs, (&bare, &source)),
    }
    drop(child.stdin.take());
    child.wait().expect("the server's end");
}

fn compare(folder: &Path, url: &str, frames: usize, pairs: usize, (bare, source): (&dyn Fn(), &dyn Fn())) {
    println!("{}, {frames} frames; CPU milliseconds a frame: user + system", folder.display());
    start_source(url); // loads what is loaded once
    let start = Cost::of(|| (0..STARTS).for_each(|_| start_source(url)));
    let milliseconds = |seconds: f64| seconds * 1e3 / frames as f64;
    let show = |cost: Cost| {
        let (user, system) = (milliseconds(cost.user), milliseconds(cost.system));
        format!("{:6.3} = {user:6.3} + {system:5.3}", user + system)
    };
    println!("pair   (a) decoder + convert       (b) source                  b/a     wall b/a");
    let (mut ratios, mut all) = (Vec::new(), [Vec::new(), Vec::new()]);
    for pair in 0..pairs {
        // Each goes first in turn, for machines that grow warm.
        let (a, b) = if pair % 2 == 0 {
            let a = Cost::of(bare);
            (a, Cost::of(source))
        } else {
            let b = Cost::of(source);
            (Cost::of(bare), b)
        };
        ratios.push(b.cpu() / a.cpu());
        all[0].push(a.cpu());
        all[1].push(b.cpu());
        println!("{:4}   {}   {}   {:.3}   {:.3}", pair + 1, show(a), show(b), b.cpu() / a.cpu(), b.wall / a.wall);
    }
    let lowest = |costs: &[f64]| costs.iter().copied().fold(f64::INFINITY, f64::min);
    println!("b/a: median {:.3}, of the lowest {:.3}", median(ratios), lowest(&all[1]) / lowest(&all[0]));
    println!(
        "part of (b) once, starting a source up to its first frame and stopping it, which decodes one to three frames: \
         {:.1} ms CPU, {:.1} ms on the clock",
        start.cpu() * 1e3 / f64::from(STARTS),
        start.wall * 1e3 / f64::from(STARTS)
    );
}
