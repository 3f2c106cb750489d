//! Motion by the difference of frames; each time something begins to move, a picture is saved.
//! `cargo run --example motion --features cli [FOLDER]`

use kvs_hls::sim::SimulatedCamera;
use kvs_hls::{FixedUrl, FrameSelection, FrameSource, Output};

/// Mean change of a pixel that counts as motion.
const THRESHOLD: f64 = 4.0;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::path::PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "motion".into()));
    std::fs::create_dir_all(&folder)?;
    let simulated = SimulatedCamera::builder().start().await?;
    let url = FixedUrl::new(simulated.url().expose().as_str())?;
    // Small and gray is enough to see motion; 5 frames a second are, too.
    let output = Output::gray().fit(160, 90);
    let source = FrameSource::builder("yard", url).select(FrameSelection::TargetFps(5.0)).output(output).build()?;
    let mut frames = source.start()?;
    let (mut before, mut is_moving): (Option<Vec<u8>>, bool) = (None, false);
    for _ in 0..25 {
        let Some(frame) = frames.next().await.transpose()? else { break };
        if let Some(before) = before.replace(frame.data().to_vec()) {
            let change: u64 = before.iter().zip(frame.data()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
            let change = change as f64 / before.len() as f64;
            let was_moving = std::mem::replace(&mut is_moving, change > THRESHOLD);
            println!("change {change:.1}{}", if is_moving { ": motion" } else { "" });
            if is_moving && !was_moving {
                let path = folder.join(format!("{}.png", frame.meta().media_sequence));
                frame.to_image()?.save(&path)?;
                println!("saved {}", path.display());
            }
        }
    }
    Ok(())
}
