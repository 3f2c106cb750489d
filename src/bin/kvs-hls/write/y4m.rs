//! YUV4MPEG2: a header with size and rate, then planes.
//!
//! Chroma samples of H.264 lie between the rows and on the left column unless stated otherwise, which this format calls
//! `420mpeg2`.

use std::io::{self, Write};

use kvs_hls::Frame;

use super::grid::{LOOK_AHEAD, Rate};
use super::{FrameWriter, Sink};
use crate::display::say;

pub struct Y4m {
    sink: Sink,
    size: Option<(usize, usize)>,
    /// Frames that wait for the header; `None` after it.
    held: Option<Vec<Frame>>,
    unsettled: u64,
}

impl Y4m {
    pub fn new(sink: Sink) -> Self {
        Self { sink, size: None, held: Some(Vec::new()), unsettled: 0 }
    }

    fn start(&mut self) -> io::Result<()> {
        let Some(held) = self.held.take() else { return Ok(()) };
        let Some(first) = held.first() else { return Ok(()) };
        let times: Vec<_> = held.iter().map(|frame| frame.meta().pts).collect();
        let rate = Rate::of(&times).unwrap_or_else(|| {
            let mean = Rate::mean(&times);
            say(format_args!(
                "frames come unevenly, y4m has one rate for all: {:.3} a second, the mean of the first {}",
                mean.numerator as f64 / mean.denominator as f64,
                times.len()
            ));
            mean
        });
        let (width, height) = (first.width(), first.height());
        let Rate { numerator, denominator } = rate;
        let (across, down) = first.meta().sample_aspect_ratio.unwrap_or((0, 0));
        writeln!(self.sink, "YUV4MPEG2 W{width} H{height} F{numerator}:{denominator} Ip A{across}:{down} C420mpeg2")?;
        held.iter().try_for_each(|frame| self.put(frame))
    }

    fn put(&mut self, frame: &Frame) -> io::Result<()> {
        self.sink.write_all(b"FRAME\n")?;
        self.sink.write_all(frame.data())
    }
}

impl FrameWriter for Y4m {
    fn write(&mut self, frame: &Frame) -> io::Result<()> {
        self.unsettled += 1;
        let size = (frame.width(), frame.height());
        let (width, height) = *self.size.get_or_insert(size);
        if (width, height) != size {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "the size changed from {width}x{height} to {}x{}, and a y4m file has one size (--write raw and \
                     png take any)",
                    size.0, size.1
                ),
            ));
        }
        match &mut self.held {
            Some(held) => {
                held.push(frame.clone());
                if held.len() >= LOOK_AHEAD {
                    self.start()?;
                }
            }
            None => self.put(frame)?,
        }
        self.sink.flush()?;
        if self.held.is_none() {
            self.unsettled = 0;
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.start()?;
        self.sink.flush()
    }

    fn unsettled(&self) -> u64 {
        self.unsettled
    }
}
