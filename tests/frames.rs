//! Every fixture through the whole engine, over HTTP, against ffmpeg's answers.

mod support;

use std::io::Read;
use std::time::{Duration, SystemTime};

use kvs_hls::{Frame, FrameSelection, Output, PixelFormat};
use support::{builder, file_server, fixtures, framemd5, md5, read_all};

async fn i420(name: &str) -> Vec<Frame> {
    let server = file_server().await;
    let url = format!("{}/hls/{name}", server.uri());
    let source = builder(&url).output(Output::i420()).build().unwrap();
    let (frames, error) = read_all(&source).await;
    assert!(error.is_none(), "{name}: {}", support::chain(&error.unwrap()));
    assert!(frames.iter().all(|frame| frame.meta().gap_before.is_none()), "{name} has a gap");
    let stats = source.stats();
    assert_eq!((stats.gaps, stats.errors, stats.frames), (0, 0, frames.len() as u64), "{name}");
    frames
}

/// Presentation times relative to the first: ffmpeg's are media times, ours have the edit list applied.
fn steps(times: impl Iterator<Item = i64> + Clone) -> Vec<i64> {
    let first = times.clone().next().unwrap_or_default();
    times.map(|time| time - first).collect()
}

async fn check(name: &str, playlist: &str, is_exact: bool) {
    let frames = i420(&format!("{name}/{playlist}")).await;
    let expected = framemd5(&fixtures().join("hls").join(name).join("expected.framemd5"));
    assert_eq!(frames.len(), expected.len(), "{name}");
    assert_eq!(
        steps(frames.iter().map(|frame| frame.meta().pts.ticks())),
        steps(expected.iter().map(|frame| frame.pts)),
        "{name}"
    );
    for (index, (frame, expected)) in frames.iter().zip(&expected).enumerate() {
        assert_eq!(frame.data().len(), expected.size, "{name} frame {index}");
        assert!(!is_exact || md5(frame.data()) == expected.md5, "{name} frame {index} differs from ffmpeg's");
    }
}

macro_rules! fixture {
    ($($name:ident $exactness:ident),+ $(,)?) => { $(
        #[tokio::test]
        async fn $name() {
            check(stringify!($name), "index.m3u8", stringify!($exactness) == "exact").await;
        }
    )+ };
}

// openh264 rounds some B-frame predictions in its own way: those streams are `close`, see the PSNR below.
fixture! {
    baseline_640x360 exact, main_cabac_720p exact, high_bframes_pyramid_640x360 close, high_1080p exact,
    high_bframes_1080p close, high_854x480 exact, main_638x358 exact, main_322x178 exact, slices_4_per_picture exact,
    intra_refresh exact, weighted_prediction_fade exact, multiple_references exact, cavlc_bframes close,
    noise_320x180 exact, monochrome exact, audio_in_fragments exact, avc3_inband_only exact, avc3_both_places exact,
    avc1_inband_sets_aud_sei exact, chunks_one_frame exact, chunks_five_frames exact, box_layouts exact,
    byte_range_single_file exact, colour_bt601_limited exact, colour_bt601_full exact, colour_bt709_limited exact,
    colour_bt709_full exact, kvs_camera exact, kvs_camera_epoch_times exact, bframes_closed_gop_160x90 close,
    bframes_open_gop_160x90 close, vfr_jitter_90khz exact, timescale_1000 exact, negative_cts_offsets close,
    edit_list_bframes close, edit_list_empty_edit_bframes close, segments_without_idr exact,
}

#[tokio::test]
async fn the_best_variant_is_read() {
    let frames = i420("multivariant/master.m3u8").await;
    let expected = framemd5(&fixtures().join("hls/multivariant/v360/expected.framemd5"));
    assert!(frames.iter().map(|frame| md5(frame.data())).eq(expected.into_iter().map(|frame| frame.md5)));
}

#[tokio::test]
async fn a_resolution_change_loses_nothing() {
    let frames = i420("resolution_change/index.m3u8").await;
    let parts = (0..3)
        .flat_map(|part| framemd5(&fixtures().join(format!("hls/resolution_change/expected.part{part}.framemd5"))));
    assert!(frames.iter().map(|frame| md5(frame.data())).eq(parts.map(|frame| frame.md5)));
    let changes: Vec<_> = frames.iter().map(|frame| frame.meta().resolution_changed).collect();
    assert_eq!(
        changes.iter().enumerate().filter(|(_, changed)| **changed).map(|(index, _)| index).collect::<Vec<_>>(),
        [25, 50]
    );
    assert_eq!((frames[24].width(), frames[25].width(), frames[50].width()), (640, 1280, 640));
}

/// Streams with B-frames: at least 60 dB against ffmpeg's pictures, frame by frame.
#[tokio::test]
async fn bframes_are_as_good_as_ffmpegs() {
    for name in ["bframes_closed_gop_160x90", "bframes_open_gop_160x90"] {
        let frames = i420(&format!("{name}/index.m3u8")).await;
        let packed = std::fs::File::open(fixtures().join("hls").join(name).join("expected.yuv.gz")).unwrap();
        let mut pictures = Vec::new();
        flate2::read::GzDecoder::new(packed).read_to_end(&mut pictures).unwrap();
        let size = PixelFormat::I420.frame_bytes(160, 90);
        assert_eq!(pictures.len(), frames.len() * size);
        for (index, (frame, picture)) in frames.iter().zip(pictures.chunks_exact(size)).enumerate() {
            let errors = frame.data().iter().zip(picture).map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2));
            let mean = errors.sum::<u64>() as f64 / size as f64;
            let psnr = 10.0 * (255.0_f64.powi(2) / mean).log10();
            assert!(psnr >= 60.0, "{name} frame {index}: {psnr:.1} dB");
        }
    }
}

/// Capture times against the playlist's text: date of the segment plus distance from its first frame, to the nanosecond.
#[tokio::test]
async fn capture_times_are_the_playlists() {
    let playlist = std::fs::read_to_string(fixtures().join("hls/kvs_camera/index.m3u8")).unwrap();
    let dates: Vec<SystemTime> = playlist
        .lines()
        .filter_map(|line| line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:"))
        .map(|date| date.parse::<jiff::Timestamp>().unwrap().into())
        .collect();
    let packets = framemd5(&fixtures().join("hls/kvs_camera/expected.framemd5"));
    let frames = i420("kvs_camera/index.m3u8").await;
    assert_eq!((dates.len(), frames.len()), (10, 150));
    for (index, frame) in frames.iter().enumerate() {
        let segment = index / 15;
        let ticks = (packets[index].pts - packets[segment * 15].pts) as u64;
        let timescale = u64::from(frame.meta().pts.timescale().get());
        let expected = dates[segment] + Duration::from_nanos(ticks * 1_000_000_000 / timescale);
        assert_eq!(frame.captured_at(), expected, "frame {index}");
        assert_eq!(frame.meta().media_sequence, segment as u64 + frames[0].meta().media_sequence);
        assert_eq!(frame.meta().is_keyframe, index % 15 == 0);
    }
}

/// The painted patches, through BGR, against the colours they were painted in.
#[tokio::test]
async fn colours_are_those_that_were_painted() {
    for name in ["colour_bt601_limited", "colour_bt601_full", "colour_bt709_limited", "colour_bt709_full"] {
        let server = file_server().await;
        let source = builder(&format!("{}/hls/{name}/index.m3u8", server.uri())).build().unwrap();
        let (frames, _) = read_all(&source).await;
        let patches = std::fs::read_to_string(fixtures().join("hls").join(name).join("patches.csv")).unwrap();
        let mut checked = 0;
        for line in patches.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())) {
            let [x, y, r, g, b]: [usize; 5] =
                line.split(',').map(|n| n.trim().parse().unwrap()).collect::<Vec<_>>().try_into().unwrap();
            let frame = &frames[0];
            let pixel = &frame.data()[y * frame.stride() + x * 3..][..3];
            for (got, want) in pixel.iter().zip([b, g, r]) {
                assert!(usize::from(*got).abs_diff(want) <= 4, "{name} at {x},{y}: {pixel:?} is not {:?}", [b, g, r]);
            }
            checked += 1;
        }
        assert!(checked >= 8, "{name} has {checked} patches");
    }
}

#[tokio::test]
async fn selections_deliver_what_they_say() {
    let server = file_server().await;
    let url = format!("{}/hls/kvs_camera/index.m3u8", server.uri());
    let expected = framemd5(&fixtures().join("hls/kvs_camera/expected.framemd5"));
    for (selection, step) in [(FrameSelection::Keyframes, 15), (FrameSelection::TargetFps(5.0), 3)] {
        let source = builder(&url).select(selection).output(Output::i420()).build().unwrap();
        let (frames, _) = read_all(&source).await;
        let hashes: Vec<_> = frames.iter().map(|frame| md5(frame.data())).collect();
        let wanted: Vec<_> = expected.iter().step_by(step).map(|frame| frame.md5.clone()).collect();
        assert_eq!(hashes.len(), wanted.len(), "{selection}");
        assert_eq!(hashes, wanted, "{selection}");
        assert_eq!(source.stats().gaps, 0);
    }
}

#[tokio::test]
async fn wrong_composition_offsets_do_not_shuffle_pictures() {
    for name in ["bframes_closed_gop_160x90", "bframes_open_gop_160x90", "cavlc_bframes"] {
        let right = i420(&format!("{name}/index.m3u8")).await;
        let server = file_server().await;
        for entry in std::fs::read_dir(fixtures().join("hls").join(name)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "m4s") {
                let body = support::without_composition_offsets(std::fs::read(&path).unwrap());
                let route = format!("/hls/{name}/{}", path.file_name().unwrap().to_str().unwrap());
                wiremock::Mock::given(wiremock::matchers::path(route))
                    .respond_with(wiremock::ResponseTemplate::new(200).set_body_bytes(body))
                    .with_priority(1)
                    .mount(&server)
                    .await;
            }
        }
        let source =
            builder(&format!("{}/hls/{name}/index.m3u8", server.uri())).output(Output::i420()).build().unwrap();
        let (frames, _) = read_all(&source).await;
        assert_eq!(frames.len(), right.len(), "{name}");
        assert!(frames.iter().zip(&right).all(|(a, b)| a.data() == b.data()), "{name}");
        assert!(frames.is_sorted_by_key(|frame| frame.meta().pts.ticks()), "{name}");
    }
}

#[tokio::test]
async fn scaled_frames_keep_their_size_and_tell_the_videos() {
    let server = file_server().await;
    let url = format!("{}/hls/resolution_change/index.m3u8", server.uri());
    for (output, sizes) in [
        (Output::bgr().fit(800, 800), [(640, 360), (800, 450), (640, 360)]),
        (Output::gray().exact(33, 17), [(33, 17); 3]),
        (Output::i420().letterbox(320, 320).padding(114), [(320, 320); 3]),
    ] {
        let (frames, error) = read_all(&builder(&url).output(output).build().unwrap()).await;
        assert!(error.is_none());
        let changes: Vec<_> = frames.chunk_by(|_, next| !next.meta().resolution_changed).map(|part| &part[0]).collect();
        let sources: Vec<_> = changes.iter().map(|frame| frame.meta().source_size).collect();
        assert_eq!(sources, [(640, 360), (1280, 720), (640, 360)]);
        assert_eq!(changes.iter().map(|frame| (frame.width(), frame.height())).collect::<Vec<_>>(), sizes);
        assert!(
            frames
                .iter()
                .all(|frame| { frame.data().len() == frame.format().frame_bytes(frame.width(), frame.height()) })
        );
    }
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    for output in [Output::bgr().fit(0, 1), Output::bgr().exact(8193, 1), Output::bgr().letterbox(1, 9000)] {
        let error = builder("http://host/a.m3u8").output(output).build().unwrap_err();
        assert_eq!(error.kind(), kvs_hls::ErrorKind::Config);
        assert!(error.to_string().contains("1 to 8192 is allowed"), "{error}");
    }
}
