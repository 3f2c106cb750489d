//! H.264: NAL units, parameter sets and access units, as fMP4 carries them (ISO 14496-15).

mod access_unit;
mod avcc;
mod bits;
mod nal;
mod picture_order;
mod slice;
mod sps;

pub use access_unit::AccessUnit;
pub use avcc::AvcConfig;
pub use nal::{LengthSize, NalUnit, NalUnits, nal_type};
pub(crate) use picture_order::{PictureOrder, Place};
pub(crate) use slice::{PictureParameterSet, SliceHeader};
pub use sps::Sps;

use std::fmt;

use crate::error::{Error, ErrorKind};

/// H.264 data that cannot be read, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    defect: Defect,
    /// Position of the NAL unit in its access unit or parameter set list, from 0.
    nal_index: Option<usize>,
}

/// The rule that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    NotASps,
    TruncatedSps,
    SpsValue(&'static str, u32),
    CropTooLarge,
    LengthSize(u8),
    TruncatedLength,
    NalTooLong { length: usize, left: usize },
    EmptyNal,
    TruncatedAvcC,
    AvcCVersion(u8),
    Profile { name: &'static str, reason: &'static str },
}

impl ParseError {
    fn at(defect: Defect, nal_index: usize) -> Self {
        Self { defect, nal_index: Some(nal_index) }
    }
}

impl From<Defect> for ParseError {
    fn from(defect: Defect) -> Self {
        Self { defect, nal_index: None }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(index) = self.nal_index {
            write!(f, "NAL unit {index}: ")?;
        }
        match self.defect {
            Defect::NotASps => f.write_str("not a sequence parameter set"),
            Defect::TruncatedSps => f.write_str("sequence parameter set ends too early"),
            Defect::SpsValue(name, value) => write!(f, "{name} of {value} in the sequence parameter set"),
            Defect::CropTooLarge => f.write_str("cropping in the sequence parameter set leaves no picture"),
            Defect::LengthSize(size) => write!(f, "NAL length size of {size} bytes (1, 2 or 4 are allowed)"),
            Defect::TruncatedLength => f.write_str("length field ends too early"),
            Defect::NalTooLong { length, left } => write!(f, "length of {length} bytes with {left} bytes left"),
            Defect::EmptyNal => f.write_str("length of zero"),
            Defect::TruncatedAvcC => f.write_str("decoder configuration (avcC) ends too early"),
            Defect::AvcCVersion(version) => write!(f, "decoder configuration (avcC) of version {version}"),
            Defect::Profile { name, reason } => write!(f, "{name} profile: {reason}"),
        }
    }
}

impl std::error::Error for ParseError {}

impl From<ParseError> for Error {
    fn from(error: ParseError) -> Self {
        let is_unsupported = matches!(error.defect, Defect::Profile { .. });
        let result =
            Self::new(ErrorKind::Bitstream, if is_unsupported { "unsupported H.264" } else { "damaged H.264" })
                .with_source(error);
        if is_unsupported { result.unsupported() } else { result }
    }
}
