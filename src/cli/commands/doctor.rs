//! `pmd doctor`: looks for what is wrong, and says how to mend it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::Value;

use crate::base::Pid;
use crate::cli::Run;
use crate::cli::args::Parsed;
use crate::cli::commands::help::VERSION;
use crate::cli::daemons::{VERSION_HINT, version_warning};
use crate::cli::entry::Entry;
use crate::cli::error::{End, in_words};
use crate::cli::exit::Exit;
use crate::cli::output::text;
use crate::cli::session::Session;
use crate::config::paths::Paths;
use crate::json::json;
use crate::sys::limits::{self, Resource};
use crate::sys::{clock, dir, net, proc, process, users};

/// Less free space than this is a warning, in percent.
const LITTLE_SPACE: u8 = 10;
/// Less than this is a failure: `reliability` begins to remove old logs there.
const NO_SPACE: u8 = 3;

/// Descriptors that the daemon needs besides those of its processes.
const OWN_DESCRIPTORS: u64 = 64;
/// Descriptors for one process: two pipes, two files, a pidfd.
const DESCRIPTORS_EACH: u64 = 5;

/// A host whose clock shows a time before this (2024) has not set it.
const CLOCK_IS_SET_MS: u64 = 1_704_067_200_000;

/// What was found out about one thing.
#[derive(Debug)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    text: String,
    fix: Option<String>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// Runs `pmd doctor`.
pub fn run(session: &mut Session, _parsed: &Parsed) -> Run {
    let mut findings = Vec::new();
    let daemon = daemon(session, &mut findings)?;
    let paths = session.daemons.paths().cloned();
    match &paths {
        Ok(paths) => {
            directories(paths, &mut findings);
            space(paths, &mut findings);
        }
        Err(failure) => findings.push(Finding {
            check: "directories",
            verdict: Verdict::Fail,
            text: failure.message.clone(),
            fix: failure.hint.clone(),
        }),
    }
    let processes = match &daemon {
        Some(_) => session.processes(None, true)?,
        None => Vec::new(),
    };
    descriptors(daemon.as_ref(), processes.len(), &mut findings);
    the_clock(&mut findings);
    if daemon.is_some() {
        programs(&processes, &mut findings);
    }
    pm2(&mut findings);
    cgroup(daemon.as_ref(), &mut findings);
    if process::effective_uid() != 0 {
        linger(&mut findings);
    }
    report(session, &findings)
}

fn report(session: &mut Session, findings: &[Finding]) -> Run {
    let failed = findings.iter().any(|finding| finding.verdict == Verdict::Fail);
    if session.screen.json {
        let checks: Vec<Value> = findings
            .iter()
            .map(|finding| {
                json!({"check": finding.check, "verdict": finding.verdict.word(),
                    "text": finding.text, "fix": finding.fix})
            })
            .collect();
        session.screen.document(&json!({"ok": !failed, "command": "doctor", "checks": checks}))?;
    } else {
        for finding in findings {
            let word = finding.verdict.word();
            let shown = match finding.verdict {
                _ if !session.screen.view.colour => format!("{word:4}"),
                Verdict::Ok => format!("\u{1b}[32m{word:4}\u{1b}[0m"),
                Verdict::Warn => format!("\u{1b}[33m{word:4}\u{1b}[0m"),
                Verdict::Fail => format!("\u{1b}[31m{word:4}\u{1b}[0m"),
            };
            let text = text::one_line(&finding.text);
            session.screen.line(&format!("{shown}  {:11}  {text}", finding.check))?;
            if let Some(fix) = &finding.fix {
                session.screen.line(&format!("      {:11}  try: {fix}", ""))?;
            }
        }
    }
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

/// Whether a daemon answers, which one, and what it complains of itself.
fn daemon(session: &mut Session, findings: &mut Vec<Finding>) -> Result<Option<Value>, End> {
    let mut add = |verdict, text: String, fix: Option<&str>| {
        findings.push(Finding { check: "daemon", verdict, text, fix: fix.map(str::to_owned) });
    };
    match session.is_there() {
        Ok(true) => {}
        Ok(false) => {
            add(Verdict::Warn, "no daemon is running".to_owned(), Some("pmd resurrect"));
            return Ok(None);
        }
        Err(End::Failed(failure)) => {
            add(Verdict::Fail, failure.message.clone(), failure.hint.as_deref());
            return Ok(None);
        }
        Err(end) => return Err(end),
    }
    let about = match session.question("get_daemon", &json!({})) {
        Ok(about) => about,
        Err(End::Failed(failure)) => {
            add(Verdict::Fail, failure.message.clone(), failure.hint.as_deref());
            return Ok(None);
        }
        Err(end) => return Err(end),
    };
    let version = about["version"].as_str().unwrap_or("?");
    let pid = about["pid"].as_u64().unwrap_or(0);
    let home = about["home"].as_str().unwrap_or("?");
    let below = match about["keeper_pid"].as_u64() {
        Some(keeper) => format!(" below its keeper {keeper}"),
        None => String::new(),
    };
    add(Verdict::Ok, format!("version {version}, pid {pid}{below}, {home}"), None);
    if let Some(text) = version_warning(version, VERSION) {
        add(Verdict::Warn, text, Some(VERSION_HINT));
    }
    for problem in about["problems"].as_array().into_iter().flatten() {
        let text = problem["message"].as_str().unwrap_or("unknown problem").to_owned();
        // Supervision goes on without the web interface, and without a keeper.
        let mild = problem["code"] == "web" || problem["code"] == "keeper";
        let verdict = if mild { Verdict::Warn } else { Verdict::Fail };
        add(verdict, text, problem["hint"].as_str());
    }
    Ok(Some(about))
}

/// Directories that hold secrets are nobody else's.
fn directories(paths: &Paths, findings: &mut Vec<Finding>) {
    let mut wrong = false;
    let open = |dir: &Path| std::fs::metadata(dir).map(|meta| (meta.uid(), meta.mode() & 0o777));
    for dir in [&paths.state, &paths.runtime] {
        let shown = dir.display();
        let finding = match open(dir) {
            // Not there yet: made by the first daemon.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => (Verdict::Warn, format!("{shown}: {}", in_words(&error)), None),
            Ok((uid, _)) if uid != process::effective_uid() && process::effective_uid() != 0 => {
                (Verdict::Warn, format!("{shown} belongs to another user (uid {uid})"), None)
            }
            Ok((_, mode)) if mode & 0o022 != 0 => (
                Verdict::Fail,
                format!("{shown} can be written by others (mode {mode:04o})"),
                Some(format!("chmod 0700 {shown}")),
            ),
            Ok(_) => continue,
        };
        wrong = true;
        let (verdict, text, fix) = finding;
        findings.push(Finding { check: "directories", verdict, text, fix });
    }
    if !wrong {
        let text = format!("{} and {}", paths.state.display(), paths.runtime.display());
        findings.push(Finding { check: "directories", verdict: Verdict::Ok, text, fix: None });
    }
}

fn space(paths: &Paths, findings: &mut Vec<Finding>) {
    for (what, place) in [("state", &paths.state), ("logs", &paths.logs)] {
        let Some(existing) = place.ancestors().find(|dir| dir.is_dir()) else { continue };
        let Ok(space) = dir::space_at(existing) else { continue };
        let free = space.percent_free();
        let verdict = match free {
            0..NO_SPACE => Verdict::Fail,
            NO_SPACE..LITTLE_SPACE => Verdict::Warn,
            _ => Verdict::Ok,
        };
        let text = format!("{free}% free for {what} ({})", place.display());
        let fix = (verdict != Verdict::Ok).then(|| "pmd flush, or make room".to_owned());
        findings.push(Finding { check: "space", verdict, text, fix });
    }
}

/// The daemon's own limit where it tells it, else that of this shell.
fn descriptors(daemon: Option<&Value>, processes: usize, findings: &mut Vec<Finding>) {
    let told = daemon.and_then(|about| about["limits"]["descriptors"].as_u64());
    let own = || limits::limit(Resource::OpenFiles).ok().map(|limit| limit.hard);
    let Some(limit) = told.or_else(own) else { return };
    let count = u64::try_from(processes).unwrap_or(u64::MAX);
    let need = count.saturating_mul(DESCRIPTORS_EACH).saturating_add(OWN_DESCRIPTORS);
    let verdict = if need.saturating_mul(2) > limit { Verdict::Warn } else { Verdict::Ok };
    let text = format!("limit {limit}, {processes} processes need about {need}");
    let fix = (verdict != Verdict::Ok).then(|| "LimitNOFILE in the unit, or ulimit -n".to_owned());
    findings.push(Finding { check: "descriptors", verdict, text, fix });
}

fn the_clock(findings: &mut Vec<Finding>) {
    let set = clock::now().wall.0 >= CLOCK_IS_SET_MS;
    findings.push(Finding {
        check: "clock",
        verdict: if set { Verdict::Ok } else { Verdict::Warn },
        text: if set { "set" } else { "not set: times in logs are wrong" }.to_owned(),
        fix: (!set).then(|| "set the time, or wait for it to be synchronised".to_owned()),
    });
}

/// Crash loops and programs that were given up, are unhealthy, or do not serve on their port.
fn programs(processes: &[Value], findings: &mut Vec<Finding>) {
    let mut well = true;
    for entry in processes.iter().map(Entry) {
        let name = entry.name();
        let unstable = entry.0["unstable_restarts"].as_u64().unwrap_or(0);
        let text = match entry.status() {
            "errored" => format!("{name} is errored: {}", entry.text("error").unwrap_or("gave up")),
            _ if unstable >= 3 => format!("{name} keeps dying: {unstable} short runs in a row"),
            "online" if entry.text("health") == Some("unhealthy") => format!("{name} is unhealthy"),
            "online" => match entry.port().and_then(|port| u16::try_from(port).ok()) {
                Some(port) if net::can_bind(port) => {
                    format!("{name} does not listen on port {port}, which it was given")
                }
                Some(_) | None => continue,
            },
            _ => continue,
        };
        well = false;
        let fix = Some(format!("pmd logs {name} --err"));
        findings.push(Finding { check: "programs", verdict: Verdict::Warn, text, fix });
    }
    if well {
        let text = format!("{} processes, none in trouble", processes.len());
        findings.push(Finding { check: "programs", verdict: Verdict::Ok, text, fix: None });
    }
}

/// A PM2 daemon that was forgotten starts the same programs once more.
fn pm2(findings: &mut Vec<Finding>) {
    let home = std::env::var("PM2_HOME").ok().filter(|home| !home.is_empty());
    let home = home.or_else(|| std::env::var("HOME").ok().map(|home| format!("{home}/.pm2")));
    let Some(home) = home else { return };
    let text = std::fs::read_to_string(Path::new(&home).join("pm2.pid")).ok();
    let pid = text.and_then(|text| text.trim().parse().ok()).and_then(Pid::new);
    let alive = pid.filter(|&pid| {
        let words = proc::command_line(pid).ok().flatten().unwrap_or_default();
        words.first().is_some_and(|word| word.windows(3).any(|part| part == b"PM2"))
    });
    if let Some(pid) = alive {
        findings.push(Finding {
            check: "pm2",
            verdict: Verdict::Warn,
            text: format!("a PM2 daemon (pid {pid}) runs in {home}"),
            fix: Some("start its programs with pmd, then: pm2 kill".to_owned()),
        });
    }
}

/// What the daemon says about its control groups; without one, what the host has.
fn cgroup(daemon: Option<&Value>, findings: &mut Vec<Finding>) {
    let group = daemon.map(|about| &about["cgroup"]);
    let (verdict, text) = match group {
        Some(Value::Object(group)) => {
            let place = group.get("path").and_then(Value::as_str).unwrap_or("?");
            let mut limits = Vec::new();
            let listed = group.get("controllers").and_then(Value::as_array);
            limits.extend(listed.into_iter().flatten().filter_map(Value::as_str));
            let limits = if limits.is_empty() { "none".to_owned() } else { limits.join(", ") };
            (Verdict::Ok, format!("one for each process in {place}, limits: {limits}"))
        }
        None if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() => {
            (Verdict::Ok, "version 2".to_owned())
        }
        Some(_) | None => (
            Verdict::Warn,
            "no version 2 that can be written: trees are ended by walking /proc".to_owned(),
        ),
    };
    findings.push(Finding { check: "cgroup", verdict, text, fix: None });
}

/// Without lingering, systemd ends a user's daemon with the last session.
fn linger(findings: &mut Vec<Finding>) {
    if !Path::new("/run/systemd/system").is_dir() {
        return;
    }
    let user = users::user_by_id(process::effective_uid()).ok().flatten();
    let Some(user) = user else { return };
    let lingers = Path::new("/var/lib/systemd/linger").join(&user.name).exists();
    findings.push(Finding {
        check: "linger",
        verdict: if lingers { Verdict::Ok } else { Verdict::Warn },
        text: if lingers {
            "the daemon outlives your sessions".to_owned()
        } else {
            "systemd may end the daemon when you log out".to_owned()
        },
        fix: (!lingers).then(|| format!("sudo loginctl enable-linger {}", user.name)),
    });
}
