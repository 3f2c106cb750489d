//! The first fields of picture parameter sets and slices: which parameter sets a picture is decoded with.

use super::bits::BitReader;
use super::{NalUnit, nal_type};

/// The first fields of a picture parameter set, H.264 §7.3.2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PictureParameterSet {
    pub(crate) id: u8,
    pub(crate) sps_id: u8,
}

impl PictureParameterSet {
    /// `None` when it is truncated or has an id out of range.
    pub(crate) fn parse(nal: NalUnit<'_>) -> Option<Self> {
        let mut bits = BitReader::new(nal.bytes().get(1..)?);
        let id = u8::try_from(bits.ue()?).ok()?;
        let sps_id = u8::try_from(bits.ue()?).ok().filter(|id| *id < 32)?;
        Some(Self { id, sps_id })
    }
}

/// The first fields of a slice header, H.264 §7.3.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SliceHeader {
    pub(crate) first_macroblock: u32,
    kind: u32,
    pub(crate) pps_id: u8,
}

impl SliceHeader {
    /// `None` when it is truncated or has an id out of range.
    pub(crate) fn parse(nal: NalUnit<'_>) -> Option<Self> {
        let mut bits = BitReader::new(nal.bytes().get(1..)?);
        let (first_macroblock, kind) = (bits.ue()?, bits.ue()?);
        Some(Self { first_macroblock, kind, pps_id: u8::try_from(bits.ue()?).ok()? })
    }

    /// Whether slices of this type occur in Baseline, Main and High streams (table 7-6: P, B, I), and in an IDR picture.
    pub(crate) fn is_kind_of(&self, nal: NalUnit<'_>) -> bool {
        match nal.kind() {
            nal_type::SLICE => matches!(self.kind, 0..=2 | 5..=7),
            nal_type::IDR_SLICE => matches!(self.kind, 2 | 7),
            _ => false, // data partitions: Extended profile
        }
    }
}
