//! Frames as small JPEGs.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use image::codecs::jpeg::JpegEncoder;
use image::imageops::thumbnail;
use image::{ExtendedColorType, ImageBuffer, Rgb, RgbImage};
use kvs_hls::decode::{ColorSpace, Picture, convert};
use kvs_hls::{ColorMatrix, ColorRange, Frame, Output, PixelFormat};

use crate::view::View;
use crate::write::rgb;

/// However many look, a camera's picture is encoded at most so often in each width.
const ENCODE_EVERY: Duration = Duration::from_millis(200);
const QUALITY: u8 = 75;
/// The widths that pictures come in: the next above the one asked for.
const WIDTHS: [usize; 4] = [64, 320, 640, 1280];

/// What was encoded last of a camera, in each width.
#[derive(Debug, Default)]
pub struct Encoded(Mutex<[Option<Last>; WIDTHS.len()]>);

#[derive(Debug)]
struct Last {
    number: u64,
    at: Instant,
    jpeg: Vec<u8>,
}

/// The camera's last picture, about so wide; `None` before the first.
pub fn jpeg(view: &View, width: usize) -> Option<Vec<u8>> {
    let index = WIDTHS.iter().position(|&known| width <= known).unwrap_or(WIDTHS.len() - 1);
    let (number, frame) = view.picture()?;
    // Held while encoding: others who want the same wait for it.
    let mut all = view.encoded.0.lock().unwrap_or_else(PoisonError::into_inner);
    let (last, width) = (&mut all[index], WIDTHS[index]);
    if let Some(last) = last
        && (last.number == number || last.at.elapsed() < ENCODE_EVERY)
    {
        return Some(last.jpeg.clone());
    }
    let jpeg = encode(&frame, width)?;
    *last = Some(Last { number, at: Instant::now(), jpeg: jpeg.clone() });
    Some(jpeg)
}

fn encode(frame: &Frame, width: usize) -> Option<Vec<u8>> {
    let small = shrunk(frame, width)?;
    let mut jpeg = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut jpeg, QUALITY);
    let written =
        image::ImageEncoder::write_image(encoder, &small, small.width(), small.height(), ExtendedColorType::Rgb8);
    written.ok().map(|()| jpeg)
}

/// Never larger than the frame.
fn shrunk(frame: &Frame, width: usize) -> Option<RgbImage> {
    let width = width.min(frame.width());
    let height = (frame.height() * width).div_ceil(frame.width().max(1)).max(1);
    let (columns, rows) = (u32::try_from(width).ok()?, u32::try_from(height).ok()?);
    if frame.format() == PixelFormat::I420 {
        let mut pixels = vec![0; width * height * 3];
        let is_done = convert(&picture_of(frame)?, Output::rgb().exact(width, height), &mut pixels);
        return RgbImage::from_raw(columns, rows, pixels).filter(|_| is_done);
    }
    let pixels = rgb(frame)?;
    let (full_columns, full_rows) = (u32::try_from(frame.width()).ok()?, u32::try_from(frame.height()).ok()?);
    let full = ImageBuffer::<Rgb<u8>, &[u8]>::from_raw(full_columns, full_rows, &pixels)?;
    Some(thumbnail(&full, columns, rows))
}

/// An I420 frame, seen as a picture again. How its colours are coded it does not say: as most video of its size is.
fn picture_of(frame: &Frame) -> Option<Picture<'_>> {
    let (width, height) = (frame.width(), frame.height());
    let (luma, chroma) = frame.data().split_at_checked(width * height)?;
    let (u, v) = chroma.split_at_checked(chroma.len() / 2)?;
    let matrix = if height >= 720 { ColorMatrix::Bt709 } else { ColorMatrix::Bt601 };
    Some(Picture {
        planes: [luma, u, v],
        strides: [width, width.div_ceil(2)],
        width,
        height,
        color: ColorSpace::new(matrix, ColorRange::Limited),
        sample_aspect_ratio: None,
        pts: frame.meta().pts,
    })
}
