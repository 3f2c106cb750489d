//! Frames as a detector wants them: letterboxed to 640 x 640, channels first, 0 to 1; and its boxes led back to the picture.

use kvs_hls::sim::SimulatedCamera;
use kvs_hls::{FixedUrl, FrameSource, Output};
use ndarray::Array3;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let simulated = SimulatedCamera::builder().start().await?;
    let url = FixedUrl::new(simulated.url().expose().as_str())?;
    let output = Output::rgb().letterbox(640, 640);
    let source = FrameSource::builder("front-door", url).output(output).build()?;
    let mut frames = source.start()?;
    for _ in 0..5 {
        let Some(frame) = frames.next().await.transpose()? else { break };
        let tensor: Array3<f32> = frame.view()?.permuted_axes([2, 0, 1]).mapv(|value| f32::from(value) / 255.0);
        println!("tensor {:?}, mean {:.3}", tensor.shape(), tensor.mean().unwrap_or_default());

        // What a model might have found, in pixels of the tensor.
        let (x, y) = (320.0, 320.0);
        let (width, height) = frame.meta().source_size;
        let placement = output.placement(width, height);
        let scale = width as f64 / placement.width as f64;
        let (x, y) = ((x - placement.x as f64) * scale, (y - placement.y as f64) * scale);
        println!("its middle is at {x:.0}, {y:.0} of {width} x {height}");
    }
    Ok(())
}
