//! Which port a child gets, and who has one that is taken.
//!
//! A port is free when no living child of ours was given it and it can be bound. What a process
//! that rests had last is kept for it, as long as there is another choice.

use crate::base::{Pid, ProcId, SpawnError};
use crate::daemon::Daemon;
use crate::proto::messages::error::{Code, ErrorReply};
use crate::sorted::SortedSet;
use crate::supervisor::Process;
use crate::supervisor::vocabulary::PortWish;
use crate::sys::{net, proc};

/// Generations that lie between a process of ours and the program of its that listens, at most.
const GENERATIONS: usize = 8;

impl Daemon {
    /// The port for the next child of a process; `None`: it has no wish, or is one of those
    /// instances that get none.
    pub(super) fn choose_port(
        &self,
        process: ProcId,
        instance: u32,
        wish: Option<PortWish>,
    ) -> Result<Option<u16>, SpawnError> {
        let Some(PortWish { ports, last }) = wish else { return Ok(None) };
        let others = self.supervisor.processes().filter(|other| other.id() != process);
        let kept: SortedSet<u16> = others.filter_map(Process::last_port).collect();
        let living = self.children.iter().filter(|(_, child)| child.lives);
        let taken: SortedSet<u16> = living.filter_map(|(_, child)| child.port).collect();
        // What we keep open for it is its own.
        let is_own =
            |port| self.cluster.has_port(process, port) || self.sockets.has_port(process, port);
        ports.choose(instance, last, &|port| kept.contains(&port), &mut |port| {
            is_own(port) || (!taken.contains(&port) && net::can_bind(port))
        })
    }

    /// Who has a port: a child of ours that was given it, or the program that listens on it, as far
    /// as we may look.
    pub(super) fn holder(&self, port: u16) -> Option<Holder> {
        let given = self.children.iter().find(|(_, child)| child.lives && child.port == Some(port));
        let given = given.map(|(id, child)| (id, child.pid));
        let named = || given.and_then(|(_, pid)| Some((pid, proc::name(pid)?)));
        let (pid, program) = net::listener_on(port).or_else(named)?;
        let ours = given.map(|(id, _)| id).or_else(|| {
            let parent = |&pid: &Pid| Pid::new(proc::stat(pid).ok()??.parent);
            let line = std::iter::successors(Some(pid), parent).take(GENERATIONS);
            line.filter_map(|pid| self.children.by_pid(pid)).next()
        });
        let process = ours.and_then(|child| self.supervisor.process_of(child));
        let process = process.map(|process| process.spec().name.as_ref().to_owned());
        Some(Holder { pid, program, process })
    }

    /// Why there was no port for a process.
    pub(super) fn no_port(&self, process: &Process, error: SpawnError) -> ErrorReply {
        let (name, ports) = (&process.spec().name, process.ports());
        match ports.and_then(|ports| ports.fixed(process.instance())) {
            Some(port) if error == SpawnError::PORT_IN_USE => {
                let holder = self.holder(port);
                let text = format!("{name} did not stay up: {}", in_use(port, holder.as_ref()));
                let reply = ErrorReply::new(Code::PortInUse, text).with("port", port);
                reply.with("owner", holder.and_then(|holder| holder.process))
            }
            Some(_) | None => {
                let ports = ports.map(|ports| ports.to_string()).unwrap_or_default();
                let text = format!("{name} did not stay up: no port of {ports} is free");
                ErrorReply::new(Code::NoFreePort, text).with("port", ports)
            }
        }
    }
}

/// `port 3000 is in use by 'node' (pid 811, process 'old-web' of pmd)`.
pub fn in_use(port: u16, holder: Option<&Holder>) -> String {
    match holder {
        Some(holder) => format!("port {port} is in use by {holder}"),
        None => format!("port {port} is in use"),
    }
}

/// Who has a port.
#[derive(Debug)]
pub struct Holder {
    pid: Pid,
    program: String,
    /// The process of ours that it belongs to.
    process: Option<String>,
}

/// `'node' (pid 811, process 'old-web' of pmd)`.
impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "'{}' (pid {}", self.program, self.pid)?;
        match &self.process {
            Some(process) => write!(f, ", process '{process}' of pmd)"),
            None => f.write_str(")"),
        }
    }
}
