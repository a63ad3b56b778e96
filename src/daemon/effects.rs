//! Carries out what the supervisor decided.

use std::io;
use std::path::Path;

use crate::base::{ChildId, ProcId, Signal, Stream};
use crate::daemon::aftercare::remove_file;
use crate::daemon::entries::Pipe;
use crate::daemon::groups::Membership;
use crate::daemon::{Daemon, SPAWNS_PER_TURN};
use crate::logs::StreamId;
use crate::supervisor::spec::LogTarget;
use crate::supervisor::vocabulary::Effect;
use crate::sys::route::Route;
use crate::sys::{crash, kill};

/// Rotated files that `delete --purge-logs` looks for.
const MAX_ROTATED: u32 = 99;

impl Daemon {
    /// Carries out effects, and the effects of those, until nothing is left but spawns beyond this
    /// turn's slice.
    pub(super) fn settle(&mut self) {
        let mut slice = SPAWNS_PER_TURN;
        loop {
            while let Some(effect) = self.effects.pop_front() {
                self.carry_out(effect, &mut slice);
            }
            // Not before: news would tell of what came later.
            if let Some(outcome) = self.outcomes.pop_front() {
                self.input(outcome);
                continue;
            }
            if slice == 0 || self.spawns.is_empty() {
                return;
            }
            if let Some(effect) = self.spawns.pop_front() {
                self.spawns_one(effect, &mut slice);
            }
        }
    }

    fn spawns_one(&mut self, effect: Effect, slice: &mut usize) {
        *slice -= 1;
        if let Effect::Spawn { child, process, instance, spec, port } = effect {
            self.launch(child, process, instance, &spec, port);
        } else if let Effect::Probe { child, spec } = effect {
            self.probe(child, &spec);
        }
    }

    fn carry_out(&mut self, effect: Effect, slice: &mut usize) {
        match effect {
            Effect::Spawn { .. } if *slice == 0 || !self.spawns.is_empty() => {
                self.spawns.push_back(effect);
            }
            Effect::Spawn { .. } => self.spawns_one(effect, slice),
            Effect::Signal { child, signal, group } => self.signal(child, signal, group),
            Effect::Ask { child, signal, group } => {
                if self.ask_to_end(child).is_err() {
                    self.signal(child, signal, group);
                }
            }
            Effect::Dismiss { child } => self.dismiss(child),
            Effect::Sweep { child, signal } => self.sweep(child, signal),
            Effect::Kill { child, tree } => self.kill(child, tree),
            Effect::Probe { .. } if *slice == 0 || !self.spawns.is_empty() => {
                self.spawns.push_back(effect);
            }
            Effect::Probe { .. } => self.spawns_one(effect, slice),
            Effect::Release { child } => self.release(child),
            Effect::Forget { process } => self.forget(process),
            Effect::Reply { to, reply } => self.answer_when_saved(to, reply),
            Effect::Publish(notice) => {
                self.init.stale = true;
                self.publish(notice);
            }
            Effect::Save => self.saving.mark(self.now.mono),
        }
    }

    /// A failed signal needs no report: the exit that explains it follows.
    pub(super) fn signal(&mut self, id: ChildId, signal: Signal, group: bool) {
        let Some(child) = self.children.get(id).filter(|child| child.lives) else { return };
        let sent = match (&child.adopted, group) {
            // While the leader is unreaped its number cannot mean another group.
            (None, true) => kill::kill_group(child.pid, signal),
            (None, false) => kill::kill(child.pid, signal),
            (Some(adopted), _) => match adopted.pidfd.signal(signal) {
                Ok(()) if group => kill::kill_group(child.pid, signal),
                other => other,
            },
        };
        if let Err(error) = sent {
            self.note_failed_signal(id, signal, &error);
        }
    }

    fn note_failed_signal(&mut self, child: ChildId, signal: Signal, error: &io::Error) {
        // ESRCH: it has ended by itself.
        if error.raw_os_error() != Some(3) {
            self.own_log.warn(format_args!(
                "cannot send {signal} to child {}: {}",
                child.0,
                crate::sys::describe(error)
            ));
        }
    }

    fn release(&mut self, id: ChildId) {
        self.sweeps.forget(id);
        self.abandon_probe(id);
        let Some(child) = self.children.remove(id) else { return };
        if let Membership::Found(group) = &child.group {
            // Its next life begins in one of ours.
            let _ = group.remove();
        } else if child.group_is_spent {
            self.groups.forget(child.cookie);
        }
        if let Some(adopted) = child.adopted {
            let raw = std::os::fd::AsRawFd::as_raw_fd(&adopted.pidfd);
            let _ = self.reactor.remove(adopted.watch, &mut Pipe::source(&raw));
        }
        if let Some(notification) = child.notification {
            self.drop_notification(*notification);
        }
        let Some(entry) = self.entries.get_mut(&child.process) else { return };
        for stream in Stream::BOTH {
            if let Some(pipe) = entry.pipe_mut(stream) {
                pipe.finish = true;
            }
        }
        if entry.child == Some(id) {
            // A reload's successor, if there is one, is the process's own child from now on.
            entry.child = None;
            let heir = self
                .children
                .iter()
                .find(|(_, other)| other.process == child.process && other.successor && other.lives)
                .map(|(heir, _)| heir);
            if let Some(heir_id) = heir {
                entry.child = Some(heir_id);
                if let Some(shown) = entry.pm2.as_mut() {
                    shown.begin(heir_id);
                }
                let own = entry.slot;
                let Some(heir) = self.children.get_mut(heir_id) else { return };
                heir.successor = false;
                entry.cookie = heir.cookie;
                self.groups.forget(child.cookie);
                self.live.take_over(heir.slot, own);
                self.live.release(heir.slot);
                heir.slot = own;
            }
            self.owe_aftercare(child.process);
        } else if child.successor {
            self.live.release(child.slot);
            self.groups.forget(child.cookie);
        }
        self.last_words_due.push(child.process);
    }

    /// Moves what ended children have left in their pipes. After the restarts: they come first.
    pub(super) fn hear_last_words(&mut self) {
        for process in std::mem::take(&mut self.last_words_due) {
            for stream in Stream::BOTH {
                self.on_output(process, stream);
            }
        }
    }

    fn forget(&mut self, process: ProcId) {
        for stream in Stream::BOTH {
            self.drain(process, stream);
            self.close_pipe(process, stream);
            // Without a pipe, too: the logs of a process that never ran here may be open.
            self.logs.close(StreamId { process, stream });
        }
        self.show_all_lines();
        self.stop_listening(process);
        crash::point("forgetting");
        let Some(entry) = self.entries.remove(&process) else { return };
        self.live.release(entry.slot);
        crash::point("forgotten");
        self.groups.forget(entry.cookie);
        let name = &entry.spec.name;
        if !self.stems.is_empty() && self.entries.values().all(|other| other.spec.name != *name) {
            self.stems.retain(|_, owner| **owner != **name);
        }
        let files = entry.files(&self.places);
        if let Some(path) = &files.pid_file {
            let _ = remove_file(path);
        }
        // What is in memory goes with the process.
        if self.purges.remove(&process) || entry.spec.logs.out == LogTarget::Memory {
            for path in files.logs.iter().flatten().chain(&files.both) {
                if let Err(error) = purge(path) {
                    let why = crate::sys::describe(&error);
                    self.own_log.warn(format_args!("cannot remove {}: {why}", path.display()));
                }
            }
        }
    }

    /// Takes a stream's pipe out of the loop and closes its log. What is still in it is moved by
    /// [`Self::drain`] before.
    pub(super) fn close_pipe(&mut self, process: ProcId, stream: Stream) {
        let Some(entry) = self.entries.get_mut(&process) else { return };
        let Some(pipe) = entry.pipes[stream.index()].take() else { return };
        let raw = pipe.raw();
        let _ = self.reactor.remove(pipe.watch, &mut Pipe::source(&raw));
        self.kept.let_go(pipe.borrow());
        self.busy.forget(process, stream);
        let id = StreamId { process, stream };
        self.logs.finish(id, self.now);
        self.logs.close(id);
        self.deliver_lines();
    }
}

/// Removes a log file and what was rotated out of it.
fn purge(path: &Path) -> io::Result<()> {
    let route = match Route::to_name(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let path = route.path();
    let rotated = (1..=MAX_ROTATED).map(|n| path.with_added_extension(n.to_string()));
    for path in std::iter::once(path.to_owned()).chain(rotated) {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}
