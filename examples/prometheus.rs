//! Metrics for Prometheus, served by axum from a program of one's own.

use axum::{Router, routing::get};
use kvs_hls::sim::SimulatedCamera;
use kvs_hls::{FixedUrl, FrameSource};
use prometheus::{Registry, TextEncoder};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let registry = Registry::new();
    let simulated = SimulatedCamera::builder().start().await?;
    let url = FixedUrl::new(simulated.url().expose().as_str())?;
    let source = FrameSource::builder("front-door", url).registry(&registry).build()?;

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("metrics at http://{}/metrics for a few seconds", listener.local_addr()?);
    let served = registry.clone();
    let metrics = get(async move || TextEncoder::new().encode_to_string(&served.gather()).unwrap_or_default());
    tokio::spawn(async { axum::serve(listener, Router::new().route("/metrics", metrics)).await });

    let mut frames = source.start()?;
    for _ in 0..60 {
        frames.next().await.transpose()?;
    }
    let text = TextEncoder::new().encode_to_string(&registry.gather())?;
    text.lines().filter(|line| line.starts_with("kvs_hls_frames_total")).for_each(|line| println!("{line}"));
    Ok(())
}
