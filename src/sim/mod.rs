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
//! | [`FaultScript`] | what goes wrong, and when |
//! | [`SimulatedCamera`] | sockets, sessions, the clock |
//!
//! **Which frame is which.** Frame `n` of the stream, counted in display order from the first fragment, is frame
//! `n % recording.samples()` of the recording and was captured at [`Timeline::capture_time`]`(n)`. In [`Recording::demo`]
//! that number is painted into the picture: 16 blocks of 16 x 16 pixels from the top left, block `i` white when bit `i`
//! is set, and under them a row of the inverse.
//!
//! **The session API.** `GetDataEndpoint` and `GetHLSStreamingSessionURL` are answered at
//! [`SimulatedCamera::endpoint_url`], for the stream [`SimulatedCamera::stream_name`] in `us-east-1`. Parameters are
//! checked as Kinesis Video Streams documents them. A request needs an Authorization header, whatever stands in it.
//!
//! **What goes wrong** is a [`FaultScript`] given to the [builder](SimulatedCameraBuilder::faults), or a [`Fault`]
//! [injected](SimulatedCamera::inject) into the running camera, on the camera's clock. Faults do not leave the truth
//! behind: the [`Timeline`] knows silences, jitter and skew, says by [`Timeline::availability`] which fragments nobody could
//! get whole and by [`Timeline::frames`] which frames these are, and [`SimulatedCamera::fault_events`] lists the answers that
//! were touched.
//!
//! **What is not imitated**: audio, rate limits, signatures (SigV4), MPEG-TS, two clocks (server and producer timestamps
//! are the same). A server that is gone still completes the TCP handshake before it resets. What Kinesis Video Streams
//! does in these cases is not known, so the choice here is a guess:
//! - a fragment that has slid out of the window stays available as long as its session;
//! - a live session whose stream was silent for 30 s answers 404 from then on, even when the camera is back;
//! - a replay begins with one fragment, and has an EXT-X-ENDLIST once the one at its end is listed;
//! - the number of an init fragment counts the changes of the recording since the camera's start, in all sessions.

mod api;
mod body;
mod camera;
mod changes;
mod connection;
mod endpoints;
mod faults;
mod mux;
mod playlist;
mod recording;
mod refusal;
mod samples;
mod server;
mod session;
mod timeline;

pub use crate::options::DiscontinuityMode;
pub use camera::FaultEvent;
pub use changes::Availability;
pub use endpoints::{Endpoint, Requests};
pub use faults::{Fault, FaultScript, ScheduledFault, Target};
pub use recording::Recording;
pub use server::{SimulatedCamera, SimulatedCameraBuilder};
pub use session::{FragmentNumbers, Playback, SessionOptions};
pub use timeline::{FragmentTime, Timeline};
