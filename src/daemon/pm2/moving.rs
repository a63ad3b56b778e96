//! Programs that move here from PM2: its saved list is read, and each is entered and started as
//! PM2's own client would have it.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::base::ProcId;
use crate::config::json::MAX_SIZE;
use crate::config::pm2::Record;
use crate::daemon::Daemon;
use crate::daemon::key::ConnId;
use crate::daemon::requests::{Pending, data, owner_only};
use crate::json::json;
use crate::proto::messages::error::{Code, ErrorReply};
use crate::proto::messages::session::Answer;
use crate::supervisor::vocabulary::{Input, Reply};

/// A move in progress: one program after the other.
#[derive(Debug)]
pub struct Moving {
    client: ConnId,
    tag: u64,
    rest: VecDeque<(Record, Option<ProcId>)>,
    results: Vec<Value>,
}

impl Daemon {
    /// Begins a move. `ids`: what the programs of the list were known by, in its order.
    pub(in crate::daemon) fn resurrect_pm2(
        &mut self,
        client: ConnId,
        tag: u64,
        path: &str,
        ids: &[u64],
    ) -> Option<Answer> {
        if !self.is_owner(client) {
            return Some(Answer::Error(owner_only("moving programs here")));
        }
        let records = match read(Path::new(path)) {
            Ok(records) => records,
            Err(why) => {
                let error = ErrorReply::new(Code::OperationFailed, why);
                return Some(Answer::Error(error.with("path", path)));
            }
        };
        // A daemon of PM2 that was in the way is gone now, perhaps.
        self.open_pm2();
        let known: Vec<String> =
            self.supervisor.processes().map(|process| process.name().to_string()).collect();
        let is_known = |record: &Record| {
            let name = record.get("name").and_then(Value::as_str);
            name.is_some_and(|name| known.iter().any(|known| known == name))
        };
        let ids = ids.iter().map(|&id| u32::try_from(id).ok().map(ProcId));
        let rest = records.into_iter().zip(ids.chain(std::iter::repeat(None)));
        let rest = rest.filter(|(record, _)| !is_known(record)).collect();
        self.move_next(Moving { client, tag, rest, results: Vec::new() });
        None
    }

    /// Enters the next program, or answers when there is none.
    fn move_next(&mut self, mut moving: Moving) {
        while let Some((record, id)) = moving.rest.pop_front() {
            let name = record.get("name").cloned().unwrap_or_default();
            match self.entering(record, id) {
                Ok(request) => {
                    let from = self.reply_to(Pending::Moving(Box::new(moving)));
                    return self.input(Input::Request { from, request });
                }
                Err(why) => moving.results.push(failed(&name, &why)),
            }
        }
        let count = self.supervisor.processes().count();
        let answer = data("done", &json!({"processes": count, "results": moving.results}));
        self.reply(moving.client, moving.tag, &answer);
    }

    /// One program was entered, well or not: on to the next.
    pub(in crate::daemon) fn moved(&mut self, mut moving: Moving, reply: Reply) {
        match self.results(reply) {
            Ok(results) => moving.results.extend(results.iter().map(|result| json!(result))),
            Err(error) => moving.results.push(failed(&Value::from(""), &error.message)),
        }
        self.move_next(moving);
    }
}

/// The programs of a saved list; where it is damaged or empty, of the one before.
fn read(path: &Path) -> Result<Vec<Record>, String> {
    let mut why = String::new();
    for path in [path.to_path_buf(), PathBuf::from(format!("{}.bak", path.display()))] {
        match read_one(&path) {
            Ok(records) if !records.is_empty() => return Ok(records),
            Ok(_) if why.is_empty() => why = format!("{} is empty", path.display()),
            Err(reason) if why.is_empty() => why = reason,
            Ok(_) | Err(_) => {}
        }
    }
    Err(why)
}

fn read_one(path: &Path) -> Result<Vec<Record>, String> {
    let place = path.display().to_string();
    let cannot = |error| format!("cannot read {place}: {}", crate::sys::describe(&error));
    let meta = std::fs::metadata(path).map_err(cannot)?;
    if !meta.is_file() || meta.len() > u64::try_from(MAX_SIZE).unwrap_or(u64::MAX) {
        return Err(format!("{place} is no list of PM2's"));
    }
    let bytes = std::fs::read(path).map_err(cannot)?;
    let Ok(Value::Array(list)) = serde_json::from_slice(&bytes) else {
        return Err(format!("{place} is no list of PM2's"));
    };
    let records = list.into_iter().filter_map(|record| {
        let Value::Object(record) = record else { return None };
        // PM2's own modules have no place here.
        (record.get("pmx_module") != Some(&Value::Bool(true))).then_some(record)
    });
    Ok(records.collect())
}

/// The result of a program that could not be entered.
fn failed(name: &Value, why: &str) -> Value {
    json!({
        "id": null, "name": name, "instance": 0, "ok": false, "changed": false,
        "error": ErrorReply::new(Code::InvalidConfig, why),
    })
}
