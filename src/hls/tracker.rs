//! What is new in a reloaded playlist, what was missed, and when to reload it.
//!
//! Within a session segments are told apart by media sequence number. A new session counts anew, so that across
//! sessions the fragment number of Kinesis Video Streams tells them apart, else the programme time, else their URL.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::mark::{Identity, Mark};
use super::playlist::{MediaPlaylist, Segment, is_same_resource};
use super::policy::{LiveEdge, ReloadPolicy};

/// No policy and no playlist makes requests follow each other faster.
const MIN_RELOAD_INTERVAL: Duration = Duration::from_millis(200);

/// No playlist makes a live stream wait longer, whatever target duration it states.
const MAX_RELOAD_INTERVAL: Duration = Duration::from_secs(60);

/// Segments that are remembered for the next session: more than a consumer is ever behind, and a page of an archive.
const MAX_KNOWN: usize = 1000;

/// How a [`PlaylistTracker`] behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrackerOptions {
    /// Where a live playlist is entered.
    pub live_edge: LiveEdge,
    /// How often it is reloaded.
    pub reload: ReloadPolicy,
    /// After how much of the target duration, in percent, an unchanged live playlist counts as stuck.
    pub stuck_after_percent: u32,
}

impl Default for TrackerOptions {
    /// Newest segment, the RFC's intervals, stuck after 3.5 target durations (the factor that androidx uses).
    fn default() -> Self {
        Self { live_edge: LiveEdge::default(), reload: ReloadPolicy::default(), stuck_after_percent: 350 }
    }
}

/// What a playlist brought.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Update {
    /// The segments that were never handed out, in their order. Those with `is_gap` cannot be loaded.
    pub fresh: Vec<Segment>,
    /// What else is to be known.
    pub event: Option<TrackerEvent>,
    /// When the next request should start, never before `now`; `None` when the playlist is complete.
    pub reload_at: Option<Instant>,
}

/// What happened to a playlist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrackerEvent {
    /// A live playlist did not change for as long as the options allow. Said at every update until it changes.
    Stuck {
        /// The time since the last change.
        unchanged_for: Duration,
    },
    /// The server began to count anew within a session.
    Reset {
        /// How what is fresh follows what was handed out before.
        continuity: Continuity,
    },
    /// Segments left the playlist before they were seen.
    WindowPassed {
        /// How many.
        missed: u64,
    },
    /// Segments were left out to get back to the live edge, as asked for.
    Skipped {
        /// How many, those that left the playlist unseen included.
        missed: u64,
    },
    /// The first segments, or the place of the last one, were found in a new session.
    Rejoined {
        /// How what is fresh follows what was handed out before.
        continuity: Continuity,
    },
    /// The playlist is complete. `reload_at` says the same, beside any other event.
    Ended,
}

/// How the segments of a new count follow those of the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Continuity {
    /// Nothing was missed.
    Seamless,
    /// Something was missed, or that cannot be told.
    Lost {
        /// For how long, where programme times tell.
        about: Option<Duration>,
    },
    /// Only old segments are listed so far: [`TrackerEvent::Rejoined`] will tell.
    Pending,
}

/// What is remembered of the newest playlist with segments.
#[derive(Clone, Debug)]
struct Snapshot {
    first: Mark,
    last: Mark,
    is_complete: bool,
}

/// How a playlist relates to the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Newer,
    /// Unchanged, or an older state out of some cache.
    NotNewer,
    /// The server began to count anew.
    Restarted,
}

impl Snapshot {
    fn relation(&self, playlist: &MediaPlaylist) -> Relation {
        let completes = playlist.is_complete() && !self.is_complete;
        let (Some(first), Some(last)) = (playlist.segments.first(), playlist.segments.last()) else {
            return if completes { Relation::Newer } else { Relation::NotNewer };
        };
        // The same list again: what contradicts itself in it is no news.
        let is_unchanged = self.first.is_listed_as(first) && self.last.is_listed_as(last);
        if !is_unchanged && self.is_restarted(playlist, first, last) {
            return Relation::Restarted;
        }
        let is_newer = last.sequence > self.last.sequence
            || (last.sequence == self.last.sequence && first.sequence > self.first.sequence);
        if is_newer || completes { Relation::Newer } else { Relation::NotNewer }
    }

    fn is_restarted(&self, playlist: &MediaPlaylist, first: &Segment, last: &Segment) -> bool {
        let tolerance = playlist.target_duration;
        let segments = playlist.segments.as_slice();
        let at_or_after = |mark: &Mark| segments.partition_point(|segment| segment.sequence < mark.sequence);
        // The segments that bear the known sequence numbers or come next to them, and the last one, tell a new count.
        let is_replaced = [&self.first, &self.last].into_iter().any(|mark| {
            let next = segments.iter().skip(at_or_after(mark)).take(2);
            next.chain([last]).any(|segment| mark.is_contradicted_by(segment, tolerance))
        });
        if is_replaced {
            return true;
        }
        // The new playlist ends before the old one starts: no cache is that old (androidx takes the same sign). One
        // segment between them is allowed, for lists of a single segment.
        let is_behind = last.sequence < self.last.sequence;
        is_behind && first.sequence < self.first.sequence && last.sequence < self.first.sequence.saturating_sub(1)
    }
}

/// Where the next segment is looked for.
#[derive(Clone, Debug)]
enum Position {
    /// Nothing was handed out yet.
    Start,
    /// After this segment of the present count.
    After(Mark),
    /// After this segment of an earlier count, or of another variant.
    Rejoin(Mark),
}

/// Follows one media playlist through its reloads, and through sessions.
///
/// Pure: it is told the time and keeps no timer. Within a session no segment is handed out twice.
#[derive(Clone, Debug)]
pub struct PlaylistTracker {
    options: TrackerOptions,
    position: Position,
    /// The segments listed so far, the newest one at the end, for the next session to be matched with.
    known: VecDeque<Identity>,
    /// Since when new playlists list nothing but what looks older than what was handed out.
    behind_since: Option<Instant>,
    /// Whether the next playlist is of another variant of the same stream.
    is_variant: bool,
    snapshot: Option<Snapshot>,
    target_duration: Duration,
    /// When the playlist last changed in this session.
    changed_at: Option<Instant>,
    is_complete: bool,
    is_skip_asked: bool,
}

impl PlaylistTracker {
    /// A tracker that has seen nothing.
    #[must_use]
    pub fn new(options: TrackerOptions) -> Self {
        Self {
            options,
            position: Position::Start,
            known: VecDeque::new(),
            behind_since: None,
            is_variant: false,
            snapshot: None,
            target_duration: Duration::ZERO,
            changed_at: None,
            is_complete: false,
            is_skip_asked: false,
        }
    }

    /// Takes in a loaded playlist: `requested_at` is when its request started, `now` when its body was there.
    pub fn update(&mut self, playlist: &MediaPlaylist, requested_at: Instant, now: Instant) -> Update {
        let relation = match &self.snapshot {
            Some(snapshot) => snapshot.relation(playlist),
            // A camera that has not begun: the list stays empty, and may be stuck like that.
            None if playlist.segments.is_empty() && self.changed_at.is_some() && !playlist.is_complete() => {
                Relation::NotNewer
            }
            None => Relation::Newer,
        };
        self.target_duration = playlist.target_duration;
        let is_changed = relation != Relation::NotNewer || self.changed_at.is_none();
        if is_changed {
            self.changed_at = Some(now);
            self.is_complete = playlist.is_complete();
        }
        let (fresh, event) = match relation {
            Relation::NotNewer => (Vec::new(), None),
            Relation::Newer => self.advance(playlist, now),
            Relation::Restarted => {
                self.begin_count();
                match self.advance(playlist, now) {
                    (fresh, Some(TrackerEvent::Rejoined { continuity })) => {
                        (fresh, Some(TrackerEvent::Reset { continuity }))
                    }
                    (fresh, _) => (fresh, Some(TrackerEvent::Reset { continuity: Continuity::Pending })),
                }
            }
        };
        if relation != Relation::NotNewer {
            self.remember(playlist);
        }
        self.is_skip_asked = false;
        let event = event.or_else(|| {
            if self.is_complete {
                return Some(TrackerEvent::Ended);
            }
            let unchanged_for = now.saturating_duration_since(self.changed_at?);
            (unchanged_for >= self.stuck_after()).then_some(TrackerEvent::Stuck { unchanged_for })
        });
        let reload_at = (!self.is_complete).then(|| self.reload_at(is_changed, requested_at, now));
        Update { fresh, event, reload_at }
    }

    /// Announces that the next playlist is of a new session, whose sequence numbers say nothing about the old one's.
    ///
    /// The next update hands out what follows the last segment handed out: by fragment number if that is global, else
    /// by programme time, else by URL; if nothing tells, it starts at the live edge. It says how that went by
    /// [`TrackerEvent::Rejoined`], as soon as there is something to say.
    pub fn begin_session(&mut self) {
        self.begin_count();
        self.snapshot = None;
        self.changed_at = None;
        self.is_complete = false;
    }

    /// Announces that the next playlist is of another variant of the same stream.
    ///
    /// As [`begin_session`](Self::begin_session), but when neither numbers nor times tell, sequence numbers do: servers
    /// keep those of variants in step.
    pub fn begin_variant(&mut self) {
        self.begin_session();
        self.is_variant = true;
    }

    /// Changes how often the playlist is to be reloaded.
    pub fn set_reload(&mut self, reload: ReloadPolicy) {
        self.options.reload = reload;
    }

    /// Makes the next update leave out what lies before the live edge, complete playlists included.
    pub fn skip_to_live_edge(&mut self) {
        self.is_skip_asked = true;
    }

    /// When the playlist will count as stuck unless it changes; `None` before the first playlist and after the last.
    #[must_use]
    pub fn stuck_at(&self) -> Option<Instant> {
        if self.is_complete {
            return None;
        }
        self.changed_at?.checked_add(self.stuck_after())
    }

    fn stuck_after(&self) -> Duration {
        self.target_duration.saturating_mul(self.options.stuck_after_percent) / 100
    }

    fn reload_at(&self, is_changed: bool, requested_at: Instant, now: Instant) -> Instant {
        let interval = match self.options.reload {
            ReloadPolicy::Every(interval) => interval,
            // RFC 8216 §6.3.4. It counts from the start of the request, so that slow answers do not add up.
            ReloadPolicy::Spec if is_changed => self.target_duration,
            ReloadPolicy::Spec => self.target_duration / 2,
        };
        let interval = interval.clamp(MIN_RELOAD_INTERVAL, MAX_RELOAD_INTERVAL);
        requested_at.checked_add(interval).map_or(now, |at| at.max(now))
    }

    /// The sequence numbers that follow are of another count.
    fn begin_count(&mut self) {
        self.is_variant = false;
        self.position = match std::mem::replace(&mut self.position, Position::Start) {
            Position::After(mark) | Position::Rejoin(mark) => Position::Rejoin(mark),
            Position::Start => Position::Start,
        };
    }

    fn remember(&mut self, playlist: &MediaPlaylist) {
        let is_complete = playlist.is_complete();
        match (playlist.segments.first(), playlist.segments.last()) {
            (Some(first), Some(last)) => {
                self.snapshot = Some(Snapshot { first: Mark::new(first), last: Mark::new(last), is_complete });
            }
            _ => {
                if let Some(snapshot) = &mut self.snapshot {
                    snapshot.is_complete = is_complete;
                }
            }
        }
    }

    /// What a changed playlist brings, seen from the present position, which moves to its end.
    fn advance(&mut self, playlist: &MediaPlaylist, now: Instant) -> (Vec<Segment>, Option<TrackerEvent>) {
        let segments = playlist.segments.as_slice();
        let Some(last) = segments.last() else { return (Vec::new(), None) };
        let edge = self.options.live_edge.start_index(segments.len());
        let (mut start, mut event) = match &self.position {
            Position::Start if playlist.is_complete() => (0, None),
            Position::Start => (edge, None),
            Position::After(mark) => {
                let start = segments.partition_point(|segment| segment.sequence <= mark.sequence);
                let listed = segments.len().saturating_sub(start);
                // What lies between, and is not listed, was missed.
                let passed = last.sequence.saturating_sub(mark.sequence).saturating_sub(listed as u64);
                (start, (passed > 0).then_some(TrackerEvent::WindowPassed { missed: passed }))
            }
            Position::Rejoin(mark) => match self.rejoin(mark, playlist, edge) {
                Some((start, continuity)) => (start, Some(TrackerEvent::Rejoined { continuity })),
                // Nothing here is newer, and the place is not found: look again in the next playlist.
                None => {
                    let since = *self.behind_since.get_or_insert(now);
                    let is_lagging = playlist.is_complete() || segments.iter().any(|segment| self.is_known(segment));
                    if is_lagging || now.saturating_duration_since(since) < self.stuck_after().saturating_mul(2) {
                        return (Vec::new(), None);
                    }
                    // No lag lasts so long: the camera's clock went back.
                    (edge, Some(TrackerEvent::Rejoined { continuity: Continuity::Lost { about: None } }))
                }
            },
        };
        self.behind_since = None;
        if self.is_skip_asked && edge > start && !matches!(self.position, Position::Start) {
            event = Some(self.skipped(event, edge.saturating_sub(start) as u64, segments.get(edge)));
            start = edge;
        }
        let is_start = matches!(self.position, Position::Start);
        let fresh = segments.get(start..).unwrap_or_default().to_vec();
        // A list that ends before what was handed out, to say that it is complete, does not lead back.
        let is_behind = matches!(&self.position, Position::After(mark) if mark.sequence > last.sequence);
        if !is_behind {
            self.position = Position::After(Mark::new(last));
        }
        let news = if is_start { 0 } else { start };
        self.known.extend(segments.get(news..).unwrap_or_default().iter().filter_map(Identity::of));
        let surplus = self.known.len().saturating_sub(MAX_KNOWN);
        self.known.drain(..surplus);
        (fresh, event)
    }

    /// What to say when `skipped` segments are left out before `next`, beside what was to be said anyway.
    fn skipped(&self, event: Option<TrackerEvent>, skipped: u64, next: Option<&Segment>) -> TrackerEvent {
        match (event, &self.position) {
            (Some(TrackerEvent::Rejoined { .. }), Position::Rejoin(mark)) => {
                let about = next.and_then(|segment| mark.time_until(segment));
                TrackerEvent::Rejoined { continuity: Continuity::Lost { about } }
            }
            (Some(TrackerEvent::WindowPassed { missed }), _) => {
                TrackerEvent::Skipped { missed: missed.saturating_add(skipped) }
            }
            _ => TrackerEvent::Skipped { missed: skipped },
        }
    }

    /// Whether the segment is among those listed before.
    fn is_known(&self, segment: &Segment) -> bool {
        Identity::of(segment).is_some_and(|identity| self.known.iter().rev().any(|known| *known == identity))
    }

    /// Where to go on in a playlist of another count, and whether something is missing; `None` when only older segments
    /// are listed.
    fn rejoin(&self, mark: &Mark, playlist: &MediaPlaylist, edge: usize) -> Option<(usize, Continuity)> {
        let segments = playlist.segments.as_slice();
        // The segment itself is the surest sign: order by number or time fails where fragments were ingested out of
        // order, or where times jitter.
        let known = segments.iter().rposition(|segment| self.is_known(segment));
        let oldest = match known {
            Some(index) if segments.get(index).is_some_and(|segment| mark.is_identical(segment)) => {
                return Some((index.saturating_add(1), Continuity::Seamless));
            }
            Some(index) if index.saturating_add(1) == segments.len() => return None,
            Some(index) => index.saturating_add(1),
            None => 0,
        };
        let is_newer = |segment: &Segment| mark.precedes(segment) == Some(true);
        let newer = segments.iter().skip(oldest).position(is_newer);
        if let Some(start) = newer.map(|index| index.saturating_add(oldest)) {
            let previous = start.checked_sub(1).and_then(|index| segments.get(index));
            if previous.is_some_and(|previous| mark.is_same(previous)) {
                return Some((start, Continuity::Seamless));
            }
            let about = segments.get(start).and_then(|segment| mark.time_until(segment));
            let continuity = match about {
                Some(gap) if gap <= mark.duration / 2 => Continuity::Seamless,
                about => Continuity::Lost { about },
            };
            return Some((start, continuity));
        }
        if segments.iter().any(|segment| mark.precedes(segment) == Some(false)) {
            // All are old. If the last one is the one handed out last, the place is found.
            return segments.last().filter(|last| mark.is_same(last)).map(|_| (segments.len(), Continuity::Seamless));
        }
        // Nothing tells by content. A plain server that was asked again goes on with its numbers and names; variants
        // share their numbers.
        let found = segments.binary_search_by_key(&mark.sequence, |segment| segment.sequence).ok();
        if let Some(index) = found.filter(|index| {
            let is_same_url = segments.get(*index).is_some_and(|segment| is_same_resource(&segment.url, &mark.url));
            self.is_variant || is_same_url && !mark.is_numbered_by_session
        }) {
            return Some((index.saturating_add(1), Continuity::Seamless));
        }
        let start = if playlist.is_complete() { 0 } else { edge };
        Some((start, Continuity::Lost { about: None }))
    }
}
