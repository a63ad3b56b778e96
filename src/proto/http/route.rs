//! Paths and methods, and what they mean. The paths of REST are PMDaemon's.

use serde_json::{Map, Value};

use crate::base::Stream;
use crate::proto::http::Request;
use crate::proto::http::head::{Head, Name, decode};
use crate::proto::messages::error::{Code, ErrorReply};
use crate::proto::messages::request::{self, Ask};
use crate::proto::messages::session::REMOTE_LIMITS;
use crate::supervisor::vocabulary::Target;

/// Lines of a log unless the request says otherwise.
const LINES: usize = 50;

/// What a request is about.
#[derive(Clone, Debug, PartialEq)]
pub enum Route {
    /// The dashboard's page, or the list of paths.
    Index,
    /// A file of the dashboard.
    Asset(&'static str),
    Health,
    Metrics,
    WebSocket,
    List {
        namespace: Option<String>,
        status: Option<String>,
        name: Option<String>,
    },
    Create,
    One(Target),
    /// `delete`, `start`, `stop`, `restart` or `reload`.
    Act {
        action: &'static str,
        target: Target,
        purge_logs: bool,
    },
    Logs {
        target: Target,
        lines: usize,
        stream: Option<Stream>,
    },
    HealthOf(Target),
    System,
    Status,
}

/// Why a request has no meaning.
#[derive(Clone, Debug, PartialEq)]
pub enum Miss {
    NotFound,
    /// The path has other methods.
    Method(&'static str),
    Invalid(ErrorReply),
}

impl Route {
    /// What a head asks for.
    ///
    /// # Errors
    ///
    /// [`Miss`].
    pub fn find(head: &Head) -> Result<Self, Miss> {
        let method = if head.method == "HEAD" { "GET" } else { head.method.as_str() };
        let parts: Vec<&str> = head.path.split('/').skip(1).collect();
        let query = Query(&head.query);
        let get = |route| if method == "GET" { Ok(route) } else { Err(Miss::Method("GET, HEAD")) };
        let id = |text: &str| target(text).ok_or(Miss::NotFound);
        match parts.as_slice() {
            [""] => get(Self::Index),
            ["app.js"] => get(Self::Asset("/app.js")),
            ["app.css"] => get(Self::Asset("/app.css")),
            ["ws"] => get(Self::WebSocket),
            ["metrics"] => get(Self::Metrics),
            ["healthz"] => get(Self::Health),
            ["api", "system"] => get(Self::System),
            ["api", "status"] => get(Self::Status),
            ["api", "processes"] => match method {
                "GET" => Ok(Self::List {
                    namespace: query.text("namespace")?,
                    status: query.text("status")?,
                    name: query.text("name")?,
                }),
                "POST" => Ok(Self::Create),
                _ => Err(Miss::Method("GET, HEAD, POST")),
            },
            ["api", "processes", name] => match method {
                "GET" => Ok(Self::One(id(name)?)),
                "DELETE" => Ok(Self::Act {
                    action: "delete",
                    target: id(name)?,
                    purge_logs: query.flag("purge_logs")?,
                }),
                _ => Err(Miss::Method("GET, HEAD, DELETE")),
            },
            ["api", "processes", name, "health"] => get(Self::HealthOf(id(name)?)),
            ["api", "processes", name, "logs"] | ["api", "logs", name] => get(Self::Logs {
                target: id(name)?,
                lines: query.lines()?,
                stream: query.stream()?,
            }),
            ["api", "processes", name, action] => {
                let known = ["start", "stop", "restart", "reload"];
                let found = known.into_iter().find(|known| known == action);
                let action = found.ok_or(Miss::NotFound)?;
                match method {
                    "POST" => Ok(Self::Act { action, target: id(name)?, purge_logs: false }),
                    _ => Err(Miss::Method("POST")),
                }
            }
            _ => Err(Miss::NotFound),
        }
    }

    /// Whether everyone who may address this daemon may ask for it: it says nothing.
    #[must_use]
    pub fn is_public(&self) -> bool {
        matches!(self, Self::Index | Self::Asset(_) | Self::Health)
    }

    /// Whether it changes something.
    #[must_use]
    pub fn acts(&self) -> bool {
        matches!(self, Self::Create | Self::Act { .. })
    }

    /// The request of the layer of messages that does what this one wants done.
    ///
    /// # Errors
    ///
    /// What is wrong with the body: 400, or 415 for one that is no JSON.
    pub fn command(&self, request: &Request) -> Result<Ask, (u16, ErrorReply)> {
        let mut body = json_body(request)?;
        let mut data = if *self == Self::Create {
            let mut data = Map::new();
            data.insert("action".to_owned(), "start".into());
            let name = body.get("name").cloned().unwrap_or_default();
            data.insert("process".to_owned(), name);
            data.insert("config".to_owned(), Value::Object(body));
            data
        } else {
            let known = ["port", "port_range", "env", "config"];
            body.retain(|name, _| known.contains(&name.as_str()));
            body
        };
        if let Self::Act { action, target, purge_logs } = self {
            data.insert("action".to_owned(), (*action).into());
            data.insert("process".to_owned(), target.to_string().into());
            data.insert("purge_logs".to_owned(), (*purge_logs).into());
            if let Some(range) = data.remove("port_range") {
                data.insert("port".to_owned(), as_range(&range));
            }
        }
        request::ask("command", data, REMOTE_LIMITS).map_err(|error| (error.code.status(), error))
    }
}

/// `[3000, 3003]` as `3000-3003`.
fn as_range(value: &Value) -> Value {
    match value.as_array().map(Vec::as_slice) {
        Some([first, last]) => format!("{first}-{last}").into(),
        Some(_) | None => value.clone(),
    }
}

/// The body as an object; one that is not there is empty.
fn json_body(request: &Request) -> Result<Map<String, Value>, (u16, ErrorReply)> {
    if request.body.is_empty() {
        return Ok(Map::new());
    }
    // Also a guard: a page of another origin cannot send this type without asking first.
    let kind = request.head.get(Name::ContentType).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        let text = "the body must be JSON: 'Content-Type: application/json'";
        return Err((415, ErrorReply::new(Code::InvalidMessage, text)));
    }
    request::object(&request.body).map_err(|error| (400, error))
}

/// A process as a path names it: never all of them.
fn target(segment: &str) -> Option<Target> {
    let text = decode(segment, false).filter(|text| !text.is_empty())?;
    Some(match Target::parse(&text) {
        Target::All => Target::Name(text),
        other @ (Target::Id(_) | Target::Name(_) | Target::Instance(..)) => other,
    })
}

/// What stands behind the question mark.
struct Query<'a>(&'a str);

impl Query<'_> {
    fn text(&self, name: &str) -> Result<Option<String>, Miss> {
        let pairs = self.0.split('&').filter_map(|pair| pair.split_once('='));
        let Some((_, value)) = pairs.into_iter().find(|(key, _)| *key == name) else {
            return Ok(None);
        };
        let text = decode(value, true).ok_or_else(|| invalid(name, "is no text"))?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    fn flag(&self, name: &str) -> Result<bool, Miss> {
        match self.text(name)?.as_deref() {
            None | Some("0" | "false") => Ok(false),
            Some("1" | "true") => Ok(true),
            Some(_) => Err(invalid(name, "must be 1 or 0")),
        }
    }

    fn lines(&self) -> Result<usize, Miss> {
        match self.text("lines")? {
            None => Ok(LINES),
            Some(digits) => {
                let lines = digits.parse().map_err(|_| invalid("lines", "must be a number"))?;
                Ok(REMOTE_LIMITS.lines.min(lines))
            }
        }
    }

    fn stream(&self) -> Result<Option<Stream>, Miss> {
        match self.text("type")?.as_deref() {
            None | Some("all" | "combined") => Ok(None),
            Some("out" | "stdout") => Ok(Some(Stream::Out)),
            Some("error" | "err" | "stderr") => Ok(Some(Stream::Err)),
            Some(_) => Err(invalid("type", "must be all, out or error")),
        }
    }
}

fn invalid(name: &str, what: &str) -> Miss {
    Miss::Invalid(ErrorReply::argument(name, format!("'{name}' {what}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(method: &str, target: &str) -> Result<Route, Miss> {
        let text = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        Route::find(&Head::parse(text.as_bytes()).unwrap().unwrap().0)
    }

    fn name(text: &str) -> Target {
        Target::Name(text.to_owned())
    }

    #[test]
    fn paths_and_methods_are_found() {
        assert_eq!(find("GET", "/"), Ok(Route::Index));
        assert_eq!(find("HEAD", "/healthz"), Ok(Route::Health));
        assert_eq!(find("POST", "/api/processes"), Ok(Route::Create));
        assert_eq!(find("GET", "/api/processes/a%20b%2Fc"), Ok(Route::One(name("a b/c"))));
        let restart = |target| Route::Act { action: "restart", target, purge_logs: false };
        assert_eq!(find("POST", "/api/processes/web/restart"), Ok(restart(name("web"))));
        // The word for all is a name here.
        assert_eq!(find("POST", "/api/processes/all/restart"), Ok(restart(name("all"))));
        assert_eq!(
            find("DELETE", "/api/processes/web?purge_logs=1"),
            Ok(Route::Act { action: "delete", target: name("web"), purge_logs: true })
        );
        for path in ["/api/processes/web/logs", "/api/logs/web"] {
            assert_eq!(
                find("GET", &format!("{path}?lines=5&type=error")),
                Ok(Route::Logs { target: name("web"), lines: 5, stream: Some(Stream::Err) })
            );
        }
    }

    #[test]
    fn what_is_not_there_is_told_apart_from_a_wrong_method() {
        for path in
            ["/nope", "/api", "/api/processes/", "/api/processes/a/dance", "/ws/", "//", "*"]
        {
            let text = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
            let head = Head::parse(text.as_bytes()).unwrap().unwrap().0;
            assert_eq!(Route::find(&head), Err(Miss::NotFound), "{path}");
        }
        assert_eq!(find("DELETE", "/api/processes"), Err(Miss::Method("GET, HEAD, POST")));
        assert_eq!(find("GET", "/api/processes/a/stop"), Err(Miss::Method("POST")));
        assert!(matches!(find("GET", "/api/logs/a?lines=x"), Err(Miss::Invalid(_))));
        assert_eq!(find("GET", "/api/processes/%ff"), Err(Miss::NotFound));
    }
}
