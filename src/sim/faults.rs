//! What goes wrong, and when: data, without a clock.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, ErrorKind};

/// Which answers a [`Fault`] touches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Target {
    /// The two calls that open a session.
    Sessions,
    /// Multivariant and media playlists.
    Playlists,
    /// Init fragments.
    Init,
    /// Media fragments.
    Fragments,
    /// All of them.
    #[default]
    All,
}

crate::options::words!(
    Target,
    Sessions = "sessions",
    Playlists = "playlists",
    Init = "init",
    Fragments = "fragments",
    All = "all"
);

/// One thing that goes wrong. Written as words, as [`FromStr`] reads them and [`Display`](fmt::Display) prints them.
///
/// Some faults touch *answers* given in the fault's time; they end in `@TARGET`, `@all` where nothing is said. Others
/// touch *fragments*: those first published in the fault's time, in every session and for good. Where an `every` is said
/// they touch the first such fragment and each `every`-th after it; a large number is one fragment alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// `status:503@fragments`: answered with this status, 400 to 599.
    Status {
        /// The status.
        status: u16,
        /// Which answers.
        target: Target,
    },
    /// `reset@playlists`: the connection is reset (RST) in the middle of the body.
    Reset {
        /// Which answers.
        target: Target,
    },
    /// `slow:20000@fragments`: bodies trickle, at so many bytes a second; what is left at the fault's end comes at once.
    Slow {
        /// At least 1.
        bytes_per_second: u32,
        /// Which answers.
        target: Target,
    },
    /// `truncated@fragments`: half of the body that Content-Length announces, then the connection is closed.
    Truncated {
        /// Which answers.
        target: Target,
    },
    /// `stalled@fragments`: half of the body, and the rest at the end of the fault.
    Stalled {
        /// Which answers.
        target: Target,
    },
    /// `frozen`: media playlists stay as they were at the fault's start, while fragments are filmed on.
    Frozen,
    /// `missing:3`: the fragment is listed, but its number answers 404.
    Missing {
        /// Which ones, at least 1.
        every: u64,
    },
    /// `unlisted:3`: the playlist leaves the fragment out, as if it never had been received.
    Unlisted {
        /// Which ones, at least 1.
        every: u64,
    },
    /// `corrupt:3`: bytes of the fragment's first picture are flipped, always the same ones. Boxes and lengths stay right.
    Corrupt {
        /// Which ones, at least 1.
        every: u64,
    },
    /// `jitter:300:7`: fragments start up to so many milliseconds earlier or later than filmed, as server timestamps do:
    /// programme and decoding times alike. The same fragment always has the same time.
    Jitter {
        /// At most 499 for fragments of one second, so that starts stay in order.
        max_ms: u32,
        /// Another seed, other times.
        seed: u64,
    },
    /// `skew:-2500`: programme times are wrong by so many milliseconds.
    Skew {
        /// Positive when the camera's clock is ahead.
        ms: i64,
    },
    /// `resolution`: the camera films with the second recording, behind another EXT-X-MAP.
    Resolution,
    /// `discontinuity`: EXT-X-DISCONTINUITY before each fragment, whatever the session's mode.
    Discontinuity,
    /// `gone`: the server resets all connections, new ones as soon as they are made.
    Gone,
    /// `silent`: the camera films nothing. It ends the fragment under way, and starts the next one so much later; numbers
    /// and pictures go on where they stopped. After 30 s without a fragment a live session is over (404).
    Silent,
}

const WORDS: &[&str] = &[
    "status:CODE@TARGET",
    "reset@TARGET",
    "slow:BYTES@TARGET",
    "truncated@TARGET",
    "stalled@TARGET",
    "frozen",
    "missing:EVERY",
    "unlisted:EVERY",
    "corrupt:EVERY",
    "jitter:MS:SEED",
    "skew:MS",
    "resolution",
    "discontinuity",
    "gone",
    "silent",
];

impl Fault {
    /// Which answers the fault touches; `None` where it is the stream or the server that fails.
    #[must_use]
    pub fn target(&self) -> Option<Target> {
        match *self {
            Self::Status { target, .. }
            | Self::Reset { target }
            | Self::Slow { target, .. }
            | Self::Truncated { target }
            | Self::Stalled { target } => Some(target),
            _ => None,
        }
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let allowed = match *self {
            Self::Status { status, .. } if !(400..=599).contains(&status) => "a status of 400 to 599",
            Self::Slow { bytes_per_second: 0, .. } => "1 byte a second or more",
            Self::Missing { every: 0 } | Self::Unlisted { every: 0 } | Self::Corrupt { every: 0 } => {
                "every 1st or more"
            }
            Self::Jitter { max_ms: 500.., .. } => "a jitter of at most 499 ms",
            Self::Skew { ms } if ms.unsigned_abs() > 86_400_000 => "a skew of at most a day",
            _ => return Ok(()),
        };
        Err(Error::new(ErrorKind::Config, format!("fault {self} ({allowed} is allowed)")))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { status, target } => write!(f, "status:{status}@{target}"),
            Self::Reset { target } => write!(f, "reset@{target}"),
            Self::Slow { bytes_per_second, target } => write!(f, "slow:{bytes_per_second}@{target}"),
            Self::Truncated { target } => write!(f, "truncated@{target}"),
            Self::Stalled { target } => write!(f, "stalled@{target}"),
            Self::Frozen => f.write_str("frozen"),
            Self::Missing { every } => write!(f, "missing:{every}"),
            Self::Unlisted { every } => write!(f, "unlisted:{every}"),
            Self::Corrupt { every } => write!(f, "corrupt:{every}"),
            Self::Jitter { max_ms, seed } => write!(f, "jitter:{max_ms}:{seed}"),
            Self::Skew { ms } => write!(f, "skew:{ms}"),
            Self::Resolution => f.write_str("resolution"),
            Self::Discontinuity => f.write_str("discontinuity"),
            Self::Gone => f.write_str("gone"),
            Self::Silent => f.write_str("silent"),
        }
    }
}

impl FromStr for Fault {
    type Err = Error;

    /// Numbers may be left out: `status` is 503, `slow` 10000, `every` 1, `jitter` 300 with seed 0, `skew` 5000.
    fn from_str(text: &str) -> Result<Self, Error> {
        let unknown = || crate::options::unknown_word(text, WORDS);
        let (head, target) = match text.split_once('@') {
            Some((head, target)) => (head, Some(target.parse::<Target>()?)),
            None => (text, None),
        };
        let mut words = head.split(':');
        let kind = words.next().unwrap_or_default();
        let mut number = |default: i64| words.next().map_or(Ok(default), |word| word.parse().map_err(|_| unknown()));
        fn fit<T: TryFrom<i64>>(number: i64, unknown: impl Fn() -> Error) -> Result<T, Error> {
            T::try_from(number).map_err(|_| unknown())
        }
        let all = target.unwrap_or_default();
        let fault = match kind {
            "status" => Self::Status { status: fit(number(503)?, unknown)?, target: all },
            "reset" => Self::Reset { target: all },
            "slow" => Self::Slow { bytes_per_second: fit(number(10_000)?, unknown)?, target: all },
            "truncated" => Self::Truncated { target: all },
            "stalled" => Self::Stalled { target: all },
            "frozen" => Self::Frozen,
            "missing" => Self::Missing { every: fit(number(1)?, unknown)? },
            "unlisted" => Self::Unlisted { every: fit(number(1)?, unknown)? },
            "corrupt" => Self::Corrupt { every: fit(number(1)?, unknown)? },
            "jitter" => Self::Jitter { max_ms: fit(number(300)?, unknown)?, seed: fit(number(0)?, unknown)? },
            "skew" => Self::Skew { ms: number(5_000)? },
            "resolution" => Self::Resolution,
            "discontinuity" => Self::Discontinuity,
            "gone" => Self::Gone,
            "silent" => Self::Silent,
            _ => return Err(unknown()),
        };
        if words.next().is_some() || (target.is_some() && fault.target().is_none()) {
            return Err(unknown());
        }
        fault.check()?;
        Ok(fault)
    }
}

/// A fault with its time, on the camera's clock. Written `FROM+LENGTH:FAULT`, as in `10s+5s:status:503@fragments`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ScheduledFault {
    /// Since the camera's start.
    pub from: Duration,
    /// How long it lasts.
    pub length: Duration,
    /// What goes wrong.
    pub fault: Fault,
}

impl ScheduledFault {
    /// A fault from `from` after the start, for `length`.
    #[must_use]
    pub const fn new(from: Duration, length: Duration, fault: Fault) -> Self {
        Self { from, length, fault }
    }

    /// When it is over, since the camera's start.
    #[must_use]
    pub fn until(&self) -> Duration {
        self.from.saturating_add(self.length)
    }

    pub(super) fn is_active(&self, now: Duration) -> bool {
        (self.from..self.until()).contains(&now)
    }
}

impl fmt::Display for ScheduledFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [from, length] = [self.from, self.length].map(|time| time.as_millis());
        let time = |ms: u128| if ms.is_multiple_of(1000) { format!("{}s", ms / 1000) } else { format!("{ms}ms") };
        write!(f, "{}+{}:{}", time(from), time(length), self.fault)
    }
}

impl FromStr for ScheduledFault {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = || {
            let (times, fault) = text.split_once(':')?;
            let (from, length) = times.split_once('+')?;
            Some((time(from)?, time(length)?, fault))
        };
        let (from, length, fault) = parse().ok_or_else(|| {
            let allowed = "FROM+LENGTH:FAULT is allowed, with times such as 10s, 500ms or 2m";
            Error::new(ErrorKind::Config, format!("fault \"{text}\" ({allowed})"))
        })?;
        Ok(Self { from, length, fault: fault.parse()? })
    }
}

fn time(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit);
    let number: u64 = number.parse().ok()?;
    let ms = match unit {
        "ms" => number,
        "s" => number.checked_mul(1_000)?,
        "m" => number.checked_mul(60_000)?,
        _ => return None,
    };
    Some(Duration::from_millis(ms))
}

/// What goes wrong with a camera over its life; empty by default. Faults may overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultScript(Vec<ScheduledFault>);

impl FaultScript {
    /// Nothing goes wrong.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One fault more.
    #[must_use]
    pub fn at(mut self, from: Duration, length: Duration, fault: Fault) -> Self {
        self.extend([ScheduledFault::new(from, length, fault)]);
        self
    }

    /// Faults by chance up to `total`, single ones and, one time in three, pairs that overlap; each 1 to 12 s long, with
    /// 15 to 40 s of quiet behind it; [`Fault::Skew`] and [`Fault::Jitter`] stay
    /// alone. The same seed gives the same script. [`Fault::Resolution`] is among them only when
    /// `resolutions` says so, since it needs a second recording.
    #[must_use]
    pub fn random(seed: u64, total: Duration, resolutions: bool) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut script = Self::default();
        let mut at = Duration::from_millis(random.u64(5_000..15_000));
        loop {
            let length = Duration::from_millis(random.u64(1_000..12_000));
            if at.saturating_add(length) > total {
                return script;
            }
            let fault = random_fault(&mut random, resolutions);
            script = script.at(at, length, fault);
            let other = random_fault(&mut random, resolutions);
            // Times that are wrong by as much as is missing: nobody could tell.
            let is_hidden =
                [fault, other].iter().any(|fault| matches!(fault, Fault::Skew { .. } | Fault::Jitter { .. }));
            if random.u8(..3) == 0 && !is_hidden {
                let later = Duration::from_millis(random.u64(0..1_000));
                script = script.at(at + later, length.saturating_sub(later), other);
            }
            at += length + Duration::from_millis(random.u64(15_000..40_000));
        }
    }

    /// The faults, in the order in which they begin.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &ScheduledFault> + '_ {
        self.0.iter()
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        self.iter().try_for_each(|scheduled| scheduled.fault.check())
    }
}

impl Extend<ScheduledFault> for FaultScript {
    fn extend<T: IntoIterator<Item = ScheduledFault>>(&mut self, faults: T) {
        self.0.extend(faults);
        self.0.sort_by_key(|scheduled| scheduled.from);
    }
}

impl FromIterator<ScheduledFault> for FaultScript {
    fn from_iter<T: IntoIterator<Item = ScheduledFault>>(faults: T) -> Self {
        let mut script = Self::default();
        script.extend(faults);
        script
    }
}

/// One line for each fault.
impl fmt::Display for FaultScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|scheduled| writeln!(f, "{scheduled}"))
    }
}

fn random_fault(random: &mut fastrand::Rng, resolutions: bool) -> Fault {
    const TARGETS: [Target; 5] = [Target::Sessions, Target::Playlists, Target::Init, Target::Fragments, Target::All];
    const STATUSES: [u16; 7] = [401, 403, 404, 410, 429, 500, 503];
    let target = random.choice(TARGETS).unwrap_or_default();
    let every = random.u64(1..5);
    match random.u8(..if resolutions { 15 } else { 14 }) {
        0 => match random.choice(STATUSES).unwrap_or(503) {
            // A session that is refused so for good reason is the end of a source, and a script goes on.
            401 | 403 | 404 if matches!(target, Target::Sessions | Target::All) => {
                Fault::Status { status: 503, target }
            }
            status => Fault::Status { status, target },
        },
        1 => Fault::Reset { target },
        2 => Fault::Slow { bytes_per_second: random.u32(2_000..50_000), target },
        3 => Fault::Truncated { target },
        4 => Fault::Stalled { target },
        5 => Fault::Frozen,
        6 => Fault::Missing { every },
        7 => Fault::Unlisted { every },
        8 => Fault::Corrupt { every },
        9 => Fault::Jitter { max_ms: 300, seed: random.u64(..1 << 32) },
        10 => Fault::Skew { ms: random.i64(-5_000..5_000) },
        11 => Fault::Discontinuity,
        12 => Fault::Gone,
        13 => Fault::Silent,
        _ => Fault::Resolution,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_as_they_are_written() {
        for text in [
            "status:503@fragments",
            "reset@playlists",
            "slow:2000@all",
            "truncated@init",
            "stalled@sessions",
            "frozen",
            "missing:3",
            "unlisted:1",
            "corrupt:2",
            "jitter:300:7",
            "skew:-2500",
            "resolution",
            "discontinuity",
            "gone",
            "silent",
        ] {
            assert_eq!(text.parse::<Fault>().unwrap().to_string(), text);
            let scheduled = format!("10s+1500ms:{text}");
            assert_eq!(scheduled.parse::<ScheduledFault>().unwrap().to_string(), scheduled);
        }
        assert_eq!("status".parse::<Fault>().unwrap(), Fault::Status { status: 503, target: Target::All });
        for text in ["", "status:200", "status:503@moon", "gone@all", "missing:0", "slow:0", "jitter:500", "skew:1:2"] {
            let error = text.parse::<Fault>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{text}");
            assert!(error.to_string().contains("allowed"), "{error}");
        }
        for text in ["gone", "1s:gone", "1+2:gone", "1s+-2s:gone", "1s+2s", "99999999999999999999s+1s:gone"] {
            assert!(text.parse::<ScheduledFault>().unwrap_err().to_string().contains("allowed"), "{text}");
        }
    }

    #[test]
    fn same_seed_same_script() {
        let total = Duration::from_secs(3600);
        let script = FaultScript::random(7, total, true);
        assert_eq!(script, FaultScript::random(7, total, true));
        assert_ne!(script, FaultScript::random(8, total, true));
        let read: FaultScript = script.to_string().lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(read, script);
        let faults: Vec<_> = script.iter().collect();
        assert!(faults.len() > 60, "{script}");
        assert!(faults.iter().all(|scheduled| scheduled.until() <= total) && script.check().is_ok());
        // Pairs overlap; all others have quiet before them.
        let overlaps = faults.windows(2).filter(|pair| pair[1].from < pair[0].until()).count();
        assert!((10..faults.len() / 2).contains(&overlaps), "{overlaps}");
        let calm = FaultScript::random(7, total, false);
        assert!(calm.iter().all(|scheduled| scheduled.fault != Fault::Resolution));
    }
}
