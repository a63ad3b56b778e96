//! `pmd logs`: the last lines, then what comes.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::base::WallTime;
use crate::cli::Run;
use crate::cli::args::Parsed;
use crate::cli::client::Message;
use crate::cli::entry::{Entry, Labels};
use crate::cli::error::{End, Failure, in_words};
use crate::cli::exit::Exit;
use crate::cli::output::lines::{Lines, Look};
use crate::cli::output::when;
use crate::cli::session::Session;
use crate::cli::targets;
use crate::json::json;
use crate::sys::clock;

/// Lines of each process to begin with.
const LINES: u32 = 15;

/// The daemon keeps no more than this to look back at.
const MOST_LINES: u32 = 10_000;

/// How often the daemon's own log is looked at for more.
const OWN_LOG_PAUSE: Duration = Duration::from_millis(300);

/// Runs `pmd logs`.
pub fn run(session: &mut Session, parsed: &Parsed) -> Run {
    let wish = Wish::of(parsed)?;
    if parsed.flag("daemon") {
        return own_log(session, &wish);
    }
    let targets = targets::expand_some(session, parsed)?;
    let look = Look {
        raw: parsed.flag("raw"),
        time: parsed.flag("time"),
        colour: session.screen.view.colour,
        highlight: parsed.text("highlight").map(str::to_owned),
    };
    print(session, targets, &wish, look)
}

/// Follows the logs of processes, as `pmd start --attach` does.
///
/// # Errors
///
/// As `pmd logs`.
pub fn follow(session: &mut Session, targets: Option<Vec<String>>) -> Run {
    let look = Look { raw: false, time: true, colour: session.screen.view.colour, highlight: None };
    let wish =
        Wish { lines: LINES, follow: true, stream: None, since: None, until: None, grep: None };
    print(session, targets, &wish, look)
}

/// Which lines.
#[derive(Debug)]
struct Wish {
    lines: u32,
    follow: bool,
    stream: Option<&'static str>,
    since: Option<WallTime>,
    until: Option<WallTime>,
    grep: Option<String>,
}

impl Wish {
    fn of(parsed: &Parsed) -> Result<Self, Failure> {
        let until = time(parsed, "until")?;
        let (out, err) = (parsed.flag("out"), parsed.flag("err"));
        let since = time(parsed, "since")?;
        // Asked for a span of time, all lines of it are meant.
        let default = if since.is_some() { MOST_LINES } else { LINES };
        Ok(Self {
            lines: parsed.number("lines").unwrap_or(default),
            follow: parsed.flag("follow") && !parsed.flag("nostream") && until.is_none(),
            stream: match (out, err) {
                (true, false) => Some("stdout"),
                (false, true) => Some("stderr"),
                (true, true) | (false, false) => None,
            },
            since,
            until,
            grep: parsed.text("grep").map(str::to_owned),
        })
    }

    fn is_filtered(&self) -> bool {
        self.since.is_some() || self.grep.is_some() || self.stream.is_some()
    }

    /// Whether a line that comes while following is wanted.
    fn wants(&self, data: &Value) -> bool {
        self.stream.is_none_or(|stream| data["stream"] == stream)
            && self.grep.as_deref().is_none_or(|text| {
                data["message"].as_str().is_some_and(|message| message.contains(text))
            })
    }
}

/// A point in time as a user gives it.
///
/// # Errors
///
/// Row 4 of the catalogue.
pub fn time(parsed: &Parsed, long: &str) -> Result<Option<WallTime>, Failure> {
    let Some(text) = parsed.text(long) else { return Ok(None) };
    when::typed(text, clock::now().wall).map(Some).ok_or_else(|| {
        let name = parsed.command.name;
        Failure::usage(format!("{name}: '--{long} {text}' is not a duration or time"))
            .hint("10m, 2h, 14:30, '2026-01-15 14:30' or 2026-01-15T14:30:00Z")
    })
}

fn print(session: &mut Session, targets: Option<Vec<String>>, wish: &Wish, look: Look) -> Run {
    // Also says whether the targets are there, and how wide their names are.
    let processes = session.processes(targets.as_deref(), true)?;
    let mut lines = Lines::new(look, Labels::of(&processes));
    for process in &processes {
        let label = lines.labels.of_entry(Entry(process));
        lines.make_room(&label);
    }
    if !wish.follow {
        show_last(session, targets.as_deref(), wish, &mut lines)?;
        return Ok(Exit::Done);
    }
    // Without a filter the daemon gives the last lines and goes on without a gap. With one it is
    // asked after the subscription: what comes twice is told by its time.
    let filtered = wish.is_filtered();
    let subscription = json!({
        "events": ["log_message", "process_event"], "processes": targets,
        "backlog": if filtered { 0 } else { wish.lines },
    });
    session.question("subscribe", &subscription)?;
    let seen =
        if filtered { show_last(session, targets.as_deref(), wish, &mut lines)? } else { None };
    session.screen.flush()?;
    loop {
        let client = session.client()?;
        let Some(message) = client.event()? else {
            return Err(Failure::new(Exit::NoDaemon, "the daemon has ended").into());
        };
        let more = client.has_more();
        let old = seen.is_some()
            && message.timestamp.as_deref().and_then(when::parse) <= seen
            && message.kind == "log_message";
        if !old {
            show(session, &message, wish, &mut lines)?;
        }
        // A batch is written at once; a single line appears at once.
        if !more {
            session.screen.flush()?;
        }
    }
}

/// The lines that are there; answers the time of the last one.
fn show_last(
    session: &mut Session,
    targets: Option<&[String]>,
    wish: &Wish,
    lines: &mut Lines,
) -> Result<Option<WallTime>, End> {
    let stamp = |time: Option<WallTime>| time.map(when::rfc3339);
    let question = json!({
        "processes": targets, "lines": wish.lines, "stream": wish.stream,
        "since": stamp(wish.since), "until": stamp(wish.until), "grep": wish.grep,
    });
    let reply = session.question("get_logs", &question)?;
    let mut last = None;
    for line in reply["lines"].as_array().into_iter().flatten() {
        let timestamp = line["timestamp"].as_str();
        last = last.max(timestamp.and_then(when::parse));
        if session.screen.json {
            session.screen.document(line)?;
        } else {
            let text = lines.log(line, timestamp);
            session.screen.text(&text)?;
        }
    }
    Ok(last)
}

/// One message while following.
fn show(
    session: &mut Session,
    message: &Message,
    wish: &Wish,
    lines: &mut Lines,
) -> Result<(), End> {
    let timestamp = message.timestamp.as_deref();
    let text = match message.kind.as_str() {
        "log_message" if wish.wants(&message.data) => {
            if session.screen.json {
                session.screen.document(&stamped(message))?;
                return Ok(());
            }
            lines.log(&message.data, timestamp)
        }
        // A line of pmd's own belongs to no stream and fits no text.
        "process_event" if wish.stream.is_none() && wish.grep.is_none() => {
            if session.screen.json {
                return Ok(());
            }
            lines.event(&message.data, timestamp).unwrap_or_default()
        }
        "lagged" => {
            session.screen.warning("lines were skipped: this terminal is too slow", None);
            return Ok(());
        }
        "shutdown" => {
            session.screen.note("the daemon is going down");
            return Ok(());
        }
        _ => return Ok(()),
    };
    session.screen.text(&text)?;
    Ok(())
}

/// The data of a message with its time.
#[must_use]
pub fn stamped(message: &Message) -> Value {
    let mut data = message.data.clone();
    if let Some(fields) = data.as_object_mut() {
        fields.insert("timestamp".to_owned(), json!(message.timestamp));
    }
    data
}

/// `--daemon`: read from its file, so that it can be read when no daemon answers.
fn own_log(session: &mut Session, wish: &Wish) -> Run {
    let path = own_log_path(session)?;
    let mut file = open(&path)?;
    let (text, mut offset) =
        tail(&mut file, wish.lines).map_err(|error| unreadable(&path, &error))?;
    let wanted = |line: &&str| wish.grep.as_deref().is_none_or(|text| line.contains(text));
    let print = |session: &mut Session, text: &str| -> Result<(), End> {
        for line in text.lines().filter(wanted) {
            if session.screen.json {
                session.screen.document(&json!({"process": null, "message": line}))?;
            } else {
                session.screen.line(line)?;
            }
        }
        session.screen.flush()?;
        Ok(())
    };
    print(session, &text)?;
    if !wish.follow {
        return Ok(Exit::Done);
    }
    let mut rest = String::new();
    loop {
        session.pause(OWN_LOG_PAUSE);
        let length = std::fs::metadata(&path).map_or(0, |meta| meta.len());
        // Rotated or emptied: begin again.
        if length < offset {
            file = open(&path)?;
            offset = 0;
        }
        let more = read_from(&mut file, offset).map_err(|error| unreadable(&path, &error))?;
        offset += more.len() as u64;
        rest.push_str(&String::from_utf8_lossy(&more));
        if let Some(end) = rest.rfind('\n') {
            let whole: String = rest.drain(..=end).collect();
            print(session, &whole)?;
        }
    }
}

/// As the daemon says it, else where it would be.
fn own_log_path(session: &mut Session) -> Result<PathBuf, End> {
    if session.is_there().unwrap_or(false)
        && let Ok(reply) = session.question("get_daemon", &json!({}))
        && let Some(path) = reply["paths"]["log"].as_str()
    {
        return Ok(PathBuf::from(path));
    }
    Ok(session.daemons.paths()?.logs.join("pmd.log"))
}

fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let denied = error.kind() == std::io::ErrorKind::PermissionDenied;
    let exit = if denied { Exit::NotPermitted } else { Exit::Failed };
    Failure::new(exit, format!("cannot read '{}': {}", path.display(), in_words(error)))
}

/// The last lines of a file and where they end.
fn tail(file: &mut File, lines: u32) -> std::io::Result<(String, u64)> {
    const MOST: u64 = 1024 * 1024;
    let length = file.metadata()?.len();
    let start = length.saturating_sub(MOST);
    let bytes = read_from(file, start)?;
    let end = start + bytes.len() as u64;
    let text = String::from_utf8_lossy(&bytes);
    let count = usize::try_from(lines).unwrap_or(usize::MAX);
    let all: Vec<&str> = text.lines().collect();
    let last = all.get(all.len().saturating_sub(count)..).unwrap_or_default();
    let mut shown = last.join("\n");
    if !last.is_empty() {
        shown.push('\n');
    }
    Ok((shown, end))
}

/// What stands in the file from `offset` on, at most 1 MiB.
fn read_from(file: &mut File, offset: u64) -> std::io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(1024 * 1024).read_to_end(&mut bytes)?;
    Ok(bytes)
}
