//! What `frames` writes.

mod framemd5;
mod grid;
mod images;
mod json;
#[cfg(feature = "nats")]
mod nats;
mod raw;
mod y4m;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use kvs_hls::{Frame, PixelFormat};

use crate::args::Format;
use crate::failure::Failure;

/// Takes the frames in their order. Errors of kind `BrokenPipe` mean that the reader has seen enough.
pub trait FrameWriter {
    /// Takes a frame. What it needs to know of later frames may hold it back.
    fn write(&mut self, frame: &Frame) -> io::Result<()>;

    /// Writes what was held back.
    fn finish(&mut self) -> io::Result<()>;

    /// Frames taken of which nobody knows yet whether they have arrived.
    fn unsettled(&self) -> u64 {
        0
    }
}

/// Where bytes go.
pub type Sink = Box<dyn Write>;

/// Opens a file, or standard output for `-`.
pub fn open(path: &Path) -> Result<Sink, Failure> {
    if is_stdout(path) {
        return Ok(Box::new(BufWriter::new(io::stdout())));
    }
    let file = File::create(path).map_err(|error| Failure::io(format!("cannot write to {}", path.display()), error))?;
    Ok(Box::new(BufWriter::new(file)))
}

/// Whether a path stands for standard output.
pub fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Whether frames are published to a NATS server.
pub fn is_nats(out: &Path) -> bool {
    out.to_str().is_some_and(|out| out.starts_with("nats://") || out.starts_with("tls://"))
}

/// Looks at the place as closely as without going there can be.
pub fn check(format: Format, out: &Path) -> Result<(), Failure> {
    if format != Format::None && is_nats(out) {
        #[cfg(feature = "nats")]
        nats::Address::parse(&out.to_string_lossy()).and(nats::Body::of(format))?;
        #[cfg(not(feature = "nats"))]
        return Err(Failure::usage(
            "--out nats://…: this program was built without NATS (`cargo build --release --features nats` builds it \
             with)",
        ));
    }
    Ok(())
}

/// The pixel format to ask for: the one wanted, if it suits what is written.
pub fn pixel_format(format: Format, wanted: Option<PixelFormat>) -> Result<PixelFormat, Failure> {
    use PixelFormat::{Bgr, Gray, I420, Rgb};
    match (format, wanted) {
        (Format::Y4m, None | Some(I420)) => Ok(I420),
        (Format::Y4m, Some(other)) => {
            Err(Failure::usage(format!("--pixel {other} with --write y4m (i420 is allowed)")))
        }
        (Format::Png | Format::Jpeg, Some(I420)) => {
            Err(Failure::usage("--pixel i420 with --write png or jpeg (rgb, bgr and gray are allowed)"))
        }
        // The same picture: the file knows no order of bytes.
        (Format::Png | Format::Jpeg, Some(Gray)) => Ok(Gray),
        (Format::Png | Format::Jpeg, _) => Ok(Rgb),
        (Format::FrameMd5, None) => Ok(I420),
        (_, wanted) => Ok(wanted.unwrap_or(Bgr)),
    }
}

/// Makes the writer of a place that [`check`] has seen; `None` when nothing is to be written.
pub fn writer(format: Format, out: &Path, camera: &str) -> Result<Option<Box<dyn FrameWriter>>, Failure> {
    #[cfg(feature = "nats")]
    if format != Format::None && is_nats(out) {
        let (address, body) = (nats::Address::parse(&out.to_string_lossy())?, nats::Body::of(format)?);
        return Ok(Some(Box::new(nats::Nats::connect(address, body, camera)?)));
    }
    Ok(Some(match format {
        Format::None => return Ok(None),
        Format::Raw => Box::new(raw::Raw::new(open(out)?)),
        Format::Y4m => Box::new(y4m::Y4m::new(open(out)?)),
        Format::Json => Box::new(json::Json::new(open(out)?, camera)),
        Format::FrameMd5 => Box::new(framemd5::FrameMd5::new(open(out)?)),
        Format::Png => Box::new(images::Images::new(out, image::ImageFormat::Png)?),
        Format::Jpeg => Box::new(images::Images::new(out, image::ImageFormat::Jpeg)?),
    }))
}

pub use images::{rgb, save_png};
