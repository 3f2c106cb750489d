//! Bodies that trickle, stall or end too early.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;

use super::connection::ResetSwitch;
use super::faults::Fault;
use crate::clock::Clock;

/// Between two parts of a slow body.
const TRICKLE: Duration = Duration::from_millis(250);

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Send(Bytes),
    /// Lets what was sent leave for the socket: hyper drops what it still holds when a body fails.
    Flush,
    Wait(Duration),
    Close,
    Reset,
}

/// How a body goes out under a fault that has `rest` left; `None` for faults of other kinds.
fn steps(fault: &Fault, body: &Bytes, rest: Duration) -> Option<VecDeque<Step>> {
    let (head, tail) = (body.slice(..body.len() / 2), body.slice(body.len() / 2..));
    Some(match *fault {
        Fault::Reset { .. } => [Step::Send(head), Step::Flush, Step::Reset].into(),
        Fault::Truncated { .. } => [Step::Send(head), Step::Flush, Step::Close].into(),
        Fault::Stalled { .. } => [Step::Send(head), Step::Flush, Step::Wait(rest), Step::Send(tail)].into(),
        Fault::Slow { bytes_per_second, .. } => {
            let rate = bytes_per_second.max(1);
            // At less than a byte each time it is the pauses that grow.
            let part = usize::try_from(rate).unwrap_or(usize::MAX) / 4;
            let pause = if part == 0 { Duration::from_secs(1) / rate } else { TRICKLE };
            let mut left = body.clone();
            let mut waited = Duration::ZERO;
            let mut steps = VecDeque::new();
            while waited < rest && !left.is_empty() {
                steps.push_back(Step::Send(left.split_to(part.max(1).min(left.len()))));
                steps.push_back(Step::Wait(pause));
                waited += pause;
            }
            steps.push_back(Step::Send(left));
            steps
        }
        _ => return None,
    })
}

/// A body under a fault.
pub(super) struct FaultyBody {
    steps: VecDeque<Step>,
    wait: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    clock: Arc<dyn Clock>,
    reset: ResetSwitch,
}

impl FaultyBody {
    /// `None` for faults that do not touch bodies.
    pub(super) fn new(
        fault: &Fault,
        body: &Bytes,
        rest: Duration,
        clock: Arc<dyn Clock>,
        reset: ResetSwitch,
    ) -> Option<Self> {
        Some(Self { steps: steps(fault, body, rest)?, wait: None, clock, reset })
    }
}

impl Stream for FaultyBody {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(wait) = &mut self.wait {
                ready!(wait.as_mut().poll(cx));
                self.wait = None;
            }
            match self.steps.pop_front() {
                None => return Poll::Ready(None),
                Some(Step::Send(part)) if part.is_empty() => {}
                Some(Step::Send(part)) => return Poll::Ready(Some(Ok(part))),
                Some(Step::Wait(pause)) => self.wait = Some(self.clock.sleep(pause)),
                Some(Step::Flush) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(Step::Close) => return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
                Some(Step::Reset) => {
                    self.reset.turn_on();
                    return Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into())));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Target;
    use super::*;

    #[test]
    fn bodies_are_cut_into_steps() {
        let target = Target::All;
        let body = Bytes::from_static(&[7; 100]);
        let rest = Duration::from_millis(600);
        let sizes = |fault: &Fault| {
            let sent = |step: &Step| if let Step::Send(part) = step { part.len() } else { 0 };
            steps(fault, &body, rest).unwrap().iter().map(sent).filter(|size| *size > 0).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&Fault::Stalled { target }), [50, 50]);
        assert_eq!(sizes(&Fault::Truncated { target }), [50]);
        assert_eq!(sizes(&Fault::Slow { bytes_per_second: 400, target }), [100]);
        // The fault ends after three parts.
        assert_eq!(sizes(&Fault::Slow { bytes_per_second: 40, target }), [10, 10, 10, 70]);
        assert_eq!(sizes(&Fault::Slow { bytes_per_second: 2, target }), [1, 1, 98]);
        assert_eq!(steps(&Fault::Gone, &body, rest), None);
    }
}
