//! What the beginning of a media segment tells while the rest of it is still on its way.

use crate::h264::AccessUnit;
use crate::time::Pts;

/// The access units that have arrived of a segment, and the times of those that have not: a movie fragment's header
/// stands in front of its media data, ISO 14496-12 §8.8.4.
#[derive(Clone, Debug)]
pub struct Prefix {
    pub(super) units: Vec<AccessUnit>,
    pub(super) announced: Vec<Pts>,
    pub(super) bound: Option<Pts>,
}

impl Prefix {
    /// The access units that are there as a whole, in decoding order: the same, at the same places, that
    /// [`Demuxer::push`](super::Demuxer::push) will find in the whole segment.
    #[must_use]
    pub fn units(&self) -> &[AccessUnit] {
        &self.units
    }

    /// The presentation times of all samples that are known of, whether their data has arrived or not.
    pub fn times(&self) -> impl Iterator<Item = Pts> {
        self.units.iter().map(AccessUnit::pts).chain(self.announced.iter().copied())
    }

    /// How many of the [`units`](Self::units) can be displayed whatever follows: the last of them in display order comes
    /// before all that are not among them.
    ///
    /// Fragments of which nothing is known yet are taken to go on as those before them did: no sample is displayed sooner
    /// after its decoding than the soonest so far.
    #[must_use]
    pub fn closed(&self) -> usize {
        let nanos = |unit: &AccessUnit| unit.pts().as_nanos();
        let latest_up_to = self.units.iter().scan(i128::MIN, |latest, unit| {
            *latest = nanos(unit).max(*latest);
            Some(*latest)
        });
        let mut latest_up_to: Vec<_> = latest_up_to.collect();
        let unseen = self.announced.iter().chain(&self.bound).map(|pts| pts.as_nanos());
        let mut earliest_after = unseen.min().unwrap_or(i128::MIN);
        for unit in self.units.iter().rev() {
            if latest_up_to.last().is_some_and(|latest| *latest < earliest_after) {
                break;
            }
            latest_up_to.pop();
            earliest_after = earliest_after.min(nanos(unit));
        }
        latest_up_to.len()
    }
}
