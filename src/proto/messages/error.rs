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
    PermissionDenied,
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
