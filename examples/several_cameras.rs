//! Several cameras on shared threads. One that fails does not touch the others.

use kvs_hls::sim::SimulatedCamera;
use kvs_hls::{FixedUrl, Fleet, FrameSelection, FrameSource};
use tokio::task::JoinSet;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let fleet = Fleet::new()?;
    let (mut simulated, mut readers) = (Vec::new(), JoinSet::new());
    for name in ["front-door", "yard", "gate"] {
        let camera = SimulatedCamera::builder().start().await?;
        let url = FixedUrl::new(camera.url().expose().as_str())?;
        simulated.push(camera);
        let source = FrameSource::builder(name, url).select(FrameSelection::TargetFps(5.0)).build()?;
        let mut frames = fleet.start(source)?;
        readers.spawn(async move {
            let mut count = 0;
            while count < 10
                && let Some(frame) = frames.next().await
            {
                match frame {
                    Ok(_) => count += 1,
                    Err(error) => return format!("{name}: {error}"),
                }
            }
            format!("{name}: {count} frames")
        });
    }
    while let Some(told) = readers.join_next().await {
        println!("{}", told?);
    }
    Ok(())
}
