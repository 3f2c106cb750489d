//! A player of the simulated camera, request by request.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kvs_hls::SecretUrl;
use kvs_hls::sim::{SimulatedCamera, SimulatedCameraBuilder};
use m3u8_rs::{MediaPlaylist, MediaSegment};

use super::hand_clock::HandClock;

pub const SECOND: Duration = Duration::from_secs(1);

/// A camera whose time stands still, and the clock to move it.
pub async fn camera(
    configure: impl FnOnce(SimulatedCameraBuilder) -> SimulatedCameraBuilder,
) -> (SimulatedCamera, Arc<HandClock>) {
    let clock = HandClock::new();
    let camera = configure(SimulatedCamera::builder().clock(clock.clone())).start().await.unwrap();
    (camera, clock)
}

pub async fn fetch(url: &SecretUrl) -> reqwest::Response {
    reqwest::get(url.expose().clone()).await.unwrap()
}

pub async fn status(url: &SecretUrl) -> u16 {
    fetch(url).await.status().as_u16()
}

pub async fn text(url: &SecretUrl) -> String {
    fetch(url).await.error_for_status().unwrap().text().await.unwrap()
}

pub async fn bytes(url: &SecretUrl) -> Vec<u8> {
    fetch(url).await.error_for_status().unwrap().bytes().await.unwrap().to_vec()
}

pub async fn media_url(master: &SecretUrl) -> SecretUrl {
    let playlist = m3u8_rs::parse_master_playlist_res(text(master).await.as_bytes()).unwrap();
    assert_eq!(playlist.variants.len(), 1);
    master.join(&playlist.variants[0].uri).unwrap()
}

pub async fn media(url: &SecretUrl) -> MediaPlaylist {
    m3u8_rs::parse_media_playlist_res(text(url).await.as_bytes()).unwrap()
}

/// Where each segment is.
pub fn segment_urls(base: &SecretUrl, playlist: &MediaPlaylist) -> Vec<SecretUrl> {
    playlist.segments.iter().map(|segment| base.join(&segment.uri).unwrap()).collect()
}

/// Which fragments of the camera's timeline a playlist lists.
pub fn listed(camera: &SimulatedCamera, playlist: &MediaPlaylist) -> Vec<u64> {
    let number = |segment: &MediaSegment| segment.uri.split(['=', '&']).nth(1).unwrap().to_owned();
    playlist.segments.iter().map(|segment| camera.timeline().find(&number(segment)).unwrap()).collect()
}

/// The programme times of a playlist.
pub fn times(playlist: &MediaPlaylist) -> Vec<SystemTime> {
    playlist.segments.iter().map(|segment| segment.program_date_time.unwrap().into()).collect()
}
