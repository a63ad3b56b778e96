//! Where things stand in a JSON text: serde_json's values carry no positions.
//!
//! Pure, and without recursion. Everything but [`too_deep`] and [`position`] expects text that
//! serde_json has accepted; on other text the answers are of no use, but there is an answer.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::config::problem::Position;

/// One step into a document.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    Key(String),
    Index(usize),
}

/// Which end of the last step is meant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// The key itself; the value, for a step into a list.
    Key,
    Value,
}

/// The position of what `path` leads to, or `None` if it leads nowhere.
#[must_use]
pub fn locate(text: &str, path: &[Step], end: End) -> Option<Position> {
    let mut scanner = Scanner { text, at: 0 };
    scanner.skip_blanks();
    let mut key_at = scanner.at;
    for step in path {
        key_at = match step {
            Step::Key(key) => scanner.enter_object(key)?,
            Step::Index(index) => scanner.enter_list(*index)?,
        };
    }
    let offset = match end {
        End::Key => key_at,
        End::Value => scanner.at,
    };
    Some(position(text, offset))
}

/// The line and column of a byte offset.
#[must_use]
pub fn position(text: &str, offset: usize) -> Position {
    let before = &text[..text.floor_char_boundary(offset.min(text.len()))];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Position {
        line: before.bytes().filter(|&byte| byte == b'\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}

/// The offset of the first bracket that opens a level below `limit`. For any text.
#[must_use]
pub fn too_deep(text: &str, limit: usize) -> Option<usize> {
    let mut depth: usize = 0;
    let mut quoted = false;
    let mut escaped = false;
    for (offset, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => {
                depth += 1;
                if depth > limit {
                    return Some(offset);
                }
            }
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// Every key that its object has had before, with the offset of the later one.
#[must_use]
pub fn duplicates(text: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    // The keys seen in each open object; `None` for an open list.
    let mut open: Vec<Option<HashSet<Cow<'_, str>>>> = Vec::new();
    let mut scanner = Scanner { text, at: 0 };
    // Whether the next string, directly in an object, is a key.
    let mut key_next = false;
    while let Some(byte) = scanner.peek() {
        match byte {
            b'{' => {
                open.push(Some(HashSet::new()));
                key_next = true;
            }
            b'[' => {
                open.push(None);
                key_next = false;
            }
            b'}' | b']' => {
                open.pop();
                key_next = false;
            }
            b',' => key_next = matches!(open.last(), Some(Some(_))),
            b'"' => {
                let start = scanner.at;
                let raw = scanner.take_string();
                if let (true, Some(Some(keys))) = (key_next, open.last_mut()) {
                    let key = decode(raw);
                    if keys.contains(&key) {
                        found.push((key.into_owned(), start));
                    } else {
                        keys.insert(key);
                    }
                }
                key_next = false;
                continue;
            }
            _ => {}
        }
        scanner.at += 1;
    }
    found
}

/// The content of a string literal, with its quotes.
fn decode(raw: &str) -> Cow<'_, str> {
    if raw.contains('\\')
        && let Ok(text) = serde_json::from_str::<String>(raw)
    {
        return Cow::Owned(text);
    }
    Cow::Borrowed(raw.trim_matches('"'))
}

struct Scanner<'a> {
    text: &'a str,
    /// Byte offset of what comes next.
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Skips `byte` and the blanks around it, if it comes next.
    fn skip(&mut self, byte: u8) -> Option<()> {
        self.skip_blanks();
        if self.peek() != Some(byte) {
            return None;
        }
        self.at += 1;
        self.skip_blanks();
        Some(())
    }

    /// Takes a string literal that starts here, quotes included.
    fn take_string(&mut self) -> &'a str {
        let start = self.at;
        self.at += 1;
        while let Some(byte) = self.peek() {
            self.at += 1;
            match byte {
                b'"' => break,
                b'\\' => self.at += 1,
                _ => {}
            }
        }
        self.at = self.at.min(self.text.len());
        self.text.get(start..self.at).unwrap_or("")
    }

    /// Skips the value that starts here.
    fn skip_value(&mut self) {
        let mut depth: usize = 0;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    self.take_string();
                    if depth == 0 {
                        return;
                    }
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth == 0 => return,
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        self.at += 1;
                        return;
                    }
                }
                b',' if depth == 0 => return,
                _ => {}
            }
            self.at += 1;
        }
    }

    /// Goes to the value of `key` in the object that starts here; returns where the key stands.
    fn enter_object(&mut self, key: &str) -> Option<usize> {
        self.skip(b'{')?;
        while self.peek() == Some(b'"') {
            let start = self.at;
            let raw = self.take_string();
            self.skip(b':')?;
            if decode(raw) == key {
                return Some(start);
            }
            self.skip_value();
            self.skip(b',')?;
        }
        None
    }

    /// Goes to entry `index` of the list that starts here; returns where it stands.
    fn enter_list(&mut self, index: usize) -> Option<usize> {
        self.skip(b'[')?;
        for _ in 0..index {
            self.skip_value();
            self.skip(b',')?;
        }
        (self.peek() != Some(b']')).then_some(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "{\n  \"apps\": [\n    {\"name\": \"a\", \"env\": {\"X\": [1, \"]}\\\"\", 3]}},\n    {\"näme\" : \"b\",\n     \"scrpt\": true}\n  ]\n}";

    fn at(path: &[&str], end: End) -> Option<(usize, usize)> {
        let steps: Vec<Step> = path
            .iter()
            .map(|step| match step.parse() {
                Ok(index) => Step::Index(index),
                Err(_) => Step::Key((*step).to_owned()),
            })
            .collect();
        locate(TEXT, &steps, end).map(|position| (position.line, position.column))
    }

    #[test]
    fn keys_and_values_are_found_where_they_stand() {
        assert_eq!(at(&[], End::Value), Some((1, 1)));
        assert_eq!(at(&["apps"], End::Key), Some((2, 3)));
        assert_eq!(at(&["apps", "0"], End::Value), Some((3, 5)));
        assert_eq!(at(&["apps", "0", "env", "X", "2"], End::Value), Some((3, 44)));
        assert_eq!(at(&["apps", "1", "näme"], End::Value), Some((4, 15)));
        assert_eq!(at(&["apps", "1", "scrpt"], End::Key), Some((5, 6)));
        assert_eq!(at(&["apps", "1", "scrpt"], End::Value), Some((5, 15)));
        assert_eq!(at(&["apps", "2"], End::Value), None);
        assert_eq!(at(&["nothing"], End::Key), None);
        assert_eq!(at(&["apps", "0", "name", "deeper"], End::Key), None);
    }

    #[test]
    fn any_text_gets_an_answer() {
        let text = TEXT.as_bytes();
        for cut in 0..text.len() {
            let Ok(piece) = std::str::from_utf8(&text[..cut]) else { continue };
            let steps =
                [Step::Key("apps".to_owned()), Step::Index(1), Step::Key("scrpt".to_owned())];
            let _ = locate(piece, &steps, End::Value);
            let _ = duplicates(piece);
            let _ = too_deep(piece, 3);
        }
    }
}
