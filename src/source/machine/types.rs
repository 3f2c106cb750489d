//! What goes into the machine and what comes out.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::adaptation::Download;
use crate::error::{Error, Recovery};
use crate::gap::Gap;
use crate::hls::{InitRef, LiveEdge, Playlist, ReloadPolicy, Segment, VariantCaps, VariantChoice};
use crate::secret::SecretUrl;
use crate::session::{Session, TimeOrigin};
use crate::source::options::{Config, Delivery};

/// Where a source stands. The numbers are those that users already chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectionState {
    /// Not started, or stopped.
    Disconnected = 0,
    /// Started; no frame has come yet.
    Connecting = 1,
    /// Frames come.
    Connected = 2,
    /// Frames came, and something is in the way of more.
    Reconnecting = 3,
    /// Given up: the last error tells why.
    Error = 4,
}

impl std::fmt::Display for ConnectionState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Disconnected => "disconnected",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Reconnecting => "reconnecting",
            Self::Error => "error",
        })
    }
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Input {
    /// Time passed; also the first input.
    Tick,
    /// An answer to [`Action::OpenSession`].
    Opened(Result<Session, Error>),
    /// An answer to [`Action::LoadPlaylist`], parsed.
    Playlist { generation: u32, requested_at: Instant, result: Result<Playlist, Error> },
    /// An answer to [`Action::LoadInit`]: it was parsed and holds from now on.
    Init(Result<(), Error>),
    /// An answer to [`Action::LoadSegment`]. What was demuxed before an error went to the lane, where anything was, and
    /// [`Input::SegmentDecoded`] will follow: a segment that is loaded again after that counts as another one there.
    Segment { result: Result<(), Error>, is_in_lane: bool, download: Option<Download> },
    /// The lane is through with a segment.
    SegmentDecoded,
    /// The lane met an error, and waits for an IDR picture.
    DecodeFailed(Error),
    /// A frame reached the consumer's queue.
    Frame,
    /// An answer to [`Action::Drain`].
    Drained,
    /// The user wants the session replaced now.
    Refresh,
    /// The user wants the connection given up and made anew.
    Reconnect,
}

/// What is to be done. At most one session, one playlist of each session and one of init and segment are under way at a
/// time.
#[derive(Debug)]
pub(crate) enum Action {
    /// `resume_from` is the start of the first segment that is still wanted.
    OpenSession {
        resume_from: Option<SystemTime>,
    },
    LoadPlaylist {
        url: SecretUrl,
        generation: u32,
    },
    LoadInit(Arc<InitRef>),
    /// One that may be given up is not decoded before all of it has come.
    LoadSegment {
        segment: Segment,
        generation: u32,
        may_be_abandoned: bool,
    },
    /// Give up the segment that is being loaded: it will be loaded from elsewhere.
    AbandonSegment,
    /// Tell the lane that something is missing here.
    Break(Gap),
    /// Tell the lane that nothing more comes.
    Drain,
    /// The playlist is complete: the lane may decode several segments at once.
    DecodeAhead,
    State(ConnectionState),
    /// A failure that the machine recovers from, for the log and the counters, and when it is tried again.
    Recovering {
        error: Error,
        recovery: Recovery,
        retry_in: Option<Duration>,
    },
    /// The next session could not be had or does not work. The present one is read on, and another is opened then.
    RefreshFailed {
        error: Error,
        retry_in: Duration,
    },
    /// The camera is silent, and asked again then. That is no failure.
    Waiting {
        error: Error,
        retry_in: Duration,
    },
    /// Since when the camera is silent, when that changes; `None` once it sends again.
    Silent(Option<Instant>),
    /// A session is read from now on. `is_refresh`: it took the place of one that still worked.
    Began {
        generation: u32,
        time_origin: TimeOrigin,
        is_refresh: bool,
    },
    /// Another variant is read from now on.
    Switched {
        bandwidth: Option<u64>,
    },
    /// The end: all is delivered, or the error cannot be recovered from.
    Stop(Result<(), Error>),
}

/// The choices that the machine depends on.
#[derive(Clone, Debug)]
pub(crate) struct MachineOptions {
    pub(crate) config: Config,
    pub(crate) delivery: Delivery,
    pub(crate) live_edge: LiveEdge,
    /// `None` for what the session says, else the specification.
    pub(crate) reload: Option<ReloadPolicy>,
    pub(crate) caps: VariantCaps,
    pub(crate) variant: VariantChoice,
    /// Bytes in the lane up to which the next segment of a complete playlist is loaded.
    pub(crate) max_ahead_bytes: usize,
    /// Whether the provider gives a new session each time.
    pub(crate) is_renewable: bool,
}

/// The moment of an input: both clocks, and a number in `0.0..1.0` drawn for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now: Instant,
    pub(crate) wall: SystemTime,
    pub(crate) chance: f64,
}
