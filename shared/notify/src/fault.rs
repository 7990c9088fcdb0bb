//! Why something could not be told, as a class: the words of a service may hold an address or a URL.

use std::time::Duration;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

/// A channel's failure. It is logged and recorded as it stands here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No answer in time. It may have been told all the same.
    #[error("no answer in time")]
    Timeout,
    /// No connection, or one that broke.
    #[error("it cannot be reached")]
    Unreachable,
    /// Too much was told lately.
    #[error("it lets no more through for now")]
    Limited {
        /// When it may be tried again, where it says so.
        after: Option<Duration>,
    },
    /// It failed, by its HTTP status or its error's name.
    #[error("it failed: {0}")]
    Failed(String),
    /// It will never take this.
    #[error("it refuses: {0}")]
    Refused(String),
}

impl Fault {
    /// Whether trying again is of no use.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    /// The failure of an AWS call. `refusals` are the error names that mean this call, and not the service.
    pub(crate) fn of_aws<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>, refusals: &[&str]) -> Self {
        match error {
            SdkError::TimeoutError(_) => Self::Timeout,
            SdkError::DispatchFailure(failure) if failure.is_timeout() => Self::Timeout,
            SdkError::DispatchFailure(_) => Self::Unreachable,
            SdkError::ServiceError(service) => {
                // The name only: SES's messages hold addresses.
                let name: String = service.err().code().unwrap_or("unnamed").chars().take(80).collect();
                match name.as_str() {
                    "Throttling" | "ThrottlingException" | "ThrottledException" | "TooManyRequestsException" => {
                        Self::Limited { after: None }
                    }
                    known if refusals.contains(&known) => Self::Refused(name),
                    _ => Self::Failed(name),
                }
            }
            _ => Self::Failed("an answer that cannot be read".to_owned()),
        }
    }
}
