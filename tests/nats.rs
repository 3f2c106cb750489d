//! Frames published to a real NATS server: each is stored once, whatever the server goes through.
#![cfg(target_os = "linux")]

#[path = "support/program.rs"]
mod program;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{PullConsumer, pull};
use async_nats::jetstream::{self, stream};
use async_nats::{HeaderMap, Message};
use futures_util::StreamExt;
use program::{Running, simulate};
use serde_json::Value;
use tokio::time::sleep;

const FRAME: f64 = 1.0 / 15.0;

fn program() -> Command {
    let mut command = program::program();
    for name in ["CREDS", "USER", "PASSWORD", "TOKEN", "CA"] {
        command.env_remove(format!("NATS_{name}"));
    }
    command
}

struct Server {
    folder: PathBuf,
    port: u16,
    args: Vec<&'static str>,
    running: Option<Running>,
}

impl Server {
    /// `None` where there is none: CI installs one.
    fn new(name: &str, args: &[&'static str]) -> Option<Self> {
        if Command::new("nats-server").arg("--version").output().is_err() {
            eprintln!("note: no nats-server on this machine, so nothing is published to one");
            return None;
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("nats-{name}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        Some(Self { folder, port, args: args.to_vec(), running: None })
    }

    async fn start(&mut self) {
        let mut command = Command::new("nats-server");
        command.args(["-a", "127.0.0.1", "-p", &self.port.to_string(), "-sd"]).arg(&self.folder).args(&self.args);
        self.running = Some(Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()));
        until("the server", async || TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()).await;
    }

    fn kill(&mut self) {
        self.running = None;
    }

    fn out(&self, subject: &str) -> String {
        format!("nats://127.0.0.1:{}/{subject}", self.port)
    }

    async fn jetstream(&self) -> jetstream::Context {
        jetstream::new(async_nats::connect(("127.0.0.1:".to_owned() + &self.port.to_string()).as_str()).await.unwrap())
    }
}

async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(40) {
        if let Some(found) = look().await {
            return found;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("never: {what}");
}

async fn stored(jetstream: &jetstream::Context, name: &str) -> u64 {
    match jetstream.get_stream(name).await {
        Ok(mut stream) => stream.info().await.unwrap().state.messages,
        Err(_) => 0,
    }
}

/// A worker's queue: what one has acknowledged no other gets.
async fn queue(jetstream: &jetstream::Context, name: &str) -> PullConsumer {
    let config = pull::Config { durable_name: Some("workers".into()), ..pull::Config::default() };
    jetstream.get_stream(name).await.unwrap().get_or_create_consumer("workers", config).await.unwrap()
}

async fn take(queue: &PullConsumer, most: usize) -> Vec<Message> {
    let mut batch = queue.fetch().max_messages(most).messages().await.unwrap();
    let mut taken = Vec::new();
    while let Some(message) = batch.next().await {
        let message = message.unwrap();
        message.ack().await.unwrap();
        taken.push(message.message);
    }
    taken
}

fn metadata(message: &Message) -> Value {
    let headers: &HeaderMap = message.headers.as_ref().unwrap();
    serde_json::from_str(headers.get("Kvs-Hls-Frame").unwrap().as_str()).unwrap()
}

/// Presentation times in frames, in the order of capture.
fn counted(frames: &[Value]) -> Vec<i64> {
    let times: BTreeSet<_> =
        frames.iter().map(|frame| (frame["pts_seconds"].as_f64().unwrap() / FRAME).round() as i64).collect();
    times.into_iter().collect()
}

fn fleet(server: &Server, url: &str, more: &str) -> Running {
    let out = server.out("frames.{id}");
    let file = format!("[[camera]]\nid = \"yard\"\nurl = \"{url}\"\nout = \"{out}\"\n{more}\n");
    fs::write(server.folder.join("cameras.toml"), file).unwrap();
    let mut command = program();
    command.current_dir(&server.folder).args(["fleet", "cameras.toml", "--summary-json", "summary.json"]);
    Running(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
}

/// Ends a fleet as Kubernetes does; what it said, and how many frames it read.
fn end(mut fleet: Running, server: &Server) -> (String, u64) {
    assert!(Command::new("kill").args(["-TERM", &fleet.0.id().to_string()]).status().unwrap().success());
    let mut said = String::new();
    fleet.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(fleet.0.wait().unwrap().code(), Some(0), "{said}");
    let summary: Value =
        serde_json::from_str(&fs::read_to_string(server.folder.join("summary.json")).unwrap()).unwrap();
    (said, summary["cameras"][0]["runs"][0]["frames"].as_u64().unwrap())
}

fn frames(url: &str, args: &[&str]) -> Output {
    program().args(["frames", "--url", url]).args(args).output().unwrap()
}

#[tokio::test]
async fn cameras_that_share_a_subject_are_told_apart() {
    let Some(mut server) = Server::new("shared", &["-js"]) else { return };
    server.start().await;
    let (_camera, url) = simulate(&[]);
    let more = format!(
        "write = \"json\"\n[[camera]]\nid = \"gate\"\nurl = \"{url}\"\nwrite = \"json\"\nout = \"{0}\"",
        server.out("frames.yard")
    );
    let fleet = fleet(&server, &url, &more);
    let jetstream = server.jetstream().await;
    until("frames", async || (stored(&jetstream, "frames").await > 60).then_some(())).await;
    let (said, _) = end(fleet, &server);
    assert!(!said.contains("not written"), "{said}");
    let summary: Value =
        serde_json::from_str(&fs::read_to_string(server.folder.join("summary.json")).unwrap()).unwrap();
    let read = |index: usize| summary["cameras"][index]["runs"][0]["frames"].as_u64().unwrap();
    assert_eq!(stored(&jetstream, "frames").await, read(0) + read(1), "the same pictures of two cameras");
}

#[tokio::test]
async fn each_frame_is_stored_once_though_the_server_dies() {
    let Some(mut server) = Server::new("dies", &["-js"]) else { return };
    server.start().await;
    let (_camera, url) = simulate(&[]);
    let fleet = fleet(&server, &url, "write = \"jpeg\"\nsize = \"fit:320x180\"");
    let jetstream = server.jetstream().await;
    until("frames", async || (stored(&jetstream, "frames").await > 30).then_some(())).await;
    server.kill();
    sleep(Duration::from_secs(3)).await;
    server.start().await;
    let jetstream = server.jetstream().await;
    until("more frames", async || (stored(&jetstream, "frames").await > 100).then_some(())).await;
    let (said, read) = end(fleet, &server);
    assert!(!said.contains("not written"), "{said}");

    let queue = queue(&jetstream, "frames").await;
    let messages = take(&queue, 1000).await;
    assert_eq!(messages.len() as u64, read, "one for each frame");
    let frames: Vec<_> = messages.iter().map(metadata).collect();
    let counted = counted(&frames);
    assert_eq!(counted.len(), frames.len(), "no frame twice");
    assert_eq!(counted[counted.len() - 1] - counted[0] + 1, counted.len() as i64, "no frame missing");
    for (message, frame) in messages.iter().zip(&frames) {
        assert_eq!(message.subject.as_str(), "frames.yard");
        assert_eq!(message.headers.as_ref().unwrap().get("Content-Type").unwrap().as_str(), "image/jpeg");
        assert_eq!((&frame["camera"], &frame["width"], &frame["height"]), (&"yard".into(), &320.into(), &180.into()));
        let picture = image::load_from_memory_with_format(&message.payload, image::ImageFormat::Jpeg).unwrap();
        assert_eq!((picture.width(), picture.height()), (320, 180));
    }
    let limits = jetstream.get_stream("frames").await.unwrap().info().await.unwrap().config.clone();
    assert!(limits.max_bytes > 0 && !limits.max_age.is_zero(), "a stream made on the way does not fill the disk");
}

#[tokio::test]
async fn a_server_that_comes_late_gets_what_follows() {
    let Some(mut server) = Server::new("late", &["-js"]) else { return };
    let (_camera, url) = simulate(&[]);
    let fleet = fleet(&server, &url, "write = \"json\"");
    sleep(Duration::from_secs(2)).await;
    server.start().await;
    let jetstream = server.jetstream().await;
    until("frames", async || (stored(&jetstream, "frames").await > 15).then_some(())).await;
    let (said, read) = end(fleet, &server);
    assert!(said.contains("frames are not written") && said.contains("cannot publish to nats://127.0.0.1"), "{said}");
    let messages = take(&queue(&jetstream, "frames").await, 1000).await;
    assert!((messages.len() as u64) < read);
    let bodies: Vec<Value> = messages.iter().map(|message| serde_json::from_slice(&message.payload).unwrap()).collect();
    let counted = counted(&bodies);
    assert_eq!(counted[counted.len() - 1] - counted[0] + 1, messages.len() as i64, "from then on each");
}

#[tokio::test]
async fn a_full_stream_holds_up_the_camera_and_two_workers_share_the_frames() {
    let Some(mut server) = Server::new("full", &["-js"]) else { return };
    server.start().await;
    let jetstream = server.jetstream().await;
    let config = stream::Config {
        name: "work".into(),
        subjects: vec!["frames.>".into()],
        retention: stream::RetentionPolicy::WorkQueue,
        discard: stream::DiscardPolicy::New,
        max_messages: 20,
        ..stream::Config::default()
    };
    jetstream.create_stream(config).await.unwrap();
    let (_camera, url) = simulate(&[]);
    let mut command = program();
    command.args([
        "frames",
        "--url",
        &url,
        "--max-frames",
        "90",
        "--write",
        "json",
        "--out",
        &server.out("frames.yard"),
    ]);
    let mut reader = Running(command.stderr(Stdio::null()).spawn().unwrap());
    until("a full stream", async || (stored(&jetstream, "work").await == 20).then_some(())).await;
    sleep(Duration::from_secs(4)).await;
    assert!(reader.0.try_wait().unwrap().is_none(), "it waits");
    let (left, deadline) = (Cell::new(90), Instant::now() + Duration::from_secs(30));
    let work = async || {
        let (queue, mut taken) = (queue(&jetstream, "work").await, Vec::new());
        while left.get() > 0 && Instant::now() < deadline {
            let messages = take(&queue, 7).await;
            left.set(left.get() - messages.len() as i32);
            taken.extend(messages);
            sleep(Duration::from_millis(100)).await;
        }
        taken
    };
    let (one, other) = tokio::join!(work(), work());
    assert!(reader.0.wait().unwrap().success());
    assert!(!one.is_empty() && !other.is_empty(), "{} and {}", one.len(), other.len());
    let frames: Vec<_> = one.iter().chain(&other).map(metadata).collect();
    let counted = counted(&frames);
    assert_eq!((frames.len(), counted.len()), (90, 90), "each frame to one worker");
    assert_eq!(counted[89] - counted[0], 89, "none was lost");
}

#[tokio::test]
async fn what_cannot_be_published_is_said() {
    let Some(mut server) = Server::new("said", &["--user", "reader", "--pass", "CiSecretWord"]) else { return };
    let (_camera, url) = simulate(&[]);
    let out = server.out("frames.yard");
    let tried = |more: &[&str], user: Option<&str>| {
        let mut command = program();
        user.map(|user| command.env("NATS_USER", user).env("NATS_PASSWORD", "CiSecretWord"));
        command.args(["--log", "trace", "frames", "--url", &url, "--max-frames", "3", "--out", &out]).args(more);
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!said.contains("CiSecretWord"), "{said}");
        let report = said.rfind("\nerror: ").map_or(said.as_str(), |start| &said[start..]);
        (output.status.code(), report.to_owned())
    };
    let says = |(code, said): (Option<i32>, String), words: &[&str]| {
        assert!(code == Some(1) && words.iter().all(|word| said.contains(word)), "{code:?} {said}");
    };
    says(tried(&["--write", "json"], None), &["cannot publish to nats://127.0.0.1:", "Connection refused"]);
    server.start().await;
    says(tried(&["--write", "json"], None), &["cannot publish to nats://127.0.0.1:", "authorization"]);
    // The refusal of the first is known before the second comes.
    let slow = ["--write", "json", "--pacing", "by-time"];
    says(tried(&slow, Some("reader")), &["no stream takes frames.yard", "JetStream"]);
    server.kill();
    server.args.push("-js");
    server.start().await;
    assert_eq!(tried(&["--write", "json"], Some("reader")).0, Some(0));
    let large = ["--write", "raw", "--size", "exact:1280x720"];
    says(tried(&large, Some("reader")), &["message of 2764800 bytes", "1048576 (max_payload)"]);

    let output = frames(&url, &["--write", "json", "--out", "nats://me:CiSecretWord@h/a"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(2) && said.contains("NATS_PASSWORD") && !said.contains("CiSecretWord"),
        "{said}"
    );
    let output = frames(&url, &["--write", "y4m", "--out", &out]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("jpeg, png, raw and json"), "{said}");
}
