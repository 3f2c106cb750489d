//! What happened, as text and JSON.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use kvs_hls::{Frame, Stats};
use serde_json::{Value, json};

use crate::display::{bit_rate, count};
use crate::failure::Failure;
use crate::write::{self, Sink};

/// Why reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    StreamEnded,
    MaxFrames,
    Duration,
    Signal,
    ClosedPipe,
    Error,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StreamEnded => "end of stream",
            Self::MaxFrames => "max frames",
            Self::Duration => "duration",
            Self::Signal => "signal",
            Self::ClosedPipe => "closed pipe",
            Self::Error => "error",
        })
    }
}

/// Counts the frames that were taken.
#[derive(Debug)]
pub struct Tally {
    started: Instant,
    pub frames: u64,
    keyframes: u64,
    synthetic: u64,
    gaps: u64,
    sizes: Vec<(usize, usize)>,
    first: Option<SystemTime>,
    last: Option<SystemTime>,
    sessions: u32,
    time_origin: Option<String>,
    arrived: Option<Instant>,
    /// How long the gaps were.
    missing: Duration,
}

/// Sizes that are kept for the summary.
const MAX_SIZES: usize = 16;

impl Tally {
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
            frames: 0,
            keyframes: 0,
            synthetic: 0,
            gaps: 0,
            sizes: Vec::new(),
            first: None,
            last: None,
            sessions: 0,
            time_origin: None,
            arrived: None,
            missing: Duration::ZERO,
        }
    }

    pub fn add(&mut self, frame: &Frame) {
        let meta = frame.meta();
        if meta.is_synthetic {
            self.synthetic += 1;
            return;
        }
        self.arrived = Some(Instant::now());
        self.missing += meta.gap_before.and_then(|gap| gap.span).unwrap_or_default();
        self.frames += 1;
        self.keyframes += u64::from(meta.is_keyframe);
        self.gaps += u64::from(meta.gap_before.is_some());
        let size = (frame.width(), frame.height());
        if self.sizes.last() != Some(&size) && self.sizes.len() < MAX_SIZES {
            self.sizes.push(size);
        }
        self.first.get_or_insert(frame.captured_at());
        self.last = Some(frame.captured_at());
        self.sessions = self.sessions.max(meta.session_generation);
        self.time_origin.get_or_insert_with(|| meta.time_origin.to_string());
    }

    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Since the last frame came.
    pub fn age(&self) -> Option<Duration> {
        self.arrived.map(|at| at.elapsed())
    }

    /// Frames a second by capture time; `None` before the second frame.
    pub fn rate(&self) -> Option<f64> {
        let span = self.last?.duration_since(self.first?).ok()?.as_secs_f64();
        (span > 0.0).then(|| (self.frames - 1) as f64 / span)
    }

    /// `trouble`: why no more frames came.
    pub fn text(&self, stats: &Stats, end: End, trouble: Option<&str>) -> String {
        let mut text = format!("{} in {:.1} s", count(self.frames, "frame"), self.elapsed().as_secs_f64());
        if let Some((width, height)) = self.sizes.last() {
            text += &format!(", {width}x{height}");
        }
        if let Some(rate) = self.rate() {
            text += &format!(", {rate:.2} a second");
        }
        if stats.bandwidth > 0.0 {
            text += &format!(", downloaded at {}", bit_rate(stats.bandwidth));
        }
        text += &match stats.gaps {
            0 if self.frames == 0 || trouble.is_some() => String::new(),
            0 => String::from(", nothing lost"),
            gaps => format!(
                ", {} ({:.1} s, {}, {} lost)",
                count(gaps, "gap"),
                self.missing.as_secs_f64(),
                count(stats.frames_lost, "frame"),
                count(stats.segments_lost, "segment")
            ),
        };
        if end != End::StreamEnded {
            text += &format!("; ended by: {end}");
        }
        if let Some(trouble) = trouble {
            text += &format!("; at the end {trouble}");
        }
        text
    }

    pub fn json(&self, stats: &Stats, end: End, error: Option<&str>) -> Value {
        let time = |time: Option<SystemTime>| time.and_then(|time| Timestamp::try_from(time).ok());
        json!({
            "frames": self.frames,
            "keyframes": self.keyframes,
            "frames_synthetic": self.synthetic,
            "elapsed_seconds": self.elapsed().as_secs_f64(),
            "frames_per_second": self.rate(),
            "sizes": self.sizes.iter().map(|(width, height)| json!([width, height])).collect::<Vec<_>>(),
            "first_captured_at": time(self.first).map(|time| time.to_string()),
            "last_captured_at": time(self.last).map(|time| time.to_string()),
            "time_origin": self.time_origin,
            "latency_seconds": stats.latency.map(|latency| latency.as_secs_f64()),
            "gaps": stats.gaps,
            "gaps_between_frames": self.gaps,
            "gaps_seconds": self.missing.as_secs_f64(),
            "frames_lost": stats.frames_lost,
            "segments_lost": stats.segments_lost,
            "frames_superseded": stats.frames_superseded,
            "segments": stats.segments,
            "bytes": stats.bytes,
            "bandwidth_bits_per_second": stats.bandwidth,
            "sessions": self.sessions,
            "refreshes": stats.refreshes,
            "refresh_failures": stats.refresh_failures,
            "variant_switches": stats.variant_switches,
            "reconnects": stats.reconnects,
            "errors": stats.errors,
            "last_error": stats.last_error,
            "ended_by": end.to_string(),
            "error": error,
        })
    }
}

/// Where the JSON goes: a file or standard output, opened before anything is read, so that a wrong path costs nothing.
pub struct Summary<'a> {
    path: &'a Path,
    sink: Sink,
}

impl<'a> Summary<'a> {
    pub fn open(path: &'a Path) -> Result<Self, Failure> {
        Ok(Self { path, sink: write::open(path)? })
    }

    /// A reader that went away is no failure.
    pub fn save(&mut self, json: &Value) -> Result<(), Failure> {
        match writeln!(self.sink, "{json:#}").and_then(|()| self.sink.flush()) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::unwritable(self.path, error)),
            _ => Ok(()),
        }
    }
}
