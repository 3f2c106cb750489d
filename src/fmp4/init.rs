//! Initialization segments: `ftyp` and `moov`, of which the tracks are wanted.

use super::boxes::{Boxes, Cursor, FourCc, Mp4Box};
use super::look::Look;
use super::sample_entry::{self, SampleEntry};
use super::{Defect, ParseError};
use crate::limits::Limits;
use crate::time::Timescale;

/// Sample entries that are kept of a track, which has one or two. An entry of 8 bytes may cost twenty times as much.
const MAX_SAMPLE_ENTRIES: usize = 256;

/// A parsed initialization segment (EXT-X-MAP): what is needed to read media segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitSegment {
    track: Track,
    tracks: Vec<TrackSummary>,
    defaults: Vec<TrackDefaults>,
}

/// The H.264 track that is demuxed: the first video track with a sample entry that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    id: u32,
    timescale: Timescale,
    handler: FourCc,
    entries: Vec<Result<SampleEntry, ParseError>>,
    first: SampleEntry,
    edit_shift_ticks: i64,
}

/// What a track is, of whatever kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrackSummary {
    /// `track_ID` of the `tkhd` box.
    pub id: u32,
    /// `vide`, `soun` and so on, ISO 14496-12 §8.4.3.
    pub handler: FourCc,
    /// The first sample entry: `avc1`, `mp4a` and so on; `None` when there is none.
    pub codec: Option<FourCc>,
}

/// Values for what a fragment leaves out (`trex`, §8.8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TrackDefaults {
    pub(super) track_id: u32,
    pub(super) sample_description_index: u32,
    pub(super) sample_duration: u32,
    pub(super) sample_size: u32,
}

impl InitSegment {
    /// Parses a segment up to the end of its `moov` box; what follows, as in a self-initializing segment, is not read.
    ///
    /// Boxes `ftyp` and `mvex` may be missing. Tracks other than the first video track that can be read are only listed.
    ///
    /// # Errors
    /// When the bytes are not MP4, when a box that is needed is damaged or missing, when there is no video, and when it
    /// is encrypted or not H.264 (then [`ParseError::is_unsupported`]).
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, ParseError> {
        Look::check(bytes)?;
        let mut first_moof = None;
        for found in Boxes(Cursor::new(bytes)) {
            let found = found?;
            match &found.kind.0 {
                b"moov" => return Self::from_moov(&found, limits),
                b"moof" => first_moof = first_moof.or(Some(found)),
                _ => {}
            }
            if let Some(truncation) = found.truncation() {
                return Err(truncation);
            }
        }
        Err(match first_moof {
            Some(moof) => moof.defect(Defect::MediaWithoutMoov),
            None => Cursor::new(bytes).defect(Defect::MissingBox(FourCc(*b"moov"))),
        })
    }

    /// Reads a movie box, §8.2.1.
    pub(super) fn from_moov(moov: &Mp4Box<'_>, limits: &Limits) -> Result<Self, ParseError> {
        if let Some(truncation) = moov.truncation() {
            return Err(truncation);
        }
        if moov.body.rest().len() > limits.max_init_bytes {
            let limit = Defect::TooMany { limit: "max_init_bytes", allowed: limits.max_init_bytes };
            return Err(moov.defect(limit));
        }
        let mut tracks = Vec::new();
        let (mut track, mut video_problem, mut other_problem) = (None, None, None);
        for found in moov.children() {
            let trak = found?;
            if trak.kind.0 != *b"trak" {
                continue;
            }
            if tracks.len() >= limits.max_tracks {
                return Err(trak.defect(Defect::TooMany { limit: "max_tracks", allowed: limits.max_tracks }));
            }
            let summary = match TrackSummary::parse(&trak) {
                Ok(summary) => summary,
                Err(error) => {
                    other_problem.get_or_insert(error);
                    continue;
                }
            };
            tracks.push(summary);
            if track.is_none() && summary.handler.0 == *b"vide" {
                match Track::parse(summary, &trak, moov) {
                    Ok(video) => track = Some(video),
                    Err(error) => _ = video_problem.get_or_insert(error),
                }
            }
        }
        let Some(track) = track else {
            return Err(video_problem.or(other_problem).unwrap_or_else(|| match tracks.first() {
                Some(&TrackSummary { handler, codec, .. }) => moov.defect(Defect::OnlyTracks { handler, codec }),
                None => moov.defect(Defect::NoTracks),
            }));
        };
        Ok(Self { track, tracks, defaults: TrackDefaults::parse_all(moov, limits)? })
    }

    /// The video track.
    #[must_use]
    pub const fn track(&self) -> &Track {
        &self.track
    }

    /// All tracks, those included that are not demuxed.
    #[must_use]
    pub fn tracks(&self) -> &[TrackSummary] {
        &self.tracks
    }

    pub(super) fn defaults(&self, track_id: u32) -> TrackDefaults {
        let found = self.defaults.iter().find(|defaults| defaults.track_id == track_id);
        found.copied().unwrap_or(TrackDefaults {
            track_id,
            sample_description_index: 1,
            sample_duration: 0,
            sample_size: 0,
        })
    }
}

impl TrackSummary {
    fn parse(trak: &Mp4Box<'_>) -> Result<Self, ParseError> {
        // Version 1 has 64-bit creation and modification times in front, §8.3.2.
        let mut tkhd = trak.required(*b"tkhd")?.body;
        skip_times(&mut tkhd)?;
        let id = tkhd.u32()?;
        let mdia = trak.required(*b"mdia")?;
        let mut hdlr = mdia.required(*b"hdlr")?.body;
        hdlr.take(4 + 4)?; // version and flags, pre_defined
        let handler = hdlr.four_cc()?;
        // For the listing only: damage here is named when the track is wanted.
        let codec = sample_descriptions(&mdia).ok().and_then(|stsd| {
            let first = sample_entry::entries(&stsd).ok()?.next()?;
            first.ok().map(|entry| entry.kind)
        });
        Ok(Self { id, handler, codec })
    }
}

impl Track {
    fn parse(summary: TrackSummary, trak: &Mp4Box<'_>, moov: &Mp4Box<'_>) -> Result<Self, ParseError> {
        let mdia = trak.required(*b"mdia")?;
        let mut mdhd = mdia.required(*b"mdhd")?.body;
        skip_times(&mut mdhd)?;
        let zero = mdhd.defect(Defect::ZeroTimescale);
        let timescale = Timescale::new(mdhd.u32()?).ok_or(zero)?;
        let stsd = sample_descriptions(&mdia)?;
        let entries = sample_entry::entries(&stsd)?
            .take(MAX_SAMPLE_ENTRIES)
            .map(|entry| entry.map(|entry| SampleEntry::parse(&entry)))
            .collect::<Result<Vec<_>, _>>()?;
        let first = match (entries.iter().find_map(|entry| entry.as_ref().ok()), entries.first()) {
            (Some(first), _) => first.clone(),
            (None, Some(Err(error))) => return Err(error.clone()),
            (None, _) => return Err(stsd.defect(Defect::NoSampleEntry)),
        };
        let edit_shift_ticks = edit_shift(trak, moov, timescale)?;
        Ok(Self { id: summary.id, timescale, handler: summary.handler, entries, first, edit_shift_ticks })
    }

    /// `track_ID`.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// The clock of all times in the track.
    #[must_use]
    pub const fn timescale(&self) -> Timescale {
        self.timescale
    }

    /// Always `vide`.
    #[must_use]
    pub const fn handler(&self) -> FourCc {
        self.handler
    }

    /// The sample entries that can be read, at least one. Samples name theirs; see
    /// [`AccessUnit::config`](crate::h264::AccessUnit::config).
    pub fn sample_entries(&self) -> impl Iterator<Item = &SampleEntry> {
        self.entries.iter().filter_map(|entry| entry.as_ref().ok())
    }

    /// The first of [`sample_entries`](Self::sample_entries), for most tracks the only one.
    #[must_use]
    pub const fn sample_entry(&self) -> &SampleEntry {
        &self.first
    }

    /// What the edit list adds to all presentation times, in ticks: the empty edits at its start less the media time of
    /// the first edit. 0 without an edit list.
    #[must_use]
    pub const fn edit_shift_ticks(&self) -> i64 {
        self.edit_shift_ticks
    }

    /// The entry that a fragment refers to, counted from 1.
    pub(super) fn entry(&self, index: u32) -> Result<&SampleEntry, Defect> {
        let entry = index.checked_sub(1).and_then(|index| self.entries.get(usize::try_from(index).ok()?));
        match entry {
            Some(Ok(entry)) => Ok(entry),
            Some(Err(error)) => Err(error.defect.clone()),
            None => Err(Defect::SampleEntryIndex { index, count: self.entries.len() }),
        }
    }
}

impl TrackDefaults {
    fn parse_all(moov: &Mp4Box<'_>, limits: &Limits) -> Result<Vec<Self>, ParseError> {
        let mut all = Vec::new();
        let Some(mvex) = moov.child(*b"mvex")? else { return Ok(all) };
        for found in mvex.children() {
            let trex = found?;
            if trex.kind.0 != *b"trex" {
                continue;
            }
            if all.len() >= limits.max_tracks {
                return Err(trex.defect(Defect::TooMany { limit: "max_tracks", allowed: limits.max_tracks }));
            }
            let mut body = trex.body;
            body.version_and_flags()?;
            all.push(Self {
                track_id: body.u32()?,
                sample_description_index: body.u32()?,
                sample_duration: body.u32()?,
                sample_size: body.u32()?,
            });
        }
        Ok(all)
    }
}

fn sample_descriptions<'a>(mdia: &Mp4Box<'a>) -> Result<Mp4Box<'a>, ParseError> {
    mdia.required(*b"minf")?.required(*b"stbl")?.required(*b"stsd")
}

/// Version, flags, creation and modification time, with which `mvhd`, `tkhd` and `mdhd` start.
fn skip_times(body: &mut Cursor<'_>) -> Result<(), ParseError> {
    let start = *body;
    match body.version_and_flags()?.0 {
        0 => body.take(8)?,
        1 => body.take(16)?,
        version => return Err(start.defect(Defect::Version(version))),
    };
    Ok(())
}

/// What the edit list (§8.6.6) adds to presentation times, in ticks of the track.
///
/// Only its start counts: edits after the first one cut a recording into pieces, which a live stream does not do.
fn edit_shift(trak: &Mp4Box<'_>, moov: &Mp4Box<'_>, timescale: Timescale) -> Result<i64, ParseError> {
    let Some(edts) = trak.child(*b"edts")? else { return Ok(0) };
    let Some(elst) = edts.child(*b"elst")? else { return Ok(0) };
    let mut body = elst.body;
    let (version, _) = body.version_and_flags()?;
    let row_size: u64 = match version {
        0 => 12,
        1 => 20,
        _ => return Err(elst.body.defect(Defect::Version(version))),
    };
    let counted = body;
    let count = body.u32()?;
    if row_size.checked_mul(count.into()).is_none_or(|size| size > body.left()) {
        return Err(counted.defect(Defect::EntryCount(count)));
    }
    let mut empty: u64 = 0; // in ticks of the movie
    let mut media_time = 0;
    for _ in 0..count {
        let row = body;
        let (duration, time) = match version {
            0 => (body.u32()?.into(), body.i32()?.into()),
            _ => (body.u64()?, body.i64()?),
        };
        body.take(4)?; // media rate
        match time {
            -1 => empty = empty.checked_add(duration).ok_or_else(|| row.defect(Defect::TimeOverflow))?,
            0.. => {
                media_time = time;
                break;
            }
            _ => return Err(row.defect(Defect::EditTime(time))),
        }
    }
    let delay = if empty == 0 { 0 } else { movie_to_track_ticks(empty, moov, timescale)? };
    delay.checked_sub(media_time).ok_or_else(|| elst.defect(Defect::TimeOverflow))
}

/// Ticks of the movie's clock in ticks of the track's, rounded to the nearest.
fn movie_to_track_ticks(ticks: u64, moov: &Mp4Box<'_>, timescale: Timescale) -> Result<i64, ParseError> {
    let mut mvhd = moov.required(*b"mvhd")?.body;
    skip_times(&mut mvhd)?;
    let place = mvhd;
    let movie = Timescale::new(mvhd.u32()?).ok_or_else(|| place.defect(Defect::ZeroTimescale))?;
    let (movie, track) = (u128::from(movie.get()), u128::from(timescale.get()));
    // 64 + 32 bits fit 128, and so does half a tick more.
    let nearest = u128::from(ticks).saturating_mul(track).saturating_add(movie >> 1).checked_div(movie);
    nearest.and_then(|ticks| i64::try_from(ticks).ok()).ok_or_else(|| place.defect(Defect::TimeOverflow))
}
