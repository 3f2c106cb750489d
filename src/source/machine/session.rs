//! One streaming session, as the machine sees it.

use std::time::{Duration, SystemTime};

use super::slot::Slot;
use crate::hls::{MediaPlaylist, Variant};
use crate::secret::SecretUrl;
use crate::session::{Page, Session, TimeOrigin};

#[derive(Debug)]
pub(super) struct ActiveSession {
    pub(super) generation: u32,
    /// The session's own playlist, then that of the variant.
    pub(super) url: SecretUrl,
    pub(super) playlist: Slot,
    /// The variants to choose from, the smallest first; none where the session's own playlist lists the segments.
    pub(super) rungs: Vec<Variant>,
    pub(super) rung: usize,
    /// The variant whose playlist is loaded next, to go on with it if that works.
    pub(super) next_rung: Option<usize>,
    /// The variant whose playlist is under way, if it is another than the present one.
    pub(super) requested_rung: Option<usize>,
    pub(super) page: Option<Page>,
    pub(super) time_origin: TimeOrigin,
    pub(super) reload_interval: Option<Duration>,
    /// Whether a media playlist of it was read.
    pub(super) is_proven: bool,
}

impl ActiveSession {
    pub(super) fn new(generation: u32, session: Session) -> Self {
        Self {
            generation,
            url: session.url,
            playlist: Slot::default(),
            rungs: Vec::new(),
            rung: 0,
            next_rung: None,
            requested_rung: None,
            page: session.page,
            time_origin: session.time_origin,
            reload_interval: session.reload_interval,
            is_proven: false,
        }
    }

    /// The playlist to load now.
    pub(super) fn playlist_url(&self) -> SecretUrl {
        let next = self.next_rung.and_then(|rung| self.rungs.get(rung));
        next.map_or_else(|| self.url.clone(), |variant| variant.url.clone())
    }

    /// Takes the variants of a multivariant playlist.
    pub(super) fn enter(&mut self, rungs: Vec<Variant>, rung: usize) {
        if let Some(variant) = rungs.get(rung) {
            self.url = variant.url.clone();
        }
        (self.rungs, self.rung) = (rungs, rung);
    }

    /// After a playlist of the next variant was read: it is the present one. Gives the one before.
    pub(super) fn arrive(&mut self) -> Option<usize> {
        let next = self.requested_rung.take()?;
        self.next_rung = self.next_rung.filter(|wanted| *wanted != next);
        self.url = self.rungs.get(next)?.url.clone();
        Some(std::mem::replace(&mut self.rung, next))
    }

    /// Where the archive goes on after this complete playlist; `None` when it is all. `is_news` says whether the
    /// playlist listed anything new.
    pub(super) fn next_page(&self, playlist: &MediaPlaylist, is_news: bool) -> Option<SystemTime> {
        let page = self.page?;
        if playlist.segments.len() < page.max_segments {
            return page.next;
        }
        let last = playlist.segments.last()?;
        let start = last.estimated_start?;
        // The last segment is listed once more, which shows that nothing is missing between the pages. Times have
        // milliseconds.
        let step = if is_news && page.max_segments > 1 { Duration::ZERO } else { Duration::from_millis(1) };
        start.checked_add(step)
    }
}
