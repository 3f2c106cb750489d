//! The first fields of picture parameter sets and slices: which parameter sets a picture is decoded with.

use super::NalUnit;
use super::bits::BitReader;

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
    pub(crate) pps_id: u8,
}

impl SliceHeader {
    /// `None` when it is truncated or has an id out of range.
    pub(crate) fn parse(nal: NalUnit<'_>) -> Option<Self> {
        let mut bits = BitReader::new(nal.bytes().get(1..)?);
        bits.ue()?; // first_mb_in_slice
        bits.ue()?; // slice_type
        Some(Self { pps_id: u8::try_from(bits.ue()?).ok()? })
    }
}
