//! What a stream has stored of the last seconds, as PNG files: `cargo run --example archive --features cli [FOLDER]`

use std::time::{Duration, SystemTime};

use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use kvs_hls::sim::SimulatedCamera;
use kvs_hls::{Delivery, FrameSelection, FrameSource, KinesisSession, Output};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::path::PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "archive".into()));
    std::fs::create_dir_all(&folder)?;
    // Against AWS nothing of this is needed: credentials and region come from where the AWS tools look for them.
    let simulated = SimulatedCamera::builder().start().await?;
    let credentials = SharedCredentialsProvider::new(Credentials::new("any", "any", None, None, "example"));
    let config = SdkConfig::builder().region(Region::new("us-east-1")).credentials_provider(credentials).build();
    tokio::time::sleep(Duration::from_secs(4)).await; // so that something is stored

    let end = SystemTime::now() - Duration::from_secs(1);
    let stored = KinesisSession::on_demand(simulated.stream_name(), end - Duration::from_secs(3), end)
        .sdk_config(&config)
        .endpoint_url(simulated.endpoint_url());
    let source = FrameSource::builder("front-door", stored)
        .delivery(Delivery::All)
        .select(FrameSelection::TargetFps(2.0))
        .output(Output::rgb())
        .build()?;
    let mut frames = source.start()?;
    let mut count = 0;
    while let Some(frame) = frames.next().await.transpose()? {
        let millis = frame.captured_at().duration_since(SystemTime::UNIX_EPOCH)?.as_millis();
        frame.to_image()?.save(folder.join(format!("{millis}.png")))?;
        count += 1;
    }
    println!("{count} pictures in {}", folder.display());
    Ok(())
}
