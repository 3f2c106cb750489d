//! With the feature `serde`: options are their text, statistics numbers.
#![cfg(feature = "serde")]

use std::fmt::Debug;
use std::time::Duration;

use kvs_hls::hls::{LiveEdge, ReloadPolicy, VariantChoice};
use kvs_hls::{Config, Delivery, FrameSelection, GapFill, HostPolicy, Limits, Pacing, PixelFormat, Size, Stats};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{from_value, json, to_value};

fn goes_round<T: Serialize + DeserializeOwned + PartialEq + Debug>(text: &str, value: T) {
    assert_eq!(to_value(&value).unwrap(), json!(text));
    assert_eq!(from_value::<T>(json!(text)).unwrap(), value);
    let error = from_value::<T>(json!("rubbish!")).unwrap_err().to_string();
    assert!(error.contains("rubbish!"), "{error}");
}

#[test]
fn options_are_their_text() {
    goes_round("latest", Delivery::Latest);
    goes_round("catch-up:2.5", Delivery::CatchUp { max_lag: Duration::from_millis(2500) });
    goes_round("by-time", Pacing::ByTime);
    goes_round("hold-last", GapFill::HoldLast);
    goes_round("keyframes", FrameSelection::Keyframes);
    goes_round("fps:5", FrameSelection::TargetFps(5.0));
    goes_round("fit:640x360", Size::Fit(640, 360));
    goes_round("rgb", PixelFormat::Rgb);
    goes_round("newest", LiveEdge::Newest);
    goes_round("spec", ReloadPolicy::Spec);
    goes_round("highest", VariantChoice::Highest);
    assert_eq!(from_value::<HostPolicy>(json!("session")).unwrap(), HostPolicy::Session);
}

#[test]
fn configurations_name_what_differs_from_the_default() {
    let config: Config = from_value(json!({ "session_duration": "1h", "reconnect_delay": "1s 500ms" })).unwrap();
    assert_eq!(config.session_duration, Duration::from_secs(3600));
    assert_eq!(config.reconnect_delay, Duration::from_millis(1500));
    assert_eq!(config.max_consecutive_errors, Config::default().max_consecutive_errors);
    assert_eq!(from_value::<Config>(to_value(&config).unwrap()).unwrap(), config);
    let silent: Config = from_value(json!({ "max_silence": "10m" })).unwrap();
    assert_eq!(silent.max_silence, Some(Duration::from_secs(600)));
    assert_eq!(from_value::<Config>(to_value(&silent).unwrap()).unwrap(), silent);
    let error = from_value::<Config>(json!({ "sesion_duration": "1h" })).unwrap_err().to_string();
    assert!(error.contains("sesion_duration"), "{error}");
    let limits: Limits = from_value(json!({ "max_samples": 7, "segment_timeout": "5s" })).unwrap();
    assert_eq!((limits.max_samples, limits.segment_timeout), (7, Duration::from_secs(5)));
}

#[test]
fn statistics_are_numbers() {
    let mut stats = Stats::default();
    (stats.frames, stats.latency, stats.size) = (3, Some(Duration::from_millis(1500)), Some((640, 360)));
    let json = to_value(&stats).unwrap();
    assert_eq!((&json["frames"], &json["latency"], &json["size"]), (&json!(3), &json!(1.5), &json!([640, 360])));
    assert!(json["silent_for"].is_null());
}
