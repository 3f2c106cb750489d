//! The demuxer against recordings, measured by ffprobe and by a second box reader, and against damaged input.

#[path = "demux/build.rs"]
mod build;
#[path = "demux/cases.rs"]
mod cases;
#[path = "demux/recording.rs"]
mod recording;

use std::collections::BTreeSet;

use bytes::Bytes;
use kvs_hls::fmp4::{Demuxer, InitSegment};
use kvs_hls::h264::AccessUnit;
use kvs_hls::{Error, Limits};
use md5::{Digest, Md5};
use mp4_atom::{Any, Codec, Decode, Moof, Moov};
use recording::{Part, fixtures, parts, recordings};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn demux(part: &Part) -> (InitSegment, Vec<AccessUnit>) {
    let init = InitSegment::parse(&part.init, &Limits::default()).unwrap();
    let mut demuxer = Demuxer::new(init.clone(), Limits::default());
    let mut units = Vec::new();
    for segment in &part.segments {
        demuxer.push(segment.clone(), &mut units).unwrap();
    }
    (init, units)
}

#[test]
fn every_recording_gives_the_packets_of_ffprobe() {
    let mut packets = 0;
    for (folder, part) in recordings() {
        let expected = part.packets.as_ref().expect("expectations");
        let (init, units) = demux(&part);
        // The expectations are media time: the edit list is left out of them.
        let shift = init.track().edit_shift_ticks();
        let seen: Vec<String> = units
            .iter()
            .map(|unit| {
                let (pts, dts, size) = (unit.pts().ticks() - shift, unit.dts().0, unit.data().len());
                format!("{pts},{dts},{},{size},MD5:{}", unit.duration_ticks(), hex(&Md5::digest(unit.data())))
            })
            .collect();
        let without_flags = |line: &str| {
            let fields: Vec<&str> = line.split(',').collect();
            [&fields[..4], &fields[5..6]].concat().join(",")
        };
        let wanted: Vec<String> = expected.lines().map(without_flags).collect();
        assert_eq!(seen, wanted, "{folder}");
        // Not every sync sample is an IDR picture, but every IDR picture is a sync sample.
        for (unit, line) in units.iter().zip(expected.lines()) {
            assert!(!unit.is_idr() || line.contains(",K"), "{folder}: {line}");
        }
        assert!(units[0].is_idr(), "{folder}");
        packets += units.len();
    }
    assert!(packets > 1500, "{packets} packets only");
}

#[test]
fn edit_lists_of_recordings_are_what_libav_takes_off() {
    let shifts = [
        ("edit_list_bframes", -1024),
        ("edit_list_empty_edit_bframes", 0),
        ("audio_in_fragments", 269), // 21 ms of an empty edit at 12,800 ticks a second
        ("kvs_camera", 0),
    ];
    for (folder, shift) in shifts {
        let part = parts(&fixtures().join("hls").join(folder)).remove(0);
        assert_eq!(demux(&part).0.track().edit_shift_ticks(), shift, "{folder}");
    }
}

/// The boxes of a segment as the second reader sees them.
fn atoms(mut bytes: &[u8]) -> impl Iterator<Item = Any> {
    std::iter::from_fn(move || (!bytes.is_empty()).then(|| Any::decode(&mut bytes).unwrap()))
}

/// Decoding time, presentation time, duration and size of the samples of one fragment.
fn samples(moof: &Moof, moov: &Moov, track_id: u32) -> Vec<(i64, i64, u32, usize)> {
    let trex = moov.mvex.as_ref().unwrap().trex.iter().find(|trex| trex.track_id == track_id).unwrap();
    let mut samples = Vec::new();
    for traf in moof.traf.iter().filter(|traf| traf.tfhd.track_id == track_id) {
        let mut dts = i64::try_from(traf.tfdt.as_ref().unwrap().base_media_decode_time).unwrap();
        for entry in traf.trun.iter().flat_map(|trun| trun.samples.iter()) {
            let duration = entry.duration.or(traf.tfhd.default_sample_duration).unwrap_or(trex.default_sample_duration);
            let size = entry.size.or(traf.tfhd.default_sample_size).unwrap_or(trex.default_sample_size);
            samples.push((dts, dts + entry.cts.unwrap_or_default(), duration, size as usize));
            dts += i64::from(duration);
        }
    }
    samples
}

#[test]
fn second_box_reader_agrees() {
    for (folder, part) in recordings() {
        let (init, units) = demux(&part);
        let moov =
            atoms(&part.init).find_map(|atom| if let Any::Moov(moov) = atom { Some(moov) } else { None }).unwrap();
        let trak = moov.trak.iter().find(|trak| &trak.mdia.hdlr.handler.to_string() == "vide").unwrap();
        let track = init.track();
        assert_eq!((track.id(), track.timescale().get()), (trak.tkhd.track_id, trak.mdia.mdhd.timescale), "{folder}");
        let (visual, avcc) = match &trak.mdia.minf.stbl.stsd.codecs[0] {
            Codec::Avc1(entry) => (&entry.visual, &entry.avcc),
            Codec::Avc3(entry) => (&entry.visual, &entry.avcc),
            other => panic!("{folder}: {other:?}"),
        };
        let entry = track.sample_entry();
        assert_eq!((entry.width(), entry.height()), (visual.width, visual.height), "{folder}");
        assert_eq!(entry.config().length_size().bytes(), usize::from(avcc.length_size), "{folder}");
        let sets: Vec<&[u8]> = entry.config().parameter_sets().map(|set| set.as_ref()).collect();
        let wanted = avcc.sequence_parameter_sets.iter().chain(&avcc.picture_parameter_sets);
        assert_eq!(sets, wanted.map(Vec::as_slice).collect::<Vec<_>>(), "{folder}");
        let mut wanted = Vec::new();
        for atom in part.segments.iter().flat_map(|segment| atoms(segment)) {
            if let Any::Moof(moof) = atom {
                wanted.extend(samples(&moof, &moov, track.id()));
            }
        }
        let shift = track.edit_shift_ticks();
        let seen = units
            .iter()
            .map(|unit| (unit.dts().0, unit.pts().ticks() - shift, unit.duration_ticks(), unit.data().len()));
        assert_eq!(seen.collect::<Vec<_>>(), wanted, "{folder}");
    }
}

#[test]
fn streams_of_other_kinds_are_refused_by_name() {
    let refused = |folder: &str, file: &str| std::fs::read(fixtures().join("refused").join(folder).join(file)).unwrap();
    let cases = [
        ("hevc", "init.mp4", "HEVC (H.265) video (hvc1)", true),
        ("encrypted_cenc", "init.mp4", "encrypted video (encv, scheme cenc, codec avc1)", true),
        ("audio_only", "init.mp4", "no video track, only audio (mp4a)", true),
        ("mpegts", "seg0.ts", "at byte 0: MPEG-TS where MP4 was expected", true),
        ("encrypted_aes128", "seg0.m4s", "", false),
    ];
    for (folder, file, expected, is_unsupported) in cases {
        let error = InitSegment::parse(&refused(folder, file), &Limits::default()).unwrap_err();
        assert!(error.to_string().contains(expected), "{folder}: {error}");
        assert_eq!(Error::from(error).is_unsupported(), is_unsupported, "{folder}");
    }
    // As a media segment, too.
    let init = InitSegment::parse(&build::plain_init(), &Limits::default()).unwrap();
    let mut units = Vec::new();
    for (folder, file) in [("mpegts", "seg0.ts"), ("encrypted_aes128", "seg0.m4s")] {
        let mut demuxer = Demuxer::new(init.clone(), Limits::default());
        assert!(demuxer.push(Bytes::from(refused(folder, file)), &mut units).is_err());
    }
    assert!(units.is_empty());
}

#[test]
fn samples_are_views_into_the_segment() {
    let part = parts(&fixtures().join("hls/box_layouts")).remove(0);
    let init = InitSegment::parse(&part.init, &Limits::default()).unwrap();
    let mut demuxer = Demuxer::new(init, Limits::default());
    for segment in &part.segments {
        let mut units = Vec::new();
        demuxer.push(segment.clone(), &mut units).unwrap();
        assert_inside(segment, &units);
        assert!(!units.is_empty());
    }
}

#[track_caller]
fn assert_inside(segment: &Bytes, units: &[AccessUnit]) {
    let segment = segment.as_ptr_range();
    for unit in units {
        let data = unit.data().as_ptr_range();
        assert!(segment.start <= data.start && data.end <= segment.end);
    }
}

/// Demuxes what may be damaged and checks what must hold all the same; the number of units.
#[track_caller]
fn demux_damaged(init: &[u8], segment: Bytes, limits: &Limits) -> usize {
    let Ok(init) = InitSegment::parse(init, limits) else { return 0 };
    let mut units = Vec::new();
    let mut demuxer = Demuxer::new(init, limits.clone());
    if let Ok(prefix) = demuxer.peek(segment.clone()) {
        assert_inside(&segment, prefix.units());
        assert!(prefix.closed() <= prefix.units().len() && prefix.times().count() <= limits.max_samples);
    }
    let result = demuxer.push(segment.clone(), &mut units);
    assert_inside(&segment, &units);
    assert!(units.len() <= limits.max_samples);
    assert!(units.iter().map(|unit| unit.data().len()).sum::<usize>() <= segment.len());
    for unit in &units {
        assert!(unit.nal_units().count() > 0);
    }
    if let Err(error) = result {
        // Whatever it says, it says it without a panic.
        assert!(!format!("{error} {error:?} {}", Error::from(error.clone())).is_empty());
    }
    units.len()
}

#[test]
fn every_truncation_keeps_what_came_before() {
    let part = parts(&fixtures().join("hls/bframes_closed_gop_160x90")).remove(0);
    let limits = Limits::default();
    for length in 0..part.init.len() {
        // The last box is the moov: nothing shorter is whole.
        assert!(InitSegment::parse(&part.init[..length], &limits).is_err(), "{length}");
    }
    let segment = &part.segments[0];
    let whole = demux_damaged(&part.init, segment.clone(), &limits);
    assert!(whole > 10);
    let counts: Vec<usize> =
        (0..=segment.len()).map(|length| demux_damaged(&part.init, segment.slice(..length), &limits)).collect();
    assert!(counts.is_sorted());
    // Each sample appears with its last byte, not later.
    assert_eq!(counts.iter().collect::<BTreeSet<_>>().len(), whole + 1);
    assert_eq!(counts[segment.len() - 1], whole - 1);
}

/// A segment comes byte by byte: what is closed can be taken at once, and nothing is missing or comes twice in the end.
/// How many parts there were.
#[track_caller]
fn arrive(demuxer: &mut Demuxer, segment: &Bytes, step: usize, name: &str) -> usize {
    let mut whole = Vec::new();
    let before = demuxer.clone();
    demuxer.push(segment.clone(), &mut whole).unwrap();
    let content = |unit: &AccessUnit| (unit.data().clone(), unit.pts(), unit.dts(), unit.duration_ticks());
    let (mut taken, mut parts) = (Vec::new(), 0);
    for length in (0..=segment.len()).step_by(step) {
        let Ok(prefix) = before.peek(segment.slice(..length)) else { continue };
        let closed = prefix.closed();
        assert!(closed >= taken.len(), "{name}: {length} bytes close less than fewer did");
        assert!(closed <= prefix.units().len());
        if closed > taken.len() {
            parts += 1;
            taken.extend(prefix.units()[taken.len()..closed].iter().map(content));
            let latest = whole[..closed].iter().map(|unit| unit.pts().ticks()).max();
            let earliest = whole[closed..].iter().map(|unit| unit.pts().ticks()).min();
            assert!(earliest.is_none() || latest < earliest, "{name}: {latest:?} before {earliest:?}");
            let first = |times: &mut dyn Iterator<Item = i64>| times.min();
            assert_eq!(
                first(&mut prefix.times().map(|pts| pts.ticks())),
                first(&mut whole.iter().map(|unit| unit.pts().ticks())),
                "{name}: the start is known with the first part"
            );
        }
    }
    let left = whole[taken.len()..].iter().map(content);
    assert!(taken.iter().cloned().chain(left).eq(whole.iter().map(content)), "{name}");
    parts
}

#[test]
fn a_segment_can_be_taken_in_parts_that_are_closed_in_display_order() {
    for (folder, part) in recordings() {
        let init = InitSegment::parse(&part.init, &Limits::default()).unwrap();
        let mut demuxer = Demuxer::new(init, Limits::default());
        for (index, segment) in part.segments.iter().enumerate() {
            arrive(&mut demuxer, segment, segment.len() / 200 + 1, &format!("{folder} {index}"));
        }
    }
    // Frame by frame without B-frames, one group of B-frames after the other with them; chunks alike.
    for (folder, frames, parts_of_each) in [
        ("kvs_camera", 15, 14..=15),
        ("bframes_closed_gop_160x90", 16, 4..=6),
        ("chunks_one_frame", 25, 24..=25),
        ("negative_cts_offsets", 25, 6..=25),
    ] {
        let part = parts(&fixtures().join("hls").join(folder)).remove(0);
        let init = InitSegment::parse(&part.init, &Limits::default()).unwrap();
        let mut demuxer = Demuxer::new(init, Limits::default());
        for (index, segment) in part.segments.iter().enumerate() {
            let parts = arrive(&mut demuxer, segment, 1 + segment.len() / 4000, folder);
            assert!(parts_of_each.contains(&parts), "{folder} {index}: {parts} parts of {frames} frames");
        }
    }
}

#[test]
fn looking_ahead_changes_nothing() {
    let part = parts(&fixtures().join("hls/chunks_five_frames")).remove(0);
    let demuxer = Demuxer::new(InitSegment::parse(&part.init, &Limits::default()).unwrap(), Limits::default());
    let before = format!("{demuxer:?}");
    let half = part.segments[0].slice(..part.segments[0].len() / 2);
    let count = demuxer.peek(half.clone()).unwrap().units().len();
    assert!(count > 0 && demuxer.peek(half).unwrap().units().len() == count);
    assert_eq!(format!("{demuxer:?}"), before);
}

/// A linear congruential generator (Knuth's MMIX constants): the same changes on every run.
struct Changes(u64);

impl Changes {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % bound as u64) as usize
    }

    /// A byte that differs, often at an edge.
    fn apply(&mut self, bytes: &mut [u8], head: usize) {
        let at = self.below(head.min(bytes.len()));
        bytes[at] = match self.below(5) {
            0 => 0,
            1 => 0xff,
            2 => bytes[at] ^ (1 << self.below(8)),
            3 => bytes[at].wrapping_add(1),
            _ => self.below(256) as u8,
        };
    }
}

#[test]
fn changed_bytes_never_hurt() {
    let mut changes = Changes(7);
    let mut limits = Limits::default();
    limits.max_samples = 500;
    let (mut with_units, mut without) = (0, 0);
    for folder in ["bframes_closed_gop_160x90", "box_layouts", "audio_in_fragments", "avc3_inband_only"] {
        let part = parts(&fixtures().join("hls").join(folder)).remove(0);
        for round in 0..4000 {
            let mut init = part.init.to_vec();
            let mut segment = part.segments[round % part.segments.len()].to_vec();
            // One change, then up to four; the boxes of a segment are at its start.
            for _ in 0..=round % 4 {
                if round % 3 == 0 {
                    changes.apply(&mut init, usize::MAX);
                } else {
                    changes.apply(&mut segment, 700);
                }
            }
            if round % 16 == 5 {
                segment = [init.clone(), segment].concat();
            }
            match demux_damaged(&init, Bytes::from(segment), &limits) {
                0 => without += 1,
                _ => with_units += 1,
            }
        }
    }
    // The changes neither miss everything nor hit the same place each time.
    assert!(with_units > 1000 && without > 1000, "{with_units} with units, {without} without");
}
