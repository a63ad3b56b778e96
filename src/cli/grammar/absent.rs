//! Words that PM2's users know and this pmd does not have: what to say about them.

use std::ffi::OsString;

/// Why a word that PM2 knows is not a command here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Absent {
    /// A command of PM2's cloud, or one that has no meaning here; the text names what does the
    /// same, where something does.
    Cloud(Option<&'static str>),
    /// Part of the design, not of this version.
    Later,
}

/// What is to be said about `word`, where PM2 has such a command and pmd has not.
#[must_use]
pub fn absent_command(word: &str) -> Option<Absent> {
    if word.starts_with("profile:") {
        return Some(Absent::Cloud(Some("perf record -p <pid>")));
    }
    CLOUD
        .iter()
        .find(|(name, _)| *name == word)
        .map(|&(_, instead)| Absent::Cloud(instead))
        .or_else(|| LATER.contains(&word).then_some(Absent::Later))
}

/// What to say of a module of PM2 that is part of pmd: scripts that install it are right.
#[must_use]
pub fn built_in(command: &str, operands: &[OsString]) -> Option<&'static str> {
    let is_rotation = command == "install" && operands.iter().any(|word| word == "pm2-logrotate");
    is_rotation.then_some(
        "built in: files rotate at 10 MiB, 5 old ones are kept (--log-max-size, --log-keep)",
    )
}

/// Whether `long` (without dashes) or a letter is an option of later versions.
#[must_use]
pub fn is_absent_option(word: &str) -> bool {
    LATER_OPTIONS.contains(&word)
}

const CLOUD: [(&str, Option<&str>); 19] = [
    ("plus", Some("pmd ls, pmd logs and pmd events work without an account")),
    ("login", Some("nothing: pmd needs no account")),
    ("logout", Some("nothing: pmd needs no account")),
    ("register", Some("nothing: pmd needs no account")),
    ("monitor", Some("pmd ls --refresh")),
    ("unmonitor", None),
    ("open", Some("pmd ls --refresh")),
    ("install", None),
    ("uninstall", None),
    ("module:update", None),
    ("module:generate", None),
    ("publish", None),
    ("package", None),
    ("deploy", Some("copy the files with rsync or git, then: pmd apply pmd.json")),
    ("serve", Some("pmd start -x 'python3 -m http.server 8080'")),
    ("pull", Some("git pull, then: pmd reload <target>")),
    ("forward", Some("git checkout <commit>, then: pmd reload <target>")),
    ("backward", Some("git checkout <commit>, then: pmd reload <target>")),
    ("install-otel", None),
];

const LATER: &[&str] = &[
    "attach",
    "cleardump",
    "completion",
    "dash",
    "dashboard",
    "imonit",
    "man",
    "monit",
    "multiset",
    "report",
    "schema",
    "startup",
    "sysmonit",
    "unstartup",
    "update",
    "updatePM2",
    "autoinstall",
];

const LATER_OPTIONS: &[&str] = &["shutdown-with-message", "container"];
