//! `pmd resurrect --from-pm2`: programs move here from PM2.
//!
//! Where PM2's daemon still runs, it is asked what it has, told to end (it saves its list then) and
//! waited for; where it does not, its saved list is all there is.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::base::{Pid, Signal};
use crate::cli::Run;
use crate::cli::args::Parsed;
use crate::cli::commands::outcome;
use crate::cli::error::{End, Failure, in_words};
use crate::cli::exit::Exit;
use crate::cli::session::Session;
use crate::config::paths::Pm2Paths;
use crate::json::json;
use crate::proto::pm2::amp::{self, Message, Pair};
use crate::sys::peer;
use crate::sys::pidfd::{Life, PidFd};

/// How long PM2 may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether PM2 has ended, and for how long: its programs end first.
const LOOK: Duration = Duration::from_millis(50);
const LOOKS: u32 = 60 * 20;

/// PM2's daemon.
struct Daemon {
    pid: Pid,
    /// What it has: the name and the id of each program.
    programs: Vec<(String, u64)>,
}

/// Runs `pmd resurrect --from-pm2`.
pub fn run(session: &mut Session, parsed: &Parsed) -> Run {
    let paths = session.daemons.paths()?.pm2.clone();
    let paths = paths.ok_or_else(|| Failure::new(Exit::Failed, "no home of PM2 is known"))?;
    let daemon = living(session, &paths)?;
    let names = match &daemon {
        Some(daemon) => daemon.programs.iter().map(|(name, _)| name.clone()).collect(),
        None => saved(&paths.dump)?,
    };
    let known = if session.is_there()? { session.processes(None, true)? } else { Vec::new() };
    let is_known = |name: &String| known.iter().any(|known| known["name"] == name.as_str());
    for name in &names {
        let plan = if is_known(name) { "= " } else { "+ " };
        let what = if is_known(name) { "is here already" } else { "start" };
        session.screen.aside(&format!("{plan}{name}  {what}"));
    }
    if let Some(daemon) = &daemon {
        let question = format!("end PM2 (pid {}) and run these here?", daemon.pid);
        if !parsed.flag("yes") && session.screen.ask(&question) == Some(false) {
            return Ok(Exit::Failed);
        }
        end(session, daemon.pid)?;
    }
    session.need_daemon()?;
    let ids: Vec<u64> =
        daemon.iter().flat_map(|it| it.programs.iter().map(|(_, id)| *id)).collect();
    let mut data = Map::new();
    data.insert("from_pm2".to_owned(), json!(paths.dump));
    data.insert("ids".to_owned(), json!(ids));
    let outcome = outcome::request(session, "resurrect", &Value::Object(data))?;
    if outcome.results.is_empty() {
        session.screen.result("nothing to move: everything in PM2's list is here")?;
    }
    outcome::report(session, parsed, "resurrect", outcome)
}

/// The daemon of PM2 that listens in its home; none if nobody does, or pmd itself.
fn living(session: &mut Session, paths: &Pm2Paths) -> Result<Option<Daemon>, End> {
    let Ok(mut stream) = UnixStream::connect(&paths.rpc) else { return Ok(None) };
    let peer = peer::peer_credentials(&stream).ok().and_then(|peer| peer.pid);
    let ours = if session.is_there()? { session.client()?.hello().map(|it| it.pid) } else { None };
    // Another daemon of pmd's looks like PM2 there.
    let program = |pid: &str| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    let is_pm2 =
        |pid: &Pid| ours != Some(pid.raw()) && program(&pid.to_string()) != program("self");
    let Some(pid) = peer.filter(is_pm2) else { return Ok(None) };
    let answered = stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
        .and_then(|()| list(&mut stream));
    let records = answered.map_err(|error| {
        Failure::new(Exit::Failed, format!("PM2 (pid {pid}) does not answer: {}", in_words(&error)))
    })?;
    let programs = records
        .iter()
        .filter(|record| record["pm2_env"]["pmx_module"] != true)
        .filter_map(|record| Some((record["name"].as_str()?.to_owned(), record["pm_id"].as_u64()?)))
        .collect();
    Ok(Some(Daemon { pid, programs }))
}

/// What PM2 answers to `getMonitorData`.
fn list(stream: &mut UnixStream) -> std::io::Result<Vec<Value>> {
    let mut call = Pair::reply();
    call.json().extend_from_slice(br#"{"type":"call","method":"getMonitorData","args":[{}]}"#);
    stream.write_all(&call.close_reply(b"s:pmd:0").concat())?;
    let nonsense = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    let mut bytes = Vec::new();
    let mut more = [0; 16 * 1024];
    loop {
        if let Some(message) = Message::first(&bytes).map_err(|_| nonsense())? {
            let body = message.arguments().first().and_then(|body| amp::json(body));
            let mut body: Value = serde_json::from_slice(body.ok_or_else(nonsense)?)?;
            return match body["args"][0].take() {
                Value::Array(records) => Ok(records),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                    Err(nonsense())
                }
                Value::Object(_) => Err(nonsense()),
            };
        }
        match stream.read(&mut more)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            length => bytes.extend_from_slice(more.get(..length).unwrap_or_default()),
        }
    }
}

/// The names in a saved list; in the one before where there is none.
fn saved(dump: &Path) -> Result<Vec<String>, Failure> {
    let place = dump.display();
    let read = |path: &Path| -> Option<Vec<String>> {
        let list: Vec<Value> = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        let names = list.iter().filter(|record| record["pmx_module"] != true);
        let names = names.filter_map(|record| record["name"].as_str().map(str::to_owned));
        Some(names.collect::<Vec<_>>()).filter(|names| !names.is_empty())
    };
    let found = read(dump).or_else(|| read(Path::new(&format!("{place}.bak"))));
    found.ok_or_else(|| {
        Failure::new(Exit::Failed, format!("PM2 has saved nothing at {place}"))
            .why("and no daemon of PM2 runs there")
            .hint("PM2_HOME=DIR, or: pm2 save")
    })
}

/// Ends PM2's daemon as `systemctl stop` would, and waits for it.
fn end(session: &Session, pid: Pid) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| {
        Failure::new(Exit::Failed, format!("cannot end PM2 (pid {pid}): {}", in_words(&error)))
    };
    let Some(process) = PidFd::open(pid).map_err(cannot)? else { return Ok(()) };
    process.signal(Signal::TERM).map_err(cannot)?;
    for _ in 0..LOOKS {
        match process.life().map_err(cannot)? {
            Life::Running => session.pause(LOOK),
            Life::Ended | Life::Gone => return Ok(()),
        }
    }
    let text = format!("PM2 (pid {pid}) did not end within a minute");
    Err(Failure::new(Exit::TimedOut, text).hint(format!("kill -9 {pid}, then again")))
}
