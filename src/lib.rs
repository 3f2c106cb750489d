//! Live camera frames from Amazon Kinesis Video Streams or any HLS/fMP4 URL, without OpenCV or libav.
//!
//! ```no_run
//! use kvs_hls::{FixedUrl, FrameSource, Output};
//!
//! # fn infer(_: &[u8], _: usize, _: usize, _: std::time::SystemTime) {}
//! # async fn example() -> Result<(), kvs_hls::Error> {
//! let camera = FixedUrl::new("https://example.com/live.m3u8")?; // or KinesisSession::live("my-stream")
//! let source = FrameSource::builder("front-door", camera).output(Output::bgr()).build()?;
//! let mut frames = source.start()?;
//! while let Some(frame) = frames.next().await {
//!     let frame = frame?; // an error is fatal: everything else was recovered from
//!     infer(frame.data(), frame.width(), frame.height(), frame.captured_at());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # How it works
//!
//! Data flows one way, without returning:
//!
//! ```text
//! SessionProvider -> master -> media playlist -> segments -> access units -> pictures -> frames -> you
//!      session          hls        (tracker)        net          fmp4         decode       source
//! ```
//!
//! A source has two threads of its own: `source NAME` asks the server and demuxes, `decode0 NAME` decodes and converts; a
//! finished playlist is decoded on as many threads as [`decode_ahead`](FrameSourceBuilder::decode_ahead) says. The cameras of
//! a [`Fleet`] share theirs.
//! No async runtime is needed; [`Frames`] is a `futures::Stream`, and an iterator by [`Frames::blocking`].
//!
//! # Latency and back-pressure
//!
//! A live source begins with the newest listed segment, so the first frame is about as old as a segment is long, plus the
//! server's delay and up to one reload interval. A segment is listed when it is complete, hence frames come in bursts; over
//! a slow network they come while the segment is still being loaded, each as soon as its last byte is there. A few decoded
//! frames wait for the consumer; when they are not taken, the decoder rests, then the downloads. What happens after that is the
//! choice of [`Delivery`]. [`Pacing::ByTime`] hands frames out in the rhythm of their capture instead.
//!
//! A finished playlist is downloaded ahead of the decoder ([`Limits::max_ahead_bytes`]), cut before its IDR pictures and
//! decoded on several threads; frames come out in order, and are the same. What is not wanted
//! ([`FrameSelection`]) is decoded only if a wanted frame needs it: with `Keyframes` IDR pictures alone, with `TargetFps`
//! nothing behind the last wanted frame before an IDR picture.
//!
//! # Sessions
//!
//! A session of Kinesis Video Streams lasts up to twelve hours. Before it expires the next one is opened and read beside it;
//! fragments are matched by number or programme time, so that none is lost and none comes twice. A session that is refused is
//! opened anew, with growing delays; a camera that sends nothing is waited for. [`Config`] has the numbers,
//! [`ConnectionState`] and [`Stats`] tell where a source stands, and [`FrameSource::refresh`] and
//! [`FrameSource::reconnect`] do by hand what happens by itself.
//!
//! # Loss
//!
//! Nothing is lost in silence: [`FrameMeta::gap_before`] says what is missing before a frame and why, and counters tell
//! the same. After a loss, output resumes at an IDR picture: nothing damaged is delivered as good.
//!
//! # Recovery
//!
//! | stage | sign | recovery |
//! | --- | --- | --- |
//! | open session | 404 "No fragments found" | the camera is silent: it is waited for |
//! | open session | 400 ClientLimitExceeded, 408, 410, 429, 5xx, I/O | retry with backoff |
//! | open session | stream unknown, no credentials, 401, 403 (after one refresh of the credentials), any other 400 | fatal |
//! | open session, while the present one still works | anything | retry with backoff; the present one is read on |
//! | playlist, init, segment | 401, 403 | refresh the session |
//! | playlist | 404, 410 | refresh the session |
//! | init, segment | 404, 410, 416, too large, damaged container or bitstream | skip the segment, resume at an IDR |
//! | playlist | unchanged for 3.5 target durations | refresh the session; the camera is waited for |
//! | playlist, init, segment | timeout, 400, 408, 429, 5xx, broken connection, damaged playlist | retry four times, then with backoff; a segment that fails while all else works is skipped |
//! | decoder | error on an access unit; with `isolate`, a process that crashed or does not answer for 10 s | reset the decoder, resume at an IDR |
//! | any | unsupported: HEVC, encryption, MPEG-TS, interlaced, 10 bit, picture too large | fatal; in segments, after the first frame, as damage |
//! | any | `max_consecutive_errors` in a row without a frame | fatal |
//!
//! [`Error::recovery`] says the same of one error; those that come out of [`Frames`] are fatal. [`Config`] has the delays, and
//! [`Limits`] the time that requests may take.
//!
//! # Size
//!
//! [`Output::fit`], [`Output::exact`] and [`Output::letterbox`] scale pictures before their colours are converted, which
//! costs less than a conversion in full size. Shrinking averages areas. [`Output::placement`] leads boxes that a detector
//! finds in a frame back to the picture.
//!
//! # Limits
//!
//! H.264 only: progressive, 8 bits, 4:2:0 or monochrome, Baseline, Main or High profile, in fragmented MP4. MPEG-TS,
//! encryption, HEVC and interlaced video are refused by name. [`Limits`] bounds all that input may make the engine do.
//!
//! # Logs
//!
//! Events go to [`tracing`], within the spans `camera{id}` (level error, so that each line has its camera whatever the filter),
//! `session{generation}` (info) and `segment{sequence, number}` (debug), which lasts from the request to the last picture. A
//! decoder of your own logs in its segment's span. None of them holds a URL's query.
//!
//! # Features
//!
//! | feature | adds |
//! | --- | --- |
//! | `kvs` (default) | `KinesisSession`: sessions of Kinesis Video Streams through the AWS SDK. The SDK's own minimum Rust version counts for it: older compilers get older SDKs |
//! | `sim` | the module `sim`: a simulated camera for tests without AWS |
//! | `serde` | options ([`Config`], [`Limits`], [`Size`], [`Delivery`] and all others that are text) to read and write, [`Stats`] and [`Gap`] to write |
//! | `image` | `Frame::to_image`: a frame as an `image::DynamicImage`; file formats are that crate's own features |
//! | `ndarray` | `Frame::view`: a frame as an `ndarray::ArrayView3`, without a copy |
//! | `cli` | the program `kvs-hls`; implies `kvs` and `sim` |
//! | `nats` | `kvs-hls … --out nats://HOST/SUBJECT`: frames published to NATS JetStream; implies `cli` |
//!
//! # Words
//!
//! *Segment*: an HLS media segment. *Fragment*: one `moof` with its `mdat`. *Fragment number*: the number that KVS gives a
//! segment. *Sample*: ISO 14496-12. *Access unit*: one coded picture. *Picture*: what the decoder makes of it. *Frame*: what
//! you get. *Session*: one streaming session, a URL that expires. *Lane*: a camera's ordered place among the decoding threads.

// What the library holds to and programs, tests and benches need not: it answers with errors instead of panics, waits and
// reads time through the `Clock`, names its threads and bounds its queues (`clippy.toml` lists the methods).
#![warn(
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used
)]
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod backoff;
mod clock;
pub mod decode;
mod error;
mod fleet;
pub mod fmp4;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod gap;
pub mod h264;
pub mod hls;
mod limits;
mod metrics;
pub mod net;
mod options;
mod secret;
mod session;
#[cfg(feature = "sim")]
pub mod sim;
mod source;
mod sync;
mod time;

pub use backoff::Backoff;
pub use clock::{Clock, SystemClock};
#[cfg(unix)]
pub use decode::DecoderProcess;
pub use decode::{ColorMatrix, ColorRange, Decoder, FrameSelection, Output, PixelFormat, Placement, Size};
pub use error::{Error, ErrorKind, Recovery, Stage};
pub use fleet::Fleet;
pub use gap::{Gap, GapCause};
pub use hls::{FragmentNumber, LiveEdge, ReloadPolicy, VariantCaps, VariantChoice};
pub use limits::Limits;
pub use net::HostPolicy;
pub use options::DiscontinuityMode;
pub use secret::SecretUrl;
pub use session::{FixedUrl, Page, Session, SessionProvider, SessionRequest, Shared, TimeOrigin};
#[cfg(feature = "kvs")]
pub use session::{FragmentSelector, KinesisSession, Playback};
pub use source::{
    BlockingFrames, Config, ConnectionState, Delivery, Frame, FrameMeta, FrameSource, FrameSourceBuilder, Frames,
    GapFill, Pacing, Stats,
};
pub use time::{Dts, Pts, Timescale};

// What appears in this crate's own signatures, in the version that it means.
#[cfg(feature = "image")]
pub use image;
#[cfg(feature = "ndarray")]
pub use ndarray;
pub use prometheus;

/// The README's examples compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../docs/migrating.md")]
struct Migrating;
