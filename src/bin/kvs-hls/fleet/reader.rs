//! Reads one camera of the fleet and hands its frames to what writes them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kvs_hls::{Error, ErrorKind, Frame, Frames};
use prometheus::IntCounter;
use tokio::task::JoinError;

use super::file::Camera;
use crate::summary::Tally;
use crate::view::View;
use crate::write::{self, FrameWriter};

/// A file or pipe that failed is opened again so much later; frames that come meanwhile are not written.
const REOPEN: Duration = Duration::from_secs(5);

/// What was read, and why no more is.
pub struct Ended {
    pub tally: Tally,
    /// Frames that could not be written.
    pub unwritten: u64,
    pub error: Option<String>,
}

/// Reads to the end. What is written is written on a thread of its own: a pipe that nobody reads holds up its camera alone.
/// `unwritten` counts the frames that could not be.
pub async fn read(mut frames: Frames, camera: Camera, view: Arc<View>, unwritten: Option<IntCounter>) -> Ended {
    let mut tally = Tally::start();
    if let Some(unwritten) = unwritten {
        let thread = tokio::task::spawn_blocking(move || {
            let mut output = Output::new(camera, view, unwritten);
            let end = frames.blocking().try_for_each(|frame| frame.map(|frame| output.take(&frame, &mut tally)));
            output.finish();
            Ended { tally, unwritten: output.counter.get(), error: told(end) }
        });
        let broken = |error: JoinError| Ended { tally: Tally::start(), unwritten: 0, error: Some(error.to_string()) };
        return thread.await.unwrap_or_else(broken);
    }
    let end = loop {
        match frames.next().await {
            Some(Ok(frame)) => {
                tally.add(&frame);
                view.show(&frame);
            }
            Some(Err(error)) => break Err(error),
            None => break Ok(()),
        }
    };
    Ended { tally, unwritten: 0, error: told(end) }
}

/// Being stopped is no failure.
fn told(end: Result<(), Error>) -> Option<String> {
    end.err().filter(|error| error.kind() != ErrorKind::Stopped).map(|error| format!("{error:?}"))
}

/// Where the frames of a camera go. An error there is not the camera's end.
struct Output {
    camera: Camera,
    view: Arc<View>,
    writer: Option<Box<dyn FrameWriter>>,
    reopen_at: Option<std::time::Instant>,
    /// Frames since something was last written.
    unwritten: u64,
    /// In all.
    counter: IntCounter,
}

impl Output {
    fn new(camera: Camera, view: Arc<View>, counter: IntCounter) -> Self {
        Self { camera, view, writer: None, reopen_at: None, unwritten: 0, counter }
    }

    fn lose(&mut self, frames: u64) {
        self.unwritten += frames;
        self.counter.inc_by(frames);
    }

    fn take(&mut self, frame: &Frame, tally: &mut Tally) {
        tally.add(frame);
        self.view.show(frame);
        let now = std::time::Instant::now();
        if self.reopen_at.is_some_and(|at| now < at) {
            return self.lose(1);
        }
        if let Err(what) = self.write(frame) {
            // A writer that never began has taken nothing but this one.
            let lost = self.writer.take().map_or(1, |writer| writer.unsettled().max(1));
            self.lose(lost);
            self.reopen_at = Some(now + REOPEN);
            tracing::error!(camera = %self.camera.id, %what, "frames are not written; tried again in a few seconds");
            self.view.note("error", what);
        }
    }

    fn write(&mut self, frame: &Frame) -> Result<(), String> {
        let (options, id) = (&self.camera.options, &self.camera.id);
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => {
                let writer =
                    write::keeping_writer(options.write, &options.out, id).map_err(|failure| failure.line())?;
                if self.unwritten > 0 {
                    self.view.note("state", format!("frames are written again; {} were not", self.unwritten));
                }
                (self.reopen_at, self.unwritten) = (None, 0);
                self.writer.get_or_insert(writer.ok_or("nothing to write")?)
            }
        };
        writer.write(frame).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => format!("who read {} has gone", options.out.display()),
            _ => format!("cannot write to {}: {error}", options.out.display()),
        })
    }

    fn finish(&mut self) {
        if let Some(writer) = &mut self.writer
            && let Err(error) = writer.finish()
        {
            tracing::error!(camera = %self.camera.id, %error, "the last frames are not written");
        }
    }
}
