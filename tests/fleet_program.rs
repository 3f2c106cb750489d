//! `kvs-hls fleet` as it is run: a file with cameras, signals, files of frames, health.
#![cfg(target_os = "linux")]

#[path = "support/program.rs"]
mod program;

use std::fs;
use std::io::{BufRead, BufReader, Lines, Read};
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, Command, Stdio};

use program::{Running, address_in, get, program, simulate, until};
use serde_json::Value;

impl Running {
    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.0.id().to_string()]).status().unwrap().success());
    }
}

fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fleet-{name}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn entry(id: &str, url: &str, more: &str) -> String {
    format!("[[camera]]\nid = \"{id}\"\nurl = \"{url}\"\n{more}\n")
}

fn fleet(folder: &Path, args: &[&str]) -> (Running, Lines<BufReader<ChildStderr>>) {
    let mut command = program();
    command.current_dir(folder).args(["fleet", "cameras.toml"]).args(args);
    let mut fleet = Running(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let said = BufReader::new(fleet.0.stderr.take().unwrap()).lines();
    (fleet, said)
}

fn frames(address: &str, camera: &str) -> Option<u64> {
    counter(address, "kvs_hls_frames_total", camera)
}

fn counter(address: &str, name: &str, camera: &str) -> Option<u64> {
    let line = format!("{name}{{camera_id=\"{camera}\"}} ");
    get(address, "/metrics").1.lines().find_map(|text| text.strip_prefix(&line)?.parse().ok())
}

#[test]
fn changes_of_the_file_leave_other_cameras_alone() {
    let folder = scratch("reload");
    let file = folder.join("cameras.toml");
    let [(_a, first), (_b, second), (_c, third)] = [simulate(&[]), simulate(&[]), simulate(&[])];
    let kept = entry("kept", &first, "write = \"json\"\nout = \"{id}.jsonl\"");
    let changed = |more: &str| {
        entry(
            "changed",
            &second,
            &format!("write = \"framemd5\"\nout = \"changed.md5\"\nsize = \"exact:16x16\"\n{more}"),
        )
    };
    fs::write(&file, kept.clone() + &changed("select = \"all\"")).unwrap();
    let (fleet, mut said) = fleet(&folder, &["--metrics", "0", "--summary-json", "summary.json"]);
    let address = &said.find_map(|line| address_in(&line.unwrap(), "metrics")).unwrap();
    assert_eq!(get(address, "/healthz").0, 200);
    until("readiness", || (get(address, "/readyz").0 == 200).then_some(()));
    until("frames", || (frames(address, "kept")? > 10 && frames(address, "changed")? > 10).then_some(()));

    fs::write(&file, kept.clone() + &changed("select = \"keyframes\"") + &entry("new", &third, "")).unwrap();
    fleet.signal("-HUP");
    let told = said.next().unwrap().unwrap();
    assert_eq!(told, "read again: 1 camera as before, 2 begun, 0 ended");
    until("the new camera's frames", || (frames(address, "new")? > 10).then_some(()));
    assert!(frames(address, "changed").unwrap() < 10, "begun anew, keyframes alone");

    fs::write(&file, "[[camera]]\nid = 3\n").unwrap();
    fleet.signal("-HUP");
    assert!(said.next().unwrap().unwrap().contains("cameras.toml:2: id: "));
    assert!(said.next().unwrap().unwrap().contains("cameras.toml:1: neither url nor stream"));
    assert_eq!(said.next().unwrap().unwrap(), "the cameras go on as they are");

    fs::write(&file, kept).unwrap();
    fleet.signal("-HUP");
    assert_eq!(said.next().unwrap().unwrap(), "read again: 1 camera as before, 0 begun, 2 ended");
    until("the end of the others", || frames(address, "new").is_none().then_some(()));

    until("more frames", || (frames(address, "kept")? > 45).then_some(()));
    fleet.signal("-TERM");
    let last: Vec<_> = said.map(Result::unwrap).collect();
    assert!(last.last().unwrap().starts_with("1 camera: "), "{last:?}");
    let mut fleet = fleet;
    assert_eq!(fleet.0.wait().unwrap().code(), Some(0));
    let summary: Value = serde_json::from_str(&fs::read_to_string(folder.join("summary.json")).unwrap()).unwrap();
    assert_eq!(summary["cameras"][0]["id"], "kept");
    // What the other one wrote before it was changed is kept.
    let hashes = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let hashes: Vec<_> = hashes.filter(|name| name.ends_with("changed.md5")).collect();
    assert!(hashes.len() == 2 && hashes.iter().any(|name| name.starts_with("20")), "{hashes:?}");
    // Nothing is missing in what the first camera wrote through all of it.
    let lines = fs::read_to_string(folder.join("kept.jsonl")).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() > 30 && lines.iter().all(|line| line["gap_before"].is_null() && line["session"] == 1));
    let times: Vec<_> = lines.iter().map(|line| line["captured_at"].as_str().unwrap()).collect();
    assert!(times.is_sorted());
    let steps = lines
        .windows(2)
        .map(|pair| pair[1]["pts_seconds"].as_f64().unwrap() - pair[0]["pts_seconds"].as_f64().unwrap());
    assert!(steps.into_iter().all(|step| (step - 1.0 / 15.0).abs() < 0.001), "each frame once");
}

#[test]
fn frames_go_to_files_and_pipes_and_a_reader_that_goes_away_ends_nothing() {
    let folder = scratch("sinks");
    let (_camera, url) = simulate(&[]);
    assert!(Command::new("mkfifo").arg(folder.join("pipe")).status().unwrap().success());
    let file = [
        entry("pictures", &url, "write = \"jpeg\"\nout = \"shots/{id}\"\nselect = \"fps:2\""),
        entry(
            "pipe",
            &url,
            "write = \"raw\"\npixel = \"gray\"\nsize = \"exact:16x16\"\nout = \"pipe\"\ndelivery = \"latest\"",
        ),
    ];
    fs::write(folder.join("cameras.toml"), file.concat()).unwrap();
    let (fleet, mut said) = fleet(&folder, &["--metrics", "0"]);
    let address = said.find_map(|line| address_in(&line.unwrap(), "metrics")).unwrap();
    for _ in 0..2 {
        // The second time after the first reader went away.
        let mut frame = [0; 256];
        let mut pipe = fs::File::open(folder.join("pipe")).unwrap();
        for _ in 0..3 {
            pipe.read_exact(&mut frame).unwrap();
            assert!(frame.iter().any(|luma| *luma != frame[0]), "a picture");
        }
    }
    let shots = folder.join("shots/pictures");
    until("pictures", || (fs::read_dir(&shots).ok()?.count() > 3).then_some(()));
    let names = fs::read_dir(&shots).unwrap().map(|shot| shot.unwrap().file_name().into_string().unwrap());
    // One that is being written has no name yet.
    for name in names.filter(|name| !name.starts_with('.')) {
        assert!(name.ends_with(".jpg") && name.starts_with("20") && name.contains("Z_0"), "{name}");
    }
    let unwritten = |camera| counter(&address, "kvs_hls_frames_unwritten_total", camera).unwrap();
    assert!(unwritten("pipe") > 0 && unwritten("pictures") == 0);
    fleet.signal("-TERM");
    let said: Vec<_> = said.map(Result::unwrap).collect();
    assert!(said.iter().any(|line| line.contains("has gone")), "{said:#?}");
    let mut fleet = fleet;
    assert_eq!(fleet.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_pipe_that_nobody_reads_does_not_hold_up_the_end() {
    let folder = scratch("unread");
    let (_camera, url) = simulate(&[]);
    assert!(Command::new("mkfifo").arg(folder.join("pipe")).status().unwrap().success());
    fs::write(folder.join("cameras.toml"), entry("pipe", &url, "write = \"raw\"\nout = \"pipe\"")).unwrap();
    let (mut fleet, mut said) = fleet(&folder, &["--metrics", "0"]);
    let address = said.find_map(|line| address_in(&line.unwrap(), "metrics")).unwrap();
    until("a frame", || (frames(&address, "pipe")? > 0).then_some(()));
    fleet.signal("-TERM");
    until("the end", || fleet.0.try_wait().unwrap().map(|status| assert_eq!(status.code(), Some(0))));
}

#[test]
fn frames_that_wait_to_be_written_are_counted_when_they_cannot_be() {
    let folder = scratch("full");
    let (_camera, url) = simulate(&[]);
    let cameras = ["y4m", "framemd5"]
        .map(|write| entry(write, &url, &format!("write = \"{write}\"\nout = \"/dev/full\"\nsize = \"exact:16x16\"")));
    fs::write(folder.join("cameras.toml"), cameras.concat()).unwrap();
    let (mut fleet, _said) = fleet(&folder, &["--duration", "3s", "--summary-json", "summary.json"]);
    assert_eq!(fleet.0.wait().unwrap().code(), Some(1));
    let summary: Value = serde_json::from_str(&fs::read_to_string(folder.join("summary.json")).unwrap()).unwrap();
    for camera in summary["cameras"].as_array().unwrap() {
        let run = &camera["runs"][0];
        assert!(run["frames"].as_u64().unwrap() > 10 && run["frames_unwritten"] == run["frames"], "{summary:#}");
    }
}

#[test]
fn many_cameras_that_write_hold_up_no_other() {
    let folder = scratch("many");
    let (_camera, url) = simulate(&[]);
    // More than a runtime has threads for what blocks.
    let dead = (0..520).map(|number| {
        entry(&format!("dead-{number}"), "http://127.0.0.1:1/a.m3u8", "write = \"json\"\nout = \"/dev/null\"")
    });
    let live = entry("live", &url, "write = \"json\"\nout = \"live.jsonl\"");
    fs::write(folder.join("cameras.toml"), dead.chain([live]).collect::<String>()).unwrap();
    let (fleet, mut said) = fleet(&folder, &["--metrics", "0", "--log", "off"]);
    let address = said.find_map(|line| address_in(&line.unwrap(), "metrics")).unwrap();
    until("frames of the last camera", || (frames(&address, "live")? > 10).then_some(()));
    assert!(fs::metadata(folder.join("live.jsonl")).unwrap().len() > 0);
    drop(fleet);
}

#[test]
fn simulated_cameras_come_with_a_file_for_the_fleet() {
    let folder = scratch("simulated");
    let path = |name: &str| folder.join(name).display().to_string();
    let _cameras = simulate(&["--cameras", "2", "--fleet", &path("cameras.toml")]);
    let args = ["--duration", "3s", "--summary-json", "summary.json"];
    let (mut fleet, _said) = fleet(&folder, &args);
    assert_eq!(fleet.0.wait().unwrap().code(), Some(0));
    let summary: Value = serde_json::from_str(&fs::read_to_string(path("summary.json")).unwrap()).unwrap();
    for (index, id) in ["camera-1", "camera-2"].into_iter().enumerate() {
        let camera = &summary["cameras"][index];
        assert!(camera["id"] == id && camera["frames"].as_u64().unwrap() > 10, "{summary:#}");
    }
}

#[test]
fn the_file_is_checked_and_shared_out() {
    let folder = scratch("check");
    let file: String =
        (0..20).map(|number| entry(&format!("camera-{number}"), "http://127.0.0.1:1/a.m3u8?Secret", "")).collect();
    fs::write(folder.join("cameras.toml"), file).unwrap();
    let run = |args: &[&str]| {
        let output = program().current_dir(&folder).arg("fleet").args(args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, all, words) = run(&["cameras.toml", "--check"]);
    assert_eq!((code, all.lines().count()), (Some(0), 20));
    assert!(words.contains("20 cameras") && !all.contains("Secret"), "{words} {all}");
    let mut parts: Vec<_> = ["0/3", "1/3", "2/3"]
        .iter()
        .flat_map(|shard| {
            run(&["cameras.toml", "--check", "--shard", shard]).1.lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    parts.sort();
    let mut all: Vec<_> = all.lines().collect();
    all.sort();
    assert_eq!(parts, all, "each camera once");
    let (code, _, words) = run(&["cameras.toml", "--check", "--shard", "auto"]);
    assert!(code == Some(2) && words.contains("KVS_HLS_SHARDS"), "{words}");
    // A pod of a job that has nothing to do is done.
    fs::write(folder.join("one.toml"), entry("camera-1", "http://127.0.0.1:1/a.m3u8", "max-errors = 1")).unwrap();
    let job = |index: &str| {
        let mut command = program();
        command.current_dir(&folder).envs([("JOB_COMPLETION_INDEX", index), ("KVS_HLS_SHARDS", "2")]);
        let output = command.args(["fleet", "one.toml", "--shard", "auto", "--duration", "1s"]).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    let told = ["0", "1"].map(job);
    assert_eq!(
        told.iter().filter(|told| told.starts_with("no camera of the file is this machine's")).count(),
        1,
        "{told:?}"
    );
    let (code, _, words) = run(&["nothing.toml"]);
    assert!(code == Some(2) && words.contains("no file nothing.toml"), "{words}");
    let mut unread = program()
        .current_dir(&folder)
        .args(["fleet", "cameras.toml", "--check"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(unread.stdout.take());
    assert_eq!(unread.wait().unwrap().code(), Some(0), "who reads may have seen enough");
    let (code, example, _) = run(&["--example"]);
    fs::write(folder.join("example.toml"), example).unwrap();
    assert_eq!((code, run(&["example.toml", "--check"]).0), (Some(0), Some(0)));
}
