//! The difference of two JSON values, as a patch that makes the second of the first (RFC 6902).

use serde_json::Value;

use crate::proto::pm2::object::{self, Object};

/// Appends the operations that make `new` of `old`: a JSON array.
pub fn write(out: &mut Vec<u8>, old: &Value, new: &Value) {
    out.push(b'[');
    differ(out, &mut String::new(), old, new);
    out.push(b']');
}

fn differ(out: &mut Vec<u8>, path: &mut String, old: &Value, new: &Value) {
    let length = path.len();
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in old {
                step(path, key);
                match new.get(key) {
                    Some(new) => differ(out, path, value, new),
                    None => operation(out, "remove", path, None),
                }
                path.truncate(length);
            }
            for (key, value) in new.iter().filter(|(key, _)| !old.contains_key(*key)) {
                step(path, key);
                operation(out, "add", path, Some(value));
                path.truncate(length);
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            for (at, (old, new)) in old.iter().zip(new).enumerate() {
                step(path, &at.to_string());
                differ(out, path, old, new);
                path.truncate(length);
            }
            // From the end: places before are not moved by it.
            for at in (new.len()..old.len()).rev() {
                step(path, &at.to_string());
                operation(out, "remove", path, None);
                path.truncate(length);
            }
            for (at, value) in new.iter().enumerate().skip(old.len()) {
                step(path, &at.to_string());
                operation(out, "add", path, Some(value));
                path.truncate(length);
            }
        }
        (old, new) if old == new => {}
        (_, new) => operation(out, "replace", path, Some(new)),
    }
}

/// One step down, as JSON Pointer (RFC 6901) has it.
fn step(path: &mut String, key: &str) {
    path.push('/');
    for letter in key.chars() {
        match letter {
            '~' => path.push_str("~0"),
            '/' => path.push_str("~1"),
            letter => path.push(letter),
        }
    }
}

fn operation(out: &mut Vec<u8>, name: &str, path: &str, value: Option<&Value>) {
    if out.last() != Some(&b'[') {
        out.push(b',');
    }
    let mut object = Object::begin(out);
    object.text("op", name);
    object.text("path", path);
    if let Some(value) = value {
        object::write(object.key("value"), value);
    }
    object.end();
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patch(old: &Value, new: &Value) -> Value {
        let mut out = Vec::new();
        write(&mut out, old, new);
        serde_json::from_slice(&out).unwrap()
    }

    /// As a receiver applies it, for what is written here.
    fn apply(document: &mut Value, patch: &Value) {
        for operation in patch.as_array().unwrap() {
            let path = operation["path"].as_str().unwrap();
            let (parent, key) = path.rsplit_once('/').unwrap();
            let key = key.replace("~1", "/").replace("~0", "~");
            let value = operation.get("value").cloned();
            match document.pointer_mut(parent).unwrap() {
                Value::Object(object) => match value {
                    Some(value) => drop(object.insert(key, value)),
                    None => drop(object.remove(&key).unwrap()),
                },
                Value::Array(list) => {
                    let at: usize = key.parse().unwrap();
                    match (value, operation["op"].as_str().unwrap()) {
                        (Some(value), "add") => list.insert(at, value),
                        (Some(value), _) => list[at] = value,
                        (None, _) => drop(list.remove(at)),
                    }
                }
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                    panic!("{path}")
                }
            }
        }
    }

    #[test]
    fn what_differs_is_told_and_nothing_else() {
        let old = json!({"a": {"b/~": 1, "c": [1, 2, {"d": 1}]}, "e": "x", "f": null});
        let new = json!({"a": {"b/~": 2, "c": [1, 3]}, "e": "x", "g": [0]});
        let found = patch(&old, &new);
        assert_eq!(
            found,
            json!([
                {"op": "replace", "path": "/a/b~1~0", "value": 2},
                {"op": "replace", "path": "/a/c/1", "value": 3},
                {"op": "remove", "path": "/a/c/2"},
                {"op": "remove", "path": "/f"},
                {"op": "add", "path": "/g", "value": [0]},
            ])
        );
        assert_eq!(patch(&old, &old), json!([]));
    }

    #[test]
    fn applied_it_gives_the_new_value() {
        for (old, new) in [
            (json!({"p": []}), json!({"p": [{"a": 1}, {"b": [[]]}]})),
            (json!({"p": [1, 2, 3, 4]}), json!({"p": []})),
            (json!({"p": {"a": {}}}), json!({"p": {"a": []}})),
            (json!({"": 1, "p": [[1], [2]]}), json!({"q": 1, "p": [[2, 1]]})),
        ] {
            let mut document = old.clone();
            apply(&mut document, &patch(&old, &new));
            assert_eq!(document, new);
        }
    }
}
