//! `kvs-hls`: frames of a live camera on the command line.
//!
//! | file | does |
//! | --- | --- |
//! | `args.rs` | the command line |
//! | `source.rs` | where frames come from: a URL or a stream of Kinesis Video Streams |
//! | `camera.rs` | a camera as options describe it |
//! | `frames.rs` | `frames`: reads a stream and hands each frame to a writer |
//! | `write/` | one file for each format that `frames` writes |
//! | `fleet/` | `fleet`: reads the cameras that a file names |
//! | `probe.rs`, `report.rs` | `probe`: says what is at a URL |
//! | `demo.rs`, `check.rs` | `demo`: reads a simulated camera and checks every frame |
//! | `simulate.rs` | `simulate`: runs the simulated camera for other programs |
//! | `display.rs` | what a terminal shows meanwhile |
//! | `view.rs` | what people and probes see of a camera |
//! | `serve.rs`, `preview/` | metrics, health, and the web page |
//! | `summary.rs` | what happened, as text and JSON |
//! | `generate.rs` | completions for shells, manual pages |
//! | `failure.rs` | how an error ends the program, and what to try next |
//! | `stop.rs` | Ctrl-C and SIGTERM |
//!
//! Data goes to standard output, words go to standard error.

mod args;
mod camera;
mod check;
mod demo;
mod display;
mod failure;
mod fleet;
mod frames;
mod generate;
mod preview;
mod probe;
mod report;
mod serve;
mod simulate;
mod source;
mod stop;
mod summary;
mod view;
mod write;

use std::fs::File;
use std::io::{self, IsTerminal, stderr};
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use args::{Args, Command};
use display::Words;
use failure::Failure;

fn main() -> ExitCode {
    #[cfg(unix)]
    if std::env::args_os().skip(1).eq([camera::DECODER]) {
        let served = kvs_hls::decode::serve_decoder();
        return served
            .map_or_else(|error| Failure::io("cannot decode for others", error).report(), |()| ExitCode::SUCCESS);
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return failure::refuse(&error),
    };
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(args: Args) -> Result<(), Failure> {
    match &args.command {
        Command::Completions { shell } => return generate::completions(*shell),
        Command::Man { directory } => return generate::manual(directory),
        _ => {}
    }
    start_log(&args)?;
    has_files_left().map_err(|error| Failure::io("no files can be opened", error))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::io("no threads can be started", error))?;
    let result = runtime.block_on(async {
        match args.command {
            Command::Frames(args) => frames::run(*args).await,
            Command::Fleet(args) => fleet::run(args).await,
            Command::Probe(args) => probe::run(args).await,
            Command::Demo(args) => demo::run(args).await,
            Command::Simulate(args) => simulate::run(args).await,
            Command::Completions { .. } | Command::Man { .. } => Ok(()), // done above, without a runtime
        }
    });
    runtime.shutdown_background();
    result
}

/// The runtime panics where it cannot have the few files that it needs.
fn has_files_left() -> io::Result<()> {
    const NEEDED: usize = 8;
    let path = std::env::current_exe()?;
    (0..NEEDED).map(|_| File::open(&path)).collect::<io::Result<Vec<_>>>().map(drop)
}

/// A word alone would be taken for the name of a module, and nothing be logged.
fn is_directive(word: &str) -> bool {
    word.contains(['=', '[', ':']) || word.trim().parse::<LevelFilter>().is_ok()
}

/// Logs go to standard error: `--log`, else `RUST_LOG`, else what needs attention.
fn start_log(args: &Args) -> Result<(), Failure> {
    if let Some(word) = args.log.iter().flat_map(|log| log.split(',')).find(|word| !is_directive(word)) {
        let text = format!(
            "--log {word}: error, warn, info, debug, trace, off, or MODULE=LEVEL such as kvs_hls=debug is allowed"
        );
        return Err(Failure::usage(text));
    }
    let wanted = args.log.clone().or_else(|| std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty()));
    // The demo's own display stands where log lines would. What the SDK warns of comes as the camera's error too, for people.
    let default = if matches!(args.command, Command::Demo(_)) { "error" } else { "warn,aws_config=error" };
    let filter = EnvFilter::builder()
        .parse(wanted.as_deref().unwrap_or(default))
        .map_err(|error| Failure::usage(format!("log filter that cannot be read: {error}")))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Words)
        .with_ansi(stderr().is_terminal() && display::wants_color())
        .init();
    Ok(())
}
