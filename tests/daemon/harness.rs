//! A home of its own, the program in it, and the real daemon with real children.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use pmd::base::{Pid, Signal};
use pmd::sys::kill::kill;
use serde_json::Value;

use crate::control::Control;

/// Until this has passed, nothing is called missing.
const PATIENCE: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(5);

/// A directory, the daemon that lives in it, and every process that works in it. All end on drop.
pub struct Home {
    pub dir: PathBuf,
    daemon: Option<Child>,
}

/// What a run of the program left behind.
#[derive(Debug)]
pub struct Ran {
    pub out: String,
    pub err: String,
    pub code: i32,
}

impl Home {
    /// With a daemon that answers.
    pub fn new() -> Self {
        let mut home = Self::without_daemon();
        home.boot();
        home
    }

    pub fn without_daemon() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("pmd-box-{}-{next}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self { dir: dir.canonicalize().unwrap(), daemon: None }
    }

    /// Starts the daemon and waits until it answers.
    pub fn boot(&mut self) {
        let command = self.daemon_command();
        self.boot_with(command);
    }

    pub fn boot_with(&mut self, mut command: Command) {
        assert!(self.daemon.is_none(), "there is a daemon already");
        let mut child = command.spawn().unwrap();
        until("the daemon answers", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the daemon ended with {status}: {}", self.read("daemon.err"));
            }
            answers(&self.dir.join("pmd.sock"))
        });
        self.daemon = Some(child);
    }

    /// `pmd daemon --foreground`, its words in `daemon.err`.
    pub fn daemon_command(&self) -> Command {
        let mut command = self.command(&["daemon", "--foreground"]);
        let log =
            File::options().create(true).append(true).open(self.dir.join("daemon.err")).unwrap();
        command.stdout(Stdio::null()).stderr(log);
        command
    }

    /// The process that was started: the keeper, or a daemon that has none.
    pub fn first_pid(&self) -> i32 {
        i32::try_from(self.daemon.as_ref().unwrap().id()).unwrap()
    }

    /// The daemon itself.
    #[track_caller]
    pub fn daemon_pid(&self) -> i32 {
        let first = self.first_pid();
        let words = fs::read(format!("/proc/{first}/cmdline")).unwrap_or_default();
        if !words.starts_with(b"pmd: keeper\0") {
            return first;
        }
        let program = |pid: &i32| fs::read_link(format!("/proc/{pid}/exe")).ok();
        let own = program(&first);
        let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap();
        let mut children = children.split_whitespace().map(|pid| pid.parse().unwrap());
        children.find(|pid| program(pid) == own).expect("the keeper has no daemon")
    }

    /// `kill -9` of the daemon and its keeper, so that nobody starts another.
    pub fn murder(&mut self) {
        let daemon = self.daemon_pid();
        send(self.first_pid(), 9);
        self.ended();
        await_gone(daemon);
        // Its last thread may still hold the socket when the first is a zombie.
        let socket = self.dir.join("pmd.sock");
        until("nobody listens", || UnixStream::connect(&socket).is_err());
    }

    /// `kill -9` of the daemon alone; waits until its keeper's next one answers.
    pub fn crash(&mut self) {
        let daemon = self.daemon_pid();
        send(daemon, 9);
        self.await_next(daemon);
    }

    /// Waits until the keeper has reaped its daemon and the next one answers.
    pub fn await_next(&self, daemon: i32) {
        let (before, socket) = (format!("/proc/{daemon}"), self.dir.join("pmd.sock"));
        until("the daemon is reaped", || !Path::new(&before).exists());
        until("the next daemon answers", || answers(&socket));
    }

    /// Sends the daemon a signal and waits for its end.
    pub fn end(&mut self, signal: i32) -> ExitStatus {
        send(self.daemon_pid(), signal);
        self.ended()
    }

    /// Waits for the end of the daemon.
    pub fn ended(&mut self) -> ExitStatus {
        let mut child = self.daemon.take().unwrap();
        let mut status = None;
        until("the daemon ends", || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    pub fn is_daemon_up(&mut self) -> bool {
        self.daemon.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.into_os_string().into_string().unwrap()
    }

    /// An executable shell script.
    pub fn script(&self, name: &str, text: &str) -> String {
        self.program(name, &format!("#!/bin/sh\n{text}\n"))
    }

    /// An executable file.
    pub fn program(&self, name: &str, text: &str) -> String {
        let path = self.file(name, text);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.join(name)).unwrap_or_default()).into_owned()
    }

    pub fn command(&self, words: &[&str]) -> Command {
        self.command_of(Path::new(env!("CARGO_BIN_EXE_pmd")), words)
    }

    /// The program by another of its names.
    pub fn command_of(&self, program: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(words)
            .current_dir(&self.dir)
            .env("PMD_HOME", &self.dir)
            .env("PMD_WEB", "off")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for name in [
            "PMD_SOCKET",
            "PMD_APPS",
            "PM2_HOME",
            "NO_COLOR",
            "FORCE_COLOR",
            "CLICOLOR_FORCE",
            "COLUMNS",
        ] {
            command.env_remove(name);
        }
        command
    }

    pub fn pmd(&self, words: &[&str]) -> Ran {
        finish(self.command(words).spawn().unwrap())
    }

    pub fn run(&self, mut command: Command) -> Ran {
        finish(command.spawn().unwrap())
    }

    /// Runs a command that must succeed.
    #[track_caller]
    pub fn ok(&self, words: &[&str]) -> Ran {
        let ran = self.pmd(words);
        assert_eq!(ran.code, 0, "{words:?}: {ran:?}");
        ran
    }

    /// Runs with `--json`: one document on stdout, nothing on stderr.
    #[track_caller]
    pub fn json(&self, words: &[&str]) -> (Value, i32) {
        let ran = self.pmd(&[words, &["--json"]].concat());
        assert_eq!(ran.err, "", "{words:?}");
        assert!(
            ran.out.ends_with('\n') && !ran.out.ends_with("\n\n"),
            "{words:?}: {:?} ({})",
            ran.out,
            ran.code
        );
        let value = serde_json::from_str(&ran.out);
        (value.unwrap_or_else(|error| panic!("{words:?}: {error}: {:?}", ran.out)), ran.code)
    }

    pub fn control(&self) -> Control {
        Control::connect(&self.dir.join("pmd.sock"))
    }

    /// The full entries of `name`; none if it is not known.
    pub fn entries(&self, name: &str) -> Vec<Value> {
        let reply = self.control().ask("get_info", &serde_json::json!({"processes": [name]}));
        reply["data"]["processes"].as_array().cloned().unwrap_or_default()
    }

    #[track_caller]
    pub fn entry(&self, name: &str) -> Value {
        let entries = self.entries(name);
        assert_eq!(entries.len(), 1, "{name}: {entries:?}");
        entries.into_iter().next().unwrap()
    }

    #[track_caller]
    pub fn pid(&self, name: &str) -> i32 {
        let entry = self.entry(name);
        let pid = entry["pid"].as_i64().unwrap_or_else(|| panic!("{name} has no pid: {entry}"));
        i32::try_from(pid).unwrap()
    }

    /// Waits until the entry of `name` is as wished.
    #[track_caller]
    pub fn await_entry(&self, name: &str, mut is: impl FnMut(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let entry = self.entry(name);
            if is(&entry) {
                return entry;
            }
            assert!(Instant::now() < end, "{name} stayed {entry}");
            std::thread::park_timeout(STEP);
        }
    }

    #[track_caller]
    pub fn await_status(&self, name: &str, status: &str) -> Value {
        self.await_entry(name, |entry| entry["status"] == status)
    }

    /// Waits until a file holds a text, and gives the whole.
    #[track_caller]
    pub fn await_text(&self, file: &str, text: &str) -> String {
        self.await_text_after(file, 0, text)
    }

    /// The same behind its first bytes.
    #[track_caller]
    pub fn await_text_after(&self, file: &str, start: usize, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let content = self.read(file).split_off(start);
            if content.contains(text) {
                return content;
            }
            assert!(Instant::now() < end, "{file} has no {text:?}, but {content:?}");
            std::thread::park_timeout(STEP);
        }
    }

    /// Waits until a file holds a whole line, and gives it as a number.
    #[track_caller]
    pub fn await_number(&self, file: &str) -> i32 {
        self.await_text(file, "\n").trim().parse().unwrap()
    }

    fn survivors(&self) -> Vec<i32> {
        let own = std::process::id();
        let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let cwd = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
            (pid != own && cwd.starts_with(&self.dir)).then_some(pid)
        });
        pids.filter_map(|pid| i32::try_from(pid).ok()).collect()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some(mut child) = self.daemon.take() {
            let pid = i32::try_from(child.id()).unwrap();
            send(pid, 15);
            let end = Instant::now() + Duration::from_secs(15);
            while child.try_wait().is_ok_and(|status| status.is_none()) {
                if Instant::now() > end {
                    let _ = child.kill();
                }
                std::thread::park_timeout(STEP);
            }
        }
        // What a test left behind on purpose: daemons in the background, orphans.
        for _ in 0..100 {
            let left = self.survivors();
            if left.is_empty() {
                break;
            }
            left.into_iter().for_each(|pid| send(pid, 9));
            std::thread::park_timeout(STEP);
        }
        if std::thread::panicking() {
            eprintln!("--- the daemon's log\n{}---", self.read("daemon.err"));
        }
        // A daemon that was killed left its control groups to the next one.
        let hash = self
            .dir
            .as_os_str()
            .as_encoded_bytes()
            .iter()
            .fold(0x811c_9dc5_u32, |hash, b| (hash ^ u32::from(*b)).wrapping_mul(0x0100_0193));
        if let Some(groups) = pmd::sys::cgroup::Cgroups::probe(&format!("pmd-{hash:08x}"), None) {
            let _ = groups.remove();
        }
        let _ = fs::remove_dir_all(format!("/dev/shm/pmd-{hash:08x}"));
        // Where a test mounted a file system of its own.
        let _ = Command::new("umount").arg(&self.dir).stderr(Stdio::null()).status();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Ran {
    /// Asserts an error: its exit code and its lines; nothing may be on stdout.
    #[track_caller]
    pub fn told(&self, code: i32, lines: &[&str]) {
        let err: Vec<&str> = self.err.lines().collect();
        assert_eq!((self.out.as_str(), self.code, err), ("", code, lines.to_vec()), "{self:?}");
    }

    /// Asserts an exit code and a part of what was said on stderr.
    #[track_caller]
    pub fn failed(&self, code: i32, text: &str) {
        assert!(self.code == code && self.err.contains(text), "not {code} {text:?}: {self:?}");
    }
}

/// Waits for the end of a command; one that never ends is killed.
pub fn finish(child: Child) -> Ran {
    let pid = i32::try_from(child.id()).unwrap();
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if is_done.recv_timeout(2 * PATIENCE) == Err(RecvTimeoutError::Timeout) {
            send(pid, 9);
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(done);
    watch.join().unwrap();
    Ran {
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code().unwrap_or(-1),
    }
}

/// Waits until something is so.
#[track_caller]
pub fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < end, "it never was so: {what}");
        std::thread::park_timeout(STEP);
    }
}

/// Sends a signal; a process that is gone is no fault.
pub fn send(pid: i32, signal: i32) {
    let _ = kill(Pid::new(pid).unwrap(), Signal::new(signal).unwrap());
}

/// Whether a process is there and has not ended.
pub fn is_alive(pid: i32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    !stat.rsplit(')').next().unwrap().trim_start().starts_with(['Z', 'X'])
}

/// Waits until a process has ended.
#[track_caller]
pub fn await_gone(pid: i32) {
    until(&format!("{pid} has ended"), || !is_alive(pid));
}

/// Starts a command whose output is read while it runs.
pub fn follow(mut command: Command) -> Following {
    let mut child = command.spawn().unwrap();
    let out = crate::control::lines_of(child.stdout.take().unwrap());
    Following { child, out }
}

/// A command that is still running. Killed on drop.
pub struct Following {
    pub child: Child,
    out: std::sync::mpsc::Receiver<String>,
}

impl Following {
    /// Takes lines of stdout until one contains the text; gives that one.
    #[track_caller]
    pub fn until(&mut self, text: &str) -> String {
        let mut seen = vec![];
        let end = Instant::now() + PATIENCE;
        loop {
            match self.out.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(_) => panic!("never came: {text:?}; but {seen:?}"),
            }
        }
    }

    /// All that is still to come.
    pub fn rest(&mut self) -> Vec<String> {
        self.out.iter().collect()
    }

    pub fn signal(&self, signal: i32) {
        send(i32::try_from(self.child.id()).unwrap(), signal);
    }

    #[track_caller]
    pub fn code(&mut self) -> i32 {
        let mut status = None;
        until("the command ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether this is run as root; some tests are about nothing else.
pub fn is_root() -> bool {
    pmd::sys::process::effective_uid() == 0
}

/// Appends to a file as a program would.
pub fn append(path: &Path, text: &str) {
    File::options()
        .append(true)
        .create(true)
        .open(path)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
}

/// Whether a daemon says hello there: the kernel may accept for one that has just been killed.
fn answers(socket: &Path) -> bool {
    let Ok(stream) = UnixStream::connect(socket) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    (&stream).read(&mut [0; 1]).is_ok_and(|length| length == 1)
}
