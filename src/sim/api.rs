//! The two calls that open a session, checked as the service documents them. A request must have an Authorization header;
//! what stands in it is not looked at.

use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::camera::{Camera, Now};
use super::endpoints::Endpoint;
use super::refusal::Refusal;
use super::{DiscontinuityMode, Playback, SessionOptions};

const API_NAMES: &[&str] = &[
    "PUT_MEDIA",
    "GET_MEDIA",
    "LIST_FRAGMENTS",
    "GET_MEDIA_FOR_FRAGMENT_LIST",
    "GET_HLS_STREAMING_SESSION_URL",
    "GET_DASH_STREAMING_SESSION_URL",
    "GET_CLIP",
    "GET_IMAGES",
];
/// Seconds of `Expires`.
const EXPIRES: std::ops::RangeInclusive<u64> = 300..=43_200;
const DEFAULT_EXPIRES: u64 = 300;
/// Fragments of `MaxMediaPlaylistFragmentResults`.
const RESULTS: std::ops::RangeInclusive<u64> = 1..=5_000;
const MAX_RANGE: Duration = Duration::from_secs(24 * 3600);

type Object = Map<String, Value>;

pub(super) fn answer(
    camera: &Camera,
    endpoint: Endpoint,
    headers: &HeaderMap,
    body: &[u8],
    now: Now,
) -> Result<Bytes, Refusal> {
    if !headers.contains_key(header::AUTHORIZATION) {
        return Err(Refusal::ANONYMOUS);
    }
    let request: Object = serde_json::from_slice(body).map_err(|_| Refusal::invalid("The body is no JSON object"))?;
    // Where the client found us: behind a bind to all addresses, only the client knows.
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let base = format!("http://{}", host.ok_or_else(|| Refusal::invalid("The Host header is missing"))?);
    if endpoint == Endpoint::DataEndpoint {
        word(&request, "APIName", API_NAMES, None)?;
        known_stream(camera, &request)?;
        return Ok(json!({ "DataEndpoint": base }).to_string().into());
    }
    known_stream(camera, &request)?;
    let (options, expires) = session(camera, &request)?;
    if options.playback == Playback::Live && camera.is_silent(now) {
        return Err(Refusal::NOTHING_TO_LIST);
    }
    let (token, is_empty) = camera.open_session(options, Some(expires));
    if is_empty {
        return Err(Refusal::NOTHING_TO_LIST);
    }
    let url = format!("{base}{}?SessionToken={token}", Endpoint::MasterPlaylist.path());
    Ok(json!({ "HLSStreamingSessionURL": url }).to_string().into())
}

fn known_stream(camera: &Camera, request: &Object) -> Result<(), Refusal> {
    let (own, given) = match (text(request, "StreamName")?, text(request, "StreamARN")?) {
        (Some(name), None) => (&camera.setup().stream, name),
        (None, Some(arn)) => (&camera.setup().arn, arn),
        _ => return Err(Refusal::invalid("Either StreamName or StreamARN must be given")),
    };
    if own == given { Ok(()) } else { Err(Refusal::stream_unknown(given)) }
}

fn session(camera: &Camera, request: &Object) -> Result<(SessionOptions, Duration), Refusal> {
    let none = Object::new();
    let selector = object(request, "HLSFragmentSelector")?.unwrap_or(&none);
    let selector_type =
        word(selector, "FragmentSelectorType", &["SERVER_TIMESTAMP", "PRODUCER_TIMESTAMP"], Some("SERVER_TIMESTAMP"))?;
    let is_server = selector_type == "SERVER_TIMESTAMP";
    let range = object(selector, "TimestampRange")?.unwrap_or(&none);
    let start = timestamp(range, "StartTimestamp")?;
    let end = timestamp(range, "EndTimestamp")?;
    let playback =
        match (word(request, "PlaybackMode", &["LIVE", "LIVE_REPLAY", "ON_DEMAND"], Some("LIVE"))?, start, end) {
            ("LIVE", None, None) => Playback::Live,
            ("LIVE", ..) => return Err(Refusal::invalid("TimestampRange must be absent when PlaybackMode is LIVE")),
            ("LIVE_REPLAY", Some(start), end) => Playback::Replay { start, end },
            ("LIVE_REPLAY", ..) => {
                return Err(Refusal::invalid("StartTimestamp is required when PlaybackMode is LIVE_REPLAY"));
            }
            (_, Some(start), Some(end)) => Playback::Archive { start, end },
            _ => {
                let message = "StartTimestamp and EndTimestamp are required when PlaybackMode is ON_DEMAND";
                return Err(Refusal::invalid(message));
            }
        };
    if let (Some(start), Some(end)) = (start, end) {
        if end <= start || start.checked_add(MAX_RANGE).is_none_or(|latest| end > latest) {
            return Err(Refusal::invalid("EndTimestamp must be later than StartTimestamp, by at most 24 hours"));
        }
        // The camera's time, which may run faster than the wall clock's.
        if is_server && end > camera.capture_now().max(camera.setup().clock.wall()) {
            return Err(Refusal::invalid(
                "EndTimestamp must be in the past when FragmentSelectorType is SERVER_TIMESTAMP",
            ));
        }
    }
    if word(request, "ContainerFormat", &["FRAGMENTED_MP4", "MPEG_TS"], Some("FRAGMENTED_MP4"))? == "MPEG_TS" {
        return Err(Refusal::invalid("ContainerFormat MPEG_TS is not simulated"));
    }
    let is_always = if is_server { "ALWAYS" } else { "NEVER" };
    let discontinuity =
        match word(request, "DiscontinuityMode", &["ALWAYS", "NEVER", "ON_DISCONTINUITY"], Some(is_always))? {
            "ALWAYS" => DiscontinuityMode::Always,
            "NEVER" => DiscontinuityMode::Never,
            _ => DiscontinuityMode::OnDiscontinuity,
        };
    let timestamps = word(request, "DisplayFragmentTimestamp", &["ALWAYS", "NEVER"], Some("NEVER"))? == "ALWAYS";
    let default_results = if matches!(playback, Playback::Archive { .. }) { 1000 } else { 5 };
    let window = number(request, "MaxMediaPlaylistFragmentResults", RESULTS, default_results)?;
    let window = usize::try_from(window).map_err(|_| Refusal::INTERNAL)?;
    let expires = Duration::from_secs(number(request, "Expires", EXPIRES, DEFAULT_EXPIRES)?);
    let numbers = camera.setup().numbers;
    Ok((SessionOptions { playback, window, discontinuity, timestamps, numbers }, expires))
}

fn text<'a>(object: &'a Object, name: &str) -> Result<Option<&'a str>, Refusal> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Refusal::invalid(format!("{name} must be a string"))),
    }
}

fn object<'a>(parent: &'a Object, name: &str) -> Result<Option<&'a Object>, Refusal> {
    match parent.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(_) => Err(Refusal::invalid(format!("{name} must be an object"))),
    }
}

fn word<'a>(object: &'a Object, name: &str, allowed: &[&str], default: Option<&'a str>) -> Result<&'a str, Refusal> {
    let word = text(object, name)?.or(default);
    word.filter(|word| allowed.contains(word))
        .ok_or_else(|| Refusal::invalid(format!("{name} must be one of {}", allowed.join(", "))))
}

fn number(object: &Object, name: &str, allowed: std::ops::RangeInclusive<u64>, default: u64) -> Result<u64, Refusal> {
    let number = match object.get(name) {
        None | Some(Value::Null) => Some(default),
        Some(value) => value.as_u64().filter(|number| allowed.contains(number)),
    };
    number.ok_or_else(|| {
        Refusal::invalid(format!("{name} must be an integer from {} to {}", allowed.start(), allowed.end()))
    })
}

/// Seconds from 1970, with decimals. A float holds microseconds, but not each of them: rounded to the nearest.
fn timestamp(object: &Object, name: &str) -> Result<Option<SystemTime>, Refusal> {
    let Some(value) = object.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
    let seconds = value.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let rounded = seconds.and_then(|seconds| {
        let micros = seconds.as_nanos().checked_add(500)? / 1_000;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(u64::try_from(micros).ok()?))
    });
    rounded.map(Some).ok_or_else(|| Refusal::invalid(format!("{name} must be a number of seconds since 1970")))
}
