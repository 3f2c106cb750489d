//! The one error type, and what to do about each error.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// What failed, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An option has a value that is not allowed.
    Config,
    /// A streaming session could not be opened.
    Session,
    /// A request failed or was answered with an error status.
    Network,
    /// A playlist breaks RFC 8216, or asks for something that is not supported.
    Playlist,
    /// A segment breaks ISO 14496-12, or is of a kind that is not supported.
    Container,
    /// The H.264 data is damaged, or of a profile that is not supported.
    Bitstream,
    /// The decoder refused data.
    Decoder,
    /// Input exceeded one of the [`Limits`](crate::Limits).
    Limit,
    /// The source was stopped.
    Stopped,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Config => "configuration",
            Self::Session => "session",
            Self::Network => "network",
            Self::Playlist => "playlist",
            Self::Container => "container",
            Self::Bitstream => "bitstream",
            Self::Decoder => "decoder",
            Self::Limit => "limit",
            Self::Stopped => "stopped",
        })
    }
}

/// What was being done when an error happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Opening a streaming session.
    OpenSession,
    /// Loading a playlist.
    Playlist,
    /// Loading an initialization segment.
    Init,
    /// Loading a media segment.
    Segment,
    /// Decoding.
    Decode,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenSession => "opening the session",
            Self::Playlist => "loading the playlist",
            Self::Init => "loading the initialization segment",
            Self::Segment => "loading a segment",
            Self::Decode => "decoding",
        })
    }
}

/// What the source does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Recovery {
    /// Try the same again after a delay.
    Retry,
    /// Open a new session.
    RefreshSession,
    /// Go on with the next segment, from the next IDR picture.
    SkipSegment,
    /// Start the decoder anew, from the next IDR picture.
    ResetDecoder,
    /// Give up and tell the user.
    Fatal,
}

/// An error with its cause, its place and what to do about it.
///
/// `Display` shows this level only, `Debug` the causes too, in one line; the chain hangs on [`source`](std::error::Error::source).
/// No text of it holds the query of a URL.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    kind: ErrorKind,
    stage: Option<Stage>,
    context: String,
    status: Option<u16>,
    code: Option<String>,
    is_timeout: bool,
    is_unsupported: bool,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of a kind, with a noun phrase that says what happened.
    pub fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            stage: None,
            context: context.into(),
            status: None,
            code: None,
            is_timeout: false,
            is_unsupported: false,
            source: None,
        }))
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// Adds the HTTP status that a server answered.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.0.status = Some(status);
        self
    }

    /// Adds the error name that a server gave, for example `ClientLimitExceededException`.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.0.code = Some(code.into());
        self
    }

    /// Marks the error as a time limit that ran out.
    #[must_use]
    pub fn timed_out(mut self) -> Self {
        self.0.is_timeout = true;
        self
    }

    /// Marks the input as intact but of a kind that no retry makes readable: HEVC, encryption, MPEG-TS.
    #[must_use]
    pub fn unsupported(mut self) -> Self {
        self.0.is_unsupported = true;
        self
    }

    /// Says what was being done, unless that is known already.
    #[must_use]
    pub fn at(mut self, stage: Stage) -> Self {
        self.0.stage.get_or_insert(stage);
        self
    }

    /// Says which file it is about.
    #[cfg(feature = "sim")]
    pub(crate) fn of_file(mut self, path: &std::path::Path) -> Self {
        self.0.context = format!("{}: {}", path.display(), self.0.context);
        self
    }

    /// What happened, without kind, place and cause.
    #[cfg(unix)]
    pub(crate) fn context(&self) -> &str {
        &self.0.context
    }

    /// What failed, in one word.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What was being done, where known.
    #[must_use]
    pub fn stage(&self) -> Option<Stage> {
        self.0.stage
    }

    /// The HTTP status, when a server answered with one.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// The error name, when a server gave one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    /// Whether a time limit ran out.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.0.is_timeout
    }

    /// Whether the input is of a kind that this crate does not read.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        self.0.is_unsupported
    }

    /// What the source does about it: the table of the README, row by row.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        let inner = &*self.0;
        if matches!(inner.kind, ErrorKind::Config | ErrorKind::Stopped) || inner.is_unsupported {
            return Recovery::Fatal;
        }
        match inner.stage {
            Some(Stage::OpenSession) => self.open_session_recovery(),
            Some(Stage::Decode) => Recovery::ResetDecoder,
            stage => match (inner.status, inner.kind) {
                (Some(401 | 403), _) => Recovery::RefreshSession,
                (Some(404 | 410), _) if stage == Some(Stage::Playlist) => Recovery::RefreshSession,
                (Some(404 | 410 | 416), _) => Recovery::SkipSegment,
                (_, ErrorKind::Limit | ErrorKind::Container | ErrorKind::Bitstream)
                    if matches!(stage, Some(Stage::Segment | Stage::Init)) && !inner.is_timeout =>
                {
                    Recovery::SkipSegment
                }
                _ => Recovery::Retry,
            },
        }
    }

    /// Whether the service, asked for a session, says that the stream exists and holds nothing: a camera that has sent
    /// nothing lately.
    pub(crate) fn is_silence(&self) -> bool {
        self.0.status == Some(404) && self.0.context.contains("No fragments found")
    }

    fn open_session_recovery(&self) -> Recovery {
        let code = self.0.code.as_deref().unwrap_or_default();
        match self.0.status {
            Some(404) if self.is_silence() => Recovery::Retry,
            Some(400)
                if code.starts_with("ClientLimitExceeded")
                    || code.starts_with("MissingCodecPrivateData")
                    || code.starts_with("InvalidCodecPrivateData") =>
            {
                Recovery::Retry
            }
            // Nobody provides credentials, and waiting does not change that.
            None if code == "CredentialsNotLoaded" => Recovery::Fatal,
            Some(400 | 401 | 403 | 404) => Recovery::Fatal,
            // What the service never answers with says nothing about the stream.
            Some(_) | None => Recovery::Retry,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, stage, context, status, code, .. } = &*self.0;
        match stage {
            Some(stage) => write!(f, "{kind} error while {stage}: {context}")?,
            None => write!(f, "{kind} error: {context}")?,
        }
        match (status, code) {
            (Some(status), Some(code)) => write!(f, " (HTTP {status}, {code})"),
            (Some(status), None) => write!(f, " (HTTP {status})"),
            (None, Some(code)) => write!(f, " ({code})"),
            (None, None) => Ok(()),
        }
    }
}

/// The error and its causes in one line, which is what a `main` that returns it prints; `{:#?}` shows the parts.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            return self.0.fmt(f);
        }
        write!(f, "{self}")?;
        std::iter::successors(self.source(), |&cause| cause.source()).try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
