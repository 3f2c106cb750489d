//! Many cameras in one process.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;

use crate::error::{Error, ErrorKind};
use crate::session::Shared;
use crate::source::{Engine, FrameSource, Frames};

/// Cameras that share threads, connections and credentials.
///
/// All are asked and demuxed on one thread (`fleet`) and decoded on a few (`decode0 fleet` and so on), a picture at a time in
/// fair turns: a camera with much to decode does not keep the others waiting, and a thousand that wait cost no thread.
/// Each has its own queue, errors and reconnects: one that fails or is not read does not touch the others.
///
/// ```no_run
/// # async fn example(names: Vec<String>) -> Result<(), kvs_hls::Error> {
/// use kvs_hls::{FixedUrl, Fleet, FrameSelection, FrameSource};
///
/// let fleet = Fleet::new()?;
/// for name in names {
///     let camera = FixedUrl::new(&format!("https://example.com/{name}.m3u8"))?; // or KinesisSession::live(&name)
///     let source = FrameSource::builder(&name, camera).select(FrameSelection::Keyframes).build()?;
///     let mut frames = fleet.start(source)?;
///     tokio::spawn(async move {
///         while let Some(Ok(frame)) = frames.next().await {
///             println!("{name}: {:?}", frame.captured_at());
///         }
///     });
/// }
/// # Ok(())
/// # }
/// ```
///
/// Dropping the fleet stops all its cameras.
#[must_use = "a fleet that is dropped stops its cameras"]
pub struct Fleet {
    cameras: Mutex<BTreeMap<String, Arc<FrameSource>>>,
    shared: Shared,
    engine: Arc<Engine>,
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet").field("cameras", &self.lock().keys()).field("engine", &self.engine).finish()
    }
}

impl Fleet {
    /// A fleet without cameras, with a decoding thread for each core.
    ///
    /// # Errors
    /// `Decoder` when threads cannot be started.
    pub fn new() -> Result<Self, Error> {
        Self::with_decode_threads(available_parallelism().map_or(1, usize::from))
    }

    /// A fleet without cameras, with so many decoding threads; at least one.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_decode_threads(threads: usize) -> Result<Self, Error> {
        let engine = Arc::new(Engine::start("fleet", "fleet", threads)?);
        Ok(Self { cameras: Mutex::default(), shared: Shared::default(), engine })
    }

    /// How often a second the cameras together may call GetDataEndpoint, which each needs once: 50 by default. The account has 300
    /// for all its machines; a fleet that is one of many takes its share.
    #[cfg(feature = "kvs")]
    pub fn endpoint_calls_per_second(self, calls: u32) -> Self {
        self.shared.set_endpoint_calls_per_second(calls);
        self
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<FrameSource>>> {
        self.cameras.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a camera on the fleet's threads. The fleet keeps the source; dropping the frames stops it. A camera of the same
    /// name that was stopped or has failed gives way.
    ///
    /// # Errors
    /// `Config` when a camera of this name is running or the source was started before; as [`FrameSource::start`].
    pub fn start(&self, source: FrameSource) -> Result<Frames, Error> {
        let mut cameras = self.lock();
        let name = source.camera_id();
        if cameras.get(name).is_some_and(|camera| !camera.is_over()) {
            let context = format!("camera_id \"{name}\" that is running in the fleet (another one is allowed)");
            return Err(Error::new(ErrorKind::Config, context));
        }
        source.share(&self.shared);
        let frames = source.start_on(|| Ok(self.engine.clone()))?;
        cameras.insert(name.to_owned(), Arc::new(source));
        Ok(frames)
    }

    /// The camera of this name, to look at it or to tell it something.
    #[must_use]
    pub fn camera(&self, camera_id: &str) -> Option<Arc<FrameSource>> {
        self.lock().get(camera_id).cloned()
    }

    /// All cameras, by name.
    #[must_use]
    pub fn cameras(&self) -> Vec<Arc<FrameSource>> {
        self.lock().values().cloned().collect()
    }

    /// Stops a camera and forgets it; false when there is none of this name. Its metrics leave their registry, so that another
    /// camera can have the name at once.
    pub fn remove(&self, camera_id: &str) -> bool {
        let Some(camera) = self.lock().remove(camera_id) else { return false };
        camera.stop();
        camera.withdraw_metrics();
        true
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let cameras = std::mem::take(&mut *self.lock());
        cameras.values().for_each(|camera| camera.stop());
    }
}
