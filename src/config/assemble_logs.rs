//! What becomes of one app's output: the log fields to a [`LogSpec`].
//!
//! Pure.

use std::path::Path;

use serde_json::Value;

use crate::config::assemble::Ground;
use crate::config::fields::{self, Fields};
use crate::config::settings::LogTargets;
use crate::supervisor::spec::{LogBoth, LogFormat, LogFull, LogSpec, LogTarget};

/// PM2's `time: true`.
const TIME_PATTERN: &str = "YYYY-MM-DDTHH:mm:ss";

/// What the date prefix knows of day.js, longest first.
const DATE_TOKENS: [&str; 21] = [
    "YYYY", "SSS", "YY", "MM", "DD", "HH", "hh", "mm", "ss", "ZZ", "M", "D", "H", "h", "m", "s",
    "A", "a", "Z", "X", "x",
];

/// The words of `log_type`.
pub(super) const FORMATS: &[(&str, LogFormat)] =
    &[("raw", LogFormat::Raw), ("json", LogFormat::Json), ("logfmt", LogFormat::Logfmt)];

/// The words of `log_full`.
pub(super) const FULL: &[(&str, LogFull)] = &[("drop", LogFull::Drop), ("block", LogFull::Block)];

/// What `log_target` may be.
pub(super) const TARGETS: &str = "\"files\", \"memory\", \"none\", \"journald\" or \"syslog\"";

/// Why `stdout` is none.
pub(super) const STDOUT: &str = "that is what 'pmd run' does by itself";

pub(super) fn logs(fields: &mut Fields<'_, '_>, ground: &Ground) -> LogSpec {
    let targets = target(fields).unwrap_or(fields.report.origin.defaults.log_targets);
    let disabled = fields.flag("disable_logs").unwrap_or(false) || !targets.files;
    let out = stream(fields, ground, "out_file");
    let error = stream(fields, ground, "error_file");
    let both = both(fields, ground);
    let mut logs = LogSpec {
        out: out.unwrap_or_default(),
        error: error.unwrap_or_default(),
        both,
        format: fields
            .choice("log_type", FORMATS)
            .unwrap_or(fields.report.origin.defaults.log_format),
        date: date(fields),
        merge: fields.flag("merge_logs").unwrap_or(false),
        max_size: fields.bytes("log_max_size"),
        keep: fields.number("log_keep", 0, 10_000).and_then(|keep| u32::try_from(keep).ok()),
        full: fields.choice("log_full", FULL),
        journald: targets.journald,
        syslog: targets.syslog,
    };
    if disabled {
        logs.out = LogTarget::Memory;
        logs.error = LogTarget::Memory;
        logs.both = LogBoth::No;
    }
    logs
}

/// `log_target`: one word, or a list of words.
fn target(fields: &mut Fields<'_, '_>) -> Option<LogTargets> {
    let entry = fields.take("log_target")?;
    let words = fields::as_list(entry.value).unwrap_or_default();
    match targets(&words) {
        Ok(targets) => Some(targets),
        Err(Some("stdout")) => {
            let message = format!("\"stdout\" in '{}': {STDOUT}", entry.shown);
            fields.cannot(&entry, message);
            None
        }
        Err(_) => {
            fields.wrong(&entry, TARGETS);
            None
        }
    }
}

/// What the words of a list of targets come to.
///
/// # Errors
///
/// The word that is none; `None`: there is no word.
pub(super) fn targets(words: &[String]) -> Result<LogTargets, Option<&str>> {
    let mut targets = LogTargets { files: false, journald: false, syslog: false };
    for word in words {
        match word.as_str() {
            "files" => targets.files = true,
            "journald" => targets.journald = true,
            "syslog" => targets.syslog = true,
            // Without files the last of it is in memory anyway.
            "memory" | "none" => {}
            other => return Err(Some(other)),
        }
    }
    if words.is_empty() { Err(None) } else { Ok(targets) }
}

fn stream(fields: &mut Fields<'_, '_>, ground: &Ground, name: &'static str) -> Option<LogTarget> {
    // An empty path is how PM2's own dumps say "default".
    if fields.peek(name).is_some_and(|entry| entry.value.as_str() == Some("")) {
        fields.take(name);
    }
    fields.word(name).map(|path| target_of(ground, &path))
}

fn target_of(ground: &Ground, path: &str) -> LogTarget {
    let full = ground.absolute(path);
    if matches!(path, "NULL" | "none") || full == Path::new("/dev/null") {
        LogTarget::Nowhere
    } else {
        LogTarget::File(full)
    }
}

/// `log_file`: a path, or whether both streams also go into one default file.
fn both(fields: &mut Fields<'_, '_>, ground: &Ground) -> LogBoth {
    let Some(entry) = fields.take("log_file") else { return LogBoth::No };
    match (fields::as_flag(entry.value), entry.value.as_str()) {
        (Some(true), _) => LogBoth::Default,
        (Some(false), _) | (None, Some("")) => LogBoth::No,
        (None, Some(path)) if path.contains('\0') => {
            fields.error(&entry, format!("'{}' must not contain a NUL character", entry.shown));
            LogBoth::No
        }
        (None, Some(path)) => match target_of(ground, path) {
            LogTarget::File(path) => LogBoth::File(path),
            LogTarget::Default | LogTarget::Nowhere | LogTarget::Memory => LogBoth::No,
        },
        (None, None) => {
            fields.wrong(&entry, "a path, true or false");
            LogBoth::No
        }
    }
}

fn date(fields: &mut Fields<'_, '_>) -> Option<String> {
    let time = fields.flag("time").unwrap_or(false);
    let entry = fields.peek("log_date_format").cloned();
    let given = match entry.as_ref().map(|entry| entry.value) {
        Some(Value::Bool(false)) => fields.take("log_date_format").and(None),
        Some(_) | None => fields.text("log_date_format").filter(|pattern| !pattern.is_empty()),
    };
    if let (Some(entry), Some(pattern)) = (entry, &given) {
        if pattern.len() > 256 || pattern.contains(char::is_control) {
            fields.wrong(&entry, "a date pattern like \"YYYY-MM-DD HH:mm:ss\"");
        } else if let Some(letter) = unknown_letter(pattern) {
            let message =
                format!("'{letter}' in '{}' is not known and printed as it is", entry.shown);
            fields.warn(&entry, message);
        }
    }
    given.or_else(|| time.then(|| TIME_PATTERN.to_owned()))
}

/// The first letter of a day.js pattern that stands for nothing pmd can print.
fn unknown_letter(pattern: &str) -> Option<char> {
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        if c == '['
            && let Some(end) = rest.find(']')
        {
            rest = &rest[end + 1..];
        } else if let Some(token) = DATE_TOKENS.iter().find(|token| rest.starts_with(**token)) {
            rest = &rest[token.len()..];
        } else if c.is_ascii_alphabetic() && c != 'T' {
            return Some(c);
        } else {
            rest = &rest[c.len_utf8()..];
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn date_patterns_are_known_or_warned_of() {
        for pattern in ["YYYY-MM-DD HH:mm:ss.SSS Z", TIME_PATTERN, "[at] h:mm A", "X", "DD/M/YY"] {
            assert_eq!(unknown_letter(pattern), None, "{pattern}");
        }
        assert_eq!(unknown_letter("dddd HH:mm"), Some('d'));
        assert_eq!(unknown_letter("YYYY Q"), Some('Q'));
    }
}
