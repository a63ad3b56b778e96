//! Control groups of the children: one for each, where the host lets us make them.
//!
//! A group has the name of the cookie that the child carries, so it outlives the lives of a process
//! just as the cookie does, a reload's successor has one of its own, and a later daemon finds it
//! again. Where there are none, trees are found by walking `/proc`.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use serde_json::Value;

use crate::base::Pid;
use crate::daemon::children::Child;
use crate::json::json;
use crate::supervisor::spec::{AppSpec, Limits};
use crate::sys::cgroup::{Cgroup, Cgroups, GroupLimits};

/// Where a child's group is.
#[derive(Debug, Default)]
pub enum Membership {
    /// It has none.
    #[default]
    None,
    /// Below ours, by the name of its cookie.
    Ours,
    /// Found when it was adopted: the daemon before us may have been elsewhere.
    Found(Box<Cgroup>),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Groups(Option<Cgroups>);

/// A group a child may be born in.
#[derive(Debug)]
pub struct Entrance {
    pub group: OwnedFd,
    /// Whether its limits could be set.
    pub limited: io::Result<()>,
}

impl Groups {
    /// Makes the group of all, named after the daemon's home, or finds it again.
    #[must_use]
    pub fn probe(home: &Path, keeper: Option<Pid>) -> Self {
        Self(Cgroups::probe(&format!("pmd-{:08x}", hash(home)), keeper))
    }

    /// Opens the group of a child to come. `are_set`: whether the limits of this spec have been
    /// set on it. `None`: it is born where we are.
    pub fn enter(&mut self, cookie: u64, limits: &Limits, are_set: &mut bool) -> Option<Entrance> {
        let groups = self.0.as_mut()?;
        let name = name(cookie);
        let (group, is_new) = groups.enter(&name).ok()?;
        let wanted = of(limits);
        let mut limited = Ok(());
        if is_new || !*are_set {
            *are_set = true;
            if wanted != GroupLimits::default() {
                groups.enable_limits();
            }
            if !is_new || wanted != GroupLimits::default() {
                limited = groups.group(&name).set_limits(wanted);
            }
        }
        Some(Entrance { group, limited })
    }

    /// Kills all that is in a child's group, if it has one. That is the end of the group: the next
    /// life has a new one of the same name.
    pub fn kill(&self, child: &mut Child) -> io::Result<()> {
        let Some(group) = self.of(child) else { return Ok(()) };
        child.group_is_spent = true;
        group.kill()
    }

    /// The group a child is in.
    #[must_use]
    pub fn of(&self, child: &Child) -> Option<Cgroup> {
        match &child.group {
            Membership::None => None,
            Membership::Ours => self.0.as_ref().map(|groups| groups.group(&name(child.cookie))),
            Membership::Found(group) => Some((**group).clone()),
        }
    }

    /// Removes the group of a cookie that no child carries any more, if there is one.
    pub fn forget(&self, cookie: u64) {
        if let Some(groups) = &self.0 {
            // `EBUSY`: somebody stayed behind, as `treekill: false` lets them.
            let _ = groups.group(&name(cookie)).remove();
        }
    }

    /// Removes those of children that are gone.
    pub fn tidy(&self) {
        if let Some(groups) = &self.0 {
            groups.remove_empty();
        }
    }

    /// Removes all that are empty: the daemon ends.
    pub fn leave(&self) {
        if let Some(groups) = &self.0 {
            let _ = groups.remove();
        }
    }

    /// Which limits of an app have no effect here, and why.
    pub fn shortcoming(&mut self, spec: &AppSpec) -> Option<String> {
        let wanted = of(&spec.limits);
        if wanted == GroupLimits::default() {
            return None;
        }
        let can = self.0.as_mut().map(Cgroups::enable_limits);
        let why = match can {
            Some(_) => "this control group does not give their controllers",
            None => "there is no control group (version 2) that can be written",
        };
        let can = can.unwrap_or_default();
        let lost: Vec<&str> = [
            ("limits.memory", wanted.memory.is_some() && !can.memory),
            ("limits.cpu", wanted.cpu.is_some() && !can.cpu),
            ("limits.pids", wanted.pids.is_some() && !can.pids),
        ]
        .into_iter()
        .filter_map(|(field, is_lost)| is_lost.then_some(field))
        .collect();
        let (name, verb) = (&spec.name, if lost.len() == 1 { "has" } else { "have" });
        (!lost.is_empty()).then(|| format!("{name}: {} {verb} no effect: {why}", lost.join(", ")))
    }

    /// For `get_daemon`: where they are; null where there are none.
    #[must_use]
    pub fn about(&self) -> Value {
        let Some(groups) = &self.0 else { return Value::Null };
        json!({"path": groups.path(), "controllers": groups.offered()})
    }
}

/// A home as a short name, for where all daemons of a host meet.
#[must_use]
pub fn hash(home: &Path) -> u32 {
    home.as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// As it stands in `PMD_COOKIE`.
#[must_use]
pub fn name(cookie: u64) -> String {
    format!("{cookie:016x}")
}

fn of(limits: &Limits) -> GroupLimits {
    GroupLimits { memory: limits.memory, cpu: limits.cpu, pids: limits.pids }
}
