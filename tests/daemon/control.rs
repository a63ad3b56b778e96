//! The control socket as a program uses it, and as one misuses it.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

/// A connection whose `hello` was read.
pub struct Control {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
    next: u64,
    pub hello: Value,
}

impl Control {
    #[track_caller]
    pub fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        let mut control = Self { stream, reader, next: 0, hello: Value::Null };
        control.hello = control.line().unwrap();
        assert_eq!(control.hello["type"], "hello");
        control
    }

    /// The next message; `None` at the end.
    pub fn line(&mut self) -> Option<Value> {
        Some(serde_json::from_str(&self.text_line()?).unwrap())
    }

    /// The next message as it came.
    pub fn text_line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line),
        }
    }

    /// Whether the daemon took them.
    pub fn raw(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends a request and gives its id.
    pub fn request(&mut self, kind: &str, data: &Value) -> u64 {
        self.next += 1;
        let line = json!({"type": kind, "data": data, "id": self.next});
        assert!(self.raw(format!("{line}\n").as_bytes()));
        self.next
    }

    /// Sends a request and waits for its answer; events on the way are lost.
    #[track_caller]
    pub fn ask(&mut self, kind: &str, data: &Value) -> Value {
        let id = self.request(kind, data);
        loop {
            let message = self.line().expect("no answer");
            if message["reply_to"] == id {
                return message;
            }
        }
    }

    /// Waits for a message.
    #[track_caller]
    pub fn until(&mut self, mut is: impl FnMut(&Value) -> bool) -> Value {
        loop {
            let message = self.line().expect("the connection ended before it came");
            if is(&message) {
                return message;
            }
        }
    }

    /// Subscribes and takes the answer.
    pub fn subscribe(&mut self, event: &str) {
        let reply = self.ask("subscribe", &json!({"events": [event]}));
        assert_eq!(reply["type"], "subscription");
    }

    pub fn finish_writing(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }
}

/// The lines of a stream, read by a thread of their own.
pub fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = vec![];
        while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
            if sender.send(text).is_err() {
                return;
            }
            line.clear();
        }
    });
    receiver
}
