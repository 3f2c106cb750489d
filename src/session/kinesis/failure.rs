//! What the SDK's errors mean. The SDK's own are never kept: they hold whole requests and answers.

use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kinesisvideo::config::http::HttpResponse;
use aws_sdk_kinesisvideo::error::{ErrorMetadata, ProvideErrorMetadata, SdkError};

use crate::error::{Error, ErrorKind};

/// Longer messages are cut: those about wrong signatures repeat the request.
const MAX_MESSAGE: usize = 500;
/// No word of a message is so long, every token is.
const MIN_TOKEN: usize = 32;

/// The error of a call, with the status, name and message that the service answered.
pub(super) fn failure<E>(call: &str, error: &SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    match error {
        // A proxy's page with status 200.
        SdkError::ServiceError(answer) if answer.raw().status().is_success() => {
            Error::new(ErrorKind::Network, format!("{call} was answered with what cannot be read"))
        }
        SdkError::ServiceError(answer) => {
            // An error without a name has its message one level down.
            let meta = chain(answer.err()).find_map(|error| error.downcast_ref()).unwrap_or(answer.err().meta());
            answered(call, meta, answer.raw())
        }
        SdkError::TimeoutError(_) => late(call),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => late(call),
        SdkError::ConstructionFailure(_) => {
            Error::new(ErrorKind::Config, format!("{call} cannot be asked for")).with_source(causes(error))
        }
        _ => match credentials_error(error) {
            Some(cause) => without_credentials(cause),
            None => Error::new(ErrorKind::Network, format!("{call} failed")).with_source(causes(error)),
        },
    }
}

/// The error for having no credentials: fatal, since whoever waits for them waits for ever.
fn no_credentials() -> Error {
    let context = "no AWS credentials in the environment (AWS_ACCESS_KEY_ID), the profile files (AWS_PROFILE), a web \
                   identity token, the ECS container's role or the EC2 instance's role: set the variables, run `aws \
                   configure` or give the machine a role";
    Error::new(ErrorKind::Session, context).with_code("CredentialsNotLoaded")
}

fn late(call: &str) -> Error {
    Error::new(ErrorKind::Network, format!("{call} was not answered in time")).timed_out()
}

fn answered(call: &str, meta: &ErrorMetadata, response: &HttpResponse) -> Error {
    let context = match meta.message() {
        Some(message) => format!("{call} answered \"{}\"", scrubbed(message)),
        None => format!("{call} was refused without a reason"),
    };
    // The guide's name of the header is not the one that the SDK reads.
    let header = || ["x-amzn-errortype", "x-amz-errortype"].iter().find_map(|name| response.headers().get(name));
    let name = meta.code().or_else(header).and_then(|name| name.split(':').next()?.rsplit('#').next()).map(str::trim);
    let error = Error::new(ErrorKind::Session, context).with_status(response.status().as_u16());
    match name {
        Some(name) if is_error_name(name) => error.with_code(name),
        _ => error,
    }
}

fn is_error_name(name: &str) -> bool {
    !is_token(name)
        && (1..=100).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._".contains(&byte))
}

fn without_credentials(cause: &CredentialsError) -> Error {
    match cause {
        CredentialsError::CredentialsNotLoaded(_) => no_credentials(),
        CredentialsError::InvalidConfiguration(_) => {
            let context = "AWS credentials that are set up wrongly: look at the profile files and the AWS_ variables";
            Error::new(ErrorKind::Session, context).with_code("CredentialsNotLoaded")
        }
        _ => Error::new(ErrorKind::Session, "AWS credentials that cannot be loaded"),
    }
    .with_source(causes(cause))
}

/// An error and its causes.
fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

fn credentials_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a CredentialsError> {
    chain(error).find_map(|error| error.downcast_ref())
}

fn causes(error: &(dyn StdError + 'static)) -> String {
    let texts: Vec<String> = chain(error).map(ToString::to_string).collect();
    scrubbed(&texts.join(": "))
}

/// A message fit for a log: one line, not too long, without what looks like a token.
fn scrubbed(message: &str) -> String {
    let words: Vec<String> = message.split_whitespace().map(scrubbed_word).collect();
    let mut text = words.join(" ");
    if let Some((end, _)) = text.char_indices().nth(MAX_MESSAGE) {
        text.truncate(end);
        text.push('…');
    }
    text
}

fn scrubbed_word(word: &str) -> String {
    // An ARN may be long, and is what the message is about.
    if word.trim_start_matches(['"', '\'', '(', '`']).starts_with("arn:") {
        return word.to_owned();
    }
    let is_inside = |c: char| c.is_ascii_alphanumeric() || "+/_~%.-".contains(c);
    let (mut text, mut is_token_next) = (String::new(), false);
    for piece in word.split_inclusive(|c| !is_inside(c)) {
        let end = piece.find(|c| !is_inside(c)).unwrap_or(piece.len());
        let (body, separator) = piece.split_at(end);
        text.push_str(if is_token_next || is_token(body) { "…" } else { body });
        text.push_str(separator);
        let name = body.to_ascii_lowercase();
        is_token_next = ["token", "signature", "credential"].iter().any(|ending| name.ends_with(ending))
            && matches!(separator, "=" | ":");
    }
    text
}

fn is_token(text: &str) -> bool {
    let is_key_id = text.len() >= 16 && ["AKIA", "ASIA"].iter().any(|start| text.starts_with(start));
    let has = |is: fn(&u8) -> bool| text.as_bytes().iter().any(is);
    is_key_id
        || (text.len() >= MIN_TOKEN
            && has(u8::is_ascii_digit)
            && has(u8::is_ascii_uppercase)
            && has(u8::is_ascii_lowercase))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_keep_their_sense_and_lose_their_tokens() {
        let long = "IQoJb3JpZ2luX2VjEAcaCXVzLWVhc3QtMSJHMEUCIQC+/8fKxyz0123456789==";
        let arn = "arn:aws:kinesisvideo:us-east-1:123456789012:stream/Front-Door-Camera-North-1/1500000000000";
        for (message, expected) in [
            ("No fragments found in the stream.", "No fragments found in the stream."),
            (&format!("User: {arn} is not\nauthorized"), &format!("User: {arn} is not authorized")),
            (&format!("x-amz-security-token:{long} is wrong"), "x-amz-security-token:…== is wrong"),
            (&format!("the value {long}"), "the value …=="),
            ("https://host/a.m3u8?SessionToken=CiShort~&x=1", "https://host/a.m3u8?SessionToken=…&x=1"),
            ("Credential=AKIDEXAMPLE/20260101 gone", "Credential=… gone"),
            ("key AKIAIOSFODNN7EXAMPLE, unknown", "key …, unknown"),
        ] {
            assert_eq!(scrubbed(message), expected);
        }
        assert_eq!(scrubbed(&"ü ".repeat(10_000)).chars().count(), MAX_MESSAGE + 1);
    }
}
