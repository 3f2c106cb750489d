//! What a track fragment says about its samples: `tfhd`, `tfdt` and `trun`, ISO 14496-12 §8.8.7, §8.8.8 and §8.8.12.

use super::boxes::{Cursor, Mp4Box};
use super::{Defect, InitSegment, ParseError};

/// The header of a track fragment, with the defaults of the track where it is silent.
#[derive(Clone, Copy, Debug)]
pub(super) struct FragmentHeader {
    pub(super) track_id: u32,
    pub(super) sample_description_index: u32,
    pub(super) sample_duration: u32,
    pub(super) sample_size: u32,
    /// There are no samples for the default duration.
    pub(super) is_duration_empty: bool,
    pub(super) base: Base,
}

/// What data offsets count from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Base {
    /// A position in the file: for a segment on its own, in the segment.
    Explicit(u64),
    /// The first byte of the `moof`.
    Moof,
    /// The end of the data of the track fragment before, for the first one the `moof`.
    PreviousEnd,
}

impl FragmentHeader {
    /// Reads the `tfhd` of a `traf`.
    pub(super) fn parse(traf: &Mp4Box<'_>, init: &InitSegment) -> Result<Self, ParseError> {
        let mut body = traf.required(*b"tfhd")?.body;
        let (_, flags) = body.version_and_flags()?;
        let track_id = body.u32()?;
        let mut base = if flags & 0x02_0000 == 0 { Base::PreviousEnd } else { Base::Moof };
        if flags & 0x01 != 0 {
            base = Base::Explicit(body.u64()?);
        }
        let defaults = init.defaults(track_id);
        let mut field = |flag, default| if flags & flag == 0 { Ok(default) } else { body.u32() };
        Ok(Self {
            track_id,
            sample_description_index: field(0x02, defaults.sample_description_index)?,
            sample_duration: field(0x08, defaults.sample_duration)?,
            // default_sample_flags follow: whether a picture is a key picture is read from its slices.
            sample_size: field(0x10, defaults.sample_size)?,
            is_duration_empty: flags & 0x01_0000 != 0,
            base,
        })
    }
}

/// The decode time that a track fragment states for its first sample.
pub(super) fn decode_time(traf: &Mp4Box<'_>) -> Result<Option<i64>, ParseError> {
    let Some(tfdt) = traf.child(*b"tfdt")? else { return Ok(None) };
    let mut body = tfdt.body;
    let time = match body.version_and_flags()?.0 {
        0 => body.u32()?.into(),
        1 => body.u64()?,
        version => return Err(tfdt.body.defect(Defect::Version(version))),
    };
    i64::try_from(time).map(Some).map_err(|_| tfdt.defect(Defect::TimeOverflow))
}

/// One run of samples whose data is contiguous.
pub(super) struct Run<'a> {
    pub(super) count: u32,
    /// Where the data starts; without it, behind the run before.
    pub(super) data_offset: Option<i32>,
    flags: u32,
    rows: Cursor<'a>,
}

/// What a run says about one sample.
pub(super) struct Row {
    pub(super) duration: Option<u32>,
    pub(super) size: Option<u32>,
    pub(super) composition_offset: i32,
}

const HAS_DURATION: u32 = 0x100;
const HAS_SIZE: u32 = 0x200;
const HAS_FLAGS: u32 = 0x400;
const HAS_COMPOSITION_OFFSET: u32 = 0x800;

impl<'a> Run<'a> {
    /// Reads the head of a `trun` and makes sure that its rows are there.
    pub(super) fn parse(trun: &Mp4Box<'a>) -> Result<Self, ParseError> {
        let mut body = trun.body;
        let (_, flags) = body.version_and_flags()?;
        let counted = body;
        let count = body.u32()?;
        let data_offset = if flags & 0x01 == 0 { None } else { Some(body.i32()?) };
        if flags & 0x04 != 0 {
            body.take(4)?; // first_sample_flags
        }
        let fields = flags & (HAS_DURATION | HAS_SIZE | HAS_FLAGS | HAS_COMPOSITION_OFFSET);
        let row_size = u64::from(fields.count_ones()).saturating_mul(4);
        if row_size.checked_mul(count.into()).is_none_or(|size| size > body.left()) {
            return Err(counted.defect(Defect::RunTooLong { count, left: body.left() }));
        }
        Ok(Self { count, data_offset, flags, rows: body })
    }

    /// Whether the rows state sizes.
    pub(super) fn has_sizes(&self) -> bool {
        self.flags & HAS_SIZE != 0
    }

    /// Reads the next of `count` rows.
    pub(super) fn row(&mut self) -> Result<Row, ParseError> {
        let mut field = |flag| if self.flags & flag == 0 { Ok(None) } else { self.rows.u32().map(Some) };
        let (duration, size, _flags) = (field(HAS_DURATION)?, field(HAS_SIZE)?, field(HAS_FLAGS)?);
        // Version 0 is unsigned by the letter, yet writers put negative offsets there and readers (libav among them) take
        // both versions as signed. Read as unsigned such a value would be a delay of 2^31 ticks or more, which is no
        // picture reordering: six hours at 90 kHz.
        let has_offset = self.flags & HAS_COMPOSITION_OFFSET != 0;
        let composition_offset = if has_offset { self.rows.i32()? } else { 0 };
        Ok(Row { duration, size, composition_offset })
    }

    /// The bytes of data that the run describes.
    pub(super) fn data_size(mut self, default_size: u32) -> Result<u64, ParseError> {
        if !self.has_sizes() {
            // 32 times 32 bits fit 64.
            return Ok(u64::from(self.count).saturating_mul(default_size.into()));
        }
        // At most 2^32 values of 32 bits.
        (0..self.count).try_fold(0_u64, |sum, _| Ok(sum.saturating_add(self.row()?.size.unwrap_or_default().into())))
    }
}
