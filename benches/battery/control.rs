//! A connection to a control socket: lines, one request at a time; those of pmd are JSON.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

/// How long a reply may take.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Control {
    reader: BufReader<UnixStream>,
    next_id: u64,
    line: String,
}

impl Control {
    /// Connects to pmd, which speaks first. `None`: nobody listens there (yet).
    pub fn connect(socket: &Path) -> Option<Self> {
        let mut control = Self::connect_silent(socket)?;
        assert!(control.next_line() > 0, "the daemon closed the connection");
        assert!(control.line.contains("\"hello\""), "no greeting but {}", control.line);
        Some(control)
    }

    /// Connects to one that does not speak first: the limit.
    pub fn connect_silent(socket: &Path) -> Option<Self> {
        let stream = UnixStream::connect(socket).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        Some(Self { reader: BufReader::new(stream), next_id: 1, line: String::new() })
    }

    /// A request as it goes over the wire, and the id that its reply will carry.
    pub fn encode(&mut self, kind: &str, data: &Value) -> (u64, Vec<u8>) {
        let id = self.next_id;
        self.next_id += 1;
        (id, format!("{}\n", json!({"type": kind, "data": data, "id": id})).into_bytes())
    }

    /// Sends a request without waiting for the reply.
    pub fn send(&mut self, line: &[u8]) {
        self.reader.get_mut().write_all(line).expect("the connection is closed");
    }

    /// The reply to request `id`; what else arrives is left out.
    ///
    /// # Panics
    ///
    /// When the daemon answers with an error.
    pub fn reply(&mut self, id: u64) -> Value {
        loop {
            assert!(self.next_line() > 0, "the daemon closed the connection");
            let reply: Value = serde_json::from_str(&self.line).expect("a line of JSON");
            if reply["reply_to"] == json!(id) {
                assert!(reply["type"] != "error", "the daemon answered {}", self.line);
                return reply;
            }
        }
    }

    /// Waits for an event.
    pub fn event(&mut self, kind: &str) {
        let mark = format!("{{\"type\":\"{kind}\"");
        loop {
            assert!(self.next_line() > 0, "the daemon closed the connection");
            if self.line.starts_with(&mark) {
                return;
            }
        }
    }

    /// Sends one ready-made line and takes one line; returns the bytes of the answer.
    pub fn round_trip(&mut self, line: &[u8]) -> usize {
        self.send(line);
        self.next_line()
    }

    fn next_line(&mut self) -> usize {
        self.line.clear();
        self.reader.read_line(&mut self.line).expect("no answer from the daemon")
    }
}
