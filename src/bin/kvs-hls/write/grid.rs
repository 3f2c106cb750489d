//! The frame rate, guessed from the first frames: a stream states times only.

use kvs_hls::Pts;

/// So many frames are looked at before the first one is written.
pub const LOOK_AHEAD: usize = 9;

/// A time that goes back, or jumps by more than this, starts the count anew right behind the frame before.
const MAX_JUMP_SECONDS: i128 = 10;

/// Frames a second as a reduced fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub numerator: u64,
    pub denominator: u64,
}

impl Rate {
    fn new(numerator: u64, denominator: u64) -> Option<Self> {
        let divisor = gcd(numerator, denominator);
        (numerator > 0 && denominator > 0)
            .then(|| Self { numerator: numerator / divisor, denominator: denominator / divisor })
    }

    /// The rate at which all these times fall on a grid, rounding to ticks allowed: `None` when frames come unevenly.
    pub fn of(times: &[Pts]) -> Option<Self> {
        let (first, span, timescale) = span(times)?;
        let steps = times.len() as u64 - 1;
        // Even durations, in lowest terms: 12800/512 = 25/1, 90000/3003 = 30000/1001.
        let even = span.is_multiple_of(steps).then(|| Self::new(timescale.checked_mul(steps)?, span)).flatten();
        // Durations that were rounded to ticks: 33, 34, 33 ms. Whole rates first, then those of NTSC.
        let mean = timescale.checked_mul(steps)?.checked_add(span / 2)? / span;
        let whole = Self::new(mean, 1);
        let ntsc = mean.checked_mul(1000).and_then(|rate| Self::new(rate, 1001));
        let fits = |rate: Rate, slack: i128| {
            times.iter().enumerate().all(|(index, time)| {
                let due = index as i128 * i128::from(timescale) * i128::from(rate.denominator);
                let is = i128::from(time.ticks() - first) * i128::from(rate.numerator);
                (is - due).abs() <= slack * i128::from(rate.numerator)
            })
        };
        [(even, 0), (whole, 1), (ntsc, 1)].into_iter().find_map(|(rate, slack)| rate.filter(|&rate| fits(rate, slack)))
    }

    /// The mean rate, where frames come unevenly; 25 where nothing is known.
    pub fn mean(times: &[Pts]) -> Self {
        span(times)
            .and_then(|(_, span, timescale)| Self::new(timescale.checked_mul(times.len() as u64 - 1)?, span))
            .unwrap_or(Self { numerator: 25, denominator: 1 })
    }
}

/// First tick, ticks to the last time, ticks a second.
fn span(times: &[Pts]) -> Option<(i64, u64, u64)> {
    let (first, last) = (times.first()?, times.last()?);
    if times.iter().any(|time| time.timescale() != first.timescale()) {
        return None;
    }
    let span = u64::try_from(last.ticks().checked_sub(first.ticks())?).ok().filter(|span| *span > 0)?;
    Some((first.ticks(), span, u64::from(first.timescale().get())))
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Counts times from the first frame in units of a time base, strictly ascending.
#[derive(Clone, Copy, Debug)]
pub struct Counter {
    /// Units a second.
    base: Rate,
    /// A time and what it counts as.
    anchor: Option<(Pts, i64)>,
    last: Option<(Pts, i64)>,
}

impl Counter {
    pub fn new(base: Rate) -> Self {
        Self { base, anchor: None, last: None }
    }

    pub fn count(&mut self, time: Pts) -> i64 {
        let jumps = |(last, _): (Pts, i64)| !(0..=MAX_JUMP_SECONDS * 1_000_000_000).contains(&time.nanos_since(last));
        if self.last.is_some_and(jumps) {
            self.anchor = None;
        }
        let next = self.last.map_or(0, |(_, count)| count + 1);
        let (anchor, start) = *self.anchor.get_or_insert((time, next));
        let count = (start + self.units(anchor, time)).max(next);
        self.last = Some((time, count));
        count
    }

    /// Units from one time to another, rounded to the nearest.
    fn units(&self, from: Pts, to: Pts) -> i64 {
        let (passed, a_second) = if from.timescale() == to.timescale() {
            (i128::from(to.ticks()) - i128::from(from.ticks()), i128::from(to.timescale().get()))
        } else {
            (to.nanos_since(from), 1_000_000_000)
        };
        let (numerator, denominator) =
            (passed * i128::from(self.base.numerator), a_second * i128::from(self.base.denominator));
        i64::try_from((2 * numerator + denominator).div_euclid(2 * denominator)).unwrap_or(i64::MAX / 2)
    }
}

#[cfg(test)]
mod tests {
    use kvs_hls::Timescale;

    use super::*;

    fn times(ticks: impl IntoIterator<Item = i64>, timescale: u32) -> Vec<Pts> {
        let timescale = Timescale::new(timescale).expect("not zero");
        ticks.into_iter().map(|ticks| Pts::new(ticks, timescale)).collect()
    }

    fn rate(ticks: impl IntoIterator<Item = i64>, timescale: u32) -> Option<(u64, u64)> {
        Rate::of(&times(ticks, timescale)).map(|rate| (rate.numerator, rate.denominator))
    }

    #[test]
    fn rates_are_found() {
        assert_eq!(rate((0..9).map(|n| 1024 + 512 * n), 12_800), Some((25, 1)));
        assert_eq!(rate((0..9).map(|n| 3003 * n), 90_000), Some((30_000, 1001)));
        assert_eq!(rate([0, 33, 67, 100, 133, 167, 200, 233, 267], 1000), Some((30, 1)));
        assert_eq!(rate([0, 67, 133], 1000), Some((15, 1)));
        assert_eq!(rate([0, 67, 133, 200, 267, 333, 400, 467, 533], 1000), Some((15, 1)));
        assert_eq!(rate([0, 2000], 1000), Some((1, 2)), "a frame each two seconds");
        assert_eq!(rate([0, 3600, 7000, 14_000], 90_000), None);
        assert_eq!(rate([5], 1000), None);
        assert_eq!(rate([5, 5], 1000), None);
        assert_eq!(rate([5, 4], 1000), None);
    }

    #[test]
    fn counts_go_up_whatever_times_do() {
        let mut counter = Counter::new(Rate { numerator: 25, denominator: 1 });
        let counts: Vec<_> = times([80, 120, 165, 240, 241, 0, 40, 60_000, 60_040], 1000)
            .into_iter()
            .map(|time| counter.count(time))
            .collect();
        assert_eq!(counts, [0, 1, 2, 4, 5, 6, 7, 8, 9]);
    }
}
