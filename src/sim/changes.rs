//! What faults do to the stream itself: which fragments they touch, and how. Pure, like the [`Timeline`](super::Timeline)
//! whose part it is.

use std::ops::Range;
use std::time::Duration;

use super::faults::Fault;

/// Whether a client can get a fragment whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Availability {
    /// As it was filmed.
    Whole,
    /// Some of its pictures are damaged.
    Corrupt,
    /// Listed, but its number answers 404.
    Missing,
    /// In no playlist.
    Unlisted,
}

/// The faults of fragments, each with those first published in its time.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    pauses: Vec<Pause>,
    spans: Vec<(Range<u64>, Fault)>,
}

/// A silence of the camera.
#[derive(Clone, Copy, Debug)]
struct Pause {
    /// The first fragment filmed after it.
    first: u64,
    length: Duration,
}

impl Changes {
    pub(super) fn pause(&mut self, first: u64, length: Duration) {
        self.pauses.push(Pause { first, length });
    }

    pub(super) fn touch(&mut self, fragments: Range<u64>, fault: Fault) {
        self.spans.push((fragments, fault));
    }

    /// How much later than without silences the fragment starts.
    pub(super) fn delay(&self, index: u64) -> Duration {
        let before = self.pauses.iter().filter(|pause| pause.first <= index);
        before.fold(Duration::ZERO, |sum, pause| sum.saturating_add(pause.length))
    }

    /// How many fragments exist after `elapsed`, where `unpaused` says how many without silences.
    pub(super) fn published(&self, elapsed: Duration, unpaused: impl Fn(Duration) -> u64) -> u64 {
        let mut delay = Duration::ZERO;
        let mut count = 0;
        // Each silence holds up the fragments from its first one on; later silences have later ones.
        for pause in &self.pauses {
            let before = unpaused(elapsed.saturating_sub(delay));
            if before < pause.first {
                return count.max(before);
            }
            count = pause.first;
            delay = delay.saturating_add(pause.length);
        }
        count.max(unpaused(elapsed.saturating_sub(delay)))
    }

    fn touching(&self, index: u64) -> impl Iterator<Item = Fault> + '_ {
        self.spans.iter().filter_map(move |(fragments, fault)| {
            let every = match fault {
                Fault::Missing { every } | Fault::Unlisted { every } | Fault::Corrupt { every } => *every,
                _ => 1,
            };
            let is_touched = fragments.contains(&index) && (index - fragments.start).is_multiple_of(every.max(1));
            is_touched.then_some(*fault)
        })
    }

    /// The fault behind it, where it is not [`Availability::Whole`].
    pub(super) fn availability(&self, index: u64) -> (Availability, Option<Fault>) {
        let all = || self.touching(index);
        let of = |availability, fault: Option<Fault>| fault.map(|fault| (availability, Some(fault)));
        of(Availability::Unlisted, all().find(|fault| matches!(fault, Fault::Unlisted { .. })))
            .or_else(|| of(Availability::Missing, all().find(|fault| matches!(fault, Fault::Missing { .. }))))
            .or_else(|| of(Availability::Corrupt, all().find(|fault| matches!(fault, Fault::Corrupt { .. }))))
            .unwrap_or((Availability::Whole, None))
    }

    /// How far the fragment's times are from where it was filmed, in milliseconds.
    pub(super) fn jitter_ms(&self, index: u64) -> i64 {
        let jitter = self.touching(index).filter_map(|fault| match fault {
            Fault::Jitter { max_ms, seed } => {
                let max = i64::from(max_ms);
                // Spreads seed and index: neighbouring seeds give neighbouring first numbers.
                let seed = (seed ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                Some(fastrand::Rng::with_seed(seed ^ (seed >> 31)).i64(-max..=max))
            }
            _ => None,
        });
        // Two at once would put fragments out of order.
        jitter.last().unwrap_or_default()
    }

    /// How wrong the camera's clock is.
    pub(super) fn skew_ms(&self, index: u64) -> i64 {
        self.touching(index).map(|fault| if let Fault::Skew { ms } = fault { ms } else { 0 }).sum()
    }

    pub(super) fn is_discontinuous(&self, index: u64) -> bool {
        self.touching(index).any(|fault| fault == Fault::Discontinuity)
    }

    /// How often the recording had changed up to this fragment: at odd numbers it is the second one.
    pub(super) fn sequence(&self, index: u64) -> u64 {
        let mut count = 0;
        let mut end = 0;
        // In the order of their starts; those that touch or overlap are one.
        for (fragments, _) in self.spans.iter().filter(|(_, fault)| *fault == Fault::Resolution) {
            if fragments.is_empty() || fragments.start > index {
                continue;
            }
            if count > 0 && fragments.start <= end {
                end = end.max(fragments.end);
            } else {
                count += 2;
                end = fragments.end;
            }
        }
        if count > 0 && index < end { count - 1 } else { count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn silences_hold_up_what_follows() {
        let mut changes = Changes::default();
        changes.pause(3, SECOND * 10);
        changes.pause(4, SECOND * 5);
        // One fragment a second.
        let published = |seconds: u32| changes.published(SECOND * seconds, |elapsed| elapsed.as_secs());
        assert_eq!([0, 2, 3, 4, 13, 14, 18, 19, 20].map(published), [0, 2, 3, 3, 3, 4, 4, 4, 5]);
        assert_eq!([2, 3, 4].map(|index| changes.delay(index).as_secs()), [0, 10, 15]);
    }

    #[test]
    fn every_nth_fragment_from_the_first_is_touched() {
        let mut changes = Changes::default();
        changes.touch(10..17, Fault::Missing { every: 3 });
        changes.touch(16..18, Fault::Unlisted { every: 1 });
        let all: Vec<_> = (9..19).filter(|&index| changes.availability(index).0 == Availability::Missing).collect();
        assert_eq!(all, [10, 13]);
        assert_eq!(changes.availability(16), (Availability::Unlisted, Some(Fault::Unlisted { every: 1 })));
    }

    #[test]
    fn jitter_stays_within_its_bounds_and_differs() {
        let mut changes = Changes::default();
        changes.touch(0..1000, Fault::Jitter { max_ms: 300, seed: 7 });
        let times: Vec<_> = (0..1000).map(|index| changes.jitter_ms(index)).collect();
        assert!(times.iter().all(|ms| ms.abs() <= 300));
        assert!(times.iter().any(|ms| *ms < -250) && times.iter().any(|ms| *ms > 250));
        assert!(times.windows(2).filter(|pair| pair[0] == pair[1]).count() < 20);
        assert_eq!(changes.jitter_ms(1000), 0);
    }

    #[test]
    fn recordings_alternate() {
        let mut changes = Changes::default();
        for fragments in [2..4, 3..5, 7..8, 9..9] {
            changes.touch(fragments, Fault::Resolution);
        }
        assert_eq!((0..10).map(|index| changes.sequence(index)).collect::<Vec<_>>(), [0, 0, 1, 1, 1, 2, 2, 3, 4, 4]);
    }
}
