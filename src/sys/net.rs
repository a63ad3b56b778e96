//! Who listens on a port of this host, from `/proc`.

use std::fs;
use std::path::Path;

use crate::base::Pid;
use crate::sys::proc;

/// State of a listening socket in `/proc/net/tcp`: `TCP_LISTEN`.
const LISTEN: &str = "0A";

/// The process that listens on a TCP port, and its program's name, if that can be seen: sockets of
/// other users' processes cannot, unless we are root.
#[must_use]
pub fn listener_on(port: u16) -> Option<(Pid, String)> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .find_map(|table| listening_inode(&fs::read_to_string(table).ok()?, port))?;
    let holder = proc::all().ok()?.find(|&pid| has_socket(pid, inode))?;
    let name = fs::read_to_string(format!("/proc/{holder}/comm")).ok()?;
    Some((holder, name.trim_end().to_owned()))
}

/// `  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000  0 INODE ...`
fn listening_inode(table: &str, port: u16) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (_, number) = fields.nth(1)?.rsplit_once(':')?;
        let state = fields.nth(1)?;
        let found = u16::from_str_radix(number, 16).ok()? == port && state == LISTEN;
        fields.nth(5).filter(|_| found)?.parse().ok().filter(|&inode| inode != 0)
    })
}

fn has_socket(pid: Pid, inode: u64) -> bool {
    let name = format!("socket:[{inode}]");
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    entries
        .filter_map(Result::ok)
        .any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == Path::new(&name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process;
    use std::net::TcpListener;

    #[test]
    fn a_listener_of_our_own_is_found_by_its_port() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let port = listener.local_addr().unwrap().port();
            let (pid, name) = listener_on(port).unwrap();
            assert_eq!(pid, process::own_pid());
            assert!(!name.is_empty());
            drop(listener);
            assert_ne!(listener_on(port).map(|found| found.0), Some(process::own_pid()));
        }
    }

    #[test]
    fn only_listening_sockets_count_and_broken_lines_do_no_harm() {
        let table = "  sl  local_address rem_address   st\n\
            0: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000 0 0 11 1\n\
            broken\n   1: x:y\n\
            2: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 22 1\n";
        assert_eq!(listening_inode(table, 8080), Some(22));
        assert_eq!(listening_inode(table, 8081), None);
        for end in 0..table.len() {
            let _ = listening_inode(&table[..end], 8080);
        }
    }
}
