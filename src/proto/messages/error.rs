//! Error replies: codes, texts, details.

use serde_json::{Map, Value};

use crate::json::{ToJson, enter, set};

/// What went wrong, as a word that programs compare. Shared by every interface.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
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
    /// The word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidJson => "INVALID_JSON",
            Self::InvalidMessage => "INVALID_MESSAGE",
            Self::UnknownType => "UNKNOWN_TYPE",
            Self::UnknownEvent => "UNKNOWN_EVENT",
            Self::UnknownAction => "UNKNOWN_ACTION",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::InvalidConfig => "INVALID_CONFIG",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ForbiddenHost => "FORBIDDEN_HOST",
            Self::ForbiddenOrigin => "FORBIDDEN_ORIGIN",
            Self::ForbiddenUser => "FORBIDDEN_USER",
            Self::ProcessNotFound => "PROCESS_NOT_FOUND",
            Self::ProcessAlreadyExists => "PROCESS_ALREADY_EXISTS",
            Self::PortInUse => "PORT_IN_USE",
            Self::NoFreePort => "NO_FREE_PORT",
            Self::ProcessStartFailed => "PROCESS_START_FAILED",
            Self::OperationFailed => "OPERATION_FAILED",
            Self::Timeout => "TIMEOUT",
            Self::RateLimited => "RATE_LIMITED",
            Self::ShuttingDown => "SHUTTING_DOWN",
            Self::Unsupported => "UNSUPPORTED",
        }
    }

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
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorReply {
    pub code: Code,
    /// One sentence; the first line a person sees.
    pub message: String,
    /// Absent where it is nothing.
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
        enter(&mut self.details, name, value.into());
        self
    }

    /// Says which argument is wrong.
    #[must_use]
    pub fn argument(field: &str, message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message).with("field", field)
    }
}

impl ToJson for ErrorReply {
    fn to_json(&self) -> Value {
        let mut members = Map::new();
        set(&mut members, "code", self.code.name());
        set(&mut members, "message", &self.message);
        if let Some(request) = &self.request {
            set(&mut members, "request", request);
        }
        set(&mut members, "details", &self.details);
        Value::Object(members)
    }
}
