//! Log lines for the host: journald and syslog, one datagram a line.
//!
//! Nothing waits for them. What the other side does not take at once is lost for it, counted, and
//! told in the daemon's own log: once when it begins, and with the number when it is over.
//!
//! Sources: journald's native protocol (`systemd.io/JOURNAL_NATIVE_PROTOCOL`); RFC 5424, sections
//! 6 and 8.

use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use crate::base::{Stream, WallTime};
use crate::proto::messages::event::Subject;
use crate::proto::messages::stamp::timestamp;
use crate::sys::process;

/// Facility `daemon`, of RFC 5424.
const FACILITY: u8 = 3;
/// The most that RFC 5424 has room for, in bytes.
const MAX_NAME: usize = 48;

/// A line on its way.
#[derive(Debug)]
pub struct Line<'a> {
    pub subject: &'a Subject,
    pub stream: Stream,
    pub pid: Option<i32>,
    pub at: WallTime,
    /// Without its end.
    pub text: &'a [u8],
}

/// What is to be said in the daemon's own log.
#[derive(Debug, Eq, PartialEq)]
pub enum News {
    Lost { sink: &'static str, why: String },
    Again { sink: &'static str, lost: u64 },
}

/// Both ways out. Sockets are made with the first line.
#[derive(Debug)]
pub struct Sinks {
    journald: Sink,
    syslog: Sink,
    host: Option<String>,
    message: Vec<u8>,
}

#[derive(Debug)]
struct Sink {
    name: &'static str,
    path: PathBuf,
    socket: Option<UnixDatagram>,
    /// Lines in a row that were not taken.
    lost: u64,
}

impl Default for Sinks {
    fn default() -> Self {
        Self::new("/run/systemd/journal/socket".into(), "/dev/log".into())
    }
}

impl Sinks {
    fn new(journald: PathBuf, syslog: PathBuf) -> Self {
        let sink = |name, path| Sink { name, path, socket: None, lost: 0 };
        Self {
            journald: sink("journald", journald),
            syslog: sink("syslog", syslog),
            host: None,
            message: Vec::new(),
        }
    }

    /// Gives a line to journald.
    pub fn journald(&mut self, line: &Line<'_>) -> Option<News> {
        let message = &mut self.message;
        message.clear();
        let (name, id) = (&line.subject.name, line.subject.id);
        // Writing into memory cannot fail. A name has no control characters.
        let _ = write!(
            message,
            "SYSLOG_IDENTIFIER={name}\nPRIORITY={}\nPMD_ID={id}\nPMD_INSTANCE={}\n",
            severity(line.stream),
            line.subject.instance,
        );
        if let Some(pid) = line.pid {
            let _ = writeln!(message, "SYSLOG_PID={pid}");
        }
        message.extend_from_slice(b"MESSAGE=");
        message.extend_from_slice(line.text);
        message.push(b'\n');
        self.journald.send(message)
    }

    /// Gives a line to syslog.
    pub fn syslog(&mut self, line: &Line<'_>) -> Option<News> {
        let host = self.host.get_or_insert_with(|| {
            let host = process::host().map(|host| host.name).unwrap_or_default();
            word(&host, 255)
        });
        let message = &mut self.message;
        message.clear();
        let (at, name) = (timestamp(line.at), word(&line.subject.name, MAX_NAME));
        let priority = FACILITY * 8 + severity(line.stream);
        let _ = write!(message, "<{priority}>1 {at} {host} {name} ");
        let _ = match line.pid {
            Some(pid) => write!(message, "{pid}"),
            None => write!(message, "-"),
        };
        message.extend_from_slice(b" - - ");
        message.extend_from_slice(line.text);
        self.syslog.send(message)
    }
}

impl Sink {
    fn send(&mut self, message: &[u8]) -> Option<News> {
        match self.try_send(message) {
            Ok(()) => {
                let lost = std::mem::take(&mut self.lost);
                (lost > 0).then_some(News::Again { sink: self.name, lost })
            }
            Err(error) => {
                self.lost += 1;
                let why = crate::sys::describe(&error);
                (self.lost == 1).then_some(News::Lost { sink: self.name, why })
            }
        }
    }

    fn try_send(&mut self, message: &[u8]) -> io::Result<()> {
        let socket = match &mut self.socket {
            Some(socket) => socket,
            none => {
                let socket = UnixDatagram::unbound()?;
                socket.set_nonblocking(true)?;
                none.insert(socket)
            }
        };
        socket.send_to(message, &self.path).map(drop)
    }
}

/// Informational or error, of RFC 5424.
fn severity(stream: Stream) -> u8 {
    match stream {
        Stream::Out => 6,
        Stream::Err => 3,
    }
}

/// Printable ASCII without blanks, as RFC 5424 wants its words.
fn word(text: &str, most: usize) -> String {
    let word: String =
        text.chars().take(most).map(|c| if c.is_ascii_graphic() { c } else { '-' }).collect();
    if word.is_empty() { "-".to_owned() } else { word }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ProcId;

    fn subject() -> Subject {
        Subject { id: ProcId(7), name: "we b".into(), namespace: "default".into(), instance: 2 }
    }

    fn line<'a>(subject: &'a Subject, text: &'a [u8]) -> Line<'a> {
        let at = WallTime(1_705_329_025_123);
        Line { subject, stream: Stream::Err, pid: Some(42), at, text }
    }

    fn scene() -> (PathBuf, Sinks) {
        let dir = std::env::temp_dir().join(format!("pmd-sinks-{}", process::random()));
        std::fs::create_dir(&dir).unwrap();
        let sinks = Sinks::new(dir.join("journal"), dir.join("log"));
        (dir, sinks)
    }

    fn received(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 4096];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn lines_arrive_as_both_protocols_want_them() {
        let (dir, mut sinks) = scene();
        let journal = UnixDatagram::bind(dir.join("journal")).unwrap();
        let log = UnixDatagram::bind(dir.join("log")).unwrap();
        let subject = subject();
        assert_eq!(sinks.journald(&line(&subject, b"boom: \xff")), None);
        assert_eq!(
            received(&journal),
            "SYSLOG_IDENTIFIER=we b\nPRIORITY=3\nPMD_ID=7\nPMD_INSTANCE=2\nSYSLOG_PID=42\n\
             MESSAGE=boom: \u{fffd}\n"
        );
        assert_eq!(sinks.syslog(&line(&subject, b"boom")), None);
        let text = received(&log);
        assert!(text.starts_with("<27>1 2024-01-15T14:30:25.123Z "), "{text}");
        assert!(text.ends_with(" we-b 42 - - boom"), "{text}");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn whoever_does_not_take_them_is_not_waited_for() {
        let (dir, mut sinks) = scene();
        let subject = subject();
        let why = "no such file or directory".to_owned();
        assert_eq!(sinks.syslog(&line(&subject, b"1")), Some(News::Lost { sink: "syslog", why }));
        assert_eq!(sinks.syslog(&line(&subject, b"2")), None, "told once");
        let log = UnixDatagram::bind(dir.join("log")).unwrap();
        let again = News::Again { sink: "syslog", lost: 2 };
        assert_eq!(sinks.syslog(&line(&subject, b"3")), Some(again));
        assert!(received(&log).ends_with(" 3"));
        // A reader that never reads: in the end its queue is full.
        let lost = (0..100_000).find_map(|_| sinks.syslog(&line(&subject, b"more")));
        assert!(matches!(lost, Some(News::Lost { .. })), "{lost:?}");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
