//! Live camera frames from Amazon Kinesis Video Streams or any HLS/fMP4 URL.

#![deny(missing_docs)]

mod backoff;
mod clock;
pub mod decode;
mod error;
pub mod fmp4;
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
