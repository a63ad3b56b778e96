//! Reads the last words of a program that did not stay up, for the two reasons that come most often:
//! its port is taken, or it may not open it. Pure but for looking up who holds the port.

use std::fs;

use crate::base::Pid;
use crate::sys::proc;

/// Generations that lie between a process of ours and the program of its that listens, at most.
const GENERATIONS: usize = 8;

/// A sentence that says more than the exit code, where the last lines of stderr give one away.
///
/// `ours`: the name of the process whose main process has this pid.
#[must_use]
pub fn explain(
    name: &str,
    lines: &[String],
    ours: &dyn Fn(Pid) -> Option<String>,
) -> Option<String> {
    if let Some(port) = port_in_use(lines) {
        let holder = listener_on(port).map(|(pid, program)| {
            let owner = owner_of(pid, ours).map(|owner| format!(", process '{owner}' of pmd"));
            format!(" by '{program}' (pid {pid}{})", owner.unwrap_or_default())
        });
        let holder = holder.unwrap_or_default();
        return Some(format!("{name} did not stay up: port {port} is in use{holder}"));
    }
    let port = port_forbidden(lines)?;
    Some(format!("{name} did not stay up: not permitted to listen on port {port}"))
}

/// The process of ours that a pid belongs to: itself, or the nearest that it descends from.
fn owner_of(pid: Pid, ours: &dyn Fn(Pid) -> Option<String>) -> Option<String> {
    let parent = |&pid: &Pid| Pid::new(proc::stat(pid).ok()??.parent);
    std::iter::successors(Some(pid), parent).take(GENERATIONS).find_map(ours)
}

/// The port that was found taken: `EADDRINUSE: address already in use :::3000` (Node),
/// `Address already in use` with `('127.0.0.1', 3000)` or `0.0.0.0:3000` near it (Python, Go, Rust).
fn port_in_use(lines: &[String]) -> Option<u16> {
    let told = |line: &String| {
        let lower = line.to_ascii_lowercase();
        lower.contains("eaddrinuse") || lower.contains("address already in use")
    };
    let at = lines.iter().position(told)?;
    let near = lines.get(at..)?.iter().take(8).chain(lines.get(..at)?.iter().rev().take(8));
    near.filter_map(|line| port_in(line)).next()
}

fn port_forbidden(lines: &[String]) -> Option<u16> {
    let told = |line: &&String| {
        let lower = line.to_ascii_lowercase();
        lower.contains("eacces") && lower.contains("listen")
            || lower.contains("bind") && lower.contains("permission denied")
    };
    let port = port_in(lines.iter().find(told)?)?;
    (port < 1024).then_some(port)
}

/// The last number after a colon, or after `port`, that can be a port.
fn port_in(line: &str) -> Option<u16> {
    let number = |text: &str| {
        let text = text.trim_start_matches([' ', ':', '=', '\'', '"']);
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        text.get(..end)?.parse::<u16>().ok().filter(|&port| port > 0)
    };
    let after_colon = line.rmatch_indices(':').find_map(|(at, _)| number(line.get(at + 1..)?));
    let after_word = || {
        let lower = line.to_ascii_lowercase();
        let at = lower.find("port")?;
        number(lower.get(at + 4..)?)
    };
    after_colon.or_else(after_word)
}

/// Who listens on a TCP port of this host: pid and name of the program, as far as we may look.
///
/// Source of the columns: proc(5), `/proc/net/tcp`; state `0A` is LISTEN.
fn listener_on(port: u16) -> Option<(Pid, String)> {
    let wanted = format!(":{port:04X}");
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|path| {
        fs::read_to_string(path).ok()?.lines().skip(1).find_map(|line| {
            let mut columns = line.split_whitespace();
            let is_ours = columns.nth(1)?.ends_with(&wanted) && columns.nth(1)? == "0A";
            if is_ours { columns.nth(5).map(str::to_owned) } else { None }
        })
    })?;
    let link = format!("socket:[{inode}]");
    proc::all().ok()?.find_map(|pid| {
        let holds = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten().any(|entry| {
            fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == link.as_str())
        });
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        holds.then(|| (pid, name.trim_end().to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_taken_port_is_recognised_in_the_words_of_several_runtimes() {
        for text in [
            "Error: listen EADDRINUSE: address already in use :::3000",
            "Error: listen EADDRINUSE: address already in use 127.0.0.1:3000\n    at Server.setup",
            "listen tcp 0.0.0.0:3000: bind: address already in use",
            "OSError: [Errno 98] Address already in use\nport: 3000",
        ] {
            assert_eq!(port_in_use(&lines(text)), Some(3000), "{text}");
        }
        assert_eq!(port_in_use(&lines("port 3000 is fine")), None);
    }

    #[test]
    fn a_forbidden_port_is_recognised() {
        assert_eq!(
            port_forbidden(&lines("Error: listen EACCES: permission denied 0.0.0.0:80")),
            Some(80)
        );
        assert_eq!(port_forbidden(&lines("Error: listen EACCES: permission denied /x:8080")), None);
    }
}
