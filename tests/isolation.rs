//! The decoder in a process of its own: the same pictures, and whatever happens to it costs one camera one gap. Alone in its
//! process, since it looks for children.
#![cfg(target_os = "linux")]

mod support;

#[allow(dead_code, reason = "shared with the demuxer's tests")]
#[path = "demux/recording.rs"]
mod recording;

use std::process::Command;
use std::time::Duration;

use kvs_hls::decode::IsolatedDecoder;
use kvs_hls::fmp4::{Demuxer, InitSegment};
use kvs_hls::sim::{Recording, SimulatedCamera};
use kvs_hls::{
    Decoder, DecoderProcess, Delivery, ErrorKind, Fleet, Frame, FrameSource, FrameSourceBuilder, GapCause,
    KinesisSession, Limits, Output,
};
use support::camera::sdk_config;
use support::painted::Ledger;
use support::{builder, chain, file_server, md5, read_all};

/// Children are counted.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn process() -> DecoderProcess {
    DecoderProcess::new(env!("CARGO_BIN_EXE_kvs-hls"), ["decoder"])
}

/// The process ids of this process's children, dead ones that nobody has waited for too.
fn children() -> Vec<String> {
    let own = std::process::id().to_string();
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    entries
        .filter(|id| {
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            // Behind the name, which may hold anything: state, parent.
            stat.rsplit_once(')').is_some_and(|(_, rest)| rest.split_whitespace().nth(1) == Some(&own))
        })
        .collect()
}

fn signal(name: &str, id: &str) {
    assert!(Command::new("kill").args([name, id]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_are_the_same() {
    let _alone = ALONE.lock().await;
    let server = file_server().await;
    for (name, ahead) in [
        ("baseline_640x360", 1),
        ("high_bframes_pyramid_640x360", 1),
        ("main_638x358", 2),
        ("monochrome", 1),
        ("resolution_change", 1),
        ("avc3_inband_only", 1),
        ("colour_bt601_full", 1),
    ] {
        let url = format!("{}/hls/{name}/index.m3u8", server.uri());
        let frames = async |isolated: bool| {
            let builder = builder(&url).output(Output::bgr()).decode_ahead(ahead);
            let builder = if isolated { builder.isolate(process()) } else { builder };
            let (frames, error) = read_all(&builder.build().unwrap()).await;
            assert!(error.is_none(), "{name}: {error:?}");
            let line = |frame: &Frame| {
                let meta = frame.meta();
                (md5(frame.data()), meta.pts, meta.source_size, meta.sample_aspect_ratio, meta.gap_before.is_some())
            };
            frames.iter().map(line).collect::<Vec<_>>()
        };
        let (own, isolated) = (frames(false).await, frames(true).await);
        assert!(!own.is_empty());
        assert_eq!(own, isolated, "{name}");
        assert_eq!(children(), Vec::<String>::new(), "{name}");
    }
}

fn watch(name: &str, camera: &SimulatedCamera, process: DecoderProcess) -> FrameSourceBuilder {
    let session = KinesisSession::live(camera.stream_name()).sdk_config(&sdk_config(&camera.endpoint_url()));
    FrameSource::builder(name, session).delivery(Delivery::All).output(Output::gray()).isolate(process)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decoder_that_dies_costs_its_camera_a_gap_and_nothing_else() {
    let _alone = ALONE.lock().await;
    let camera = SimulatedCamera::builder().recording(Recording::demo_small()).start().await.unwrap();
    let fleet = Fleet::with_decode_threads(2).unwrap();
    let mut hit =
        fleet.start(watch("hit", &camera, process().timeout(Duration::from_secs(1))).build().unwrap()).unwrap();
    let mut ledger = Ledger::default();
    while ledger.frames < 20 {
        ledger.look(&hit.next().await.unwrap().unwrap(), camera.timeline());
    }
    let [first] = &children()[..] else { panic!("one child: {:?}", children()) };
    let mut spared = fleet.start(watch("spared", &camera, process()).build().unwrap()).unwrap();
    let mut others = Ledger::default();
    while others.frames < 20 {
        others.look(&spared.next().await.unwrap().unwrap(), camera.timeline());
    }
    let bystander = children().into_iter().find(|child| child != first).unwrap();
    // Crashed, killed, and stopped for ever.
    for (index, name) in ["-SEGV", "-KILL", "-STOP"].into_iter().enumerate() {
        let child = children().into_iter().find(|child| *child != bystander).unwrap();
        signal(name, &child);
        while ledger.gaps.len() <= index {
            ledger.look(&hit.next().await.unwrap().unwrap(), camera.timeline());
        }
        let until = ledger.frames + 20;
        while ledger.frames < until {
            ledger.look(&hit.next().await.unwrap().unwrap(), camera.timeline());
        }
        assert_eq!(ledger.gaps.len(), index + 1, "{name}: one gap");
    }
    assert_eq!(ledger.gaps, [GapCause::Damaged; 3]);
    assert!(ledger.defects.is_empty(), "{ledger:#?}");
    let until = others.frames + 60;
    while others.frames < until {
        others.look(&spared.next().await.unwrap().unwrap(), camera.timeline());
    }
    assert!(others.defects.is_empty() && others.gaps.is_empty(), "{others:#?}");
    let error = fleet.camera("hit").unwrap().stats().last_error.unwrap();
    assert!(error.contains("did not answer within 1s"), "{error}");
    drop((hit, spared, fleet));
    assert_eq!(children(), Vec::<String>::new());
}

#[tokio::test]
async fn programs_that_are_no_decoders_are_told() {
    let _alone = ALONE.lock().await;
    let part = recording::parts(&support::fixtures().join("hls/baseline_640x360")).remove(0);
    let mut demuxer = Demuxer::new(InitSegment::parse(&part.init, &Limits::default()).unwrap(), Limits::default());
    let mut units = Vec::new();
    demuxer.push(part.segments[0].clone(), &mut units).unwrap();
    for (program, args, reason) in [
        ("/bin/cat", vec![], "gave no sensible answer"),
        ("/bin/true", vec![], "ended with exit status: 0"),
        ("/bin/sh", vec!["-c", "exit 3"], "ended with exit status: 3"),
        ("/bin/sh", vec!["-c", "cat > /dev/null"], "did not answer within 200ms"),
        ("/bin/sh", vec!["-c", "kill -SEGV $$"], "ended with signal: 11"),
        ("/bin/sh", vec!["-c", "head -c 1000 /dev/zero"], "gave no sensible answer"),
        ("/no/such/program", vec![], "process /no/such/program that cannot be started"),
    ] {
        let process = DecoderProcess::new(program, args.clone()).timeout(Duration::from_millis(200));
        let mut decoder = IsolatedDecoder::new(process, Limits::default());
        for _ in 0..2 {
            let error = decoder.decode(&units[0], &mut |_| panic!("a picture")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Decoder);
            assert!(chain(&error).contains(reason), "{program} {args:?}: {}", chain(&error));
            decoder.reset();
        }
    }
    assert_eq!(children(), Vec::<String>::new());
}
