//! Segments and initialization segments built by hand: one rule of ISO 14496-12 each.

use bytes::Bytes;
use kvs_hls::fmp4::{Demuxer, InitSegment, ParseError};
use kvs_hls::{Error, ErrorKind, Limits};

use crate::build::*;

const IDR: u8 = 0x65;
const MOOF_BASE: u32 = 0x02_0000;

/// Decoding time, presentation time and size of each unit, and the error at the end.
type Outcome = (Vec<(i64, i64, usize)>, Option<String>);

fn push_all(
    init: &[u8],
    segments: &[Vec<u8>],
    limits: &Limits,
) -> (Vec<kvs_hls::h264::AccessUnit>, Option<ParseError>) {
    let mut demuxer = Demuxer::new(InitSegment::parse(init, limits).unwrap(), limits.clone());
    let mut units = Vec::new();
    for segment in segments {
        if let Err(error) = demuxer.push(Bytes::copy_from_slice(segment), &mut units) {
            return (units, Some(error));
        }
    }
    (units, None)
}

fn demux(init: &[u8], segments: &[Vec<u8>]) -> Outcome {
    let (units, error) = push_all(init, segments, &Limits::default());
    let seen = units.iter().map(|unit| (unit.dts().0, unit.pts().ticks(), unit.data().len())).collect();
    (seen, error.map(|error| error.to_string()))
}

/// Samples of these sizes.
fn data(sizes: &[usize]) -> Vec<Vec<u8>> {
    sizes.iter().map(|&size| sample(IDR, size, 4)).collect()
}

/// Two samples of 6 and 7 bytes and 40 ticks, from decoding time 100.
fn two_samples() -> Vec<u8> {
    fragment(&data(&[6, 7]), |at| {
        vec![traf(&[tfhd(1, MOOF_BASE, &[]), tfdt(100), trun(0, 0x301, 2, &[at, 40, 6, 40, 7])])]
    })
}

const TWO: [(i64, i64, usize); 2] = [(100, 100, 6), (140, 140, 7)];

#[track_caller]
fn assert_segment(segment: Vec<u8>, expected: &[(i64, i64, usize)]) {
    assert_eq!(demux(&plain_init(), &[segment]), (expected.to_vec(), None));
}

#[track_caller]
fn assert_defect(segment: Vec<u8>, units: usize, expected: &str) {
    let (seen, error) = demux(&plain_init(), &[segment]);
    assert_eq!(seen.len(), units);
    let error = error.expect("a defect");
    assert!(error.contains(expected), "{error}");
}

#[test]
fn rows_take_what_they_lack_from_tfhd_then_trex() {
    // Durations and sizes of the trun, of the tfhd, of the trex; flags and first_sample_flags in between are stepped over.
    let all = |at| trun(0, 0xf05, 2, &[at, 0xdead, 30, 6, 0xbeef, 5, 40, 6, 0xbeef, 0]);
    assert_segment(
        fragment(&data(&[6, 6]), |at| vec![traf(&[tfhd(1, MOOF_BASE | 0x18, &[9, 9]), all(at)])]),
        &[(0, 5, 6), (30, 30, 6)],
    );
    let from_tfhd = |at| vec![traf(&[tfhd(1, MOOF_BASE | 0x3a, &[1, 20, 6, 0]), trun(0, 1, 2, &[at])])];
    assert_segment(fragment(&data(&[6, 6]), from_tfhd), &[(0, 0, 6), (20, 20, 6)]);
    let init = moov(&[Trak::default()], &mvex([1, 1, 33, 7, 0]));
    let from_trex = fragment(&data(&[7, 7]), |at| vec![traf(&[tfhd(1, MOOF_BASE, &[]), trun(0, 1, 2, &[at])])]);
    assert_eq!(demux(&init, &[from_trex]), (vec![(0, 0, 7), (33, 33, 7)], None));
}

#[test]
fn composition_offsets_are_signed_in_both_versions() {
    for version in [0, 1] {
        let segment = fragment(&data(&[6, 6]), |at| {
            let run = trun(version, 0xb01, 2, &[at, 40, 6, 80, 40, 6, (-40_i32).cast_unsigned()]);
            vec![traf(&[tfhd(1, MOOF_BASE, &[]), tfdt(1000), run])]
        });
        assert_segment(segment, &[(1000, 1080, 6), (1040, 1000, 6)]);
    }
}

#[test]
fn data_offsets_count_from_what_the_flags_say() {
    let run = |at: u32| trun(0, 0x201, 1, &[at, 6]);
    // Neither flag in the first traf: the moof.
    assert_segment(fragment(&data(&[6]), |at| vec![traf(&[tfhd(1, 0, &[]), run(at)])]), &[(0, 0, 6)]);
    // An explicit base, here of the mdat's body, without and with an offset on top.
    assert_segment(
        fragment(&data(&[6]), |at| vec![traf(&[tfhd(1, 1, &[0, at]), trun(0, 0x200, 1, &[6])])]),
        &[(0, 0, 6)],
    );
    assert_segment(
        fragment(&data(&[9, 6]), |at| vec![traf(&[tfhd(1, 1, &[0, at]), trun(0, 0x201, 1, &[9, 6])])]),
        &[(0, 0, 6)],
    );
    // A position in a larger file, of which this segment was cut.
    assert_defect(
        fragment(&data(&[6]), |_| vec![traf(&[tfhd(1, 1, &[0, 70_000]), trun(0, 0x200, 1, &[6])])]),
        0,
        "at byte 70000 in mdat: sample of 6 bytes outside the media data (mdat)",
    );
    // The base of a later moof is its own start.
    let later = [two_samples(), fragment(&data(&[6]), |at| vec![traf(&[tfhd(1, MOOF_BASE, &[]), run(at)])])].concat();
    assert_segment(later, &[TWO[0], TWO[1], (180, 180, 6)]);
}

#[test]
fn second_traf_without_base_starts_where_the_first_ends() {
    // Audio first: 3 samples of 5 bytes, sizes by default, then 1 sample of 4 bytes by row.
    let audio = |at| traf(&[tfhd(2, 0x18, &[20, 5]), tfdt(0), trun(0, 0x001, 3, &[at]), trun(0, 0x200, 1, &[4])]);
    let video = traf(&[tfhd(1, 0, &[]), tfdt(7), trun(0, 0x200, 1, &[6])]);
    let init = moov(&[Trak { id: 2, handler: *b"soun", entries: vec![], ..Trak::default() }, Trak::default()], &[]);
    let mixed = fragment(&[vec![0; 19], sample(IDR, 6, 4)], |at| vec![audio(at), video.clone()]);
    assert_eq!(demux(&init, &[mixed]), (vec![(7, 7, 6)], None));
    // Damage in audio hurts only where video hangs on it.
    let broken_audio = || traf(&[tfhd(2, 0, &[]), trun(0, 0x200, 9, &[4])]);
    let free =
        fragment(&data(&[6]), |at| vec![broken_audio(), traf(&[tfhd(1, MOOF_BASE, &[]), trun(0, 0x201, 1, &[at, 6])])]);
    assert_eq!(demux(&init, &[free]).0, [(0, 0, 6)]);
    let bound = fragment(&data(&[6]), |_| vec![broken_audio(), video.clone()]);
    assert!(demux(&init, &[bound]).1.unwrap().contains("in moof/traf/trun: run of 9 samples described in 4 bytes"));
}

#[test]
fn several_runs_and_trafs_of_a_track_follow_each_other() {
    // The second run has no data offset; the third has its own, backwards.
    let runs = |at| {
        let tail = trun(0, 0x301, 1, &[at, 10, 8]);
        vec![traf(&[tfhd(1, MOOF_BASE, &[]), trun(0, 0x301, 1, &[at + 8, 10, 6]), trun(0, 0x300, 1, &[10, 7]), tail])]
    };
    assert_segment(fragment(&data(&[8, 6, 7]), runs), &[(0, 0, 6), (10, 10, 7), (20, 20, 8)]);
    // Two trafs: the second goes on in time and data, then with a time of its own.
    for (second, dts) in [(vec![], 50), (tfdt(900), 900)] {
        let trafs = |at| {
            let first = traf(&[tfhd(1, 0, &[]), tfdt(10), trun(0, 0x301, 1, &[at, 40, 6])]);
            vec![first, traf(&[tfhd(1, 0, &[]), second.clone(), trun(0, 0x300, 1, &[40, 7])])]
        };
        assert_segment(fragment(&data(&[6, 7]), trafs), &[(10, 10, 6), (dts, dts, 7)]);
    }
}

#[test]
fn boxes_around_and_between_are_skipped() {
    // An `sgpd` and a `saiz` that claim 2^32 entries, and boxes that nobody knows.
    let bombs = [
        full(b"sgpd", 0, 0, &[b"roll", &words(&[u32::MAX])]),
        full(b"saiz", 0, 0, &[&words(&[u32::MAX])]),
        boxed(b"\xff\0\x01z", &[&[1, 2, 3]]),
    ]
    .concat();
    let two = fragment(&data(&[6, 7]), |at| {
        let run = trun(0, 0x301, 2, &[at, 40, 6, 40, 7]);
        vec![traf(&[bombs.clone(), tfhd(1, MOOF_BASE, &[]), tfdt(100), run]), bombs.clone()]
    });
    let around = ["styp", "sidx", "emsg", "prft", "free", "uuid", "abcd"]
        .map(|kind| boxed(kind.as_bytes().first_chunk().unwrap(), &[&[0xff; 21]]))
        .concat();
    assert_segment([around.clone(), two, around.clone()].concat(), &TWO);
    // Between moof and mdat.
    let between = fragment(&data(&[6, 7]), |at| {
        let run = trun(0, 0x301, 2, &[at + 29 * 7, 40, 6, 40, 7]);
        vec![traf(&[tfhd(1, MOOF_BASE, &[]), tfdt(100), run])]
    });
    let mdat = between.len() - 21;
    assert_segment([&between[..mdat], &around, &between[mdat..]].concat(), &TWO);
}

#[test]
fn every_form_of_mdat_is_read() {
    let two = two_samples();
    let (moof, body) = (two[..two.len() - 21].to_vec(), &two[two.len() - 13..]);
    // Size 0: to the end of the segment.
    assert_segment([&moof, &[0, 0, 0, 0][..], b"mdat", body].concat(), &TWO);
    // Size 1: 64 bits follow.
    let large = fragment(&data(&[6, 7]), |at| {
        vec![traf(&[tfhd(1, MOOF_BASE, &[]), tfdt(100), trun(0, 0x301, 2, &[at + 8, 40, 6, 40, 7])])]
    });
    let moof64 = &large[..large.len() - 21];
    assert_segment([moof64, &words(&[1]), b"mdat", &words(&[0, 29]), body].concat(), &TWO);
    // In front of the moof, and split in two.
    let before = fragment(&[], |_| {
        let at = (-13_i32).cast_unsigned();
        vec![traf(&[tfhd(1, MOOF_BASE, &[]), tfdt(100), trun(0, 0x301, 2, &[at, 40, 6, 40, 7])])]
    });
    assert_segment([boxed(b"mdat", &[body]), before].concat(), &TWO);
    let split = fragment(&data(&[6]), |at| {
        let runs = [trun(0, 0x301, 1, &[at, 40, 6]), trun(0, 0x301, 1, &[at + 14, 40, 7])].concat();
        vec![traf(&[tfhd(1, MOOF_BASE, &[]), tfdt(100), runs])]
    });
    assert_segment([split.clone(), boxed(b"mdat", &[&body[6..]])].concat(), &TWO);
    // A sample across two of them would hold a box header.
    let across = [split, boxed(b"mdat", &[&body[6..]])].concat();
    let mut across = across;
    let size_field = across.windows(4).position(|window| window == b"mdat").unwrap() - 4 - 4;
    across[size_field..size_field + 4].copy_from_slice(&words(&[8])); // one byte more than the second body has
    assert_defect(across, 1, "sample of 8 bytes outside the media data (mdat)");
}

#[test]
fn decode_times_are_64_bits_and_carried_on() {
    let at_time = |version, time: &[u32]| {
        let tfdt = full(b"tfdt", version, 0, &[&words(time)]);
        fragment(&data(&[6]), |at| {
            vec![traf(&[tfhd(1, MOOF_BASE, &[]), tfdt.clone(), trun(0, 0x301, 1, &[at, 40, 6])])]
        })
    };
    let without = fragment(&data(&[6]), |at| vec![traf(&[tfhd(1, MOOF_BASE, &[]), trun(0, 0x301, 1, &[at, 40, 6])])]);
    // Milliseconds since 1970, and the segment after it without a time.
    let epoch = 1_741_944_413_589_i64;
    let words64 = [u32::try_from(epoch >> 32).unwrap(), (epoch & 0xffff_ffff) as u32];
    let units = demux(&plain_init(), &[at_time(1, &words64), without.clone()]);
    assert_eq!(units, (vec![(epoch, epoch, 6), (epoch + 40, epoch + 40, 6)], None));
    assert_segment(at_time(0, &[u32::MAX]), &[(u32::MAX.into(), u32::MAX.into(), 6)]);
    assert_segment(without, &[(0, 0, 6)]);
    assert_defect(at_time(1, &[0x8000_0000, 0]), 0, "in moof/traf/tfdt: time too large to be counted");
    assert_defect(at_time(1, &[0x7fff_ffff, 0xffff_fff0]), 1, "in moof/traf/trun: time too large to be counted");
    assert_defect(at_time(2, &[0, 0]), 0, "in moof/traf/tfdt: box of unknown version 2");
    let latest = full(b"tfdt", 1, 0, &[&words(&[0x7fff_ffff, u32::MAX])]);
    let cts = fragment(&data(&[6]), |at| {
        vec![traf(&[tfhd(1, MOOF_BASE, &[]), latest.clone(), trun(0, 0xa01, 1, &[at, 6, 1])])]
    });
    assert_defect(cts, 0, "time too large to be counted");
}

#[test]
fn empty_durations_and_empty_samples_take_time_only() {
    let hole = fragment(&[], |_| vec![traf(&[tfhd(1, 0x01_0008, &[500]), tfdt(100)])]);
    let next = fragment(&data(&[6, 7]), |at| {
        vec![traf(&[tfhd(1, MOOF_BASE, &[]), trun(0, 0x301, 3, &[at, 40, 6, 40, 0, 40, 7])])]
    });
    assert_eq!(demux(&plain_init(), &[hole, next]), (vec![(600, 600, 6), (680, 680, 7)], None));
}

#[test]
fn length_fields_of_one_and_two_bytes() {
    for length_size in [1, 2, 4] {
        let entries = vec![avc1(length_size)];
        let init = moov(&[Trak { entries, ..Trak::default() }], &[]);
        let samples = [IDR, 0x41, 0x01].map(|header| sample(header, 9, length_size.into()));
        let segment =
            fragment(&samples, |at| vec![traf(&[tfhd(1, MOOF_BASE | 0x18, &[40, 9]), trun(0, 0x001, 3, &[at])])]);
        let (units, error) = push_all(&init, &[segment], &Limits::default());
        assert!(error.is_none());
        assert_eq!(
            units.iter().map(|unit| (unit.is_idr(), unit.is_disposable())).collect::<Vec<_>>(),
            [(true, false), (false, false), (false, true)]
        );
    }
}

#[test]
fn sample_descriptions_are_chosen_by_index() {
    let entries = vec![avc1(4), visual(b"hvc1", &[]), avc1(2)];
    let track = Trak { entries, ..Trak::default() };
    // By the tfhd, else by the trex.
    for (trex, flags, fields) in [(1, MOOF_BASE | 2, &[3_u32][..]), (3, MOOF_BASE, &[])] {
        let init = moov(std::slice::from_ref(&track), &mvex([1, trex, 0, 0, 0]));
        let segment =
            fragment(&[sample(IDR, 6, 2)], |at| vec![traf(&[tfhd(1, flags, fields), trun(0, 0x201, 1, &[at, 6])])]);
        let (units, error) = push_all(&init, &[segment], &Limits::default());
        assert!(error.is_none());
        assert_eq!(units[0].config().length_size().bytes(), 2);
    }
    let init = moov(&[track], &[]);
    let with_index = |index| {
        fragment(&data(&[6]), |at| vec![traf(&[tfhd(1, MOOF_BASE | 2, &[index]), trun(0, 0x201, 1, &[at, 6])])])
    };
    let cases = [
        (0, "sample description 0 where 3 are defined"),
        (4, "sample description 4 where 3 are defined"),
        (2, "HEVC (H.265) video (hvc1), only H.264 (avc1, avc3) is supported"),
    ];
    for (index, expected) in cases {
        let error = demux(&init, &[with_index(index)]).1.unwrap();
        assert!(error.ends_with(expected), "{error}");
    }
}

#[test]
fn damaged_fragments_are_refused_without_effort() {
    let with =
        |header: Vec<u8>, runs: Vec<u8>| fragment(&data(&[6]), move |_| vec![traf(&[header.clone(), runs.clone()])]);
    let plain = || tfhd(1, MOOF_BASE | 0x18, &[40, 6]);
    let cases = [
        // Rows that are not there.
        (with(plain(), trun(0, 0x101, u32::MAX, &[0, 1])), "run of 4294967295 samples described in 4 bytes"),
        // Rows of no bytes: without a size, then with one.
        (with(tfhd(1, MOOF_BASE, &[]), trun(0, 0, 1000, &[])), "run of 1000 samples of size zero"),
        (with(plain(), trun(0, 0, u32::MAX, &[])), "more than max_samples (100000) allows"),
        (with(tfhd(9, 0, &[]), trun(0, 0, u32::MAX, &[])), "more than max_samples (100000) allows"),
        (with(plain(), trun(0, 1, 1, &[0x8000_0000])), "data offset outside the segment"),
        (with(plain(), trun(0, 0, 1, &[])), "sample of 6 bytes outside the media data (mdat)"),
        (with(plain(), trun(0, 1, 0, &[])), "in moof/traf/trun: box ends too early"),
        (with(boxed(b"free", &[]), trun(0, 1, 1, &[0])), "in moof/traf: box tfhd missing"),
        (with(plain(), words(&[0, u32::from_be_bytes(*b"trun")])), "in moof/traf/trun: box size of zero inside"),
        (with(plain(), words(&[3, u32::from_be_bytes(*b"trun")])), "in moof/traf/trun: box size of 3 bytes"),
        (with(tfhd(9, 0, &[]), vec![]), "data of track 9 only, where the initialization segment has video track 1"),
        (boxed(b"styp", &[b"msdh"]), "at byte 0: box moof missing"),
        (plain_init(), "movie (moov) without fragments (moof), a plain MP4 file"),
        (vec![], "at byte 0: empty body where MP4 was expected"),
        (b"<html>no</html>".to_vec(), "at byte 0: HTML or XML text where MP4 was expected"),
    ];
    for (segment, expected) in cases {
        assert_defect(segment, 0, expected);
    }
    // A thousand runs that all point at the same large sample.
    let bomb = fragment(&data(&[5000]), |at| {
        vec![traf(&[tfhd(1, MOOF_BASE, &[]), trun(0, 0x201, 1, &[at, 5000]).repeat(1000)])]
    });
    assert_defect(bomb, 5, "samples together larger than the segment");
    // A NAL unit longer than its sample, in the second of two.
    let bad_nal = fragment(&[sample(IDR, 6, 4), vec![0, 0, 0, 9, IDR]], |at| {
        vec![traf(&[tfhd(1, MOOF_BASE, &[]), trun(0, 0x201, 2, &[at, 6, 5])])]
    });
    let place = bad_nal.len() - 5;
    let (units, error) = push_all(&plain_init(), &[bad_nal], &Limits::default());
    assert_eq!(units.len(), 1);
    let error = error.unwrap();
    assert_eq!(error.to_string(), format!("at byte {place} in mdat: NAL unit 0: length of 9 bytes with 1 bytes left"));
    assert_eq!(Error::from(error).kind(), ErrorKind::Bitstream);
}

#[test]
fn limits_are_named() {
    let mut limits = Limits::default();
    limits.max_samples = 1;
    let (_, error) = push_all(&plain_init(), &[two_samples()], &limits);
    let error = Error::from(error.unwrap());
    assert_eq!(error.kind(), ErrorKind::Limit);
    limits = Limits::default();
    limits.max_segment_bytes = 50;
    let (_, error) = push_all(&plain_init(), &[two_samples()], &limits);
    assert!(error.unwrap().to_string().contains("more than max_segment_bytes (50) allows"));
    limits = Limits::default();
    limits.max_tracks = 1;
    let many = moov(&[Trak::default(), Trak::default()], &[]);
    assert!(InitSegment::parse(&many, &limits).unwrap_err().to_string().contains("more than max_tracks (1) allows"));
    limits.max_init_bytes = 100;
    let error = InitSegment::parse(&plain_init(), &limits).unwrap_err();
    assert!(error.to_string().contains("more than max_init_bytes (100) allows"));
}

#[test]
fn cut_segment_gives_the_samples_that_arrived() {
    let two = two_samples();
    for (cut, units) in [(1, 1), (7, 1), (8, 0), (13, 0), (14, 0), (21, 0), (30, 0)] {
        let (seen, error) = demux(&plain_init(), &[two[..two.len() - cut].to_vec()]);
        // At the end of the moof nothing shows that data is missing but the samples themselves.
        assert_eq!((seen.len(), error.is_some()), (units, true), "{cut} bytes cut: {error:?}");
    }
    let (_, error) = demux(&plain_init(), &[two[..two.len() - 1].to_vec()]);
    assert_eq!(error.unwrap(), format!("at byte {} in mdat: box of 21 bytes where 20 are left", two.len() - 21));
    // Rubbish behind a whole fragment costs no sample.
    let (seen, error) = demux(&plain_init(), &[[&two[..], &[0, 0, 0]].concat()]);
    assert_eq!((seen, error.is_some()), (TWO.to_vec(), true));
}

#[test]
fn segment_with_its_own_moov_changes_the_track() {
    let other = moov(&[Trak { timescale: 90_000, ..Trak::default() }], &[]);
    let init = InitSegment::parse(&[plain_init(), two_samples()].concat(), &Limits::default()).unwrap();
    let mut demuxer = Demuxer::new(init, Limits::default());
    let mut units = Vec::new();
    for init in [plain_init(), plain_init(), other] {
        demuxer.push(Bytes::from([init, two_samples()].concat()), &mut units).unwrap();
    }
    assert_eq!(
        units.iter().map(|unit| unit.pts().timescale().get()).collect::<Vec<_>>(),
        [1000, 1000, 1000, 1000, 90_000, 90_000]
    );
    // The same moov again keeps the configuration shared.
    assert!(std::sync::Arc::ptr_eq(units[0].config(), units[3].config()));
    assert_eq!(demuxer.track().timescale().get(), 90_000);
}

fn parse(traks: &[Trak], mvex: &[u8]) -> Result<InitSegment, String> {
    InitSegment::parse(&moov(traks, mvex), &Limits::default()).map_err(|error| error.to_string())
}

fn edts(version: u8, edits: &[(u64, i64)]) -> Vec<u8> {
    let rows = edits.iter().flat_map(|&(duration, time)| match version {
        0 => [&(duration as u32).to_be_bytes()[..], &(time as i32).to_be_bytes(), &[0, 1, 0, 0]].concat(),
        _ => [&duration.to_be_bytes()[..], &time.to_be_bytes(), &[0, 1, 0, 0]].concat(),
    });
    let count = u32::try_from(edits.len()).unwrap();
    boxed(b"edts", &[&full(b"elst", version, 0, &[&words(&[count]), &rows.collect::<Vec<_>>()])])
}

#[test]
fn edit_lists_shift_presentation() {
    // The movie counts 600 ticks a second, the track 1000: 90 ticks are 150.
    let cases: [(Vec<(u64, i64)>, i64); 6] = [
        (vec![], 0),
        (vec![(0, 80)], -80),
        (vec![(90, -1), (0, 80)], 70),
        (vec![(45, -1), (45, -1), (0, 0)], 150),
        (vec![(1, -1)], 2), // 1.67
        (vec![(0, 10), (600, -1), (0, 99)], -10),
    ];
    for version in [0, 1] {
        for (edits, shift) in &cases {
            let init = moov(&[Trak { edts: edts(version, edits), ..Trak::default() }], &[]);
            let (seen, error) = demux(&init, &[two_samples()]);
            assert_eq!((seen, error), (TWO.map(|(dts, pts, size)| (dts, pts + shift, size)).to_vec(), None));
        }
    }
    let defect = |edts| parse(&[Trak { edts, ..Trak::default() }], &[]).unwrap_err();
    assert!(defect(edts(1, &[(0, -5)])).ends_with("in moov/trak/edts/elst: media time of -5 in the edit list"));
    assert!(defect(edts(1, &[(u64::MAX, -1), (1, -1)])).ends_with("time too large to be counted"));
    assert!(defect(edts(1, &[(u64::MAX, -1)])).ends_with("time too large to be counted"));
    let bomb = boxed(b"edts", &[&full(b"elst", 0, 0, &[&words(&[u32::MAX])])]);
    assert!(defect(bomb).ends_with("count of 4294967295 entries that do not fit the box"));
}

#[test]
fn tracks_are_found_among_others() {
    let audio =
        Trak { id: 2, handler: *b"soun", entries: vec![boxed(b"mp4a", &[&[0; 28]])], timescale: 0, ..Trak::default() };
    let video = Trak { id: 7, version: 1, ..Trak::default() };
    let init = parse(&[audio.clone(), video.clone()], &[]).unwrap();
    let track = init.track();
    assert_eq!((track.id(), track.timescale().get(), &track.handler().0), (7, 1000, b"vide"));
    let entry = track.sample_entry();
    assert_eq!((entry.width(), entry.height(), entry.codec().to_string()), (64, 48, "avc1".into()));
    let listed: Vec<_> = init.tracks().iter().map(|track| (track.id, track.codec.unwrap().to_string())).collect();
    assert_eq!(listed, [(2, "mp4a".to_owned()), (7, "avc1".to_owned())]);
    // Of two video tracks the first that can be read.
    let hevc = Trak { id: 3, entries: vec![visual(b"hev1", &[])], ..Trak::default() };
    assert_eq!(parse(&[hevc, video.clone(), Trak::default()], &[]).unwrap().track().id(), 7);
    // avc3 without parameter sets.
    let avc3 = visual(b"avc3", &boxed(b"avcC", &[&empty_avcc()]));
    let in_band = parse(&[Trak { entries: vec![avc3], ..Trak::default() }], &[]).unwrap();
    assert_eq!(in_band.track().sample_entry().config().parameter_sets().count(), 0);
    // A size of 0 for the moov, boxes in front of it, and a fragment behind it.
    let mut to_the_end = plain_init();
    to_the_end[..4].fill(0);
    for bytes in [to_the_end, [boxed(b"styp", &[]), boxed(b"sidx", &[&[0; 40]]), plain_init(), two_samples()].concat()]
    {
        assert_eq!(InitSegment::parse(&bytes, &Limits::default()).unwrap().track().id(), 1);
    }
}

#[test]
fn initialization_that_cannot_be_used_says_why() {
    let video = |entries| Trak { entries, ..Trak::default() };
    let audio = Trak { handler: *b"soun", entries: vec![boxed(b"mp4a", &[&[0; 28]])], ..Trak::default() };
    let scheme = [boxed(b"frma", &[b"avc1"]), full(b"schm", 0, 0, &[b"cbcs", &words(&[0x1_0000])])].concat();
    let encrypted = visual(b"encv", &[boxed(b"avcC", &[&avcc(4)]), boxed(b"sinf", &[&scheme])].concat());
    let unsupported = [
        (video(vec![visual(b"hvc1", &[])]), "HEVC (H.265) video (hvc1), only H.264 (avc1, avc3) is supported"),
        (video(vec![visual(b"dvh1", &[])]), "Dolby Vision video (dvh1), only H.264 (avc1, avc3) is supported"),
        (video(vec![visual(b"av01", &[])]), "AV1 video (av01), only H.264 (avc1, avc3) is supported"),
        (video(vec![visual(b"zz\x1b[", &[])]), "unknown video (zz\\x1b[), only H.264 (avc1, avc3) is supported"),
        (video(vec![encrypted]), "encrypted video (encv, scheme cbcs, codec avc1)"),
        (video(vec![visual(b"encv", &[])]), "encrypted video (encv)"),
        (audio, "at byte 0 in moov: no video track, only audio (mp4a)"),
    ];
    for (trak, expected) in unsupported {
        let error = InitSegment::parse(&moov(&[trak], &[]), &Limits::default()).unwrap_err();
        assert!(error.to_string().ends_with(expected), "{error}");
        assert!(Error::from(error).is_unsupported());
    }
    let reserved_length = visual(b"avc1", &boxed(b"avcC", &[&avcc(3)]));
    let damaged = [
        (video(vec![]), "in moov/trak/mdia/minf/stbl/stsd: no sample description"),
        (video(vec![visual(b"avc1", &[])]), "in moov/trak/mdia/minf/stbl/stsd/avc1: box avcC missing"),
        (video(vec![boxed(b"avc1", &[&[0; 40]])]), "in moov/trak/mdia/minf/stbl/stsd/avc1: box ends too early"),
        (video(vec![reserved_length]), "NAL length size of 3 bytes (1, 2 or 4 are allowed)"),
        (Trak { timescale: 0, ..Trak::default() }, "in moov/trak/mdia/mdhd: timescale of zero"),
        (Trak { version: 2, ..Trak::default() }, "in moov/trak/tkhd: box of unknown version 2"),
    ];
    for (trak, expected) in damaged {
        let error = InitSegment::parse(&moov(&[trak], &[]), &Limits::default()).unwrap_err();
        assert!(error.to_string().ends_with(expected), "{error}");
        assert!(!Error::from(error).is_unsupported());
    }
    let mut nested_zero = plain_init();
    let tkhd = nested_zero.windows(4).position(|window| window == b"tkhd").unwrap();
    nested_zero[tkhd - 4..tkhd].fill(0);
    let bodies = [
        (moov(&[], &[]), "at byte 0 in moov: no tracks"),
        (nested_zero, "in moov/trak/tkhd: box size of zero inside another box"),
        (boxed(b"ftyp", &[b"isom"]), "at byte 0: box moov missing"),
        (two_samples(), "at byte 0 in moof: media fragment (moof) where an initialization segment was expected"),
        (plain_init()[..90].to_vec(), "bytes where 90 are left"),
        (b"#EXTM3U\n".to_vec(), "at byte 0: HLS playlist where MP4 was expected"),
        (vec![0, 0], "at byte 0: box header cut short after 2 bytes"),
    ];
    for (bytes, expected) in bodies {
        let error = InitSegment::parse(&bytes, &Limits::default()).unwrap_err().to_string();
        assert!(error.ends_with(expected), "{error}");
    }
}
