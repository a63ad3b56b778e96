//! The words a user typed, as a command with its options.
//!
//! Options stand anywhere; `--` ends them. What is wrong is said in the words of the catalogue,
//! with the nearest thing that exists. Reads and prints nothing.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use lexopt::Arg;

use crate::cli::error::Failure;
use crate::cli::grammar::{self, Absent, Command, Count, Kind, Opt, Rest};
use crate::cli::invoked::Invoked;
use crate::config::{suggest, units};
use crate::supervisor::spec::Ports;

/// More words than this are refused: no shell glob is meant to name so many processes.
const MAX_WORDS: usize = 64 * 1024;

/// What the user wants.
#[derive(Debug)]
pub enum Wish {
    Run(Parsed),
    /// `pmd --help`, or help about one command.
    Help(Option<&'static Command>),
    Version,
    /// No command at all.
    Nothing,
    /// Nothing to do: a module of PM2 that is part of pmd. What to say.
    BuiltIn(&'static str),
}

/// A command line that is right.
#[derive(Debug)]
pub struct Parsed {
    pub command: &'static Command,
    pub operands: Vec<String>,
    /// What followed `--`.
    pub rest: Vec<String>,
    given: Vec<Given>,
}

/// One option as it was given.
#[derive(Debug)]
struct Given {
    option: &'static Opt,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Flag(bool),
    Text(String),
}

/// The options that are not about the command.
#[derive(Clone, Debug, Default)]
pub struct Global {
    pub json: bool,
    pub quiet: bool,
    pub color: Color,
    pub scope: Option<Scope>,
    pub home: Option<PathBuf>,
    pub socket: Option<PathBuf>,
    pub timeout: Option<Duration>,
    pub no_spawn: bool,
    pub invoked: Invoked,
}

/// When to colour.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

/// `--system` or `--user`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    System,
    User,
}

/// What can be said about a command line before it is understood, so that its errors come in the
/// right form: `--json`.
#[must_use]
pub fn wants_json(words: &[OsString]) -> bool {
    words.iter().take_while(|word| *word != "--").any(|word| word == "--json")
}

/// Reads the words after the program's name.
///
/// # Errors
///
/// Rows 1 to 4 and 45 of the catalogue.
pub fn parse(words: Vec<OsString>) -> Result<Wish, Failure> {
    if words.len() > MAX_WORDS {
        return Err(Failure::usage(format!("more than {MAX_WORDS} words")));
    }
    let Some(place) = command_place(&words) else { return without_command(words) };
    let mut words = words;
    let word = utf8(words.remove(place))?;
    let Some(command) = grammar::command(&word) else {
        return match grammar::built_in(&word, &words) {
            Some(text) => Ok(Wish::BuiltIn(text)),
            None => Err(unknown_command(&word)),
        };
    };
    parse_options(command, words)
}

/// Where the command stands: the first word that is neither an option nor an option's value.
fn command_place(words: &[OsString]) -> Option<usize> {
    let mut place = 0;
    while let Some(word) = words.get(place) {
        let text = word.to_string_lossy();
        if text == "--" {
            return None;
        }
        if !text.starts_with('-') || text == "-" {
            return Some(place);
        }
        place += if grammar::takes_value(&text) { 2 } else { 1 };
    }
    None
}

fn without_command(words: Vec<OsString>) -> Result<Wish, Failure> {
    let mut parser = lexopt::Parser::from_args(words);
    while let Some(arg) = next(&mut parser, "")? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => return Ok(Wish::Help(None)),
            Arg::Short('V' | 'v') | Arg::Long("version") => return Ok(Wish::Version),
            Arg::Short(letter) => {
                let known = grammar::GLOBAL.iter().find(|option| option.short == Some(letter));
                let Some(option) = known else {
                    return Err(unknown_option("", &format!("-{letter}"), grammar::GLOBAL));
                };
                skip_value(&mut parser, option)?;
            }
            Arg::Long(long) => {
                let bare = long.strip_prefix("no-").unwrap_or(long);
                let known = grammar::GLOBAL.iter().find(|option| option.long == bare);
                let Some(option) = known else {
                    return Err(unknown_option("", &format!("--{long}"), grammar::GLOBAL));
                };
                skip_value(&mut parser, option)?;
            }
            Arg::Value(_) => return Ok(Wish::Nothing),
        }
    }
    Ok(Wish::Nothing)
}

fn skip_value(parser: &mut lexopt::Parser, option: &'static Opt) -> Result<(), Failure> {
    if option.kind.takes_value() {
        parser.value().map_err(|_| needs_value("", &format!("--{}", option.long)))?;
    }
    Ok(())
}

fn parse_options(command: &'static Command, words: Vec<OsString>) -> Result<Wish, Failure> {
    let name = command.name;
    let mut parsed = Parsed { command, operands: Vec::new(), rest: Vec::new(), given: Vec::new() };
    let mut parser = lexopt::Parser::from_args(words);
    loop {
        if let Some(mut raw) = parser.try_raw_args() {
            if raw.peek().is_some_and(|word| word == "--") {
                raw.next();
                parsed.rest = raw.map(utf8).collect::<Result<_, _>>()?;
                break;
            }
            if command.takes_numbers()
                && let Some(number) = raw.next_if(is_negative_number)
            {
                parsed.operands.push(utf8(number)?);
                continue;
            }
        }
        let (spelling, option, negated) = match next(&mut parser, name)? {
            None => break,
            Some(Arg::Value(word)) => {
                parsed.operands.push(utf8(word)?);
                continue;
            }
            Some(Arg::Short('h') | Arg::Long("help")) => return Ok(Wish::Help(Some(command))),
            Some(Arg::Short('V') | Arg::Long("version")) => return Ok(Wish::Version),
            Some(Arg::Short(letter)) => {
                let spelling = format!("-{letter}");
                let Some(option) = command.short(letter) else {
                    return Err(unknown_option(name, &spelling, command.all_options()));
                };
                (spelling, option, false)
            }
            Some(Arg::Long(long)) => {
                let spelling = format!("--{long}");
                let Some((option, negated)) = long_option(command, long) else {
                    return Err(unknown_option(name, &spelling, command.all_options()));
                };
                (spelling, option, negated)
            }
        };
        let value = read_value(&mut parser, command, &spelling, option, negated)?;
        parsed.given.push(Given { option, value });
    }
    check_counts(&parsed)?;
    Ok(Wish::Run(parsed))
}

/// The option `--long`, and whether it is its `--no-` form.
fn long_option(command: &Command, long: &str) -> Option<(&'static Opt, bool)> {
    if let Some(option) = command.long(long) {
        return Some((option, false));
    }
    let option = command.long(long.strip_prefix("no-")?)?;
    (!option.kind.takes_value() || option.long == "color").then_some((option, true))
}

fn read_value(
    parser: &mut lexopt::Parser,
    command: &Command,
    spelling: &str,
    option: &Opt,
    negated: bool,
) -> Result<Value, Failure> {
    if option.long == "color" && negated {
        return Ok(Value::Text("never".to_owned()));
    }
    match option.kind {
        Kind::Flag => Ok(Value::Flag(!negated)),
        Kind::OptionalText if negated => Ok(Value::Flag(false)),
        Kind::OptionalText => match parser.optional_value() {
            Some(word) => Ok(Value::Text(utf8(word)?)),
            None => Ok(Value::Flag(true)),
        },
        Kind::OptionalDuration if negated => Ok(Value::Flag(false)),
        Kind::OptionalDuration => {
            let attached = parser.optional_value();
            let next = match attached {
                Some(word) => Some(word),
                None => parser.try_raw_args().and_then(|mut raw| raw.next_if(is_duration)),
            };
            let Some(word) = next else { return Ok(Value::Flag(true)) };
            let text = utf8(word)?;
            check_value(command, spelling, option.kind, &text)?;
            Ok(Value::Text(text))
        }
        Kind::Text
        | Kind::Number
        | Kind::Duration
        | Kind::Size
        | Kind::Signal
        | Kind::Port
        | Kind::OneOf(_)
        | Kind::Codes
        | Kind::Instances => {
            let word = parser.value().map_err(|_| needs_value(command.name, spelling))?;
            let text = utf8(word)?;
            check_value(command, spelling, option.kind, &text)?;
            Ok(Value::Text(text))
        }
    }
}

/// Row 4: a value that is not of its kind.
fn check_value(command: &Command, spelling: &str, kind: Kind, text: &str) -> Result<(), Failure> {
    let (right, what, hint) = match kind {
        Kind::Flag | Kind::Text | Kind::OptionalText => return Ok(()),
        Kind::Number => (text.parse::<u32>().is_ok(), "a number", "a whole number, 0 or more"),
        Kind::Duration | Kind::OptionalDuration => {
            (units::duration(text).is_some(), "a duration", units::DURATION_FORMS)
        }
        Kind::Size => (units::bytes(text).is_some(), "a size", units::SIZE_FORMS),
        Kind::Signal => {
            (crate::base::Signal::parse(text).is_some(), "a signal", "SIGTERM, HUP or a number")
        }
        Kind::Port => (Ports::parse(text).is_some(), "a port", "3000, 3000-3003 or auto:5000-5100"),
        Kind::Codes => (
            text.split(',').all(|code| code.trim().parse::<u8>().is_ok()),
            "a list of exit codes",
            "numbers from 0 to 255, separated by commas",
        ),
        Kind::Instances => {
            (text == "max" || text.parse::<i32>().is_ok(), "a number of instances", "4, max or -1")
        }
        Kind::OneOf(words) => {
            if words.contains(&text) {
                return Ok(());
            }
            return Err(Failure::usage(format!(
                "{}: '{spelling} {text}' is not one of {}",
                command.name,
                words.join(", ")
            )));
        }
    };
    if right {
        return Ok(());
    }
    Err(Failure::usage(format!("{}: '{spelling} {text}' is not {what}", command.name)).hint(hint))
}

fn check_counts(parsed: &Parsed) -> Result<(), Failure> {
    let command = parsed.command;
    let name = command.name;
    let few = |what: &str| {
        Err(Failure::usage(format!("{name}: {what}"))
            .hint(format!("pmd {name} {}", command.operands)))
    };
    let have = parsed.operands.len();
    let most = match command.count {
        Count::None => 0,
        Count::AtMostOne | Count::ExactlyOne => 1,
        Count::TargetAndNumber => 2,
        Count::Any | Count::AtLeastOne | Count::AtLeastTwo => usize::MAX,
    };
    if let Some(extra) = parsed.operands.get(most) {
        return few(&format!("'{extra}' is one word too many"));
    }
    let least = match command.count {
        Count::None | Count::Any | Count::AtMostOne => 0,
        Count::ExactlyOne | Count::AtLeastOne => 1,
        Count::TargetAndNumber | Count::AtLeastTwo => 2,
    };
    if have < least {
        return few(if have == 0 { "what?" } else { "something is missing" });
    }
    if command.rest == Rest::Refused && !parsed.rest.is_empty() {
        return few("nothing may follow '--' here");
    }
    Ok(())
}

/// Rows 1 and 45.
fn unknown_command(word: &str) -> Failure {
    match grammar::absent_command(word) {
        Some(Absent::Cloud(instead)) => {
            let failure =
                Failure::usage(format!("'{word}' is a PM2 cloud command and not part of pmd"));
            match instead {
                Some(instead) => failure.hint(instead),
                None => failure,
            }
        }
        Some(Absent::Later) => Failure::usage(format!("unknown command '{word}'"))
            .why("not supported by this version")
            .hint("pmd help"),
        None => {
            let failure = Failure::usage(format!("unknown command '{word}'"));
            match suggest::nearest(word, grammar::command_words()) {
                Some(near) => failure.hint(format!("did you mean '{near}'? (pmd help)")),
                None => failure.hint("pmd help"),
            }
        }
    }
}

/// Row 2.
fn unknown_option(
    command: &str,
    spelling: &str,
    options: impl IntoIterator<Item = &'static Opt>,
) -> Failure {
    let failure = Failure::usage(format!("{}unknown option '{spelling}'", prefix(command)));
    let bare = spelling.trim_start_matches('-');
    if grammar::is_absent_option(bare.strip_prefix("no-").unwrap_or(bare)) {
        return failure.why("not supported by this version");
    }
    if bare.chars().count() > 1 {
        // Both forms of a flag are candidates: `--no-autorestrat` means `--no-autorestart`.
        let (no, stem) = bare.strip_prefix("no-").map_or(("", bare), |stem| ("no-", stem));
        let words = options
            .into_iter()
            .filter(|option| no.is_empty() || !option.kind.takes_value())
            .flat_map(|option| std::iter::once(option.long).chain(option.aliases.iter().copied()));
        if let Some(near) = suggest::nearest(stem, words) {
            return failure.hint(format!("did you mean '--{no}{near}'?"));
        }
    }
    if command.is_empty() {
        failure.hint("pmd help")
    } else {
        failure.hint(format!("pmd help {command}"))
    }
}

/// Row 3.
fn needs_value(command: &str, spelling: &str) -> Failure {
    Failure::usage(format!("{}'{spelling}' needs a value", prefix(command)))
}

fn prefix(command: &str) -> String {
    if command.is_empty() { String::new() } else { format!("{command}: ") }
}

/// The next argument. What lexopt itself can object to: a flag with a value, bytes that are no
/// text.
fn next<'a>(parser: &'a mut lexopt::Parser, command: &str) -> Result<Option<Arg<'a>>, Failure> {
    parser.next().map_err(|error| match error {
        lexopt::Error::UnexpectedValue { option, .. } => {
            Failure::usage(format!("{}'{option}' takes no value", prefix(command)))
        }
        other @ (lexopt::Error::MissingValue { .. }
        | lexopt::Error::UnexpectedOption(_)
        | lexopt::Error::UnexpectedArgument(_)
        | lexopt::Error::ParsingFailed { .. }
        | lexopt::Error::NonUnicodeValue(_)
        | lexopt::Error::Custom(_)) => Failure::usage(format!("{}{other}", prefix(command))),
    })
}

fn utf8(word: OsString) -> Result<String, Failure> {
    word.into_string()
        .map_err(|word| Failure::usage(format!("'{}' is not UTF-8", word.to_string_lossy())))
}

fn is_negative_number(word: &OsStr) -> bool {
    word.to_str().is_some_and(|text| {
        text.strip_prefix('-').is_some_and(|digits| digits.parse::<u32>().is_ok())
    })
}

/// A duration that cannot be meant as a process: with a unit.
fn is_duration(word: &OsStr) -> bool {
    word.to_str().is_some_and(|text| {
        text.starts_with(|first: char| first.is_ascii_digit()) && units::duration(text).is_some()
    })
}

impl Parsed {
    /// Whether the flag `long` is on; `false` where it was not given, unless it is one that is on
    /// by default. The last one given counts.
    #[must_use]
    pub fn flag(&self, long: &str) -> bool {
        self.flag_given(long).unwrap_or_else(|| self.option(long).is_some_and(|option| option.on))
    }

    /// The flag as it was given, if it was.
    #[must_use]
    pub fn flag_given(&self, long: &str) -> Option<bool> {
        self.values(long).next_back().map(|value| match value {
            Value::Flag(on) => *on,
            Value::Text(_) => true,
        })
    }

    /// The value of `long`; the last one given counts.
    #[must_use]
    pub fn text(&self, long: &str) -> Option<&str> {
        self.texts(long).next_back()
    }

    /// All values of `long`, in order.
    pub fn texts(&self, long: &str) -> impl DoubleEndedIterator<Item = &str> {
        self.values(long).filter_map(|value| match value {
            Value::Text(text) => Some(text.as_str()),
            Value::Flag(_) => None,
        })
    }

    /// All values of `long`, each split at commas, without blanks and empty parts.
    #[must_use]
    pub fn list(&self, long: &str) -> Vec<String> {
        let parts = self.texts(long).flat_map(|text| text.split(',')).map(str::trim);
        parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    /// The value of a number option.
    #[must_use]
    pub fn number(&self, long: &str) -> Option<u32> {
        self.text(long).and_then(|text| text.parse().ok())
    }

    /// The value of a duration option.
    #[must_use]
    pub fn duration(&self, long: &str) -> Option<Duration> {
        self.text(long).and_then(units::duration)
    }

    /// The options that are not about the command.
    #[must_use]
    pub fn global(&self) -> Global {
        let scope = self.given.iter().rev().find_map(|given| match given.option.long {
            "system" => Some(Scope::System),
            "user" => Some(Scope::User),
            _ => None,
        });
        Global {
            json: self.flag("json"),
            quiet: self.flag("quiet") || self.flag("silent"),
            color: match self.text("color") {
                Some("always") => Color::Always,
                Some("never") => Color::Never,
                Some(_) | None => Color::Auto,
            },
            scope,
            home: self.text("home").map(PathBuf::from),
            socket: self.text("socket").map(PathBuf::from),
            timeout: self.duration("timeout"),
            no_spawn: !self.flag("spawn"),
            invoked: Invoked::default(),
        }
    }

    fn values(&self, long: &str) -> impl DoubleEndedIterator<Item = &Value> {
        let long = self.option(long).map(|option| option.long);
        self.given
            .iter()
            .filter(move |given| Some(given.option.long) == long)
            .map(|given| &given.value)
    }

    fn option(&self, long: &str) -> Option<&'static Opt> {
        self.command.all_options().find(|option| option.long == long)
    }
}

#[cfg(test)]
mod tests;
