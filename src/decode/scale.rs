//! Planes of another size.
//!
//! Down the columns first, so that whole rows go through one instruction, then along the one row that is left of them.
//! An axis that shrinks takes the area average: an output sample is the mean of the stretch of source samples under it,
//! those at its ends by the part that is covered. An axis that grows is interpolated linearly between the two nearest.
//! Weights are whole numbers, exact up to 16384 samples; between the passes a sample keeps 7 bits after the point.
#![allow(
    clippy::indexing_slicing,
    reason = "rows and weights were measured when the axis was set up; a panic here would be its mistake, not the input's"
)]

use super::convert::Rows;

/// Scales one plane after the other of the same size; keeps weights and buffers from one picture to the next.
#[derive(Debug, Default)]
pub(super) struct Scaler {
    down: Axis,
    along: Axis,
    /// One row after the pass down the columns, with 7 bits after the point, and room for weights of zero behind it.
    row: Vec<i16>,
    plane: Vec<u8>,
}

impl Scaler {
    /// The plane in this width and height, none of which may be zero.
    pub(super) fn scale(&mut self, rows: Rows<'_>, width: usize, height: usize) -> Rows<'_> {
        let Self { down, along, row, plane } = self;
        down.set(rows.height, height, ROWS, 128.0);
        along.set(rows.width, width, LANES, 1.0 / 128.0);
        row.resize(rows.width + LANES, 0);
        plane.resize(width * height, 0);
        for ((out, &first), weights) in
            plane.chunks_exact_mut(width).zip(&down.first).zip(down.weights.chunks_exact(down.taps))
        {
            blend(rows, first as usize, weights, down.scale, &mut row[..rows.width]);
            gather(row, along, out);
        }
        Rows { plane, stride: width, width, height }
    }
}

/// Weights come in groups of so many, filled up with zeros: what an instruction takes at once.
const ROWS: usize = 2;
pub(super) const LANES: usize = 8;

/// Which source samples an output sample along one axis is made of.
#[derive(Debug, Default)]
pub(super) struct Axis {
    source: usize,
    target: usize,
    /// Weights of an output sample.
    pub(super) taps: usize,
    /// The first source sample of each output sample.
    pub(super) first: Vec<u32>,
    /// Of all output samples one after the other; those of one have the same sum, 16384 at most.
    pub(super) weights: Vec<i16>,
    /// From the weighted sum to the result.
    pub(super) scale: f32,
}

impl Axis {
    fn set(&mut self, source: usize, target: usize, group: usize, gain: f32) {
        if (self.source, self.target) == (source, target) {
            return;
        }
        const UNIT: usize = 1 << 14;
        let is_growing = target > source;
        let unit = if is_growing { UNIT } else { (source / common_divisor(source, target)).min(UNIT) };
        let taps = if is_growing { 2 } else { source.div_ceil(target) + usize::from(source % target != 0) };
        (self.source, self.target, self.scale) = (source, target, gain / unit as f32);
        self.taps = taps.next_multiple_of(group);
        self.first.clear();
        self.weights.clear();
        for index in 0..target {
            let end = self.weights.len() + self.taps;
            let first = if is_growing {
                // In units of half an output sample, from the middle of the first source sample.
                let at = ((2 * index + 1) * source).saturating_sub(target);
                let first = at / (2 * target);
                // The last source sample goes on to the edge.
                let next = if first + 1 < source { (at % (2 * target) * UNIT + target) / (2 * target) } else { 0 };
                self.weights.extend([(UNIT - next) as i16, next as i16]);
                first
            } else {
                // In units of `1 / target` of a source sample, where borders of both kinds are whole numbers.
                let (start, stop) = (index * source, (index + 1) * source);
                let samples = start / target..stop.div_ceil(target);
                // What is covered up to there; a difference of two, so that nothing is lost where this is not exact.
                let covered = |at: usize| (at.clamp(start, stop) - start) * unit / source;
                let weight = |sample: usize| covered((sample + 1) * target) - covered(sample * target);
                self.weights.extend(samples.clone().map(|sample| weight(sample) as i16));
                samples.start
            };
            self.first.push(first as u32);
            self.weights.resize(end, 0);
        }
    }
}

fn common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// The number in `x`, rounded, for 0 to 2^22: adding so much pushes what is behind the point out of the mantissa.
#[inline(always)]
fn rounded(x: f32) -> u32 {
    (x + 12_582_912.0).to_bits()
}

/// The weighted sum of rows from `first` on.
fn blend(rows: Rows<'_>, first: usize, weights: &[i16], scale: f32, out: &mut [i16]) {
    #[cfg(target_arch = "x86_64")]
    let done = super::simd::blend(rows, first, weights, scale, out);
    #[cfg(not(target_arch = "x86_64"))]
    let done = 0;
    blend_portable(rows, first, weights, scale, out, done);
}

fn blend_portable(rows: Rows<'_>, first: usize, weights: &[i16], scale: f32, out: &mut [i16], mut done: usize) {
    const STEP: usize = 16;
    for out in out[done..].chunks_mut(STEP) {
        let mut sums = [0_i32; STEP];
        for (row, &weight) in (first..).zip(weights) {
            for (sum, &sample) in sums.iter_mut().zip(&rows.row(row)[done..][..out.len()]) {
                *sum += i32::from(sample) * i32::from(weight);
            }
        }
        for (out, &sum) in out.iter_mut().zip(&sums) {
            *out = rounded(sum as f32 * scale) as i16;
        }
        done += out.len();
    }
}

/// The weighted sums along a row.
fn gather(row: &[i16], axis: &Axis, out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    let done = super::simd::gather(row, axis, out);
    #[cfg(not(target_arch = "x86_64"))]
    let done = 0;
    gather_portable(row, axis, out, done);
}

fn gather_portable(row: &[i16], axis: &Axis, out: &mut [u8], done: usize) {
    let weights = axis.weights.chunks_exact(axis.taps);
    for ((out, &first), weights) in out.iter_mut().zip(&axis.first).zip(weights).skip(done) {
        let samples = row[first as usize..].iter().zip(weights);
        let sum: i32 = samples.map(|(&sample, &weight)| i32::from(sample) * i32::from(weight)).sum();
        *out = rounded(sum as f32 * axis.scale) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(bytes: usize) -> Vec<u8> {
        (0..bytes as u32)
            .map(|i| (i.wrapping_mul(2_654_435_761).rotate_left(13).wrapping_mul(40_503) >> 16) as u8)
            .collect()
    }

    /// What an output sample is made of, in real numbers and by the definition.
    fn parts(source: usize, target: usize) -> Vec<Vec<(usize, f64)>> {
        let ratio = source as f64 / target as f64;
        let of = |index: usize| {
            if target > source {
                let at = ((index as f64 + 0.5) * ratio - 0.5).clamp(0.0, source as f64 - 1.0);
                let below = at.floor() as usize;
                vec![(below, 1.0 - at.fract()), ((below + 1).min(source - 1), at.fract())]
            } else {
                let (start, end) = (index as f64 * ratio, (index + 1) as f64 * ratio);
                let covered = |i: usize| (end.min(i as f64 + 1.0) - start.max(i as f64)).max(0.0) / ratio;
                let last = (end.ceil() as usize).min(source);
                (start as usize..last).map(|i| (i, covered(i))).collect()
            }
        };
        (0..target).map(of).collect()
    }

    fn reference(plane: &[u8], from: (usize, usize), to: (usize, usize)) -> Vec<f64> {
        let (across, down) = (parts(from.0, to.0), parts(from.1, to.1));
        let mut out = Vec::new();
        for down in &down {
            let row: Vec<f64> = (0..from.0)
                .map(|x| down.iter().map(|&(y, part)| f64::from(plane[y * from.0 + x]) * part).sum())
                .collect();
            out.extend(across.iter().map(|parts| parts.iter().map(|&(x, part)| row[x] * part).sum::<f64>()));
        }
        out
    }

    fn rows(plane: &[u8], (width, height): (usize, usize)) -> Rows<'_> {
        Rows { plane, stride: width, width, height }
    }

    #[test]
    fn any_ratio_is_within_a_step_of_real_numbers() {
        let mut scaler = Scaler::default();
        for (from, to) in [
            ((1920, 1080), (640, 360)),
            ((1920, 1080), (1280, 720)),
            ((1920, 1080), (416, 234)),
            ((1920, 1080), (1, 1)),
            ((1920, 1080), (1919, 1079)),
            ((639, 361), (640, 360)),
            ((101, 67), (37, 91)),
            ((67, 101), (91, 37)),
            ((16, 16), (1024, 1024)),
            ((1, 1), (5, 3)),
            ((5, 3), (1, 1)),
            ((2, 3), (3, 2)),
            ((20_000, 2), (16_384, 1)),
            ((40_001, 1), (3, 1)),
        ] {
            for plane in [noise(from.0 * from.1), vec![255; from.0 * from.1], vec![0; from.0 * from.1]] {
                let scaled = scaler.scale(rows(&plane, from), to.0, to.1);
                assert_eq!(scaled.plane.len(), to.0 * to.1);
                for (index, (&got, want)) in scaled.plane.iter().zip(reference(&plane, from, to)).enumerate() {
                    // Half a step to the nearest whole number, and what the two passes round.
                    let off = (f64::from(got) - want).abs();
                    assert!(off < 0.51, "{from:?} to {to:?} at {index}: {got} is not {want}");
                }
            }
        }
    }

    #[test]
    fn whole_ratios_are_exact() {
        let plane = noise(24 * 12);
        let mut scaler = Scaler::default();
        for ratio in [2, 4] {
            let to = (24 / ratio, 12 / ratio);
            let scaled = scaler.scale(rows(&plane, (24, 12)), to.0, to.1);
            for (index, &got) in scaled.plane.iter().enumerate() {
                let (x, y) = (index % to.0 * ratio, index / to.0 * ratio);
                let block = (0..ratio).flat_map(|down| &plane[(y + down) * 24 + x..][..ratio]);
                let sum: usize = block.map(|&sample| usize::from(sample)).sum();
                // Halves go to the even neighbour.
                let (whole, rest) = (sum / (ratio * ratio), sum % (ratio * ratio) * 2);
                let up = rest > ratio * ratio || rest == ratio * ratio && whole % 2 == 1;
                assert_eq!(usize::from(got), whole + usize::from(up), "{ratio}:1 at {index}");
            }
        }
    }

    #[test]
    fn padding_between_rows_is_not_looked_at() {
        let (plane, mut scaler) = (noise(50 * 9), Scaler::default());
        let packed: Vec<u8> = plane.chunks(50).flat_map(|row| &row[..41]).copied().collect();
        let padded = Rows { plane: &plane[..50 * 8 + 41], stride: 50, width: 41, height: 9 };
        let scaled = scaler.scale(padded, 17, 4).plane.to_vec();
        assert_eq!(scaled, scaler.scale(rows(&packed, (41, 9)), 17, 4).plane);
    }

    #[test]
    fn both_kernels_give_the_same_samples() {
        let plane = noise(333 * 11);
        let rows = rows(&plane, (333, 11));
        for (width, height) in [(100, 4), (332, 10), (77, 11), (500, 20)] {
            let mut scaler = Scaler::default();
            let fast = scaler.scale(rows, width, height).plane.to_vec();
            let Scaler { down, along, mut row, .. } = scaler;
            let mut out = vec![0; width];
            for (y, fast) in fast.chunks_exact(width).enumerate() {
                let weights = &down.weights[y * down.taps..][..down.taps];
                blend_portable(rows, down.first[y] as usize, weights, down.scale, &mut row[..333], 0);
                gather_portable(&row, &along, &mut out, 0);
                assert_eq!(fast, out);
            }
        }
    }
}
