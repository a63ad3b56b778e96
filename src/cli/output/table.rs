//! The list of processes as a table that fits the terminal.
//!
//! No boxes: one line of headings, columns two blanks apart, numbers to the right. Where the
//! terminal is too narrow, columns leave in a fixed order, and the last one is cut.

use serde_json::Value;

use crate::base::WallTime;
use crate::cli::entry::{Entry, Labels};
use crate::cli::output::{note::note, text};
use crate::cli::screen::View;
use crate::config::units;

/// A name keeps at least this many columns.
const MIN_NAME: usize = 12;
/// A note that needs more than this does not drive other columns out; it is cut instead.
const NOTE_SHARE: usize = 32;
/// A note with less room than this is not shown at all.
const MIN_NOTE: usize = 8;

/// A column of the list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Column {
    Id,
    Name,
    Namespace,
    Mode,
    User,
    Watch,
    Status,
    Uptime,
    Restarts,
    Cpu,
    Memory,
    Pid,
    Note,
}

impl Column {
    pub const ALL: [Self; 13] = [
        Self::Id,
        Self::Name,
        Self::Namespace,
        Self::Mode,
        Self::User,
        Self::Watch,
        Self::Status,
        Self::Uptime,
        Self::Restarts,
        Self::Cpu,
        Self::Memory,
        Self::Pid,
        Self::Note,
    ];

    /// As `--columns` names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Name => "name",
            Self::Namespace => "namespace",
            Self::Mode => "mode",
            Self::User => "user",
            Self::Watch => "watch",
            Self::Status => "status",
            Self::Uptime => "uptime",
            Self::Restarts => "restarts",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Pid => "pid",
            Self::Note => "note",
        }
    }

    fn heading(self) -> &'static str {
        match self {
            Self::Id => "ID",
            Self::Name => "NAME",
            Self::Namespace => "NAMESPACE",
            Self::Mode => "MODE",
            Self::User => "USER",
            Self::Watch => "WATCH",
            Self::Status => "STATUS",
            Self::Uptime => "UPTIME",
            Self::Restarts => "RST",
            Self::Cpu => "CPU%",
            Self::Memory => "MEM",
            Self::Pid => "PID",
            Self::Note => "NOTE",
        }
    }

    fn is_right(self) -> bool {
        matches!(
            self,
            Self::Id | Self::Uptime | Self::Restarts | Self::Cpu | Self::Memory | Self::Pid
        )
    }

    fn cell(self, entry: Entry<'_>, labels: &Labels, now: WallTime) -> String {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        match self {
            Self::Id => entry.id().to_string(),
            Self::Name => text::one_line(&labels.of_entry(entry)).into_owned(),
            Self::Namespace => text::one_line(entry.namespace()).into_owned(),
            Self::Mode => "fork".to_owned(),
            Self::User => or_dash(user(entry).map(str::to_owned)),
            Self::Watch => if entry.is_watched() { "yes" } else { "no" }.to_owned(),
            Self::Status => entry.word().to_owned(),
            Self::Uptime => or_dash(entry.uptime().map(units::uptime)),
            Self::Restarts => entry.restarts().to_string(),
            Self::Cpu => or_dash(entry.cpu().map(|cpu| units::decimal(cpu, 1))),
            Self::Memory => or_dash(entry.memory_tree().map(units::memory)),
            Self::Pid => or_dash(entry.pid().map(|pid| pid.to_string())),
            Self::Note => note(entry, now),
        }
    }
}

/// How the table is to look.
#[derive(Clone, Debug)]
pub struct Look {
    /// What to show; `None`: what there is room for.
    pub columns: Option<Vec<Column>>,
    /// All columns, whatever the width.
    pub wide: bool,
    pub header: bool,
}

/// The table, each line with its line end.
#[must_use]
pub fn render(entries: &[Entry<'_>], look: &Look, view: View, now: WallTime) -> String {
    let labels = Labels::of(entries.iter().map(|entry| entry.0));
    let mut columns: Vec<Filled> = wanted(entries, look)
        .into_iter()
        .map(|column| Filled::new(column, entries, &labels, now, look.header))
        .collect();
    if let Some(width) = view.width.filter(|_| !look.wide) {
        fit(&mut columns, width, view.unicode, look.columns.is_none());
    }
    let mut table = String::new();
    if look.header {
        push_line(&mut table, &columns, |filled| {
            text::cut(filled.column.heading(), filled.width, view.unicode).into_owned()
        });
    }
    for (row, entry) in entries.iter().enumerate() {
        push_line(&mut table, &columns, |filled| {
            let cell = filled.cells.get(row).map_or("", String::as_str);
            let shown = text::cut(cell, filled.width, view.unicode);
            if view.colour && filled.column == Column::Status {
                paint(entry.word(), &shown)
            } else {
                shown.into_owned()
            }
        });
    }
    table
}

/// The line below the table:
/// `6 processes: 3 online, 3 waiting   cpu 7%  mem 412M/1.9G  load 0.20`.
#[must_use]
pub fn summary(entries: &[Entry<'_>], system: &Value) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for word in ["online", "starting", "waiting", "restarting", "stopping", "stopped", "errored"] {
        let count = entries.iter().filter(|entry| entry.word() == word).count();
        if count > 0 {
            counts.push((word, count));
        }
    }
    let counts: Vec<_> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    let noun = if entries.len() == 1 { "process" } else { "processes" };
    let processes = format!("{} {noun}: {}", entries.len(), counts.join(", "));
    let memory = |field: &str| system["memory"][field].as_u64().map(units::memory);
    match (system["cpu"]["usage"].as_f64(), memory("used"), memory("total")) {
        (Some(cpu), Some(used), Some(total)) => {
            let load = system["load"]["one"].as_f64().unwrap_or(0.0);
            let (cpu, load) = (units::decimal(cpu, 0), units::decimal(load, 2));
            format!("{processes}   cpu {cpu}%  mem {used}/{total}  load {load}")
        }
        _ => processes,
    }
}

fn user<'a>(entry: Entry<'a>) -> Option<&'a str> {
    entry.text("user").or_else(|| entry.user())
}

/// The columns to begin with.
fn wanted(entries: &[Entry<'_>], look: &Look) -> Vec<Column> {
    if let Some(columns) = &look.columns {
        return columns.clone();
    }
    let grouped = entries.iter().any(|entry| entry.namespace() != "default");
    let users = entries.iter().any(|entry| user(*entry) != entries.first().and_then(|e| user(*e)));
    Column::ALL
        .into_iter()
        .filter(|column| match column {
            Column::Namespace => look.wide || grouped,
            Column::User => look.wide || users,
            Column::Mode | Column::Watch => look.wide,
            Column::Id
            | Column::Name
            | Column::Status
            | Column::Uptime
            | Column::Restarts
            | Column::Cpu
            | Column::Memory
            | Column::Pid
            | Column::Note => true,
        })
        .collect()
}

/// A column with its cells and the width it gets.
struct Filled {
    column: Column,
    cells: Vec<String>,
    width: usize,
}

impl Filled {
    fn new(
        column: Column,
        entries: &[Entry<'_>],
        labels: &Labels,
        now: WallTime,
        header: bool,
    ) -> Self {
        let cells: Vec<_> = entries.iter().map(|entry| column.cell(*entry, labels, now)).collect();
        let heading = if header { column.heading().len() } else { 0 };
        let width = cells.iter().map(|cell| text::width(cell)).max().unwrap_or(0).max(heading);
        Self { column, cells, width }
    }

    /// What it needs, as far as others make room for it.
    fn demand(&self) -> usize {
        if self.column == Column::Note { self.width.min(NOTE_SHARE) } else { self.width }
    }
}

/// Makes the columns fit into `width`: some leave (if they `may_leave`), the note is cut, then
/// the name.
fn fit(columns: &mut Vec<Filled>, width: usize, unicode: bool, may_leave: bool) {
    let total = |columns: &[Filled]| -> usize {
        columns.iter().map(|filled| filled.demand() + 2).sum::<usize>().saturating_sub(2)
    };
    // An empty note asks for nothing but its heading.
    if may_leave
        && columns.iter().all(|f| f.column != Column::Note || f.cells.iter().all(String::is_empty))
    {
        columns.retain(|filled| filled.column != Column::Note);
    }
    if may_leave {
        for leaver in [Column::Namespace, Column::User, Column::Pid, Column::Restarts, Column::Cpu]
        {
            if total(columns) <= width {
                break;
            }
            columns.retain(|filled| filled.column != leaver);
        }
    }
    let of = |columns: &[Filled], column: Column| columns.iter().position(|f| f.column == column);
    if let Some(at) = of(columns, Column::Note) {
        let others = total(columns) - columns[at].demand();
        let room = width.saturating_sub(others);
        if room < MIN_NOTE.min(columns[at].width) && may_leave {
            columns.remove(at);
        } else {
            columns[at].width = columns[at].width.min(room.max(if unicode { 1 } else { 3 }));
        }
    }
    let used = |columns: &[Filled], most_of_name: usize| {
        let most = |column| if column == Column::Name { most_of_name } else { usize::MAX };
        let widths = columns.iter().map(|filled| filled.width.min(most(filled.column)) + 2);
        widths.sum::<usize>().saturating_sub(2)
    };
    if may_leave && used(columns, MIN_NAME) > width {
        columns.retain(|filled| filled.column != Column::Memory);
    }
    let used = used(columns, usize::MAX);
    if let Some(at) = of(columns, Column::Name)
        && used > width
    {
        let room = columns[at].width.saturating_sub(used - width);
        columns[at].width = columns[at].width.min(room.max(MIN_NAME));
    }
}

fn push_line(table: &mut String, columns: &[Filled], cell: impl Fn(&Filled) -> String) {
    let mut line = String::new();
    for filled in columns {
        if !line.is_empty() {
            line.push_str("  ");
        }
        let cell = cell(filled);
        let visible = text::width(&text::strip_escapes(&cell));
        let padding = " ".repeat(filled.width.saturating_sub(visible));
        if filled.column.is_right() {
            line.push_str(&padding);
            line.push_str(&cell);
        } else {
            line.push_str(&cell);
            line.push_str(&padding);
        }
    }
    table.push_str(line.trim_end());
    table.push('\n');
}

/// The word in the colour of its state. The word is always there; the colour only helps.
#[must_use]
pub fn paint(word: &str, shown: &str) -> String {
    let colour = match word {
        "online" => "32",
        "errored" => "31",
        "waiting" | "starting" | "stopping" | "restarting" => "33",
        "stopped" => "2",
        _ => return shown.to_owned(),
    };
    format!("\u{1b}[{colour}m{shown}\u{1b}[0m")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn some() -> Vec<Value> {
        vec![
            json!({"id": 0, "name": "db", "namespace": "default", "status": "online", "pid": 901,
                "cpu": 0.4, "memory": 1 << 20, "memory_tree": 50_436_506,
                "uptime": 525_600_000, "restarts": 0, "ready": true}),
            json!({"id": 1, "name": "api", "instance": 0, "status": "online", "pid": 4242,
                "cpu": 103.1, "memory_tree": 62 << 20,
                "uptime": 7_860_000, "restarts": 0}),
            json!({"id": 2, "name": "api", "instance": 1, "status": "online", "pid": 4243,
                "uptime": 7_860_000, "restarts": 1, "ready": false}),
            json!({"id": 3, "name": "worker", "status": "restarting", "pid": null, "uptime": 0,
                "restarts": 7, "exit_code": 3, "retry_in": 900, "unstable_restarts": 7,
                "max_restarts": 16}),
            json!({"id": 5, "name": "bot-with-a-rather-long-name", "status": "errored",
                "restarts": 15, "exit_code": 3,
                "last_exits": [{"exit_code": 3, "last_line": "missing DB_URL"}]}),
        ]
    }

    fn drawn(entries: &[Value], width: Option<usize>, look: &Look) -> String {
        let entries: Vec<_> = entries.iter().map(Entry).collect();
        let view = View { width, colour: false, unicode: true };
        render(&entries, look, view, WallTime(0))
    }

    fn plain() -> Look {
        Look { columns: None, wide: false, header: true }
    }

    #[test]
    fn a_pipe_gets_everything_uncut() {
        assert_eq!(
            drawn(&some(), None, &plain()),
            "\
ID  NAME                         STATUS   UPTIME  RST   CPU%    MEM   PID  NOTE
 0  db                           online    6d 2h    0    0.4  48.1M   901
 1  api:0                        online   2h 11m    0  103.1  62.0M  4242
 2  api:1                        online   2h 11m    1      -      -  4243  not ready
 3  worker                       waiting       -    7      -      -     -  exit 3, next try in 0.9s (7/16)
 5  bot-with-a-rather-long-name  errored       -   15      -      -     -  gave up: exit 3 \"missing DB_URL\"
"
        );
    }

    #[test]
    fn every_line_fits_at_40_80_and_200() {
        for width in [40, 80, 200] {
            let table = drawn(&some(), Some(width), &plain());
            for line in table.lines() {
                assert!(text::width(line) <= width, "{width}: {line}");
            }
            assert!(table.contains("bot-with-a-"), "a name keeps 12 columns:\n{table}");
        }
    }

    #[test]
    fn columns_leave_in_order_and_the_note_is_cut() {
        let table = drawn(&some(), Some(80), &plain());
        let heading = table.lines().next().unwrap();
        assert!(heading.contains("UPTIME") && heading.contains("NOTE"), "{table}");
        assert!(!heading.contains("PID") && heading.contains("MEM"), "{table}");
        assert!(table.contains('\u{2026}'), "{table}");
    }

    #[test]
    fn groups_and_users_are_shown_only_where_they_differ() {
        let mut entries = some();
        assert!(!drawn(&entries, None, &plain()).contains("NAMESPACE"));
        entries[0]["namespace"] = json!("shop");
        entries[1]["user"] = json!("www");
        let table = drawn(&entries, None, &plain());
        assert!(table.contains("NAMESPACE") && table.contains("USER"), "{table}");
        let wide = drawn(&some(), Some(40), &Look { wide: true, ..plain() });
        assert!(wide.contains("NAMESPACE") && wide.contains("PID"), "{wide}");
    }

    #[test]
    fn chosen_columns_stay_as_they_were_chosen() {
        let look =
            Look { columns: Some(vec![Column::Name, Column::Id]), wide: false, header: false };
        let table = drawn(&some()[..1], Some(40), &look);
        assert_eq!(table, "db  0\n");
    }

    #[test]
    fn a_locale_without_unicode_gets_dots() {
        let entries = some();
        let entries: Vec<_> = entries.iter().map(Entry).collect();
        let view = View { width: Some(70), colour: false, unicode: false };
        let table = render(&entries, &plain(), view, WallTime(0));
        assert!(table.is_ascii() && table.contains("..."), "{table}");
    }

    #[test]
    fn colours_do_not_move_columns() {
        let entries = some();
        let entries: Vec<_> = entries.iter().map(Entry).collect();
        let render = |colour| {
            let view = View { width: None, colour, unicode: true };
            render(&entries, &plain(), view, WallTime(0))
        };
        assert_eq!(text::strip_escapes(&render(true)), render(false));
        assert!(render(true).contains("\u{1b}[32monline\u{1b}[0m"));
    }

    #[test]
    fn the_summary_counts_the_words() {
        let entries = some();
        let entries: Vec<_> = entries.iter().map(Entry).collect();
        let nothing = Value::Null;
        assert_eq!(summary(&entries, &nothing), "5 processes: 3 online, 1 waiting, 1 errored");
        let system = json!({"cpu": {"usage": 6.6}, "load": {"one": 0.2},
            "memory": {"used": 432_013_312, "total": 2_040_109_466}});
        assert_eq!(
            summary(&entries[..1], &system),
            "1 process: 1 online   cpu 7%  mem 412M/1.9G  load 0.20"
        );
    }
}
