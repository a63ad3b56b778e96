//! `pmd list`.

use std::time::Duration;

use serde_json::Value;

use crate::cli::Run;
use crate::cli::args::Parsed;
use crate::cli::client::{Answer, Client};
use crate::cli::daemons::Whose;
use crate::cli::entry::Entry;
use crate::cli::error::{End, Failure};
use crate::cli::exit::Exit;
use crate::cli::output::table::{self, Column, Look};
use crate::cli::rest_view;
use crate::cli::session::Session;
use crate::cli::targets;
use crate::config::suggest;
use crate::sorted::sort_by;
use crate::sys::clock;

/// The pause of `--refresh` without a value.
const REFRESH: Duration = Duration::from_secs(2);

/// Statuses that `--status` knows: the API's words and the human one.
const STATUSES: [&str; 7] =
    ["online", "starting", "stopping", "stopped", "errored", "restarting", "waiting"];

/// Runs `pmd list`.
pub fn run(session: &mut Session, parsed: &Parsed) -> Run {
    let wish = Wish::of(parsed)?;
    let targets = targets::expand_some(session, parsed)?;
    // The JSON has fields of the definition, too.
    let brief = !session.screen.json;
    let Some(pause) = refresh(parsed) else {
        let processes = session.measured(targets.as_deref(), brief)?;
        print(session, processes, &wish)?;
        return Ok(Exit::Done);
    };
    loop {
        let processes = session.measured(targets.as_deref(), brief)?;
        if session.screen.is_terminal() && !session.screen.json {
            // Home, and clear what is below: the lines before stay in the scrollback.
            session.screen.text("\u{1b}[H\u{1b}[J")?;
        }
        print(session, processes, &wish)?;
        session.screen.flush()?;
        session.pause(pause);
    }
}

/// The plain list, as `--list` prints it after an action.
///
/// # Errors
///
/// Those of the question and of the output.
pub fn print_all(session: &mut Session) -> Result<(), End> {
    let processes = session.measured(None, true)?;
    let look = Look { columns: None, wide: false, header: true };
    let wish = Wish { look, sort: (Sort::Id, false), status: None, namespace: None };
    print(session, processes, &wish)
}

/// What of which processes, and in which order.
struct Wish {
    look: Look,
    sort: (Sort, bool),
    status: Option<String>,
    namespace: Option<String>,
}

#[derive(Clone, Copy)]
enum Sort {
    Id,
    Name,
    Status,
    Uptime,
    Restarts,
    Cpu,
    Memory,
    Pid,
}

impl Wish {
    fn of(parsed: &Parsed) -> Result<Self, Failure> {
        let status = parsed.text("status").map(str::to_owned);
        if let Some(status) = &status
            && !STATUSES.contains(&status.as_str())
        {
            return Err(Failure::usage(format!(
                "list: '--status {status}' is not one of {}",
                STATUSES.join(", ")
            )));
        }
        let mini = parsed.flag("mini-list");
        let columns = match columns(parsed)? {
            columns if !columns.is_empty() => Some(columns),
            _ if mini => Some(vec![Column::Id, Column::Name, Column::Status]),
            _ => None,
        };
        Ok(Self {
            look: Look { columns, wide: parsed.flag("wide"), header: parsed.flag("header") },
            sort: sort(parsed.text("sort").unwrap_or("id"))?,
            status,
            namespace: parsed.text("namespace").map(str::to_owned),
        })
    }

    fn wants(&self, entry: Entry<'_>) -> bool {
        let status = self.status.as_deref();
        status.is_none_or(|status| entry.status() == status || entry.word() == status)
            && self.namespace.as_deref().is_none_or(|name| entry.namespace() == name)
    }
}

fn print(session: &mut Session, mut processes: Vec<Value>, wish: &Wish) -> Result<(), End> {
    let total = processes.len();
    processes.retain(|process| wish.wants(Entry(process)));
    order(&mut processes, wish.sort);
    if session.screen.json {
        let list: Vec<Value> =
            processes.iter().map(|process| rest_view::process(Entry(process))).collect();
        session.screen.document(&Value::Array(list))?;
        return Ok(());
    }
    let entries: Vec<Entry<'_>> = processes.iter().map(Entry).collect();
    if entries.is_empty() {
        let text = if total == 0 {
            "no processes (start one: pmd start app.js)"
        } else {
            "no such processes"
        };
        session.screen.line(text)?;
    } else {
        let now = clock::now().wall;
        let text = table::render(&entries, &wish.look, session.screen.view, now);
        session.screen.text(&text)?;
    }
    if session.screen.is_terminal() && wish.look.columns.is_none() {
        if !entries.is_empty() {
            // A daemon of another version may not know; the list is good without.
            let system = session.question("get_system", &crate::json::json!({}));
            let system = system.unwrap_or_default();
            session.screen.line(&table::summary(&entries, &system))?;
        }
        if let Some(line) = others(session) {
            session.screen.line(&line)?;
        }
    }
    Ok(())
}

/// `the system daemon runs 3 more: pmd --system ls`, where the answer could be confusing.
fn others(session: &Session) -> Option<String> {
    let other = session.daemons.other(session.whose()?)?;
    let mut client = Client::connect(&other.socket).ok()?;
    let question = crate::json::json!({"processes": null, "brief": true});
    let limit = Some(Duration::from_secs(1));
    let Ok(Answer::Given(reply)) = client.request("get_info", &question, limit) else {
        return None;
    };
    let count = reply["processes"].as_array().map_or(0, Vec::len);
    if count == 0 {
        return None;
    }
    Some(match other.whose {
        Whose::System => format!("the system daemon runs {count} more: pmd --system ls"),
        Whose::User | Whose::Given => {
            format!("your own daemon runs {count} more: pmd ls (without sudo)")
        }
    })
}

fn columns(parsed: &Parsed) -> Result<Vec<Column>, Failure> {
    parsed
        .list("columns")
        .iter()
        .map(|name| {
            let known = Column::ALL.into_iter().find(|column| column.name() == name.as_str());
            known.ok_or_else(|| {
                let names = Column::ALL.map(Column::name);
                let failure = Failure::usage(format!("list: there is no column '{name}'"));
                match suggest::nearest(name, names.iter().copied()) {
                    Some(near) => failure.hint(format!("did you mean '{near}'?")),
                    None => failure.hint(names.join(", ")),
                }
            })
        })
        .collect()
}

fn sort(text: &str) -> Result<(Sort, bool), Failure> {
    let (field, descending) = match text.split_once(':') {
        Some((field, "desc")) => (field, true),
        Some((field, "asc")) => (field, false),
        Some(_) | None => (text, false),
    };
    let sort = match field {
        "id" => Sort::Id,
        "name" => Sort::Name,
        "status" => Sort::Status,
        "uptime" => Sort::Uptime,
        "restarts" => Sort::Restarts,
        "cpu" => Sort::Cpu,
        "memory" => Sort::Memory,
        "pid" => Sort::Pid,
        _ => {
            return Err(Failure::usage(format!("list: cannot sort by '{text}'"))
                .hint("id, name, status, uptime, restarts, cpu, memory or pid; :desc reverses"));
        }
    };
    Ok((sort, descending))
}

fn order(processes: &mut [Value], (sort, descending): (Sort, bool)) {
    sort_by(processes, |one, two| {
        let (one, two) = (Entry(one), Entry(two));
        let order = match sort {
            Sort::Id => one.id().cmp(&two.id()),
            Sort::Name => one.name().cmp(two.name()),
            Sort::Status => one.word().cmp(two.word()),
            Sort::Uptime => one.uptime().cmp(&two.uptime()),
            Sort::Restarts => one.restarts().cmp(&two.restarts()),
            Sort::Cpu => one.cpu().unwrap_or(-1.0).total_cmp(&two.cpu().unwrap_or(-1.0)),
            Sort::Memory => one.memory_tree().cmp(&two.memory_tree()),
            Sort::Pid => one.pid().cmp(&two.pid()),
        };
        let order = if descending { order.reverse() } else { order };
        order.then(one.id().cmp(&two.id())).is_lt()
    });
}

fn refresh(parsed: &Parsed) -> Option<Duration> {
    parsed
        .duration("refresh")
        .or_else(|| parsed.flag("refresh").then_some(REFRESH))
        .map(|pause| pause.max(Duration::from_millis(100)))
}
