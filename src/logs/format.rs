//! How a line is written where it is not written unchanged: prefix, JSON object, `key=value`.
//!
//! Pure but for the time zone. What is the same for all lines of one move (time, type, process) is
//! made once per move; a line then costs its own bytes. Every written line has exactly one
//! newline, its last byte.
//!
//! JSON as PM2 writes it:
//! `{"message":"..","timestamp":"..","type":"out","process_id":0,"app_name":".."}`, with
//! `"partial":true` after the message when it is a piece of a longer line.
//!
//! Source: PM2 5.4, `lib/God/ForkMode.js`, observed output.

use std::io::Write;
use std::rc::Rc;

use crate::base::{Stream, WallTime};
use crate::logs::lines::without_return;
use crate::logs::pattern::{DatePattern, write_rfc3339};
use crate::logs::vocabulary::StreamId;
use crate::supervisor::spec::LogFormat;

/// What lines of one stream look like.
#[derive(Clone, Debug)]
pub struct Style {
    pub id: StreamId,
    pub app: Rc<str>,
    pub format: LogFormat,
    pub date: Option<DatePattern>,
}

/// What surrounds each line of one move.
#[derive(Debug, Default)]
pub struct Frame {
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Style {
    /// Whether a line is written as it came.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        self.format == LogFormat::Raw && self.date.is_none()
    }

    /// Makes `frame` the one for lines read at `at`.
    pub fn frame(&self, at: WallTime, frame: &mut Frame) {
        let Frame { before, after } = frame;
        before.clear();
        after.clear();
        match self.format {
            LogFormat::Raw => {
                if let Some(date) = &self.date {
                    date.write(at, before);
                    before.extend_from_slice(b": ");
                }
            }
            LogFormat::Json => {
                before.extend_from_slice(b"{\"message\":");
                after.extend_from_slice(b",\"timestamp\":");
                let mut stamp = Vec::new();
                self.stamp(at, &mut stamp);
                write_json(&stamp, after);
                drop(write!(
                    after,
                    ",\"type\":\"{}\",\"process_id\":{},\"app_name\":",
                    self.kind(),
                    self.id.process
                ));
                write_json(self.app.as_bytes(), after);
                after.push(b'}');
            }
            LogFormat::Logfmt => {
                before.extend_from_slice(b"message=");
                after.extend_from_slice(b" timestamp=");
                let mut stamp = Vec::new();
                self.stamp(at, &mut stamp);
                write_logfmt(&stamp, after);
                drop(write!(
                    after,
                    " type={} process_id={} app_name=",
                    self.kind(),
                    self.id.process
                ));
                write_logfmt(self.app.as_bytes(), after);
            }
        }
        after.push(b'\n');
    }

    /// Appends `line` (without a newline) as it stands in the file, with its newline.
    pub fn write(&self, frame: &Frame, line: &[u8], partial: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(&frame.before);
        match self.format {
            LogFormat::Raw => out.extend_from_slice(line),
            LogFormat::Json => {
                write_json(without_return(line), out);
                if partial {
                    out.extend_from_slice(b",\"partial\":true");
                }
            }
            LogFormat::Logfmt => {
                write_logfmt(without_return(line), out);
                if partial {
                    out.extend_from_slice(b" partial=true");
                }
            }
        }
        out.extend_from_slice(&frame.after);
    }

    fn stamp(&self, at: WallTime, out: &mut Vec<u8>) {
        match &self.date {
            Some(date) => date.write(at, out),
            None => write_rfc3339(at, out),
        }
    }

    fn kind(&self) -> &'static str {
        match self.id.stream {
            Stream::Out => "out",
            Stream::Err => "err",
        }
    }
}

/// Appends a JSON string; bytes that are no UTF-8 become U+FFFD.
fn write_json(text: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    if serde_json::to_writer(&mut *out, &*String::from_utf8_lossy(text)).is_err() {
        // Cannot happen with a string and a vector; an empty string keeps the object readable.
        out.truncate(start);
        out.extend_from_slice(b"\"\"");
    }
}

/// Appends a logfmt value: bare where it can be, else quoted like JSON.
fn write_logfmt(text: &[u8], out: &mut Vec<u8>) {
    let bare = !text.is_empty()
        && text.iter().all(|&byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'=' | b'\\'));
    if bare { out.extend_from_slice(text) } else { write_json(text, out) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ProcId;

    fn style(format: LogFormat, date: Option<&str>) -> Style {
        Style {
            id: StreamId { process: ProcId(7), stream: Stream::Err },
            app: "we\"b".into(),
            format,
            date: date.map(|pattern| DatePattern::compile(pattern).0),
        }
    }

    fn written(style: &Style, line: &[u8], partial: bool) -> Vec<u8> {
        let mut frame = Frame::default();
        let mut out = Vec::new();
        style.frame(WallTime(1_709_976_845_678), &mut frame);
        style.write(&frame, line, partial, &mut out);
        out
    }

    #[test]
    fn a_date_stands_before_the_line_and_the_bytes_stay_as_they_are() {
        let out = written(&style(LogFormat::Raw, Some("X")), b"a\xff\x1b[0m\r", false);
        assert_eq!(out, b"1709976845: a\xff\x1b[0m\r\n");
    }

    #[test]
    fn a_json_line_is_one_object() {
        let out = written(&style(LogFormat::Json, Some("x")), b"say \"hi\"\x01\xff\r", false);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"message\":\"say \\\"hi\\\"\\u0001\u{fffd}\",\"timestamp\":\"1709976845678\",\
             \"type\":\"err\",\"process_id\":7,\"app_name\":\"we\\\"b\"}\n"
        );
    }

    #[test]
    fn a_piece_of_a_line_says_so() {
        let out = written(&style(LogFormat::Json, None), b"x", true);
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["partial"], true);
        let out = written(&style(LogFormat::Logfmt, None), b"x", true);
        assert!(out.starts_with(b"message=x partial=true timestamp="));
    }

    #[test]
    fn logfmt_quotes_what_would_not_read_back() {
        for (line, expected) in [
            (&b"ready"[..], "message=ready "),
            (b"", "message=\"\" "),
            (b"a b", "message=\"a b\" "),
            (b"k=v", "message=\"k=v\" "),
            (b"x\ty", "message=\"x\\ty\" "),
        ] {
            let out = String::from_utf8(written(&style(LogFormat::Logfmt, Some("X")), line, false));
            let out = out.unwrap();
            assert!(out.starts_with(expected), "{out}");
            assert!(
                out.ends_with(" timestamp=1709976845 type=err process_id=7 app_name=\"we\\\"b\"\n")
            );
        }
    }
}
