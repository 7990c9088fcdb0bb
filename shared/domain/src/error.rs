//! The error types of the contract. Their names are on the wire and in the stores.

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// The `code` of a problem.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum ErrorCode { $($(#[$doc])* $name,)* }

        impl ErrorCode {
            /// Every code, in the order of the contract.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

codes! {
    /// The request does not say what it must, or says it wrongly.
    InvalidRequest = "invalid_request",
    /// No session, or one that is not valid.
    Unauthenticated = "unauthenticated",
    /// The session may not do this.
    Forbidden = "forbidden",
    /// There is no such thing.
    NotFound = "not_found",
    /// A request with the same `Idempotency-Key` is still in flight.
    Conflict = "conflict",
    /// The `Idempotency-Key` was used with another body.
    IdempotencyMismatch = "idempotency_mismatch",
    /// Too many requests.
    RateLimitExceeded = "rate_limit_exceeded",
    /// The cost's upper bound passes a limit.
    CostLimitExceeded = "cost_limit_exceeded",
    /// The text may not be generated or sent.
    ComplianceViolation = "compliance_violation",
    /// No provider could serve the request.
    ProviderUnavailable = "provider_unavailable",
    /// The platform refused or failed.
    OnlyfansApiError = "onlyfans_api_error",
    /// The system before this one failed, and what it was asked for may have been done.
    LegacyApiError = "legacy_api_error",
    /// What is to be changed is not what the caller had read.
    PreconditionFailed = "precondition_failed",
    /// The caller has to say what it had read.
    PreconditionRequired = "precondition_required",
    /// A fault of this system.
    Internal = "internal",
}

/// One fault of a request: where it is and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldFault {
    /// JSON pointer (RFC 6901) into the body, or the name of a header or query parameter.
    pub pointer: String,
    /// What is wrong with it, for a person.
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_code_and_on_the_wire_agree() {
        for code in ErrorCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }
}
