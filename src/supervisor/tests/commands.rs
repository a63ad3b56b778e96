//! Targets, signals, resets, waits, limits of requests.

use super::*;
use crate::supervisor::vocabulary::{EnvChange, Failure, Redefinition, Until};

const STOP: Action = Action::Stop { kill_timeout: None };

fn wait(target: &str, until: Until, timeout: Option<Duration>) -> Request {
    Request::Wait { targets: vec![Target::parse(target)], until, timeout }
}

#[test]
fn targets_are_looked_up_in_order() {
    let world = World::with([
        spec_with("web", |it| it.instances = 2),
        spec_with("7", |_| {}),
        spec_with("db", |it| it.namespace = "back".into()),
        spec_with("back", |_| {}),
        spec_with("log", |it| it.namespace = "side".into()),
    ]);
    let resolve = |text| ids(&world.supervisor.resolve(&Target::parse(text)));
    assert_eq!(resolve("all"), [0, 1, 2, 3, 4, 5]);
    assert_eq!(resolve("1"), [1]);
    assert_eq!(resolve("7"), [2], "a name, since no process has this id");
    assert_eq!(resolve("web"), [0, 1]);
    assert_eq!(resolve("web:1"), [1]);
    assert_eq!(resolve("web:2"), [0_u32; 0]);
    assert_eq!(resolve("back"), [4], "a name before a namespace");
    assert_eq!(resolve("side"), [5]);
    assert_eq!(resolve("wbe"), [0_u32; 0]);
}

#[test]
fn what_names_nothing_is_an_outcome_of_its_own() {
    let mut world = World::with([spec_with("web", |_| {})]);
    let to = world.command_with(STOP, &["wbe", "web", "9"], Options::default());
    let outcomes = world.outcomes(to);
    assert_eq!(outcomes.len(), 3);
    assert!(outcomes[0].failure.is_none());
    assert_eq!(outcomes[1].target, Some(Target::Name("wbe".to_owned())));
    assert_eq!(outcomes[1].failure, Some(Failure::NotFound));
    assert_eq!(outcomes[2].target, Some(Target::Id(ProcId(9))));
}

#[test]
fn a_process_named_twice_is_one_process() {
    let mut world = World::with([spec_with("web", |_| {})]);
    let to = world.command_with(STOP, &["web", "0", "all"], Options::default());
    assert_eq!(world.outcomes(to).len(), 1);
}

#[test]
fn a_signal_goes_to_the_main_process_if_there_is_one() {
    let mut world = World::with([spec_with("web", |_| {})]);
    let to = world.command(Action::Signal(Signal::HUP), "web");
    assert!(world.outcome(to).changed);
    assert!(world.done.iter().any(|effect| {
        matches!(effect, Effect::Signal { signal: Signal::HUP, group: false, .. })
    }));
    world.command(STOP, "web");
    let to = world.command(Action::Signal(Signal::HUP), "web");
    assert_eq!(world.outcome(to).failure, Some(Failure::NotRunning));
}

#[test]
fn a_reset_zeroes_the_counters() {
    let mut world = World::with([spec_with("web", |_| {})]);
    for _ in 0..3 {
        world.exit("web", 1);
        world.wait();
    }
    let to = world.command(Action::Reset, "web");
    assert!(world.outcome(to).changed);
    let process = world.process("web");
    assert_eq!((process.restarts(), process.unstable_restarts()), (0, 0));
    world.exit("web", 1);
    assert_eq!(world.wait(), millis(100), "the back-off is forgotten");
}

#[test]
fn a_wait_is_answered_when_it_is_so() {
    let mut world = World::with([spec_with("web", |it| it.wait_ready = true)]);
    let ready = world.request(wait("web", Until::Ready, None));
    let online = world.request(wait("web", Until::Online, None));
    world.wait();
    assert!(world.answered(online) && !world.answered(ready), "not ready in time");
    world.ready("web");
    assert!(world.answered(ready));

    let done = world.request(wait("web", Until::Done, None));
    world.command(STOP, "web");
    assert_eq!(world.outcome(done).exit, Some(killed_by(Signal::INT)));
    let stopped = world.request(wait("web", Until::Stopped, None));
    assert!(!world.outcome(stopped).changed);
}

#[test]
fn a_wait_ends_at_its_timeout() {
    let mut world = World::with([spec_with("web", |_| {})]);
    let to = world.request(wait("web", Until::Stopped, Some(millis(300))));
    assert_eq!(world.wait(), millis(300));
    assert_eq!(world.outcome(to).failure, Some(Failure::TimedOut));
    world.command(STOP, "web");
    assert!(world.supervisor.operations.is_empty());
}

#[test]
fn a_wait_for_what_is_deleted() {
    let mut world = World::with([spec_with("web", |it| it.wait_ready = true)]);
    let online = world.request(wait("web", Until::Online, None));
    let stopped = world.request(wait("web", Until::Stopped, None));
    world.command(Action::Delete, "web");
    assert_eq!(world.outcome(online).failure, Some(Failure::Deleted));
    assert!(world.outcome(stopped).failure.is_none());
}

#[test]
fn only_so_many_at_a_time() {
    let mut world = World::with([spec_with("web", |it| it.instances = 5)]);
    world.deaf.insert("web".to_owned());
    let options = Options { parallel: Some(2), ..Options::default() };
    let to = world.command_with(STOP, &["web"], options);
    let stopping = |world: &World| {
        let processes = world.supervisor.processes();
        processes.filter(|process| process.status() == Status::Stopping).count()
    };
    for left in [2, 2, 1] {
        assert_eq!(stopping(&world), left);
        world.wait();
    }
    assert_eq!(world.outcomes(to).len(), 5);
}

#[test]
fn a_timeout_answers_and_the_action_goes_on() {
    let mut world = World::with([spec_with("web", |it| it.instances = 2)]);
    world.deaf.insert("web".to_owned());
    let options = Options { parallel: Some(1), timeout: Some(millis(500)), ..Options::default() };
    let to = world.command_with(STOP, &["web"], options);
    assert_eq!(world.wait(), millis(500));
    assert!(world.outcomes(to).iter().all(|it| it.failure == Some(Failure::TimedOut)));
    world.pass(millis(10_000));
    assert!(world.supervisor.processes().all(|process| process.status() == Status::Stopped));
    assert!(world.supervisor.operations.is_empty());
}

#[test]
fn without_patience_the_answer_comes_at_once() {
    let mut world = World::with([spec_with("web", |_| {})]);
    world.deaf.insert("web".to_owned());
    let options = Options { wait: Patience::None, ..Options::default() };
    let to = world.command_with(STOP, &["web"], options);
    assert_eq!(world.outcome(to).status, Status::Stopping);
    assert!(world.outcome(to).changed && world.outcome(to).failure.is_none());
    world.wait();
    assert_eq!(world.status("web"), Status::Stopped);
}

#[test]
fn a_later_request_supersedes_what_has_not_begun() {
    let mut world = World::with([spec_with("web", |it| it.instances = 2)]);
    world.command(STOP, "web");
    let mut spec = spec("slow");
    spec.wait_ready = true;
    world.create(vec![Rc::new(spec)]);
    world.deaf.insert("web".to_owned());
    world.command(Action::Start, "web");
    let options = Options { parallel: Some(1), ..Options::default() };
    let stop = world.command_with(STOP, &["web"], options);
    let start = world.command(Action::Start, "web:1");
    assert!(!world.outcome(start).changed, "its stop had not begun");
    world.wait();
    assert_eq!(world.outcomes(stop)[1].failure, Some(Failure::Superseded));
    assert_eq!(world.status("web:1"), Status::Online);
}

#[test]
fn a_delete_answers_everybody() {
    let mut world = World::new();
    let start = world.create(vec![spec_with("web", |it| it.wait_ready = true)]);
    world.deaf.insert("web".to_owned());
    let delete = world.command(Action::Delete, "web");
    assert_eq!(world.outcome(start).failure, Some(Failure::Deleted));
    let again = world.command(Action::Start, "web");
    assert_eq!(world.outcome(again).failure, Some(Failure::Deleted));
    let stop = world.command(STOP, "web");
    let second = world.command(Action::Delete, "web");
    world.wait();
    for to in [delete, stop, second] {
        assert!(world.outcome(to).failure.is_none());
    }
    assert!(world.words().ends_with(&["forget", "deleted!", "save", "reply", "reply", "reply"]));
    assert_eq!(world.supervisor.processes().count(), 0);
}

#[test]
fn a_restart_can_change_the_environment() {
    let mut world = World::with([spec_with("web", |it| {
        it.instances = 2;
        it.env.set("PORT", "1");
    })]);
    world.forget_effects();
    let change =
        EnvChange { env: vec![("PORT".to_owned(), "2".to_owned())], ..EnvChange::default() };
    world.command(
        Action::Restart { change: Some(Redefinition::Environment(change)), kill_timeout: None },
        "web",
    );
    let specs: Vec<_> = world.supervisor.processes().map(|it| Rc::clone(it.spec())).collect();
    assert_eq!(specs[0].env.get("PORT"), Some("2"));
    assert!(Rc::ptr_eq(&specs[0], &specs[1]), "what was shared stays shared");
    assert!(world.words().contains(&"config changed!") && world.words().contains(&"save"));
    world.forget_effects();
    world.command(Action::Restart { change: None, kill_timeout: None }, "web");
    assert!(!world.words().contains(&"save"), "nothing that was saved has changed");
}
