//! Live camera frames from Amazon Kinesis Video Streams or any HLS/fMP4 URL.

#![deny(missing_docs)]

mod backoff;
mod clock;
mod error;
pub mod fmp4;
pub mod h264;
pub mod hls;
mod limits;
mod secret;
#[cfg(feature = "sim")]
pub mod sim;
mod time;

pub use backoff::Backoff;
pub use clock::{Clock, SystemClock};
pub use error::{Error, ErrorKind, Recovery, Stage};
pub use limits::Limits;
pub use secret::SecretUrl;
pub use time::{Dts, Pts, Timescale};
