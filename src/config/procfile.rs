//! Procfiles: `name: command` lines become an app file's document.
//!
//! [`document`] reads the `.env` file beside, nothing else. Each command is run by a shell, as
//! foreman does; `PORT` starts at 5000 (or at the `.env` file's `PORT`) and grows by 100 from
//! one line to the next.

use std::path::Path;

use serde_json::Value;

use crate::config::problem::{Position, Problem};
use crate::config::{envfile, words};
use crate::json::json;

/// `PORT` of the first process.
const FIRST_PORT: u32 = 5000;

/// Room for the instances of one process.
const PORT_STEP: u32 = 100;

/// The document of a Procfile, as an app file would say it.
///
/// `env_file`: the `.env` file beside it, if there is one.
///
/// # Errors
///
/// Each line that is no `name: command`; or what is wrong with the environment file.
pub fn document(file: &str, text: &str, env_file: Option<&Path>) -> Result<Value, Vec<Problem>> {
    let first = match env_file {
        Some(path) => first_port(path).map_err(|problem| vec![problem])?,
        None => FIRST_PORT,
    };
    let mut apps = Vec::new();
    let mut problems = Vec::new();
    let mut port = first;
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let Some((name, command)) = entry(trimmed) else {
            let position = Position { line: index + 1, column: 1 };
            problems.push(Problem::new("expected 'name: command'").at(file, Some(position)));
            continue;
        };
        let mut app = json!({
            "name": name,
            "script": "/bin/sh",
            "interpreter": "none",
            "args": ["-c", words::shell_command(command)],
            "env": {"PORT": port.to_string()},
            "increment_var": "PORT",
        });
        if let Some(path) = env_file {
            app["env_file"] = Value::from(path.to_string_lossy());
        }
        apps.push(app);
        port = port.saturating_add(PORT_STEP);
    }
    if problems.is_empty() { Ok(json!({ "apps": apps })) } else { Err(problems) }
}

fn entry(line: &str) -> Option<(&str, &str)> {
    let (name, command) = line.split_once(':')?;
    let command = command.trim();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    (!name.is_empty() && name.chars().all(is_name) && !command.is_empty())
        .then_some((name, command))
}

fn first_port(env_file: &Path) -> Result<u32, Problem> {
    let vars = envfile::read(env_file, ".env")?;
    let port = vars.iter().rev().find(|(name, _)| name == "PORT");
    Ok(port.and_then(|(_, value)| value.parse().ok()).unwrap_or(FIRST_PORT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_an_app_with_a_port_of_its_own() {
        let text = "# apps\nweb: node server.js --port $PORT\n\nworker: cd w && ./run\r\n";
        let document = document("Procfile", text, None).unwrap();
        let apps = document["apps"].as_array().unwrap();
        assert_eq!(apps.len(), 2);
        assert_eq!(apps[0]["name"], "web");
        assert_eq!(apps[0]["args"], json!(["-c", "exec node server.js --port $PORT"]));
        assert_eq!(apps[0]["env"]["PORT"], "5000");
        assert_eq!(apps[1]["args"], json!(["-c", "cd w && ./run"]));
        assert_eq!(apps[1]["env"]["PORT"], "5100");
    }

    #[test]
    fn every_bad_line_is_named() {
        let problems =
            document("Procfile", "web: a\nnonsense\n: x\nempty:\nb ad: x\n", None).unwrap_err();
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(lines[0], "Procfile:2:1: expected 'name: command'");
        assert_eq!(lines.len(), 4);
    }
}
