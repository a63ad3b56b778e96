//! Who may name whom: reads the sources and fails on a way that is not in the table.
//!
//! Besides: unsafe code and libc only in `sys`, and nothing of the world in the supervisor.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;

/// A module and those it may name. `a::b` allows only that part of `a`.
const LAYERS: [(&str, &[&str]); 17] = [
    ("base", &[]),
    ("json", &["base"]),
    ("mailbox", &[]),
    ("sorted", &[]),
    ("sys", &["base", "sorted"]),
    ("supervisor", &["base", "sorted"]),
    ("config", &["base", "json", "sorted", "supervisor", "sys"]),
    ("web", &[]),
    ("proto", &["base", "json", "sorted", "supervisor", "config"]),
    ("agent", &["base", "json", "supervisor::vocabulary", "config", "proto"]),
    ("reactor", &[]),
    ("logs", &["base", "sorted", "sys", "supervisor::spec"]),
    ("metrics", &["base", "sorted", "sys"]),
    ("keeper", &["base", "sys"]),
    (
        "daemon",
        &[
            "agent",
            "base",
            "json",
            "mailbox",
            "sorted",
            "sys",
            "supervisor",
            "config",
            "proto",
            "reactor",
            "logs",
            "metrics",
            "keeper",
            "web",
        ],
    ),
    (
        "cli",
        &[
            "base",
            "json",
            "mailbox",
            "sorted",
            "supervisor",
            "config",
            "proto",
            "sys",
            "keeper",
            "daemon",
        ],
    ),
    ("lib", &[]),
];

/// A module and what may not stand in it.
const FORBIDDEN: [(&str, &[&str]); 2] = [("supervisor", &OF_THE_WORLD), ("agent", &OF_THE_WORLD)];

const OF_THE_WORLD: [&str; 4] =
    ["std::fs", "std::time::Instant", "std::time::SystemTime", "std::net"];

/// What is wrong in one file, by its path below `src/`.
fn violations(path: &str, text: &str) -> Vec<String> {
    let module = path.split(['/', '.']).next().unwrap();
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else {
        let is_main = path == "main.rs";
        return if is_main { vec![] } else { vec![format!("{path}: in no layer")] };
    };
    let mut found = vec![];
    let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap()).collect();
    let code = code.join("\n");
    for name in named(&code) {
        let is_own = name == module || name.starts_with(&format!("{module}::"));
        let is_allowed =
            allowed.iter().any(|layer| name == *layer || name.starts_with(&format!("{layer}::")));
        if !is_own && !is_allowed {
            found.push(format!("{path}: {module} may not name {name}"));
        }
    }
    if module != "sys" {
        found.extend(words(&code, &["unsafe", "libc"]).map(|word| format!("{path}: {word}")));
    } else if path != "sys/mod.rs" {
        found.extend(words(&code, &["unsafe_code"]).map(|word| format!("{path}: {word}")));
    }
    for (_, ways) in FORBIDDEN.iter().filter(|(name, _)| *name == module) {
        found
            .extend(ways.iter().filter(|way| code.contains(**way)).map(|w| format!("{path}: {w}")));
    }
    found
}

/// Every `crate::a::b`, the members of `crate::{a, b::{c}}` too, as `a::b`.
fn named(code: &str) -> Vec<String> {
    let mut names = vec![];
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            None => names.push(way(rest)),
            Some(list) => {
                let (mut depth, mut start) = (0, true);
                for (at, letter) in list.char_indices() {
                    match letter {
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        '{' => depth += 1,
                        ',' if depth == 0 => start = true,
                        _ if start && !letter.is_whitespace() => {
                            names.push(way(&list[at..]));
                            start = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    names
}

/// The leading `a::b::c` of `text`.
fn way(text: &str) -> String {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
    text[..end.unwrap_or(text.len())].trim_end_matches(':').to_owned()
}

/// Those of `forbidden` that stand in `code` as whole words.
fn words<'a>(code: &'a str, forbidden: &'a [&str]) -> impl Iterator<Item = &'a str> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.split(move |c| !is_part(c)).filter(|word| forbidden.contains(word))
}

fn check(folder: &Path, below: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{below}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            check(&entry.path(), &format!("{path}/"), found);
        } else if path.ends_with(".rs") {
            found.extend(violations(&path, &fs::read_to_string(entry.path()).unwrap()));
        }
    }
}

#[test]
fn the_sources_keep_to_the_layers() {
    let mut found = vec![];
    check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut found);
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn planted_violations_are_caught() {
    for (path, text) in [
        ("base.rs", "use crate::sys::clock;"),
        ("sys/clock.rs", "use crate::supervisor::Supervisor;"),
        ("supervisor/mod.rs", "fn f() { crate::daemon::run() }"),
        ("supervisor/restart.rs", "use crate::{base::Time, sys};"),
        ("supervisor/timers.rs", "use std::time::Instant;\nlet x = std::time::Instant::now();"),
        ("supervisor/state.rs", "std::fs::read(path)"),
        ("proto/control/mod.rs", "use crate::{\n    base::{Pid, Time},\n    daemon,\n};"),
        ("logs/file.rs", "use crate::supervisor::vocabulary::Input;"),
        ("logs/file.rs", "use crate::supervisor;"),
        ("reactor/mod.rs", "use crate::base::Time;"),
        ("config/app.rs", "unsafe { f() }"),
        ("daemon/boot.rs", "use libc::kill;"),
        ("daemon/boot.rs", "libc::kill(1, 9);"),
        ("daemon.rs", "use crate::cli;"),
        ("sys/wait.rs", "#![allow(unsafe_code)]"),
        ("misc/mod.rs", ""),
        ("keeper/mod.rs", "use crate::daemon;"),
    ] {
        assert!(!violations(path, text).is_empty(), "{path}: {text}");
    }
}

#[test]
fn what_is_allowed_passes() {
    for (path, text) in [
        ("main.rs", "pmd::cli::main()"),
        ("lib.rs", "pub mod base;"),
        ("sys/mod.rs", "#![allow(unsafe_code)]"),
        ("sys/wait.rs", "use crate::base::{ExitStatus, Pid}; unsafe { libc::waitpid() }"),
        ("logs/file.rs", "use crate::supervisor::spec::LogSpec;"),
        ("supervisor/mod.rs", "// like std::fs, see crate::daemon\nuse crate::supervisor::spec;"),
        ("reactor/mod.rs", "use crate::reactor::waker::Waker; #[deny(unsafe_code)]"),
        ("cli/mod.rs", "use crate::{base::Pid, daemon, proto::{self, control}};"),
    ] {
        assert_eq!(violations(path, text), [] as [String; 0], "{path}: {text}");
    }
}
