//! Sequence parameter sets, H.264 §7.3.2.1.1 and annex E.

use std::ops::Range;

use super::bits::{BitReader, BitWriter};
use super::{Defect, ParseError};
use crate::error::{Error, ErrorKind};
use crate::limits::Limits;

/// What a sequence parameter set says about the pictures that refer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sps {
    /// `profile_idc`: 66 Baseline, 77 Main, 100 High, 110 High 10, 122 High 4:2:2, 244 High 4:4:4.
    pub profile_idc: u8,
    /// The constraint flags as they stand in the byte after `profile_idc`.
    pub constraint_flags: u8,
    /// `level_idc`: ten times the level.
    pub level_idc: u8,
    /// `seq_parameter_set_id`, 0 to 31.
    pub id: u8,
    /// `chroma_format_idc`: 0 monochrome, 1 4:2:0, 2 4:2:2, 3 4:4:4.
    pub chroma_format_idc: u8,
    /// Bits of a luma sample.
    pub luma_bit_depth: u8,
    /// Bits of a chroma sample.
    pub chroma_bit_depth: u8,
    /// Whether lossless macroblocks may occur (`qpprime_y_zero_transform_bypass_flag`).
    pub is_lossless_allowed: bool,
    /// `max_num_ref_frames`.
    pub max_ref_frames: u8,
    /// Width of the coded picture in pixels, a multiple of 16.
    pub coded_width: u32,
    /// Height of the coded picture in pixels.
    pub coded_height: u32,
    /// Width in pixels after cropping.
    pub width: u32,
    /// Height in pixels after cropping.
    pub height: u32,
    /// Pixels of the coded picture left of the cropped one.
    pub crop_left: u32,
    /// Rows of the coded picture above the cropped one.
    pub crop_top: u32,
    /// Where the cropping flag and its offsets stand, in bits of the payload.
    crop_fields: Range<usize>,
    pub(super) slice_fields: SliceFields,
    /// False when fields or macroblock-adaptive frame/field coding may occur: interlaced video.
    pub is_progressive: bool,
    /// Width and height of a pixel, where stated.
    pub sample_aspect_ratio: Option<(u16, u16)>,
    /// Whether samples use the full range 0–255, where stated.
    pub is_full_range: Option<bool>,
    /// `matrix_coefficients` (table E-5), where stated: 1 BT.709, 5 and 6 BT.601, 9 BT.2020.
    pub matrix_coefficients: Option<u8>,
    /// `time_scale` and `num_units_in_tick`, where stated: two ticks are a frame.
    pub timing: Option<(u32, u32)>,
    /// `max_num_reorder_frames`, where stated: how many pictures may precede another one in decoding order and follow
    /// it in display order.
    pub max_reorder_frames: Option<u8>,
}

/// What slice headers look like, up to the picture order count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SliceFields {
    pub(super) has_separate_planes: bool,
    pub(super) frame_num_bits: u8,
    /// `None` for the types of picture order count that do without it.
    pub(super) poc_lsb_bits: Option<u8>,
}

/// The profiles whose parameter sets hold chroma format, bit depths and scaling lists.
fn has_chroma_fields(profile_idc: u8) -> bool {
    matches!(profile_idc, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135)
}

/// MaxDpbMbs of level 5.2, H.264 table A-1: the highest that our largest picture may have.
const MAX_DPB_MACROBLOCKS: u32 = 184_320;

impl Sps {
    /// Parses a NAL unit of type 7, header byte included.
    ///
    /// # Errors
    /// When the NAL unit is truncated or holds values that the standard does not allow.
    pub fn parse(nal: &[u8]) -> Result<Self, ParseError> {
        let payload = match nal.split_first() {
            Some((header, payload)) if header & 0x1f == 7 => payload,
            _ => return Err(Defect::NotASps.into()),
        };
        Self::read(&mut BitReader::new(payload)).ok_or(Defect::TruncatedSps)?.map_err(ParseError::from)
    }

    /// `None` at the end of the data, an error for values out of range.
    fn read(r: &mut BitReader<'_>) -> Option<Result<Self, Defect>> {
        let profile_idc = r.bits(8)? as u8;
        let constraint_flags = r.bits(8)? as u8;
        let level_idc = r.bits(8)? as u8;
        let id = r.ue()?;
        let (mut chroma_format_idc, mut luma_bit_depth, mut chroma_bit_depth) = (1, 8, 8);
        let mut separate_planes = false;
        let mut is_lossless_allowed = false;
        if has_chroma_fields(profile_idc) {
            chroma_format_idc = r.ue()?;
            if chroma_format_idc == 3 {
                separate_planes = r.bit()?;
            }
            luma_bit_depth = r.ue()?.saturating_add(8);
            chroma_bit_depth = r.ue()?.saturating_add(8);
            is_lossless_allowed = r.bit()?;
            if r.bit()? {
                for list in 0..if chroma_format_idc == 3 { 12 } else { 8 } {
                    if r.bit()? {
                        skip_scaling_list(r, if list < 6 { 16 } else { 64 })?;
                    }
                }
            }
        }
        let log2_max_frame_num = r.ue()?.saturating_add(4);
        let poc_type = r.ue()?;
        let mut log2_max_poc_lsb = 4;
        match poc_type {
            0 => log2_max_poc_lsb = r.ue()?.saturating_add(4),
            1 => {
                r.bit()?;
                r.se()?;
                r.se()?;
                let cycle = r.ue()?;
                if cycle > 255 {
                    return Some(Err(Defect::SpsValue("num_ref_frames_in_pic_order_cnt_cycle", cycle)));
                }
                for _ in 0..cycle {
                    r.se()?;
                }
            }
            _ => {}
        }
        let max_ref_frames = r.ue()?;
        r.bit()?; // gaps_in_frame_num_value_allowed_flag
        let width_mbs = u64::from(r.ue()?) + 1;
        let height_units = u64::from(r.ue()?) + 1;
        let is_progressive = r.bit()?;
        if !is_progressive {
            r.bit()?; // mb_adaptive_frame_field_flag
        }
        r.bit()?; // direct_8x8_inference_flag
        let crop_start = r.position();
        let crop = if r.bit()? { [r.ue()?, r.ue()?, r.ue()?, r.ue()?] } else { [0; 4] };
        let crop_fields = crop_start..r.position();

        // Table A-1: no level allows a side of more than sqrt(8 * 139264) macroblocks; far more is damage.
        for (name, value, max) in [
            ("seq_parameter_set_id", u64::from(id), 31),
            ("chroma_format_idc", u64::from(chroma_format_idc), 3),
            ("bit_depth_luma", u64::from(luma_bit_depth), 14),
            ("bit_depth_chroma", u64::from(chroma_bit_depth), 14),
            ("log2_max_frame_num", u64::from(log2_max_frame_num), 16),
            ("pic_order_cnt_type", u64::from(poc_type), 2),
            ("log2_max_pic_order_cnt_lsb", u64::from(log2_max_poc_lsb), 16),
            ("max_num_ref_frames", u64::from(max_ref_frames), 16),
            ("pic_width_in_mbs", width_mbs, 1055),
            ("pic_height_in_map_units", height_units, 1055),
        ] {
            if value > max {
                return Some(Err(Defect::SpsValue(name, u32::try_from(value).unwrap_or(u32::MAX))));
            }
        }
        let coded_width = width_mbs as u32 * 16;
        let coded_height = height_units as u32 * if is_progressive { 16 } else { 32 };
        // §7.4.2.1.1: cropping counts in units of chroma samples, doubled vertically for fields.
        let array_type = if separate_planes { 0 } else { chroma_format_idc };
        let unit_x = if matches!(array_type, 1 | 2) { 2 } else { 1 };
        let unit_y = if array_type == 1 { 2 } else { 1 } * if is_progressive { 1 } else { 2 };
        let cropped = |size: u32, unit: u32, a: u32, b: u32| {
            let cut = u64::from(unit) * (u64::from(a) + u64::from(b));
            u64::from(size).checked_sub(cut).filter(|left| *left > 0).map(|left| left as u32)
        };
        let (Some(width), Some(height)) =
            (cropped(coded_width, unit_x, crop[0], crop[1]), cropped(coded_height, unit_y, crop[2], crop[3]))
        else {
            return Some(Err(Defect::CropTooLarge));
        };

        let mut sps = Self {
            profile_idc,
            constraint_flags,
            level_idc,
            id: id as u8,
            chroma_format_idc: chroma_format_idc as u8,
            luma_bit_depth: luma_bit_depth as u8,
            chroma_bit_depth: chroma_bit_depth as u8,
            is_lossless_allowed,
            max_ref_frames: max_ref_frames as u8,
            coded_width,
            coded_height,
            width,
            height,
            crop_left: crop[0].saturating_mul(unit_x),
            crop_top: crop[2].saturating_mul(unit_y),
            crop_fields,
            slice_fields: SliceFields {
                has_separate_planes: separate_planes,
                frame_num_bits: log2_max_frame_num as u8,
                poc_lsb_bits: (poc_type == 0).then_some(log2_max_poc_lsb as u8),
            },
            is_progressive,
            sample_aspect_ratio: None,
            is_full_range: None,
            matrix_coefficients: None,
            timing: None,
            max_reorder_frames: None,
        };
        // The usability information is optional and often cut short by encoders: what was read of it stands.
        if r.bit()? {
            sps.read_vui(r);
        }
        Some(Ok(sps))
    }

    /// §E.1.1.
    fn read_vui(&mut self, r: &mut BitReader<'_>) -> Option<()> {
        if r.bit()? {
            self.sample_aspect_ratio = match r.bits(8)? {
                255 => Some((r.bits(16)? as u16, r.bits(16)? as u16)),
                // Table E-1.
                index @ 1..=16 => [
                    (1, 1),
                    (12, 11),
                    (10, 11),
                    (16, 11),
                    (40, 33),
                    (24, 11),
                    (20, 11),
                    (32, 11),
                    (80, 33),
                    (18, 11),
                    (15, 11),
                    (64, 33),
                    (160, 99),
                    (4, 3),
                    (3, 2),
                    (2, 1),
                ]
                .get(index as usize - 1)
                .copied(),
                _ => None,
            };
        }
        if r.bit()? {
            r.bit()?; // overscan_appropriate_flag
        }
        if r.bit()? {
            r.bits(3)?; // video_format
            self.is_full_range = Some(r.bit()?);
            if r.bit()? {
                r.bits(16)?; // colour_primaries, transfer_characteristics
                self.matrix_coefficients = Some(r.bits(8)? as u8);
            }
        }
        if r.bit()? {
            r.ue()?;
            r.ue()?; // chroma_sample_loc_type
        }
        if r.bit()? {
            let (units, scale) = (r.bits(32)?, r.bits(32)?);
            r.bit()?; // fixed_frame_rate_flag
            self.timing = (units > 0 && scale > 0).then_some((scale, units));
        }
        let nal_hrd = r.bit()?;
        if nal_hrd {
            skip_hrd(r)?;
        }
        let vcl_hrd = r.bit()?;
        if vcl_hrd {
            skip_hrd(r)?;
        }
        if nal_hrd || vcl_hrd {
            r.bit()?; // low_delay_hrd_flag
        }
        r.bit()?; // pic_struct_present_flag
        if r.bit()? {
            r.bit()?;
            for _ in 0..4 {
                r.ue()?;
            }
            self.max_reorder_frames = u8::try_from(r.ue()?).ok();
        }
        Some(())
    }

    /// Whether the decoder takes such pictures, and as many of them as it would keep: progressive, 8 bits, 4:2:0 or monochrome, lossy, within the limits.
    ///
    /// # Errors
    /// `Bitstream` that names profile and reason, or `Limit`.
    pub fn check_supported(&self, limits: &Limits) -> Result<(), Error> {
        let refused = |reason| ParseError::from(Defect::Profile { name: self.profile_name(), reason });
        let macroblocks = self.coded_width / 16 * (self.coded_height / 16);
        if !matches!(self.profile_idc, 66 | 77 | 83 | 86 | 88 | 100) {
            return Err(refused("only Baseline, Main and High are supported").into());
        } else if self.luma_bit_depth != 8 || self.chroma_bit_depth != 8 {
            return Err(refused("only 8 bits a sample are supported").into());
        } else if self.chroma_format_idc > 1 {
            return Err(refused("only 4:2:0 and monochrome are supported").into());
        } else if !self.is_progressive {
            return Err(refused("interlaced video is not supported").into());
        } else if self.is_lossless_allowed {
            return Err(refused("lossless coding is not supported").into());
        } else if macroblocks > limits.max_macroblocks {
            let size = format!("{} x {} pixels", self.coded_width, self.coded_height);
            return Err(Error::new(
                ErrorKind::Limit,
                format!("picture of {size}: {macroblocks} macroblocks, max_macroblocks is {}", limits.max_macroblocks),
            )
            .unsupported());
        } else if u32::from(self.max_ref_frames).saturating_mul(macroblocks) > MAX_DPB_MACROBLOCKS {
            // The decoder allocates all of them at once.
            let (frames, size) = (self.max_ref_frames, format!("{} x {}", self.coded_width, self.coded_height));
            let context =
                format!("{frames} reference frames of {size} pixels, more than any level allows (H.264 A.3.1)");
            return Err(Error::new(ErrorKind::Limit, context).unsupported());
        }
        Ok(())
    }

    /// The profile's name, as people know it.
    #[must_use]
    pub fn profile_name(&self) -> &'static str {
        match (self.profile_idc, self.constraint_flags & 0x40 != 0) {
            (66, true) => "Constrained Baseline",
            (66, false) => "Baseline",
            (77, _) => "Main",
            (88, _) => "Extended",
            (100, _) => "High",
            (110, _) => "High 10",
            (122, _) => "High 4:2:2",
            (244, _) => "High 4:4:4 Predictive",
            (44, _) => "CAVLC 4:4:4 Intra",
            (83, _) => "Scalable Baseline",
            (86, _) => "Scalable High",
            (118, _) => "Multiview High",
            (128, _) => "Stereo High",
            _ => "unknown profile",
        }
    }
}

/// §7.3.2.1.1.1.
fn skip_scaling_list(r: &mut BitReader<'_>, size: u8) -> Option<()> {
    let (mut last, mut next) = (8_i32, 8_i32);
    for _ in 0..size {
        if next != 0 {
            next = last.wrapping_add(r.se()?) & 0xff;
        }
        if next != 0 {
            last = next;
        }
    }
    Some(())
}

/// §E.1.2.
fn skip_hrd(r: &mut BitReader<'_>) -> Option<()> {
    let count = r.ue()?;
    if count > 31 {
        return None;
    }
    r.bits(8)?;
    for _ in 0..=count {
        r.ue()?;
        r.ue()?;
        r.bit()?;
    }
    r.bits(20).map(drop)
}

impl Sps {
    /// The same parameter set as openh264 is to see it: declared as Scalable Baseline (83), and without cropping.
    ///
    /// openh264 derives its *output order* from `profile_idc`: pictures of a Main or High stream come late and in an order
    /// found by a heuristic, those of profile 66 and 83 leave at once, in decoding order. Nothing else in it depends on
    /// the choice between 83 and 77 or 100: the coding tools are read from the flags of the parameter sets. 83 rather
    /// than 66, because its parameter set has the fields for scaling lists. The display order is ours to make, from the
    /// container's times. Cropping is ours too, since openh264 takes the units of 4:2:0 for monochrome pictures as well.
    ///
    /// `nal` is what `self` was parsed from. `None` if it ends too early.
    pub(crate) fn for_openh264(&self, nal: &[u8]) -> Option<Vec<u8>> {
        let (&header, payload) = nal.split_first()?;
        let mut reader = BitReader::new(payload);
        let mut writer = BitWriter::new(&[header]);
        reader.bits(8)?;
        writer.bits(if self.profile_idc == 66 { 66 } else { 83 }, 8);
        writer.bits(reader.bits(16)?, 16); // constraint flags, level_idc
        writer.ue(reader.ue()?);
        if self.profile_idc != 66 && !has_chroma_fields(self.profile_idc) {
            writer.ue(1); // chroma_format_idc: 4:2:0
            writer.bits(0b1100, 4); // 8 and 8 bits, no lossless macroblocks, no scaling lists
        }
        while let Some(bit) = reader.bit() {
            let position = reader.position() - 1;
            if position == self.crop_fields.start {
                writer.bit(false); // frame_cropping_flag
            } else if !self.crop_fields.contains(&position) {
                writer.bit(bit);
            }
        }
        let mut rewritten = writer.finish();
        while rewritten.last() == Some(&0) {
            rewritten.pop(); // §7.4.1: a NAL unit does not end in a zero byte
        }
        Some(rewritten)
    }
}
