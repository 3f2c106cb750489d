//! What sources run on: a thread for requests, connections, threads that decode. A source has its own, a fleet shares one.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{Builder, JoinHandle, ThreadId};
use std::time::Duration;

use tokio::runtime::{self, Handle};
use tokio::sync::Notify;

use crate::decode::DecodePool;
use crate::error::{Error, ErrorKind};
use crate::net::{Fetch, HttpClient};

/// How long the end waits for a request that cannot be cancelled, such as a name look-up.
const SHUTDOWN: Duration = Duration::from_millis(500);

pub(crate) struct Engine {
    runtime: Handle,
    pool: Arc<DecodePool>,
    http: OnceLock<Arc<dyn Fetch>>,
    stop: Arc<Notify>,
    thread: Mutex<Option<JoinHandle<()>>>,
    thread_id: ThreadId,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("pool", &self.pool).finish_non_exhaustive()
    }
}

impl Engine {
    /// Starts the threads: `title` for requests, `decode0 NAME` and so on.
    ///
    /// # Errors
    /// `Decoder` when a thread cannot be started.
    pub(crate) fn start(title: &str, name: &str, decode_threads: usize) -> Result<Self, Error> {
        let failed =
            |error: io::Error| Error::new(ErrorKind::Decoder, "thread that cannot be started").with_source(error);
        let pool = Arc::new(DecodePool::start(decode_threads, name).map_err(failed)?);
        let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (handle, stop) = (runtime.handle().clone(), Arc::<Notify>::default());
        let stopped = stop.clone();
        let thread = Builder::new().name(title.to_owned()).spawn(move || {
            runtime.block_on(stopped.notified());
            runtime.shutdown_timeout(SHUTDOWN);
        });
        let thread = thread.map_err(failed)?;
        let (thread_id, thread) = (thread.thread().id(), Mutex::new(Some(thread)));
        Ok(Self { runtime: handle, pool, http: OnceLock::new(), stop, thread, thread_id })
    }

    pub(super) fn pool(&self) -> &Arc<DecodePool> {
        &self.pool
    }

    /// The client that all share, made when it is first asked for.
    ///
    /// # Errors
    /// As [`HttpClient::new`].
    pub(super) fn http(&self) -> Result<Arc<dyn Fetch>, Error> {
        if let Some(client) = self.http.get() {
            return Ok(client.clone());
        }
        let client: Arc<dyn Fetch> = Arc::new(HttpClient::new()?);
        Ok(self.http.get_or_init(|| client).clone())
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Whether the caller runs on the thread for requests, which cannot wait for itself.
    pub(super) fn is_current(&self) -> bool {
        std::thread::current().id() == self.thread_id
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop.notify_one();
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread.filter(|_| !self.is_current()) {
            let _ = thread.join();
        }
        self.pool.close();
    }
}
