//! Stops, in all the ways a child can resist.

use super::*;
use crate::supervisor::vocabulary::{ErroredReason, Failure};

const STOP: Action = Action::Stop { kill_timeout: None };
const RESTART: Action = Action::Restart { change: None, kill_timeout: None };

#[test]
fn a_stop_signals_the_group_and_sweeps_the_tree() {
    let mut world = World::with([spec_with("web", |_| {})]);
    world.forget_effects();
    let to = world.command(STOP, "web");
    assert_eq!(
        world.words(),
        ["signal", "stopping", "save", "sweep", "release", "stopped", "stopped!", "reply"]
    );
    assert!(matches!(world.done[0], Effect::Signal { signal: Signal::INT, group: true, .. }));
    let outcome = world.outcome(to);
    assert_eq!(outcome.exit, Some(killed_by(Signal::INT)));
    assert!(outcome.changed && !outcome.killed && outcome.pid.is_none());
    assert_eq!(world.supervisor.next_deadline(), None);
}

#[test]
fn without_treekill_only_the_main_process_matters() {
    let mut world = World::with([spec_with("web", |it| it.treekill = false)]);
    world.leftovers.insert("web".to_owned(), 3);
    world.forget_effects();
    world.command(STOP, "web");
    assert!(matches!(world.done[0], Effect::Signal { group: false, .. }));
    assert!(!world.words().contains(&"sweep"));
    assert_eq!(world.status("web"), Status::Stopped);
}

#[test]
fn a_program_that_wants_it_is_asked_by_a_message() {
    let mut world = World::with([spec_with("web", |it| it.shutdown_with_message = true)]);
    world.forget_effects();
    world.command(STOP, "web");
    assert!(matches!(world.done[0], Effect::Ask { signal: Signal::INT, group: true, .. }));
}

#[test]
fn a_deaf_child_is_killed() {
    let mut world = World::with([spec_with("web", |_| {})]);
    world.deaf.insert("web".to_owned());
    let to = world.command(STOP, "web");
    assert_eq!(world.status("web"), Status::Stopping);
    assert_eq!(world.wait(), millis(1600));
    let outcome = world.outcome(to);
    assert!(outcome.killed);
    assert_eq!(outcome.exit, Some(killed_by(Signal::KILL)));
    assert_eq!(outcome.took, millis(1600));
    assert_eq!(world.status("web"), Status::Stopped);
}

#[test]
fn what_is_left_of_the_tree_is_waited_for_and_then_killed() {
    let mut world = World::with([spec_with("web", |_| {})]);
    world.leftovers.insert("web".to_owned(), 2);
    let to = world.command(STOP, "web");
    assert_eq!(world.status("web"), Status::Stopping);
    assert!(world.process("web").pid().is_none(), "the main process has ended");
    assert_eq!(world.wait(), millis(1600));
    assert!(world.outcome(to).killed);
    assert_eq!(world.status("web"), Status::Stopped);
}

#[test]
fn a_tree_that_ends_by_itself_is_not_killed() {
    let mut world = World::with([spec_with("web", |_| {})]);
    let child = world.process("web").child().unwrap();
    world.leftovers.insert("web".to_owned(), 2);
    let to = world.command(STOP, "web");
    world.handle(Input::Swept { child, left: 1 });
    assert!(!world.answered(to));
    world.handle(Input::Swept { child, left: 0 });
    assert!(!world.outcome(to).killed);
    assert_eq!(world.supervisor.next_deadline(), None);
}

#[test]
fn what_cannot_be_killed_is_reported_and_never_doubled() {
    let mut world = World::with([spec_with("web", |_| {})]);
    world.deaf.insert("web".to_owned());
    world.undead.insert("web".to_owned());
    let child = world.process("web").child().unwrap();
    let to = world.command(STOP, "web");
    assert_eq!((world.wait(), world.wait()), (millis(1600), millis(1000)));
    assert_eq!(world.outcome(to).failure, Some(Failure::Unstoppable { left: 1 }));
    assert_eq!(world.process("web").errored(), Some(ErroredReason::Unstoppable { left: 1 }));
    assert_eq!(world.supervisor.process_of(child).unwrap().name().as_ref(), "web");
    assert!(world.supervisor.is_idle());

    world.forget_effects();
    let to = world.command(Action::Start, "web");
    assert_eq!(world.words(), ["kill", "stopping", "save"], "no second child beside it");
    world.wait();
    assert_eq!(world.outcome(to).failure, Some(Failure::Unstoppable { left: 1 }));

    let to = world.command(Action::Start, "web");
    world.exit_child(child, killed_by(Signal::KILL));
    assert_eq!(world.status("web"), Status::Online);
    assert!(world.outcome(to).failure.is_none());
}

#[test]
fn an_undead_child_that_ends_after_all_leaves_it_stopped() {
    let mut world = World::with([spec_with("web", |_| {})]);
    world.deaf.insert("web".to_owned());
    world.undead.insert("web".to_owned());
    let child = world.process("web").child().unwrap();
    let to = world.command(Action::Delete, "web");
    world.wait();
    world.wait();
    assert_eq!(world.outcome(to).failure, Some(Failure::Unstoppable { left: 1 }));
    world.exit_child(child, killed_by(Signal::KILL));
    assert_eq!(world.status("web"), Status::Stopped);
    assert!(world.supervisor.process_of(child).is_none());
}

#[test]
fn a_stop_with_its_own_timeout_does_not_wait_longer() {
    let mut world = World::with([spec_with("web", |_| {})]);
    world.deaf.insert("web".to_owned());
    world.command(STOP, "web");
    let to = world.command(Action::Stop { kill_timeout: Some(millis(50)) }, "web");
    assert_eq!(world.wait(), millis(50));
    assert!(world.outcome(to).killed);
    assert_eq!(world.replies.len(), 3, "the first stop is answered too");
}

#[test]
fn a_plain_stop_shortens_one_that_was_given_longer() {
    let mut world = World::with([spec_with("web", |_| {})]);
    world.deaf.insert("web".to_owned());
    world.command(Action::Stop { kill_timeout: Some(millis(60_000)) }, "web");
    world.pass(millis(100));
    world.command(STOP, "web");
    assert_eq!(world.wait(), millis(1600));
    world.command(STOP, "web");
    assert_eq!(world.status("web"), Status::Stopped);
}

#[test]
fn a_stopped_process_is_stopped_already() {
    let mut world = World::with([spec_with("web", |_| {})]);
    world.command(STOP, "web");
    world.forget_effects();
    let to = world.command(STOP, "web");
    assert!(!world.outcome(to).changed && world.outcome(to).failure.is_none());
    assert_eq!(world.words(), ["reply"]);
}

#[test]
fn a_stop_cancels_the_restart_that_is_due() {
    let mut world = World::with([spec_with("web", |_| {})]);
    world.exit("web", 1);
    world.forget_effects();
    let to = world.command(STOP, "web");
    assert_eq!(world.words(), ["stopped", "stopped!", "save", "reply"]);
    assert!(world.outcome(to).changed);
    assert_eq!(world.supervisor.next_deadline(), None);
}

#[test]
fn a_start_during_a_stop_is_a_restart() {
    let mut world = World::with([spec_with("web", |_| {})]);
    world.deaf.insert("web".to_owned());
    let stop = world.command(STOP, "web");
    let start = world.command(Action::Start, "web");
    world.wait();
    assert_eq!(world.status("web"), Status::Online);
    assert!(world.outcome(stop).failure.is_none());
    assert!(world.outcome(stop).killed);
    assert!(world.outcome(start).failure.is_none());
}

#[test]
fn a_stop_during_a_start_supersedes_it() {
    let mut world = World::new();
    let start = world.create(vec![spec_with("web", |it| it.wait_ready = true)]);
    let stop = world.command(STOP, "web");
    assert_eq!(world.outcome(start).failure, Some(Failure::Superseded));
    assert!(world.outcome(stop).failure.is_none());
    assert_eq!(world.supervisor.next_deadline(), None);
}

#[test]
fn a_restart_goes_through_the_words_of_the_protocol() {
    let mut world = World::with([spec_with("web", |_| {})]);
    let before = world.pid("web");
    world.forget_effects();
    let to = world.command(RESTART, "web");
    assert_eq!(
        world.words(),
        [
            "signal",
            "stopping",
            "sweep",
            "spawn",
            "restarting",
            "release",
            "online",
            "restarted!",
            "reply"
        ]
    );
    let outcome = world.outcome(to);
    assert_eq!((outcome.was_pid, outcome.pid), (Some(before), Some(world.pid("web"))));
    assert_ne!(Some(before), outcome.pid);
}

#[test]
fn a_stop_that_comes_before_the_answer_to_the_spawn() {
    let mut supervisor = Supervisor::new();
    let (mut effects, now) = (Vec::new(), Now::default());
    let apps = vec![spec_with("web", |_| {})];
    let create = Request::Create { apps, existing: Existing::Refuse, options: Options::default() };
    let ask = |supervisor: &mut Supervisor, from, request, effects: &mut Vec<Effect>| {
        let input = Input::Request { from: ReplyTo(from), request };
        supervisor.handle(now, input, effects);
    };
    ask(&mut supervisor, 0, create, &mut effects);
    let targets = vec![Target::All];
    let stop = Request::Command { action: STOP, targets, options: Options::default() };
    ask(&mut supervisor, 1, stop, &mut effects);
    effects.clear();

    let child = ChildId(0);
    supervisor.handle(now, Input::Spawned { child, pid: pid(child), port: None }, &mut effects);
    assert_eq!(effects.iter().map(word).collect::<Vec<_>>(), ["signal"]);
    supervisor.handle(now, Input::Exited { child, status: ExitStatus::Code(0) }, &mut effects);
    supervisor.handle(now, Input::Swept { child, left: 0 }, &mut effects);
    assert_eq!(supervisor.process(ProcId(0)).unwrap().status(), Status::Stopped);
}

#[test]
fn a_stubborn_program_holds_up_nobody_else() {
    let mut world = World::with([spec_with("deaf", |_| {}), spec_with("web", |_| {})]);
    world.deaf.insert("deaf".to_owned());
    let to = world.command(STOP, "all");
    assert_eq!(world.status("web"), Status::Stopped);
    world.wait();
    assert_eq!(world.outcomes(to).len(), 2);
}

#[test]
fn a_shutdown_stops_everything_and_keeps_the_goals() {
    let mut world = World::with([
        spec_with("web", |_| {}),
        spec_with("off", |it| it.autostart = false),
        spec_with("loop", |_| {}),
    ]);
    world.exit("loop", 1);
    let before = world.supervisor.snapshot();
    world.deaf.insert("web".to_owned());
    world.forget_effects();
    let to = world.request(Request::Shutdown);
    assert_eq!(world.status("loop"), Status::Stopped);
    let late = world.command(Action::Start, "web");
    assert_eq!(
        world.replies[&late],
        Reply::Refused(crate::supervisor::vocabulary::Refusal::ShuttingDown)
    );
    assert!(!world.answered(to));
    world.wait();
    assert_eq!(world.replies[&to], Reply::Stopped);
    assert!(world.alive.is_empty());
    assert_eq!(world.supervisor.next_deadline(), None);
    let after = world.supervisor.snapshot();
    assert_eq!(before, after, "the same processes run after the next start");
    assert!(!world.words().contains(&"spawn") && !world.words().contains(&"save"));
}

#[test]
fn a_crash_during_a_shutdown_is_not_restarted() {
    let mut world = World::with([
        spec_with("a", |_| {}),
        spec_with("b", |it| {
            it.depends_on = vec![needs("a", Condition::Started)];
        }),
    ]);
    world.deaf.insert("b".to_owned());
    let to = world.request(Request::Shutdown);
    world.exit("a", 1);
    assert_eq!(world.status("a"), Status::Stopped);
    world.wait();
    assert_eq!(world.replies[&to], Reply::Stopped);
}

#[test]
fn a_shutdown_answers_those_who_wait_for_starts() {
    let mut world = World::new();
    let start = world.create(vec![spec_with("web", |it| it.wait_ready = true)]);
    world.request(Request::Shutdown);
    assert_eq!(world.outcome(start).failure, Some(Failure::Superseded));
}
