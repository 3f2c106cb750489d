//! `simulate`: a camera for other programs to open.

use std::io::Write;

use kvs_hls::sim::{Recording, SimulatedCamera};

use crate::args::{SimulateArgs, Timestamps};
use crate::failure::Failure;
use crate::stop::Stop;

pub async fn run(args: SimulateArgs) -> Result<(), Failure> {
    let mut stop = Stop::listen();
    let mut camera = SimulatedCamera::builder()
        .bind(args.bind)
        .window(args.window)
        .discontinuity(args.discontinuity.into())
        .timestamps(args.fragment_timestamps == Timestamps::Always)
        .fragment_numbers(args.fragment_numbers.into())
        .epoch_decode_times(args.epoch_tfdt);
    if let Some(video) = args.video {
        camera = camera.recording(Recording::open(video)?);
    }
    let camera = camera.start().await?;
    let recording = camera.timeline().recording();
    eprintln!(
        "simulated camera: {}x{}, {} frames in a loop of {:.1} s, on {}",
        recording.width(),
        recording.height(),
        recording.samples(),
        recording.duration().as_secs_f64(),
        camera.address()
    );
    // The token is the simulator's own, and worth nothing elsewhere.
    let url = camera.url();
    let url = url.expose();
    let mut stdout = std::io::stdout().lock();
    // Nobody may be reading: the camera runs all the same.
    let _ = writeln!(stdout, "{url}").and_then(|()| stdout.flush());
    drop(stdout);
    eprintln!("open it with\n  kvs-hls frames --url '{url}'\n  ffplay '{url}'\nCtrl-C ends it.");
    stop.requested().await;
    camera.shutdown().await;
    Ok(())
}
