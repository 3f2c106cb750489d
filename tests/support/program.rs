//! The program in a process that ends with the test.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

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
