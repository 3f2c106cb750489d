//! A camera that is not there: a small HLS server in the shape of Kinesis Video Streams.
//!
//! [`SimulatedCamera`] loops a recording in real time and serves it the way the archived media endpoint of Kinesis Video
//! Streams does: session tokens in every URL, a sliding window of one-second fragments, programme times, discontinuity
//! tags in front of every segment, init and media fragments as fMP4. Nobody offers such a server to test a player
//! against; this one needs no account and no network.
//!
//! ```no_run
//! use kvs_hls::sim::SimulatedCamera;
//!
//! # async fn example() -> Result<(), kvs_hls::Error> {
//! let camera = SimulatedCamera::builder().start().await?;
//! println!("open this in a player: {}", camera.url().expose());
//! // … play …
//! assert!(camera.requests().fragment > 0);
//! camera.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! What stands where, from the inside out; all but the last are free of clocks and I/O:
//!
//! | type | what it knows |
//! | --- | --- |
//! | [`Recording`] | the samples of an MP4 file, cut into fragments at IDR pictures |
//! | [`Timeline`] | which fragment of the endless loop exists when, its number, its capture time |
//! | [`SessionOptions`] | what one session lists, and how |
//! | [`SimulatedCamera`] | sockets, sessions, the clock |
//!
//! **Which frame is which.** Frame `n` of the stream, counted in display order from the first fragment, is frame
//! `n % recording.samples()` of the recording and was captured at [`Timeline::capture_time`]`(n)`. In [`Recording::demo`]
//! that number is painted into the picture: 16 blocks of 16 x 16 pixels from the top left, block `i` white when bit `i`
//! is set, and under them a row of the inverse.
//!
//! **What is not imitated**: audio, rate limits, the end of a session after its time, MPEG-TS. What Kinesis Video
//! Streams does with a fragment that has slid out of the window is not known; here it stays available as long as its
//! session.

mod endpoints;
mod mux;
mod playlist;
mod recording;
mod samples;
mod server;
mod session;
mod timeline;

pub use endpoints::Requests;
pub use recording::Recording;
pub use server::{SimulatedCamera, SimulatedCameraBuilder};
pub use session::{DiscontinuityMode, FragmentNumbers, Playback, SessionOptions};
pub use timeline::{FragmentTime, Timeline};
