//! A clock that stands until a test moves it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use kvs_hls::Clock;
use tokio::sync::watch;

/// Seconds from 1970 when the clock is made: 2023-11-14T22:13:20Z.
pub const START: u64 = 1_700_000_000;

#[derive(Debug)]
pub struct HandClock {
    start: Instant,
    elapsed: watch::Sender<Duration>,
}

impl HandClock {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), elapsed: watch::Sender::default() })
    }

    pub fn forward(&self, by: Duration) {
        self.elapsed.send_modify(|elapsed| *elapsed += by);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Instant {
        self.start + *self.elapsed.borrow()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(START) + *self.elapsed.borrow()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let until = *self.elapsed.borrow() + duration;
        let mut elapsed = self.elapsed.subscribe();
        Box::pin(async move { drop(elapsed.wait_for(|elapsed| *elapsed >= until).await) })
    }
}
