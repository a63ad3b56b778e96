//! What becomes of the supervisor's answer to what a call asked.

use crate::base::{Pid, ProcId};
use crate::daemon::key::ConnId;
use crate::daemon::requests::Pending;
use crate::daemon::{Daemon, Ending, TRIM_AFTER};
use crate::json::json;
use crate::proto::pm2::amp::Pair;
use crate::proto::pm2::rpc;
use crate::supervisor::vocabulary::{Action, Failure, Input, Outcome, Reply, Request};

/// What a call is answered with when the supervisor has done its part.
#[derive(Debug)]
pub enum Then {
    /// The process.
    Process,
    /// The processes that were entered, or the single one; the bus is told of their start.
    Started { single: bool },
    /// It has stopped: it is shown so, and deleted.
    Delete(ProcId),
    /// What it was, now that it is gone.
    Gone(Pair),
    /// What it was before it was replaced.
    Reloaded(ProcId, Pair),
    /// All processes, if the signal could be sent.
    Signalled,
    /// All processes, whatever came of it.
    All,
    /// How many were restarted.
    Count,
}

impl Daemon {
    /// Answers a call, if its client is still there.
    pub(super) fn pm2_reply(&mut self, client: ConnId, tag: u64, reply: Pair) {
        self.trim_at = Some(self.now.mono.after(TRIM_AFTER));
        self.connections.answer_pm2(client, tag, reply);
    }

    /// The supervisor has answered what a call asked.
    pub(in crate::daemon) fn pm2_answered(
        &mut self,
        client: ConnId,
        tag: u64,
        then: Then,
        reply: Reply,
    ) {
        let outcomes = match reply {
            Reply::Outcomes(outcomes) => Ok(outcomes),
            Reply::Refused(refusal) => Err(crate::daemon::answers::refused(refusal).message),
            Reply::Stopped => Ok(Vec::new()),
        };
        if let Then::Reloaded(id, _) = &then {
            self.pm2.reloading.remove(id);
        }
        let answered = outcomes.and_then(|outcomes| self.finish(client, tag, then, outcomes));
        match answered {
            Ok(None) => {}
            Ok(Some(reply)) => self.pm2_reply(client, tag, reply),
            Err(text) => self.pm2_reply(client, tag, rpc::error(&text)),
        }
    }

    fn finish(
        &mut self,
        client: ConnId,
        tag: u64,
        then: Then,
        outcomes: Vec<Outcome>,
    ) -> Result<Option<Pair>, String> {
        match then {
            Then::Process => {
                self.first_failure(&outcomes)?;
                let Some(id) = outcomes.first().and_then(|outcome| outcome.process) else {
                    return Ok(None);
                };
                // Scripts look for the pid file of what they have stopped.
                self.look_after_now(id);
                Ok(self.process_reply(id))
            }
            Then::Started { single } => {
                let ids: Vec<ProcId> =
                    outcomes.iter().filter_map(|outcome| outcome.process).collect();
                let failed = self.first_failure(&outcomes);
                for &id in ids.iter().filter(|_| failed.is_ok()) {
                    if self.supervisor.process(id).is_some_and(|it| it.pid().is_some()) {
                        self.tell_event(id, "start", true, None);
                    }
                }
                failed?;
                match (single, ids.first()) {
                    (true, Some(&id)) => Ok(self.process_reply(id)),
                    _ => Ok(Some(self.processes_reply(&ids))),
                }
            }
            Then::Delete(id) => {
                self.first_failure(&outcomes)?;
                let gone = self.process_reply(id).ok_or_else(|| format!("{id} : id unknown"))?;
                self.act(client, tag, Then::Gone(gone), Action::Delete, id)
            }
            Then::Gone(reply) => {
                self.first_failure(&outcomes)?;
                Ok(Some(reply))
            }
            Then::Reloaded(_, before) => {
                self.first_failure(&outcomes)?;
                Ok(Some(before))
            }
            Then::Signalled => {
                if outcomes.iter().any(|outcome| outcome.failure.is_some()) {
                    return Err("Error when sending signal (signal unknown)".to_owned());
                }
                let ids = self.all_ids();
                Ok(Some(self.processes_reply(&ids)))
            }
            Then::All => {
                let ids = self.all_ids();
                Ok(Some(self.processes_reply(&ids)))
            }
            Then::Count => {
                let count = outcomes.iter().filter(|outcome| outcome.failure.is_none()).count();
                Ok(Some(rpc::value(&json!({"process_restarted": count}))))
            }
        }
    }

    /// The first thing that went wrong in PM2's eyes: it answers with the process, whatever became
    /// of that afterwards.
    pub(in crate::daemon) fn first_failure(&mut self, outcomes: &[Outcome]) -> Result<(), String> {
        for outcome in outcomes {
            let failure = match &outcome.failure {
                None | Some(Failure::Died { .. } | Failure::GaveUp { .. }) => continue,
                Some(
                    failure @ (Failure::NotFound
                    | Failure::Spawn(_)
                    | Failure::NotReady
                    | Failure::Unstoppable { .. }
                    | Failure::NotRunning
                    | Failure::Deleted
                    | Failure::Superseded
                    | Failure::Dependency(_)
                    | Failure::TimedOut
                    | Failure::Invalid(_)),
                ) => failure.clone(),
            };
            return Err(self.failure(outcome, failure).message);
        }
        Ok(())
    }

    /// Ends the daemon for a client, which gets no answer but a signal.
    pub(super) fn kill_for(&mut self, client: ConnId, tag: u64, pid: Option<i64>) {
        self.connections.leave_unanswered(client, tag);
        self.pm2.farewell = pid.and_then(|pid| self.caller(client, pid));
        if self.ending != Ending::No {
            return;
        }
        self.own_log.info("stopping everything reason=killMe");
        self.tell_kill(false);
        self.ending = Ending::Stopping;
        let from = self.reply_to(Pending::Stop);
        self.input(Input::Request { from, request: Request::Shutdown });
    }

    /// The process that a client says it is, if that is true: nobody else is signalled for it.
    fn caller(&mut self, client: ConnId, pid: i64) -> Option<Pid> {
        let pid = Pid::new(i32::try_from(pid).ok()?)?;
        let peer = self.connections.get_mut(client)?.peer;
        (peer.pid == Some(pid)).then_some(pid)
    }
}
