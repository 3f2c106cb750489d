//! The segments that are listed and not yet loaded, and what is missing between them.

use std::collections::VecDeque;
use std::time::Duration;

use crate::gap::{Gap, GapCause};
use crate::hls::{Identity, MediaPlaylist, Segment};

/// Segments known and not yet loaded; more than any playlist of the service lists.
const MAX_ITEMS: usize = 100_000;

/// A segment to be loaded, and what is missing before it.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) segment: Segment,
    pub(super) generation: u32,
    pub(super) gap_before: Option<Gap>,
    /// How often all tries to load it were used up.
    pub(super) rounds: u32,
}

impl Item {
    /// The segment as this playlist of a session lists it; `None` when it does not.
    pub(super) fn find_in(
        &self,
        playlist: &MediaPlaylist,
        generation: u32,
        is_variant: bool,
    ) -> Option<(Segment, u32)> {
        let identity = Identity::of(&self.segment);
        let same = playlist.segments.iter().find(|segment| match (&identity, Identity::of(segment)) {
            (Some(own), Some(other)) => *own == other,
            // Servers keep the sequence numbers of variants in step.
            _ => is_variant && segment.sequence == self.segment.sequence,
        });
        same.map(|segment| (segment.clone(), generation))
    }
}

#[derive(Debug, Default)]
pub(super) struct MediaQueue {
    items: VecDeque<Item>,
    /// What was lost after the last segment given to the lane.
    trailing_gap: Option<Gap>,
}

impl MediaQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn front(&self) -> Option<&Item> {
        self.items.front()
    }

    /// How much video is listed and not yet loaded.
    pub(super) fn lag(&self) -> Duration {
        self.items.iter().map(|item| item.segment.duration).sum()
    }

    /// Adds what a playlist brought, after what is missing before it.
    pub(super) fn extend(&mut self, segments: Vec<Segment>, generation: u32, mut gap_before: Option<Gap>) {
        for segment in segments {
            self.items.push_back(Item { segment, generation, gap_before: gap_before.take(), rounds: 0 });
        }
        if let (Some(gap), Some(last)) = (gap_before, self.items.back_mut()) {
            last.gap_before = Some(Gap::merge(last.gap_before, gap));
        }
        while self.items.len() > MAX_ITEMS {
            self.skip_front(GapCause::CatchUp);
        }
    }

    /// The next segment that can be loaded.
    pub(super) fn take(&mut self) -> Option<Item> {
        while self.items.front().is_some_and(|item| item.segment.is_gap) {
            self.skip_front(GapCause::SegmentUnavailable);
        }
        self.items.pop_front()
    }

    pub(super) fn put_back(&mut self, item: Item) {
        self.items.push_front(item);
    }

    /// Leaves out the first segment; the next one reports it.
    pub(super) fn skip_front(&mut self, cause: GapCause) {
        if let Some(item) = self.items.pop_front() {
            self.skip(item, Gap::of_segments(cause, 1));
        }
    }

    /// Leaves out a segment that was the first.
    pub(super) fn skip(&mut self, item: Item, gap: Gap) {
        let gap = Gap::merge(item.gap_before, gap);
        match self.items.front_mut() {
            Some(next) => next.gap_before = Gap::join(Some(gap), next.gap_before),
            None => self.trailing_gap = Some(Gap::merge(self.trailing_gap, gap)),
        }
    }

    /// All but the newest segment, when the consumer is too slow.
    pub(super) fn skip_to_newest(&mut self) {
        while self.items.len() > 1 {
            self.skip_front(GapCause::CatchUp);
        }
    }

    /// What is to be reported before this segment.
    pub(super) fn gap_before(&mut self, item: &mut Item) -> Option<Gap> {
        Gap::join(self.trailing_gap.take(), item.gap_before.take())
    }

    /// What is to be reported at the end.
    pub(super) fn gap_at_end(&mut self) -> Option<Gap> {
        self.trailing_gap.take()
    }

    /// Gives the segments that an earlier session or another variant listed the URLs that this playlist has for them.
    pub(super) fn remap(&mut self, playlist: &MediaPlaylist, generation: u32, is_variant: bool) {
        for item in self.items.iter_mut().filter(|item| is_variant || item.generation != generation) {
            if let Some(found) = item.find_in(playlist, generation, is_variant) {
                (item.segment, item.generation) = found;
            }
        }
    }
}
