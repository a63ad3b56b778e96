//! What a client asks: one JSON object to one [`Ask`].

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::base::{Signal, Stream, WallTime};
use crate::proto::ipc::members::members;
use crate::proto::messages::error::{Code, ErrorReply};
use crate::proto::messages::stamp::parse_timestamp;
use crate::supervisor::spec::Ports;
use crate::supervisor::vocabulary::{Patience, Scale, Target, Until};

/// A request's `id` as the client wrote it; echoed in `reply_to` with its type.
pub type RequestId = Value;

/// Bytes of a request's `id`.
pub const MAX_ID: usize = 128;
/// Bytes of a name.
pub const MAX_NAME: usize = 128;
/// Items of `events`.
pub const MAX_EVENTS: usize = 32;
/// Between two messages that come at an interval.
pub const INTERVALS: RangeInclusive<Duration> =
    Duration::from_millis(250)..=Duration::from_secs(3600);
/// How long a program may take to answer an event of intercom, unless the client says otherwise.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// Depth of nesting.
pub const MAX_DEPTH: usize = 64;

/// What one client may ask for at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Items of `processes`.
    pub targets: usize,
    /// Lines that `get_logs` and `backlog` give of each process.
    pub lines: usize,
}

/// One message of a client.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub id: Option<RequestId>,
    /// The `type`, for error replies.
    pub kind: String,
    pub ask: Result<Ask, ErrorReply>,
}

/// What may be asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    Ping,
    /// The token that opens the interface.
    Auth(String),
    /// Speak protocol version `0`.
    Protocol(u64),
    Subscribe {
        events: Vec<String>,
        processes: Option<Vec<Target>>,
        /// `None`: the daemon's own choice.
        interval: Option<Duration>,
        backlog: usize,
        /// Patterns of names of a `channel_event`.
        names: Option<Vec<String>>,
    },
    Unsubscribe {
        events: Option<Vec<String>>,
    },
    Command(Box<Command>),
    GetInfo {
        processes: Option<Vec<Target>>,
        /// Without `config`, `last_exits` and `logs`: what a list needs.
        brief: bool,
        /// What they use is to be known as it is now.
        metrics: bool,
    },
    GetSystem,
    GetLogs(LogQuery),
    GetEvents {
        processes: Option<Vec<Target>>,
        since: Option<WallTime>,
        /// So many, the last ones.
        limit: Option<usize>,
    },
    GetEnv {
        process: Target,
        reveal: bool,
    },
    GetPm2List {
        reveal: bool,
    },
    GetDaemon,
    GetSettings {
        key: Option<String>,
    },
    /// `Null`: as it is by default.
    SetSetting {
        key: String,
        value: Value,
    },
    /// The token of the web interface; a new one, or the one there is.
    Token {
        new: bool,
    },
    /// About the agent.
    Agent(AgentWish),
    Export {
        processes: Option<Vec<Target>>,
    },
    Flush(Option<Vec<Target>>),
    Rotate(Option<Vec<Target>>),
    ReloadLogs(Option<Vec<Target>>),
    SendLine {
        process: Target,
        line: String,
    },
    /// A message for programs, as it is.
    IpcSend {
        target: Target,
        message: Value,
        /// The same as the client wrote it.
        text: String,
    },
    /// An event of intercom. `answer`: how long the answer to it is waited for, if one is wanted.
    IpcEmit {
        target: Target,
        event: Value,
        args: Vec<Value>,
        answer: Option<Duration>,
    },
    /// A call of a function that a program passed to intercom.
    IpcCall {
        function: String,
        args: Vec<Value>,
        answer: Option<Duration>,
    },
    /// Close their channels.
    IpcDisconnect(Target),
    Trigger(Trigger),
    /// A message of the hub's own, in ipevents' words.
    IpeventsSend {
        kind: String,
        to: Option<String>,
        event: String,
        args: Vec<Value>,
    },
    IpeventsPeers,
    Wait {
        processes: Vec<Target>,
        until: Until,
        timeout: Option<Duration>,
    },
    Apply(Box<Apply>),
    Save,
    Resurrect,
    /// What PM2 has saved at `path`; `ids`: of its programs, in its order.
    ResurrectPm2 {
        path: String,
        ids: Vec<u64>,
    },
    Shutdown {
        leave_running: bool,
    },
}

/// What is to become of the agent.
#[derive(Clone, Debug, PartialEq)]
pub enum AgentWish {
    Info,
    /// Members of its file.
    Link(Map<String, Value>),
    Stop,
    Delete,
}

/// What a client must be allowed to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Right {
    /// Nothing but to connect.
    Connect,
    Look,
    Act,
    /// What only the control socket carries.
    Control,
}

impl Ask {
    #[must_use]
    pub fn right(&self) -> Right {
        match self {
            Self::Auth(_) => Right::Connect,
            Self::Ping
            | Self::Subscribe { .. }
            | Self::Unsubscribe { .. }
            | Self::GetInfo { .. }
            | Self::GetSystem
            | Self::GetLogs(_)
            | Self::GetEvents { .. }
            | Self::Wait { .. } => Right::Look,
            Self::Command(_)
            | Self::IpcSend { .. }
            | Self::IpcEmit { .. }
            | Self::IpcCall { .. }
            | Self::IpcDisconnect(_)
            | Self::IpeventsSend { .. }
            | Self::IpeventsPeers
            | Self::Trigger(_) => Right::Act,
            Self::Protocol(_)
            | Self::GetEnv { .. }
            | Self::GetPm2List { .. }
            | Self::GetDaemon
            | Self::GetSettings { .. }
            | Self::SetSetting { .. }
            | Self::Token { .. }
            | Self::Agent(_)
            | Self::Export { .. }
            | Self::Flush(_)
            | Self::Rotate(_)
            | Self::ReloadLogs(_)
            | Self::SendLine { .. }
            | Self::Apply(_)
            | Self::Save
            | Self::Resurrect
            | Self::ResurrectPm2 { .. }
            | Self::Shutdown { .. } => Right::Control,
        }
    }
}

/// The `command` request.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// The word, echoed in the reply.
    pub action: String,
    pub verb: Verb,
    pub targets: Vec<Target>,
    pub wait: Patience,
    pub parallel: Option<usize>,
    pub timeout: Option<Duration>,
}

/// What a `command` does.
#[derive(Clone, Debug, PartialEq)]
pub enum Verb {
    /// With `config` or `configs`.
    Create {
        configs: Vec<Map<String, Value>>,
        environment: Option<Map<String, Value>>,
        replace: bool,
        force: bool,
        source: Option<String>,
    },
    Start,
    Stop {
        kill_timeout: Option<Duration>,
    },
    Restart {
        change: Change,
        kill_timeout: Option<Duration>,
    },
    Reload {
        change: Change,
        /// Fields of the definition that are to change.
        config: Option<Map<String, Value>>,
    },
    Delete {
        purge_logs: bool,
    },
    Signal(Signal),
    Reset,
    Scale(Scale),
}

/// What a restart is to change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// Replaces what was inherited.
    pub environment: Option<Map<String, Value>>,
    pub env: Option<Map<String, Value>>,
    /// Instead of the app's own, until the next start.
    pub port: Option<Ports>,
}

/// The `trigger` request: an action that programs have announced.
#[derive(Clone, Debug, PartialEq)]
pub struct Trigger {
    pub processes: Vec<Target>,
    pub action: String,
    pub param: Option<Value>,
    pub timeout: Option<Duration>,
}

/// The `get_logs` request.
#[derive(Clone, Debug, PartialEq)]
pub struct LogQuery {
    pub processes: Option<Vec<Target>>,
    pub lines: usize,
    pub stream: Option<Stream>,
    pub since: Option<WallTime>,
    pub until: Option<WallTime>,
    pub grep: Option<String>,
}

/// The `apply` request.
#[derive(Clone, Debug, PartialEq)]
pub struct Apply {
    pub configs: Vec<Map<String, Value>>,
    pub environment: Option<Map<String, Value>>,
    pub source: Option<String>,
    pub dry_run: bool,
    pub prune: bool,
    pub restart: bool,
    pub wait: Patience,
}

/// Understands one message.
///
/// # Errors
///
/// `INVALID_JSON` for what is no JSON object, `INVALID_MESSAGE` for a bad envelope; what is wrong
/// inside is in [`Message::ask`], so that the reply can carry the id.
pub fn parse(text: &[u8], limits: Limits) -> Result<Message, ErrorReply> {
    let mut object = object(text)?;
    let id = match object.remove("id") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if text.len() > MAX_ID => {
            return Err(ErrorReply::new(
                Code::InvalidMessage,
                format!("'id' is longer than {MAX_ID} bytes"),
            ));
        }
        Some(id @ (Value::String(_) | Value::Number(_))) => Some(id),
        Some(_) => {
            return Err(ErrorReply::new(Code::InvalidMessage, "'id' is no string or number"));
        }
    };
    let Some(Value::String(kind)) = object.remove("type") else {
        return Err(ErrorReply::new(Code::InvalidMessage, "'type' is missing or no string"));
    };
    let mut ask = match object.remove("data") {
        None | Some(Value::Null) => ask(&kind, Map::new(), limits),
        Some(Value::Object(data)) => ask(&kind, data, limits),
        Some(_) => Err(ErrorReply::new(Code::InvalidMessage, "'data' is no object")),
    };
    if let Ok(Ask::IpcSend { text: own, .. }) = &mut ask {
        let member = |json, name| members(json).filter(|(key, _)| *key == name).last();
        let data = std::str::from_utf8(text).ok().and_then(|text| member(text, "\"data\""));
        let written = data.and_then(|(_, data)| member(data, "\"message\""));
        // Of more than one line it would be no message.
        if let Some((_, written)) = written.filter(|(_, text)| !text.contains(['\n', '\r'])) {
            written.clone_into(own);
        }
    }
    Ok(Message { id, kind, ask })
}

/// A JSON object that is not nested too deeply.
///
/// # Errors
///
/// `INVALID_JSON`.
pub fn object(text: &[u8]) -> Result<Map<String, Value>, ErrorReply> {
    let invalid = |text: String| ErrorReply::new(Code::InvalidJson, text);
    if depth(text) > MAX_DEPTH {
        return Err(invalid("the message is nested too deeply".to_owned()));
    }
    match serde_json::from_slice(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(invalid("not a JSON object".to_owned())),
        Err(error) => Err(invalid(format!("not JSON: {error}"))),
    }
}

/// How deep objects and arrays are nested in `text`, strings left out.
fn depth(text: &[u8]) -> usize {
    let (mut deepest, mut depth, mut in_string, mut escaped) = (0, 0_usize, false, false);
    for &byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Understands the `data` of a message of type `kind`.
///
/// # Errors
///
/// What is wrong with it.
pub fn ask(kind: &str, data: Map<String, Value>, limits: Limits) -> Result<Ask, ErrorReply> {
    let mut data = Fields(data, limits);
    Ok(match kind {
        "ping" => Ask::Ping,
        "auth" => {
            let missing = || ErrorReply::argument("token", "'token' is missing");
            Ask::Auth(data.string("token")?.ok_or_else(missing)?)
        }
        "protocol" => Ask::Protocol(data.number("protocol")?.unwrap_or(0)),
        "subscribe" => {
            let events = data.strings("events")?.unwrap_or_default();
            if events.is_empty() || events.len() > MAX_EVENTS {
                return Err(ErrorReply::argument("events", "'events' needs 1 to 32 names"));
            }
            let processes = data.targets("processes")?.filter(|targets| !targets.is_empty());
            let interval = data.interval("interval")?;
            let backlog = data.lines("backlog")?.unwrap_or(0);
            let names = data.strings("names")?.filter(|names| !names.is_empty());
            let too_long = |names: &Vec<String>| {
                names.len() > MAX_EVENTS || names.iter().any(|name| name.len() > MAX_NAME)
            };
            if names.as_ref().is_some_and(too_long) {
                let text = "'names' holds up to 32 patterns of up to 128 bytes";
                return Err(ErrorReply::argument("names", text));
            }
            Ask::Subscribe { events, processes, interval, backlog, names }
        }
        "unsubscribe" => {
            Ask::Unsubscribe { events: data.strings("events")?.filter(|events| !events.is_empty()) }
        }
        "command" => Ask::Command(Box::new(command(&mut data)?)),
        "get_info" => Ask::GetInfo {
            processes: data.some_targets()?,
            brief: data.flag("brief")?,
            metrics: data.flag_or("metrics", true)?,
        },
        "get_system" => Ask::GetSystem,
        "get_logs" => Ask::GetLogs(LogQuery {
            processes: data.some_targets()?,
            lines: data.lines("lines")?.unwrap_or(15),
            stream: data.stream("stream")?,
            since: data.time("since")?,
            until: data.time("until")?,
            grep: data.string("grep")?,
        }),
        "get_events" => {
            let limit = data.lines("limit")?;
            Ask::GetEvents { processes: data.some_targets()?, since: data.time("since")?, limit }
        }
        "get_env" => Ask::GetEnv { process: data.one_target()?, reveal: data.flag("reveal")? },
        "get_pm2_list" => Ask::GetPm2List { reveal: data.flag("reveal")? },
        "get_daemon" => Ask::GetDaemon,
        "get_settings" => Ask::GetSettings { key: data.string("key")? },
        "set_setting" => {
            let missing = || ErrorReply::argument("key", "'key' is missing");
            let key = data.string("key")?.ok_or_else(missing)?;
            Ask::SetSetting { key, value: data.take("value").unwrap_or_default() }
        }
        "token" => match data.string("op")?.as_deref() {
            Some("show") => Ask::Token { new: false },
            Some("new") => Ask::Token { new: true },
            _ => return Err(ErrorReply::argument("op", "'op' must be show or new")),
        },
        "agent" => Ask::Agent(match data.string("op")?.as_deref() {
            Some("info") => AgentWish::Info,
            Some("link") => AgentWish::Link(data.link()?),
            Some("stop") => AgentWish::Stop,
            Some("delete") => AgentWish::Delete,
            _ => {
                let text = "'op' must be info, link, stop or delete";
                return Err(ErrorReply::argument("op", text));
            }
        }),
        "export" => Ask::Export { processes: data.some_targets()? },
        "flush" => Ask::Flush(data.some_targets()?),
        "rotate" => Ask::Rotate(data.some_targets()?),
        "reload_logs" => Ask::ReloadLogs(data.some_targets()?),
        "send_line" => Ask::SendLine {
            process: data.one_target()?,
            line: data
                .string("line")?
                .ok_or_else(|| ErrorReply::argument("line", "'line' is missing"))?,
        },
        "ipc.send" => {
            let missing = || ErrorReply::argument("message", "'message' is missing or null");
            let target = data.target_of("target")?;
            let message = data.take("message").ok_or_else(missing)?;
            let text = message.to_string();
            Ask::IpcSend { target, message, text }
        }
        "ipc.emit" | "ipc.request" => {
            let missing = || ErrorReply::argument("event", "'event' is missing");
            let wants = kind == "ipc.request";
            let answer = data.millis("timeout_ms")?.unwrap_or(ANSWER_TIME);
            Ask::IpcEmit {
                target: data.target_of("target")?,
                event: data.take("event").ok_or_else(missing)?,
                args: data.values("args")?,
                answer: wants.then_some(answer),
            }
        }
        "ipc.call" => Ask::IpcCall {
            function: data
                .string("fn")?
                .ok_or_else(|| ErrorReply::argument("fn", "'fn' is missing"))?,
            args: data.values("args")?,
            answer: data.millis("timeout_ms")?,
        },
        "ipc.disconnect" => Ask::IpcDisconnect(data.target_of("target")?),
        "ipevents.send" => {
            let kind = data.string("type")?.unwrap_or_default();
            let to = data.string("to")?;
            let wrong = match kind.as_str() {
                "toChilds" | "broadcast" => None,
                "toChild" | "sendTo" => to.is_none().then_some(("to", "'to' is missing")),
                _ => Some(("type", "'type' must be toChilds, broadcast, toChild or sendTo")),
            };
            if let Some((field, text)) = wrong {
                return Err(ErrorReply::argument(field, text));
            }
            let missing = || ErrorReply::argument("event", "'event' is missing");
            let event = data.string("event")?.ok_or_else(missing)?;
            Ask::IpeventsSend { kind, to, event, args: data.values("args")? }
        }
        "ipevents.peers" => Ask::IpeventsPeers,
        "trigger" => {
            let missing = || ErrorReply::argument("processes", "'processes' is missing");
            let action = data.string("action")?.filter(|action| action.len() <= MAX_NAME);
            let wrong = "'action' is missing or longer than 128 bytes";
            Ask::Trigger(Trigger {
                processes: data.some_targets()?.ok_or_else(missing)?,
                action: action.ok_or_else(|| ErrorReply::argument("action", wrong))?,
                param: data.take("param"),
                timeout: data.millis("timeout")?,
            })
        }
        "wait" => {
            let word = data.string("for")?.unwrap_or_else(|| "online".to_owned());
            let until = match word.as_str() {
                "online" => Until::Online,
                "ready" => Until::Ready,
                "healthy" => Until::Healthy,
                "stopped" => Until::Stopped,
                "done" => Until::Done,
                other => {
                    return Err(ErrorReply::argument(
                        "for",
                        format!(
                            "'for' must be online, ready, healthy, stopped or done, not '{other}'"
                        ),
                    ));
                }
            };
            let processes = data.some_targets()?.unwrap_or_else(|| vec![Target::All]);
            Ask::Wait { processes, until, timeout: data.millis("timeout")? }
        }
        "apply" => Ask::Apply(Box::new(Apply {
            configs: data.configs()?,
            environment: data.object("environment")?,
            source: data.string("source")?,
            dry_run: data.flag("dry_run")?,
            prune: data.flag("prune")?,
            restart: data.flag_or("restart", true)?,
            wait: data.patience()?,
        })),
        "save" => Ask::Save,
        "resurrect" => match data.string("from_pm2")? {
            None => Ask::Resurrect,
            Some(path) if path.starts_with('/') => {
                Ask::ResurrectPm2 { path, ids: data.numbers("ids")? }
            }
            Some(_) => {
                return Err(ErrorReply::argument(
                    "from_pm2",
                    "'from_pm2' must be an absolute path",
                ));
            }
        },
        "shutdown" => Ask::Shutdown { leave_running: data.flag("leave_running")? },
        other => {
            return Err(ErrorReply::new(Code::UnknownType, format!("unknown type '{other}'"))
                .with("type", other));
        }
    })
}

fn command(data: &mut Fields) -> Result<Command, ErrorReply> {
    let action = data
        .string("action")?
        .ok_or_else(|| ErrorReply::argument("action", "'action' is missing"))?;
    let kill_timeout = data.millis("kill_timeout")?;
    let verb = match action.as_str() {
        "start" if data.0.contains_key("config") || data.0.contains_key("configs") => {
            Verb::Create {
                configs: data.configs()?,
                environment: data.object("environment")?,
                replace: data.flag("replace")?,
                force: data.flag("force")?,
                source: data.string("source")?,
            }
        }
        "start" => Verb::Start,
        "stop" => Verb::Stop { kill_timeout },
        "restart" => Verb::Restart { change: data.change()?, kill_timeout },
        "reload" => Verb::Reload { change: data.change()?, config: data.object("config")? },
        "delete" => Verb::Delete { purge_logs: data.flag("purge_logs")? },
        "signal" => {
            let word = data
                .string("signal")?
                .ok_or_else(|| ErrorReply::argument("signal", "'signal' is missing"))?;
            Verb::Signal(Signal::parse(&word).ok_or_else(|| {
                ErrorReply::argument("signal", format!("'{word}' is not a signal"))
            })?)
        }
        "reset" => Verb::Reset,
        "scale" => Verb::Scale(data.scale()?),
        other => {
            return Err(ErrorReply::new(Code::UnknownAction, format!("unknown action '{other}'"))
                .with("action", other));
        }
    };
    let mut targets = data.some_targets()?.unwrap_or_default();
    if targets.is_empty() && !matches!(verb, Verb::Create { .. }) {
        return Err(ErrorReply::argument("process", "'process' is missing"));
    }
    targets.dedup();
    let wait = data.patience()?;
    let parallel =
        data.number("parallel")?.and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
    Ok(Command { action, verb, targets, wait, parallel, timeout: data.millis("timeout")? })
}

/// The `data` of a message; each look-up takes its field out and says what is wrong with it.
struct Fields(Map<String, Value>, Limits);

impl Fields {
    /// The keys of the agent's file.
    fn link(&mut self) -> Result<Map<String, Value>, ErrorReply> {
        let mut members = Map::new();
        for key in ["secret_key", "public_key", "machine_name", "info_node"] {
            match self.string(key)?.filter(|text| !text.is_empty()) {
                Some(text) => drop(members.insert(key.to_owned(), text.into())),
                None if key.ends_with("_key") => {
                    return Err(ErrorReply::argument(key, format!("'{key}' is missing")));
                }
                None => {}
            }
        }
        Ok(members)
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    fn string(&mut self, name: &str) -> Result<Option<String>, ErrorReply> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(ErrorReply::argument(name, format!("'{name}' must be a string"))),
        }
    }

    fn flag(&mut self, name: &str) -> Result<bool, ErrorReply> {
        self.flag_or(name, false)
    }

    fn flag_or(&mut self, name: &str, default: bool) -> Result<bool, ErrorReply> {
        match self.take(name) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(ErrorReply::argument(name, format!("'{name}' must be true or false"))),
        }
    }

    fn number(&mut self, name: &str) -> Result<Option<u64>, ErrorReply> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or_else(|| {
                ErrorReply::argument(name, format!("'{name}' must be a whole number, not negative"))
            }),
        }
    }

    fn lines(&mut self, name: &str) -> Result<Option<usize>, ErrorReply> {
        let most = self.1.lines;
        Ok(self.number(name)?.map(|n| usize::try_from(n).unwrap_or(most).min(most)))
    }

    fn millis(&mut self, name: &str) -> Result<Option<Duration>, ErrorReply> {
        Ok(self.number(name)?.map(Duration::from_millis))
    }

    /// Milliseconds between two messages, brought into [`INTERVALS`].
    fn interval(&mut self, name: &str) -> Result<Option<Duration>, ErrorReply> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let millis = value.as_f64().filter(|&millis| millis > 0.0).ok_or_else(|| {
            ErrorReply::argument(name, format!("'{name}' must be a number of milliseconds above 0"))
        })?;
        let (least, most) = (INTERVALS.start(), INTERVALS.end());
        let interval = Duration::try_from_secs_f64(millis / 1000.0).unwrap_or(*most);
        Ok(Some(interval.clamp(*least, *most)))
    }

    fn time(&mut self, name: &str) -> Result<Option<WallTime>, ErrorReply> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => parse_timestamp(&text).map(Some).ok_or_else(|| {
                ErrorReply::argument(name, format!("'{name}' is not an RFC 3339 time"))
            }),
            Some(_) => Err(ErrorReply::argument(name, format!("'{name}' is not a time"))),
        }
    }

    fn stream(&mut self, name: &str) -> Result<Option<Stream>, ErrorReply> {
        match self.string(name)?.as_deref() {
            None => Ok(None),
            Some("stdout") => Ok(Some(Stream::Out)),
            Some("stderr") => Ok(Some(Stream::Err)),
            Some(_) => {
                Err(ErrorReply::argument(name, format!("'{name}' must be stdout or stderr")))
            }
        }
    }

    fn strings(&mut self, name: &str) -> Result<Option<Vec<String>>, ErrorReply> {
        let wrong = || ErrorReply::argument(name, format!("'{name}' must be a list of strings"));
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(items)) => items
                .into_iter()
                .map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong))
                .collect::<Result<_, _>>()
                .map(Some),
            Some(_) => Err(wrong()),
        }
    }

    /// A list of anything; none: it is empty.
    fn values(&mut self, name: &str) -> Result<Vec<Value>, ErrorReply> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => Ok(items),
            Some(_) => Err(ErrorReply::argument(name, format!("'{name}' must be a list"))),
        }
    }

    fn numbers(&mut self, name: &str) -> Result<Vec<u64>, ErrorReply> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => {
                let numbers: Option<_> = items.iter().map(Value::as_u64).collect();
                numbers.ok_or_else(|| {
                    ErrorReply::argument(name, format!("'{name}' must be a list of numbers"))
                })
            }
            Some(_) => {
                Err(ErrorReply::argument(name, format!("'{name}' must be a list of numbers")))
            }
        }
    }

    fn object(&mut self, name: &str) -> Result<Option<Map<String, Value>>, ErrorReply> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(_) => Err(ErrorReply::argument(name, format!("'{name}' must be an object"))),
        }
    }

    fn target(name: &str, value: &Value) -> Result<Target, ErrorReply> {
        match value {
            Value::String(text) if text.len() > MAX_NAME => Err(ErrorReply::argument(
                name,
                format!("'{name}' has a name that is longer than {MAX_NAME} bytes"),
            )),
            Value::String(text) => Ok(Target::parse(text)),
            Value::Number(number) => number
                .as_u64()
                .map(|id| Target::parse(&id.to_string()))
                .ok_or_else(|| ErrorReply::argument(name, format!("'{number}' is not an id"))),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
                Err(ErrorReply::argument(name, format!("'{name}' must hold names or ids")))
            }
        }
    }

    fn targets(&mut self, name: &str) -> Result<Option<Vec<Target>>, ErrorReply> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(items)) if items.len() <= self.1.targets => items
                .iter()
                .map(|item| Self::target(name, item))
                .collect::<Result<_, _>>()
                .map(Some),
            Some(Value::Array(_)) => Err(ErrorReply::argument(
                name,
                format!("'{name}' has more than {} items", self.1.targets),
            )),
            Some(_) => Err(ErrorReply::argument(name, format!("'{name}' must be a list"))),
        }
    }

    /// `processes`, or the single `process`.
    fn some_targets(&mut self) -> Result<Option<Vec<Target>>, ErrorReply> {
        if let Some(targets) = self.targets("processes")? {
            return Ok(Some(targets));
        }
        match self.take("process") {
            None => Ok(None),
            Some(value) => Ok(Some(vec![Self::target("process", &value)?])),
        }
    }

    fn one_target(&mut self) -> Result<Target, ErrorReply> {
        self.target_of("process")
    }

    fn target_of(&mut self, name: &str) -> Result<Target, ErrorReply> {
        self.take(name)
            .ok_or_else(|| ErrorReply::argument(name, format!("'{name}' is missing")))
            .and_then(|value| Self::target(name, &value))
    }

    fn configs(&mut self) -> Result<Vec<Map<String, Value>>, ErrorReply> {
        let wrong = || ErrorReply::argument("configs", "'configs' must be a list of objects");
        if let Some(config) = self.object("config")? {
            let mut config = config;
            if let Some(name) = self.0.get("process").filter(|name| name.is_string()) {
                config.entry("name").or_insert_with(|| name.clone());
            }
            return Ok(vec![config]);
        }
        match self.take("configs") {
            Some(Value::Array(items)) => items
                .into_iter()
                .map(|item| match item {
                    Value::Object(object) => Ok(object),
                    Value::Null
                    | Value::Bool(_)
                    | Value::Number(_)
                    | Value::String(_)
                    | Value::Array(_) => Err(wrong()),
                })
                .collect(),
            None | Some(_) => Err(wrong()),
        }
    }

    fn change(&mut self) -> Result<Change, ErrorReply> {
        let environment = self.object("environment")?;
        let update = self.flag("update_env")?;
        let environment = environment.filter(|_| update);
        Ok(Change { environment, env: self.object("env")?, port: self.ports()? })
    }

    /// `port`: 3000, "3000", "3000-3003" or "auto:5000-5100"; or `port_range`: [3000, 3003].
    fn ports(&mut self) -> Result<Option<Ports>, ErrorReply> {
        let text = match (self.take("port"), self.take("port_range")) {
            (None, None) => return Ok(None),
            (Some(Value::String(text)), _) => text,
            (Some(value), _) => value.to_string(),
            (None, Some(range)) => format!("{}-{}", range[0], range[1]),
        };
        let ports = Ports::parse(&text).ok_or_else(|| {
            ErrorReply::argument("port", "'port' must be a port, a range or auto:FIRST-LAST")
        })?;
        Ok(Some(ports))
    }

    fn patience(&mut self) -> Result<Patience, ErrorReply> {
        match self.string("wait")?.as_deref() {
            None | Some("online") => Ok(Patience::Online),
            Some("none") => Ok(Patience::None),
            Some("stable") => Ok(Patience::Stable),
            Some(_) => Err(ErrorReply::argument("wait", "'wait' must be none, online or stable")),
        }
    }

    /// `4`, `"4"`, `"+2"` or `"-1"`.
    fn scale(&mut self) -> Result<Scale, ErrorReply> {
        let wrong = || ErrorReply::argument("instances", "'instances' must be N, +N or -N");
        let text = match self.take("instances") {
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::String(text)) => text,
            None | Some(_) => return Err(wrong()),
        };
        let number = |digits: &str| digits.parse().map_err(|_| wrong());
        Ok(match text.as_bytes().first() {
            Some(b'+') => Scale::Up(number(text.get(1..).unwrap_or_default())?),
            Some(b'-') => Scale::Down(number(text.get(1..).unwrap_or_default())?),
            _ => Scale::To(number(&text)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ProcId;

    const LIMITS: Limits = Limits { targets: 4, lines: 100 };

    fn ask_of(text: &str) -> Result<Ask, Code> {
        parse(text.as_bytes(), LIMITS).map_err(|error| error.code)?.ask.map_err(|error| error.code)
    }

    #[test]
    fn an_envelope_without_id_or_data_is_enough() {
        let message = parse(br#"{"type":"ping","timestamp":"x","more":1}"#, LIMITS).unwrap();
        assert_eq!((message.id, message.ask), (None, Ok(Ask::Ping)));
    }

    #[test]
    fn an_id_keeps_its_type() {
        let id = |text: &str| parse(text.as_bytes(), LIMITS).unwrap().id.unwrap();
        assert_eq!(id(r#"{"type":"ping","id":7}"#), 7);
        assert_eq!(id(r#"{"type":"ping","id":"7"}"#), "7");
    }

    #[test]
    fn bad_envelopes_are_told_apart() {
        let long = format!(r#"{{"type":"ping","id":"{}"}}"#, "x".repeat(MAX_ID + 1));
        let deep = format!("{}{}", "[".repeat(MAX_DEPTH + 1), "]".repeat(MAX_DEPTH + 1));
        for (text, code) in [
            ("", Code::InvalidJson),
            ("[]", Code::InvalidJson),
            ("{", Code::InvalidJson),
            (deep.as_str(), Code::InvalidJson),
            ("{}", Code::InvalidMessage),
            (r#"{"type":1}"#, Code::InvalidMessage),
            (r#"{"type":"ping","id":[]}"#, Code::InvalidMessage),
            (long.as_str(), Code::InvalidMessage),
            (r#"{"type":"ping","data":[]}"#, Code::InvalidMessage),
            (r#"{"type":"pong"}"#, Code::UnknownType),
            (r#"{"type":"command","data":{"action":"dance","process":"a"}}"#, Code::UnknownAction),
            (r#"{"type":"command","data":{"action":"stop"}}"#, Code::InvalidArgument),
            (r#"{"type":"subscribe"}"#, Code::InvalidArgument),
            (r#"{"type":"get_info","data":{"processes":[1,2,3,4,5]}}"#, Code::InvalidArgument),
            (r#"{"type":"ping","data":1e999}"#, Code::InvalidJson),
        ] {
            assert_eq!(ask_of(text), Err(code), "{text}");
        }
    }

    #[test]
    fn a_command_names_its_targets_by_name_id_or_list() {
        for (text, targets) in [
            (r#"{"action":"stop","process":"web"}"#, vec![Target::Name("web".into())]),
            (r#"{"action":"stop","process":3}"#, vec![Target::Id(ProcId(3))]),
            (r#"{"action":"stop","process":"all"}"#, vec![Target::All]),
            (
                r#"{"action":"stop","processes":["api:1",2]}"#,
                vec![Target::Instance("api".into(), 1), Target::Id(ProcId(2))],
            ),
        ] {
            let message = format!(r#"{{"type":"command","data":{text}}}"#);
            match ask_of(&message) {
                Ok(Ask::Command(command)) => assert_eq!(command.targets, targets, "{text}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn an_interval_is_brought_into_its_range_and_must_be_a_number() {
        let interval = |text: &str| {
            let message = format!(
                r#"{{"type":"subscribe","data":{{"events":["system_metrics"],"interval":{text}}}}}"#
            );
            let Ask::Subscribe { interval, .. } = ask_of(&message)? else { panic!("{message}") };
            Ok(interval.map_or(0, |interval| interval.as_millis()))
        };
        for (text, effective) in [
            ("null", 0),
            ("10", 250),
            ("0.5", 250),
            ("333", 333),
            ("2000.5", 2000),
            ("3600001", 3_600_000),
            ("1e300", 3_600_000),
        ] {
            assert_eq!(interval(text), Ok(effective), "{text}");
        }
        for text in ["0", "-5", "\"500\"", "true", "[500]"] {
            assert_eq!(interval(text), Err(Code::InvalidArgument), "{text}");
        }
    }

    #[test]
    fn a_restart_may_name_ports_in_every_form() {
        let first = Ports::One(3000);
        let range = Ports::Range { first: 3000, last: 3003 };
        for (text, ports) in [
            (r#""port":3000"#, Ok(Some(first))),
            (r#""port":"3000-3003""#, Ok(Some(range))),
            (r#""port_range":[3000,3003]"#, Ok(Some(range))),
            (r#""port":null"#, Ok(None)),
            (r#""port":0"#, Err(Code::InvalidArgument)),
            (r#""port":[1]"#, Err(Code::InvalidArgument)),
            (r#""port_range":[3003,3000]"#, Err(Code::InvalidArgument)),
            (r#""port_range":3000"#, Err(Code::InvalidArgument)),
        ] {
            let text = format!(
                r#"{{"type":"command","data":{{"action":"restart","process":"a",{text}}}}}"#
            );
            let found = ask_of(&text).map(|ask| {
                let Ask::Command(command) = ask else { panic!("{ask:?}") };
                let Verb::Restart { change, .. } = command.verb else { panic!("{text}") };
                change.port
            });
            assert_eq!(found, ports, "{text}");
        }
    }

    #[test]
    fn altered_bytes_never_panic() {
        let text = br#"{"type":"command","data":{"action":"start","configs":[{"name":"a","script":"b"}],"wait":"stable","timeout":5},"id":1}"#;
        for at in 0..text.len() {
            for byte in [0, b'"', b'{', b'}', b'[', b'\\', 0xff] {
                let mut altered = text.to_vec();
                altered[at] = byte;
                let _ = parse(&altered, LIMITS);
            }
            let _ = parse(&text[..at], LIMITS);
        }
    }
}
