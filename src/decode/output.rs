//! What frames look like: pixel format, colours, size.

use std::fmt;
use std::str::FromStr;

use super::{ColorMatrix, ColorRange, ColorSpace, Picture};
use crate::error::{Error, ErrorKind};
use crate::options::{unknown_word, words};

/// How the bytes of a frame stand for pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum PixelFormat {
    /// Blue, green, red; three bytes a pixel, rows without padding. What OpenCV takes.
    #[default]
    Bgr,
    /// Red, green, blue; three bytes a pixel, rows without padding.
    Rgb,
    /// Luma in full range; one byte a pixel, rows without padding.
    Gray,
    /// The decoder's planes Y, U, V one after the other, without padding, values as they were coded.
    I420,
}

words!(PixelFormat, Bgr = "bgr", Rgb = "rgb", Gray = "gray", I420 = "i420");

impl PixelFormat {
    /// Bytes of a frame of this size.
    #[must_use]
    pub const fn frame_bytes(self, width: usize, height: usize) -> usize {
        match self {
            Self::Bgr | Self::Rgb => width * height * 3,
            Self::Gray => width * height,
            Self::I420 => width * height + 2 * width.div_ceil(2) * height.div_ceil(2),
        }
    }

    /// Bytes from one row to the next; of the luma plane for `I420`.
    #[must_use]
    pub const fn stride(self, width: usize) -> usize {
        match self {
            Self::Bgr | Self::Rgb => width * 3,
            Self::Gray | Self::I420 => width,
        }
    }
}

/// How large frames are: written `native`, `fit:640x360`, `exact:640x360`, `letterbox:640x640`.
///
/// Width and height are 1 to 8192, odd ones too. Aspect ratios are those of the stored pixels; a
/// [`sample_aspect_ratio`](crate::FrameMeta::sample_aspect_ratio) other than 1:1 is not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Size {
    /// As the video has it.
    #[default]
    Native,
    /// The largest size within width and height that keeps the aspect ratio; a smaller video stays as it is.
    Fit(usize, usize),
    /// This width and height: the aspect ratio is not kept, and a smaller video is enlarged.
    Exact(usize, usize),
    /// As `Fit`, centred in a frame of exactly this width and height, with black or [`Output::padding`] around it.
    /// [`Output::placement`] tells where the picture lies.
    Letterbox(usize, usize),
}

const MAX_SIDE: usize = 8_192;

impl Size {
    /// # Errors
    /// `Config` for a side of 0 or above 8192.
    pub(crate) fn checked(self) -> Result<Self, Error> {
        match self {
            Self::Fit(width, height) | Self::Exact(width, height) | Self::Letterbox(width, height)
                if !(1..=MAX_SIDE).contains(&width) || !(1..=MAX_SIDE).contains(&height) =>
            {
                let context = format!("size of {self} (1 to {MAX_SIDE} is allowed for width and height)");
                Err(Error::new(ErrorKind::Config, context))
            }
            _ => Ok(self),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Native => f.write_str("native"),
            Self::Fit(width, height) => write!(f, "fit:{width}x{height}"),
            Self::Exact(width, height) => write!(f, "exact:{width}x{height}"),
            Self::Letterbox(width, height) => write!(f, "letterbox:{width}x{height}"),
        }
    }
}

crate::options::as_text!(Size);

impl FromStr for Size {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (word, sides) = text.split_once(':').unwrap_or((text, ""));
        let sides = sides.split_once('x').map(|(width, height)| (width.parse(), height.parse()));
        match (word, sides) {
            ("native", None) if text == word => Ok(Self::Native),
            ("fit", Some((Ok(width), Ok(height)))) => Self::Fit(width, height).checked(),
            ("exact", Some((Ok(width), Ok(height)))) => Self::Exact(width, height).checked(),
            ("letterbox", Some((Ok(width), Ok(height)))) => Self::Letterbox(width, height).checked(),
            _ => {
                let allowed = ["native", "fit:WIDTHxHEIGHT", "exact:WIDTHxHEIGHT", "letterbox:WIDTHxHEIGHT"];
                Err(unknown_word(text, &allowed))
            }
        }
    }
}

/// The pixels of a frame that the video's picture takes; padding lies around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Placement {
    /// Columns to its left; an even number.
    pub x: usize,
    /// Rows above it; an even number.
    pub y: usize,
    /// Its width in the frame.
    pub width: usize,
    /// Its height in the frame.
    pub height: usize,
    /// Width and height of the video's picture.
    pub source: (usize, usize),
}

impl Placement {
    /// The point of the video's picture, in its pixels, that this point of the frame shows; outside of it for padding.
    ///
    /// Coordinates count from the left and upper edge, not from the middle of the first pixel.
    #[must_use]
    pub fn to_source(&self, x: f64, y: f64) -> (f64, f64) {
        let (width, height) = self.source;
        let along = |at: f64, start: usize, length: usize, source: usize| {
            (at - start as f64) * source as f64 / length.max(1) as f64
        };
        (along(x, self.x, self.width, width), along(y, self.y, self.height, height))
    }
}

/// What frames look like.
///
/// ```
/// use kvs_hls::Output;
///
/// let output = Output::rgb().letterbox(640, 640);
/// assert_eq!(output.frame_size(1920, 1080), (640, 640));
/// let picture = output.placement(1920, 1080);
/// assert_eq!((picture.x, picture.y, picture.width, picture.height), (0, 140, 640, 360));
/// assert_eq!(picture.to_source(320.0, 320.0), (960.0, 540.0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[must_use]
pub struct Output {
    format: PixelFormat,
    matrix: Option<ColorMatrix>,
    range: Option<ColorRange>,
    size: Size,
    padding: u8,
}

impl Output {
    /// Frames of this format in the video's own size, colours as its parameter sets state.
    pub const fn new(format: PixelFormat) -> Self {
        Self { format, matrix: None, range: None, size: Size::Native, padding: 0 }
    }

    /// [`PixelFormat::Bgr`], the default.
    pub const fn bgr() -> Self {
        Self::new(PixelFormat::Bgr)
    }

    /// [`PixelFormat::Rgb`].
    pub const fn rgb() -> Self {
        Self::new(PixelFormat::Rgb)
    }

    /// [`PixelFormat::Gray`].
    pub const fn gray() -> Self {
        Self::new(PixelFormat::Gray)
    }

    /// [`PixelFormat::I420`].
    pub const fn i420() -> Self {
        Self::new(PixelFormat::I420)
    }

    /// Takes this matrix whatever the parameter sets state: some cameras state a wrong one.
    pub const fn matrix(mut self, matrix: ColorMatrix) -> Self {
        self.matrix = Some(matrix);
        self
    }

    /// Takes this range whatever the parameter sets state.
    pub const fn range(mut self, range: ColorRange) -> Self {
        self.range = Some(range);
        self
    }

    /// Frames of this size.
    ///
    /// The planes are scaled before colours are converted, which costs less than a conversion in full size: each axis
    /// that shrinks by the area average (a pixel is the mean of all that it covers, fractions counted), each axis that
    /// grows by linear interpolation. That is `flags=area` of ffmpeg's `scale`: at least 72 dB from it, and the same
    /// bytes where the ratio is a whole number.
    pub const fn size(mut self, size: Size) -> Self {
        self.size = size;
        self
    }

    /// [`Size::Fit`]: at most this width and height, aspect ratio kept, never enlarged.
    pub const fn fit(self, width: usize, height: usize) -> Self {
        self.size(Size::Fit(width, height))
    }

    /// [`Size::Exact`]: this width and height, aspect ratio not kept.
    pub const fn exact(self, width: usize, height: usize) -> Self {
        self.size(Size::Exact(width, height))
    }

    /// [`Size::Letterbox`]: this width and height, aspect ratio kept, padding around the picture.
    pub const fn letterbox(self, width: usize, height: usize) -> Self {
        self.size(Size::Letterbox(width, height))
    }

    /// What lies around a letterbox's picture: this gray, black by default. Many detectors were trained with 114.
    pub const fn padding(mut self, gray: u8) -> Self {
        self.padding = gray;
        self
    }

    /// The pixel format.
    #[must_use]
    pub const fn format(self) -> PixelFormat {
        self.format
    }

    /// Width and height of the frame for a picture of this width and height.
    #[must_use]
    pub fn frame_size(self, width: usize, height: usize) -> (usize, usize) {
        match self.size {
            Size::Letterbox(width, height) => (width, height),
            _ => {
                let placement = self.placement(width, height);
                (placement.width, placement.height)
            }
        }
    }

    /// Where in the frame a picture of this width and height
    /// ([`FrameMeta::source_size`](crate::FrameMeta::source_size)) lies: all of it, except for a letterbox.
    #[must_use]
    pub fn placement(self, width: usize, height: usize) -> Placement {
        let source = (width, height);
        match self.size {
            Size::Native => Placement { x: 0, y: 0, width, height, source },
            Size::Exact(width, height) => Placement { x: 0, y: 0, width, height, source },
            Size::Fit(max_width, max_height) => {
                let (width, height) = within(source, max_width, max_height);
                Placement { x: 0, y: 0, width, height, source }
            }
            Size::Letterbox(frame_width, frame_height) => {
                let (width, height) = within(source, frame_width, frame_height);
                // Even, so that chroma samples stay with their pixels.
                let spare = [frame_width.saturating_sub(width), frame_height.saturating_sub(height)];
                let [x, y] = spare.map(|spare| (spare / 2) & !1);
                Placement { x, y, width, height, source }
            }
        }
    }

    /// # Errors
    /// `Config` for a size that is not allowed.
    pub(crate) fn check(self) -> Result<(), Error> {
        self.size.checked().map(drop)
    }

    pub(super) const fn padding_gray(self) -> u8 {
        self.padding
    }

    pub(super) fn color_of(self, picture: &Picture<'_>) -> ColorSpace {
        ColorSpace::new(self.matrix.unwrap_or(picture.color.matrix), self.range.unwrap_or(picture.color.range))
    }
}

/// The largest size with the source's aspect ratio, to the nearest pixel, within the bounds and not above the source.
fn within((width, height): (usize, usize), max_width: usize, max_height: usize) -> (usize, usize) {
    let nearest = |side: usize, times: usize, over: usize| ((side * times + over / 2) / over).max(1);
    if width <= max_width && height <= max_height {
        (width, height)
    } else if max_width * height <= max_height * width {
        (max_width, nearest(height, max_width, width))
    } else {
        (nearest(width, max_height, height), max_height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_keep_what_they_promise() {
        for (size, source, frame, picture) in [
            ("native", (1920, 1080), (1920, 1080), (0, 0, 1920, 1080)),
            ("fit:640x640", (1920, 1080), (640, 360), (0, 0, 640, 360)),
            ("fit:640x640", (1080, 1920), (360, 640), (0, 0, 360, 640)),
            ("fit:640x640", (320, 180), (320, 180), (0, 0, 320, 180)),
            ("fit:100x100", (3, 1000), (1, 100), (0, 0, 1, 100)),
            ("fit:300x300", (1920, 1080), (300, 169), (0, 0, 300, 169)),
            ("exact:640x640", (320, 180), (640, 640), (0, 0, 640, 640)),
            ("letterbox:640x640", (1920, 1080), (640, 640), (0, 140, 640, 360)),
            ("letterbox:640x640", (320, 180), (640, 640), (160, 230, 320, 180)),
            ("letterbox:301x7", (16, 9), (301, 7), (144, 0, 12, 7)),
            ("letterbox:1x1", (1920, 1080), (1, 1), (0, 0, 1, 1)),
        ] {
            let output = Output::bgr().size(size.parse().unwrap());
            let at = output.placement(source.0, source.1);
            assert_eq!(output.frame_size(source.0, source.1), frame, "{size} of {source:?}");
            assert_eq!((at.x, at.y, at.width, at.height), picture, "{size} of {source:?}");
            let end = at.to_source((at.x + at.width) as f64, (at.y + at.height) as f64);
            assert_eq!(end, (source.0 as f64, source.1 as f64));
            assert_eq!(at.to_source(at.x as f64, at.y as f64), (0.0, 0.0));
        }
    }

    #[test]
    fn words_read_back_and_wrong_ones_are_named() {
        for text in ["native", "fit:640x360", "exact:1x8192", "letterbox:33x7"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        for text in ["fit", "fit:", "fit:640", "fit:0x1", "fit:1x8193", "fit:1x2x3", "native:1x1", "native:", "640x360"]
        {
            assert_eq!(text.parse::<Size>().unwrap_err().kind(), ErrorKind::Config, "{text}");
        }
        let error = Output::bgr().fit(640, 0).check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("fit:640x0 (1 to 8192"), "{error}");
    }
}
