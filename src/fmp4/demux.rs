//! Media segments: from `moof` and `mdat` to access units.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::boxes::{Boxes, Cursor, FourCc, Mp4Box, Path};
use super::look::Look;
use super::traf::{Base, FragmentHeader, Run, decode_time};
use super::{Defect, InitSegment, ParseError, Prefix, Track};
use crate::h264::AccessUnit;
use crate::limits::Limits;
use crate::time::{Dts, Pts};

/// Takes the samples of the video track out of media segments.
#[derive(Clone, Debug)]
pub struct Demuxer {
    init: Arc<InitSegment>,
    limits: Limits,
    /// Where the next fragment starts if it does not say so itself.
    next_dts: Option<i64>,
    /// The least time in ticks from the decoding of a sample to its display.
    soonest: Option<i64>,
}

/// The segment at hand.
struct Segment<'a> {
    bytes: &'a Bytes,
    data: MediaData,
    /// Samples that may still come, of all tracks.
    samples_left: usize,
    /// Bytes that samples may still have: without overlaps they are fewer than the segment has.
    bytes_left: u64,
    /// Whether a fragment of a track was seen that the initialization segment knows; else the first fragment's defect.
    known_track: Result<(), Option<ParseError>>,
    has_moov: bool,
    has_moof: bool,
    /// Of a segment that is still on its way, the times of samples whose data is yet to come; else `None`.
    announced: Option<Vec<Pts>>,
}

impl Demuxer {
    /// A demuxer for the media segments that belong to an initialization segment.
    #[must_use]
    pub fn new(init: impl Into<Arc<InitSegment>>, limits: Limits) -> Self {
        Self { init: init.into(), limits, next_dts: None, soonest: None }
    }

    /// The track that is demuxed.
    #[must_use]
    pub fn track(&self) -> &Track {
        self.init.track()
    }

    /// The initialization segment in force: the one given, or the last one that stood in front of media data.
    #[must_use]
    pub const fn init(&self) -> &Arc<InitSegment> {
        &self.init
    }

    /// Appends the access units of the video track to `units`, in decoding order.
    ///
    /// Fragments without decode time (`tfdt`) go on where the fragment before ended. A segment that brings its own `moov`
    /// changes the track from there on. A segment that holds other tracks only gives no units.
    ///
    /// # Errors
    /// When the segment is damaged, cut short, no fragmented MP4 or beyond the [`Limits`]. Access units in front of the
    /// defect are in `units` all the same, and are intact: of a segment that was cut short, all that arrived as a whole.
    pub fn push(&mut self, segment: Bytes, units: &mut Vec<AccessUnit>) -> Result<(), ParseError> {
        let state = self.walk(&segment, None, units)?;
        let top = Cursor::new(&segment);
        match (state.data.defect, state.known_track) {
            (Some(defect), _) => Err(defect),
            (None, _) if !state.has_moof && state.has_moov => Err(top.defect(Defect::MoovWithoutMoof)),
            (None, _) if !state.has_moof => Err(top.defect(Defect::MissingBox(FourCc(*b"moof")))),
            (None, Err(Some(unknown_track))) => Err(unknown_track),
            (None, _) => Ok(()),
        }
    }

    /// Looks at the beginning of a segment that is still on its way. The whole of it is to be [pushed](Self::push)
    /// afterwards all the same.
    ///
    /// # Errors
    /// When what is there is damaged, or too short to be understood: more of it may help.
    pub fn peek(&self, beginning: Bytes) -> Result<Prefix, ParseError> {
        let (mut ahead, mut units) = (self.clone(), Vec::new());
        let state = ahead.walk(&beginning, Some(Vec::new()), &mut units)?;
        let bound = ahead.next_dts.zip(ahead.soonest).and_then(|(dts, soonest)| dts.checked_add(soonest));
        let bound = bound.map(|ticks| Pts::new(ticks, ahead.track().timescale()));
        Ok(Prefix { units, announced: state.announced.unwrap_or_default(), bound })
    }

    fn walk<'a>(
        &mut self,
        segment: &'a Bytes,
        announced: Option<Vec<Pts>>,
        units: &mut Vec<AccessUnit>,
    ) -> Result<Segment<'a>, ParseError> {
        Look::check(segment)?;
        let top = Cursor::new(segment);
        if segment.len() > self.limits.max_segment_bytes {
            let allowed = self.limits.max_segment_bytes;
            return Err(top.defect(Defect::TooMany { limit: "max_segment_bytes", allowed }));
        }
        let mut state = Segment {
            bytes: segment,
            data: MediaData::find(top),
            samples_left: self.limits.max_samples,
            bytes_left: top.left(),
            known_track: Err(None),
            has_moov: false,
            has_moof: false,
            announced,
        };
        for found in Boxes(top).map_while(Result::ok) {
            match &found.kind.0 {
                b"moov" => {
                    state.has_moov = true;
                    self.replace_init(InitSegment::from_moov(&found, &self.limits)?);
                }
                b"moof" => {
                    state.has_moof = true;
                    if found.truncation().is_none() {
                        self.push_fragment(&found, &mut state, units)?;
                    }
                }
                _ => {}
            }
        }
        Ok(state)
    }

    /// An equal one changes nothing, so that access units keep sharing their configuration.
    fn replace_init(&mut self, init: InitSegment) {
        if *self.init != init {
            self.init = Arc::new(init);
            (self.next_dts, self.soonest) = (None, None);
        }
    }

    /// Reads a movie fragment, §8.8.4.
    fn push_fragment(
        &mut self,
        moof: &Mp4Box<'_>,
        segment: &mut Segment<'_>,
        units: &mut Vec<AccessUnit>,
    ) -> Result<(), ParseError> {
        // The first track fragment counts from the moof, later ones from the end of the one before: §8.8.7.1. The end of
        // another track's data may be unknown, which matters only where it is needed.
        let mut data_end = Ok(moof.start);
        for found in moof.children() {
            let traf = found?;
            if traf.kind.0 != *b"traf" {
                continue;
            }
            let header = FragmentHeader::parse(&traf, &self.init)?;
            let base = match header.base {
                Base::Explicit(position) => Ok(position),
                Base::Moof => Ok(moof.start),
                Base::PreviousEnd => data_end,
            };
            data_end = if header.track_id == self.track().id() {
                segment.known_track = Ok(());
                Ok(self.push_track_fragment(&traf, &header, base?, segment, units)?)
            } else {
                self.note_other_track(&traf, &header, segment);
                let end = segment.skip_track_fragment(&traf, &header, base, &self.limits);
                if end.as_ref().is_err_and(ParseError::is_limit) {
                    return end.map(drop);
                }
                end
            };
        }
        Ok(())
    }

    fn note_other_track(&self, traf: &Mp4Box<'_>, header: &FragmentHeader, segment: &mut Segment<'_>) {
        let Err(first) = &mut segment.known_track else { return };
        if self.init.tracks().iter().any(|track| track.id == header.track_id) {
            segment.known_track = Ok(());
        } else if first.is_none() {
            let defect = Defect::UnknownTracks { id: header.track_id, wanted: self.track().id() };
            *first = Some(traf.defect(defect));
        }
    }

    /// Reads a track fragment of the video track and gives the position behind its data.
    fn push_track_fragment(
        &mut self,
        traf: &Mp4Box<'_>,
        header: &FragmentHeader,
        base: u64,
        segment: &mut Segment<'_>,
        units: &mut Vec<AccessUnit>,
    ) -> Result<u64, ParseError> {
        let init = Arc::clone(&self.init);
        let track = init.track();
        let entry = track.entry(header.sample_description_index).map_err(|defect| traf.defect(defect))?;
        let mut dts = decode_time(traf)?.or(self.next_dts).unwrap_or_default();
        self.next_dts = Some(dts);
        let (mut position, mut has_runs) = (base, false);
        for found in traf.children() {
            let trun = found?;
            if trun.kind.0 != *b"trun" {
                continue;
            }
            has_runs = true;
            let mut run = segment.open_run(&trun, base, &mut position, &self.limits)?;
            if run.count > 0 && !run.has_sizes() && header.sample_size == 0 {
                return Err(trun.defect(Defect::RunWithoutSizes(run.count)));
            }
            let overflow = || trun.defect(Defect::TimeOverflow);
            for _ in 0..run.count {
                let row = run.row()?;
                let duration = row.duration.unwrap_or(header.sample_duration);
                // A sample without data is no picture, but time passes.
                let size = row.size.unwrap_or(header.sample_size);
                if size > 0 {
                    let start = position;
                    let data = segment.sample(&mut position, size)?;
                    let delay = i64::from(row.composition_offset).checked_add(track.edit_shift_ticks());
                    let pts = delay.and_then(|delay| dts.checked_add(delay)).ok_or_else(overflow)?;
                    self.soonest = self.soonest.min(delay).or(delay);
                    let pts = Pts::new(pts, track.timescale());
                    match data {
                        Some(data) => {
                            let unit = AccessUnit::new(data, Arc::clone(entry.config()), pts, Dts(dts), duration);
                            units.push(unit.map_err(|error| in_data(start, Defect::H264(error)))?);
                        }
                        None => segment.announced.get_or_insert_default().push(pts),
                    }
                }
                dts = dts.checked_add(duration.into()).ok_or_else(overflow)?;
                self.next_dts = Some(dts);
            }
        }
        if header.is_duration_empty && !has_runs {
            let end = dts.checked_add(header.sample_duration.into());
            self.next_dts = Some(end.ok_or_else(|| traf.defect(Defect::TimeOverflow))?);
        }
        Ok(position)
    }
}

impl Segment<'_> {
    /// Reads the head of a run, counts its samples and moves `position` to the start of its data.
    fn open_run<'a>(
        &mut self,
        trun: &Mp4Box<'a>,
        base: u64,
        position: &mut u64,
        limits: &Limits,
    ) -> Result<Run<'a>, ParseError> {
        let run = Run::parse(trun)?;
        let left = usize::try_from(run.count).ok().and_then(|count| self.samples_left.checked_sub(count));
        let too_many = || trun.defect(Defect::TooMany { limit: "max_samples", allowed: limits.max_samples });
        self.samples_left = left.ok_or_else(too_many)?;
        if let Some(offset) = run.data_offset {
            let start = base.checked_add_signed(offset.into());
            *position = start.ok_or_else(|| trun.defect(Defect::DataOffset))?;
        }
        Ok(run)
    }

    /// Gives the position behind the data of a track that is not wanted.
    fn skip_track_fragment(
        &mut self,
        traf: &Mp4Box<'_>,
        header: &FragmentHeader,
        base: Result<u64, ParseError>,
        limits: &Limits,
    ) -> Result<u64, ParseError> {
        let base = base?;
        let mut position = base;
        for found in traf.children() {
            let trun = found?;
            if trun.kind.0 == *b"trun" {
                let run = self.open_run(&trun, base, &mut position, limits)?;
                let end = position.checked_add(run.data_size(header.sample_size)?);
                position = end.ok_or_else(|| trun.defect(Defect::DataOffset))?;
            }
        }
        Ok(position)
    }

    /// Takes the next sample and moves `position` behind it; `None` for one that is yet to come.
    fn sample(&mut self, position: &mut u64, size: u32) -> Result<Option<Bytes>, ParseError> {
        let (start, size) = (*position, u64::from(size));
        *position = start.saturating_add(size);
        let range = self.data.slice(start, size);
        if let Some(announced) = &self.announced
            && (range.is_none() || !announced.is_empty())
        {
            return Ok(None); // with all that follow it, since access units are given in decoding order
        }
        let range = range.ok_or_else(|| {
            // The missing rest of a segment explains a sample that is not there.
            self.data.defect.clone().unwrap_or_else(|| in_data(start, Defect::SampleOutsideData { size }))
        })?;
        self.bytes_left = self.bytes_left.checked_sub(size).ok_or_else(|| in_data(start, Defect::SamplesOverlap))?;
        Ok(Some(self.bytes.slice(range)))
    }
}

/// A defect of a sample.
fn in_data(offset: u64, defect: Defect) -> ParseError {
    ParseError { offset, path: Path::of(FourCc(*b"mdat")), defect }
}

/// Where media data is (§8.1.1), in one or more boxes before or behind the fragments that refer to it.
struct MediaData {
    /// Bodies that are not empty, in order: 16 bytes here for 9 or more in the segment.
    bodies: Vec<Range<u64>>,
    /// Why the walk ended before the segment did, or the segment before its last box.
    defect: Option<ParseError>,
}

impl MediaData {
    fn find(top: Cursor<'_>) -> Self {
        let mut data = Self { bodies: Vec::new(), defect: None };
        for found in Boxes(top) {
            match found {
                Ok(found) => {
                    data.defect = found.truncation();
                    let start = found.body.offset();
                    if found.kind.0 == *b"mdat" && found.body.left() > 0 {
                        data.bodies.push(start..start.saturating_add(found.body.left()));
                    }
                }
                Err(error) => data.defect = Some(error),
            }
        }
        data
    }

    /// The range of a sample, which must lie inside one body. Such a range is inside the segment.
    fn slice(&self, start: u64, size: u64) -> Option<Range<usize>> {
        let end = start.checked_add(size)?;
        let after = self.bodies.partition_point(|body| body.start <= start);
        let body = self.bodies.get(after.checked_sub(1)?)?;
        if end > body.end {
            return None;
        }
        Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
    }
}
