// SPDX-License-Identifier: Apache-2.0

use std::fmt;

use crate::raw;

/// What a hook returns: `Ok` if what it has set is to be sent.
pub type Result<T = ()> = std::result::Result<T, Error>;

/// Why a hook failed.
///
/// With [`Status::PermissionDenied`] and [`Status::Unauthenticated`] it is a decision of the plugin,
/// and ends the RPC. Everything else is a fault: the operator's policy for the plugin decides, by
/// default the exchange fails. The text goes to the host's log.
///
/// `?` makes an `Error` of every `std::error::Error`, with [`Status::Internal`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    status: Status,
    text: String,
}

impl Error {
    /// A fault with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Error::with_status(Status::Internal, text)
    }

    /// An error with a status of gRPC.
    pub fn with_status(status: Status, text: impl Into<String>) -> Self {
        Error {
            status,
            text: text.into(),
        }
    }

    /// Ends the RPC with an error, which Envoy takes for a failure of the processor: if it fails open
    /// it **lets the request pass**. `call.deny()` refuses a request.
    pub fn deny_callout(text: impl Into<String>) -> Self {
        Error::with_status(Status::PermissionDenied, text)
    }

    /// The status that the host gets.
    pub fn status(&self) -> Status {
        self.status
    }

    /// The text that the host gets.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

// So Error is no std::error::Error itself: there would be two ways from Error to Error.
impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        Error::new(error.to_string())
    }
}

/// The codes of gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Status {
    Cancelled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
}

const STATUSES: [(Status, raw::Status); 16] = [
    (Status::Cancelled, raw::CANCELLED),
    (Status::Unknown, raw::UNKNOWN),
    (Status::InvalidArgument, raw::INVALID_ARGUMENT),
    (Status::DeadlineExceeded, raw::DEADLINE_EXCEEDED),
    (Status::NotFound, raw::NOT_FOUND),
    (Status::AlreadyExists, raw::ALREADY_EXISTS),
    (Status::PermissionDenied, raw::PERMISSION_DENIED),
    (Status::ResourceExhausted, raw::RESOURCE_EXHAUSTED),
    (Status::FailedPrecondition, raw::FAILED_PRECONDITION),
    (Status::Aborted, raw::ABORTED),
    (Status::OutOfRange, raw::OUT_OF_RANGE),
    (Status::Unimplemented, raw::UNIMPLEMENTED),
    (Status::Internal, raw::INTERNAL),
    (Status::Unavailable, raw::UNAVAILABLE),
    (Status::DataLoss, raw::DATA_LOSS),
    (Status::Unauthenticated, raw::UNAUTHENTICATED),
];

impl Status {
    pub(crate) fn to_raw(self) -> raw::Status {
        let found = STATUSES.iter().find(|(status, _)| *status == self);
        found.map_or(raw::INTERNAL, |(_, number)| *number)
    }

    pub(crate) fn from_raw(number: raw::Status) -> Status {
        let found = STATUSES.iter().find(|(_, known)| *known == number);
        found.map_or(Status::Unknown, |(status, _)| *status)
    }
}
