//! What the user gets.

use std::time::SystemTime;

use crate::decode::{PixelFormat, Pixels};
use crate::gap::Gap;
use crate::hls::FragmentNumber;
use crate::session::TimeOrigin;
use crate::time::Pts;

/// A decoded frame: pixels and where they come from. Cloning it copies no pixels.
#[derive(Clone, Debug)]
pub struct Frame {
    pub(super) pixels: Pixels,
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) format: PixelFormat,
    pub(super) meta: FrameMeta,
}

impl Frame {
    /// The pixels, rows from top to bottom without padding: `height * stride` bytes for packed formats, the planes one
    /// after the other for [`PixelFormat::I420`].
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.pixels
    }

    /// Width in pixels.
    #[must_use]
    pub const fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    #[must_use]
    pub const fn height(&self) -> usize {
        self.height
    }

    /// Bytes from one row to the next; of the luma plane for [`PixelFormat::I420`].
    #[must_use]
    pub const fn stride(&self) -> usize {
        self.format.stride(self.width)
    }

    /// How the bytes stand for pixels.
    #[must_use]
    pub const fn format(&self) -> PixelFormat {
        self.format
    }

    /// When the frame was captured. [`FrameMeta::time_origin`] says by whose clock.
    #[must_use]
    pub const fn captured_at(&self) -> SystemTime {
        self.meta.captured_at
    }

    /// Times, origin, losses.
    #[must_use]
    pub const fn meta(&self) -> &FrameMeta {
        &self.meta
    }
}

/// Where and when a frame comes from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FrameMeta {
    /// Presentation time on the media timeline, the edit list applied.
    pub pts: Pts,
    /// The programme time of the segment's first frame, plus this frame's distance from it.
    pub captured_at: SystemTime,
    /// Whose clock that is.
    pub time_origin: TimeOrigin,
    /// Width and height of the video's picture, which the frame's own may differ from
    /// ([`Output::size`](crate::Output::size)). With them [`Output::placement`](crate::Output::placement) leads from a
    /// point of the frame to the point of the picture.
    pub source_size: (usize, usize),
    /// Width and height of a pixel of the video, where the stream states it: most cameras have square ones.
    pub sample_aspect_ratio: Option<(u16, u16)>,
    /// Whether the frame is an IDR picture.
    pub is_keyframe: bool,
    /// The number of the KVS fragment, when the segment's URL has one.
    pub fragment_number: Option<FragmentNumber>,
    /// The segment's media sequence number, which counts within one session.
    pub media_sequence: u64,
    /// The segment's discontinuity sequence number within the session.
    pub discontinuity_sequence: u64,
    /// Which session the frame was read from, from 1.
    pub session_generation: u32,
    /// What is missing between the frame before and this one.
    pub gap_before: Option<Gap>,
    /// Whether the video's width or height ([`source_size`](Self::source_size)) differ from the frame before. Frames of
    /// [`Size::Exact`](crate::Size::Exact) and [`Size::Letterbox`](crate::Size::Letterbox) keep their own size even then.
    pub resolution_changed: bool,
    /// Whether this is the frame before once more, to keep the rhythm while none comes
    /// ([`GapFill::HoldLast`](crate::GapFill::HoldLast)). All else is that frame's.
    pub is_synthetic: bool,
}
