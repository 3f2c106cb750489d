//! What the SDK's errors mean. The SDK's own are never kept: they hold whole requests and answers.

use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kinesisvideo::config::http::HttpResponse;
use aws_sdk_kinesisvideo::error::{ErrorMetadata, ProvideErrorMetadata, SdkError};

use crate::error::{Error, ErrorKind};
use crate::net::{ERROR_NAME_HEADERS, error_name};
use crate::secret::scrubbed;

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
    let header = || ERROR_NAME_HEADERS.iter().find_map(|name| response.headers().get(name));
    let error = Error::new(ErrorKind::Session, context).with_status(response.status().as_u16());
    match meta.code().or_else(header).and_then(error_name) {
        Some(name) => error.with_code(name),
        None => error,
    }
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
