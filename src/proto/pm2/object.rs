//! JSON written member by member into the bytes of a message, and values as JavaScript sees them.

use serde_json::Value;

/// An object that is being written.
#[derive(Debug)]
pub struct Object<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Object<'a> {
    #[must_use]
    pub fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    /// Goes on with an object whose members so far are in `out` already.
    #[must_use]
    pub fn resume(out: &'a mut Vec<u8>) -> Self {
        let first = out.last() == Some(&b'{');
        Self { out, first }
    }

    pub fn end(self) {
        self.out.push(b'}');
    }

    /// Begins a member; its value goes where this points.
    pub fn key(&mut self, key: &str) -> &mut Vec<u8> {
        if !std::mem::replace(&mut self.first, false) {
            self.out.push(b',');
        }
        string(self.out, key);
        self.out.push(b':');
        self.out
    }

    pub fn text(&mut self, key: &str, text: &str) {
        string(self.key(key), text);
    }

    pub fn number(&mut self, key: &str, number: i64) {
        self.raw(key, number.to_string().as_bytes());
    }

    pub fn flag(&mut self, key: &str, flag: bool) {
        self.raw(key, if flag { b"true" } else { b"false" });
    }

    pub fn value(&mut self, key: &str, value: &Value) {
        write(self.key(key), value);
    }

    /// Members that lie ready, with a comma before the first.
    pub fn splice(&mut self, members: &[u8]) {
        self.first = false;
        self.out.extend_from_slice(members);
    }

    /// `json`: a value as JSON text.
    pub fn raw(&mut self, key: &str, json: &[u8]) {
        self.key(key).extend_from_slice(json);
    }
}

/// Appends a string in quotes.
pub fn string(out: &mut Vec<u8>, text: &str) {
    let is_plain = |byte| byte >= b' ' && byte != b'"' && byte != b'\\';
    if text.bytes().all(is_plain) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
        return;
    }
    // Writing to memory does not fail.
    let _ = serde_json::to_writer(out, text);
}

/// Appends a value.
pub fn write(out: &mut Vec<u8>, value: &Value) {
    let _ = serde_json::to_writer(out, value);
}

/// What JavaScript takes for true.
#[must_use]
pub fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

/// What JavaScript makes of a value when it needs a string.
#[must_use]
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(list) => list.iter().map(text).collect::<Vec<_>>().join(","),
        Value::Object(_) => "[object Object]".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_come_with_commas_between_them() {
        let mut out = Vec::new();
        let mut object = Object::begin(&mut out);
        object.text("a\"", "\u{1b}\n");
        object.raw("b", b"1");
        let mut inner = Object::begin(object.key("d"));
        inner.flag("e", true);
        inner.end();
        object.number("f", -3);
        object.end();
        let value: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value, json!({"a\"": "\u{1b}\n", "b": 1, "d": {"e": true}, "f": -3}));
        let mut out = b"{\"a\":1".to_vec();
        Object::resume(&mut out).number("b", 2);
        assert_eq!(out, b"{\"a\":1,\"b\":2");
    }

    #[test]
    fn values_are_words_as_in_javascript() {
        for (value, word, truth) in [
            (json!(null), "null", false),
            (json!(0), "0", false),
            (json!("0"), "0", true),
            (json!(""), "", false),
            (json!([1, "a"]), "1,a", true),
            (json!({}), "[object Object]", true),
        ] {
            assert_eq!(text(&value), word);
            assert_eq!(is_truthy(&value), truth, "{word}");
        }
    }
}
