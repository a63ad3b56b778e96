//! The control socket, from the side of the command line: one question at a time, blocking.
//!
//! JSON lines as the control protocol describes them. What comes while an answer is awaited and is
//! not that answer (`hello`, events) is skipped.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::base::{Pid, Time};
use crate::cli::error::{End, Failure, in_words};
use crate::cli::exit::Exit;
use crate::config::units;
use crate::json::json;
use crate::sys::{clock, peer};

/// A longer line of the daemon is refused, in bytes; the protocol allows 16 MiB.
const MAX_LINE: usize = 17 * 1024 * 1024;

/// The longest path a socket address can hold, in bytes (`sun_path`, unix(7)).
const MAX_SOCKET_PATH: usize = 107;

/// A connection to a daemon.
#[derive(Debug)]
pub struct Client {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
    next_id: u64,
    hello: Option<Hello>,
}

/// What the daemon says about itself when one connects.
#[derive(Clone, Debug)]
pub struct Hello {
    pub version: String,
    pub pid: i32,
    pub home: String,
}

impl Hello {
    /// What is left out says nothing.
    fn of(data: &Value) -> Self {
        let text = |name: &str| data[name].as_str().unwrap_or_default().to_owned();
        let pid = data["pid"].as_i64().and_then(|pid| pid.try_into().ok());
        Self { version: text("version"), pid: pid.unwrap_or_default(), home: text("home") }
    }
}

/// One message of the daemon.
#[derive(Debug)]
pub struct Message {
    pub kind: String,
    pub data: Value,
    pub timestamp: Option<String>,
    reply_to: Option<u64>,
}

impl Message {
    /// `None`: it has no type.
    fn of(line: &[u8]) -> Option<Self> {
        let mut value: Value = serde_json::from_slice(line).ok()?;
        let message = value.as_object_mut()?;
        Some(Self {
            kind: message.get("type")?.as_str()?.to_owned(),
            data: message.remove("data").unwrap_or_default(),
            timestamp: message.get("timestamp").and_then(Value::as_str).map(str::to_owned),
            reply_to: message.get("reply_to").and_then(Value::as_u64),
        })
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub enum Refused {
    /// Nobody listens there.
    Absent,
    NotPermitted,
    /// The path, in bytes.
    TooLong(usize),
    Other(io::Error),
}

impl Refused {
    fn of(error: io::Error) -> Self {
        use io::ErrorKind::{ConnectionRefused, NotADirectory, NotFound, PermissionDenied};
        let kind = error.kind();
        if [NotFound, ConnectionRefused, NotADirectory].contains(&kind) {
            Self::Absent
        } else if kind == PermissionDenied {
            Self::NotPermitted
        } else {
            Self::Other(error)
        }
    }
}

impl Client {
    /// Connects to the daemon that listens at `socket`.
    ///
    /// # Errors
    ///
    /// See [`Refused`].
    pub fn connect(socket: &Path) -> Result<Self, Refused> {
        let length = socket.as_os_str().len();
        if length > MAX_SOCKET_PATH {
            return Err(Refused::TooLong(length));
        }
        let stream = UnixStream::connect(socket).map_err(Refused::of)?;
        Self::over(stream).map_err(Refused::Other)
    }

    /// Speaks over a stream that is connected.
    ///
    /// # Errors
    ///
    /// That of duplicating the descriptor.
    pub fn over(stream: UnixStream) -> io::Result<Self> {
        let writer = stream.try_clone()?;
        Ok(Self {
            reader: BufReader::with_capacity(64 * 1024, stream),
            writer,
            next_id: 1,
            hello: None,
        })
    }

    /// Asks, and waits for the answer: its message, or the failure that the daemon's `error`
    /// tells.
    ///
    /// # Errors
    ///
    /// The daemon's `error` (as [`Answer::Refused`] in `Ok`: its details matter), no answer within
    /// `limit`, or a connection that ended.
    pub fn request(
        &mut self,
        kind: &str,
        data: &Value,
        limit: Option<Duration>,
    ) -> Result<Answer, End> {
        let id = self.next_id;
        self.next_id += 1;
        let mut line = serde_json::to_vec(&json!({"type": kind, "data": data, "id": id}))
            .map_err(io::Error::from)?;
        line.push(b'\n');
        let deadline = limit.map(|limit| (clock::now().mono.after(limit), limit));
        if let Err(error) = self.write(&line, deadline) {
            // A daemon that refuses us says why before it closes.
            if error.kind() != io::ErrorKind::BrokenPipe {
                return Err(self.broken(&error, limit));
            }
        }
        loop {
            let Some(message) = self.read(deadline)? else { return Err(self.gone()) };
            match message.kind.as_str() {
                "hello" => self.greeted(&message.data),
                // An error that answers nothing means this connection: it ends the wait, too.
                "error" if message.reply_to.is_none_or(|to| to == id) => {
                    return Ok(Answer::Refused(message.data));
                }
                _ if message.reply_to == Some(id) => return Ok(Answer::Given(message.data)),
                _ => {}
            }
        }
    }

    /// The next event; `None` when the daemon has closed the connection. Waits as long as it
    /// takes.
    ///
    /// # Errors
    ///
    /// A line that is no message, a connection that broke.
    pub fn event(&mut self) -> Result<Option<Message>, End> {
        self.read(None)
    }

    /// Whether an event can be had without waiting.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.reader.buffer().contains(&b'\n')
    }

    /// What the daemon said about itself, once it was heard.
    #[must_use]
    pub fn hello(&self) -> Option<&Hello> {
        self.hello.as_ref()
    }

    /// Who listens, as the kernel says it: known even where the daemon says nothing.
    #[must_use]
    pub fn daemon_pid(&self) -> Option<Pid> {
        peer::peer_credentials(&self.writer).ok().and_then(|peer| peer.pid)
    }

    fn greeted(&mut self, data: &Value) {
        self.hello = data.is_object().then(|| Hello::of(data));
    }

    fn write(&mut self, line: &[u8], deadline: Option<(Time, Duration)>) -> io::Result<()> {
        let left = deadline.map(|(until, _)| until.since(clock::now().mono));
        self.writer.set_write_timeout(left.map(at_least_a_moment))?;
        self.writer.write_all(line)
    }

    fn read(&mut self, deadline: Option<(Time, Duration)>) -> Result<Option<Message>, End> {
        let mut line = Vec::new();
        loop {
            line.clear();
            if !self.read_line(&mut line, deadline)? {
                return Ok(None);
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let message = Message::of(&line).ok_or_else(|| {
                let what = "what listens on the daemon's socket does not speak pmd's protocol";
                Failure::new(Exit::NoDaemon, what)
            })?;
            return Ok(Some(message));
        }
    }

    /// Appends one line without its end; `false` at the end of the stream.
    fn read_line(
        &mut self,
        line: &mut Vec<u8>,
        deadline: Option<(Time, Duration)>,
    ) -> Result<bool, End> {
        loop {
            if self.reader.buffer().is_empty() {
                let left = deadline.map(|(until, _)| until.since(clock::now().mono));
                let timeout = left.map(at_least_a_moment);
                self.reader.get_ref().set_read_timeout(timeout)?;
            }
            let buffer = match self.reader.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
                Err(error) => return Err(self.broken(&error, deadline.map(|(_, limit)| limit))),
            };
            if buffer.is_empty() {
                return Ok(false);
            }
            let end = buffer.iter().position(|&byte| byte == b'\n');
            let taken = end.unwrap_or(buffer.len());
            line.extend_from_slice(&buffer[..taken]);
            self.reader.consume(taken + usize::from(end.is_some()));
            if end.is_some() {
                return Ok(true);
            }
            if line.len() > MAX_LINE {
                return Err(Failure::new(Exit::Failed, "the daemon's answer is too long").into());
            }
        }
    }

    /// Row 37, or what else the system says about the connection.
    fn broken(&self, error: &io::Error, limit: Option<Duration>) -> End {
        let late = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
        let Some(limit) = limit.filter(|_| late) else {
            let what = format!("the connection to the daemon broke: {}", in_words(error));
            return Failure::new(Exit::NoDaemon, what).into();
        };
        let pid = self.daemon_pid().map(|pid| format!(" (pid {pid})")).unwrap_or_default();
        let what = format!("the daemon{pid} does not answer within {}", units::span(limit));
        Failure::new(Exit::NoDaemon, what).hint("pmd logs --daemon").into()
    }

    fn gone(&self) -> End {
        let pid = self.daemon_pid().map(|pid| format!(" (pid {pid})")).unwrap_or_default();
        Failure::new(Exit::NoDaemon, format!("the daemon{pid} went away before it answered"))
            .hint("pmd logs --daemon")
            .into()
    }
}

/// What the daemon answered.
#[derive(Debug)]
pub enum Answer {
    /// The `data` of the reply.
    Given(Value),
    /// The `data` of an `error`.
    Refused(Value),
}

impl Answer {
    /// The data, or the error as a failure.
    ///
    /// # Errors
    ///
    /// What the daemon said.
    pub fn given(self) -> Result<Value, End> {
        match self {
            Self::Given(data) => Ok(data),
            Self::Refused(error) => Err(Failure::of_reply(&error).into()),
        }
    }
}

/// A zero time-out would mean "for ever".
fn at_least_a_moment(left: Duration) -> Duration {
    left.max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// A client, and the daemon's end of its connection.
    fn pair() -> (Client, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Client::over(ours).unwrap(), theirs)
    }

    fn failure(end: End) -> Failure {
        match end {
            End::Failed(failure) => failure,
            End::PipeClosed | End::WasDaemon(_) => panic!("no failure"),
        }
    }

    #[test]
    fn the_answer_is_found_among_greetings_and_events() {
        let (mut client, mut daemon) = pair();
        daemon
            .write_all(
                b"{\"type\":\"hello\",\"data\":{\"version\":\"9.9.9\",\"pid\":7,\"owner\":true}}\r\n\n\
                  {\"type\":\"process_event\",\"data\":{}}\n\
                  {\"type\":\"pong\",\"data\":{\"n\":1},\"reply_to\":1}\n",
            )
            .unwrap();
        let answer = client.request("ping", &json!({}), None).unwrap();
        assert!(matches!(answer, Answer::Given(data) if data["n"] == 1));
        assert_eq!(client.hello().unwrap().version, "9.9.9");
        let mut asked = [0; 64];
        let length = daemon.read(&mut asked).unwrap();
        let asked: Value = serde_json::from_slice(&asked[..length]).unwrap();
        assert_eq!(asked, json!({"type": "ping", "data": {}, "id": 1}));
    }

    #[test]
    fn a_daemon_that_keeps_silent_is_given_up() {
        let (mut client, _daemon) = pair();
        let limit = Some(Duration::from_millis(1));
        let failure = failure(client.request("ping", &json!({}), limit).unwrap_err());
        assert_eq!(failure.exit, Exit::NoDaemon);
        let pid = std::process::id();
        assert_eq!(failure.message, format!("the daemon (pid {pid}) does not answer within 1 ms"));
        assert!(failure.hint.is_some());
    }

    #[test]
    fn a_daemon_that_goes_away_is_told_apart() {
        let (mut client, daemon) = pair();
        drop(daemon);
        let failure = failure(client.request("ping", &json!({}), None).unwrap_err());
        assert_eq!(failure.exit, Exit::NoDaemon);
        assert!(failure.message.ends_with("went away before it answered"), "{}", failure.message);
    }

    #[test]
    fn a_refusal_that_answers_nothing_ends_the_wait() {
        let (mut client, mut daemon) = pair();
        daemon
            .write_all(
                b"{\"type\":\"error\",\"data\":{\"code\":\"FORBIDDEN_USER\",\"message\":\"no\"}}\n",
            )
            .unwrap();
        drop(daemon);
        let end = client.request("ping", &json!({}), None).unwrap().given().unwrap_err();
        assert_eq!(failure(end).exit, Exit::NotPermitted);
    }

    #[test]
    fn what_is_no_message_is_no_daemon() {
        let (mut client, mut daemon) = pair();
        daemon.write_all(b"HTTP/1.1 400 Bad Request\n").unwrap();
        let failure = failure(client.request("ping", &json!({}), None).unwrap_err());
        assert_eq!(failure.exit, Exit::NoDaemon);
    }

    #[test]
    fn an_endless_line_is_cut_off() {
        let (mut client, mut daemon) = pair();
        let writer = std::thread::spawn(move || {
            let block = vec![b'x'; 1024 * 1024];
            while daemon.write_all(&block).is_ok() {}
        });
        let failure = failure(client.request("ping", &json!({}), None).unwrap_err());
        assert_eq!(failure.message, "the daemon's answer is too long");
        drop(client);
        writer.join().unwrap();
    }

    #[test]
    fn a_socket_path_that_no_address_can_hold_is_said_so() {
        let long = format!("/tmp/{}", "x".repeat(116));
        assert!(matches!(Client::connect(Path::new(&long)), Err(Refused::TooLong(121))));
        assert!(matches!(
            Client::connect(Path::new("/nonexistent/pmd.sock")),
            Err(Refused::Absent)
        ));
    }
}
