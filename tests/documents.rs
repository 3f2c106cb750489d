//! Every command of the documents is run: the program's own here, against a simulated camera, and those of cargo by
//! `.ci/documented`.
#![cfg(all(feature = "cli", target_os = "linux"))]

#[path = "support/program.rs"]
mod program;

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use program::{Running, get, program, simulate, until};

const FOLDERS: [&str; 7] = [".", "docs", "deploy", "deploy/kubernetes", "examples", "fixtures", "benches/peers"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The commands of all shell blocks, without what is said of them, each with its document.
fn commands() -> Vec<(String, String)> {
    let files = FOLDERS.iter().flat_map(|folder| fs::read_dir(root().join(folder)).expect("a folder"));
    let documents = files.map(|entry| entry.expect("a file").path());
    let mut commands = Vec::new();
    for document in documents.filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        let text = read(&document).replace("\\\n", "");
        let mut is_inside = false;
        for line in text.lines() {
            match line {
                "```sh" => is_inside = true,
                "```" => is_inside = false,
                _ if is_inside => {
                    let command = line.split(" #").next().unwrap_or_default().trim();
                    commands.push((document.display().to_string(), command.to_owned()));
                }
                _ => {}
            }
        }
    }
    commands
}

/// The arguments of the program, where a command runs it.
fn ours(line: &str) -> Option<&str> {
    let words = line.strip_prefix("kvs-hls ").or_else(|| Some(line.split_once(" --features cli -- ")?.1))?;
    words.split(" | ").next()
}

#[test]
fn no_command_is_left_out() {
    let ci = [".ci/run", ".ci/documented"].map(read).concat();
    let commands = commands();
    assert!(commands.len() > 25, "only {} commands were found", commands.len());
    for (document, line) in commands {
        let is_run = match line.split(' ').next() {
            // By the tests below.
            Some("kvs-hls" | "prometheus" | "ffmpeg" | "ffprobe") => true,
            // There is no cluster here; `tests/deploy.rs` looks at what they name.
            Some("docker" | "kubectl") => true,
            Some("sleep") => true,
            _ => ci.contains(&line.replace("URL", "\"$URL\"").replace("my.mp4", "fixtures/camera.mp4")),
        };
        assert!(is_run, "{document}: {line}: neither a test nor .ci/documented runs it");
    }
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("documents-{name}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

#[test]
fn commands_of_the_program_work_as_they_are_written() {
    let commands = commands();
    std::thread::scope(|scope| {
        for (number, (document, line)) in commands.iter().enumerate() {
            let Some(words) = ours(line) else { continue };
            scope.spawn(move || look_at(&format!("{document}: {line}"), words, &folder(&number.to_string())));
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
    if let Some((_, player)) = place.split_once(" | ") {
        play(player, &output.stdout);
    }
}

fn is_installed(name: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {name}")]).stdout(Stdio::null()).status();
    let found = found.expect("a shell").success();
    if !found {
        eprintln!("note: no {name} on this machine, so what the documents do with it is not tried");
    }
    found
}

/// Gives the player what the program wrote, on a screen that is none.
fn play(player: &str, video: &[u8]) {
    if !is_installed("ffplay") {
        return;
    }
    let mut command = Command::new("sh");
    command.args(["-c", &format!("exec {player} -autoexit -loglevel error")]).env("SDL_VIDEODRIVER", "dummy");
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a player");
    child.stdin.take().expect("a pipe").write_all(video).expect("a player that reads to the end");
    let output = child.wait_with_output().expect("an end");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{player}: {said}");
}

#[test]
fn prometheus_loads_the_alerts_as_the_documents_start_it() {
    if !is_installed("prometheus") {
        return;
    }
    let (_, line) = commands().into_iter().find(|(_, line)| line.starts_with("prometheus ")).expect("its command");
    let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
    let address = format!("127.0.0.1:{port}");
    let storage = folder("prometheus").display().to_string();
    let line = format!("exec {line} --web.listen-address={address} --storage.tsdb.path={storage}");
    let mut command = Command::new("sh");
    command.args(["-c", &line]).current_dir(root()).stderr(Stdio::null());
    let _server = Running(command.spawn().expect("a server"));
    until("Prometheus", || std::net::TcpStream::connect(&address).ok());
    let rules = until("the rules", || {
        let (status, text) = get(&address, "/api/v1/rules");
        (status == 200 && text.contains("KvsHls")).then_some(text)
    });
    for name in read("deploy/prometheus/alerts.yaml").lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(rules.contains(&format!("\"name\":\"{name}\"")), "{name} is not loaded");
    }
    until("the fleet that is asked", || {
        get(&address, "/api/v1/targets").1.contains("http://127.0.0.1:9100/metrics").then_some(())
    });
}

#[test]
fn expectations_are_what_the_commands_beside_them_print() {
    if !is_installed("ffmpeg") {
        return;
    }
    let hls = root().join("fixtures/hls/kvs_camera");
    let of = |tool: &str, expected: &str| {
        let (_, line) = commands().into_iter().find(|(_, line)| line.starts_with(tool)).expect("its command");
        let output = Command::new("sh").args(["-c", &line]).current_dir(&hls).output().expect("a shell");
        assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
        (String::from_utf8_lossy(&output.stdout).into_owned(), read(hls.join(expected)))
    };
    // The last column is the hash; of the others some are ffmpeg's guess.
    for (printed, expected) in [of("ffmpeg ", "expected.framemd5"), of("ffprobe ", "expected.packets")] {
        let hashes = |text: &str| -> Vec<_> {
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            lines.filter_map(|line| line.rsplit(',').next()).map(|hash| hash.trim().to_owned()).collect()
        };
        assert_eq!(hashes(&expected).len(), 150);
        assert_eq!(hashes(&printed), hashes(&expected));
    }
}
