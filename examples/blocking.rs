//! The same without `async`: an iterator, or a wait of limited time.

use std::time::Duration;

use kvs_hls::sim::SimulatedCamera;
use kvs_hls::{FixedUrl, FrameSource};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Runtime::new()?; // for the simulated camera; a source needs none
    let simulated = runtime.block_on(SimulatedCamera::builder().start())?;
    let url = std::env::args().nth(1).unwrap_or_else(|| simulated.url().expose().to_string());

    let source = FrameSource::builder("front-door", FixedUrl::new(&url)?).build()?;
    let mut frames = source.start()?;
    match frames.read_frame(Duration::from_secs(5))? {
        Some(frame) => println!("the first frame has {} bytes", frame.data().len()),
        None => println!("nothing within five seconds"),
    }
    for frame in frames.blocking().take(29) {
        println!("captured {:.2} s ago", frame?.captured_at().elapsed()?.as_secs_f64());
    }
    Ok(())
}
