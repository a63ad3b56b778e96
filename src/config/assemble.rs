//! One app's fields to a valid [`AppSpec`]: what to run, with which environment, how many, and
//! when it runs again. Output and files are in `assemble_logs`.
//!
//! Looks at files to tell a script from a command; reads env files only where `${NAME}` needs
//! them. Every default of an app is in here.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::Value;

use crate::base::Signal;
use crate::config::environment;
use crate::config::fields::{self, Entry, Fields};
use crate::config::names;
use crate::config::problem::{Problem, shorten};
use crate::config::resolve::Dialect;
use crate::config::{
    assemble_env, assemble_logs, assemble_serving, assemble_sharing, assemble_times, files,
    program, words,
};

use crate::sorted::{SortedMap, sort};
use crate::supervisor::spec::{
    AppSpec, Condition, Dependency, Environment, ExecMode, IPC_LIMIT, Intercom, Ipc, Limits,
    MAX_INSTANCES, OnDaemonLoss, Restart, Stdin, Terms,
};

/// Exits that are final: a list longer than this names codes twice.
const MAX_EXIT_CODES: usize = 256;

/// Bytes that a line of a channel, or what waits for a child, may be at most, whatever is asked.
const MAX_IPC: u64 = 64 * 1024 * 1024;

const IPC: [(&str, Ipc); 4] =
    [("auto", Ipc::Auto), ("node", Ipc::Node), ("fd", Ipc::Fd), ("off", Ipc::Off)];

const INTERCOM: [(&str, Intercom); 3] =
    [("auto", Intercom::Auto), ("eager", Intercom::Eager), ("off", Intercom::Off)];

/// Bytes of what stands between the segments of an event's name.
const MAX_DELIMITER: usize = 16;

/// Dependencies of one app.
const MAX_DEPENDENCIES: usize = 256;

/// Environments that several apps of one document share.
#[derive(Default)]
pub(super) struct Shared {
    pub base: Option<Rc<Environment>>,
    pub filtered: Vec<(Vec<String>, Rc<Environment>)>,
}

/// Where an app's relative paths begin, and what stands for its `~`.
pub(super) struct Ground {
    pub cwd: PathBuf,
    pub home: Option<String>,
}

impl Ground {
    pub fn absolute(&self, path: &str) -> PathBuf {
        files::absolute(&self.cwd, self.home.as_deref(), path)
    }
}

/// The spec that the fields declare; `None` if something is wrong, which is then in the report.
pub(super) fn assemble(fields: &mut Fields<'_, '_>, shared: &mut Shared) -> Option<AppSpec> {
    let origin = fields.report.origin;
    let (inherited, inherit_env) = assemble_env::inherited(fields, shared);
    let ground = ground(fields, &inherited);
    let env_file = paths(fields, &ground);
    let mut variables = assemble_env::Variables::new(fields, &inherited, &env_file);
    let mut env = assemble_env::env(fields, &mut variables);
    let args = assemble_env::args(fields, &mut variables);
    let path = env.get("PATH").or_else(|| inherited.get("PATH"));
    let path = path.unwrap_or(program::DEFAULT_PATH);
    // Where it is wrong, the other fields are checked all the same.
    let program = program(fields, &ground, path, args).unwrap_or_default();
    let on_event = assemble_serving::command(fields, "on_event", &ground, path).unwrap_or_default();
    if program.is_python() && env.get("PYTHONUNBUFFERED").is_none() {
        // Otherwise what it prints stays in a buffer of 8 KiB and nobody sees it.
        if inherited.get("PYTHONUNBUFFERED").is_none() {
            env.set("PYTHONUNBUFFERED", "1");
        }
    }
    let name = name(fields, &program.default_name);
    let namespace = namespace(fields);
    let counted = fields.peek("instances").is_some();
    let instances = instances(fields);
    let ipc = fields.choice("ipc", &IPC).unwrap_or_default();
    let interpreter = program.interpreter.as_deref();
    let exec_mode = assemble_sharing::exec_mode(fields, counted, interpreter, ipc);
    let notification_fd =
        fields.number("notification_fd", 3, 1023).and_then(|fd| u32::try_from(fd).ok());
    let about = assemble_serving::About {
        ground: &ground,
        instances,
        shares: exec_mode == ExecMode::Cluster,
        inherited: &inherited,
        has_env_files: !env_file.is_empty(),
    };
    let serving = assemble_serving::serving(fields, &mut env, &about);
    let times = assemble_times::times(fields);
    let watching = assemble_times::watching(fields, &ground);
    let max_runs = count(fields, "max_runs").filter(|_| fields.flag("forever") != Some(true));
    let spin_sleep = fields.duration("spin_sleep");
    // As intercom has it, whose order of decision then holds.
    let min_uptime = match (max_runs, spin_sleep) {
        (None, None) => DEFAULTS.min_uptime,
        _ => std::time::Duration::ZERO,
    };
    let terms = Terms {
        namespace,
        interpreter: program.interpreter,
        interpreter_args: program.interpreter_args.iter().collect(),
        pmx: fields.flag("pmx").unwrap_or(true),
        logs: assemble_logs::logs(fields, &ground),
        pid_file: fields.word("pid_file").map(|path| ground.absolute(&path)),
        env_file,
        inherit_env,
        secret_env: fields.list("secret_env").unwrap_or_default(),
        user: account(fields, "user"),
        group: account(fields, "group"),
        umask: umask(fields),
        nice: small(fields, "nice", -20, 19),
        oom_score_adj: small(fields, "oom_score_adj", -1000, 1000),
        limits: limits(fields),
        stdin: stdin(fields),
        instances,
        exec_mode,
        cluster_policy: assemble_sharing::cluster_policy(fields),
        listen: assemble_sharing::listen(fields, &ground, notification_fd),
        instance_var: variable(fields, "instance_var")
            .unwrap_or_else(|| DEFAULTS.instance_var.to_owned()),
        increment_var: variable(fields, "increment_var"),
        autostart: fields.flag("autostart").unwrap_or(true),
        restart: times.restart,
        stop_exit_codes: exit_codes(fields),
        cron_restart: times.cron_restart,
        schedule: times.schedule,
        timeout: times.timeout,
        overlap: times.overlap,
        watch: watching.watch,
        ignore_watch: watching.ignored,
        watch_delay: watching.delay,
        on_event,
        max_restarts: count(fields, "max_restarts").unwrap_or(DEFAULTS.max_restarts),
        max_runs,
        spin_sleep,
        min_uptime: fields.duration("min_uptime").unwrap_or(min_uptime),
        restart_delay: fields.duration("restart_delay").unwrap_or_default(),
        exp_backoff_restart_delay: fields
            .duration("exp_backoff_restart_delay")
            .unwrap_or(DEFAULTS.exp_backoff_restart_delay),
        backoff_always: false,
        unstable_window: false,
        // PM2's way to say "no limit" is 0.
        max_memory_restart: fields.bytes("max_memory_restart").filter(|&most| most > 0),
        kill_signal: signal(fields).unwrap_or(DEFAULTS.kill_signal),
        kill_timeout: fields.duration("kill_timeout").unwrap_or(DEFAULTS.kill_timeout),
        treekill: fields.flag("treekill").unwrap_or(true),
        on_daemon_loss: fields
            .choice("on_daemon_loss", &[("keep", OnDaemonLoss::Keep), ("kill", OnDaemonLoss::Kill)])
            .unwrap_or_default(),
        shutdown_with_message: fields.flag("shutdown_with_message").unwrap_or(false),
        ipc,
        ipc_raw: fields.flag("ipc_raw").unwrap_or(false),
        ipc_delimiter: delimiter(fields),
        ipc_wildcard: fields.flag("ipc_wildcard").unwrap_or(true),
        intercom: fields.choice("intercom", &INTERCOM).unwrap_or_default(),
        ipc_max_line: ipc_limit(fields, "ipc_max_line"),
        ipc_max_queue: ipc_limit(fields, "ipc_max_queue"),
        wait_ready: fields.flag("wait_ready").unwrap_or(false),
        notify: fields.flag("notify").unwrap_or(false),
        notification_fd,
        listen_timeout: fields.duration("listen_timeout").unwrap_or(DEFAULTS.listen_timeout),
        serving,
        depends_on: depends_on(fields),
        essential: fields.flag("essential").unwrap_or(true),
    };
    let spec = AppSpec {
        name: name.into(),
        script: program.script.into(),
        args: program.args.iter().collect(),
        cwd: ground.cwd.into(),
        inherited,
        env,
        source: origin.source.map(Rc::from),
        pm2: None,
        terms: Rc::new(terms),
    };
    (!fields.failed()).then_some(spec)
}

/// The defaults that are neither empty nor a matter of course; `definition` leaves them out.
pub(super) const DEFAULTS: Defaulted = Defaulted {
    namespace: "default",
    instance_var: "NODE_APP_INSTANCE",
    max_restarts: 16,
    min_uptime: std::time::Duration::from_secs(1),
    watch_delay: std::time::Duration::from_millis(200),
    exp_backoff_restart_delay: std::time::Duration::from_millis(100),
    kill_signal: Signal::INT,
    kill_timeout: std::time::Duration::from_millis(1600),
    listen_timeout: std::time::Duration::from_secs(3),
};

/// See [`DEFAULTS`].
pub(super) struct Defaulted {
    pub namespace: &'static str,
    pub instance_var: &'static str,
    pub max_restarts: u32,
    pub min_uptime: std::time::Duration,
    pub watch_delay: std::time::Duration,
    pub exp_backoff_restart_delay: std::time::Duration,
    pub kill_signal: Signal,
    pub kill_timeout: std::time::Duration,
    pub listen_timeout: std::time::Duration,
}

/// The working directory; the variables of pmd files in it are those that are inherited.
fn ground(fields: &mut Fields<'_, '_>, inherited: &Environment) -> Ground {
    let origin = fields.report.origin;
    let home = origin.environment.get("HOME").map(str::to_owned);
    let entry = fields.peek("cwd").cloned();
    let mut given = fields.word("cwd");
    if let (Some(entry), Some(text), Dialect::Pmd) = (&entry, &given, origin.dialect) {
        match environment::expand(text, |name| inherited.get(name).map(str::to_owned)) {
            Ok(expanded) => given = Some(expanded),
            Err(name) => fields.error(entry, assemble_env::not_set(entry, &name)),
        }
    }
    let cwd = match &given {
        Some(text) => files::absolute(origin.dir, home.as_deref(), text),
        None => origin.dir.to_path_buf(),
    };
    let shown = shorten(&cwd.to_string_lossy());
    if cwd.to_str().is_none() {
        fields.app_error(Problem::new(format!("working directory '{shown}' is not UTF-8")));
    } else if !cwd.is_absolute() {
        fields.app_error(Problem::new(format!("'cwd' must be an absolute path, not \"{shown}\"")));
    }
    Ground { cwd, home }
}

fn paths(fields: &mut Fields<'_, '_>, ground: &Ground) -> Vec<PathBuf> {
    // A single path is one path, whatever blanks are in it.
    let list = match fields.peek("env_file").map(|entry| entry.value.is_string()) {
        Some(true) => fields.word("env_file").map(|path| vec![path]),
        Some(false) | None => fields.list("env_file"),
    };
    list.unwrap_or_default().iter().map(|path| ground.absolute(path)).collect()
}

/// What is executed.
#[derive(Default)]
struct Program {
    script: String,
    args: Vec<String>,
    interpreter: Option<String>,
    interpreter_args: Vec<String>,
    default_name: String,
}

impl Program {
    fn is_python(&self) -> bool {
        let by_name = self.interpreter.as_deref().is_some_and(|interpreter| {
            base_name(interpreter).is_some_and(|name| name.starts_with("python"))
        });
        by_name || self.script.ends_with(".py")
    }
}

fn program(
    fields: &mut Fields<'_, '_>,
    ground: &Ground,
    path: &str,
    args: Vec<String>,
) -> Option<Program> {
    let interpreter = fields.word("interpreter");
    let mut interpreter_args = fields.list("interpreter_args").unwrap_or_default();
    if fields.flag("intercom_preload") == Some(true) {
        interpreter_args.splice(0..0, ["-r", "intercom"].map(str::to_owned));
    }
    let source_dir = fields.word("source_dir");
    if fields.peek("script").is_none() {
        fields.app_error(Problem::new("'script' is missing"));
        return None;
    }
    let mut script = fields.word("script")?;
    if let Some(dir) = source_dir {
        script = format!("{}/{}", dir.trim_end_matches('/'), script.trim_start_matches('/'));
    }
    let file = ground.absolute(&script);
    let in_path = program::find_in_path(&script, path, &ground.cwd);
    let is_line = !file.is_file()
        && in_path.is_none()
        && interpreter.is_none()
        && names::is_command_line(&script);
    let default_name = names::default_name(&script, is_line);
    if is_line {
        return Some(Program {
            script: words::SHELL.to_owned(),
            args: words::shell_args(&script, &default_name, &args),
            interpreter: None,
            interpreter_args,
            default_name,
        });
    }
    let is_command = !file.is_file() && in_path.is_some();
    let looks_like_file = script.contains('/')
        || script == "~"
        || file.is_dir()
        || program::interpreters(&file).is_some();
    let (script, guessed) = match (&interpreter, in_path) {
        // An interpreter wants a file, not a command.
        (Some(word), Some(command)) if is_command && word != "none" => {
            (utf8(fields, command)?, None)
        }
        _ if is_command || (interpreter.is_none() && !file.exists() && !looks_like_file) => {
            (script, None)
        }
        _ => {
            let by_extension = !interpreter_args.is_empty();
            let guessed = program::interpreter_for(&file, path, by_extension).map(str::to_owned);
            (utf8(fields, file)?, guessed)
        }
    };
    let interpreter = match interpreter.as_deref() {
        None => guessed,
        Some("none") => None,
        Some(name) if name.contains('/') => Some(utf8(fields, ground.absolute(name))?),
        Some(name) => Some(name.to_owned()),
    };
    Some(Program { script, args, interpreter, interpreter_args, default_name })
}

fn utf8(fields: &mut Fields<'_, '_>, path: PathBuf) -> Option<String> {
    match path.into_os_string().into_string() {
        Ok(path) => Some(path),
        Err(path) => {
            let shown = shorten(&path.to_string_lossy());
            fields.app_error(Problem::new(format!("path '{shown}' is not UTF-8")));
            None
        }
    }
}

fn base_name(path: &str) -> Option<&str> {
    Path::new(path).file_name()?.to_str()
}

fn name(fields: &mut Fields<'_, '_>, default: &str) -> String {
    let entry = fields.peek("name").or_else(|| fields.peek("name_prefix")).cloned();
    let given = fields.text("name");
    let prefix = fields.text("name_prefix").unwrap_or_default();
    let name = prefix + given.as_deref().unwrap_or(default);
    if entry.is_none() && name.is_empty() && fields.failed() {
        return name; // the script it would come from is what is wrong
    }
    let digits = fields.report.origin.dialect != Dialect::Pmd;
    if let Err(reason) = names::check(&name, digits) {
        let message = format!("name '{}' {reason}", shorten(&name));
        match entry {
            Some(entry) => fields.error(&entry, message),
            None => fields.app_error(Problem::new(message).hint("give it a 'name'")),
        }
    }
    name
}

fn namespace(fields: &mut Fields<'_, '_>) -> Rc<str> {
    let Some(entry) = fields.peek("namespace").cloned() else {
        return DEFAULTS.namespace.into();
    };
    let namespace = fields.text("namespace").unwrap_or_default();
    if let Err(reason) = names::check(&namespace, true)
        && entry.value.is_string()
    {
        fields.error(&entry, format!("namespace '{}' {reason}", shorten(&namespace)));
    }
    namespace.into()
}

fn instances(fields: &mut Fields<'_, '_>) -> u32 {
    let cpus = i64::from(fields.report.origin.defaults.cpus.max(1));
    let Some(entry) = fields.peek("instances").cloned() else { return 1 };
    let count = fields.read("instances", "a number or \"max\"", |value| {
        if value.as_str() == Some("max") { Some(0) } else { fields::as_whole(value) }
    });
    let count = match count.unwrap_or(1) {
        0 => cpus,
        less if less < 0 => cpus.saturating_add(less).max(1),
        more => more,
    };
    match u32::try_from(count) {
        Ok(count) if count <= MAX_INSTANCES => count,
        Ok(_) | Err(_) => {
            let message = format!("'{}' must be at most {MAX_INSTANCES}, not {count}", entry.shown);
            fields.error(&entry, message);
            1
        }
    }
}

fn ipc_limit(fields: &mut Fields<'_, '_>, name: &'static str) -> u64 {
    let entry = fields.peek(name).cloned();
    match (fields.bytes(name), entry) {
        (Some(bytes), Some(entry)) if bytes == 0 || bytes > MAX_IPC => {
            fields.error(&entry, format!("'{}' must be 1 byte to 64 MiB", entry.shown));
            IPC_LIMIT
        }
        (bytes, _) => bytes.unwrap_or(IPC_LIMIT),
    }
}

fn delimiter(fields: &mut Fields<'_, '_>) -> Option<String> {
    let fits = |text: &str| !text.is_empty() && text.len() <= MAX_DELIMITER;
    let given = fields.read("ipc_delimiter", "1 to 16 bytes", |value| {
        value.as_str().filter(|text| fits(text)).map(str::to_owned)
    });
    given.filter(|text| text != "::")
}

fn account(fields: &mut Fields<'_, '_>, name: &'static str) -> Option<String> {
    fields.read(name, "a name or a number", |value| {
        let text = fields::as_plain(value)?;
        let is_plain = |c: char| !c.is_control() && !c.is_whitespace() && c != ':';
        (!text.is_empty()
            && text.len() <= 256
            && !text.starts_with('-')
            && text.chars().all(is_plain))
        .then_some(text)
    })
}

fn umask(fields: &mut Fields<'_, '_>) -> Option<u32> {
    fields.read("umask", "an octal string like \"022\"", |value| {
        let text = value.as_str()?;
        let digits = text.strip_prefix("0o").unwrap_or(text);
        let is_octal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        u32::from_str_radix(digits, 8).ok().filter(|&mask| is_octal && mask <= 0o777)
    })
}

fn small(fields: &mut Fields<'_, '_>, name: &'static str, least: i64, most: i64) -> Option<i32> {
    fields.number(name, least, most).and_then(|number| i32::try_from(number).ok())
}

fn count(fields: &mut Fields<'_, '_>, name: &'static str) -> Option<u32> {
    fields.number(name, 0, i64::from(u32::MAX)).and_then(|number| u32::try_from(number).ok())
}

fn limits(fields: &mut Fields<'_, '_>) -> Limits {
    let mut number = |name, least| {
        fields.number(name, least, i64::MAX).and_then(|number| u64::try_from(number).ok())
    };
    Limits {
        nofile: number("nofile", 0),
        nproc: number("nproc", 0),
        cpu: number("cpu", 1),
        pids: number("pids", 1),
        core: fields.bytes("core"),
        address_space: fields.bytes("as"),
        memory: fields.bytes("memory"),
    }
}

/// `stdio`: this version has a choice for stdin only.
fn stdin(fields: &mut Fields<'_, '_>) -> Stdin {
    let Some(entry) = fields.take("stdio") else { return Stdin::Null };
    let Some(list) = entry.value.as_array().filter(|list| list.len() == 3) else {
        fields.wrong(&entry, "a list of three: \"pipe\", \"null\", \"inherit\" or a number");
        return Stdin::Null;
    };
    let mut stdin = Stdin::Null;
    for (index, value) in list.iter().enumerate() {
        match (index, value.as_str()) {
            (0, Some("null")) | (1 | 2, Some("pipe")) => {}
            (0, Some("pipe")) => stdin = Stdin::Pipe,
            // As intercom writes it.
            (at, None) if value.as_i64() == Some(-1) => {
                if at == 0 {
                    stdin = Stdin::Pipe;
                }
            }
            (_, Some("null" | "inherit")) => unsupported_stdio(fields, &entry, value),
            _ if value.is_u64() => unsupported_stdio(fields, &entry, value),
            _ => {
                fields.wrong(&entry, "a list of \"pipe\", \"null\", \"inherit\" or numbers");
                return Stdin::Null;
            }
        }
    }
    stdin
}

fn unsupported_stdio(fields: &mut Fields<'_, '_>, entry: &Entry<'_>, value: &Value) {
    let shown = crate::config::problem::show(value);
    fields.cannot(entry, format!("{shown} in '{}' is not supported by this version", entry.shown));
}

fn variable(fields: &mut Fields<'_, '_>, name: &'static str) -> Option<String> {
    let entry = fields.peek(name).cloned()?;
    let variable = fields.word(name)?;
    if !names::is_variable(&variable) {
        fields.wrong(&entry, "the name of a variable");
        return None;
    }
    Some(variable)
}

/// `restart`, and PM2's `autorestart`, which must not contradict it.
pub(super) fn restart(fields: &mut Fields<'_, '_>) -> Restart {
    let entry = fields.peek("restart").cloned();
    let policy = fields.choice(
        "restart",
        &[
            ("always", Restart::Always),
            ("on-failure", Restart::OnFailure),
            ("never", Restart::Never),
            ("once", Restart::Once),
        ],
    );
    let auto = fields.flag("autorestart");
    match (policy, auto, entry) {
        (Some(policy @ (Restart::Always | Restart::OnFailure)), Some(false), Some(entry))
        | (Some(policy @ (Restart::Never | Restart::Once)), Some(true), Some(entry)) => {
            let value = entry.value.as_str().unwrap_or_default();
            let auto = auto.unwrap_or(true);
            fields.error(&entry, format!("'restart' \"{value}\" contradicts 'autorestart' {auto}"));
            policy
        }
        (Some(policy), _, _) => policy,
        (None, Some(false), _) => Restart::Never,
        (None, Some(true) | None, _) => Restart::Always,
    }
}

fn exit_codes(fields: &mut Fields<'_, '_>) -> Vec<u8> {
    let codes = fields.read("stop_exit_codes", "a list of numbers from 0 to 255", |value| {
        let code = |value: &Value| u8::try_from(fields::as_whole(value)?).ok();
        match value.as_array() {
            Some(list) if list.len() <= MAX_EXIT_CODES => list.iter().map(code).collect(),
            Some(_) => None,
            None => code(value).map(|code| vec![code]),
        }
    });
    let mut codes: Vec<u8> = codes.unwrap_or_default();
    sort(&mut codes);
    codes.dedup();
    codes
}

fn signal(fields: &mut Fields<'_, '_>) -> Option<Signal> {
    fields.read("kill_signal", "a signal like \"SIGTERM\", \"TERM\" or 15", |value| {
        Signal::parse(&fields::as_plain(value)?)
    })
}

/// Sorted by name, each name once.
fn depends_on(fields: &mut Fields<'_, '_>) -> Vec<Dependency> {
    let Some(entry) = fields.take("depends_on") else { return Vec::new() };
    let mut found: SortedMap<String, Condition> = SortedMap::new();
    if let Some(map) = entry.value.as_object() {
        for (name, value) in map {
            let nested = entry.nested(name, value);
            let condition = match value.as_str() {
                Some("started") => Condition::Started,
                Some("ready") => Condition::Ready,
                Some("done") => Condition::Done,
                Some("healthy") => Condition::Healthy,
                _ => {
                    fields.wrong(&nested, "\"started\", \"ready\", \"healthy\" or \"done\"");
                    continue;
                }
            };
            found.insert(name.clone(), condition);
        }
    } else {
        match fields::as_list(entry.value) {
            Some(list) => {
                for name in list.into_iter().take(MAX_DEPENDENCIES + 1) {
                    found.insert(name, Condition::Ready);
                }
            }
            None => fields.wrong(&entry, "a list of names, or an object"),
        }
    }
    if found.len() > MAX_DEPENDENCIES {
        let message = format!("'{}' has more than {MAX_DEPENDENCIES} entries", entry.shown);
        fields.error(&entry, message);
    }
    for name in found.keys() {
        if let Err(reason) = names::check(name, true) {
            fields.error(&entry, format!("name '{}' in '{}' {reason}", shorten(name), entry.shown));
        }
    }
    found.into_iter().map(|(name, condition)| Dependency { name, condition }).collect()
}
