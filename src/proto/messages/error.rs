//! Error replies: codes, texts, details.

use serde::Serialize;
use serde_json::{Map, Value};

/// What went wrong, as a word that programs compare. Shared by every interface.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Code {
    InvalidJson,
    InvalidMessage,
    UnknownType,
    UnknownEvent,
    UnknownAction,
    InvalidArgument,
    InvalidConfig,
    Unauthorized,
    PermissionDenied,
    ForbiddenHost,
    ForbiddenOrigin,
    ForbiddenUser,
    ProcessNotFound,
    ProcessAlreadyExists,
    PortInUse,
    NoFreePort,
    ProcessStartFailed,
    OperationFailed,
    Timeout,
    RateLimited,
    ShuttingDown,
    Unsupported,
}

impl Code {
    /// The status of a response over HTTP.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidJson
            | Self::InvalidMessage
            | Self::UnknownType
            | Self::UnknownEvent
            | Self::UnknownAction
            | Self::InvalidArgument
            | Self::InvalidConfig => 400,
            Self::Unauthorized => 401,
            Self::PermissionDenied
            | Self::ForbiddenHost
            | Self::ForbiddenOrigin
            | Self::ForbiddenUser => 403,
            Self::ProcessNotFound => 404,
            Self::ProcessAlreadyExists | Self::PortInUse | Self::NoFreePort => 409,
            Self::ProcessStartFailed => 422,
            Self::RateLimited => 429,
            Self::OperationFailed => 500,
            Self::Unsupported => 501,
            Self::ShuttingDown => 503,
            Self::Timeout => 504,
        }
    }
}

/// The `data` of an `error` message, and the `error` of a failed result.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ErrorReply {
    pub code: Code,
    /// One sentence; the first line a person sees.
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    pub details: Map<String, Value>,
}

impl ErrorReply {
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), request: None, details: Map::new() }
    }

    /// Adds one member to `details`.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    /// Says which argument is wrong.
    #[must_use]
    pub fn argument(field: &str, message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message).with("field", field)
    }
}
