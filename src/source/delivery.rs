//! The short queue between the decoder and the consumer.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::{Duration, Instant, SystemTime};

use super::frame::Frame;
use super::options::{Delivery, GapFill, Pacing};
use crate::error::Error;
use crate::gap::Gap;
use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// With [`Delivery::Latest`], frames wait here until they are due.
const LATEST_FRAMES: usize = 8;
/// A frame that is due later than this is due now: times jumped.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// What the consumer finds.
#[derive(Debug)]
pub(crate) enum Next {
    Frame(Frame),
    /// The next frame is not due before this time.
    At(Instant),
    /// Nothing yet.
    Empty,
    /// Nothing more; the error is there once.
    End(Option<Error>),
}

/// When frames are due: the rhythm of their capture, starting anew whenever one comes too late for it.
#[derive(Debug, Default)]
struct Pacer {
    anchor: Option<(Instant, SystemTime)>,
}

impl Pacer {
    fn due(&mut self, captured_at: SystemTime, now: Instant) -> Instant {
        let due =
            self.anchor.and_then(|(instant, captured)| instant.checked_add(captured_at.duration_since(captured).ok()?));
        match due {
            Some(due) if due >= now && due <= now + MAX_WAIT => due,
            _ => {
                self.anchor = Some((now, captured_at));
                now
            }
        }
    }
}

/// Repeats the last frame while the connection is lost.
#[derive(Debug, Default)]
struct Holder {
    last: Option<Frame>,
    /// Between the last two frames.
    interval: Option<Duration>,
    due: Option<Instant>,
}

/// The rhythm of a stream of which one frame was seen.
const DEFAULT_INTERVAL: Duration = Duration::from_millis(40);
const MIN_INTERVAL: Duration = Duration::from_millis(10);
const MAX_INTERVAL: Duration = Duration::from_secs(2);

impl Holder {
    fn look(&mut self, frame: &Frame) {
        let step = self.last.as_ref().and_then(|last| frame.captured_at().duration_since(last.captured_at()).ok());
        if let Some(step) = step.filter(|step| (MIN_INTERVAL..=MAX_INTERVAL).contains(step)) {
            // Times at segment borders jitter: one step alone tells little.
            self.interval = Some(self.interval.map_or(step, |usual| (usual * 3 + step) / 4));
        }
        (self.last, self.due) = (Some(frame.clone()), None);
    }

    fn next(&mut self, now: Instant) -> Next {
        let Some(last) = &self.last else { return Next::Empty };
        let due = *self.due.get_or_insert(now);
        if due > now {
            return Next::At(due);
        }
        let interval = self.interval.unwrap_or(DEFAULT_INTERVAL);
        // A consumer that was away does not get a burst.
        self.due = Some(if due + interval < now { now + interval } else { due + interval });
        let mut frame = last.clone();
        frame.meta.is_synthetic = true;
        (frame.meta.is_keyframe, frame.meta.gap_before, frame.meta.resolution_changed) = (false, None, false);
        Next::Frame(frame)
    }
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<(Frame, Instant)>,
    pacer: Pacer,
    end: Option<Option<Error>>,
    waker: Option<Waker>,
    superseded: u64,
    /// Whether the connection is lost.
    is_interrupted: bool,
    holder: Holder,
}

/// Bounded by the lane, which asks for room before it decodes.
#[derive(Debug)]
pub(crate) struct Queue {
    is_latest: bool,
    is_paced: bool,
    is_held: bool,
    /// Frames decoded ahead of the consumer.
    capacity: usize,
    state: Mutex<State>,
    changed: Condvar,
}

impl Queue {
    pub(crate) fn new(delivery: Delivery, pacing: Pacing, fill: GapFill, buffer_frames: usize) -> Self {
        let is_latest = delivery == Delivery::Latest;
        Self {
            is_latest,
            is_paced: is_latest || pacing == Pacing::ByTime,
            is_held: fill == GapFill::HoldLast,
            capacity: if is_latest { buffer_frames.max(LATEST_FRAMES) } else { buffer_frames },
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has_room(&self) -> bool {
        self.len() < self.capacity
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().frames.len()
    }

    pub(crate) fn push(&self, frame: Frame, now: Instant) {
        let mut state = self.lock();
        if state.end.is_some() {
            return;
        }
        let due = if self.is_paced { state.pacer.due(frame.captured_at(), now) } else { now };
        state.frames.push_back((frame, due));
        self.wake(state);
    }

    /// The last word: frames that are still here can be taken before it.
    pub(crate) fn end(&self, error: Option<Error>) {
        self.finish(self.lock(), error);
    }

    /// The end now: frames that are still here are gone. Both at once, or one pushed in between would follow a hole.
    pub(crate) fn cancel(&self, error: Option<Error>) {
        let mut state = self.lock();
        state.frames.clear();
        self.finish(state, error);
    }

    fn finish(&self, mut state: MutexGuard<'_, State>, error: Option<Error>) {
        if state.end.is_none() {
            state.end = Some(error);
        }
        self.wake(state);
    }

    /// Says whether the connection is lost, so that frames may be repeated.
    pub(crate) fn interrupt(&self, is_interrupted: bool) {
        let mut state = self.lock();
        if self.is_held && state.is_interrupted != is_interrupted {
            state.is_interrupted = is_interrupted;
            self.wake(state);
        }
    }

    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        self.changed.notify_all();
    }

    /// With [`Delivery::Latest`], drops the frames that a newer due one replaces. Answers when the next one will, and how
    /// many were dropped since the last call.
    pub(crate) fn prune(&self, now: Instant) -> (Option<Instant>, u64) {
        let mut state = self.lock();
        if !self.is_latest {
            return (None, 0);
        }
        Self::supersede(&mut state, now);
        let due = state.frames.get(1).map(|(_, due)| *due);
        (due, std::mem::take(&mut state.superseded))
    }

    fn supersede(state: &mut State, now: Instant) {
        while state.frames.get(1).is_some_and(|(_, due)| *due <= now) {
            let dropped = state.frames.pop_front();
            state.superseded += 1;
            // What nobody has seen yet is reported with the frame that took the place.
            if let (Some((Frame { meta: dropped, .. }, _)), Some((next, _))) = (dropped, state.frames.front_mut()) {
                next.meta.resolution_changed |= dropped.resolution_changed;
                next.meta.gap_before = Gap::join(dropped.gap_before, next.meta.gap_before);
            }
        }
    }

    fn take(&self, state: &mut State, now: Instant) -> Next {
        if self.is_latest {
            Self::supersede(state, now);
        }
        match state.frames.front() {
            Some((_, due)) if self.is_paced && *due > now => Next::At(*due),
            Some(_) => match state.frames.pop_front() {
                Some((frame, _)) => {
                    if self.is_held {
                        state.holder.look(&frame);
                    }
                    Next::Frame(frame)
                }
                None => Next::Empty,
            },
            None => match &mut state.end {
                Some(error) => Next::End(error.take()),
                None if state.is_interrupted => state.holder.next(now),
                None => Next::Empty,
            },
        }
    }

    /// Takes the next frame; when there is none, `waker` is woken as soon as that changes.
    pub(crate) fn poll(&self, now: Instant, waker: &Waker) -> Next {
        let mut state = self.lock();
        let next = self.take(&mut state, now);
        if matches!(next, Next::Empty | Next::At(_)) {
            state.waker = Some(waker.clone());
        }
        next
    }

    /// Takes the next frame if there is one that is due.
    pub(crate) fn try_take(&self, now: Instant) -> Next {
        let mut state = self.lock();
        self.take(&mut state, now)
    }

    /// Waits until a frame is due or the end is there, at most so long.
    pub(crate) fn wait(&self, longest: Duration, now: Instant) {
        let state = self.lock();
        let due = state.frames.front().map(|(_, due)| due.saturating_duration_since(now));
        let due = due.filter(|_| self.is_paced).or_else(|| {
            let held = state.holder.due.filter(|_| state.is_interrupted && state.frames.is_empty());
            held.map(|due| due.saturating_duration_since(now))
        });
        if state.frames.is_empty() && state.end.is_none() || due.is_some_and(|due| !due.is_zero()) {
            let longest = due.map_or(longest, |due| due.min(longest));
            drop(self.changed.wait_timeout(state, longest).unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Whether all frames were taken and none follow; the error may still be there.
    pub(crate) fn is_over(&self) -> bool {
        let state = self.lock();
        state.frames.is_empty() && state.end.is_some()
    }

    pub(crate) fn has_ended(&self) -> bool {
        let state = self.lock();
        state.frames.is_empty() && matches!(state.end, Some(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};
    use crate::decode::PixelFormat;
    use crate::gap::GapCause;
    use crate::session::TimeOrigin;
    use crate::source::FrameMeta;
    use crate::time::{Pts, Timescale};

    /// A frame captured so many milliseconds after a moment.
    fn frame(millis: u64) -> Frame {
        Frame {
            pixels: vec![0].into(),
            width: 1,
            height: 1,
            format: PixelFormat::Gray,
            meta: FrameMeta {
                pts: Pts::new(millis as i64, Timescale::new(1000).unwrap()),
                captured_at: SystemTime::UNIX_EPOCH + Duration::from_millis(millis),
                time_origin: TimeOrigin::Producer,
                source_size: (2, 2),
                sample_aspect_ratio: None,
                is_keyframe: false,
                fragment_number: None,
                media_sequence: 0,
                discontinuity_sequence: 0,
                session_generation: 1,
                gap_before: None,
                resolution_changed: false,
                is_synthetic: false,
            },
        }
    }

    fn taken(queue: &Queue, now: Instant) -> String {
        match queue.try_take(now) {
            Next::Frame(frame) => frame.meta.pts.ticks().to_string(),
            Next::At(due) => format!("in {} ms", due.saturating_duration_since(now).as_millis()),
            Next::Empty => "empty".into(),
            Next::End(error) => format!("end {}", error.is_some()),
        }
    }

    #[test]
    fn the_last_frame_is_held_in_its_rhythm_while_the_connection_is_lost() {
        let queue = Queue::new(Delivery::All, Pacing::AsDecoded, GapFill::HoldLast, 4);
        let start = SystemClock.now();
        let at = |millis| start + Duration::from_millis(millis);
        queue.interrupt(true);
        assert_eq!(taken(&queue, start), "empty", "nothing was there to hold");
        [0, 100].into_iter().for_each(|millis| queue.push(frame(millis), start));
        assert_eq!([taken(&queue, start), taken(&queue, start)], ["0", "100"]);
        match queue.try_take(at(10)) {
            Next::Frame(frame) => {
                assert!(frame.meta.is_synthetic);
                assert_eq!(frame.captured_at(), SystemTime::UNIX_EPOCH + Duration::from_millis(100), "its true time");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(taken(&queue, at(50)), "in 60 ms");
        assert_eq!(taken(&queue, at(110)), "100");
        assert_eq!(taken(&queue, at(5000)), "100", "no burst for a consumer that was away");
        assert_eq!(taken(&queue, at(5000)), "in 100 ms");
        queue.push(frame(200), at(5010));
        assert_eq!(taken(&queue, at(5010)), "200", "a real frame does not wait");
        queue.interrupt(false);
        assert_eq!(taken(&queue, at(9000)), "empty");
    }

    #[test]
    fn frames_leave_in_order_and_the_end_comes_last() {
        let queue = Queue::new(Delivery::All, Pacing::AsDecoded, GapFill::None, 4);
        let now = SystemClock.now();
        (0..4).for_each(|n| queue.push(frame(n), now));
        assert!(!queue.has_room());
        queue.end(None);
        queue.push(frame(9), now);
        let all: Vec<_> = (0..6).map(|_| taken(&queue, now)).collect();
        assert_eq!(all, ["0", "1", "2", "3", "end false", "end false"]);
    }

    #[test]
    fn paced_frames_keep_the_rhythm_of_capture() {
        let queue = Queue::new(Delivery::All, Pacing::ByTime, GapFill::None, 4);
        let start = SystemClock.now();
        [0, 100, 200].into_iter().for_each(|millis| queue.push(frame(millis), start));
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(taken(&queue, at(0)), "0");
        assert_eq!(taken(&queue, at(30)), "in 70 ms");
        assert_eq!(taken(&queue, at(100)), "100");
        assert_eq!(taken(&queue, at(250)), "200");
        // This one is late: it is due at once, and the rhythm goes on from here.
        queue.push(frame(300), at(500));
        queue.push(frame(400), at(500));
        assert_eq!(taken(&queue, at(500)), "300");
        assert_eq!(taken(&queue, at(500)), "in 100 ms");
        // Times that jump far ahead are due at once.
        assert_eq!(taken(&queue, at(600)), "400");
        queue.push(frame(1_000_000), at(600));
        assert_eq!(taken(&queue, at(600)), "1000000");
    }

    #[test]
    fn the_latest_due_frame_replaces_older_ones_and_takes_over_their_gap() {
        let queue = Queue::new(Delivery::Latest, Pacing::AsDecoded, GapFill::None, 4);
        let start = SystemClock.now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut first = frame(0);
        first.meta.gap_before = Some(Gap::of_frames(GapCause::Damaged, 3));
        queue.push(first, start);
        [100, 200, 300].into_iter().for_each(|millis| queue.push(frame(millis), start));
        assert_eq!(queue.prune(at(0)), (Some(at(100)), 0));
        assert_eq!(queue.prune(at(210)), (Some(at(300)), 2));
        match queue.try_take(at(210)) {
            Next::Frame(frame) => {
                assert_eq!(frame.meta.pts.ticks(), 200);
                assert_eq!(frame.meta.gap_before, Some(Gap::of_frames(GapCause::Damaged, 3)));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(taken(&queue, at(210)), "in 90 ms", "never the same frame twice");
    }
}
