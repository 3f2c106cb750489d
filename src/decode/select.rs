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
    /// About so many frames a second, evenly spaced by capture time: the first frame at or after each tick. Only pictures
    /// that are wanted, or that a wanted one needs, are decoded.
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

crate::options::as_text!(FrameSelection);

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

/// Reference pictures that are kept for a later picture at most; more are decoded though nobody may need them.
const MAX_CARRIED: usize = 256;

/// An access unit that is to be decoded.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) unit: AccessUnit,
    /// Whether its frame is delivered.
    pub(crate) is_wanted: bool,
}

/// Decides which access units are decoded, and which of their frames are delivered.
#[derive(Debug)]
pub(crate) struct Selector {
    selection: FrameSelection,
    /// For `TargetFps`: the next tick and the ticks' distance in nanoseconds.
    due: Option<i128>,
    period: i128,
    order: Vec<(i128, usize)>,
    wanted: Vec<bool>,
    /// Reference pictures since the last one decoded: the next wanted picture needs them, unless an IDR picture comes first.
    carried: Vec<AccessUnit>,
}

impl Selector {
    pub(crate) fn new(selection: FrameSelection) -> Self {
        let period = match selection {
            FrameSelection::TargetFps(fps) => ((1e9 / fps) as i128).max(1),
            _ => 1,
        };
        Self { selection, due: None, period, order: Vec::new(), wanted: Vec::new(), carried: Vec::new() }
    }

    /// The access units that have to be decoded, now that these have come (in decoding order, a segment or a part of one
    /// that is displayed before all that follow).
    pub(crate) fn plan(&mut self, units: Vec<AccessUnit>) -> Vec<Planned> {
        self.choose(&units);
        let mut planned = Vec::with_capacity(units.len());
        for (unit, &is_wanted) in units.into_iter().zip(&self.wanted) {
            if !unit.has_picture() {
                // Parameter sets, which hold for what follows and not for what came before.
                planned.extend(self.carried.drain(..).chain([unit]).map(|unit| Planned { unit, is_wanted: false }));
                continue;
            }
            if unit.is_idr() {
                self.carried.clear(); // §3.69: nothing from here on refers to them
            }
            if is_wanted {
                planned.extend(self.carried.drain(..).map(|unit| Planned { unit, is_wanted: false }));
                planned.push(Planned { unit, is_wanted });
            } else if !unit.is_disposable() && self.selection != FrameSelection::Keyframes {
                self.carried.push(unit);
            }
        }
        if self.carried.len() > MAX_CARRIED {
            planned.extend(self.carried.drain(..).map(|unit| Planned { unit, is_wanted: false }));
        }
        planned
    }

    /// Something is missing from here on: the next picture to be decoded is an IDR picture.
    pub(crate) fn interrupt(&mut self) {
        self.carried.clear();
    }

    /// Decides frame by frame, in display order.
    fn choose(&mut self, units: &[AccessUnit]) {
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
        let planned = selector.plan(units.to_vec());
        planned.iter().filter(|planned| planned.is_wanted).map(|planned| planned.unit.pts().ticks()).collect()
    }

    /// Access units a tick apart from `start`: an IDR picture for `I`, a reference picture for `P`, a disposable one for
    /// `b`, parameter sets alone for `s`.
    fn stream(start: i64, kinds: &str) -> Vec<AccessUnit> {
        let config = Arc::new(AvcConfig::parse(&Bytes::from_static(&[1, 66, 0, 30, 0xff, 0xe0, 0])).unwrap());
        let unit = |(ticks, kind): (i64, char)| {
            // A length of one byte, then the NAL unit's header.
            let header = match kind {
                'I' => 0x65,
                'P' => 0x41,
                'b' => 0x01,
                _ => 0x67,
            };
            let data = Bytes::copy_from_slice(&[0, 0, 0, 1, header]);
            let pts = Pts::new(ticks, Timescale::new(10).unwrap());
            AccessUnit::new(data, config.clone(), pts, Dts(ticks), 1).unwrap()
        };
        (start..).zip(kinds.chars()).map(unit).collect()
    }

    /// The times of what is decoded of segments in a row; those delivered have a mark.
    fn decoded(selection: FrameSelection, segments: &[&str]) -> Vec<String> {
        let mut selector = Selector::new(selection);
        let mut start = 0;
        let plan = |kinds: &&str| {
            let units = stream(start, kinds);
            start += units.len() as i64;
            let planned = selector.plan(units);
            let name = |planned: &Planned| {
                let mark = if planned.is_wanted { "!" } else { "" };
                format!("{}{mark}", planned.unit.pts().ticks())
            };
            planned.iter().map(name).collect::<Vec<_>>().join(" ")
        };
        segments.iter().map(plan).collect()
    }

    #[test]
    fn nothing_is_decoded_that_no_wanted_frame_needs() {
        // Ten pictures a second; two frames a second are wanted.
        let two = FrameSelection::TargetFps(2.0);
        assert_eq!(
            decoded(two, &["IPPPPPPPPP", "IPPPPPPPPP"]),
            ["0! 1 2 3 4 5!", "10! 11 12 13 14 15!"],
            "what follows the last wanted frame is left out up to the next IDR picture"
        );
        assert_eq!(decoded(two, &["IbPbPbPbPb"]), ["0! 2 4 5!"], "disposable ones are left out everywhere");
        assert_eq!(
            decoded(two, &["IPPPPPPPP", "PPPPPP"]),
            ["0! 1 2 3 4 5!", "6 7 8 9 10!"],
            "a segment that goes on with the one before needs what was left out"
        );
        assert_eq!(
            decoded(FrameSelection::TargetFps(0.5), &["IPPP", "IPPP", "PPIP", "PPPP", "IPPPPPPP"]),
            ["0!", "", "", "", "16 17 18 19 20!"]
        );
        assert_eq!(decoded(two, &["IPsPPPsPP"]), ["0! 1 2 3 4 5! 6"], "parameter sets are never left out");
        assert_eq!(decoded(FrameSelection::Keyframes, &["IPbPIP", "PPI"]), ["0! 4!", "8!"]);
        assert_eq!(decoded(FrameSelection::All, &["IPbsP"]), ["0! 1! 2! 3 4!"]);
    }

    #[test]
    fn an_interruption_forgets_what_was_carried_and_a_long_wait_is_bounded() {
        let mut selector = Selector::new(FrameSelection::TargetFps(0.01));
        let first = selector.plan(stream(0, "IPPP"));
        assert_eq!((first.len(), selector.carried.len()), (1, 3));
        selector.interrupt();
        assert!(selector.carried.is_empty());
        let long = "P".repeat(MAX_CARRIED + 1);
        assert_eq!(selector.plan(stream(4, &long)).len(), MAX_CARRIED + 1);
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
