//! The tags of a media playlist (RFC 8216 §4.3.2, §4.3.3) to segments.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::context::Context;
use super::decimal;
use super::playlist::{ByteRange, FragmentNumber, InitRef, MediaPlaylist, PlaylistType, Segment};
use super::{Defect, ParseError, Word};

#[derive(Default)]
pub(super) struct MediaBuilder {
    target_duration: Option<Duration>,
    media_sequence: Option<u64>,
    discontinuity_sequence: Option<u64>,
    playlist_type: Option<PlaylistType>,
    has_ended: bool,
    has_independent_segments: bool,
    /// Sequence numbers count from zero until the end, where `media_sequence` is added.
    segments: Vec<Segment>,
    next_index: u64,
    discontinuities: u64,
    init: Option<Arc<InitRef>>,
    pending: Pending,
}

/// What the tags since the last URI line say about the next one.
#[derive(Default)]
struct Pending {
    duration: Option<Duration>,
    byte_range: Option<(u64, Option<u64>)>,
    program_date_time: Option<SystemTime>,
    is_discontinuity: bool,
    is_gap: bool,
}

impl MediaBuilder {
    pub(super) fn tag(&mut self, name: &str, value: &str, context: &mut Context<'_>) -> Result<(), ParseError> {
        match name {
            "EXTINF" => {
                // The title behind the comma may hold anything, commas too.
                let duration = value.split_once(',').map_or(value, |(duration, _title)| duration).trim();
                let duration = decimal::seconds(duration)
                    .ok_or_else(|| context.fail(Defect::Value { tag: "EXTINF", expected: "a duration in seconds" }))?;
                if self.pending.duration.replace(duration).is_some() {
                    context.warn("EXTINF before it without a URI");
                }
            }
            "EXT-X-BYTERANGE" => {
                let range = byte_range(value).ok_or_else(|| context.fail(bad_range("EXT-X-BYTERANGE")))?;
                self.pending.byte_range = Some(range);
            }
            "EXT-X-DISCONTINUITY" => {
                // Each tag counts, even two before one segment (RFC 8216 §6.2.2).
                self.discontinuities = self.discontinuities.saturating_add(1);
                self.pending.is_discontinuity = true;
            }
            "EXT-X-PROGRAM-DATE-TIME" => self.program_date_time(value, context),
            "EXT-X-MAP" => self.map(value, context)?,
            "EXT-X-KEY" => key(value, context)?,
            "EXT-X-GAP" => self.pending.is_gap = true,
            "EXT-X-TARGETDURATION" => {
                let duration = decimal::seconds(value).ok_or_else(|| {
                    context.fail(Defect::Value { tag: "EXT-X-TARGETDURATION", expected: "a duration in seconds" })
                })?;
                if value.contains('.') {
                    context.warn("EXT-X-TARGETDURATION that is not an integer");
                }
                // Reloads are timed by it: zero, as ffmpeg writes it for segments of less than half a second, would mean
                // to ask without a pause.
                self.target_duration = Some(duration).filter(|duration| !duration.is_zero());
            }
            "EXT-X-MEDIA-SEQUENCE" => {
                let number = sequence("EXT-X-MEDIA-SEQUENCE", value, context)?;
                if self.media_sequence.replace(number).is_some() || !self.segments.is_empty() {
                    context.warn("EXT-X-MEDIA-SEQUENCE twice, or after a segment");
                }
            }
            "EXT-X-DISCONTINUITY-SEQUENCE" => {
                let number = sequence("EXT-X-DISCONTINUITY-SEQUENCE", value, context)?;
                if self.discontinuity_sequence.replace(number).is_some() || !self.segments.is_empty() {
                    context.warn("EXT-X-DISCONTINUITY-SEQUENCE twice, or after a segment");
                }
            }
            "EXT-X-PLAYLIST-TYPE" => match value {
                "VOD" => self.playlist_type = Some(PlaylistType::Vod),
                "EVENT" => self.playlist_type = Some(PlaylistType::Event),
                _ => context.warn("EXT-X-PLAYLIST-TYPE of unknown value"),
            },
            "EXT-X-ENDLIST" => self.has_ended = true,
            "EXT-X-INDEPENDENT-SEGMENTS" => self.has_independent_segments = true,
            "EXT-X-SKIP" => self.skip(value, context)?,
            "EXT-X-STREAM-INF" => return Err(context.fail(Defect::BothKinds("EXT-X-STREAM-INF"))),
            // Unknown tags are ignored (RFC 8216 §6.3.1): parts and hints of low-latency HLS, EXT-X-DATERANGE, …
            _ => {}
        }
        Ok(())
    }

    fn program_date_time(&mut self, value: &str, context: &mut Context<'_>) {
        match decimal::date_time(value) {
            Some((time, has_zone)) => {
                if !has_zone {
                    context.warn("EXT-X-PROGRAM-DATE-TIME without a zone, taken as UTC");
                }
                self.pending.program_date_time = Some(time);
            }
            None => context.warn("EXT-X-PROGRAM-DATE-TIME that is not a date"),
        }
    }

    fn map(&mut self, value: &str, context: &mut Context<'_>) -> Result<(), ParseError> {
        const TAG: &str = "EXT-X-MAP";
        let (mut uri, mut range) = (None, None);
        context.attributes(TAG, value, |name, value| match name {
            "URI" => uri = Some(value),
            "BYTERANGE" => range = Some(value),
            _ => {}
        })?;
        let uri = uri.ok_or_else(|| context.fail(Defect::MissingAttribute { tag: TAG, name: "URI" }))?;
        let url = context.resolve(uri)?;
        let byte_range = match range {
            None => None,
            Some(text) => {
                let (length, offset) = byte_range(text).ok_or_else(|| context.fail(bad_range(TAG)))?;
                if offset.is_none() {
                    context.warn("EXT-X-MAP with a BYTERANGE without an offset, taken from the first byte");
                }
                Some(range_at(offset.unwrap_or(0), length).ok_or_else(|| context.fail(bad_range(TAG)))?)
            }
        };
        // A server may repeat the tag before every segment: one value serves them all.
        let is_same = self.init.as_ref().is_some_and(|init| init.url == url && init.byte_range == byte_range);
        if !is_same {
            self.init = Some(Arc::new(InitRef { url, byte_range }));
        }
        Ok(())
    }

    /// A delta update leaves out segments that the client has: they count all the same (RFC 8216bis §4.4.5.2).
    fn skip(&mut self, value: &str, context: &mut Context<'_>) -> Result<(), ParseError> {
        const TAG: &str = "EXT-X-SKIP";
        let mut skipped = None;
        context.attributes(TAG, value, |name, value| {
            if name == "SKIPPED-SEGMENTS" {
                skipped = decimal::integer(value);
            }
        })?;
        let skipped =
            skipped.ok_or_else(|| context.fail(Defect::MissingAttribute { tag: TAG, name: "SKIPPED-SEGMENTS" }))?;
        self.next_index = self.next_index.checked_add(skipped).ok_or_else(|| context.fail(Defect::SequenceOverflow))?;
        Ok(())
    }

    pub(super) fn uri(&mut self, uri: &str, context: &mut Context<'_>) -> Result<(), ParseError> {
        // EXTINF is required (RFC 8216 §4.3.2.1). A line without one is taken for no segment, as hls.js and FFmpeg do;
        // tags before it stay with the next segment.
        let Some(duration) = self.pending.duration.take() else {
            context.warn("URI without EXTINF, not taken for a segment");
            return Ok(());
        };
        let limit = context.limits.max_playlist_segments;
        if self.segments.len() >= limit {
            return Err(context.fail(Defect::Limit { name: "max_playlist_segments", limit }));
        }
        let url = context.resolve(uri)?;
        let pending = std::mem::take(&mut self.pending);
        let byte_range = match pending.byte_range {
            None => None,
            Some((length, offset)) => {
                let offset = match offset {
                    Some(offset) => offset,
                    // The byte after the range of the segment before (RFC 8216 §4.3.2.2).
                    None => self
                        .segments
                        .last()
                        .filter(|previous| previous.url == url)
                        .and_then(|previous| previous.byte_range)
                        .and_then(|range| range.offset.checked_add(range.length))
                        .ok_or_else(|| context.fail(Defect::ByteRangeWithoutStart))?,
                };
                Some(range_at(offset, length).ok_or_else(|| context.fail(bad_range("EXT-X-BYTERANGE")))?)
            }
        };
        let sequence = self.next_index;
        self.next_index = self.next_index.checked_add(1).ok_or_else(|| context.fail(Defect::SequenceOverflow))?;
        self.segments.push(Segment {
            fragment_number: url.query_value("FragmentNumber").as_deref().and_then(FragmentNumber::parse),
            url,
            byte_range,
            sequence,
            discontinuity_sequence: self.discontinuities,
            is_discontinuity: pending.is_discontinuity,
            duration,
            program_date_time: pending.program_date_time,
            estimated_start: None,
            init: self.init.clone(),
            is_gap: pending.is_gap,
        });
        Ok(())
    }

    pub(super) fn finish(mut self, mut context: Context<'_>) -> Result<MediaPlaylist, ParseError> {
        if self.pending.duration.is_some() {
            context.warn("EXTINF without a URI, at the end");
        }
        let media_sequence = self.media_sequence.unwrap_or(0);
        let discontinuity_sequence = self.discontinuity_sequence.unwrap_or(0);
        for segment in &mut self.segments {
            // Only here is it certain which number holds: the tags may stand after segments.
            segment.sequence = segment.sequence.checked_add(media_sequence).ok_or(Defect::SequenceOverflow)?;
            segment.discontinuity_sequence = segment.discontinuity_sequence.saturating_add(discontinuity_sequence);
        }
        estimate_starts(&mut self.segments);
        let target_duration = match self.target_duration {
            Some(duration) => duration,
            None => {
                let longest = self.segments.iter().map(|segment| segment.duration).max();
                let longest = longest.ok_or(Defect::MissingTargetDuration)?;
                if longest.is_zero() {
                    return Err(Defect::ZeroTargetDuration.into());
                }
                context.warn_at(1, "EXT-X-TARGETDURATION that is missing or zero: the longest segment is taken");
                Duration::from_secs(longest.as_secs() + u64::from(longest.subsec_nanos() > 0))
            }
        };
        Ok(MediaPlaylist {
            target_duration,
            media_sequence,
            discontinuity_sequence,
            playlist_type: self.playlist_type,
            has_ended: self.has_ended,
            has_independent_segments: self.has_independent_segments,
            segments: self.segments,
            warnings: context.into_warnings(),
        })
    }
}

/// Carries tagged times forward, and the first one backward, by durations (RFC 8216 §4.3.2.6).
fn estimate_starts(segments: &mut [Segment]) {
    let mut next = None;
    for segment in segments.iter_mut() {
        segment.estimated_start = segment.program_date_time.or(next);
        next = segment.estimated_start.and_then(|start| start.checked_add(segment.duration));
    }
    let untagged = segments.iter().position(|segment| segment.estimated_start.is_some()).unwrap_or(0);
    let mut following = segments.get(untagged).and_then(|segment| segment.estimated_start);
    for segment in segments.iter_mut().take(untagged).rev() {
        following = following.and_then(|start| start.checked_sub(segment.duration));
        segment.estimated_start = following;
    }
}

fn sequence(tag: &'static str, value: &str, context: &Context<'_>) -> Result<u64, ParseError> {
    decimal::integer(value).ok_or_else(|| context.fail(Defect::Value { tag, expected: "an integer below 2^64" }))
}

fn bad_range(tag: &'static str) -> Defect {
    Defect::Value { tag, expected: "a byte range length[@offset]" }
}

/// `length[@offset]`.
fn byte_range(text: &str) -> Option<(u64, Option<u64>)> {
    match text.split_once('@') {
        None => Some((decimal::integer(text.trim())?, None)),
        Some((length, offset)) => Some((decimal::integer(length.trim())?, Some(decimal::integer(offset.trim())?))),
    }
}

fn range_at(offset: u64, length: u64) -> Option<ByteRange> {
    offset.checked_add(length)?;
    (length > 0).then_some(ByteRange { offset, length })
}

/// `EXT-X-KEY` (RFC 8216 §4.3.2.4): only its absence of encryption is supported.
fn key(value: &str, context: &mut Context<'_>) -> Result<(), ParseError> {
    const TAG: &str = "EXT-X-KEY";
    let mut method = None;
    context.attributes(TAG, value, |name, value| {
        if name == "METHOD" {
            method = Some(value);
        }
    })?;
    match method {
        Some("NONE") => Ok(()),
        Some(method) => Err(context.fail(Defect::Encryption(Word::new(method)))),
        None => Err(context.fail(Defect::MissingAttribute { tag: TAG, name: "METHOD" })),
    }
}
