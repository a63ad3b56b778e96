//! The methods of PM2's RPC: their names, their arguments, and the errors for arguments that do not
//! fit.
//!
//! Those of pm2 7.0.4, and the ones that older versions had and the documentation of pm2-interface
//! still names. Texts of errors are PM2's own, to the letter: scripts look for them.

use serde_json::{Map, Value};

use crate::base::ProcId;
use crate::proto::pm2::object::{is_truthy, text};

/// A method that can be called.
pub struct Method {
    pub name: &'static str,
    /// Names of its arguments, for people.
    pub params: &'static str,
    /// Reads the arguments.
    pub(super) read: fn(&mut [Value]) -> Result<Call, String>,
}

impl Method {
    /// The call with these arguments.
    ///
    /// # Errors
    ///
    /// What is wrong with them, in PM2's words.
    pub fn call(&self, arguments: &mut [Value]) -> Result<Call, String> {
        (self.read)(arguments)
    }
}

impl std::fmt::Debug for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Method").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A process as a client names it by its id: a number, or the digits of one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Id {
    pub id: Option<ProcId>,
    /// As JavaScript shows it, for messages.
    pub text: String,
}

impl Id {
    /// As a client gave it.
    #[must_use]
    pub fn of(value: &Value) -> Self {
        Self::read(Some(value))
    }

    fn read(value: Option<&Value>) -> Self {
        let Some(value) = value else { return Self { id: None, text: "undefined".to_owned() } };
        let text = text(value);
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
        let id = if is_plain { text.parse().ok().map(ProcId) } else { None };
        Self { id, text }
    }
}

/// Processes as a client names them by something else.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Named {
    Id(Id),
    Name(String),
}

/// What a client asks for.
#[derive(Clone, Debug)]
pub enum Call {
    Ping,
    GetVersion,
    GetMonitorData,
    GetSystemData,
    GetReport,
    /// The record of a process that is to be made; its `env` is an object.
    Prepare(Map<String, Value>),
    /// An app as in a file, and where its paths begin.
    PrepareJson(Map<String, Value>, Option<String>),
    Start(Id),
    Stop(Id),
    /// What changes is in `env` and in its member `current_conf`.
    Restart(Id, Map<String, Value>),
    Reload(Id, Map<String, Value>),
    /// With the message `shutdown` to the old one.
    SoftReload(Id, Map<String, Value>),
    Delete(Id),
    Duplicate(Id),
    ResetCounters(Id),
    /// An event for the bus.
    Notify {
        id: Id,
        action: String,
        manually: bool,
    },
    /// Nothing is restarted any more.
    NotifyKill,
    /// `pid`: of the client, which wants to be told by a signal.
    Kill {
        pid: Option<i64>,
    },
    /// `None`: of all processes.
    StopWatch(Option<Named>),
    StartWatch(Named),
    ToggleWatch(Named),
    SignalId(Id, Value),
    SignalName(String, Value),
    ReloadLogs,
    SendLine(Id, String, Value),
    /// The whole packet goes to the process.
    SendData(Id, Value),
    Message(Message),
    Monitor(Id, bool),
    /// A profile of the daemon itself, which is no JavaScript.
    Profile,
    RestartName(String),
    StopName(String),
    StopAll,
    ReloadAll,
    DeleteName(Named),
    DeleteAll,
    /// Apps whose script has this base name.
    FindByScript(String),
    /// How the agent is, its secret included.
    AgentInfos,
    AgentEnd,
}

/// What `msgProcess` is to tell whom.
#[derive(Clone, Debug)]
pub struct Message {
    pub to: Named,
    /// The whole command, as it came.
    pub command: Value,
}

/// All methods.
pub const METHODS: &[Method] = &[
    method("killMe", "env cb", |given| {
        let pid = given.first().and_then(|given| given.get("pid"));
        Ok(Call::Kill { pid: pid.and_then(Value::as_i64) })
    }),
    method("profileCPU", "opts cb", |_| Ok(Call::Profile)),
    method("profileMEM", "opts cb", |_| Ok(Call::Profile)),
    method("prepare", "env cb", prepare),
    method("getMonitorData", "env cb", |_| Ok(Call::GetMonitorData)),
    method("getSystemData", "env cb", |_| Ok(Call::GetSystemData)),
    method("startProcessId", "id cb", |given| Ok(Call::Start(Id::read(given.first())))),
    method("stopProcessId", "id cb", |given| Ok(Call::Stop(id_or_member(given)))),
    method("restartProcessId", "opts cb", restart),
    method("deleteProcessId", "id cb", |given| Ok(Call::Delete(id_or_member(given)))),
    method("sendLineToStdin", "packet cb", send_line),
    method("softReloadProcessId", "opts cb", |given| {
        Ok(Call::SoftReload(id_or_member(given), change(given)))
    }),
    method("reloadProcessId", "opts cb", |given| {
        Ok(Call::Reload(id_or_member(given), change(given)))
    }),
    method("duplicateProcessId", "id cb", |given| Ok(Call::Duplicate(id_or_member(given)))),
    method("resetMetaProcessId", "id cb", |given| Ok(Call::ResetCounters(id_or_member(given)))),
    method("stopWatch", "method value fn", stop_watch),
    method("startWatch", "method value fn", |given| watched(given).map(Call::StartWatch)),
    method("toggleWatch", "method value fn", |given| watched(given).map(Call::ToggleWatch)),
    method("notifyByProcessId", "opts cb", notify),
    method("notifyKillPM2", "", |_| Ok(Call::NotifyKill)),
    method("monitor", "pm_id cb", |given| Ok(Call::Monitor(Id::read(given.first()), true))),
    method("unmonitor", "pm_id cb", |given| Ok(Call::Monitor(Id::read(given.first()), false))),
    method("msgProcess", "cmd cb", message),
    method("sendDataToProcessId", "packet cb", send_data),
    method("sendSignalToProcessId", "opts cb", |given| {
        let opts = options(given)?;
        Ok(Call::SignalId(Id::read(opts.get("process_id")), member(opts, "signal")))
    }),
    method("sendSignalToProcessName", "opts cb", |given| {
        let opts = options(given)?;
        Ok(Call::SignalName(text(&member(opts, "process_name")), member(opts, "signal")))
    }),
    method("ping", "env cb", |_| Ok(Call::Ping)),
    method("getVersion", "env cb", |_| Ok(Call::GetVersion)),
    method("getReport", "arg cb", |_| Ok(Call::GetReport)),
    method("reloadLogs", "opts cb", |_| Ok(Call::ReloadLogs)),
    // Gone from PM2 since.
    method("prepareJson", "app cwd cb", prepare_json),
    method("restartProcessName", "name cb", |given| Ok(Call::RestartName(first_text(given)))),
    method("stopProcessName", "name cb", |given| Ok(Call::StopName(first_text(given)))),
    method("stopAll", "env cb", |_| Ok(Call::StopAll)),
    method("reload", "env cb", |_| Ok(Call::ReloadAll)),
    method("findByScript", "script cb", |given| Ok(Call::FindByScript(first_text(given)))),
    method("deleteProcess", "name cb", |given| Ok(Call::DeleteName(id_or_name(given.first())))),
    method("deleteProcessName", "name cb", |given| {
        Ok(Call::DeleteName(Named::Name(first_text(given))))
    }),
    method("deleteAll", "env cb", |_| Ok(Call::DeleteAll)),
];

/// The methods of PM2's agent.
pub const AGENT_METHODS: &[Method] = &[
    method("kill", "cb", |_| Ok(Call::AgentEnd)),
    method("getInfos", "cb", |_| Ok(Call::AgentInfos)),
];

const fn method(
    name: &'static str,
    params: &'static str,
    read: fn(&mut [Value]) -> Result<Call, String>,
) -> Method {
    Method { name, params, read }
}

fn prepare(given: &mut [Value]) -> Result<Call, String> {
    let mut record = take_options(given)?;
    // PM2 itself does not survive a record without.
    record.entry("env").or_insert_with(|| Map::new().into());
    match record.get("env") {
        Some(Value::Object(_)) => Ok(Call::Prepare(record)),
        Some(_) | None => Err("env must be an object".to_owned()),
    }
}

fn prepare_json(given: &mut [Value]) -> Result<Call, String> {
    let cwd = given.get(1).and_then(Value::as_str).map(str::to_owned);
    Ok(Call::PrepareJson(take_options(given)?, cwd))
}

fn restart(given: &mut [Value]) -> Result<Call, String> {
    match given.first() {
        // As PM2 had it up to 0.8: the id alone.
        Some(id @ (Value::Number(_) | Value::String(_))) => {
            Ok(Call::Restart(Id::read(Some(id)), Map::new()))
        }
        Some(Value::Object(opts)) if opts.contains_key("id") => {
            Ok(Call::Restart(Id::read(opts.get("id")), change(given)))
        }
        Some(_) | None => Err("opts.id not passed to restartProcessId".to_owned()),
    }
}

/// `env` of a restart or reload.
fn change(given: &[Value]) -> Map<String, Value> {
    let env = given.first().and_then(|opts| opts.get("env")).and_then(Value::as_object);
    env.cloned().unwrap_or_default()
}

fn notify(given: &mut [Value]) -> Result<Call, String> {
    let opts = options(given)?;
    let Some(id) = opts.get("id") else { return Err("process id missing".to_owned()) };
    Ok(Call::Notify {
        id: Id::read(Some(id)),
        action: text(opts.get("action_name").unwrap_or(&Value::Null)),
        manually: opts.get("manually").is_some_and(is_truthy),
    })
}

fn stop_watch(given: &mut [Value]) -> Result<Call, String> {
    let method = given.first().and_then(Value::as_str).unwrap_or_default();
    Ok(Call::StopWatch(match method {
        "stopAll" | "deleteAll" => None,
        _ if method.contains("ProcessName") => {
            Some(Named::Name(given.get(1).map(text).unwrap_or_default()))
        }
        _ => Some(Named::Id(Id::read(given.get(1)))),
    }))
}

fn watched(given: &[Value]) -> Result<Named, String> {
    let value = given.get(1);
    Ok(match given.first().and_then(Value::as_str) {
        Some("restartProcessName") => Named::Name(value.map(text).unwrap_or_default()),
        Some(_) | None => Named::Id(Id::read(value.and_then(|value| value.get("id")))),
    })
}

fn send_line(given: &mut [Value]) -> Result<Call, String> {
    let opts = options(given)?;
    let line = opts.get("line").filter(|line| is_truthy(line));
    let (Some(id), Some(line)) = (opts.get("pm_id"), line) else {
        return Err("pm_id or line field missing".to_owned());
    };
    Ok(Call::SendLine(Id::read(Some(id)), text(line), id.clone()))
}

fn send_data(given: &mut [Value]) -> Result<Call, String> {
    let packet = take_options(given)?;
    let has_topic = packet.get("topic").is_some_and(is_truthy);
    match packet.get("id") {
        Some(id) if has_topic && packet.contains_key("data") => {
            Ok(Call::SendData(Id::read(Some(id)), Value::Object(packet)))
        }
        Some(_) | None => Err("ID, DATA or TOPIC field is missing".to_owned()),
    }
}

fn message(given: &mut [Value]) -> Result<Call, String> {
    let command = take_options(given)?;
    let to = match (command.get("id"), command.get("name")) {
        (Some(id), _) => Named::Id(Id::read(Some(id))),
        (None, Some(name)) => Named::Name(text(name)),
        (None, None) => return Err("method requires name or id field".to_owned()),
    };
    Ok(Call::Message(Message { to, command: Value::Object(command) }))
}

fn take_options(given: &mut [Value]) -> Result<Map<String, Value>, String> {
    options(given)?;
    match given.first_mut().map(Value::take) {
        Some(Value::Object(options)) => Ok(options),
        Some(_) | None => Ok(Map::new()),
    }
}

fn options(given: &[Value]) -> Result<&Map<String, Value>, String> {
    match given.first() {
        Some(Value::Object(options)) => Ok(options),
        Some(_) | None => Err("the first argument must be an object".to_owned()),
    }
}

fn member(opts: &Map<String, Value>, name: &str) -> Value {
    opts.get(name).cloned().unwrap_or_default()
}

/// The first argument, or its member `id`.
fn id_or_member(given: &[Value]) -> Id {
    match given.first() {
        Some(Value::Object(opts)) => Id::read(opts.get("id")),
        other => Id::read(other),
    }
}

fn id_or_name(value: Option<&Value>) -> Named {
    let id = Id::read(value);
    if id.id.is_some() { Named::Id(id) } else { Named::Name(id.text) }
}

fn first_text(given: &[Value]) -> String {
    given.first().map(text).unwrap_or_default()
}
