//! The user's end of the queue.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_core::Stream;

use super::Running;
use super::delivery::Next;
use super::frame::Frame;
use crate::error::Error;

/// The frames of a source, in order: a `Stream`, or by [`blocking`](Self::blocking) an `Iterator`.
///
/// An item that is an error is the last one: everything else was recovered from. Dropping this stops the source.
#[must_use = "dropping the frames stops the source"]
pub struct Frames {
    running: Arc<Running>,
    /// Until the next frame is due.
    sleep: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames").field("camera_id", &self.running.shared.camera_id).finish_non_exhaustive()
    }
}

/// The longest that a blocking wait goes without looking.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Frames {
    pub(super) fn new(running: Arc<Running>) -> Self {
        Self { running, sleep: None }
    }

    /// The next frame, the fatal error, or `None` after the end. With [`Pacing::ByTime`](crate::Pacing::ByTime) or
    /// [`Delivery::Latest`](crate::Delivery::Latest) it needs a tokio runtime with a timer, otherwise any executor does.
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Frame, Error>> {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>> {
        let shared = &self.running.shared;
        loop {
            let now = shared.clock.now();
            match shared.queue.poll(now, context.waker()) {
                Next::Frame(frame) => {
                    self.sleep = None;
                    shared.taken(&frame);
                    return Poll::Ready(Some(Ok(frame)));
                }
                Next::End(error) => return Poll::Ready(error.map(Err)),
                Next::Empty => return Poll::Pending,
                Next::At(due) => {
                    let sleep = shared.clock.sleep(due.saturating_duration_since(now));
                    let sleep = self.sleep.insert(sleep);
                    if sleep.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    /// Waits for the next frame at most so long: `Ok(None)` when the time is up or nothing more comes
    /// ([`has_ended`](Self::has_ended) tells which). Blocks the thread.
    ///
    /// # Errors
    /// The fatal error, once.
    pub fn read_frame(&mut self, timeout: Duration) -> Result<Option<Frame>, Error> {
        let shared = &self.running.shared;
        let started = shared.clock.now();
        loop {
            let now = shared.clock.now();
            let left = timeout.saturating_sub(now.saturating_duration_since(started));
            match self.try_take(now) {
                Some(end_or_frame) => return end_or_frame.transpose(),
                None if left.is_zero() => return Ok(None),
                None => self.wait(left),
            }
        }
    }

    /// Whether the end was reached: no frame will come any more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.running.shared.queue.has_ended()
    }

    /// The frames as an iterator that blocks. It needs no async runtime.
    pub fn blocking(self) -> BlockingFrames {
        BlockingFrames(self)
    }

    /// `None` when nothing is there yet.
    fn try_take(&self, now: Instant) -> Option<Option<Result<Frame, Error>>> {
        let shared = &self.running.shared;
        match shared.queue.try_take(now) {
            Next::Frame(frame) => {
                shared.taken(&frame);
                Some(Some(Ok(frame)))
            }
            Next::End(error) => Some(error.map(Err)),
            Next::Empty | Next::At(_) => None,
        }
    }

    fn wait(&self, longest: Duration) {
        let shared = &self.running.shared;
        shared.queue.wait(longest.min(LOOK_EVERY), shared.clock.now());
    }
}

impl Stream for Frames {
    type Item = Result<Frame, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll(context)
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.running.stop();
    }
}

/// The frames as an iterator that blocks; made by [`Frames::blocking`].
#[derive(Debug)]
#[must_use = "dropping the frames stops the source"]
pub struct BlockingFrames(Frames);

impl Iterator for BlockingFrames {
    type Item = Result<Frame, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.0.try_take(self.0.running.shared.clock.now()) {
                Some(end_or_frame) => return end_or_frame,
                None => self.0.wait(LOOK_EVERY),
            }
        }
    }
}
