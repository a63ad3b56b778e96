//! Apps as Compose services and as systemd units.
//!
//! Pure. A starting point for a person, complete where the other tool has a word for it.

use std::time::Duration;

use serde_json::Value;

use crate::config::export::{has_files, note_lost};
use crate::json::json;
use crate::supervisor::spec::{AppSpec, Condition, Restart};

/// Program and arguments.
fn command(spec: &AppSpec) -> Vec<&str> {
    let mut words: Vec<&str> = Vec::new();
    if let Some(interpreter) = &spec.interpreter {
        words.push(interpreter);
        words.extend(spec.interpreter_args.iter());
    }
    words.push(&spec.script);
    words.extend(spec.args.iter());
    words
}

fn seconds(time: Duration) -> String {
    let millis = time.as_millis();
    if millis.is_multiple_of(1000) { format!("{}s", millis / 1000) } else { format!("{millis}ms") }
}

/// A Compose file with a service for each app.
pub(super) fn compose(apps: &[AppSpec], notes: &mut Vec<String>) -> String {
    let mut text = "# The images are yours to choose.\nservices:\n".to_owned();
    for spec in apps {
        text.push_str(&format!("  {}:\n", plain(&spec.name)));
        let mut line = |key: &str, value: String| text.push_str(&format!("    {key}: {value}\n"));
        line("image", yaml("scratch"));
        line("command", list(&command(spec)));
        line("working_dir", yaml(&spec.cwd.to_string_lossy()));
        if let Some(user) = &spec.user {
            let group = spec.group.as_ref().map_or(String::new(), |group| format!(":{group}"));
            line("user", yaml(&format!("{user}{group}")));
        }
        line("restart", compose_restart(spec).to_owned());
        if let Some(most) = spec.max_memory_restart {
            line("mem_limit", most.to_string());
        }
        line("stop_signal", spec.kill_signal.to_string());
        line("stop_grace_period", seconds(spec.kill_timeout));
        if !spec.env_file.is_empty() {
            let files: Vec<_> = spec.env_file.iter().map(|file| file.to_string_lossy()).collect();
            let files: Vec<&str> = files.iter().map(AsRef::as_ref).collect();
            line("env_file", list(&files));
        }
        if spec.instances > 1 {
            line("scale", spec.instances.to_string());
        }
        if !spec.env.is_empty() {
            text.push_str("    environment:\n");
            for (name, value) in spec.env.iter() {
                text.push_str(&format!("      {}: {}\n", yaml(name), yaml(value)));
            }
        }
        if !spec.depends_on.is_empty() {
            text.push_str("    depends_on:\n");
            for dependency in &spec.depends_on {
                let condition = match dependency.condition {
                    Condition::Started | Condition::Ready => "service_started",
                    Condition::Healthy => "service_healthy",
                    Condition::Done => "service_completed_successfully",
                };
                let name = plain(&dependency.name);
                text.push_str(&format!("      {name}:\n        condition: {condition}\n"));
            }
        }
        let mut lost = Vec::new();
        if has_files(spec) {
            lost.push("log files");
        }
        if spec.inherit_env {
            lost.push("the inherited environment");
        }
        if spec.ports().is_some() {
            lost.push("port");
        }
        if spec.health().is_some() {
            lost.push("health");
        }
        note_lost(spec, "Compose", &lost, notes);
    }
    text
}

fn compose_restart(spec: &AppSpec) -> &'static str {
    match spec.restart {
        Restart::Always => "always",
        Restart::OnFailure => "on-failure",
        Restart::Never | Restart::Once => "\"no\"",
    }
}

/// A double-quoted YAML string is a JSON string; Compose takes `$$` for `$`.
fn yaml(text: &str) -> String {
    json!(text.replace('$', "$$")).to_string()
}

fn list(words: &[&str]) -> String {
    let words: Vec<Value> = words.iter().map(|word| json!(word.replace('$', "$$"))).collect();
    let words: Vec<String> = words.iter().map(Value::to_string).collect();
    format!("[{}]", words.join(", "))
}

/// A name of a service or a unit.
fn plain(name: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let plain: String = name.chars().map(letter).collect();
    if plain.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        plain
    } else {
        format!("app{plain}")
    }
}

/// A unit file for each app.
pub(super) fn systemd(apps: &[AppSpec], notes: &mut Vec<String>) -> String {
    let mut text = String::new();
    for spec in apps {
        if !text.is_empty() {
            text.push('\n');
        }
        // Several instances: a template, whose instances are started one by one.
        let at = if spec.instances > 1 { "@" } else { "" };
        text.push_str(&format!("# {}{at}.service\n[Unit]\n", plain(&spec.name)));
        if spec.instances > 1 {
            let last = spec.instances - 1;
            notes.push(format!("{}: start {}@0 to @{last}", spec.name, plain(&spec.name)));
        }
        for dependency in &spec.depends_on {
            let unit = plain(&dependency.name);
            text.push_str(&format!("Requires={unit}.service\nAfter={unit}.service\n"));
        }
        text.push_str("After=network.target\n\n[Service]\n");
        service(spec, &mut text);
        text.push_str("\n[Install]\nWantedBy=multi-user.target\n");
        let mut lost = Vec::new();
        if !command(spec).first().is_some_and(|program| program.starts_with('/')) {
            lost.push("the absolute path of its program (before systemd 251)");
        }
        if spec.inherit_env {
            lost.push("the inherited environment");
        }
        if spec.ports().is_some() {
            lost.push("port");
        }
        if spec.health().is_some() {
            lost.push("health");
        }
        note_lost(spec, "systemd", &lost, notes);
    }
    text
}

fn service(spec: &AppSpec, text: &mut String) {
    let mut line = |key: &str, value: String| text.push_str(&format!("{key}={value}\n"));
    let kind = match (spec.restart, spec.wait_ready) {
        (Restart::Once, _) => "oneshot",
        (Restart::Always | Restart::OnFailure | Restart::Never, true) => "notify",
        (Restart::Always | Restart::OnFailure | Restart::Never, false) => "simple",
    };
    line("Type", kind.to_owned());
    let words: Vec<String> = command(spec).iter().map(|word| exec_word(word)).collect();
    line("ExecStart", words.join(" "));
    line("WorkingDirectory", percent(&spec.cwd.to_string_lossy()));
    for (name, value) in spec.env.iter() {
        line("Environment", quoted(&percent(&format!("{name}={value}"))));
    }
    if spec.instances > 1 {
        line("Environment", quoted(&format!("{}=%i", spec.instance_var)));
    }
    for file in &spec.env_file {
        line("EnvironmentFile", percent(&file.to_string_lossy()));
    }
    if let Some(user) = &spec.user {
        line("User", user.clone());
    }
    if let Some(group) = &spec.group {
        line("Group", group.clone());
    }
    if let Some(mask) = spec.umask {
        line("UMask", format!("{mask:04o}"));
    }
    if let Some(nice) = spec.nice {
        line("Nice", nice.to_string());
    }
    if let Some(score) = spec.oom_score_adj {
        line("OOMScoreAdjust", score.to_string());
    }
    let limits = [
        ("LimitNOFILE", spec.limits.nofile),
        ("LimitNPROC", spec.limits.nproc),
        ("LimitCORE", spec.limits.core),
        ("LimitAS", spec.limits.address_space),
        ("MemoryMax", spec.limits.memory.or(spec.max_memory_restart)),
        ("TasksMax", spec.limits.pids),
    ];
    for (name, limit) in limits {
        if let Some(limit) = limit {
            line(name, limit.to_string());
        }
    }
    if let Some(percent) = spec.limits.cpu {
        line("CPUQuota", format!("{percent}%"));
    }
    match spec.restart {
        Restart::Always => line("Restart", "always".to_owned()),
        Restart::OnFailure => line("Restart", "on-failure".to_owned()),
        Restart::Never | Restart::Once => {}
    }
    if spec.restart == Restart::Always || spec.restart == Restart::OnFailure {
        let pause = spec.restart_delay.max(spec.exp_backoff_restart_delay);
        line("RestartSec", seconds(pause));
        if !spec.stop_exit_codes.is_empty() {
            let codes: Vec<String> = spec.stop_exit_codes.iter().map(u8::to_string).collect();
            line("RestartPreventExitStatus", codes.join(" "));
        }
    }
    line("KillSignal", spec.kill_signal.to_string());
    line("TimeoutStopSec", seconds(spec.kill_timeout));
    if !spec.treekill {
        line("KillMode", "process".to_owned());
    }
}

/// A word of `ExecStart`, for `systemd.service(5)`: specifiers, variables and quotes escaped.
fn exec_word(word: &str) -> String {
    let word = percent(word).replace('$', "$$");
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,$".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word } else { quoted(&word) }
}

fn percent(text: &str) -> String {
    text.replace('%', "%%")
}

fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{text}\"")
}
