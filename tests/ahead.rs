//! Archives decoded on several threads at once, and frames that are left out: the same frames for less work.

mod support;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;

use kvs_hls::decode::{Openh264Decoder, Picture};
use kvs_hls::h264::AccessUnit;
use kvs_hls::{Decoder, Error, Frame, FrameSelection, FrameSourceBuilder, Limits, Output, TimeOrigin};
use support::{Files, builder, chain, file_server, md5, read_all};
use wiremock::matchers::{method, path_regex};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

/// All that a frame tells.
fn facts(frame: &Frame) -> (i64, String, String) {
    let meta = frame.meta();
    // The times of arrival differ from run to run.
    let is_dated = meta.time_origin != TimeOrigin::Arrival;
    let gap = meta.gap_before.map(|gap| (gap.cause, gap.frames, gap.segments, gap.span.filter(|_| is_dated)));
    let captured_at = is_dated.then_some(meta.captured_at);
    let facts = (meta.is_keyframe, meta.resolution_changed, meta.media_sequence, captured_at, gap);
    (meta.pts.ticks(), md5(frame.data()), format!("{facts:?}"))
}

async fn frames(builder: FrameSourceBuilder) -> Vec<(i64, String, String)> {
    let source = builder.output(Output::i420()).build().unwrap();
    let (frames, error) = read_all(&source).await;
    assert!(error.is_none(), "{}", chain(&error.unwrap()));
    frames.iter().map(facts).collect()
}

/// Segments of one IDR picture each, of several, of none; B-frames, other sizes midway, parameter sets in the samples.
const ARCHIVES: [&str; 8] = [
    "kvs_camera",
    "high_bframes_pyramid_640x360",
    "bframes_open_gop_160x90",
    "segments_without_idr",
    "resolution_change",
    "avc3_inband_only",
    "audio_in_fragments",
    "chunks_five_frames",
];

#[tokio::test]
async fn frames_are_the_same_however_many_segments_are_decoded_at_once() {
    let server = file_server().await;
    for name in ARCHIVES {
        let url = format!("{}/hls/{name}/index.m3u8", server.uri());
        for selection in [FrameSelection::All, FrameSelection::Keyframes, FrameSelection::TargetFps(7.0)] {
            let one = frames(builder(&url).select(selection).decode_ahead(1)).await;
            assert!(!one.is_empty(), "{name}");
            for segments in [2, 5] {
                assert_eq!(frames(builder(&url).select(selection).decode_ahead(segments)).await, one, "{name}");
            }
            // No room to wait in: the strands take turns.
            let mut limits = Limits::default();
            limits.max_waiting_bytes = 0;
            assert_eq!(frames(builder(&url).select(selection).decode_ahead(3).limits(limits)).await, one, "{name}");
        }
    }
}

/// Files, one of which is cut short.
struct Cut;

impl Respond for Cut {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let path = support::fixtures().join(request.url.path().trim_start_matches('/'));
        let body = std::fs::read(path).unwrap();
        ResponseTemplate::new(200).set_body_bytes(&body[..body.len() * 2 / 3])
    }
}

#[tokio::test]
async fn losses_are_told_in_their_place() {
    for broken in [1, 4, 9] {
        let server = MockServer::start().await;
        Mock::given(method("GET"))
            .and(path_regex(support::camera_segment(broken)))
            .respond_with(Cut)
            .with_priority(1)
            .mount(&server)
            .await;
        Mock::given(method("GET")).respond_with(Files).mount(&server).await;
        let url = format!("{}/hls/kvs_camera/index.m3u8", server.uri());
        let one = frames(builder(&url).decode_ahead(1)).await;
        assert!(broken == 9 || one.iter().any(|frame| frame.2.contains("Damaged")), "{one:?}");
        assert_eq!(frames(builder(&url).decode_ahead(4)).await, one, "segment {broken}");
    }
}

/// Keeps book of the access units that are decoded.
struct Watched {
    decoder: Openh264Decoder,
    book: Arc<Mutex<(usize, HashSet<ThreadId>)>>,
}

impl Decoder for Watched {
    fn decode(&mut self, unit: &AccessUnit, out: &mut dyn FnMut(Picture<'_>)) -> Result<(), Error> {
        let mut book = self.book.lock().unwrap();
        book.0 += 1;
        book.1.insert(std::thread::current().id());
        drop(book);
        self.decoder.decode(unit, out)
    }

    fn drain(&mut self, out: &mut dyn FnMut(Picture<'_>)) -> Result<(), Error> {
        self.decoder.drain(out)
    }

    fn reset(&mut self) {
        self.decoder.reset();
    }
}

/// Frames delivered, access units decoded, threads that decoded.
async fn work(name: &str, selection: FrameSelection, segments: usize) -> (usize, usize, usize) {
    let server = file_server().await;
    let book = Arc::<Mutex<(usize, HashSet<ThreadId>)>>::default();
    let watched = book.clone();
    let url = format!("{}/hls/{name}/index.m3u8", server.uri());
    let builder = builder(&url).select(selection).decode_ahead(segments).decoder(move |limits| {
        Box::new(Watched { decoder: Openh264Decoder::new(limits.clone()), book: watched.clone() })
    });
    let frames = frames(builder).await.len();
    let book = book.lock().unwrap();
    (frames, book.0, book.1.len())
}

#[tokio::test]
async fn only_what_is_wanted_or_needed_is_decoded() {
    // 75 frames at 25 a second in three closed segments, none of them disposable.
    let all = work("baseline_640x360", FrameSelection::All, 1).await;
    assert_eq!(all, (75, 75, 1));
    assert_eq!(work("baseline_640x360", FrameSelection::Keyframes, 1).await, (3, 3, 1));
    // Frames 0, 25 and 50 are IDR pictures: nothing else is needed.
    assert_eq!(work("baseline_640x360", FrameSelection::TargetFps(1.0), 1).await, (3, 3, 1));
    // Two a second: of each segment the frames up to the thirteenth, behind which nothing is wanted.
    let (frames, decoded, _) = work("baseline_640x360", FrameSelection::TargetFps(2.0), 1).await;
    assert_eq!(frames, 6);
    assert!(decoded <= 3 * 15, "{decoded} of 75 were decoded");
    // One IDR picture at the start only: what was left out behind a wanted frame is decoded when the next one needs it.
    let (frames, decoded, _) = work("segments_without_idr", FrameSelection::TargetFps(2.0), 1).await;
    let (all, _, _) = work("segments_without_idr", FrameSelection::All, 1).await;
    assert!(frames > 2 && decoded <= all, "{frames} frames, {decoded} of {all} decoded");
    assert_eq!(work("kvs_camera", FrameSelection::All, 3).await.2, 3, "threads");
}

#[tokio::test]
async fn wrong_numbers_are_refused() {
    for segments in [0, 65] {
        let error = builder("http://localhost/a.m3u8").decode_ahead(segments).build().unwrap_err();
        assert_eq!(error.to_string(), format!("configuration error: decode_ahead of {segments} (1 to 64 is allowed)"));
    }
}
