//! Which variant the measured bandwidth carries.

use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Stage};
use crate::hls::{Variant, VariantChoice};

/// Part of the measured bandwidth that a variant may take: the rest is for what the measurement does not see.
const USABLE: f64 = 0.7;
/// A segment that takes more than this part of its own duration to load does not keep up.
const MAX_LOAD: f64 = 0.9;
/// The shortest stay on a variant before a better one is tried. A try that failed doubles it, up to the longest.
const MIN_STAY: Duration = Duration::from_secs(10);
const MAX_STAY: Duration = Duration::from_secs(320);

/// A segment's way from the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Download {
    pub(crate) bytes: usize,
    pub(crate) elapsed: Duration,
}

/// The measurements and what was made of them.
#[derive(Debug)]
pub(super) struct Adaptation {
    choice: VariantChoice,
    /// Bits a second: the one follows quickly, the other slowly.
    fast: Option<f64>,
    slow: Option<f64>,
    /// Time to load a segment, as part of its duration; since the last switch.
    load: Option<f64>,
    /// Size and bandwidth of the variant that was switched to, to be found again in the next session.
    present: Option<(u64, u64)>,
    switched_at: Option<Instant>,
    went_up: bool,
    stay: Duration,
}

/// Moves by this part of the way from an average to a new value.
fn average(average: Option<f64>, value: f64, part: f64) -> f64 {
    average.map_or(value, |average| average + part * (value - average))
}

fn size(variant: &Variant) -> (u64, u64) {
    (variant.resolution.map_or(0, |size| size.pixels()), variant.bandwidth.unwrap_or(u64::MAX))
}

impl Adaptation {
    pub(super) fn new(choice: VariantChoice) -> Self {
        Self {
            choice,
            fast: None,
            slow: None,
            load: None,
            present: None,
            switched_at: None,
            went_up: false,
            stay: MIN_STAY,
        }
    }

    /// The variants to choose from in a new session, the smallest first, and the one to begin with.
    ///
    /// # Errors
    /// `Config` when there is none at the place that was chosen.
    pub(super) fn begin(&self, listed: &[Variant], mut rungs: Vec<Variant>) -> Result<(Vec<Variant>, usize), Error> {
        let rung = match self.choice {
            VariantChoice::Lowest => 0,
            VariantChoice::Listed(place) => {
                let index = usize::try_from(place).unwrap_or(usize::MAX).saturating_sub(1);
                let variant = listed.get(index).ok_or_else(|| {
                    let context = format!("variant {place} of a playlist that lists {}", listed.len());
                    Error::new(ErrorKind::Config, context).at(Stage::Playlist)
                })?;
                rungs = vec![variant.clone()];
                0
            }
            _ => {
                let present = rungs.iter().position(|variant| Some(size(variant)) == self.present);
                present.unwrap_or(rungs.len().saturating_sub(1))
            }
        };
        Ok((rungs, rung))
    }

    pub(super) fn measure(&mut self, download: Download, duration: Duration) {
        let seconds = download.elapsed.as_secs_f64().max(1e-6);
        let rate = download.bytes as f64 * 8.0 / seconds;
        self.fast = Some(average(self.fast, rate, 0.5));
        self.slow = Some(average(self.slow, rate, 0.15));
        if !duration.is_zero() {
            self.load = Some(average(self.load, seconds / duration.as_secs_f64(), 0.5));
        }
    }

    /// A request ran out of time.
    pub(super) fn overload(&mut self) {
        self.load = Some(2.0);
        self.fast = self.fast.map(|rate| rate / 2.0);
    }

    /// The rung to go to from this one, if any.
    pub(super) fn next(&self, rungs: &[Variant], rung: usize, now: Instant) -> Option<usize> {
        if self.choice != VariantChoice::Adaptive || rungs.len() < 2 {
            return None;
        }
        let carries = |rate: f64| {
            let fits = |variant: &Variant| variant.bandwidth.is_some_and(|bandwidth| bandwidth as f64 <= rate * USABLE);
            rungs.iter().rposition(fits)
        };
        if self.load? > MAX_LOAD {
            let below = rung.checked_sub(1)?;
            return Some(self.fast.and_then(carries).unwrap_or(0).min(below));
        }
        let is_settled = self.switched_at.is_none_or(|time| now.saturating_duration_since(time) >= self.stay);
        let above = carries(self.fast?.min(self.slow?)).filter(|above| *above > rung);
        above.filter(|_| is_settled)
    }

    /// The switch from `rung` to `next` was made.
    pub(super) fn switched(&mut self, rungs: &[Variant], rung: usize, next: usize, now: Instant) {
        let stayed = self.switched_at.map(|time| now.saturating_duration_since(time));
        if next < rung && self.went_up {
            let was_brief = stayed.is_some_and(|stayed| stayed < self.stay.saturating_mul(2));
            self.stay = if was_brief { self.stay.saturating_mul(2).min(MAX_STAY) } else { MIN_STAY };
        }
        self.went_up = next > rung;
        self.load = None;
        self.present = rungs.get(next).map(size);
        self.switched_at = Some(now);
    }

    /// The variant that was to be switched to could not be loaded.
    pub(super) fn failed(&mut self, now: Instant) {
        self.load = None;
        self.stay = self.stay.saturating_mul(2).min(MAX_STAY);
        self.switched_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};
    use crate::hls::{self, Playlist, VariantCaps};
    use crate::limits::Limits;
    use crate::secret::SecretUrl;

    fn rungs() -> Vec<Variant> {
        let text = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000000\na\n#EXT-X-STREAM-INF:BANDWIDTH=3000000\nb\n\
                    #EXT-X-STREAM-INF:BANDWIDTH=6000000\nc\n";
        let base = SecretUrl::parse("https://host/").unwrap();
        match hls::parse(text.as_bytes(), &base, &Limits::default()).unwrap() {
            Playlist::Multivariant(playlist) => hls::ladder(&playlist, &VariantCaps::default()).unwrap(),
            Playlist::Media(_) => panic!("multivariant"),
        }
    }

    /// Segments of two seconds at each rung's rate over a link of so many bits a second: the rungs, second by second.
    fn ride(
        adaptation: &mut Adaptation,
        rung: &mut usize,
        start: Instant,
        seconds: std::ops::Range<u64>,
        link: f64,
    ) -> Vec<usize> {
        let rungs = rungs();
        let mut ridden = Vec::new();
        for second in seconds.step_by(2) {
            let now = start + Duration::from_secs(second);
            let bits = rungs[*rung].bandwidth.unwrap() as f64 * 2.0;
            let download = Download { bytes: (bits / 8.0) as usize, elapsed: Duration::from_secs_f64(bits / link) };
            adaptation.measure(download, Duration::from_secs(2));
            if let Some(next) = adaptation.next(&rungs, *rung, now) {
                adaptation.switched(&rungs, *rung, next, now);
                *rung = next;
            }
            ridden.push(*rung);
        }
        ridden
    }

    #[test]
    fn a_link_that_narrows_and_widens_is_followed_with_hysteresis() {
        let (mut adaptation, start) = (Adaptation::new(VariantChoice::Adaptive), SystemClock.now());
        let mut rung = adaptation.begin(&rungs(), rungs()).unwrap().1;
        assert_eq!(rung, 2, "the best one at first");
        assert_eq!(ride(&mut adaptation, &mut rung, start, 0..20, 20e6), [2; 10]);
        let narrow = ride(&mut adaptation, &mut rung, start, 20..40, 2e6);
        assert_eq!(narrow[..2], [1, 0], "two segments tell that 2 Mbit/s carry 1 Mbit/s only: {narrow:?}");
        assert_eq!(narrow[2..], [0; 8]);
        let wide = ride(&mut adaptation, &mut rung, start, 40..80, 20e6);
        assert_eq!(wide.last(), Some(&2), "{wide:?}");
        assert_eq!(adaptation.begin(&rungs(), rungs()).unwrap().1, 2, "found again in the next session");
    }

    #[test]
    fn a_link_between_two_variants_is_tried_less_and_less() {
        let (mut adaptation, start) = (Adaptation::new(VariantChoice::Adaptive), SystemClock.now());
        let mut rung = 2;
        // 4.4 Mbit/s carry 3 Mbit/s, and not 6.
        let ridden = ride(&mut adaptation, &mut rung, start, 0..600, 4.4e6);
        let changes = ridden.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(changes < 4, "{changes} changes in ten minutes");
        assert_eq!(rung, 1);
    }

    #[test]
    fn what_was_chosen_is_kept() {
        for (choice, expected) in
            [(VariantChoice::Highest, 2), (VariantChoice::Lowest, 0), (VariantChoice::Listed(2), 0)]
        {
            let (mut adaptation, start) = (Adaptation::new(choice), SystemClock.now());
            let (ladder, rung) = adaptation.begin(&rungs(), rungs()).unwrap();
            assert_eq!(rung, expected);
            if choice == VariantChoice::Listed(2) {
                assert_eq!(ladder[0].bandwidth, Some(3_000_000));
            }
            let mut kept = expected;
            ride(&mut adaptation, &mut kept, start, 0..60, 1e5);
            assert_eq!(kept, expected);
        }
        let error = Adaptation::new(VariantChoice::Listed(4)).begin(&rungs(), rungs()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("variant 4 of a playlist that lists 3"), "{error}");
    }
}
