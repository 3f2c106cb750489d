//! Fragmented MP4 (ISO 14496-12 §8.8), written.

use bytes::Bytes;
use mp4_atom::{
    Avc1, Avcc, AvccExt, Codec, Dinf, Dref, DrefEntry, Encode, FourCC, Ftyp, Hdlr, Mdat, Mdhd, Mdia, Mfhd, Minf, Moof,
    Moov, Mvex, Mvhd, Stbl, Stsd, Tfdt, Tfhd, Tkhd, Traf, Trak, Trex, Trun, TrunEntry, TrunSamples, Url, Visual, Vmhd,
};

use super::samples::{Sample, Track};
use crate::error::{Error, ErrorKind};

/// The track's number, also in `TrackNumber=` of the URLs.
pub(super) const TRACK_ID: u32 = 1;
/// Sample flags (§8.8.3.1): depends on no other, is a sync sample.
const SYNC: u32 = 0x0200_0000;
/// Depends on others, is no sync sample.
const NON_SYNC: u32 = 0x0101_0000;
/// Size of the header in front of the samples: 32-bit size and `mdat`.
const MDAT_HEADER: usize = 8;

fn unwritable(error: mp4_atom::Error) -> Error {
    Error::new(ErrorKind::Container, "recording that fits into no fragment").with_source(error)
}

fn too_large<T>(_: T) -> Error {
    Error::new(ErrorKind::Container, "recording with pictures too large for a fragment")
}

/// `ftyp` and `moov`: one track, no samples.
pub(super) fn init(track: &Track) -> Result<Bytes, Error> {
    let format = &track.format;
    let width = u16::try_from(format.width).map_err(too_large)?;
    let height = u16::try_from(format.height).map_err(too_large)?;
    let avcc = Avcc {
        configuration_version: 1,
        avc_profile_indication: format.profile_idc,
        profile_compatibility: format.constraint_flags,
        avc_level_indication: format.level_idc,
        length_size: u8::try_from(track.length_size.bytes()).map_err(too_large)?,
        sequence_parameter_sets: track.sps.clone(),
        picture_parameter_sets: track.pps.clone(),
        // ISO 14496-15 §5.3.3.1.2: these profiles, and no others, have the extension.
        ext: matches!(format.profile_idc, 100 | 110 | 122 | 144).then(|| AvccExt {
            chroma_format: format.chroma_format_idc,
            bit_depth_luma: format.luma_bit_depth,
            bit_depth_chroma: format.chroma_bit_depth,
            sequence_parameter_sets_ext: vec![],
        }),
    };
    let visual = Visual { data_reference_index: 1, width, height, ..Visual::default() };
    let avc1 = Avc1 { visual, avcc, ..Avc1::default() };
    let media = Mdia {
        mdhd: Mdhd { timescale: track.timescale.get(), language: "und".into(), ..Mdhd::default() },
        hdlr: Hdlr { handler: FourCC::new(b"vide"), name: "video".into() },
        minf: Minf {
            vmhd: Some(Vmhd::default()),
            dinf: Dinf { dref: Dref { entries: vec![DrefEntry::Url(Url::default())] } },
            stbl: Stbl { stsd: Stsd { codecs: vec![Codec::Avc1(avc1)] }, ..Stbl::default() },
            ..Minf::default()
        },
    };
    let tkhd = Tkhd {
        track_id: TRACK_ID,
        enabled: true,
        in_movie: true,
        width: width.into(),
        height: height.into(),
        ..Tkhd::default()
    };
    let trex = Trex { track_id: TRACK_ID, default_sample_description_index: 1, ..Trex::default() };
    let movie = Moov {
        mvhd: Mvhd { timescale: 1000, next_track_id: TRACK_ID + 1, ..Mvhd::default() },
        mvex: Some(Mvex { mehd: None, trex: vec![trex] }),
        trak: vec![Trak { tkhd, mdia: media, ..Trak::default() }],
        ..Moov::default()
    };
    // `iso5` is the first brand with default-base-is-moof.
    let brand = |name| FourCC::new(name);
    let file_type = Ftyp {
        major_brand: brand(b"iso5"),
        minor_version: 1,
        compatible_brands: vec![brand(b"iso5"), brand(b"iso6"), brand(b"mp41")],
    };
    let mut out = Vec::new();
    file_type.encode(&mut out).map_err(unwritable)?;
    movie.encode(&mut out).map_err(unwritable)?;
    Ok(out.into())
}

/// One `moof` and its `mdat`. `decode_time` goes into a 64-bit `tfdt`, in ticks.
pub(super) fn media(samples: &[Sample], sequence_number: u32, decode_time: u64) -> Result<Bytes, Error> {
    let entries = samples.iter().map(|sample| {
        Ok(TrunEntry {
            duration: Some(sample.duration),
            size: Some(u32::try_from(sample.data.len()).map_err(too_large)?),
            flags: Some(if sample.is_idr { SYNC } else { NON_SYNC }),
            // Offsets are written only where one is not zero, as muxers do.
            cts: samples.iter().any(|s| s.composition_offset != 0).then_some(i64::from(sample.composition_offset)),
        })
    });
    let mut run = Trun { data_offset: Some(0), samples: TrunSamples::Explicit(entries.collect::<Result<_, Error>>()?) };
    let fragment = |run: &Trun| Moof {
        mfhd: Mfhd { sequence_number },
        traf: vec![Traf {
            tfhd: Tfhd { track_id: TRACK_ID, default_base_is_moof: true, ..Tfhd::default() },
            tfdt: Some(Tfdt { base_media_decode_time: decode_time }),
            trun: vec![run.clone()],
            ..Traf::default()
        }],
    };
    // The offset counts from the start of the moof, whose size does not depend on its value.
    let mut out = Vec::new();
    fragment(&run).encode(&mut out).map_err(unwritable)?;
    run.data_offset = Some(i32::try_from(out.len() + MDAT_HEADER).map_err(too_large)?);
    out.clear();
    fragment(&run).encode(&mut out).map_err(unwritable)?;
    let data = samples.iter().flat_map(|sample| sample.data.iter().copied()).collect();
    Mdat { data }.encode(&mut out).map_err(unwritable)?;
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use mp4_atom::{Any, DecodeMaybe};

    use super::super::Recording;
    use super::*;
    use crate::h264::AvcConfig;

    const BFRAMES: &[u8] = include_bytes!("../../fixtures/camera_bframes.mp4");

    fn boxes(bytes: &Bytes) -> Vec<Any> {
        let mut rest = bytes.as_ref();
        let mut boxes = vec![];
        while let Some(any) = Any::decode_maybe(&mut rest).unwrap() {
            boxes.push(any);
        }
        assert!(rest.is_empty());
        boxes
    }

    #[test]
    fn init_describes_the_one_track() {
        for recording in [Recording::demo(), Recording::from_mp4(BFRAMES).unwrap()] {
            let [Any::Ftyp(_), Any::Moov(movie)] = &boxes(&init(recording.track()).unwrap())[..] else { panic!() };
            let [track] = &movie.trak[..] else { panic!("{} tracks", movie.trak.len()) };
            assert_eq!(track.mdia.mdhd.timescale, recording.timescale().get());
            assert_eq!(movie.mvex.as_ref().unwrap().trex[0].track_id, track.tkhd.track_id);
            let [Codec::Avc1(avc1)] = &track.mdia.minf.stbl.stsd.codecs[..] else { panic!() };
            assert_eq!((avc1.visual.width, avc1.visual.height), (640, 360));
            assert_eq!(avc1.avcc.ext.is_some(), avc1.avcc.avc_profile_indication == 100);
            let mut record = vec![];
            avc1.avcc.encode(&mut record).unwrap();
            let config = AvcConfig::parse(&Bytes::from(record).slice(8..)).unwrap();
            assert_eq!(config.sps().unwrap().unwrap(), recording.track().format);
        }
    }

    #[test]
    fn samples_lie_where_the_run_says() {
        let recording = Recording::from_mp4(BFRAMES).unwrap();
        let cut = &recording.cuts()[1];
        let samples = recording.samples_of(cut);
        let decode_time = (1 << 40) + cut.start;
        let bytes = media(samples, 7, decode_time).unwrap();
        let [Any::Moof(fragment), Any::Mdat(_)] = &boxes(&bytes)[..] else { panic!() };
        assert_eq!(fragment.mfhd.sequence_number, 7);
        let track = &fragment.traf[0];
        assert_eq!(track.tfdt.as_ref().unwrap().base_media_decode_time, decode_time);
        let [run] = &track.trun[..] else { panic!() };
        let mut at = run.data_offset.unwrap() as usize;
        assert_eq!(run.samples.len(), 15);
        for (index, (entry, sample)) in run.samples.iter().zip(samples).enumerate() {
            let size = entry.size.unwrap() as usize;
            assert_eq!(bytes.slice(at..at + size), sample.data);
            assert_eq!(entry.cts, Some(i64::from(sample.composition_offset)));
            assert_eq!(entry.flags, Some(if index == 0 { SYNC } else { NON_SYNC }));
            assert_eq!(entry.duration, Some(1024));
            at += size;
        }
        assert_eq!(at, bytes.len());
        // Decoding order: IDR, P, B, B; in ticks of one frame after the reorder delay of two.
        let shown: Vec<_> = (0..).zip(run.samples.iter()).take(4).map(|(i, e)| i + e.cts.unwrap() / 1024 - 2).collect();
        assert_eq!(shown, [0, 3, 1, 2]);
    }

    #[test]
    fn recording_without_b_frames_has_no_composition_offsets() {
        let recording = Recording::demo();
        let bytes = media(recording.samples_of(&recording.cuts()[0]), 1, 0).unwrap();
        let [Any::Moof(fragment), _] = &boxes(&bytes)[..] else { panic!() };
        assert!(fragment.traf[0].trun[0].samples.iter().all(|entry| entry.cts.is_none()));
    }
}
