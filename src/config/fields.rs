//! Reads the fields of one app: each once, under any of its names, with its type checked, and
//! with a message that says where it stands.
//!
//! Pure. What the values mean together is decided in `assemble`.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::config::app::{self, Field, Support};
use crate::config::locate::{self, End, Step};
use crate::config::problem::{Kind, Position, Problem, shorten, show};
use crate::config::resolve::{Dialect, Origin};
use crate::config::{suggest, units, words};
use crate::sorted::{SortedMap, SortedSet};

/// More problems than this are not looked for in one document.
pub(super) const MAX_PROBLEMS: usize = 200;

/// What is wrong with one document, as it is found.
pub(super) struct Report<'a> {
    pub origin: &'a Origin<'a>,
    pub warnings: Vec<Problem>,
    pub problems: Vec<Problem>,
    /// Fields without effect that have been named once.
    noticed: SortedSet<&'static str>,
}

impl<'a> Report<'a> {
    pub fn new(origin: &'a Origin<'a>) -> Self {
        Self { origin, warnings: Vec::new(), problems: Vec::new(), noticed: SortedSet::new() }
    }

    /// Whether there is so much wrong already that the rest need not be looked at.
    pub fn is_full(&self) -> bool {
        self.problems.len() >= MAX_PROBLEMS
    }

    /// Enters something that is wrong.
    pub fn problem(&mut self, problem: Problem, path: &[Step], end: End) {
        if !self.is_full() {
            let problem = self.placed(problem, path, end);
            self.problems.push(problem);
        }
    }

    /// Enters something that is odd.
    pub fn warning(&mut self, problem: Problem, path: &[Step], end: End) {
        if self.warnings.len() < MAX_PROBLEMS {
            let problem = self.placed(problem, path, end);
            self.warnings.push(problem);
        }
    }

    /// Enters what is wrong in pmd's own files and odd elsewhere.
    pub fn strict(&mut self, problem: Problem, path: &[Step], end: End) {
        if self.is_strict() {
            self.problem(problem, path, end);
        } else {
            self.warning(problem, path, end);
        }
    }

    /// Whether what pmd does not know or cannot do is an error.
    pub fn is_strict(&self) -> bool {
        self.origin.strict || self.origin.dialect == Dialect::Pmd
    }

    fn placed(&self, problem: Problem, path: &[Step], end: End) -> Problem {
        let Some((file, text)) = self.origin.file else { return problem };
        problem.at(file, self.position(text, path, end))
    }

    fn position(&self, text: &str, path: &[Step], end: End) -> Option<Position> {
        if text.is_empty() { None } else { locate::locate(text, path, end) }
    }
}

/// One field as it was given.
#[derive(Clone)]
pub(super) struct Entry<'a> {
    /// Its name as written: `maxRestarts`, `log.max_size`.
    pub shown: String,
    /// The steps from the app to the value.
    path: Vec<Step>,
    pub value: &'a Value,
}

/// The fields of one app.
pub(super) struct Fields<'a, 'r> {
    pub report: &'r mut Report<'a>,
    /// The steps from the document to the app.
    base: Vec<Step>,
    /// Its place in `apps` and its name, for messages; `None` for an app that came alone.
    label: Option<(usize, String)>,
    entries: SortedMap<&'static str, Entry<'a>>,
    /// `env_<name>`, by `<name>`.
    profiles: SortedMap<String, Entry<'a>>,
    /// Something is wrong: there will be no spec.
    failed: bool,
}

impl<'a, 'r> Fields<'a, 'r> {
    pub fn new(
        report: &'r mut Report<'a>,
        base: Vec<Step>,
        label: Option<(usize, String)>,
        map: &'a Map<String, Value>,
    ) -> Self {
        let mut fields = Self {
            report,
            base,
            label,
            entries: SortedMap::new(),
            profiles: SortedMap::new(),
            failed: false,
        };
        for (key, value) in map {
            if !fields.report.is_full() {
                fields.enter(key, value);
            }
        }
        fields
    }

    fn enter(&mut self, key: &str, value: &'a Value) {
        let path = vec![Step::Key(key.to_owned())];
        let entry = Entry { shown: shorten(key), path, value };
        match app::find(key) {
            Some(field) if field.name == "log" => self.enter_log(entry),
            Some(field) if field.name == "spawn_with" => self.enter_group(app::SPAWN_FIELDS, entry),
            Some(field) if field.name == "event_options" => {
                self.enter_group(app::EVENT_FIELDS, entry);
            }
            Some(field) if field.name == "limits" => self.enter_limits(&entry),
            Some(field) => self.enter_field(field, entry),
            None => match app::snake_case(key).strip_prefix("env_") {
                Some(profile) if !profile.is_empty() => {
                    self.profiles.insert(profile.to_owned(), entry);
                }
                Some(_) | None => self.unknown(&entry, app::suggest(key)),
            },
        }
    }

    fn enter_field(&mut self, field: &'static Field, entry: Entry<'a>) {
        match field.support {
            // PM2 and JavaScript write null where they mean nothing.
            Support::Full if entry.value.is_null() && !self.report.is_strict() => {}
            Support::Full => self.keep(field.name, entry),
            Support::Later if app::is_off(entry.value) => {}
            Support::Later => self.unsupported(&entry),
            Support::NoEffect => {
                if self.report.noticed.insert(field.name) {
                    let message = format!("'{}' has no effect in pmd", entry.shown);
                    let problem = self.labelled(Problem::new(message).of_kind(Kind::Note));
                    let path = self.path(&entry);
                    self.report.warning(problem, &path, End::Key);
                }
            }
        }
    }

    fn enter_log(&mut self, entry: Entry<'a>) {
        if entry.value.is_object() {
            self.enter_group(app::LOG_FIELDS, entry);
        } else {
            self.keep("log_file", entry);
        }
    }

    /// Enters the fields of an app that stand in an object.
    fn enter_group(&mut self, group: &'static [(&str, &str)], entry: Entry<'a>) {
        if entry.value.is_null() && !self.report.is_strict() {
            return;
        }
        let Some(inner) = entry.value.as_object() else {
            return self.wrong(&entry, "an object");
        };
        for (key, value) in inner {
            let nested = entry.nested(key, value);
            let field = group
                .iter()
                .find(|(name, _)| *name == app::snake_case(key))
                .and_then(|(_, field)| app::find(field));
            match field {
                Some(field) => self.enter_field(field, nested),
                None => {
                    let names = group.iter().map(|(name, _)| *name);
                    self.unknown(&nested, suggest::nearest(key, names));
                }
            }
        }
    }

    fn enter_limits(&mut self, entry: &Entry<'a>) {
        if entry.value.is_null() && !self.report.is_strict() {
            return;
        }
        let Some(inner) = entry.value.as_object() else {
            return self.wrong(entry, "an object");
        };
        for (key, value) in inner {
            let nested = entry.nested(key, value);
            let name = app::snake_case(key);
            match app::LIMIT_FIELDS.iter().find(|field| field.name == name) {
                Some(field) => self.enter_field(field, nested),
                None => {
                    let names = app::LIMIT_FIELDS.iter().map(|field| field.name);
                    self.unknown(&nested, suggest::nearest(key, names));
                }
            }
        }
    }

    fn keep(&mut self, name: &'static str, entry: Entry<'a>) {
        if let Some(first) = self.entries.get(name) {
            let message =
                format!("'{}' and '{}' are the same field, given twice", first.shown, entry.shown);
            self.error_at(&entry, Problem::new(message), End::Key);
        } else {
            self.entries.insert(name, entry);
        }
    }

    /// Enters a field that does not exist, with the name of one that does.
    pub fn unknown(&mut self, entry: &Entry<'_>, nearest: Option<&str>) {
        let problem = Problem::new(format!("unknown field '{}'", entry.shown)).suggest(nearest);
        self.strict(entry, problem);
    }

    /// Says that this version cannot do what a field asks for.
    pub fn unsupported(&mut self, entry: &Entry<'_>) {
        self.cannot(entry, format!("'{}' is not supported by this version", entry.shown));
    }

    /// As [`unsupported`](Self::unsupported), for one value of a field.
    pub fn cannot(&mut self, entry: &Entry<'_>, message: String) {
        self.strict(entry, Problem::new(message));
    }

    /// Enters what is wrong in pmd's own files and odd elsewhere.
    fn strict(&mut self, entry: &Entry<'_>, problem: Problem) {
        if self.report.is_strict() {
            self.error_at(entry, problem, End::Key);
        } else {
            let problem = self.labelled(problem);
            let path = self.path(entry);
            self.report.warning(problem, &path, End::Key);
        }
    }

    /// Takes a field out as it is.
    pub fn take(&mut self, name: &'static str) -> Option<Entry<'a>> {
        self.entries.remove(name)
    }

    /// Whether something was wrong so far.
    pub fn failed(&self) -> bool {
        self.failed
    }

    /// Looks at a field without taking it out.
    pub fn peek(&self, name: &str) -> Option<&Entry<'a>> {
        self.entries.get(name)
    }

    /// The profile `env_<name>`.
    pub fn profile(&self, name: &str) -> Option<Entry<'a>> {
        self.profiles.get(name).or_else(|| self.profiles.get(&app::snake_case(name))).cloned()
    }

    /// The profiles that were given.
    pub fn profile_names(&self) -> impl Iterator<Item = &str> {
        self.profiles.keys().map(String::as_str)
    }

    /// Reads a field with `read`; where that gives nothing, says that it must be `expected`.
    pub fn read<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let entry = self.take(name)?;
        let value = read(entry.value);
        if value.is_none() {
            self.wrong(&entry, expected);
        }
        value
    }

    /// A text without NUL characters.
    pub fn text(&mut self, name: &'static str) -> Option<String> {
        let entry = self.take(name)?;
        match entry.value.as_str() {
            Some(text) if text.contains('\0') => {
                self.error(&entry, format!("'{}' must not contain a NUL character", entry.shown));
                None
            }
            Some(text) => Some(text.to_owned()),
            None => {
                self.wrong(&entry, "a string");
                None
            }
        }
    }

    /// A text that is not empty.
    pub fn word(&mut self, name: &'static str) -> Option<String> {
        let entry = self.entries.get(name).cloned()?;
        let text = self.text(name)?;
        if text.is_empty() {
            self.error(&entry, format!("'{}' is empty", entry.shown));
            return None;
        }
        Some(text)
    }

    pub fn flag(&mut self, name: &'static str) -> Option<bool> {
        self.read(name, "true or false", as_flag)
    }

    /// A whole number from `least` to `most`.
    pub fn number(&mut self, name: &'static str, least: i64, most: i64) -> Option<i64> {
        let entry = self.entries.get(name).cloned()?;
        let number = self.read(name, "a whole number", as_whole)?;
        if number < least || number > most {
            let message = format!("'{}' must be {least} to {most}, not {number}", entry.shown);
            self.error(&entry, message);
            return None;
        }
        Some(number)
    }

    /// A duration; a bare number is milliseconds.
    pub fn duration(&mut self, name: &'static str) -> Option<Duration> {
        self.read(name, "a time like 500ms, 5s or 2m", as_duration)
    }

    /// A size in bytes.
    pub fn bytes(&mut self, name: &'static str) -> Option<u64> {
        self.read(name, "a size like 512K, 10M or 1G", as_bytes)
    }

    /// One of some words.
    pub fn choice<T: Copy>(&mut self, name: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let names: Vec<String> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let expected = match names.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            Some(_) | None => names.concat(),
        };
        self.read(name, &expected, |value| {
            let word = value.as_str()?;
            choices.iter().find(|(name, _)| *name == word).map(|&(_, choice)| choice)
        })
    }

    /// A list of strings, or one string split as a shell would.
    pub fn list(&mut self, name: &'static str) -> Option<Vec<String>> {
        let entry = self.take(name)?;
        let Some(list) = as_list(entry.value) else {
            self.wrong(&entry, "a list of strings");
            return None;
        };
        if list.iter().any(|word| word.contains('\0')) {
            self.error(&entry, format!("'{}' must not contain a NUL character", entry.shown));
            return None;
        }
        Some(list)
    }

    /// Enters that a field has a wrong type or value.
    pub fn wrong(&mut self, entry: &Entry<'_>, expected: &str) {
        let message = format!("'{}' must be {expected}, not {}", entry.shown, show(entry.value));
        self.error(entry, message);
    }

    /// Enters that a field's value is wrong.
    pub fn error(&mut self, entry: &Entry<'_>, message: String) {
        self.error_at(entry, Problem::new(message), End::Value);
    }

    pub fn error_at(&mut self, entry: &Entry<'_>, problem: Problem, end: End) {
        self.failed = true;
        let problem = self.labelled(problem);
        let path = self.path(entry);
        self.report.problem(problem, &path, end);
    }

    /// Enters something odd about a field.
    pub fn warn(&mut self, entry: &Entry<'_>, message: String) {
        let problem = self.labelled(Problem::new(message));
        let path = self.path(entry);
        self.report.warning(problem, &path, End::Value);
    }

    /// Enters what is wrong with the app as a whole.
    pub fn app_error(&mut self, problem: Problem) {
        self.failed = true;
        let problem = self.labelled(problem);
        let path = self.base.clone();
        self.report.problem(problem, &path, End::Value);
    }

    /// Enters something odd about the app as a whole.
    pub fn app_warning(&mut self, problem: Problem) {
        let problem = self.labelled(problem);
        let path = self.base.clone();
        self.report.warning(problem, &path, End::Value);
    }

    fn labelled(&self, problem: Problem) -> Problem {
        match &self.label {
            Some((index, name)) => problem.of_app(*index, name),
            None => problem,
        }
    }

    fn path(&self, entry: &Entry<'_>) -> Vec<Step> {
        self.base.iter().chain(&entry.path).cloned().collect()
    }
}

impl<'a> Entry<'a> {
    /// The member `key` of this object.
    pub fn nested(&self, key: &str, value: &'a Value) -> Self {
        let mut path = self.path.clone();
        path.push(Step::Key(key.to_owned()));
        Self { shown: format!("{}.{}", self.shown, shorten(key)), path, value }
    }
}

pub(super) fn as_flag(value: &Value) -> Option<bool> {
    value.as_bool().or_else(|| match value.as_str()? {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    })
}

/// A whole number, or a string that is one. JavaScript's `1.0` and `1e3` are whole numbers.
pub(super) fn as_whole(value: &Value) -> Option<i64> {
    if let Some(number) = value.as_f64()
        && value.as_i64().is_none()
    {
        return crate::json::whole(number);
    }
    value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
}

pub(super) fn as_duration(value: &Value) -> Option<Duration> {
    match value.as_str() {
        Some(text) => units::duration(text),
        None => units::duration(&value.as_number()?.to_string()),
    }
}

pub(super) fn as_bytes(value: &Value) -> Option<u64> {
    match value.as_str() {
        Some(text) => units::bytes(text),
        None => u64::try_from(as_whole(value)?).ok(),
    }
}

/// A list of strings and numbers, or a string that is split at its blanks.
pub(super) fn as_list(value: &Value) -> Option<Vec<String>> {
    if let Some(text) = value.as_str() {
        return words::split(text);
    }
    value.as_array()?.iter().map(as_plain).collect()
}

/// A string as it is, a number as it is written.
pub(super) fn as_plain(value: &Value) -> Option<String> {
    match value.as_str() {
        Some(text) => Some(text.to_owned()),
        None => value.as_number().map(ToString::to_string),
    }
}
