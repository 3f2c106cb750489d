//! What `frames` writes.

mod framemd5;
mod grid;
mod images;
mod json;
#[cfg(feature = "nats")]
mod nats;
mod raw;
mod y4m;

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal, Read, Seek, SeekFrom, Write};
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
    let file = with_folder(path).and_then(|()| File::create(path)).map_err(|error| Failure::unwritable(path, error))?;
    Ok(Box::new(BufWriter::new(file)))
}

/// Makes the directory of a file that is to be written.
fn with_folder(path: &Path) -> io::Result<()> {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).map_or(Ok(()), fs::create_dir_all)
}

/// Who opens a named pipe waits until somebody reads it. This fails instead; what it gives keeps the pipe open until it has been
/// opened for good. `None` for any other file, and for a pipe that cannot be opened at all: who opens it is told why.
#[cfg(unix)]
pub fn pipe(path: &Path) -> io::Result<Option<tokio::net::unix::pipe::Sender>> {
    use std::os::unix::fs::FileTypeExt;
    /// POSIX's errno for a pipe without a reader, the same number on all systems.
    const ENXIO: i32 = 6;
    if !fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo()) {
        return Ok(None);
    }
    match tokio::net::unix::pipe::OpenOptions::new().open_sender(path) {
        Err(error) if error.raw_os_error() != Some(ENXIO) => Ok(None),
        opened => opened.map(Some),
    }
}

#[cfg(not(unix))]
pub fn pipe(_: &Path) -> io::Result<Option<()>> {
    Ok(None)
}

/// Opens a file for lines to be added to those of earlier runs.
fn append(path: &Path) -> Result<Sink, Failure> {
    let cannot = |error| Failure::unwritable(path, error);
    with_folder(path).map_err(cannot)?;
    let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(cannot)?;
    // A line that was cut short ends here.
    if !ends_line(path).map_err(cannot)? {
        file.write_all(b"\n").map_err(cannot)?;
    }
    Ok(Box::new(BufWriter::new(file)))
}

/// Whether a file is empty or its last line complete.
fn ends_line(path: &Path) -> io::Result<bool> {
    if !fs::metadata(path)?.is_file() {
        return Ok(true);
    }
    let mut file = File::open(path)?;
    let mut last = [b'\n'];
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    Ok(last == *b"\n")
}

/// Moves what an earlier run wrote out of the way: its name gets the time of its end.
fn move_aside(path: &Path) -> Result<(), Failure> {
    let Ok(metadata) = fs::metadata(path) else { return Ok(()) };
    if !metadata.is_file() || metadata.len() == 0 {
        return Ok(());
    }
    let ended = metadata.modified().map_or_else(|_| "earlier".into(), images::file_time);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!("{ended}_{name}"));
    fs::rename(path, &aside)
        .map_err(|error| Failure::io(format!("cannot move {} to {}", path.display(), aside.display()), error))
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

/// As [`writer`], and nothing that was written before is lost: lines are added, other files moved aside.
pub fn keeping_writer(format: Format, out: &Path, camera: &str) -> Result<Option<Box<dyn FrameWriter>>, Failure> {
    match format {
        Format::Json if !is_nats(out) => return Ok(Some(Box::new(json::Json::new(append(out)?, camera)))),
        Format::Raw | Format::Y4m | Format::FrameMd5 => move_aside(out)?,
        _ => {}
    }
    writer(format, out, camera)
}

/// Makes the writer of a place that [`check`] has seen; `None` when nothing is to be written.
pub fn writer(format: Format, out: &Path, camera: &str) -> Result<Option<Box<dyn FrameWriter>>, Failure> {
    if matches!(format, Format::Raw | Format::Y4m) && is_stdout(out) && io::stdout().is_terminal() {
        return Err(Failure::usage("pixels are not for a terminal: give --out FILE, or pipe them to a program"));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_before_is_kept() {
        let folder = std::env::temp_dir().join(format!("kvs-hls-kept-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (lines, film) = (folder.join("lines/a.jsonl"), folder.join("a.y4m"));
        let add = |text: &str| append(&lines).unwrap().write_all(text.as_bytes()).unwrap();
        add("{1}\n");
        add("{2"); // the power failed
        add("{3}\n");
        assert_eq!(fs::read_to_string(&lines).unwrap(), "{1}\n{2\n{3}\n");
        assert!(append(Path::new("/dev/null")).is_ok() && move_aside(Path::new("/dev/null")).is_ok());

        move_aside(&film).unwrap(); // there is none
        fs::write(&film, "old").unwrap();
        move_aside(&film).unwrap();
        let names = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let names: Vec<_> = names.filter(|name| name.ends_with("Z_a.y4m")).collect();
        assert_eq!(names.len(), 1, "{names:?}");
        assert_eq!(fs::read_to_string(folder.join(&names[0])).unwrap(), "old");
        fs::remove_dir_all(&folder).unwrap();
    }
}
