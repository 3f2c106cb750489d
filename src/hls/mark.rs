//! What tells one segment from another, within a session and across sessions.

use std::time::{Duration, SystemTime};

use super::playlist::{FragmentNumber, Segment};
use crate::secret::SecretUrl;

/// What a segment is called in every session that lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    Number(FragmentNumber),
    /// Its own programme time, to the last digit: the service keeps the time of a fragment as it was ingested.
    Time(SystemTime),
}

impl Identity {
    pub(crate) fn of(segment: &Segment) -> Option<Self> {
        let number = segment.fragment_number.as_ref().filter(|number| number.is_global());
        number.cloned().map(Self::Number).or_else(|| segment.program_date_time.map(Self::Time))
    }
}

/// What tells one segment from another.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub(super) sequence: u64,
    /// Its number, if it is one that holds across sessions.
    fragment_number: Option<FragmentNumber>,
    /// Whether the URL has a number that counts within the session, so that equal URLs mean nothing.
    pub(super) is_numbered_by_session: bool,
    start: Option<SystemTime>,
    /// Its own programme time: an estimate may change when the tag it rests on leaves the list.
    tagged_start: Option<SystemTime>,
    pub(super) duration: Duration,
    pub(super) url: SecretUrl,
}

impl Mark {
    pub(super) fn new(segment: &Segment) -> Self {
        let number = segment.fragment_number.as_ref();
        Self {
            sequence: segment.sequence,
            fragment_number: number.filter(|number| number.is_global()).cloned(),
            is_numbered_by_session: number.is_some_and(|number| !number.is_global()),
            start: segment.estimated_start,
            tagged_start: segment.program_date_time,
            duration: segment.duration,
            url: segment.url.clone(),
        }
    }

    /// Both fragment numbers, if both hold across sessions.
    fn numbers<'a>(&'a self, segment: &'a Segment) -> Option<(&'a FragmentNumber, &'a FragmentNumber)> {
        self.fragment_number.as_ref().zip(segment.fragment_number.as_ref().filter(|number| number.is_global()))
    }

    /// Whether `segment`, of any session, comes after this one; `None` when nothing tells.
    pub(super) fn precedes(&self, segment: &Segment) -> Option<bool> {
        if let Some((own, other)) = self.numbers(segment) {
            return Some(own < other);
        }
        let (own, other) = self.start.zip(segment.estimated_start)?;
        // Half a segment forgives what clocks and rounded durations differ by.
        Some(own.checked_add(self.duration / 2).is_none_or(|middle| other > middle))
    }

    /// Whether `segment`, of any session and not newer, is this one.
    pub(super) fn is_same(&self, segment: &Segment) -> bool {
        if let Some((own, other)) = self.numbers(segment) {
            return own == other;
        }
        self.start
            .zip(segment.estimated_start)
            .is_some_and(|(own, other)| own.checked_sub(self.duration / 2).is_none_or(|earliest| other >= earliest))
    }

    /// Whether `segment`, of any session, bears the same number, or else the very same time.
    pub(super) fn is_identical(&self, segment: &Segment) -> bool {
        match self.numbers(segment) {
            Some((own, other)) => own == other,
            None => self.tagged_start.is_some() && self.tagged_start == segment.program_date_time,
        }
    }

    /// Whether `segment` is this one to the letter.
    pub(super) fn is_listed_as(&self, segment: &Segment) -> bool {
        (self.sequence, &self.url, self.tagged_start) == (segment.sequence, &segment.url, segment.program_date_time)
    }

    /// Whether `segment` is provably of another count: its place by sequence number is not its place by content.
    ///
    /// The same number and another fragment, or the other way round, is proof. For order, times go first: a list by
    /// producer time may hold fragments that were ingested in another order. They must differ by more than
    /// `tolerance`, since some servers compute them anew for each playlist.
    pub(super) fn is_contradicted_by(&self, segment: &Segment, tolerance: Duration) -> bool {
        let by_sequence = segment.sequence.cmp(&self.sequence);
        let by_number = self.numbers(segment).map(|(own, other)| other.cmp(own));
        if by_number.is_some_and(|by_number| by_number.is_eq() != by_sequence.is_eq()) {
            return true;
        }
        let Some((own, other)) = self.tagged_start.zip(segment.program_date_time) else {
            return by_number.is_some_and(|by_number| by_number != by_sequence);
        };
        let is_later = own.checked_add(tolerance).is_some_and(|latest| other > latest);
        let is_earlier = own.checked_sub(tolerance).is_some_and(|earliest| other < earliest);
        (is_later && by_sequence.is_le()) || (is_earlier && by_sequence.is_ge())
    }

    /// The time between the end of this segment and the start of `segment`; zero when they overlap.
    pub(super) fn time_until(&self, segment: &Segment) -> Option<Duration> {
        let end = self.start?.checked_add(self.duration)?;
        Some(segment.estimated_start?.duration_since(end).unwrap_or_default())
    }
}
