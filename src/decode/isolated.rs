//! A decoder in a process of its own, so that what is not memory-safe cannot harm the rest.
//!
//! Parent and child talk over a socket that is the child's standard input and output. Integers are little-endian.
//!
//! | message | fields |
//! | --- | --- |
//! | greeting | [`ASK`], `max_macroblocks` u32, `max_segment_bytes` u64 |
//! | its answer | [`REPLY`] |
//! | request | whether to reset first u8, length of the avcC record u32 (0: as before), of the access unit u32; both |
//! | answer: nothing | [`NOTHING`], zeros |
//! | answer: picture | [`PICTURE`], matrix u8, range u8, whether there is an aspect ratio u8, width u32, height u32, aspect ratio two u16; the three planes without padding |
//! | answer: error | [`ERROR`], kind u8, whether unsupported u8, 0, length of the context u32, of the cause u32, zeros; both |
//!
//! The first sixteen bytes of an answer are its header. Times stay with the parent: a picture belongs to the access unit
//! that it answers.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, parent_id};
use std::path::PathBuf;
use std::process::{self, Child, Command, ExitStatus};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{ColorMatrix, ColorRange, ColorSpace, Decoder, Openh264Decoder, Picture};
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind};
use crate::h264::{AccessUnit, AvcConfig};
use crate::limits::Limits;
use crate::time::{Dts, Pts, Timescale};

/// The last digit is the protocol's version.
const ASK: &[u8; 17] = b"kvs-hls decoder?1";
const REPLY: &[u8; 17] = b"kvs-hls decoder!1";

const NOTHING: u8 = 0;
const PICTURE: u8 = 1;
const ERROR: u8 = 2;

const HEADER_BYTES: usize = 16;
/// Of each of an error's two texts.
const MAX_TEXT_BYTES: usize = 1000;
/// avcC records hold 31 and 255 parameter sets of up to 64 KiB at most.
const MAX_CONFIG_BYTES: usize = 32 << 20;

const MATRICES: [ColorMatrix; 3] = [ColorMatrix::Bt601, ColorMatrix::Bt709, ColorMatrix::Bt2020];
const KINDS: [ErrorKind; 3] = [ErrorKind::Decoder, ErrorKind::Bitstream, ErrorKind::Limit];

/// How long a child whose pipe has closed may take to end before it is killed: rounds of 10 ms.
const ENDING_ROUNDS: u32 = 100;
const ENDING_ROUND: Duration = Duration::from_millis(10);
const PARENT_WATCH: Duration = Duration::from_secs(1);

/// A program that decodes for [`IsolatedDecoder`].
///
/// It is any executable that calls [`serve_decoder`] before anything else: the program `kvs-hls` does with the argument
/// `decoder`, or your own may.
///
/// ```no_run
/// use kvs_hls::decode::{DecoderProcess, serve_decoder};
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     if std::env::args().nth(1).as_deref() == Some("decoder") {
///         return Ok(serve_decoder()?);
///     }
///     let process = DecoderProcess::new(std::env::current_exe()?).arg("decoder");
///     // FrameSource::builder(…).isolate(process)
///     # let _ = process;
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct DecoderProcess {
    program: PathBuf,
    args: Vec<OsString>,
    time_limit: Duration,
}

impl DecoderProcess {
    /// A program by its path. It runs without environment variables, so it is not looked for in `PATH`.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), args: Vec::new(), time_limit: Duration::from_secs(10) }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// How long an access unit may take before the process is killed; 10 s.
    #[must_use]
    pub fn time_limit(mut self, time_limit: Duration) -> Self {
        self.time_limit = time_limit;
        self
    }
}

/// Decodes with openh264 in a child process: whatever happens to it is an error of one access unit here, and the next one
/// gets a new process.
///
/// The child gets NAL units and nothing else: no environment, no open files but standard error.
pub struct IsolatedDecoder {
    process: DecoderProcess,
    limits: Limits,
    running: Option<Running>,
    /// Whether the program has proved to be a decoder.
    has_worked: bool,
    request: Vec<u8>,
    /// The planes of the last picture.
    planes: Vec<u8>,
}

impl fmt::Debug for IsolatedDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IsolatedDecoder")
            .field("process", &self.process)
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

impl IsolatedDecoder {
    /// A decoder that refuses pictures larger than the limits allow. The process starts with the first access unit.
    #[must_use]
    pub fn new(process: DecoderProcess, limits: Limits) -> Self {
        Self { process, limits, running: None, has_worked: false, request: Vec::new(), planes: Vec::new() }
    }

    /// The operating system's number of the process, while there is one.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.child.id())
    }

    fn start(&mut self) -> Result<Running, Error> {
        let program = self.process.program.display().to_string();
        // What never was a decoder will not become one; what was one may be in want of memory for now.
        let refusal = if self.has_worked { ErrorKind::Decoder } else { ErrorKind::Config };
        let mut running = Running::spawn(&self.process).map_err(|error| {
            let is_unfit = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied);
            let kind = if is_unfit { refusal } else { ErrorKind::Decoder };
            Error::new(kind, format!("decoder program {program} that cannot be started")).with_source(error)
        })?;
        match running.greet(&self.limits, self.process.time_limit) {
            Ok(true) => {
                self.has_worked = true;
                Ok(running)
            }
            Ok(false) => {
                Err(Error::new(refusal, format!("program {program} that is no decoder of this version of kvs-hls")))
            }
            Err(error) => {
                let ending = running.end(error, &self.process);
                let kind = if ending.is_timeout() { ErrorKind::Decoder } else { refusal };
                Err(Error::new(kind, format!("decoder program {program} that does not answer")).with_source(ending))
            }
        }
    }
}

impl Decoder for IsolatedDecoder {
    fn decode(&mut self, unit: &AccessUnit, out: &mut dyn FnMut(Picture<'_>)) -> Result<(), Error> {
        let mut running = match self.running.take() {
            Some(running) => running,
            None => self.start()?,
        };
        let answer = running
            .ask(unit, &mut self.request, self.process.time_limit)
            .and_then(|()| read_answer(&mut running.line, &self.limits, &mut self.planes));
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return Err(running.end(error, &self.process)),
        };
        self.running = Some(running);
        match answer {
            Answer::Nothing => Ok(()),
            Answer::Picture(shape) => {
                out(shape.picture(&self.planes, unit.pts()));
                Ok(())
            }
            Answer::Error(error) => Err(error),
        }
    }

    fn drain(&mut self, _out: &mut dyn FnMut(Picture<'_>)) -> Result<(), Error> {
        Ok(()) // each picture left with its access unit
    }

    fn reset(&mut self) {
        if let Some(running) = &mut self.running {
            running.is_reset = true;
        }
    }
}

/// A child at work. Dropping it ends the child, which has nothing to save.
struct Running {
    child: Child,
    line: Line,
    /// The configuration that the child has.
    config: Option<Arc<AvcConfig>>,
    /// Whether the child's decoder must forget everything before the next access unit.
    is_reset: bool,
}

impl Running {
    fn spawn(process: &DecoderProcess) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let theirs = OwnedFd::from(theirs);
        let child = Command::new(&process.program)
            .args(&process.args)
            .env_clear() // no credentials for what may be broken into
            .process_group(0) // Ctrl-C is for the parent, which ends the child when it is done
            .stdin(theirs.try_clone()?)
            .stdout(theirs)
            .spawn()?;
        Ok(Self { child, line: Line { stream: ours, deadline: None }, config: None, is_reset: false })
    }

    /// Whether the program is a decoder that speaks this protocol.
    fn greet(&mut self, limits: &Limits, time_limit: Duration) -> io::Result<bool> {
        self.line.deadline = SystemClock.now().checked_add(time_limit);
        let mut greeting = ASK.to_vec();
        greeting.extend(limits.max_macroblocks.to_le_bytes());
        greeting.extend((limits.max_segment_bytes as u64).to_le_bytes());
        self.line.write_all(&greeting)?;
        Ok(read_array(&mut self.line)? == *REPLY)
    }

    fn ask(&mut self, unit: &AccessUnit, request: &mut Vec<u8>, time_limit: Duration) -> io::Result<()> {
        self.line.deadline = SystemClock.now().checked_add(time_limit);
        let config = unit.config();
        let is_known = self.config.as_ref().is_some_and(|known| Arc::ptr_eq(known, config) || known == config);
        let record: &[u8] = if is_known { &[] } else { config.record() };
        request.clear();
        request.push(self.is_reset.into());
        request.extend(length(record.len())?);
        request.extend(length(unit.data().len())?);
        request.extend_from_slice(record);
        request.extend_from_slice(unit.data());
        self.line.write_all(request)?;
        self.is_reset = false;
        if !is_known {
            self.config = Some(config.clone());
        }
        Ok(())
    }

    /// Ends the child after trouble with it, and says how it came to that.
    fn end(mut self, trouble: io::Error, process: &DecoderProcess) -> Error {
        let error = |context| Error::new(ErrorKind::Decoder, context);
        match trouble.kind() {
            io::ErrorKind::TimedOut => {
                error(format!("decoder process that took longer than {:?}: it was killed", process.time_limit))
                    .timed_out()
            }
            io::ErrorKind::InvalidData => {
                error("decoder process that answered nonsense: it was killed".into()).with_source(trouble)
            }
            // The connection broke, so the child has ended or is about to.
            _ => match self.ending() {
                Ok(Some(status)) => error(format!("decoder process that ended: {status}")),
                _ => error("decoder process that broke the connection: it was killed".into()).with_source(trouble),
            },
        }
    }

    fn ending(&mut self) -> io::Result<Option<ExitStatus>> {
        for _ in 0..ENDING_ROUNDS {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            thread::park_timeout(ENDING_ROUND);
        }
        Ok(None)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait(); // no zombie stays
    }
}

/// The parent's end of the connection: reading and writing together end at the deadline.
struct Line {
    stream: UnixStream,
    deadline: Option<Instant>,
}

impl Line {
    fn left(&self) -> io::Result<Option<Duration>> {
        let Some(deadline) = self.deadline else { return Ok(None) };
        match deadline.saturating_duration_since(SystemClock.now()) {
            Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
            left => Ok(Some(left)),
        }
    }
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer).map_err(timed_out)
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A socket's time limit shows as `WouldBlock`.
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}

enum Answer {
    Nothing,
    /// Its planes are in the buffer.
    Picture(Shape),
    Error(Error),
}

struct Shape {
    width: usize,
    height: usize,
    color: ColorSpace,
    sample_aspect_ratio: Option<(u16, u16)>,
}

impl Shape {
    /// Bytes of the luma plane and of each chroma plane.
    fn plane_bytes(&self) -> [usize; 2] {
        [self.width * self.height, self.width.div_ceil(2) * self.height.div_ceil(2)]
    }

    fn picture<'a>(&self, planes: &'a [u8], pts: Pts) -> Picture<'a> {
        let [luma, chroma] = self.plane_bytes();
        let (y, rest) = planes.split_at(luma.min(planes.len()));
        let (u, v) = rest.split_at(chroma.min(rest.len()));
        Picture {
            planes: [y, u, v],
            strides: [self.width, self.width.div_ceil(2)],
            width: self.width,
            height: self.height,
            color: self.color,
            sample_aspect_ratio: self.sample_aspect_ratio,
            pts,
        }
    }
}

/// Reads an answer, and believes nothing in it: no more is taken than the limits allow.
fn read_answer(input: &mut impl Read, limits: &Limits, planes: &mut Vec<u8>) -> io::Result<Answer> {
    let [tag, a, b, c, numbers @ ..] = read_array::<HEADER_BYTES>(input)?;
    let [first, second, third] = read_numbers(&numbers);
    match tag {
        NOTHING => Ok(Answer::Nothing),
        PICTURE => {
            let macroblocks = u64::from(first.div_ceil(16)) * u64::from(second.div_ceil(16));
            let matrix =
                MATRICES.get(usize::from(a)).filter(|_| (1..=u64::from(limits.max_macroblocks)).contains(&macroblocks));
            let Some(&matrix) = matrix else {
                return Err(nonsense(format!("picture of {first} x {second} in matrix {a}")));
            };
            let range = if b == 0 { ColorRange::Limited } else { ColorRange::Full };
            let shape = Shape {
                width: first as usize,
                height: second as usize,
                color: ColorSpace::new(matrix, range),
                sample_aspect_ratio: (c != 0).then_some((third as u16, (third >> 16) as u16)),
            };
            let [luma, chroma] = shape.plane_bytes();
            planes.resize(luma + 2 * chroma, 0);
            input.read_exact(planes)?;
            Ok(Answer::Picture(shape))
        }
        ERROR => {
            let kind = KINDS.get(usize::from(a)).copied().unwrap_or(ErrorKind::Decoder);
            let mut error = Error::new(kind, read_text(input, first)?);
            let cause = read_text(input, second)?;
            if !cause.is_empty() {
                error = error.with_source(cause);
            }
            Ok(Answer::Error(if b == 0 { error } else { error.unsupported() }))
        }
        _ => Err(nonsense(format!("answer of kind {tag}"))),
    }
}

fn read_text(input: &mut impl Read, length: u32) -> io::Result<String> {
    let mut text = vec![0; checked(length, MAX_TEXT_BYTES)?];
    input.read_exact(&mut text)?;
    // It ends in logs and on terminals.
    Ok(String::from_utf8_lossy(&text).chars().filter(|letter| !letter.is_control()).collect())
}

/// Decodes for an [`IsolatedDecoder`] in another process, which is at the other end of standard input and output, until
/// standard input ends.
///
/// Nothing else may be written to standard output.
///
/// # Errors
/// When the other side breaks the connection in the middle of a message, or is no `IsolatedDecoder` of this version.
pub fn serve_decoder() -> io::Result<()> {
    end_with_the_parent()?;
    // Not `Stdin` and `Stdout`, whose buffers would copy every picture.
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    serve(&mut input, &mut output)
}

/// Ends this process when the parent has gone, also out of an access unit that takes for ever.
fn end_with_the_parent() -> io::Result<()> {
    let parent = parent_id();
    let watch = move || {
        while parent_id() == parent {
            thread::park_timeout(PARENT_WATCH);
        }
        process::exit(0)
    };
    thread::Builder::new().name("parent watch".into()).spawn(watch).map(drop)
}

fn serve(input: &mut impl Read, output: &mut impl Write) -> io::Result<()> {
    if read_array(input)? != *ASK {
        return Err(nonsense("no IsolatedDecoder of this version of kvs-hls on standard input".into()));
    }
    let limits = Limits {
        max_macroblocks: u32::from_le_bytes(read_array(input)?),
        max_segment_bytes: usize::try_from(u64::from_le_bytes(read_array(input)?)).unwrap_or(usize::MAX),
        ..Limits::default()
    };
    output.write_all(REPLY)?;
    let mut decoder = Openh264Decoder::new(limits.clone());
    let mut config = None;
    let mut answer = Vec::new();
    loop {
        let [is_reset, lengths @ ..] = match read_array::<9>(input) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            header => header?,
        };
        let [record, unit] = read_numbers(&lengths);
        if is_reset != 0 {
            decoder.reset();
        }
        if record > 0 {
            let record = read_bytes(input, checked(record, MAX_CONFIG_BYTES)?)?;
            config = Some(Arc::new(AvcConfig::parse(&record).map_err(|error| nonsense(error.to_string()))?));
        }
        let data = read_bytes(input, checked(unit, limits.max_segment_bytes)?)?;
        let config = config.clone().ok_or_else(|| nonsense("access unit without a configuration".into()))?;
        let unit = AccessUnit::new(data, config, Pts::new(0, Timescale::SECONDS), Dts(0), 0)
            .map_err(|error| nonsense(error.to_string()))?;
        write_header(&mut answer, [NOTHING, 0, 0, 0], [0; 3]);
        if let Err(error) = decoder.decode(&unit, &mut |picture| write_picture(&mut answer, &picture)) {
            write_error(&mut answer, &error);
        }
        output.write_all(&answer)?;
    }
}

fn write_picture(answer: &mut Vec<u8>, picture: &Picture<'_>) {
    let matrix = MATRICES.iter().position(|matrix| *matrix == picture.color.matrix).unwrap_or_default();
    let is_full = picture.color.range == ColorRange::Full;
    let (x, y) = picture.sample_aspect_ratio.unwrap_or_default();
    let aspect_ratio = u32::from(x) | u32::from(y) << 16;
    let has_aspect_ratio = picture.sample_aspect_ratio.is_some();
    write_header(
        answer,
        [PICTURE, matrix as u8, is_full.into(), has_aspect_ratio.into()],
        [picture.width as u32, picture.height as u32, aspect_ratio],
    );
    let [luma, chroma] = picture.strides;
    let (width, height) = (picture.width.div_ceil(2), picture.height.div_ceil(2));
    let shapes = [(luma, picture.width, picture.height), (chroma, width, height), (chroma, width, height)];
    for (plane, (stride, width, height)) in picture.planes.iter().zip(shapes) {
        for row in plane.chunks(stride.max(1)).take(height) {
            answer.extend_from_slice(row.get(..width).unwrap_or(row));
        }
    }
}

fn write_error(answer: &mut Vec<u8>, error: &Error) {
    let kind = KINDS.iter().position(|kind| *kind == error.kind()).unwrap_or_default();
    let mut causes = Vec::new();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    let cause = causes.join(": ");
    let [context, cause] =
        [error.context(), &cause].map(|text| text.as_bytes().get(..MAX_TEXT_BYTES).unwrap_or(text.as_bytes()));
    let lengths = [context.len() as u32, cause.len() as u32, 0];
    write_header(answer, [ERROR, kind as u8, error.is_unsupported().into(), 0], lengths);
    answer.extend_from_slice(context);
    answer.extend_from_slice(cause);
}

/// Begins an answer.
fn write_header(answer: &mut Vec<u8>, bytes: [u8; 4], numbers: [u32; 3]) {
    answer.clear();
    answer.extend(bytes);
    answer.extend(numbers.into_iter().flat_map(u32::to_le_bytes));
}

fn nonsense(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn length(bytes: usize) -> io::Result<[u8; 4]> {
    u32::try_from(bytes).map(u32::to_le_bytes).map_err(|_| nonsense(format!("{bytes} bytes to send")))
}

fn checked(length: u32, max: usize) -> io::Result<usize> {
    usize::try_from(length)
        .ok()
        .filter(|length| *length <= max)
        .ok_or_else(|| nonsense(format!("length of {length} bytes")))
}

fn read_array<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn read_bytes(input: &mut impl Read, length: usize) -> io::Result<Bytes> {
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes)?;
    Ok(bytes.into())
}

fn read_numbers<const N: usize>(bytes: &[u8]) -> [u32; N] {
    let mut numbers = [0; N];
    for (number, bytes) in numbers.iter_mut().zip(bytes.as_chunks().0) {
        *number = u32::from_le_bytes(*bytes);
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(bytes: [u8; 4], numbers: [u32; 3], rest: &[u8]) -> io::Result<Answer> {
        let mut answer = Vec::new();
        write_header(&mut answer, bytes, numbers);
        answer.extend_from_slice(rest);
        read_answer(&mut answer.as_slice(), &Limits::default(), &mut Vec::new())
    }

    #[test]
    fn answers_beyond_the_limits_are_refused() {
        for (bytes, numbers) in [
            ([9, 0, 0, 0], [0, 0, 0]),
            ([PICTURE, 0, 0, 0], [0, 16, 0]),
            ([PICTURE, 0, 0, 0], [16, 0, 0]),
            ([PICTURE, 0, 0, 0], [u32::MAX, u32::MAX, 0]),
            ([PICTURE, 0, 0, 0], [16 * 36_865, 16, 0]),
            ([PICTURE, 3, 0, 0], [16, 16, 0]),
            ([ERROR, 0, 0, 0], [1001, 0, 0]),
            ([ERROR, 0, 0, 0], [0, u32::MAX, 0]),
        ] {
            let error = answer(bytes, numbers, &[]).err().map(|error| error.kind());
            assert_eq!(error, Some(io::ErrorKind::InvalidData), "{bytes:?} {numbers:?}");
        }
        let short = answer([PICTURE, 0, 0, 0], [16, 16, 0], &[0; 383]).err().map(|error| error.kind());
        assert_eq!(short, Some(io::ErrorKind::UnexpectedEof));
        assert!(answer([PICTURE, 0, 0, 0], [16, 16, 0], &[0; 384]).is_ok());
    }

    #[test]
    fn what_an_error_says_is_safe_to_print() {
        let Ok(Answer::Error(error)) = answer([ERROR, 1, 0, 0], [7, 2, 0], b"a\x1b[2J\nbc\xff") else {
            panic!("no error")
        };
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::Bitstream, "bitstream error: a[2Jb".into()));
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        assert_eq!(cause.as_deref(), Some("c\u{fffd}"));
    }

    #[test]
    fn what_asks_beyond_the_limits_is_refused() {
        let mut request = ASK.to_vec();
        request.extend(100_u32.to_le_bytes());
        request.extend(1000_u64.to_le_bytes());
        assert!(serve(&mut request.as_slice(), &mut io::sink()).is_ok(), "the end of a parent is no error");
        for lengths in [[0, 10], [0, 1001], [u32::MAX, 0]] {
            let mut request = request.clone();
            request.push(0);
            request.extend(lengths.into_iter().flat_map(u32::to_le_bytes));
            request.extend([0; 10]);
            let error = serve(&mut request.as_slice(), &mut io::sink()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{lengths:?}");
        }
        assert!(serve(&mut &b"GET / HTTP/1.1\r\n\r\n"[..], &mut io::sink()).is_err());
    }
}
