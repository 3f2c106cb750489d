//! A simulated camera behind the real SDK clients, with a clock that runs faster.

use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use kvs_hls::net::BoxFuture;
use kvs_hls::sim::{Recording, SimulatedCamera, SimulatedCameraBuilder};
use kvs_hls::{
    Clock, Delivery, Error, FrameSource, FrameSourceBuilder, KinesisSession, Output, Session, SessionProvider,
    SessionRequest,
};

use super::FastClock;

pub const SECRET_KEY: &str = "wJalrXUtnFEMIverysecret";

/// An SDK configuration that needs nothing from the environment.
pub fn sdk_config(endpoint: &str) -> SdkConfig {
    let credentials = Credentials::new("AKIDTEST", SECRET_KEY, None, None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url(endpoint)
        .build()
}

/// Sessions that end sooner than the service allows to ask for, as `session_lifetime` makes the camera end them.
#[derive(Debug)]
pub struct ShortSessions<C = FastClock> {
    pub inner: KinesisSession,
    pub lifetime: Duration,
    pub clock: C,
}

impl<C: Clock> SessionProvider for ShortSessions<C> {
    fn open(&self, request: SessionRequest) -> BoxFuture<'_, Result<Session, Error>> {
        Box::pin(async move {
            let opened = self.clock.wall();
            let session = self.inner.open(request).await?;
            Ok(session.expires_at(opened + self.lifetime))
        })
    }
}

pub fn camera(clock: &FastClock, lifetime: Duration) -> SimulatedCameraBuilder {
    SimulatedCamera::builder()
        .recording(Recording::demo_small())
        .session_lifetime(lifetime)
        .clock(Arc::new(clock.clone()))
}

/// Reads the camera by its session API, gray pictures, all of them.
pub fn source(camera: &SimulatedCamera, clock: &FastClock, lifetime: Duration) -> FrameSourceBuilder {
    let inner = KinesisSession::live(camera.stream_name()).sdk_config(&sdk_config(&camera.endpoint_url()));
    let provider = ShortSessions { inner, lifetime, clock: clock.clone() };
    FrameSource::builder("simulated", provider).delivery(Delivery::All).output(Output::gray()).clock(clock.clone())
}
