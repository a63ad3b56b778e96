//! What processes and the host use: measured when somebody wants to know or a limit needs it, told
//! to those who asked.
//!
//! A thread takes the samples ([`crate::metrics`]); here is decided when, and what becomes of them.
//! Answers that need figures wait for a sample, unless there is one younger than [`FRESH`].
//! Subscribers get theirs at their paces. Processes with a limit are measured every
//! `memory_check_interval`, the supervisor judges. While none of this is wanted there is no timer,
//! and the thread sleeps; some time after the last sample it gives back what it keeps.

use std::time::Duration;

use crate::base::{ChildId, ProcId, Time, WallTime};
use crate::daemon::Daemon;
use crate::daemon::key::ConnId;
use crate::daemon::paces::{Pace, Paces};
use crate::daemon::plan::COOKIE_VARIABLE;
use crate::metrics::rates::Earlier;
use crate::metrics::{Metrics, Sample, Scope, Target};
use crate::proto::http::route::Route;
use crate::proto::messages::event::{Publication, millis};
use crate::proto::messages::metrics::{
    Counts, DaemonUsage, Resources, System, Usage, process_metrics, system_metrics,
};
use crate::proto::messages::request::Ask;
use crate::proto::pm2::methods::Call;
use crate::proto::protocol::Demand;
use crate::sorted::sort_by;
use crate::supervisor::Process;
use crate::supervisor::vocabulary::{Input, Status, Target as Wanted};
use crate::sys::dir::space_at;
use crate::sys::{limits, process};

/// A sample that is younger serves the next who asks.
const FRESH: Duration = Duration::from_millis(100);
/// A share of processor time in an answer is that of so long at least, where so much is known.
const WINDOW: Duration = Duration::from_millis(500);
/// An answer waits no longer than this for a sample; then it tells what is known.
const PATIENCE: Duration = Duration::from_secs(1);
/// So long after the last sample the thread gives back what it keeps. Longer than the pause between
/// two looks of usual collectors, which would find counters of trees that began anew.
const REST_AFTER: Duration = Duration::from_secs(90);
/// Where there are no more descriptors than these, none is kept for figures.
const FEW_DESCRIPTORS: u64 = 256;
/// The events that tell of figures.
const EVENTS: [&str; 2] = ["process_metrics", "system_metrics"];

/// All that is known of figures, and who waits for them.
#[derive(Debug, Default)]
pub struct Figures {
    /// Started when the first sample is wanted.
    thread: Option<Metrics>,
    /// There is no thread to be had.
    is_blind: bool,
    last: Sample,
    /// When everything was read last, and how much that was.
    read_at: Time,
    read: Option<Scope>,
    /// Counters at an earlier sample, for answers, and at the one that comes after it.
    earlier: Earlier,
    recent: Earlier,
    under_way: Option<Scope>,
    /// To be taken when the one under way is there.
    wanted: Option<Scope>,
    /// Births and deaths of children when the thread was told of them.
    told_changes: u64,
    paces: Paces,
    /// Samples begun.
    begun: u64,
    /// Each with the sample that it waits for: one that was begun after it was asked.
    waiting: Vec<(u64, ConnId, u64, Demand)>,
    /// Then those who wait get what is known.
    patience: Option<Time>,
    /// When memory limits are to be looked at.
    check_at: Option<Time>,
    rest_at: Option<Time>,
}

impl Figures {
    /// When something is to be done by itself.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let next = [self.paces.next(), self.check_at, self.rest_at.filter(|_| self.is_unused())];
        // What is due waits for the sample that is under way.
        let next = next.into_iter().flatten().min().filter(|_| self.under_way.is_none());
        [next, self.patience].into_iter().flatten().min()
    }

    /// What was read last.
    #[must_use]
    pub fn last(&self) -> &Sample {
        &self.last
    }

    /// What the host's processors do, in percent of all, as answers tell it.
    #[must_use]
    pub fn host_cpu(&self) -> f64 {
        self.earlier.host(&self.last.host)
    }

    /// What a process uses, as answers tell it.
    pub fn usage(&self, process: &Process) -> Usage {
        self.usage_since(process, &self.earlier)
    }

    fn usage_since(&self, process: &Process, earlier: &Earlier) -> Usage {
        let reading = process.child().and_then(|child| self.last.of(child));
        let (Some(reading), Some(started)) = (reading, process.started()) else {
            return Usage::default();
        };
        Usage {
            cpu: earlier.process(reading, started.mono),
            memory: reading.memory,
            memory_tree: reading.memory_tree,
        }
    }

    /// Whether what was read last will do.
    fn is_fresh(&self, scope: Scope, now: Time) -> bool {
        self.is_blind || (self.read >= Some(scope) && now.since(self.read_at) < FRESH)
    }

    /// Nobody wants samples again and again.
    fn is_unused(&self) -> bool {
        self.paces.is_empty() && self.check_at.is_none()
    }
}

impl Daemon {
    /// Asks for a sample, now or after the one that is under way.
    pub(super) fn want_sample(&mut self, scope: Scope) {
        let figures = &mut self.figures;
        if figures.under_way.is_some() {
            figures.wanted = figures.wanted.max(Some(scope));
            return;
        }
        if figures.thread.is_none() && !figures.is_blind {
            let waker = self.waker.clone();
            // Pipes and logs come first.
            let most = limits::nofile().saturating_sub(FEW_DESCRIPTORS) / 4;
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            match Metrics::start(COOKIE_VARIABLE, most, move || waker.wake()) {
                Ok(thread) => figures.thread = Some(thread),
                Err(error) => {
                    figures.is_blind = true;
                    let why = crate::sys::describe(&error);
                    self.own_log.error(format_args!("no figures of processes: {why}"));
                }
            }
        }
        let Some(thread) = &self.figures.thread else { return };
        let changes = self.children.changes();
        let targets = (self.figures.told_changes != changes).then(|| self.targets());
        thread.sample(scope, targets);
        self.figures.told_changes = changes;
        self.figures.begun += 1;
        self.figures.under_way = Some(scope);
        self.figures.rest_at = Some(self.now.mono.after(REST_AFTER));
    }

    /// Every living child, by ascending number.
    fn targets(&self) -> Vec<Target> {
        let living = self.children.iter().filter(|(_, child)| child.lives);
        let mut targets: Vec<Target> = living
            .map(|(id, child)| Target {
                child: id,
                pid: child.pid,
                cookie: child.cookie,
                adopted: child.adopted.is_some(),
                limited: child.limited,
            })
            .collect();
        sort_by(&mut targets, |one, two| one.child < two.child);
        targets
    }

    /// Does what is due by itself.
    pub(super) fn attend_metrics(&mut self) {
        let now = self.now.mono;
        let figures = &mut self.figures;
        if figures.patience.is_some_and(|until| until <= now) {
            self.meet_waiting(u64::MAX);
        }
        let figures = &mut self.figures;
        if !self.children.any_is_limited() || figures.is_blind {
            figures.check_at = None;
        } else {
            let pause = self.settings.memory_check_interval;
            figures.check_at.get_or_insert_with(|| now.after(pause));
        }
        if figures.under_way.is_some() {
            return;
        }
        if figures.check_at.is_some_and(|at| at <= now) {
            self.want_sample(Scope::Limited);
        }
        if self.figures.paces.next().is_some_and(|at| at <= now) {
            match self.figures.is_fresh(Scope::Everything, now) {
                true => self.tell_paces(),
                false => self.want_sample(Scope::Everything),
            }
        }
        if self.figures.is_unused() && self.figures.rest_at.is_some_and(|at| at <= now) {
            self.rest_metrics();
        }
    }

    /// Nobody wanted a sample for long.
    fn rest_metrics(&mut self) {
        let figures = &mut self.figures;
        figures.rest_at = None;
        if let Some(thread) = &figures.thread {
            thread.rest();
        }
        figures.last = Sample::default();
        figures.read = None;
        figures.earlier = Earlier::default();
        figures.recent = Earlier::default();
    }

    /// A sample lies ready, perhaps.
    pub(super) fn on_sample(&mut self) {
        let figures = &mut self.figures;
        let Some(thread) = &figures.thread else { return };
        if !thread.take(&mut figures.last) {
            return;
        }
        let scope = figures.under_way.take();
        if scope > Some(Scope::Limited) {
            (figures.read_at, figures.read) = (figures.last.at, scope);
            if figures.last.at.since(figures.recent.at()) >= WINDOW {
                std::mem::swap(&mut figures.earlier, &mut figures.recent);
                figures.recent.remember(&figures.last);
            }
        }
        if self.figures.check_at.is_some_and(|at| at <= self.now.mono) {
            self.figures.check_at = Some(self.now.mono.after(self.settings.memory_check_interval));
            self.check_limits();
        }
        if scope > Some(Scope::Limited) {
            self.tell_paces();
            self.sampled_outside();
            self.meet_waiting(self.figures.begun);
        }
        if let Some(scope) = self.figures.wanted.take() {
            self.want_sample(scope);
        }
    }

    /// Lets the supervisor judge what was measured of processes with a limit.
    fn check_limits(&mut self) {
        let limited = |id| self.children.get(id).is_some_and(|child| child.lives && child.limited);
        let readings = self.figures.last.readings.iter();
        let measured: Vec<(ChildId, u64)> = readings
            .filter(|reading| limited(reading.child))
            .map(|reading| (reading.child, reading.memory_tree))
            .collect();
        for (child, memory) in measured {
            self.input(Input::Measured { child, memory });
        }
    }

    /// Sends what is due to subscribers, from the last sample.
    fn tell_paces(&mut self) {
        let mut paces = std::mem::take(&mut self.figures.paces);
        paces.fire(self.now.mono, |pace| {
            self.tell(pace);
            pace.earlier.remember(&self.figures.last);
        });
        self.figures.paces = paces;
    }

    fn tell(&mut self, pace: &Pace) {
        let at = self.sampled_at();
        // One encoding for all who want the same.
        let mut told: Vec<(&str, Option<Vec<Wanted>>, Publication)> = Vec::new();
        for &(client, event) in &pace.listeners {
            let Some(session) = self.connections.session(client) else { continue };
            let Some(filter) = session.subscriptions().filter(event) else { continue };
            let filter = filter.filter(|_| event == "process_metrics");
            let known =
                told.iter().position(|(of, other, _)| *of == event && other.as_deref() == filter);
            let place = match known {
                Some(place) => place,
                None => {
                    let filter = filter.map(<[Wanted]>::to_vec);
                    let data = match event {
                        "process_metrics" => self.process_metrics(filter.as_deref(), &pace.earlier),
                        _ => self.system_metrics(Some(&pace.earlier)),
                    };
                    told.push((event, filter, Publication::periodic(event, at, data)));
                    told.len() - 1
                }
            };
            self.connections.publish_to(client, &told[place].2, self.now, &self.ids);
        }
    }

    /// When the last sample was taken, by the wall clock.
    fn sampled_at(&self) -> WallTime {
        let age = millis(self.now.mono.since(self.figures.last.at));
        WallTime(self.now.wall.0.saturating_sub(age))
    }

    fn process_metrics(&self, filter: Option<&[Wanted]>, earlier: &Earlier) -> String {
        let wanted = self.supervisor.processes().filter(|process| {
            filter.is_none() || super::news::subject_of(process).is_wanted(filter)
        });
        process_metrics(
            wanted.map(|process| (process, self.usage_since(process, earlier))),
            self.now,
        )
    }

    /// What the host and the daemon use; shares since `earlier`, or as answers tell them.
    pub(super) fn system_metrics(&self, earlier: Option<&Earlier>) -> String {
        let (last, earlier) = (&self.figures.last, earlier.unwrap_or(&self.figures.earlier));
        let mut counts = Counts::default();
        for process in self.supervisor.processes() {
            counts.total += 1;
            match process.status() {
                Status::Online => counts.online += 1,
                Status::Stopped => counts.stopped += 1,
                Status::Errored => counts.errored += 1,
                Status::Starting | Status::Stopping | Status::Restarting | Status::Backoff => {}
            }
        }
        let started = self.started.mono;
        let hostname = process::host().map(|host| host.name).unwrap_or_default();
        system_metrics(&System {
            cpu: earlier.host(&last.host),
            cores: last.host.cores,
            memory_total: last.host.memory_total,
            memory_available: last.host.memory_available,
            load: last.host.load,
            uptime: millis(last.host.uptime),
            hostname: &hostname,
            disk: space_at(&self.paths.state).ok().map(|disk| (disk.total, disk.free)),
            processes: counts,
            daemon: DaemonUsage {
                pid: process::own_pid().raw(),
                memory: last.host.own_memory,
                cpu: earlier.daemon(last, started),
                uptime: millis(self.now.mono.since(started)),
            },
        })
    }

    /// What a process uses, as answers tell it.
    pub(super) fn usage(&self, process: &Process) -> Usage {
        self.figures.usage(process)
    }

    fn usage_since(&self, process: &Process, earlier: &Earlier) -> Usage {
        self.figures.usage_since(process, earlier)
    }

    /// Whether what was read last will do, for something that is told by itself.
    pub(super) fn has_fresh_figures(&self) -> bool {
        self.figures.is_fresh(Scope::Everything, self.now.mono)
    }

    /// The sample that has to be taken before `demand` is met; `None`: it can be met now.
    pub(super) fn must_measure(&self, demand: &Demand) -> Option<Scope> {
        let scope = match demand {
            Demand::Ask(Ask::GetInfo { metrics: true, brief: false, .. }) => Scope::Descriptors,
            Demand::Ask(
                Ask::GetInfo { metrics: true, .. } | Ask::GetSystem | Ask::GetPm2List { .. },
            )
            | Demand::Pm2(Call::GetMonitorData | Call::GetSystemData) => Scope::Everything,
            Demand::View(view) if view.route == Route::Metrics => Scope::Descriptors,
            Demand::View(view) if matches!(view.route, Route::Logs { .. } | Route::HealthOf(_)) => {
                return None;
            }
            Demand::View(_) => Scope::Everything,
            Demand::Ask(_)
            | Demand::Pm2(_)
            | Demand::Hub(_)
            | Demand::Http(_)
            | Demand::DefaultSubscription
            | Demand::Statuses => return None,
        };
        // A sample that does not know the newest child will not do, however young it is.
        let is_known =
            self.figures.is_blind || self.figures.told_changes == self.children.changes();
        Some(scope).filter(|&scope| !is_known || !self.figures.is_fresh(scope, self.now.mono))
    }

    /// Meets `demand` when a sample is there.
    pub(super) fn meet_when_measured(
        &mut self,
        client: ConnId,
        tag: u64,
        demand: Demand,
        scope: Scope,
    ) {
        let is_late = self.figures.under_way.is_some();
        self.want_sample(scope);
        let awaited = self.figures.begun + u64::from(is_late);
        self.figures.waiting.push((awaited, client, tag, demand));
        let now = self.now.mono;
        self.figures.patience.get_or_insert_with(|| now.after(PATIENCE));
        if self.figures.is_blind {
            self.meet_waiting(u64::MAX);
        }
    }

    /// Meets those who waited for the sample `begun` or for an earlier one.
    fn meet_waiting(&mut self, begun: u64) {
        let waiting = std::mem::take(&mut self.figures.waiting);
        let (met, later): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|(awaited, ..)| *awaited <= begun);
        self.figures.patience = (!later.is_empty()).then(|| self.now.mono.after(PATIENCE));
        self.figures.waiting = later;
        for (_, client, tag, demand) in met {
            if let Some(demand) = self.hold(client, tag, demand) {
                self.meet_one(client, tag, demand);
            }
        }
    }

    /// Takes note of what a client subscribed to; `again`: the events that it just named, of which
    /// it gets a message at once.
    pub(super) fn follow_metrics(&mut self, client: ConnId, again: &[String]) {
        for event in EVENTS {
            let listener = (client, event);
            let session = self.connections.session(client);
            let wish = session
                .and_then(|session| session.subscriptions().get(event))
                .map(|it| it.interval);
            let named = again.iter().any(|name| name == event || name == "all" || name == "*");
            match wish {
                None => self.figures.paces.remove(listener),
                Some(interval) if named || self.figures.paces.interval(listener).is_none() => {
                    self.figures.paces.add(listener, interval, self.now.mono);
                }
                Some(_) => {}
            }
        }
    }

    /// What a process uses besides [`Self::usage`], and what it used in all its lives.
    pub(super) fn resources(&mut self, id: ProcId) -> Resources {
        let child = self.supervisor.process(id).and_then(Process::child);
        let reading = child.and_then(|child| self.figures.last.of(child));
        let Some(entry) = self.entries.get_mut(&id) else { return Resources::default() };
        let now = reading.map_or(Duration::ZERO, |reading| reading.cpu);
        entry.told_cpu = entry.told_cpu.max(entry.spent.saturating_add(now));
        Resources {
            cpu_time: millis(entry.told_cpu),
            processes: reading.map_or(0, |reading| reading.processes),
            threads: reading.map_or(0, |reading| reading.threads),
            descriptors: reading.and_then(|reading| reading.descriptors),
            memory_limit_exceeded: entry.memory_hits,
        }
    }

    /// A child is about to be forgotten: what it spent is added to what its process spent.
    pub(super) fn note_spent(&mut self, child: ChildId, cpu: Duration) {
        let read = self.figures.last.of(child).map_or(Duration::ZERO, |reading| reading.cpu);
        let process = self.children.get(child).map(|child| child.process);
        if let Some(entry) = process.and_then(|id| self.entries.get_mut(&id)) {
            entry.spent += cpu.max(read);
        }
    }
}
