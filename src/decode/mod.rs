//! Decoding and conversion: blocking work for the decode pool's threads.

mod color;
mod convert;
#[cfg(unix)]
mod isolated;
mod lane;
mod openh264;
mod order;
mod output;
mod pixels;
mod pool;
mod scale;
mod select;
#[cfg(target_arch = "x86_64")]
mod simd;
mod strand;

pub use color::{ColorMatrix, ColorRange, ColorSpace};
pub use convert::{Converter, convert};
#[cfg(unix)]
pub use isolated::{DecoderProcess, IsolatedDecoder, serve_decoder};
pub(crate) use lane::{Job, Lane, LaneFrame, LaneOptions, LaneOutput, LaneStep};
pub use openh264::Openh264Decoder;
pub use output::{Output, PixelFormat, Placement, Size};
pub(crate) use pixels::PixelPool;
pub use pixels::Pixels;
pub(crate) use pool::DecodePool;
pub use select::FrameSelection;

use crate::error::Error;
use crate::h264::AccessUnit;
use crate::time::Pts;

/// A decoded picture: planes of 8-bit 4:2:0 samples, borrowed from the decoder until its next call.
#[derive(Clone, Copy, Debug)]
pub struct Picture<'a> {
    /// Luma, then the two chroma planes, each with its first row at the start.
    pub planes: [&'a [u8]; 3],
    /// Bytes from one row to the next, of luma and of chroma.
    pub strides: [usize; 2],
    /// Width in pixels, after cropping.
    pub width: usize,
    /// Height in pixels, after cropping.
    pub height: usize,
    /// How samples stand for colours.
    pub color: ColorSpace,
    /// Width and height of a pixel, where the stream states it.
    pub sample_aspect_ratio: Option<(u16, u16)>,
    /// The presentation time of the access unit that this picture was decoded from.
    pub pts: Pts,
}

/// An H.264 decoder.
///
/// Implement it to bring another one. A decoder is driven from one thread at a time and may block.
pub trait Decoder: Send {
    /// Decodes one access unit and hands out the pictures that became ready, each with its own presentation time, in
    /// any order. The caller puts them into display order.
    ///
    /// # Errors
    /// `Bitstream` for input that is damaged or of an unsupported profile, `Decoder` for anything else. After an error
    /// the caller calls [`reset`](Self::reset) and goes on at an IDR picture.
    fn decode(&mut self, unit: &AccessUnit, out: &mut dyn FnMut(Picture<'_>)) -> Result<(), Error>;

    /// Hands out the pictures that the decoder still holds, at the end of a stream or before a change.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    fn drain(&mut self, out: &mut dyn FnMut(Picture<'_>)) -> Result<(), Error>;

    /// Forgets everything, so that the next access unit may be an IDR picture of any stream.
    fn reset(&mut self);
}
