//! Changes one setting in the text of a settings file and leaves the rest as its author wrote it.
//!
//! Pure. The text is JSON that has been read before; what does not look like that is refused.

use std::ops::Range;

use serde_json::{Map, Value};

/// One member of an object: where its key begins and where its value lies.
struct Member {
    key: String,
    start: usize,
    value: Range<usize>,
}

/// The text with `key` (dotted) set to `value`, or without it.
///
/// # Errors
///
/// Why the text cannot be changed: it is no object, or declares an app.
pub fn set(text: &str, key: &str, value: Option<&Value>) -> Result<String, &'static str> {
    if text.trim().is_empty() {
        return Ok(
            value.map_or_else(String::new, |value| format!("{{\n  {}\n}}\n", line(key, value)))
        );
    }
    let start = text.len() - text.trim_start().len();
    let document: Option<Map<String, Value>> = serde_json::from_str(text).ok();
    let document = document.ok_or("it is no JSON object")?;
    if !document.contains_key("apps") && crate::config::resolve::declares_app(&document) {
        return Err("it is the definition of an app");
    }
    let found = find(text, start, key);
    Ok(match (found, value) {
        (Some(member), Some(value)) => splice(text, member.value, &value.to_string()),
        (Some(member), None) => remove(text, &member),
        (None, None) => text.to_owned(),
        (None, Some(value)) => {
            let is_empty = members(text, start).is_empty();
            let after = text.get(start + 1..).unwrap_or_default();
            let rest = if is_empty { after.trim_start() } else { after };
            let comma = if is_empty { "\n" } else { "," };
            let head = text.get(..=start).unwrap_or_default();
            format!("{head}\n  {}{comma}{rest}", line(key, value))
        }
    })
}

fn line(key: &str, value: &Value) -> String {
    format!("{}: {value}", Value::from(key))
}

fn splice(text: &str, range: Range<usize>, new: &str) -> String {
    let (before, after) = (text.get(..range.start), text.get(range.end..));
    [before.unwrap_or_default(), new, after.unwrap_or_default()].concat()
}

/// Without a member, the comma that belongs to it, and the blanks before it.
fn remove(text: &str, member: &Member) -> String {
    let before = text.get(..member.start).unwrap_or_default().trim_end();
    let after = text.get(member.value.end..).unwrap_or_default();
    match (after.trim_start().strip_prefix(','), before.strip_suffix(',')) {
        (Some(rest), _) => [before, rest].concat(),
        (None, Some(before)) => [before, after].concat(),
        (None, None) => [before, after.trim_start()].concat(),
    }
}

/// The member `key` of the object that begins at `start`, dotted or nested.
fn find(text: &str, start: usize, key: &str) -> Option<Member> {
    members(text, start).into_iter().find_map(|member| {
        if member.key == key {
            return Some(member);
        }
        let below = key.strip_prefix(member.key.as_str())?.strip_prefix('.')?;
        let is_object = text.as_bytes().get(member.value.start) == Some(&b'{');
        if is_object { find(text, member.value.start, below) } else { None }
    })
}

/// The members of the object that begins at `start`.
fn members(text: &str, start: usize) -> Vec<Member> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = skip_blanks(bytes, start + 1);
    while bytes.get(at) == Some(&b'"') {
        let key_end = skip_value(bytes, at);
        let key = text.get(at..key_end).and_then(|key| serde_json::from_str(key).ok());
        let colon = skip_blanks(bytes, key_end);
        let value = skip_blanks(bytes, colon + 1);
        let end = skip_value(bytes, value);
        let Some(key) = key.filter(|_| end > value) else { break };
        found.push(Member { key, start: at, value: value..end });
        at = skip_blanks(bytes, end);
        if bytes.get(at) == Some(&b',') {
            at = skip_blanks(bytes, at + 1);
        }
    }
    found
}

fn skip_blanks(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    at
}

/// Where the value that begins at `at` ends.
fn skip_value(bytes: &[u8], at: usize) -> usize {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (offset, &byte) in bytes.get(at..).unwrap_or_default().iter().enumerate() {
        let here = at + offset;
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => {
                in_string = !in_string;
                if !in_string && depth == 0 {
                    return here + 1;
                }
            }
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return here,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return here + 1;
                }
            }
            b',' if depth == 0 => return here,
            byte if depth == 0 && byte.is_ascii_whitespace() => return here,
            _ => {}
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FILE: &str = r#"{
  "log": {"keep": 3, "max_size": "5M"},
  "web.anonymous": "read",
  "save": true,
  "apps": [{"name": "a, \"}", "script": "x"}]
}
"#;

    #[test]
    fn only_the_value_changes() {
        let text = set(FILE, "log.keep", Some(&json!(7))).unwrap();
        assert_eq!(text, FILE.replace("\"keep\": 3", "\"keep\": 7"));
        let text = set(FILE, "web.anonymous", Some(&json!("none"))).unwrap();
        assert_eq!(text, FILE.replace("\"read\"", "\"none\""));
    }

    #[test]
    fn a_new_setting_stands_first() {
        let text = set(FILE, "web.max_clients", Some(&json!(5))).unwrap();
        assert_eq!(text, FILE.replacen('{', "{\n  \"web.max_clients\": 5,", 1));
        assert_eq!(set("", "save", Some(&json!(false))).unwrap(), "{\n  \"save\": false\n}\n");
        assert_eq!(set("{ }\n", "save", Some(&json!(1))).unwrap(), "{\n  \"save\": 1\n}\n");
    }

    #[test]
    fn a_setting_goes_with_its_comma() {
        for (key, gone) in [
            ("log.keep", "\"keep\": 3,"),
            ("log.max_size", ", \"max_size\": \"5M\""),
            ("web.anonymous", "\n  \"web.anonymous\": \"read\","),
            ("apps", ",\n  \"apps\": [{\"name\": \"a, \\\"}\", \"script\": \"x\"}]"),
            ("web.listen", ""),
        ] {
            let text = set(FILE, key, None).unwrap();
            assert_eq!(text.replace(' ', ""), FILE.replace(gone, "").replace(' ', ""), "{key}");
            serde_json::from_str::<Value>(&text).unwrap();
        }
        assert_eq!(set("{\"save\": 1}", "save", None).unwrap(), "{}");
    }

    #[test]
    fn what_are_no_settings_is_left_alone() {
        for text in ["[]", "{", "{\"script\": \"a.js\"}", "nonsense"] {
            assert!(set(text, "save", Some(&json!(1))).is_err(), "{text}");
        }
    }

    #[test]
    fn what_was_set_is_read_back_wherever_it_stands() {
        for text in [FILE, "{}", "{\"log\":{}}", "{\"log\":{\"a\":1}}"] {
            let text = set(text, "log.total", Some(&json!(9))).unwrap();
            let text = set(&text, "log.total", Some(&json!(10))).unwrap();
            assert_eq!(text.matches("total").count(), 1);
            assert!(text.contains("\"log.total\": 10"), "{text}");
            assert!(!set(&text, "log.total", None).unwrap().contains("total"));
        }
    }
}
