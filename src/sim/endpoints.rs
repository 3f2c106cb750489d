//! What is answered to whom: routes, and the faults on the way out.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;

use super::body::FaultyBody;
use super::camera::{Camera, Now};
use super::connection::ResetSwitch;
use super::faults::{Fault, Target};
use super::refusal::Refusal;
use super::{api, mux, playlist};

/// How many requests came in, by endpoint; refused ones are counted there too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Requests {
    /// Of `GetDataEndpoint`.
    pub data_endpoint: u64,
    /// Of `GetHLSStreamingSessionURL`.
    pub session_url: u64,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Endpoint {
    /// `GetDataEndpoint`.
    DataEndpoint,
    /// `GetHLSStreamingSessionURL`.
    SessionUrl,
    /// The multivariant playlist.
    MasterPlaylist,
    /// The media playlist.
    MediaPlaylist,
    /// An init fragment.
    InitFragment,
    /// A media fragment.
    MediaFragment,
}

impl Endpoint {
    const GETS: [Self; 4] = [Self::MasterPlaylist, Self::MediaPlaylist, Self::InitFragment, Self::MediaFragment];

    pub(super) fn path(self) -> &'static str {
        match self {
            Self::DataEndpoint => "/getDataEndpoint",
            Self::SessionUrl => "/getHLSStreamingSessionURL",
            Self::MasterPlaylist => "/hls/v1/getHLSMasterPlaylist.m3u8",
            Self::MediaPlaylist => "/hls/v1/getHLSMediaPlaylist.m3u8",
            Self::InitFragment => "/hls/v1/getMP4InitFragment.mp4",
            Self::MediaFragment => "/hls/v1/getMP4MediaFragment.mp4",
        }
    }

    pub(super) fn is_api(self) -> bool {
        matches!(self, Self::DataEndpoint | Self::SessionUrl)
    }

    fn is_in(self, target: Target) -> bool {
        let own = match self {
            Self::DataEndpoint | Self::SessionUrl => Target::Sessions,
            Self::MasterPlaylist | Self::MediaPlaylist => Target::Playlists,
            Self::InitFragment => Target::Init,
            Self::MediaFragment => Target::Fragments,
        };
        target == Target::All || target == own
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::DataEndpoint | Self::SessionUrl => "application/json",
            Self::MasterPlaylist | Self::MediaPlaylist => "application/x-mpegURL",
            Self::InitFragment | Self::MediaFragment => "video/mp4",
        }
    }
}

/// The query of a URL.
pub(super) type Parameters = HashMap<String, String>;

pub(super) fn router(camera: Arc<Camera>) -> Router {
    let mut router = Router::new();
    for endpoint in Endpoint::GETS {
        let handler = move |State(camera): State<Arc<Camera>>,
                            ConnectInfo(reset): ConnectInfo<ResetSwitch>,
                            Query(parameters): Query<Parameters>| async move {
            let number = parameters.get("FragmentNumber");
            let fragment = number.and_then(|number| camera.timeline().find(number));
            respond(&camera, endpoint, fragment, reset, |now| hls(&camera, endpoint, &parameters, now))
        };
        router = router.route(endpoint.path(), get(handler));
    }
    for endpoint in [Endpoint::DataEndpoint, Endpoint::SessionUrl] {
        let handler = move |State(camera): State<Arc<Camera>>,
                            ConnectInfo(reset): ConnectInfo<ResetSwitch>,
                            headers: HeaderMap,
                            body: Bytes| async move {
            respond(&camera, endpoint, None, reset, |now| api::answer(&camera, endpoint, &headers, &body, now))
        };
        router = router.route(endpoint.path(), post(handler));
    }
    router.with_state(camera)
}

/// Every answer passes here. The fragment is known only where numbers are the stream's own.
fn respond(
    camera: &Camera,
    endpoint: Endpoint,
    fragment: Option<u64>,
    reset: ResetSwitch,
    answer: impl FnOnce(Now) -> Result<Bytes, Refusal>,
) -> Response {
    camera.counters.of(endpoint).fetch_add(1, Ordering::Relaxed);
    let now = camera.now();
    let mut faults = camera.active_faults(now);
    faults.retain(|scheduled| scheduled.fault.target().is_some_and(|target| endpoint.is_in(target)));
    let status = faults.iter().find_map(|scheduled| match scheduled.fault {
        Fault::Status { status, .. } => Some((status, scheduled.fault)),
        _ => None,
    });
    let answer = match status {
        Some((status, fault)) => {
            camera.log(now, fault, fragment, Some(endpoint));
            Err(Refusal::of_status(status))
        }
        None => answer(now),
    };
    let body = match answer {
        Ok(body) => body,
        Err(refusal) => {
            camera.counters.refused.fetch_add(1, Ordering::Relaxed);
            return refusal.into_response(endpoint);
        }
    };
    // A body that comes in parts would be sent in chunks, which tell the client that one is missing.
    let headers = [
        (header::CONTENT_TYPE, endpoint.content_type().to_owned()),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (header::CONTENT_LENGTH, body.len().to_string()),
    ];
    for scheduled in faults {
        let rest = scheduled.until().saturating_sub(now.running);
        if let Some(faulty) = FaultyBody::new(&scheduled.fault, &body, rest, camera.clock(), reset.clone()) {
            camera.log(now, scheduled.fault, fragment, Some(endpoint));
            return (headers, Body::from_stream(faulty)).into_response();
        }
    }
    (headers, body).into_response()
}

/// The answers to players.
fn hls(camera: &Camera, endpoint: Endpoint, parameters: &Parameters, now: Now) -> Result<Bytes, Refusal> {
    let parameter = |name| parameters.get(name).map(String::as_str);
    let token = parameter("SessionToken").ok_or(Refusal::TOKEN_MISSING)?;
    let session = camera.use_session(token, endpoint, now)?;
    if endpoint != Endpoint::MasterPlaylist {
        let track = parameter("TrackNumber").and_then(|track| track.parse().ok());
        if track != Some(mux::TRACK_ID) {
            return Err(Refusal::invalid("TrackNumber is missing or invalid"));
        }
    }
    let timeline = camera.timeline();
    match endpoint {
        Endpoint::MasterPlaylist => {
            let newest = session.listed(timeline, now.moment).last().copied().unwrap_or_default();
            let recording = camera.recording(timeline.init_sequence(newest));
            Ok(playlist::master(recording, token).into())
        }
        Endpoint::MediaPlaylist => {
            let moment = camera.moment_of_playlists(now);
            playlist::media(&session, timeline, moment).map(Bytes::from).ok_or(Refusal::NOTHING_TO_LIST)
        }
        Endpoint::InitFragment => {
            // URLs of 2019 and 2022 had no number.
            let sequence = parameter("SequenceNumber").map_or(Ok(0), str::parse);
            let newest = now.moment.published.saturating_sub(1);
            let known = sequence.ok().filter(|&sequence| sequence <= timeline.init_sequence(newest));
            known.map(|sequence| camera.init(sequence)).ok_or(Refusal::FRAGMENT_UNKNOWN)
        }
        Endpoint::MediaFragment => {
            let number = parameter("FragmentNumber").ok_or_else(|| Refusal::invalid("FragmentNumber is missing"))?;
            let index = session.find(timeline, number, now.moment).ok_or(Refusal::FRAGMENT_UNKNOWN)?;
            if let Some(fault) = timeline.spoiled_by(index) {
                camera.log(now, fault, Some(index), Some(endpoint));
                if let Fault::Missing { .. } = fault {
                    return Err(Refusal::FRAGMENT_UNKNOWN);
                }
            }
            camera.fragment(index).map_err(|_| Refusal::INTERNAL)
        }
        Endpoint::DataEndpoint | Endpoint::SessionUrl => Err(Refusal::INTERNAL),
    }
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    data_endpoint: AtomicU64,
    session_url: AtomicU64,
    master_playlist: AtomicU64,
    media_playlist: AtomicU64,
    init: AtomicU64,
    fragment: AtomicU64,
    refused: AtomicU64,
}

impl Counters {
    fn of(&self, endpoint: Endpoint) -> &AtomicU64 {
        match endpoint {
            Endpoint::DataEndpoint => &self.data_endpoint,
            Endpoint::SessionUrl => &self.session_url,
            Endpoint::MasterPlaylist => &self.master_playlist,
            Endpoint::MediaPlaylist => &self.media_playlist,
            Endpoint::InitFragment => &self.init,
            Endpoint::MediaFragment => &self.fragment,
        }
    }

    pub(super) fn snapshot(&self) -> Requests {
        Requests {
            data_endpoint: self.data_endpoint.load(Ordering::Relaxed),
            session_url: self.session_url.load(Ordering::Relaxed),
            master_playlist: self.master_playlist.load(Ordering::Relaxed),
            media_playlist: self.media_playlist.load(Ordering::Relaxed),
            init: self.init.load(Ordering::Relaxed),
            fragment: self.fragment.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}
