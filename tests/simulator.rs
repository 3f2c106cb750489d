//! The simulated camera, over HTTP, as a player sees it.
#![cfg(feature = "sim")]

#[path = "support/hand_clock.rs"]
mod hand_clock;
#[path = "support/player.rs"]
mod player;

use std::time::{Duration, SystemTime};

use kvs_hls::sim::{FragmentNumbers, Playback, Recording, ScheduledFault, SimulatedCamera, SimulatedCameraBuilder};
use kvs_hls::{ErrorKind, SecretUrl};
use m3u8_rs::MediaSegment;
use mp4_atom::{Any, DecodeMaybe, Moof};
use player::{camera, fetch, media, media_url};
use reqwest::StatusCode;

fn boxes(bytes: &[u8]) -> Vec<Any> {
    let mut rest = bytes;
    std::iter::from_fn(|| Any::decode_maybe(&mut rest).unwrap()).collect()
}

async fn moof(base: &SecretUrl, segment: &MediaSegment) -> Moof {
    let answer = fetch(&base.join(&segment.uri).unwrap()).await.error_for_status().unwrap();
    assert_eq!(answer.headers()["content-type"], "video/mp4");
    match <[Any; 2]>::try_from(boxes(&answer.bytes().await.unwrap())) {
        Ok([Any::Moof(moof), Any::Mdat(_)]) => moof,
        other => panic!("{other:?}"),
    }
}

fn decode_time(moof: &Moof) -> u64 {
    moof.traf[0].tfdt.as_ref().unwrap().base_media_decode_time
}

#[tokio::test]
async fn player_gets_from_the_url_to_the_samples() {
    let (camera, _) = camera(|builder| builder).await;
    let master = camera.url();
    let playlists = media_url(&master).await;
    let playlist = media(&playlists).await;
    assert_eq!((playlist.segments.len(), playlist.media_sequence, playlist.end_list), (5, 0, false));

    let map = playlist.segments[0].map.as_ref().unwrap();
    let init = fetch(&playlists.join(&map.uri).unwrap()).await.bytes().await.unwrap();
    assert!(matches!(boxes(&init)[..], [Any::Ftyp(_), Any::Moov(_)]));

    for (index, segment) in (0..).zip(&playlist.segments) {
        let moof = moof(&playlists, segment).await;
        assert_eq!(moof.traf[0].trun[0].samples.len(), 15);
        assert_eq!(decode_time(&moof), index * 15_360);
        // The truth that the camera tells is what the playlist says.
        let said = SystemTime::from(segment.program_date_time.unwrap());
        assert_eq!(said, camera.timeline().fragment(index).captured_at);
        assert_eq!(said, camera.timeline().capture_time(index * 15));
    }
    // The newest fragment ended the publish delay before the start.
    let newest = camera.timeline().fragment(4);
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) - Duration::from_millis(300);
    assert_eq!(camera.timeline().origin() + newest.end, end);
    let requests = camera.requests();
    assert_eq!((requests.master_playlist, requests.media_playlist), (1, 1));
    assert_eq!((requests.init, requests.fragment, requests.refused), (1, 5, 0));
    camera.shutdown().await;
}

#[tokio::test]
async fn window_slides_with_the_clock() {
    let (camera, clock) = camera(|builder| builder.window(3)).await;
    let url = media_url(&camera.url()).await;
    let first = media(&url).await;
    clock.forward(Duration::from_millis(999));
    assert_eq!(media(&url).await, first, "no fragment is complete yet");
    clock.forward(Duration::from_millis(1));
    let second = media(&url).await;
    assert_eq!((second.media_sequence, second.segments.len()), (1, 3));
    assert_eq!(second.segments[0].uri, first.segments[1].uri);
    // On into the next pass of the recording: numbers and times go on.
    clock.forward(Duration::from_secs(7));
    let later = media(&url).await;
    assert_eq!(later.media_sequence, 8);
    let times: Vec<_> = later.segments.iter().map(|segment| segment.program_date_time.unwrap()).collect();
    assert!(times.windows(2).all(|pair| (pair[1] - pair[0]).num_milliseconds() == 1000), "{times:?}");
    assert_eq!(decode_time(&moof(&url, &later.segments[2]).await), 10 * 15_360);
    // A fragment that has slid out is still there for its session.
    moof(&url, &first.segments[0]).await;
}

#[tokio::test]
async fn empty_stream_fills_up() {
    let (camera, clock) = camera(|builder| builder.backlog(0).speed(10)).await;
    let master = camera.url();
    let url = media_url(&master).await;
    let silent = fetch(&url).await;
    assert_eq!(silent.status(), StatusCode::NOT_FOUND);
    assert_eq!(silent.headers()["x-amz-ErrorType"], "ResourceNotFoundException");
    assert!(silent.text().await.unwrap().contains("No fragments found"));
    for count in 1..=7_usize {
        // Ten times as fast, publish delay included.
        clock.forward(Duration::from_millis(if count == 1 { 130 } else { 100 }));
        let playlist = media(&url).await;
        assert_eq!((playlist.segments.len(), playlist.media_sequence), (count.min(5), count.saturating_sub(5) as u64));
        assert_eq!(camera.published(), count as u64);
    }
}

#[tokio::test]
async fn sessions_differ_in_token_and_sequence_but_not_in_fragments() {
    let (camera, clock) = camera(|builder| builder).await;
    let old = media_url(&camera.url()).await;
    clock.forward(Duration::from_secs(2));
    let new = media_url(&camera.url()).await;
    assert_ne!(old, new);
    let (old, new) = (media(&old).await, media(&new).await);
    assert_eq!((old.media_sequence, new.media_sequence), (2, 0));
    let number = |segment: &MediaSegment| segment.uri.split(['=', '&']).nth(1).unwrap().to_owned();
    assert_eq!(number(&old.segments[0]).len(), 47);
    assert!(old.segments.iter().map(number).eq(new.segments.iter().map(number)));
    assert!(old.segments.iter().all(|segment| segment.discontinuity));

    let mut options = camera.session_options();
    options.playback = Playback::OnDemand { fragments: 5 };
    options.numbers = FragmentNumbers::Session;
    let archive = media_url(&camera.new_session(options).unwrap()).await;
    let playlist = media(&archive).await;
    assert!(playlist.end_list && playlist.media_sequence == 1);
    assert_eq!(playlist.segments.iter().map(number).collect::<Vec<_>>(), ["0", "1", "2", "3", "4"]);
    assert_eq!(decode_time(&moof(&archive, &playlist.segments[4]).await), 4 * 15_360);
}

#[tokio::test]
async fn wrong_requests_are_refused_by_name() {
    let (camera, _) = camera(|builder| builder).await;
    let master = camera.url();
    let playlists = media_url(&master).await;
    let segment = playlists.join(&media(&playlists).await.segments[0].uri).unwrap();
    let whole = segment.expose().as_str();
    let token = whole.split("SessionToken=").nth(1).unwrap().split('&').next().unwrap();
    let number = whole.split("FragmentNumber=").nth(1).unwrap().split('&').next().unwrap();
    let unknown = format!("{}9", &number[..46]);
    for (url, status, name) in [
        (whole.replace(token, "CiSomebodyElses~"), 403, "NotAuthorizedException"),
        (whole.replace("SessionToken=", "Other="), 403, "NotAuthorizedException"),
        (master.expose().as_str().replace(token, "CiSomebodyElses~"), 403, "NotAuthorizedException"),
        (whole.replace("TrackNumber=1", "TrackNumber=2"), 400, "InvalidArgumentException"),
        (whole.replace("FragmentNumber=", "Other="), 400, "InvalidArgumentException"),
        (whole.replace(number, &unknown), 404, "ResourceNotFoundException"),
    ] {
        let answer = fetch(&SecretUrl::parse(&url).unwrap()).await;
        assert_eq!(answer.status(), status, "{name}");
        assert_eq!(answer.headers()["x-amz-ErrorType"], name);
        assert!(answer.headers().contains_key("x-amz-RequestId"));
        let body = answer.text().await.unwrap();
        assert_eq!(body.contains("token"), status == 403, "{body}");
    }
    assert_eq!(camera.requests().refused, 6);
    assert!(!format!("{camera:?} {master:?}").contains(token), "a token is a secret");
}

#[tokio::test]
async fn decode_times_from_1970_need_64_bits() {
    let first = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
    let (camera, _) = camera(|builder| builder.epoch_decode_times(true).first_frame_at(first)).await;
    let url = media_url(&camera.url()).await;
    let playlist = media(&url).await;
    assert_eq!(decode_time(&moof(&url, &playlist.segments[1]).await), 1_700_000_001_250 * 15_360 / 1000);
    assert_eq!(SystemTime::from(playlist.segments[0].program_date_time.unwrap()), first);
}

#[tokio::test]
async fn stopped_camera_answers_nobody() {
    for explicitly in [true, false] {
        let (camera, _) = camera(|builder| builder).await;
        let url = camera.url();
        let client = reqwest::Client::new();
        client.get(url.expose().clone()).send().await.unwrap();
        if explicitly {
            camera.shutdown().await;
            assert!(client.get(url.expose().clone()).send().await.is_err());
        } else {
            drop(camera);
            while client.get(url.expose().clone()).send().await.is_ok() {
                tokio::task::yield_now().await;
            }
        }
    }
}

#[tokio::test]
async fn wrong_options_name_themselves() {
    let refused = |builder: SimulatedCameraBuilder, word: &'static str| async move {
        let error = builder.start().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(word), "{error}");
    };
    refused(SimulatedCamera::builder().window(0), "window of 0").await;
    refused(SimulatedCamera::builder().speed(0), "speed of 0").await;
    refused(SimulatedCamera::builder().stream_name("front door"), "stream name \"front door\"").await;
    let other = Recording::demo().with_min_fragment(Duration::from_secs(2));
    refused(SimulatedCamera::builder().second_recording(other), "second recording").await;
    let change = "1s+1s:resolution".parse::<ScheduledFault>().unwrap();
    let lonely = SimulatedCamera::builder().recording(Recording::demo()).faults([change].into_iter().collect());
    refused(lonely, "without a second recording").await;
    refused(SimulatedCamera::builder().playback(Playback::OnDemand { fragments: 0 }), "on-demand").await;
    let (taken, _) = camera(|builder| builder.recording(Recording::demo())).await;
    refused(SimulatedCamera::builder().bind(taken.address()), "address").await;
}
