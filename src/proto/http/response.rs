//! Responses: a status, headers that every response has, a body.

use std::fmt::Write as _;
use std::rc::Rc;

use serde_json::{Map, Value};

use crate::base::WallTime;
use crate::json::json;
use crate::proto::buffer::Frame;
use crate::proto::http::Problem;
use crate::proto::messages::error::{Code, ErrorReply};
use crate::proto::messages::stamp::http_date;

const JSON: &str = "application/json; charset=utf-8";

/// One response.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Frame,
    /// Beyond those that all have.
    pub headers: Vec<(&'static str, String)>,
    /// Part of the dashboard: it may load itself, and may be kept if it is asked for again.
    pub is_page: bool,
}

/// What of a request its response depends on.
#[derive(Clone, Debug, Default)]
pub struct Manner {
    /// `HEAD`: the head alone.
    pub head_only: bool,
    pub keep_alive: bool,
    /// The page of another origin that may see it.
    pub origin: Option<String>,
}

impl Response {
    #[must_use]
    pub fn new(status: u16, content_type: &'static str, body: impl Into<Frame>) -> Self {
        Self { status, content_type, body: body.into(), headers: Vec::new(), is_page: false }
    }

    #[must_use]
    pub fn json(status: u16, value: &Value) -> Self {
        Self::new(status, JSON, value.to_string().into_bytes())
    }

    /// `{"success":true, ...}`.
    #[must_use]
    pub fn success(status: u16, mut members: Map<String, Value>) -> Self {
        members.insert("success".to_owned(), true.into());
        Self::json(status, &Value::Object(members))
    }

    /// A refusal in the words of all interfaces.
    #[must_use]
    pub fn error(error: &ErrorReply) -> Self {
        Self::refusal(error.code.status(), error)
    }

    /// A refusal with a status of its own.
    #[must_use]
    pub fn refusal(status: u16, error: &ErrorReply) -> Self {
        let body = json!({
            "success": false, "error": reason(status), "message": error.message,
            "code": error.code.name(), "details": error.details,
        });
        Self::json(status, &body)
    }

    /// What was not even a request that can be understood.
    #[must_use]
    pub fn problem(problem: Problem) -> Self {
        let Problem(status, text) = problem;
        let code = match status {
            408 => Code::Timeout,
            501 => Code::Unsupported,
            _ => Code::InvalidMessage,
        };
        Self::refusal(status, &ErrorReply::new(code, text))
    }

    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The head, as bytes. The body follows unless the manner says otherwise.
    #[must_use]
    pub fn head(&self, manner: &Manner, now: WallTime) -> Frame {
        let mut head = String::with_capacity(512);
        let status = self.status;
        let _ = write!(head, "HTTP/1.1 {status} {}\r\n", reason(status));
        let mut line = |name: &str, value: &str| {
            let _ = write!(head, "{name}: {value}\r\n");
        };
        line("Date", &http_date(now));
        if status != 101 {
            if status != 204 && status != 304 {
                line("Content-Type", self.content_type);
                line("Content-Length", &self.body.len().to_string());
            }
            line("Cache-Control", if self.is_page { "no-cache" } else { "no-store" });
            line("X-Content-Type-Options", "nosniff");
            line("X-Frame-Options", "DENY");
            line("Content-Security-Policy", if self.is_page { PAGE_POLICY } else { DATA_POLICY });
            line("Referrer-Policy", "no-referrer");
            line("Connection", if manner.keep_alive { "keep-alive" } else { "close" });
        }
        if let Some(origin) = &manner.origin {
            line("Access-Control-Allow-Origin", origin);
            line("Vary", "Origin");
        }
        for (name, value) in &self.headers {
            line(name, value);
        }
        head.push_str("\r\n");
        Rc::from(head.into_bytes())
    }
}

const DATA_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";
const PAGE_POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; frame-ancestors 'none'; \
                           base-uri 'none'; form-action 'none'";

fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}
