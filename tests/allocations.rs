//! Frames in steady state take nothing from the allocator, but for what the decoder itself does. Alone in its process.
#![allow(unsafe_code, reason = "an allocator that counts")]

mod support;

#[allow(dead_code, reason = "shared with the demuxer's tests")]
#[path = "demux/recording.rs"]
mod recording;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use kvs_hls::decode::{Openh264Decoder, Picture};
use kvs_hls::fmp4::{Demuxer, InitSegment};
use kvs_hls::h264::AccessUnit;
use kvs_hls::{Decoder, Error, Limits, Output};
use support::{builder, file_server};

thread_local! {
    /// Whether this thread's allocations count.
    static IS_COUNTED: Cell<bool> = const { Cell::new(false) };
}
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// The tests share the count.
static ALONE: Mutex<()> = Mutex::new(());

struct Counting;

impl Counting {
    fn count() {
        if IS_COUNTED.try_with(Cell::get).unwrap_or(false) {
            COUNT.fetch_add(1, Ordering::Relaxed);
        }
    }
}

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count();
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count();
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// From its first access unit on, all that its thread does counts, except inside the native decoder.
struct Uncounted(Openh264Decoder);

impl Decoder for Uncounted {
    fn decode(&mut self, unit: &AccessUnit, out: &mut dyn FnMut(Picture<'_>)) -> Result<(), Error> {
        IS_COUNTED.set(false);
        let result = self.0.decode(unit, &mut |picture| {
            IS_COUNTED.set(true); // colours and the place among the frames are ours
            out(picture);
            IS_COUNTED.set(false);
        });
        IS_COUNTED.set(true);
        result
    }

    fn drain(&mut self, out: &mut dyn FnMut(Picture<'_>)) -> Result<(), Error> {
        self.0.drain(out)
    }

    fn reset(&mut self) {
        self.0.reset();
    }
}

#[test]
fn frames_are_made_and_handed_out_in_buffers_that_were_there() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = runtime.block_on(file_server());
    for (name, frames_a_segment, output) in [
        ("baseline_640x360", 25, Output::bgr()),
        ("high_bframes_pyramid_640x360", 25, Output::rgb().letterbox(320, 320)),
    ] {
        let url = format!("{}/hls/{name}/index.m3u8", server.uri());
        let decoder = |limits: &Limits| Box::new(Uncounted(Openh264Decoder::new(limits.clone()))) as Box<dyn Decoder>;
        let source = builder(&url).output(output).decode_ahead(1).decoder(decoder).build().unwrap();
        let mut frames = source.start().unwrap().blocking();
        let mut counts = Vec::new();
        // The consumer's side counts as well.
        while let Some(frame) = {
            IS_COUNTED.set(true);
            let frame = frames.next();
            IS_COUNTED.set(false);
            frame
        } {
            frame.unwrap();
            counts.push(COUNT.load(Ordering::Relaxed));
        }
        assert!(counts.len() >= 3 * frames_a_segment, "{name}");
        let steady = counts[counts.len() - 2] - counts[frames_a_segment];
        let count = counts.len() - 2 - frames_a_segment;
        assert!(steady < count / 4, "{name}: {steady} allocations for {count} frames");
    }
}

#[test]
fn demuxing_takes_as_much_for_many_samples_as_for_few() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let part = recording::parts(&recording::fixtures().join("hls/baseline_640x360")).remove(0);
    let init = InitSegment::parse(&part.init, &Limits::default()).unwrap();
    let mut demuxer = Demuxer::new(init, Limits::default());
    let mut units = Vec::with_capacity(1000);
    let before = COUNT.load(Ordering::Relaxed);
    IS_COUNTED.set(true);
    let result = demuxer.push(part.segments[0].clone(), &mut units);
    IS_COUNTED.set(false);
    result.unwrap();
    let count = COUNT.load(Ordering::Relaxed) - before;
    assert!(units.len() >= 25 && count <= 5, "{count} allocations for {} samples", units.len());
}
