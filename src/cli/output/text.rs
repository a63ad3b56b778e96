//! Text made fit for a terminal: what programs and users wrote is never trusted to be printable.

use std::borrow::Cow;

/// The text without escape sequences and with control characters written out: one line, safe to
/// print anywhere.
#[must_use]
pub fn one_line(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        Cow::Owned(escape_controls(&strip_escapes(text)))
    } else {
        Cow::Borrowed(text)
    }
}

/// Control characters but the tab as `\u{1b}`, `\n`.
#[must_use]
pub fn escape_controls(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\t' {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// The text without ANSI escape sequences (ECMA-48: CSI, OSC and the other strings, two-byte
/// escapes). What is cut off at the end goes too.
#[must_use]
pub fn strip_escapes(text: &str) -> Cow<'_, str> {
    if !text.contains('\u{1b}') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' { skip_sequence(&mut rest) } else { plain.push(c) }
    }
    Cow::Owned(plain)
}

/// The text with colours kept (`ESC [ ... m`) and every other escape sequence and control
/// character taken out: programs may colour their lines, not move the cursor.
#[must_use]
pub fn keep_colours(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c.is_control() && c != '\t') {
        return Cow::Borrowed(text);
    }
    let mut kept = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' {
            let before = rest.clone();
            let length = before.as_str().len();
            skip_sequence(&mut rest);
            let sequence = &before.as_str()[..length - rest.as_str().len()];
            if is_colour(sequence) {
                kept.push(c);
                kept.push_str(sequence);
            }
        } else if c.is_control() && c != '\t' {
            kept.extend(c.escape_default());
        } else {
            kept.push(c);
        }
    }
    Cow::Owned(kept)
}

/// Whether what follows an ESC is a complete "select graphic rendition".
fn is_colour(sequence: &str) -> bool {
    sequence.strip_prefix('[').and_then(|rest| rest.strip_suffix('m')).is_some_and(|parameters| {
        parameters.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b';' | b':'))
    })
}

/// Skips the rest of the sequence whose ESC has been read.
fn skip_sequence(rest: &mut std::str::Chars<'_>) {
    match rest.next() {
        // CSI: parameters and intermediates, then one final byte.
        Some('[') => while rest.next().is_some_and(|c| !matches!(c, '@'..='~')) {},
        // OSC, DCS, SOS, PM, APC: a string up to BEL or ESC \.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(c) = rest.next() {
                if c == '\u{7}' || (c == '\u{1b}' && rest.next().is_none_or(|next| next == '\\')) {
                    break;
                }
            }
        }
        // Intermediates, then one final byte.
        Some(' '..='/') => while rest.next().is_some_and(|c| matches!(c, ' '..='/')) {},
        Some(_) | None => {}
    }
}

/// How many columns the text takes; control characters must be gone already.
#[must_use]
pub fn width(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.chars().map(char_width).sum() }
}

/// The text cut to `columns`, with an ellipsis where something is missing.
#[must_use]
pub fn cut(text: &str, columns: usize, unicode: bool) -> Cow<'_, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let ellipsis = if unicode { "\u{2026}" } else { "..." };
    let room = columns.saturating_sub(width(ellipsis));
    let mut used = 0;
    let mut short = String::new();
    for c in text.chars() {
        used += char_width(c);
        if used > room {
            break;
        }
        short.push(c);
    }
    if columns >= width(ellipsis) {
        short.push_str(ellipsis);
    }
    Cow::Owned(short)
}

/// 2 for the wide blocks of East Asian scripts and emoji, 0 for what combines, else 1. Coarse: a
/// table that is off by a column is the worst that can happen.
fn char_width(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036f | 0x200b..=0x200f | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// Splits a list of words into lines of at most `columns`, each with `indent` blanks in front.
#[must_use]
pub fn wrap<'a>(
    words: impl IntoIterator<Item = &'a str>,
    columns: usize,
    indent: usize,
) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if width(line) + 1 + width(word) <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(format!("{:indent$}{word}", "")),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_of_every_kind_are_stripped() {
        for (text, plain) in [
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{1b}]0;title\u{7}x", "x"),
            ("\u{1b}]8;;http://a\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("\u{1b}(Bx", "x"),
            ("\u{1b}cx", "x"),
            ("a\u{1b}[", "a"),
            ("a\u{1b}", "a"),
        ] {
            assert_eq!(strip_escapes(text), plain, "{text:?}");
        }
    }

    #[test]
    fn colours_may_stay_and_the_cursor_may_not_move() {
        assert_eq!(keep_colours("\u{1b}[1;31mred\u{1b}[0m"), "\u{1b}[1;31mred\u{1b}[0m");
        assert_eq!(keep_colours("\u{1b}[2Ja\u{1b}[1;1Hb\r"), "ab\\r");
        assert_eq!(keep_colours("a\u{1b}]0;evil\u{7}b"), "ab");
        assert_eq!(keep_colours("a\u{1b}[31"), "a");
    }

    #[test]
    fn control_characters_are_written_out() {
        assert_eq!(one_line("a\nb\u{0}\tc"), "a\\nb\\u{0}\tc");
        assert_eq!(one_line("plain"), "plain");
    }

    #[test]
    fn a_cut_text_has_exactly_the_width_that_was_asked_for() {
        assert_eq!(cut("abcdef", 6, true), "abcdef");
        assert_eq!(cut("abcdef", 4, true), "abc\u{2026}");
        assert_eq!(cut("abcdef", 5, false), "ab...");
        assert_eq!(width(&cut("日本語テキスト", 6, true)), 5);
        assert_eq!(cut("abcdef", 0, false), "");
    }

    #[test]
    fn words_are_wrapped_between_words() {
        assert_eq!(wrap(["aa", "bb", "cc"], 7, 2), ["  aa bb", "  cc"]);
    }
}
