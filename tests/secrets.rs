//! The program with its log at its most talkative, on every way of failing that the simulated camera has: neither a session's
//! token nor the account's credentials show in anything that it says, writes or is called.
#![cfg(target_os = "linux")]

#[path = "support/program.rs"]
mod program;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use kvs_hls::sim::{Fault, FaultScript, SimulatedCamera};
use program::{address_in, get};

const CREDENTIALS: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", "AKIASECRETSECRETSECR"),
    ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/SecretOfTheAccount"),
    ("AWS_SESSION_TOKEN", "FwoGZXIvYXdzSecretOfTheRole0123456789"),
];

/// The simulator's tokens look like those of the service: `Ci`, many letters and digits, `~`.
fn find_token(text: &str) -> Option<&str> {
    let is_inside = |letter: char| letter.is_ascii_alphanumeric() || "_-~".contains(letter);
    text.split(|letter| !is_inside(letter)).find(|word| word.len() >= 100 && word.contains("Ci"))
}

#[track_caller]
fn check(place: &str, text: &str) {
    assert_eq!(find_token(text), None, "a token in {place}");
    for (name, secret) in CREDENTIALS {
        assert!(!text.contains(secret), "{name} in {place}");
    }
}

#[test]
fn a_token_is_known_when_it_is_seen() {
    let token = format!("Ci{}~", "aB3_-".repeat(25));
    assert_eq!(find_token(&format!("GET /a?SessionToken={token}&x=1")), Some(token.as_str()));
    assert_eq!(find_token("kvs_hls::net: https://host/hls/v1/getMP4MediaFragment.mp4?…"), None);
}

/// What the program says on its way through one fault, and its metrics.
async fn run(fault: &str) -> (String, String) {
    let name = fault.replace([':', '@'], "-");
    let fault: Fault = fault.parse().unwrap();
    let script = FaultScript::new().at(Duration::from_secs(2), Duration::from_secs(3), fault);
    let camera = SimulatedCamera::builder().stream_name("front-door").faults(script).start().await.unwrap();
    let endpoint = camera.endpoint_url().to_string();
    let run = tokio::task::spawn_blocking(move || {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("secrets-{name}"));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_kvs-hls"));
        command
            .args(["frames", "--stream", "front-door", "--region", "us-east-1", "--endpoint-url", &endpoint])
            .args([
                "--duration",
                "7s",
                "--metrics",
                "0",
                "--preview",
                "0",
                "--select",
                "keyframes",
                "--size",
                "fit:160x90",
            ])
            .args(["--write", "jpeg", "--out", "images", "--summary-json", "summary.json", "--isolate"])
            .envs(CREDENTIALS.into_iter().chain([("RUST_LOG", "trace"), ("AWS_EC2_METADATA_DISABLED", "true")]))
            .env("HOME", &folder)
            .current_dir(&folder);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let mut text = String::new();
        let mut address = |what: &str| {
            let found = said.find_map(|line| {
                text += &format!("{line}\n");
                address_in(&line, what)
            });
            found.expect("an address")
        };
        let (preview, metrics) = (address("preview"), address("metrics"));
        let arguments = std::fs::read_to_string(format!("/proc/{}/cmdline", child.id())).unwrap();
        let watch = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(6));
            get(&metrics, "/metrics").1 + &get(&preview, "/cameras/front-door").1
        });
        said.for_each(|line| text += &format!("{line}\n"));
        let output = child.wait_with_output().unwrap();
        text += &String::from_utf8_lossy(&output.stdout);
        text += &std::fs::read_to_string(folder.join("summary.json")).unwrap();
        for image in std::fs::read_dir(folder.join("images")).unwrap() {
            text += &format!("{}\n", image.unwrap().file_name().to_string_lossy());
        }
        check("the list of processes", &arguments);
        (text, watch.join().unwrap())
    })
    .await
    .unwrap();
    camera.shutdown().await;
    run
}

#[tokio::test(flavor = "multi_thread")]
async fn no_way_of_failing_shows_a_secret() {
    let faults = [
        ["status:400@sessions", "status:401@playlists", "status:403@playlists", "status:404@playlists"],
        ["status:410@playlists", "status:429@playlists", "status:500@all", "status:503@sessions"],
        ["status:403@fragments", "status:404@fragments", "status:503@init", "reset@all"],
        ["slow:2000@all", "truncated@all", "stalled@all", "frozen"],
        ["missing:3", "unlisted:3", "corrupt:2", "gone"],
    ];
    for group in faults {
        let runs = group.map(|fault| tokio::spawn(run(fault)));
        for (fault, run) in group.into_iter().zip(runs) {
            let (text, metrics) = run.await.unwrap();
            assert!(text.contains("TRACE") && text.contains("state=connected"), "{fault}: the log is too short");
            assert!(metrics.contains("kvs_hls_frames_total"), "{fault}: {metrics}");
            check(&format!("what is said of {fault}"), &text);
            assert!(metrics.contains("\"events\":"), "{fault}: {metrics}");
            check(&format!("the metrics and the preview of {fault}"), &metrics);
        }
    }
}
