//! Servers that mean harm: where a source may be led, and how long it may be held.

mod support;

use std::time::Duration;

use kvs_hls::net::{Fetch, HttpClient, Request};
use kvs_hls::{Config, ErrorKind, FixedUrl, FrameSource, HostPolicy, Limits, SecretUrl};
use support::{FastClock, Files, chain, fixtures, read_all};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

const SEGMENTS: [&str; 2] = ["seg1.m4s", "seg2.m4s"];

/// A recording of which one segment is said to lie at another host, and one is redirected there.
async fn leading_astray() -> MockServer {
    let server = MockServer::start().await;
    let elsewhere = format!("http://localhost:{}/hls/baseline_640x360", server.address().port());
    let folder = fixtures().join("hls/baseline_640x360");
    let list = std::fs::read_to_string(folder.join("index.m3u8")).unwrap();
    assert!(SEGMENTS.iter().all(|segment| list.contains(segment)), "{list}");
    let list = list.replace(SEGMENTS[0], &format!("{elsewhere}/stolen1.m4s"));
    Mock::given(path("/hls/baseline_640x360/astray.m3u8"))
        .respond_with(ResponseTemplate::new(200).set_body_string(list))
        .mount(&server)
        .await;
    let hop = ResponseTemplate::new(302).insert_header("location", format!("{elsewhere}/stolen2.m4s"));
    Mock::given(path(format!("/hls/baseline_640x360/{}", SEGMENTS[1]))).respond_with(hop).mount(&server).await;
    for (stolen, segment) in [("stolen1.m4s", SEGMENTS[0]), ("stolen2.m4s", SEGMENTS[1])] {
        let body = std::fs::read(folder.join(segment)).unwrap();
        Mock::given(path(format!("/hls/baseline_640x360/{stolen}")))
            .respond_with(ResponseTemplate::new(200).set_body_bytes(body))
            .mount(&server)
            .await;
    }
    Mock::given(method("GET")).respond_with(Files).with_priority(10).mount(&server).await;
    server
}

#[tokio::test]
async fn a_playlist_leads_to_allowed_hosts_only() {
    for (policy, stolen) in [
        (None, 2),
        (Some(HostPolicy::Session), 0),
        (Some("127.0.0.1".parse().unwrap()), 0),
        (Some("127.0.0.1,localhost".parse().unwrap()), 2),
    ] {
        let server = leading_astray().await;
        let url = format!("{}/hls/baseline_640x360/astray.m3u8", server.uri());
        let mut builder = support::builder(&url).clock(FastClock::new(20));
        if let Some(policy) = policy.clone() {
            builder = builder.hosts(policy);
        }
        let source = builder.build().unwrap();
        let (_, error) = read_all(&source).await;
        assert!(error.is_none(), "{error:?}");
        let requests = server.received_requests().await.unwrap();
        let count = requests.iter().filter(|request| request.url.path().contains("stolen")).count();
        assert_eq!(count, stolen, "{policy:?}");
        assert_eq!(source.stats().segments_lost as usize + stolen, 2, "{policy:?}");
    }
}

#[tokio::test]
async fn a_host_that_is_not_allowed_is_named() {
    let url = FixedUrl::new("http://127.0.0.1:9/hls/a.m3u8?SessionToken=CiSecret").unwrap();
    let mut config = Config::aggressive();
    config.max_consecutive_errors = 1;
    let source = FrameSource::builder("x", url).config(config).clock(FastClock::new(50));
    let source = source.hosts(".example.com".parse().unwrap()).build().unwrap();
    let (_, error) = read_all(&source).await;
    let text = chain(&error.unwrap());
    assert!(text.contains("host \"127.0.0.1\" is not among those allowed (hosts: .example.com)"), "{text}");
    assert!(!text.contains("CiSecret"), "{text}");
    let wrong = FrameSource::builder("x", FixedUrl::new("http://a/").unwrap()).hosts(HostPolicy::Only(Vec::new()));
    assert_eq!(wrong.build().unwrap_err().kind(), ErrorKind::Config);
}

/// Answers each request with `head`, then with what `body` writes.
async fn raw_server<F>(head: &'static str, body: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> SecretUrl
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/a.m3u8?SessionToken=CiSecret", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = socket.read(&mut request).await;
            let _ = socket.write_all(head.as_bytes()).await;
            tokio::spawn(body(socket));
        }
    });
    SecretUrl::parse(&url).unwrap()
}

#[tokio::test]
async fn a_trickle_is_dropped() {
    let trickle = |mut socket: TcpStream| async move {
        while socket.write_all(b"#").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let url = raw_server("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", trickle).await;
    let request = Request::playlist(url, &Limits::default());
    let error = HttpClient::new().unwrap().fetch(request).await.unwrap_err();
    assert_eq!((error.kind(), error.is_timeout()), (ErrorKind::Limit, true));
    let text = chain(&error);
    assert!(
        text.contains("bytes in 10 s from http://127.0.0.1:") && text.contains("min_bytes_per_second is 1000"),
        "{text}"
    );
    assert!(!text.contains("CiSecret"), "{text}");
}

#[tokio::test]
async fn headers_without_end_are_given_up() {
    let flood = |mut socket: TcpStream| async move {
        let line = format!("X-Flood: {}\r\n", "x".repeat(8000));
        while socket.write_all(line.as_bytes()).await.is_ok() {}
    };
    let url = raw_server("HTTP/1.1 200 OK\r\n", flood).await;
    let error = HttpClient::new().unwrap().fetch(Request::playlist(url, &Limits::default())).await.unwrap_err();
    assert_eq!((error.kind(), error.is_timeout()), (ErrorKind::Network, false), "{}", chain(&error));
}

#[tokio::test]
async fn bodies_without_end_are_given_up() {
    let flood = |mut socket: TcpStream| async move {
        let block = [b'#'; 65536];
        while socket.write_all(&block).await.is_ok() {}
    };
    let url = raw_server("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", flood).await;
    let error = HttpClient::new().unwrap().fetch(Request::playlist(url, &Limits::default())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert!(chain(&error).contains("max_playlist_bytes is 8388608"), "{}", chain(&error));
}

#[tokio::test]
async fn what_unpacks_to_too_much_is_given_up() {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..256 {
        std::io::Write::write_all(&mut packed, &[b'\n'; 1 << 20]).unwrap();
    }
    let packed = packed.finish().unwrap();
    assert!(packed.len() < 8 << 20, "small on the way");
    let server = MockServer::start().await;
    let bomb = ResponseTemplate::new(200).insert_header("content-encoding", "gzip").set_body_bytes(packed);
    Mock::given(method("GET")).respond_with(bomb).mount(&server).await;
    let url = SecretUrl::parse(&server.uri()).unwrap();
    let error = HttpClient::new().unwrap().fetch(Request::playlist(url, &Limits::default())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{}", chain(&error));
}
