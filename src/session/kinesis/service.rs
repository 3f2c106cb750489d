//! The two calls.

use std::fmt;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_kinesisvideo as control;
use aws_sdk_kinesisvideo::config::IdentityCache;
use aws_sdk_kinesisvideo::types::ApiName;
use aws_sdk_kinesisvideoarchivedmedia as archived;
use aws_sdk_kinesisvideoarchivedmedia::types::{
    ContainerFormat, HlsDiscontinuityMode, HlsDisplayFragmentTimestamp, HlsFragmentSelector, HlsFragmentSelectorType,
    HlsPlaybackMode, HlsTimestampRange,
};
use tokio::sync::Mutex;
use tracing::Dispatch;
use tracing::instrument::WithSubscriber;

use super::failure::failure;
use super::options::{FragmentSelector, Playback, Stream, check_region};
use super::{KinesisSession, Window};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind};
use crate::options::DiscontinuityMode;
use crate::secret::SecretUrl;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// With the time that it takes to load credentials.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// Region and credentials, and the endpoint they led to.
pub(super) struct Service {
    sdk: SdkConfig,
    region: String,
    /// The client for the stream's data endpoint, once that is known.
    data: Option<archived::Client>,
}

/// What the cameras of a fleet share: the AWS configurations that have been loaded, one for each region, with their
/// credentials; and the account's quota.
#[derive(Default)]
pub(in crate::session) struct Configs {
    loaded: Mutex<Vec<(Option<Region>, SdkConfig)>>,
    pub(in crate::session) pace: Pace,
}

/// Calls of GetDataEndpoint one behind the other: the account has 300 a second for all its machines and streams together, and
/// a fleet begins with all its cameras at once.
pub(in crate::session) struct Pace(std::sync::Mutex<(Duration, Option<Instant>)>);

impl Default for Pace {
    fn default() -> Self {
        Self(std::sync::Mutex::new((Duration::from_millis(20), None)))
    }
}

impl Pace {
    fn lock(&self) -> MutexGuard<'_, (Duration, Option<Instant>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::session) fn set(&self, calls_per_second: u32) {
        self.lock().0 = Duration::from_secs(1) / calls_per_second.max(1);
    }

    /// How long the caller has to wait for its turn.
    fn reserve(&self, now: Instant) -> Duration {
        let mut pace = self.lock();
        let at = pace.1.map_or(now, |next| next.max(now));
        pace.1 = Some(at + pace.0);
        at.saturating_duration_since(now)
    }

    async fn turn(&self, clock: &dyn Clock) {
        let wait = self.reserve(clock.now());
        if !wait.is_zero() {
            clock.sleep(wait).await;
        }
    }
}

impl fmt::Debug for Configs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Configs")
    }
}

impl Configs {
    /// Held while one is loaded, so that it is loaded once.
    async fn load(&self, region: Option<&Region>) -> SdkConfig {
        let mut configs = self.loaded.lock().await;
        if let Some((_, sdk)) = configs.iter().find(|(known, _)| known.as_ref() == region) {
            return sdk.clone();
        }
        let sdk = load(region).await;
        configs.push((region.cloned(), sdk.clone()));
        sdk
    }

    /// Credentials were refused: they are loaded anew.
    pub(super) async fn forget(&self) {
        self.loaded.lock().await.clear();
    }
}

async fn load(region: Option<&Region>) -> SdkConfig {
    let loader = aws_config::defaults(BehaviorVersion::latest());
    match region {
        Some(region) => loader.region(region.clone()),
        None => loader,
    }
    .load()
    .await
}

impl Service {
    /// Finds the region and who provides credentials; those are loaded by the first call, never taken from an earlier time.
    ///
    /// # Errors
    /// `Config` without a region, with one that is none, or with an `sdk_config` that has no credentials provider.
    pub(super) async fn load(options: &KinesisSession, stream: Stream<'_>) -> Result<Self, Error> {
        let region = match (&options.region, stream) {
            (Some(region), _) => Some(region.clone()),
            (None, Stream::Arn { region, .. }) => Some(region.to_owned()),
            (None, Stream::Name(_)) => None,
        }
        .map(Region::new);
        let sdk = match &options.sdk_config {
            // Its cache may hold the credentials that were refused.
            Some(sdk) => sdk.clone().into_builder().identity_cache(IdentityCache::lazy().build()).build(),
            None => match options.configs.get() {
                Some(configs) => configs.load(region.as_ref()).await,
                None => load(region.as_ref()).await,
            },
        };
        let Some(region) = region.or_else(|| sdk.region().cloned()) else {
            let context = "no AWS region (the stream's region, as in --region or .region(…), AWS_REGION, a profile with a \
                           region or the stream's ARN gives one)";
            return Err(Error::new(ErrorKind::Config, context));
        };
        // One that the environment or a profile gives has not been looked at yet.
        let stands_in = options.endpoint_url.is_some() || sdk.endpoint_url().is_some();
        check_region(region.as_ref(), stands_in)?;
        if sdk.credentials_provider().is_none() {
            let context = "sdk_config without credentials (a credentials provider is needed)";
            return Err(Error::new(ErrorKind::Config, context));
        }
        let limits = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .operation_timeout(CALL_TIMEOUT);
        let chosen = sdk.timeout_config().map_or_else(TimeoutConfig::builder, TimeoutConfig::to_builder);
        let version = sdk.behavior_version().unwrap_or_else(BehaviorVersion::latest);
        let sdk = sdk
            .into_builder()
            .behavior_version(version) // clients panic without one
            .region(region.clone())
            .retry_config(RetryConfig::disabled()) // one place decides about retries, and counts them
            .timeout_config(chosen.take_unset_from(limits).build())
            .build();
        Ok(Self { sdk, region: region.to_string(), data: None })
    }

    /// Asks for a session of this length.
    ///
    /// # Errors
    /// As [`failure`] says. Most of them make the next call ask for the endpoint again.
    pub(super) async fn session_url(
        &mut self,
        options: &KinesisSession,
        stream: Stream<'_>,
        window: Option<Window>,
        duration: Duration,
    ) -> Result<SecretUrl, Error> {
        let client = match &self.data {
            Some(client) => client,
            None => {
                let client = self.data_client(options, stream).await?;
                self.data.insert(client)
            }
        };
        let (name, arn) = name_or_arn(stream);
        let selector = HlsFragmentSelector::builder()
            .fragment_selector_type(match options.selector {
                FragmentSelector::ServerTimestamp => HlsFragmentSelectorType::ServerTimestamp,
                FragmentSelector::ProducerTimestamp => HlsFragmentSelectorType::ProducerTimestamp,
            })
            .set_timestamp_range(window.map(timestamp_range))
            .build();
        let request = client
            .get_hls_streaming_session_url()
            .set_stream_name(name)
            .set_stream_arn(arn)
            .playback_mode(match options.playback {
                Playback::Live => HlsPlaybackMode::Live,
                Playback::LiveReplay { .. } => HlsPlaybackMode::LiveReplay,
                Playback::OnDemand { .. } => HlsPlaybackMode::OnDemand,
            })
            .hls_fragment_selector(selector)
            .container_format(ContainerFormat::FragmentedMp4)
            .set_discontinuity_mode(options.discontinuity.map(|mode| match mode {
                DiscontinuityMode::Always => HlsDiscontinuityMode::Always,
                DiscontinuityMode::Never => HlsDiscontinuityMode::Never,
                DiscontinuityMode::OnDiscontinuity => HlsDiscontinuityMode::OnDiscontinuity,
            }))
            .display_fragment_timestamp(match options.display_fragment_timestamp {
                true => HlsDisplayFragmentTimestamp::Always,
                false => HlsDisplayFragmentTimestamp::Never,
            })
            .set_expires(i32::try_from(duration.as_secs()).ok())
            .set_max_media_playlist_fragment_results(options.max_fragments.map(i64::from));
        let call = format!("GetHLSStreamingSessionURL in {}", self.region);
        let answer = quietly(request.send()).await.map_err(|error| failure(&call, &error)).inspect_err(|error| {
            // Neither a busy nor a silent stream is the endpoint's fault.
            if !is_throttling(error) && !error.is_silence() {
                self.data = None;
            }
        })?;
        parsed_url(&call, answer.hls_streaming_session_url())
    }

    async fn data_client(&self, options: &KinesisSession, stream: Stream<'_>) -> Result<archived::Client, Error> {
        let mut config = control::config::Builder::from(&self.sdk);
        if let Some(url) = &options.endpoint_url {
            config = config.endpoint_url(url);
        }
        let (name, arn) = name_or_arn(stream);
        let request = control::Client::from_conf(config.build())
            .get_data_endpoint()
            .set_stream_name(name)
            .set_stream_arn(arn)
            .api_name(ApiName::GetHlsStreamingSessionUrl);
        if let Some(configs) = options.configs.get() {
            configs.pace.turn(&*options.clock).await;
        }
        let call = format!("GetDataEndpoint in {}", self.region);
        let answer = quietly(request.send()).await.map_err(|error| failure(&call, &error))?;
        let endpoint = parsed_url(&call, answer.data_endpoint())?;
        tracing::debug!(%endpoint, "data endpoint loaded");
        let config = archived::config::Builder::from(&self.sdk).endpoint_url(endpoint.expose().as_str());
        Ok(archived::Client::from_conf(config.build()))
    }
}

/// Silences the SDK's own logs: at level trace they hold whole requests and answers, session token and all.
async fn quietly<F: Future>(call: F) -> F::Output {
    call.with_subscriber(Dispatch::none()).await
}

fn name_or_arn(stream: Stream<'_>) -> (Option<String>, Option<String>) {
    match stream {
        Stream::Name(name) => (Some(name.to_owned()), None),
        Stream::Arn { arn, .. } => (None, Some(arn.to_owned())),
    }
}

fn timestamp_range(window: Window) -> HlsTimestampRange {
    let time = |time: SystemTime| archived::primitives::DateTime::from(time);
    HlsTimestampRange::builder().start_timestamp(time(window.start)).set_end_timestamp(window.end.map(time)).build()
}

fn parsed_url(call: &str, text: Option<&str>) -> Result<SecretUrl, Error> {
    let url = text.and_then(|text| SecretUrl::parse(text).ok());
    url.filter(|url| matches!(url.expose().scheme(), "http" | "https"))
        .ok_or_else(|| Error::new(ErrorKind::Session, format!("{call} answered without a usable URL")))
}

fn is_throttling(error: &Error) -> bool {
    let code = error.code().unwrap_or_default();
    error.status() == Some(429) || ["ClientLimitExceeded", "Throttl"].iter().any(|name| code.starts_with(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn calls_of_a_fleet_come_one_behind_the_other() {
        let pace = Pace::default();
        pace.set(5);
        let start = SystemClock.now();
        let at = |millis| start + Duration::from_millis(millis);
        let waits = [0, 0, 0, 150, 5000, 5000].map(|millis| pace.reserve(at(millis)).as_millis());
        assert_eq!(waits, [0, 200, 400, 450, 0, 200], "at most five a second, and no debt after a pause");
        pace.set(0);
        assert_eq!(pace.reserve(at(9000)), Duration::ZERO);
    }
}
