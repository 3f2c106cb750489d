//! One kind of request, of which one may be under way.

use std::time::{Duration, Instant};

use crate::backoff::Backoff;

/// Tries of one request before something larger is tried.
const REQUEST_TRIES: u32 = 4;
const REQUEST_DELAY: Duration = Duration::from_millis(250);
const MAX_REQUEST_DELAY: Duration = Duration::from_secs(4);

/// One request that may be under way, and its retries.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) is_busy: bool,
    pub(super) not_before: Option<Instant>,
    /// Since when the tries of the present request have failed.
    failing_since: Option<Instant>,
    retries: Backoff,
}

impl Default for Slot {
    fn default() -> Self {
        let retries = Backoff::new(REQUEST_DELAY, MAX_REQUEST_DELAY, 2.0);
        Self { is_busy: false, not_before: None, failing_since: None, retries }
    }
}

impl Slot {
    /// Whether nothing is in the way of a request that is wanted.
    pub(super) fn is_ready(&self, now: Instant) -> bool {
        !self.is_busy && self.not_before.is_none_or(|time| time <= now)
    }

    /// Whether a request that was set for a time is due.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        !self.is_busy && self.not_before.is_some_and(|time| time <= now)
    }

    /// When the request that waits may start.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.not_before.filter(|_| !self.is_busy)
    }

    pub(super) fn begin(&mut self) {
        (self.is_busy, self.not_before) = (true, None);
    }

    /// The request is done with: the next one has all its tries.
    pub(super) fn succeed(&mut self) {
        (self.is_busy, self.failing_since) = (false, None);
        self.retries.reset();
    }

    /// The delay before the next try; when there were enough, the time of the first one that failed.
    pub(super) fn fail(&mut self, now: Instant, chance: f64) -> Result<Duration, Instant> {
        self.is_busy = false;
        let since = *self.failing_since.get_or_insert(now);
        if self.retries.tries() + 1 >= REQUEST_TRIES {
            self.succeed();
            return Err(since);
        }
        let delay = self.retries.next(chance);
        self.not_before = Some(now + delay);
        Ok(delay)
    }
}
