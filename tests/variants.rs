//! A multivariant playlist over two simulated cameras that film the same: the bandwidth decides which one is read.

#[path = "support/hand_clock.rs"]
#[allow(dead_code, reason = "the player has one")]
mod hand_clock;
#[path = "support/player.rs"]
mod player;
mod support;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kvs_hls::hls::VariantCaps;
use kvs_hls::sim::{Fault, Recording, SimulatedCamera, Target};
use kvs_hls::{Clock, Delivery, FixedUrl, Frame, FrameSource, FrameSourceBuilder, Output, VariantChoice};
use player::media_url;
use support::FastClock;
use support::painted::Ledger;
use wiremock::matchers::path;
use wiremock::{Mock, MockServer, ResponseTemplate};

struct Ladder {
    large: SimulatedCamera,
    small: SimulatedCamera,
    server: MockServer,
    clock: FastClock,
}

impl Ladder {
    async fn start() -> Self {
        let clock = FastClock::new(20);
        let first = SystemTime::now();
        let camera = |recording: Recording| {
            let builder = SimulatedCamera::builder().recording(recording).first_frame_at(first);
            builder.clock(Arc::new(clock.clone())).start()
        };
        let (large, small) = (camera(Recording::demo()).await.unwrap(), camera(Recording::demo_small()).await.unwrap());
        let server = MockServer::start().await;
        let mut text = String::from("#EXTM3U\n");
        for (camera, bandwidth, size) in [(&small, 200_000, "320x180"), (&large, 600_000, "640x360")] {
            let url = media_url(&camera.url()).await;
            text += &format!("#EXT-X-STREAM-INF:BANDWIDTH={bandwidth},RESOLUTION={size}\n{}\n", url.expose());
        }
        let master = ResponseTemplate::new(200).set_body_string(text);
        Mock::given(path("/master.m3u8")).respond_with(master).mount(&server).await;
        Self { large, small, server, clock }
    }

    fn builder(&self) -> FrameSourceBuilder {
        FrameSource::builder("ladder", FixedUrl::new(&format!("{}/master.m3u8", self.server.uri())).unwrap())
            .delivery(Delivery::All)
            .output(Output::gray())
            .clock(self.clock.clone())
    }
}

/// Reads until `enough` says so; gives the widths in their order.
async fn read(ladder: &Ladder, source: &FrameSource, mut enough: impl FnMut(&[usize], &Frame) -> bool) -> Vec<usize> {
    let mut frames = source.start().unwrap();
    let mut ledger = Ledger::default();
    let mut widths = Vec::new();
    let start = ladder.clock.now();
    loop {
        let frame = frames.next().await.unwrap().unwrap();
        ledger.look(&frame, ladder.large.timeline());
        if widths.last() != Some(&frame.width()) {
            widths.push(frame.width());
            assert!(widths.len() == 1 || frame.meta().resolution_changed && frame.meta().is_keyframe);
        }
        assert!(ladder.clock.now() - start < Duration::from_secs(200), "{widths:?} {:?}", source.stats());
        if enough(&widths, &frame) {
            break;
        }
    }
    assert!(ledger.defects.is_empty() && ledger.gaps.is_empty(), "{ledger:?} {:?}", source.stats());
    widths
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bandwidth_decides_and_no_frame_is_lost_or_repeated() {
    let ladder = Ladder::start().await;
    let source = ladder.builder().build().unwrap();
    let mut is_slow = false;
    let widths = read(&ladder, &source, |widths, _| {
        if !is_slow && source.stats().frames > 60 {
            is_slow = true;
            // Half of what the large one needs, for twelve seconds.
            let fault = Fault::Slow { bytes_per_second: 25_000, target: Target::Fragments };
            ladder.large.inject(fault, Duration::from_secs(12)).unwrap();
        }
        widths == [640, 320, 640]
    });
    assert_eq!(widths.await, [640, 320, 640]);
    assert_eq!(source.stats().variant_switches, 2);
    assert!(ladder.small.requests().fragment > 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_choice_and_caps_are_kept() {
    let ladder = Ladder::start().await;
    let mut caps = VariantCaps::default();
    caps.max_height = Some(300);
    for (builder, width) in [
        (ladder.builder().variant(VariantChoice::Highest), 640),
        (ladder.builder().variant(VariantChoice::Lowest), 320),
        (ladder.builder().variant(VariantChoice::Listed(1)), 320),
        (ladder.builder().variant(VariantChoice::Listed(2)), 640),
        (ladder.builder().variant_caps(caps), 320),
    ] {
        let source = builder.build().unwrap();
        let widths = read(&ladder, &source, |_, _| source.stats().frames >= 60).await;
        assert_eq!(widths, [width]);
        assert_eq!(source.stats().variant_switches, 0);
    }
    let source = ladder.builder().variant(VariantChoice::Listed(3)).build().unwrap();
    let error = source.start().unwrap().next().await.unwrap().unwrap_err();
    assert!(error.to_string().contains("variant 3 of a playlist that lists 2"), "{error}");
}
