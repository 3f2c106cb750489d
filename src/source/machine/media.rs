//! Segments: loading them, losing them, and choosing the variant that carries them.

use std::time::{Duration, Instant};

use super::adaptation::Download;
use super::queue::Item;
use super::{Action, Machine, Moment};
use crate::error::{Error, ErrorKind, Recovery, Stage};
use crate::gap::{Gap, GapCause};
use crate::hls::{MediaPlaylist, VariantChoice};
use crate::source::options::Delivery;

/// Segments in the lane at most: one being decoded and one ready behind it.
pub(super) const LANE_SEGMENTS: usize = 2;
/// Segments of an archive in the lane at most, however small.
const MAX_AHEAD_SEGMENTS: usize = 256;
/// Who wants the newest frame has no use for a backlog: what an outage piled up is left out.
const LATEST_MAX_LAG: Duration = Duration::from_secs(4);
/// A download that takes so many times the segment's duration is given up where there is a smaller variant.
const ABANDON_AFTER: u32 = 2;

impl Machine {
    /// Segments that another session or variant listed are loaded from the present one, where it lists them too.
    pub(super) fn remap(&mut self, playlist: &MediaPlaylist, generation: u32, is_variant: bool, out: &mut Vec<Action>) {
        self.queue.remap(playlist, generation, is_variant);
        let loading = self.loading.as_ref().filter(|item| is_variant || item.generation != generation);
        self.elsewhere = loading.and_then(|item| item.find_in(playlist, generation, is_variant));
        let is_abandoned = is_variant && std::mem::take(&mut self.is_abandoning);
        if is_abandoned && self.load_elsewhere() {
            self.loading_since = None;
            self.lane_segments = self.lane_segments.saturating_sub(1);
            out.push(Action::AbandonSegment);
        }
        if !self.media.is_busy {
            self.media.not_before = None; // what was refused may have a new URL now
        }
    }

    /// Puts the segment that is being loaded back, with the URL that a newer playlist has for it; false if none has.
    pub(super) fn load_elsewhere(&mut self) -> bool {
        let Some(elsewhere) = self.elsewhere.take() else { return false };
        let Some(mut item) = self.loading.take() else { return false };
        (item.segment, item.generation) = elsewhere;
        self.media.succeed();
        self.media.not_before = None;
        self.queue.put_back(item);
        true
    }

    pub(super) fn segment(
        &mut self,
        result: Result<(), Error>,
        is_in_lane: bool,
        download: Option<Download>,
        at: Moment,
        out: &mut Vec<Action>,
    ) {
        (self.loading_since, self.is_abandoning) = (None, false);
        if is_in_lane {
            self.lane_bytes.push_back(download.map_or(0, |download| download.bytes));
        } else {
            self.lane_segments = self.lane_segments.saturating_sub(1);
        }
        if let (Some(download), Some(item)) = (download, &self.loading) {
            self.adaptation.measure(download, item.segment.duration);
        }
        match result {
            Ok(()) => {
                self.media_succeeded(at.now);
                (self.loading, self.elsewhere) = (None, None);
            }
            Err(error) => self.media_failed(error.at(Stage::Segment), at, out),
        }
        self.adapt(at.now);
    }

    /// Goes for another variant, where the measured bandwidth says so.
    pub(super) fn adapt(&mut self, now: Instant) {
        let Some(session) = self.session.as_mut().filter(|session| session.next_rung.is_none()) else { return };
        if !self.has_ended
            && let Some(next) = self.adaptation.next(&session.rungs, session.rung, now)
        {
            session.next_rung = Some(next);
            if !session.playlist.is_busy {
                session.playlist.not_before = Some(now);
            }
        }
    }

    /// Whether another variant may be gone for, also while a segment is under way.
    fn is_adaptive(&self) -> bool {
        let has_choice = self.session.as_ref().is_none_or(|session| session.rungs.len() > 1);
        has_choice && self.options.variant == VariantChoice::Adaptive
    }

    /// When the download under way takes too long for its variant.
    pub(super) fn abandon_at(&self) -> Option<Instant> {
        let session = self.session.as_ref()?;
        let is_adaptive = self.is_adaptive() && !self.has_ended;
        let can_go_down = is_adaptive
            && self.may_be_abandoned
            && session.rung > 0
            && session.next_rung.is_none()
            && !self.is_abandoning;
        let duration = self.loading.as_ref().filter(|_| can_go_down)?.segment.duration;
        self.loading_since?.checked_add(duration.saturating_mul(ABANDON_AFTER))
    }

    pub(super) fn media_failed(&mut self, error: Error, at: Moment, out: &mut Vec<Action>) {
        let recovery = error.recovery();
        if error.is_timeout() {
            self.adaptation.overload();
        }
        let is_mendable = matches!(recovery, Recovery::Retry | Recovery::RefreshSession);
        if is_mendable && self.load_elsewhere() {
            return self.retry(error, Duration::ZERO, out);
        }
        let Some(item) = self.loading.take() else { return };
        match recovery {
            Recovery::RefreshSession if self.options.is_renewable => self.media_refused(item, error, at, out),
            Recovery::Retry | Recovery::RefreshSession => self.media_unreachable(item, error, at, out),
            _ => {
                let is_damaged = matches!(error.kind(), ErrorKind::Container | ErrorKind::Bitstream);
                let cause = if is_damaged { GapCause::Damaged } else { GapCause::SegmentUnavailable };
                self.media.succeed();
                self.queue.skip(item, Gap::of_segments(cause, 1));
                // A backlog that left the server all at once is one failure.
                let is_missing = matches!(error.status(), Some(404 | 410));
                if is_missing && std::mem::replace(&mut self.is_skipping, is_missing) && !self.queue.is_empty() {
                    return out.push(Action::Recovering { error, recovery, retry_in: None });
                }
                // A stream that was readable does not become another one by a damaged segment.
                let is_spoilt = recovery == Recovery::Fatal && self.frames > 0;
                self.fail(error, if is_spoilt { Recovery::SkipSegment } else { recovery }, None, at, out);
            }
        }
    }

    /// The session of a segment is over. The playlist of the next one says where the segment is then.
    fn media_refused(&mut self, item: Item, error: Error, at: Moment, out: &mut Vec<Action>) {
        let session = self.session.as_ref();
        // An archive can be opened anew at any place of it.
        let is_gone = session.is_some_and(|session| {
            session.is_proven && session.generation != item.generation && session.page.is_none()
        });
        self.media.succeed();
        if is_gone {
            let generation = item.generation;
            self.queue.skip(item, Gap::of_segments(GapCause::SegmentUnavailable, 1));
            // What else that session listed, and no later one does, is as much out of reach.
            while self.queue.front().is_some_and(|item| item.generation <= generation) {
                self.queue.skip_front(GapCause::SegmentUnavailable);
            }
            return self.fail(error, Recovery::SkipSegment, None, at, out);
        }
        self.refused = self.refused.max(item.generation);
        self.queue.put_back(item);
        if session.is_some_and(|session| session.is_proven) {
            let delay = self.reopen(at);
            self.fail(error, Recovery::RefreshSession, Some(delay), at, out);
        } else {
            self.retry(error, Duration::ZERO, out); // the session was given up before this answer came
        }
    }

    /// A request that a second try may mend. A segment is given up only when the server works otherwise: an outage is
    /// waited for.
    fn media_unreachable(&mut self, mut item: Item, error: Error, at: Moment, out: &mut Vec<Action>) {
        let failing_since = match self.media.fail(at.now, at.chance) {
            Ok(delay) => {
                self.queue.put_back(item);
                return self.retry(error, delay, out);
            }
            Err(since) => since,
        };
        let does_server_work = self.succeeded_at.is_some_and(|time| time > failing_since);
        if does_server_work || error.status().is_some() && item.rounds > 0 {
            self.queue.skip(item, Gap::of_segments(GapCause::SegmentUnavailable, 1));
            return self.fail(error, Recovery::SkipSegment, None, at, out);
        }
        item.rounds += 1;
        self.queue.put_back(item);
        let delay = self.reconnect.next(at.chance);
        self.media.not_before = Some(at.now + delay);
        self.fail(error, Recovery::Retry, Some(delay), at, out);
    }

    /// A segment or its initialization section came.
    pub(super) fn media_succeeded(&mut self, now: Instant) {
        self.media.succeed();
        (self.succeeded_at, self.is_skipping) = (Some(now), false);
    }

    /// Jumps to the newest segment when the consumer holds the lane back for too long.
    pub(super) fn catch_up(&mut self) {
        let max_lag = match self.options.delivery {
            Delivery::CatchUp { max_lag } => max_lag,
            Delivery::Latest => LATEST_MAX_LAG,
            Delivery::All => return,
        };
        let limit = max_lag.saturating_add(self.initial_lag.unwrap_or_default());
        if !self.is_archive && self.lane_segments >= LANE_SEGMENTS && self.queue.lag() > limit {
            self.queue.skip_to_newest();
        }
    }

    /// Whether the next segment's URL was refused, and no newer session can say yet where it is now.
    fn is_front_refused(&self) -> bool {
        let is_answered =
            self.session.as_ref().is_some_and(|session| session.is_proven && session.generation > self.refused);
        self.queue.front().is_some_and(|item| item.generation <= self.refused) && !is_answered
    }

    /// A live stream is at most one segment ahead of the decoder. An archive may wait there, so that the decoder does not.
    fn is_lane_full(&self) -> bool {
        let is_ahead = self.is_archive
            && self.lane_segments < MAX_AHEAD_SEGMENTS
            && self.lane_bytes.iter().sum::<usize>() < self.options.max_ahead_bytes;
        self.lane_segments >= LANE_SEGMENTS && !is_ahead
    }

    pub(super) fn load_media(&mut self, now: Instant, out: &mut Vec<Action>) {
        if !self.media.is_ready(now) {
            return;
        }
        self.media.not_before = None; // a deadline that passed must not be waited for again
        if self.is_lane_full() || self.is_front_refused() {
            return;
        }
        let Some(mut item) = self.queue.take() else { return };
        self.media.begin();
        match &item.segment.init {
            Some(init) if !self.init.as_ref().is_some_and(|known| *known == (item.generation, init.clone())) => {
                out.push(Action::LoadInit(init.clone()));
            }
            _ => {
                out.extend(self.queue.gap_before(&mut item).map(Action::Break));
                self.lane_segments += 1;
                (self.loading_since, self.may_be_abandoned) = (Some(now), self.is_adaptive());
                let (segment, generation) = (item.segment.clone(), item.generation);
                out.push(Action::LoadSegment { segment, generation, may_be_abandoned: self.may_be_abandoned });
            }
        }
        (self.loading, self.elsewhere) = (Some(item), None);
    }
}
