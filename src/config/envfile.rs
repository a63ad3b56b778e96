//! Environment files: `NAME=value` lines.
//!
//! [`parse`] is pure; [`read`] reads one file. Blank lines and lines that start with `#` are
//! skipped, `export ` in front is allowed. A value may stand in single quotes (nothing is special)
//! or double quotes (`\n \r \t \" \\ \$`), and then go on over several lines. Outside quotes a `#`
//! after a blank starts a comment. Nothing is expanded.

use std::path::Path;

use crate::config::files::{self, ReadError};
use crate::config::problem::{Problem, shorten};

/// A larger file is refused, in bytes.
pub const MAX_SIZE: u64 = 1024 * 1024;

/// Reads the file at `path`; `shown` is its name in errors.
///
/// # Errors
///
/// Missing, unreadable, larger than [`MAX_SIZE`], no text, or a line that is no `NAME=value`.
pub fn read(path: &Path, shown: &str) -> Result<Vec<(String, String)>, Problem> {
    let name = shorten(shown);
    let bytes = files::read_regular(path, MAX_SIZE).map_err(|error| {
        let message = match error {
            ReadError::Missing => format!("environment file '{name}' does not exist"),
            ReadError::Directory
            | ReadError::NotRegular
            | ReadError::TooLarge(_)
            | ReadError::Other(_) => format!("cannot read environment file '{name}': {error}"),
        };
        Problem::new(message).of_kind(error.kind())
    })?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Problem::new(format!("environment file '{name}' is not a text file")))?;
    parse(&text).map_err(|line| Problem::new(format!("{name} line {line}: expected NAME=value")))
}

/// The variables of `text`, in the order of its lines.
///
/// # Errors
///
/// The number of the first line, from 1, that is none of the forms above.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, usize> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut vars = Vec::new();
    let mut rest = text;
    let mut line = 1;
    while !rest.is_empty() {
        let (entry, after) = entry(rest).ok_or(line)?;
        line += rest[..rest.len() - after.len()].matches('\n').count();
        rest = after;
        vars.extend(entry);
    }
    Ok(vars)
}

/// The variable at the front of `text`, if its first line has one, and the lines after it.
fn entry(text: &str) -> Option<(Option<(String, String)>, &str)> {
    let (line, after) = text.split_once('\n').unwrap_or((text, ""));
    let trimmed = line.trim();
    if trimmed.is_empty() || trimmed.starts_with('#') {
        return Some((None, after));
    }
    let (left, _) = line.split_once('=')?;
    let name = left.trim();
    let name = name
        .strip_prefix("export")
        .map_or(name, |rest| if rest.starts_with([' ', '\t']) { rest.trim_start() } else { name });
    let is_name = |c: char| !c.is_whitespace() && !c.is_control() && !"'\"`$#".contains(c);
    if name.is_empty() || !name.chars().all(is_name) {
        return None;
    }
    let value = text[left.len() + 1..].trim_start_matches([' ', '\t']);
    let (value, after) = match value.chars().next() {
        Some(quote @ ('"' | '\'')) => quoted(&value[1..], quote)?,
        Some(_) | None => {
            let value = line[left.len() + 1..].trim();
            let comment = value.find(" #").or_else(|| value.find("\t#"));
            let value = if value.starts_with('#') { "" } else { value };
            (value[..comment.unwrap_or(value.len()).min(value.len())].trim_end().to_owned(), after)
        }
    };
    if value.contains('\0') {
        return None;
    }
    Some((Some((name.to_owned(), value)), after))
}

/// The value up to its closing quote, and the lines after the one where it closes.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    let end = loop {
        let (at, c) = chars.next()?;
        match c {
            c if c == quote => break at + 1,
            '\\' if quote == '"' => match chars.next()?.1 {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                c @ ('"' | '\\' | '$') => value.push(c),
                c => value.extend(['\\', c]),
            },
            c => value.push(c),
        }
    };
    let (tail, after) = text[end..].split_once('\n').unwrap_or_else(|| (&text[end..], ""));
    let tail = tail.trim();
    (tail.is_empty() || tail.starts_with('#')).then_some((value, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn a_usual_file_is_understood() {
        let text = "# comment\n\nPORT=3000\nexport NODE_ENV = production # inline\r\n\
            URL=http://a/#b\nEMPTY=\nQ=\"a b\" # c\nS='$X \\n'\nE=\"l1\\nl2\\\\\"\nM=\"a\nb\"\n\
            exported=1\nH=#x\nLAST=x";
        assert_eq!(
            vars(text),
            [
                pair("PORT", "3000"),
                pair("NODE_ENV", "production"),
                pair("URL", "http://a/#b"),
                pair("EMPTY", ""),
                pair("Q", "a b"),
                pair("S", "$X \\n"),
                pair("E", "l1\nl2\\"),
                pair("M", "a\nb"),
                pair("exported", "1"),
                pair("H", ""),
                pair("LAST", "x"),
            ]
        );
    }

    #[test]
    fn the_line_that_is_wrong_is_named() {
        for (text, line) in [
            ("A=1\nB=2\n\nnonsense\n", 4),
            ("=x", 1),
            ("A B=1", 1),
            ("A=1\nB=\"open\nC=3\n", 2),
            ("M=\"a\nb\"\n'x'=1", 3),
            ("A=\"x\" y", 1),
        ] {
            assert_eq!(parse(text), Err(line), "{text}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let dir = std::env::temp_dir().join(format!("pmd-envfile-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let message = |path: &Path| read(path, ".env").unwrap_err().to_string();
        let file = dir.join("env");
        assert_eq!(message(&file), "environment file '.env' does not exist");
        assert_eq!(message(&dir), "cannot read environment file '.env': it is a directory");
        std::fs::write(&file, "A=1\n\n# x\nB\n").unwrap();
        assert_eq!(message(&file), ".env line 4: expected NAME=value");
        std::fs::write(&file, [0xff, 0xfe]).unwrap();
        assert_eq!(message(&file), "environment file '.env' is not a text file");
        let limit = usize::try_from(MAX_SIZE).unwrap();
        std::fs::write(&file, "#".repeat(limit + 1)).unwrap();
        assert!(message(&file).ends_with("it is too large: the limit is 1 MiB"));
        std::fs::write(&file, "#".repeat(limit)).unwrap();
        assert_eq!(read(&file, ".env").unwrap(), []);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
