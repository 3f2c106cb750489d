//! Frames of one camera, with their capture times: `cargo run --example basic --features sim [URL]`
//!
//! Without a URL it reads a simulated camera. So do the other examples.

use kvs_hls::sim::SimulatedCamera;
use kvs_hls::{FixedUrl, FrameSource, Output};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let simulated = SimulatedCamera::builder().start().await?;
    let url = std::env::args().nth(1).unwrap_or_else(|| simulated.url().expose().to_string());

    let source = FrameSource::builder("front-door", FixedUrl::new(&url)?).output(Output::bgr()).build()?;
    let mut frames = source.start()?;
    for _ in 0..30 {
        let Some(frame) = frames.next().await else { break };
        let frame = frame?; // fatal: everything else was recovered from
        let age = frame.captured_at().elapsed().unwrap_or_default();
        println!("{} x {}, captured {:.2} s ago", frame.width(), frame.height(), age.as_secs_f64());
        if let Some(gap) = frame.meta().gap_before {
            println!("before it {} frames are missing: {}", gap.frames, gap.cause);
        }
    }
    let stats = source.stats();
    println!("{} frames in {} segments, {} gaps", stats.frames, stats.segments, stats.gaps);
    Ok(())
}
