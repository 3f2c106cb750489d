//! The program in a process that ends with the test.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvs-hls"));
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// A simulated camera and its URL.
pub fn simulate(args: &[&str]) -> (Running, String) {
    let mut command = program();
    command.arg("simulate").args(args).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut camera = Running(command.spawn().unwrap());
    let mut url = String::new();
    BufReader::new(camera.0.stdout.take().unwrap()).read_line(&mut url).unwrap();
    assert!(url.starts_with("http://"), "{args:?} printed {url:?}");
    (camera, url.trim().to_owned())
}

/// Where the program says that it serves `what`.
pub fn address_in(line: &str, what: &str) -> Option<String> {
    Some(line.strip_prefix(what)?.strip_prefix(" at http://")?.split('/').next()?.to_owned())
}

/// Starts the program and reads where it serves `what`: `metrics` or `preview`.
pub fn serving(command: &mut Command, what: &str) -> (Running, String) {
    let mut running = Running(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(running.0.stderr.take().unwrap()).lines();
    let mut said = Vec::new();
    let address = lines.find_map(|line| {
        let line = line.unwrap();
        let address = address_in(&line, what);
        said.push(line);
        address
    });
    spawn(move || lines.for_each(drop));
    (running, address.unwrap_or_else(|| panic!("{said:#?}")))
}

pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(30) {
        if let Some(found) = look() {
            return found;
        }
        sleep(Duration::from_millis(50));
    }
    panic!("never: {what}");
}

/// The status and all of the answer.
pub fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    (text[9..12].parse().unwrap(), text)
}
