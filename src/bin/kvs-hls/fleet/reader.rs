//! Reads one camera of the fleet and hands its frames to what writes them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kvs_hls::{Error, ErrorKind, Frame, Frames};
use prometheus::IntCounter;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::file::Camera;
use crate::summary::Tally;
use crate::view::View;
use crate::write::{self, FrameWriter};

/// A file or pipe that failed is opened again so much later; frames that come meanwhile are not written.
const REOPEN: Duration = Duration::from_secs(5);
/// A named pipe that nobody reads is looked at again so much later; its camera waits.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What was read, and why no more is.
pub struct Ended {
    pub tally: Tally,
    /// Frames that could not be written.
    pub unwritten: u64,
    pub error: Option<String>,
}

/// Reads to the end. What is written is written on a thread of its own: a pipe that is read slowly holds up its camera alone.
/// `unwritten` counts the frames that could not be; once `is_stopped`, nobody is waited for to read a pipe.
pub async fn read(
    mut frames: Frames,
    camera: Camera,
    view: Arc<View>,
    unwritten: Option<IntCounter>,
    is_stopped: Arc<AtomicBool>,
) -> Ended {
    let mut tally = Tally::start();
    if let Some(unwritten) = unwritten {
        let (name, runtime) = (format!("write {}", camera.id), Handle::current());
        let (done, ended) = oneshot::channel();
        // Not one of the runtime's: those are few, and others wait for them.
        let thread = thread::Builder::new().name(name).spawn(move || {
            let _runtime = runtime.enter();
            let mut output = Output::new(camera, view, unwritten, is_stopped);
            let end = frames.blocking().try_for_each(|frame| frame.map(|frame| output.take(&frame, &mut tally)));
            output.finish();
            let _ = done.send(Ended { tally, unwritten: output.counter.get(), error: told(end) });
        });
        let broken = |error: String| Ended { tally: Tally::start(), unwritten: 0, error: Some(error) };
        return match thread {
            Ok(_) => ended.await.unwrap_or_else(|_| broken("the thread that writes has panicked".into())),
            Err(error) => broken(format!("no thread to write frames: {error}")),
        };
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
    reopen_at: Option<Instant>,
    /// Why nothing is written since.
    trouble: Option<String>,
    /// Frames since something was last written.
    unwritten: u64,
    /// In all.
    counter: IntCounter,
    is_stopped: Arc<AtomicBool>,
}

impl Output {
    fn new(camera: Camera, view: Arc<View>, counter: IntCounter, is_stopped: Arc<AtomicBool>) -> Self {
        Self { camera, view, writer: None, reopen_at: None, trouble: None, unwritten: 0, counter, is_stopped }
    }

    fn lose(&mut self, frames: u64) {
        self.unwritten += frames;
        self.counter.inc_by(frames);
    }

    fn take(&mut self, frame: &Frame, tally: &mut Tally) {
        tally.add(frame);
        self.view.show(frame);
        let now = Instant::now();
        if self.reopen_at.is_some_and(|at| now < at) {
            return self.lose(1);
        }
        let Err(what) = self.write(frame) else {
            if self.trouble.take().is_some() {
                self.view.note("state", format!("frames are written again; {} were not", self.unwritten));
                self.unwritten = 0;
            }
            return;
        };
        // A writer that never began has taken nothing but this one.
        let lost = self.writer.take().map_or(1, |writer| writer.unsettled().max(1));
        self.lose(lost);
        self.reopen_at = Some(now + REOPEN);
        if self.trouble.as_ref() != Some(&what) {
            tracing::error!(camera = %self.camera.id, %what, "frames are not written; tried again every five seconds");
            self.view.note("error", what.clone());
            self.trouble = Some(what);
        }
    }

    fn write(&mut self, frame: &Frame) -> Result<(), String> {
        let (options, id) = (&self.camera.options, &self.camera.id);
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => {
                let _pipe = loop {
                    match write::pipe(&options.out) {
                        Ok(pipe) => break pipe,
                        Err(_) if !self.is_stopped.load(Ordering::Relaxed) => thread::sleep(LOOK_AGAIN),
                        Err(error) => return Err(format!("nobody reads {}: {error}", options.out.display())),
                    }
                };
                let writer =
                    write::keeping_writer(options.write, &options.out, id).map_err(|failure| failure.line())?;
                self.reopen_at = None;
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
            let lost = writer.unsettled().max(1);
            self.lose(lost);
            tracing::error!(camera = %self.camera.id, %error, "the last frames are not written");
        }
    }
}
