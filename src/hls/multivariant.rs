//! The tags of a multivariant playlist (RFC 8216 §4.3.4) to variants.

use super::context::Context;
use super::decimal;
use super::playlist::{MultivariantPlaylist, Rendition, RenditionType, Resolution, Variant};
use super::{Defect, ParseError};

#[derive(Default)]
pub(super) struct MultivariantBuilder {
    variants: Vec<Variant>,
    renditions: Vec<Rendition>,
    has_independent_segments: bool,
    pending: Option<Pending>,
}

/// An `EXT-X-STREAM-INF` whose URI line has not come yet.
#[derive(Default)]
struct Pending {
    bandwidth: Option<u64>,
    average_bandwidth: Option<u64>,
    resolution: Option<Resolution>,
    frame_rate_millihertz: Option<u64>,
    codecs: Option<String>,
    audio_group: Option<String>,
    line: usize,
}

impl MultivariantBuilder {
    pub(super) fn tag(&mut self, name: &str, value: &str, context: &mut Context<'_>) -> Result<(), ParseError> {
        match name {
            "EXT-X-STREAM-INF" => {
                let pending = stream_inf(value, context)?;
                if self.pending.replace(pending).is_some() {
                    context.warn("EXT-X-STREAM-INF before it without a URI");
                }
            }
            "EXT-X-MEDIA" => {
                let limit = context.limits.max_variants;
                if self.renditions.len() >= limit {
                    return Err(context.fail(Defect::Limit { name: "max_variants", limit }));
                }
                self.renditions.push(media(value, context)?);
            }
            "EXT-X-INDEPENDENT-SEGMENTS" => self.has_independent_segments = true,
            "EXTINF" => return Err(context.fail(Defect::BothKinds("EXTINF"))),
            // I-frame variants are for seeking, and EXT-X-SESSION-KEY only announces what EXT-X-KEY will decide.
            _ => {}
        }
        Ok(())
    }

    pub(super) fn uri(&mut self, uri: &str, context: &mut Context<'_>) -> Result<(), ParseError> {
        let Some(pending) = self.pending.take() else {
            context.warn("URI without EXT-X-STREAM-INF, not taken for a variant");
            return Ok(());
        };
        let limit = context.limits.max_variants;
        if self.variants.len() >= limit {
            return Err(context.fail(Defect::Limit { name: "max_variants", limit }));
        }
        let Pending { bandwidth, average_bandwidth, resolution, frame_rate_millihertz, codecs, audio_group, line } =
            pending;
        self.variants.push(Variant {
            url: context.resolve(uri)?,
            bandwidth,
            average_bandwidth,
            resolution,
            frame_rate_millihertz,
            codecs,
            audio_group,
            line,
        });
        Ok(())
    }

    pub(super) fn finish(self, mut context: Context<'_>) -> Result<MultivariantPlaylist, ParseError> {
        if let Some(pending) = &self.pending {
            context.warn_at(pending.line, "EXT-X-STREAM-INF without a URI");
        }
        if self.variants.is_empty() {
            return Err(Defect::NoVariants.into());
        }
        Ok(MultivariantPlaylist {
            variants: self.variants,
            renditions: self.renditions,
            has_independent_segments: self.has_independent_segments,
            warnings: context.into_warnings(),
        })
    }
}

fn stream_inf(list: &str, context: &mut Context<'_>) -> Result<Pending, ParseError> {
    let mut pending = Pending { line: context.line, ..Pending::default() };
    let (mut codecs, mut audio, mut is_number_bad) = (None, None, false);
    context.attributes("EXT-X-STREAM-INF", list, |name, value| {
        // What cannot be read is not stated: the variant may still play.
        let mut checked = |number: Option<u64>| {
            is_number_bad |= number.is_none();
            number
        };
        match name {
            "BANDWIDTH" => pending.bandwidth = checked(decimal::integer(value)),
            "AVERAGE-BANDWIDTH" => pending.average_bandwidth = checked(decimal::integer(value)),
            "FRAME-RATE" => {
                pending.frame_rate_millihertz = checked(decimal::billionths(value).map(|rate| rate / 1_000_000));
            }
            "RESOLUTION" => {
                pending.resolution = resolution(value);
                is_number_bad |= pending.resolution.is_none();
            }
            "CODECS" => codecs = Some(value),
            "AUDIO" => audio = Some(value),
            _ => {}
        }
    })?;
    if is_number_bad {
        context.warn("EXT-X-STREAM-INF with a number that cannot be read");
    } else if pending.bandwidth.is_none() {
        context.warn("EXT-X-STREAM-INF without BANDWIDTH");
    }
    pending.codecs = codecs.map(|text| context.substitute(text)).transpose()?.map(|text| text.into_owned());
    pending.audio_group = audio.map(|text| context.substitute(text)).transpose()?.map(|text| text.into_owned());
    Ok(pending)
}

/// `WIDTHxHEIGHT`, neither zero.
fn resolution(text: &str) -> Option<Resolution> {
    let (width, height) = text.split_once(['x', 'X'])?;
    let side = |text| decimal::integer(text).and_then(|pixels| u32::try_from(pixels).ok()).filter(|pixels| *pixels > 0);
    Some(Resolution { width: side(width)?, height: side(height)? })
}

fn media(list: &str, context: &mut Context<'_>) -> Result<Rendition, ParseError> {
    let (mut rendition_type, mut group_id, mut name, mut has_uri) = (RenditionType::Other, "", "", false);
    context.attributes("EXT-X-MEDIA", list, |key, value| match key {
        "TYPE" => {
            rendition_type = match value {
                "AUDIO" => RenditionType::Audio,
                "VIDEO" => RenditionType::Video,
                "SUBTITLES" => RenditionType::Subtitles,
                "CLOSED-CAPTIONS" => RenditionType::ClosedCaptions,
                _ => RenditionType::Other,
            }
        }
        "GROUP-ID" => group_id = value,
        "NAME" => name = value,
        "URI" => has_uri = true,
        _ => {}
    })?;
    let group_id = context.substitute(group_id)?.into_owned();
    let name = context.substitute(name)?.into_owned();
    Ok(Rendition { rendition_type, group_id, name, has_uri })
}
