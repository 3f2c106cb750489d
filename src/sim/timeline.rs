//! Time, without a clock: which fragments exist when.

use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use super::Recording;
use super::changes::{Availability, Changes};
use super::faults::Fault;
use super::recording::{Cut, nanos};

/// Real fragment numbers have 47 decimal digits: 2^156, plus a counter at bit 92, plus low bits. So say the consecutive
/// numbers 9134385233318143239268…, …39763…, …40258… in the tests of Amazon's parser library. `u128` does not hold them,
/// so they are kept in two parts; these are the digits of 2^156 above and below the thirtieth.
const NUMBER_HIGH: u64 = 91_343_852_333_181_432;
const NUMBER_LOW: u128 = 387_730_302_044_767_688_728_495_783_936;
const NUMBER_SPLIT: u128 = 10_u128.pow(30);
const COUNTER_SHIFT: u32 = 92;

/// The endless loop of a recording as a camera's stream: fragments numbered from 0, each with its times. Pure: whoever
/// asks brings the time along.
///
/// Times are integers, computed anew from ticks for each fragment: nothing adds up, however long the loop runs.
///
/// Faults of the stream are part of it: silences, jitter and skew are in its times, and
/// [`availability`](Self::availability) says which fragments a client could not get whole. A fault that a running camera is
/// given changes fragments still to be filmed, for the timeline's clones too; those published stay as they are.
#[derive(Clone, Debug)]
pub struct Timeline {
    recording: Arc<Recording>,
    /// Milliseconds from 1970 to the first fragment's start.
    origin_ms: u64,
    publish_delay: Duration,
    changes: Arc<RwLock<Changes>>,
}

/// When one fragment of a [`Timeline`] was filmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FragmentTime {
    /// Position in the stream, from 0.
    pub index: u64,
    /// Position in the recording, from 0.
    pub position: usize,
    /// Decoding time of the first sample in ticks since the start of the stream; goes on growing over passes.
    pub decode_time: u64,
    /// Start since the start of the stream, rounded down to a nanosecond.
    pub start: Duration,
    /// End of its last frame since the start of the stream, likewise: the start of the next fragment, unless a fault moves
    /// one of them.
    pub end: Duration,
    /// Capture time of the first picture in whole milliseconds, as EXT-X-PROGRAM-DATE-TIME shows it.
    pub captured_at: SystemTime,
}

impl Timeline {
    /// A stream whose first fragment starts at `origin`, rounded down to a millisecond, and whose fragments can be
    /// listed `publish_delay` after their end. An origin before 1970 counts as 1970.
    #[must_use]
    pub fn new(recording: Arc<Recording>, origin: SystemTime, publish_delay: Duration) -> Self {
        let since_epoch = origin.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let origin_ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        Self { recording, origin_ms, publish_delay, changes: Arc::default() }
    }

    /// The same stream before anything goes wrong, and for itself.
    pub(super) fn without_faults(&self) -> Self {
        Self { changes: Arc::default(), ..self.clone() }
    }

    /// Puts the faults' effects in the place of all earlier ones.
    pub(super) fn change(&self, changes: Changes) {
        *self.changes.write().unwrap_or_else(PoisonError::into_inner) = changes;
    }

    fn changes<T>(&self, look: impl FnOnce(&Changes) -> T) -> T {
        look(&self.changes.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a client can get the fragment whole.
    #[must_use]
    pub fn availability(&self, index: u64) -> Availability {
        self.changes(|changes| changes.availability(index)).0
    }

    /// The fault that keeps a client from getting the fragment whole.
    pub(super) fn spoiled_by(&self, index: u64) -> Option<Fault> {
        self.changes(|changes| changes.availability(index)).1
    }

    pub(super) fn is_listed(&self, index: u64) -> bool {
        self.availability(index) != Availability::Unlisted
    }

    pub(super) fn has_forced_discontinuity(&self, index: u64) -> bool {
        self.changes(|changes| changes.is_discontinuous(index))
    }

    /// `SequenceNumber=` of the fragment's init fragment: even for the first recording, odd for the second.
    #[must_use]
    pub fn init_sequence(&self, index: u64) -> u64 {
        self.changes(|changes| changes.sequence(index))
    }

    /// The numbers of the fragment's frames, in display order.
    #[must_use]
    pub fn frames(&self, index: u64) -> Range<u64> {
        let (passes, cut) = self.recording.cut(index);
        let first = passes.saturating_mul(self.recording.samples() as u64);
        first.saturating_add(cut.samples.start as u64)..first.saturating_add(cut.samples.end as u64)
    }

    /// Without faults: ticks from the start of the stream to the fragment.
    fn filmed_ticks(&self, index: u64) -> (u128, &Cut) {
        let (passes, cut) = self.recording.cut(index);
        (u128::from(passes) * u128::from(self.recording.ticks()) + u128::from(cut.start), cut)
    }

    /// Without faults: when the fragment starts, from the start of the stream.
    pub(super) fn filmed_at(&self, index: u64) -> Duration {
        self.recording.time(self.filmed_ticks(index).0)
    }

    /// The first fragment that does not start before `elapsed` after the origin, silences included.
    pub(super) fn first_filmed_from(&self, elapsed: Duration) -> u64 {
        // The count of complete ones is the number of the one under way.
        let under_way = self.published(elapsed.saturating_add(self.publish_delay));
        let start = self.filmed_at(under_way).saturating_add(self.changes(|changes| changes.delay(under_way)));
        if start < elapsed { under_way.saturating_add(1) } else { under_way }
    }

    /// What is looped.
    #[must_use]
    pub fn recording(&self) -> &Arc<Recording> {
        &self.recording
    }

    /// When the first fragment starts.
    #[must_use]
    pub fn origin(&self) -> SystemTime {
        system_time(Duration::from_millis(self.origin_ms))
    }

    /// How many fragments can be listed, `elapsed` after the origin: those with a smaller index.
    #[must_use]
    pub fn published(&self, elapsed: Duration) -> u64 {
        self.changes(|changes| {
            changes.published(elapsed, |elapsed| self.complete(elapsed.saturating_sub(self.publish_delay)))
        })
    }

    /// Without faults: how many fragments are filmed to their end, `elapsed` after the origin.
    pub(super) fn complete(&self, elapsed: Duration) -> u64 {
        let recording = &self.recording;
        let timescale = u128::from(recording.timescale().get());
        let filmed = elapsed.as_nanos().saturating_mul(timescale) / 1_000_000_000;
        let pass = u128::from(recording.ticks());
        let rest = filmed % pass;
        let complete = recording.cuts().partition_point(|cut| u128::from(cut.end()) <= rest);
        let passes = u64::try_from(filmed / pass).unwrap_or(u64::MAX);
        passes.saturating_mul(recording.fragments() as u64).saturating_add(complete as u64)
    }

    /// How long after the origin `count` fragments can be listed; zero for none.
    #[must_use]
    pub fn published_after(&self, count: u64) -> Duration {
        let Some(last) = count.checked_sub(1) else { return Duration::ZERO };
        let (passes, cut) = self.recording.cut(last);
        let ticks = u128::from(passes) * u128::from(self.recording.ticks()) + u128::from(cut.end());
        let timescale = u128::from(self.recording.timescale().get());
        nanos(ticks.saturating_mul(1_000_000_000).div_ceil(timescale))
            .saturating_add(self.publish_delay)
            .saturating_add(self.changes(|changes| changes.delay(last)))
    }

    /// The times of a fragment.
    #[must_use]
    pub fn fragment(&self, index: u64) -> FragmentTime {
        let (filmed, cut) = self.filmed_ticks(index);
        let (delay, jitter_ms, skew_ms) =
            self.changes(|changes| (changes.delay(index), changes.jitter_ms(index), changes.skew_ms(index)));
        let timescale = i128::from(self.recording.timescale().get());
        let ticks = |nanos: i128| nanos * timescale / 1_000_000_000;
        let moved = i128::try_from(delay.as_nanos()).unwrap_or_default() + i128::from(jitter_ms) * 1_000_000;
        let decode_time = i128::try_from(filmed).unwrap_or(i128::MAX).saturating_add(ticks(moved)).max(0);
        let [start, end] = [filmed, filmed + u128::from(cut.duration)].map(|ticks| {
            let filmed = i128::try_from(self.recording.time(ticks).as_nanos()).unwrap_or(i128::MAX);
            nanos(u128::try_from(filmed.saturating_add(moved)).unwrap_or_default())
        });
        FragmentTime {
            index,
            position: (index % self.recording.fragments() as u64) as usize,
            decode_time: u64::try_from(decode_time).unwrap_or(u64::MAX),
            start,
            end,
            captured_at: system_time(Duration::from_millis(self.captured_at_ms(start).saturating_add_signed(skew_ms))),
        }
    }

    /// When a frame was captured; frames count from 0 in display order over all passes.
    ///
    /// That is the programme time of its fragment plus the distance of its presentation time to that of the fragment's
    /// first picture: exactly what a client can know.
    #[must_use]
    pub fn capture_time(&self, frame: u64) -> SystemTime {
        let recording = &self.recording;
        let per_pass = recording.samples() as u64;
        let (passes, within) = (frame / per_pass, (frame % per_pass) as usize);
        let position = recording.cuts().partition_point(|cut| cut.samples.end <= within);
        let fragment =
            self.fragment(passes.saturating_mul(recording.fragments() as u64).saturating_add(position as u64));
        let (_, cut) = recording.cut(position as u64);
        let mut decode_time = 0;
        let mut shown: Vec<i64> = recording
            .samples_of(cut)
            .iter()
            .map(|sample| {
                let shown = decode_time + i64::from(sample.composition_offset);
                decode_time += i64::from(sample.duration);
                shown
            })
            .collect();
        let first = shown.first().copied().unwrap_or_default();
        shown.sort_unstable();
        let own = shown.get(within - cut.samples.start).copied().unwrap_or(first);
        let later = recording.time(u128::try_from(own - first).unwrap_or_default());
        fragment.captured_at.checked_add(later).unwrap_or(fragment.captured_at)
    }

    /// The fragment's number, 47 decimal digits. Numbers grow with the index.
    #[must_use]
    pub fn fragment_number(&self, index: u64) -> String {
        // The counter starts at 1. It stays below 2^36, two thousand years of fragments.
        let counter = (u128::from(index) + 1) & ((1 << 36) - 1);
        // What the low bits mean is not documented; here they hold the time that the fragment
        // would have without faults, so a number never changes.
        let time = u128::from(self.captured_at_ms(self.filmed_at(index))) << 12;
        let low = NUMBER_LOW + (22 << 64) + time;
        // Only the sum of both may exceed 128 bits: carry first.
        let counter = counter << COUNTER_SHIFT;
        let high = u128::from(NUMBER_HIGH) + low / NUMBER_SPLIT + counter / NUMBER_SPLIT;
        let low = low % NUMBER_SPLIT + counter % NUMBER_SPLIT;
        format!("{}{:030}", high + low / NUMBER_SPLIT, low % NUMBER_SPLIT)
    }

    /// The fragment that has this number.
    #[must_use]
    pub fn find(&self, number: &str) -> Option<u64> {
        let (high, low) = number.split_at_checked(17)?;
        let high = high.parse::<u64>().ok()?.checked_sub(NUMBER_HIGH)?;
        let low = low.parse::<u128>().ok()?;
        let counter = u128::from(high).checked_mul(NUMBER_SPLIT)?.checked_add(low)?.checked_sub(NUMBER_LOW)?;
        let index = u64::try_from(counter >> COUNTER_SHIFT).ok()?.checked_sub(1)?;
        (self.fragment_number(index) == number).then_some(index)
    }

    /// Milliseconds from 1970 to `start` after the origin.
    pub(super) fn captured_at_ms(&self, start: Duration) -> u64 {
        self.origin_ms.saturating_add(u64::try_from(start.as_millis()).unwrap_or(u64::MAX))
    }

    /// Ticks from 1970 to the origin.
    pub(super) fn epoch_ticks(&self) -> u64 {
        let ticks = u128::from(self.origin_ms) * u128::from(self.recording.timescale().get()) / 1000;
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }
}

fn system_time(since_epoch: Duration) -> SystemTime {
    SystemTime::UNIX_EPOCH.checked_add(since_epoch).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN_MS: u64 = 1_700_000_000_123;

    fn timeline(recording: Recording) -> Timeline {
        let origin = system_time(Duration::from_millis(ORIGIN_MS));
        Timeline::new(Arc::new(recording), origin, Duration::from_millis(300))
    }

    #[test]
    fn fragments_exist_after_their_end_and_the_delay() {
        let timeline = timeline(Recording::demo());
        for (elapsed_ms, count) in [(0, 0), (1299, 0), (1300, 1), (5299, 4), (5300, 5), (6300, 6), (86_400_300, 86_400)]
        {
            assert_eq!(timeline.published(Duration::from_millis(elapsed_ms)), count, "{elapsed_ms} ms");
            if count > 0 {
                assert_eq!(timeline.published(timeline.published_after(count)), count);
                assert_eq!(timeline.published(timeline.published_after(count) - Duration::from_nanos(1)), count - 1);
            }
        }
        assert_eq!(timeline.published(Duration::MAX), timeline.published(Duration::MAX)); // no overflow
    }

    #[test]
    fn times_go_on_over_passes_and_do_not_drift() {
        let timeline = timeline(Recording::demo());
        let late = timeline.fragment(5_000_000_003);
        assert_eq!((late.position, late.start), (3, Duration::from_secs(5_000_000_003)));
        assert_eq!(late.decode_time, 5_000_000_003 * 15_360);
        assert_eq!(late.captured_at, timeline.origin() + late.start);
        for index in 0..20 {
            assert_eq!(timeline.fragment(index).end, timeline.fragment(index + 1).start);
        }
        assert_eq!(timeline.epoch_ticks(), ORIGIN_MS * 15_360 / 1000);
    }

    #[test]
    fn frames_have_their_capture_time_in_display_order() {
        let bframes = Recording::from_mp4(include_bytes!("../../fixtures/camera_bframes.mp4").as_slice()).unwrap();
        for recording in [Recording::demo(), bframes] {
            let timeline = timeline(recording);
            for frame in 0..400 {
                // 15 frames a second: exact at full seconds, rounded down within.
                let expected = Duration::from_secs(frame / 15) + Duration::from_nanos(frame % 15 * 1_000_000_000 / 15);
                assert_eq!(timeline.capture_time(frame), timeline.origin() + expected, "frame {frame}");
            }
        }
    }

    #[test]
    fn numbers_have_47_digits_grow_and_are_found_again() {
        let timeline = timeline(Recording::demo());
        let mut last = String::new();
        for index in (0..300).chain([1 << 20, 1 << 35]) {
            let number = timeline.fragment_number(index);
            assert_eq!(number.len(), 47);
            assert!(number > last, "{number} after {last}");
            assert_eq!(timeline.find(&number), Some(index));
            last = number;
        }
        assert!(timeline.fragment_number(0).starts_with("9134385233318143239268206"));
        let close = format!("{}0", &last[..46]);
        for wrong in
            ["", "7", "91343852333181432387730302044767688728495783936", close.as_str(), "é".repeat(24).as_str()]
        {
            assert_eq!(timeline.find(wrong), None, "{wrong}");
        }
    }
}
