//! The bodies of the fuzz targets over seeds and over changes of them, on a stable compiler.
//!
//! Seeds are what `fuzz/seeds` holds and what the fixtures give. A failure names the file that the input was saved to:
//! once it is mended, that file belongs into `fuzz/seeds/<target>`.

#[allow(dead_code, reason = "shared with the tests of the demuxer")]
#[path = "demux/recording.rs"]
mod recording;

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use kvs_hls::fmp4::{Demuxer, InitSegment};
use kvs_hls::{Limits, fuzzing};
use recording::{Part, fixtures, parts};

/// A linear congruential generator (Knuth's MMIX constants): the same changes on every run.
struct Changes(u64);

impl Changes {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % bound.max(1) as u64) as usize
    }

    fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }

    /// Makes one change, most often of a byte, near the start every other time: that is where headers are.
    fn apply(&mut self, bytes: &mut Vec<u8>) {
        let reach = if self.below(2) == 0 { bytes.len().min(700) } else { bytes.len() };
        let at = self.below(reach);
        let end = (at + 1 + self.below(16)).min(bytes.len());
        if bytes.is_empty() {
            return bytes.push(self.byte());
        }
        match self.below(12) {
            0 => bytes[at] = 0,
            1 => bytes[at] = 0xff,
            2 => bytes[at] = bytes[at].wrapping_add(1),
            3 => bytes[at] = bytes[at].wrapping_sub(1),
            4 | 5 => bytes[at] ^= 1 << self.below(8),
            6 | 7 => bytes[at] = self.byte(),
            8 => bytes.insert(at, self.byte()),
            9 => _ = bytes.drain(at..end),
            10 => _ = bytes.splice(at..at, bytes[at..end].to_vec()),
            _ => bytes.truncate(at),
        }
    }
}

fn seeds_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds")
}

/// Runs a target over all its seeds and over `changes` changed ones.
fn run(name: &str, target: fn(&[u8]), from_fixtures: Vec<Vec<u8>>, changes: usize) {
    let mut seeds: Vec<Vec<u8>> = vec![Vec::new()];
    let mut own: Vec<PathBuf> =
        fs::read_dir(seeds_folder().join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
    own.sort();
    assert!(!own.is_empty(), "no seeds of {name}");
    seeds.extend(own.iter().map(|path| fs::read(path).unwrap()));
    seeds.extend(from_fixtures);
    for seed in &seeds {
        run_one(name, target, seed);
    }
    let mut random = Changes(7);
    for round in 0..changes {
        let mut input = seeds[round % seeds.len()].clone();
        for _ in 0..=random.below(4) {
            random.apply(&mut input);
        }
        run_one(name, target, &input);
    }
}

fn run_one(name: &str, target: fn(&[u8]), input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.input"));
        fs::write(&path, input).unwrap();
        eprintln!("target {name} failed on {}", path.display());
        resume_unwind(panic);
    }
}

/// The files below `fixtures/` whose names pass.
fn files(is_wanted: impl Fn(&str) -> bool) -> Vec<Vec<u8>> {
    let (mut folders, mut found) = (vec![fixtures()], Vec::new());
    while let Some(folder) = folders.pop() {
        let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            if path.is_dir() {
                folders.push(path);
            } else if is_wanted(&path.file_name().unwrap().to_string_lossy()) {
                found.push(fs::read(path).unwrap());
            }
        }
    }
    assert!(!found.is_empty());
    found
}

fn part(folder: &str) -> Part {
    parts(&fixtures().join("hls").join(folder)).remove(0)
}

/// Self-initializing segments: the first of each of these recordings, behind its initialization segment.
fn segments(folders: &[&str]) -> Vec<Vec<u8>> {
    folders.iter().map(|folder| part(folder)).map(|part| [&part.init[..], &part.segments[0][..]].concat()).collect()
}

#[test]
fn playlist() {
    run("playlist", fuzzing::playlist, files(|name| name.ends_with(".m3u8")), 4000);
}

#[test]
fn init_segment() {
    run("init_segment", fuzzing::init_segment, files(|name| name.to_lowercase().contains("init")), 6000);
}

#[test]
fn media_segment() {
    let folders = [
        "bframes_closed_gop_160x90",
        "box_layouts",
        "audio_in_fragments",
        "avc3_inband_only",
        "chunks_one_frame",
        "negative_cts_offsets",
        "edit_list_empty_edit_bframes",
        "kvs_camera",
    ];
    run("media_segment", fuzzing::media_segment, segments(&folders), 4000);
}

#[test]
fn nal_walk() {
    let samples = ["slices_4_per_picture", "avc1_inband_sets_aud_sei", "avc3_inband_only"].map(|folder| {
        let part = part(folder);
        let mut units = Vec::new();
        let init = InitSegment::parse(&part.init, &Limits::default()).unwrap();
        Demuxer::new(init, Limits::default()).push(part.segments[0].clone(), &mut units).unwrap();
        [&[2], &units[0].data()[..]].concat() // 2: length fields of four bytes
    });
    run("nal_walk", fuzzing::nal_walk, samples.to_vec(), 4000);
}

#[test]
fn sps() {
    let sets = files(|name| name.to_lowercase().contains("init"));
    let inits = sets.iter().filter_map(|init| InitSegment::parse(init, &Limits::default()).ok());
    let sets = inits.flat_map(|init| {
        let config = init.track().sample_entry().config().clone();
        config.parameter_sets().map(|set| set.to_vec()).collect::<BTreeSet<_>>()
    });
    run("sps", fuzzing::sps, sets.collect::<BTreeSet<_>>().into_iter().collect(), 20_000);
}

#[test]
fn tracker_steps() {
    // Decisions without a pattern, for each kind of camera.
    let mut random = Changes(11);
    let decisions = (0..40).map(|kind| [vec![kind], (0..200).map(|_| random.byte()).collect()].concat());
    run("tracker_steps", fuzzing::tracker_steps, decisions.collect(), 4000);
}

#[test]
fn machine_steps() {
    let mut random = Changes(13);
    let decisions = (0..60).map(|_| (0..600).map(|_| random.byte()).collect());
    run("machine_steps", fuzzing::machine_steps, decisions.collect(), 3000);
}

#[test]
fn session_response() {
    run("session_response", fuzzing::session_response, Vec::new(), 20_000);
}

#[test]
fn pipeline() {
    let folders =
        ["bframes_closed_gop_160x90", "bframes_open_gop_160x90", "main_322x178", "monochrome", "cavlc_bframes"];
    run("pipeline", fuzzing::pipeline, segments(&folders), 150);
}

#[test]
fn every_target_has_seeds_and_a_test() {
    let tests = [
        "init_segment",
        "machine_steps",
        "media_segment",
        "nal_walk",
        "pipeline",
        "playlist",
        "session_response",
        "sps",
        "tracker_steps",
    ];
    let names = |folder: &Path| -> BTreeSet<String> {
        let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        paths.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect()
    };
    let tests: BTreeSet<String> = tests.map(str::to_owned).into();
    assert_eq!(names(&seeds_folder()), tests);
    assert_eq!(names(&seeds_folder().with_file_name("fuzz_targets")), tests);
}
