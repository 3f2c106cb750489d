//! A recording, cut into fragments.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

use super::samples::{self, Sample, Track};
use crate::error::{Error, ErrorKind};
use crate::time::Timescale;

/// The shortest fragment that Kinesis Video Streams takes.
const MIN_FRAGMENT: Duration = Duration::from_secs(1);

/// An H.264 recording, cut at IDR pictures into the fragments that a camera would send.
///
/// Read from a plain (progressive) MP4; other tracks are ignored, and so is the edit list. Composition offsets are kept,
/// so B-frames are fine. Pictures before the first IDR picture are left out. The samples are slices of the file, which
/// stays in memory.
#[derive(Clone)]
pub struct Recording {
    track: Track,
    samples: Vec<Sample>,
    cuts: Vec<Cut>,
    /// Ticks of one pass, not zero.
    duration: u64,
}

/// One fragment of the recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) samples: Range<usize>,
    /// Decoding time of the first sample, in ticks since the start of the recording.
    pub(super) start: u64,
    /// Ticks to the start of the next fragment.
    pub(super) duration: u64,
}

impl Cut {
    pub(super) fn end(&self) -> u64 {
        self.start + self.duration
    }
}

impl Recording {
    /// Reads a recording from a file; blocks.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the file cannot be read; else as [`from_mp4`](Self::from_mp4), with the path.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let file = std::fs::read(path).map_err(|error| {
            Error::new(ErrorKind::Config, format!("unreadable recording {}", path.display())).with_source(error)
        })?;
        Self::from_mp4(file).map_err(|error| error.of_file(path))
    }

    /// Reads a recording from the bytes of a plain MP4 file.
    ///
    /// # Errors
    /// [`ErrorKind::Container`] when the file is damaged, fragmented, without an H.264 track or without an IDR picture;
    /// [`ErrorKind::Bitstream`] when its parameter sets cannot be read.
    pub fn from_mp4(file: impl Into<Bytes>) -> Result<Self, Error> {
        let (track, mut samples) = samples::read(&file.into())?;
        let container = |context| Error::new(ErrorKind::Container, context);
        let first_idr = samples.iter().position(|sample| sample.is_idr);
        samples.drain(..first_idr.ok_or_else(|| container("recording without an IDR picture"))?);
        // Some muxers write no duration for the last sample; the camera goes on after it.
        if let [.., before, last] = samples.as_mut_slice()
            && last.duration == 0
        {
            last.duration = before.duration;
        }
        let duration = samples.iter().map(|sample| u64::from(sample.duration)).sum();
        if duration == 0 {
            return Err(container("recording that lasts no time"));
        }
        let cuts = cut(&samples, ticks(MIN_FRAGMENT, track.timescale));
        Ok(Self { track, samples, cuts, duration })
    }

    /// The recording that comes with the crate: five seconds, 640x360, 15 frames a second, an IDR picture each second, and
    /// the number of the frame painted into each picture (see the [module](super)).
    ///
    /// From *Big Buck Bunny*, (c) 2008 Blender Foundation, CC BY 3.0.
    #[must_use]
    #[allow(clippy::missing_panics_doc, clippy::expect_used)] // the file is part of the crate, a test reads it
    pub fn demo() -> Self {
        Self::from_mp4(Bytes::from_static(include_bytes!("../../fixtures/camera.mp4"))).expect("a readable recording")
    }

    /// The same recording in 320x180, with the same numbers painted: what a camera can change to
    /// ([`Fault::Resolution`](super::Fault::Resolution)).
    #[must_use]
    #[allow(clippy::missing_panics_doc, clippy::expect_used)] // as above
    pub fn demo_small() -> Self {
        Self::from_mp4(Bytes::from_static(include_bytes!("../../fixtures/camera_small.mp4")))
            .expect("a readable recording")
    }

    /// Whether fragment by fragment the other one has as many frames in as many ticks.
    pub(super) fn is_cut_like(&self, other: &Self) -> bool {
        self.timescale() == other.timescale() && self.cuts == other.cuts
    }

    /// Cuts again, at the first IDR picture at least `min_fragment` after the last cut. The default is one second, the
    /// least that Kinesis Video Streams takes. A rest that is shorter belongs to the last fragment.
    #[must_use]
    pub fn with_min_fragment(mut self, min_fragment: Duration) -> Self {
        self.cuts = cut(&self.samples, ticks(min_fragment, self.track.timescale));
        self
    }

    /// How many frames the recording has.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.samples.len()
    }

    /// How many fragments one pass has; at least one.
    #[must_use]
    pub fn fragments(&self) -> usize {
        self.cuts.len()
    }

    /// How many frames each fragment has.
    pub fn fragment_samples(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.cuts.iter().map(|cut| cut.samples.len())
    }

    /// When each fragment starts, from the start of the recording, rounded down to a nanosecond.
    pub fn fragment_times(&self) -> impl ExactSizeIterator<Item = Duration> + '_ {
        self.cuts.iter().map(|cut| self.time(u128::from(cut.start)))
    }

    /// How long one pass lasts, rounded down to a nanosecond.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.time(u128::from(self.duration))
    }

    /// Ticks a second of the track, which the fragments keep.
    #[must_use]
    pub fn timescale(&self) -> Timescale {
        self.track.timescale
    }

    /// Width of the pictures in pixels, after cropping.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.track.format.width
    }

    /// Height of the pictures in pixels, after cropping.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.track.format.height
    }

    /// The codec as playlists name it (RFC 6381), for example `avc1.4d401e`.
    #[must_use]
    pub fn codec(&self) -> String {
        let format = &self.track.format;
        format!("avc1.{:02x}{:02x}{:02x}", format.profile_idc, format.constraint_flags, format.level_idc)
    }

    pub(super) fn track(&self) -> &Track {
        &self.track
    }

    pub(super) fn cuts(&self) -> &[Cut] {
        &self.cuts
    }

    /// The cut of a fragment of the endless loop, and how many whole passes lie before it.
    #[allow(clippy::indexing_slicing, reason = "there is always a cut, and the remainder is less than their number")]
    pub(super) fn cut(&self, index: u64) -> (u64, &Cut) {
        let per_pass = self.cuts.len() as u64;
        (index / per_pass, &self.cuts[(index % per_pass) as usize])
    }

    pub(super) fn samples_of(&self, cut: &Cut) -> &[Sample] {
        self.samples.get(cut.samples.clone()).unwrap_or_default()
    }

    /// Ticks of one pass.
    pub(super) fn ticks(&self) -> u64 {
        self.duration
    }

    pub(super) fn time(&self, ticks: u128) -> Duration {
        nanos(ticks.saturating_mul(1_000_000_000) / u128::from(self.track.timescale.get()))
    }

    /// The bit rate of the largest fragment, in bits a second.
    pub(super) fn peak_bandwidth(&self) -> u64 {
        let rate = |cut: &Cut| {
            let bytes: u64 = self.samples_of(cut).iter().map(|sample| sample.data.len() as u64).sum();
            (bytes * 8).saturating_mul(u64::from(self.track.timescale.get())) / cut.duration.max(1)
        };
        self.cuts.iter().map(rate).max().unwrap_or_default()
    }

    /// Frames in a thousand seconds, rounded down.
    pub(super) fn frames_per_kilosecond(&self) -> u64 {
        self.samples.len() as u64 * 1000 * u64::from(self.track.timescale.get()) / self.duration
    }
}

/// Without the pictures.
impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording")
            .field("codec", &self.codec())
            .field("width", &self.width())
            .field("height", &self.height())
            .field("samples", &self.samples())
            .field("fragments", &self.fragments())
            .field("duration", &self.duration())
            .finish_non_exhaustive()
    }
}

/// A duration of that many nanoseconds, at most 584 years.
pub(super) fn nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The least number of ticks that lasts at least `duration`.
fn ticks(duration: Duration, timescale: Timescale) -> u64 {
    let ticks = duration.as_nanos().saturating_mul(u128::from(timescale.get())).div_ceil(1_000_000_000);
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

fn cut(samples: &[Sample], min_ticks: u64) -> Vec<Cut> {
    let mut cuts: Vec<Cut> = vec![];
    let mut current = Cut { samples: 0..0, start: 0, duration: 0 };
    for (index, sample) in samples.iter().enumerate() {
        if sample.is_idr && current.duration > 0 && current.duration >= min_ticks {
            let next = Cut { samples: index..index, start: current.end(), duration: 0 };
            cuts.push(std::mem::replace(&mut current, next));
        }
        current.samples.end = index + 1;
        current.duration += u64::from(sample.duration);
    }
    match cuts.last_mut() {
        Some(last) if current.duration == 0 || current.duration < min_ticks => {
            last.samples.end = current.samples.end;
            last.duration += current.duration;
        }
        _ => cuts.push(current),
    }
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(pattern: &str, duration: u32) -> Vec<Sample> {
        let sample = |kind| Sample { data: Bytes::new(), duration, composition_offset: 0, is_idr: kind == 'I' };
        pattern.chars().map(sample).collect()
    }

    #[test]
    fn cuts_are_made_at_idr_pictures_and_last_long_enough() {
        let lengths =
            |pattern, min| cut(&samples(pattern, 10), min).iter().map(|c| c.samples.len()).collect::<Vec<_>>();
        assert_eq!(lengths("IppIppIpp", 30), [3, 3, 3]);
        assert_eq!(lengths("IppIppIpp", 31), [9], "the rest of three is too short to stand alone");
        assert_eq!(lengths("IpIpIpIp", 40), [4, 4]);
        assert_eq!(lengths("IppIpp", 0), [3, 3]);
        assert_eq!(lengths("Ip", 1000), [2]);
        let cuts = cut(&samples("IppIpppI", 10), 1);
        assert_eq!(cuts[1], Cut { samples: 3..7, start: 30, duration: 40 });
    }

    #[test]
    fn demo_is_what_its_documentation_says() {
        let demo = Recording::demo();
        assert_eq!((demo.width(), demo.height(), demo.samples()), (640, 360, 75));
        assert_eq!(demo.duration(), Duration::from_secs(5));
        assert_eq!(demo.fragment_samples().collect::<Vec<_>>(), [15; 5]);
        assert_eq!(demo.fragment_times().last(), Some(Duration::from_secs(4)));
        assert_eq!(demo.frames_per_kilosecond(), 15_000);
        assert!(demo.codec().starts_with("avc1.4d40"), "{}", demo.codec());
        let small = Recording::demo_small();
        assert_eq!((small.width(), small.height()), (320, 180));
        assert!(small.is_cut_like(&demo));
        assert_eq!(
            demo.with_min_fragment(Duration::from_millis(1001)).fragment_samples().collect::<Vec<_>>(),
            [30, 45]
        );
    }

    #[test]
    fn damaged_recordings_are_errors() {
        let demo = include_bytes!("../../fixtures/camera.mp4");
        assert_eq!(Recording::from_mp4(demo[..demo.len() / 2].to_vec()).unwrap_err().kind(), ErrorKind::Container);
        assert_eq!(Recording::open("/nowhere/camera.mp4").unwrap_err().kind(), ErrorKind::Config);
        let renamed = |from: &[u8], to: &[u8]| {
            let mut file = demo.to_vec();
            let at = file.windows(from.len()).position(|window| window == from).unwrap();
            file[at..at + to.len()].copy_from_slice(to);
            Recording::from_mp4(file).unwrap_err()
        };
        assert!(renamed(b"vide", b"soun").to_string().contains("without a video track"));
        let other_codec = renamed(b"avc1\0\0\0\0", b"avcX");
        assert!(other_codec.to_string().contains("without an H.264") && other_codec.is_unsupported(), "{other_codec}");
    }
}
