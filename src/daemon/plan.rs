//! What a child gets, worked out from its spec: environment, arguments, limits, log plan.
//!
//! Pure but for filling the vectors it is given.

use std::path::Path;

use crate::base::{ChildId, ProcId, Stream};
use crate::config::settings::Settings;
use crate::daemon::entries::Entry;
use crate::daemon::launch::put;
use crate::daemon::places::Places;
use crate::logs::{DatePattern, StreamPlan};
use crate::supervisor::spec::{Address, AppSpec, Environment, LogTarget};
use crate::sys::args::{CArgs, NulError};
use crate::sys::limits::Resource;
use crate::sys::users::Account;

/// Variables that pmd itself sets, whatever the app asked for.
#[derive(Debug)]
pub struct Injected<'a> {
    pub process: ProcId,
    pub instance: u32,
    pub cookie: u64,
    /// `PORT`, where it has been given one.
    pub port: Option<u16>,
    pub notify_socket: Option<&'a str>,
    /// The user it runs as, where that is not the daemon's.
    pub account: Option<&'a Account>,
    /// What else stands above the app's own: PM2's variables.
    pub more: &'a [(String, String)],
}

/// Names that are always injected.
const OWN: [&str; 8] =
    ["PMD", "PMD_COOKIE", "PMD_ID", "PMD_INSTANCE", "PMD_NAME", "PM2_INSTANCE_ID", "name", "pm_id"];

/// What names a channel: of another program's nobody is told, whoever set them.
const CHANNEL: [&str; 4] =
    ["NODE_CHANNEL_FD", "NODE_CHANNEL_SERIALIZATION_MODE", "NODE_UNIQUE_ID", "PMD_CHANNEL_FD"];

/// Never passed on from where the daemon was started.
const NEVER: [&str; 6] = [
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// How the variable begins that carries the cookie.
pub const COOKIE_VARIABLE: &str = "PMD_COOKIE=";

/// The variable that carries the cookie, as it stands in the child's environment.
#[must_use]
pub fn cookie_variable(cookie: u64) -> String {
    format!("{COOKIE_VARIABLE}{cookie:016x}")
}

/// Fills `env`: what was inherited, then the environment files, then the app's own variables, then
/// pmd's; later wins, each name once.
///
/// # Errors
///
/// A value with a NUL byte.
pub fn environment(
    spec: &AppSpec,
    files: &[Environment],
    injected: &Injected<'_>,
    env: &mut CArgs,
    text: &mut String,
) -> Result<(), NulError> {
    env.clear();
    let account = injected.account.map(Account::variables);
    let is_own = |name: &str| {
        OWN.contains(&name)
            || CHANNEL.contains(&name)
            || injected.more.iter().any(|(more, _)| more == name)
            || name == spec.instance_var
            || (!spec.listen.is_empty() && name.starts_with("LISTEN_"))
            || (injected.notify_socket.is_some() && name == "NOTIFY_SOCKET")
            || (injected.port.is_some() && name == "PORT")
    };
    let in_files =
        |name: &str, from: usize| files.iter().skip(from).any(|file| file.get(name).is_some());
    let is_account = |name: &str| account.iter().flatten().any(|(own, _)| *own == name);
    for (name, value) in spec.inherited.iter() {
        let later = NEVER.contains(&name)
            || is_own(name)
            || is_account(name)
            || spec.env.get(name).is_some()
            || in_files(name, 0);
        if !later {
            push(env, name, value)?;
        }
    }
    for (name, value) in account.iter().flatten() {
        if !is_own(name) && spec.env.get(name).is_none() && !in_files(name, 0) {
            push(env, name, value)?;
        }
    }
    for (at, file) in files.iter().enumerate() {
        for (name, value) in file.iter() {
            if !is_own(name) && spec.env.get(name).is_none() && !in_files(name, at + 1) {
                push(env, name, value)?;
            }
        }
    }
    let increment = spec.increment_var.as_deref();
    for (name, value) in spec.env.iter() {
        if is_own(name) {
            continue;
        }
        match value.parse::<i64>() {
            Ok(first) if Some(name) == increment => {
                let number = first.saturating_add(injected.instance.into());
                push(env, name, put(text, number))?;
            }
            Ok(_) | Err(_) => push(env, name, value)?,
        }
    }
    push(env, "PMD", "1")?;
    push(env, "PMD_NAME", &spec.name)?;
    push(env, "name", &spec.name)?;
    put(text, injected.process);
    push(env, "PMD_ID", text)?;
    push(env, "pm_id", text)?;
    put(text, injected.instance);
    push(env, "PMD_INSTANCE", text)?;
    push(env, "PM2_INSTANCE_ID", text)?;
    push(env, &spec.instance_var, text)?;
    push(env, "PMD_COOKIE", put(text, format_args!("{:016x}", injected.cookie)))?;
    if let Some(port) = injected.port {
        push(env, "PORT", put(text, port))?;
    }
    if let Some(path) = injected.notify_socket {
        push(env, "NOTIFY_SOCKET", path)?;
    }
    if !spec.listen.is_empty() {
        let names: Vec<String> = spec.listen.iter().map(Address::label).collect();
        push(env, "LISTEN_FDS", put(text, names.len()))?;
        push(env, "LISTEN_FDNAMES", &names.join(":"))?;
    }
    for (name, value) in injected.more {
        push(env, name, value)?;
    }
    Ok(())
}

/// Adds what tells a child of its channel, the descriptor `number`. `node`: Node's own variables
/// say it, too. `worker`: it is one of a cluster.
///
/// # Errors
///
/// None.
pub fn channel(
    number: i32,
    node: bool,
    worker: Option<ChildId>,
    env: &mut CArgs,
    text: &mut String,
) -> Result<(), NulError> {
    push(env, "PMD_CHANNEL_FD", put(text, number))?;
    if node {
        push(env, "NODE_CHANNEL_FD", put(text, number))?;
        push(env, "NODE_CHANNEL_SERIALIZATION_MODE", "json")?;
        if let Some(worker) = worker {
            // Node takes it for a number of 31 bits that is not 0.
            push(env, "NODE_UNIQUE_ID", put(text, worker.0 % 0x7fff_ffff + 1))?;
        }
    }
    Ok(())
}

fn push(env: &mut CArgs, name: &str, value: &str) -> Result<(), NulError> {
    env.push_pair(name.as_bytes(), value.as_bytes())
}

/// Fills `args`: interpreter with its arguments, script, arguments. `preload`: what Node loads
/// first.
///
/// # Errors
///
/// An argument with a NUL byte.
pub fn arguments(
    spec: &AppSpec,
    program: &Path,
    preload: Option<&Path>,
    args: &mut CArgs,
) -> Result<(), NulError> {
    args.clear();
    match &spec.interpreter {
        Some(interpreter) => {
            args.push(interpreter.as_bytes())?;
            if let Some(preload) = preload {
                args.push(b"--require")?;
                args.push(preload.as_os_str().as_encoded_bytes())?;
            }
            for argument in spec.interpreter_args.iter() {
                args.push(argument.as_bytes())?;
            }
            args.push(spec.script.as_bytes())?;
        }
        None if spec.script.contains('/') => args.push(spec.script.as_bytes())?,
        None => args.push(program.as_os_str().as_encoded_bytes())?,
    }
    for argument in spec.args.iter() {
        args.push(argument.as_bytes())?;
    }
    Ok(())
}

/// Fills `args` with words as they are.
///
/// # Errors
///
/// A word with a NUL byte.
pub fn words(words: &[String], args: &mut CArgs) -> Result<(), NulError> {
    args.clear();
    words.iter().try_for_each(|word| args.push(word.as_bytes()))
}

/// Limits of the child; `nofile`: what the daemon was started with, before it raised its own.
#[must_use]
pub fn rlimits(spec: &AppSpec, nofile: Option<u64>) -> Vec<(Resource, u64)> {
    let limits = &spec.limits;
    [
        (Resource::OpenFiles, limits.nofile.or(nofile)),
        (Resource::Processes, limits.nproc),
        (Resource::Core, limits.core),
        (Resource::AddressSpace, limits.address_space),
    ]
    .into_iter()
    .filter_map(|(resource, value)| Some((resource, value?)))
    .collect()
}

/// Bytes of a stream that are kept in memory, at least; at most twice as many.
const IN_MEMORY: u64 = 32 * 1024;

/// What becomes of one stream.
#[must_use]
pub fn stream(entry: &Entry, stream: Stream, places: &Places, settings: &Settings) -> StreamPlan {
    let logs = &entry.spec.logs;
    let files = entry.files(places);
    let [out, error] = files.logs;
    let in_memory = logs.out == LogTarget::Memory;
    let max_size = logs.max_size.unwrap_or(settings.log.max_size);
    StreamPlan {
        app: entry.subject.name.clone(),
        target: if stream == Stream::Out { out } else { error },
        both: files.both,
        shared: files.shared,
        format: logs.format,
        date: logs.date.as_deref().map(|pattern| DatePattern::compile(pattern).0),
        max_size: if in_memory { IN_MEMORY } else { max_size },
        keep: if in_memory { 1 } else { logs.keep.unwrap_or(settings.log.keep) },
        full: logs.full.unwrap_or(settings.log.full),
    }
}
