//! From a session provider to frames.

mod builder;
mod capture;
mod delivery;
mod driver;
mod engine;
mod frame;
mod frames;
#[cfg(all(test, shuttle))]
mod interleavings;
pub(crate) mod machine;
mod options;
mod reach;
mod rhythm;
mod shared;
mod spans;

use std::fmt;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use builder::FrameSourceBuilder;
pub(crate) use engine::Engine;

pub use frame::{Frame, FrameMeta};
pub use frames::{BlockingFrames, Frames};
pub use machine::ConnectionState;
pub use options::{Config, Delivery, GapFill, Pacing};
pub use shared::Stats;

use builder::Plan;
use driver::Inbox;
use machine::Input;
use shared::Shared;

use crate::error::{Error, ErrorKind};
use crate::session::{self, SessionProvider};

/// One camera.
///
/// Build it with [`builder`](Self::builder), [`start`](Self::start) it and read the [`Frames`]. Dropping the source stops
/// it, so keep it for as long as frames are wanted.
///
/// ```no_run
/// # async fn example() -> Result<(), kvs_hls::Error> {
/// use kvs_hls::{FixedUrl, FrameSource};
///
/// let source = FrameSource::builder("front-door", FixedUrl::new("https://example.com/live.m3u8")?).build()?;
/// let mut frames = source.start()?;
/// while let Some(frame) = frames.next().await {
///     let frame = frame?; // an error is fatal: everything else was recovered from
///     println!("{} x {} at {:?}", frame.width(), frame.height(), frame.captured_at());
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "a source that is dropped stops"]
pub struct FrameSource {
    plan: Plan,
    running: Mutex<Option<Arc<Running>>>,
}

impl fmt::Debug for FrameSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameSource")
            .field("camera_id", &self.plan.shared.camera_id)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl FrameSource {
    /// Begins a source of frames. `camera_id` names it in logs, metrics and thread names.
    pub fn builder(camera_id: impl Into<String>, provider: impl SessionProvider) -> FrameSourceBuilder {
        FrameSourceBuilder::new(camera_id.into(), Arc::new(provider))
    }

    /// Starts reading, on threads of its own: no async runtime is needed.
    ///
    /// # Errors
    /// `Config` when it was started before; `Network` or `Decoder` when threads or the HTTP client cannot be set up.
    pub fn start(&self) -> Result<Frames, Error> {
        self.start_on(|| Engine::start(&format!("source {}", self.camera_id()), self.camera_id(), 1).map(Arc::new))
    }

    pub(crate) fn start_on(&self, engine: impl FnOnce() -> Result<Arc<Engine>, Error>) -> Result<Frames, Error> {
        let mut running = self.running();
        if running.is_some() {
            return Err(Error::new(ErrorKind::Config, "source that was started before; build another one"));
        }
        let engine = engine()?;
        let (ended, inbox) = self.plan.start(&engine)?;
        let run = Mutex::new(Some((engine, ended)));
        let started = Arc::new(Running { shared: self.plan.shared.clone(), inbox, run });
        *running = Some(started.clone());
        Ok(Frames::new(started))
    }

    pub(crate) fn share(&self, shared: &session::Shared) {
        self.plan.share(shared);
    }

    fn running(&self) -> MutexGuard<'_, Option<Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops reading and joins all threads, within a second. Frames that were not taken are gone.
    pub fn stop(&self) {
        if let Some(running) = &*self.running() {
            running.stop();
        }
    }

    /// Takes the metrics out of their registry, where the name is free then.
    pub(crate) fn withdraw_metrics(&self) {
        self.plan.shared.metrics.withdraw();
    }

    /// Replaces the session now instead of shortly before it expires. The present one is read until the next one works, so
    /// no frame is lost. Without effect on a URL that stays the same.
    pub fn refresh(&self) {
        self.tell(Input::Refresh);
    }

    /// Gives the connection up and makes it anew, without waiting for a delay. Frames go on where they were, as far as
    /// the server still has them.
    pub fn reconnect(&self) {
        self.tell(Input::Reconnect);
    }

    fn tell(&self, input: Input) {
        if let Some(running) = &*self.running() {
            running.inbox.put(input);
        }
    }

    /// Whether it was stopped, has failed or is through.
    pub(crate) fn is_over(&self) -> bool {
        self.plan.shared.queue.is_over()
    }

    /// Where the source stands.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        self.plan.shared.state()
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.plan.shared.stats()
    }

    /// Whether a frame was handed out within the age that
    /// [`healthy_within`](FrameSourceBuilder::healthy_within) sets (10 s).
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.plan.shared.last_frame_age().is_some_and(|age| age <= self.plan.healthy_within)
    }

    /// The name given at the start.
    #[must_use]
    pub fn camera_id(&self) -> &str {
        &self.plan.shared.camera_id
    }
}

impl Drop for FrameSource {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The driver's task and all that hangs on it.
#[derive(Debug)]
struct Running {
    shared: Arc<Shared>,
    inbox: Arc<Inbox>,
    /// Until it is stopped: what it runs on, and who tells that the task has ended.
    run: Mutex<Option<(Arc<Engine>, Receiver<()>)>>,
}

impl Running {
    fn stop(&self) {
        let run = self.run.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((engine, ended)) = run else { return };
        self.shared.stop.notify_one();
        if !engine.is_current() {
            let _ = ended.recv();
        }
        self.shared.close(Some(Error::new(ErrorKind::Stopped, "source that was stopped or dropped")));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}
