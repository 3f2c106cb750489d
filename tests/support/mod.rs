//! What the integration tests share: a web server for fixtures, and expectations made by ffmpeg.
#![allow(dead_code, reason = "each test binary uses its part")]

#[cfg(all(feature = "kvs", feature = "sim"))]
pub mod camera;
#[cfg(all(feature = "kvs", feature = "sim"))]
pub mod faulty;
#[cfg(feature = "sim")]
pub mod painted;

use std::path::{Path, PathBuf};

use kvs_hls::{Error, FixedUrl, Frame, FrameSource, FrameSourceBuilder};
use md5::{Digest, Md5};
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// Serves the files below `fixtures/`, byte ranges included.
pub struct Files;

impl Respond for Files {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let path = fixtures().join(request.url.path().trim_start_matches('/'));
        let Ok(body) = std::fs::read(&path) else { return ResponseTemplate::new(404) };
        let range = request.headers.get("range").and_then(|value| value.to_str().ok()?.strip_prefix("bytes="));
        match range.and_then(|range| range.split_once('-')) {
            Some((first, last)) => {
                let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
                ResponseTemplate::new(206).set_body_bytes(&body[first..=last])
            }
            None => ResponseTemplate::new(200).set_body_bytes(body),
        }
    }
}

pub async fn file_server() -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("GET")).respond_with(Files).mount(&server).await;
    server
}

pub fn builder(url: &str) -> FrameSourceBuilder {
    FrameSource::builder("test", FixedUrl::new(url).unwrap()).delivery(kvs_hls::Delivery::All)
}

/// All frames up to the end, and the fatal error if there was one.
pub async fn read_all(source: &FrameSource) -> (Vec<Frame>, Option<Error>) {
    let mut frames = source.start().unwrap();
    let mut all = Vec::new();
    while let Some(frame) = frames.next().await {
        match frame {
            Ok(frame) => all.push(frame),
            Err(error) => return (all, Some(error)),
        }
    }
    (all, None)
}

/// An error with its causes, as people see it.
pub fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

pub fn md5(bytes: &[u8]) -> String {
    Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One line of ffmpeg's framemd5.
#[derive(Debug, PartialEq, Eq)]
pub struct Expected {
    pub pts: i64,
    pub size: usize,
    pub md5: String,
}

pub fn framemd5(path: &Path) -> Vec<Expected> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let frame = |line: &str| {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        Expected { pts: fields[2].parse().unwrap(), size: fields[4].parse().unwrap(), md5: fields[5].to_owned() }
    };
    text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(frame).collect()
}

/// The system's clock, so many times as fast: waits of minutes pass in moments, and real sockets still work.
#[derive(Clone, Debug)]
pub struct FastClock {
    start: std::time::Instant,
    wall: std::time::SystemTime,
    factor: u32,
}

impl FastClock {
    pub fn new(factor: u32) -> Self {
        Self { start: std::time::Instant::now(), wall: std::time::SystemTime::now(), factor }
    }

    fn passed(&self) -> std::time::Duration {
        self.start.elapsed() * self.factor
    }
}

impl kvs_hls::Clock for FastClock {
    fn now(&self) -> std::time::Instant {
        self.start + self.passed()
    }

    fn wall(&self) -> std::time::SystemTime {
        self.wall + self.passed()
    }

    fn sleep(&self, duration: std::time::Duration) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(duration / self.factor))
    }
}

/// A KVS camera in playlists: each request for the media playlist finds one segment more than the one before.
pub struct SlidingPlaylist {
    header: String,
    segments: Vec<String>,
    window: usize,
    first_end: usize,
    requests: std::sync::atomic::AtomicUsize,
}

impl SlidingPlaylist {
    /// Cuts the playlist of a fixture into windows; the last one has EXT-X-ENDLIST.
    pub fn new(name: &str, window: usize) -> Self {
        let text = std::fs::read_to_string(fixtures().join("hls").join(name).join("index.m3u8")).unwrap();
        let mut segments = Vec::new();
        let mut current = String::new();
        for line in text.lines().skip_while(|line| !line.starts_with("#EXT-X-MAP") && *line != "#EXT-X-DISCONTINUITY") {
            if line.starts_with("#EXT-X-MAP") || line == "#EXT-X-ENDLIST" {
                continue;
            }
            current += line;
            current += "\n";
            if !line.starts_with('#') {
                segments.push(std::mem::take(&mut current));
            }
        }
        let map = text.lines().find(|line| line.starts_with("#EXT-X-MAP")).unwrap();
        let header = format!("#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n{map}\n");
        Self { header, segments, window, first_end: window, requests: 0.into() }
    }
}

impl SlidingPlaylist {
    /// What the request finds before which so many were made.
    pub fn text(&self, request: usize) -> String {
        let end = (self.first_end + request).min(self.segments.len());
        let start = end.saturating_sub(self.window);
        let mut text = format!("{}#EXT-X-MEDIA-SEQUENCE:{start}\n", self.header);
        text.extend(self.segments[start..end].iter().map(String::as_str));
        if end == self.segments.len() && self.first_end + request > end {
            text += "#EXT-X-ENDLIST\n";
        }
        text
    }
}

impl Respond for SlidingPlaylist {
    fn respond(&self, _: &Request) -> ResponseTemplate {
        let request = self.requests.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        ResponseTemplate::new(200).set_body_string(self.text(request))
    }
}

/// Sets all composition offsets of a segment's `trun` boxes to zero, as some muxers do (ISO 14496-12 §8.8.8).
pub fn without_composition_offsets(mut segment: Vec<u8>) -> Vec<u8> {
    let starts: Vec<_> = segment.windows(4).enumerate().filter(|(_, name)| name == b"trun").map(|(at, _)| at).collect();
    for at in starts {
        let word = |segment: &[u8], at: usize| u32::from_be_bytes(segment[at..at + 4].try_into().unwrap());
        let (flags, count) = (word(&segment, at + 4) & 0xff_ffff, word(&segment, at + 8));
        assert!(flags & 0x800 != 0, "the fixture has composition offsets");
        let row = (flags >> 8 & 0xf).count_ones() as usize * 4;
        let mut end = at + 12 + [0x1, 0x4].iter().filter(|flag| flags & **flag != 0).count() * 4;
        for _ in 0..count {
            end += row;
            segment[end - 4..end].fill(0);
        }
    }
    segment
}

/// The n-th segment of the camera fixture, as a pattern for wiremock's `path_regex`.
pub fn camera_segment(index: usize) -> String {
    let mut names: Vec<_> = std::fs::read_dir(fixtures().join("hls/kvs_camera"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("getMP4MediaFragment"))
        .collect();
    names.sort();
    format!("/hls/kvs_camera/{}$", names[index])
}
