//! Threads of the decode pool and readers of frames in every order that a model checker comes up with: nothing is lost or
//! mixed up, and nobody waits for ever.

use std::future::poll_fn;
use std::ops::Range;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use shuttle::{future::block_on, thread};

use super::delivery::{Next, Queue};
use super::frame::{Frame, FrameMeta};
use super::options::{Delivery, GapFill, Pacing};
use crate::clock::{Clock, SystemClock};
use crate::decode::{
    ColorMatrix, ColorRange, ColorSpace, DecodePool, Decoder, FrameSelection, Job, Lane, LaneFrame, LaneOptions,
    LaneOutput, LaneStep, Output, Picture, PixelFormat,
};
use crate::error::Error;
use crate::h264::{AccessUnit, AvcConfig};
use crate::session::TimeOrigin;
use crate::sync::Arc;
use crate::time::{Dts, Pts, Timescale};

/// Orders that are tried, besides those of the checker with few changes of thread.
const ORDERS: usize = 10000;
/// Pictures in a group, and in all of a camera's stream.
const GROUP: i64 = 3;
const PICTURES: i64 = 4 * GROUP;

fn check(scene: impl Fn() + Send + Sync + 'static) {
    let scene = Arc::new(scene);
    let mut config = shuttle::Config::new();
    config.stack_size = 1 << 20;
    let random = shuttle::scheduler::RandomScheduler::new(ORDERS);
    let (first, second) = (scene.clone(), scene);
    shuttle::Runner::new(random, config.clone()).run(move || first());
    let few_changes = shuttle::scheduler::PctScheduler::new(3, ORDERS);
    shuttle::Runner::new(few_changes, config).run(move || second());
}

/// Gives pictures of one luma value each: the camera's number and the time.
struct Painter(u8);

impl Decoder for Painter {
    fn decode(&mut self, unit: &AccessUnit, out: &mut dyn FnMut(Picture<'_>)) -> Result<(), Error> {
        let luma = self.0 + unit.pts().ticks() as u8;
        out(Picture {
            planes: [&[luma; 4], &[128], &[128]],
            strides: [2, 1],
            width: 2,
            height: 2,
            color: ColorSpace::new(ColorMatrix::Bt601, ColorRange::Full),
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

/// What a driver does with a lane's answers.
#[derive(Clone)]
struct ToQueue(Arc<Queue>);

impl LaneOutput<()> for ToQueue {
    fn has_room(&self) -> bool {
        self.0.has_room()
    }

    fn step(&self, step: LaneStep<()>) {
        match step {
            LaneStep::Frame(frame) => self.0.push(delivered(frame), SystemClock.now()),
            LaneStep::Drained(_) => self.0.end(None),
            LaneStep::SegmentDone(()) => {}
            LaneStep::Failed(error) => panic!("{error}"),
        }
    }

    fn decoded_in(&self, _: Duration) {}
}

fn delivered(frame: LaneFrame<()>) -> Frame {
    Frame {
        pixels: frame.pixels,
        width: frame.width,
        height: frame.height,
        format: PixelFormat::Gray,
        meta: FrameMeta {
            pts: frame.pts,
            captured_at: SystemTime::UNIX_EPOCH,
            time_origin: TimeOrigin::Producer,
            source_size: frame.source_size,
            sample_aspect_ratio: None,
            is_keyframe: frame.is_keyframe,
            fragment_number: None,
            media_sequence: 0,
            discontinuity_sequence: 0,
            session_generation: 1,
            gap_before: frame.gap_before,
            resolution_changed: false,
            is_synthetic: false,
        },
    }
}

/// A camera in the pool: groups dealt to `width` strands, room for one frame.
fn camera(pool: &Arc<DecodePool>, number: u8, width: usize) -> (Arc<Lane<()>>, Arc<Queue>) {
    let queue = Arc::new(Queue::new(Delivery::All, Pacing::AsDecoded, GapFill::None, 1));
    let options = LaneOptions {
        make_decoder: Box::new(move || Box::new(Painter(number))),
        selection: FrameSelection::All,
        format: Output::gray(),
        max_waiting_bytes: 1000,
        clock: Arc::new(SystemClock),
    };
    let lane = Lane::new(pool.clone(), options, ToQueue(queue.clone()));
    lane.widen(width);
    (lane, queue)
}

/// The access units of two segments, each of two groups.
fn jobs() -> [Job<()>; 3] {
    let half = PICTURES / 2;
    [Job::Units(units(0..half), ()), Job::Units(units(half..PICTURES), ()), Job::Drain]
}

fn units(times: Range<i64>) -> Vec<AccessUnit> {
    let record = Bytes::from_static(&[1, 66, 0, 30, 0xff, 0xe0, 0]);
    let config = Arc::new(AvcConfig::parse(&record).unwrap());
    let unit = |time: i64| {
        let slice = if time % GROUP == 0 { &[0, 0, 0, 1, 0x65] } else { &[0, 0, 0, 1, 0x41] };
        let pts = Pts::new(time, Timescale::SECONDS);
        AccessUnit::new(Bytes::from_static(slice), config.clone(), pts, Dts(time), 1).unwrap()
    };
    times.map(unit).collect()
}

/// Reads as `Frames` does when it blocks, up to `most` frames.
fn read(lane: &Lane<()>, queue: &Queue, number: u8, most: i64) {
    let mut held = Vec::new();
    loop {
        match queue.try_take(SystemClock.now()) {
            Next::Frame(frame) => {
                lane.schedule(); // there is room now
                held.push(frame);
                if held.len() as i64 == most {
                    break;
                }
            }
            Next::End(error) => break assert!(error.is_none()),
            _ => queue.wait(Duration::MAX, SystemClock.now()),
        }
    }
    // Buffers are shared by all cameras and used again: not while a frame is held.
    for (time, frame) in held.iter().enumerate() {
        assert_eq!((frame.meta.pts.ticks(), frame.data()), (time as i64, &[number + time as u8; 4][..]));
        assert_eq!((frame.meta.is_keyframe, frame.meta.gap_before), (time as i64 % GROUP == 0, None));
    }
    assert_eq!(held.len() as i64, PICTURES.min(most));
}

#[test]
fn frames_of_cameras_on_the_same_threads_come_whole_and_in_order() {
    check(|| {
        let pool = Arc::new(DecodePool::start(2, "test").unwrap());
        let readers = [(0, 2), (100, 1)].map(|(number, width)| {
            let (lane, queue) = camera(&pool, number, width);
            thread::spawn(move || {
                jobs().into_iter().for_each(|job| lane.push(job));
                read(&lane, &queue, number, i64::MAX);
            })
        });
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        pool.close();
    });
}

#[test]
fn a_source_that_stops_leaves_nobody_waiting() {
    check(|| {
        let pool = Arc::new(DecodePool::start(2, "test").unwrap());
        let (lane, queue) = camera(&pool, 0, 2);
        let (driven, ended) = (lane.clone(), queue.clone());
        let driver = thread::spawn(move || {
            for job in jobs() {
                driven.push(job);
            }
            ended.cancel(None);
        });
        // At most these frames; then the end, or nothing at all.
        let mut last = -1;
        loop {
            match queue.try_take(SystemClock.now()) {
                Next::Frame(frame) => {
                    assert_eq!(frame.meta.pts.ticks(), last + 1);
                    last += 1;
                    lane.schedule();
                }
                Next::End(_) => break,
                _ => queue.wait(Duration::MAX, SystemClock.now()),
            }
        }
        driver.join().unwrap();
        drop((lane, queue));
        pool.close();
    });
}

#[test]
fn the_pool_closes_in_the_middle_of_work() {
    check(|| {
        let pool = Arc::new(DecodePool::start(2, "test").unwrap());
        let (lane, queue) = camera(&pool, 0, 2);
        jobs().into_iter().for_each(|job| lane.push(job));
        read(&lane, &queue, 0, 2);
        pool.close();
        lane.schedule(); // of no use, and no harm
    });
}

#[test]
fn a_task_that_waits_for_frames_is_woken_for_each() {
    check(|| {
        let pool = Arc::new(DecodePool::start(1, "test").unwrap());
        let (lane, queue) = camera(&pool, 0, 1);
        jobs().into_iter().for_each(|job| lane.push(job));
        for time in 0..=PICTURES {
            let next = block_on(poll_fn(|context| match queue.poll(SystemClock.now(), context.waker()) {
                Next::Empty => Poll::Pending,
                next => Poll::Ready(next),
            }));
            match next {
                Next::Frame(frame) => assert_eq!(frame.meta.pts.ticks(), time),
                other => assert!(matches!(other, Next::End(None)) && time == PICTURES, "{other:?}"),
            }
            lane.schedule();
        }
        pool.close();
    });
}
