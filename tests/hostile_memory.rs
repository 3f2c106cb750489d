//! Small inputs that claim to be large take no more memory than their size and the limits allow, and large ones take it in
//! proportion. Alone in its process.
#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

use bytes::Bytes;
use kvs_hls::fmp4::{Demuxer, InitSegment};
use kvs_hls::h264::{AvcConfig, LengthSize, NalUnits, Sps};
use kvs_hls::{Limits, SecretUrl, hls};

thread_local! {
    /// Bytes that this thread holds, the most it held, and all that it ever took.
    static HELD: Cell<[isize; 3]> = const { Cell::new([0; 3]) };
}

struct Counting;

impl Counting {
    fn count(change: isize) {
        // At the end of a thread there is nothing to count any more.
        let _ = HELD.try_with(|counts| {
            let [held, most, all] = counts.get();
            let held = held + change;
            counts.set([held, most.max(held), all + change.max(0)]);
        });
    }
}

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        Self::count(-(layout.size() as isize));
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count(size as isize);
        Self::count(-(layout.size() as isize));
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes held at once, and all that were taken, beside what was held before.
fn memory_of<T>(action: impl FnOnce() -> T) -> (usize, usize) {
    let before = HELD.get()[0];
    HELD.set([before, before, 0]);
    drop(action());
    let [_, most, all] = HELD.get();
    ((most - before) as usize, all as usize)
}

const KIB: usize = 1 << 10;
/// For each sample that `Limits` admits there may be an access unit, twice while their list grows.
const SAMPLES: usize = 100_000 * 400;

fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    [&(content.len() as u32 + 8).to_be_bytes()[..], kind, content].concat()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn init() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hls/baseline_640x360/init.mp4");
    std::fs::read(path).unwrap()
}

/// A fragment with one `trun` of these flags, count and entries, behind a `tfhd` that says how large samples are.
fn fragment(truns: &[Vec<u8>], sample_size: u32, data: &[u8]) -> Vec<u8> {
    let tfhd = boxed(b"tfhd", &words(&[0x02_0018, 1, 1, sample_size])); // default-base-is-moof, duration, size
    let traf = [tfhd, truns.concat()].concat();
    [boxed(b"moof", &boxed(b"traf", &traf)), boxed(b"mdat", data)].concat()
}

fn trun(flags: u32, count: u32, entries: &[u32]) -> Vec<u8> {
    boxed(b"trun", &[words(&[flags, count]), words(entries)].concat())
}

#[test]
fn segments_that_claim_more_than_they_hold_take_no_memory_for_it() {
    let data = vec![0; 4 * KIB];
    let huge = vec![u32::MAX; KIB];
    // The first entry is where the data begins: behind four boxes, 12 bytes of the run, and the header of the data.
    let sizes = [vec![4 * 8 + 16 + 12 + 4 * KIB as u32 + 8], vec![6; KIB]].concat();
    let readable = fragment(
        &[boxed(b"trun", &[words(&[0x201, KIB as u32]), words(&sizes)].concat())],
        1,
        &[0, 0, 0, 2, 0x65, 0x88].repeat(KIB),
    );
    for (segment, said) in [
        (fragment(&[trun(0, u32::MAX, &[])], 1, &data), "more than max_samples"),
        (fragment(&[trun(0, 100_000, &[])], 0, &data), "samples of size zero"),
        (fragment(&[trun(0, 100_000, &[])], 1, &data), "outside the media data"),
        (fragment(&[trun(0, 3, &[])], u32::MAX, &data), "sample of 4294967295 bytes outside"),
        (fragment(&[trun(0x200, KIB as u32, &huge)], 1, &data), "sample of 4294967295 bytes outside"),
        (fragment(&vec![trun(0, 90_000, &[]); 1000], 1, &data), "outside the media data"),
        (readable.repeat(90), ""),
        (readable.repeat(1000), "max_samples"),
        ([&u32::MAX.to_be_bytes()[..], b"moof", &data].concat(), "box of 4294967295 bytes"),
    ] {
        let segment = Bytes::from(segment);
        let mut demuxer = Demuxer::new(InitSegment::parse(&init(), &Limits::default()).unwrap(), Limits::default());
        let (most, _) = memory_of(|| {
            let mut units = Vec::new();
            let result = demuxer.push(segment.clone(), &mut units);
            let text = result.map_or_else(|error| error.to_string(), |_| String::new());
            assert!(text.contains(said) && said.is_empty() == text.is_empty(), "{said}: {text}");
            units
        });
        assert!(most < 4 * segment.len() + SAMPLES, "{said}: {most} bytes for {}", segment.len());
    }
}

#[test]
fn every_number_in_a_header_may_be_the_largest() {
    let init = init();
    for at in 0..init.len() - 4 {
        let mut changed = init.clone();
        changed[at..at + 4].fill(0xff);
        let (most, _) = memory_of(|| InitSegment::parse(&changed, &Limits::default()));
        assert!(most < 8 * init.len() + 4 * KIB, "{most} bytes with the largest number at {at}");
    }
}

fn playlist(segments: usize) -> String {
    let line = "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00Z\n#EXTINF:2,\nsegment?SessionToken=a\n";
    format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n{}", line.repeat(segments))
}

#[test]
fn large_inputs_take_memory_in_proportion() {
    let base = SecretUrl::parse("https://host/media.m3u8").unwrap();
    let limits = Limits::default();
    let parse = |text: &str| memory_of(|| hls::parse(text.as_bytes(), &base, &limits).unwrap());
    let variants = |count| "#EXT-X-STREAM-INF:BANDWIDTH=1\na\n".repeat(count);
    let escaped = |bytes: usize| [&[0x67, 66, 0, 30][..], &[0, 0, 3].repeat(bytes / 3)].concat();
    let walk = |sample: &[u8]| memory_of(|| NalUnits::new(sample, LengthSize::new(1).unwrap()).count());
    for (name, [small, large], factor) in [
        ("segments", [10_000, 50_000].map(|count| (playlist(count).len(), parse(&playlist(count)))), 16),
        (
            "variants",
            [200, 1000].map(|count| {
                let text = format!("#EXTM3U\n{}", variants(count));
                (text.len(), parse(&text))
            }),
            32,
        ),
        ("emulation prevention", [60 * KIB, 300 * KIB].map(|n| (n, memory_of(|| Sps::parse(&escaped(n))))), 4),
        ("NAL units of a byte", [100 * KIB, 500 * KIB].map(|n| (n, walk(&[1, 9].repeat(n / 2)))), 1),
        (
            "parameter sets",
            [6, 30].map(|count| {
                let set = [&[0xff, 0xff][..], &vec![0x67; 0xffff]].concat();
                let config =
                    Bytes::from([&[1, 66, 0, 30, 0xff, 0xe0 | count as u8][..], &set.repeat(count), &[0]].concat());
                (config.len(), memory_of(|| AvcConfig::parse(&config)))
            }),
            4,
        ),
    ] {
        for (size, (most, _)) in [small, large] {
            assert!(most <= factor * size + 4 * KIB, "{name}: {most} bytes for {size}");
        }
        // Five times the input, five times the work that goes through the allocator, and some for lists that double.
        let (once, more) = (small.1.1, large.1.1);
        assert!(more <= 10 * once + 4 * KIB, "{name}: {once} bytes taken, then {more}");
    }
}
