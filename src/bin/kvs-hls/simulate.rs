//! `simulate`: a camera for other programs to open, or several.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kvs_hls::sim::{FaultScript, Recording, SimulatedCamera};

use crate::args::{SimulateArgs, Timestamps};
use crate::failure::Failure;
use crate::stop::Stop;

/// How far random faults reach.
const RANDOM_FAULTS: Duration = Duration::from_secs(24 * 3600);

/// The first line of the fleet's file, which is written over the next time.
const FLEET: &str = "# Written by `kvs-hls simulate`; its cameras end with it.";

pub async fn run(args: SimulateArgs) -> Result<(), Failure> {
    let mut stop = Stop::listen();
    let recording = args.video.as_ref().map(Recording::open).transpose()?.map(Arc::new);
    let mut cameras = Vec::new();
    for number in 0..args.cameras {
        cameras.push(start(&args, recording.clone(), number).await?);
    }
    if let Some(camera) = cameras.first() {
        let recording = camera.timeline().recording();
        eprintln!(
            "simulated camera: {}x{}, {} frames in a loop of {:.1} s",
            recording.width(),
            recording.height(),
            recording.samples(),
            recording.duration().as_secs_f64(),
        );
        for fault in camera.fault_script().iter().take_while(|fault| fault.from < Duration::from_secs(600)) {
            eprintln!("fault {fault}");
        }
    }
    // The tokens are the simulator's own, and worth nothing elsewhere.
    let urls: Vec<_> = cameras.iter().map(|camera| camera.url().expose().to_string()).collect();
    if let Some(path) = &args.fleet {
        let entry =
            |(url, number): (&String, usize)| format!("[[camera]]\nid = \"camera-{number}\"\nurl = \"{url}\"\n");
        let text: Vec<_> = urls.iter().zip(1..).map(entry).collect();
        if std::fs::read_to_string(path).is_ok_and(|text| !text.starts_with(FLEET)) {
            let path = path.display();
            return Err(Failure::usage(format!(
                "--fleet {path}: that file is another's and would be lost; give a new name"
            )));
        }
        std::fs::write(path, format!("{FLEET}\n{}", text.join("\n")))
            .map_err(|error| Failure::unwritable(path, error))?;
    }
    let mut stdout = std::io::stdout().lock();
    // Nobody may be reading: the camera runs all the same.
    let _ = writeln!(stdout, "{}", urls.join("\n")).and_then(|()| stdout.flush());
    drop(stdout);
    if let Some(path) = &args.fleet {
        eprintln!("open all with\n  kvs-hls fleet {} --preview", path.display());
    }
    if let (Some(camera), Some(url)) = (cameras.first(), urls.first()) {
        let first = if cameras.len() == 1 { "it" } else { "the first" };
        eprintln!("open {first} with\n  kvs-hls frames --url '{url}' --preview\n  ffplay '{url}'");
        eprintln!(
            "or, as AWS clients do, with any credentials\n  AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any kvs-hls frames \
             --stream {} --region us-east-1 --endpoint-url {}\nCtrl-C ends it.",
            camera.stream_name(),
            camera.endpoint_url()
        );
    }
    stop.requested().await;
    for camera in cameras {
        camera.shutdown().await;
    }
    Ok(())
}

async fn start(
    args: &SimulateArgs,
    recording: Option<Arc<Recording>>,
    number: u16,
) -> Result<SimulatedCamera, Failure> {
    let mut faults: FaultScript = args.fault.iter().cloned().collect();
    if let Some(seed) = args.seed {
        // A recording of one's own has no second one to change to.
        faults.extend(FaultScript::random(seed, RANDOM_FAULTS, recording.is_none()).iter().copied());
    }
    let port = match args.bind.port() {
        0 => 0, // any free one
        first => first.checked_add(number).ok_or_else(|| Failure::usage("--cameras: there are not so many ports"))?,
    };
    let mut camera = SimulatedCamera::builder()
        .bind(SocketAddr::new(args.bind.ip(), port))
        .stream_name(args.stream.clone())
        .window(args.window)
        .discontinuity(args.discontinuity.into())
        .timestamps(args.fragment_timestamps == Timestamps::Always)
        .fragment_numbers(args.fragment_numbers.into())
        .epoch_decode_times(args.epoch_tfdt)
        .faults(faults);
    if let Some(lifetime) = args.session_lifetime {
        camera = camera.session_lifetime(lifetime);
    }
    if let Some(recording) = recording {
        camera = camera.recording(recording);
    }
    Ok(camera.start().await?)
}
