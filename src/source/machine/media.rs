//! Segments: loading them, losing them, and choosing the variant that carries them.

use std::time::Instant;

use super::adaptation::Download;
use super::slot::MAX_REQUEST_DELAY;
use super::{Action, Machine, Moment};
use crate::error::{Error, ErrorKind, Recovery, Stage};
use crate::gap::{Gap, GapCause};
use crate::hls::{MediaPlaylist, VariantChoice};
use crate::source::options::Delivery;

/// Segments in the lane at most: one being decoded and one ready behind it.
const LANE_SEGMENTS: usize = 2;
/// A download that takes so many times the segment's duration is given up where there is a smaller variant.
const ABANDON_AFTER: u32 = 2;

impl Machine {
    /// Segments that another session or variant listed are loaded from the present one, where it lists them too.
    pub(super) fn remap(&mut self, playlist: &MediaPlaylist, generation: u32, is_variant: bool, out: &mut Vec<Action>) {
        self.queue.remap(playlist, generation, is_variant);
        if is_variant
            && std::mem::take(&mut self.is_abandoning)
            && let Some(mut item) = self.loading.take()
        {
            if item.find_in(playlist, generation, is_variant) {
                self.media.succeed();
                self.loading_since = None;
                self.lane_segments = self.lane_segments.saturating_sub(1);
                self.queue.put_back(item);
                out.push(Action::AbandonSegment);
            } else {
                self.loading = Some(item);
            }
        }
        if !self.media.is_busy {
            self.media.not_before = None; // what was refused may have a new URL now
        }
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
        if !is_in_lane {
            self.lane_segments = self.lane_segments.saturating_sub(1);
        }
        if let (Some(download), Some(item)) = (download, &self.loading) {
            self.adaptation.measure(download, item.segment.duration);
        }
        match result {
            Ok(()) => {
                self.media.succeed();
                self.loading = None;
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

    /// When the download under way takes too long for its variant.
    pub(super) fn abandon_at(&self) -> Option<Instant> {
        let session = self.session.as_ref()?;
        let is_adaptive = self.options.variant == VariantChoice::Adaptive && !self.has_ended;
        let can_go_down = is_adaptive && session.rung > 0 && session.next_rung.is_none() && !self.is_abandoning;
        let duration = self.loading.as_ref().filter(|_| can_go_down)?.segment.duration;
        self.loading_since?.checked_add(duration.saturating_mul(ABANDON_AFTER))
    }

    pub(super) fn media_failed(&mut self, error: Error, at: Moment, out: &mut Vec<Action>) {
        let recovery = error.recovery();
        if error.is_timeout() {
            self.adaptation.overload();
        }
        let Some(item) = self.loading.take() else { return };
        match recovery {
            Recovery::Retry | Recovery::RefreshSession => {
                let session = self.session.as_ref();
                let is_elsewhere =
                    session.is_some_and(|session| session.is_proven && session.generation != item.generation);
                // An archive can be opened anew at any place of it.
                let is_gone = is_elsewhere && session.is_none_or(|session| session.page.is_none());
                if recovery == Recovery::RefreshSession && self.options.is_renewable && !is_gone {
                    // The playlist of the next session says where this segment is then.
                    let delay = session.is_some_and(|session| session.is_proven).then(|| self.reopen(at));
                    self.media.is_busy = false;
                    self.media.not_before = Some(at.now + delay.unwrap_or_default() + MAX_REQUEST_DELAY);
                    self.queue.put_back(item);
                    return self.fail(error, recovery, delay, at, out);
                }
                let is_final = is_gone && recovery == Recovery::RefreshSession;
                let delay = if is_final { None } else { self.media.fail(at.now, at.chance) };
                if let Some(delay) = delay {
                    self.queue.put_back(item);
                    return self.retry(error, delay, out);
                }
                self.media.succeed();
                self.queue.skip(item, Gap::of_segments(GapCause::SegmentUnavailable, 1));
                self.fail(error, Recovery::SkipSegment, None, at, out);
            }
            _ => {
                let is_damaged = matches!(error.kind(), ErrorKind::Container | ErrorKind::Bitstream);
                let cause = if is_damaged { GapCause::Damaged } else { GapCause::SegmentUnavailable };
                self.media.succeed();
                self.queue.skip(item, Gap::of_segments(cause, 1));
                self.fail(error, recovery, None, at, out);
            }
        }
    }

    /// Jumps to the newest segment when the consumer holds the lane back for too long.
    pub(super) fn catch_up(&mut self) {
        let Delivery::CatchUp { max_lag } = self.options.delivery else { return };
        let limit = max_lag.saturating_add(self.initial_lag.unwrap_or_default());
        let is_live = !self.has_ended && self.next_page.is_none();
        if is_live && self.lane_segments >= LANE_SEGMENTS && self.queue.lag() > limit {
            self.queue.skip_to_newest();
        }
    }

    pub(super) fn load_media(&mut self, now: Instant, out: &mut Vec<Action>) {
        if !self.media.is_ready(now) {
            return;
        }
        self.media.not_before = None; // a deadline that passed must not be waited for again
        if self.lane_segments >= LANE_SEGMENTS {
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
                self.loading_since = Some(now);
                out.push(Action::LoadSegment { segment: item.segment.clone(), generation: item.generation });
            }
        }
        self.loading = Some(item);
    }
}
