//! JSON text to a value, with limits and with errors a person can act on.
//!
//! Pure. serde_json judges the text; this file says what it found in pmd's words, with line and
//! column, and refuses what serde_json would let pass: too deep, too large, keys given twice.

use serde_json::Value;

use crate::config::locate;
use crate::config::problem::{Position, Problem, shorten};

/// A larger file is refused, in bytes.
pub const MAX_SIZE: usize = 16 * 1024 * 1024;

/// Lists and objects nested deeper than this are refused.
pub const MAX_DEPTH: usize = 64;

/// Longer lines are not shown below an error, in characters.
const MAX_EXCERPT: usize = 200;

/// Reads `bytes`, the content of `file` (named as the user named it).
///
/// # Errors
///
/// All that is wrong: one problem for what is no JSON, one for each key given twice.
pub fn parse(file: &str, bytes: &[u8]) -> Result<Value, Vec<Problem>> {
    let text = text(file, bytes).map_err(|problem| vec![problem])?;
    parse_text(file, text)
}

/// What `bytes` say as text; without a byte order mark.
///
/// # Errors
///
/// Too large, empty, or not text.
pub fn text<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str, Problem> {
    let name = shorten(file);
    if bytes.len() > MAX_SIZE {
        return Err(Problem::new(format!(
            "'{name}' is too large: the limit is {} MiB",
            MAX_SIZE / (1024 * 1024)
        )));
    }
    let binary = || Problem::new(format!("'{name}' is not a text file"));
    let text = std::str::from_utf8(bytes).map_err(|_| binary())?;
    if text.contains('\0') {
        return Err(binary());
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err(Problem::new(format!("'{name}' is empty")));
    }
    Ok(text)
}

/// As [`parse`], for what is known to be text.
///
/// # Errors
///
/// As [`parse`].
pub fn parse_text(file: &str, text: &str) -> Result<Value, Vec<Problem>> {
    if let Some(offset) = locate::too_deep(text, MAX_DEPTH) {
        let message = format!("nested deeper than {MAX_DEPTH} levels");
        return Err(vec![Problem::new(message).at(file, Some(locate::position(text, offset)))]);
    }
    let value = serde_json::from_str(text).map_err(|error| vec![explain(file, text, &error)])?;
    let doubles: Vec<Problem> = locate::duplicates(text)
        .into_iter()
        .map(|(key, offset)| {
            let message = format!("'{}' is given twice", shorten(&key));
            Problem::new(message).at(file, Some(locate::position(text, offset)))
        })
        .collect();
    if doubles.is_empty() { Ok(value) } else { Err(doubles) }
}

/// serde_json's error in pmd's words, with the line it is about.
fn explain(file: &str, text: &str, error: &serde_json::Error) -> Problem {
    let offset = offset_of(text, error.line(), error.column());
    let position = locate::position(text, offset);
    let found = text[offset..].chars().next();
    let message = message(&error.to_string(), found, error.is_eof());
    let mut problem = Problem::new(message).at(file, Some(position));
    problem.excerpt = excerpt(text, position);
    if let Some(form) = relaxed(text, offset) {
        problem = problem.hint(format!("{form} not part of JSON; the full build reads them"));
    }
    problem
}

/// The byte offset of serde_json's line and column (of the offending byte, both from 1). At the
/// end of the text: behind the last thing written.
fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let start = text
        .split_inclusive('\n')
        .take(line.saturating_sub(1))
        .map(str::len)
        .sum::<usize>()
        .min(text.len());
    // Column 0: the line break itself, already counted as read.
    let mut offset = (start + column).saturating_sub(1).min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

fn message(raw: &str, found: Option<char>, eof: bool) -> String {
    // Everything before serde_json's own " at line L column C".
    let said = raw.rfind(" at line ").map_or(raw, |end| &raw[..end]);
    let expected = match said {
        "EOF while parsing a list" | "expected `,` or `]`" => "expected ',' or ']'",
        "EOF while parsing an object" | "expected `,` or `}`" => "expected ',' or '}'",
        "EOF while parsing a string" => "expected a closing '\"'",
        "EOF while parsing a value" | "expected value" => "expected a value",
        "expected `:`" => "expected ':'",
        "key must be a string" => "expected a key in double quotes",
        "trailing comma" => "expected another entry after ','",
        "trailing characters" => "expected the end of the file",
        "expected ident" => "expected true, false or null",
        "invalid number" => "expected a number",
        "number out of range" => "expected a smaller number",
        "invalid escape" | "invalid unicode code point" => "expected a valid escape after '\\'",
        "lone leading surrogate in hex escape" | "unexpected end of hex escape" => {
            "expected a valid escape after '\\u'"
        }
        other if other.starts_with("control character") => {
            return "expected no line break or control character inside a string".to_owned();
        }
        other => return shorten(other),
    };
    if eof {
        return format!("{expected}, the file ends here");
    }
    match found {
        Some(c) if said == "expected value" && c.is_ascii_graphic() => {
            format!("{expected}, not '{c}'")
        }
        Some(_) | None => expected.to_owned(),
    }
}

/// What of relaxed JSON stands at `offset`, where something does.
fn relaxed(text: &str, offset: usize) -> Option<&'static str> {
    let rest = &text[offset..];
    let before = text[..offset].trim_end();
    if rest.starts_with("//") || rest.starts_with("/*") || rest.starts_with('#') {
        Some("comments are")
    } else if rest.starts_with('\'') {
        Some("single quotes are")
    } else if before.ends_with(',') && rest.starts_with(['}', ']']) {
        Some("trailing commas are")
    } else if before.ends_with(['{', ',']) && rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
        Some("keys without quotes are")
    } else {
        None
    }
}

fn excerpt(text: &str, position: Position) -> Option<String> {
    let line = text.lines().nth(position.line - 1)?;
    if line.chars().count() > MAX_EXCERPT {
        return None;
    }
    // Tabs stay, so that the caret stands below what it means.
    let blank: String = line
        .chars()
        .take(position.column - 1)
        .map(|c| if c == '\t' { '\t' } else { ' ' })
        .collect();
    let line: String =
        line.chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).collect();
    Some(format!("{line}\n{blank}^"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse("pmd.json", text.as_bytes()).unwrap_err()[0].to_string()
    }

    #[test]
    fn a_syntax_error_says_where_and_what_was_expected() {
        for (text, expected) in [
            ("{\n  \"a\": 1\n  \"b\": 2\n}", "pmd.json:3:3: expected ',' or '}'"),
            ("[1 2]", "pmd.json:1:4: expected ',' or ']'"),
            ("{\"a\" 1}", "pmd.json:1:6: expected ':'"),
            ("{\"a\": tru}", "pmd.json:1:10: expected true, false or null"),
            ("{\"a\": @}", "pmd.json:1:7: expected a value, not '@'"),
            ("{} x", "pmd.json:1:4: expected the end of the file"),
            ("{\"a\": 1", "pmd.json:1:7: expected ',' or '}', the file ends here"),
            ("{\"ä\" 1}", "pmd.json:1:6: expected ':'"),
            (
                "{\"a\": \"x\ny\"}",
                "pmd.json:1:9: expected no line break or control character inside a string",
            ),
        ] {
            assert_eq!(error(text), expected, "{text}");
        }
    }

    #[test]
    fn relaxed_json_is_named() {
        for (text, form) in [
            ("{ // x\n}", "comments are"),
            ("{'a': 1}", "single quotes are"),
            ("{\"a\": 1,\n}", "trailing commas are"),
            ("[1,]", "trailing commas are"),
            ("{a: 1}", "keys without quotes are"),
        ] {
            assert!(error(text).contains(form), "{}", error(text));
        }
    }

    #[test]
    fn the_caret_stands_below_the_error() {
        let problems = parse("pmd.json", b"{\n\t\"a\": 1\n\t\"b\": 2\n}").unwrap_err();
        assert_eq!(problems[0].excerpt.as_deref(), Some("\t\"b\": 2\n\t^"));
        // A line that fills the screen helps nobody.
        for (length, shown) in [(MAX_EXCERPT - 3, true), (MAX_EXCERPT - 2, false)] {
            let text = format!("[\"{}\" 1", "x".repeat(length - 2));
            let problems = parse("pmd.json", text.as_bytes()).unwrap_err();
            assert_eq!(problems[0].excerpt.is_some(), shown, "{length}");
        }
    }

    #[test]
    fn what_is_no_document_is_refused_with_its_reason() {
        assert_eq!(error(""), "'pmd.json' is empty");
        assert_eq!(error(" \n\t"), "'pmd.json' is empty");
        assert_eq!(error("{\"a\": \"\0\"}"), "'pmd.json' is not a text file");
        let binary = parse("pmd.json", &[0x7f, b'E', b'L', b'F', 0xff]).unwrap_err();
        assert_eq!(binary[0].to_string(), "'pmd.json' is not a text file");
        let large = parse("pmd.json", &vec![b' '; MAX_SIZE + 1]).unwrap_err();
        assert_eq!(large[0].to_string(), "'pmd.json' is too large: the limit is 16 MiB");
    }

    #[test]
    fn depth_ends_at_its_limit() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse("f", nested(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(error(&nested(MAX_DEPTH + 1)), "pmd.json:1:65: nested deeper than 64 levels");
        assert_eq!(error(&"[".repeat(1 << 20)), "pmd.json:1:65: nested deeper than 64 levels");
        let quoted = format!("\"{}\"", "[".repeat(1000));
        assert!(parse("f", quoted.as_bytes()).is_ok());
    }

    #[test]
    fn every_key_given_twice_is_reported() {
        let text = "{\"a\": 1, \"b\": [{\"c\": 1, \"\\u0063\": 2}],\n \"a\": 2}";
        let problems = parse("pmd.json", text.as_bytes()).unwrap_err();
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            ["pmd.json:1:25: 'c' is given twice", "pmd.json:2:2: 'a' is given twice"]
        );
    }

    #[test]
    fn a_byte_order_mark_is_no_error() {
        assert!(parse("f", "\u{feff}{}".as_bytes()).is_ok());
    }
}
