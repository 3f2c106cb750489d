//! One coded picture with its times.

use std::sync::Arc;

use bytes::Bytes;

use super::{AvcConfig, Defect, NalUnit, NalUnits, ParseError, nal_type};
use crate::time::{Dts, Pts};

/// One coded picture as it stands in the container: a view into the segment, not a copy.
#[derive(Clone, Debug)]
pub struct AccessUnit {
    data: Bytes,
    config: Arc<AvcConfig>,
    pts: Pts,
    dts: Dts,
    duration_ticks: u32,
    is_idr: bool,
    is_disposable: bool,
    has_picture: bool,
}

impl AccessUnit {
    /// Checks the length fields of a sample and reads its NAL unit headers.
    ///
    /// `dts` and `duration_ticks` count in the timescale of `pts`.
    ///
    /// # Errors
    /// When a length field does not fit the data, with the index of the NAL unit.
    pub fn new(
        data: Bytes,
        config: Arc<AvcConfig>,
        pts: Pts,
        dts: Dts,
        duration_ticks: u32,
    ) -> Result<Self, ParseError> {
        let (mut is_idr, mut is_disposable, mut slices) = (false, true, 0_usize);
        for nal in NalUnits::new(&data, config.length_size()) {
            let nal = nal?;
            if nal.is_slice() {
                slices += 1;
                is_idr |= nal.kind() == nal_type::IDR_SLICE;
                is_disposable &= nal.is_disposable();
            }
        }
        if slices == 0 && data.is_empty() {
            return Err(ParseError::at(Defect::EmptyNal, 0));
        }
        let has_picture = slices > 0;
        let is_disposable = is_disposable && has_picture;
        Ok(Self { data, config, pts, dts, duration_ticks, is_idr, is_disposable, has_picture })
    }

    /// The NAL units behind their length fields.
    #[must_use]
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// The parameter sets and the length size that this sample was described with.
    #[must_use]
    pub fn config(&self) -> &Arc<AvcConfig> {
        &self.config
    }

    /// Presentation time, the edit list applied.
    #[must_use]
    pub const fn pts(&self) -> Pts {
        self.pts
    }

    /// The same access unit at another presentation time.
    #[must_use]
    pub(crate) fn with_pts(self, pts: Pts) -> Self {
        Self { pts, ..self }
    }

    /// The same access unit with a copy of its data, so that the segment's memory can go.
    #[must_use]
    pub(crate) fn detached(&self) -> Self {
        Self { data: Bytes::copy_from_slice(&self.data), ..self.clone() }
    }

    /// Decoding time, on the media timeline.
    #[must_use]
    pub const fn dts(&self) -> Dts {
        self.dts
    }

    /// How long the sample lasts, in ticks of the timescale of [`pts`](Self::pts); zero where the container is silent.
    #[must_use]
    pub const fn duration_ticks(&self) -> u32 {
        self.duration_ticks
    }

    /// Whether decoding can start here: the slices say so, not the container's flags, which are often wrong.
    #[must_use]
    pub const fn is_idr(&self) -> bool {
        self.is_idr
    }

    /// Whether no other picture is predicted from this one (`nal_ref_idc` is 0 in all slices).
    #[must_use]
    pub const fn is_disposable(&self) -> bool {
        self.is_disposable
    }

    /// Whether there is a slice in it. Some muxers make samples of parameter sets or supplemental information alone.
    #[must_use]
    pub const fn has_picture(&self) -> bool {
        self.has_picture
    }

    /// The NAL units, whose lengths were checked when the unit was made.
    pub fn nal_units(&self) -> impl Iterator<Item = NalUnit<'_>> {
        NalUnits::new(&self.data, self.config.length_size()).filter_map(Result::ok)
    }
}
