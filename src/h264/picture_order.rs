//! Picture order counts, H.264 §8.2.1: the display order that the pictures themselves state.

use super::sps::SliceFields;
use super::{AccessUnit, NalUnit, PictureParameterSet, Sps, nal_type};
use crate::h264::bits::BitReader;

/// A picture's place in display order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Counts IDR pictures: a picture order count means something between two of them.
    epoch: u64,
    count: i64,
    /// Whether the picture has a B slice.
    pub(crate) is_bidirectional: bool,
}

/// Reads picture order counts off access units in decoding order.
///
/// Only type 0 is read, the one that streams with B-frames use; type 2 means that decoding order is display order.
#[derive(Debug, Default)]
pub(crate) struct PictureOrder {
    /// By `seq_parameter_set_id`, and by `pic_parameter_set_id` what it refers to.
    sps: Vec<(u8, SliceFields)>,
    pps: Vec<PictureParameterSet>,
    /// The configuration whose parameter sets were read.
    config: Option<std::sync::Arc<super::AvcConfig>>,
    /// Of the last picture that others are predicted from.
    last_msb: i64,
    last_lsb: i64,
    epoch: u64,
}

impl PictureOrder {
    /// The place of the access unit's picture in display order; `None` where it cannot be told.
    pub(crate) fn place(&mut self, unit: &AccessUnit) -> Option<Place> {
        if self.config.as_ref() != Some(unit.config()) {
            self.config = Some(unit.config().clone());
            for set in unit.config().parameter_sets().filter_map(|set| NalUnit::new(set)) {
                self.read_parameter_set(set);
            }
        }
        let mut slice = None;
        for nal in unit.nal_units() {
            self.read_parameter_set(nal);
            if nal.is_slice() {
                slice.get_or_insert(nal);
            }
        }
        let slice = slice?;
        if slice.kind() == nal_type::IDR_SLICE {
            self.epoch += 1;
            (self.last_msb, self.last_lsb) = (0, 0);
        }
        let (lsb, bits, is_bidirectional) = self.read_lsb(slice)?;
        // Equation 8-3.
        let range = 1_i64 << bits;
        let msb = if lsb < self.last_lsb && self.last_lsb - lsb >= range / 2 {
            self.last_msb + range
        } else if lsb > self.last_lsb && lsb - self.last_lsb > range / 2 {
            self.last_msb - range
        } else {
            self.last_msb
        };
        if !slice.is_disposable() {
            (self.last_msb, self.last_lsb) = (msb, lsb);
        }
        Some(Place { epoch: self.epoch, count: msb + lsb, is_bidirectional })
    }

    fn read_parameter_set(&mut self, nal: NalUnit<'_>) {
        match nal.kind() {
            nal_type::SPS => {
                if let Ok(sps) = Sps::parse(nal.bytes()) {
                    self.sps.retain(|(id, _)| *id != sps.id);
                    self.sps.push((sps.id, sps.slice_fields));
                }
            }
            nal_type::PPS => {
                if let Some(pps) = PictureParameterSet::parse(nal) {
                    self.pps.retain(|known| known.id != pps.id);
                    self.pps.push(pps);
                }
            }
            _ => {}
        }
    }

    /// `pic_order_cnt_lsb`, its size in bits, and whether the slice is a B slice, §7.3.3. Of progressive pictures only, as the decoder takes them.
    fn read_lsb(&self, slice: NalUnit<'_>) -> Option<(i64, u8, bool)> {
        let mut bits = BitReader::new(slice.bytes().get(1..)?);
        bits.ue()?; // first_mb_in_slice
        let is_bidirectional = bits.ue()? % 5 == 1; // slice_type, table 7-6
        let pps_id = bits.ue()?;
        let pps = self.pps.iter().find(|pps| u32::from(pps.id) == pps_id)?;
        let (_, fields) = self.sps.iter().find(|(id, _)| *id == pps.sps_id)?;
        if fields.has_separate_planes {
            bits.bits(2)?;
        }
        bits.bits(fields.frame_num_bits)?;
        if slice.kind() == nal_type::IDR_SLICE {
            bits.ue()?; // idr_pic_id
        }
        let size = fields.poc_lsb_bits?;
        Some((i64::from(bits.bits(size)?), size, is_bidirectional))
    }
}
