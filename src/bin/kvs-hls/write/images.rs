//! A PNG or JPEG file for each frame.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, ImageFormat};
use jiff::Timestamp;
use kvs_hls::{Frame, PixelFormat};

use super::{FrameWriter, is_stdout};
use crate::failure::Failure;

const JPEG_QUALITY: u8 = 90;

/// Files in a directory, named by capture time and number: they sort by time, and a later run adds to them.
pub struct Images {
    directory: PathBuf,
    format: ImageFormat,
    index: u64,
}

impl Images {
    pub fn new(directory: &Path, format: ImageFormat) -> Result<Self, Failure> {
        if is_stdout(directory) {
            return Err(Failure::usage("--write png and jpeg need a directory: --out DIR"));
        }
        fs::create_dir_all(directory)
            .map_err(|error| Failure::io(format!("cannot make the directory {}", directory.display()), error))?;
        Ok(Self { directory: directory.to_owned(), format, index: 0 })
    }
}

impl FrameWriter for Images {
    fn write(&mut self, frame: &Frame) -> io::Result<()> {
        let extension = if self.format == ImageFormat::Png { "png" } else { "jpg" };
        let name = format!("{}_{:06}.{extension}", file_time(frame.captured_at()), self.index);
        self.index += 1;
        save(frame, self.format, &self.directory.join(name))
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A time as it may stand in a file name on any system: RFC 3339 without colons.
pub fn file_time(time: SystemTime) -> String {
    match Timestamp::try_from(time) {
        Ok(time) => format!("{time:.3}").replace(':', "-"),
        Err(_) => "unknown-time".into(),
    }
}

/// Saves one frame, of any format but I420.
pub fn save_png(frame: &Frame, path: &Path) -> io::Result<()> {
    save(frame, ImageFormat::Png, path)
}

/// Red, green and blue of each pixel; `None` for I420.
pub fn rgb(frame: &Frame) -> Option<Cow<'_, [u8]>> {
    let data = frame.data();
    match frame.format() {
        PixelFormat::Rgb => Some(data.into()),
        PixelFormat::Gray => Some(data.iter().flat_map(|&luma| [luma; 3]).collect()),
        PixelFormat::Bgr => Some(data.as_chunks().0.iter().flat_map(|&[b, g, r]| [r, g, b]).collect()),
        _ => None,
    }
}

/// Whoever watches the directory sees whole pictures only: one has its name once it is complete.
fn save(frame: &Frame, format: ImageFormat, path: &Path) -> io::Result<()> {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    let part = path.with_file_name(name);
    let written = write(frame, format, &part).and_then(|()| fs::rename(&part, path));
    written.inspect_err(|_| _ = fs::remove_file(&part))
}

fn write(frame: &Frame, format: ImageFormat, path: &Path) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    encode(frame, format, &mut file)?;
    file.flush()
}

/// Writes one frame as PNG or JPEG, of any format but I420.
pub fn encode(frame: &Frame, format: ImageFormat, out: &mut impl Write) -> io::Result<()> {
    let (color, pixels) = match frame.format() {
        PixelFormat::Gray => (ExtendedColorType::L8, Cow::Borrowed(frame.data())),
        other => {
            let pixels = rgb(frame)
                .ok_or_else(|| io::Error::other(format!("pixel format {other} cannot be saved as a picture")))?;
            (ExtendedColorType::Rgb8, pixels)
        }
    };
    let too_large = |_| io::Error::other("picture too large for an image file");
    let (width, height) =
        (u32::try_from(frame.width()).map_err(too_large)?, u32::try_from(frame.height()).map_err(too_large)?);
    match format {
        ImageFormat::Png => PngEncoder::new(out).write_image(&pixels, width, height, color),
        _ => JpegEncoder::new_with_quality(out, JPEG_QUALITY).write_image(&pixels, width, height, color),
    }
    .map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_can_stand_in_file_names() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_741_944_413_589);
        assert_eq!(file_time(time), "2025-03-14T09-26-53.589Z");
        assert_eq!(file_time(SystemTime::UNIX_EPOCH), "1970-01-01T00-00-00.000Z");
    }
}
