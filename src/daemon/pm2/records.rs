//! A process as clients are shown it.

use std::rc::Rc;

use serde_json::Value;

use crate::base::{ChildId, ProcId};
use crate::config::{definition, pm2};
use crate::daemon::Daemon;
use crate::daemon::answers::whole_environment;
use crate::proto::buffer::Frame;
use crate::proto::messages::metrics::Usage;
use crate::proto::pm2::amp::Pair;
use crate::proto::pm2::bus;
use crate::proto::pm2::rpc;
use crate::proto::pm2::view::{self, Fixed, Known, Moment};
use crate::supervisor::Process;
use crate::supervisor::spec::AppSpec;

/// What is kept of a process for PM2's clients.
#[derive(Debug, Default)]
pub struct Shown {
    known: Known,
    /// Whose announcements are in `known`.
    of: Option<ChildId>,
    /// Rendered from this definition; given back when no client has asked for a while.
    fixed: Option<(Rc<AppSpec>, Fixed)>,
    /// The begin of its record, as it was then.
    row: Option<(Moment, Frame)>,
}

impl Shown {
    /// Frees what can be made again.
    pub fn trim(&mut self) {
        self.fixed = None;
        self.row = None;
    }

    #[must_use]
    pub fn known(&self) -> &Known {
        &self.known
    }

    pub fn known_mut(&mut self) -> &mut Known {
        self.row = None;
        &mut self.known
    }

    /// From here on `child` is the one that announces: what an earlier one announced is void.
    pub fn begin(&mut self, child: ChildId) {
        if self.of < Some(child) {
            self.of = Some(child);
            self.known_mut().renew();
        }
    }

    /// Where to enter what `child` announces; `None`: a later one has announced something.
    pub fn announced_by(&mut self, child: ChildId) -> Option<&mut Known> {
        self.begin(child);
        (self.of == Some(child)).then(|| self.known_mut())
    }
}

impl Daemon {
    /// Sees to it that [`Self::shown`] finds this process. False: there is none.
    pub(super) fn prepare_shown(&mut self, id: ProcId) -> bool {
        self.prepare_log_names(id);
        let Some(process) = self.supervisor.process(id) else { return false };
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        let spec = process.spec();
        let cookie = entry.cookie;
        let is_prepared = |shown: &Shown| {
            shown.fixed.as_ref().is_some_and(|(made_for, _)| Rc::ptr_eq(made_for, spec))
        };
        if entry.pm2.as_deref().is_some_and(is_prepared) {
            return true;
        }
        let files = entry.pm2_files(&self.places);
        let shown = entry.pm2.get_or_insert_default();
        let declared = pm2::declared(spec);
        let unique_id = match declared.as_ref().and_then(|it| it.get("unique_id")?.as_str()) {
            Some(id) => id.to_owned(),
            None => uuid(cookie, u64::from(id.0)),
        };
        let env = whole_environment(spec);
        let fixed = Fixed::new(process, declared.as_ref(), &env, &files, &unique_id);
        shown.fixed = Some((spec.clone(), fixed));
        shown.row = None;
        if shown.known.version.is_none() {
            shown.known.version = pm2::package_version(&spec.script).map(Into::into);
        }
        true
    }

    /// A process that [`Self::prepare_shown`] prepared.
    pub(super) fn shown(&self, id: ProcId) -> Option<bus::Shown<'_>> {
        let process = self.supervisor.process(id)?;
        let shown = self.entries.get(&id)?.pm2.as_ref()?;
        let (_, fixed) = shown.fixed.as_ref()?;
        Some(bus::Shown { process, fixed, known: &shown.known })
    }

    /// What is known of a process besides its definition.
    pub(in crate::daemon) fn known_mut(&mut self, id: ProcId) -> Option<&mut Known> {
        self.prepare_log_names(id);
        Some(self.entries.get_mut(&id)?.pm2.get_or_insert_default().known_mut())
    }

    /// A process as replies have it.
    pub(super) fn process_reply(&mut self, id: ProcId) -> Option<Pair> {
        if !self.prepare_shown(id) {
            return None;
        }
        let shown = self.shown(id)?;
        Some(rpc::result(|out| view::reply(out, shown.process, shown.fixed, shown.known)))
    }

    /// A list of processes as replies have them.
    pub(super) fn processes_reply(&mut self, ids: &[ProcId]) -> Pair {
        self.list(ids, |_, out, shown| view::reply(out, shown.process, shown.fixed, shown.known))
    }

    /// All processes, with what they use.
    pub(super) fn monitor_data(&mut self) -> Pair {
        let mut reply = Pair::reply();
        reply.json().extend_from_slice(br#"{"args":[["#);
        let mut is_first = true;
        for id in self.all_ids() {
            if !self.prepare_shown(id) {
                continue;
            }
            let Some(process) = self.supervisor.process(id) else { continue };
            let usage = self.pm2_usage(process);
            let Some(shown) = self.entries.get_mut(&id).and_then(|it| it.pm2.as_mut()) else {
                continue;
            };
            let Some((_, fixed)) = &shown.fixed else { continue };
            let moment = Moment::of(process, &shown.known, usage);
            let row = match &shown.row {
                Some((at, row)) if *at == moment => row.clone(),
                Some(_) | None => {
                    let row = view::row(process, fixed, &shown.known, &moment);
                    shown.row = Some((moment, row.clone()));
                    row
                }
            };
            if std::mem::replace(&mut is_first, false) {
                // The comma stands between two.
                reply.json().extend_from_slice(row.get(1..).unwrap_or_default());
            } else {
                reply.share(&row);
            }
            reply.share(&fixed.plain);
            reply.share(&fixed.env);
        }
        reply.json().extend_from_slice(b"]]}");
        reply
    }

    /// The `pm2_env` of processes.
    pub(super) fn environments_reply(&mut self, ids: &[ProcId]) -> Pair {
        self.list(ids, |_, out, shown| {
            view::pm2_env(out, shown.process, shown.fixed, shown.known, true);
        })
    }

    fn list(
        &mut self,
        ids: &[ProcId],
        mut one: impl FnMut(&Self, &mut Vec<u8>, bus::Shown<'_>),
    ) -> Pair {
        for &id in ids {
            self.prepare_shown(id);
        }
        rpc::result(|out| {
            out.push(b'[');
            for shown in ids.iter().filter_map(|&id| self.shown(id)) {
                if out.last() != Some(&b'[') {
                    out.push(b',');
                }
                one(self, out, shown);
            }
            out.push(b']');
        })
    }

    pub(in crate::daemon) fn all_ids(&self) -> Vec<ProcId> {
        self.supervisor.processes().map(Process::id).collect()
    }

    /// What a process uses. PM2 shows it only of what is online.
    pub(super) fn pm2_usage(&self, process: &Process) -> Usage {
        if process.is_online() { self.usage(process) } else { Usage::default() }
    }

    /// The list that `pmd jlist` prints; `env` with secrets masked unless they are revealed.
    pub(in crate::daemon) fn pm2_records(&mut self, reveal: bool) -> String {
        let mut out = Vec::new();
        out.push(b'[');
        for id in self.all_ids() {
            if !self.prepare_shown(id) {
                continue;
            }
            let Some(shown) = self.shown(id) else { continue };
            if out.last() != Some(&b'[') {
                out.push(b',');
            }
            let usage = self.pm2_usage(shown.process);
            if reveal {
                view::record(&mut out, shown.process, shown.fixed, shown.known, usage);
                continue;
            }
            let Some(entry) = self.entries.get(&id) else { continue };
            let spec = shown.process.spec();
            let env = definition::masked(&whole_environment(spec), &spec.secret_env);
            let mut declared = pm2::declared(spec);
            // Numbers as they came are not masked; they are told as what the environment has.
            if let Some(declared) = &mut declared {
                declared.remove("env");
            }
            let unique_id = declared.as_ref().and_then(|it| it.get("unique_id")?.as_str());
            let unique_id =
                unique_id.map_or_else(|| uuid(entry.cookie, u64::from(id.0)), str::to_owned);
            let fixed = Fixed::new(
                shown.process,
                declared.as_ref(),
                &env,
                &entry.pm2_files(&self.places),
                &unique_id,
            );
            view::record(&mut out, shown.process, &fixed, shown.known, usage);
        }
        out.push(b']');
        String::from_utf8(out).unwrap_or_else(|_| "[]".to_owned())
    }

    /// The record of a process as PM2 saves it.
    pub(super) fn saved_record(&mut self, id: ProcId) -> Option<Value> {
        if !self.prepare_shown(id) {
            return None;
        }
        let shown = self.shown(id)?;
        let mut out = Vec::new();
        view::pm2_env(&mut out, shown.process, shown.fixed, shown.known, true);
        let mut record: Value = serde_json::from_slice(&out).ok()?;
        let members = record.as_object_mut()?;
        for key in ["pm_id", "instances", "prev_restart_delay"] {
            members.remove(key);
        }
        Some(record)
    }
}

/// A UUID of version 4 from two numbers.
#[must_use]
pub fn uuid(high: u64, low: u64) -> String {
    let high = (high & 0xffff_ffff_ffff_0fff) | 0x4000;
    let low = (low & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
    let (a, b, c) = (high >> 32, high >> 16 & 0xffff, high & 0xffff);
    format!("{a:08x}-{b:04x}-{c:04x}-{:04x}-{:012x}", low >> 48, low & 0xffff_ffff_ffff)
}
