//! Sample descriptions, ISO 14496-12 §8.5.2 and ISO 14496-15 §5.4.2.

use std::sync::Arc;

use bytes::Bytes;

use super::boxes::{Boxes, FourCc, Mp4Box};
use super::{Defect, ParseError};
use crate::h264::AvcConfig;

/// How the samples of an H.264 track are to be read (`avc1` or `avc3`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleEntry {
    codec: FourCc,
    config: Arc<AvcConfig>,
    width: u16,
    height: u16,
}

impl SampleEntry {
    /// `avc1`: parameter sets are in [`config`](Self::config); `avc3`: they may be in the samples only.
    #[must_use]
    pub const fn codec(&self) -> FourCc {
        self.codec
    }

    /// Parameter sets and length size.
    #[must_use]
    pub const fn config(&self) -> &Arc<AvcConfig> {
        &self.config
    }

    /// Width in pixels as the container states it; the sequence parameter set decides.
    #[must_use]
    pub const fn width(&self) -> u16 {
        self.width
    }

    /// Height in pixels as the container states it; the sequence parameter set decides.
    #[must_use]
    pub const fn height(&self) -> u16 {
        self.height
    }

    /// Reads a `VisualSampleEntry`.
    pub(super) fn parse(entry: &Mp4Box<'_>) -> Result<Self, ParseError> {
        let mut body = entry.body;
        body.take(6 + 2 + 16)?; // reserved, data_reference_index, pre_defined and reserved
        let (width, height) = (body.u16()?, body.u16()?);
        body.take(50)?; // resolutions, reserved, frame_count, compressorname, depth, pre_defined
        let extensions = entry.with_body(body);
        match &entry.kind.0 {
            b"avc1" | b"avc3" => {}
            b"encv" => return Err(encrypted(&extensions)),
            _ => return Err(entry.defect(Defect::Codec(entry.kind))),
        }
        let record = extensions.required(*b"avcC")?;
        // A copy of a few bytes, since a view would keep all of a self-initializing segment in memory.
        let config = AvcConfig::parse(&Bytes::copy_from_slice(record.body.rest()))
            .map_err(|error| record.body.defect(Defect::H264(error)))?;
        Ok(Self { codec: entry.kind, config: Arc::new(config), width, height })
    }
}

/// An encrypted entry: `sinf/frma` has the codec and `sinf/schm` the scheme, §8.12.
fn encrypted(extensions: &Mp4Box<'_>) -> ParseError {
    let field = |kind: [u8; 4], skip: u64| {
        let mut body = extensions.required(*b"sinf")?.required(kind)?.body;
        body.take(skip)?;
        body.four_cc()
    };
    let defect = Defect::Encrypted { codec: field(*b"frma", 0).ok(), scheme: field(*b"schm", 4).ok() };
    extensions.defect(defect)
}

/// All entries of a sample description box, in the order that `sample_description_index` counts them.
pub(super) fn entries<'a>(
    stsd: &Mp4Box<'a>,
) -> Result<impl Iterator<Item = Result<Mp4Box<'a>, ParseError>>, ParseError> {
    let mut body = stsd.body;
    body.version_and_flags()?;
    let count = body.u32()?;
    // Not trusted, but what follows the last entry (QuickTime ends with a zero) is no entry.
    Ok(Boxes(body).take(usize::try_from(count).unwrap_or(usize::MAX)))
}

/// The name that people know a codec by.
pub(super) fn codec_name(codec: FourCc) -> &'static str {
    match &codec.0 {
        b"hvc1" | b"hev1" | b"hvc2" | b"hev2" | b"lhv1" | b"lhe1" => "HEVC (H.265)",
        b"dvh1" | b"dvhe" | b"dvav" | b"dva1" | b"dav1" => "Dolby Vision",
        b"vvc1" | b"vvi1" => "VVC (H.266)",
        b"evc1" => "EVC",
        b"av01" => "AV1",
        b"vp08" => "VP8",
        b"vp09" => "VP9",
        b"avc2" | b"avc4" | b"svc1" | b"mvc1" | b"mvc2" => "layered H.264",
        b"mp4v" => "MPEG-4 part 2",
        b"s263" | b"h263" => "H.263",
        b"jpeg" | b"mjpa" | b"mjpb" | b"mjpg" | b"mjp2" => "Motion JPEG",
        b"apch" | b"apcn" | b"apcs" | b"apco" | b"ap4h" | b"ap4x" => "ProRes",
        b"resv" => "restricted-scheme",
        _ => "unknown",
    }
}

/// What a track of a handler type holds, §8.4.3.
pub(super) fn handler_name(handler: FourCc) -> &'static str {
    match &handler.0 {
        b"vide" => "video",
        b"soun" => "audio",
        b"text" | b"subt" | b"sbtl" | b"clcp" => "text",
        b"meta" => "metadata",
        b"hint" => "hints",
        _ => "data of an unknown kind",
    }
}
