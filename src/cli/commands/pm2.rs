//! What scripts read of PM2's output, as PM2 prints it: for runs under the name `pm2`.
//!
//! Source: pm2 7.0.4, observed; lists of values are as Node's `util.inspect` shows them.

use std::fmt::Write as _;

use serde_json::Value;

use crate::cli::output::text::width;

/// Rows of `describe`: what PM2 calls them, and the member of `pm2_env` they show.
const ROWS: [(&str, &str); 22] = [
    ("status", "status"),
    ("name", "name"),
    ("namespace", "namespace"),
    ("version", "version"),
    ("restarts", "restart_time"),
    ("uptime", "pm_uptime"),
    ("script path", "pm_exec_path"),
    ("script args", "args"),
    ("error log path", "pm_err_log_path"),
    ("out log path", "pm_out_log_path"),
    ("pid path", "pm_pid_path"),
    ("interpreter", "exec_interpreter"),
    ("interpreter args", "node_args"),
    ("script id", "pm_id"),
    ("exec cwd", "pm_cwd"),
    ("exec mode", "exec_mode"),
    ("node.js version", "node_version"),
    ("node env", "NODE_ENV"),
    ("watch & reload", "watch"),
    ("unstable restarts", "unstable_restarts"),
    ("created at", "created_at"),
    ("stop exit codes", "stop_exit_codes"),
];

/// The page of one record. `now` in milliseconds.
#[must_use]
pub fn describe(record: &Value, now: u64) -> String {
    let env = &record["pm2_env"];
    let rows: Vec<(&str, String)> = ROWS
        .iter()
        .filter(|(_, member)| *member != "stop_exit_codes" || !env[*member].is_null())
        .map(|&(title, member)| (title, cell(member, &env[member], record, now)))
        .collect();
    let left = rows.iter().map(|(title, _)| width(title)).max().unwrap_or(0) + 2;
    let right = rows.iter().map(|(_, cell)| width(cell)).max().unwrap_or(0) + 2;
    let rule = |begin: char, middle: char, end: char| {
        format!("{begin}{}{middle}{}{end}\n", "─".repeat(left), "─".repeat(right))
    };
    let id = &record["pm_id"];
    let name = record["name"].as_str().unwrap_or_default();
    let mut page = format!(" Describing process with id {id} - name {name} \n");
    page.push_str(&rule('┌', '┬', '┐'));
    for (title, cell) in &rows {
        let (left, right) = (left - 1 - width(title), right - 1 - width(cell));
        let _ = writeln!(page, "│ {title}{:left$}│ {cell}{:right$}│", "", "");
    }
    page.push_str(&rule('└', '┴', '┘'));
    page
}

fn cell(member: &str, value: &Value, record: &Value, now: u64) -> String {
    match (member, value) {
        ("pm_uptime", Value::Number(at)) if record["pid"].as_u64().unwrap_or(0) > 0 => {
            ago(now.saturating_sub(at.as_u64().unwrap_or(now)))
        }
        ("pm_uptime", _) => "0".to_owned(),
        ("created_at", Value::Number(at)) => {
            let at = crate::base::WallTime(at.as_u64().unwrap_or_default());
            crate::proto::messages::stamp::timestamp(at)
        }
        ("watch", Value::Bool(true) | Value::Array(_)) => "✔".to_owned(),
        ("watch", _) => "✘".to_owned(),
        (_, Value::Null) => "N/A".to_owned(),
        (_, Value::Array(list)) if list.is_empty() => "N/A".to_owned(),
        (_, Value::Array(list)) => list.iter().map(plain).collect::<Vec<_>>().join(" "),
        (_, value) => plain(value),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `0s`, `5m`, `3h`, `2D`.
fn ago(millis: u64) -> String {
    let seconds = millis / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}D", seconds / 86_400),
    }
}

/// `[ 0, 1 ]`.
#[must_use]
pub fn numbers(numbers: &[u64]) -> String {
    if numbers.is_empty() {
        return "[]".to_owned();
    }
    let words: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    format!("[ {} ]", words.join(", "))
}

/// A value as Node shows it, a member a line.
#[must_use]
pub fn inspect(value: &Value) -> String {
    let mut out = String::new();
    put(&mut out, value, 0);
    out
}

fn put(out: &mut String, value: &Value, depth: usize) {
    let indent = depth * 2 + 2;
    match value {
        Value::Object(members) if members.is_empty() => out.push_str("{}"),
        Value::Array(items) if items.is_empty() => out.push_str("[]"),
        Value::Object(members) => {
            out.push('{');
            for (at, (key, value)) in members.iter().enumerate() {
                out.push_str(if at > 0 { ",\n" } else { "\n" });
                let _ = write!(out, "{:indent$}", "");
                put_key(out, key);
                out.push_str(": ");
                put(out, value, depth + 1);
            }
            let _ = write!(out, "\n{:1$}}}", "", indent - 2);
        }
        Value::Array(items) => {
            out.push('[');
            for (at, value) in items.iter().enumerate() {
                out.push_str(if at > 0 { ",\n" } else { "\n" });
                let _ = write!(out, "{:indent$}", "");
                put(out, value, depth + 1);
            }
            let _ = write!(out, "\n{:1$}]", "", indent - 2);
        }
        Value::String(text) => put_text(out, text),
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            let _ = write!(out, "{value}");
        }
    }
}

fn put_key(out: &mut String, key: &str) {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
    if key.chars().all(is_word) && !key.starts_with(|c: char| c.is_ascii_digit()) && !key.is_empty()
    {
        out.push_str(key);
    } else {
        put_text(out, key);
    }
}

/// In the quotes that need no escape, as Node chooses them.
fn put_text(out: &mut String, text: &str) {
    let quote = ['\'', '"', '`'].into_iter().find(|&quote| !text.contains(quote)).unwrap_or('\'');
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => {
                let _ = write!(out, "\\x{:02X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push(quote);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_look_as_node_shows_them() {
        let value = json!([{"name": "it's", "pm-id": 0, "args": [], "env": {"A\n": null}}]);
        // Members stand in the order of their keys here.
        let expected = "[\n  {\n    args: [],\n    env: {\n      'A\\n': null\n    },\n    \
                        name: \"it's\",\n    'pm-id': 0\n  }\n]";
        assert_eq!(inspect(&value), expected);
        assert_eq!((numbers(&[]), numbers(&[0, 12])), ("[]".to_owned(), "[ 0, 12 ]".to_owned()));
    }

    #[test]
    fn a_page_has_a_row_for_everything_that_is_asked_for() {
        let record = json!({"name": "web", "pm_id": 3, "pid": 9, "pm2_env": {
            "exec_mode": "fork_mode", "restart_time": 0, "pm_uptime": 1000, "args": ["a", "b"],
            "watch": false, "status": "online"}});
        let page = describe(&record, 62_000);
        assert!(page.starts_with(" Describing process with id 3 - name web \n┌"), "{page}");
        for row in
            ["│ exec mode         │ fork_mode ", "│ restarts          │ 0 ", "│ 1m ", "│ a b "]
        {
            assert!(page.contains(row), "{row} in\n{page}");
        }
        let lines: Vec<usize> = page.lines().skip(1).map(width).collect();
        assert!(lines.windows(2).all(|two| two[0] == two[1]), "{page}");
    }
}
