//! One camera's ordered place in the decode pool: access units in, frames in display order out.
//!
//! A live stream runs through one strand. An archive is cut before its IDR pictures, at which nothing that follows depends
//! on what came before, and the groups of pictures are dealt to several strands in turn. Frames leave in the order of the
//! stream all the same: those of the first group as they come, those of later groups wait.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::order::{Corrector, earliest_next};
use super::pool::DecodePool;
use super::select::{Planned, Selector};
use super::strand::{Piece, Strand, Task};
use super::{Decoder, FrameSelection, Output, PixelPool, Pixels};
use crate::clock::Clock;
use crate::error::Error;
use crate::gap::Gap;
use crate::h264::{AccessUnit, nal_type};
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
    /// All access units of a segment went through.
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
    pub(crate) source_size: (usize, usize),
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

pub(crate) struct LaneOptions {
    pub(crate) make_decoder: Box<dyn Fn() -> Box<dyn Decoder> + Send + Sync>,
    pub(crate) selection: FrameSelection,
    pub(crate) format: Output,
    /// Bytes of frames that wait behind those of an earlier group; also what is kept of buffers to be used again.
    pub(crate) max_waiting_bytes: usize,
    pub(crate) clock: Arc<dyn Clock>,
}

/// One camera in the pool.
pub(crate) struct Lane<T> {
    me: Weak<Self>,
    pool: Arc<DecodePool>,
    output: Box<dyn LaneOutput<T>>,
    pub(super) options: LaneOptions,
    pub(super) pixels: PixelPool,
    plan: Mutex<Plan>,
    merge: Mutex<Merge<T>>,
    strands: Mutex<Vec<Arc<Strand<T>>>>,
}

impl<T> fmt::Debug for Lane<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("pool", &self.pool).finish_non_exhaustive()
    }
}

/// What is decoded, and where.
struct Plan {
    corrector: Corrector,
    selector: Selector,
    /// Strands among which groups are dealt.
    width: usize,
    /// The strand of the group that is being dealt.
    strand: usize,
    is_open: bool,
    /// Segments in a row that began with an IDR picture.
    closed_segments: u32,
    has_sets_in_band: bool,
}

/// Puts the frames of several strands back in order.
struct Merge<T> {
    /// The groups whose end has not left yet.
    groups: VecDeque<Group>,
    /// What each strand has ready and may not hand out yet.
    ready: Vec<VecDeque<LaneStep<T>>>,
    waiting_bytes: usize,
    /// What was lost at the end of the group before.
    gap: Option<Gap>,
    size: Option<(usize, usize)>,
}

struct Group {
    strand: usize,
    /// Whether the stream ends with it.
    is_final: bool,
}

impl<T: Clone + Send + 'static> Lane<T> {
    pub(crate) fn new(pool: Arc<DecodePool>, options: LaneOptions, output: impl LaneOutput<T> + 'static) -> Arc<Self> {
        let plan = Plan {
            corrector: Corrector::default(),
            selector: Selector::new(options.selection),
            width: 1,
            strand: 0,
            is_open: false,
            closed_segments: 0,
            has_sets_in_band: false,
        };
        let merge = Merge { groups: VecDeque::new(), ready: Vec::new(), waiting_bytes: 0, gap: None, size: None };
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            pool,
            output: Box::new(output),
            pixels: PixelPool::new(options.max_waiting_bytes),
            options,
            plan: Mutex::new(plan),
            merge: Mutex::new(merge),
            strands: Mutex::default(),
        })
    }

    /// Decodes up to so many groups of pictures at once from the next IDR picture on.
    pub(crate) fn widen(&self, width: usize) {
        lock(&self.plan).width = width.max(1);
        if let Err(error) = self.pool.grow(width) {
            tracing::warn!(%error, "archive decoded on fewer threads than asked for");
        }
    }

    /// Gives the lane its next job.
    pub(crate) fn push(&self, job: Job<T>) {
        let plan = &mut *lock(&self.plan);
        match job {
            Job::Units(units, origin) => self.deal(plan, units, &origin),
            Job::Break(gap) => {
                plan.selector.interrupt();
                self.give(plan, Task::Break(gap));
            }
            Job::Drain => {
                self.open_group(plan);
                // Before the strand can answer.
                if let Some(group) = lock(&self.merge).groups.back_mut() {
                    group.is_final = true;
                }
                self.give(plan, Task::Drain);
                plan.is_open = false;
            }
        }
        self.schedule();
    }

    /// Gives all strands a turn: there is room for frames, or something to do.
    pub(crate) fn schedule(&self) {
        for strand in &*lock(&self.strands) {
            self.pool.schedule(strand);
        }
    }

    fn deal(&self, plan: &mut Plan, mut units: Vec<AccessUnit>, origin: &T) {
        plan.corrector.correct(&mut units);
        let is_closed = units.first().is_some_and(AccessUnit::is_idr);
        plan.closed_segments = if is_closed { plan.closed_segments.saturating_add(1) } else { 0 };
        // Where the next segment's times are not known yet, cameras go on as they did.
        let end = if plan.closed_segments >= 2 { i128::MAX } else { earliest_next(&units) };
        let earliest = units.iter().map(|unit| unit.pts().as_nanos()).min().unwrap_or(i128::MAX);
        let mut pieces = plan.cut(units);
        let Some(last) = pieces.pop() else { return };
        let is_cut = !pieces.is_empty();
        let piece = |units, is_closed, end, is_last| {
            Task::Piece(Piece { units, origin: origin.clone(), is_closed, earliest, end, is_last })
        };
        for (index, units) in pieces.into_iter().enumerate() {
            if index > 0 {
                self.begin_group(plan);
            }
            if !units.is_empty() {
                self.give(plan, piece(units, is_closed || index > 0, i128::MAX, false));
            }
        }
        if is_cut {
            self.begin_group(plan);
        }
        self.give(plan, piece(last, is_closed || is_cut, end, true));
    }

    /// Ends the group that is being dealt: the next one goes to the next strand.
    fn begin_group(&self, plan: &mut Plan) {
        if plan.is_open {
            self.give(plan, Task::Drain);
            plan.is_open = false;
            plan.strand = (plan.strand + 1) % plan.width;
        }
    }

    fn open_group(&self, plan: &mut Plan) {
        if std::mem::replace(&mut plan.is_open, true) {
            return;
        }
        let mut strands = lock(&self.strands);
        while strands.len() <= plan.strand {
            let strand = Strand::new(self.me.clone(), strands.len(), (self.options.make_decoder)());
            strands.push(Arc::new(strand));
        }
        let mut merge = lock(&self.merge);
        merge.ready.resize_with(strands.len(), VecDeque::new);
        merge.groups.push_back(Group { strand: plan.strand, is_final: false });
    }

    /// Gives the strand in use a task.
    fn give(&self, plan: &mut Plan, task: Task<T>) {
        self.open_group(plan);
        if let Some(strand) = lock(&self.strands).get(plan.strand) {
            strand.push(task);
        }
    }

    /// Whether the strand may go on. Hands out what it has ready, as far as there is room.
    pub(super) fn is_ready(&self, strand: usize) -> bool {
        let mut merge = lock(&self.merge);
        let mut has_moved = false;
        let is_frame = |step: Option<&LaneStep<T>>| matches!(step, Some(LaneStep::Frame(_)));
        let is_ready = loop {
            if !merge.is_first(strand) {
                break merge.waiting_bytes < self.options.max_waiting_bytes;
            }
            let has_room = self.output.has_room();
            let ready = merge.ready.get_mut(strand);
            match ready.and_then(|ready| if has_room || !is_frame(ready.front()) { ready.pop_front() } else { None }) {
                Some(step) => {
                    has_moved = true;
                    merge.waiting_bytes -= step.bytes();
                    self.hand_out(&mut merge, step);
                }
                None => break has_room,
            }
        };
        drop(merge);
        if has_moved {
            self.schedule(); // others have room now, or are the first
        }
        is_ready
    }

    /// Takes a step of a strand: out with it, or into the waiting room.
    pub(super) fn step(&self, strand: usize, step: LaneStep<T>) {
        let mut merge = lock(&self.merge);
        let is_empty = merge.ready.get(strand).is_none_or(VecDeque::is_empty);
        if merge.is_first(strand) && is_empty {
            let is_end = matches!(step, LaneStep::Drained(_));
            self.hand_out(&mut merge, step);
            drop(merge);
            if is_end {
                self.schedule();
            }
        } else if let Merge { waiting_bytes, ready, .. } = &mut *merge
            && let Some(ready) = ready.get_mut(strand)
        {
            *waiting_bytes += step.bytes();
            ready.push_back(step);
        }
    }

    pub(super) fn decoded_in(&self, time: Duration) {
        self.output.decoded_in(time);
    }

    /// Passes a step of the first group on.
    fn hand_out(&self, merge: &mut Merge<T>, mut step: LaneStep<T>) {
        match &mut step {
            LaneStep::Frame(frame) => {
                frame.gap_before = Gap::join(merge.gap.take(), frame.gap_before);
                let size = frame.source_size;
                frame.resolution_changed = merge.size.replace(size).is_some_and(|old| old != size);
            }
            LaneStep::Drained(gap) => {
                *gap = Gap::join(merge.gap.take(), *gap);
                if !merge.groups.pop_front().is_some_and(|group| group.is_final) {
                    merge.gap = *gap;
                    return;
                }
            }
            LaneStep::Failed(_) | LaneStep::SegmentDone(_) => {}
        }
        self.output.step(step);
    }
}

impl Plan {
    /// The access units that are to be decoded, cut where another strand can go on. Only the first piece may go on with
    /// what came before.
    fn cut(&mut self, units: Vec<AccessUnit>) -> Vec<Vec<Planned>> {
        let planned = self.selector.plan(units);
        if self.width == 1 {
            return vec![planned];
        }
        let mut pieces = vec![Vec::new()];
        for planned in planned {
            if self.is_entry(&planned.unit) {
                pieces.push(Vec::new());
            }
            if let Some(piece) = pieces.last_mut() {
                piece.push(planned);
            }
        }
        pieces
    }

    /// Whether a decoder that has seen nothing can begin here: with an IDR picture, all parameter sets at hand.
    fn is_entry(&mut self, unit: &AccessUnit) -> bool {
        let is_set = |kind| matches!(kind, nal_type::SPS | nal_type::PPS);
        let brings_sets = unit.nal_units().any(|nal| is_set(nal.kind()));
        self.has_sets_in_band |= brings_sets;
        unit.is_idr() && (brings_sets || !self.has_sets_in_band)
    }
}

impl<T> Merge<T> {
    fn is_first(&self, strand: usize) -> bool {
        self.groups.front().is_some_and(|group| group.strand == strand)
    }
}

impl<T> LaneStep<T> {
    fn bytes(&self) -> usize {
        match self {
            Self::Frame(frame) => frame.pixels.len(),
            _ => 0,
        }
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
