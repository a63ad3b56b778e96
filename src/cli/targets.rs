//! What the user names, as the daemon knows it: names and ids as they are, patterns and files
//! expanded, `-` read from stdin.

use std::io::{self, BufRead};
use std::path::Path;

use crate::cli::app_files;
use crate::cli::args::Parsed;
use crate::cli::entry::Entry;
use crate::cli::error::{End, Failure, in_words};
use crate::cli::exit::Exit;
use crate::cli::glob;
use crate::cli::session::Session;
use crate::config::files::Format;
use crate::sorted::SortedSet;

/// More lines than this are not read from stdin.
const MAX_LINES: usize = 4096;

/// Names as a user types them; longer ones name nothing.
const MAX_NAME: usize = 4096;

/// The targets of a command, ready to be sent. Order is kept, what is named twice counts once.
///
/// # Errors
///
/// A pattern that fits nothing (row 15), a file that cannot be read, no daemon to ask.
pub fn expand(session: &mut Session, parsed: &Parsed) -> Result<Vec<String>, End> {
    expand_words(session, parsed, &parsed.operands)
}

/// As [`expand`], for some of the operands.
///
/// # Errors
///
/// As [`expand`].
pub fn expand_words(
    session: &mut Session,
    parsed: &Parsed,
    words: &[String],
) -> Result<Vec<String>, End> {
    let mut targets = Vec::new();
    for word in from_stdin(words)? {
        if word.len() > MAX_NAME || word.contains('\0') {
            return Err(Failure::usage("a target is too long or holds a NUL").into());
        }
        if is_regex(&word) {
            return Err(Failure::usage(format!("'{word}' is a pattern of another kind"))
                .hint(format!("'{}'", glob_for(&word)))
                .into());
        }
        if names_file(&word) {
            targets.extend(app_files::names(session, parsed, Path::new(&word))?);
        } else if glob::is_pattern(&word) {
            targets.extend(matching(session, &word)?);
        } else {
            targets.push(word);
        }
    }
    let mut seen = SortedSet::new();
    targets.retain(|target| seen.insert(target.clone()));
    Ok(targets)
}

/// As [`expand`] for commands where no target means all: `None` then.
///
/// # Errors
///
/// As [`expand`].
pub fn expand_some(session: &mut Session, parsed: &Parsed) -> Result<Option<Vec<String>>, End> {
    if parsed.operands.is_empty() {
        return Ok(None);
    }
    expand(session, parsed).map(Some)
}

/// A configuration file, and not a process: a known extension, or a slash.
#[must_use]
pub fn names_file(word: &str) -> bool {
    Format::of(Path::new(word)).is_some() || (word.contains('/') && word != "/")
}

/// `-` as the lines of stdin.
fn from_stdin(words: &[String]) -> Result<Vec<String>, End> {
    let mut all = Vec::new();
    for word in words {
        if word != "-" {
            all.push(word.clone());
            continue;
        }
        for line in io::stdin().lock().lines() {
            let line = line.map_err(|error| {
                Failure::new(Exit::Failed, format!("cannot read stdin: {}", in_words(&error)))
            })?;
            if all.len() >= MAX_LINES {
                return Err(
                    Failure::usage(format!("more than {MAX_LINES} targets on stdin")).into()
                );
            }
            let line = line.trim();
            if !line.is_empty() {
                all.push(line.to_owned());
            }
        }
    }
    Ok(all)
}

/// The names a pattern fits.
fn matching(session: &mut Session, pattern: &str) -> Result<Vec<String>, End> {
    let processes = session.processes(None, true)?;
    let names: Vec<String> = processes
        .iter()
        .map(|process| Entry(process).name().to_owned())
        .filter(|name| glob::matches(pattern, name))
        .collect();
    if names.is_empty() {
        let what = format!("no process matches '{pattern}'");
        return Err(Failure::new(Exit::NotFound, what).hint("pmd ls").into());
    }
    Ok(names)
}

/// PM2's `/regex/`.
fn is_regex(word: &str) -> bool {
    word.len() > 2 && word.starts_with('/') && word.ends_with('/')
}

/// The pattern that was probably meant.
fn glob_for(regex: &str) -> String {
    let inner = regex.trim_matches('/');
    let start = if inner.starts_with('^') { "" } else { "*" };
    let end = if inner.ends_with('$') { "" } else { "*" };
    let inner = inner.trim_start_matches('^').trim_end_matches('$');
    format!("{start}{}{end}", inner.replace(".*", "*").replace('\\', "")).replace("**", "*")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_a_file_only_by_its_extension_or_a_slash() {
        for (word, file) in [
            ("web", false),
            ("api-*", false),
            ("web.js", false),
            ("api.v2", false),
            ("pmd.json", true),
            ("Procfile", true),
            ("ecosystem.config.js", true),
            ("./web", true),
        ] {
            assert_eq!(names_file(word), file, "{word}");
        }
    }

    #[test]
    fn a_regular_expression_is_met_with_a_pattern() {
        assert!(is_regex("/^api-.*/"));
        assert!(!is_regex("/srv/app.js") && !is_regex("//"));
        assert_eq!(glob_for("/^api-.*/"), "api-*");
        assert_eq!(glob_for("/worker/"), "*worker*");
    }
}
