//! From planes to packed pixels.
//!
//! Fixed point with 16-bit lanes: a product keeps 6 bits after the point and is rounded, as `pmulhrsw` does it, so eight,
//! sixteen or thirty-two pixels go through one instruction. All roundings together stay below 0.05 of a step before the
//! last one, which puts every result within ±1 of the exact formula rounded.
#![allow(
    clippy::indexing_slicing,
    reason = "the kernels work on rows that `convert` has measured; a panic here would be its mistake, not the input's"
)]

use super::scale::Scaler;
use super::{ColorRange, ColorSpace, Output, Picture, PixelFormat};

/// Turns pictures into frames; keeps what scaling needs from one to the next.
#[derive(Debug, Default)]
pub struct Converter {
    luma: Scaler,
    /// U and V.
    chroma: [Scaler; 2],
}

impl Converter {
    /// Writes the picture's pixels into `out`, which must have exactly the [`PixelFormat::frame_bytes`] of the
    /// [`Output::frame_size`].
    ///
    /// Chroma samples are repeated for the two by two pixels that they belong to.
    ///
    /// Answers false, and leaves `out` as it was, when a plane is shorter than width, height and stride demand, or `out`
    /// has another size.
    #[must_use]
    pub fn convert(&mut self, picture: &Picture<'_>, output: Output, out: &mut [u8]) -> bool {
        let Picture { planes, strides, width, height, .. } = *picture;
        let measured = |plane, stride, [width, height]: [usize; 2]| Rows { plane, stride, width, height }.measured();
        let [y, u, v] = planes;
        let chroma = [width, height].map(|side| side.div_ceil(2));
        let (Some(mut y), Some(mut u), Some(mut v)) = (
            measured(y, strides[0], [width, height]),
            measured(u, strides[1], chroma),
            measured(v, strides[1], chroma),
        ) else {
            return false;
        };
        let ((frame_width, frame_height), at) = (output.frame_size(width, height), output.placement(width, height));
        let format = output.format();
        if output.check().is_err() || out.len() != format.frame_bytes(frame_width, frame_height) {
            return false;
        }
        if (at.width, at.height) != (width, height) {
            y = self.luma.scale(y, at.width, at.height);
            if format != PixelFormat::Gray {
                let [blue, red] = &mut self.chroma;
                u = blue.scale(u, at.width.div_ceil(2), at.height.div_ceil(2));
                v = red.scale(v, at.width.div_ceil(2), at.height.div_ceil(2));
            }
        }
        let space = output.color_of(picture);
        let stride = format.stride(frame_width);
        let padding = output.padding_gray();
        let is_boxed = (at.width, at.height) != (frame_width, frame_height);
        match format {
            PixelFormat::I420 => {
                let (frame_chroma_width, frame_chroma_height) = (frame_width.div_ceil(2), frame_height.div_ceil(2));
                let (luma, chroma) = out.split_at_mut(frame_width * frame_height);
                let (blue, red) = chroma.split_at_mut(frame_chroma_width * frame_chroma_height);
                if is_boxed {
                    luma.fill(space.luma_of(padding));
                    blue.fill(128);
                    red.fill(128);
                }
                y.copy_to(&mut luma[at.y * stride + at.x..], stride);
                let first = at.y / 2 * frame_chroma_width + at.x / 2;
                u.copy_to(&mut blue[first..], frame_chroma_width);
                v.copy_to(&mut red[first..], frame_chroma_width);
            }
            PixelFormat::Gray => {
                if is_boxed {
                    out.fill(padding);
                }
                let out = &mut out[at.y * stride + at.x..];
                match space.range {
                    ColorRange::Full => y.copy_to(out, stride),
                    ColorRange::Limited => stretch(y, out, stride),
                }
            }
            PixelFormat::Bgr | PixelFormat::Rgb => {
                if is_boxed {
                    out.fill(padding);
                }
                let is_rgb = format == PixelFormat::Rgb;
                let (weights, chroma) = (Weights::new(space, is_rgb), if is_rgb { [v, u] } else { [u, v] });
                color(y, chroma, &mut out[at.y * stride + at.x * 3..], stride, &weights);
            }
        }
        true
    }
}

/// [`Converter::convert`] for a single picture.
#[must_use]
pub fn convert(picture: &Picture<'_>, output: Output, out: &mut [u8]) -> bool {
    Converter::default().convert(picture, output, out)
}

/// 255 / 219 with 14 bits after the point.
pub(super) const STRETCH: i16 = 19_077;

/// Limited to full range.
fn stretch(luma: Rows<'_>, out: &mut [u8], stride: usize) {
    for (row, out) in luma.iter().zip(out.chunks_mut(stride)) {
        #[cfg(target_arch = "x86_64")]
        let done = super::simd::stretch(row, &mut out[..row.len()]);
        #[cfg(not(target_arch = "x86_64"))]
        let done = 0;
        for (out, &luma) in out.iter_mut().zip(row).skip(done) {
            let above_black = i16::from(luma.saturating_sub(16).min(219));
            *out = ((product(above_black << 7, STRETCH) + 32) >> 6) as u8;
        }
    }
}

/// Planes to pixels of three bytes, two rows at a time: they share their chroma samples.
fn color(y: Rows<'_>, chroma: [Rows<'_>; 2], out: &mut [u8], stride: usize, weights: &Weights) {
    let bytes = y.width * 3;
    for (index, out) in out.chunks_mut(stride * 2).enumerate() {
        let (chroma, first) = (chroma.map(|plane| plane.row(index)), index * 2);
        match out.split_at_mut_checked(stride) {
            Some((upper, lower)) if first + 1 < y.height => {
                rows([y.row(first), y.row(first + 1)], chroma, [&mut upper[..bytes], &mut lower[..bytes]], weights);
            }
            _ if first < y.height => rows([y.row(first)], chroma, [&mut out[..bytes]], weights),
            _ => break, // below a letterbox's picture
        }
    }
}

/// A plane's rows without their padding.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) plane: &'a [u8],
    pub(super) stride: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

impl<'a> Rows<'a> {
    /// Itself, if there are rows and the plane holds them.
    fn measured(self) -> Option<Self> {
        let Self { plane, stride, width, height } = self;
        let needed = stride.checked_mul(height.checked_sub(1)?)?.checked_add(width)?;
        (width > 0 && stride >= width && plane.len() >= needed).then_some(self)
    }

    /// This row; the last one for those below it.
    pub(super) fn row(self, index: usize) -> &'a [u8] {
        &self.plane[index.min(self.height - 1) * self.stride..][..self.width]
    }

    fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        self.plane.chunks(self.stride).take(self.height).filter_map(move |row| row.get(..self.width))
    }

    fn copy_to(self, out: &mut [u8], stride: usize) {
        for (out, row) in out.chunks_mut(stride).zip(self.iter()) {
            out[..self.width].copy_from_slice(row);
        }
    }
}

/// The formula's factors in fixed point. Blue takes nothing from V and red nothing from U, so the first and the third byte
/// have one factor each: for the chroma plane that is near to the first byte, and for the other one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weights {
    /// Of luma, with 14 bits after the point.
    pub(super) luma: i16,
    /// Of chroma, with 13 bits after the point.
    pub(super) first: i16,
    pub(super) second: [i16; 2],
    pub(super) third: i16,
    /// What black and the last rounding add, with 6 bits after the point.
    pub(super) offset: i16,
}

impl Weights {
    fn new(space: ColorSpace, is_rgb: bool) -> Self {
        let (kr, kb) = space.matrix.weights();
        let kg = 1.0 - kr - kb;
        let (black, luma_scale, chroma_scale) = match space.range {
            ColorRange::Limited => (16.0, 255.0 / 219.0, 255.0 / 224.0),
            ColorRange::Full => (0.0, 1.0, 1.0),
        };
        let fixed = |factor: f64| (factor * chroma_scale * 8192.0).round() as i16;
        // H.264 equations E-16 and E-17 solved for R, G and B.
        let [red, blue] = [kr, kb].map(|k| fixed(2.0 * (1.0 - k)));
        let [red_in_green, blue_in_green] = [kr, kb].map(|k| fixed(-2.0 * k * (1.0 - k) / kg));
        let (first, second, third) = if is_rgb {
            (red, [red_in_green, blue_in_green], blue)
        } else {
            (blue, [blue_in_green, red_in_green], red)
        };
        let luma = (luma_scale * 16384.0_f64).round() as i16;
        // Half a step for the last rounding.
        Self { luma, first, second, third, offset: (32.0 - black * luma_scale * 64.0).round() as i16 }
    }
}

/// Rounded product of two numbers with 15 bits after the point: one `pmulhrsw`.
#[inline(always)]
fn product(a: i16, b: i16) -> i16 {
    ((((i32::from(a) * i32::from(b)) >> 14) + 1) >> 1) as i16
}

/// Rows of three-byte pixels that share their chroma samples, the portable way, from pixel `done` on.
fn rows_portable<const N: usize>(
    luma: [&[u8]; N],
    [near, far]: [&[u8]; 2],
    mut out: [&mut [u8]; N],
    weights: &Weights,
    done: usize,
) {
    let Weights { luma: scale, first, second, third, offset } = *weights;
    let byte = |y: i16, c: i16| (y.saturating_add(c) >> 6).clamp(0, 255) as u8;
    for ((at, &near), &far) in (done..).step_by(2).zip(&near[done / 2..]).zip(&far[done / 2..]) {
        let (near, far) = ((i16::from(near) - 128) << 8, (i16::from(far) - 128) << 8);
        let first = product(near, first) + offset;
        let second = product(near, second[0]) + product(far, second[1]) + offset;
        let third = product(far, third) + offset;
        for (out, luma) in out.iter_mut().zip(luma) {
            for (out, &luma) in out[at * 3..].chunks_exact_mut(3).zip(&luma[at..]).take(2) {
                let y = product(i16::from(luma) << 7, scale);
                out.copy_from_slice(&[byte(y, first), byte(y, second), byte(y, third)]);
            }
        }
    }
}

fn rows<const N: usize>(luma: [&[u8]; N], chroma: [&[u8]; 2], mut out: [&mut [u8]; N], weights: &Weights) {
    #[cfg(target_arch = "x86_64")]
    let done = super::simd::rows(luma, chroma, out.each_mut().map(|row| &mut **row), weights);
    #[cfg(not(target_arch = "x86_64"))]
    let done = 0;
    rows_portable(luma, chroma, out, weights, done);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::ColorMatrix;
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
        // Every value where the fast kernel works, and once more behind it.
        let luma: Vec<u8> = (0..=255).chain(0..=30).chain(225..=255).collect();
        for range in [ColorRange::Limited, ColorRange::Full] {
            let space = ColorSpace::new(ColorMatrix::Bt601, range);
            let mut out = vec![9; luma.len()];
            let picture = picture([&luma, &[128; 160], &[128; 160]], [luma.len(), 160], luma.len(), 1, space);
            assert!(convert(&picture, Output::gray(), &mut out));
            for (&luma, &got) in luma.iter().zip(&out) {
                let [_, _, want] = exact(space, luma, 128, 128);
                assert!((f64::from(got) - want).abs() <= 1.0, "{range}: {luma} becomes {got}, not {want}");
            }
            let want = if range == ColorRange::Limited { [0, 128, 255] } else { [16, 126, 235] };
            assert_eq!([out[16], out[126], out[235]], want);
        }
    }

    #[test]
    fn all_kernels_give_the_same_bytes() {
        let weights = Weights::new(ColorSpace::new(ColorMatrix::Bt709, ColorRange::Limited), false);
        let luma: Vec<u8> = (0..334).map(|i| (i * 31) as u8).collect();
        let [u, v]: [Vec<u8>; 2] = [17, 29].map(|step| (0..167).map(|i| (i * step) as u8).collect());
        let (mut fast, mut portable) = ([[0; 999]; 2], [[0; 999]; 2]);
        let luma = [&luma[..333], &luma[1..]];
        rows(luma, [&u, &v], fast.each_mut().map(|row| &mut row[..]), &weights);
        rows_portable(luma, [&u, &v], portable.each_mut().map(|row| &mut row[..]), &weights, 0);
        assert_eq!(fast, portable);
        #[cfg(target_arch = "x86_64")]
        {
            let mut narrow = [[0; 999]; 2];
            let done =
                crate::decode::simd::rows_narrow(luma, [&u, &v], narrow.each_mut().map(|row| &mut row[..]), &weights);
            assert_eq!(narrow.map(|row| row[..done * 3].to_vec()), portable.map(|row| row[..done * 3].to_vec()));
        }
    }

    /// A letterbox is the fitted frame within its padding, in every format; sizes are odd.
    #[test]
    fn letterboxes_hold_the_fitted_picture() {
        let space = ColorSpace::new(ColorMatrix::Bt709, ColorRange::Limited);
        let planes: [Vec<u8>; 3] = [7, 13, 5].map(|step| (0..101 * 67).map(|i| (i * step / 3) as u8).collect());
        let picture = picture([&planes[0], &planes[1], &planes[2]], [101, 51], 101, 67, space);
        let mut converter = Converter::default();
        for (box_width, box_height) in [(71, 71), (40, 133), (201, 99), (101, 67), (1, 1), (64, 20)] {
            for format in [PixelFormat::Bgr, PixelFormat::Rgb, PixelFormat::Gray] {
                let output = Output::new(format).padding(114);
                let at = output.letterbox(box_width, box_height).placement(101, 67);
                let mut fitted = vec![0; format.frame_bytes(at.width, at.height)];
                assert!(converter.convert(&picture, output.fit(box_width, box_height), &mut fitted));
                let mut boxed = vec![1; format.frame_bytes(box_width, box_height)];
                assert!(converter.convert(&picture, output.letterbox(box_width, box_height), &mut boxed));
                let (mut want, pixel) = (vec![114; boxed.len()], format.stride(1));
                for (row, fitted) in fitted.chunks(at.width * pixel).enumerate() {
                    want[((at.y + row) * box_width + at.x) * pixel..][..fitted.len()].copy_from_slice(fitted);
                }
                assert_eq!(boxed, want, "{format} in {box_width}x{box_height}");
            }
        }
        let mut boxed = vec![1; PixelFormat::I420.frame_bytes(64, 48)];
        assert!(converter.convert(&picture, Output::i420().letterbox(64, 48).padding(114), &mut boxed));
        let at = Output::i420().letterbox(64, 48).placement(101, 67);
        assert_eq!((at.x, at.y, at.width, at.height), (0, 2, 64, 42));
        let (luma, chroma) = boxed.split_at(64 * 48);
        assert!(luma[..64 * 2].iter().chain(&luma[64 * 44..]).all(|&luma| luma == 114)); // 16 + 114 * 219 / 255
        assert!(chroma[..32].iter().chain(&chroma[32 * 22..32 * 25]).all(|&chroma| chroma == 128));
    }

    #[test]
    fn scaled_colours_are_those_of_scaled_planes() {
        let space = ColorSpace::new(ColorMatrix::Bt601, ColorRange::Full);
        let planes: [Vec<u8>; 3] = [7, 13, 5].map(|step| (0..300 * 90).map(|i| (i * step / 4) as u8).collect());
        for (width, height) in [(150, 45), (100, 30), (77, 31), (301, 95)] {
            let mut small = vec![0; PixelFormat::I420.frame_bytes(width, height)];
            let source = picture([&planes[0], &planes[1], &planes[2]], [300, 150], 300, 90, space);
            assert!(convert(&source, Output::i420().exact(width, height), &mut small));
            let (luma, chroma) = small.split_at(width * height);
            let (u, v) = chroma.split_at(chroma.len() / 2);
            let scaled = picture([luma, u, v], [width, width.div_ceil(2)], width, height, space);
            for format in [PixelFormat::Bgr, PixelFormat::Rgb, PixelFormat::Gray] {
                let mut want = vec![0; format.frame_bytes(width, height)];
                let mut got = want.clone();
                assert!(convert(&scaled, Output::new(format), &mut want));
                assert!(convert(&source, Output::new(format).exact(width, height), &mut got));
                assert_eq!(got, want, "{format} of {width}x{height}");
            }
        }
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
