//! The pixels alone.

use std::io::{self, Write};

use kvs_hls::Frame;

use super::{FrameWriter, Sink};
use crate::display::say;

/// One frame after the other, without anything between them.
pub struct Raw {
    sink: Sink,
    has_started: bool,
}

impl Raw {
    pub fn new(sink: Sink) -> Self {
        Self { sink, has_started: false }
    }
}

impl FrameWriter for Raw {
    fn write(&mut self, frame: &Frame) -> io::Result<()> {
        if !std::mem::replace(&mut self.has_started, true) || frame.meta().resolution_changed {
            let (width, height, format) = (frame.width(), frame.height(), frame.format());
            say(format_args!("raw frames: {width}x{height} {format}, {} bytes each", frame.data().len()));
        }
        self.sink.write_all(frame.data())?;
        self.sink.flush()
    }

    fn finish(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
