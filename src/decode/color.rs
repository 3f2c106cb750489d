//! What samples mean: matrix and range, H.264 annex E.

use crate::h264::Sps;
use crate::options::words;

/// The matrix between R'G'B' and Y'CbCr.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ColorMatrix {
    /// ITU-R BT.601: standard definition.
    Bt601,
    /// ITU-R BT.709: high definition.
    Bt709,
    /// ITU-R BT.2020, non-constant luminance.
    Bt2020,
}

impl ColorMatrix {
    /// K_R and K_B, H.264 table E-5.
    pub(crate) const fn weights(self) -> (f64, f64) {
        match self {
            Self::Bt601 => (0.299, 0.114),
            Self::Bt709 => (0.2126, 0.0722),
            Self::Bt2020 => (0.2627, 0.0593),
        }
    }
}

/// The range of sample values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ColorRange {
    /// Luma 16 to 235, chroma 16 to 240.
    Limited,
    /// 0 to 255.
    Full,
}

words!(ColorMatrix, Bt601 = "bt601", Bt709 = "bt709", Bt2020 = "bt2020");
words!(ColorRange, Limited = "limited", Full = "full");

/// How samples stand for colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ColorSpace {
    /// The matrix.
    pub matrix: ColorMatrix,
    /// The range.
    pub range: ColorRange,
}

impl ColorSpace {
    /// A colour space of this matrix and range.
    #[must_use]
    pub const fn new(matrix: ColorMatrix, range: ColorRange) -> Self {
        Self { matrix, range }
    }

    /// What the parameter set states. Where it is silent: limited range, and BT.601 up to 576 lines, BT.709 above, as
    /// cameras and players take it.
    #[must_use]
    pub fn of(sps: &Sps) -> Self {
        let matrix = match sps.matrix_coefficients {
            Some(1) => ColorMatrix::Bt709,
            Some(4..=6) => ColorMatrix::Bt601, // 4 is FCC, whose weights differ in the third digit
            Some(9 | 10) => ColorMatrix::Bt2020,
            _ if sps.height <= 576 => ColorMatrix::Bt601,
            _ => ColorMatrix::Bt709,
        };
        let range = if sps.is_full_range == Some(true) { ColorRange::Full } else { ColorRange::Limited };
        Self { matrix, range }
    }

    /// Luma of a gray that is given in full range.
    pub(crate) const fn luma_of(self, gray: u8) -> u8 {
        match self.range {
            ColorRange::Limited => 16 + ((gray as u16 * 219 + 127) / 255) as u8,
            ColorRange::Full => gray,
        }
    }
}
