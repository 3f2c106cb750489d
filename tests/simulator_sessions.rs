//! The simulated camera's session API, as an AWS client uses it.
#![cfg(feature = "sim")]

#[path = "support/hand_clock.rs"]
mod hand_clock;
#[path = "support/player.rs"]
mod player;

use std::time::{Duration, SystemTime};

use hand_clock::START;
use kvs_hls::SecretUrl;
use kvs_hls::sim::{Fault, SimulatedCamera};
use player::{SECOND, bytes, camera, fetch, listed, media, media_url, segment_urls, status, text, times};
use serde_json::{Value, json};

/// Status, error name and body.
async fn call(camera: &SimulatedCamera, api: &str, request: &str) -> (u16, Option<String>, Value) {
    let answer = reqwest::Client::new()
        .post(format!("{}/{api}", camera.endpoint_url()))
        .header("authorization", "AWS4-HMAC-SHA256 Credential=any")
        .body(request.to_owned())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["content-type"], "application/json");
    let name = answer.headers().get("x-amzn-errortype").map(|name| name.to_str().unwrap().to_owned());
    let status = answer.status().as_u16();
    (status, name, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
}

/// The default request with other members.
fn request(camera: &SimulatedCamera, members: Value) -> String {
    let mut request = json!({ "StreamName": camera.stream_name(), "DisplayFragmentTimestamp": "ALWAYS" });
    for (name, value) in members.as_object().unwrap() {
        request[name] = value.clone();
    }
    request.to_string()
}

async fn open(camera: &SimulatedCamera, members: Value) -> SecretUrl {
    let (status, _, body) = call(camera, "getHLSStreamingSessionURL", &request(camera, members)).await;
    assert_eq!(status, 200, "{body}");
    SecretUrl::parse(body["HLSStreamingSessionURL"].as_str().unwrap()).unwrap()
}

fn range(start: f64, end: f64) -> Value {
    let start = START as f64 + start;
    let end = START as f64 + end;
    json!({ "FragmentSelectorType": "PRODUCER_TIMESTAMP", "TimestampRange": { "StartTimestamp": start, "EndTimestamp": end } })
}

#[tokio::test]
async fn session_is_opened_in_two_calls() {
    let (camera, _) = camera(|builder| builder.stream_name("front-door")).await;
    assert_eq!(camera.stream_arn(), "arn:aws:kinesisvideo:us-east-1:123456789012:stream/front-door/1700000000000");
    for stream in [json!({ "StreamName": "front-door" }), json!({ "StreamARN": camera.stream_arn() })] {
        let mut request = stream.clone();
        request["APIName"] = "GET_HLS_STREAMING_SESSION_URL".into();
        let (status, name, body) = call(&camera, "getDataEndpoint", &request.to_string()).await;
        assert_eq!((status, name), (200, None));
        assert_eq!(body, json!({ "DataEndpoint": camera.endpoint_url() }));

        // With all defaults of the service.
        let (status, _, body) = call(&camera, "getHLSStreamingSessionURL", &stream.to_string()).await;
        assert_eq!(status, 200);
        let url = SecretUrl::parse(body["HLSStreamingSessionURL"].as_str().unwrap()).unwrap();
        let url = media_url(&url).await;
        let playlist = media(&url).await;
        assert_eq!(listed(&camera, &playlist), [0, 1, 2, 3, 4]);
        assert!(playlist.segments.iter().all(|s| s.discontinuity && s.program_date_time.is_none()));
    }
    let members = json!({ "HLSFragmentSelector": { "FragmentSelectorType": "PRODUCER_TIMESTAMP" },
                          "MaxMediaPlaylistFragmentResults": 3 });
    let playlist = media(&media_url(&open(&camera, members).await).await).await;
    assert_eq!(listed(&camera, &playlist), [2, 3, 4]);
    assert!(playlist.segments.iter().all(|s| !s.discontinuity && s.program_date_time.is_some()));
    let requests = camera.requests();
    assert_eq!((requests.data_endpoint, requests.session_url, requests.refused), (2, 3, 0));
}

#[tokio::test]
async fn wrong_parameters_are_refused_as_the_service_does() {
    let (camera, _) = camera(|builder| builder).await;
    let live = |start: f64, end: f64| json!({ "HLSFragmentSelector": range(start, end) });
    let archive =
        |start: f64, end: f64| json!({ "PlaybackMode": "ON_DEMAND", "HLSFragmentSelector": range(start, end) });
    let mut future = archive(-4.0, 60.0);
    future["HLSFragmentSelector"]["FragmentSelectorType"] = "SERVER_TIMESTAMP".into();
    for (members, word) in [
        (json!({ "StreamName": null }), "StreamName"),
        (json!({ "StreamARN": "arn:aws:x" }), "StreamName"),
        (json!({ "StreamName": 7 }), "StreamName"),
        (json!({ "PlaybackMode": "REWIND" }), "PlaybackMode"),
        (json!({ "ContainerFormat": "MKV" }), "ContainerFormat"),
        (json!({ "ContainerFormat": "MPEG_TS" }), "MPEG_TS is not simulated"),
        (json!({ "DiscontinuityMode": "SOMETIMES" }), "DiscontinuityMode"),
        (json!({ "DisplayFragmentTimestamp": true }), "DisplayFragmentTimestamp"),
        (json!({ "Expires": 299 }), "from 300 to 43200"),
        (json!({ "Expires": 43201 }), "from 300 to 43200"),
        (json!({ "Expires": 300.5 }), "from 300 to 43200"),
        (json!({ "MaxMediaPlaylistFragmentResults": 0 }), "from 1 to 5000"),
        (json!({ "MaxMediaPlaylistFragmentResults": 5001 }), "from 1 to 5000"),
        (json!({ "HLSFragmentSelector": { "FragmentSelectorType": "MY_TIMESTAMP" } }), "FragmentSelectorType"),
        (live(-4.0, -2.0), "must be absent"),
        (json!({ "PlaybackMode": "ON_DEMAND" }), "are required"),
        (json!({ "PlaybackMode": "LIVE_REPLAY" }), "StartTimestamp is required"),
        (archive(-2.0, -2.0), "later than"),
        (archive(-2.0, 86_400.0), "24 hours"),
        (future, "in the past"),
        (
            json!({ "PlaybackMode": "LIVE_REPLAY",
                 "HLSFragmentSelector": { "TimestampRange": { "StartTimestamp": "noon" } } }),
            "seconds since 1970",
        ),
    ] {
        let (status, name, body) = call(&camera, "getHLSStreamingSessionURL", &request(&camera, members.clone())).await;
        assert_eq!((status, name.as_deref()), (400, Some("InvalidArgumentException")), "{members}");
        assert_eq!(body["__type"], "InvalidArgumentException");
        assert!(body["Message"].as_str().unwrap().contains(word), "{body} for {members}");
    }
    let data_endpoint = |members: Value| request(&camera, members);
    for (request, status, word) in [
        ("no json".into(), 400, "JSON"),
        (data_endpoint(json!({})), 400, "APIName"),
        (data_endpoint(json!({ "APIName": "GET_TEA" })), 400, "APIName"),
        (data_endpoint(json!({ "APIName": "GET_CLIP", "StreamName": "other" })), 404, "Stream other"),
    ] {
        let (got, _, body) = call(&camera, "getDataEndpoint", &request).await;
        assert_eq!(got, status);
        assert!(body["Message"].as_str().unwrap().contains(word), "{body}");
    }
    let unknown = request(&camera, json!({ "StreamName": "other" }));
    let (status, name, body) = call(&camera, "getHLSStreamingSessionURL", &unknown).await;
    assert_eq!((status, name.as_deref()), (404, Some("ResourceNotFoundException")));
    assert!(!body["Message"].as_str().unwrap().contains("No fragments found"), "{body}");
    let unsigned = reqwest::Client::new().post(format!("{}/getDataEndpoint", camera.endpoint_url()));
    let unsigned = unsigned.body("{}").send().await.unwrap();
    assert_eq!(unsigned.status(), 403);
    assert_eq!(unsigned.headers()["x-amzn-errortype"], "MissingAuthenticationTokenException");
}

#[tokio::test]
async fn session_ends_when_it_expires() {
    for (lifetime, expires, lasts) in [(None, 300, 300), (None, 400, 400), (Some(SECOND * 16), 300, 16)] {
        let (camera, clock) = camera(|builder| match lifetime {
            Some(lifetime) => builder.session_lifetime(lifetime),
            None => builder,
        })
        .await;
        let master = open(&camera, json!({ "Expires": expires })).await;
        let playlists = media_url(&master).await;
        clock.forward(SECOND * lasts - Duration::from_millis(1));
        let fragment = segment_urls(&playlists, &media(&playlists).await).remove(0);
        bytes(&fragment).await;
        assert_eq!(camera.open_sessions(), 1);
        clock.forward(Duration::from_millis(1));
        for url in [&master, &playlists, &fragment] {
            let refused = fetch(url).await;
            assert_eq!(refused.status(), 403);
            assert_eq!(refused.headers()["x-amz-ErrorType"], "NotAuthorizedException");
            assert_eq!(refused.text().await.unwrap(), "Streaming session token is expired");
        }
        assert_eq!(camera.open_sessions(), 0);
    }
    // A session that no API opened ends only where the builder says so.
    let (camera, clock) = camera(|builder| builder).await;
    let url = camera.url();
    clock.forward(SECOND * 100_000);
    text(&url).await;
}

#[tokio::test]
async fn sessions_in_use_are_counted() {
    let (camera, clock) = camera(|builder| builder).await;
    let [old, new] = [media_url(&camera.url()).await, media_url(&camera.url()).await];
    assert_eq!((camera.open_sessions(), camera.peak_sessions()), (0, 0));
    media(&old).await;
    media(&old).await;
    assert_eq!((camera.open_sessions(), camera.peak_sessions()), (1, 1));
    media(&new).await;
    assert_eq!(camera.open_sessions(), 2);
    // The target duration is two seconds.
    clock.forward(SECOND * 4);
    media(&new).await;
    assert_eq!(camera.open_sessions(), 2);
    clock.forward(Duration::from_millis(1));
    assert_eq!((camera.open_sessions(), camera.peak_sessions()), (1, 2));
}

#[tokio::test]
async fn archive_lists_what_starts_in_its_range() {
    let (camera, clock) = camera(|builder| builder.publish_delay(Duration::ZERO).backlog(1200)).await;
    clock.forward(SECOND * 2);
    let archive =
        |start: f64, end: f64| json!({ "PlaybackMode": "ON_DEMAND", "HLSFragmentSelector": range(start, end) });
    let url = media_url(&open(&camera, archive(-10.0, -7.5)).await).await;
    let playlist = media(&url).await;
    assert_eq!(listed(&camera, &playlist), [1190, 1191, 1192]);
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(START) - SECOND * 10;
    assert_eq!(times(&playlist), [start, start + SECOND, start + SECOND * 2]);
    assert!(playlist.end_list && playlist.media_sequence == 1);
    assert!(text(&url).await.contains("#EXT-X-PLAYLIST-TYPE:VOD\n"));
    clock.forward(SECOND * 60);
    assert_eq!(media(&url).await, playlist, "an archive does not change");
    // Both ends belong to it, to the millisecond; the oldest thousand at most.
    let mut one = archive(-10.0, -9.001);
    assert_eq!(listed(&camera, &media(&media_url(&open(&camera, one.clone()).await).await).await), [1190]);
    one = archive(-9.999, -9.0);
    assert_eq!(listed(&camera, &media(&media_url(&open(&camera, one).await).await).await), [1191]);
    let all = media(&media_url(&open(&camera, archive(-1200.0, 0.0)).await).await).await;
    assert_eq!((all.segments.len(), listed(&camera, &all)[0]), (1000, 0));
    let mut few = archive(-1200.0, 0.0);
    few["MaxMediaPlaylistFragmentResults"] = 7.into();
    assert_eq!(media(&media_url(&open(&camera, few).await).await).await.segments.len(), 7);

    let empty = request(&camera, archive(-5000.0, -4000.0));
    let (status, name, body) = call(&camera, "getHLSStreamingSessionURL", &empty).await;
    assert_eq!((status, name.as_deref()), (404, Some("ResourceNotFoundException")));
    assert_eq!(body["Message"], "No fragments found in the stream for the streaming request.");
}

#[tokio::test]
async fn replay_adds_a_fragment_for_each_that_has_passed() {
    let (camera, clock) = camera(|builder| builder.publish_delay(Duration::ZERO).backlog(100)).await;
    let mut endless = json!({ "PlaybackMode": "LIVE_REPLAY", "HLSFragmentSelector": range(-10.0, 0.0) });
    let finite = {
        let mut finite = endless.clone();
        finite["HLSFragmentSelector"]["TimestampRange"]["EndTimestamp"] = json!(START - 8);
        media_url(&open(&camera, finite).await).await
    };
    endless["HLSFragmentSelector"]["TimestampRange"].as_object_mut().unwrap().remove("EndTimestamp");
    let endless = media_url(&open(&camera, endless).await).await;
    assert_eq!(listed(&camera, &media(&endless).await), [90]);
    clock.forward(SECOND);
    let playlist = media(&endless).await;
    assert_eq!((listed(&camera, &playlist), playlist.end_list), (vec![90, 91], false));
    assert!(!media(&finite).await.end_list);
    clock.forward(SECOND * 29);
    let playlist = media(&endless).await;
    // On into what was filmed after the opening.
    assert_eq!((listed(&camera, &playlist), playlist.media_sequence), (vec![116, 117, 118, 119, 120], 26));
    let playlist = media(&finite).await;
    assert_eq!((listed(&camera, &playlist), playlist.end_list), (vec![90, 91, 92], true));
}

#[tokio::test]
async fn silent_camera_ends_its_live_sessions() {
    let (camera, clock) = camera(|builder| builder.publish_delay(Duration::ZERO)).await;
    let master = open(&camera, json!({ "Expires": 3000 })).await;
    let playlists = media_url(&master).await;
    camera.inject(Fault::Silent, SECOND * 60).unwrap();
    clock.forward(SECOND * 30);
    assert_eq!(listed(&camera, &media(&playlists).await), [0, 1, 2, 3, 4], "the playlist stands");
    open(&camera, json!({})).await;
    clock.forward(SECOND);
    for url in [&master, &playlists] {
        let refused = fetch(url).await;
        assert_eq!(refused.status(), 404);
        assert_eq!(refused.headers()["x-amz-ErrorType"], "ResourceNotFoundException");
    }
    let (status_now, _, body) = call(&camera, "getHLSStreamingSessionURL", &request(&camera, json!({}))).await;
    assert_eq!(status_now, 404);
    assert!(body["Message"].as_str().unwrap().contains("No fragments found in the stream"), "{body}");
    // The camera is back: numbers go on, times have jumped, and only a new session sees it.
    clock.forward(SECOND * 30);
    assert_eq!(status(&playlists).await, 404);
    let playlist = media(&media_url(&open(&camera, json!({})).await).await).await;
    assert_eq!(listed(&camera, &playlist), [1, 2, 3, 4, 5]);
    let times = times(&playlist);
    assert_eq!(times[4].duration_since(times[3]).unwrap(), SECOND * 61);
    assert_eq!(camera.timeline().capture_time(75), times[4]);
}

/// The call as the AWS SDK makes it: signature, number formats, error names.
#[cfg(feature = "kvs")]
#[tokio::test]
async fn aws_sdk_opens_a_session() {
    use aws_sdk_kinesisvideo::config::{BehaviorVersion, Credentials, Region};
    use aws_sdk_kinesisvideo::error::ProvideErrorMetadata;
    use aws_sdk_kinesisvideoarchivedmedia::primitives::DateTime;
    use aws_sdk_kinesisvideoarchivedmedia::types::{
        HlsFragmentSelector, HlsFragmentSelectorType, HlsPlaybackMode, HlsTimestampRange,
    };

    let (camera, _) = camera(|builder| builder.publish_delay(Duration::ZERO).backlog(20)).await;
    let credentials = Credentials::new("any", "any", None, None, "test");
    let control = aws_sdk_kinesisvideo::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(credentials.clone())
        .endpoint_url(camera.endpoint_url())
        .build();
    let answer = aws_sdk_kinesisvideo::Client::from_conf(control)
        .get_data_endpoint()
        .stream_name(camera.stream_name())
        .api_name(aws_sdk_kinesisvideo::types::ApiName::GetHlsStreamingSessionUrl)
        .send()
        .await
        .unwrap();
    let data = aws_sdk_kinesisvideoarchivedmedia::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(credentials)
        .endpoint_url(answer.data_endpoint().unwrap())
        .build();
    let data = aws_sdk_kinesisvideoarchivedmedia::Client::from_conf(data);
    let end = DateTime::from_secs_f64(START as f64 - 0.5);
    let range =
        HlsTimestampRange::builder().start_timestamp(DateTime::from_secs_f64(START as f64 - 2.999)).end_timestamp(end);
    let selector = HlsFragmentSelector::builder()
        .fragment_selector_type(HlsFragmentSelectorType::ProducerTimestamp)
        .timestamp_range(range.build());
    let session = data
        .get_hls_streaming_session_url()
        .stream_arn(camera.stream_arn())
        .playback_mode(HlsPlaybackMode::OnDemand)
        .hls_fragment_selector(selector.build());
    let answer = session.clone().expires(600).send().await.unwrap();
    let url = SecretUrl::parse(answer.hls_streaming_session_url().unwrap()).unwrap();
    assert_eq!(listed(&camera, &media(&media_url(&url).await).await), [18, 19]);

    let refused = session.expires(1).send().await.unwrap_err().into_service_error();
    assert!(refused.is_invalid_argument_exception(), "{refused:?}");
    assert!(refused.message().unwrap().contains("Expires"), "{refused:?}");
    let unknown = data.get_hls_streaming_session_url().stream_name("other").send().await;
    assert!(unknown.unwrap_err().into_service_error().is_resource_not_found_exception());
    camera.inject(Fault::Status { status: 400, target: kvs_hls::sim::Target::Sessions }, SECOND).unwrap();
    let throttled = data.get_hls_streaming_session_url().stream_name(camera.stream_name()).send().await;
    assert_eq!(throttled.unwrap_err().into_service_error().code(), Some("ClientLimitExceededException"));
}
