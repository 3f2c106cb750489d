//! Which frames the user wants.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind};
use crate::h264::AccessUnit;

/// Which frames of the stream are delivered.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
#[non_exhaustive]
pub enum FrameSelection {
    /// All.
    #[default]
    All,
    /// IDR pictures alone: nothing else is decoded.
    Keyframes,
    /// About so many frames a second, evenly spaced by capture time: the first frame at or after each tick. Pictures that
    /// are neither wanted nor referred to are not decoded.
    TargetFps(f64),
}

impl fmt::Display for FrameSelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Keyframes => f.write_str("keyframes"),
            Self::TargetFps(fps) => write!(f, "fps:{fps}"),
        }
    }
}

impl FromStr for FrameSelection {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "all" => Ok(Self::All),
            "keyframes" => Ok(Self::Keyframes),
            _ => match text.strip_prefix("fps:").map(str::parse) {
                Some(Ok(fps)) => Self::TargetFps(fps).checked(),
                _ => Err(crate::options::unknown_word(text, &["all", "keyframes", "fps:NUMBER"])),
            },
        }
    }
}

impl FrameSelection {
    /// # Errors
    /// `Config` for a rate that is not a positive number up to 1000.
    pub(crate) fn checked(self) -> Result<Self, Error> {
        match self {
            Self::TargetFps(fps) if !(fps.is_finite() && fps > 0.0 && fps <= 1000.0) => {
                Err(Error::new(ErrorKind::Config, format!("select of fps:{fps} (above 0 and at most 1000 is allowed)")))
            }
            _ => Ok(self),
        }
    }
}

/// In nanoseconds.
const SECOND: i128 = 1_000_000_000;

/// Decides frame by frame, in display order within a segment.
#[derive(Debug)]
pub(crate) struct Selector {
    selection: FrameSelection,
    /// For `TargetFps`: the next tick and the ticks' distance in nanoseconds.
    due: Option<i128>,
    period: i128,
    order: Vec<(i128, usize)>,
    wanted: Vec<bool>,
}

impl Selector {
    pub(crate) fn new(selection: FrameSelection) -> Self {
        let period = match selection {
            FrameSelection::TargetFps(fps) => ((1e9 / fps) as i128).max(1),
            _ => 1,
        };
        Self { selection, due: None, period, order: Vec::new(), wanted: Vec::new() }
    }

    /// Decides about the access units of a segment.
    pub(crate) fn plan(&mut self, units: &[AccessUnit]) {
        self.wanted.clear();
        match self.selection {
            FrameSelection::All => self.wanted.resize(units.len(), true),
            FrameSelection::Keyframes => self.wanted.extend(units.iter().map(AccessUnit::is_idr)),
            FrameSelection::TargetFps(_) => {
                self.wanted.resize(units.len(), false);
                self.order.clear();
                let times = units.iter().zip(0..).filter(|(unit, _)| unit.has_picture());
                self.order.extend(times.map(|(unit, index)| (unit.pts().as_nanos(), index)));
                self.order.sort_unstable();
                for &(time, index) in &self.order {
                    // Times that jump start the ticks anew. The next tick is never further ahead than a period.
                    let is_near =
                        |due: &i128| time - due < 10 * self.period.max(SECOND) && due - time <= self.period + SECOND;
                    let due = self.due.filter(is_near).unwrap_or(time);
                    // A tick is met by a frame up to a rounding error before it.
                    let late_by = time + 1_000_000 - due;
                    if late_by >= 0 {
                        if let Some(wanted) = self.wanted.get_mut(index) {
                            *wanted = true;
                        }
                        self.due = Some(due + (late_by / self.period + 1) * self.period);
                    } else {
                        self.due = Some(due);
                    }
                }
            }
        }
    }

    /// Whether the frame of this access unit of the planned segment is delivered.
    pub(crate) fn is_wanted(&self, index: usize) -> bool {
        self.wanted.get(index).copied().unwrap_or(true)
    }

    /// Whether the access unit need not be decoded.
    pub(crate) fn is_skippable(&self, index: usize, unit: &AccessUnit) -> bool {
        !self.is_wanted(index) && (unit.is_disposable() || self.selection == FrameSelection::Keyframes)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::h264::AvcConfig;
    use crate::time::{Dts, Pts, Timescale};

    fn units(pts: impl Iterator<Item = i64>, timescale: u32) -> Vec<AccessUnit> {
        let config = Arc::new(AvcConfig::parse(&Bytes::from_static(&[1, 66, 0, 30, 0xff, 0xe0, 0])).unwrap());
        pts.map(|ticks| {
            let pts = Pts::new(ticks, Timescale::new(timescale).unwrap());
            AccessUnit::new(Bytes::from_static(&[0, 0, 0, 1, 0x41]), config.clone(), pts, Dts(ticks), 1).unwrap()
        })
        .collect()
    }

    fn chosen(selector: &mut Selector, units: &[AccessUnit]) -> Vec<i64> {
        selector.plan(units);
        (0..units.len()).filter(|&index| selector.is_wanted(index)).map(|index| units[index].pts().ticks()).collect()
    }

    #[test]
    fn ticks_are_even_across_segments() {
        let mut selector = Selector::new(FrameSelection::TargetFps(5.0));
        assert_eq!(chosen(&mut selector, &units(0..15, 15)), [0, 3, 6, 9, 12]);
        assert_eq!(chosen(&mut selector, &units(15..30, 15)), [15, 18, 21, 24, 27]);
        assert_eq!(chosen(&mut selector, &units(100_000..100_004, 15)), [100_000, 100_003], "times jump");
        assert_eq!(chosen(&mut selector, &units(0..90, 15)).len(), 30);
        assert_eq!(chosen(&mut selector, &units(0..90, 15)).len(), 30, "clips that each begin at 0");
    }

    #[test]
    fn rates_that_do_not_divide_keep_their_mean() {
        let mut selector = Selector::new(FrameSelection::TargetFps(10.0));
        assert_eq!(chosen(&mut selector, &units(0..25, 25)).len(), 10);
        let mut selector = Selector::new(FrameSelection::TargetFps(60.0));
        assert_eq!(chosen(&mut selector, &units(0..25, 25)).len(), 25, "never more than there are");
    }

    #[test]
    fn words_read_back_and_wrong_ones_are_named() {
        for text in ["all", "keyframes", "fps:2.5"] {
            assert_eq!(text.parse::<FrameSelection>().unwrap().to_string(), text);
        }
        for text in ["fps:0", "fps:-1", "fps:NaN", "fps:x", "some"] {
            assert_eq!(text.parse::<FrameSelection>().unwrap_err().kind(), ErrorKind::Config, "{text}");
        }
    }
}
