//! The real SDK clients and the whole source against a mock of the service: refresh and every way back, the requests made
//! for it and no more, the delays, the metrics, and no secret in anything that is said.

mod support;

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use kvs_hls::{
    Clock, Config, ConnectionState, ErrorKind, Frame, FrameSource, FrameSourceBuilder, GapCause, KinesisSession,
    LiveEdge, Output, Stats,
};
use prometheus::{Registry, TextEncoder};
use support::camera::{SECRET_KEY, ShortSessions, sdk_config};
use support::{FastClock, Files, SlidingPlaylist, camera_segment, chain, fixtures, framemd5, md5, read_all};
use wiremock::matchers::{method, path, path_regex, query_param};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

const TOKEN: &str = "CiTokenThatNobodyMaySee";
const DATA_ENDPOINT: &str = "/getDataEndpoint";
const SESSION: &str = "/getHLSStreamingSessionURL";
const PLAYLIST: &str = "/hls/kvs_camera/live.m3u8";

/// The n-th session has the n-th token.
struct Sessions {
    uri: String,
    opened: AtomicUsize,
}

impl Respond for Sessions {
    fn respond(&self, _: &Request) -> ResponseTemplate {
        let number = self.opened.fetch_add(1, Ordering::SeqCst) + 1;
        let url = format!("{}{PLAYLIST}?SessionToken={TOKEN}{number}~", self.uri);
        ResponseTemplate::new(200).set_body_json(serde_json::json!({ "HLSStreamingSessionURL": url }))
    }
}

/// A clock that remembers what it was asked to wait.
#[derive(Clone, Debug)]
struct Recorder {
    clock: FastClock,
    sleeps: Arc<Mutex<Vec<Duration>>>,
}

impl Clock for Recorder {
    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn wall(&self) -> SystemTime {
        self.clock.wall()
    }

    fn sleep(&self, duration: Duration) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        self.sleeps.lock().unwrap().push(duration);
        self.clock.sleep(duration)
    }
}

/// The service: both calls, a camera whose list grows with each request, its fragments.
struct Kvs {
    server: MockServer,
    clock: Recorder,
    registry: Registry,
}

impl Kvs {
    async fn start() -> Self {
        log();
        let server = MockServer::start().await;
        let endpoint = serde_json::json!({ "DataEndpoint": server.uri() });
        let sessions = Sessions { uri: server.uri(), opened: AtomicUsize::new(0) };
        let answers = [
            Mock::given(path(DATA_ENDPOINT)).respond_with(ResponseTemplate::new(200).set_body_json(endpoint)),
            Mock::given(path(SESSION)).respond_with(sessions),
            Mock::given(path(PLAYLIST)).respond_with(SlidingPlaylist::new("kvs_camera", 3)),
            Mock::given(method("GET")).respond_with(Files),
        ];
        for (answer, priority) in answers.into_iter().zip(10..) {
            answer.with_priority(priority).mount(&server).await;
        }
        let clock = Recorder { clock: FastClock::new(20), sleeps: Arc::default() };
        Self { server, clock, registry: Registry::new() }
    }

    /// Answers so many requests to a path in another way.
    async fn answer(&self, path: &str, times: u64, answer: ResponseTemplate) {
        let mock = Mock::given(path_regex(format!("^{}", path.trim_end_matches('$')))).respond_with(answer);
        mock.up_to_n_times(times).expect(times).with_priority(1).mount(&self.server).await;
    }

    fn builder(&self, lifetime: Duration) -> FrameSourceBuilder {
        let inner = KinesisSession::live("front-door").sdk_config(&sdk_config(&self.server.uri()));
        let provider = ShortSessions { inner, lifetime, clock: self.clock.clock.clone() };
        FrameSource::builder("front-door", provider)
            .output(Output::i420())
            .live_edge(LiveEdge::Oldest)
            .clock(self.clock.clone())
            .registry(&self.registry)
    }

    async fn requests(&self, part: &str) -> Vec<Request> {
        let requests = self.server.received_requests().await.unwrap();
        requests.into_iter().filter(|request| request.url.path().contains(part)).collect()
    }

    async fn count(&self, part: &str) -> usize {
        self.requests(part).await.len()
    }

    /// Numbers of the fragments that were asked for, with the number of the session, in the order of the requests.
    async fn fragments(&self) -> Vec<String> {
        let names: Vec<_> = (0..10).map(camera_segment).collect();
        let requests = self.requests("getMP4MediaFragment").await;
        let index = |request: &Request| {
            let path = format!("{}$", request.url.path());
            names.iter().position(|name| *name == path).unwrap().to_string()
        };
        requests.iter().map(index).collect()
    }

    /// The longest wait that begins with this many seconds at least.
    fn waited(&self, least: f64, most: f64) -> usize {
        let sleeps = self.clock.sleeps.lock().unwrap();
        sleeps.iter().filter(|sleep| (least..most).contains(&sleep.as_secs_f64())).count()
    }

    fn metric(&self, line: &str) -> String {
        let text = TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        let name = format!("kvs_hls_{line}");
        let value = text.lines().find_map(|line| line.strip_prefix(&name)?.rsplit_once(' '));
        value.unwrap_or_else(|| panic!("{name} is not in\n{text}")).1.to_owned()
    }
}

fn aws(status: u16, name: &str, message: &str) -> ResponseTemplate {
    ResponseTemplate::new(status)
        .insert_header("x-amzn-errortype", name)
        .set_body_json(serde_json::json!({ "Message": message }))
}

fn silence() -> ResponseTemplate {
    aws(404, "ResourceNotFoundException", "No fragments found in the stream for the streaming request.")
}

fn expected() -> Vec<String> {
    framemd5(&fixtures().join("hls/kvs_camera/expected.framemd5")).into_iter().map(|frame| frame.md5).collect()
}

fn hashes(frames: &[Frame]) -> Vec<String> {
    frames.iter().map(|frame| md5(frame.data())).collect()
}

/// Reads to the end, every frame once, and nothing is said to be missing.
async fn whole(source: &FrameSource) -> Stats {
    let (frames, error) = read_all(source).await;
    assert!(error.is_none(), "{}", chain(&error.unwrap()));
    assert!(hashes(&frames) == expected(), "{} frames of {}", frames.len(), expected().len());
    assert!(frames.iter().all(|frame| frame.meta().gap_before.is_none()));
    assert_eq!(source.state(), ConnectionState::Disconnected);
    secrets_are_kept(&format!("{source:?} {:?} {frames:?}", source.stats()));
    source.stats()
}

/// All that is logged in this process, at every level and by every crate.
fn log() -> &'static Mutex<Vec<u8>> {
    #[derive(Clone)]
    struct Lines(&'static Mutex<Vec<u8>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    static LOG: OnceLock<&'static Mutex<Vec<u8>>> = OnceLock::new();
    LOG.get_or_init(|| {
        let lines: &'static Mutex<Vec<u8>> = Box::leak(Box::default());
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
        tracing::subscriber::set_global_default(subscriber.with_writer(move || Lines(lines)).finish()).unwrap();
        lines
    })
}

fn secrets_are_kept(said: &str) {
    let logged = String::from_utf8_lossy(&log().lock().unwrap()).into_owned();
    assert!(logged.contains("kvs_hls"), "the log is empty");
    for (place, text) in [("the log", logged.as_str()), ("what is said", said)] {
        for secret in [TOKEN, SECRET_KEY, "AKIDTEST"] {
            // The mock's own log is not ours.
            let line = text.lines().find(|line| line.contains(secret) && !line.contains("wiremock"));
            assert!(line.is_none(), "{secret} is in {place}: {}", line.unwrap());
        }
    }
}

const LONG: Duration = Duration::from_secs(300);

#[tokio::test]
async fn a_session_is_opened_with_two_calls() {
    let kvs = Kvs::start().await;
    let stats = whole(&kvs.builder(LONG).build().unwrap()).await;
    assert_eq!((kvs.count(DATA_ENDPOINT).await, kvs.count(SESSION).await), (1, 1));
    assert_eq!(kvs.count("getMP4InitFragment").await, 1);
    assert_eq!(kvs.fragments().await, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    assert_eq!((stats.errors, stats.refreshes, stats.reconnects), (0, 0, 0));
    let request = &kvs.requests(SESSION).await[0];
    let body: serde_json::Value = request.body_json().unwrap();
    assert_eq!((&body["Expires"], &body["DisplayFragmentTimestamp"]), (&300.into(), &"ALWAYS".into()));
}

#[tokio::test]
async fn sessions_follow_each_other_without_a_seam() {
    let kvs = Kvs::start().await;
    let source = kvs.builder(Duration::from_secs(6)).build().unwrap();
    let stats = whole(&source).await;
    assert!(stats.refreshes >= 2, "{stats:?}");
    let refreshes = usize::try_from(stats.refreshes).unwrap();
    assert_eq!(kvs.count(DATA_ENDPOINT).await, 1, "the endpoint is kept");
    assert_eq!(kvs.count(SESSION).await, 1 + refreshes, "one call for each session and no more");
    let inits = kvs.count("getMP4InitFragment").await;
    assert!((2..=1 + refreshes).contains(&inits), "{inits}: one for each session that fragments were read of");
    assert_eq!(kvs.fragments().await, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"], "each once");
    assert_eq!(kvs.metric("url_refreshes_total"), refreshes.to_string());
    assert_eq!((kvs.metric("reconnects_total"), kvs.metric("read_errors_total")), ("0".into(), "0".into()));
    assert_eq!(kvs.metric("frames_total"), "150");
}

#[tokio::test]
async fn a_refresh_that_is_refused_is_tried_again_beside_the_old_session() {
    let kvs = Kvs::start().await;
    let source = kvs.builder(Duration::from_secs(6)).config(quick()).build().unwrap();
    // The first session opens, the next two tries do not.
    let first =
        Mock::given(path(SESSION)).respond_with(Sessions { uri: kvs.server.uri(), opened: AtomicUsize::new(0) });
    first.up_to_n_times(1).with_priority(1).mount(&kvs.server).await;
    let refused = Mock::given(path(SESSION)).respond_with(aws(400, "ClientLimitExceededException", "slow down"));
    refused.up_to_n_times(2).expect(2).with_priority(2).mount(&kvs.server).await;
    let stats = whole(&source).await;
    assert_eq!((stats.errors, stats.reconnects, stats.refresh_failures), (2, 0, 2), "{stats:?}");
    assert!(stats.refreshes >= 1);
    assert_eq!(kvs.metric("url_refresh_failures_total"), "2");
}

/// Short delays, to be done before the camera's ten seconds are over.
fn quick() -> Config {
    let mut config = Config::aggressive();
    config.max_consecutive_errors = 10;
    config
}

/// What fails on the way and is mended: no frame is missing.
#[tokio::test]
async fn every_way_back_loses_nothing_that_the_server_has() {
    struct Way {
        name: &'static str,
        path: String,
        times: u64,
        answer: ResponseTemplate,
        /// GetDataEndpoint and GetHLSStreamingSessionURL.
        calls: (usize, usize),
        errors: u64,
        reconnects: &'static str,
        /// Seconds of the backoff's first delay, where one is due.
        delay: Option<(f64, f64)>,
    }
    let status = ResponseTemplate::new;
    let expired = || {
        status(403)
            .insert_header("x-amz-ErrorType", "NotAuthorizedException")
            .set_body_string("Streaming session token is expired")
    };
    let limit = || aws(400, "ClientLimitExceededException", "slow down");
    let way = |name, path: &str, times, answer, calls, errors, reconnects, delay| Way {
        name,
        path: path.to_owned(),
        times,
        answer,
        calls,
        errors,
        reconnects,
        delay,
    };
    let second = Some((0.7, 1.2));
    let ways = [
        way("endpoint throttled", DATA_ENDPOINT, 1, limit(), (2, 1), 1, "0", second),
        way("endpoint out of order", DATA_ENDPOINT, 1, status(500), (2, 1), 1, "0", second),
        way("session throttled", SESSION, 2, limit(), (1, 3), 2, "0", second),
        way("session out of order", SESSION, 1, status(503), (2, 2), 1, "0", second),
        way("camera silent", SESSION, 3, silence(), (1, 4), 0, "0", second),
        way("playlist refused", PLAYLIST, 1, expired(), (1, 2), 1, "0", second),
        way("playlist refused later", PLAYLIST, 1, expired(), (1, 2), 1, "1", second),
        way("playlist gone later", PLAYLIST, 1, status(410), (1, 2), 1, "1", second),
        way("playlist gone", PLAYLIST, 1, status(404), (1, 2), 1, "0", second),
        way("playlist throttled", PLAYLIST, 2, limit(), (1, 1), 2, "0", None),
        way("playlist busy", PLAYLIST, 3, status(429), (1, 1), 3, "0", None),
        way("playlist out of order for long", PLAYLIST, 4, status(500), (1, 2), 4, "0", second),
        way("playlist out of order for long later", PLAYLIST, 4, status(500), (1, 2), 4, "1", second),
        way("playlist is a page", PLAYLIST, 2, status(200).set_body_string("<html>"), (1, 1), 2, "0", None),
        way("init refused", "/hls/kvs_camera/getMP4InitFragment", 1, expired(), (1, 2), 1, "1", second),
        way("init out of order", "/hls/kvs_camera/getMP4InitFragment", 1, status(502), (1, 1), 1, "0", None),
        way("fragment refused", &camera_segment(1), 1, expired(), (1, 2), 1, "1", second),
        way("fragment throttled", &camera_segment(2), 3, limit(), (1, 1), 3, "0", None),
        way("fragment out of order", &camera_segment(0), 2, status(500), (1, 1), 2, "0", None),
    ];
    for Way { name, path, times, answer, calls, errors, reconnects, delay } in ways {
        let kvs = Kvs::start().await;
        if name.ends_with("later") {
            let first = Mock::given(path_regex(PLAYLIST)).respond_with(SlidingPlaylist::new("kvs_camera", 3));
            first.up_to_n_times(1).with_priority(1).mount(&kvs.server).await;
        }
        kvs.answer(&path, times, answer).await;
        let source = kvs.builder(LONG).config(quick()).build().unwrap();
        println!("{name}");
        let stats = whole(&source).await;
        assert_eq!((kvs.count(DATA_ENDPOINT).await, kvs.count(SESSION).await), calls, "{name}: {stats:?}");
        assert_eq!((stats.errors, kvs.metric("read_errors_total")), (errors, errors.to_string()), "{name}");
        assert_eq!(kvs.metric("reconnects_total"), reconnects, "{name}");
        if let Some((least, most)) = delay {
            assert!(kvs.waited(least, most) > 0, "{name}: {:?}", kvs.clock.sleeps.lock().unwrap());
        }
        // What was refused is asked for once more, and nothing else twice.
        let mut fragments = kvs.fragments().await;
        let again = fragments.len() - 10;
        assert_eq!(again as u64, if path.contains("MediaFragment") { times } else { 0 }, "{name}: {fragments:?}");
        fragments.dedup();
        assert_eq!(fragments.len(), 10, "{name}");
        kvs.server.verify().await;
    }
}

#[tokio::test]
async fn a_fragment_that_is_gone_is_a_gap_and_costs_no_session() {
    let kvs = Kvs::start().await;
    kvs.answer(&camera_segment(4), 1, ResponseTemplate::new(404)).await;
    let source = kvs.builder(LONG).build().unwrap();
    let (frames, error) = read_all(&source).await;
    assert!(error.is_none());
    let gaps: Vec<_> = frames.iter().filter_map(|frame| frame.meta().gap_before).collect();
    assert_eq!((frames.len(), gaps.len()), (135, 1));
    assert_eq!((gaps[0].cause, gaps[0].segments), (GapCause::SegmentUnavailable, 1));
    assert_eq!(kvs.count(SESSION).await, 1);
    assert_eq!(kvs.metric("segments_lost_total{camera_id=\"front-door\",cause=\"segment_unavailable\"}"), "1");
}

#[tokio::test]
async fn refused_credentials_are_loaded_once_more_and_then_fatal() {
    for (status, name) in [(401, "NotAuthorizedException"), (403, "AccessDeniedException")] {
        let kvs = Kvs::start().await;
        kvs.answer(SESSION, 2, aws(status, name, &format!("no: x-amz-security-token={TOKEN}"))).await;
        let source = kvs.builder(LONG).build().unwrap();
        let (frames, error) = read_all(&source).await;
        let error = error.unwrap();
        assert!(frames.is_empty());
        assert_eq!((error.kind(), error.status(), error.code()), (ErrorKind::Session, Some(status), Some(name)));
        assert_eq!(source.state(), ConnectionState::Error);
        assert_eq!(kvs.metric("connection_state"), "4");
        assert_eq!(kvs.count(SESSION).await, 2);
        assert_eq!(kvs.count(PLAYLIST).await, 0);
        secrets_are_kept(&format!("{} {error:?} {:?}", chain(&error), source.stats()));
    }
}

#[tokio::test]
async fn what_fails_too_often_in_a_row_ends_with_the_whole_story() {
    let kvs = Kvs::start().await;
    kvs.answer(SESSION, 5, ResponseTemplate::new(503)).await;
    let source = kvs.builder(LONG).config(Config::aggressive()).build().unwrap();
    let (_, error) = read_all(&source).await;
    let text = chain(&error.unwrap());
    assert!(text.contains("5 failures in a row without a frame since 20"), "{text}");
    assert!(text.contains("opening the session") && text.contains("HTTP 503"), "{text}");
    assert_eq!(kvs.count(SESSION).await, 5, "no more than that");
    // 1 s, then half as much again each time, 80 to 120 %.
    for (least, most) in [(0.75, 1.2), (1.15, 1.8), (1.75, 2.7), (2.65, 4.05)] {
        assert!(kvs.waited(least, most) > 0, "{least}: {:?}", kvs.clock.sleeps.lock().unwrap());
    }
}

#[tokio::test]
async fn a_session_that_sends_nothing_new_is_replaced_and_waited_for() {
    let kvs = Kvs::start().await;
    // The first session's list stops at its first state.
    let text = SlidingPlaylist::new("kvs_camera", 3).text(0);
    let frozen = Mock::given(path(PLAYLIST)).and(query_param("SessionToken", format!("{TOKEN}1~")));
    frozen.respond_with(ResponseTemplate::new(200).set_body_string(text)).with_priority(1).mount(&kvs.server).await;
    let source = kvs.builder(LONG).config(quick()).build().unwrap();
    let stats = whole(&source).await;
    assert!(stats.last_error.unwrap().contains("did not change for"), "and that was said");
    assert_eq!(kvs.count(SESSION).await, 2);
    assert_eq!(kvs.metric("camera_silent"), "0");
    assert!(stats.silent_for.is_none());
}
