//! `simulate`: a camera for other programs to open.

use std::io::Write;
use std::time::Duration;

use kvs_hls::sim::{FaultScript, Recording, SimulatedCamera};

use crate::args::{SimulateArgs, Timestamps};
use crate::failure::Failure;
use crate::stop::Stop;

/// How far random faults reach.
const RANDOM_FAULTS: Duration = Duration::from_secs(24 * 3600);

pub async fn run(args: SimulateArgs) -> Result<(), Failure> {
    let mut stop = Stop::listen();
    let mut faults: FaultScript = args.fault.into_iter().collect();
    if let Some(seed) = args.seed {
        // A recording of one's own has no second one to change to.
        faults.extend(FaultScript::random(seed, RANDOM_FAULTS, args.video.is_none()).iter().copied());
    }
    let mut camera = SimulatedCamera::builder()
        .bind(args.bind)
        .stream_name(args.stream)
        .window(args.window)
        .discontinuity(args.discontinuity.into())
        .timestamps(args.fragment_timestamps == Timestamps::Always)
        .fragment_numbers(args.fragment_numbers.into())
        .epoch_decode_times(args.epoch_tfdt)
        .faults(faults);
    if let Some(lifetime) = args.session_lifetime {
        camera = camera.session_lifetime(lifetime);
    }
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
    let script = camera.fault_script();
    for fault in script.iter().take_while(|fault| fault.from < Duration::from_secs(600)) {
        eprintln!("fault {fault}");
    }
    // The token is the simulator's own, and worth nothing elsewhere.
    let url = camera.url();
    let url = url.expose();
    let mut stdout = std::io::stdout().lock();
    // Nobody may be reading: the camera runs all the same.
    let _ = writeln!(stdout, "{url}").and_then(|()| stdout.flush());
    drop(stdout);
    eprintln!("open it with\n  kvs-hls frames --url '{url}'\n  ffplay '{url}'");
    eprintln!(
        "or, as AWS clients do, stream {} with --endpoint-url {} and any credentials\nCtrl-C ends it.",
        camera.stream_name(),
        camera.endpoint_url()
    );
    stop.requested().await;
    camera.shutdown().await;
    Ok(())
}
