//! What the user gets.

use std::time::SystemTime;

use crate::decode::{PixelFormat, Pixels};
#[cfg(any(feature = "image", feature = "ndarray"))]
use crate::error::{Error, ErrorKind};
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

    /// A copy of the pixels as a picture of the `image` crate: `ImageRgb8` of BGR and RGB frames, `ImageLuma8` of gray ones.
    ///
    /// Saving it to a file takes that format's feature of `image`, for example `png`.
    ///
    /// # Errors
    /// `Config` for [`PixelFormat::I420`], which `image` has no type for.
    #[cfg(feature = "image")]
    pub fn to_image(&self) -> Result<image::DynamicImage, Error> {
        let mut bytes = self.data().to_vec();
        if self.format == PixelFormat::Bgr {
            bytes.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| pixel.swap(0, 2));
        }
        let size = u32::try_from(self.width).ok().zip(u32::try_from(self.height).ok());
        let image = size.and_then(|(width, height)| match self.format {
            PixelFormat::Bgr | PixelFormat::Rgb => image::RgbImage::from_raw(width, height, bytes).map(Into::into),
            PixelFormat::Gray => image::GrayImage::from_raw(width, height, bytes).map(Into::into),
            PixelFormat::I420 => None,
        });
        image.ok_or_else(|| self.unfit("an image"))
    }

    /// The pixels as an array of height x width x channels, without a copy: three channels in the order of
    /// [`format`](Self::format), one for gray.
    ///
    /// # Errors
    /// `Config` for [`PixelFormat::I420`], whose planes differ in size.
    #[cfg(feature = "ndarray")]
    pub fn view(&self) -> Result<ndarray::ArrayView3<'_, u8>, Error> {
        let channels = match self.format {
            PixelFormat::Bgr | PixelFormat::Rgb => 3,
            PixelFormat::Gray => 1,
            PixelFormat::I420 => return Err(self.unfit("an array")),
        };
        let shape = (self.height, self.width, channels);
        ndarray::ArrayView3::from_shape(shape, self.data()).map_err(|_| self.unfit("an array"))
    }

    #[cfg(any(feature = "image", feature = "ndarray"))]
    fn unfit(&self, target: &str) -> Error {
        let Self { width, height, format, .. } = self;
        let context = format!(
            "{width}x{height} frame of format {format} that is wanted as {target} (bgr, rgb and gray are allowed)"
        );
        Error::new(ErrorKind::Config, context)
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

#[cfg(all(test, any(feature = "image", feature = "ndarray")))]
mod tests {
    use super::*;
    use crate::time::Timescale;

    /// Two rows of three pixels, each byte another.
    fn frame(format: PixelFormat) -> Frame {
        let (width, height) = (3, 2);
        let bytes: Vec<u8> = (1..).take(format.frame_bytes(width, height)).collect();
        let meta = FrameMeta {
            pts: Pts::new(0, Timescale::new(1000).unwrap()),
            captured_at: SystemTime::UNIX_EPOCH,
            time_origin: TimeOrigin::Producer,
            source_size: (width, height),
            sample_aspect_ratio: None,
            is_keyframe: true,
            fragment_number: None,
            media_sequence: 0,
            discontinuity_sequence: 0,
            session_generation: 1,
            gap_before: None,
            resolution_changed: false,
            is_synthetic: false,
        };
        Frame { pixels: bytes.into(), width, height, format, meta }
    }

    fn assert_refused<T: std::fmt::Debug>(result: Result<T, Error>, target: &str) {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        let wanted = format!(
            "configuration error: 3x2 frame of format i420 that is wanted as {target} (bgr, rgb and gray are allowed)"
        );
        assert_eq!(error.to_string(), wanted);
    }

    #[cfg(feature = "image")]
    #[test]
    fn a_picture_has_the_colours_of_its_frame_in_the_order_red_green_blue() {
        use image::{DynamicImage, Luma, Rgb};

        let DynamicImage::ImageRgb8(rgb) = frame(PixelFormat::Rgb).to_image().unwrap() else { panic!("not RGB") };
        assert_eq!(
            (rgb.dimensions(), rgb.get_pixel(1, 0), rgb.get_pixel(2, 1)),
            ((3, 2), &Rgb([4, 5, 6]), &Rgb([16, 17, 18]))
        );
        let DynamicImage::ImageRgb8(bgr) = frame(PixelFormat::Bgr).to_image().unwrap() else { panic!("not RGB") };
        assert_eq!(
            (bgr.dimensions(), bgr.get_pixel(1, 0), bgr.get_pixel(2, 1)),
            ((3, 2), &Rgb([6, 5, 4]), &Rgb([18, 17, 16]))
        );
        let DynamicImage::ImageLuma8(gray) = frame(PixelFormat::Gray).to_image().unwrap() else { panic!("not gray") };
        assert_eq!((gray.dimensions(), gray.get_pixel(1, 0), gray.get_pixel(2, 1)), ((3, 2), &Luma([2]), &Luma([6])));
        assert_refused(frame(PixelFormat::I420).to_image(), "an image");
    }

    #[cfg(feature = "ndarray")]
    #[test]
    fn a_view_is_the_memory_of_its_frame_by_row_column_and_channel() {
        for (format, channels) in [(PixelFormat::Bgr, 3), (PixelFormat::Rgb, 3), (PixelFormat::Gray, 1)] {
            let frame = frame(format);
            let view = frame.view().unwrap();
            assert_eq!(view.dim(), (2, 3, channels), "{format}");
            assert_eq!(view.as_ptr(), frame.data().as_ptr(), "{format}: no copy");
            assert_eq!(view.as_slice(), Some(frame.data()), "{format}");
            let last = &raw const frame.data()[frame.stride() + channels];
            assert_eq!(&raw const view[[1, 1, 0]], last, "{format}: second row, second pixel");
        }
        let bgr = frame(PixelFormat::Bgr);
        assert_eq!(bgr.view().unwrap()[[1, 2, 0]], 16, "blue of the last pixel");
        assert_refused(frame(PixelFormat::I420).view(), "an array");
    }
}
