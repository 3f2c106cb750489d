//! Answers with an error status, as Kinesis Video Streams names them.

use std::borrow::Cow;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::endpoints::Endpoint;

/// Said when a stream has nothing to show, which players may wait for. A stream that does not exist is said otherwise.
const NO_FRAGMENTS: &str = "No fragments found in the stream for the streaming request.";

/// Why a request is answered with an error status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    status: u16,
    name: &'static str,
    message: Cow<'static, str>,
}

impl Refusal {
    const fn new(status: u16, name: &'static str, message: &'static str) -> Self {
        Self { status, name, message: Cow::Borrowed(message) }
    }

    /// Without credentials.
    pub(super) const ANONYMOUS: Self =
        Self::new(403, "MissingAuthenticationTokenException", "Missing Authentication Token");
    pub(super) const TOKEN_MISSING: Self =
        Self::new(403, "NotAuthorizedException", "Streaming session token is missing");
    /// The text that was seen in the field. A server that has forgotten a token cannot tell old from forged.
    pub(super) const TOKEN_REFUSED: Self =
        Self::new(403, "NotAuthorizedException", "Streaming session token is expired");
    pub(super) const FRAGMENT_UNKNOWN: Self =
        Self::new(404, "ResourceNotFoundException", "The requested fragment was not found");
    pub(super) const NOTHING_TO_LIST: Self = Self::new(404, "ResourceNotFoundException", NO_FRAGMENTS);
    pub(super) const INTERNAL: Self = Self::new(500, "InternalFailure", "The fragment could not be written");

    pub(super) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self { status: 400, name: "InvalidArgumentException", message: message.into() }
    }

    pub(super) fn stream_unknown(stream: &str) -> Self {
        let message = format!("Stream {stream} does not exist.").into();
        Self { status: 404, name: "ResourceNotFoundException", message }
    }

    /// The answer of a fault.
    pub(super) fn of_status(status: u16) -> Self {
        match status {
            400 => Self::new(400, "ClientLimitExceededException", "Rate exceeded"),
            401 => Self::new(401, "NotAuthorizedException", "The caller is not authorized"),
            403 => Self::TOKEN_REFUSED,
            404 => Self::NOTHING_TO_LIST,
            429 => Self::new(429, "ClientLimitExceededException", "Rate exceeded"),
            500 => Self::new(500, "InternalFailure", "Internal failure"),
            503 => Self::new(503, "ServiceUnavailable", "Service unavailable"),
            _ => Self::new(status, "SimulatedFault", "Simulated fault"),
        }
    }

    pub(super) fn into_response(self, endpoint: Endpoint) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let request_id = format!("{:032x}", fastrand::u128(..));
        if endpoint.is_api() {
            let body = serde_json::json!({ "__type": self.name, "Message": self.message }).to_string();
            let headers = [
                ("content-type", "application/json"),
                ("x-amzn-ErrorType", self.name),
                ("x-amzn-RequestId", request_id.as_str()),
            ];
            (status, headers, body).into_response()
        } else {
            let headers = [("x-amz-ErrorType", self.name), ("x-amz-RequestId", request_id.as_str())];
            (status, headers, self.message.into_owned()).into_response()
        }
    }
}
