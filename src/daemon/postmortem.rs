//! Reads the last words of a program that did not stay up, for the two reasons that come most often:
//! its port is taken, or it may not open it. Pure.

/// What the last lines of stderr give away.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    PortInUse(u16),
    PortForbidden(u16),
}

/// Why it ended, where its last lines say more than its exit code.
#[must_use]
pub fn cause(lines: &[String]) -> Option<Cause> {
    let in_use = port_in_use(lines).map(Cause::PortInUse);
    in_use.or_else(|| port_forbidden(lines).map(Cause::PortForbidden))
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
