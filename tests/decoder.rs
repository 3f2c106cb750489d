//! The decoder and the lane where streams are unusual: samples without a picture, wrong times, a decoder that panics.

mod support;

#[allow(dead_code, reason = "shared with the demuxer's tests")]
#[path = "demux/recording.rs"]
mod recording;

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use kvs_hls::decode::{Openh264Decoder, Picture};
use kvs_hls::fmp4::{Demuxer, InitSegment};
use kvs_hls::h264::AccessUnit;
use kvs_hls::{Decoder, Error, Limits};
use support::{builder, chain, file_server, framemd5, read_all};

fn units(name: &str) -> Vec<AccessUnit> {
    let part = recording::parts(&recording::fixtures().join("hls").join(name)).remove(0);
    let init = InitSegment::parse(&part.init, &Limits::default()).unwrap();
    let mut demuxer = Demuxer::new(init, Limits::default());
    let mut units = Vec::new();
    part.segments.iter().for_each(|segment| demuxer.push(segment.clone(), &mut units).unwrap());
    units
}

/// The access unit with those of its NAL units that are slices, or with the others.
fn part(unit: &AccessUnit, slices: bool) -> AccessUnit {
    let mut data = BytesMut::new();
    for nal in unit.nal_units().filter(|nal| nal.is_slice() == slices) {
        data.put_u32(u32::try_from(nal.bytes().len()).unwrap());
        data.put_slice(nal.bytes());
    }
    AccessUnit::new(data.freeze(), unit.config().clone(), unit.pts(), unit.dts(), unit.duration_ticks()).unwrap()
}

#[test]
fn parameter_sets_in_a_sample_of_their_own_reach_the_decoder() {
    // All its parameter sets are in the samples.
    let units = units("avc3_inband_only");
    let mut decoder = Openh264Decoder::new(Limits::default());
    let mut pictures = 0;
    for unit in &units {
        if unit.is_idr() {
            let sets = part(unit, false);
            assert!(!sets.has_picture());
            decoder.decode(&sets, &mut |_| panic!("a picture of parameter sets")).unwrap();
        }
        decoder.decode(&part(unit, true), &mut |_| pictures += 1).unwrap();
    }
    assert_eq!(pictures, units.len());
}

/// A slice header's first fields as Exp-Golomb codes (H.264 §9.1), and some bytes behind them.
fn slice(nal_header: u8, fields: &[u32]) -> Vec<u8> {
    let mut bits = String::new();
    for field in fields {
        let code = format!("{:b}", field + 1);
        bits += &"0".repeat(code.len() - 1);
        bits += &code;
    }
    bits += &"1".repeat(64 - bits.len() % 8);
    let bytes =
        bits.as_bytes().chunks(8).map(|byte| u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap());
    std::iter::once(nal_header).chain(bytes).collect()
}

#[test]
fn slices_that_make_no_sense_never_reach_the_native_decoder() {
    let units = units("baseline_640x360");
    let (idr, next) = (&units[0], &units[1]);
    for (nal, reason) in [
        (slice(0x65, &[920, 7, 0]), "slice from macroblock 920 on of a picture that has 920"),
        (slice(0x41, &[u32::MAX - 2, 5, 0]), "slice from macroblock 4294967293 on of a picture that has 920"),
        (slice(0x65, &[0, 5, 0]), "slice of NAL unit type 5 with a damaged header"), // P in an IDR picture
        (slice(0x41, &[0, 3, 0]), "slice of NAL unit type 1 with a damaged header"), // SP
        (slice(0x41, &[0, 10, 0]), "slice of NAL unit type 1 with a damaged header"),
        (slice(0x42, &[0, 0, 0]), "slice of NAL unit type 2 with a damaged header"), // data partition A
        (slice(0x41, &[0, 0, 7]), "slice that refers to parameter sets that never came"),
        (slice(0x41, &[0, 0, 256]), "slice of NAL unit type 1 with a damaged header"),
        (vec![0x41], "slice of NAL unit type 1 with a damaged header"),
    ] {
        let mut decoder = Openh264Decoder::new(Limits::default());
        decoder.decode(idr, &mut |_| ()).unwrap();
        let mut data = BytesMut::new();
        data.put_u32(u32::try_from(nal.len()).unwrap());
        data.put_slice(&nal);
        let unit = AccessUnit::new(data.freeze(), idr.config().clone(), next.pts(), next.dts(), 1).unwrap();
        let error = decoder.decode(&unit, &mut |_| panic!("a picture")).unwrap_err();
        assert!(error.to_string().contains(reason), "{error} where {reason}");
    }
}

/// Panics at the n-th access unit, once.
struct Brittle {
    decoder: Openh264Decoder,
    until: u32,
}

impl Decoder for Brittle {
    fn decode(&mut self, unit: &AccessUnit, out: &mut dyn FnMut(Picture<'_>)) -> Result<(), Error> {
        self.until = self.until.wrapping_sub(1);
        assert_ne!(self.until, 0, "as a decoder with a mistake would");
        self.decoder.decode(unit, out)
    }

    fn drain(&mut self, out: &mut dyn FnMut(Picture<'_>)) -> Result<(), Error> {
        assert!(self.until > 1000, "and another mistake at the end");
        self.decoder.drain(out)
    }

    fn reset(&mut self) {
        self.decoder.reset();
    }
}

#[tokio::test]
async fn a_decoder_that_panics_costs_a_segment_and_no_more() {
    let server = file_server().await;
    let url = format!("{}/hls/baseline_640x360/index.m3u8", server.uri());
    let frames = framemd5(&recording::fixtures().join("hls/baseline_640x360/expected.framemd5")).len();
    // In the second segment of three, in the last one, and never but at the end.
    for (until, expected) in [(30, frames - 21), (60, frames - 16), (500, frames)] {
        let make = move |limits: &Limits| {
            Box::new(Brittle { decoder: Openh264Decoder::new(limits.clone()), until }) as Box<dyn Decoder>
        };
        let source = builder(&url).decoder(make).decode_ahead(1).build().unwrap();
        let read = tokio::time::timeout(Duration::from_secs(20), read_all(&source));
        let (frames, error) = read.await.expect("an end");
        assert!(error.is_none(), "{}", chain(&error.unwrap()));
        assert_eq!(frames.len(), expected, "panic at {until}: {:?}", source.stats());
    }
}
