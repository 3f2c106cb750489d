//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use kvs_hls::hls::{LiveEdge, ReloadPolicy};
use kvs_hls::sim;
use kvs_hls::{
    ColorMatrix, ColorRange, Config, Delivery, FrameSelection, GapFill, HostPolicy, Pacing, PixelFormat, Size,
    VariantChoice,
};

use crate::fleet::Shard;
use crate::serve::listen_address;
use crate::source::{Kinesis, Source};

/// Live camera frames from Amazon Kinesis Video Streams or any HLS/fMP4 URL.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  kvs-hls demo                                     see it work, without any camera
  kvs-hls probe --url \"$URL\"                       what is there, and can it be decoded?
  kvs-hls frames --url \"$URL\" --max-frames 100     count frames
  kvs-hls frames --stream my-camera --region us-east-1 --write png --out shots --select fps:1

Data goes to standard output, words to standard error. Exit status: 0 done, 1 failed, 2 wrong usage.
The query of a URL is its authorization: it is never printed."
)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,

    /// What to log to standard error, for example `info` or `kvs_hls=debug`; else RUST_LOG counts
    #[arg(long, global = true, value_name = "FILTER")]
    pub log: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Read frames: count them, or write them to a file, a directory or a pipe
    Frames(Box<FramesArgs>),
    /// Read many cameras that a file names
    Fleet(FleetArgs),
    /// Say what is at a URL, and whether it can be decoded
    Probe(ProbeArgs),
    /// Read a simulated camera live and check every frame
    Demo(DemoArgs),
    /// Run a simulated camera for other programs to open
    Simulate(SimulateArgs),
    /// Print what a shell needs to complete commands and options
    #[command(after_help = "\
Examples:
  kvs-hls completions bash > ~/.local/share/bash-completion/completions/kvs-hls
  kvs-hls completions zsh > ~/.zfunc/_kvs-hls
  kvs-hls completions fish > ~/.config/fish/completions/kvs-hls.fish")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write manual pages, one for each command
    #[command(after_help = "Example:\n  kvs-hls man ~/.local/share/man/man1 && man kvs-hls")]
    Man {
        /// The directory for them
        directory: PathBuf,
    },
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  kvs-hls frames --url \"$URL\" --duration 1m --summary-json -
  kvs-hls frames --stream my-camera --region us-east-1 --metrics --preview
  kvs-hls frames --stream my-camera --playback on-demand --start 2026-01-31T12:00:00Z --end 2026-01-31T13:00:00Z
  kvs-hls frames --url \"$URL\" --write raw --pixel rgb --duration 10s > frames.rgb
  kvs-hls frames --url \"$URL\" --write y4m | ffplay -
  kvs-hls frames --url \"$URL\" --write png --out shots --select keyframes --size fit:640x360
  kvs-hls frames --url \"$URL\" --write framemd5 --out frames.md5")]
pub struct FramesArgs {
    /// Stop after so many frames
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_frames: Option<u64>,

    /// Stop after this time by the clock on the wall: `10`, `10s`, `1m30s`, `500ms`
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,

    /// Write a summary as JSON at the end; `-` is standard output
    #[arg(long, value_name = "PATH")]
    pub summary_json: Option<PathBuf>,

    #[command(flatten)]
    pub serving: Serving,

    #[command(flatten)]
    pub camera: CameraOptions,
}

/// A camera, and what is wanted of it. The keys of a file for `fleet` are the names of these options.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "Frames")]
pub struct CameraOptions {
    /// Which frames: `all`, `keyframes` or `fps:NUMBER`
    #[arg(long, value_name = "WHICH", default_value_t)]
    pub select: FrameSelection,

    /// Pixel format: `bgr`, `rgb`, `gray` or `i420`; the default suits what is written (bgr where all suit)
    #[arg(long, value_name = "FORMAT")]
    pub pixel: Option<PixelFormat>,

    /// Size of frames: `native`, or `fit:WxH` (within, aspect ratio kept), `exact:WxH`, `letterbox:WxH` (black around)
    #[arg(long, value_name = "SIZE", default_value_t)]
    pub size: Size,

    /// What to write
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub write: Format,

    /// Where to: a file (`frames` replaces it, `fleet` adds to json and moves others aside), a directory (png, jpeg), `-` for
    /// standard output, or nats://HOST/SUBJECT
    #[arg(long, value_name = "PATH", default_value = "-")]
    pub out: PathBuf,

    #[command(flatten)]
    pub source: Source,

    #[command(flatten)]
    pub reading: Reading,
}

impl CameraOptions {
    pub fn is_written(&self) -> bool {
        self.write != Format::None
    }

    /// Who only looks sees the rhythm of capture instead of a burst for each segment.
    pub fn look_at(&mut self) {
        if !self.is_written() {
            self.reading.pacing.get_or_insert(Pacing::ByTime);
        }
    }
}

/// What is served while frames are read.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "Serving")]
pub struct Serving {
    /// Show what is read on a web page, at this port or ADDRESS:PORT [default when given: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR", num_args = 0..=1, default_missing_value = "8080", value_parser = listen_address)]
    pub preview: Option<SocketAddr>,

    /// Let other machines open the preview; they need the token in the environment variable KVS_HLS_PREVIEW_TOKEN
    #[arg(long, requires = "preview")]
    pub preview_remote: bool,

    /// Serve /metrics for Prometheus, /healthz and /readyz, at this port or ADDRESS:PORT [default when given: 127.0.0.1:9100]
    #[arg(long, value_name = "ADDR", num_args = 0..=1, default_missing_value = "9100", value_parser = listen_address)]
    pub metrics: Option<SocketAddr>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  kvs-hls fleet --example > cameras.toml      a file to begin with
  kvs-hls fleet cameras.toml --check          look at the file, ask nobody
  kvs-hls fleet cameras.toml --preview --metrics
  kvs-hls fleet cameras.toml --shard 0/3      a third of the cameras; `auto` on Kubernetes

SIGHUP reads the file again: cameras that stay as they are go on without a break. SIGTERM and Ctrl-C end all.")]
pub struct FleetArgs {
    /// The file with the cameras
    #[arg(value_name = "FILE", required_unless_present = "example")]
    pub file: Option<PathBuf>,

    /// Print a file with comments to begin with
    #[arg(long, exclusive = true)]
    pub example: bool,

    /// Only look at the file: say what is wrong, and where, or which cameras would be read
    #[arg(long)]
    pub check: bool,

    /// Read this machine's part of the cameras only: `I/N` with I from 0, or `auto` to take them from JOB_COMPLETION_INDEX
    /// or the number at the end of HOSTNAME, and KVS_HLS_SHARDS
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,

    /// Threads that decode [default: one a core]
    #[arg(long, value_name = "N")]
    pub decode_threads: Option<usize>,

    /// Stop after this time by the clock on the wall
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,

    /// Write a summary as JSON at the end; `-` is standard output
    #[arg(long, value_name = "PATH")]
    pub summary_json: Option<PathBuf>,

    #[command(flatten)]
    pub serving: Serving,
}

/// How the stream is read.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "Reading")]
pub struct Reading {
    /// When frames come faster than they are taken: `catch-up[:SECONDS]`, `all` or `latest`. By default `all` when
    /// frames are written and `catch-up` when they are only counted
    #[arg(long, value_name = "HOW")]
    pub delivery: Option<Delivery>,

    /// When frames are handed out: `as-decoded` or `by-time`. By default `by-time` when a preview is served and nothing is
    /// written, else `as-decoded`
    #[arg(long, value_name = "HOW")]
    pub pacing: Option<Pacing>,

    /// Where a live playlist is entered: `newest`, `oldest`, or a number of segments from the end
    #[arg(long, value_name = "WHERE", default_value_t)]
    pub live_edge: LiveEdge,

    /// How often a live playlist is loaded: `spec` or an interval such as `1s`; by default `1s` for --stream, else `spec`
    #[arg(long, value_name = "HOW")]
    pub reload: Option<ReloadPolicy>,

    /// Take no variant with more rows than this; the smallest where all have more
    #[arg(long, value_name = "ROWS")]
    pub max_height: Option<u32>,

    /// Take no variant with more bits a second than this; the smallest where all have more
    #[arg(long, value_name = "BITS")]
    pub max_bandwidth: Option<u64>,

    /// Which of the variants: `adaptive`, `highest`, `lowest`, or its place in the playlist, from 1
    #[arg(long, value_name = "WHICH", default_value_t)]
    pub variant: VariantChoice,

    /// Which hosts may be asked: `any`, `session` (that of the session's URL), or names such as `a.example.com,.cdn.net`;
    /// by default `session` for --stream, else `any`
    #[arg(long, value_name = "HOSTS")]
    pub hosts: Option<HostPolicy>,

    /// What is handed out while the connection is lost: `none`, or `hold-last` for the last frame in its rhythm
    #[arg(long, value_name = "WHAT", default_value_t)]
    pub gap_fill: GapFill,

    /// Segments of a finished playlist that are decoded at once, each on a thread of its own [default: one a core, up to 8]
    #[arg(long, value_name = "N")]
    pub decode_ahead: Option<usize>,

    /// Decode in a process of its own: should the decoder crash or never answer, that costs a gap and nothing else
    #[cfg(unix)]
    #[arg(long)]
    pub isolate: bool,

    /// How many decoded frames may wait to be taken
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub buffer_frames: usize,

    /// Colour matrix instead of the stated one: `bt601`, `bt709` or `bt2020`
    #[arg(long, value_name = "MATRIX")]
    pub matrix: Option<ColorMatrix>,

    /// Range of values instead of the stated one: `limited` or `full`
    #[arg(long, value_name = "RANGE")]
    pub range: Option<ColorRange>,

    /// How patient reconnects are
    #[arg(long, value_enum, default_value_t, value_name = "PRESET")]
    pub preset: Preset,

    /// Give up after so many failures in a row; the up to four tries of a request are one
    #[arg(long, value_name = "N")]
    pub max_errors: Option<u32>,

    /// Give up when the camera sends nothing for so long; by default it is waited for
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub max_silence: Option<Duration>,
}

impl Reading {
    pub fn config(&self, kinesis: &Kinesis) -> Config {
        let mut config = match self.preset {
            Preset::Default => Config::default(),
            Preset::Conservative => Config::conservative(),
            Preset::Aggressive => Config::aggressive(),
        };
        if let Some(errors) = self.max_errors {
            config.max_consecutive_errors = errors;
        }
        if let Some(duration) = kinesis.session_duration {
            config.session_duration = duration;
        }
        if let Some(margin) = kinesis.refresh_margin {
            config.refresh_margin = margin;
        }
        config.max_silence = self.max_silence;
        config
    }
}

/// What `frames` writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Nothing: frames are counted
    #[default]
    None,
    /// The pixels alone, one frame after the other
    Raw,
    /// YUV4MPEG2, for ffmpeg, ffplay, mpv
    Y4m,
    /// A PNG file for each frame
    Png,
    /// A JPEG file for each frame
    Jpeg,
    /// A line of JSON for each frame: times, size, what is missing before it
    Json,
    /// A line with times and MD5 for each frame, as `ffmpeg -f framemd5` writes it
    #[value(name = "framemd5")]
    FrameMd5,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum Preset {
    #[default]
    Default,
    Conservative,
    Aggressive,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  kvs-hls probe --url \"$URL\"
  kvs-hls probe --url \"$URL\" --json | jq .video
  kvs-hls probe --url \"$URL\" --json | jq -e .verdict.decodable      exit status 0 if it can be decoded
  kvs-hls probe --stream my-camera --region us-east-1

Exits with 0 when there was something to describe, whether it can be decoded or not.")]
pub struct ProbeArgs {
    /// Write JSON instead of text
    #[arg(long)]
    pub json: bool,

    /// Take no variant with more rows than this; the smallest where all have more
    #[arg(long, value_name = "ROWS")]
    pub max_height: Option<u32>,

    /// Take no variant with more bits a second than this; the smallest where all have more
    #[arg(long, value_name = "BITS")]
    pub max_bandwidth: Option<u64>,

    #[command(flatten)]
    pub source: Source,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  kvs-hls demo --duration 10m --preview            and open http://127.0.0.1:8080
  kvs-hls demo --duration 1m --snapshot frame.png
  kvs-hls demo --duration 5s --summary-json -

Exits with 0 only if frames came and none of them was lost, repeated or out of order.")]
pub struct DemoArgs {
    /// How long to read: `10`, `10s`, `1m30s`
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "20s")]
    pub duration: Duration,

    /// Save a frame as PNG
    #[arg(long, value_name = "FILE")]
    pub snapshot: Option<PathBuf>,

    /// Write a summary as JSON at the end; `-` is standard output
    #[arg(long, value_name = "PATH")]
    pub summary_json: Option<PathBuf>,

    /// An MP4 file with H.264 that the camera shows instead of its own recording
    #[arg(long, value_name = "FILE")]
    pub video: Option<PathBuf>,

    #[command(flatten)]
    pub serving: Serving,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  kvs-hls simulate
  kvs-hls simulate --cameras 2 --fleet cameras.toml      and `kvs-hls fleet cameras.toml --preview`
  kvs-hls simulate --video recording.mp4 --bind 0.0.0.0:8080 --window 10 --discontinuity never
  kvs-hls simulate --session-lifetime 30s --fault 10s+5s:status:503@fragments --fault 20s+3s:gone

Faults, with @sessions, @playlists, @init, @fragments or @all where answers are touched:
  status:503@all  reset@all  slow:10000@all  truncated@all  stalled@all    answers
  missing:1  unlisted:1  corrupt:1  jitter:300:SEED  skew:MS  resolution  discontinuity    fragments
  frozen  gone  silent    playlists, the server, the camera")]
pub struct SimulateArgs {
    /// An MP4 file with H.264 to loop instead of the built-in recording
    #[arg(long, value_name = "FILE")]
    pub video: Option<PathBuf>,

    /// Where to listen; port 0 is any free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    pub bind: SocketAddr,

    /// How many cameras, each at a port of its own, the next after that of --bind
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub cameras: u16,

    /// Write a file that names them for `kvs-hls fleet`
    #[arg(long, value_name = "FILE")]
    pub fleet: Option<PathBuf>,

    /// How many fragments a playlist lists
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub window: usize,

    /// Where EXT-X-DISCONTINUITY stands
    #[arg(long, value_enum, default_value_t, value_name = "WHERE")]
    pub discontinuity: Discontinuity,

    /// Whether segments have EXT-X-PROGRAM-DATE-TIME
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub fragment_timestamps: Timestamps,

    /// What the fragment numbers in URLs are
    #[arg(long, value_enum, default_value_t, value_name = "KIND")]
    pub fragment_numbers: Numbers,

    /// Count decoding times from 1970 instead of from the start
    #[arg(long)]
    pub epoch_tfdt: bool,

    /// Name of the stream for the session API (GetDataEndpoint, GetHLSStreamingSessionURL)
    #[arg(long, value_name = "NAME", default_value = "simulated-camera")]
    pub stream: String,

    /// How long each session lasts, whatever it asks for
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub session_lifetime: Option<Duration>,

    /// Something that goes wrong, so long after the start: `FROM+LENGTH:FAULT`. May be repeated
    #[arg(long, value_name = "SPEC")]
    pub fault: Vec<sim::ScheduledFault>,

    /// Faults by chance for a day, the same for the same number
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum Discontinuity {
    /// Before every segment
    #[default]
    Always,
    /// Nowhere
    Never,
    /// Before a gap or an overlap
    #[value(name = "on-discontinuity")]
    OnBreaks,
}

impl From<Discontinuity> for sim::DiscontinuityMode {
    fn from(mode: Discontinuity) -> Self {
        match mode {
            Discontinuity::Always => Self::Always,
            Discontinuity::Never => Self::Never,
            Discontinuity::OnBreaks => Self::OnDiscontinuity,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Timestamps {
    #[default]
    Always,
    Never,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum Numbers {
    /// The stream's own, of 47 digits
    #[default]
    Stream,
    /// 0, 1, 2, … in each session
    Session,
}

impl From<Numbers> for sim::FragmentNumbers {
    fn from(numbers: Numbers) -> Self {
        match numbers {
            Numbers::Stream => Self::Stream,
            Numbers::Session => Self::Session,
        }
    }
}

/// Reads `10`, `1.5`, `10s`, `1m30s`, `500ms`, `1h`; a bare number is seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    const ALLOWED: &str = "a time above zero such as 10, 10s, 1m30s or 500ms is allowed";
    let time = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => humantime::parse_duration(text).ok(),
    };
    time.filter(|time| !time.is_zero() && *time <= MAX_DURATION).ok_or_else(|| ALLOWED.into())
}

/// A hundred years: more is a slip, and no clock counts on for ever.
pub const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * 86_400);

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn durations_are_read() {
        for (text, millis) in [
            ("10", 10_000),
            ("10s", 10_000),
            ("1.5", 1_500),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1h1m1s1ms", 3_661_001),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "0", "0s", "s", "1m30", "-1s", "1x", "1.2.3s", "1e12", "NaN", "99999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
