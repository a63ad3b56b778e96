//! The log engine in a process of its own, killed by the kernel at moments of chance while a
//! writer fills the pipe: not a line is lost, doubled or torn.
//!
//! The process that is killed is this program again, started with `PMD_TEST_LOGS` set.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use pmd::base::{Pid, ProcId, Stream};
use pmd::logs::{JOURNAL_WORDS, Journal, LogSettings, Logs, StreamId, StreamPlan};
use pmd::supervisor::spec::{LogFormat, LogFull};
use pmd::sys::map::SharedMap;
use pmd::sys::{clock, fds};

const ID: StreamId = StreamId { process: ProcId(0), stream: Stream::Out };
const KILLS: u64 = 40;

fn engine(place: &Path, format: LogFormat) -> Logs {
    let map = SharedMap::open(&place.join("journal"), 4096).unwrap();
    map.ensure(JOURNAL_WORDS * 8).unwrap();
    let mut logs = Logs::new(LogSettings { stage_dir: place.join("stage"), total: Some(1 << 40) });
    let plan = StreamPlan {
        app: "app".into(),
        target: Some(place.join("app.log")),
        both: None,
        shared: false,
        format,
        date: None,
        max_size: 100_000,
        keep: 1000,
        full: LogFull::Block,
    };
    logs.open(ID, plan, Journal::new(Rc::new(map), 0));
    logs
}

/// The process that is killed: pumps for ever.
fn pump_for_ever(place: &Path, format: LogFormat, pipe: &OwnedFd) -> ! {
    let mut logs = engine(place, format);
    loop {
        if logs.pump(ID, pipe.as_fd(), 100_000, clock::now()).moved == 0 {
            thread::yield_now();
        }
    }
}

/// When started to be killed: does that and does not return.
fn be_the_victim(test: &str) {
    let Ok(orders) = env::var("PMD_TEST_LOGS") else {
        return;
    };
    let orders: Vec<_> = orders.split('|').collect();
    let [name, place, pid, fd, inode] = orders[..] else { panic!("{orders:?}") };
    if name != test {
        return;
    }
    let pid = Pid::new(pid.parse().unwrap()).unwrap();
    let pipe = fds::attach_pipe(pid, fd.parse().unwrap(), inode.parse().unwrap()).unwrap().unwrap();
    let format = if test.contains("json") { LogFormat::Json } else { LogFormat::Raw };
    pump_for_ever(Path::new(place), format, &pipe)
}

struct Victim(Child);

impl Victim {
    fn start(test: &str, place: &Path, pipe: &OwnedFd) -> Self {
        let inode = fds::inode_of(pipe.as_fd()).unwrap();
        let (pid, fd) = (std::process::id(), pipe.as_raw_fd());
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", test]).stdout(Stdio::null()).stderr(Stdio::null());
        command.env("PMD_TEST_LOGS", format!("{test}|{}|{pid}|{fd}|{inode}", place.display()));
        Self(command.spawn().unwrap())
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn line(number: u32) -> String {
    format!("{number} {}\n", "x".repeat((number % 90) as usize))
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// What is in the log after all kills, oldest file first, and how many lines were written.
fn survive(test: &str, format: LogFormat) -> (String, u32) {
    let place: PathBuf = env::temp_dir().join(format!("pmd-kill-{test}-{}", std::process::id()));
    fs::create_dir(&place).unwrap();
    let pipe = fds::open_pipe_rdwr().unwrap();
    let child = pipe.try_clone().unwrap();
    let enough = Arc::new(AtomicBool::new(false));
    let stop = enough.clone();
    let writer = thread::spawn(move || {
        let mut child = std::io::BufWriter::with_capacity(3000, File::from(child));
        let mut count = 0;
        while !stop.load(Ordering::Relaxed) {
            child.write_all(line(count).as_bytes()).unwrap();
            count += 1;
        }
        child.flush().unwrap();
        count
    });
    let log = place.join("app.log");
    for kill in 0..KILLS {
        let before = length(&log);
        let mut victim = Victim::start(test, &place, &pipe);
        // Once it works, a moment of chance.
        while length(&log) == before {
            assert_eq!(victim.0.try_wait().unwrap(), None, "it ended by itself");
            thread::yield_now();
        }
        thread::sleep(Duration::from_micros(kill * 7919 % 9000));
    }
    enough.store(true, Ordering::Relaxed);
    let mut logs = engine(&place, format);
    while !writer.is_finished() || fds::waiting(pipe.as_fd()).unwrap() > 0 {
        logs.pump(ID, pipe.as_fd(), 1 << 20, clock::now());
    }
    logs.pump(ID, pipe.as_fd(), 1 << 20, clock::now());
    let count = writer.join().unwrap();
    let mut pieces = vec![fs::read_to_string(&log).unwrap()];
    for number in 1.. {
        match fs::read_to_string(place.join(format!("app.log.{number}"))) {
            Ok(piece) => pieces.push(piece),
            Err(_) => break,
        }
    }
    assert!(pieces.len() > 5);
    pieces.reverse();
    fs::remove_dir_all(&place).unwrap();
    (pieces.concat(), count)
}

#[test]
fn a_raw_log_survives_kills() {
    be_the_victim("a_raw_log_survives_kills");
    let (text, count) = survive("a_raw_log_survives_kills", LogFormat::Raw);
    let expected: String = (0..count).map(line).collect();
    assert_eq!(text.len(), expected.len());
    assert!(text == expected);
}

#[test]
fn a_json_log_survives_kills() {
    be_the_victim("a_json_log_survives_kills");
    let (text, count) = survive("a_json_log_survives_kills", LogFormat::Json);
    let mut found_count = 0;
    for (number, found) in (0..).zip(text.lines()) {
        let value: serde_json::Value = serde_json::from_str(found).unwrap();
        assert_eq!(format!("{}\n", value["message"].as_str().unwrap()), line(number));
        found_count += 1;
    }
    assert_eq!(found_count, count);
}
