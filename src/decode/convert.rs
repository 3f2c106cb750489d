//! From planes to packed pixels.
//!
//! Fixed point with 16-bit lanes: a product keeps 6 bits after the point and is rounded, as `pmulhrsw` does it, so eight,
//! sixteen or thirty-two pixels go through one instruction. All roundings together stay below 0.05 of a step before the
//! last one, which puts every result within ±1 of the exact formula rounded.
#![allow(
    clippy::indexing_slicing,
    reason = "the kernels work on rows that `convert` has measured; a panic here would be its mistake, not the input's"
)]

use super::{ColorMatrix, ColorRange, ColorSpace, Picture};
use crate::options::words;

/// How the bytes of a frame stand for pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum PixelFormat {
    /// Blue, green, red; three bytes a pixel, rows without padding. What OpenCV takes.
    #[default]
    Bgr,
    /// Red, green, blue; three bytes a pixel, rows without padding.
    Rgb,
    /// Luma in full range; one byte a pixel, rows without padding.
    Gray,
    /// The decoder's planes Y, U, V one after the other, without padding, values as they were coded.
    I420,
}

words!(PixelFormat, Bgr = "bgr", Rgb = "rgb", Gray = "gray", I420 = "i420");

impl PixelFormat {
    /// Bytes of a frame of this size.
    #[must_use]
    pub const fn frame_bytes(self, width: usize, height: usize) -> usize {
        match self {
            Self::Bgr | Self::Rgb => width * height * 3,
            Self::Gray => width * height,
            Self::I420 => width * height + 2 * width.div_ceil(2) * height.div_ceil(2),
        }
    }

    /// Bytes from one row to the next; of the luma plane for `I420`.
    #[must_use]
    pub const fn stride(self, width: usize) -> usize {
        match self {
            Self::Bgr | Self::Rgb => width * 3,
            Self::Gray | Self::I420 => width,
        }
    }
}

/// What frames look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[must_use]
pub struct Output {
    format: PixelFormat,
    matrix: Option<ColorMatrix>,
    range: Option<ColorRange>,
}

impl Output {
    /// Frames of this format in the video's own size, colours as its parameter sets state.
    pub const fn new(format: PixelFormat) -> Self {
        Self { format, matrix: None, range: None }
    }

    /// [`PixelFormat::Bgr`], the default.
    pub const fn bgr() -> Self {
        Self::new(PixelFormat::Bgr)
    }

    /// [`PixelFormat::Rgb`].
    pub const fn rgb() -> Self {
        Self::new(PixelFormat::Rgb)
    }

    /// [`PixelFormat::Gray`].
    pub const fn gray() -> Self {
        Self::new(PixelFormat::Gray)
    }

    /// [`PixelFormat::I420`].
    pub const fn i420() -> Self {
        Self::new(PixelFormat::I420)
    }

    /// Takes this matrix whatever the parameter sets state: some cameras state a wrong one.
    pub const fn matrix(mut self, matrix: ColorMatrix) -> Self {
        self.matrix = Some(matrix);
        self
    }

    /// Takes this range whatever the parameter sets state.
    pub const fn range(mut self, range: ColorRange) -> Self {
        self.range = Some(range);
        self
    }

    /// The pixel format.
    #[must_use]
    pub const fn format(self) -> PixelFormat {
        self.format
    }

    fn color_of(self, picture: &Picture<'_>) -> ColorSpace {
        ColorSpace::new(self.matrix.unwrap_or(picture.color.matrix), self.range.unwrap_or(picture.color.range))
    }
}

/// Writes the picture's pixels into `out`, which must have exactly [`PixelFormat::frame_bytes`] bytes.
///
/// Chroma samples are repeated for the two by two pixels that they belong to.
///
/// Answers false, and leaves `out` as it was, when a plane is shorter than width, height and stride demand.
#[must_use]
pub fn convert(picture: &Picture<'_>, output: Output, out: &mut [u8]) -> bool {
    let Picture { planes: [y, u, v], strides: [luma_stride, chroma_stride], width, height, .. } = *picture;
    let (chroma_width, chroma_height) = (width.div_ceil(2), height.div_ceil(2));
    let fits = |plane: &[u8], stride: usize, width: usize, height: usize| {
        stride >= width && (height == 0 || plane.len() >= stride.saturating_mul(height - 1).saturating_add(width))
    };
    if width == 0
        || !fits(y, luma_stride, width, height)
        || !fits(u, chroma_stride, chroma_width, chroma_height)
        || !fits(v, chroma_stride, chroma_width, chroma_height)
        || out.len() != output.format.frame_bytes(width, height)
    {
        return false;
    }
    let rows = |plane, stride, width, height| Rows { plane, stride, width, height };
    let y = rows(y, luma_stride, width, height);
    let u = rows(u, chroma_stride, chroma_width, chroma_height);
    let v = rows(v, chroma_stride, chroma_width, chroma_height);
    let space = output.color_of(picture);
    match output.format {
        PixelFormat::I420 => {
            let (luma, chroma) = out.split_at_mut(width * height);
            let (blue, red) = chroma.split_at_mut(chroma_width * chroma_height);
            y.copy_to(luma);
            u.copy_to(blue);
            v.copy_to(red);
        }
        PixelFormat::Gray if space.range == ColorRange::Full => y.copy_to(out),
        PixelFormat::Gray => {
            for (row, out) in y.iter().zip(out.chunks_exact_mut(width)) {
                for (out, &luma) in out.iter_mut().zip(row) {
                    // 255 / 219 with 16 bits after the point.
                    *out = (((i32::from(luma) - 16) * 76_309 + 0x8000) >> 16).clamp(0, 255) as u8;
                }
            }
        }
        PixelFormat::Bgr | PixelFormat::Rgb => {
            let weights = Weights::new(space, output.format == PixelFormat::Rgb);
            let chroma = u.iter().zip(v.iter());
            for (out, (luma, chroma)) in out.chunks_mut(width * 6).zip(y.plane.chunks(luma_stride * 2).zip(chroma)) {
                for (out, luma) in out.chunks_exact_mut(width * 3).zip(luma.chunks(luma_stride)) {
                    row(&luma[..width], chroma.0, chroma.1, out, &weights);
                }
            }
        }
    }
    true
}

/// A plane's rows without their padding.
#[derive(Clone, Copy)]
struct Rows<'a> {
    plane: &'a [u8],
    stride: usize,
    width: usize,
    height: usize,
}

impl<'a> Rows<'a> {
    fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        self.plane.chunks(self.stride).take(self.height).filter_map(move |row| row.get(..self.width))
    }

    fn copy_to(self, out: &mut [u8]) {
        for (out, row) in out.chunks_exact_mut(self.width).zip(self.iter()) {
            out.copy_from_slice(row);
        }
    }
}

/// The formula's factors in fixed point.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weights {
    /// Black level of luma.
    pub(super) black: i16,
    /// Of luma, with 14 bits after the point.
    pub(super) luma: i16,
    /// With 13 bits after the point: what the first, the second and the third byte take from U and V.
    pub(super) chroma: [[i16; 2]; 3],
}

impl Weights {
    fn new(space: ColorSpace, is_rgb: bool) -> Self {
        let (kr, kb) = space.matrix.weights();
        let kg = 1.0 - kr - kb;
        let (black, luma_scale, chroma_scale): (i16, f64, f64) = match space.range {
            ColorRange::Limited => (16, 255.0 / 219.0, 255.0 / 224.0),
            ColorRange::Full => (0, 1.0, 1.0),
        };
        let fixed = |factor: f64| (factor * chroma_scale * 8192.0).round() as i16;
        // H.264 equations E-16 and E-17 solved for R, G and B.
        let red = [0, fixed(2.0 * (1.0 - kr))];
        let green = [fixed(-2.0 * kb * (1.0 - kb) / kg), fixed(-2.0 * kr * (1.0 - kr) / kg)];
        let blue = [fixed(2.0 * (1.0 - kb)), 0];
        let chroma = if is_rgb { [red, green, blue] } else { [blue, green, red] };
        Self { black, luma: (luma_scale * 16384.0).round() as i16, chroma }
    }
}

/// Rounded product of two numbers with 15 bits after the point: one `pmulhrsw`.
#[inline(always)]
fn product(a: i16, b: i16) -> i16 {
    ((((i32::from(a) * i32::from(b)) >> 14) + 1) >> 1) as i16
}

/// One row of three-byte pixels, the portable way.
fn row_portable(luma: &[u8], u: &[u8], v: &[u8], out: &mut [u8], weights: &Weights) {
    let Weights { black, luma: scale, chroma: [first, second, third] } = *weights;
    let byte = |y: i16, c: i16| (y.saturating_add(c) >> 6).clamp(0, 255) as u8;
    for (((out, luma), &u), &v) in out.chunks_mut(6).zip(luma.chunks(2)).zip(u).zip(v) {
        let (u, v) = ((i16::from(u) - 128) << 8, (i16::from(v) - 128) << 8);
        // Half a step for the last rounding is part of the chroma term.
        let term = |[from_u, from_v]: [i16; 2]| product(u, from_u) + product(v, from_v) + 32;
        let (first, second, third) = (term(first), term(second), term(third));
        for (out, &luma) in out.chunks_exact_mut(3).zip(luma) {
            let y = product((i16::from(luma) - black) << 7, scale);
            out.copy_from_slice(&[byte(y, first), byte(y, second), byte(y, third)]);
        }
    }
}

fn row(luma: &[u8], u: &[u8], v: &[u8], out: &mut [u8], weights: &Weights) {
    #[cfg(target_arch = "x86_64")]
    let done = super::simd::row(luma, u, v, out, weights);
    #[cfg(not(target_arch = "x86_64"))]
    let done = 0;
    row_portable(&luma[done..], &u[done / 2..], &v[done / 2..], &mut out[done * 3..], weights);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Pts, Timescale};

    /// The formula in real numbers, rounded: Poynton's textbook form, not the one above.
    fn exact(space: ColorSpace, y: u8, u: u8, v: u8) -> [f64; 3] {
        let (kr, kb) = space.matrix.weights();
        let (y, scale) = match space.range {
            ColorRange::Limited => ((f64::from(y) - 16.0) / 219.0, 224.0),
            ColorRange::Full => (f64::from(y) / 255.0, 255.0),
        };
        let (pb, pr) = ((f64::from(u) - 128.0) / scale, (f64::from(v) - 128.0) / scale);
        let (r, b) = (y + 2.0 * (1.0 - kr) * pr, y + 2.0 * (1.0 - kb) * pb);
        let g = (y - kr * r - kb * b) / (1.0 - kr - kb);
        [b, g, r].map(|value| (value * 255.0).clamp(0.0, 255.0).round())
    }

    fn picture<'a>(
        planes: [&'a [u8]; 3],
        strides: [usize; 2],
        width: usize,
        height: usize,
        color: ColorSpace,
    ) -> Picture<'a> {
        Picture {
            planes,
            strides,
            width,
            height,
            color,
            sample_aspect_ratio: None,
            pts: Pts::new(0, Timescale::new(1).unwrap()),
        }
    }

    /// All 2^24 inputs against the formula, for every space.
    #[test]
    fn every_colour_is_within_one_step_of_the_formula() {
        let luma: Vec<u8> = (0..=255).flat_map(|y| [y, y]).collect();
        for matrix in [ColorMatrix::Bt601, ColorMatrix::Bt709, ColorMatrix::Bt2020] {
            for range in [ColorRange::Limited, ColorRange::Full] {
                let space = ColorSpace::new(matrix, range);
                let (mut worst, mut off) = (0.0_f64, 0_u32);
                let mut out = vec![0; 512 * 3];
                for u in 0..=255_u8 {
                    for v in 0..=255_u8 {
                        let planes = [&luma[..], &[u; 256], &[v; 256]];
                        assert!(convert(&picture(planes, [512, 256], 512, 1, space), Output::bgr(), &mut out));
                        for (y, pixel) in out.chunks_exact(6).enumerate() {
                            for (got, want) in pixel.iter().zip(exact(space, y as u8, u, v)) {
                                worst = worst.max((f64::from(*got) - want).abs());
                                off += u32::from(f64::from(*got) != want);
                            }
                        }
                    }
                }
                assert!(worst <= 1.0, "{matrix} {range}: off by {worst}");
                assert!(off < 256 * 256 * 256 * 3 / 20, "{matrix} {range}: {off} values are not the nearest");
            }
        }
    }

    #[test]
    fn odd_sizes_and_padding_are_respected() {
        let space = ColorSpace::new(ColorMatrix::Bt601, ColorRange::Full);
        for width in 1..70_usize {
            for height in 1..4_usize {
                let (stride, chroma_stride) = (width + 3, width.div_ceil(2) + 5);
                let luma: Vec<u8> = (0..stride * height).map(|i| (i * 7) as u8).collect();
                let u: Vec<u8> = (0..chroma_stride * 2).map(|i| (i * 13 + 90) as u8).collect();
                let v: Vec<u8> = (0..chroma_stride * 2).map(|i| (i * 5 + 60) as u8).collect();
                let picture = picture([&luma, &u, &v], [stride, chroma_stride], width, height, space);
                let mut bgr = vec![0; width * height * 3];
                let mut rgb = bgr.clone();
                assert!(convert(&picture, Output::bgr(), &mut bgr) && convert(&picture, Output::rgb(), &mut rgb));
                for (index, (bgr, rgb)) in bgr.chunks_exact(3).zip(rgb.chunks_exact(3)).enumerate() {
                    let (x, y) = (index % width, index / width);
                    let chroma = y / 2 * chroma_stride + x / 2;
                    let want = exact(space, luma[y * stride + x], u[chroma], v[chroma]);
                    assert!(
                        bgr.iter().zip(want).all(|(got, want)| (f64::from(*got) - want).abs() <= 1.0),
                        "{width}x{height} at {x},{y}: {bgr:?} is not {want:?}"
                    );
                    assert_eq!([bgr[2], bgr[1], bgr[0]], rgb);
                }
                let mut planes = vec![0; PixelFormat::I420.frame_bytes(width, height)];
                assert!(convert(&picture, Output::i420(), &mut planes));
                assert_eq!(planes[..width], luma[..width]);
                assert_eq!(planes[width * height..][..width.div_ceil(2)], u[..width.div_ceil(2)]);
            }
        }
    }

    #[test]
    fn gray_is_luma_in_full_range() {
        let luma = [0, 16, 126, 235, 255];
        let convert_gray = |range| {
            let mut out = [9; 5];
            let space = ColorSpace::new(ColorMatrix::Bt601, range);
            assert!(convert(&picture([&luma, &[128; 3], &[128; 3]], [5, 3], 5, 1, space), Output::gray(), &mut out));
            out
        };
        assert_eq!(convert_gray(ColorRange::Full), luma);
        assert_eq!(convert_gray(ColorRange::Limited), [0, 0, 128, 255, 255]);
    }

    #[test]
    fn both_kernels_give_the_same_bytes() {
        let weights = Weights::new(ColorSpace::new(ColorMatrix::Bt709, ColorRange::Limited), false);
        let luma: Vec<u8> = (0..333).map(|i| (i * 31) as u8).collect();
        let [u, v]: [Vec<u8>; 2] = [17, 29].map(|step| (0..167).map(|i| (i * step) as u8).collect());
        let (mut fast, mut portable) = (vec![0; 999], vec![0; 999]);
        row(&luma, &u, &v, &mut fast, &weights);
        row_portable(&luma, &u, &v, &mut portable, &weights);
        assert_eq!(fast, portable);
    }

    #[test]
    fn short_planes_are_refused() {
        let space = ColorSpace::new(ColorMatrix::Bt601, ColorRange::Full);
        let mut out = vec![0; 12];
        assert!(!convert(&picture([&[0; 3], &[0; 1], &[0; 1]], [2, 1], 2, 2, space), Output::bgr(), &mut out));
        assert!(!convert(&picture([&[0; 4], &[0; 1], &[0; 1]], [1, 1], 2, 2, space), Output::bgr(), &mut out));
        assert!(!convert(&picture([&[0; 4], &[0; 1], &[0; 1]], [2, 1], 2, 2, space), Output::bgr(), &mut out[1..]));
    }
}
