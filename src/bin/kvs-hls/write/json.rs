//! A line of JSON for each frame: what is known of it, without its pixels.

use std::io::{self, Write};
use std::time::SystemTime;

use jiff::Timestamp;
use kvs_hls::Frame;
use serde_json::{Value, json};

use super::{FrameWriter, Sink};

pub struct Json {
    sink: Sink,
    camera: String,
}

impl Json {
    pub fn new(sink: Sink, camera: &str) -> Self {
        Self { sink, camera: camera.to_owned() }
    }
}

impl FrameWriter for Json {
    fn write(&mut self, frame: &Frame) -> io::Result<()> {
        writeln!(self.sink, "{}", metadata(frame, &self.camera))?;
        self.sink.flush()
    }

    fn finish(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

/// What is known of a frame.
pub fn metadata(frame: &Frame, camera: &str) -> Value {
    let meta = frame.meta();
    json!({
        "camera": camera,
        "captured_at": rfc3339(frame.captured_at()),
        "time_origin": meta.time_origin.to_string(),
        "pts_seconds": meta.pts.as_nanos() as f64 / 1e9,
        "width": frame.width(),
        "height": frame.height(),
        "pixel_format": frame.format().to_string(),
        "source_width": meta.source_size.0,
        "source_height": meta.source_size.1,
        "is_keyframe": meta.is_keyframe,
        "is_synthetic": meta.is_synthetic,
        "resolution_changed": meta.resolution_changed,
        "fragment_number": meta.fragment_number.as_ref().map(ToString::to_string),
        "media_sequence": meta.media_sequence,
        "session": meta.session_generation,
        "gap_before": meta.gap_before.map(|gap| json!({
            "cause": gap.cause.as_str(),
            "frames": gap.frames,
            "segments": gap.segments,
            "seconds": gap.span.map(|span| span.as_secs_f64()),
        })),
    })
}

fn rfc3339(time: SystemTime) -> Option<String> {
    Timestamp::try_from(time).ok().map(|time| format!("{time:.6}"))
}
