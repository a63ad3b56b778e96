//! Configuration files in JavaScript: evaluated by the user's own node, in a child process, as the
//! calling user, and never by the daemon.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::base::{Pid, Signal};
use crate::cli::error::{Failure, in_words};
use crate::cli::exit::Exit;
use crate::config::{json, program};
use crate::mailbox::mailbox;
use crate::sys::args::CArgs;
use crate::sys::spawn::{Spawn, Spawner};
use crate::sys::{fds, kill, wait};

/// A file that has not given its result by then is not waited for.
const LIMIT: Duration = Duration::from_secs(10);

/// Prints what the file exports as JSON, or `{"failed": ..., "at": line}`. What the file itself
/// prints goes to stderr: the result stands alone on stdout.
const LOADER: &str = r"
const file = process.argv[1];
const out = process.stdout.write.bind(process.stdout);
process.stdout.write = process.stderr.write.bind(process.stderr);
const end = (value) => out(value, () => process.exit(0));
const fail = (error) => {
  const stack = String((error && error.stack) || '');
  const place = stack.split(file + ':')[1];
  const text = error && error.message !== undefined
    ? (error.name || 'Error') + ': ' + error.message : String(error);
  end(JSON.stringify({ failed: text.split('\n')[0], at: place ? parseInt(place, 10) : null }));
};
process.on('uncaughtException', fail);
(async () => {
  let found;
  try {
    found = require(file);
  } catch (error) {
    if (error.code !== 'ERR_REQUIRE_ESM' && error.code !== 'ERR_REQUIRE_ASYNC_MODULE') throw error;
    found = await import(require('url').pathToFileURL(file).href);
  }
  if (found && found.default !== undefined) found = found.default;
  if (typeof found === 'function') found = found();
  found = await found;
  if (found === undefined || found === null) throw new Error('it exports nothing');
  end(JSON.stringify({ value: found }));
})().catch(fail);
";

/// What `file` (absolute) exports; `shown` is its name in errors.
///
/// # Errors
///
/// Rows 29 and 30 of the catalogue.
pub fn evaluate(file: &Path, shown: &str) -> Result<Value, Failure> {
    evaluate_within(file, shown, LIMIT, &std::env::var("PATH").unwrap_or_default())
}

fn evaluate_within(
    file: &Path,
    shown: &str,
    limit: Duration,
    path: &str,
) -> Result<Value, Failure> {
    let dir = file.parent().unwrap_or_else(|| Path::new("/"));
    let Some(node) = program::find_in_path("node", path, dir) else {
        let what = format!("{shown} needs node to be read, and node is not in PATH");
        return Err(Failure::new(Exit::Invalid, what)
            .hint("on a host with node: pmd export --format json > pmd.json"));
    };
    let failed = |why: &str| Failure::new(Exit::Invalid, format!("{shown} failed: {why}"));
    let (node, output) = start(&node, file, dir)
        .map_err(|error| failed(&format!("cannot run node: {}", in_words(&error))))?;
    let (sender, result) = mailbox(1);
    // Ends with the child: its standard output does.
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let read = output.take(json::MAX_SIZE as u64 + 1).read_to_end(&mut text);
        let _ = sender.send(read.map(|_| text));
    });
    let text = result.wait_for(limit);
    // It has said what it had to say, or never will; neither call can fail for a reason that
    // matters.
    let _ = kill::kill_group(node, Signal::KILL);
    let _ = wait::wait_for(node);
    let text = match text {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => return Err(failed(&in_words(&error))),
        Err(_) => {
            let what = format!("{shown} did not finish within {}", span(limit));
            return Err(Failure::new(Exit::Invalid, what));
        }
    };
    if text.len() > json::MAX_SIZE {
        return Err(failed("what it exports is larger than 16 MiB"));
    }
    let mut answer: Value =
        serde_json::from_slice(&text).map_err(|_| failed("node ended before it gave a result"))?;
    if let Some(why) = answer["failed"].as_str() {
        let failure = failed(why);
        return Err(match answer["at"].as_u64() {
            Some(line) => failure.why(format!("{shown} line {line}")),
            None => failure,
        });
    }
    Ok(answer["value"].take())
}

/// Starts node with the loader: its process, and what it prints. It ends with us at the latest.
fn start(node: &Path, file: &Path, dir: &Path) -> io::Result<(Pid, File)> {
    let mut args = CArgs::new();
    for word in ["node", "-e", LOADER, "--"] {
        args.push(word)?;
    }
    args.push(file.as_os_str().as_bytes())?;
    let mut env = CArgs::new();
    for (name, value) in std::env::vars_os() {
        env.push_pair(name.as_bytes(), value.as_bytes())?;
    }
    let [node, dir] = [node, dir].map(|path| CString::new(path.as_os_str().as_bytes()));
    let (node, dir) = (node?, dir?);
    let (output, theirs) = fds::pipe()?;
    let null = fds::null_device()?;
    let fds = [(0, null.as_fd()), (1, theirs.as_fd()), (2, null.as_fd())];
    let spec = Spawn { fds: &fds, die_with_parent: true, ..Spawn::new(&node, &args, &env, &dir) };
    let spawned = Spawner::new()?.spawn(&spec);
    let spawned = spawned.map_err(|error| io::Error::from_raw_os_error(error.errno))?;
    Ok((spawned.pid, output.into()))
}

fn span(limit: Duration) -> String {
    crate::config::units::span(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file in a directory of its own.
    fn file(name: &str, text: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("pmd-js-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join(name);
        std::fs::write(&file, text).unwrap();
        file
    }

    fn has_node() -> bool {
        let path = std::env::var("PATH").unwrap();
        let found = program::find_in_path("node", &path, Path::new("/")).is_some();
        if !found {
            println!("skipped: no node in PATH");
        }
        found
    }

    #[test]
    fn without_node_the_file_cannot_be_read() {
        let file = file("none.config.js", "module.exports = {}");
        let failure = evaluate_within(&file, "none.config.js", LIMIT, "/nonexistent").unwrap_err();
        assert_eq!(failure.exit, Exit::Invalid);
        assert_eq!(
            failure.message,
            "none.config.js needs node to be read, and node is not in PATH"
        );
        assert_eq!(
            failure.hint.as_deref(),
            Some("on a host with node: pmd export --format json > pmd.json")
        );
    }

    #[test]
    fn every_kind_of_module_is_read_and_its_chatter_is_not() {
        if !has_node() {
            return;
        }
        for (name, text) in [
            ("a.config.js", "console.log('hi'); module.exports = {apps: [{name: 'x'}]}"),
            ("b.config.cjs", "module.exports = () => ({apps: [{name: 'x'}]})"),
            ("c.config.mjs", "console.log('hi'); export default {apps: [{name: 'x'}]}"),
            ("d.config.js", "setInterval(() => {}, 1000); module.exports = {apps: [{name: 'x'}]}"),
        ] {
            let value = evaluate(&file(name, text), name).unwrap();
            assert_eq!(value["apps"][0]["name"], "x", "{name}");
        }
    }

    #[test]
    fn a_file_that_throws_says_what_and_where() {
        if !has_node() {
            return;
        }
        let file = file("throws.config.js", "\nmodule.exports = {apps: foo}\n");
        let failure = evaluate(&file, "ecosystem.config.js").unwrap_err();
        assert_eq!(failure.exit, Exit::Invalid);
        assert_eq!(
            failure.message,
            "ecosystem.config.js failed: ReferenceError: foo is not defined"
        );
        assert_eq!(failure.why.as_deref(), Some("ecosystem.config.js line 2"));
    }

    #[test]
    fn a_file_that_never_ends_is_given_up() {
        if !has_node() {
            return;
        }
        let file = file("hangs.config.js", "for (;;) {}");
        let limit = Duration::from_millis(500);
        let path = std::env::var("PATH").unwrap();
        let failure = evaluate_within(&file, "hangs.config.js", limit, &path).unwrap_err();
        assert_eq!(failure.message, "hangs.config.js did not finish within 500 ms");
        assert_eq!(failure.exit, Exit::Invalid);
    }

    #[test]
    fn a_file_that_exports_nothing_or_ends_node_is_an_error() {
        if !has_node() {
            return;
        }
        let nothing = evaluate(&file("e.config.js", "module.exports = null"), "e.config.js");
        assert!(nothing.unwrap_err().message.ends_with("it exports nothing"));
        let ended = evaluate(&file("f.config.js", "process.exit(0)"), "f.config.js");
        assert!(ended.unwrap_err().message.ends_with("node ended before it gave a result"));
    }
}
