//! What users may write about an app: the table of all fields, their other names, and whether
//! this version acts on them.
//!
//! Pure. The meaning of the fields is in `resolve`; here are only their names.

use serde_json::Value;

use crate::config::suggest;

/// One field of an app.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// As pmd writes it.
    pub name: &'static str,
    /// As PM2, PMDaemon or intercom write it, in snake case.
    pub aliases: &'static [&'static str],
    pub support: Support,
}

/// What this version does about a field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Support {
    /// Acts on it.
    Full,
    /// Says that it cannot.
    Later,
    /// Knows it; nothing in pmd depends on it.
    NoEffect,
}

const fn full(name: &'static str, aliases: &'static [&'static str]) -> Field {
    Field { name, aliases, support: Support::Full }
}

const fn later(name: &'static str, aliases: &'static [&'static str]) -> Field {
    Field { name, aliases, support: Support::Later }
}

const fn no_effect(name: &'static str) -> Field {
    Field { name, aliases: &[], support: Support::NoEffect }
}

/// Every field an app may have, but for the profiles `env_<name>`. A field that a later version
/// acts on moves from `later` to `full`.
pub const FIELDS: &[Field] = &[
    full("script", &["exec", "cmd", "command"]),
    full("name", &[]),
    full("name_prefix", &[]),
    full("namespace", &[]),
    full("args", &["options"]),
    full("interpreter", &["exec_interpreter"]),
    full("interpreter_args", &["node_args"]),
    full("pmx", &[]),
    full("cwd", &[]),
    full("env", &[]),
    full("env_file", &[]),
    full("filter_env", &[]),
    full("inherit_env", &[]),
    full("secret_env", &[]),
    full("user", &["uid"]),
    full("group", &["gid"]),
    full("umask", &[]),
    full("nice", &[]),
    full("oom_score_adj", &[]),
    full("limits", &[]),
    full("stdio", &[]),
    full("instances", &[]),
    full("exec_mode", &[]),
    full("cluster_policy", &[]),
    full("listen", &[]),
    full("instance_var", &[]),
    full("increment_var", &[]),
    full("autostart", &[]),
    full("autorestart", &[]),
    full("restart", &[]),
    full("on_daemon_loss", &[]),
    full("stop_exit_codes", &[]),
    full("max_restarts", &[]),
    full("min_uptime", &[]),
    full("cron_restart", &["cron"]),
    full("schedule", &[]),
    full("timeout", &[]),
    full("overlap", &[]),
    full("watch", &[]),
    full("ignore_watch", &[]),
    full("watch_delay", &[]),
    full("on_event", &[]),
    full("restart_delay", &["delay_restart"]),
    full("exp_backoff_restart_delay", &[]),
    full("max_memory_restart", &["max_memory"]),
    full("kill_signal", &[]),
    full("kill_timeout", &[]),
    full("treekill", &[]),
    full("wait_ready", &[]),
    full("notify", &[]),
    full("notification_fd", &[]),
    full("listen_timeout", &[]),
    full("depends_on", &[]),
    full("essential", &[]),
    full("out_file", &["out", "output", "out_log"]),
    full("error_file", &["error", "err", "err_file", "err_log"]),
    full("log_file", &[]),
    // A path or bool: `log_file`; an object: the fields of `LOG_FIELDS`.
    full("log", &[]),
    full("log_target", &[]),
    full("log_full", &[]),
    full("log_type", &[]),
    full("log_max_size", &[]),
    full("log_keep", &[]),
    full("merge_logs", &["combine_logs"]),
    full("disable_logs", &[]),
    full("log_date_format", &[]),
    full("time", &[]),
    full("pid_file", &["pid"]),
    full("port", &[]),
    full("health", &["health_check"]),
    later("log_compress", &[]),
    full("ipc", &[]),
    full("ipc_max_line", &[]),
    full("ipc_max_queue", &[]),
    full("ipc_raw", &[]),
    full("ipc_delimiter", &[]),
    full("ipc_wildcard", &[]),
    // An object: `ipc_delimiter` and `ipc_wildcard`.
    full("event_options", &[]),
    full("intercom", &[]),
    full("intercom_preload", &[]),
    full("shutdown_with_message", &[]),
    full("max_runs", &["max"]),
    full("spin_sleep", &["spin_sleep_time"]),
    full("forever", &[]),
    // An object: the fields of `SPAWN_FIELDS`.
    full("spawn_with", &[]),
    full("source_dir", &[]),
    full("hide_env", &[]),
    // Every program has a session of its own.
    no_effect("setsid"),
    no_effect("vizion"),
    no_effect("force"),
    no_effect("source_map_support"),
    no_effect("disable_source_map_support"),
    no_effect("automation"),
    no_effect("trace"),
    no_effect("disable_trace"),
    no_effect("v8"),
    no_effect("event_loop_inspector"),
    no_effect("deep_monitoring"),
    no_effect("io"),
    no_effect("post_update"),
    no_effect("install_url"),
    no_effect("windows_hide"),
    no_effect("username"),
    no_effect("write"),
    no_effect("kill_retry_time"),
    no_effect("execute_command"),
    no_effect("append_env_to_name"),
    no_effect("watch_options"),
];

/// What stands inside `log`, and the field of an app that it is.
pub const LOG_FIELDS: &[(&str, &str)] = &[
    ("target", "log_target"),
    ("max_size", "log_max_size"),
    ("keep", "log_keep"),
    ("compress", "log_compress"),
    ("type", "log_type"),
    ("full", "log_full"),
];

/// What stands inside `spawn_with`, and the field of an app that it is. An `env` in it has no effect
/// in intercom either.
pub const SPAWN_FIELDS: &[(&str, &str)] =
    &[("cwd", "cwd"), ("custom_fds", "stdio"), ("setsid", "setsid"), ("env", "append_env_to_name")];

/// What stands inside `event_options`, and the field of an app that it is.
pub const EVENT_FIELDS: &[(&str, &str)] =
    &[("delimiter", "ipc_delimiter"), ("wildcard", "ipc_wildcard")];

/// What stands inside `limits`; `nice` and `oom_score_adj` are fields of an app as well.
pub const LIMIT_FIELDS: &[Field] = &[
    full("nofile", &[]),
    full("nproc", &[]),
    full("core", &[]),
    full("as", &[]),
    full("nice", &[]),
    full("oom_score_adj", &[]),
    full("memory", &[]),
    full("cpu", &[]),
    full("pids", &[]),
];

/// The field that `key` names, in either spelling, under any of its names.
#[must_use]
pub fn find(key: &str) -> Option<&'static Field> {
    let key = snake_case(key);
    FIELDS.iter().find(|field| field.name == key || field.aliases.contains(&&*key))
}

/// The name of a field that `key` may have meant.
#[must_use]
pub fn suggest(key: &str) -> Option<&'static str> {
    suggest::nearest(&snake_case(key), names())
}

/// All names of all fields, aliases included.
pub fn names() -> impl Iterator<Item = &'static str> {
    FIELDS.iter().flat_map(|field| std::iter::once(field.name).chain(field.aliases.iter().copied()))
}

/// `maxRestarts` as `max_restarts`; what has a capital in front, or none, stays.
#[must_use]
pub fn snake_case(key: &str) -> String {
    if key.starts_with(|c: char| c.is_ascii_uppercase()) {
        return key.to_owned();
    }
    let mut snake = String::with_capacity(key.len() + 4);
    for c in key.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

/// Whether a field that this version does not act on says "off", so that nothing is missed.
#[must_use]
pub fn is_off(value: &Value) -> bool {
    value.is_null()
        || value.as_bool() == Some(false)
        || value.as_f64() == Some(0.0)
        || value.as_str().is_some_and(|text| matches!(text, "" | "0" | "off" | "auto" | "false"))
        || value.as_array().is_some_and(Vec::is_empty)
        || value.as_object().is_some_and(serde_json::Map::is_empty)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_name_means_two_fields() {
        let mut seen = HashSet::new();
        for name in names() {
            assert!(seen.insert(name), "{name}");
            assert_eq!(snake_case(name), name);
        }
        for (_, field) in LOG_FIELDS {
            assert!(seen.contains(field), "{field}");
        }
    }

    /// The README's reference names what this version acts on.
    #[test]
    fn the_readme_names_every_field_and_setting() {
        let readme = include_str!("../../README.md");
        let fields = FIELDS.iter().filter(|field| field.support == Support::Full);
        for name in fields.map(|field| field.name).chain(crate::config::settings::keys()) {
            assert!(readme.contains(&format!("`{name}`")), "{name}");
        }
    }

    #[test]
    fn both_spellings_name_the_same_field() {
        for (key, name) in [
            ("max_restarts", "max_restarts"),
            ("maxRestarts", "max_restarts"),
            ("delayRestart", "restart_delay"),
            ("windowsHide", "windows_hide"),
            ("spinSleepTime", "spin_sleep"),
            ("err_log", "error_file"),
            ("uid", "user"),
        ] {
            assert_eq!(find(key).map(|field| field.name), Some(name), "{key}");
        }
        assert!(find("MaxRestarts").is_none());
        assert!(find("prot").is_none());
    }

    #[test]
    fn a_misspelt_field_finds_its_name() {
        assert_eq!(suggest("scrpt"), Some("script"));
        assert_eq!(suggest("prot"), Some("port"));
        assert_eq!(suggest("maxRestart"), Some("max_restarts"));
        assert_eq!(suggest("colour"), None);
    }
}
