//! One supervisor with its programs, from start to end, the same for both subjects.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::control::Control;
use crate::os;
use crate::process;
use crate::programs::Programs;
use crate::reports::{Kind, Report, Reports};

/// How long a supervisor may take to come up or to end, in nanoseconds.
const PATIENCE: u64 = 60_000_000_000;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Subject {
    Limit,
    Pmd,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Writes {
    /// 100 bytes, one line each.
    Small,
    /// 64 KiB, 512 lines each.
    Big,
}

/// What is to be supervised.
#[derive(Clone, Debug)]
pub struct Scene {
    pub children: usize,
    /// A run at least this long is restarted at once.
    pub min_uptime: Duration,
    /// Each child writes that many bytes of lines; none: they sleep.
    pub output: Option<(Writes, u64)>,
    /// Log files of pmd are rotated at this size.
    pub rotate_at: Option<u64>,
    /// pmd's web interface is on.
    pub web: bool,
    /// Where the scratch folder goes.
    pub place: PathBuf,
}

impl Scene {
    pub fn sleepers(children: usize) -> Self {
        Self {
            children,
            min_uptime: Duration::from_secs(1),
            output: None,
            rotate_at: None,
            web: false,
            place: std::env::temp_dir(),
        }
    }
}

pub struct Stage {
    pub reports: Reports,
    /// When the command to start all was given.
    pub commanded: u64,
    subject: Subject,
    folder: PathBuf,
    supervisor: Child,
    control: Option<Control>,
    /// The last known life of each child: pid and time of its first instruction.
    lives: HashMap<usize, (u32, u64)>,
}

impl Stage {
    /// Starts the supervisor and gives the command; the children report in their own time.
    pub fn open(subject: Subject, programs: &Programs, scene: &Scene) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pmd-bench-{}-{number}", std::process::id());
        let folder = scene.place.join(name);
        fs::create_dir(&folder).expect("cannot make the scratch folder");
        let reports = Reports::open(&folder.join("fifo"));
        let (supervisor, control, commanded) = match subject {
            Subject::Limit => open_limit(programs, scene, &folder),
            Subject::Pmd => open_pmd(programs, scene, &folder),
        };
        let lives = HashMap::new();
        Self { reports, commanded, subject, folder, supervisor, control, lives }
    }

    /// The same, returning when every child ran; the time of the last first instruction too.
    pub fn open_and_wait(subject: Subject, programs: &Programs, scene: &Scene) -> (Self, u64) {
        let mut stage = Self::open(subject, programs, scene);
        let reports = stage.reports.collect(scene.children);
        let last = reports.iter().map(|report| report.time).max().unwrap_or(stage.commanded);
        reports.iter().for_each(|report| stage.note(report));
        if let Some(control) = &mut stage.control {
            control.reply(1);
        }
        (stage, last)
    }

    /// Takes note of a new life.
    pub fn note(&mut self, report: &Report) {
        if report.kind == Kind::Started {
            self.lives.insert(report.id, (report.pid, report.time));
        }
    }

    /// Pid and start of the running life of child `id`.
    pub fn life(&self, id: usize) -> (u32, u64) {
        self.lives[&id]
    }

    /// Closes the connection that gave the command: what is idle has no client.
    pub fn disconnect(&mut self) {
        self.control = None;
    }

    /// The processes of the supervisor itself.
    pub fn family(&self) -> Vec<u32> {
        process::family(self.supervisor.id())
    }

    pub fn socket(&self) -> PathBuf {
        socket(self.subject, &self.folder)
    }

    /// Where pmd's web interface listens.
    pub fn web(&self) -> SocketAddr {
        let said = fs::read_to_string(self.folder.join("daemon.out")).unwrap_or_default();
        let (_, rest) = said.split_once("web interface on: ").expect("no web interface");
        rest.split_whitespace().next().and_then(|word| word.parse().ok()).expect("an address")
    }

    /// Where pmd keeps its state.
    pub fn home(&self) -> PathBuf {
        self.folder.join("home")
    }

    /// Gives the command to stop all; returns when it was given.
    pub fn stop_all(&mut self) -> u64 {
        self.reports.release();
        let Some(control) = &mut self.control else {
            let before = os::now();
            os::kill(self.supervisor.id(), libc::SIGTERM);
            return before;
        };
        let stop = json!({"action": "stop", "processes": ["all"], "wait": "none"});
        let (_, line) = control.encode("command", &stop);
        let before = os::now();
        control.send(&line);
        before
    }

    /// The files that hold the output of child `id`, in no order.
    pub fn log_files(&self, id: usize) -> Vec<PathBuf> {
        let (folder, prefix) = match self.subject {
            Subject::Limit => (self.folder.clone(), format!("{id}.log")),
            Subject::Pmd => (self.home().join("logs"), format!("{}-out", app_name(id))),
        };
        let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
        let matching = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
        };
        entries.flatten().map(|entry| entry.path()).filter(matching).collect()
    }

    /// Whether the supervisor still runs.
    fn runs(&mut self) -> bool {
        matches!(self.supervisor.try_wait(), Ok(None))
    }
}

/// Whatever happened, nothing of it stays: no process, no file.
impl Drop for Stage {
    fn drop(&mut self) {
        os::kill(self.supervisor.id(), libc::SIGTERM);
        let deadline = os::now() + PATIENCE;
        while self.runs() && os::now() < deadline {
            sleep(Duration::from_millis(2));
        }
        if self.runs() {
            eprintln!("battery: {:?} did not end on SIGTERM", self.subject);
            self.family().iter().for_each(|pid| os::kill(*pid, libc::SIGKILL));
        }
        let _ = self.supervisor.wait();
        let fifo = self.folder.join("fifo");
        for (pid, _) in self.lives.values() {
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if words
                .split(|byte| *byte == 0)
                .any(|word| word == fifo.as_os_str().as_encoded_bytes())
            {
                eprintln!("battery: {:?} left process {pid} behind", self.subject);
                os::kill(*pid, libc::SIGKILL);
            }
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn socket(subject: Subject, folder: &Path) -> PathBuf {
    match subject {
        Subject::Limit => folder.join("socket"),
        Subject::Pmd => folder.join("home/pmd.sock"),
    }
}

fn app_name(id: usize) -> String {
    format!("app{id}")
}

/// The arguments of child `id` after the path of its program.
fn arguments(scene: &Scene, folder: &Path, id: usize) -> Vec<String> {
    let mut words = vec![folder.join("fifo").display().to_string(), id.to_string()];
    if let Some((writes, bytes)) = scene.output {
        words.push(if writes == Writes::Small { "small" } else { "big" }.to_owned());
        words.push(bytes.to_string());
    }
    words
}

fn open_limit(programs: &Programs, scene: &Scene, folder: &Path) -> (Child, Option<Control>, u64) {
    let mut list = String::new();
    for id in 0..scene.children {
        let words = arguments(scene, folder, id).join(" ");
        writeln!(list, "{} {words}", programs.child.display()).unwrap();
    }
    let path = folder.join("list");
    fs::write(&path, list).expect("cannot write the list");
    let mut command = Command::new(&programs.limit);
    command.arg(path).arg(socket(Subject::Limit, folder)).arg(folder);
    command.arg(scene.min_uptime.as_millis().to_string());
    let mut supervisor =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("cannot start limit");
    // Its own first instruction is the command: the limit gets no burden for its own start.
    let mut born = [0; 8];
    let output = supervisor.stdout.as_mut().expect("a pipe");
    output.read_exact(&mut born).expect("limit ended at its start");
    (supervisor, None, u64::from_ne_bytes(born))
}

fn open_pmd(programs: &Programs, scene: &Scene, folder: &Path) -> (Child, Option<Control>, u64) {
    let home = folder.join("home");
    fs::create_dir(&home).expect("cannot make the state directory");
    // The cap for all logs together would remove rotated files before they are counted.
    let settings = json!({"log.total": "64G", "web.max_clients": 2000, "max_connections": 4000});
    fs::write(home.join("pmd.json"), settings.to_string()).expect("cannot write settings");
    let output = File::create(folder.join("daemon.out")).expect("cannot make daemon.out");
    let mut command = Command::new(programs.pmd.as_ref().expect("a pmd to measure"));
    let web = if scene.web { "--web=127.0.0.1:0" } else { "--no-web" };
    command.args(["daemon", "--foreground", web, "--home"]).arg(&home);
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", &home);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
    let mut supervisor = command.spawn().expect("cannot start pmd");
    let mut control = connect(&mut supervisor, folder);

    let apps: Vec<Value> = (0..scene.children).map(|id| app(programs, scene, folder, id)).collect();
    let request = json!({"action": "start", "configs": apps, "wait": "none"});
    let (_, line) = control.encode("command", &request);
    let commanded = os::now();
    control.send(&line);
    (supervisor, Some(control), commanded)
}

fn app(programs: &Programs, scene: &Scene, folder: &Path, id: usize) -> Value {
    json!({
        "name": app_name(id),
        "script": programs.child,
        "args": arguments(scene, folder, id),
        "interpreter": "none",
        "cwd": "/",
        "min_uptime": u64::try_from(scene.min_uptime.as_millis()).unwrap(),
        "log_max_size": scene.rotate_at.unwrap_or(1 << 40),
        "log_keep": 1000,
    })
}

/// A fresh daemon takes a moment until it listens.
fn connect(supervisor: &mut Child, folder: &Path) -> Control {
    let deadline = os::now() + PATIENCE;
    loop {
        if let Some(control) = Control::connect(&socket(Subject::Pmd, folder)) {
            return control;
        }
        let gone = supervisor.try_wait().is_ok_and(|status| status.is_some());
        let said = || fs::read_to_string(folder.join("daemon.out")).unwrap_or_default();
        assert!(!gone && os::now() < deadline, "pmd does not come up: {}", said());
        sleep(Duration::from_millis(1));
    }
}
