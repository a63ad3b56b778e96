//! Apps that need other apps.

use super::*;
use crate::supervisor::Goal;
use crate::supervisor::spec::Restart;
use crate::supervisor::vocabulary::{Failure, Refusal};

const STOP: Action = Action::Stop { kill_timeout: None };
const RESTART: Action = Action::Restart { change: None, kill_timeout: None };

fn slow_db() -> Rc<AppSpec> {
    spec_with("db", |it| it.wait_ready = true)
}

fn web() -> Rc<AppSpec> {
    spec_with("web", |it| it.depends_on = vec![needs("db", Condition::Ready)])
}

#[test]
fn an_app_waits_until_what_it_needs_is_ready() {
    let mut world = World::new();
    let to = world.create(vec![web(), slow_db()]);
    assert!(world.process("web").is_waiting());
    assert_eq!(world.status("web"), Status::Starting);
    assert!(world.process("web").child().is_none());
    world.ready("db");
    assert_eq!(world.status("web"), Status::Online);
    assert_eq!(world.outcomes(to).len(), 2);
    assert!(world.supervisor.dependencies.is_empty());
}

#[test]
fn started_is_enough_where_it_is_said_to_be() {
    let web = spec_with("web", |it| it.depends_on = vec![needs("db", Condition::Started)]);
    let world = World::with([web, slow_db()]);
    assert_eq!((world.status("web"), world.status("db")), (Status::Online, Status::Starting));
}

#[test]
fn done_waits_for_a_success() {
    let migrate = spec_with("migrate", |it| it.restart = Restart::Once);
    let web = spec_with("web", |it| it.depends_on = vec![needs("migrate", Condition::Done)]);
    let mut world = World::new();
    let to = world.create(vec![web, migrate]);
    world.exit("migrate", 1);
    let failed = Failure::Dependency("migrate".to_owned());
    let outcomes = world.outcomes(to);
    assert_eq!(outcomes[0].failure, Some(failed));
    assert!(world.process("web").is_waiting(), "it goes on waiting");
    world.command(Action::Start, "migrate");
    world.exit("migrate", 0);
    assert_eq!(world.status("web"), Status::Online);
}

#[test]
fn every_instance_of_what_it_needs_counts() {
    let db = spec_with("db", |it| {
        it.wait_ready = true;
        it.instances = 2;
    });
    let mut world = World::with([web(), db]);
    world.ready("db:1");
    assert!(world.process("web").is_waiting());
    world.ready("db:0");
    assert_eq!(world.status("web"), Status::Online);
}

#[test]
fn a_start_brings_up_what_it_needs() {
    let log = spec_with("log", |_| {});
    let db = spec_with("db", |it| it.depends_on = vec![needs("log", Condition::Ready)]);
    let mut world = World::with([log, db, web()]);
    world.command(STOP, "all");
    world.forget_effects();
    let to = world.command(Action::Start, "web");
    for name in ["log", "db", "web"] {
        assert_eq!(world.status(name), Status::Online, "{name}");
    }
    assert_eq!(world.process("log").goal(), Goal::Up);
    assert_eq!(world.outcomes(to).len(), 1, "only what was named is told of");
}

#[test]
fn a_dependency_that_cannot_be_started_fails_the_start() {
    let mut world = World::new();
    world.spawns.insert("db".to_owned(), NO_PROGRAM);
    let to = world.create(vec![web(), slow_db()]);
    let outcomes = world.outcomes(to);
    assert_eq!(outcomes[0].failure, Some(Failure::Dependency("db".to_owned())));
    assert_eq!(outcomes[1].failure, Some(Failure::Spawn(NO_PROGRAM)));
    assert!(world.supervisor.is_idle(), "nothing moves any more");
    world.spawns.clear();
    world.command(Action::Start, "db");
    world.ready("db");
    assert_eq!(world.status("web"), Status::Online);
}

#[test]
fn a_dependency_that_is_not_ready_in_time_fails_the_start_for_now() {
    let mut world = World::new();
    let to = world.create(vec![web(), slow_db()]);
    world.wait();
    let outcomes = world.outcomes(to);
    assert_eq!(outcomes[0].failure, Some(Failure::Dependency("db".to_owned())));
    assert!(outcomes[1].failure.is_none() && !outcomes[1].ready);
    world.ready("db");
    assert_eq!(world.status("web"), Status::Online);
}

#[test]
fn an_automatic_restart_looks_at_nobody_else() {
    let mut world = World::with([web(), spec_with("db", |_| {})]);
    world.command(STOP, "db");
    world.pass(millis(2000));
    world.exit("web", 1);
    assert_eq!((world.status("web"), world.status("db")), (Status::Online, Status::Stopped));
}

#[test]
fn what_is_needed_is_stopped_last() {
    let mut world = World::with([spec_with("db", |_| {}), web()]);
    world.deaf.insert("web".to_owned());
    let to = world.command(STOP, "all");
    assert_eq!((world.status("web"), world.status("db")), (Status::Stopping, Status::Online));
    world.wait();
    assert_eq!((world.status("web"), world.status("db")), (Status::Stopped, Status::Stopped));
    assert!(world.answered(to));
}

#[test]
fn what_is_needed_by_an_unstoppable_app_is_stopped_all_the_same() {
    let mut world = World::with([spec_with("db", |_| {}), web()]);
    world.deaf.insert("web".to_owned());
    world.undead.insert("web".to_owned());
    let to = world.request(Request::Shutdown);
    world.wait();
    world.wait();
    assert_eq!(world.status("db"), Status::Stopped);
    assert_eq!(world.replies[&to], Reply::Stopped);
}

#[test]
fn a_restart_of_all_starts_in_order() {
    let mut world = World::with([web(), slow_db()]);
    world.ready("db");
    let to = world.command(RESTART, "all");
    assert_eq!((world.status("web"), world.status("db")), (Status::Restarting, Status::Starting));
    world.ready("db");
    assert_eq!(world.status("web"), Status::Online);
    assert!(world.answered(to));
}

#[test]
fn one_at_a_time_the_needed_goes_first() {
    let mut world = World::new();
    let options = Options { parallel: Some(1), ..Options::default() };
    let apps = vec![web(), slow_db()];
    let to = world.request(Request::Create { apps, existing: Existing::Refuse, options });
    world.ready("db");
    assert_eq!(world.status("web"), Status::Online);
    assert!(world.answered(to));
}

#[test]
fn what_is_needed_is_not_deleted_before_those_who_need_it() {
    let mut world = World::with([spec_with("db", |it| it.instances = 2), web()]);
    let to = world.command(Action::Delete, "db");
    let reason = "db cannot be deleted while web depends on it".to_owned();
    assert_eq!(world.replies[&to], Reply::Refused(Refusal::Invalid(reason)));
    let to = world.command(Action::Delete, "db:1");
    assert!(world.outcome(to).failure.is_none());
    world.command(Action::Delete, "all");
    assert_eq!(world.supervisor.processes().count(), 0);
    assert!(world.supervisor.dependencies.is_empty());
}

#[test]
fn a_stop_ends_the_waiting() {
    let mut world = World::with([web(), slow_db()]);
    let to = world.command(STOP, "web");
    assert!(world.outcome(to).changed);
    assert!(world.supervisor.dependencies.is_empty());
    world.ready("db");
    assert_eq!(world.status("web"), Status::Stopped);
}

#[test]
fn what_waits_is_not_undone_by_a_stop_of_what_it_needs() {
    let log = spec_with("log", |it| it.wait_ready = true);
    let web = spec_with("web", |it| {
        it.depends_on = vec![needs("db", Condition::Ready), needs("log", Condition::Ready)];
    });
    let mut world = World::with([web, slow_db(), log]);
    let start = world.command(Action::Start, "web");
    world.command(STOP, "log");
    world.ready("db");
    assert_eq!(world.status("log"), Status::Stopped, "the user wanted it so");
    assert_eq!(world.outcome(start).failure, Some(Failure::Dependency("log".to_owned())));
    world.command(Action::Start, "web");
    assert_eq!(world.status("log"), Status::Starting, "and now wants this");
}

#[test]
fn a_new_definition_may_need_nothing_any_more() {
    let mut world = World::with([web(), slow_db()]);
    world.create_as(vec![spec_with("web", |_| {})], Existing::Replace);
    assert_eq!(world.status("web"), Status::Online);
    assert!(world.supervisor.dependencies.is_empty());
}
