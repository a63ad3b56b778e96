//! Finds the children of a daemon that died, and takes them over: same pid, no second instance,
//! never a stranger.
//!
//! A slot of the live table is believed only if the process it names is the very same: by its inode
//! on pidfs, or where the kernel has none by start time and the cookie in its environment.

use std::io;
use std::os::fd::AsRawFd as _;
use std::rc::Rc;
use std::time::Duration;

use crate::base::{ChildId, ExitStatus, Pid, Stream};
use crate::daemon::Daemon;
use crate::daemon::children::{Adopted, Child};
use crate::daemon::entries::Pipe;
use crate::daemon::groups::{self, Membership};
use crate::daemon::key::Key;
use crate::daemon::live::{Found, LiveTable};
use crate::daemon::plan::cookie_variable;
use crate::reactor::Interest;
use crate::supervisor::Snapshot;
use crate::sys::cgroup::Cgroup;
use crate::sys::pidfd::PidFd;
use crate::sys::{fds, proc, tree};

/// A living child of a former daemon.
#[derive(Debug)]
pub struct Survivor {
    pub found: Found,
    pub pid: Pid,
    pub pidfd: PidFd,
}

/// What the live table of a former daemon comes to.
#[derive(Debug, Default)]
pub struct Remains {
    /// Still live and are to be taken over.
    pub alive: Vec<Survivor>,
    /// Slots of known processes without a child, kept for their journals.
    pub resting: Vec<Found>,
    /// Live, belong to nobody, and are left alone.
    pub strays: Vec<Pid>,
}

/// Sorts the slots of the live table; those of which nothing remains are given back. Who lives and
/// is not in `snapshot` was being started or deleted when the daemon died, and is ended; but not if
/// the state is `lost`: then nobody knows what was wanted, and no service ends for that. A
/// successor whose reload was cut short is ended: the old one goes on.
///
/// `keeper`: what had fallen to it and has ended meanwhile is among the living: its end is still to
/// be told.
pub fn survivors(
    live: &mut LiveTable,
    snapshot: &Snapshot,
    lost: bool,
    keeper: Option<Pid>,
) -> Remains {
    let mut remains = Remains::default();
    for found in live.found() {
        let is_known = snapshot.contains(found.process);
        let survivor = identify(&found, keeper);
        match survivor {
            Some(survivor) if is_known && !found.successor => remains.alive.push(survivor),
            Some(survivor) if lost && !found.successor => {
                remains.strays.push(survivor.pid);
                live.release(found.slot);
            }
            Some(survivor) => {
                end(&survivor);
                live.release(found.slot);
            }
            None if is_known && !found.successor => {
                live.gone(found.slot);
                remains.resting.push(found);
            }
            None => live.release(found.slot),
        }
    }
    remains
}

/// The process the slot means, if it still runs, or waits for the keeper to be reaped.
fn identify(found: &Found, keeper: Option<Pid>) -> Option<Survivor> {
    let cookie = cookie_variable(found.cookie);
    let pid = match found.pid {
        Some(pid) => pid,
        // The daemon died between the spawn and noting the pid.
        None if found.spawning => find_by_cookie(&cookie)?,
        None => return None,
    };
    let pidfd = PidFd::open(pid).ok().flatten()?;
    let stat = proc::stat(pid).ok().flatten()?;
    let awaits_keeper = stat.is_zombie() && keeper.is_some_and(|it| it.raw() == stat.parent);
    let is_same = match (found.pid, pidfd.inode().ok().flatten()) {
        (None, _) => true,
        // The daemon had not reaped it, and the keeper reaps nothing before we are up: its number
        // was never free. It has no environment any more.
        (Some(_), _) if found.spawning && awaits_keeper => true,
        // The daemon died before it noted which process of that number it was.
        (Some(_), _) if found.spawning => proc::environ_contains(pid, cookie.as_bytes()),
        (Some(_), Some(inode)) if found.identity.pidfs_inode != 0 => {
            inode == found.identity.pidfs_inode
        }
        (Some(_), _) => {
            proc::start_time(pid).ok().flatten() == Some(found.identity.start_ticks)
                && proc::environ_contains(pid, cookie.as_bytes())
        }
    };
    let lives = is_same && (!stat.is_zombie() || awaits_keeper);
    lives.then_some(Survivor { found: *found, pid, pidfd })
}

/// The process that carries the cookie and leads its session: pmd's own child, not what that
/// started.
fn find_by_cookie(cookie: &str) -> Option<Pid> {
    proc::all().ok()?.find(|&pid| {
        proc::environ_contains(pid, cookie.as_bytes())
            && proc::stat(pid).ok().flatten().is_some_and(|stat| stat.session == pid.raw())
    })
}

fn end(survivor: &Survivor) {
    if let Some(group) = Cgroup::of(survivor.pid, &groups::name(survivor.found.cookie)) {
        let _ = group.kill();
    }
    let _ = tree::kill_group_of(survivor.pid);
    let _ = survivor.pidfd.signal(crate::base::Signal::KILL);
}

impl Daemon {
    /// Takes over a survivor: watches its end, reads its pipes again.
    ///
    /// # Errors
    ///
    /// Those of watching.
    pub(super) fn adopt(&mut self, survivor: Survivor) -> io::Result<()> {
        let Survivor { found, pid, pidfd } = survivor;
        let raw = pidfd.as_raw_fd();
        let parent = proc::stat(pid).ok().flatten().map(|stat| stat.parent);
        let kept = self.kept.pid().is_some_and(|keeper| parent == Some(keeper.raw()));
        let watch = self.reactor.add(
            &mut Pipe::source(&raw),
            Interest::READABLE,
            Key::Adopted(found.child),
        )?;
        let process = self.supervisor.process(found.process);
        if let Some(spec) = process.map(|it| Rc::clone(it.running_spec())) {
            self.adopt_sockets(found.process, &pidfd, &spec);
        }
        let process = self.supervisor.process(found.process);
        let limited = process.is_some_and(|it| it.running_spec().max_memory_restart.is_some());
        self.children.insert(
            found.child,
            Child {
                process: found.process,
                pid,
                lives: true,
                adopted: Some(Box::new(Adopted { pidfd, watch, kept })),
                group: Cgroup::of(pid, &groups::name(found.cookie))
                    .map_or(Membership::None, |group| Membership::Found(group.into())),
                group_is_spent: false,
                cookie: found.cookie,
                port: found.port,
                slot: found.slot,
                successor: false,
                limited,
                stdin: None,
                notification: None,
                has_channel: false,
                channel: None,
            },
        );
        crate::sys::crash::point("adopting");
        let Some(process) = self.supervisor.process(found.process) else { return Ok(()) };
        let spec = process.spec().clone();
        if let Some(entry) = self.entries.get_mut(&found.process) {
            entry.child = Some(found.child);
        }
        for stream in Stream::BOTH {
            let inode = found.pipes[stream.index()];
            if inode == 0
                || self.entries.get(&found.process).is_none_or(|it| it.pipe(stream).is_some())
            {
                continue;
            }
            let number = if stream == Stream::Out { 1 } else { 2 };
            match fds::attach_pipe(pid, number, inode) {
                Ok(Some(fd)) => {
                    self.take_pipe(found.process, stream, fd)?;
                    self.open_log(found.process, stream);
                }
                // It closed its output, or gave it another: nothing to read.
                Ok(None) => {}
                Err(error) => self.own_log.warn(format_args!(
                    "cannot read {} of {} again: {}",
                    stream.name(),
                    spec.name,
                    crate::sys::describe(&error)
                )),
            }
        }
        self.owe_aftercare(found.process);
        Ok(())
    }

    /// An adopted child has ended. We are not its parent; the kernel tells the status all the same
    /// where it can (Linux 6.15), or the zombie does.
    pub(super) fn on_adopted_end(&mut self, id: ChildId) {
        let Some(child) = self.children.get_mut(id) else { return };
        let Some(adopted) = &child.adopted else { return };
        let told = || adopted.pidfd.exit_status().ok().flatten();
        // Its parent may not have reaped it yet, or the kernel may not tell: then the zombie does.
        let of_zombie = || proc::stat(child.pid).ok().flatten()?.exit_status();
        let status = told().or_else(of_zombie).or_else(told);
        if status.is_none() && adopted.kept && self.kept.pid().is_some() {
            // The keeper will tell.
            let raw = adopted.pidfd.as_raw_fd();
            let _ = self.reactor.suspend(adopted.watch, &mut Pipe::source(&raw));
            return;
        }
        self.end_adopted(id, status.unwrap_or(ExitStatus::Unknown), Duration::ZERO);
    }

    /// How an adopted child ended, and the processor time it used, as far as that is known.
    pub(super) fn end_adopted(&mut self, id: ChildId, status: ExitStatus, cpu: Duration) {
        let Some(adopted) = self.children.get(id).and_then(|child| child.adopted.as_ref()) else {
            return;
        };
        let raw = adopted.pidfd.as_raw_fd();
        let _ = self.reactor.suspend(adopted.watch, &mut Pipe::source(&raw));
        self.note_spent(id, cpu);
        self.children.reaped(id);
        self.on_exit(id, status);
    }

    /// Takes back the pipes that the keeper held: what was in them when a child, or the daemon before
    /// this one, died.
    pub(super) fn take_kept_pipes(&mut self, found: &Found) {
        for stream in Stream::BOTH {
            let Some(fd) = self.kept.claim(found.pipes[stream.index()]) else { continue };
            let taken = self.take_pipe(found.process, stream, fd);
            let entry = self.entries.get_mut(&found.process);
            match (taken, entry.and_then(|entry| entry.pipe_mut(stream))) {
                // Whoever wrote to it has ended, if its slot says so.
                (Ok(()), Some(pipe)) => pipe.finish = found.pid.is_none(),
                (Ok(()), None) => {}
                (Err(error), _) => self
                    .own_log
                    .error(format_args!("cannot watch a pipe: {}", crate::sys::describe(&error))),
            }
        }
    }

    /// What is left in the journals of processes whose child died with the daemon, or after it.
    pub(super) fn recover_resting(&mut self, found: &Found) {
        for stream in Stream::BOTH {
            self.open_log(found.process, stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Now, ProcId, Signal, Time, WallTime};
    use crate::daemon::live::Identity;
    use crate::sys::args::CArgs;
    use crate::sys::spawn::{Spawn, Spawner};
    use crate::sys::{kill, wait};

    #[test]
    fn a_child_whose_identity_was_not_noted_is_known_by_its_cookie() {
        let path = std::env::temp_dir().join(format!("pmd-adopt-{}", std::process::id()));
        let mut live = LiveTable::open(&path, 1).unwrap();
        let now = Now { mono: Time(1), wall: WallTime(1) };
        let (mut args, mut env) = (CArgs::new(), CArgs::new());
        args.push("sleep").and_then(|()| args.push("1000")).unwrap();
        env.push(cookie_variable(7)).unwrap();
        let sleep = Spawn::new(c"/bin/sleep", &args, &env, c"/");
        let pid = Spawner::new().unwrap().spawn(&sleep).unwrap().pid;
        // The kernel shows the new environment a moment after `execve` has let go of the parent.
        while !proc::environ_contains(pid, cookie_variable(7).as_bytes()) {
            std::thread::yield_now();
        }
        for (process, cookie) in [(0, 7), (1, 8)] {
            let slot = live.claim(ProcId(process), cookie, false).unwrap();
            live.spawning(slot, ChildId(process.into()), None);
            live.spawned(slot, pid, now);
        }
        let [own, other] = live.found()[..] else { panic!() };
        let alive = [identify(&own, None), identify(&other, None)]
            .map(|found| found.map(|found| found.pid));
        live.identified(own.slot, pid, Identity { pidfs_inode: 1, start_ticks: 0 });
        let stranger = identify(&live.found()[0], None).is_some();
        kill::kill(pid, Signal::KILL).unwrap();
        wait::wait_for(pid).unwrap();
        std::fs::remove_file(path).unwrap();
        assert_eq!((alive, stranger), ([Some(pid), None], false));
    }
}
