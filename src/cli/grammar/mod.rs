//! The words of the command line: what a command and an option are, and how they are looked up.
//!
//! The one table in [`commands`] feeds the parser, `--help` and `pmd help --json`; nothing else
//! knows which option belongs to which command. Plain data: nothing here reads or prints.

mod absent;
mod commands;
mod options;

use crate::cli::Run;
use crate::cli::args::Parsed;
use crate::cli::session::Session;

pub use absent::{Absent, absent_command, built_in, is_absent_option};
pub use commands::COMMANDS;
pub use options::{GLOBAL, HIDDEN};

/// A command: its names, what it takes and what carries it out.
#[derive(Debug)]
pub struct Command {
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    /// What stands after the name, for the usage line.
    pub operands: &'static str,
    /// How many operands there must be.
    pub count: Count,
    /// What `--` may be followed by.
    pub rest: Rest,
    /// One sentence.
    pub about: &'static str,
    pub options: &'static [Opt],
    pub examples: [&'static str; 2],
    pub group: Group,
    pub run: fn(&mut Session, &Parsed) -> Run,
}

impl Command {
    /// The option that is spelled `--long` here, among this command's own and the global ones.
    #[must_use]
    pub fn long(&self, long: &str) -> Option<&'static Opt> {
        self.all_options().find(|option| option.long == long || option.aliases.contains(&long))
    }

    /// The option that is spelled `-short` here. A command's own letter hides a global one.
    #[must_use]
    pub fn short(&self, short: char) -> Option<&'static Opt> {
        self.all_options().find(|option| option.short == Some(short))
    }

    /// This command's options, then the global ones.
    pub fn all_options(&self) -> impl Iterator<Item = &'static Opt> + use<> {
        self.options.iter().chain(GLOBAL)
    }

    /// Whether it asks a daemon for something that PM2 would start one for.
    #[must_use]
    pub fn is_about_processes(&self) -> bool {
        match self.group {
            Group::Act | Group::Look | Group::Script | Group::State => self.name != "run",
            Group::Configuration | Group::Daemon => false,
        }
    }

    /// Whether an operand may be a negative number.
    #[must_use]
    pub fn takes_numbers(&self) -> bool {
        self.count == Count::TargetAndNumber
    }
}

/// The command with this name or alias.
#[must_use]
pub fn command(word: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == word || command.aliases.contains(&word))
}

/// Every name and alias of a command, for suggestions.
pub fn command_words() -> impl Iterator<Item = &'static str> {
    COMMANDS
        .iter()
        .flat_map(|command| std::iter::once(command.name).chain(command.aliases.iter().copied()))
}

/// Whether `spelling` (`--name`, `-n`) takes a value in any command. Used for options that stand
/// before the command; the table is consistent enough for that (see the tests).
#[must_use]
pub fn takes_value(spelling: &str) -> bool {
    let all = || COMMANDS.iter().flat_map(|command| command.options).chain(GLOBAL);
    match spelling.strip_prefix("--") {
        Some(long) => all().any(|option| {
            option.kind.takes_value() && (option.long == long || option.aliases.contains(&long))
        }),
        None => {
            let mut letters = spelling.chars().skip(1);
            match (letters.next(), letters.next()) {
                // `-nvalue` carries its value along.
                (Some(letter), None) => {
                    all().any(|option| option.kind.takes_value() && option.short == Some(letter))
                }
                _ => false,
            }
        }
    }
}

/// How many operands a command takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Count {
    None,
    /// Any number, none included.
    Any,
    AtMostOne,
    ExactlyOne,
    AtLeastOne,
    /// A target, then a number that may have a sign.
    TargetAndNumber,
    /// At least a signal and a target.
    AtLeastTwo,
}

/// What may stand behind `--`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rest {
    Refused,
    /// Arguments of the program.
    Arguments,
}

/// The sections of `pmd --help`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Group {
    Act,
    Look,
    Script,
    State,
    Configuration,
    Daemon,
}

impl Group {
    pub const ALL: [Self; 6] =
        [Self::Act, Self::Look, Self::Script, Self::State, Self::Configuration, Self::Daemon];

    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Act => "Run programs",
            Self::Look => "Look",
            Self::Script => "For scripts",
            Self::State => "Logs and state",
            Self::Configuration => "Configuration",
            Self::Daemon => "Daemon and help",
        }
    }
}

/// An option.
#[derive(Clone, Copy, Debug)]
pub struct Opt {
    pub long: &'static str,
    pub short: Option<char>,
    /// Other long spellings, shown nowhere but in `pmd help --json`.
    pub aliases: &'static [&'static str],
    pub kind: Kind,
    /// How the value is written in the help; empty for flags.
    pub placeholder: &'static str,
    pub about: &'static str,
    /// Given several times, all count; otherwise the last one does.
    pub repeats: bool,
    /// A flag that is on unless `--no-` is said: the help shows that form.
    pub on: bool,
    /// Options without a heading are explained one by one; the others are listed under it.
    pub heading: &'static str,
}

/// What an option's value must look like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Flag,
    Text,
    /// A flag that may be given a text, behind `=`.
    OptionalText,
    Number,
    Duration,
    /// A flag that may be given a duration.
    OptionalDuration,
    Size,
    Signal,
    /// A port, a range or `auto:` and a range.
    Port,
    OneOf(&'static [&'static str]),
    /// Exit codes, separated by commas.
    Codes,
    /// A number, a negative number or `max`.
    Instances,
}

impl Kind {
    /// Whether the word after the option belongs to it.
    #[must_use]
    pub fn takes_value(self) -> bool {
        !matches!(self, Self::Flag | Self::OptionalText | Self::OptionalDuration)
    }
}

impl Opt {
    /// A flag.
    #[must_use]
    pub const fn flag(long: &'static str, about: &'static str) -> Self {
        Self {
            long,
            short: None,
            aliases: &[],
            kind: Kind::Flag,
            placeholder: "",
            about,
            repeats: false,
            on: false,
            heading: "",
        }
    }

    /// An option with a value.
    #[must_use]
    pub const fn value(
        long: &'static str,
        kind: Kind,
        placeholder: &'static str,
        about: &'static str,
    ) -> Self {
        let mut option = Self::flag(long, about);
        option.kind = kind;
        option.placeholder = placeholder;
        option
    }

    #[must_use]
    pub const fn short(mut self, letter: char) -> Self {
        self.short = Some(letter);
        self
    }

    #[must_use]
    pub const fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    #[must_use]
    pub const fn repeats(mut self) -> Self {
        self.repeats = true;
        self
    }

    /// A flag that is on by default.
    #[must_use]
    pub const fn on(mut self) -> Self {
        self.on = true;
        self
    }

    /// Listed under `heading` in the help.
    #[must_use]
    pub const fn under(mut self, heading: &'static str) -> Self {
        self.heading = heading;
        self
    }

    /// `-n, --name NAME`, `--no-wait`: as the help writes it.
    #[must_use]
    pub fn spelling(&self) -> String {
        let mut text = String::new();
        if let Some(letter) = self.short {
            text.push('-');
            text.push(letter);
            text.push_str(", ");
        }
        text.push_str(if self.on { "--no-" } else { "--" });
        text.push_str(self.long);
        if !self.placeholder.is_empty() {
            text.push(' ');
            text.push_str(self.placeholder);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn no_two_commands_share_a_word() {
        let mut seen = BTreeSet::new();
        for word in command_words() {
            assert!(seen.insert(word), "{word}");
            assert!(absent_command(word).is_none(), "{word} is both here and absent");
        }
    }

    #[test]
    fn no_command_has_two_options_of_one_spelling() {
        for command in COMMANDS {
            let mut seen = BTreeSet::new();
            for option in command.options {
                let letter = option.short.map(|letter| letter.to_string());
                for word in std::iter::once(option.long).chain(option.aliases.iter().copied()) {
                    assert!(seen.insert(word.to_owned()), "{} --{word}", command.name);
                    assert!(!is_absent_option(word), "{} --{word}", command.name);
                }
                if let Some(letter) = letter {
                    assert!(seen.insert(letter.clone()), "{} -{letter}", command.name);
                }
            }
        }
    }

    /// Else `pmd -x start` could not be told from `pmd -x VALUE start`.
    #[test]
    fn a_letter_takes_a_value_everywhere_or_nowhere() {
        let mut kinds: BTreeMap<char, (bool, &str)> = BTreeMap::new();
        for command in COMMANDS {
            for option in command.all_options() {
                let Some(letter) = option.short else { continue };
                let takes = option.kind.takes_value();
                let (before, of) = *kinds.entry(letter).or_insert((takes, command.name));
                assert_eq!(before, takes, "-{letter} of {} and {of}", command.name);
            }
        }
    }

    #[test]
    fn every_command_and_option_says_what_it_is_for() {
        for command in COMMANDS {
            assert!(!command.about.is_empty(), "{}", command.name);
            assert!(!command.about.ends_with('.'), "{}", command.name);
            assert!(command.examples.iter().all(|text| text.contains("pmd ")), "{}", command.name);
            for option in command.options {
                assert!(!option.about.is_empty(), "{} --{}", command.name, option.long);
                assert_eq!(
                    option.kind == Kind::Flag,
                    option.placeholder.is_empty(),
                    "{} --{}",
                    command.name,
                    option.long
                );
            }
        }
    }
}
