//! Many cameras on the threads of one fleet. Alone in its process, since it counts threads.
#![cfg(target_os = "linux")]

mod support;

use std::time::Duration;

use kvs_hls::h264::AccessUnit;
use kvs_hls::sim::{Recording, SimulatedCamera};
use kvs_hls::{
    ConnectionState, Decoder, Delivery, Error, ErrorKind, FixedUrl, Fleet, FrameSource, FrameSourceBuilder, Frames,
    KinesisSession, Output,
};
use support::camera::sdk_config;
use support::painted::Ledger;

fn threads() -> Vec<String> {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| name.starts_with("source ") || name.starts_with("decode") || name == "fleet")
        .collect()
}

fn watch(name: &str, camera: &SimulatedCamera) -> FrameSourceBuilder {
    let session = KinesisSession::live(camera.stream_name()).sdk_config(&sdk_config(&camera.endpoint_url()));
    FrameSource::builder(name, session).delivery(Delivery::All).output(Output::gray())
}

/// Takes its time and panics in the end.
struct Terrible(u32);

impl Decoder for Terrible {
    fn decode(&mut self, _: &AccessUnit, _: &mut dyn FnMut(kvs_hls::decode::Picture<'_>)) -> Result<(), Error> {
        std::thread::sleep(Duration::from_millis(20));
        self.0 += 1;
        assert!(!self.0.is_multiple_of(5), "as a decoder with a mistake would");
        Ok(())
    }

    fn drain(&mut self, _: &mut dyn FnMut(kvs_hls::decode::Picture<'_>)) -> Result<(), Error> {
        Ok(())
    }

    fn reset(&mut self) {}
}

async fn read(mut frames: Frames, camera: &SimulatedCamera, count: u64) -> Ledger {
    let mut ledger = Ledger::default();
    while ledger.frames < count {
        ledger.look(&frames.next().await.expect("no end").expect("no error"), camera.timeline());
    }
    ledger
}

/// Threads are counted.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn one_camera_s_trouble_is_its_own() {
    let _alone = ALONE.lock().await;
    let camera = SimulatedCamera::builder().recording(Recording::demo_small()).start().await.unwrap();
    let fleet = Fleet::with_decode_threads(2).unwrap();
    // One cannot be reached, one is not read, one has a decoder that is slow, gives nothing and panics.
    let nowhere = FixedUrl::new("http://127.0.0.1:9/a.m3u8").unwrap();
    let unreachable = fleet.start(FrameSource::builder("unreachable", nowhere).build().unwrap()).unwrap();
    let unread = fleet.start(watch("unread", &camera).build().unwrap()).unwrap();
    let terrible = watch("terrible", &camera).decoder(|_| Box::new(Terrible(0))).build().unwrap();
    let terrible = fleet.start(terrible).unwrap();
    let mut readers = Vec::new();
    for index in 0..20 {
        readers.push(fleet.start(watch(&format!("camera {index}"), &camera).build().unwrap()).unwrap());
    }
    let mut names = threads();
    names.sort();
    assert_eq!(names, ["decode0 fleet", "decode1 fleet", "fleet"], "no thread for any camera");
    let ledgers = readers.into_iter().map(|frames| read(frames, &camera, 60));
    let reading: Vec<_> = ledgers.map(Box::pin).collect();
    for ledger in join(reading).await {
        assert!(ledger.defects.is_empty() && ledger.gaps.is_empty(), "{ledger:#?}");
    }
    assert_eq!(fleet.cameras().len(), 23);
    assert_eq!(fleet.camera("unreachable").unwrap().state(), ConnectionState::Connecting);
    assert!(fleet.camera("terrible").unwrap().stats().errors > 0);
    assert!(fleet.camera("unread").unwrap().stats().queued > 0);
    drop((unreachable, unread, terrible));
    drop(fleet);
    assert_eq!(threads(), Vec::<String>::new());
}

/// The results of all, which run side by side.
async fn join<F: Future<Output = Ledger> + Unpin>(mut futures: Vec<F>) -> Vec<Ledger> {
    let mut done = Vec::new();
    std::future::poll_fn(|context| {
        futures.retain_mut(|future| match std::pin::Pin::new(future).poll(context) {
            std::task::Poll::Ready(ledger) => {
                done.push(ledger);
                false
            }
            std::task::Poll::Pending => true,
        });
        if futures.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_unique_while_cameras_run() {
    let _alone = ALONE.lock().await;
    let camera = SimulatedCamera::builder().recording(Recording::demo_small()).start().await.unwrap();
    let fleet = Fleet::with_decode_threads(1).unwrap();
    let mut frames = fleet.start(watch("door", &camera).build().unwrap()).unwrap();
    let error = fleet.start(watch("door", &camera).build().unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("\"door\" that is running"), "{error}");
    assert!(frames.next().await.unwrap().is_ok());
    assert!(fleet.remove("door") && !fleet.remove("door"));
    assert!(frames.next().await.is_none_or(|frame| frame.is_err_and(|error| error.kind() == ErrorKind::Stopped)));
    let mut frames = fleet.start(watch("door", &camera).build().unwrap()).unwrap();
    assert!(frames.next().await.unwrap().is_ok());
    fleet.camera("door").unwrap().stop();
    let mut frames = fleet.start(watch("door", &camera).build().unwrap()).unwrap();
    assert!(frames.next().await.unwrap().is_ok(), "one that was stopped gives way");
}
