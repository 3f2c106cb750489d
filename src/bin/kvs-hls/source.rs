//! Where frames come from: a URL, or a stream of Kinesis Video Streams.

use std::ffi::OsString;
use std::fmt;
use std::io::{Read, stdin};
use std::time::{Duration, SystemTime};

use clap::{ArgGroup, Args as ClapArgs, ValueEnum};
use jiff::Timestamp;
use kvs_hls::{DiscontinuityMode, FixedUrl, FragmentSelector, KinesisSession, Playback, SecretUrl, SessionProvider};

use crate::args::duration;
use crate::failure::Failure;

/// A URL or a stream, one of both.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "Source")]
#[command(group = ArgGroup::new("from").required(true).args(["url", "stream"]))]
pub struct Source {
    /// URL of a multivariant or media playlist, http or https; `-` reads it from standard input, where a list of processes does
    /// not show it
    // Text, since a value that is refused would be printed with its query.
    #[arg(long, value_name = "URL")]
    url: Option<OsString>,

    /// Name or ARN of a stream of Kinesis Video Streams; credentials come from where the AWS tools look for them
    #[arg(long, value_name = "NAME|ARN")]
    stream: Option<String>,

    #[command(flatten)]
    kinesis: Kinesis,
}

/// What a session of Kinesis Video Streams is asked for.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "Stream of Kinesis Video Streams")]
pub struct Kinesis {
    /// Region of the stream, for example `us-east-1`; else that of the ARN, the environment or the profile counts
    #[arg(long, value_name = "REGION", conflicts_with = "url")]
    region: Option<String>,

    /// Another endpoint of the service, such as that of `kvs-hls simulate`
    #[arg(long, value_name = "URL", conflicts_with = "url")]
    endpoint_url: Option<String>,

    /// What is played
    #[arg(long, value_enum, default_value_t, value_name = "MODE", conflicts_with = "url")]
    playback: Mode,

    /// Where a replay or an archive begins, for example `2026-01-31T12:00:00Z`
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "url")]
    start: Option<SystemTime>,

    /// Where it ends; a replay without an end goes on into live
    #[arg(long, value_name = "TIME", value_parser = time, requires = "start")]
    end: Option<SystemTime>,

    /// Whose clock times are: `server-timestamp` or `producer-timestamp`
    #[arg(long, value_name = "CLOCK", default_value_t, conflicts_with = "url")]
    selector: FragmentSelector,

    /// Where discontinuity tags stand: `always`, `never` or `on-discontinuity`
    #[arg(long, value_name = "WHERE", conflicts_with = "url")]
    discontinuity: Option<DiscontinuityMode>,

    /// How many fragments a playlist lists: 1 to 5000
    #[arg(long, value_name = "N", conflicts_with = "url")]
    max_fragments: Option<u16>,

    /// How long a session lasts: `300s` to `12h`
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "url")]
    pub session_duration: Option<Duration>,

    /// How long before its end a session is replaced
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "url")]
    pub refresh_margin: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// The newest fragments
    #[default]
    Live,
    /// From --start in real time, and on into live unless there is an --end
    LiveReplay,
    /// All between --start and --end, as fast as it can be read
    OnDemand,
}

/// For people: without the query of a URL.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.url, &self.stream) {
            (Some(_), _) => self.fixed_url().map_or(Ok(()), |url| url.fmt(f)),
            (None, stream) => write!(f, "stream {}", stream.as_deref().unwrap_or_default()),
        }
    }
}

impl Source {
    /// The URL, unless it comes from standard input.
    pub fn fixed_url(&self) -> Option<SecretUrl> {
        SecretUrl::parse(self.url.as_ref()?.to_str()?).ok()
    }

    /// The session provider, with its options checked.
    pub fn provider(&self) -> Result<Box<dyn SessionProvider>, Failure> {
        let provider: Box<dyn SessionProvider> = match (&self.url, &self.stream) {
            (Some(url), _) => Box::new(FixedUrl::try_from(parse_url(url)?)?),
            (None, Some(stream)) => Box::new(self.kinesis.session(stream)?),
            (None, None) => return Err(Failure::usage("neither --url nor --stream is given")),
        };
        provider.check()?;
        Ok(provider)
    }

    /// The camera's name in metrics, logs and the preview: that of the stream, also out of its ARN.
    pub fn name(&self) -> &str {
        self.stream.as_deref().map_or("camera", |stream| stream.split('/').nth(1).unwrap_or(stream))
    }

    /// What is said about sessions beside the provider's options.
    pub fn kinesis(&self) -> &Kinesis {
        &self.kinesis
    }
}

impl Kinesis {
    fn session(&self, stream: &str) -> Result<KinesisSession, Failure> {
        let playback = match (self.playback, self.start, self.end) {
            (Mode::Live, None, None) => Playback::Live,
            (Mode::Live, ..) => {
                return Err(Failure::usage("--start or --end without --playback live-replay or on-demand"));
            }
            (Mode::LiveReplay, Some(start), end) => Playback::LiveReplay { start, end },
            (Mode::OnDemand, Some(start), Some(end)) => Playback::OnDemand { start, end },
            (Mode::LiveReplay, None, _) => return Err(Failure::usage("--playback live-replay without --start")),
            (Mode::OnDemand, ..) => return Err(Failure::usage("--playback on-demand without --start and --end")),
        };
        let mut session = KinesisSession::live(stream).playback(playback).selector(self.selector);
        if let Some(region) = &self.region {
            session = session.region(region);
        }
        if let Some(url) = &self.endpoint_url {
            session = session.endpoint_url(url);
        }
        if let Some(mode) = self.discontinuity {
            session = session.discontinuity(mode);
        }
        if let Some(count) = self.max_fragments {
            session = session.max_fragments(count);
        }
        Ok(session)
    }
}

fn parse_url(url: &OsString) -> Result<SecretUrl, Failure> {
    let text = url.to_str().ok_or_else(|| Failure::usage("--url that is not UTF-8"))?;
    let mut line = String::new();
    let url = if text == "-" {
        // No URL is longer than this.
        let read = stdin().take(64 << 10).read_to_string(&mut line);
        read.map_err(|error| Failure::io("cannot read the URL from standard input", error))?;
        line.trim()
    } else {
        text
    };
    if url.is_empty() && text == "-" {
        return Err(Failure::usage("--url -: no URL came from standard input; for example: echo \"$URL\" | kvs-hls …"));
    }
    SecretUrl::parse(url)
        .map_err(|error| Failure::usage(format!("--url that is no absolute http or https URL: {error}")))
}

/// Reads a time with its zone (RFC 3339).
fn time(text: &str) -> Result<SystemTime, String> {
    let time: Timestamp = text.parse().map_err(|_| "a time such as 2026-01-31T12:00:00Z is allowed")?;
    Ok(SystemTime::from(time))
}
