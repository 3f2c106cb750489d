//! From decoding order to display order.

use crate::h264::{AccessUnit, PictureOrder, Place};
use crate::time::Pts;

/// Pictures that a decoder may have to hold back (H.264 §A.3.1: `max_dec_frame_buffering` is at most 16). Wrong times must
/// not make it more.
const MAX_HELD: usize = 16;

/// Holds pictures until none that is displayed earlier can follow.
#[derive(Debug)]
pub(crate) struct DisplayOrder<T> {
    /// Latest first, so that the earliest is popped from the end.
    held: Vec<(i128, T)>,
}

impl<T> Default for DisplayOrder<T> {
    fn default() -> Self {
        Self { held: Vec::new() }
    }
}

impl<T> DisplayOrder<T> {
    pub(crate) fn hold(&mut self, pts: Pts, item: T) {
        let time = pts.as_nanos();
        let index = self.held.partition_point(|(held, _)| *held > time);
        self.held.insert(index, (time, item));
    }

    /// The earliest picture, if more are held than any stream may ask for.
    pub(crate) fn release_surplus(&mut self) -> Option<(i128, T)> {
        if self.held.len() > MAX_HELD { self.held.pop() } else { None }
    }

    /// The earliest picture, if it is displayed at or before `time` (nanoseconds).
    pub(crate) fn release(&mut self, time: i128) -> Option<(i128, T)> {
        self.held.pop_if(|(earliest, _)| *earliest <= time)
    }
}

/// Gives the access units of a segment the presentation times that fit the order their pictures state.
///
/// Muxers get composition offsets wrong: some leave them out, ffmpeg writes a wrong one where it cuts a segment in the
/// middle of a group of pictures. Where times and picture order counts disagree, the times stay and change places; of two
/// equal ones the later picture's is moved by a tick.
#[derive(Debug, Default)]
pub(crate) struct Corrector {
    pictures: PictureOrder,
    places: Vec<Place>,
    order: Vec<usize>,
    /// Whether any time was ever wrong.
    pub(crate) has_corrected: bool,
}

impl Corrector {
    pub(crate) fn correct(&mut self, units: &mut [AccessUnit]) {
        self.places.clear();
        for unit in &*units {
            // Units without a picture stay beside the one before them.
            let place = self.pictures.place(unit).or_else(|| self.places.last().copied());
            self.places.push(place.unwrap_or_default());
        }
        let places = &self.places;
        let place = |index: usize| places.get(index).copied().unwrap_or_default();
        if !places.iter().any(|place| place.is_bidirectional) {
            return; // decoding order is display order, whatever some cameras write into their counts
        }
        self.order.clear();
        self.order.extend(0..units.len());
        self.order.sort_by_key(|&index| place(index));
        let ticks = |units: &[AccessUnit], index: usize| units.get(index).map_or(0, |unit| unit.pts().ticks());
        if self.order.is_sorted_by(|&a, &b| ticks(units, a) < ticks(units, b)) {
            return;
        }
        self.has_corrected = true;
        let mut times: Vec<i64> = units.iter().map(|unit| unit.pts().ticks()).collect();
        times.sort_unstable();
        let mut earliest = i64::MIN;
        for (&index, time) in self.order.iter().zip(times) {
            let time = time.max(earliest);
            earliest = time.saturating_add(1);
            if let Some(unit) = units.get_mut(index) {
                *unit = unit.clone().with_pts(Pts::new(time, unit.pts().timescale()));
            }
        }
    }
}

/// Knows, for each access unit of a segment, the earliest display time of all that follow it in decoding order.
///
/// The container states every time before the first picture is decoded, so nothing has to be guessed inside a segment.
#[derive(Debug, Default)]
pub(crate) struct Horizon {
    earliest_after: Vec<i128>,
}

impl Horizon {
    /// `times` are those of the access units, `end` is the earliest that may follow them.
    pub(crate) fn plan(&mut self, times: impl DoubleEndedIterator<Item = Pts>, end: i128) {
        self.earliest_after.clear();
        let mut earliest = end;
        self.earliest_after.extend(times.rev().map(|pts| {
            let after = earliest;
            earliest = earliest.min(pts.as_nanos());
            after
        }));
        self.earliest_after.reverse();
    }

    pub(crate) fn after(&self, index: usize) -> i128 {
        self.earliest_after.get(index).copied().unwrap_or(i128::MAX)
    }
}

/// The least time in ticks from the decoding of one of these to its display.
pub(crate) fn soonest(units: &[AccessUnit]) -> Option<i64> {
    units.iter().map(|unit| unit.pts().ticks().saturating_sub(unit.dts().0)).min()
}

/// The earliest display time that a segment after this one may hold, if it goes on in the same manner: its first sample
/// is decoded when the last one here ends, and no sample is displayed sooner after its decoding than the soonest here.
pub(crate) fn earliest_next(units: &[AccessUnit], soonest: i64) -> i128 {
    let Some(last) = units.last() else { return i128::MIN };
    let end = last.dts().0.saturating_add(i64::from(last.duration_ticks())).saturating_add(soonest);
    Pts::new(end, last.pts().timescale()).as_nanos()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::h264::AvcConfig;
    use crate::time::{Dts, Timescale};

    /// Units with decoding times 0, 1, 2… and these presentation times.
    fn units(pts: &[i64]) -> Vec<AccessUnit> {
        let config = Arc::new(AvcConfig::parse(&Bytes::from_static(&[1, 66, 0, 30, 0xff, 0xe0, 0])).unwrap());
        let unit = |(dts, &pts)| {
            let pts = Pts::new(pts, Timescale::new(1_000_000_000).unwrap());
            AccessUnit::new(Bytes::from_static(&[0, 0, 0, 1, 0x41]), config.clone(), pts, Dts(dts), 1).unwrap()
        };
        (0..).zip(pts).map(unit).collect()
    }

    fn displayed(pts: &[i64]) -> Vec<Vec<i64>> {
        let units = units(pts);
        let (mut order, mut horizon) = (DisplayOrder::default(), Horizon::default());
        horizon.plan(units.iter().map(AccessUnit::pts), earliest_next(&units, soonest(&units).unwrap()));
        let step = |(index, unit): (usize, &AccessUnit)| {
            order.hold(unit.pts(), unit.pts().ticks());
            std::iter::from_fn(|| order.release(horizon.after(index))).map(|(_, pts)| pts).collect()
        };
        units.iter().enumerate().map(step).collect()
    }

    #[test]
    fn wrong_times_hold_no_more_than_any_stream_may() {
        let mut order = DisplayOrder::default();
        let at = |ticks| Pts::new(ticks, Timescale::new(1_000_000_000).unwrap());
        (0..MAX_HELD as i64).for_each(|ticks| order.hold(at(ticks), ticks));
        assert_eq!(order.release_surplus(), None);
        order.hold(at(100), 100);
        assert_eq!(order.release_surplus(), Some((0, 0)));
        assert_eq!(order.release_surplus(), None);
    }

    #[test]
    fn pictures_without_reordering_leave_at_once() {
        assert_eq!(displayed(&[0, 1, 2]), [vec![0], vec![1], vec![2]]);
        assert_eq!(displayed(&[7, 8, 9]), [vec![7], vec![8], vec![9]], "a constant offset changes nothing");
    }

    #[test]
    fn a_pyramid_leaves_in_display_order_as_early_as_possible() {
        // I0 P4 B2 b1 b3 P8 B6 b5 b7, offset 2.
        let pts = [2, 6, 4, 3, 5, 10, 8, 7, 9];
        let released = displayed(&pts);
        assert_eq!(released[..5], [vec![2], vec![], vec![], vec![3, 4], vec![5, 6]]);
        // The last anchor could still be preceded by a picture of the next segment, as far as these times tell.
        assert_eq!(released[5..], [vec![], vec![], vec![7, 8], vec![9]]);
    }
}
