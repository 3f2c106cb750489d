//! What a Kinesis session can be asked for, and which stream.

use std::time::SystemTime;

use crate::error::{Error, ErrorKind};

/// Which part of a stream is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Playback {
    /// The newest fragments as they come in.
    #[default]
    Live,
    /// From a time on at the speed of capture, and on into the present when there is no end.
    LiveReplay {
        /// The first fragment is the first that starts at this time or later.
        start: SystemTime,
        /// The last fragment is the last that starts at this time or earlier: at most 24 hours after the start.
        end: Option<SystemTime>,
    },
    /// What was stored, as fast as it is read.
    OnDemand {
        /// The first fragment is the first that starts at this time or later.
        start: SystemTime,
        /// The last fragment is the last that starts at this time or earlier: at most 366 days after the start.
        end: SystemTime,
    },
}

/// Whose clock the times of fragments are: those of ranges and those of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum FragmentSelector {
    /// The server's clock, when it began to receive the fragment.
    #[default]
    ServerTimestamp,
    /// The producer's clock, when it began to record the fragment.
    ProducerTimestamp,
}

crate::options::words!(
    FragmentSelector,
    ServerTimestamp = "server-timestamp",
    ProducerTimestamp = "producer-timestamp"
);

/// The error for an option's value.
pub(super) fn wrong(option: &str, value: impl std::fmt::Display, allowed: &str) -> Error {
    Error::new(ErrorKind::Config, format!("{option} of {value} ({allowed} is allowed)"))
}

/// How a stream is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream<'a> {
    Name(&'a str),
    Arn { arn: &'a str, region: &'a str },
}

const MAX_NAME: usize = 256;
const MAX_ARN: usize = 1024;

impl<'a> Stream<'a> {
    /// # Errors
    /// `Config` for what is neither a name nor an ARN.
    pub(super) fn parse(text: &'a str) -> Result<Self, Error> {
        // A name holds no colon.
        let stream = if text.starts_with("arn:") {
            region_of_arn(text).map(|region| Self::Arn { arn: text, region })
        } else {
            is_name(text).then_some(Self::Name(text))
        };
        stream.ok_or_else(|| {
            let allowed = "a name of 1 to 256 letters, digits, \"_\", \".\" and \"-\", or an ARN \
                           arn:aws:kinesisvideo:REGION:ACCOUNT:stream/NAME/NUMBER";
            // The query of a URL is a secret.
            let shown = if text.contains("://") { "a URL".into() } else { format!("{text:?}") };
            wrong("stream", shown, allowed)
        })
    }
}

fn is_name(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(is_allowed)
}

/// Whether the text can be a part of a host's name.
fn is_region(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(is_allowed)
}

/// A region of AWS looks like `us-east-1` or `us-gov-west-1`: any other host would be asked for ever. What stands in for AWS
/// may be anywhere.
pub(super) fn check_region(region: &str, stands_in: bool) -> Result<(), Error> {
    let mut parts = region.rsplit('-');
    let is_of_aws = parts.next().is_some_and(|number| number.parse::<u8>().is_ok())
        && parts.filter(|part| !part.is_empty()).count() > 1;
    if !is_region(region) || !stands_in && !is_of_aws {
        return Err(wrong("region", format_args!("{region:?}"), "a name like \"us-east-1\""));
    }
    Ok(())
}

fn region_of_arn(arn: &str) -> Option<&str> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let mut parts = arn.strip_prefix("arn:aws")?.splitn(5, ':');
    let (partition, service, region) = (parts.next()?, parts.next()?, parts.next()?);
    let (account, resource) = (parts.next()?, parts.next()?);
    let (name, number) = resource.strip_prefix("stream/")?.split_once('/')?;
    let is_right = arn.len() <= MAX_ARN
        && (partition.is_empty() || partition.starts_with('-') && is_region(partition))
        && service == "kinesisvideo"
        && is_region(region)
        && is_number(account)
        && is_name(name)
        && is_number(number);
    is_right.then_some(region)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::DiscontinuityMode;

    #[test]
    fn streams_are_names_or_arns() {
        let longest = "a".repeat(256);
        for name in ["front-door", "a", "Cam_1.north-2", &longest] {
            assert_eq!(Stream::parse(name).unwrap(), Stream::Name(name));
        }
        for (arn, region) in [
            ("arn:aws:kinesisvideo:us-east-1:123456789012:stream/front-door/1500000000000", "us-east-1"),
            ("arn:aws-cn:kinesisvideo:cn-north-1:123456789012:stream/a.b_c/1", "cn-north-1"),
        ] {
            assert_eq!(Stream::parse(arn).unwrap(), Stream::Arn { arn, region });
        }
        let too_long = "a".repeat(257);
        for text in [
            "",
            "front door",
            "tür",
            "a/b",
            &too_long,
            "arn:aws:kinesisvideo:us-east-1:123456789012:stream/front-door",
            "arn:aws:kinesisvideo:us-east-1:123456789012:stream/front-door/",
            "arn:aws:kinesisvideo:us-east-1:123456789012:stream/front-door/1/2",
            "arn:aws:kinesisvideo::123456789012:stream/front-door/1",
            "arn:aws:kinesis:us-east-1:123456789012:stream/front-door/1",
            "arn:aws:kinesisvideo:us-east-1:me:stream/front-door/1",
            "arn:awsome:kinesisvideo:us-east-1:123456789012:stream/front-door/1",
            "arn:gcp:kinesisvideo:us-east-1:123456789012:stream/front-door/1",
        ] {
            let error = Stream::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(&format!("stream of {text:?} (a name of 1 to 256")), "{error}");
        }
    }

    #[test]
    fn words_read_back() {
        for word in ["server-timestamp", "producer-timestamp"] {
            assert_eq!(word.parse::<FragmentSelector>().unwrap().to_string(), word);
        }
        for word in ["always", "never", "on-discontinuity"] {
            assert_eq!(word.parse::<DiscontinuityMode>().unwrap().to_string(), word);
        }
        assert_eq!("sometimes".parse::<DiscontinuityMode>().unwrap_err().kind(), ErrorKind::Config);
    }
}
