//! How an error ends the program: a few lines that say what happened and what to try next.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use kvs_hls::{Error, ErrorKind};

use crate::display::say;

const FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;

/// Why the program does not end well.
#[derive(Debug)]
pub enum Failure {
    /// Options that cannot be meant.
    Usage(String),
    /// Anything of the library.
    Library(Error),
    /// A file or pipe.
    Io { what: String, error: io::Error },
    /// All was read, and it is not as it should be.
    Check(String),
}

impl Failure {
    pub fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }

    pub fn io(what: impl Into<String>, error: io::Error) -> Self {
        Self::Io { what: what.into(), error }
    }

    pub fn unwritable(path: &Path, error: io::Error) -> Self {
        Self::io(format!("cannot write to {}", path.display()), error)
    }

    /// Prints it to standard error.
    pub fn report(&self) -> ExitCode {
        say(self.text().trim_end());
        ExitCode::from(match self {
            Self::Usage(_) => WRONG_USAGE,
            Self::Library(error) if error.kind() == ErrorKind::Config => WRONG_USAGE,
            _ => FAILED,
        })
    }

    /// It in one line.
    pub fn line(&self) -> String {
        match self {
            Self::Usage(text) | Self::Check(text) => text.clone(),
            Self::Io { what, error } => format!("{what}: {error}"),
            Self::Library(error) => format!("{error:?}"),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Usage(text) => format!("error: {}\n", without_queries(text)),
            Self::Check(text) => {
                let hint = hint_in(text).map_or_else(String::new, |hint| format!("hint: {hint}\n"));
                format!("error: {text}\n{hint}")
            }
            Self::Io { what, error } => format!("error: {}\n  cause: {error}\n", without_queries(what)),
            Self::Library(error) => describe(error),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Library(error)
    }
}

/// An error, its causes, and a hint where there is one; a line each.
fn describe(error: &Error) -> String {
    let mut text = format!("error: {error}\n");
    for cause in causes(error) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  cause: {cause}");
    }
    if let Some(hint) = hint(error) {
        let _ = writeln!(text, "hint: {hint}");
    }
    text
}

fn causes(error: &Error) -> impl Iterator<Item = String> {
    std::iter::successors(error.source(), |&cause| cause.source()).map(ToString::to_string)
}

const UNAUTHORIZED: &str = "the URL is not, or no longer, authorized. KVS sessions end after 5 minutes unless asked for \
                            longer: get a new URL";

/// What to try next.
pub fn hint(error: &Error) -> Option<&'static str> {
    // The status may stand on a cause, when the last of several failures is told.
    let told = || {
        let chain = std::iter::successors(Some(error as &(dyn StdError + 'static)), |&cause| cause.source());
        chain.filter_map(|cause| cause.downcast_ref::<Error>())
    };
    if let Some(refusal) = told().find(|error| error.kind() == ErrorKind::Session) {
        return session_hint(refusal);
    }
    Some(match told().find_map(Error::status) {
        Some(401 | 403) => UNAUTHORIZED,
        Some(404 | 410) => "nothing is there. Is the URL complete, with its query? Quote it in the shell: \"$URL\"",
        Some(429 | 500..) => "the server is busy or out of order: try again later",
        _ => {
            let late = "the server does not answer: is it reachable from this network?";
            return hint_in(&format!("{error:?}")).or_else(|| error.is_timeout().then_some(late));
        }
    })
}

/// What to try next after something of which only the words are left.
pub fn hint_in(story: &str) -> Option<&'static str> {
    let says = |word: &str| story.contains(word);
    Some(match story {
        _ if says("HEVC") => "only H.264 is decoded. Set the camera to H.264, or transcode: ffmpeg -i … -c:v libx264 …",
        _ if says("AV1") || says("VP9") || says("VP8") || says("VVC") || says("Dolby Vision") => {
            "only H.264 is decoded: choose an H.264 rendition or transcode"
        }
        _ if says("ncrypt") => "encrypted media is not decrypted: ask the server for a clear stream",
        _ if says("an MPEG transport stream, not a playlist") || says("an MP4 file or segment") => {
            "give the URL of the playlist (.m3u8), not of a segment"
        }
        _ if says("MPEG-TS") => {
            "only fragmented MP4 is read. On KVS ask for ContainerFormat=FRAGMENTED_MP4; elsewhere repackage: \
             ffmpeg -i … -c copy -hls_segment_type fmp4 …"
        }
        _ if says("HTML") => "that is a page for people, often a log-in or error page: open it in a browser to see",
        _ if says("DASH") => "give the HLS playlist (.m3u8) instead of the DASH manifest (.mpd)",
        _ if says("plain MP4 file") => "segments must be fragmented MP4: ffmpeg -i … -c copy -hls_segment_type fmp4 …",
        _ if says("interlaced") => "set the camera or encoder to progressive video",
        _ if says(" profile: ") => "set the camera or encoder to Baseline, Main or High profile, 8 bits, 4:2:0",
        _ if says("no video track") || says("audio only") => "there is sound only: give the URL of a stream with video",
        _ if says("onnection refused") => "nothing listens there: are host and port right, is the server up?",
        _ if says("dns error") || says("failed to lookup") => "the host name is unknown: is it spelled right?",
        _ if says("No CA certificates") => {
            "install ca-certificates; where they are, perhaps no more files can be opened"
        }
        _ if says("certificate") => "the server's certificate is not trusted on this machine",
        _ if says("InvalidContentType") => "the server speaks no TLS at that port: is it http:// instead of https://?",
        _ if says("(HTTP 401)") || says("(HTTP 403)") => UNAUTHORIZED,
        _ if says("AWS credentials") => {
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, run `aws configure`, or give the machine a role; \
             `aws sts get-caller-identity` shows what is found"
        }
        _ if says("camera had sent nothing") => {
            "the stream is there, its camera sends nothing now. What it sent before: --playback on-demand --start … --end …"
        }
        _ if says("no #EXTM3U") => "is that the URL of the playlist (.m3u8), complete, with its query?",
        _ => return None,
    })
}

/// What to try next when Kinesis Video Streams opens no session.
fn session_hint(error: &Error) -> Option<&'static str> {
    let code = error.code().unwrap_or_default();
    let is = |names: &[&str]| names.iter().any(|name| code.starts_with(name));
    Some(match error.status() {
        _ if is(&["NoDataRetention"]) => "the stream keeps nothing: set its data retention above 0 hours",
        _ if is(&["UnsupportedStreamMediaType"]) => "the camera sends something other than H.264 video",
        _ if is(&["AccessDenied", "NotAuthorized"]) => {
            "the credentials need kinesisvideo:GetDataEndpoint and kinesisvideo:GetHLSStreamingSessionURL on the stream"
        }
        _ if is(&["UnrecognizedClient", "InvalidClientTokenId", "InvalidSignature", "ExpiredToken"]) => {
            "the credentials are wrong or have expired: `aws sts get-caller-identity` shows whose they are"
        }
        Some(404) if error.to_string().contains("no fragments between") => {
            "nothing was recorded then: look at --start, --end and the stream's data retention"
        }
        Some(401 | 403) => "are these the right credentials? `aws sts get-caller-identity` shows whose they are",
        Some(404) => "is the stream's name right, and the region? A stream is found in its own region only",
        _ => return hint_in(&error.to_string()),
    })
}

/// Prints clap's help or its complaint. What it quotes of the command line may be a URL: its query is taken out.
pub fn refuse(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        let text = error.render();
        let text = if crate::display::wants_color() && io::IsTerminal::is_terminal(&io::stderr()) {
            text.ansi().to_string()
        } else {
            text.to_string()
        };
        eprint!("{}", without_queries(&bare(&text)));
        ExitCode::from(WRONG_USAGE)
    } else {
        // Help for `| head` may meet a closed pipe.
        let _ = error.print();
        ExitCode::SUCCESS
    }
}

/// Without the words that say no more than the name of the option or key does.
pub fn bare(text: &str) -> String {
    text.replace("configuration error: ", "")
}

/// Replaces what follows a question mark in a URL, up to the quote or space behind it.
pub fn without_queries(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("://") {
        let end =
            rest[start..].find(|c: char| c.is_whitespace() || "'\"`".contains(c)).map_or(rest.len(), |at| start + at);
        let (url, tail) = rest.split_at(end);
        match url[start..].find(['?', '#', '@']) {
            Some(at) => {
                result.push_str(&url[..start + at]);
                result.push('…');
            }
            None => result.push_str(url),
        }
        rest = tail;
    }
    result + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_taken_out_of_complaints() {
        let text = "unexpected argument 'https://h/a.m3u8?SessionToken=CiS~' found, not 'http://h/b'";
        assert_eq!(without_queries(text), "unexpected argument 'https://h/a.m3u8…' found, not 'http://h/b'");
        assert_eq!(without_queries("no `http://h/a?CiS`, \"http://h/b?CiS\""), "no `http://h/a…`, \"http://h/b…\"");
    }

    #[test]
    fn the_status_of_a_cause_gives_the_hint() {
        let cause = Error::new(ErrorKind::Network, "http://h answered").with_status(403);
        let error = Error::new(ErrorKind::Network, "10 failures in a row").with_source(cause);
        assert!(hint(&error).is_some_and(|hint| hint.contains("authorized")));
        assert!(describe(&error).contains("\n  cause: network error: http://h answered (HTTP 403)\nhint: "));
    }
}
