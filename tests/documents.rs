//! Every command of the documents is run, against a simulated camera.
#![cfg(all(feature = "cli", target_os = "linux"))]

#[path = "support/program.rs"]
mod program;

use std::fs;
use std::path::{Path, PathBuf};

use program::{program, simulate};

const DOCUMENTS: [&str; 8] = [
    "README.md",
    "docs/figures.md",
    "CONTRIBUTING.md",
    "docs/operating.md",
    "docs/tuning.md",
    "docs/migrating.md",
    "examples/README.md",
    "deploy/kubernetes/README.md",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The commands of a document's shell blocks, without what is said of them and where they are piped to.
fn commands(document: &str) -> Vec<String> {
    let mut is_inside = false;
    let mut commands = Vec::new();
    for line in read(document).lines() {
        match line {
            "```sh" => is_inside = true,
            "```" => is_inside = false,
            _ if is_inside => {
                let command = line.split(" #").next().unwrap_or_default();
                let command = command.split(" | ").next().unwrap_or_default();
                commands.push(command.trim().to_owned());
            }
            _ => {}
        }
    }
    commands
}

fn folder(number: usize) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("documents-{number}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

#[test]
fn commands_of_the_program_work_as_they_are_written() {
    let all = DOCUMENTS.iter().flat_map(|document| commands(document).into_iter().map(move |line| (document, line)));
    let ours: Vec<_> = all
        .filter_map(|(document, line)| {
            let words = line.strip_prefix("kvs-hls ").or_else(|| Some(line.split_once(" --features cli -- ")?.1))?;
            Some((document, line.clone(), words.to_owned()))
        })
        .collect();
    assert!(ours.len() > 10, "only {} commands were found", ours.len());
    std::thread::scope(|scope| {
        for (number, (document, line, words)) in ours.iter().enumerate() {
            scope.spawn(move || look_at(&format!("{document}: {line}"), words, &folder(number)));
        }
    });
}

/// Runs one command, for a few seconds, against a simulated camera of its own.
fn look_at(place: &str, words: &str, folder: &Path) {
    if let Some(words) = words.strip_prefix("simulate") {
        let recording = root().join("fixtures/camera.mp4").display().to_string();
        let file = folder.join("simulated.toml").display().to_string();
        let words = words.replace("recording.mp4", &recording).replace("cameras.toml", &file).replace('&', "");
        simulate(&words.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>());
        return;
    }
    let stream = words.split_once("--stream ").map(|(_, rest)| rest.split(' ').next().unwrap_or_default());
    let (_camera, url) = simulate(&["--stream", stream.unwrap_or("front-door")]);
    let endpoint = url.split("/hls").next().expect("a host").to_owned();
    fs::write(folder.join("cameras.toml"), format!("[[camera]]\nid = \"yard\"\nurl = \"{url}\"\n")).expect("a file");
    let mut args: Vec<String> = Vec::new();
    for word in words.split(' ').filter(|word| !word.is_empty()) {
        match word {
            // Their ports are those of others too.
            "--preview" | "--metrics" => args.extend([word.to_owned(), "0".into()]),
            "0.0.0.0:9100" => {
                args.pop();
                args.push("127.0.0.1:0".into());
            }
            "30s" => args.push("3s".into()),
            "https://example.com/live.m3u8" | "…" => args.push(url.clone()),
            _ => args.push(word.to_owned()),
        }
    }
    if stream.is_some() {
        args.extend(["--endpoint-url".into(), endpoint]);
    }
    if !words.contains("--duration") && !words.starts_with("probe") && !words.contains("--check") {
        args.extend(["--duration".into(), "3s".into()]);
    }
    let mut command = program();
    command.args(&args).current_dir(folder);
    command.env("AWS_ACCESS_KEY_ID", "AKIDTEST").env("AWS_SECRET_ACCESS_KEY", "none").env("HOME", folder);
    let output = command.output().expect("the program runs");
    assert!(output.status.success(), "{place}\n{args:?}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn cargo_is_asked_for_what_there_is() {
    let (manifest, fuzz) = (read("Cargo.toml"), read("fuzz/Cargo.toml"));
    let mut seen = 0;
    for (document, line) in
        DOCUMENTS.iter().flat_map(|document| commands(document).into_iter().map(move |line| (document, line)))
    {
        let words: Vec<_> = line.split(' ').filter(|word| !word.is_empty()).collect();
        for pair in words.windows(2).filter(|_| line.contains("cargo ")) {
            let is_known = match pair[0] {
                "--features" => pair[1].split(',').all(|feature| manifest.contains(&format!("\n{feature} = ["))),
                "--bench" | "--example" | "--test" => {
                    let folder = format!("{}s", pair[0].trim_start_matches('-')).replace("benchs", "benches");
                    root().join(folder).join(format!("{}.rs", pair[1])).exists()
                }
                "run" if line.contains("cargo fuzz") => fuzz.contains(&format!("name = \"{}\"", pair[1])),
                _ => continue,
            };
            assert!(is_known, "{document}: {line}: no {} {}", pair[0], pair[1]);
            seen += 1;
        }
    }
    assert!(seen > 5, "only {seen} names were found");
}
