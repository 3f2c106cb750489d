//! Live camera frames from Amazon Kinesis Video Streams or any HLS/fMP4 URL.

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
mod time;

pub use backoff::Backoff;
pub use clock::{Clock, SystemClock};
pub use decode::{ColorMatrix, ColorRange, Decoder, FrameSelection, Output, PixelFormat};
pub use error::{Error, ErrorKind, Recovery, Stage};
pub use gap::{Gap, GapCause};
pub use limits::Limits;
pub use secret::SecretUrl;
pub use session::{FixedUrl, Session, SessionProvider, TimeOrigin};
pub use source::{
    BlockingFrames, Config, ConnectionState, Delivery, Frame, FrameMeta, FrameSource, FrameSourceBuilder, Frames,
    Pacing, Stats,
};
pub use time::{Dts, Pts, Timescale};
