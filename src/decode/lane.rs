//! One camera's ordered place in the decode pool: access units in, frames in display order out.
//!
//! A live stream runs through one strand. An archive is cut before its IDR pictures, at which nothing that follows depends
//! on what came before, and the groups of pictures are dealt to several strands in turn. Frames leave in the order of the
//! stream all the same: those of the first group as they come, those of later groups wait.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use tracing::Span;

use super::order::{Corrector, earliest_next, soonest};
use super::pool::DecodePool;
use super::select::{Planned, Selector};
use super::strand::{Piece, Strand, Task};
use super::{Decoder, FrameSelection, Output, Pixels};
use crate::clock::Clock;
use crate::error::Error;
use crate::gap::Gap;
use crate::h264::{AccessUnit, nal_type};
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use crate::time::Pts;

/// What a lane is given, in order. `T` says where access units come from.
#[derive(Debug)]
pub(crate) enum Job<T> {
    /// Access units of a segment of which more will come. All of them are displayed before those that follow.
    Part(Vec<AccessUnit>, T),
    /// The access units of a segment, in decoding order, or what is left of them after its parts.
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
    /// All access units of a segment went through: said once for each [`Job::Units`].
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
    /// What the log lines of a segment's decoding stand in.
    fn span(&self, origin: &T) -> Span {
        let _ = origin;
        Span::none()
    }
    /// How long one access unit took to decode and convert.
    fn decoded_in(&self, time: Duration);
}

pub(crate) struct LaneOptions {
    pub(crate) make_decoder: Box<dyn Fn() -> Box<dyn Decoder> + Send + Sync>,
    pub(crate) selection: FrameSelection,
    pub(crate) format: Output,
    /// Bytes of frames that wait behind those of an earlier group.
    pub(crate) max_waiting_bytes: usize,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Frames may always wait in so much, however short the groups of pictures are.
const MIN_WAITING_BYTES: usize = 16 << 20;

/// One camera in the pool.
///
/// Locks are taken in this order: plan, strands, merge; a strand's state, its tasks, merge; the pool's and the queue's own come
/// last, each alone.
pub(crate) struct Lane<T> {
    me: Weak<Self>,
    pub(super) pool: Arc<DecodePool>,
    output: Box<dyn LaneOutput<T>>,
    pub(super) options: LaneOptions,
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
    /// Whether the rest of a segment is to come, and the soonest display after decoding in what came of it, in ticks.
    is_midway: bool,
    soonest: Option<i64>,
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
    /// Bytes that left of the first group so far, and of the group before it.
    group_bytes: [usize; 2],
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
            is_midway: false,
            soonest: None,
            closed_segments: 0,
            has_sets_in_band: false,
        };
        let merge = Merge {
            groups: VecDeque::new(),
            ready: Vec::new(),
            waiting_bytes: 0,
            group_bytes: [0; 2],
            gap: None,
            size: None,
        };
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            pool,
            output: Box::new(output),
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
            Job::Part(units, origin) => self.deal(plan, units, &origin, true),
            Job::Units(units, origin) => self.deal(plan, units, &origin, false),
            Job::Break(gap) => {
                plan.selector.interrupt();
                plan.is_midway = false;
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

    /// Whether presentation times were ever wrong. They are mended segment by segment: in a part of one, a picture that
    /// belongs between its pictures may be missing. The group of pictures that shows it may suffer.
    pub(crate) fn are_times_wrong(&self) -> bool {
        lock(&self.plan).corrector.has_corrected
    }

    fn deal(&self, plan: &mut Plan, mut units: Vec<AccessUnit>, origin: &T, is_part: bool) {
        plan.corrector.correct(&mut units);
        let is_closed = units.first().is_some_and(AccessUnit::is_idr);
        if !std::mem::replace(&mut plan.is_midway, is_part) {
            plan.closed_segments = if is_closed { plan.closed_segments.saturating_add(1) } else { 0 };
            plan.soonest = None;
        }
        plan.soonest = plan.soonest.into_iter().chain(soonest(&units)).min();
        // Where the next segment's times are not known yet, cameras go on as they did.
        let is_end_closed = is_part || plan.closed_segments >= 2;
        let end = if is_end_closed { i128::MAX } else { earliest_next(&units, plan.soonest.unwrap_or_default()) };
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
        self.give(plan, piece(last, is_closed || is_cut, end, !is_part));
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
                break merge.waiting_bytes < merge.waiting_room().min(self.options.max_waiting_bytes);
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

    pub(super) fn span(&self, origin: &T) -> Span {
        self.output.span(origin)
    }

    pub(super) fn decoded_in(&self, time: Duration) {
        self.output.decoded_in(time);
    }

    /// Passes a step of the first group on.
    fn hand_out(&self, merge: &mut Merge<T>, mut step: LaneStep<T>) {
        match &mut step {
            LaneStep::Frame(frame) => {
                merge.group_bytes[0] += frame.pixels.len();
                frame.gap_before = Gap::join(merge.gap.take(), frame.gap_before);
                let size = frame.source_size;
                frame.resolution_changed = merge.size.replace(size).is_some_and(|old| old != size);
            }
            LaneStep::Drained(gap) => {
                merge.group_bytes = [0, merge.group_bytes[0]];
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

    /// Bytes of frames that may wait. Strands that are half a group apart are never idle: the one behind has decoded half of
    /// its group when its turn comes, and the other one has the time of the second half for its next.
    fn waiting_room(&self) -> usize {
        let [now, before] = self.group_bytes;
        (now.max(before) / 2).saturating_mul(self.ready.len().saturating_sub(1)).saturating_add(MIN_WAITING_BYTES)
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::clock::SystemClock;
    use crate::decode::pool::{Turn, Work};
    use crate::decode::{ColorMatrix, ColorRange, ColorSpace, Picture};
    use crate::h264::AvcConfig;
    use crate::time::{Dts, Timescale};

    /// Gives a gray picture for each access unit.
    struct Gray;

    impl Decoder for Gray {
        fn decode(&mut self, unit: &AccessUnit, out: &mut dyn FnMut(Picture<'_>)) -> Result<(), Error> {
            out(Picture {
                planes: [&[0; 4], &[128], &[128]],
                strides: [2, 1],
                width: 2,
                height: 2,
                color: ColorSpace { matrix: ColorMatrix::Bt601, range: ColorRange::Limited },
                sample_aspect_ratio: None,
                pts: unit.pts(),
            });
            Ok(())
        }

        fn drain(&mut self, _: &mut dyn FnMut(Picture<'_>)) -> Result<(), Error> {
            Ok(())
        }

        fn reset(&mut self) {}
    }

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<String>>>);

    impl LaneOutput<char> for Log {
        fn has_room(&self) -> bool {
            true
        }

        fn step(&self, step: LaneStep<char>) {
            lock(&self.0).push(match step {
                LaneStep::Frame(frame) => format!("{}{}", frame.origin, frame.pts.ticks()),
                LaneStep::Failed(_) => "failed".into(),
                LaneStep::SegmentDone(origin) => format!("{origin} done"),
                LaneStep::Drained(_) => "drained".into(),
            });
        }

        fn decoded_in(&self, _: Duration) {}
    }

    fn lane() -> (Arc<Lane<char>>, Log) {
        let pool = DecodePool::start(1, "test").unwrap();
        pool.close(); // the test gives the turns
        let options = LaneOptions {
            make_decoder: Box::new(|| Box::new(Gray)),
            selection: FrameSelection::All,
            format: Output::gray(),
            max_waiting_bytes: 1000,
            clock: Arc::new(SystemClock),
        };
        let log = Log::default();
        (Lane::new(Arc::new(pool), options, log.clone()), log)
    }

    /// The access units with these decoding times, of a group of pictures that begins with one at 0.
    fn units(dts: std::ops::Range<i64>) -> Vec<AccessUnit> {
        let config = Arc::new(AvcConfig::parse(&Bytes::from_static(&[1, 66, 0, 30, 0xff, 0xe0, 0])).unwrap());
        let unit = |dts: i64| {
            let pts = [1, 5, 3, 2, 4, 6, 9, 8, 7][dts as usize];
            let slice = if dts == 0 { &[0, 0, 0, 1, 0x65] } else { &[0, 0, 0, 1, 0x41] };
            let pts = Pts::new(pts, Timescale::new(10).unwrap());
            AccessUnit::new(Bytes::from_static(slice), config.clone(), pts, Dts(dts), 1).unwrap()
        };
        dts.map(unit).collect()
    }

    fn strand(lane: &Lane<char>) -> Arc<Strand<char>> {
        lock(&lane.strands)[0].clone()
    }

    /// What the lane says to these jobs.
    fn said(lane: &Lane<char>, log: &Log, jobs: impl IntoIterator<Item = Job<char>>) -> String {
        jobs.into_iter().for_each(|job| lane.push(job));
        while strand(lane).turn() == Turn::Again {}
        std::mem::take(&mut *lock(&log.0)).join(" ")
    }

    #[test]
    fn parts_leave_at_once_and_their_segment_is_done_once() {
        let (lane, log) = lane();
        assert_eq!(said(&lane, &log, [Job::Part(units(0..1), 'a')]), "a1");
        assert_eq!(said(&lane, &log, [Job::Part(units(1..5), 'a')]), "a2 a3 a4 a5");
        assert_eq!(said(&lane, &log, [Job::Part(units(5..6), 'a'), Job::Units(units(6..9), 'a')]), "a6 a7 a8 a done");
        assert_eq!(said(&lane, &log, [Job::Units(units(0..9), 'b')]), "a9 b1 b2 b3 b4 b5 b6 b7 b8 b9 b done");
    }

    #[test]
    fn the_end_of_a_segment_knows_what_its_parts_were_like() {
        let (lane, log) = lane();
        said(&lane, &log, [Job::Part(units(0..5), 'a')]);
        // It was decoded a tick before its display, but others a tick after theirs would have been: B-frames may follow.
        assert_eq!(said(&lane, &log, [Job::Units(units(5..6), 'a')]), "a done");
        assert_eq!(said(&lane, &log, [Job::Units(units(6..9), 'b')]), "a6 b7 b8 b done");
    }

    #[test]
    fn a_download_that_breaks_off_and_its_second_try_are_each_done_once() {
        let (lane, log) = lane();
        assert_eq!(said(&lane, &log, [Job::Part(units(0..1), 'a'), Job::Units(Vec::new(), 'a')]), "a1 a done");
        assert_eq!(said(&lane, &log, [Job::Part(units(1..5), 'a')]), "a2 a3 a4 a5");
        assert_eq!(said(&lane, &log, [Job::Units(units(5..9), 'a')]), "a6 a7 a8 a done");
    }

    #[test]
    fn a_crash_in_a_part_leaves_the_segment_to_its_rest() {
        let (lane, log) = lane();
        lane.push(Job::Part(units(0..1), 'a'));
        assert_eq!(strand(&lane).turn(), Turn::Again);
        strand(&lane).crashed();
        assert_eq!(said(&lane, &log, [Job::Units(units(1..9), 'a')]), "failed a done");
        assert_eq!(said(&lane, &log, [Job::Units(units(0..1), 'b')]), "b1 b done");
    }
}
