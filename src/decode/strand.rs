//! One decoder at work: access units in, frames in display order out.

use std::collections::VecDeque;
use std::fmt;

use super::lane::{Lane, LaneFrame, LaneStep};
use super::order::{DisplayOrder, Horizon};
use super::pool::{Slot, Turn, Work};
use super::select::Planned;
use super::{Converter, Decoder, Picture};
use crate::error::{Error, ErrorKind, Stage};
use crate::gap::{Gap, GapCause};
use crate::sync::{Mutex, MutexGuard, PoisonError, Weak};
use crate::time::Pts;

/// What a strand is given, in order.
pub(super) enum Task<T> {
    Piece(Piece<T>),
    /// Something is missing here: output resumes at the next IDR picture, whose frame reports the gap.
    Break(Gap),
    /// The group ends here: everything held comes out.
    Drain,
}

/// Access units of one segment that are to be decoded, in decoding order.
pub(super) struct Piece<T> {
    pub(super) units: Vec<Planned>,
    pub(super) origin: T,
    /// Whether it began with an IDR picture, before what nobody needs was left out.
    pub(super) is_closed: bool,
    /// The earliest display time in the segment, in nanoseconds.
    pub(super) earliest: i128,
    /// The earliest display time that may follow, as far as is known without seeing it.
    pub(super) end: i128,
    /// Whether the segment ends with it.
    pub(super) is_last: bool,
}

/// A decoder with all that it needs to make frames.
pub(super) struct Strand<T> {
    lane: Weak<Lane<T>>,
    /// Its place among the lane's strands.
    index: usize,
    slot: Slot,
    tasks: Mutex<VecDeque<Task<T>>>,
    state: Mutex<State<T>>,
}

impl<T> fmt::Debug for Strand<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Strand").field("index", &self.index).field("slot", &self.slot).finish_non_exhaustive()
    }
}

struct State<T> {
    decoder: Box<dyn Decoder>,
    converter: Converter,
    piece: Option<Piece<T>>,
    /// The access unit of the piece that is decoded next.
    next: usize,
    horizon: Horizon,
    order: DisplayOrder<LaneFrame<T>>,
    /// Access units inside the decoder: which frame a picture becomes.
    pending: Vec<Pending<T>>,
    is_waiting_for_idr: bool,
    is_draining: bool,
    gap: Option<Gap>,
    /// Nanoseconds of the last frame since an IDR picture began.
    last_out: Option<i128>,
}

struct Pending<T> {
    pts: Pts,
    is_wanted: bool,
    is_keyframe: bool,
    origin: T,
}

impl<T: Clone + Send + 'static> Strand<T> {
    pub(super) fn new(lane: Weak<Lane<T>>, index: usize, decoder: Box<dyn Decoder>) -> Self {
        let state = State {
            decoder,
            converter: Converter::default(),
            piece: None,
            next: 0,
            horizon: Horizon::default(),
            order: DisplayOrder::default(),
            pending: Vec::new(),
            is_waiting_for_idr: true,
            is_draining: false,
            gap: None,
            last_out: None,
        };
        Self { lane, index, slot: Slot::default(), tasks: Mutex::default(), state: Mutex::new(state) }
    }

    /// Puts a task at the end. The caller schedules the strand.
    pub(super) fn push(&self, task: Task<T>) {
        self.tasks().push_back(task);
    }

    fn tasks(&self) -> MutexGuard<'_, VecDeque<Task<T>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, lane: &Lane<T>, state: &mut State<T>, task: Task<T>) {
        match task {
            Task::Piece(piece) => {
                let end = match self.tasks().front() {
                    Some(Task::Piece(next)) if !next.is_closed => next.earliest.saturating_sub(1),
                    Some(_) => i128::MAX,
                    None => piece.end,
                };
                state.horizon.plan(piece.units.iter().map(|planned| planned.unit.pts()), end);
                (state.piece, state.next) = (Some(piece), 0);
            }
            Task::Break(gap) => {
                self.release(lane, state, i128::MAX);
                state.gap = Some(Gap::merge(state.gap, gap));
                state.is_waiting_for_idr = true;
            }
            Task::Drain => {
                state.is_draining = true;
                let drained = with_pictures(lane, state, |decoder, out| decoder.drain(out));
                self.end_group(lane, state, drained);
            }
        }
    }

    fn end_group(&self, lane: &Lane<T>, state: &mut State<T>, drained: Result<(), Error>) {
        if let Err(error) = drained {
            self.step(lane, LaneStep::Failed(error.at(Stage::Decode)));
        }
        self.release(lane, state, i128::MAX);
        (state.is_draining, state.last_out) = (false, None);
        state.is_waiting_for_idr = true;
        self.step(lane, LaneStep::Drained(state.gap.take()));
    }

    fn step(&self, lane: &Lane<T>, step: LaneStep<T>) {
        lane.step(self.index, step);
    }

    fn release(&self, lane: &Lane<T>, state: &mut State<T>, time: i128) {
        while let Some((time, mut frame)) = state.order.release(time).or_else(|| state.order.release_surplus()) {
            state.last_out = Some(time);
            frame.gap_before = state.gap.take();
            self.step(lane, LaneStep::Frame(frame));
        }
    }

    fn decode_next(&self, lane: &Lane<T>, state: &mut State<T>) {
        let Some(piece) = &state.piece else { return };
        let index = state.next;
        let origin = piece.origin.clone();
        let _entered = lane.span(&origin).entered();
        let Some(Planned { unit, is_wanted }) = piece.units.get(index).cloned() else {
            if piece.is_last {
                self.step(lane, LaneStep::SegmentDone(origin));
            }
            state.piece = None;
            return;
        };
        state.next += 1;
        if unit.is_idr() {
            // §3.69: nothing before an IDR picture in decoding order is displayed after it.
            self.release(lane, state, i128::MAX);
            state.last_out = None;
            state.is_waiting_for_idr = false;
        }
        if !unit.has_picture() {
            if let Err(error) = with_pictures(lane, state, |decoder, out| decoder.decode(&unit, out)) {
                self.step(lane, LaneStep::Failed(error.at(Stage::Decode)));
            }
        } else if state.is_waiting_for_idr {
            state.lose(GapCause::NoKeyframe, u64::from(is_wanted));
        } else {
            state.pending.push(Pending { pts: unit.pts(), is_wanted, is_keyframe: unit.is_idr(), origin });
            let started = lane.options.clock.now();
            let decoded = with_pictures(lane, state, |decoder, out| decoder.decode(&unit, out));
            lane.decoded_in(lane.options.clock.now().saturating_duration_since(started));
            if let Err(error) = decoded {
                self.step(lane, LaneStep::Failed(error.at(Stage::Decode)));
                self.release(lane, state, i128::MAX);
                let lost = state.pending.iter().filter(|unit| unit.is_wanted).count() as u64;
                state.lose(GapCause::Damaged, lost);
                state.restart();
            }
        }
        let time = state.horizon.after(index);
        self.release(lane, state, time);
    }
}

/// Runs the decoder and puts the wanted ones of its pictures, converted, into display order.
fn with_pictures<T: Clone>(
    lane: &Lane<T>,
    state: &mut State<T>,
    run: impl FnOnce(&mut dyn Decoder, &mut dyn FnMut(Picture<'_>)) -> Result<(), Error>,
) -> Result<(), Error> {
    let State { decoder, converter, order, pending, last_out, gap, .. } = state;
    let format = lane.options.format;
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
        let (width, height) = format.frame_size(picture.width, picture.height);
        let bytes = format.format().frame_bytes(width, height);
        let mut is_converted = false;
        let pixels = lane.pool.pixels.filled(bytes, |out| is_converted = converter.convert(&picture, format, out));
        if !is_converted {
            is_short = true;
            return;
        }
        order.hold(
            picture.pts,
            LaneFrame {
                pixels,
                width,
                height,
                source_size: (picture.width, picture.height),
                pts: picture.pts,
                sample_aspect_ratio: picture.sample_aspect_ratio,
                is_keyframe: unit.is_keyframe,
                resolution_changed: false, // the lane knows the frame before
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

impl<T> State<T> {
    fn lose(&mut self, cause: GapCause, frames: u64) {
        self.gap = Some(Gap::merge(self.gap, Gap::of_frames(cause, frames)));
    }

    /// After an error, decoding begins anew with an IDR picture.
    fn restart(&mut self) {
        self.decoder.reset();
        self.pending.clear();
        self.is_waiting_for_idr = true;
    }
}

impl<T: Clone + Send + 'static> Work for Strand<T> {
    fn turn(&self) -> Turn {
        let Some(lane) = self.lane.upgrade().filter(|lane| lane.is_ready(self.index)) else { return Turn::Parked };
        let state = &mut *self.state();
        if state.piece.is_some() {
            self.decode_next(&lane, state);
            return Turn::Again;
        }
        let task = self.tasks().pop_front();
        match task {
            Some(task) => {
                self.begin(&lane, state, task);
                Turn::Again
            }
            None => Turn::Parked,
        }
    }

    fn slot(&self) -> &Slot {
        &self.slot
    }

    fn crashed(&self) {
        let Some(lane) = self.lane.upgrade() else { return };
        let state = &mut *self.state();
        self.release(&lane, state, i128::MAX); // what was decoded before is good
        state.restart();
        if let Some(piece) = state.piece.take() {
            let left = piece.units.iter().skip(state.next.saturating_sub(1));
            state.lose(GapCause::Damaged, left.filter(|planned| planned.is_wanted).count() as u64);
            if piece.is_last {
                self.step(&lane, LaneStep::SegmentDone(piece.origin));
            }
        }
        self.step(&lane, LaneStep::Failed(Error::new(ErrorKind::Decoder, "decoder that panicked").at(Stage::Decode)));
        if state.is_draining {
            self.end_group(&lane, state, Ok(()));
        }
    }
}
