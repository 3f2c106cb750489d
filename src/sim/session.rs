//! One streaming session: what it lists, under which numbers.

use std::ops::Range;
use std::time::Duration;

use super::Timeline;
use crate::error::{Error, ErrorKind};

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
}

/// Where EXT-X-DISCONTINUITY stands (`DiscontinuityMode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiscontinuityMode {
    /// Before every segment, the first one included. The default of Kinesis Video Streams for server timestamps.
    #[default]
    Always,
    /// Nowhere.
    Never,
    /// Before segments that leave a gap or an overlap of more than 50 ms. The loop of the recording leaves none.
    OnDiscontinuity,
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
    /// How many fragments a live playlist lists at most, 1 to 5000; 5 by default.
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

/// An open session.
#[derive(Clone, Debug)]
pub(super) struct Session {
    token: String,
    options: SessionOptions,
    /// Index of the fragment that was the oldest one listed at the opening.
    first: u64,
    /// Index behind the last fragment; live sessions have none.
    end: Option<u64>,
}

impl Session {
    /// Opens a session when `published` fragments exist.
    pub(super) fn open(token: String, options: SessionOptions, published: u64) -> Self {
        let (first, end) = match options.playback {
            Playback::Live => (published.saturating_sub(options.window as u64), None),
            Playback::OnDemand { fragments } => (0, Some(fragments.min(published))),
        };
        Self { token, options, first, end }
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) fn options(&self) -> &SessionOptions {
        &self.options
    }

    pub(super) fn is_live(&self) -> bool {
        self.end.is_none()
    }

    /// The fragments in the playlist when `published` exist.
    pub(super) fn listed(&self, published: u64) -> Range<u64> {
        match self.end {
            Some(end) => self.first..end,
            None => published.saturating_sub(self.options.window as u64).max(self.first)..published,
        }
    }

    /// The media sequence number of a fragment of this session.
    pub(super) fn media_sequence(&self, index: u64) -> u64 {
        let first_number = if self.is_live() { 0 } else { 1 };
        index.saturating_sub(self.first) + first_number
    }

    pub(super) fn is_discontinuous(&self, timeline: &Timeline, index: u64) -> bool {
        match self.options.discontinuity {
            DiscontinuityMode::Always => true,
            DiscontinuityMode::Never => false,
            DiscontinuityMode::OnDiscontinuity => index.checked_sub(1).is_some_and(|before| {
                timeline.fragment(index).start.abs_diff(timeline.fragment(before).end) > CONTINUITY_TOLERANCE
            }),
        }
    }

    pub(super) fn fragment_number(&self, timeline: &Timeline, index: u64) -> String {
        match self.options.numbers {
            FragmentNumbers::Stream => timeline.fragment_number(index),
            FragmentNumbers::Session => index.saturating_sub(self.first).to_string(),
        }
    }

    /// The fragment of that number, when it exists and this session lists or once listed it.
    pub(super) fn find(&self, timeline: &Timeline, number: &str, published: u64) -> Option<u64> {
        let index = match self.options.numbers {
            FragmentNumbers::Stream => timeline.find(number)?,
            FragmentNumbers::Session => self.first.checked_add(number.parse().ok()?)?,
        };
        (self.first..self.end.unwrap_or(published)).contains(&index).then_some(index)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use super::super::Recording;
    use super::*;

    fn live(published: u64) -> Session {
        Session::open("Ci~".into(), SessionOptions::default(), published)
    }

    #[test]
    fn live_window_slides_and_sequence_numbers_start_with_the_session() {
        let session = live(100);
        for (published, listed, sequence) in [(100, 95..100, 0), (101, 96..101, 1), (250, 245..250, 150)] {
            assert_eq!(session.listed(published), listed);
            assert_eq!(session.media_sequence(listed.start), sequence);
        }
        // A young stream: the window fills before it slides.
        let session = live(2);
        assert_eq!((session.listed(2), session.listed(4), session.listed(8)), (0..2, 0..4, 3..8));
        assert_eq!(live(0).listed(0), 0..0);
    }

    #[test]
    fn on_demand_session_is_closed() {
        let options = SessionOptions { playback: Playback::OnDemand { fragments: 5 }, ..SessionOptions::default() };
        let session = Session::open("Ci~".into(), options, 7);
        assert_eq!((session.listed(7), session.listed(100)), (0..5, 0..5));
        assert_eq!(session.media_sequence(0), 1);
        assert_eq!(Session::open("Ci~".into(), options, 3).listed(100), 0..3);
    }

    #[test]
    fn fragments_are_found_only_inside_the_session() {
        let timeline = Timeline::new(Arc::new(Recording::demo()), SystemTime::UNIX_EPOCH, Duration::ZERO);
        let stream = live(100);
        let find = |session: &Session, index: u64| session.find(&timeline, &timeline.fragment_number(index), 120);
        assert_eq!([94, 95, 119, 120].map(|index| find(&stream, index)), [None, Some(95), Some(119), None]);
        let options = SessionOptions { numbers: FragmentNumbers::Session, ..SessionOptions::default() };
        let short = Session::open("Ci~".into(), options, 100);
        assert_eq!(short.fragment_number(&timeline, 97), "2");
        assert_eq!(
            ["2", "24", "25", "x", ""].map(|number| short.find(&timeline, number, 120)),
            [Some(97), Some(119), None, None, None]
        );
    }

    #[test]
    fn discontinuities_follow_the_mode_and_the_loop_leaves_none() {
        let timeline = Timeline::new(Arc::new(Recording::demo()), SystemTime::UNIX_EPOCH, Duration::ZERO);
        for (discontinuity, expected) in [
            (DiscontinuityMode::Always, true),
            (DiscontinuityMode::Never, false),
            (DiscontinuityMode::OnDiscontinuity, false),
        ] {
            let session =
                Session::open("Ci~".into(), SessionOptions { discontinuity, ..SessionOptions::default() }, 20);
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
