//! One streaming session: what it lists, under which numbers.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Timeline;
use crate::error::{Error, ErrorKind};
use crate::options::DiscontinuityMode;

/// How many fragments a playlist may list (`MaxMediaPlaylistFragmentResults`).
const WINDOW: std::ops::RangeInclusive<usize> = 1..=5000;
/// What counts as a gap or an overlap under [`DiscontinuityMode::OnDiscontinuity`].
const CONTINUITY_TOLERANCE: Duration = Duration::from_millis(50);
/// Random characters of a token, between `Ci` and `~`.
const TOKEN_LENGTH: usize = 125;

/// Which fragments a session lists (`PlaybackMode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Playback {
    /// The newest ones, a window that slides on. EXT-X-MEDIA-SEQUENCE starts at 0 with the session.
    #[default]
    Live,
    /// The first `fragments` of the stream, or as many as exist when the session is opened: a closed playlist with
    /// EXT-X-PLAYLIST-TYPE VOD and EXT-X-ENDLIST. EXT-X-MEDIA-SEQUENCE is 1.
    OnDemand {
        /// How many; [`Recording::fragments`](super::Recording::fragments) for the whole recording, once.
        fragments: u64,
    },
    /// The fragments that start in a range of capture times, both ends included: the oldest ones, as many as
    /// [`SessionOptions::window`] allows. A closed playlist, as above.
    Archive {
        /// No fragment that starts earlier.
        start: SystemTime,
        /// No fragment that starts later.
        end: SystemTime,
    },
    /// As if the fragments from a capture time on were filmed now: one at the opening, and another each time that a
    /// fragment's duration has passed, up to those that are filmed meanwhile. EXT-X-MEDIA-SEQUENCE starts at 0.
    Replay {
        /// No fragment that starts earlier.
        start: SystemTime,
        /// No fragment that starts later. When all are listed there is an EXT-X-ENDLIST; whether Kinesis Video Streams
        /// has one there is not known.
        end: Option<SystemTime>,
    },
}

/// What stands in `FragmentNumber=` of the URLs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FragmentNumbers {
    /// The stream's own numbers of 47 digits, the same in all sessions.
    #[default]
    Stream,
    /// 0, 1, 2, … in each session, as seen in 2019.
    Session,
}

/// The choices of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionOptions {
    /// Which fragments are listed.
    pub playback: Playback,
    /// How many fragments a playlist lists at most, 1 to 5000; 5 by default.
    pub window: usize,
    /// Where discontinuity tags stand.
    pub discontinuity: DiscontinuityMode,
    /// Whether each segment has an EXT-X-PROGRAM-DATE-TIME (`DisplayFragmentTimestamp`). On by default here, off by
    /// default at Kinesis Video Streams.
    pub timestamps: bool,
    /// What stands in the URLs of the fragments.
    pub numbers: FragmentNumbers,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            playback: Playback::default(),
            window: 5,
            discontinuity: DiscontinuityMode::default(),
            timestamps: true,
            numbers: FragmentNumbers::default(),
        }
    }
}

impl SessionOptions {
    pub(super) fn check(&self) -> Result<(), Error> {
        if !WINDOW.contains(&self.window) {
            let context =
                format!("window of {} fragments ({} to {} are allowed)", self.window, WINDOW.start(), WINDOW.end());
            return Err(Error::new(ErrorKind::Config, context));
        }
        match self.playback {
            Playback::OnDemand { fragments: 0 } => {
                Err(Error::new(ErrorKind::Config, "on-demand playback of 0 fragments (1 or more are allowed)"))
            }
            _ => Ok(()),
        }
    }
}

/// A token that looks like a real one. It guards nothing worth guarding: the random numbers are not cryptographic.
pub(super) fn random_token(random: &mut fastrand::Rng) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    let letters = (0..TOKEN_LENGTH).filter_map(|_| random.choice(ALPHABET)).map(|&letter| char::from(letter));
    "Ci".chars().chain(letters).chain(['~']).collect()
}

/// What there is at a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// How many fragments are published.
    pub(super) published: u64,
    /// Media time since the camera's start.
    pub(super) elapsed: Duration,
}

/// An open session.
#[derive(Clone, Debug)]
pub(super) struct Session {
    token: String,
    options: SessionOptions,
    opened: Moment,
    /// Index of the fragment that was the oldest one listed at the opening.
    first: u64,
    /// The fragments of a closed playlist.
    archive: Option<Arc<[u64]>>,
}

impl Session {
    pub(super) fn open(token: String, options: SessionOptions, timeline: &Timeline, opened: Moment) -> Self {
        let published = opened.published;
        let listed = || (0..published).filter(|&index| timeline.is_listed(index));
        let captured_at = |index: u64| timeline.fragment(index).captured_at;
        let archive: Option<Arc<[u64]>> = match options.playback {
            Playback::OnDemand { fragments } => Some(listed().take_while(|&index| index < fragments).collect()),
            Playback::Archive { start, end } => {
                let inside = listed().filter(|&index| (start..=end).contains(&captured_at(index)));
                Some(inside.take(options.window).collect())
            }
            Playback::Live | Playback::Replay { .. } => None,
        };
        let first = match options.playback {
            Playback::Live => listed().rev().take(options.window).last(),
            Playback::Replay { start, .. } => listed().find(|&index| captured_at(index) >= start),
            Playback::OnDemand { .. } | Playback::Archive { .. } => {
                archive.iter().flat_map(|all| all.iter().copied()).next()
            }
        };
        Self { token, options, opened, first: first.unwrap_or(published), archive }
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) fn options(&self) -> &SessionOptions {
        &self.options
    }

    /// Whether the playlist never changes.
    pub(super) fn is_archive(&self) -> bool {
        self.archive.is_some()
    }

    /// The index behind the last fragment that is listed, and whether none will follow.
    fn end(&self, timeline: &Timeline, now: Moment) -> (u64, bool) {
        let Playback::Replay { end: last, .. } = self.options.playback else { return (now.published, false) };
        let passed = now.elapsed.saturating_sub(self.opened.elapsed);
        // A fragment is due when those before it would have been filmed.
        let due = timeline.complete(timeline.filmed_at(self.first).saturating_add(passed)).saturating_add(1);
        let late = |index: &u64| last.is_some_and(|last| timeline.fragment(*index).captured_at > last);
        match (self.first..now.published).find(late) {
            Some(end) if end <= due => (end, true),
            _ => (due.min(now.published), false),
        }
    }

    /// Whether the playlist is complete.
    pub(super) fn is_closed(&self, timeline: &Timeline, now: Moment) -> bool {
        self.is_archive() || self.end(timeline, now).1
    }

    /// The fragments in the playlist.
    pub(super) fn listed(&self, timeline: &Timeline, now: Moment) -> Vec<u64> {
        if let Some(archive) = &self.archive {
            return archive.to_vec();
        }
        let all = (self.first..self.end(timeline, now).0).rev().filter(|&index| timeline.is_listed(index));
        let mut listed: Vec<_> = all.take(self.options.window).collect();
        listed.reverse();
        listed
    }

    /// The media sequence number of a fragment of this session.
    pub(super) fn media_sequence(&self, timeline: &Timeline, index: u64) -> u64 {
        match &self.archive {
            Some(archive) => archive.partition_point(|&listed| listed < index) as u64 + 1,
            None => (self.first..index).filter(|&before| timeline.is_listed(before)).count() as u64,
        }
    }

    pub(super) fn is_discontinuous(&self, timeline: &Timeline, index: u64) -> bool {
        let is_break = || {
            let Some(before) = (0..index).rev().find(|&before| timeline.is_listed(before)) else { return false };
            let [own, before] = [index, before].map(|index| timeline.fragment(index));
            let expected = before.captured_at.checked_add(before.end.saturating_sub(before.start));
            let distance = expected
                .map(|expected| own.captured_at.duration_since(expected).unwrap_or_else(|earlier| earlier.duration()));
            distance.is_none_or(|distance| distance > CONTINUITY_TOLERANCE)
                || timeline.init_sequence(own.index) != timeline.init_sequence(before.index)
        };
        timeline.has_forced_discontinuity(index)
            || match self.options.discontinuity {
                DiscontinuityMode::Always => true,
                DiscontinuityMode::Never => false,
                DiscontinuityMode::OnDiscontinuity => is_break(),
            }
    }

    pub(super) fn fragment_number(&self, timeline: &Timeline, index: u64) -> String {
        match self.options.numbers {
            FragmentNumbers::Stream => timeline.fragment_number(index),
            FragmentNumbers::Session => index.saturating_sub(self.first).to_string(),
        }
    }

    /// The fragment of that number, when it exists and this session lists or once listed it.
    pub(super) fn find(&self, timeline: &Timeline, number: &str, now: Moment) -> Option<u64> {
        let index = match self.options.numbers {
            FragmentNumbers::Stream => timeline.find(number)?,
            FragmentNumbers::Session => self.first.checked_add(number.parse().ok()?)?,
        };
        let is_inside = match &self.archive {
            Some(archive) => archive.contains(&index),
            None => (self.first..self.end(timeline, now).0).contains(&index) && timeline.is_listed(index),
        };
        is_inside.then_some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Recording;
    use super::*;

    fn timeline() -> Timeline {
        Timeline::new(Arc::new(Recording::demo()), SystemTime::UNIX_EPOCH, Duration::ZERO)
    }

    fn at(published: u64) -> Moment {
        Moment { published, elapsed: Duration::from_secs(published) }
    }

    fn open(playback: Playback, published: u64) -> Session {
        let options = SessionOptions { playback, ..SessionOptions::default() };
        Session::open("Ci~".into(), options, &timeline(), at(published))
    }

    fn live(published: u64) -> Session {
        open(Playback::Live, published)
    }

    fn listed(session: &Session, published: u64) -> Vec<u64> {
        session.listed(&timeline(), at(published))
    }

    #[test]
    fn live_window_slides_and_sequence_numbers_start_with_the_session() {
        let session = live(100);
        for (published, expected, sequence) in [(100, 95..100, 0), (101, 96..101, 1), (250, 245..250, 150)] {
            assert_eq!(listed(&session, published), expected.clone().collect::<Vec<_>>());
            assert_eq!(session.media_sequence(&timeline(), expected.start), sequence);
        }
        // A young stream: the window fills before it slides.
        let session = live(2);
        assert_eq!(
            [2, 4, 8].map(|published| listed(&session, published)),
            [vec![0, 1], vec![0, 1, 2, 3], vec![3, 4, 5, 6, 7]]
        );
        assert!(listed(&live(0), 0).is_empty());
    }

    #[test]
    fn on_demand_session_is_closed() {
        let session = open(Playback::OnDemand { fragments: 5 }, 7);
        assert_eq!((listed(&session, 7), listed(&session, 100)), (vec![0, 1, 2, 3, 4], vec![0, 1, 2, 3, 4]));
        assert_eq!(session.media_sequence(&timeline(), 0), 1);
        assert!(session.is_closed(&timeline(), at(7)));
        assert_eq!(listed(&open(Playback::OnDemand { fragments: 5 }, 3), 100), [0, 1, 2]);
    }

    #[test]
    fn archive_holds_both_ends_of_its_range() {
        let second = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let session = open(Playback::Archive { start: second(3), end: second(6) }, 100);
        assert_eq!(listed(&session, 100), [3, 4, 5, 6]);
        assert_eq!(session.media_sequence(&timeline(), 5), 3);
        let start = second(3) + Duration::from_millis(1);
        assert_eq!(listed(&open(Playback::Archive { start, end: second(60) }, 100), 100), [4, 5, 6, 7, 8]);
        assert!(listed(&open(Playback::Archive { start, end: second(3) }, 100), 100).is_empty());
    }

    #[test]
    fn replay_goes_on_by_a_fragment_a_second() {
        let second = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let session = open(Playback::Replay { start: second(10), end: None }, 100);
        assert_eq!(
            [100, 101, 107].map(|now| listed(&session, now)),
            [vec![10], vec![10, 11], vec![13, 14, 15, 16, 17]]
        );
        assert_eq!(session.media_sequence(&timeline(), 13), 3);
        let session = open(Playback::Replay { start: second(10), end: Some(second(12)) }, 100);
        assert_eq!([100, 102, 103].map(|now| listed(&session, now)), [vec![10], vec![10, 11, 12], vec![10, 11, 12]]);
        assert_eq!([101, 102].map(|now| session.is_closed(&timeline(), at(now))), [false, true]);
        // What is not filmed yet cannot be replayed.
        let session = open(Playback::Replay { start: second(98), end: None }, 100);
        assert_eq!(listed(&session, 100), [98]);
        assert_eq!(session.listed(&timeline(), Moment { published: 100, elapsed: Duration::from_secs(110) }), [98, 99]);
    }

    #[test]
    fn fragments_are_found_only_inside_the_session() {
        let timeline = timeline();
        let stream = live(100);
        let find = |session: &Session, index: u64| session.find(&timeline, &timeline.fragment_number(index), at(120));
        assert_eq!([94, 95, 119, 120].map(|index| find(&stream, index)), [None, Some(95), Some(119), None]);
        let options = SessionOptions { numbers: FragmentNumbers::Session, ..SessionOptions::default() };
        let short = Session::open("Ci~".into(), options, &timeline, at(100));
        assert_eq!(short.fragment_number(&timeline, 97), "2");
        assert_eq!(
            ["2", "24", "25", "x", ""].map(|number| short.find(&timeline, number, at(120))),
            [Some(97), Some(119), None, None, None]
        );
    }

    #[test]
    fn discontinuities_follow_the_mode_and_the_loop_leaves_none() {
        let timeline = timeline();
        for (discontinuity, expected) in [
            (DiscontinuityMode::Always, true),
            (DiscontinuityMode::Never, false),
            (DiscontinuityMode::OnDiscontinuity, false),
        ] {
            let options = SessionOptions { discontinuity, ..SessionOptions::default() };
            let session = Session::open("Ci~".into(), options, &timeline, at(20));
            assert!((0..20).all(|index| session.is_discontinuous(&timeline, index) == expected));
        }
    }

    #[test]
    fn tokens_look_real_and_options_are_checked() {
        let mut random = fastrand::Rng::with_seed(7);
        let token = random_token(&mut random);
        assert!(token.starts_with("Ci") && token.ends_with('~') && token.len() == 128, "{token}");
        assert!(token[..127].bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)));
        assert_ne!(token, random_token(&mut random));
        for window in [0, 5001] {
            let error = SessionOptions { window, ..SessionOptions::default() }.check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(&format!("window of {window}")), "{error}");
        }
    }
}
