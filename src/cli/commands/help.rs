//! `pmd help` and `pmd version`: everything comes from the table of the commands.

use serde_json::Value;

use crate::cli::Run;
use crate::cli::args::Parsed;
use crate::cli::error::Failure;
use crate::cli::exit::Exit;
use crate::cli::grammar::{self, COMMANDS, Command, GLOBAL, Group, HIDDEN, Kind, Opt};
use crate::cli::output::text;
use crate::cli::session::Session;
use crate::config::suggest;
use crate::json::json;

/// Help is written for this width.
const WIDTH: usize = 80;

/// This program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// `pmd help [command]`.
pub fn run(session: &mut Session, parsed: &Parsed) -> Run {
    let Some(word) = parsed.operands.first() else { return print(session) };
    let Some(command) = grammar::command(word) else {
        let failure = Failure::usage(format!("unknown command '{word}'"));
        return Err(match suggest::nearest(word, grammar::command_words()) {
            Some(near) => failure.hint(format!("did you mean '{near}'? (pmd help)")),
            None => failure.hint("pmd help"),
        }
        .into());
    };
    of_command(session, command)
}

/// Prints what there is to know about everything.
///
/// # Errors
///
/// Those of the output.
pub fn print(session: &mut Session) -> Run {
    if session.screen.json {
        session.screen.document(&table())?;
    } else {
        session.screen.text(&overview())?;
    }
    Ok(Exit::Done)
}

/// What `pmd <command> --help` prints.
///
/// # Errors
///
/// Those of the output.
pub fn of_command(session: &mut Session, command: &Command) -> Run {
    if session.screen.json {
        session.screen.document(&described(command))?;
    } else {
        session.screen.text(&page(command))?;
    }
    Ok(Exit::Done)
}

/// `pmd version`: also that of the daemon, where one runs.
pub fn version(session: &mut Session, _parsed: &Parsed) -> Run {
    let daemon = if session.is_there().unwrap_or(false) {
        session.question("get_daemon", &json!({})).ok()
    } else {
        None
    };
    if session.screen.json {
        let daemon =
            daemon.map(|daemon| json!({"version": daemon["version"], "pid": daemon["pid"]}));
        session.screen.document(&json!({"version": VERSION, "daemon": daemon}))?;
        return Ok(Exit::Done);
    }
    session.screen.line(&format!("pmd {VERSION}"))?;
    if let Some(daemon) = daemon {
        let version = daemon["version"].as_str().unwrap_or("?");
        let pid = daemon["pid"].as_u64().unwrap_or(0);
        session.screen.line(&format!("daemon {version} (pid {pid})"))?;
    }
    Ok(Exit::Done)
}

/// What `pmd` alone prints: at most 24 lines.
#[must_use]
pub fn short() -> String {
    let mut page = String::from("Usage: pmd [options] <command> [targets...] [-- arguments]\n\n");
    for group in Group::ALL {
        let names: Vec<&str> =
            COMMANDS.iter().filter(|command| command.group == group).map(|c| c.name).collect();
        page.push_str(&format!("{}:\n", group.title()));
        for line in text::wrap(names, WIDTH, 2) {
            page.push_str(&line);
            page.push('\n');
        }
    }
    page.push_str("\nStart a program: pmd start app.js    More: pmd --help, pmd help <command>\n");
    page
}

/// What `pmd --help` prints.
#[must_use]
pub fn overview() -> String {
    let mut page = String::from(
        "pmd runs programs, keeps them running and keeps their output.\n\n\
         Usage: pmd [options] <command> [targets...] [-- arguments]\n",
    );
    for group in Group::ALL {
        page.push_str(&format!("\n{}:\n", group.title()));
        for command in COMMANDS.iter().filter(|command| command.group == group) {
            page.push_str(&format!("  {:11} {}\n", command.name, command.about));
        }
    }
    page.push_str("\nOptions of every command:\n");
    for option in GLOBAL {
        page.push_str(&explained(option));
    }
    page.push_str(
        "\nTargets: an id, a name, name:instance, a namespace, all, a pattern in quotes\n\
         ('api-*'), or a configuration file.\n\nExit codes:\n",
    );
    for (exit, about) in Exit::ALL {
        page.push_str(&format!("  {}  {about}\n", exit as u8));
    }
    page
}

/// The help of one command: at most 40 lines.
#[must_use]
pub fn page(command: &Command) -> String {
    let options = if command.options.is_empty() { "" } else { " [options]" };
    let operands =
        if command.operands.is_empty() { String::new() } else { format!(" {}", command.operands) };
    let rest = match command.rest {
        grammar::Rest::Arguments => " [-- arguments]",
        grammar::Rest::Refused => "",
    };
    let mut page = format!("Usage: pmd {}{operands}{options}{rest}\n", command.name);
    page.push_str(&format!("{}.\n", command.about));
    if !command.aliases.is_empty() {
        page.push_str(&format!("Also: {}\n", command.aliases.join(", ")));
    }
    let shown = || command.options.iter().filter(|option| option.heading != HIDDEN);
    if shown().next().is_some() {
        page.push_str("\nOptions:\n");
    }
    for option in shown().filter(|option| option.heading.is_empty()) {
        page.push_str(&explained(option));
    }
    let mut headings: Vec<&str> = Vec::new();
    for option in shown().filter(|option| !option.heading.is_empty()) {
        if !headings.contains(&option.heading) {
            headings.push(option.heading);
        }
    }
    for heading in &headings {
        page.push_str(&format!("{heading}:\n"));
        let spellings: Vec<String> =
            shown().filter(|option| option.heading == *heading).map(Opt::spelling).collect();
        for line in text::wrap(joined(&spellings).iter().map(String::as_str), WIDTH, 2) {
            page.push_str(&line);
            page.push('\n');
        }
    }
    if !headings.is_empty() {
        page.push_str(&format!("What each is for: pmd help {} --json\n", command.name));
    }
    page.push_str("\nExamples:\n");
    for example in command.examples {
        page.push_str(&format!("  {example}\n"));
    }
    page
}

/// Options of a list, each but the last with a comma: the unit that must not be broken.
fn joined(spellings: &[String]) -> Vec<String> {
    let last = spellings.len().saturating_sub(1);
    let comma = |at: usize| if at == last { "" } else { "," };
    spellings.iter().enumerate().map(|(at, text)| format!("{text}{}", comma(at))).collect()
}

fn explained(option: &Opt) -> String {
    let spelling = option.spelling();
    // Options without a letter line up with those that have one.
    let indent = if option.short.is_some() { 2 } else { 6 };
    format!("{:indent$}{spelling:width$} {}\n", "", option.about, width = 28 - indent)
}

/// The whole table.
fn table() -> Value {
    json!({
        "version": VERSION,
        "commands": COMMANDS.iter().map(described).collect::<Vec<_>>(),
        "options": GLOBAL.iter().map(described_option).collect::<Vec<_>>(),
        "exit_codes": Exit::ALL.map(|(exit, about)| json!({"code": exit as u8, "about": about})),
    })
}

fn described(command: &Command) -> Value {
    let shown = command.options.iter().filter(|option| option.heading != HIDDEN);
    json!({
        "name": command.name, "aliases": command.aliases, "operands": command.operands,
        "about": command.about, "group": command.group.title(),
        "options": shown.map(described_option).collect::<Vec<_>>(),
        "arguments": command.rest == grammar::Rest::Arguments, "examples": command.examples,
    })
}

fn described_option(option: &Opt) -> Value {
    let kind = match option.kind {
        Kind::Flag => "flag",
        Kind::Text => "text",
        Kind::OptionalText => "optional text",
        Kind::Number => "number",
        Kind::Duration => "duration",
        Kind::OptionalDuration => "optional duration",
        Kind::Size => "size",
        Kind::Signal => "signal",
        Kind::Port => "port",
        Kind::OneOf(_) => "word",
        Kind::Codes => "exit codes",
        Kind::Instances => "instances",
    };
    let words = match option.kind {
        Kind::OneOf(words) => words,
        Kind::Flag
        | Kind::Text
        | Kind::OptionalText
        | Kind::Number
        | Kind::Duration
        | Kind::OptionalDuration
        | Kind::Size
        | Kind::Signal
        | Kind::Port
        | Kind::Codes
        | Kind::Instances => &[],
    };
    json!({
        "long": option.long, "short": option.short.map(String::from), "aliases": option.aliases,
        "kind": kind, "words": words, "value": option.placeholder, "repeats": option.repeats,
        "on_by_default": option.on, "about": option.about,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_help_fits_a_terminal_of_24_lines() {
        let short = short();
        assert!(short.lines().count() <= 24, "{short}");
        for command in COMMANDS {
            assert!(short.contains(command.name), "{}", command.name);
        }
    }

    #[test]
    fn the_help_of_each_command_has_at_most_40_lines_of_80_columns() {
        for command in COMMANDS {
            let page = page(command);
            assert!(page.lines().count() <= 40, "{}: {}", command.name, page.lines().count());
            for line in page.lines() {
                assert!(line.chars().count() <= 80, "{}: {line}", command.name);
            }
        }
    }

    #[test]
    fn the_help_names_every_option_that_the_parser_knows() {
        for command in COMMANDS {
            let page = page(command);
            for option in command.options.iter().filter(|option| option.heading != HIDDEN) {
                assert!(page.contains(&option.spelling()), "{} {}", command.name, option.long);
            }
        }
        let overview = overview();
        assert!(overview.lines().all(|line| line.chars().count() <= 100), "{overview}");
        for option in GLOBAL {
            assert!(overview.contains(&option.spelling()), "{}", option.long);
        }
    }

    #[test]
    fn the_examples_are_command_lines_that_the_parser_takes() {
        use crate::cli::args::{Wish, parse};
        for command in COMMANDS {
            for example in command.examples {
                let words = example.split('|').next().unwrap_or("");
                let words = words.split("&&").next().unwrap_or("").split('>').next().unwrap_or("");
                let words = crate::config::words::split(words).unwrap();
                // What stands before `pmd` (variables, `kill -USR1 $(`) is the shell's.
                let Some(at) = words.iter().position(|word| word == "pmd") else { continue };
                let words: Vec<_> = words[at + 1..].iter().map(Into::into).collect();
                let wish = parse(words);
                let right = matches!(wish, Ok(Wish::Run(_) | Wish::Version));
                assert!(right, "{example}: {wish:?}");
            }
        }
    }

    #[test]
    fn the_table_as_json_has_every_command_and_option() {
        let table = table();
        let commands = table["commands"].as_array().unwrap();
        assert_eq!(commands.len(), COMMANDS.len());
        let start = commands.iter().find(|command| command["name"] == "start").unwrap();
        let longs: Vec<_> =
            start["options"].as_array().unwrap().iter().map(|option| &option["long"]).collect();
        assert!(longs.contains(&&json!("kill-timeout")) && longs.contains(&&json!("name")));
    }
}
