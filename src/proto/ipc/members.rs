//! The members of a JSON object as text, found without reading their values.

use std::borrow::Cow;

use serde::de::IgnoredAny;
use serde_json::{Number, Value};

/// Whether `text` is one JSON value. Takes no stack, however deep it is nested.
#[must_use]
pub fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// The members of an object, in order: name and value, both as JSON text. Of what is no object
/// there are none. `text` must be JSON ([`is_json`]).
pub fn members(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = text.trim_start().strip_prefix('{').unwrap_or_default();
    std::iter::from_fn(move || {
        let name;
        (name, rest) = value(after_comma(rest))?;
        let found;
        (found, rest) = value(rest.trim_start().strip_prefix(':')?)?;
        Some((name, found))
    })
}

/// The elements of an array, in order, as JSON text. Of what is no array there are none. `text`
/// must be JSON.
pub fn elements(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text.trim_start().strip_prefix('[').unwrap_or_default();
    std::iter::from_fn(move || {
        let found;
        (found, rest) = value(after_comma(rest))?;
        Some(found)
    })
}

/// What follows the comma, or the opening bracket, before it.
pub fn after_comma(text: &str) -> &str {
    text.trim_start_matches([',', ' ', '\t', '\r', '\n'])
}

/// `text` as a JSON string.
#[must_use]
pub fn quote(text: &str) -> String {
    Value::from(text).to_string()
}

/// The value in front, and what follows it; `None`: there is none.
pub fn value(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            // The end of what the value stands in.
            b'}' | b']' if depth == 0 => return split(text, at),
            b'}' | b']' => depth -= 1,
            b',' | b':' | b' ' | b'\t' | b'\r' | b'\n' if depth == 0 => return split(text, at),
            _ => {}
        }
    }
    split(text, text.len())
}

fn split(text: &str, at: usize) -> Option<(&str, &str)> {
    text.split_at_checked(at).filter(|(value, _)| !value.is_empty())
}

/// The string that `json` is; `None`: it is none, or holds half a surrogate pair.
#[must_use]
pub fn string(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        return serde_json::from_str(json).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

/// Whether JavaScript takes the value for true.
#[must_use]
pub fn is_truthy(json: &str) -> bool {
    match json.as_bytes().first() {
        Some(b'n' | b'f') | None => false,
        Some(b't' | b'{' | b'[') => true,
        Some(b'"') => json != "\"\"",
        // One that is too large for a number is none, and not zero.
        Some(_) => !json.parse::<Number>().is_ok_and(|number| number.as_f64() == Some(0.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_whatever_is_in_them() {
        let text = r#" { "a" :1 ,"b": "x,\"}" , "c":[{"d":[]},"]"],"":{}, "e\u0066":null } "#;
        assert!(is_json(text));
        assert_eq!(
            members(text).collect::<Vec<_>>(),
            [
                ("\"a\"", "1"),
                ("\"b\"", r#""x,\"}""#),
                ("\"c\"", r#"[{"d":[]},"]"]"#),
                ("\"\"", "{}"),
                (r#""e\u0066""#, "null"),
            ]
        );
        let list = r#" [1, "a,]" ,[{}],{"b":[2]} ,null] "#;
        let found: Vec<&str> = elements(list).collect();
        assert_eq!(found, ["1", r#""a,]""#, "[{}]", r#"{"b":[2]}"#, "null"]);
        assert_eq!(elements("[]").chain(elements("{}")).chain(elements("[ ]")).count(), 0);
        for other in ["{}", " {} ", "[]", "[{\"a\":1}]", "\"{\"", "1", "null"] {
            assert_eq!(members(other).count(), 0, "{other}");
        }
    }

    #[test]
    fn what_the_json_library_cannot_hold_passes() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(is_json(&deep));
        assert_eq!(members(&deep).count(), 1);
        let odd = r#"{"\ud800":"\udc00","n":1e400,"n":2}"#;
        assert!(is_json(odd));
        assert_eq!(members(odd).count(), 3);
        assert_eq!(string(r#""\ud800""#), None);
        assert_eq!(string(r#""\u0061\n""#).as_deref(), Some("a\n"));
        assert_eq!(string("\"ä\"").as_deref(), Some("ä"));
        assert_eq!(string("1"), None);
    }

    #[test]
    fn truth_is_javascripts() {
        for json in ["null", "false", "0", "-0", "0.0", "0e7", "1e-400", "\"\""] {
            assert!(!is_truthy(json), "{json}");
        }
        for json in ["true", "1", "-1", "0.1", "1e400", "\"0\"", "\" \"", "{}", "[]"] {
            assert!(is_truthy(json), "{json}");
        }
    }

    #[test]
    fn altered_bytes_never_panic() {
        let text = r#"{"a":"\ud83d\ude00","b":[1,{"c":"ä"}],"d":-1e5}"#;
        for at in 0..text.len() {
            for byte in [b'"', b'{', b'}', b'[', b']', b',', b':', b'\\', b' '] {
                let mut altered = text.as_bytes().to_vec();
                altered[at] = byte;
                let Ok(altered) = String::from_utf8(altered) else { continue };
                // Also of what is not JSON: it ends.
                let _ = members(&altered).take(100).count();
            }
        }
    }
}
