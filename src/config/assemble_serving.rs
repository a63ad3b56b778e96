//! What one app serves: its ports, and its health check.
//!
//! Looks at files only to tell a check's script from a command line.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::config::assemble::Ground;
use crate::config::fields::{self, Entry, Fields};
use crate::config::resolve::Dialect;
use crate::config::{app, program, suggest, units, url, words};
use crate::supervisor::spec::{
    Check, Environment, HealthCheck, OnFail, PORT_VARIABLE, Ports, Serving,
};

/// Words of a check's command line, and bytes of each.
const MAX_WORDS: usize = 256;
/// Checks that follow each other faster would be all that the host does.
const SHORTEST: Duration = Duration::from_millis(10);
const MAX_RETRIES: i64 = 100_000;

/// Defaults of a health check; `definition` leaves them out.
pub(super) const INTERVAL: Duration = Duration::from_secs(30);
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);
pub(super) const RETRIES: u32 = 3;
pub(super) const HOST: &str = "127.0.0.1";

/// What the rest of the app says that matters here.
pub(super) struct About<'a> {
    pub ground: &'a Ground,
    pub instances: u32,
    /// They can all have the same port.
    pub shares: bool,
    pub inherited: &'a Environment,
    /// Variables may come from files.
    pub has_env_files: bool,
}

/// `None`: nothing of the kind was given.
pub(super) fn serving(
    fields: &mut Fields<'_, '_>,
    env: &mut Environment,
    about: &About<'_>,
) -> Option<Box<Serving>> {
    let port = ports(fields, env, about);
    let has_port = port.is_some()
        || about.has_env_files
        || env.get("PORT").is_some()
        || about.inherited.get("PORT").is_some();
    let path = env.get("PATH").or_else(|| about.inherited.get("PATH"));
    let path = path.unwrap_or(program::DEFAULT_PATH);
    let health = health(fields, has_port, about.ground, path);
    (port.is_some() || health.is_some()).then(|| Box::new(Serving { port, health }))
}

fn ports(fields: &mut Fields<'_, '_>, env: &mut Environment, about: &About<'_>) -> Option<Ports> {
    let instances = about.instances;
    let entry = fields.peek("port").cloned()?;
    let expected = "a port, a range like 3000-3003 or auto:5000-5100";
    let ports = fields.read("port", expected, |value| Ports::parse(&fields::as_plain(value)?))?;
    match ports {
        // To PM2 it is a variable, the same for all instances.
        Ports::One(port)
            if about.shares || (fields.report.origin.dialect == Dialect::Pm2 && instances > 1) =>
        {
            if env.get("PORT").is_none() {
                env.set("PORT", &port.to_string());
            }
            return None;
        }
        Ports::One(_) | Ports::Range { .. } | Ports::Auto { .. } => {}
    }
    if let Some(room) = ports.room().filter(|&room| room < instances) {
        let message =
            format!("'{}' has {room} ports ({ports}) for {instances} instances", entry.shown);
        fields.error(&entry, message);
    }
    Some(ports)
}

/// The members of `health`: pmd's names, and PMDaemon's.
const MEMBERS: [(&str, &str); 17] = [
    ("http", "url"),
    ("url", "url"),
    ("tcp", "tcp"),
    ("host", "host"),
    ("port", "port"),
    ("cmd", "script"),
    ("script", "script"),
    ("path", "script"),
    ("check_type", "type"),
    ("type", "type"),
    ("interval", "interval"),
    ("timeout", "timeout"),
    ("retries", "retries"),
    ("start_period", "start_period"),
    ("enabled", "enabled"),
    ("on_fail", "on_fail"),
    ("action", "on_fail"),
];

/// The members as they were given, each once.
type Members<'a> = Vec<(&'static str, Entry<'a>)>;

fn health(
    fields: &mut Fields<'_, '_>,
    has_port: bool,
    ground: &Ground,
    path: &str,
) -> Option<HealthCheck> {
    let entry = fields.take("health")?;
    let mut members = Members::new();
    match entry.value {
        Value::String(_) => members.push(("url", entry.clone())),
        Value::Object(map) => enter(fields, &entry, map, &mut members),
        Value::Bool(false) => return None,
        Value::Null | Value::Bool(true) | Value::Number(_) | Value::Array(_) => {
            fields.wrong(&entry, "an object or a URL");
            return None;
        }
    }
    let mut reader = Reader { fields, members, ground, path };
    if reader.flag("enabled") == Some(false) {
        return None;
    }
    let interval = reader.time("interval", SHORTEST).unwrap_or(INTERVAL);
    let timeout = reader.time("timeout", SHORTEST).unwrap_or(TIMEOUT);
    let start_period = reader.time("start_period", Duration::ZERO).unwrap_or_default();
    let retries = reader.retries().unwrap_or(RETRIES);
    let on_fail = reader.on_fail().unwrap_or_default();
    let check = reader.check(&entry)?;
    if check.needs_port() && !has_port {
        let message = format!("'{}' needs the app's port, and 'port' is not set", entry.shown);
        fields.error(&entry, message);
    }
    Some(HealthCheck { check, interval, timeout, retries, start_period, on_fail })
}

/// Sorts out the members of an object; those of PMDaemon's `check_type` object are its own, too.
fn enter<'a>(
    fields: &mut Fields<'a, '_>,
    entry: &Entry<'a>,
    map: &'a Map<String, Value>,
    members: &mut Members<'a>,
) {
    for (key, value) in map {
        let nested = entry.nested(key, value);
        let name = app::snake_case(key);
        let Some(&(_, member)) = MEMBERS.iter().find(|(known, _)| *known == name) else {
            let known = MEMBERS.iter().map(|(known, _)| *known);
            fields.unknown(&nested, suggest::nearest(&name, known));
            continue;
        };
        let inner = value.as_object().filter(|_| name == "check_type");
        if let Some(inner) = inner {
            enter(fields, &nested, inner, members);
        } else if value.is_null() && !fields.report.is_strict() {
            // As good as not given.
        } else if members.iter().any(|(other, _)| *other == member) {
            let message = format!("'{}' is given twice", nested.shown);
            fields.error(&nested, message);
        } else {
            members.push((member, nested));
        }
    }
}

struct Reader<'f, 'a, 'r> {
    fields: &'f mut Fields<'a, 'r>,
    members: Members<'a>,
    ground: &'f Ground,
    /// Where programs are looked up.
    path: &'f str,
}

impl<'a> Reader<'_, 'a, '_> {
    fn take(&mut self, member: &str) -> Option<Entry<'a>> {
        let at = self.members.iter().position(|(name, _)| *name == member)?;
        Some(self.members.swap_remove(at).1)
    }

    fn read<T>(
        &mut self,
        member: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let entry = self.take(member)?;
        let value = read(entry.value);
        if value.is_none() {
            self.fields.wrong(&entry, expected);
        }
        value
    }

    fn flag(&mut self, member: &str) -> Option<bool> {
        self.read(member, "true or false", fields::as_flag)
    }

    fn time(&mut self, member: &str, least: Duration) -> Option<Duration> {
        let entry = self.take(member)?;
        let Some(time) = as_seconds(entry.value) else {
            self.fields.wrong(&entry, "a time like 30, 500ms or 5s; a number is seconds");
            return None;
        };
        if time < least {
            let least = units::exact_duration(least);
            self.fields.error(&entry, format!("'{}' must be at least {least}", entry.shown));
        }
        Some(time)
    }

    fn retries(&mut self) -> Option<u32> {
        let entry = self.take("retries")?;
        let number = fields::as_whole(entry.value).filter(|n| (1..=MAX_RETRIES).contains(n));
        if number.is_none() {
            self.fields.wrong(&entry, "a number of at least 1");
        }
        u32::try_from(number?).ok()
    }

    fn on_fail(&mut self) -> Option<OnFail> {
        self.read("on_fail", "\"restart\" or \"none\"", |value| match value.as_str()? {
            "restart" => Some(OnFail::Restart),
            "none" => Some(OnFail::None),
            _ => None,
        })
    }

    /// Exactly one thing to be tried.
    fn check(&mut self, whole: &Entry<'_>) -> Option<Check> {
        let kinds = ["http", "tcp", "script"];
        let kind = self.take("type");
        let named = kind.as_ref().map(|entry| entry.value.as_str().unwrap_or_default());
        if let (Some(entry), Some(word)) = (&kind, named)
            && !kinds.contains(&word)
        {
            self.fields.wrong(entry, "\"http\", \"tcp\" or \"script\"");
            return None;
        }
        let has = |reader: &Self, member| reader.members.iter().any(|(name, _)| *name == member);
        let given = [
            ("http", has(self, "url")),
            ("tcp", has(self, "tcp") || has(self, "host") || has(self, "port")),
            ("script", has(self, "script")),
        ];
        let mut given = given.into_iter().filter(|(_, is_given)| *is_given).map(|(kind, _)| kind);
        let check = match (named, given.next(), given.next()) {
            (_, Some(_), Some(_)) => None,
            (Some(named), Some(given), None) if named != given => None,
            (Some("tcp"), None, None) => Some("tcp"),
            (_, found, None) => found,
            (_, None, Some(_)) => None,
        };
        match check {
            Some("http") => self.http(),
            Some("tcp") => self.tcp(),
            Some(_) => self.script(),
            None => {
                let message = format!("'{}' needs one of 'http', 'tcp' and 'cmd'", whole.shown);
                self.fields.error(whole, message);
                None
            }
        }
    }

    fn http(&mut self) -> Option<Check> {
        let entry = self.take("url")?;
        let Some(text) = entry.value.as_str() else {
            self.fields.wrong(&entry, "a URL");
            return None;
        };
        if let Err(reason) = url::parse(&text.replace(PORT_VARIABLE, "65535")) {
            self.fields.error(&entry, format!("'{}' {reason}", entry.shown));
            return None;
        }
        Some(Check::Http(text.to_owned()))
    }

    /// `host` and `port`, or both in one word; a bare port is one of this host.
    fn tcp(&mut self) -> Option<Check> {
        let expected = "an address like 127.0.0.1:6379";
        if let Some(entry) = self.take("tcp") {
            let check = fields::as_plain(entry.value).and_then(|text| address(&text));
            if check.is_none() {
                self.fields.wrong(&entry, expected);
            }
            return check;
        }
        let host = self.read("host", "the name or address of a host", |value| {
            value.as_str().filter(|host| url::is_host(host)).map(str::to_owned)
        });
        let port =
            self.read("port", "a port", |value| match Ports::parse(&fields::as_plain(value)?) {
                Some(Ports::One(port)) => Some(port),
                Some(Ports::Range { .. } | Ports::Auto { .. }) | None => None,
            });
        Some(Check::Tcp { host: host.unwrap_or_else(|| HOST.to_owned()), port })
    }

    /// A list is a program and its arguments; a string is a script, or else a command line.
    fn script(&mut self) -> Option<Check> {
        let entry = self.take("script")?;
        let words = as_words(&entry, self.ground, self.path);
        if words.is_none() {
            self.fields.wrong(&entry, COMMAND);
        }
        words.map(Check::Script)
    }
}

const COMMAND: &str = "a script, a command line or a list of words";

/// A command that is run beside the program; `path`: where it is looked for.
pub(super) fn command(
    fields: &mut Fields<'_, '_>,
    name: &'static str,
    ground: &Ground,
    path: &str,
) -> Option<Vec<String>> {
    let entry = fields.take(name)?;
    if app::is_off(entry.value) {
        return None;
    }
    let words = as_words(&entry, ground, path);
    if words.is_none() {
        fields.wrong(&entry, COMMAND);
    }
    words
}

fn as_words(entry: &Entry<'_>, ground: &Ground, path: &str) -> Option<Vec<String>> {
    let words = match entry.value.as_str() {
        Some(text) => as_command(text, ground, path),
        None => fields::as_list(entry.value),
    };
    words.filter(|words| {
        words.first().is_some_and(|word| !word.is_empty())
            && words.len() <= MAX_WORDS
            && words.iter().all(|word| !word.contains('\0'))
    })
}

/// `HOST:PORT`, `[V6]:PORT`, `HOST`, `PORT`.
fn address(text: &str) -> Option<Check> {
    let port = |text: &str| match Ports::parse(text) {
        Some(Ports::One(port)) => Some(port),
        Some(Ports::Range { .. } | Ports::Auto { .. }) | None => None,
    };
    let (host, port) = match text.rsplit_once(':') {
        _ if text.parse::<std::net::Ipv6Addr>().is_ok() => (text, None),
        Some((host, PORT_VARIABLE)) => (host, None),
        Some((host, digits)) => (host, Some(port(digits)?)),
        None => match port(text) {
            Some(port) => (HOST, Some(port)),
            None => (text, None),
        },
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    url::is_host(bare).then(|| Check::Tcp { host: bare.to_owned(), port })
}

fn as_command(text: &str, ground: &Ground, path: &str) -> Option<Vec<String>> {
    let text = text.trim();
    let file = ground.absolute(text);
    if text.is_empty() {
        None
    } else if file.is_file() {
        let interpreter = program::interpreter_for(&file, path, false);
        let file = file.into_os_string().into_string().ok()?;
        Some(interpreter.map(str::to_owned).into_iter().chain([file]).collect())
    } else {
        Some(vec![words::SHELL.to_owned(), "-c".to_owned(), text.to_owned()])
    }
}

/// A number of seconds, with or without a fraction, a time with its unit, or PMDaemon's
/// `{"secs": 30, "nanos": 0}`.
fn as_seconds(value: &Value) -> Option<Duration> {
    if let Value::Object(map) = value {
        let nanos = map.get("nanos").map_or(Some(0), Value::as_u64)?;
        let secs = map.get("secs")?.as_u64()?;
        let known = map.keys().all(|key| key == "secs" || key == "nanos");
        return units::duration(&format!("{secs}s"))
            .map(|time| time.saturating_add(Duration::from_millis(nanos / 1_000_000)))
            .filter(|_| known && nanos < 1_000_000_000);
    }
    let text = fields::as_plain(value)?;
    let bare = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    units::duration(&if bare { format!("{text}s") } else { text })
}
