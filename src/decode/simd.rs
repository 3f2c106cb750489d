//! The kernels in AVX2 and AVX-512: the one place with `unsafe`.
//!
//! Three planes into pixels is mostly shuffling, and the compiler does not find the shuffles: the portable kernel compiled
//! for AVX2 takes four times as long. `benches/colour.rs` and `benches/scale.rs` measure the kernels. Products are rounded
//! (`mulhrs`) also where their high half would do: that the compiler takes apart when it knows a factor.
//!
//! Invariant: every load and store goes through a slice or an array whose length, checked by the type or an assertion
//! beside it, is at least the width of the access, and a kernel runs only where its instructions were detected.
#![allow(unsafe_code)]
#![allow(clippy::indexing_slicing, reason = "every index is within a length that a chunk's type or a constant fixed")]

use std::arch::x86_64::*;

use super::convert::{Rows, STRETCH, Weights};
use super::scale::{Axis, FEW_COLUMNS, FEW_ROWS, LANES, MIDDLE};

/// Pixels or samples that one step takes.
const STEP: usize = 32;

/// Pixels that one step of AVX-512 takes.
const WIDE: usize = 64;

/// Converts as many pixels from the start of the rows, which share their chroma, as whole steps hold and answers their
/// number; none without AVX2. AVX-512 needs byte permutes (Ice Lake, Zen 4): with them it takes a fifth less.
pub(super) fn rows<const N: usize>(
    luma: [&[u8]; N],
    chroma: [&[u8]; 2],
    out: [&mut [u8]; N],
    weights: &Weights,
) -> usize {
    if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vbmi") {
        // SAFETY: the processor has both.
        return unsafe { rows_avx512(luma, chroma, out, weights) };
    }
    rows_narrow(luma, chroma, out, weights)
}

/// The same for processors without AVX-512.
pub(super) fn rows_narrow<const N: usize>(
    luma: [&[u8]; N],
    chroma: [&[u8]; 2],
    out: [&mut [u8]; N],
    weights: &Weights,
) -> usize {
    if !is_x86_feature_detected!("avx2") {
        return 0;
    }
    // SAFETY: the processor has AVX2.
    unsafe { rows_avx2(luma, chroma, out, weights) }
}

#[target_feature(enable = "avx512bw,avx512vbmi")]
fn rows_avx512<const N: usize>(
    luma: [&[u8]; N],
    [near, far]: [&[u8]; 2],
    out: [&mut [u8]; N],
    weights: &Weights,
) -> usize {
    let (scale, offset) = (_mm512_set1_epi16(weights.luma), _mm512_set1_epi16(weights.offset));
    let [first, second, third] = [weights.first, weights.second[0], weights.third].map(|w| _mm512_set1_epi16(w));
    let second_far = _mm512_set1_epi16(weights.second[1]);
    let (middle, byte) = (_mm512_set1_epi16(128), _mm512_set1_epi16(0xff << 7));
    let places = WIDE_PLACES.map(|places| load_512(&places));

    let luma = luma.map(|row| row.as_chunks::<WIDE>().0);
    let mut out = out.map(|row| row.as_chunks_mut::<{ WIDE * 3 }>().0);
    let chroma = near.as_chunks::<{ WIDE / 2 }>().0.iter().zip(far.as_chunks::<{ WIDE / 2 }>().0);
    let mut steps = chroma.len();
    for (luma, out) in luma.iter().zip(&out) {
        steps = steps.min(luma.len()).min(out.len());
    }
    for (step, (near, far)) in chroma.enumerate().take(steps) {
        let near = _mm512_slli_epi16::<8>(_mm512_sub_epi16(_mm512_cvtepu8_epi16(load_256(near)), middle));
        let far = _mm512_slli_epi16::<8>(_mm512_sub_epi16(_mm512_cvtepu8_epi16(load_256(far)), middle));
        let both = _mm512_add_epi16(_mm512_mulhrs_epi16(near, second), _mm512_mulhrs_epi16(far, second_far));
        let terms = [
            _mm512_add_epi16(_mm512_mulhrs_epi16(near, first), offset),
            _mm512_add_epi16(both, offset),
            _mm512_add_epi16(_mm512_mulhrs_epi16(far, third), offset),
        ];
        for (luma, out) in luma.iter().zip(&mut out) {
            let (luma, out) = (load_512(&luma[step]), &mut out[step]);
            // Pixels 0, 2, 4… and 1, 3, 5…: both meet the same chroma samples.
            let even = _mm512_mulhrs_epi16(_mm512_and_si512(_mm512_slli_epi16::<7>(luma), byte), scale);
            let odd = _mm512_mulhrs_epi16(_mm512_and_si512(_mm512_srli_epi16::<1>(luma), byte), scale);
            let [first, second, third] = terms.map(|term| {
                let even = _mm512_srai_epi16::<6>(_mm512_adds_epi16(even, term));
                let odd = _mm512_srai_epi16::<6>(_mm512_adds_epi16(odd, term));
                _mm512_packus_epi16(even, odd)
            });
            for ((out, places), takes) in out.as_chunks_mut::<WIDE>().0.iter_mut().zip(places).zip(WIDE_THIRDS) {
                let two = _mm512_permutex2var_epi8(first, places, second);
                store_512(out, _mm512_mask_permutexvar_epi8(two, takes, places, third));
            }
        }
    }
    steps * WIDE
}

/// Where each byte of 64 pixels comes from: the place of its pixel in its plane (of sixteen the even ones first), with 64 more
/// in the second plane.
const WIDE_PLACES: [[u8; WIDE]; 3] = {
    let mut places = [[0; WIDE]; 3];
    let mut byte = 0;
    while byte < 3 * WIDE {
        let (pixel, plane) = (byte / 3, byte % 3);
        let place = pixel / 16 * 16 + pixel % 2 * 8 + pixel % 16 / 2;
        places[byte / WIDE][byte % WIDE] = if plane == 1 { place + WIDE } else { place } as u8;
        byte += 1;
    }
    places
};

/// The bytes of 64 that the third plane has, in each of the three.
const WIDE_THIRDS: [u64; 3] = {
    let mut thirds = [0; 3];
    let mut byte = 0;
    while byte < 3 * WIDE {
        if byte % 3 == 2 {
            thirds[byte / WIDE] |= 1 << (byte % WIDE);
        }
        byte += 1;
    }
    thirds
};

#[target_feature(enable = "avx2")]
fn rows_avx2<const N: usize>(
    luma: [&[u8]; N],
    [near, far]: [&[u8]; 2],
    out: [&mut [u8]; N],
    weights: &Weights,
) -> usize {
    let (scale, offset) = (_mm256_set1_epi16(weights.luma), _mm256_set1_epi16(weights.offset));
    let [first, second, third] = [weights.first, weights.second[0], weights.third].map(|w| _mm256_set1_epi16(w));
    let second_far = _mm256_set1_epi16(weights.second[1]);
    let (middle, byte) = (_mm256_set1_epi16(128), _mm256_set1_epi16(0xff << 7));
    let places = PLACES.map(|places| _mm256_broadcastsi128_si256(load_128(&places)));
    let [takes_0, takes_1, takes_2] = THIRDS.map(|third| _mm256_broadcastsi128_si256(load_128(&third)));

    let luma = luma.map(|row| row.as_chunks::<STEP>().0);
    let mut out = out.map(|row| row.as_chunks_mut::<{ STEP * 3 }>().0);
    let chroma = near.as_chunks::<{ STEP / 2 }>().0.iter().zip(far.as_chunks::<{ STEP / 2 }>().0);
    let mut steps = chroma.len();
    for (luma, out) in luma.iter().zip(&out) {
        steps = steps.min(luma.len()).min(out.len());
    }
    for (step, (near, far)) in chroma.enumerate().take(steps) {
        let near = _mm256_slli_epi16::<8>(_mm256_sub_epi16(_mm256_cvtepu8_epi16(load_128(near)), middle));
        let far = _mm256_slli_epi16::<8>(_mm256_sub_epi16(_mm256_cvtepu8_epi16(load_128(far)), middle));
        let both = _mm256_add_epi16(_mm256_mulhrs_epi16(near, second), _mm256_mulhrs_epi16(far, second_far));
        let terms = [
            _mm256_add_epi16(_mm256_mulhrs_epi16(near, first), offset),
            _mm256_add_epi16(both, offset),
            _mm256_add_epi16(_mm256_mulhrs_epi16(far, third), offset),
        ];
        for (luma, out) in luma.iter().zip(&mut out) {
            let (luma, out) = (load_256(&luma[step]), &mut out[step]);
            // Pixels 0, 2, 4… and 1, 3, 5…: both meet the same sixteen chroma samples.
            let even = _mm256_mulhrs_epi16(_mm256_and_si256(_mm256_slli_epi16::<7>(luma), byte), scale);
            let odd = _mm256_mulhrs_epi16(_mm256_and_si256(_mm256_srli_epi16::<1>(luma), byte), scale);
            let mut planes = terms;
            for (plane, &places) in planes.iter_mut().zip(&places) {
                let even = _mm256_srai_epi16::<6>(_mm256_adds_epi16(even, *plane));
                let odd = _mm256_srai_epi16::<6>(_mm256_adds_epi16(odd, *plane));
                *plane = _mm256_shuffle_epi8(_mm256_packus_epi16(even, odd), places);
            }
            let [first, second, third] = planes;
            // Thirds of pixels 0 to 15 in the lower half, of pixels 16 to 31 in the upper one.
            let start = _mm256_blendv_epi8(_mm256_blendv_epi8(first, second, takes_1), third, takes_2);
            let centre = _mm256_blendv_epi8(_mm256_blendv_epi8(first, second, takes_0), third, takes_1);
            let end = _mm256_blendv_epi8(_mm256_blendv_epi8(first, second, takes_2), third, takes_0);
            store_256(&mut out[..32], _mm256_permute2x128_si256::<0x20>(start, centre));
            store_256(&mut out[32..64], _mm256_blend_epi32::<0xf0>(end, start));
            store_256(&mut out[64..], _mm256_permute2x128_si256::<0x31>(centre, end));
        }
    }
    steps * STEP
}

/// Where the samples of each plane go: pixel `p` of sixteen (the even ones first, then the odd ones) to byte `3p + plane`
/// of 48, and as 3 and 16 have no common divisor, no two of them to the same place in their thirds.
const PLACES: [[u8; 16]; 3] = {
    let mut places = [[0; 16]; 3];
    let mut byte = 0;
    while byte < 48 {
        let pixel = byte / 3;
        places[byte % 3][byte % 16] = (pixel % 2 * 8 + pixel / 2) as u8;
        byte += 1;
    }
    places
};

/// The bytes of sixteen that a plane has in one of the thirds: every third one, from 0, 1 or 2 on.
const THIRDS: [[u8; 16]; 3] = {
    let mut thirds = [[0; 16]; 3];
    let mut byte = 0;
    while byte < 16 {
        thirds[byte % 3][byte] = 0xff;
        byte += 1;
    }
    thirds
};

/// Limited to full range for as many samples as whole steps hold; answers their number, none without AVX2.
pub(super) fn stretch(luma: &[u8], out: &mut [u8]) -> usize {
    if !is_x86_feature_detected!("avx2") {
        return 0;
    }
    // SAFETY: the processor has AVX2.
    unsafe { stretch_avx2(luma, out) }
}

#[target_feature(enable = "avx2")]
fn stretch_avx2(luma: &[u8], out: &mut [u8]) -> usize {
    let (zero, half, scale) = (_mm256_setzero_si256(), _mm256_set1_epi16(32), _mm256_set1_epi16(STRETCH));
    let (black, white) = (_mm256_set1_epi8(16), _mm256_set1_epi8(219_u8 as i8));
    let steps = out.as_chunks_mut::<STEP>().0.iter_mut().zip(luma.as_chunks::<STEP>().0);
    let done = steps.len() * STEP;
    for (out, luma) in steps {
        let luma = _mm256_min_epu8(_mm256_subs_epu8(load_256(luma), black), white);
        let low = _mm256_srli_epi16::<1>(_mm256_unpacklo_epi8(zero, luma));
        let high = _mm256_srli_epi16::<1>(_mm256_unpackhi_epi8(zero, luma));
        let low = _mm256_srai_epi16::<6>(_mm256_add_epi16(_mm256_mulhrs_epi16(low, scale), half));
        let high = _mm256_srai_epi16::<6>(_mm256_add_epi16(_mm256_mulhrs_epi16(high, scale), half));
        store_256(out, _mm256_packus_epi16(low, high));
    }
    done
}

/// Weighted sums of few rows for as many columns as whole steps hold; answers their number, none without AVX2.
pub(super) fn blend(plane: Rows<'_>, first: usize, weights: &[i16], out: &mut [i16]) -> usize {
    if weights.len() > FEW_ROWS || !is_x86_feature_detected!("avx2") {
        return 0;
    }
    // SAFETY: the processor has AVX2.
    unsafe {
        match weights.len() {
            1 | 2 => blend_avx2::<2>(plane, first, weights, out),
            3 => blend_avx2::<3>(plane, first, weights, out),
            4 => blend_avx2::<4>(plane, first, weights, out),
            5 | 6 => blend_avx2::<6>(plane, first, weights, out),
            _ => blend_avx2::<FEW_ROWS>(plane, first, weights, out),
        }
    }
}

/// `N` is the number of weights or above; the compiler unrolls what it knows.
#[target_feature(enable = "avx2")]
fn blend_avx2<const N: usize>(plane: Rows<'_>, first: usize, weights: &[i16], out: &mut [i16]) -> usize {
    let (zero, middle) = (_mm256_setzero_si256(), _mm256_set1_epi8(-128));
    let mut parts = [(&[][..], zero); N];
    for (index, part) in parts.iter_mut().enumerate() {
        let weight = weights.get(index).copied().unwrap_or(0);
        *part = (plane.row(first + index).as_chunks::<STEP>().0, _mm256_set1_epi16(weight));
    }
    let steps = out.as_chunks_mut::<STEP>().0;
    let done = steps.len() * STEP;
    for (step, out) in steps.iter_mut().enumerate() {
        let (mut left, mut right) = (zero, zero);
        for (row, weight) in &parts {
            let row = _mm256_xor_si256(load_256(&row[step]), middle);
            // Samples in the high bytes: columns 0 to 7 and 16 to 23, then the others.
            left = _mm256_add_epi16(left, _mm256_mulhrs_epi16(_mm256_unpacklo_epi8(zero, row), *weight));
            right = _mm256_add_epi16(right, _mm256_mulhrs_epi16(_mm256_unpackhi_epi8(zero, row), *weight));
        }
        store_words(&mut out[..16], _mm256_permute2x128_si256::<0x20>(left, right));
        store_words(&mut out[16..], _mm256_permute2x128_si256::<0x31>(left, right));
    }
    done
}

/// Weighted sums along a row for as many output samples as whole steps hold; answers their number, none without AVX2.
pub(super) fn gather(row: &[i16], axis: &Axis, out: &mut [u8]) -> usize {
    if !is_x86_feature_detected!("avx2") {
        return 0;
    }
    // SAFETY: the processor has AVX2.
    unsafe { if axis.taps == FEW_COLUMNS { gather_few(row, axis, out) } else { gather_many(row, axis, out) } }
}

/// Two output samples from one load of eight words, of which each takes four.
#[target_feature(enable = "avx2")]
fn gather_few(row: &[i16], axis: &Axis, out: &mut [u8]) -> usize {
    let steps = out.as_chunks_mut::<8>().0;
    let done = steps.len() * 8;
    let firsts = axis.first.as_chunks::<8>().0;
    let weights = axis.weights.as_chunks::<{ 8 * FEW_COLUMNS }>().0;
    let picks = axis.picks.as_chunks::<4>().0;
    for (((out, firsts), weights), picks) in steps.iter_mut().zip(firsts).zip(weights).zip(picks) {
        let low = load_two(row, firsts[0], firsts[2]);
        let high = load_two(row, firsts[4], firsts[6]);
        let low = _mm256_shuffle_epi8(low, load_256(picks[..2].as_flattened()));
        let high = _mm256_shuffle_epi8(high, load_256(picks[2..].as_flattened()));
        let low = _mm256_madd_epi16(low, load_more_words(&weights[..16]));
        let high = _mm256_madd_epi16(high, load_more_words(&weights[16..]));
        // Samples 0, 1, 4, 5, then 2, 3, 6, 7.
        let sums = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(low, high));
        *out = rounded(sums);
    }
    done
}

/// An output sample from as many loads of eight words as it takes.
#[target_feature(enable = "avx2")]
fn gather_many(row: &[i16], axis: &Axis, out: &mut [u8]) -> usize {
    let steps = out.as_chunks_mut::<8>().0;
    let done = steps.len() * 8;
    let firsts = axis.first.as_chunks::<8>().0;
    for ((out, firsts), weights) in steps.iter_mut().zip(firsts).zip(axis.weights.chunks_exact(axis.taps * 8)) {
        // Output samples 0 and 4, 1 and 5, …: so that adding neighbours twice leaves them in order.
        let mut sums = [_mm256_setzero_si256(); 4];
        for (index, sum) in sums.iter_mut().enumerate() {
            let (low, high) = (index, index + 4);
            for tap in (0..axis.taps).step_by(LANES) {
                let samples = _mm256_set_m128i(
                    load_words(&row[firsts[high] as usize + tap..][..LANES]),
                    load_words(&row[firsts[low] as usize + tap..][..LANES]),
                );
                let weights = _mm256_set_m128i(
                    load_words(&weights[high * axis.taps + tap..][..LANES]),
                    load_words(&weights[low * axis.taps + tap..][..LANES]),
                );
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(samples, weights));
            }
        }
        *out = rounded(_mm256_hadd_epi32(_mm256_hadd_epi32(sums[0], sums[1]), _mm256_hadd_epi32(sums[2], sums[3])));
    }
    done
}

/// Samples from weighted sums.
#[inline]
#[target_feature(enable = "avx2")]
fn rounded(sums: __m256i) -> [u8; 8] {
    let words = _mm256_srai_epi32::<22>(_mm256_add_epi32(sums, _mm256_set1_epi32(MIDDLE)));
    let words = _mm_packs_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
    _mm_cvtsi128_si64(_mm_packus_epi16(words, words)).to_le_bytes()
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_128(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: sixteen bytes; the instruction needs no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_512(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: sixty-four bytes; the instruction needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_512(bytes: &mut [u8; 64], value: __m512i) {
    // SAFETY: sixty-four bytes; the instruction needs no alignment.
    unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), value) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_256(bytes: &[u8]) -> __m256i {
    assert!(bytes.len() >= 32);
    // SAFETY: thirty-two bytes were just counted; the instruction needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_256(bytes: &mut [u8], value: __m256i) {
    assert!(bytes.len() >= 32);
    // SAFETY: thirty-two bytes were just counted; the instruction needs no alignment.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), value) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_words(words: &[i16]) -> __m128i {
    assert!(words.len() >= 8);
    // SAFETY: eight words of two bytes were just counted; the instruction needs no alignment.
    unsafe { _mm_loadu_si128(words.as_ptr().cast()) }
}

/// Eight words from `low` on, and eight from `high` on.
#[inline]
#[target_feature(enable = "avx2")]
fn load_two(words: &[i16], low: u32, high: u32) -> __m256i {
    _mm256_set_m128i(load_words(&words[high as usize..][..8]), load_words(&words[low as usize..][..8]))
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_more_words(words: &[i16]) -> __m256i {
    assert!(words.len() >= 16);
    // SAFETY: sixteen words of two bytes were just counted; the instruction needs no alignment.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_words(words: &mut [i16], value: __m256i) {
    assert!(words.len() >= 16);
    // SAFETY: sixteen words of two bytes were just counted; the instruction needs no alignment.
    unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), value) }
}
