//! The daemon's settings: `pmd.json` of the configuration directory to a valid [`Settings`].
//!
//! Pure. Keys may be nested or dotted; one that is not known, or has a wrong value, is an error
//! that names it.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::config::app;
use crate::config::assemble_logs::{self, FORMATS, FULL, STDOUT, TARGETS};
use crate::config::fields;
use crate::config::hub::{self, HubSettings};
use crate::config::locate::{End, Step, locate};
use crate::config::problem::{Problem, shorten, show};
use crate::config::resolve::{Defaults, declares_app};
use crate::config::suggest;
use crate::config::web::{self, WebSettings};
use crate::supervisor::spec::{LogFormat, LogFull};

/// What the daemon is told about itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// All sockets together.
    pub max_connections: usize,
    pub log_level: LogLevel,
    /// Keep the list of processes without an explicit `save`.
    pub save: bool,
    /// Start what was online before.
    pub resurrect: bool,
    /// An orderly shutdown stops the apps.
    pub stop_on_exit: bool,
    pub state_mode: StateMode,
    pub log: LogSettings,
    /// Starts at a time at boot and in `apply`; `None`: the number of CPUs.
    pub parallel: Option<usize>,
    pub pm2: Pm2Settings,
    /// Between two messages to a subscriber to metrics who names no interval.
    pub metrics_interval: Duration,
    /// Between two looks at processes whose memory is limited.
    pub memory_check_interval: Duration,
    pub web: WebSettings,
    pub agent: AgentSettings,
    pub ipevents: HubSettings,
}

/// Defaults for the logs of all apps, and the cap for them together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogSettings {
    /// Absolute; `None`: where `Paths` says.
    pub dir: Option<PathBuf>,
    pub targets: LogTargets,
    /// In bytes; 0: never rotated.
    pub max_size: u64,
    pub keep: u32,
    pub format: LogFormat,
    pub full: LogFull,
    /// In bytes; `None`: 256 MiB or 10 % of the file system, whichever is less.
    pub total: Option<u64>,
}

/// The interface for PM2's clients.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pm2Settings {
    pub enabled: bool,
    /// Absolute; `None`: where `Paths` says.
    pub home: Option<PathBuf>,
    /// What the daemon calls itself: clients compare it with their own.
    pub version: String,
}

/// The agent; its keys and end points are in files of their own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AgentSettings {
    pub enabled: bool,
    /// Bytes that one process may have told of its output in a second.
    pub log_rate: u64,
}

/// Where the output of apps goes. Without files the last of it is kept in memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogTargets {
    pub files: bool,
    pub journald: bool,
    pub syslog: bool,
}

impl LogTargets {
    /// What stands where nobody says anything.
    pub const DEFAULT: Self = Self { files: true, journald: false, syslog: false };

    /// As they are written.
    #[must_use]
    pub fn words(self) -> Vec<&'static str> {
        let mut words = vec![if self.files { "files" } else { "none" }];
        words.extend(self.journald.then_some("journald"));
        words.extend(self.syslog.then_some("syslog"));
        words
    }
}

/// How much the daemon says about itself; each says what those before it say.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Whether state is kept on disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StateMode {
    File,
    /// In memory and below the runtime directory only.
    Volatile,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            log_level: LogLevel::Info,
            save: true,
            resurrect: true,
            stop_on_exit: true,
            state_mode: StateMode::File,
            log: LogSettings {
                dir: None,
                targets: LogTargets::DEFAULT,
                max_size: 10 * 1024 * 1024,
                keep: 5,
                format: LogFormat::Raw,
                full: LogFull::Drop,
                total: None,
            },
            parallel: None,
            pm2: Pm2Settings { enabled: true, home: None, version: PM2_VERSION.to_owned() },
            metrics_interval: Duration::from_secs(1),
            memory_check_interval: Duration::from_secs(1),
            web: WebSettings::default(),
            agent: AgentSettings { enabled: true, log_rate: 64 * 1024 },
            ipevents: HubSettings::default(),
        }
    }
}

/// The version of PM2 whose clients were tried.
const PM2_VERSION: &str = "7.0.4";

const LEVELS: &[(&str, LogLevel)] = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

const MODES: &[(&str, StateMode)] = &[("file", StateMode::File), ("volatile", StateMode::Volatile)];

/// The settings of this version, those of the web interface aside.
const KEYS: &[&str] = &[
    "max_connections",
    "log_level",
    "save",
    "resurrect",
    "stop_on_exit",
    "state.mode",
    "log.dir",
    "log.target",
    "log.max_size",
    "log.keep",
    "log.type",
    "log.full",
    "log.total",
    "parallel",
    "metrics_interval",
    "memory_check_interval",
    "agent.enabled",
    "agent.log_rate",
    "pm2.enabled",
    "pm2.home",
    "pm2.version",
];

/// Every setting of this version.
pub fn keys() -> impl Iterator<Item = &'static str> {
    KEYS.iter().chain(web::KEYS).chain(hub::KEYS).copied()
}

/// Settings that a later version acts on; `.*` stands for everything below.
const LATER: &[&str] = &["log.compress", "keeper", "agent.spool_bytes"];

/// What else may stand at the top of `pmd.json`.
const NOT_SETTINGS: &[&str] = &["$schema", "apps", "namespaces", "deploy"];

/// The most nested settings go down.
const MAX_DEPTH: usize = 8;

/// Whether a key at the top of a file belongs to the settings.
#[must_use]
pub fn is_key(key: &str) -> bool {
    let top = key.split('.').next().unwrap_or(key);
    top_keys().any(|known| known == top)
}

/// The first parts of all keys.
pub fn top_keys() -> impl Iterator<Item = &'static str> {
    keys().chain(LATER.iter().copied()).filter_map(|key| key.split('.').next())
}

impl Settings {
    /// Reads the settings of a document; `file`: its name and text, for positions.
    ///
    /// # Errors
    ///
    /// Every key that is not known or has a wrong value.
    pub fn read(document: &Value, file: Option<(&str, &str)>) -> Result<Self, Vec<Problem>> {
        let mut reader =
            Reader { file, settings: Self::default(), seen: Vec::new(), problems: Vec::new() };
        match document {
            // A single app, without settings.
            Value::Object(map) if !map.contains_key("apps") && declares_app(map) => {}
            Value::Object(map) => {
                for (key, value) in map {
                    if !NOT_SETTINGS.contains(&key.as_str()) {
                        reader.enter(&[], key, value);
                    }
                }
            }
            Value::Array(_) => {} // a list of apps
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                let message = format!("expected an object, not {}", show(document));
                reader.problem(Problem::new(message), &[], End::Value);
            }
        }
        if reader.problems.is_empty() { Ok(reader.settings) } else { Err(reader.problems) }
    }

    /// The value of one setting.
    #[must_use]
    pub fn get(&self, key: &str) -> Value {
        if let Some(below) = key.strip_prefix("web.") {
            return self.web.get(below);
        }
        if let Some(below) = key.strip_prefix("ipevents.") {
            return self.ipevents.get(below);
        }
        let word = |value: Option<&'static str>| Value::from(value);
        let millis = |time: Duration| Value::from(u64::try_from(time.as_millis()).ok());
        let log = &self.log;
        match key {
            "max_connections" => self.max_connections.into(),
            "log_level" => word(name_of(self.log_level, LEVELS)),
            "save" => self.save.into(),
            "resurrect" => self.resurrect.into(),
            "stop_on_exit" => self.stop_on_exit.into(),
            "state.mode" => word(name_of(self.state_mode, MODES)),
            "log.dir" => log.dir.as_ref().map(|dir| dir.to_string_lossy().into_owned()).into(),
            "log.target" => log.targets.words().into(),
            "log.max_size" => log.max_size.into(),
            "log.keep" => log.keep.into(),
            "log.type" => word(name_of(log.format, FORMATS)),
            "log.full" => word(name_of(log.full, FULL)),
            "log.total" => log.total.into(),
            "metrics_interval" => millis(self.metrics_interval),
            "memory_check_interval" => millis(self.memory_check_interval),
            "agent.enabled" => self.agent.enabled.into(),
            "agent.log_rate" => self.agent.log_rate.into(),
            "pm2.enabled" => self.pm2.enabled.into(),
            "pm2.home" => {
                self.pm2.home.as_ref().map(|home| home.to_string_lossy().into_owned()).into()
            }
            "pm2.version" => self.pm2.version.as_str().into(),
            _ => self.parallel.into(),
        }
    }

    /// What they decide about apps that say nothing else.
    #[must_use]
    pub fn defaults(&self) -> Defaults {
        Defaults {
            log_format: self.log.format,
            log_targets: self.log.targets,
            ..Defaults::default()
        }
    }
}

struct Reader<'a> {
    file: Option<(&'a str, &'a str)>,
    settings: Settings,
    seen: Vec<String>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn enter(&mut self, above: &[&str], key: &str, value: &Value) {
        if self.problems.len() >= fields::MAX_PROBLEMS {
            return;
        }
        let mut path = above.to_vec();
        path.push(key);
        let name = path.join(".");
        if keys().any(|key| key == name) {
            if self.seen.contains(&name) {
                let problem = Problem::new(format!("'{name}' is given twice"));
                return self.problem(problem, &path, End::Key);
            }
            self.set(&name, value, &path);
            return self.seen.push(name);
        }
        if is_later(&name) && !(value.is_object() && is_group(&name)) {
            if !app::is_off(value) {
                let problem =
                    Problem::new(format!("'{}' is not supported by this version", shorten(&name)));
                self.problem(problem, &path, End::Key);
            }
            return;
        }
        match value {
            Value::Object(map) if is_group(&name) && path.len() < MAX_DEPTH => {
                for (key, value) in map {
                    self.enter(&path, key, value);
                }
            }
            _ if is_group(&name) => self.wrong(&name, "an object", value, &path),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)
            | Value::Object(_) => {
                let problem = Problem::new(format!("unknown setting '{}'", shorten(&name)))
                    .suggest(suggest::nearest(&name, keys()));
                self.problem(problem, &path, End::Key);
            }
        }
    }

    fn set(&mut self, name: &str, value: &Value, path: &[&str]) {
        let settings = &mut self.settings;
        let below = match name.split_once('.') {
            Some(("web", below)) => Some(settings.web.set(below, value)),
            Some(("ipevents", below)) => Some(settings.ipevents.set(below, value)),
            _ => None,
        };
        if let Some(done) = below {
            if let Err(expected) = done {
                self.wrong(name, expected, value, path);
            }
            return;
        }
        let log = &mut settings.log;
        let expected = match name {
            "max_connections" => {
                keep(&mut settings.max_connections, whole(value, 16), "a number from 16")
            }
            "log_level" => keep(
                &mut settings.log_level,
                choice(value, LEVELS),
                "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"",
            ),
            "save" => keep(&mut settings.save, fields::as_flag(value), FLAG),
            "resurrect" => keep(&mut settings.resurrect, fields::as_flag(value), FLAG),
            "stop_on_exit" => keep(&mut settings.stop_on_exit, fields::as_flag(value), FLAG),
            "state.mode" => {
                keep(&mut settings.state_mode, choice(value, MODES), "\"file\" or \"volatile\"")
            }
            "log.dir" => keep(&mut log.dir, absolute(value).map(Some), PATH),
            "agent.enabled" => keep(&mut settings.agent.enabled, fields::as_flag(value), FLAG),
            "agent.log_rate" => keep(&mut settings.agent.log_rate, fields::as_bytes(value), SIZE),
            "pm2.enabled" => keep(&mut settings.pm2.enabled, fields::as_flag(value), FLAG),
            "pm2.home" => keep(&mut settings.pm2.home, absolute(value).map(Some), PATH),
            "pm2.version" => {
                let version = value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
                keep(&mut settings.pm2.version, version, "a version like \"7.0.4\"")
            }
            "log.target" => return self.set_target(name, value, path),
            "log.max_size" => keep(&mut log.max_size, fields::as_bytes(value), SIZE),
            "log.keep" => {
                let keep_files = whole(value, 0).and_then(|keep| u32::try_from(keep).ok());
                keep(&mut log.keep, keep_files, "a whole number")
            }
            "log.type" => {
                keep(&mut log.format, choice(value, FORMATS), "\"raw\", \"json\" or \"logfmt\"")
            }
            "log.full" => keep(&mut log.full, choice(value, FULL), "\"drop\" or \"block\""),
            "log.total" => keep(&mut log.total, fields::as_bytes(value).map(Some), SIZE),
            "metrics_interval" => keep(&mut settings.metrics_interval, interval(value), INTERVAL),
            "memory_check_interval" => {
                keep(&mut settings.memory_check_interval, interval(value), INTERVAL)
            }
            _ => keep(&mut settings.parallel, whole(value, 1).map(Some), "a number from 1"),
        };
        if let Err(expected) = expected {
            self.wrong(name, expected, value, path);
        }
    }

    fn set_target(&mut self, name: &str, value: &Value, path: &[&str]) {
        let words = fields::as_list(value).unwrap_or_default();
        match assemble_logs::targets(&words) {
            Ok(targets) => self.settings.log.targets = targets,
            Err(Some("stdout")) => {
                let message = format!("\"stdout\" in '{name}': {STDOUT}");
                self.problem(Problem::new(message), path, End::Value);
            }
            Err(_) => self.wrong(name, TARGETS, value, path),
        }
    }

    fn wrong(&mut self, name: &str, expected: &str, value: &Value, path: &[&str]) {
        let mut message = format!("'{}' must be {expected}", shorten(name));
        if !web::SECRET_KEYS.contains(&name) {
            message.push_str(", not ");
            message.push_str(&show(value));
        }
        self.problem(Problem::new(message), path, End::Value);
    }

    fn problem(&mut self, problem: Problem, path: &[&str], end: End) {
        let steps: Vec<Step> = path.iter().map(|key| Step::Key((*key).to_owned())).collect();
        self.problems.push(match self.file {
            Some((file, text)) => problem.at(file, locate(text, &steps, end)),
            None => problem,
        });
    }
}

const FLAG: &str = "true or false";
const PATH: &str = "an absolute path";
const INTERVAL: &str = "a time from 250ms to 1h";
const SIZE: &str = "a size like 512K, 10M or 1G";

/// Stores what was read; gives `expected` back where nothing was.
fn keep<T>(slot: &mut T, value: Option<T>, expected: &'static str) -> Result<(), &'static str> {
    value.map(|value| *slot = value).ok_or(expected)
}

fn absolute(value: &Value) -> Option<PathBuf> {
    value.as_str().map(PathBuf::from).filter(|path| path.is_absolute())
}

fn whole(value: &Value, least: i64) -> Option<usize> {
    fields::as_whole(value)
        .filter(|&number| number >= least && number <= 1_000_000)
        .and_then(|number| usize::try_from(number).ok())
}

fn interval(value: &Value) -> Option<Duration> {
    let range = Duration::from_millis(250)..=Duration::from_secs(3600);
    fields::as_duration(value).filter(|time| range.contains(time))
}

fn choice<T: Copy>(value: &Value, choices: &[(&str, T)]) -> Option<T> {
    let word = value.as_str()?;
    choices.iter().find(|(name, _)| *name == word).map(|&(_, choice)| choice)
}

fn name_of<T: PartialEq>(value: T, choices: &[(&'static str, T)]) -> Option<&'static str> {
    choices.iter().find(|(_, choice)| *choice == value).map(|&(name, _)| name)
}

/// Whether a change of this setting is felt by the daemon that runs.
#[must_use]
pub fn takes_effect_at_once(key: &str) -> bool {
    let at_once =
        ["max_connections", "metrics_interval", "memory_check_interval", "agent.log_rate"];
    key.starts_with("web.")
        || key.starts_with("ipevents.")
        || key.starts_with("log.")
        || at_once.contains(&key)
}

fn is_later(name: &str) -> bool {
    LATER.iter().any(|later| match later.strip_suffix(".*") {
        Some(group) => {
            name.strip_prefix(group).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        }
        None => *later == name,
    })
}

/// Whether settings stand below this name.
fn is_group(name: &str) -> bool {
    keys()
        .chain(LATER.iter().copied())
        .any(|key| key.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

/// One setting from a command line: `max_connections`, `2048`.
///
/// # Errors
///
/// The key is not known or the value is wrong.
pub fn check(key: &str, value: &Value) -> Result<(), Problem> {
    let mut map = Map::new();
    map.insert(key.to_owned(), value.clone());
    match Settings::read(&Value::Object(map), None) {
        Ok(_) => Ok(()),
        Err(problems) => Err(problems.into_iter().next().unwrap_or_else(|| Problem::new(""))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_said_means_the_defaults() {
        assert_eq!(Settings::read(&json!({}), None), Ok(Settings::default()));
        assert_eq!(Settings::read(&json!([]), None), Ok(Settings::default()));
        assert_eq!(Settings::read(&json!({"script": "a"}), None), Ok(Settings::default()));
        let beside = json!({"$schema": "x", "apps": [{"script": "a"}]});
        assert_eq!(Settings::read(&beside, None), Ok(Settings::default()));
    }

    #[test]
    fn keys_may_be_nested_or_dotted() {
        let settings = Settings::read(
            &json!({
                "max_connections": 64, "log_level": "debug", "save": false, "resurrect": "false",
                "stop_on_exit": false, "state": {"mode": "volatile"}, "parallel": 2,
                "metrics_interval": "5s", "memory_check_interval": 250,
                "web.anonymous": "read", "agent": {"enabled": false, "log_rate": "1K"},
                "log": {"dir": "/srv/logs", "max_size": "1M", "keep": 2},
                "log.type": "json", "log.full": "block", "log.total": 4096, "log.target": "none",
                "pm2": {"enabled": false, "home": "/srv/pm2"}, "pm2.version": "6.0.0",
                "ipevents": {"announce": true}
            }),
            None,
        )
        .unwrap();
        assert_eq!(
            settings,
            Settings {
                max_connections: 64,
                log_level: LogLevel::Debug,
                save: false,
                resurrect: false,
                stop_on_exit: false,
                state_mode: StateMode::Volatile,
                pm2: Pm2Settings {
                    enabled: false,
                    home: Some(PathBuf::from("/srv/pm2")),
                    version: "6.0.0".to_owned(),
                },
                parallel: Some(2),
                metrics_interval: Duration::from_secs(5),
                memory_check_interval: Duration::from_millis(250),
                web: WebSettings { anonymous: web::Level::Read, ..WebSettings::default() },
                agent: AgentSettings { enabled: false, log_rate: 1024 },
                ipevents: HubSettings { announce: true, ..HubSettings::default() },
                log: LogSettings {
                    dir: Some(PathBuf::from("/srv/logs")),
                    targets: LogTargets { files: false, journald: false, syslog: false },
                    max_size: 1 << 20,
                    keep: 2,
                    format: LogFormat::Json,
                    full: LogFull::Block,
                    total: Some(4096),
                },
            }
        );
        assert_eq!(settings.defaults().log_format, LogFormat::Json);
    }

    #[test]
    fn every_wrong_setting_is_named() {
        let text = r#"{
  "max_conections": 5,
  "max_connections": 5,
  "log": {"max_sise": 1, "keep": -1, "dir": "logs", "target": "tape", "compress": true},
  "log.keep": 1,
  "state": "volatile",
  "web": {"listen": ["127.0.0.1"], "max_clients": 5, "token": "secret"},
  "keeper": true,
  "save": 1,
  "metrics_interval": "10ms"
}"#;
        let value = serde_json::from_str(text).unwrap();
        let problems = Settings::read(&value, Some(("pmd.json", text))).unwrap_err();
        let mut lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        lines.sort();
        assert_eq!(
            lines,
            [
                "pmd.json:10:23: 'metrics_interval' must be a time from 250ms to 1h, not \"10ms\"",
                "pmd.json:2:3: unknown setting 'max_conections' (did you mean 'max_connections'?)",
                "pmd.json:3:22: 'max_connections' must be a number from 16, not 5",
                "pmd.json:4:11: unknown setting 'log.max_sise' (did you mean 'log.max_size'?)",
                "pmd.json:4:34: 'log.keep' must be a whole number, not -1",
                "pmd.json:4:45: 'log.dir' must be an absolute path, not \"logs\"",
                "pmd.json:4:63: 'log.target' must be \"files\", \"memory\", \"none\", \"journald\" or \
                 \"syslog\", not \"tape\"",
                "pmd.json:4:71: 'log.compress' is not supported by this version",
                "pmd.json:5:3: 'log.keep' is given twice",
                "pmd.json:6:12: 'state' must be an object, not \"volatile\"",
                "pmd.json:7:21: 'web.listen' must be an address like \"127.0.0.1:9615\", a list of \
                 them, or \"off\", not a list",
                "pmd.json:7:63: 'web.token' must be a text of 16 to 512 printable characters \
                 without spaces",
                "pmd.json:8:3: 'keeper' is not supported by this version",
                "pmd.json:9:11: 'save' must be true or false, not 1",
            ]
        );
    }

    #[test]
    fn every_setting_is_told_as_it_may_be_written() {
        let changed = Settings::read(
            &json!({
                "max_connections": 77, "log_level": "warn", "save": false, "resurrect": false,
                "stop_on_exit": false, "state.mode": "volatile", "parallel": 3,
                "log": {"dir": "/l", "target": "none", "max_size": 9, "keep": 9, "type": "json",
                        "full": "block", "total": 9},
                "metrics_interval": 2000, "memory_check_interval": 3000,
                "pm2": {"enabled": false, "home": "/p", "version": "1.2.3"},
            }),
            None,
        )
        .unwrap();
        for settings in [Settings::default(), changed] {
            let said: Map<String, Value> = keys()
                .map(|key| (key.to_owned(), settings.get(key)))
                .filter(|(_, value)| !value.is_null())
                .collect();
            assert_eq!(Settings::read(&Value::Object(said), None), Ok(settings));
        }
    }

    #[test]
    fn what_is_off_asks_for_nothing() {
        let off = json!({"keeper": false, "log.compress": false});
        assert_eq!(Settings::read(&off, None), Ok(Settings::default()));
    }

    #[test]
    fn one_setting_can_be_checked_alone() {
        assert_eq!(check("log.max_size", &json!("20M")), Ok(()));
        let message = check("log.max_size", &json!("20X")).unwrap_err().to_string();
        assert_eq!(message, "'log.max_size' must be a size like 512K, 10M or 1G, not \"20X\"");
        assert!(check("colour", &json!(1)).is_err());
        assert!(is_key("log.keep") && is_key("web") && !is_key("script"));
    }
}
