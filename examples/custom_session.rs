//! Sessions of a service of one's own: whatever hands out URLs that expire.

use std::time::{Duration, SystemTime};

use kvs_hls::net::BoxFuture;
use kvs_hls::sim::SimulatedCamera;
use kvs_hls::{Error, FrameSource, SecretUrl, Session, SessionProvider, SessionRequest};

/// Asks nobody: a real one would call its service here, and turn what it says into an `Error` with status and name.
#[derive(Debug)]
struct Gateway(SecretUrl);

impl SessionProvider for Gateway {
    fn open(&self, request: SessionRequest) -> BoxFuture<'_, Result<Session, Error>> {
        println!("a session for {:?}", request.duration);
        let lifetime = Duration::from_secs(6); // the source opens the next one before this is over
        Box::pin(async move { Ok(Session::new(self.0.clone()).expires_at(SystemTime::now() + lifetime)) })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let simulated = SimulatedCamera::builder().start().await?;
    let source = FrameSource::builder("front-door", Gateway(simulated.url())).build()?;
    let mut frames = source.start()?;
    let mut count = 0;
    while count < 100 && frames.next().await.transpose()?.is_some() {
        count += 1;
    }
    println!("{count} frames, {} sessions replaced, {} gaps", source.stats().refreshes, source.stats().gaps);
    Ok(())
}
