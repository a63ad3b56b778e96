//! Where a command's words go: data to stdout, talk to stderr, colour only where it may be.
//!
//! With `--json` everything is one document on stdout and nothing is ever said on stderr.

use std::io::{self, IsTerminal, Write};

use serde_json::Value;

use crate::cli::args::{Color, Global};
use crate::cli::error::Failure;
use crate::sys;

/// The width that is assumed where the terminal does not say.
const USUAL_WIDTH: usize = 80;

/// What the user sees.
pub struct Screen {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    pub json: bool,
    pub quiet: bool,
    pub view: View,
    err_colour: bool,
    /// Whether a question can be asked and answered.
    can_ask: bool,
}

/// What the rendering of stdout depends on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct View {
    /// Columns, where there is a terminal: nothing is cut for a pipe.
    pub width: Option<usize>,
    pub colour: bool,
    /// Whether the locale knows more than ASCII.
    pub unicode: bool,
}

impl Screen {
    /// The real one.
    #[must_use]
    pub fn new(global: &Global) -> Self {
        let (out, err) = (io::stdout(), io::stderr());
        let terminal = out.is_terminal();
        let err_terminal = err.is_terminal();
        Self {
            view: View {
                width: terminal.then(width),
                colour: coloured(global.color, terminal),
                unicode: is_utf8_locale(),
            },
            err_colour: coloured(global.color, err_terminal),
            can_ask: err_terminal && io::stdin().is_terminal(),
            json: global.json,
            quiet: global.quiet,
            out: Box::new(io::BufWriter::with_capacity(64 * 1024, out.lock())),
            err: Box::new(err),
        }
    }

    /// Whether stdout is a terminal.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.view.width.is_some()
    }

    /// One line of data.
    ///
    /// # Errors
    ///
    /// That of the write, as for all that follows.
    pub fn line(&mut self, line: &str) -> io::Result<()> {
        self.out.write_all(line.as_bytes())?;
        self.out.write_all(b"\n")
    }

    /// A whole text that brings its own line ends.
    pub fn text(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())
    }

    /// What came of an action; nothing with `--quiet` or `--json`.
    pub fn result(&mut self, line: &str) -> io::Result<()> {
        if self.quiet || self.json { Ok(()) } else { self.line(line) }
    }

    /// One JSON document.
    pub fn document(&mut self, value: &Value) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, value)?;
        self.out.write_all(b"\n")
    }

    /// Makes what was written visible now.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// `pmd: note: ...` on stderr.
    pub fn note(&mut self, text: &str) {
        self.aside(&format!("pmd: note: {text}"));
    }

    /// `pmd: warning: ...` on stderr.
    pub fn warning(&mut self, text: &str, hint: Option<&str>) {
        let word = if self.err_colour { "\u{1b}[33mwarning\u{1b}[0m" } else { "warning" };
        self.aside(&format!("pmd: {word}: {text}"));
        if let Some(hint) = hint {
            self.aside(&format!("  try:  {hint}"));
        }
    }

    /// A line on stderr that is neither data nor an error: not with `--quiet` or `--json`.
    pub fn aside(&mut self, line: &str) {
        if !self.quiet && !self.json {
            self.say(line);
        }
    }

    /// Tells what went wrong, in the form of section 8.1. With `--json` the caller has put it
    /// into its document.
    pub fn failure(&mut self, failure: &Failure) {
        if self.json {
            return;
        }
        let lines: Vec<_> =
            failure.above.iter().cloned().chain(failure.lines(self.err_colour)).collect();
        for line in lines {
            self.say(&line);
        }
    }

    /// Asks a question with the answer no; `None` where nobody can be asked.
    pub fn ask(&mut self, question: &str) -> Option<bool> {
        if !self.can_ask || self.json {
            return None;
        }
        let _ = self.out.flush();
        let _ = write!(self.err, "{question} [y/N] ").and_then(|()| self.err.flush());
        let mut answer = String::new();
        let _ = io::stdin().read_line(&mut answer);
        Some(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes" | "YES"))
    }

    /// One line to stderr. That nobody can be told of an error is no error.
    pub fn say(&mut self, line: &str) {
        let _ = self.out.flush();
        let _ = self.err.write_all(format!("{line}\n").as_bytes());
    }
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen").field("json", &self.json).field("view", &self.view).finish()
    }
}

/// `COLUMNS`, else what the terminal says.
fn width() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|text| text.trim().parse().ok());
    columns
        .filter(|&columns| columns > 0)
        .or_else(|| sys::process::terminal_size(&io::stdout()).map(|size| usize::from(size.0)))
        .unwrap_or(USUAL_WIDTH)
}

/// Whether to colour a stream: what was asked for, else `FORCE_COLOR` and its kin, else whether
/// it is a terminal that can.
fn coloured(color: Color, terminal: bool) -> bool {
    let set =
        |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) => false,
        Color::Auto if set("FORCE_COLOR") || set("CLICOLOR_FORCE") => true,
        Color::Auto => terminal && std::env::var_os("TERM").is_none_or(|term| term != "dumb"),
    }
}

/// The first of `LC_ALL`, `LC_CTYPE` and `LANG` that says something decides.
fn is_utf8_locale() -> bool {
    let said = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    said.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}
