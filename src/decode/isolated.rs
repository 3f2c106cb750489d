//! A decoder in a process of its own: what crashes there crashes alone.
//!
//! Requests and answers go through pipes, numbers in little endian. A request is its kind, a length and so many bytes:
//! [`LIMITS`] first, then access units ([`UNIT`]), each after its decoder configuration ([`CONFIG`]) when that changed, and
//! [`RESET`]. Each unit is answered by any number of pictures and, last, by [`DONE`] or [`FAILED`]. Neither side trusts what
//! it reads.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{ColorMatrix, ColorRange, ColorSpace, Decoder, Openh264Decoder, Picture};
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind};
use crate::h264::{AccessUnit, AvcConfig};
use crate::limits::Limits;
use crate::time::{Dts, Pts, Timescale};

const LIMITS: u8 = 1;
const CONFIG: u8 = 2;
const UNIT: u8 = 3;
const RESET: u8 = 4;

const DONE: u8 = 10;
const PICTURE: u8 = 11;
const FAILED: u8 = 12;

/// A decoder gives at most so many pictures at once: all that it may hold (H.264 A.3.1).
const MAX_PICTURES: usize = 17;
const MAX_MESSAGE: usize = 1000;
const MATRICES: [ColorMatrix; 3] = [ColorMatrix::Bt601, ColorMatrix::Bt709, ColorMatrix::Bt2020];
const RANGES: [ColorRange; 2] = [ColorRange::Limited, ColorRange::Full];
const KINDS: [ErrorKind; 3] = [ErrorKind::Decoder, ErrorKind::Bitstream, ErrorKind::Limit];

/// How a decoder's process is started.
#[derive(Clone, Debug)]
pub struct DecoderProcess {
    program: PathBuf,
    args: Vec<OsString>,
    timeout: Duration,
}

impl DecoderProcess {
    /// A program that calls [`serve_decoder`] when it is started with these arguments: `kvs-hls decoder`, or your own. It gets
    /// no environment.
    pub fn new<A: Into<OsString>>(program: impl Into<PathBuf>, args: impl IntoIterator<Item = A>) -> Self {
        let args = args.into_iter().map(Into::into).collect();
        Self { program: program.into(), args, timeout: Duration::from_secs(10) }
    }

    /// How long one access unit may take before the process is killed: 10 s by default. It is noticed up to a quarter later.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

/// Answers the requests of an [`IsolatedDecoder`] until there are no more: the whole work of a decoder's process, with its
/// standard input and output.
///
/// # Errors
/// Those of the pipes, and `InvalidData` for a request that is none.
pub fn serve_decoder(input: impl Read, output: impl Write) -> io::Result<()> {
    let (mut input, mut output) = (BufReader::new(input), BufWriter::new(output));
    let mut limits = Limits::default();
    let mut decoder = Openh264Decoder::new(limits.clone());
    let mut config = None;
    while let Some(kind) = next_kind(&mut input)? {
        let length = read_u32(&mut input)? as usize;
        if length > limits.max_segment_bytes.max(limits.max_init_bytes) {
            return Err(invalid("request that is too long"));
        }
        let mut body = vec![0; length];
        input.read_exact(&mut body)?;
        match kind {
            LIMITS => {
                let numbers = body.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
                let [macroblocks, segment, init] = numbers.collect::<Vec<_>>()[..] else {
                    return Err(invalid("limits that are no three numbers"));
                };
                limits.max_macroblocks = u32::try_from(macroblocks).unwrap_or(u32::MAX);
                limits.max_segment_bytes = usize::try_from(segment).unwrap_or(usize::MAX);
                limits.max_init_bytes = usize::try_from(init).unwrap_or(usize::MAX);
                decoder = Openh264Decoder::new(limits.clone());
            }
            CONFIG => config = AvcConfig::parse(&body.into()).map(Arc::new).ok(),
            UNIT => {
                let config = config.clone().ok_or_else(|| invalid("access unit without a configuration"))?;
                answer(&mut decoder, body.into(), config, &mut output)?;
                output.flush()?;
            }
            RESET => decoder.reset(),
            _ => return Err(invalid("request of an unknown kind")),
        }
    }
    Ok(())
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The kind of the next request; `None` at the end.
fn next_kind(input: &mut impl Read) -> io::Result<Option<u8>> {
    let mut kind = [0];
    Ok(match input.read(&mut kind)? {
        0 => None,
        _ => Some(u8::from_le_bytes(kind)),
    })
}

fn read_u8(input: &mut impl Read) -> io::Result<u8> {
    let mut bytes = [0];
    input.read_exact(&mut bytes)?;
    Ok(u8::from_le_bytes(bytes))
}

fn read_u32(input: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    input.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

fn write_request(output: &mut impl Write, kind: u8, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len()).map_err(|_| invalid("request that is too long"))?;
    output.write_all(&[kind])?;
    output.write_all(&length.to_le_bytes())?;
    output.write_all(body)
}

/// Decodes one access unit and writes what comes of it.
fn answer(
    decoder: &mut Openh264Decoder,
    data: Bytes,
    config: Arc<AvcConfig>,
    output: &mut impl Write,
) -> io::Result<()> {
    let mut written = Ok(());
    // Its times stay with the one who asks.
    let unit = AccessUnit::new(data, config, Pts::new(0, Timescale::SECONDS), Dts(0), 0);
    let decoded = unit.map_err(Error::from).and_then(|unit| {
        decoder.decode(&unit, &mut |picture| {
            if written.is_ok() {
                written = write_picture(output, &picture);
            }
        })
    });
    written?;
    let Err(error) = decoded else { return output.write_all(&[DONE]) };
    let kind = KINDS.iter().position(|kind| *kind == error.kind()).unwrap_or_default();
    let text = error.to_string();
    let text = text.strip_prefix(&format!("{} error: ", error.kind())).unwrap_or(&text);
    let text: String = text.chars().take(MAX_MESSAGE / 4).collect();
    output.write_all(&[FAILED, kind as u8, u8::from(error.is_unsupported())])?;
    output.write_all(&(text.len() as u32).to_le_bytes())?;
    output.write_all(text.as_bytes())
}

fn write_picture(output: &mut impl Write, picture: &Picture<'_>) -> io::Result<()> {
    let place = |index: Option<usize>| index.unwrap_or_default() as u8;
    let ColorSpace { matrix, range } = picture.color;
    let matrix = place(MATRICES.iter().position(|known| *known == matrix));
    output.write_all(&[PICTURE, matrix, place(RANGES.iter().position(|known| *known == range))])?;
    let (width, height) = picture.sample_aspect_ratio.unwrap_or_default();
    for number in [picture.width as u32, picture.height as u32, width.into(), height.into()] {
        output.write_all(&number.to_le_bytes())?;
    }
    for (plane, (width, height, stride)) in picture.planes.iter().zip(planes_of(picture)) {
        for row in plane.chunks(stride).take(height) {
            let row = row.get(..width).ok_or_else(|| invalid("plane that is too short"))?;
            output.write_all(row)?;
        }
    }
    Ok(())
}

/// Width, height and stride of the planes.
fn planes_of(picture: &Picture<'_>) -> [(usize, usize, usize); 3] {
    let chroma = (picture.width.div_ceil(2), picture.height.div_ceil(2), picture.strides[1]);
    [(picture.width, picture.height, picture.strides[0]), chroma, chroma]
}

/// Decodes in a child process, which is started with the first access unit, and anew after it ended in whatever way.
///
/// A picture goes through a pipe: that costs two copies of it.
pub struct IsolatedDecoder {
    process: DecoderProcess,
    limits: Limits,
    worker: Option<Worker>,
    /// The planes of one picture, used again for each.
    planes: Vec<u8>,
}

impl fmt::Debug for IsolatedDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IsolatedDecoder").field("process", &self.process).finish_non_exhaustive()
    }
}

impl IsolatedDecoder {
    /// A decoder whose process refuses pictures larger than the limits allow.
    #[must_use]
    pub fn new(process: DecoderProcess, limits: Limits) -> Self {
        Self { process, limits, worker: None, planes: Vec::new() }
    }
}

impl Decoder for IsolatedDecoder {
    fn decode(&mut self, unit: &AccessUnit, out: &mut dyn FnMut(Picture<'_>)) -> Result<(), Error> {
        let mut worker = match self.worker.take() {
            Some(worker) => worker,
            None => Worker::start(&self.process, &self.limits)?,
        };
        worker.watch.expect_by(Some(SystemClock.now() + self.process.timeout));
        let answered = worker.decode(unit, &self.limits, &mut self.planes, out);
        worker.watch.expect_by(None);
        match answered {
            Ok(result) => {
                self.worker = Some(worker);
                result
            }
            Err(error) => Err(worker.end(error, self.process.timeout)),
        }
    }

    fn drain(&mut self, _out: &mut dyn FnMut(Picture<'_>)) -> Result<(), Error> {
        Ok(()) // each picture left with its access unit
    }

    fn reset(&mut self) {
        if let Some(worker) = &mut self.worker
            && write_request(&mut worker.requests, RESET, &[]).is_err()
        {
            self.worker = None;
        }
    }
}

/// The process, its pipes, and a thread that kills it when it does not answer.
struct Worker {
    requests: BufWriter<ChildStdin>,
    answers: BufReader<ChildStdout>,
    watch: Arc<Watch>,
    watcher: Option<JoinHandle<()>>,
    config: Option<Arc<AvcConfig>>,
}

impl Worker {
    fn start(process: &DecoderProcess, limits: &Limits) -> Result<Self, Error> {
        let failed = |error: io::Error| {
            let what = format!("decoder process {} that cannot be started", process.program.display());
            Error::new(ErrorKind::Decoder, what).with_source(error)
        };
        let mut command = Command::new(&process.program);
        command.args(&process.args).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(failed)?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let watch = Arc::new(Watch {
            state: Mutex::new(State { child, due: None, is_late: false, is_over: false }),
            changed: Condvar::new(),
        });
        let (stdin, stdout) = pipes.ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
        let (seen, every) = (watch.clone(), (process.timeout / 4).max(Duration::from_millis(1)));
        let watcher = Builder::new().name("decoder watch".into()).spawn(move || seen.run(every)).map_err(|error| {
            watch.lock().kill();
            failed(error)
        })?;
        let requests = BufWriter::new(stdin);
        let mut worker =
            Self { requests, answers: BufReader::new(stdout), watch, watcher: Some(watcher), config: None };
        let numbers = [limits.max_macroblocks.into(), limits.max_segment_bytes as u64, limits.max_init_bytes as u64];
        let numbers: Vec<u8> = numbers.iter().flat_map(|number: &u64| number.to_le_bytes()).collect();
        match write_request(&mut worker.requests, LIMITS, &numbers) {
            Ok(()) => Ok(worker),
            Err(error) => Err(worker.end(error, process.timeout)),
        }
    }

    /// What the process answers; the outer error is one of the pipes.
    fn decode(
        &mut self,
        unit: &AccessUnit,
        limits: &Limits,
        planes: &mut Vec<u8>,
        out: &mut dyn FnMut(Picture<'_>),
    ) -> io::Result<Result<(), Error>> {
        if !self.config.as_ref().is_some_and(|known| Arc::ptr_eq(known, unit.config()) || known == unit.config()) {
            write_request(&mut self.requests, CONFIG, unit.config().record())?;
            self.config = Some(unit.config().clone());
        }
        write_request(&mut self.requests, UNIT, unit.data())?;
        self.requests.flush()?;
        for _ in 0..=MAX_PICTURES {
            match read_u8(&mut self.answers)? {
                DONE => return Ok(Ok(())),
                PICTURE => out(self.picture(unit.pts(), limits, planes)?),
                FAILED => return self.failure().map(Err),
                _ => return Err(invalid("answer of an unknown kind")),
            }
        }
        Err(invalid("more pictures than a decoder holds"))
    }

    fn picture<'a>(&mut self, pts: Pts, limits: &Limits, planes: &'a mut Vec<u8>) -> io::Result<Picture<'a>> {
        let answers = &mut self.answers;
        let matrix = MATRICES.get(usize::from(read_u8(answers)?));
        let range = RANGES.get(usize::from(read_u8(answers)?));
        let (width, height) = (read_u32(answers)? as usize, read_u32(answers)? as usize);
        let ratio = (read_u32(answers)? as u16, read_u32(answers)? as u16);
        let macroblocks = width.div_ceil(16).saturating_mul(height.div_ceil(16));
        let (Some(&matrix), Some(&range), true) =
            (matrix, range, (1..=limits.max_macroblocks as usize).contains(&macroblocks))
        else {
            return Err(invalid("picture that cannot be"));
        };
        let (chroma_width, chroma_height) = (width.div_ceil(2), height.div_ceil(2));
        planes.resize(width * height + 2 * chroma_width * chroma_height, 0);
        answers.read_exact(planes)?;
        let (luma, chroma) = planes.split_at(width * height);
        let (first, second) = chroma.split_at(chroma_width * chroma_height);
        Ok(Picture {
            planes: [luma, first, second],
            strides: [width, chroma_width],
            width,
            height,
            color: ColorSpace::new(matrix, range),
            sample_aspect_ratio: Some(ratio).filter(|(width, height)| *width > 0 && *height > 0),
            pts,
        })
    }

    fn failure(&mut self) -> io::Result<Error> {
        let kind = KINDS.get(usize::from(read_u8(&mut self.answers)?));
        let is_unsupported = read_u8(&mut self.answers)? == 1;
        let length = read_u32(&mut self.answers)? as usize;
        let kind = kind.filter(|_| length <= MAX_MESSAGE).ok_or_else(|| invalid("failure that cannot be"))?;
        let mut text = vec![0; length];
        self.answers.read_exact(&mut text)?;
        let error = Error::new(*kind, String::from_utf8_lossy(&text));
        Ok(if is_unsupported { error.unsupported() } else { error })
    }

    /// Ends the process, and says how it ended.
    fn end(mut self, error: io::Error, timeout: Duration) -> Error {
        let (status, is_late) = self.stop();
        let what = match (error.kind(), status) {
            _ if is_late => format!("decoder process that did not answer within {timeout:?}"),
            (io::ErrorKind::InvalidData, _) => format!("decoder process that gave no sensible answer: {error}"),
            (_, Some(status)) => format!("decoder process that ended with {status}"),
            _ => "decoder process that ended".into(),
        };
        Error::new(ErrorKind::Decoder, what).with_source(error)
    }

    /// How the process ended, or was ended, and whether it was for being late.
    fn stop(&mut self) -> (Option<ExitStatus>, bool) {
        let mut state = self.watch.lock();
        let mut status = state.child.try_wait().ok().flatten();
        if status.is_none() {
            // One that died by itself is given a moment, so that the signal is its own.
            let moment = Duration::from_millis(20);
            state = self.watch.changed.wait_timeout(state, moment).unwrap_or_else(PoisonError::into_inner).0;
            status = state.child.try_wait().ok().flatten();
        }
        let status = status.or_else(|| state.kill());
        let is_late = state.is_late;
        state.is_over = true;
        self.watch.changed.notify_one();
        drop(state);
        if let Some(watcher) = self.watcher.take() {
            let _ = watcher.join();
        }
        (status, is_late)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.watcher.is_some() {
            self.watch.lock().kill();
            self.stop();
        }
    }
}

/// What the watching thread shares with the decoder.
struct Watch {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    child: Child,
    /// When the answer must be there.
    due: Option<Instant>,
    is_late: bool,
    is_over: bool,
}

impl State {
    fn kill(&mut self) -> Option<ExitStatus> {
        let _ = self.child.kill();
        self.child.wait().ok()
    }
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expect_by(&self, due: Option<Instant>) {
        self.lock().due = due; // looked at when the watching thread wakes by itself: a frame must not wake it
    }

    fn run(&self, every: Duration) {
        let mut state = self.lock();
        while !state.is_over {
            if state.due.is_some_and(|due| due <= SystemClock.now()) {
                (state.is_late, state.due) = (true, None);
                state.kill();
            }
            state = self.changed.wait_timeout(state, every).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
