//! Whether the frames of the simulated camera are all there, once each, in order.

use std::time::{Duration, SystemTime};

use kvs_hls::{Frame, Pts};

/// Capture times are whole milliseconds at the start of each fragment.
const TOLERANCE: Duration = Duration::from_millis(2);

/// What the pictures are known to show.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// Frames of the recording: the painted counter starts again behind them.
    pub frames: u64,
    /// From one frame to the next.
    pub step: Duration,
}

/// Looks at every frame.
#[derive(Debug)]
pub struct Check {
    /// `None` for a recording that nothing is known of.
    expected: Option<Expected>,
    last: Option<Last>,
    counter: Option<u64>,
    pub defects: Defects,
}

#[derive(Debug)]
struct Last {
    captured_at: SystemTime,
    pts: Pts,
}

/// How many frames were wrong, and how.
#[derive(Debug, Default)]
pub struct Defects {
    /// Frames that came with a gap before them.
    pub gaps: u64,
    /// Frames captured no later than the frame before.
    pub out_of_order: u64,
    /// Frames whose times are not one step behind the frame before.
    pub uneven: u64,
    /// Frames whose painted counter cannot be read.
    pub unreadable: u64,
    /// Frames whose painted counter is not the next one: something was lost or repeated.
    pub miscounted: u64,
    /// The first defect, in words.
    pub first: Option<String>,
}

impl Defects {
    pub fn total(&self) -> u64 {
        self.gaps + self.out_of_order + self.uneven + self.unreadable + self.miscounted
    }

    fn note(&mut self, count: impl Fn(&mut Self) -> &mut u64, text: impl FnOnce() -> String) {
        *count(self) += 1;
        self.first.get_or_insert_with(text);
    }
}

impl Check {
    pub fn new(expected: Option<Expected>) -> Self {
        Self { expected, last: None, counter: None, defects: Defects::default() }
    }

    /// The number painted into the last frame.
    pub fn counter(&self) -> Option<u64> {
        self.counter
    }

    /// Looks at a BGR frame.
    pub fn look(&mut self, frame: &Frame) {
        let meta = frame.meta();
        let defects = &mut self.defects;
        if let Some(gap) = meta.gap_before {
            defects.note(|defects| &mut defects.gaps, || format!("a gap was reported ({})", gap.cause));
        }
        if let Some(last) = &self.last {
            let step = meta.captured_at.duration_since(last.captured_at).ok().filter(|step| !step.is_zero());
            match (step, self.expected) {
                (None, _) => defects.note(
                    |defects| &mut defects.out_of_order,
                    || "a frame was captured no later than the one before".into(),
                ),
                (Some(step), Some(expected)) => {
                    let pts_step = meta.pts.nanos_since(last.pts);
                    let pts_error = (pts_step - expected.step.as_nanos() as i128).unsigned_abs();
                    if step.abs_diff(expected.step) > TOLERANCE || pts_error > TOLERANCE.as_nanos() {
                        let milliseconds = pts_step / 1_000_000;
                        defects.note(
                            |defects| &mut defects.uneven,
                            || format!("a frame came {step:?} behind the one before ({milliseconds} ms by its pts)"),
                        );
                    }
                }
                (Some(_), None) => {}
            }
        }
        self.last = Some(Last { captured_at: meta.captured_at, pts: meta.pts });
        if let Some(expected) = self.expected {
            self.count(frame, expected.frames);
        }
    }

    fn count(&mut self, frame: &Frame, frames: u64) {
        let due = self.counter.map(|counter| (counter + 1) % frames);
        let painted = painted_counter(frame.data(), frame.stride());
        let defects = &mut self.defects;
        match (painted, due) {
            (None, _) => {
                defects.note(|defects| &mut defects.unreadable, || "a painted counter cannot be read".into());
            }
            (Some(painted), Some(due)) if painted != due => {
                let text = || format!("the painted counter is {painted} where {due} is due");
                defects.note(|defects| &mut defects.miscounted, text);
            }
            _ => {}
        }
        self.counter = painted.or(due);
    }
}

const BITS: usize = 16;
const BLOCK: usize = 16;

/// Reads the counter in a BGR picture: 16 blocks of 16x16 pixels at the top left, block `i` white when bit `i` is set;
/// the row under it holds the inverse. `None` when the rows do not fit each other.
fn painted_counter(bgr: &[u8], stride: usize) -> Option<u64> {
    (0..BITS).try_fold(0, |counter, bit| {
        let upper = is_white(bgr, stride, bit * BLOCK + BLOCK / 2, BLOCK / 2)?;
        let lower = is_white(bgr, stride, bit * BLOCK + BLOCK / 2, BLOCK + BLOCK / 2)?;
        (upper != lower).then_some(counter | u64::from(upper) << bit)
    })
}

/// Whether a pixel is bright; `None` outside the picture.
fn is_white(bgr: &[u8], stride: usize, x: usize, y: usize) -> Option<bool> {
    if (x + 1) * 3 > stride {
        return None;
    }
    let at = y * stride + x * 3;
    let &[blue, green, red] = bgr.get(at..at + 3)? else { return None };
    // BT.601 luma, in 256ths.
    let luma = (29 * u32::from(blue) + 150 * u32::from(green) + 77 * u32::from(red)) >> 8;
    Some(luma >= 128)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRIDE: usize = 320 * 3;

    fn painted(number: u64) -> Vec<u8> {
        let mut bgr = vec![0; STRIDE * 40];
        for (y, row) in bgr.chunks_exact_mut(STRIDE).enumerate().take(2 * BLOCK) {
            for (x, pixel) in row.chunks_exact_mut(3).enumerate().take(BITS * BLOCK) {
                let is_set = number >> (x / BLOCK) & 1 == 1;
                pixel.fill(if is_set == (y < BLOCK) { 250 } else { 5 });
            }
        }
        bgr
    }

    #[test]
    fn counters_are_read() {
        for number in [0, 1, 74, 0x8001, 0xffff] {
            assert_eq!(painted_counter(&painted(number), STRIDE), Some(number));
        }
        assert_eq!(painted_counter(&vec![0; STRIDE * 40], STRIDE), None, "no inverse below");
        assert_eq!(painted_counter(&painted(3)[..STRIDE * 20], STRIDE), None, "too low a picture");
        assert_eq!(painted_counter(&painted(3), 100 * 3), None, "too narrow a picture");
    }
}
