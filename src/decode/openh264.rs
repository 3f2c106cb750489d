//! The openh264 decoder; no other file names it.
//!
//! What its ways ask of us:
//! - It orders the pictures of Main and High streams by a heuristic and holds some back. Parameter sets are handed to it
//!   [rewritten](Sps::for_openh264), which makes every picture come out of the call that its access unit goes in
//!   with, so times cannot be mixed up and no flush is needed.
//! - It answers an unsupported profile with silence and errors later on, so parameter sets are checked first.
//! - Its threads crash; one decoder is one thread.

use openh264::OpenH264API;
use openh264::decoder::{DecodedYUV, Decoder as Native, DecoderConfig, Flush};
use openh264::formats::YUVSource;
use std::sync::Arc;

use super::{ColorSpace, Decoder, Picture};
use crate::error::{Error, ErrorKind};
use crate::h264::{AccessUnit, AvcConfig, NalUnit, PictureParameterSet, SliceHeader, Sps, nal_type};
use crate::limits::Limits;
use crate::time::Pts;

const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// Decodes with openh264: progressive 8-bit 4:2:0 or monochrome, Baseline to High profile.
pub struct Openh264Decoder {
    native: Option<Native>,
    limits: Limits,
    /// The configuration whose parameter sets the decoder has.
    config: Option<Arc<AvcConfig>>,
    /// The sequence parameter sets that the decoder has, one for each id.
    known: Vec<Known>,
    /// The sequence parameter set that each picture parameter set refers to.
    sps_ids: [Option<u8>; 256],
    /// One access unit with start codes, used again for each.
    annex_b: Vec<u8>,
    /// The chroma of monochrome pictures, which openh264 leaves at zero after the first.
    neutral: Vec<u8>,
}

/// A sequence parameter set: cameras repeat theirs with each IDR picture.
struct Known {
    sps: Sps,
    /// As it came.
    nal: Vec<u8>,
    /// As it is handed on.
    rewritten: Vec<u8>,
}

impl std::fmt::Debug for Openh264Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Openh264Decoder").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Openh264Decoder {
    /// A decoder that refuses pictures larger than the limits allow. It takes memory when the first picture comes.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            native: None,
            limits,
            config: None,
            known: Vec::new(),
            sps_ids: [None; 256],
            annex_b: Vec::new(),
            neutral: Vec::new(),
        }
    }

    /// Writes the access unit with start codes, its out-of-band parameter sets first where the decoder lacks them.
    /// Answers the parameter set of its picture, if it has one.
    fn write_annex_b(&mut self, unit: &AccessUnit) -> Result<Option<&Sps>, Error> {
        self.annex_b.clear();
        if !self.config.as_ref().is_some_and(|known| Arc::ptr_eq(known, unit.config()) || known == unit.config()) {
            for nal in unit.config().parameter_sets().filter_map(|set| NalUnit::new(set)) {
                self.write_nal(nal)?;
            }
        }
        for nal in unit.nal_units() {
            self.write_nal(nal)?;
        }
        self.config = Some(unit.config().clone());
        let mut active = None;
        for nal in unit.nal_units().filter(|nal| nal.is_slice()) {
            active = Some(self.checked_slice(nal)?);
        }
        Ok(active)
    }

    /// The sequence parameter set of a slice whose header makes sense: the native decoder is not to meet any other.
    fn checked_slice(&self, nal: NalUnit<'_>) -> Result<&Sps, Error> {
        let damaged = |what: String| Error::new(ErrorKind::Bitstream, what);
        let header = SliceHeader::parse(nal).filter(|header| header.is_kind_of(nal));
        let header =
            header.ok_or_else(|| damaged(format!("slice of NAL unit type {} with a damaged header", nal.kind())))?;
        let sps_id = self.sps_ids.get(usize::from(header.pps_id)).copied().flatten();
        let known = self.known.iter().find(|known| Some(known.sps.id) == sps_id);
        let sps = &known.ok_or_else(|| damaged("slice that refers to parameter sets that never came".into()))?.sps;
        let macroblocks = sps.coded_width / 16 * (sps.coded_height / 16);
        if header.first_macroblock >= macroblocks {
            let first = header.first_macroblock;
            return Err(damaged(format!("slice from macroblock {first} on of a picture that has {macroblocks}")));
        }
        Ok(sps)
    }

    /// Appends a NAL unit that the decoder needs; the others (SEI, delimiters, filler, extensions) are left out.
    fn write_nal(&mut self, nal: NalUnit<'_>) -> Result<(), Error> {
        let bytes = match nal.kind() {
            nal_type::SPS => return self.write_sps(nal.bytes()),
            nal_type::PPS => {
                let pps = PictureParameterSet::parse(nal)
                    .ok_or_else(|| Error::new(ErrorKind::Bitstream, "picture parameter set that is damaged"))?;
                if let Some(sps_id) = self.sps_ids.get_mut(usize::from(pps.id)) {
                    *sps_id = Some(pps.sps_id);
                }
                nal.bytes()
            }
            nal_type::SLICE..=nal_type::IDR_SLICE => nal.bytes(),
            _ => return Ok(()),
        };
        self.append(bytes);
        Ok(())
    }

    fn write_sps(&mut self, nal: &[u8]) -> Result<(), Error> {
        let index = match self.known.iter().position(|known| known.nal == nal) {
            Some(index) => index,
            None => {
                let sps = Sps::parse(nal)?;
                sps.check_supported(&self.limits)?;
                let rewritten = sps.for_openh264(nal).unwrap_or_else(|| nal.to_vec());
                self.known.retain(|known| known.sps.id != sps.id);
                self.known.push(Known { sps, nal: nal.to_vec(), rewritten });
                self.known.len() - 1
            }
        };
        if let Some(known) = self.known.get(index) {
            self.annex_b.extend_from_slice(&START_CODE);
            self.annex_b.extend_from_slice(&known.rewritten);
        }
        Ok(())
    }

    fn append(&mut self, nal: &[u8]) {
        self.annex_b.extend_from_slice(&START_CODE);
        self.annex_b.extend_from_slice(nal);
        // §7.4.1 forbids a zero byte at the end, cameras send them all the same, and openh264 stumbles over them.
        while self.annex_b.last() == Some(&0) {
            self.annex_b.pop();
        }
    }
}

impl Decoder for Openh264Decoder {
    fn decode(&mut self, unit: &AccessUnit, out: &mut dyn FnMut(Picture<'_>)) -> Result<(), Error> {
        let mut native = match self.native.take() {
            Some(native) => native,
            None => new_native()?,
        };
        let Some(sps) = self.write_annex_b(unit)?.cloned() else {
            if !self.annex_b.is_empty() {
                // Parameter sets alone: the decoder keeps them, and has no picture to give.
                let _ = native.decode(&self.annex_b);
            }
            self.native = Some(native);
            return Ok(());
        };
        let decoded = native
            .decode(&self.annex_b)
            .map_err(|error| Error::new(ErrorKind::Decoder, "access unit refused by the decoder").with_source(error))?;
        let picture = decoded.ok_or_else(|| {
            Error::new(ErrorKind::Decoder, "no picture came out of an access unit: slices are missing")
        })?;
        let mut picture = cropped(&picture, &sps, unit.pts())?;
        if sps.chroma_format_idc == 0 {
            self.neutral.resize(picture.strides[1] * picture.height.div_ceil(2), 128);
            picture.planes = [picture.planes[0], &self.neutral, &self.neutral];
        }
        out(picture);
        self.native = Some(native);
        Ok(())
    }

    fn drain(&mut self, _out: &mut dyn FnMut(Picture<'_>)) -> Result<(), Error> {
        Ok(()) // each picture left with its access unit
    }

    fn reset(&mut self) {
        *self = Self::new(self.limits.clone());
    }
}

/// The part of the decoder's picture that is to be shown, H.264 §7.4.2.1.1.
fn cropped<'a>(picture: &'a DecodedYUV<'_>, sps: &Sps, pts: Pts) -> Result<Picture<'a>, Error> {
    let (luma_stride, chroma_stride, _) = picture.strides();
    let (left, top) = (sps.crop_left as usize, sps.crop_top as usize);
    let planes = [
        picture.y().get(top * luma_stride + left..),
        picture.u().get(top / 2 * chroma_stride + left / 2..),
        picture.v().get(top / 2 * chroma_stride + left / 2..),
    ];
    let (width, height) = picture.dimensions();
    match planes {
        [Some(y), Some(u), Some(v)] if (width, height) == (sps.coded_width as usize, sps.coded_height as usize) => {
            Ok(Picture {
                planes: [y, u, v],
                strides: [luma_stride, chroma_stride],
                width: sps.width as usize,
                height: sps.height as usize,
                color: ColorSpace::of(sps),
                sample_aspect_ratio: sps.sample_aspect_ratio,
                pts,
            })
        }
        _ => Err(Error::new(
            ErrorKind::Decoder,
            format!("picture of {width} x {height} where {} x {} were coded", sps.coded_width, sps.coded_height),
        )),
    }
}

fn new_native() -> Result<Native, Error> {
    let config = DecoderConfig::new().flush_after_decode(Flush::NoFlush);
    Native::with_api_config(OpenH264API::from_source(), config)
        .map_err(|error| Error::new(ErrorKind::Decoder, "decoder that cannot be started").with_source(error))
}
