//! Planes of another size.
//!
//! Down the columns first, so that whole rows go through one instruction, then along the one row that is left of them.
//! An axis that shrinks takes the area average: an output sample is the mean of the stretch of source samples under it,
//! those at its ends by the part that is covered. An axis that grows is interpolated linearly between the two nearest.
//!
//! Fixed point: the weights of an output sample add up to one, with 15 bits after the point down the columns and 14 along
//! the row. Between the passes a sample is what it is above 128, with 8 bits after the point: all of a signed word.
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
    /// One row after the pass down the columns, and room for weights of zero behind it.
    row: Vec<i16>,
    plane: Vec<u8>,
}

impl Scaler {
    /// The plane in this width and height, none of which may be zero.
    pub(super) fn scale(&mut self, plane: Rows<'_>, width: usize, height: usize) -> Rows<'_> {
        let Self { down, along, row, plane: out } = self;
        down.set(plane.height, height, DOWN, 1);
        along.set(plane.width, width, ALONG, FEW_COLUMNS);
        row.resize(plane.width + along.taps + LANES, 0);
        out.resize(width * height, 0);
        for (index, out) in out.chunks_exact_mut(width).enumerate() {
            let weights = &down.weights[index * down.taps..][..down.taps];
            blend(plane, down.first[index] as usize, weights, &mut row[..plane.width]);
            gather(row, along, out);
        }
        Rows { plane: out, stride: width, width, height }
    }
}

/// One, as weights down the columns and along a row are written.
const DOWN: usize = 1 << 15;
const ALONG: usize = 1 << 14;

/// Half a step for the last rounding, and the 128 that samples had lost, as sums along a row are written.
pub(super) const MIDDLE: i32 = (128 << 22) + (1 << 21);

/// Of so many rows the products may be rounded to 8 bits after the point before they are summed.
pub(super) const FEW_ROWS: usize = 16;
/// Weights along a row come in fours, or in groups of what one load takes.
pub(super) const FEW_COLUMNS: usize = 4;
pub(super) const LANES: usize = 8;

/// Which source samples an output sample along one axis is made of.
#[derive(Debug, Default)]
pub(super) struct Axis {
    source: usize,
    target: usize,
    /// Weights of an output sample; those at the end may be zero and stand for no sample.
    pub(super) taps: usize,
    /// The first source sample of each output sample.
    pub(super) first: Vec<u32>,
    /// Of all output samples one after the other.
    pub(super) weights: Vec<i16>,
    /// For two output samples with four weights each: where their samples lie among the bytes from the first one on.
    pub(super) picks: Vec<[u8; 16]>,
}

impl Axis {
    /// Weights in whole numbers of `1 / unit`, as many for an output sample as `group` demands.
    fn set(&mut self, source: usize, target: usize, unit: usize, group: usize) {
        if (self.source, self.target) == (source, target) {
            return;
        }
        let is_growing = target > source;
        let taps = if is_growing { 2 } else { source.div_ceil(target) + usize::from(!source.is_multiple_of(target)) };
        (self.source, self.target) = (source, target);
        self.taps = taps.next_multiple_of(if taps > group && group > 1 { LANES } else { group });
        self.first.clear();
        self.weights.clear();
        for index in 0..target {
            let end = self.weights.len() + self.taps;
            let first = if is_growing {
                // In units of half an output sample, from the middle of the first source sample.
                let at = ((2 * index + 1) * source).saturating_sub(target);
                let first = at / (2 * target);
                // The last source sample goes on to the edge.
                let next = if first + 1 < source { (at % (2 * target) * unit + target) / (2 * target) } else { 0 };
                self.weights.extend([unit - next, next].map(|weight| i16::try_from(weight).unwrap_or(i16::MAX)));
                first
            } else {
                // In units of `1 / target` of a source sample, where borders of both kinds are whole numbers.
                let (start, stop) = (index * source, (index + 1) * source);
                let samples = start / target..stop.div_ceil(target);
                // What is covered up to there; a difference of two, so that the weights add up to one.
                let covered = |at: usize| ((at.clamp(start, stop) - start) * unit + source / 2) / source;
                let weight = |sample: usize| covered((sample + 1) * target) - covered(sample * target);
                // The whole of one sample, 1 << 15, is one too much.
                self.weights.extend(samples.clone().map(|sample| i16::try_from(weight(sample)).unwrap_or(i16::MAX)));
                samples.start
            };
            self.first.push(first as u32);
            self.weights.resize(end, 0);
        }
        self.picks.clear();
        self.picks.extend(self.first.as_chunks::<2>().0.iter().map(|[first, second]| {
            // With four weights at most, the second one begins at most four samples, eight bytes, later.
            let apart = (second - first) as usize * 2;
            std::array::from_fn(|byte| if byte < 8 { byte } else { byte - 8 + apart } as u8)
        }));
    }
}

/// The weighted sum of rows from `first` on.
fn blend(plane: Rows<'_>, first: usize, weights: &[i16], out: &mut [i16]) {
    #[cfg(target_arch = "x86_64")]
    let done = super::simd::blend(plane, first, weights, out);
    #[cfg(not(target_arch = "x86_64"))]
    let done = 0;
    blend_portable(plane, first, weights, out, done);
}

/// From column `done` on.
fn blend_portable(plane: Rows<'_>, first: usize, weights: &[i16], out: &mut [i16], mut done: usize) {
    const STEP: usize = 16;
    for out in out[done..].chunks_mut(STEP) {
        let mut sums = [0; STEP];
        for (row, &weight) in (first..).zip(weights) {
            for (sum, &sample) in sums.iter_mut().zip(&plane.row(row)[done..][..out.len()]) {
                *sum += (i32::from(sample) - 128) * i32::from(weight);
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = ((sum + 0x40) >> 7) as i16;
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

/// From output sample `done` on.
fn gather_portable(row: &[i16], axis: &Axis, out: &mut [u8], done: usize) {
    let weights = axis.weights.chunks_exact(axis.taps);
    for ((out, &first), weights) in out.iter_mut().zip(&axis.first).zip(weights).skip(done) {
        let samples = row[first as usize..].iter().zip(weights);
        let sum: i32 = samples.map(|(&sample, &weight)| i32::from(sample) * i32::from(weight)).sum();
        *out = ((sum + MIDDLE) >> 22) as u8;
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
            ((1920, 1080), (960, 540)),
            ((1920, 1080), (480, 270)),
            ((640, 360), (640, 120)),
            ((640, 360), (200, 360)),
            ((90, 1000), (50, 60)),
            ((4000, 3), (8192, 1)),
        ] {
            for plane in [noise(from.0 * from.1), vec![255; from.0 * from.1], vec![0; from.0 * from.1]] {
                let scaled = scaler.scale(rows(&plane, from), to.0, to.1);
                assert_eq!(scaled.plane.len(), to.0 * to.1);
                for (index, (&got, want)) in scaled.plane.iter().zip(reference(&plane, from, to)).enumerate() {
                    // Half a step to the nearest whole number, and what weights and the two passes round.
                    let off = (f64::from(got) - want).abs();
                    assert!(off < 0.55, "{from:?} to {to:?} at {index}: {got} is not {want}");
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
                let nearest = (sum + ratio * ratio / 2) / (ratio * ratio);
                assert_eq!(usize::from(got), nearest, "{ratio}:1 at {index}");
            }
        }
    }

    /// A plane of 24 by 12 through `ffmpeg -vf scale=…:flags=area+accurate_rnd`.
    #[test]
    fn ffmpeg_says_the_same() {
        let sample = |x: usize, y: usize| {
            let check = if (x / 5 + y / 4).is_multiple_of(2) { 0 } else { 90 };
            (x * x * 7 + y * y * 11 + x * y * 5 + check) as u8
        };
        let plane: Vec<u8> = (0..12).flat_map(|y| (0..24).map(move |x| sample(x, y))).collect();
        let mut scaler = Scaler::default();
        let third = [
            35, 100, 121, 149, 133, 108, 117, 108, 104, 146, 104, 114, 127, 168, 148, 151, 141, 142, 117, 143, 116,
            117, 142, 104, 145, 89, 160, 180, 129, 182, 98, 139,
        ];
        assert_eq!(scaler.scale(rows(&plane, (24, 12)), 8, 4).plane, third);
        let quarter = [74, 112, 139, 135, 108, 132, 118, 133, 125, 118, 148, 112, 126, 132, 159, 139, 144, 136];
        assert_eq!(scaler.scale(rows(&plane, (24, 12)), 6, 3).plane, quarter);
        // Where borders lie within samples.
        let two_thirds = [
            7, 27, 89, 55, 131, 93, 179, 137, 180, 141, 145, 105, 89, 159, 69, 141, 38, 68, 140, 115, 145, 116, 99,
            180, 121, 91, 106, 75, 70, 148, 70, 151, 77, 118, 147, 150, 61, 157, 145, 106, 118, 155, 153, 190, 171,
            129, 199, 120,
        ];
        let scaled = scaler.scale(rows(&plane, (24, 12)), 16, 8);
        for (got, want) in scaled.plane.iter().zip(two_thirds) {
            assert!(got.abs_diff(want) <= 1, "{got} is not {want}");
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

    /// The fast kernel rounds each row's part, the portable one their sum.
    #[test]
    fn both_kernels_agree_within_a_step() {
        let shrink: usize = if cfg!(miri) { 12 } else { 1 }; // which is a thousand times slower
        let plane = noise(333 * 111);
        let plane = rows(&plane, (333, 111 / shrink));
        for (width, height) in [(332, 110), (166, 55), (111, 37), (83, 27), (77, 20), (40, 15), (30, 7), (500, 220)] {
            let height = usize::div_ceil(height, shrink);
            let mut scaler = Scaler::default();
            let fast = scaler.scale(plane, width, height).plane.to_vec();
            let Scaler { down, along, mut row, .. } = scaler;
            let mut out = vec![0; width];
            for (y, fast) in fast.chunks_exact(width).enumerate() {
                let weights = &down.weights[y * down.taps..][..down.taps];
                blend_portable(plane, down.first[y] as usize, weights, &mut row[..333], 0);
                gather_portable(&row, &along, &mut out, 0);
                for (x, (&fast, &portable)) in fast.iter().zip(&out).enumerate() {
                    assert!(fast.abs_diff(portable) <= 1, "{width}x{height} at {x},{y}: {fast} is not {portable}");
                }
            }
        }
    }
}
