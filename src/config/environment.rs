//! Which variables an app gets from its caller, and what `${NAME}` means in pmd files.
//!
//! Pure. The layers above these (env files, `env`, profiles) are put on by `assemble` and, at
//! each start, by the daemon.

use crate::supervisor::spec::Environment;

/// What every app gets, besides `LC_*`.
const BASE: [&str; 7] = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ"];

/// What describes the caller's session rather than the app; a `*` stands for any end.
const SHELL_NOISE: &[&str] = &[
    "SSH_*",
    "DBUS_*",
    "XDG_SESSION_*",
    "XDG_RUNTIME_DIR",
    "DISPLAY",
    "WAYLAND_*",
    "TMUX*",
    "STY",
    "TERM*",
    "COLORTERM",
    "LS_COLORS",
    "PS1",
    "PS2",
    "PROMPT_COMMAND",
    "SHLVL",
    "OLDPWD",
    "_",
    "SUDO_*",
    "LESS*",
    "PAGER",
    "EDITOR",
    "VISUAL",
    "VSCODE_*",
    "npm_*",
];

/// What pmd, PM2, Node's channel and systemd tell one process about itself: never true for
/// another one. Also the keys of PM2's cloud agent (`agent.md` A-3).
const NOT_FOR_CHILDREN: &[&str] = &[
    "PMD",
    "PMD_*",
    "pm_id",
    "PM2_INSTANCE_ID",
    "NODE_APP_INSTANCE",
    "NODE_CHANNEL_FD",
    "NODE_CHANNEL_SERIALIZATION_MODE",
    "NODE_UNIQUE_ID",
    "NOTIFY_SOCKET",
    "LISTEN_*",
    "WATCHDOG_*",
    "PM2_SECRET_KEY",
    "PM2_PUBLIC_KEY",
    "KEYMETRICS_SECRET",
    "KEYMETRICS_PUBLIC",
    "AGENT_MQTT_ENDPOINT",
];

/// Those variables of `caller` that every app gets: `PATH`, `HOME`, `USER`, `LOGNAME`, `SHELL`,
/// `LANG`, `LC_*`, `TZ`.
#[must_use]
pub fn base_environment(caller: &Environment) -> Environment {
    caller.iter().filter(|(name, _)| BASE.contains(name) || name.starts_with("LC_")).collect()
}

/// A caller's variables without those of its login session and its supervisor.
pub fn strip_shell_noise(vars: impl Iterator<Item = (String, String)>) -> Environment {
    vars.filter(|(name, _)| {
        let is = |pattern: &&str| matches(pattern, name);
        !name.is_empty() && !SHELL_NOISE.iter().any(is) && !NOT_FOR_CHILDREN.iter().any(is)
    })
    .collect()
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

/// Those variables of `caller` whose name contains none of `parts` (PM2's `filter_env`); the base
/// variables always stay.
#[must_use]
pub fn filtered(caller: &Environment, parts: &[String]) -> Environment {
    caller
        .iter()
        .filter(|(name, _)| {
            BASE.contains(name) || !parts.iter().any(|part| name.contains(part.as_str()))
        })
        .collect()
}

/// Replaces `${NAME}` by what `value_of` gives and `$$` by `$`. Any other `$` stays.
///
/// # Errors
///
/// The name that has no value.
pub fn expand(
    text: &str,
    mut value_of: impl FnMut(&str) -> Option<String>,
) -> Result<String, String> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some((name, after)) =
            rest.strip_prefix('{').and_then(|inner| inner.split_once('}'))
        {
            result.push_str(&value_of(name).ok_or_else(|| name.to_owned())?);
            rest = after;
        } else {
            result.push('$');
        }
    }
    result.push_str(rest);
    Ok(result)
}

/// Text that [`expand`] turns back into `text`.
#[must_use]
pub fn escape(text: &str) -> String {
    text.replace('$', "$$")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().copied().collect()
    }

    #[test]
    fn the_base_is_what_a_program_cannot_do_without() {
        let caller = env(&[
            ("PATH", "/bin"),
            ("LC_ALL", "C"),
            ("PORT", "1"),
            ("TZ", "UTC"),
            ("LANGUAGE", ""),
        ]);
        let base = base_environment(&caller);
        assert_eq!(base, env(&[("PATH", "/bin"), ("LC_ALL", "C"), ("TZ", "UTC")]));
    }

    #[test]
    fn a_login_session_stays_behind() {
        let noise = [
            "SSH_TTY",
            "TERM",
            "TERM_PROGRAM",
            "TMUX",
            "_",
            "npm_config_x",
            "LESSOPEN",
            "PMD_ID",
            "NODE_CHANNEL_FD",
            "LISTEN_FDS",
            "WATCHDOG_USEC",
            "NOTIFY_SOCKET",
            "PM2_SECRET_KEY",
        ];
        let kept = ["PORT", "PATH", "NODE_ENV", "DISPLAY_NAME", "_X", "XDG_CONFIG_HOME", "npmx"];
        let all = noise.iter().chain(&kept).map(|name| ((*name).to_owned(), String::new()));
        let stripped = strip_shell_noise(all);
        let names: Vec<&str> = stripped.iter().map(|(name, _)| name).collect();
        let mut expected = kept.to_vec();
        expected.sort_unstable();
        assert_eq!(names, expected);
    }

    #[test]
    fn filtered_names_are_not_inherited() {
        let caller = env(&[("PATH", "/bin"), ("AWS_KEY", "x"), ("PORT", "1")]);
        let parts = ["KEY".to_owned(), "AT".to_owned()];
        assert_eq!(filtered(&caller, &parts), env(&[("PATH", "/bin"), ("PORT", "1")]));
    }

    #[test]
    fn names_in_braces_are_replaced_and_nothing_else() {
        let value = |name: &str| (name == "HOME").then(|| "/root".to_owned());
        assert_eq!(expand("${HOME}/x $HOME $$ ${ $", value).unwrap(), "/root/x $HOME $ ${ $");
        assert_eq!(expand("a${NOPE}b", value).unwrap_err(), "NOPE");
        assert_eq!(expand(&escape("${HOME} $1 $$"), value).unwrap(), "${HOME} $1 $$");
    }
}
