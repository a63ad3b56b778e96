//! Entering apps, taking over new definitions, and having more or fewer instances.
//!
//! All or nothing: everything is checked before anything is entered. A check that fails refuses
//! the request; what fails later (a program that is not there) is an outcome.

use std::rc::Rc;

use crate::base::ProcId;
use crate::sorted::{SortedMap, SortedSet};
use crate::supervisor::dependencies::find_circle;
use crate::supervisor::process::{Change, Goal, Process, Seat};
use crate::supervisor::requests::refuse;
use crate::supervisor::spec::{AppSpec, MAX_INSTANCES, Ports};
use crate::supervisor::tasks::{Job, Order, Plan};
use crate::supervisor::vocabulary::{Existing, Options, Refusal, ReplyTo, Scale};
use crate::supervisor::{Supervisor, Turn, Unsaved};

type Tasks = Vec<(ProcId, Job)>;

impl Supervisor {
    /// Enters apps, or takes over their definitions.
    pub(super) fn create(
        &mut self,
        from: ReplyTo,
        apps: Vec<Rc<AppSpec>>,
        existing: Existing,
        options: Options,
        turn: &mut Turn<'_>,
    ) {
        let apps = match self.admit(apps, existing) {
            Ok(apps) => apps,
            Err(refusal) => return refuse(from, refusal, turn),
        };
        let mut tasks = Vec::new();
        for spec in &apps {
            match (self.table.members(&spec.name).is_empty(), existing) {
                (true, _) => {}
                (false, Existing::Refuse | Existing::Rename) => {
                    self.start_again(spec, &mut tasks, turn);
                }
                (false, Existing::Replace) => self.replace(spec, &mut tasks, turn),
                (false, Existing::Apply) => self.apply(spec, &mut tasks, turn),
            }
            self.fit(spec, spec.autostart, &mut tasks, turn);
        }
        let order = match existing {
            Existing::Refuse | Existing::Rename | Existing::Replace => Order::Up,
            Existing::Apply => Order::Rolling,
        };
        self.open(Plan { from, tasks, missing: Vec::new(), options, order }, turn);
    }

    /// Enters more processes of an app, beside what else has its name.
    pub(super) fn add(
        &mut self,
        from: ReplyTo,
        spec: &Rc<AppSpec>,
        count: u32,
        start: bool,
        options: Options,
        turn: &mut Turn<'_>,
    ) {
        let present = u32::try_from(self.table.members(&spec.name).len()).unwrap_or(u32::MAX);
        if count == 0 || present.saturating_add(count) > MAX_INSTANCES {
            let reason =
                format!("{} can have 1 to {MAX_INSTANCES} instances; it has {present}", spec.name);
            return refuse(from, Refusal::Invalid(reason), turn);
        }
        if let Some(dependency) = spec.depends_on.first() {
            let reason = format!("{} cannot depend on {}", spec.name, dependency.name);
            return refuse(from, Refusal::Invalid(reason), turn);
        }
        let mut tasks = Vec::new();
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        self.enter(spec, count, start, &mut tasks, turn);
        self.open(Plan { from, tasks, missing: Vec::new(), options, order: Order::Up }, turn);
    }

    /// More or fewer instances of the apps that these processes belong to.
    pub(super) fn scale(
        &mut self,
        ids: &SortedSet<ProcId>,
        scale: Scale,
        turn: &mut Turn<'_>,
    ) -> Tasks {
        let mut names: SortedMap<Rc<str>, ProcId> = SortedMap::new();
        for process in ids.iter().filter_map(|&id| self.table.get(id)) {
            names.get_or_insert_with(Rc::clone(process.name()), || process.id());
        }
        let mut tasks = Vec::new();
        for (name, first) in names {
            let present = self.staying(&name).len();
            let present = u32::try_from(present).unwrap_or(u32::MAX);
            let wanted = match scale {
                Scale::To(count) => Some(count),
                Scale::Up(count) => present.checked_add(count),
                Scale::Down(count) => present.checked_sub(count),
            };
            match wanted.filter(|wanted| (1..=MAX_INSTANCES).contains(wanted)) {
                Some(wanted) => match self.no_room(&name, wanted) {
                    Some(reason) => tasks.push((first, Job::Refuse(reason))),
                    None => self.resize(&name, wanted, &mut tasks, turn),
                },
                None => tasks.push((
                    first,
                    Job::Refuse(format!(
                        "{name} can have 1 to {MAX_INSTANCES} instances; it has {present}"
                    )),
                )),
            }
        }
        tasks
    }

    /// Why an app cannot have so many instances, if its ports are the reason.
    fn no_room(&self, name: &str, wanted: u32) -> Option<String> {
        too_few(self.table.definition(name)?.ports()?, name, wanted)
    }

    fn resize(&mut self, name: &str, wanted: u32, tasks: &mut Tasks, turn: &mut Turn<'_>) {
        if self.table.definition(name).is_some_and(|spec| spec.instances != wanted) {
            self.renumber(name, wanted);
        }
        let Some(spec) = self.table.definition(name).map(Rc::clone) else { return };
        let before = tasks.len();
        self.fit(&spec, true, tasks, turn);
        if tasks.len() == before {
            let members = self.staying(name).into_iter();
            tasks.extend(members.map(|(_, id)| (id, Job::Nothing { changed: false })));
        }
    }

    /// Checks a request as a whole. The apps as they are to be entered: with `Rename` under names
    /// that are free.
    fn admit(
        &self,
        mut apps: Vec<Rc<AppSpec>>,
        existing: Existing,
    ) -> Result<Vec<Rc<AppSpec>>, Refusal> {
        if existing == Existing::Rename {
            self.rename(&mut apps);
        }
        let mut new: SortedMap<&str, &Rc<AppSpec>> = SortedMap::new();
        for spec in &apps {
            if new.insert(&spec.name, spec).is_some() {
                return Err(Refusal::Invalid(format!("{} is defined twice", spec.name)));
            }
            if !(1..=MAX_INSTANCES).contains(&spec.instances) {
                return Err(Refusal::Invalid(format!(
                    "{} cannot have {} instances: 1 to {MAX_INSTANCES}",
                    spec.name, spec.instances
                )));
            }
            if let Some(ports) = spec.ports()
                && let Some(reason) = too_few(ports, &spec.name, spec.instances)
            {
                return Err(Refusal::Invalid(reason));
            }
            if self.is_leaving(&spec.name) {
                return Err(Refusal::Invalid(format!("{} is being deleted", spec.name)));
            }
            if existing == Existing::Refuse {
                self.is_same(spec)?;
            }
        }
        let definition =
            |name: &str| new.get(name).copied().or_else(|| self.table.definition(name));
        for spec in &apps {
            for dependency in &spec.depends_on {
                let name = &dependency.name;
                if definition(name).is_none() || self.is_leaving(name) {
                    return Err(Refusal::Invalid(format!(
                        "{} depends on {name}, which does not exist",
                        spec.name
                    )));
                }
            }
        }
        if let Some(circle) = find_circle(new.keys().copied(), definition) {
            return Err(Refusal::Invalid(format!(
                "apps depend on each other in a circle: {}",
                circle.join(", ")
            )));
        }
        Ok(apps)
    }

    fn rename(&self, apps: &mut [Rc<AppSpec>]) {
        let mut taken: SortedSet<Rc<str>> = SortedSet::new();
        for spec in apps {
            let is_free = |name: &str| self.table.members(name).is_empty() && !taken.contains(name);
            if !is_free(&spec.name) {
                let mut numbered = (2_u32..).map(|number| format!("{}-{number}", spec.name));
                if let Some(name) = numbered.find(|name| is_free(name)) {
                    Rc::make_mut(spec).name = name.into();
                }
            }
            taken.insert(spec.name.clone());
        }
    }

    /// Refuses an app whose name is in use for something else.
    fn is_same(&self, spec: &AppSpec) -> Result<(), Refusal> {
        for &id in self.table.members(&spec.name) {
            let Some(process) = self.table.get(id) else { continue };
            let fields = process.spec().differences(spec);
            if !fields.is_empty() {
                return Err(Refusal::NameTaken { name: spec.name.as_ref().to_owned(), fields });
            }
        }
        Ok(())
    }

    /// The same definition again: what does not run is started.
    fn start_again(&mut self, spec: &AppSpec, tasks: &mut Tasks, turn: &Turn<'_>) {
        for (_, id) in self.staying(&spec.name) {
            tasks.push((id, self.start_or_leave(id, spec, turn)));
        }
    }

    /// An app says itself whether it should run; a job waits for its time.
    fn start_or_leave(&mut self, id: ProcId, spec: &AppSpec, turn: &Turn<'_>) -> Job {
        match (spec.is_scheduled(), spec.autostart) {
            (true, _) => Job::Nothing { changed: self.let_run(id, turn) },
            (false, true) => Job::Start,
            (false, false) => Job::Nothing { changed: false },
        }
    }

    /// Another definition that asks for no start.
    fn take_over(&mut self, id: ProcId, spec: &Rc<AppSpec>, turn: &mut Turn<'_>) -> Job {
        self.redefine(id, Rc::clone(spec), turn);
        if spec.is_scheduled() {
            self.let_run(id, turn);
        }
        Job::Nothing { changed: true }
    }

    /// Another definition: everything is restarted with it.
    fn replace(&mut self, spec: &Rc<AppSpec>, tasks: &mut Tasks, turn: &mut Turn<'_>) {
        for (_, id) in self.surviving(spec) {
            let Some(process) = self.table.get(id) else { continue };
            let job = if runs_with(spec, process) {
                Job::Restart { spec: Some(Rc::clone(spec)), port: None, kill_timeout: None }
            } else {
                self.take_over(id, spec, turn)
            };
            tasks.push((id, job));
        }
    }

    /// Another definition, perhaps: what differs is reloaded. A number of instances alone is no
    /// reason to touch those that stay.
    fn apply(&mut self, spec: &Rc<AppSpec>, tasks: &mut Tasks, turn: &mut Turn<'_>) {
        if self.table.definition(&spec.name).is_some_and(|it| it.instances != spec.instances) {
            self.renumber(&spec.name, spec.instances);
        }
        for (_, id) in self.surviving(spec) {
            let Some(process) = self.table.get(id) else { continue };
            let fields = process.spec().differences(spec);
            let job = if fields.is_empty() {
                self.start_or_leave(id, spec, turn)
            } else if runs_with(spec, process) {
                Job::Reload { spec: Some(Rc::clone(spec)), port: None }
            } else {
                self.take_over(id, spec, turn)
            };
            tasks.push((id, job));
        }
    }

    /// Adds the instances that are missing, with the lowest numbers that are free, and deletes
    /// those that are too many, the highest numbers first.
    fn fit(&mut self, spec: &Rc<AppSpec>, start: bool, tasks: &mut Tasks, turn: &mut Turn<'_>) {
        let staying = self.staying(&spec.name);
        let wanted = usize::try_from(spec.instances).unwrap_or(usize::MAX);
        for &(_, id) in staying.iter().skip(wanted) {
            tasks.push((id, Job::Delete));
        }
        self.enter(spec, wanted.saturating_sub(staying.len()), start, tasks, turn);
    }

    /// Enters so many processes of an app, with the lowest instance numbers that are free.
    fn enter(
        &mut self,
        spec: &Rc<AppSpec>,
        count: usize,
        start: bool,
        tasks: &mut Tasks,
        turn: &mut Turn<'_>,
    ) {
        let taken: SortedSet<u32> =
            self.table.instances(&spec.name).into_iter().map(|(number, _)| number).collect();
        let free: Vec<u32> = (0..).filter(|number| !taken.contains(number)).take(count).collect();
        for instance in free {
            let start = start && !spec.is_scheduled();
            let goal = if start { Goal::Up } else { Goal::Down };
            let id = self.table.insert(Rc::clone(spec), instance, goal, turn.now.wall);
            self.unsaved = Unsaved::Now;
            if start {
                tasks.push((id, Job::Start));
            } else {
                self.with(Seat::Front(id), turn, |process, cx| {
                    process.tell(cx);
                    Change::Nothing
                });
                tasks.push((id, Job::Nothing { changed: true }));
            }
            self.wind(id, turn);
        }
    }

    /// Writes another number of instances into the definitions of an app; nothing else changes.
    /// What was shared stays shared.
    fn renumber(&mut self, name: &str, instances: u32) {
        let mut made: Option<(Rc<AppSpec>, Rc<AppSpec>)> = None;
        let mut renumber = |spec: &mut Rc<AppSpec>| {
            if spec.instances == instances {
                return;
            }
            let after = match made.take() {
                Some((from, to)) if Rc::ptr_eq(&from, spec) => to,
                Some(_) | None => {
                    let mut after = AppSpec::clone(spec);
                    after.instances = instances;
                    Rc::new(after)
                }
            };
            made = Some((std::mem::replace(spec, Rc::clone(&after)), after));
        };
        for id in self.table.members(name).to_vec() {
            if let Some(process) = self.table.get_mut(id) {
                renumber(process.pending.as_mut().unwrap_or(&mut process.spec));
            }
            if let Some(side) = self.table.side_mut(id) {
                renumber(&mut side.process.spec);
            }
        }
        self.unsaved = Unsaved::Now;
    }

    /// The processes of an app that are not on their way out, by instance.
    fn staying(&self, name: &str) -> Vec<(u32, ProcId)> {
        let mut instances = self.table.instances(name);
        instances.retain(|&(_, id)| self.table.get(id).is_some_and(|it| it.goal() != Goal::Gone));
        instances
    }

    /// Whether there is an app of this name, but not for long.
    fn is_leaving(&self, name: &str) -> bool {
        !self.table.members(name).is_empty() && self.staying(name).is_empty()
    }

    /// Those of them that a definition leaves.
    fn surviving(&self, spec: &AppSpec) -> Vec<(u32, ProcId)> {
        let mut instances = self.staying(&spec.name);
        instances.truncate(usize::try_from(spec.instances).unwrap_or(usize::MAX));
        instances
    }
}

/// Says so where there are more instances than ports.
fn too_few(ports: Ports, name: &str, instances: u32) -> Option<String> {
    let room = ports.room().filter(|&room| room < instances)?;
    Some(format!("{name} has {room} ports ({ports}) for {instances} instances"))
}

/// Whether a process is to be running with a new definition at once. The runs of a job go on as
/// they are.
fn runs_with(spec: &AppSpec, process: &Process) -> bool {
    (spec.autostart && !spec.is_scheduled())
        || (process.goal() == Goal::Up && !process.spec().is_scheduled())
}
