//! Delays between tries.

use std::time::Duration;

/// The delays before each try: exponential, capped, spread by chance so that cameras that failed together do not
/// come back together.
#[derive(Clone, Debug, PartialEq)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    multiplier: f64,
    tries: u32,
}

impl Backoff {
    /// A sequence that starts at `initial`, grows by `multiplier` (at least 1) and stays at `max`.
    #[must_use]
    pub fn new(initial: Duration, max: Duration, multiplier: f64) -> Self {
        Self { initial, max, multiplier, tries: 0 }
    }

    /// The next delay: 80 % to 120 % of the sequence's value, for `chance` in `0.0..1.0`, which the caller draws.
    pub fn next(&mut self, chance: f64) -> Duration {
        let power = self.multiplier.powi(i32::try_from(self.tries).unwrap_or(i32::MAX));
        self.tries = self.tries.saturating_add(1);
        let ideal = (self.initial.as_secs_f64() * power).min(self.max.as_secs_f64());
        Self::spread(ideal, chance).unwrap_or(self.max)
    }

    /// 80 % to 120 % of so many seconds; `None` for what no `Duration` holds.
    fn spread(seconds: f64, chance: f64) -> Option<Duration> {
        Duration::try_from_secs_f64(seconds * (0.8 + 0.4 * chance)).ok()
    }

    /// A delay that does not grow: 80 % to 120 % of the first one.
    #[must_use]
    pub fn steady(&self, chance: f64) -> Duration {
        Self::spread(self.initial.as_secs_f64(), chance).unwrap_or(self.max)
    }

    /// How many delays were taken since the last reset.
    #[must_use]
    pub const fn tries(&self) -> u32 {
        self.tries
    }

    /// Starts over. Call it after a healthy stretch, not at the first success: a server that accepts and fails in turns
    /// would be asked without pause.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_cap_and_start_over() {
        let mut backoff = Backoff::new(Duration::from_secs(5), Duration::from_secs(60), 2.0);
        let seconds: Vec<_> = (0..6).map(|_| backoff.next(0.5).as_secs()).collect();
        assert_eq!(seconds, [5, 10, 20, 40, 60, 60]);
        backoff.reset();
        assert_eq!(backoff.next(0.0), Duration::from_secs(4));
        assert_eq!(backoff.next(1.0), Duration::from_secs(12));
    }

    #[test]
    fn many_tries_do_not_overflow() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60), 10.0);
        backoff.tries = u32::MAX - 1;
        assert_eq!(backoff.next(0.5), Duration::from_secs(60));
        assert_eq!(backoff.next(0.5), Duration::from_secs(60));
    }
}
