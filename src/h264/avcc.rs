//! The decoder configuration record (avcC), ISO 14496-15 §5.3.3.1.

use bytes::Bytes;

use super::{Defect, LengthSize, ParseError, Sps, nal_type};

/// What a decoder needs before the first sample: parameter sets and the size of the length fields.
///
/// Parameter sets may be absent: `avc3` tracks carry them in the samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvcConfig {
    record: Bytes,
    length_size: LengthSize,
    sps: Vec<Bytes>,
    pps: Vec<Bytes>,
}

impl AvcConfig {
    /// Parses the payload of an `avcC` box.
    ///
    /// # Errors
    /// When the record is truncated, of an unknown version or with a reserved length size.
    pub fn parse(record: &Bytes) -> Result<Self, ParseError> {
        let &[version, _profile, _compatibility, _level, sizes, sps_count, ..] = record.as_ref() else {
            return Err(Defect::TruncatedAvcC.into());
        };
        if version != 1 {
            return Err(Defect::AvcCVersion(version).into());
        }
        let mut at = 6;
        let sps = parameter_sets(record, &mut at, sps_count & 0x1f)?;
        // An avc3 record may end after an empty list.
        let pps_count = record.get(at).copied().unwrap_or_default();
        at += 1;
        let pps = parameter_sets(record, &mut at, pps_count)?;
        Ok(Self { record: record.clone(), length_size: LengthSize::new((sizes & 3) + 1)?, sps, pps })
    }

    /// What it was parsed from.
    pub(crate) fn record(&self) -> &Bytes {
        &self.record
    }

    /// The size of the length fields in the samples.
    #[must_use]
    pub fn length_size(&self) -> LengthSize {
        self.length_size
    }

    /// The sequence and then the picture parameter sets, each a NAL unit with its header byte.
    pub fn parameter_sets(&self) -> impl Iterator<Item = &Bytes> {
        self.sps.iter().chain(&self.pps)
    }

    /// The first sequence parameter set; `None` when there is none out of band.
    ///
    /// # Errors
    /// When it cannot be parsed.
    pub fn sps(&self) -> Result<Option<Sps>, ParseError> {
        self.sps.first().map(|nal| Sps::parse(nal)).transpose()
    }
}

fn parameter_sets(record: &Bytes, at: &mut usize, count: u8) -> Result<Vec<Bytes>, ParseError> {
    (0..usize::from(count))
        .map(|index| {
            let truncated = ParseError::at(Defect::TruncatedAvcC, index);
            let Some(&[high, low]) = record.get(*at..*at + 2) else { return Err(truncated) };
            let start = *at + 2;
            let end = start + usize::from(u16::from_be_bytes([high, low]));
            let nal = record.get(start..end).ok_or(truncated)?;
            *at = end;
            match nal.first() {
                Some(header) if matches!(header & 0x1f, nal_type::SPS | nal_type::PPS | 13) => {
                    Ok(record.slice(start..end))
                }
                Some(_) => Err(ParseError::at(Defect::NotASps, index)),
                None => Err(ParseError::at(Defect::EmptyNal, index)),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_with_both_sets_is_read() {
        let record = Bytes::from_static(&[
            1, 66, 0, 30, 0xff, 0xe1, // version, profile, compatibility, level, 4-byte lengths, one SPS
            0, 2, 0x67, 0xaa, // SPS of two bytes
            1, 0, 3, 0x68, 0xbb, 0xcc, // one PPS of three
        ]);
        let config = AvcConfig::parse(&record).unwrap();
        assert_eq!(config.length_size().bytes(), 4);
        assert_eq!(
            config.parameter_sets().map(|set| set.to_vec()).collect::<Vec<_>>(),
            [vec![0x67, 0xaa], vec![0x68, 0xbb, 0xcc]]
        );
    }

    #[test]
    fn every_truncation_is_an_error_or_an_empty_list() {
        let record = [1, 66, 0, 30, 0xff, 0xe1, 0, 2, 0x67, 0xaa, 1, 0, 3, 0x68, 0xbb, 0xcc];
        for length in 0..record.len() {
            let result = AvcConfig::parse(&Bytes::copy_from_slice(&record[..length]));
            assert_eq!(result.is_ok(), length == 10, "{length} bytes: {result:?}");
        }
    }

    #[test]
    fn empty_lists_of_avc3_and_reserved_sizes() {
        let parse = |bytes: &'static [u8]| AvcConfig::parse(&Bytes::from_static(bytes));
        assert_eq!(parse(&[1, 66, 0, 30, 0xfd, 0xe0, 0]).unwrap().parameter_sets().count(), 0);
        assert_eq!(
            parse(&[1, 66, 0, 30, 0xfe, 0xe0, 0]).unwrap_err().to_string(),
            "NAL length size of 3 bytes (1, 2 or 4 are allowed)"
        );
        assert_eq!(
            parse(&[2, 66, 0, 30, 0xff, 0xe0, 0]).unwrap_err().to_string(),
            "decoder configuration (avcC) of version 2"
        );
    }
}
