//! The examples run, and do what they say.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Beside the tests, where cargo builds them.
fn example(name: &str) -> Command {
    let tests = std::env::current_exe().unwrap();
    let folder = tests.parent().and_then(Path::parent).unwrap().join("examples");
    Command::new(folder.join(name))
}

fn run(name: &str, args: &[&Path]) -> String {
    let output = example(name)
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("{name}: {error} (`cargo build --examples --all-features` builds them)"));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {words}");
    String::from_utf8(output.stdout).unwrap()
}

fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("example-{name}"));
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

fn pictures(folder: &Path) -> usize {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| std::fs::read(path).unwrap().starts_with(b"\x89PNG")).count()
}

#[test]
fn frames_come_with_and_without_async() {
    let told = run("basic", &[]);
    assert_eq!(told.lines().filter(|line| line.starts_with("640 x 360, captured ")).count(), 30, "{told}");
    assert!(told.contains("30 frames in ") && told.ends_with(" 0 gaps\n"), "{told}");
    let told = run("blocking", &[]);
    assert!(told.starts_with("the first frame has 691200 bytes") && told.lines().count() == 30, "{told}");
}

#[test]
fn cameras_share_threads() {
    let told = run("several_cameras", &[]);
    let mut lines: Vec<_> = told.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["front-door: 10 frames", "gate: 10 frames", "yard: 10 frames"]);
}

#[test]
fn motion_is_seen_and_saved() {
    let folder = scratch("motion");
    let told = run("motion", &[&folder]);
    assert_eq!(told.lines().filter(|line| line.starts_with("change ")).count(), 24, "{told}");
    let saved = told.lines().filter(|line| line.starts_with("saved ")).count();
    assert!(saved > 0 && pictures(&folder) > 0, "{told}");
}

#[test]
fn tensors_are_channels_first_and_boxes_come_back() {
    let told = run("tensor", &[]);
    assert_eq!(told.lines().filter(|line| line.starts_with("tensor [3, 640, 640], mean 0.")).count(), 5, "{told}");
    assert!(told.contains("its middle is at 320, 180 of 640 x 360"), "{told}");
}

#[test]
fn sessions_and_decoders_may_be_others() {
    let told = run("custom_session", &[]);
    let sessions = told.lines().filter(|line| *line == "a session for 300s").count();
    assert!(sessions > 1 && told.contains("100 frames, ") && told.ends_with(", 0 gaps\n"), "{told}");
    let told = run("custom_decoder", &[]);
    assert!(told.starts_with("30 frames came out of "), "{told}");
}

#[test]
fn metrics_are_served() {
    let told = run("prometheus", &[]);
    assert!(told.ends_with("kvs_hls_frames_total{camera_id=\"front-door\"} 60\n"), "{told}");
}

#[test]
fn an_archive_becomes_pictures() {
    let folder = scratch("archive");
    let told = run("archive", &[&folder]);
    let count = pictures(&folder);
    assert!((4..=8).contains(&count) && told.starts_with(&format!("{count} pictures in ")), "{told}");
}
