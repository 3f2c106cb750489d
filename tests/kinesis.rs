//! Sessions of Kinesis Video Streams: the real SDK against a server that answers the two calls.

mod support;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use kvs_hls::{
    Clock, DiscontinuityMode, Error, ErrorKind, FragmentSelector, FrameSource, KinesisSession, Page, Playback,
    Recovery, Session, SessionProvider, SessionRequest, Stage, SystemClock, TimeOrigin,
};
use serde_json::{Value, json};
use support::chain;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

const ARN: &str = "arn:aws:kinesisvideo:eu-west-1:123456789012:stream/front-door/1500000000000";
const TOKEN: &str = "CiUrlToken-aB3~";
const SECRET_KEY: &str = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY";
const STS_TOKEN: &str = "StsTokenIQoJb3JpZ2luX2VjEAcaCXVzLWVhc3QtMSJHMEUCIQC";
const SILENCE: &str = "No fragments found in the stream for the streaming request.";
/// 2026-01-01T00:00:00Z.
const NEW_YEAR: u64 = 1_767_225_600;
const HOUR: u64 = 3600;

fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// A wall clock that stands still.
#[derive(Debug)]
struct Noon(SystemTime);

impl Clock for Noon {
    fn now(&self) -> Instant {
        SystemClock.now()
    }
    fn wall(&self) -> SystemTime {
        self.0
    }
    fn sleep(&self, duration: Duration) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        SystemClock.sleep(duration)
    }
}

/// Credentials with a new key for each time they are loaded.
#[derive(Clone, Debug, Default)]
struct Keys(Arc<AtomicUsize>);

impl ProvideCredentials for Keys {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let key = format!("KEY{}", self.0.fetch_add(1, Ordering::SeqCst));
        future::ProvideCredentials::ready(Ok(Credentials::new(key, SECRET_KEY, Some(STS_TOKEN.into()), None, "test")))
    }
}

#[derive(Debug)]
struct NoKeys(fn() -> CredentialsError);

impl ProvideCredentials for NoKeys {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Err((self.0)()))
    }
}

fn sdk(keys: impl ProvideCredentials + 'static) -> SdkConfig {
    SdkConfig::builder()
        .credentials_provider(SharedCredentialsProvider::new(keys))
        .retry_config(RetryConfig::standard().with_max_attempts(4)) // which the session turns off
        .build()
}

/// Answers one after the other; the last for ever.
struct Script(Mutex<VecDeque<ResponseTemplate>>);

impl Respond for Script {
    fn respond(&self, _: &Request) -> ResponseTemplate {
        let mut answers = self.0.lock().unwrap();
        if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() }
    }
}

struct Aws(MockServer);

impl Aws {
    async fn new(endpoints: Vec<ResponseTemplate>, sessions: Vec<ResponseTemplate>) -> Self {
        let server = MockServer::start().await;
        for (call, mut answers) in [("/getDataEndpoint", endpoints), ("/getHLSStreamingSessionURL", sessions)] {
            if answers.is_empty() {
                answers.push(match call {
                    "/getDataEndpoint" => endpoint(&server.uri()),
                    _ => url(TOKEN),
                });
            }
            let script = Script(Mutex::new(answers.into()));
            Mock::given(method("POST")).and(path(call)).respond_with(script).mount(&server).await;
        }
        Self(server)
    }

    async fn sessions(answers: Vec<ResponseTemplate>) -> Self {
        Self::new(vec![], answers).await
    }

    fn camera(&self) -> KinesisSession {
        self.reach(KinesisSession::live("front-door").region("us-east-1"))
    }

    /// A camera that gives up soon.
    fn impatient(&self) -> KinesisSession {
        let limits = TimeoutConfig::builder().operation_timeout(Duration::from_millis(500)).build();
        self.camera().sdk_config(&sdk(Keys::default()).into_builder().timeout_config(limits).build())
    }

    fn reach(&self, session: KinesisSession) -> KinesisSession {
        session.endpoint_url(self.0.uri()).sdk_config(&sdk(Keys::default()))
    }

    async fn requests(&self, call: &str) -> Vec<Request> {
        let requests = self.0.received_requests().await.unwrap();
        requests.into_iter().filter(|request| request.url.path() == call).collect()
    }

    /// Requests for the endpoint and for sessions.
    async fn counts(&self) -> (usize, usize) {
        (self.requests("/getDataEndpoint").await.len(), self.requests("/getHLSStreamingSessionURL").await.len())
    }

    async fn bodies(&self, call: &str) -> Vec<Value> {
        self.requests(call).await.iter().map(|request| request.body_json().unwrap()).collect()
    }

    /// Start and end of the ranges asked for.
    async fn ranges(&self) -> Vec<(Value, Value)> {
        let mut bodies = self.bodies("/getHLSStreamingSessionURL").await;
        let range = |body: &mut Value| body["HLSFragmentSelector"]["TimestampRange"].take();
        bodies.iter_mut().map(range).map(|r| (r["StartTimestamp"].clone(), r["EndTimestamp"].clone())).collect()
    }
}

fn endpoint(uri: &str) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!({ "DataEndpoint": uri }))
}

fn url(token: &str) -> ResponseTemplate {
    let url = format!("https://b-1.kinesisvideo.example/hls/v1/getHLSMasterPlaylist.m3u8?SessionToken={token}");
    ResponseTemplate::new(200).set_body_json(json!({ "HLSStreamingSessionURL": url }))
}

/// An error named by the header that the SDK reads.
fn refused(status: u16, name: &str, message: &str) -> ResponseTemplate {
    ResponseTemplate::new(status).insert_header("x-amzn-ErrorType", name).set_body_json(json!({ "Message": message }))
}

fn silent() -> ResponseTemplate {
    refused(404, "ResourceNotFoundException", SILENCE)
}

const DURATION: Duration = Duration::from_secs(300);

async fn open(session: &KinesisSession) -> Result<Session, Error> {
    session.open(SessionRequest::new(DURATION)).await
}

async fn failure(session: &KinesisSession) -> Error {
    open(session).await.expect_err("an error")
}

#[tokio::test]
async fn requests_say_what_was_asked_for() {
    let (start, end) = (time(NEW_YEAR), time(NEW_YEAR) + Duration::from_millis(90_500));
    let live = || KinesisSession::live("front-door").region("us-east-1");
    let selector = |word: &str| json!({ "FragmentSelectorType": word });
    let range = |end: Option<f64>| {
        let mut range = json!({ "StartTimestamp": NEW_YEAR });
        if let Some(end) = end {
            range["EndTimestamp"] = json!(end);
        }
        json!({ "FragmentSelectorType": "SERVER_TIMESTAMP", "TimestampRange": range })
    };
    let cases: Vec<(KinesisSession, Value)> = vec![
        (live(), json!({})),
        (KinesisSession::live(ARN), json!({ "StreamName": null, "StreamARN": ARN })),
        (
            live().selector(FragmentSelector::ProducerTimestamp),
            json!({ "HLSFragmentSelector": selector("PRODUCER_TIMESTAMP") }),
        ),
        (live().discontinuity(DiscontinuityMode::Always), json!({ "DiscontinuityMode": "ALWAYS" })),
        (live().discontinuity(DiscontinuityMode::Never), json!({ "DiscontinuityMode": "NEVER" })),
        (live().discontinuity(DiscontinuityMode::OnDiscontinuity), json!({ "DiscontinuityMode": "ON_DISCONTINUITY" })),
        (live().display_fragment_timestamp(false), json!({ "DisplayFragmentTimestamp": "NEVER" })),
        (live().max_fragments(7), json!({ "MaxMediaPlaylistFragmentResults": 7 })),
        (
            live().playback(Playback::LiveReplay { start, end: None }),
            json!({ "PlaybackMode": "LIVE_REPLAY", "HLSFragmentSelector": range(None) }),
        ),
        (
            KinesisSession::live_replay("front-door", start, Some(end)).region("us-east-1"),
            json!({ "PlaybackMode": "LIVE_REPLAY", "HLSFragmentSelector": range(Some(NEW_YEAR as f64 + 90.5)) }),
        ),
        (
            KinesisSession::on_demand("front-door", start, end).region("us-east-1"),
            json!({ "PlaybackMode": "ON_DEMAND", "HLSFragmentSelector": range(Some(NEW_YEAR as f64 + 90.5)) }),
        ),
    ];
    for (session, difference) in cases {
        let aws = Aws::sessions(vec![]).await;
        let session = aws.reach(session).clock(Noon(time(NEW_YEAR + HOUR)));
        let opened = session.open(SessionRequest::new(Duration::from_secs(1800))).await.unwrap();
        assert!(opened.url.expose().as_str().ends_with(&format!("?SessionToken={TOKEN}")));
        assert_eq!(opened.expires_at, Some(time(NEW_YEAR + HOUR + 1800)));

        let mut expected = json!({
            "StreamName": "front-door",
            "PlaybackMode": "LIVE",
            "HLSFragmentSelector": selector("SERVER_TIMESTAMP"),
            "ContainerFormat": "FRAGMENTED_MP4",
            "DisplayFragmentTimestamp": "ALWAYS",
            "Expires": 1800,
        });
        for (key, value) in difference.as_object().unwrap() {
            expected[key] = value.clone();
        }
        let fields = expected.as_object_mut().unwrap();
        fields.retain(|_, value| !value.is_null());
        let mut name = json!({ "APIName": "GET_HLS_STREAMING_SESSION_URL" });
        for key in ["StreamName", "StreamARN"] {
            if let Some(value) = expected.get(key) {
                name[key] = value.clone();
            }
        }
        let region = if name.get("StreamARN").is_some() { "eu-west-1" } else { "us-east-1" };
        assert_eq!(aws.bodies("/getDataEndpoint").await, [name]);
        assert_eq!(aws.bodies("/getHLSStreamingSessionURL").await, [expected]);
        for request in aws.0.received_requests().await.unwrap() {
            let authorization = request.headers["authorization"].to_str().unwrap();
            let scope = format!("/{region}/kinesisvideo/aws4_request");
            assert!(authorization.contains("Credential=KEY0/") && authorization.contains(&scope), "{authorization}");
            assert_eq!(request.headers["x-amz-security-token"], STS_TOKEN);
        }
    }
}

#[tokio::test]
async fn times_are_those_of_the_selector() {
    let aws = Aws::sessions(vec![]).await;
    for (session, origin) in [
        (aws.camera(), TimeOrigin::Server),
        (aws.camera().selector(FragmentSelector::ProducerTimestamp), TimeOrigin::Producer),
        (aws.camera().display_fragment_timestamp(false), TimeOrigin::Arrival),
    ] {
        let opened = open(&session).await.unwrap();
        assert_eq!((opened.time_origin, opened.page), (origin, None));
    }
}

#[tokio::test]
async fn the_endpoint_is_asked_for_once_and_after_failures_that_may_be_its_own() {
    let aws = Aws::sessions(vec![]).await;
    let session = aws.camera();
    for _ in 0..3 {
        open(&session).await.unwrap();
    }
    assert_eq!(aws.counts().await, (1, 3));

    for (answer, endpoints) in [
        (silent(), 1),
        (refused(400, "ClientLimitExceededException", "slow down"), 1),
        (ResponseTemplate::new(429), 1),
        (ResponseTemplate::new(503), 2),
        (refused(404, "ResourceNotFoundException", "The requested stream is not found."), 2),
        (refused(404, "UnknownOperationException", "no such call"), 2),
        (ResponseTemplate::new(200).set_body_string("<html>"), 2),
    ] {
        let aws = Aws::sessions(vec![answer, url(TOKEN)]).await;
        let session = aws.camera();
        failure(&session).await;
        open(&session).await.unwrap();
        assert_eq!(aws.counts().await, (endpoints, 2));
    }
}

#[tokio::test]
async fn an_endpoint_that_moved_is_found_again() {
    let aws = Aws::sessions(vec![]).await;
    // Nobody listens on port 1.
    let moved = Aws::new(vec![endpoint("http://127.0.0.1:1"), endpoint(&aws.0.uri())], vec![]).await;
    let session = moved.camera();
    let error = failure(&session).await;
    assert_eq!(
        (error.kind(), error.status(), error.recovery()),
        (ErrorKind::Network, None, Recovery::Retry),
        "{error}"
    );
    assert!(chain(&error).contains("GetHLSStreamingSessionURL in us-east-1 failed: "), "{}", chain(&error));
    open(&session).await.unwrap();
    assert_eq!((moved.counts().await, aws.counts().await), ((2, 0), (0, 1)));
}

#[tokio::test]
async fn every_answer_has_its_status_name_and_recovery() {
    use Recovery::{Fatal, Retry};
    let rows = [
        (404, "ResourceNotFoundException", SILENCE, Retry),
        (404, "ResourceNotFoundException", "The requested stream is not found or not active.", Fatal),
        (400, "ClientLimitExceededException", "Rate exceeded", Retry),
        (401, "NotAuthorizedException", "not authorized", Fatal),
        (400, "InvalidArgumentException", "StartTimestamp is in the future", Fatal),
        (400, "NoDataRetentionException", "no retention", Fatal),
        (400, "UnsupportedStreamMediaTypeException", "codec", Fatal),
        (400, "MissingCodecPrivateDataException", "cpd", Retry),
        (400, "InvalidCodecPrivateDataException", "cpd", Retry),
        (400, "AccessDeniedException", "no permission", Fatal),
        (403, "ExpiredTokenException", "expired", Fatal),
        (500, "InternalFailure", "oops", Retry),
        (503, "ServiceUnavailable", "later", Retry),
    ];
    type Name = fn(ResponseTemplate, &str, &str) -> ResponseTemplate;
    let ways: [Name; 5] = [
        |answer, name, text| {
            answer
                .insert_header("x-amzn-ErrorType", format!("{name}:http://internal/"))
                .set_body_json(json!({ "message": text }))
        },
        |answer, name, text| answer.insert_header("x-amz-ErrorType", name).set_body_json(json!({ "Message": text })),
        |answer, name, text| {
            let name = format!("com.amazonaws.kinesisvideo#{name}");
            answer.insert_header("x-amz-ErrorType", name).set_body_json(json!({ "Message": text }))
        },
        |answer, name, text| {
            answer.set_body_json(json!({ "__type": format!("com.amazonaws#{name}"), "message": text }))
        },
        |answer, name, text| answer.set_body_json(json!({ "code": name, "message": text })),
    ];
    for (status, name, text, recovery) in rows {
        for way in ways {
            let answer = way(ResponseTemplate::new(status), name, text);
            for aws in [Aws::sessions(vec![answer.clone()]).await, Aws::new(vec![answer.clone()], vec![]).await] {
                let error = failure(&aws.camera()).await;
                assert_eq!(error.kind(), ErrorKind::Session, "{error}");
                assert_eq!((error.status(), error.code()), (Some(status), Some(name)), "{error}");
                assert_eq!((error.stage(), error.recovery()), (Some(Stage::OpenSession), recovery), "{error}");
                assert!(error.to_string().contains(&format!("in us-east-1 answered \"{text}\"")), "{error}");
                assert!(!error.is_timeout());
            }
        }
    }
    // A proxy's answer names nothing, and a success need not be one.
    let (html, none) = ("<html>Bad Gateway</html>", ResponseTemplate::new(200).set_body_json(json!({})));
    for (answer, status, kind) in [
        (ResponseTemplate::new(502).set_body_string(html), Some(502), ErrorKind::Session),
        (ResponseTemplate::new(200).set_body_string(html), None, ErrorKind::Network),
        (none, None, ErrorKind::Session),
    ] {
        let error = failure(&Aws::sessions(vec![answer]).await.camera()).await;
        assert_eq!((error.status(), error.code(), error.kind()), (status, None, kind), "{error}");
        assert_eq!(error.recovery(), Recovery::Retry);
    }
}

#[tokio::test]
async fn nothing_is_retried_here_but_refused_credentials_once() {
    for status in [500, 503, 429] {
        let aws = Aws::sessions(vec![ResponseTemplate::new(status)]).await;
        failure(&aws.camera()).await;
        assert_eq!(aws.counts().await, (1, 1), "{status}");
        let aws = Aws::new(vec![ResponseTemplate::new(status)], vec![]).await;
        failure(&aws.camera()).await;
        assert_eq!(aws.counts().await, (1, 0), "{status}");
    }

    let keys_of = |requests: Vec<Request>| -> Vec<String> {
        let key = |request: &Request| {
            let text = request.headers["authorization"].to_str().unwrap();
            text.split("Credential=").nth(1).unwrap().split('/').next().unwrap().to_owned()
        };
        requests.iter().map(key).collect()
    };
    for refusal in [
        refused(401, "NotAuthorizedException", "token expired"),
        refused(403, "ExpiredTokenException", "expired"),
        refused(400, "AccessDeniedException", "no permission"),
        refused(400, "UnrecognizedClientException", "wrong key"),
        ResponseTemplate::new(403),
    ] {
        // Other credentials help.
        let aws = Aws::sessions(vec![url(TOKEN), refusal.clone(), url(TOKEN)]).await;
        let session = aws.camera();
        open(&session).await.unwrap();
        open(&session).await.unwrap();
        assert_eq!(keys_of(aws.requests("/getHLSStreamingSessionURL").await), ["KEY0", "KEY0", "KEY1"]);
        assert_eq!(keys_of(aws.requests("/getDataEndpoint").await), ["KEY0", "KEY1"]);

        // They do not.
        let aws = Aws::sessions(vec![refusal.clone()]).await;
        let error = failure(&aws.camera()).await;
        assert_eq!((aws.counts().await, error.recovery()), ((2, 2), Recovery::Fatal), "{error}");
        let aws = Aws::new(vec![refusal], vec![]).await;
        let error = failure(&aws.camera()).await;
        assert_eq!((aws.counts().await, error.recovery()), ((2, 0), Recovery::Fatal), "{error}");
    }
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_given_up() {
    let slow = |answer: ResponseTemplate| answer.set_delay(Duration::from_secs(5));
    let late = |error: Error| {
        assert_eq!((error.kind(), error.is_timeout(), error.recovery()), (ErrorKind::Network, true, Recovery::Retry));
        assert!(error.to_string().contains("in us-east-1 was not answered in time"), "{error}");
    };
    let aws = Aws::sessions(vec![slow(url(TOKEN)), url(TOKEN)]).await;
    let session = aws.impatient();
    late(failure(&session).await);
    open(&session).await.unwrap();
    assert_eq!(aws.counts().await, (2, 2), "the endpoint is asked for again");
    late(failure(&Aws::new(vec![slow(endpoint("http://h"))], vec![]).await.impatient()).await);
}

#[tokio::test]
async fn a_silent_camera_is_waited_for_and_an_empty_range_is_not() {
    let now = time(NEW_YEAR + 240 * HOUR);
    let (start, end) = (time(NEW_YEAR), time(NEW_YEAR + HOUR));
    let from = SessionRequest::new(DURATION).resume_from(time(NEW_YEAR + 60));
    let first = SessionRequest::new(DURATION);
    let replay = |end| KinesisSession::live_replay("front-door", start, end).region("us-east-1");
    let archive = || KinesisSession::on_demand("front-door", start, end).region("us-east-1");
    for (session, request, words, recovery) in [
        (
            KinesisSession::live("front-door").region("us-east-1"),
            first,
            "No fragments found in the stream",
            Recovery::Retry,
        ),
        (replay(None), first, "no fragments since 2026-01-01T00:00:00Z", Recovery::Fatal),
        (replay(None), from, "No fragments found in the stream", Recovery::Retry),
        (
            replay(Some(end)),
            first,
            "no fragments between 2026-01-01T00:00:00Z and 2026-01-01T01:00:00Z",
            Recovery::Fatal,
        ),
        (
            replay(Some(end)),
            from,
            "no fragments between 2026-01-01T00:01:00Z and 2026-01-01T01:00:00Z",
            Recovery::Fatal,
        ),
        (archive(), first, "no fragments between 2026-01-01T00:00:00Z and 2026-01-01T01:00:00Z", Recovery::Fatal),
        (archive(), from, "no fragments between 2026-01-01T00:01:00Z and 2026-01-01T01:00:00Z", Recovery::Fatal),
    ] {
        let aws = Aws::sessions(vec![silent()]).await;
        let error = aws.reach(session).clock(Noon(now)).open(request).await.unwrap_err();
        assert!(error.to_string().contains(words), "{error} lacks {words}");
        assert_eq!((error.recovery(), error.status()), (recovery, Some(404)), "{error}");
        assert_eq!(aws.counts().await, (1, 1));
    }
    // Past the end nothing is asked for.
    let aws = Aws::sessions(vec![]).await;
    let session = aws.reach(archive()).clock(Noon(now));
    let error = session.open(first.resume_from(end)).await.unwrap_err();
    assert_eq!((error.status(), error.recovery(), aws.counts().await), (Some(404), Recovery::Fatal, (0, 0)));
}

#[tokio::test]
async fn long_archives_are_asked_for_day_by_day() {
    let day = |number: u64| NEW_YEAR + number * 24 * HOUR;
    let end = day(3) + HOUR;
    let archive = || KinesisSession::on_demand("front-door", time(NEW_YEAR), time(end)).region("us-east-1");
    let range = |start: u64, end: u64| (json!(start), json!(end));
    let page = |max_segments, next: Option<u64>| Some(Page { max_segments, next: next.map(time) });

    let aws = Aws::sessions(vec![]).await;
    let session = aws.reach(archive());
    assert_eq!(open(&session).await.unwrap().page, page(1000, Some(day(1))));
    let mut resumed = Vec::new();
    for start in [day(1), day(2) + HOUR, day(2) + 2 * HOUR, 0] {
        resumed.push(session.open(SessionRequest::new(DURATION).resume_from(time(start))).await.unwrap().page);
    }
    assert_eq!(resumed, [page(1000, Some(day(2))), page(1000, None), page(1000, None), page(1000, Some(day(1)))]);
    let expected = [
        range(day(0), day(1)),
        range(day(1), day(2)),
        range(day(2) + HOUR, end),
        range(day(2) + 2 * HOUR, end),
        range(day(0), day(1)),
    ];
    assert_eq!(aws.ranges().await, expected);

    // Days without fragments are passed over.
    let aws = Aws::sessions(vec![silent(), silent(), url(TOKEN)]).await;
    let opened = open(&aws.reach(archive().max_fragments(40))).await.unwrap();
    assert_eq!(opened.page, page(40, Some(day(3))));
    assert_eq!(aws.ranges().await, [range(day(0), day(1)), range(day(1), day(2)), range(day(2), day(3))]);

    // And end with the range.
    let aws = Aws::sessions(vec![silent()]).await;
    let error = failure(&aws.reach(archive())).await;
    assert!(error.to_string().contains("between 2026-01-01T00:00:00Z and 2026-01-04T01:00:00Z"), "{error}");
    assert_eq!((error.recovery(), aws.counts().await), (Recovery::Fatal, (1, 4)));
}

#[tokio::test]
async fn a_replay_goes_on_where_it_was_left() {
    let aws = Aws::sessions(vec![]).await;
    let session = aws.reach(KinesisSession::live_replay("front-door", time(NEW_YEAR), None).region("us-east-1"));
    for (from, start) in [(NEW_YEAR + 61, NEW_YEAR + 61), (NEW_YEAR - 5, NEW_YEAR)] {
        let opened = session.open(SessionRequest::new(DURATION).resume_from(time(from))).await.unwrap();
        assert_eq!((opened.page, aws.ranges().await.pop()), (None, Some((json!(start), Value::Null))));
    }
    // A live session begins with what is newest, wherever the last one ended.
    let session = aws.camera();
    session.open(SessionRequest::new(DURATION).resume_from(time(NEW_YEAR))).await.unwrap();
    assert_eq!(aws.ranges().await.pop(), Some((Value::Null, Value::Null)));
}

#[tokio::test]
async fn wrong_options_are_named_before_anything_is_asked_for() {
    let aws = Aws::sessions(vec![]).await;
    let now = time(NEW_YEAR + 10 * HOUR);
    let (start, end) = (time(NEW_YEAR), time(NEW_YEAR + HOUR));
    let live = || KinesisSession::live("front-door").region("us-east-1");
    let archive = |start, end| KinesisSession::on_demand("front-door", start, end).region("us-east-1");
    let replay = |start, end| KinesisSession::live_replay("front-door", start, Some(end)).region("us-east-1");
    let second = Duration::from_secs(1);
    for (session, text) in [
        (KinesisSession::live("front door"), "stream of \"front door\" (a name of 1 to 256 letters"),
        (live().region("US East"), "region of \"US East\" (a name like \"us-east-1\" is allowed)"),
        (
            KinesisSession::live(ARN).region("us-east-1"),
            "region of \"us-east-1\" (\"eu-west-1\", the stream's own, is allowed)",
        ),
        (live().max_fragments(0), "max_fragments of 0 (1 to 5000 is allowed)"),
        (live().max_fragments(5001), "max_fragments of 5001"),
        (
            archive(end, start),
            "end of 2026-01-01T00:00:00Z (a time after the start at 2026-01-01T01:00:00Z is allowed)",
        ),
        (archive(start, start), "end of 2026-01-01T00:00:00Z (a time after"),
        (
            archive(start, now),
            "end of 2026-01-01T10:00:00Z (with server timestamps a time before now, 2026-01-01T10:00:00Z, is allowed)",
        ),
        (replay(start, now + second), "end of 2026-01-01T10:00:01Z (with server"),
        (replay(start - Duration::from_secs(23 * HOUR + 1), end), "(at most 24 hours after the start at"),
        (archive(start - Duration::from_secs(366 * 24 * HOUR), end), "(at most 366 days after the start at"),
        (archive(time(0) - second, end), "start of 1969-12-31T23:59:59Z (1970 or later is allowed)"),
        (live().endpoint_url("ftp://user:pass@host"), "endpoint_url that cannot be used (an absolute http"),
    ] {
        let session = if text.starts_with("endpoint") { session } else { aws.reach(session) }.clock(Noon(now));
        let error = session.check().unwrap_err();
        assert_eq!((error.kind(), error.recovery()), (ErrorKind::Config, Recovery::Fatal));
        assert!(error.to_string().contains(text) && !error.to_string().contains("pass"), "{error} lacks {text}");
        assert_eq!(failure(&session).await.kind(), ErrorKind::Config);
        assert_eq!(FrameSource::builder("test", session).build().unwrap_err().kind(), ErrorKind::Config);
    }
    for seconds in [299.0, 43_201.0, 300.5] {
        let request = SessionRequest::new(Duration::from_secs_f64(seconds));
        let error = aws.camera().open(request).await.unwrap_err();
        assert!(error.to_string().contains("(300s to 43200s in whole seconds is allowed)"), "{error}");
    }
    assert_eq!(aws.counts().await, (0, 0));

    // The producer's clock may be ahead.
    archive(start, now + second).selector(FragmentSelector::ProducerTimestamp).clock(Noon(now)).check().unwrap();
    replay(start, time(NEW_YEAR + 9 * HOUR)).clock(Noon(now)).check().unwrap();
    KinesisSession::live(ARN).region("eu-west-1").check().unwrap();
}

#[tokio::test]
async fn what_is_missing_is_said_with_what_to_do() {
    let aws = Aws::sessions(vec![]).await;
    let camera = |sdk: &SdkConfig| KinesisSession::live("front-door").endpoint_url(aws.0.uri()).sdk_config(sdk);
    let error = failure(&camera(&sdk(Keys::default()))).await;
    assert_eq!((error.kind(), error.recovery()), (ErrorKind::Config, Recovery::Fatal));
    assert!(
        error.to_string().contains("no AWS region (the stream's region, as in --region or .region(…), AWS_REGION,"),
        "{error}"
    );

    let error = failure(&camera(&SdkConfig::builder().build()).region("us-east-1")).await;
    assert_eq!((error.kind(), error.recovery()), (ErrorKind::Config, Recovery::Fatal));
    assert!(error.to_string().contains("sdk_config without credentials (a credentials provider is needed)"), "{error}");

    for (config, words, recovery) in [
        (
            sdk(NoKeys(CredentialsError::not_loaded_no_source)),
            "no AWS credentials in the environment (AWS_ACCESS_KEY_ID)",
            Recovery::Fatal,
        ),
        (
            sdk(NoKeys(|| CredentialsError::invalid_configuration("line 3"))),
            "set up wrongly: look at the profile files and the AWS_ variables (CredentialsNotLoaded): the credentials",
            Recovery::Fatal,
        ),
        (sdk(NoKeys(|| CredentialsError::provider_error("503"))), "cannot be loaded: an error occ", Recovery::Retry),
    ] {
        let error = failure(&camera(&config).region("us-east-1")).await;
        assert_eq!((error.kind(), error.recovery()), (ErrorKind::Session, recovery), "{}", chain(&error));
        assert!(chain(&error).contains(words), "{}", chain(&error));
    }
    assert_eq!(aws.counts().await, (0, 0));
    // The region of the configuration is as good as another.
    let config = sdk(Keys::default()).into_builder().region(Region::new("us-east-1")).build();
    open(&camera(&config)).await.unwrap();
}

/// What anybody logs, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_logged_or_told() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
    // Global, to hear the threads and tasks of the SDK too.
    tracing::subscriber::set_global_default(subscriber.with_writer(move || writer.clone()).finish()).unwrap();

    let canonical = format!(
        "The request signature we calculated does not match. The Canonical String should have been 'POST\n/getDataEndpoint\n\n\
         x-amz-security-token:{STS_TOKEN}\n' and SessionToken={TOKEN}"
    );
    let half = format!("{{\"HLSStreamingSessionURL\":\"https://h/hls?SessionToken={TOKEN}\", {STS_TOKEN}");
    let answers = [
        refused(403, "InvalidSignatureException", &canonical),
        refused(400, TOKEN, &canonical),
        ResponseTemplate::new(400).insert_header("x-amz-ErrorType", STS_TOKEN),
        ResponseTemplate::new(200).set_body_string(half.as_str()),
        ResponseTemplate::new(500).set_body_string(half.as_str()),
        ResponseTemplate::new(200)
            .set_body_json(json!({ "HLSStreamingSessionURL": format!("//SessionToken={TOKEN}") })),
        url(TOKEN),
    ];
    let aws = Aws::sessions(answers.to_vec()).await;
    let session = aws.camera();
    let mut told = vec![];
    for _ in 0..5 {
        let error = failure(&session).await;
        told.extend([chain(&error), format!("{error:?}"), format!("{error:#?}")]);
    }
    let opened = open(&session).await;
    told.extend([format!("{session:?}"), format!("{session:#?}"), format!("{opened:?}")]);
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("data endpoint loaded") && text.contains("credentials refused"), "{text}");
    told.push(text);
    for text in told {
        for secret in [TOKEN, SECRET_KEY, STS_TOKEN] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}
