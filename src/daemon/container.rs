//! Container mode, `pmd run`: the same loop without a home.
//!
//! Nothing is written to disk, no one can talk to it unless asked for. It ends when there is nothing
//! left to run, at once when an essential app gives up, and in order when it is told to. Output goes
//! to stdout and stderr: one app's bytes are not touched at all (the child has the descriptors),
//! several are marked line by line. A reader that does not read stops the apps through their pipes,
//! never this loop: a thread does the writing.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::base::{ExitStatus, ProcId, Signal, Stream, Time};
use crate::config::paths::Paths;
use crate::config::web::Overrides;
use crate::daemon::boot;
use crate::daemon::home::StartError;
use crate::daemon::requests::Pending;
use crate::daemon::{Daemon, Ending};
use crate::json::json;
use crate::logs::LogLine;
use crate::mailbox::{Nothing, Receiver, Sender, mailbox};
use crate::proto::messages::event::level;
use crate::proto::messages::stamp::timestamp;
use crate::supervisor::spec::{AppSpec, LogFormat, LogTarget};
use crate::supervisor::vocabulary::{
    Existing, Input, Notice, NoticeKind, Options, Patience, Request,
};
use crate::sys::describe;

/// Bytes that may wait for the reader of our output before the apps have to.
const MAX_WAITING: usize = 256 * 1024;
/// How soon a stream is looked at again that had to wait.
pub const RETRY: Duration = Duration::from_millis(5);
/// The reader of our output has this long to take some of the last words, so many times.
const LAST_WORDS: Duration = Duration::from_secs(1);
const LAST_WAITS: u32 = 10;
/// Stack of the writing thread, in bytes.
const STACK: usize = 64 * 1024;

/// What `pmd run` asks for.
#[derive(Debug)]
pub struct Container {
    pub apps: Vec<AppSpec>,
    /// Open the control socket there.
    pub control: Option<Paths>,
    /// Where the web interface listens, who may come in.
    pub web: Overrides,
    pub stop_timeout: Duration,
    /// End when nothing is left to run.
    pub auto_exit: bool,
    pub marking: Marking,
}

/// How the lines of several apps are told apart.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Marking {
    /// `name | ` before each line, where there are several apps.
    #[default]
    Prefix,
    /// Not at all.
    Raw,
    /// One JSON object a line.
    Json,
    /// `key=value` pairs.
    Pairs,
}

/// A container that runs.
#[derive(Debug)]
pub struct Running {
    marking: Marking,
    /// Children write to our own descriptors.
    pub inherit: bool,
    single: bool,
    auto_exit: bool,
    stop_timeout: Duration,
    /// Kill what is left then.
    kill_at: Option<Time>,
    /// Exit code of the first app that decided about the end.
    code: Option<u8>,
    /// Told to stop: the exit code is 0 then.
    asked: bool,
    /// The apps have ended: what is in their pipes is the last, and is taken at once.
    at_end: bool,
    writer: Option<Writer>,
}

/// Runs apps in the foreground until they end or are told to; gives their exit code.
#[must_use]
pub fn run(container: Container) -> ExitCode {
    match prepare(container) {
        Ok(mut daemon) => match daemon.run() {
            Ok(()) => daemon.container_code(),
            Err(error) => {
                let _ = writeln!(io::stderr(), "pmd: error: the loop failed: {}", describe(&error));
                ExitCode::FAILURE
            }
        },
        Err(error) => {
            error.print();
            ExitCode::from(error.code)
        }
    }
}

fn prepare(container: Container) -> Result<Daemon, StartError> {
    let single = matches!(container.apps.as_slice(), [one] if one.instances == 1);
    let plain = container.marking == Marking::Prefix || container.marking == Marking::Raw;
    let inherit = single && plain && container.apps.iter().all(leaves_output_alone);
    let mut daemon = boot::prepare_container(container.control, container.web)?;
    let writer = if inherit {
        None
    } else {
        Some(Writer::start().map_err(|error| {
            StartError::new(format!("cannot start a thread: {}", describe(&error)))
        })?)
    };
    daemon.places.container = true;
    daemon.container = Some(Running {
        marking: container.marking,
        inherit,
        single,
        auto_exit: container.auto_exit,
        stop_timeout: container.stop_timeout,
        kill_at: None,
        code: None,
        asked: false,
        at_end: false,
        writer,
    });
    for text in container.apps.iter().filter_map(|app| daemon.groups.shortcoming(app)) {
        daemon.own_log.warn(text);
    }
    let apps = container.apps.into_iter().map(Rc::new).collect();
    let from = daemon.reply_to(Pending::Nobody);
    let options = Options { wait: Patience::None, ..Options::default() };
    let request = Request::Create { apps, existing: Existing::Refuse, options };
    daemon.input(Input::Request { from, request });
    Ok(daemon)
}

fn leaves_output_alone(spec: &AppSpec) -> bool {
    let logs = &spec.logs;
    logs.out == LogTarget::Default
        && logs.error == LogTarget::Default
        && logs.format == LogFormat::Raw
        && logs.date.is_none()
}

impl Running {
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.kill_at
    }

    /// Whether streams have to wait for the reader of our output.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let writer = self.writer.as_ref().filter(|_| !self.at_end);
        writer.is_some_and(|writer| writer.waiting() > MAX_WAITING)
    }

    fn decide(&mut self, status: Option<ExitStatus>) {
        self.code.get_or_insert_with(|| code_of(status));
    }
}

impl Daemon {
    /// Takes note of what decides about the end.
    pub(super) fn container_notice(&mut self, notice: &Notice) {
        let essential =
            self.supervisor.process(notice.process).is_none_or(|process| process.spec().essential);
        let last = self
            .supervisor
            .process(notice.process)
            .and_then(|process| process.last_exit())
            .map(|exit| exit.status);
        let Some(container) = &mut self.container else { return };
        match notice.kind {
            NoticeKind::Errored { .. } if essential => {
                let _ = writeln!(io::stderr(), "pmd: {} gave up", notice.name);
                container.decide(last);
                self.end_container();
            }
            NoticeKind::Stopped { status, commanded: false, .. } => {
                let failed = status.is_some_and(|status| !status.is_success());
                if container.single || (failed && essential) {
                    container.decide(status);
                }
            }
            NoticeKind::Errored { .. }
            | NoticeKind::Stopped { .. }
            | NoticeKind::Status { .. }
            | NoticeKind::Started { .. }
            | NoticeKind::Restarted { .. }
            | NoticeKind::Reloaded { .. }
            | NoticeKind::Crashed { .. }
            | NoticeKind::NotReady { .. }
            | NoticeKind::Health { .. }
            | NoticeKind::HealthCheckFailed { .. }
            | NoticeKind::Adopted { .. }
            | NoticeKind::MemoryLimitExceeded { .. }
            | NoticeKind::ConfigChanged { .. }
            | NoticeKind::Deleted => {}
        }
    }

    /// A signal to the container: some are meant for the apps.
    pub(super) fn container_signal(&mut self, signal: Signal) {
        match signal {
            Signal::HUP | Signal::USR1 | Signal::USR2 => {
                let all: Vec<_> = self.children.iter().map(|(id, _)| id).collect();
                for child in all {
                    self.signal(child, signal, false);
                }
            }
            Signal::TERM | Signal::INT | Signal::QUIT | Signal::HALT => {
                if self.ending == Ending::No {
                    if let Some(container) = &mut self.container {
                        container.asked = true;
                    }
                    self.end_container();
                } else {
                    self.kill_everything();
                }
            }
            _ => {}
        }
    }

    fn end_container(&mut self) {
        if self.ending != Ending::No {
            return;
        }
        if let Some(container) = &mut self.container {
            container.kill_at = Some(self.now.mono.after(container.stop_timeout));
        }
        self.begin_stop();
    }

    /// Ends when there is nothing left to run; kills what outlasts the stop time.
    pub(super) fn watch_container(&mut self) {
        let Some(container) = &mut self.container else { return };
        if container.kill_at.is_some_and(|at| at <= self.now.mono) {
            container.kill_at = None;
            self.kill_everything();
        } else if container.auto_exit && self.ending == Ending::No && self.supervisor.is_idle() {
            self.begin_stop();
        }
    }

    /// Hands the lines of several apps to the writing thread.
    pub(super) fn container_lines(&mut self, lines: &mut Vec<LogLine>) {
        let Some(container) = &self.container else { return };
        let Some(writer) = &container.writer else { return };
        for line in lines.drain(..) {
            let Some(entry) = self.entries.get(&line.id.process) else { continue };
            let subject = &entry.subject;
            let several = entry.spec.instances > 1;
            let name = if several {
                format!("{}:{}", subject.name, subject.instance)
            } else {
                subject.name.to_string()
            };
            let at = line.at.unwrap_or(self.now.wall);
            let text = String::from_utf8_lossy(&line.bytes);
            let stream = line.id.stream;
            let mut bytes = match container.marking {
                Marking::Prefix if container.single => line.bytes,
                Marking::Prefix => [name.as_bytes(), b" | ", line.bytes.as_slice()].concat(),
                Marking::Raw => line.bytes,
                Marking::Json => json!({
                    "timestamp": timestamp(at), "process": name, "stream": stream,
                    "level": level(stream), "message": text,
                })
                .to_string()
                .into_bytes(),
                Marking::Pairs => {
                    let mut pairs = String::new();
                    let _ = write!(
                        pairs,
                        "timestamp={} process={name} stream={} message={}",
                        timestamp(at),
                        stream.name(),
                        json!(text)
                    );
                    pairs.into_bytes()
                }
            };
            if !line.partial || container.marking != Marking::Raw {
                bytes.push(b'\n');
            }
            writer.give(stream, bytes);
        }
    }

    /// The end: last words out, then the code.
    fn container_code(&mut self) -> ExitCode {
        if let Some(container) = &mut self.container {
            container.at_end = true;
        }
        for process in self.entries.keys().copied().collect::<Vec<ProcId>>() {
            for stream in Stream::BOTH {
                self.drain(process, stream);
                self.close_pipe(process, stream);
            }
        }
        let Some(container) = &mut self.container else { return ExitCode::SUCCESS };
        if let Some(writer) = container.writer.take() {
            writer.finish();
        }
        if self.paths.socket.as_os_str() != "/" {
            let _ = std::fs::remove_file(&self.paths.socket);
        }
        match container.code {
            Some(code) if !container.asked => ExitCode::from(code),
            Some(_) | None => ExitCode::SUCCESS,
        }
    }
}

/// What a shell would say: the code, or 128 and the signal.
fn code_of(status: Option<ExitStatus>) -> u8 {
    let signal = status.and_then(ExitStatus::signal);
    match (status.and_then(ExitStatus::code), signal) {
        (Some(code), _) => code,
        (None, Some(signal)) => u8::try_from(128 + signal.raw()).unwrap_or(u8::MAX),
        (None, None) => 1,
    }
}

/// THREAD: writes what it is given to stdout and stderr, however long that takes.
#[derive(Debug)]
struct Writer {
    lines: Sender<(Stream, Vec<u8>)>,
    waiting: Arc<AtomicUsize>,
    done: Receiver<()>,
}

impl Writer {
    fn start() -> io::Result<Self> {
        // Who gives looks how much waits.
        let (lines, inbox) = mailbox::<(Stream, Vec<u8>)>(usize::MAX);
        // Descriptors of its own: the library's locks belong to whoever runs the command line.
        let mut stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let mut stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        let (finished, done) = mailbox(1);
        let waiting = Arc::new(AtomicUsize::new(0));
        let left = waiting.clone();
        thread::Builder::new().name("pmd-output".into()).stack_size(STACK).spawn(move || {
            while let Some((stream, bytes)) = inbox.wait() {
                // A reader that is gone is nobody to tell.
                let _ = match stream {
                    Stream::Out => stdout.write_all(&bytes),
                    Stream::Err => stderr.write_all(&bytes),
                };
                left.fetch_sub(bytes.len(), Ordering::Relaxed);
            }
            let _ = finished.send(());
        })?;
        Ok(Self { lines, waiting, done })
    }

    fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn give(&self, stream: Stream, bytes: Vec<u8>) {
        self.waiting.fetch_add(bytes.len(), Ordering::Relaxed);
        let _ = self.lines.send((stream, bytes));
    }

    /// Waits until everything is written, for a while and as long as somebody reads.
    fn finish(self) {
        drop(self.lines);
        for _ in 0..LAST_WAITS {
            let before = self.waiting.load(Ordering::Relaxed);
            let is_slow = self.done.wait_for(LAST_WORDS) == Err(Nothing::Yet);
            if !is_slow || self.waiting.load(Ordering::Relaxed) >= before {
                return;
            }
        }
    }
}
