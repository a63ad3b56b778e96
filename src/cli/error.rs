//! What goes wrong, as the user reads it.
//!
//! ```text
//! pmd: error: <what happened, one sentence, no full stop>
//!   why:  <cause, if known>
//!   try:  <command or change>
//! ```
//!
//! At most six lines, or one JSON document. Nothing here decides whether something is wrong.

use std::io;
use std::ops::{Deref, DerefMut};
use std::process::ExitCode;

use serde_json::{Map, Value};

use crate::cli::exit::Exit;
use crate::cli::output::text;
use crate::json::json;

/// A message is never longer than this many lines.
const MAX_LINES: usize = 6;

/// Why a command ended early.
#[derive(Debug)]
pub enum End {
    /// Something to tell the user.
    Failed(Failure),
    /// Whoever read our output has gone; nobody is left to tell.
    PipeClosed,
    /// This process was the daemon, or a container's first process; that ended with a code of its
    /// own.
    WasDaemon(ExitCode),
}

/// One thing that went wrong. Small to hand around: it is the exception.
#[derive(Clone, Debug)]
pub struct Failure(Box<Parts>);

/// What there is to say about it.
#[derive(Clone, Debug)]
pub struct Parts {
    pub exit: Exit,
    /// The protocol's word for it.
    pub code: String,
    /// One sentence, complete by itself, without a full stop.
    pub message: String,
    /// Lines that stand before the message: one per problem of a configuration file.
    pub above: Vec<String>,
    pub why: Option<String>,
    /// What to do now.
    pub hint: Option<String>,
    /// What a program that died wrote and what becomes of it; see [`Failure::of_reply`].
    pub below: Vec<String>,
    pub details: Map<String, Value>,
}

impl Failure {
    #[must_use]
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            exit,
            code: exit.code().to_owned(),
            message: message.into(),
            above: Vec::new(),
            why: None,
            hint: None,
            below: Vec::new(),
            details: Map::new(),
        }))
    }

    /// A wrong command line.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// What the daemon says in an `error` message, or in the `error` of one result.
    #[must_use]
    pub fn of_reply(error: &Value) -> Self {
        let code = error["code"].as_str().unwrap_or("OPERATION_FAILED");
        let message = error["message"].as_str().unwrap_or("the daemon gave no reason");
        let mut failure = Self::new(Exit::of_code(code), message);
        failure.code = code.to_owned();
        failure.details = error["details"].as_object().cloned().unwrap_or_default();
        let said = |key: &str| {
            error["details"][key].as_str().or_else(|| error[key].as_str()).map(str::to_owned)
        };
        (failure.why, failure.hint) = (said("why"), said("hint"));
        failure
    }

    #[must_use]
    pub fn why(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn above(mut self, lines: Vec<String>) -> Self {
        self.above = lines;
        self
    }

    /// The message without the lines above it, ready to print. `colour` marks the word `error`.
    #[must_use]
    pub fn lines(&self, colour: bool) -> Vec<String> {
        let word = if colour { "\u{1b}[31merror\u{1b}[0m" } else { "error" };
        let mut lines = vec![format!("pmd: {word}: {}", text::one_line(&self.message))];
        if let Some(why) = &self.why {
            lines.push(format!("  why:  {}", text::one_line(why)));
        }
        lines.extend(self.below.iter().map(|line| format!("  {}", text::one_line(line))));
        if let Some(hint) = &self.hint {
            lines.push(format!("  try:  {}", text::one_line(hint)));
        }
        lines.truncate(MAX_LINES);
        lines
    }

    /// The `error` object of section 7.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut details = self.details.clone();
        if !self.above.is_empty() {
            details.insert("problems".to_owned(), json!(self.above));
        }
        if let Some(why) = &self.why {
            details.insert("why".to_owned(), json!(why));
        }
        details.remove("hint");
        json!({
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "details": details,
        })
    }
}

impl Deref for Failure {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl DerefMut for Failure {
    fn deref_mut(&mut self) -> &mut Parts {
        &mut self.0
    }
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Errors of our own output. A closed pipe ends the command silently.
impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::PipeClosed;
        }
        Failure::new(Exit::Failed, format!("cannot write the output: {}", in_words(&error))).into()
    }
}

/// An I/O error without its number: `permission denied`, not `Permission denied (os error 13)`.
#[must_use]
pub fn in_words(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = words.chars();
    // An abbreviation (`I/O error`) keeps its capitals.
    match (letters.next(), letters.next()) {
        (Some(first), Some(second)) if second.is_ascii_lowercase() => {
            [first.to_ascii_lowercase(), second].into_iter().chain(letters).collect()
        }
        _ => words.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_reads_as_the_catalogue_says() {
        let failure = Failure::usage("unknown command 'strat'").hint("did you mean 'start'?");
        assert_eq!(
            failure.lines(false),
            ["pmd: error: unknown command 'strat'", "  try:  did you mean 'start'?"]
        );
        assert_eq!(failure.to_json()["hint"], "did you mean 'start'?");
        assert_eq!(failure.to_json()["code"], "INVALID_ARGUMENT");
    }

    #[test]
    fn a_failure_has_at_most_six_lines_and_none_is_broken() {
        let mut failure = Failure::new(Exit::NotStarted, "web did\nnot stay up\u{7}").why("why");
        failure.below = (0..10).map(|n| format!("line {n}\u{1b}[31m")).collect();
        let lines = failure.lines(false);
        assert_eq!(lines.len(), MAX_LINES);
        assert!(lines.iter().all(|line| !line.contains(['\n', '\u{1b}', '\u{7}'])), "{lines:?}");
    }

    #[test]
    fn what_the_daemon_says_keeps_its_words() {
        let failure = Failure::of_reply(&json!({
            "code": "PROCESS_NOT_FOUND", "message": "no process named 'wbe'",
            "details": {"hint": "did you mean 'web'?", "process": "wbe"},
        }));
        assert_eq!(failure.exit, Exit::NotFound);
        assert_eq!(failure.hint.as_deref(), Some("did you mean 'web'?"));
        assert_eq!(failure.to_json()["details"], json!({"process": "wbe"}));
    }

    #[test]
    fn system_errors_come_without_numbers() {
        let error = io::Error::from_raw_os_error(13);
        assert_eq!(in_words(&error), "permission denied");
    }
}
