//! What a server says when it refuses.

use std::time::Duration;

use reqwest::{Response, StatusCode, header::HeaderMap};

use crate::error::{Error, ErrorKind};
use crate::secret::{SecretUrl, is_token, scrubbed};

/// Where the name of an error stands: in the models of the AWS SDKs, and in the guide of Kinesis Video Streams.
pub(crate) const ERROR_NAME_HEADERS: [&str; 2] = ["x-amzn-errortype", "x-amz-errortype"];
/// Bytes of a refusal's body that are looked at, and how long they may take: it is for people and may be anything.
const MAX_BODY: usize = 4096;
const BODY_TIMEOUT: Duration = Duration::from_secs(2);
/// A longer text is a page, not a message.
const MAX_MESSAGE: usize = 300;

/// The name and the message of an error, where they are stated.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Refusal {
    name: Option<String>,
    message: Option<String>,
}

impl Refusal {
    /// Looks at the headers, and at the beginning of the body.
    pub(super) async fn read(response: Response) -> Self {
        let headers = response.headers().clone();
        Self::of(&headers, &beginning(response).await)
    }

    /// The name stands in a header or in the body.
    pub(crate) fn of(headers: &HeaderMap, body: &[u8]) -> Self {
        let header = ERROR_NAME_HEADERS.iter().find_map(|name| headers.get(*name)?.to_str().ok());
        let text = std::str::from_utf8(body).unwrap_or_default().trim();
        let in_json = |keys: &[&str]| keys.iter().find_map(|key| string_of(text, key));
        let name = header.or_else(|| in_json(&["__type", "code", "Code"])).and_then(error_name).map(str::to_owned);
        let is_plain = !text.starts_with(['<', '{', '[', '#']) && !text.contains(char::is_control);
        let message = in_json(&["message", "Message"]).or(is_plain.then_some(text));
        let message = message.filter(|message| !message.is_empty() && message.len() <= MAX_MESSAGE).map(scrubbed);
        Self { name, message }
    }

    /// The error of a request that was answered so.
    pub(crate) fn error(self, url: &SecretUrl, status: StatusCode) -> Error {
        let reason = status.canonical_reason().unwrap_or("unknown status");
        let said = self.message.as_deref().unwrap_or(reason);
        let error = Error::new(ErrorKind::Network, format!("{url} answered \"{said}\"")).with_status(status.as_u16());
        match self.name {
            Some(name) => error.with_code(name),
            None => error,
        }
    }
}

async fn beginning(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    let read = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            let room = MAX_BODY.saturating_sub(body.len());
            body.extend(chunk.iter().take(room));
            if chunk.len() >= room {
                break;
            }
        }
    };
    // What came in time is enough. As all time limits of the client, this one is of the real clock.
    #[allow(clippy::disallowed_methods)]
    let _ = tokio::time::timeout(BODY_TIMEOUT, read).await;
    body
}

/// The name of an AWS error, without the namespace before it and the address behind it.
pub(crate) fn error_name(text: &str) -> Option<&str> {
    let name = text.split(':').next()?.rsplit('#').next()?.trim();
    let is_name = (1..=100).contains(&name.len())
        && !is_token(name)
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._".contains(&byte));
    is_name.then_some(name)
}

/// The string behind a key of a JSON object. Not a parser: refusals are flat, and a wrong guess is a worse message only.
fn string_of<'a>(json: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = json.split_once(&format!("\"{key}\""))?;
    let value = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    let end = value.find(['"', '\\'])?;
    value.get(..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(header: Option<(&'static str, &'static str)>, body: &str) -> (Option<String>, Option<String>) {
        let headers = header.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let Refusal { name, message } = Refusal::of(&headers.into_iter().collect(), body.as_bytes());
        (name, message)
    }

    #[test]
    fn names_and_messages_are_found_wherever_they_stand() {
        let some = |text: &str| Some(text.to_owned());
        let throttled = some("ClientLimitExceededException");
        for (header, body, name, message) in [
            (Some(("x-amzn-ErrorType", "ClientLimitExceededException:http://aws/")), "", throttled.clone(), None),
            (
                Some(("x-amz-ErrorType", "ClientLimitExceededException")),
                "slow down",
                throttled.clone(),
                some("slow down"),
            ),
            (
                None,
                r#"{"__type":"com.amazonaws#ClientLimitExceededException","Message":"slow down"}"#,
                throttled.clone(),
                some("slow down"),
            ),
            (
                None,
                r#"{ "code" : "ClientLimitExceededException", "message" : "slow down" }"#,
                throttled,
                some("slow down"),
            ),
            (None, "Streaming session token is expired", None, some("Streaming session token is expired")),
            (None, "<html>no</html>", None, None),
            (None, r#"{"__type": 7, "message": null}"#, None, None),
            (None, "token CiAbcdefghijklmnopqrstuvwxyz0123456789ABCDEF~ is wrong", None, some("token … is wrong")),
        ] {
            assert_eq!(refusal(header, body), (name, message), "{body}");
        }
        assert_eq!(refusal(None, &"long ".repeat(1000)), (None, None));
        assert_eq!(refusal(Some(("x-amzn-errortype", "two words")), ""), (None, None));
        let token = "IQoJb3JpZ2luX2VjEAcaCXVzLWVhc3QtMSJHMEUCIQC";
        assert_eq!(refusal(Some(("x-amz-errortype", token)), ""), (None, None), "a token is no name");
    }
}
