//! What is answered to whom: endpoints, sessions, refusals.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;

use super::session::{Session, random_token};
use super::{SessionOptions, Timeline, mux, playlist};
use crate::clock::Clock;
use crate::error::Error;

/// Open sessions; one more closes the oldest.
const MAX_SESSIONS: usize = 1000;

/// How many requests came in, by endpoint; refused ones are counted there too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Requests {
    /// For the multivariant playlist.
    pub master_playlist: u64,
    /// For the media playlist.
    pub media_playlist: u64,
    /// For the init fragment.
    pub init: u64,
    /// For media fragments.
    pub fragment: u64,
    /// Answered with an error status, whatever the endpoint.
    pub refused: u64,
}

/// What a client can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    MasterPlaylist,
    MediaPlaylist,
    InitFragment,
    MediaFragment,
}

impl Endpoint {
    const ALL: [Self; 4] = [Self::MasterPlaylist, Self::MediaPlaylist, Self::InitFragment, Self::MediaFragment];

    pub(super) fn path(self) -> &'static str {
        match self {
            Self::MasterPlaylist => "/hls/v1/getHLSMasterPlaylist.m3u8",
            Self::MediaPlaylist => "/hls/v1/getHLSMediaPlaylist.m3u8",
            Self::InitFragment => "/hls/v1/getMP4InitFragment.mp4",
            Self::MediaFragment => "/hls/v1/getMP4MediaFragment.mp4",
        }
    }
}

type Parameters = HashMap<String, String>;

pub(super) fn router(camera: Arc<Camera>) -> Router {
    let mut router = Router::new();
    for endpoint in Endpoint::ALL {
        let handler = move |State(camera): State<Arc<Camera>>, Query(parameters): Query<Parameters>| async move {
            camera.respond(endpoint, &parameters)
        };
        router = router.route(endpoint.path(), get(handler));
    }
    router.with_state(camera)
}

/// What the handlers share.
pub(super) struct Camera {
    timeline: Timeline,
    init: Bytes,
    epoch_decode_times: bool,
    /// How much had been filmed at the start.
    lead: Duration,
    speed: u32,
    started: Instant,
    clock: Arc<dyn Clock>,
    sessions: Mutex<VecDeque<Session>>,
    counters: Counters,
}

/// Without sessions: their tokens are secrets.
impl fmt::Debug for Camera {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Camera").field("lead", &self.lead).field("speed", &self.speed).finish_non_exhaustive()
    }
}

impl Camera {
    pub(super) fn new(
        timeline: Timeline,
        init: Bytes,
        epoch_decode_times: bool,
        lead: Duration,
        speed: u32,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let started = clock.now();
        let (sessions, counters) = Default::default();
        Self { timeline, init, epoch_decode_times, lead, speed, started, clock, sessions, counters }
    }

    pub(super) fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    pub(super) fn requests(&self) -> Requests {
        self.counters.snapshot()
    }

    pub(super) fn published(&self) -> u64 {
        let running = self.clock.now().saturating_duration_since(self.started);
        self.timeline.published(self.lead.saturating_add(running.saturating_mul(self.speed)))
    }

    fn sessions(&self) -> MutexGuard<'_, VecDeque<Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open_session(&self, options: SessionOptions) -> String {
        let token = random_token(&mut fastrand::Rng::new());
        let session = Session::open(token.clone(), options, self.published());
        let mut sessions = self.sessions();
        if sessions.len() >= MAX_SESSIONS {
            sessions.pop_front();
        }
        sessions.push_back(session);
        token
    }

    /// Every answer passes here.
    fn respond(&self, endpoint: Endpoint, parameters: &Parameters) -> Response {
        self.counters.of(endpoint).fetch_add(1, Ordering::Relaxed);
        self.answer(endpoint, parameters).unwrap_or_else(|refusal| {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            refusal.into_response()
        })
    }

    fn answer(&self, endpoint: Endpoint, parameters: &Parameters) -> Result<Response, Refusal> {
        let parameter = |name| parameters.get(name).map(String::as_str);
        let token = parameter("SessionToken").ok_or(Refusal::TokenMissing)?;
        let session = self.sessions().iter().find(|session| session.token() == token).cloned();
        let session = session.ok_or(Refusal::TokenRefused)?;
        if endpoint != Endpoint::MasterPlaylist {
            let track = parameter("TrackNumber").and_then(|track| track.parse().ok());
            if track != Some(mux::TRACK_ID) {
                return Err(Refusal::TrackUnknown);
            }
        }
        let timeline = &self.timeline;
        let published = self.published();
        Ok(match endpoint {
            Endpoint::MasterPlaylist => playlist_answer(playlist::master(timeline.recording(), token)),
            Endpoint::MediaPlaylist => {
                playlist_answer(playlist::media(&session, timeline, published).ok_or(Refusal::NothingToList)?)
            }
            Endpoint::InitFragment => mp4_answer(self.init.clone()),
            Endpoint::MediaFragment => {
                let number = parameter("FragmentNumber").ok_or(Refusal::FragmentNumberMissing)?;
                let index = session.find(timeline, number, published).ok_or(Refusal::FragmentUnknown)?;
                mp4_answer(self.fragment(index).map_err(|_| Refusal::Internal)?)
            }
        })
    }

    fn fragment(&self, index: u64) -> Result<Bytes, Error> {
        let recording = self.timeline.recording();
        let (_, cut) = recording.cut(index);
        let epoch = if self.epoch_decode_times { self.timeline.epoch_ticks() } else { 0 };
        let decode_time = epoch.saturating_add(self.timeline.fragment(index).decode_time);
        // Sequence numbers count from 1, and have 32 bits whatever the index.
        mux::media(recording.samples_of(cut), (index as u32).wrapping_add(1), decode_time)
    }
}

fn playlist_answer(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/x-mpegURL"), (header::CACHE_CONTROL, "no-cache")], text).into_response()
}

fn mp4_answer(body: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "video/mp4")], body).into_response()
}

/// Why a request is answered with an error status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    TokenMissing,
    TokenRefused,
    TrackUnknown,
    FragmentNumberMissing,
    FragmentUnknown,
    NothingToList,
    Internal,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, name, message) = match self {
            Self::TokenMissing => {
                (StatusCode::FORBIDDEN, "NotAuthorizedException", "Streaming session token is missing")
            }
            // The text that was seen in the field. A server that has forgotten a token cannot tell old from forged.
            Self::TokenRefused => {
                (StatusCode::FORBIDDEN, "NotAuthorizedException", "Streaming session token is expired")
            }
            Self::TrackUnknown => {
                (StatusCode::BAD_REQUEST, "InvalidArgumentException", "TrackNumber is missing or invalid")
            }
            Self::FragmentNumberMissing => {
                (StatusCode::BAD_REQUEST, "InvalidArgumentException", "FragmentNumber is missing")
            }
            Self::FragmentUnknown => {
                (StatusCode::NOT_FOUND, "ResourceNotFoundException", "The requested fragment was not found")
            }
            Self::NothingToList => {
                let message = "No fragments found in the stream for the streaming request.";
                (StatusCode::NOT_FOUND, "ResourceNotFoundException", message)
            }
            Self::Internal => {
                (StatusCode::INTERNAL_SERVER_ERROR, "InternalFailure", "The fragment could not be written")
            }
        };
        let request_id = format!("{:032x}", fastrand::u128(..));
        (status, [("x-amz-ErrorType", name), ("x-amz-RequestId", request_id.as_str())], message).into_response()
    }
}

#[derive(Debug, Default)]
struct Counters {
    master_playlist: AtomicU64,
    media_playlist: AtomicU64,
    init: AtomicU64,
    fragment: AtomicU64,
    refused: AtomicU64,
}

impl Counters {
    fn of(&self, endpoint: Endpoint) -> &AtomicU64 {
        match endpoint {
            Endpoint::MasterPlaylist => &self.master_playlist,
            Endpoint::MediaPlaylist => &self.media_playlist,
            Endpoint::InitFragment => &self.init,
            Endpoint::MediaFragment => &self.fragment,
        }
    }

    fn snapshot(&self) -> Requests {
        Requests {
            master_playlist: self.master_playlist.load(Ordering::Relaxed),
            media_playlist: self.media_playlist.load(Ordering::Relaxed),
            init: self.init.load(Ordering::Relaxed),
            fragment: self.fragment.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}
