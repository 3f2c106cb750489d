//! NAL units, H.264 §7.3.1, behind length fields (ISO 14496-15 §5.3.3).

use super::{Defect, ParseError};

/// `nal_unit_type` values, H.264 table 7-1.
pub mod nal_type {
    /// Coded slice of a picture that is not an IDR picture.
    pub const SLICE: u8 = 1;
    /// Coded slice of an IDR picture.
    pub const IDR_SLICE: u8 = 5;
    /// Supplemental enhancement information.
    pub const SEI: u8 = 6;
    /// Sequence parameter set.
    pub const SPS: u8 = 7;
    /// Picture parameter set.
    pub const PPS: u8 = 8;
    /// Access unit delimiter.
    pub const AUD: u8 = 9;
}

/// How many bytes a NAL unit's length field has: `lengthSizeMinusOne + 1` of the avcC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LengthSize(u8);

impl LengthSize {
    /// 1, 2 or 4 bytes; 3 is reserved.
    ///
    /// # Errors
    /// For any other size.
    pub fn new(bytes: u8) -> Result<Self, ParseError> {
        match bytes {
            1 | 2 | 4 => Ok(Self(bytes)),
            _ => Err(Defect::LengthSize(bytes).into()),
        }
    }

    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.0 as usize
    }
}

/// One NAL unit, header byte first, without length field or start code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NalUnit<'a> {
    bytes: &'a [u8],
    header: u8,
}

impl<'a> NalUnit<'a> {
    /// `None` for an empty slice.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        bytes.first().map(|&header| Self { bytes, header })
    }

    /// Header and payload.
    #[must_use]
    pub const fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// `nal_unit_type`, see [`nal_type`].
    #[must_use]
    pub const fn kind(self) -> u8 {
        self.header & 0x1f
    }

    /// `nal_ref_idc == 0`: no other picture is predicted from this one.
    #[must_use]
    pub const fn is_disposable(self) -> bool {
        self.header & 0x60 == 0
    }

    /// Whether this is a slice of a coded picture.
    #[must_use]
    pub const fn is_slice(self) -> bool {
        matches!(self.kind(), nal_type::SLICE..=nal_type::IDR_SLICE)
    }
}

/// The NAL units of one sample, in order. After an error the iterator ends.
#[derive(Clone, Debug)]
pub struct NalUnits<'a> {
    rest: &'a [u8],
    length_size: LengthSize,
    index: usize,
}

impl<'a> NalUnits<'a> {
    /// Walks a sample whose NAL units have length fields of this size.
    #[must_use]
    pub const fn new(sample: &'a [u8], length_size: LengthSize) -> Self {
        Self { rest: sample, length_size, index: 0 }
    }

    fn split(&self) -> Result<(NalUnit<'a>, &'a [u8]), Defect> {
        let (length, body) = self.rest.split_at_checked(self.length_size.bytes()).ok_or(Defect::TruncatedLength)?;
        let length = length.iter().fold(0_usize, |length, &byte| length << 8 | usize::from(byte));
        let (nal, tail) = body.split_at_checked(length).ok_or(Defect::NalTooLong { length, left: body.len() })?;
        Ok((NalUnit::new(nal).ok_or(Defect::EmptyNal)?, tail))
    }
}

impl<'a> Iterator for NalUnits<'a> {
    type Item = Result<NalUnit<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let split = self.split().map_err(|defect| ParseError::at(defect, self.index));
        self.index += 1;
        self.rest = split.as_ref().map_or(&[], |(_, tail)| tail);
        Some(split.map(|(nal, _)| nal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(sample: &[u8], size: u8) -> Vec<Result<Vec<u8>, String>> {
        NalUnits::new(sample, LengthSize::new(size).unwrap())
            .map(|nal| nal.map(|nal| nal.bytes().to_vec()).map_err(|error| error.to_string()))
            .collect()
    }

    #[test]
    fn every_length_size_is_walked() {
        assert_eq!(walk(&[2, 0x65, 1, 1, 0x41], 1), [Ok(vec![0x65, 1]), Ok(vec![0x41])]);
        assert_eq!(walk(&[0, 1, 0x65], 2), [Ok(vec![0x65])]);
        assert_eq!(walk(&[0, 0, 0, 2, 0x65, 9], 4), [Ok(vec![0x65, 9])]);
        assert!(LengthSize::new(3).is_err());
    }

    #[test]
    fn damage_is_named_with_its_place() {
        assert_eq!(
            walk(&[1, 0x65, 5, 1], 1),
            [Ok(vec![0x65]), Err("NAL unit 1: length of 5 bytes with 1 bytes left".into())]
        );
        assert_eq!(walk(&[0, 0], 4), [Err("NAL unit 0: length field ends too early".into())]);
        assert_eq!(walk(&[0, 1, 0x65], 1), [Err("NAL unit 0: length of zero".into())]);
    }

    #[test]
    fn headers_tell_kind_and_disposability() {
        let idr = NalUnit::new(&[0x65]).unwrap();
        assert!(idr.kind() == nal_type::IDR_SLICE && idr.is_slice() && !idr.is_disposable());
        let b = NalUnit::new(&[0x01]).unwrap();
        assert!(b.kind() == nal_type::SLICE && b.is_disposable());
    }
}
