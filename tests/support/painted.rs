//! The simulated camera's painted counter, as a witness of what was lost, repeated or put in the wrong order.

use kvs_hls::sim::Timeline;
use kvs_hls::{Frame, GapCause, PixelFormat};

const BITS: usize = 16;
const BLOCK: usize = 16;
/// Frames of the demo recordings.
const LOOP: u64 = 75;

/// The number painted into a gray picture; `None` when it cannot be read.
pub fn counter(frame: &Frame) -> Option<u64> {
    assert_eq!(frame.format(), PixelFormat::Gray);
    let bright = |x: usize, y: usize| frame.data().get(y * frame.stride() + x).map(|luma| *luma >= 128);
    (0..BITS).try_fold(0, |counter, bit| {
        let x = bit * BLOCK + BLOCK / 2;
        let (upper, lower) = (bright(x, BLOCK / 2)?, bright(x, BLOCK + BLOCK / 2)?);
        (upper != lower).then_some(counter | u64::from(upper) << bit)
    })
}

/// Looks at each frame and keeps book.
#[derive(Debug, Default)]
pub struct Ledger {
    last: Option<(Option<u64>, u64)>,
    pub frames: u64,
    pub synthetic: u64,
    /// Causes of the gaps that were reported.
    pub gaps: Vec<GapCause>,
    /// Each in a line; the first ones.
    pub defects: Vec<String>,
    pub generations: u32,
}

impl Ledger {
    fn defect(&mut self, text: String) {
        if self.defects.len() < 10 {
            self.defects.push(text);
        }
    }

    pub fn look(&mut self, frame: &Frame, timeline: &Timeline) {
        let meta = frame.meta();
        if meta.is_synthetic {
            self.synthetic += 1;
            return;
        }
        self.frames += 1;
        self.generations = self.generations.max(meta.session_generation);
        let fragment = meta.fragment_number.as_ref().and_then(|number| timeline.find(number.as_str()));
        let at = format!("frame {} (fragment {fragment:?})", self.frames);
        if let Some(gap) = meta.gap_before {
            self.gaps.push(gap.cause);
        }
        let Some(painted) = counter(frame) else { return self.defect(format!("{at}: unreadable")) };
        if let Some((last_fragment, last_painted)) = self.last {
            let is_next = painted == (last_painted + 1) % LOOP
                && fragment.zip(last_fragment).is_none_or(|(now, last)| now == last || now == last + 1);
            match (is_next, meta.gap_before) {
                (true, Some(gap)) if ![GapCause::Reconnect, GapCause::NotRecorded].contains(&gap.cause) => {
                    self.defect(format!("{at}: {gap:?} where nothing is missing"));
                }
                (false, None) => self.defect(format!("{at}: {painted} after {last_painted} of {last_fragment:?}")),
                _ => {}
            }
            let is_later = match fragment.zip(last_fragment) {
                Some((now, last)) => now > last || now == last && painted > last_painted,
                None => true,
            };
            if !is_later {
                self.defect(format!(
                    "{at}: {painted} repeated or out of order after {last_painted} of {last_fragment:?}"
                ));
            }
        }
        self.last = Some((fragment, painted));
    }
}
