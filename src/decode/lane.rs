//! One camera's ordered place in the decode pool: access units in, frames in display order out.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::order::{Corrector, DisplayOrder, Horizon, earliest_next};
use super::pool::{Slot, Turn, Work};
use super::select::Selector;
use super::{Decoder, FrameSelection, Output, Picture, PixelPool, Pixels, convert};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Stage};
use crate::gap::{Gap, GapCause};
use crate::h264::AccessUnit;
use crate::time::Pts;

/// What a lane is given, in order. `T` says where access units come from.
#[derive(Debug)]
pub(crate) enum Job<T> {
    /// The access units of a segment, in decoding order.
    Units(Vec<AccessUnit>, T),
    /// Something is missing here: output resumes at the next IDR picture, whose frame reports the gap.
    Break(Gap),
    /// The stream ends here: everything held comes out.
    Drain,
}

/// What a lane answers.
#[derive(Debug)]
pub(crate) enum LaneStep<T> {
    /// A frame, in display order.
    Frame(LaneFrame<T>),
    /// An access unit could not be decoded; the frames up to the next IDR picture will be reported as a gap.
    Failed(Error),
    /// All access units of a segment went through, and how many of them were decoded.
    SegmentDone(T),
    /// Everything before [`Job::Drain`] is out, with what was lost after the last frame.
    Drained(Option<Gap>),
}

/// A converted picture.
#[derive(Debug)]
pub(crate) struct LaneFrame<T> {
    pub(crate) pixels: Pixels,
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) pts: Pts,
    pub(crate) sample_aspect_ratio: Option<(u16, u16)>,
    pub(crate) is_keyframe: bool,
    pub(crate) resolution_changed: bool,
    pub(crate) gap_before: Option<Gap>,
    pub(crate) origin: T,
}

/// Where a lane's answers go. Called on the pool's threads; `step` must not block.
pub(crate) trait LaneOutput<T>: Send + Sync {
    /// Whether the consumer takes more frames. While not, the lane rests until it is scheduled again.
    fn has_room(&self) -> bool;
    fn step(&self, step: LaneStep<T>);
    /// How long one access unit took to decode and convert.
    fn decoded_in(&self, time: Duration);
}

/// One camera in the pool.
pub(crate) struct Lane<T> {
    slot: Slot,
    jobs: Mutex<VecDeque<Job<T>>>,
    state: Mutex<State<T>>,
    output: Arc<dyn LaneOutput<T>>,
    clock: Arc<dyn Clock>,
}

impl<T> fmt::Debug for Lane<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("slot", &self.slot).finish_non_exhaustive()
    }
}

struct State<T> {
    decoder: Box<dyn Decoder>,
    pixels: PixelPool,
    format: Output,
    selector: Selector,
    segment: Option<Segment<T>>,
    corrector: Corrector,
    horizon: Horizon,
    order: DisplayOrder<LaneFrame<T>>,
    /// Access units inside the decoder: which frame a picture becomes.
    pending: Vec<Pending<T>>,
    is_waiting_for_idr: bool,
    is_draining: bool,
    gap: Option<Gap>,
    /// Nanoseconds of the last frame since an IDR picture began.
    last_out: Option<i128>,
    /// Segments in a row that began with an IDR picture.
    closed_segments: u32,
    size: Option<(usize, usize)>,
}

struct Segment<T> {
    units: Vec<AccessUnit>,
    next: usize,
    origin: T,
}

struct Pending<T> {
    pts: Pts,
    is_wanted: bool,
    is_keyframe: bool,
    origin: T,
}

impl<T: Clone + Send + 'static> Lane<T> {
    pub(crate) fn new(
        decoder: Box<dyn Decoder>,
        selection: FrameSelection,
        format: Output,
        output: Arc<dyn LaneOutput<T>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            slot: Slot::default(),
            jobs: Mutex::default(),
            state: Mutex::new(State {
                decoder,
                pixels: PixelPool::default(),
                format,
                selector: Selector::new(selection),
                segment: None,
                corrector: Corrector::default(),
                horizon: Horizon::default(),
                order: DisplayOrder::default(),
                pending: Vec::new(),
                is_waiting_for_idr: true,
                is_draining: false,
                gap: None,
                last_out: None,
                closed_segments: 0,
                size: None,
            }),
            output,
            clock,
        }
    }

    /// Puts a job at the end. The caller schedules the lane.
    pub(crate) fn push(&self, job: Job<T>) {
        self.jobs().push_back(job);
    }

    fn jobs(&self) -> MutexGuard<'_, VecDeque<Job<T>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next segment's bound, for the end of this one: where none is known, cameras go on as they did.
    fn end_of(&self, state: &State<T>, units: &[AccessUnit]) -> i128 {
        match self.jobs().front() {
            Some(Job::Units(next, _)) if next.first().is_some_and(|unit| !unit.is_idr()) => {
                next.iter().map(|unit| unit.pts().as_nanos()).min().unwrap_or(i128::MAX).saturating_sub(1)
            }
            Some(_) => i128::MAX,
            None if state.closed_segments >= 2 => i128::MAX,
            None => earliest_next(units),
        }
    }

    fn begin(&self, state: &mut State<T>, job: Job<T>) {
        match job {
            Job::Units(mut units, origin) => {
                state.corrector.correct(&mut units);
                let is_closed = units.first().is_some_and(AccessUnit::is_idr);
                state.closed_segments = if is_closed { state.closed_segments.saturating_add(1) } else { 0 };
                state.selector.plan(&units);
                let end = self.end_of(state, &units);
                state.horizon.plan(&units, end);
                state.segment = Some(Segment { units, next: 0, origin });
            }
            Job::Break(gap) => {
                self.release(state, i128::MAX);
                state.gap = Some(Gap::merge(state.gap, gap));
                state.is_waiting_for_idr = true;
            }
            Job::Drain => {
                state.is_draining = true;
                let drained = self.with_pictures(state, |decoder, out| decoder.drain(out));
                if let Err(error) = drained {
                    self.output.step(LaneStep::Failed(error.at(Stage::Decode)));
                }
                self.release(state, i128::MAX);
                state.is_draining = false;
                self.output.step(LaneStep::Drained(state.gap.take()));
            }
        }
    }

    /// Runs the decoder and puts the wanted ones of its pictures, converted, into display order.
    fn with_pictures(
        &self,
        state: &mut State<T>,
        run: impl FnOnce(&mut dyn Decoder, &mut dyn FnMut(Picture<'_>)) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let State { decoder, pixels, format, order, pending, size, last_out, gap, .. } = state;
        let mut is_short = false;
        let result = run(&mut **decoder, &mut |picture| {
            let Some(index) = pending.iter().position(|unit| unit.pts == picture.pts) else { return };
            let unit = pending.swap_remove(index);
            if !unit.is_wanted {
                return;
            }
            if last_out.is_some_and(|last| picture.pts.as_nanos() < last) {
                // Its successors are out already: the stream broke its own rule, and time does not go back.
                *gap = Some(Gap::merge(*gap, Gap::of_frames(GapCause::Damaged, 1)));
                return;
            }
            let bytes = format.format().frame_bytes(picture.width, picture.height);
            let mut is_converted = false;
            let pixels = pixels.filled(bytes, |out| is_converted = convert(&picture, *format, out));
            if !is_converted {
                is_short = true;
                return;
            }
            let new_size = (picture.width, picture.height);
            let resolution_changed = size.replace(new_size).is_some_and(|old| old != new_size);
            order.hold(
                picture.pts,
                LaneFrame {
                    pixels,
                    width: picture.width,
                    height: picture.height,
                    pts: picture.pts,
                    sample_aspect_ratio: picture.sample_aspect_ratio,
                    is_keyframe: unit.is_keyframe,
                    resolution_changed,
                    gap_before: None,
                    origin: unit.origin,
                },
            );
        });
        if is_short {
            return Err(Error::new(ErrorKind::Decoder, "planes shorter than the picture's size demands"));
        }
        result
    }

    fn release(&self, state: &mut State<T>, time: i128) {
        while let Some((time, mut frame)) = state.order.release(time).or_else(|| state.order.release_surplus()) {
            state.last_out = Some(time);
            frame.gap_before = state.gap.take();
            self.output.step(LaneStep::Frame(frame));
        }
    }

    fn lose(&self, state: &mut State<T>, cause: GapCause, frames: u64) {
        state.gap = Some(Gap::merge(state.gap, Gap::of_frames(cause, frames)));
    }

    fn decode_next(&self, state: &mut State<T>) {
        let Some(segment) = &mut state.segment else { return };
        let index = segment.next;
        let Some(unit) = segment.units.get(index).cloned() else {
            let origin = segment.origin.clone();
            state.segment = None;
            self.output.step(LaneStep::SegmentDone(origin));
            return;
        };
        segment.next += 1;
        let origin = segment.origin.clone();
        if unit.is_idr() {
            // §3.69: nothing before an IDR picture in decoding order is displayed after it.
            self.release(state, i128::MAX);
            state.last_out = None;
            state.is_waiting_for_idr = false;
        }
        if !unit.has_picture() {
            if let Err(error) = self.with_pictures(state, |decoder, out| decoder.decode(&unit, out)) {
                self.output.step(LaneStep::Failed(error.at(Stage::Decode)));
            }
        } else if state.selector.is_skippable(index, &unit) {
        } else if state.is_waiting_for_idr {
            self.lose(state, GapCause::NoKeyframe, u64::from(state.selector.is_wanted(index)));
        } else {
            let is_wanted = state.selector.is_wanted(index);
            state.pending.push(Pending { pts: unit.pts(), is_wanted, is_keyframe: unit.is_idr(), origin });
            let started = self.clock.now();
            let decoded = self.with_pictures(state, |decoder, out| decoder.decode(&unit, out));
            self.output.decoded_in(self.clock.now().saturating_duration_since(started));
            if let Err(error) = decoded {
                self.output.step(LaneStep::Failed(error.at(Stage::Decode)));
                self.release(state, i128::MAX);
                let lost = state.pending.iter().filter(|unit| unit.is_wanted).count() as u64;
                self.lose(state, GapCause::Damaged, lost);
                state.pending.clear();
                state.decoder.reset();
                state.is_waiting_for_idr = true;
            }
        }
        let time = state.horizon.after(index);
        self.release(state, time);
    }
}

impl<T: Clone + Send + 'static> Work for Lane<T> {
    fn turn(&self) -> Turn {
        if !self.output.has_room() {
            return Turn::Parked;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.segment.is_some() {
            self.decode_next(&mut state);
            return Turn::Again;
        }
        let job = self.jobs().pop_front();
        match job {
            Some(job) => {
                self.begin(&mut state, job);
                Turn::Again
            }
            None => Turn::Parked,
        }
    }

    fn slot(&self) -> &Slot {
        &self.slot
    }

    fn crashed(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.release(&mut state, i128::MAX); // what was decoded before is good
        state.decoder.reset();
        state.pending.clear();
        state.is_waiting_for_idr = true;
        if let Some(segment) = state.segment.take() {
            let lost = segment.units.len().saturating_sub(segment.next) as u64;
            self.lose(&mut state, GapCause::Damaged, lost + 1);
            self.output.step(LaneStep::SegmentDone(segment.origin));
        }
        self.output.step(LaneStep::Failed(Error::new(ErrorKind::Decoder, "decoder that panicked").at(Stage::Decode)));
        if std::mem::take(&mut state.is_draining) {
            self.output.step(LaneStep::Drained(state.gap.take()));
        }
    }
}
