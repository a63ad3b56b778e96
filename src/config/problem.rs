//! What is wrong with a declaration, and where: the one form in which `config` reports it.
//!
//! Plain data with a `Display` of one line, as editors understand it:
//! `pmd.json:7:5: apps[1] (web): unknown field 'scrpt' (did you mean 'script'?)`.

use std::fmt;

use serde_json::Value;

/// Text from outside is cut to this many characters in messages.
const MAX_SHOWN: usize = 80;

/// One thing that is wrong (or, as a warning, odd) in a declaration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    pub kind: Kind,
    /// The file, and where in it.
    pub place: Option<Box<Place>>,
    /// Which entry of `apps`.
    pub app: Option<Box<AppLabel>>,
    /// A sentence without a capital and a full stop that names the object.
    pub message: String,
    /// The cause, where known and not said by `message`.
    pub why: Option<String>,
    /// What to do now.
    pub hint: Option<String>,
    /// For syntax errors: the line, and below it a line with a caret.
    pub excerpt: Option<String>,
}

/// What a problem means for who reports it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The declaration is wrong: exit code 6.
    Invalid,
    /// Not permitted: exit code 5.
    NotPermitted,
    /// The program cannot run here: exit code 8.
    NotRunnable,
    /// The host failed: exit code 1.
    Failed,
    /// Good to know, nothing more; only ever among warnings.
    Note,
}

impl Kind {
    /// The error code on the wire.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Invalid => "INVALID_CONFIG",
            Self::NotPermitted => "PERMISSION_DENIED",
            Self::NotRunnable => "PROCESS_START_FAILED",
            Self::Failed => "OPERATION_FAILED",
            Self::Note => "NOTE",
        }
    }
}

/// A file as the user named it, and a position in it where one is known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    pub file: String,
    pub position: Option<Position>,
}

/// A position in a text, both counted from 1; columns count characters.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

/// An entry of `apps`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AppLabel {
    /// From 0.
    pub index: usize,
    /// Empty where it is not known.
    pub name: String,
}

impl Problem {
    /// An invalid declaration.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Invalid,
            place: None,
            app: None,
            message: message.into(),
            why: None,
            hint: None,
            excerpt: None,
        }
    }

    /// The same problem of another kind.
    #[must_use]
    pub fn of_kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    /// The same problem with its cause.
    #[must_use]
    pub fn because(self, why: impl Into<String>) -> Self {
        Self { why: Some(why.into()), ..self }
    }

    /// The same problem with what to do about it.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same problem with "did you mean", where there is something to mean.
    #[must_use]
    pub fn suggest(self, nearest: Option<&str>) -> Self {
        match nearest {
            Some(word) => self.hint(format!("did you mean '{word}'?")),
            None => self,
        }
    }

    /// The same problem at a place.
    #[must_use]
    pub fn at(self, file: &str, position: Option<Position>) -> Self {
        Self { place: Some(Box::new(Place { file: file.to_owned(), position })), ..self }
    }

    /// The same problem of one entry of `apps`.
    #[must_use]
    pub fn of_app(self, index: usize, name: &str) -> Self {
        Self { app: Some(Box::new(AppLabel { index, name: shorten(name) })), ..self }
    }
}

/// One line: place, app, message, and the hint in parentheses.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if let Some(app) = &self.app {
            write!(f, "{app}: ")?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) if hint.starts_with("did you mean") => write!(f, " ({hint})"),
            Some(hint) => write!(f, " (try: {hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}

/// `pmd.json:7:5`, or `pmd.json` alone.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        match self.position {
            Some(Position { line, column }) => write!(f, ":{line}:{column}"),
            None => Ok(()),
        }
    }
}

/// `apps[1] (web)`, or `apps[1]` alone.
impl fmt::Display for AppLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "apps[{}]", self.index)?;
        if self.name.is_empty() { Ok(()) } else { write!(f, " ({})", self.name) }
    }
}

/// Text from outside, fit for one line of a message: control characters escaped, long ones cut.
#[must_use]
pub fn shorten(text: &str) -> String {
    let mut short = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == MAX_SHOWN {
            short.push_str("...");
            break;
        }
        if c.is_control() {
            short.extend(c.escape_default());
        } else {
            short.push(c);
        }
    }
    short
}

/// A value from outside as a message shows it: scalars as JSON, the rest by what they are.
#[must_use]
pub fn show(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => format!("\"{}\"", shorten(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_as_editors_expect() {
        let position = Some(Position { line: 7, column: 5 });
        let problem = Problem::new("unknown field 'scrpt'")
            .suggest(Some("script"))
            .at("pmd.json", position)
            .of_app(1, "web");
        assert_eq!(
            problem.to_string(),
            "pmd.json:7:5: apps[1] (web): unknown field 'scrpt' (did you mean 'script'?)"
        );
        let bare =
            Problem::new("'script' is missing").at("ecosystem.config.js", None).of_app(0, "");
        assert_eq!(bare.to_string(), "ecosystem.config.js: apps[0]: 'script' is missing");
    }

    #[test]
    fn foreign_text_never_breaks_a_line_or_fills_a_screen() {
        assert_eq!(shorten("a\nb\u{1b}[31m"), "a\\nb\\u{1b}[31m");
        assert_eq!(shorten(&"x".repeat(10_000)).len(), 83);
    }
}
