//! ffmpeg's framemd5: a line for each frame, to be compared with `ffmpeg -i … -pix_fmt yuv420p -f framemd5 -`.
//!
//! The time base is one frame where the first frames come evenly, else the media's own timescale; times count from the
//! first frame. The format's header has one size only: frames of another size have their own `size` column.

use std::io::{self, Write};

use kvs_hls::{Frame, Pts};
use md5::{Digest, Md5};

use super::grid::{Counter, LOOK_AHEAD, Rate};
use super::{FrameWriter, Sink};

pub struct FrameMd5 {
    sink: Sink,
    state: State,
    size: (usize, usize),
    /// Width and height of a pixel; 0 and 1 when unknown, as ffmpeg has it.
    sample_aspect_ratio: (u16, u16),
    unsettled: u64,
}

enum State {
    /// The time base is not known yet.
    Looking(Vec<Line>),
    Counting(Counter),
    /// The time base is the timescale: a frame lasts until the next one.
    Measuring {
        counter: Counter,
        held: Option<(i64, Line)>,
        duration: i64,
    },
}

/// What becomes a line.
struct Line {
    pts: Pts,
    size: usize,
    hash: String,
}

impl FrameMd5 {
    pub fn new(sink: Sink) -> Self {
        Self { sink, state: State::Looking(Vec::new()), size: (0, 0), sample_aspect_ratio: (0, 1), unsettled: 0 }
    }

    /// Decides on the time base and writes what was held back.
    fn start(&mut self) -> io::Result<()> {
        let State::Looking(lines) = &mut self.state else { return Ok(()) };
        let lines = std::mem::take(lines);
        let Some(first) = lines.first() else { return Ok(()) };
        let times: Vec<_> = lines.iter().map(|line| line.pts).collect();
        let (numerator, denominator);
        match Rate::of(&times) {
            Some(rate) => {
                (numerator, denominator) = (rate.denominator, rate.numerator);
                self.state = State::Counting(Counter::new(rate));
            }
            None => {
                let base = Rate { numerator: first.pts.timescale().get().into(), denominator: 1 };
                (numerator, denominator) = (1, base.numerator);
                self.state = State::Measuring { counter: Counter::new(base), held: None, duration: 1 };
            }
        }
        let (width, height) = self.size;
        let (across, down) = self.sample_aspect_ratio;
        write!(
            self.sink,
            "#format: frame checksums\n#version: 2\n#hash: MD5\n#software: kvs-hls {}\n\
             #tb 0: {numerator}/{denominator}\n#media_type 0: video\n#codec_id 0: rawvideo\n\
             #dimensions 0: {width}x{height}\n#sar 0: {across}/{down}\n\
             #stream#, dts,        pts, duration,     size, hash\n",
            env!("CARGO_PKG_VERSION")
        )?;
        lines.into_iter().try_for_each(|line| self.put(line))
    }

    fn put(&mut self, line: Line) -> io::Result<()> {
        match &mut self.state {
            State::Looking(lines) => lines.push(line),
            State::Counting(counter) => write_line(&mut self.sink, counter.count(line.pts), 1, &line)?,
            State::Measuring { counter, held, duration } => {
                let count = counter.count(line.pts);
                if let Some((before, line)) = held.replace((count, line)) {
                    *duration = count - before;
                    write_line(&mut self.sink, before, *duration, &line)?;
                }
            }
        }
        Ok(())
    }
}

fn write_line(sink: &mut Sink, count: i64, duration: i64, line: &Line) -> io::Result<()> {
    let Line { size, hash, .. } = line;
    writeln!(sink, "0, {count:>10}, {count:>10}, {duration:>8}, {size:>8}, {hash}")
}

impl FrameWriter for FrameMd5 {
    fn write(&mut self, frame: &Frame) -> io::Result<()> {
        self.unsettled += 1;
        let data = frame.data();
        let hash = Md5::digest(data).iter().map(|byte| format!("{byte:02x}")).collect();
        if self.size == (0, 0) {
            self.size = (frame.width(), frame.height());
            self.sample_aspect_ratio = frame.meta().sample_aspect_ratio.unwrap_or((0, 1));
        }
        self.put(Line { pts: frame.meta().pts, size: data.len(), hash })?;
        if matches!(&self.state, State::Looking(lines) if lines.len() >= LOOK_AHEAD) {
            self.start()?;
        }
        self.sink.flush()?;
        match &self.state {
            State::Looking(_) => {}
            State::Counting(_) => self.unsettled = 0,
            State::Measuring { .. } => self.unsettled = 1,
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.start()?;
        if let State::Measuring { held, duration, .. } = &mut self.state
            && let Some((count, line)) = held.take()
        {
            write_line(&mut self.sink, count, *duration, &line)?;
        }
        self.sink.flush()
    }

    fn unsettled(&self) -> u64 {
        self.unsettled
    }
}
