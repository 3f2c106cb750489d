//! Recordings of `fixtures/hls`: what their playlists list, and the packets that ffprobe saw.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;

/// What follows one EXT-X-MAP.
pub struct Part {
    pub init: Bytes,
    pub segments: Vec<Bytes>,
    /// Lines of pts, dts, duration, size, flags and MD5.
    pub packets: Option<String>,
}

pub fn fixtures() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures"))
}

/// All parts of all recordings that have expectations, with the name of their folder.
pub fn recordings() -> Vec<(String, Part)> {
    let mut found = Vec::new();
    let mut folders = vec![fixtures().join("hls")];
    while let Some(folder) = folders.pop() {
        folders.extend(fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()));
        let has_expectations =
            ["expected.packets", "expected.part0.packets"].iter().any(|name| folder.join(name).exists());
        if has_expectations {
            let name = folder.file_name().unwrap().to_string_lossy().into_owned();
            found.extend(parts(&folder).into_iter().map(|part| (name.clone(), part)));
        }
    }
    assert!(found.len() >= 38, "{} recordings only", found.len());
    found
}

/// The parts of the recording in a folder.
pub fn parts(folder: &Path) -> Vec<Part> {
    let playlist = fs::read_to_string(folder.join("index.m3u8")).unwrap();
    let mut parts = Vec::new();
    let mut range = None;
    for line in playlist.lines() {
        if let Some(attributes) = line.strip_prefix("#EXT-X-MAP:") {
            let range = quoted(attributes, "BYTERANGE");
            let init = read(folder, quoted(attributes, "URI").unwrap(), range);
            parts.push(Part { init, segments: Vec::new(), packets: None });
        } else if let Some(text) = line.strip_prefix("#EXT-X-BYTERANGE:") {
            range = Some(text);
        } else if !line.is_empty() && !line.starts_with('#') {
            parts.last_mut().unwrap().segments.push(read(folder, line, range.take()));
        }
    }
    let is_single = parts.len() == 1;
    for (index, part) in parts.iter_mut().enumerate() {
        let name = if is_single { "expected.packets".into() } else { format!("expected.part{index}.packets") };
        part.packets = fs::read_to_string(folder.join(name)).ok();
    }
    parts
}

fn quoted<'a>(attributes: &'a str, name: &str) -> Option<&'a str> {
    attributes.split_once(&format!("{name}=\""))?.1.split('"').next()
}

fn read(folder: &Path, uri: &str, range: Option<&str>) -> Bytes {
    let path = uri.split('?').next().unwrap();
    let bytes = Bytes::from(fs::read(folder.join(path)).unwrap());
    match range.and_then(|range| range.split_once('@')) {
        Some((length, start)) => {
            let (length, start): (usize, usize) = (length.parse().unwrap(), start.parse().unwrap());
            bytes.slice(start..start + length)
        }
        None => bytes,
    }
}
