//! What PM2's old transporter sends and is asked.
//!
//! It pushes AMP messages of one text argument, `{"public_key":..,"data":HEX}`; `HEX` is the ciphered
//! batch of a second. On another connection it is asked in lines of JSON (nssocket): an array of the
//! parts of an event's name and, last, its data, which comes ciphered and is answered in clear.
//!
//! Source: @pm2/agent 0.5.22, observed; nssocket 0.6.

use serde_json::Value;

use crate::proto::buffer::Frame;
use crate::proto::pm2::object::{self, Object};

/// A longer line ends the connection, in bytes.
pub const MAX_LINE: usize = 1024 * 1024;

/// A batch as it is pushed; `hex`: ciphered.
#[must_use]
pub fn batch(public_key: &str, hex: &str) -> Frame {
    let mut text = Vec::with_capacity(hex.len() + public_key.len() + 64);
    let mut object = Object::begin(&mut text);
    object.text("public_key", public_key);
    object.text("data", hex);
    object.end();
    message(&[&text])
}

/// A file as it is pushed: what it is, then what is in it, in clear.
#[must_use]
pub fn file(about: &[u8], content: &[u8]) -> Frame {
    message(&[about, content])
}

fn message(arguments: &[&[u8]]) -> Frame {
    let length: usize = arguments.iter().map(|argument| argument.len() + 6).sum();
    let mut out = Vec::with_capacity(length + 1);
    out.push(0x10 | u8::try_from(arguments.len()).unwrap_or(0));
    for argument in arguments {
        let length = u32::try_from(argument.len() + 2).unwrap_or(u32::MAX);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(b"s:");
        out.extend_from_slice(argument);
    }
    Frame::from(out)
}

/// A line that says `data` under a name of several parts; `data`: JSON.
#[must_use]
pub fn line(name: &str, data: &[u8]) -> Frame {
    let mut out = vec![b'['];
    for part in name.split("::") {
        object::string(&mut out, part);
        out.push(b',');
    }
    out.extend_from_slice(data);
    out.extend_from_slice(b"]\n");
    Frame::from(out)
}

/// What a line says: its name and its data. `None`: it is no such line.
#[must_use]
pub fn understand(line: &[u8]) -> Option<(String, Value)> {
    let Value::Array(mut parts) = serde_json::from_slice(line).ok()? else { return None };
    let data = parts.pop()?;
    let parts: Option<Vec<&str>> = parts.iter().map(Value::as_str).collect();
    Some((parts?.join("::"), data)).filter(|(name, _)| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_batch_is_one_text_argument() {
        let frame = batch("pub", "00ff");
        assert_eq!(&*frame, b"\x11\0\0\0\x24s:{\"public_key\":\"pub\",\"data\":\"00ff\"}");
        assert_eq!(&*file(b"{}", b"x"), b"\x12\0\0\0\x04s:{}\0\0\0\x03s:x");
    }

    #[test]
    fn lines_are_names_in_parts_and_data() {
        let frame = line("ask:rep", br#"{"a":1}"#);
        assert_eq!(&*frame, b"[\"ask:rep\",{\"a\":1}]\n");
        assert_eq!(&*line("a::b", b"null"), b"[\"a\",\"b\",null]\n");
        assert_eq!(understand(b"[\"ask\",null]"), Some(("ask".to_owned(), Value::Null)));
        assert_eq!(
            understand(b"[\"a\",\"b\",{\"c\":1}]"),
            Some(("a::b".to_owned(), json!({"c": 1})))
        );
        for wrong in [&b""[..], b"[]", b"[1]", b"[1,2]", b"{}", b"\xff", b"[\"a\""] {
            assert_eq!(understand(wrong), None, "{wrong:?}");
        }
    }
}
