//! How a sample is taken.
//!
//! Each process of a tree is read through descriptors that are kept until it is gone. New ones are
//! looked for only when the kernel made a process since the last look (`/proc/loadavg` names the
//! newest), and at most once a second: a host on which nothing begins costs no search, and one with
//! thousands of processes at most one search a second. A search reads only what it does not know.
//!
//! **CPU time of a tree** never goes back. It is the sum of its processes' own time and of the time
//! of those they waited for, so that nothing is lost when a process ends and its parent waits for
//! it, however short it lived. Where nobody in the tree does, its last known time is added for
//! good.

use std::io;
use std::time::Duration;

use crate::base::{Pid, Time};
use crate::metrics::trees::{self, Known, Owner, Unknown};
use crate::metrics::{Host, Reading, Sample, Scope, Target};
use crate::sys::figures::{self, HostFiles, HostStat, ProcessFiles, ProcessList};
use crate::sys::proc::{self, Stat};
use crate::sys::{clock, process};

/// Between two searches.
const SEARCH_EVERY: Duration = Duration::from_secs(1);
/// After so long without a search nothing is known of the processes that belong to nobody: their
/// numbers may have been used again.
const FORGET_AFTER: Duration = Duration::from_secs(10);

/// A process of a tree.
#[derive(Debug)]
struct Member {
    pid: i32,
    /// Its place in the table of aims.
    owner: usize,
    /// `None`: not read yet, or too many are open; then it is opened for each sample.
    files: Option<ProcessFiles>,
    /// What tells it from another with the same number; `None`: not read yet.
    start_time: Option<u64>,
    parent: i32,
    /// Its own time and that of those it waited for, in ticks, when it was read last.
    ticks: u64,
    gone: bool,
}

impl Member {
    fn new(pid: i32, owner: usize) -> Self {
        Self { pid, owner, files: None, start_time: None, parent: 0, ticks: 0, gone: false }
    }
}

/// A target and what is summed up for it.
#[derive(Debug)]
struct Aim {
    target: Target,
    reading: Reading,
    /// Ticks of processes that are gone, less those used before their processes were found.
    beside: i64,
    /// Ticks of its members.
    sum: u64,
    /// When it was read last, in ticks since the boot; 0: never.
    read_at: u64,
}

impl Aim {
    fn new(target: Target) -> Self {
        let reading = Reading::nothing(target.child);
        Self { target, reading, beside: 0, sum: 0, read_at: 0 }
    }

    fn is_in(&self, scope: Scope) -> bool {
        scope > Scope::Limited || self.target.limited
    }
}

/// What the thread owns.
#[derive(Debug)]
pub struct Sampler {
    /// `NAME=` of the variable that carries a cookie.
    cookie_variable: &'static str,
    most_descriptors: usize,
    page: u64,
    tick: Duration,
    own_pid: i32,
    own: Option<ProcessFiles>,
    host: Option<HostFiles>,
    list: Option<ProcessList>,
    /// By ascending child.
    aims: Vec<Aim>,
    /// Main processes and their places in `aims`, by ascending pid.
    leaders: Vec<(i32, usize)>,
    /// By ascending pid.
    members: Vec<Member>,
    /// Processes that belong to nobody, by ascending pid.
    strangers: Vec<i32>,
    /// Buffers of a search.
    listed: Vec<i32>,
    unknown: Vec<Unknown>,
    search_due: bool,
    searched_at: Time,
    /// The newest process of the host at the last search.
    newest: u32,
}

impl Sampler {
    /// Opens nothing yet.
    #[must_use]
    pub fn new(cookie_variable: &'static str, most_descriptors: usize) -> Self {
        let second = Duration::from_secs(1);
        Self {
            cookie_variable,
            most_descriptors,
            page: proc::page_size(),
            tick: second / u32::try_from(proc::ticks_per_second()).unwrap_or(100).max(1),
            own_pid: process::own_pid().raw(),
            own: None,
            host: None,
            list: None,
            aims: Vec::new(),
            leaders: Vec::new(),
            members: Vec::new(),
            strangers: Vec::new(),
            listed: Vec::new(),
            unknown: Vec::new(),
            search_due: true,
            searched_at: Time(0),
            newest: 0,
        }
    }

    /// Replaces the targets; those that stay keep what is known of them.
    pub fn aim(&mut self, targets: &[Target]) {
        let mut before = std::mem::take(&mut self.aims);
        // Where those that stay are from now on.
        let mut moved = vec![None; before.len()];
        for &target in targets {
            let aim = match before.binary_search_by_key(&target.child, |aim| aim.target.child) {
                Ok(at) => {
                    moved[at] = Some(self.aims.len());
                    let fresh = Aim::new(before[at].target);
                    Aim { target, ..std::mem::replace(&mut before[at], fresh) }
                }
                Err(_) => {
                    self.search_due = true;
                    Aim::new(target)
                }
            };
            self.aims.push(aim);
        }
        self.members.retain_mut(|member| {
            let owner = moved.get(member.owner).copied().flatten();
            member.owner = owner.unwrap_or_default();
            owner.is_some()
        });
        self.leaders.clear();
        for (at, aim) in self.aims.iter().enumerate() {
            insert(&mut self.leaders, (aim.target.pid.raw(), at), |leader| leader.0);
        }
        for &(pid, owner) in &self.leaders {
            match self.members.binary_search_by_key(&pid, |member| member.pid) {
                Ok(at) if self.members[at].owner == owner => {}
                // The number was used again.
                Ok(at) => self.members[at] = Member::new(pid, owner),
                Err(at) => self.members.insert(at, Member::new(pid, owner)),
            }
        }
    }

    /// Gives back descriptors and buffers, and forgets what trees used so far.
    pub fn rest(&mut self) {
        self.close();
        let targets: Vec<Target> = self.aims.iter().map(|aim| aim.target).collect();
        self.aims = Vec::new();
        self.members = Vec::new();
        self.strangers = Vec::new();
        self.listed = Vec::new();
        self.unknown = Vec::new();
        self.searched_at = Time(0);
        self.aim(&targets);
    }

    fn close(&mut self) {
        self.own = None;
        self.host = None;
        self.list = None;
    }

    /// Takes a sample into `sample`. What cannot be read now stays as it was.
    pub fn sample(&mut self, scope: Scope, sample: &mut Sample) {
        let now = clock::now().mono;
        if self.host.is_none() {
            self.host = HostFiles::open().ok();
        }
        let host = self.host.as_mut().and_then(|files| files.read().ok()).unwrap_or_default();
        self.search_due |= host.newest != self.newest || host.newest == 0;
        let since = now.since(self.searched_at);
        if self.search_due && since >= SEARCH_EVERY {
            if since >= FORGET_AFTER {
                self.strangers.clear();
            }
            self.search_due = false;
            self.searched_at = now;
            self.newest = host.newest;
            self.search();
        }
        self.read(scope, now, in_ticks(host.uptime, self.tick));
        if scope == Scope::Descriptors {
            for aim in &mut self.aims {
                aim.reading.descriptors = figures::open_descriptors(aim.target.pid);
            }
        }
        sample.at = now;
        sample.host = self.host_of(&host);
        sample.readings.clear();
        sample.readings.extend(self.aims.iter().map(|aim| aim.reading));
        if self.most_descriptors == 0 {
            self.close();
        }
    }

    /// How many descriptors of processes are open.
    pub fn kept_descriptors(&self) -> usize {
        self.members.iter().map(Member::descriptors).sum()
    }

    fn host_of(&mut self, host: &HostStat) -> Host {
        if self.own.is_none() {
            self.own = ProcessFiles::open(process::own_pid()).ok().flatten();
        }
        let own = self.own.as_mut().and_then(|files| files.read().ok().flatten());
        Host {
            total_ticks: host.total_ticks,
            busy_ticks: host.busy_ticks,
            cores: host.cores,
            memory_total: host.memory_total,
            memory_available: host.memory_available,
            load: host.load,
            uptime: host.uptime,
            own_cpu: own.map_or(Duration::ZERO, |stat| time(stat.cpu_ticks, self.tick)),
            own_memory: own.map_or(0, |stat| stat.resident_pages.saturating_mul(self.page)),
        }
    }

    /// Looks for processes that began since the last search, and whose they are.
    fn search(&mut self) {
        if self.list.is_none() {
            self.list = ProcessList::open().ok();
        }
        let Some(list) = &mut self.list else { return };
        if list.read(&mut self.listed).is_err() {
            return;
        }
        let listed = &self.listed;
        self.strangers.retain(|pid| listed.binary_search(pid).is_ok());
        self.unknown.clear();
        for &pid in listed {
            let is_known = self.strangers.binary_search(&pid).is_ok()
                || self.members.binary_search_by_key(&pid, |member| member.pid).is_ok();
            if is_known {
                continue;
            }
            let stat = Pid::new(pid).and_then(|pid| figures::look(pid).ok().flatten());
            self.unknown.extend(stat.map(|stat| Unknown {
                pid,
                parent: stat.parent,
                group: stat.group,
                session: stat.session,
                owner: Owner::Nobody,
            }));
        }
        let mut known = Table {
            cookie_variable: self.cookie_variable,
            orphanages: [self.own_pid, 1, process::parent().map_or(1, Pid::raw)],
            adopted: self.aims.iter().any(|aim| aim.target.adopted),
            aims: &self.aims,
            leaders: &self.leaders,
            members: &self.members,
        };
        trees::settle(&mut self.unknown, &mut known);
        for one in &self.unknown {
            match one.owner {
                Owner::Target(owner) => {
                    insert(&mut self.members, Member::new(one.pid, owner), |member| member.pid);
                }
                Owner::Nobody => insert(&mut self.strangers, one.pid, |&pid| pid),
                Owner::Unclear => {}
            }
        }
    }

    /// Reads the members of the trees in `scope`, and sums up.
    fn read(&mut self, scope: Scope, now: Time, now_ticks: u64) {
        for aim in &mut self.aims {
            aim.sum = 0;
            if aim.is_in(scope) {
                let descriptors = aim.reading.descriptors;
                let cpu = aim.reading.cpu;
                let nothing = Reading::nothing(aim.target.child);
                aim.reading = Reading { at: now, cpu, descriptors, ..nothing };
            }
        }
        let mut open = self.kept_descriptors();
        let mut some_ended = false;
        for member in &mut self.members {
            let aim = &mut self.aims[member.owner];
            if !aim.is_in(scope) {
                continue;
            }
            let before = member.descriptors();
            match member.read(open < self.most_descriptors) {
                Ok(Some(stat)) => member.count(&stat, self.page, aim),
                Ok(None) => {
                    member.gone = true;
                    some_ended = true;
                }
                // No descriptor to be had.
                Err(_) => {}
            }
            open += member.descriptors().saturating_sub(before);
        }
        if some_ended {
            self.bury();
        }
        for member in &self.members {
            let sum = &mut self.aims[member.owner].sum;
            *sum = sum.saturating_add(member.ticks);
        }
        for aim in self.aims.iter_mut().filter(|aim| aim.is_in(scope)) {
            let total = time(aim.sum.saturating_add_signed(aim.beside), self.tick);
            if total < aim.reading.cpu {
                // Somebody ended and was waited for by nobody: its time is added for good.
                let missing = in_ticks(aim.reading.cpu.saturating_sub(total), self.tick);
                aim.beside = aim.beside.saturating_add_unsigned(missing);
            }
            aim.reading.cpu = aim.reading.cpu.max(total);
            aim.read_at = now_ticks;
        }
    }

    /// Takes out who is gone. What it used is in its parent's sum if that is in the tree.
    fn bury(&mut self) {
        for gone in self.members.iter().filter(|member| member.gone) {
            let parent = self.members.binary_search_by_key(&gone.parent, |member| member.pid);
            let parent = parent.ok().and_then(|at| self.members.get(at));
            if !parent.is_some_and(|parent| parent.owner == gone.owner && !parent.gone) {
                let beside = &mut self.aims[gone.owner].beside;
                *beside = beside.saturating_add_unsigned(gone.ticks);
            }
        }
        self.members.retain(|member| !member.gone);
    }
}

impl Member {
    fn descriptors(&self) -> usize {
        self.files.as_ref().map_or(0, ProcessFiles::descriptors)
    }

    /// Reads it; `None`: it is gone. `keep`: a descriptor may be kept for it.
    fn read(&mut self, keep: bool) -> io::Result<Option<Stat>> {
        let Some(pid) = Pid::new(self.pid) else { return Ok(None) };
        if self.files.is_none() && keep {
            self.files = ProcessFiles::open(pid)?;
        }
        let stat = match &mut self.files {
            Some(files) => files.read()?,
            None => figures::look(pid)?,
        };
        // Of a descriptor that was opened anew only the start time tells whether the number was
        // used again.
        Ok(stat.filter(|stat| self.start_time.is_none_or(|start| start == stat.start_time)))
    }

    /// Adds what was read to its tree.
    fn count(&mut self, stat: &Stat, page: u64, aim: &mut Aim) {
        self.ticks = stat.cpu_ticks.saturating_add(stat.waited_ticks);
        self.parent = stat.parent;
        if self.start_time.is_none() {
            self.start_time = Some(stat.start_time);
            // It ran before, unseen: that was not used since the last look.
            if stat.start_time < aim.read_at {
                aim.beside = aim.beside.saturating_sub_unsigned(self.ticks);
            }
        }
        let memory = stat.resident_pages.saturating_mul(page);
        let reading = &mut aim.reading;
        reading.memory_tree = reading.memory_tree.saturating_add(memory);
        reading.processes += u32::from(!stat.is_zombie());
        if self.pid == aim.target.pid.raw() {
            reading.memory = memory;
            reading.threads = stat.threads;
        }
    }
}

/// Puts an item into its place in a list in the order of pids. New ones mostly come last.
fn insert<T>(list: &mut Vec<T>, item: T, pid: impl Fn(&T) -> i32) {
    let place = list.partition_point(|other| pid(other) < pid(&item));
    list.insert(place, item);
}

fn time(ticks: u64, tick: Duration) -> Duration {
    let nanos = u64::try_from(tick.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(ticks.saturating_mul(nanos))
}

fn in_ticks(time: Duration, tick: Duration) -> u64 {
    u64::try_from(time.as_nanos() / tick.as_nanos().max(1)).unwrap_or(u64::MAX)
}

/// What is known at a search.
struct Table<'a> {
    cookie_variable: &'static str,
    /// Where orphans go: to this daemon; those of adopted children to others.
    orphanages: [i32; 3],
    adopted: bool,
    aims: &'a [Aim],
    leaders: &'a [(i32, usize)],
    members: &'a [Member],
}

impl Known for Table<'_> {
    fn leader(&self, pid: i32) -> Option<usize> {
        let at = self.leaders.binary_search_by_key(&pid, |leader| leader.0).ok()?;
        self.leaders.get(at).map(|leader| leader.1)
    }

    fn member(&self, pid: i32) -> Option<usize> {
        let at = self.members.binary_search_by_key(&pid, |member| member.pid).ok()?;
        self.members.get(at).map(|member| member.owner)
    }

    fn takes_orphans(&self, pid: i32) -> bool {
        let [own, others @ ..] = self.orphanages;
        pid == own || (self.adopted && others.contains(&pid))
    }

    fn by_cookie(&mut self, pid: i32) -> Option<usize> {
        let value = proc::environ_value(Pid::new(pid)?, self.cookie_variable.as_bytes())?;
        let cookie = u64::from_str_radix(std::str::from_utf8(&value).ok()?, 16).ok()?;
        self.aims.iter().position(|aim| aim.target.cookie == cookie)
    }
}
