//! Reload: a successor beside the process that it replaces.

use super::*;
use crate::supervisor::Goal;
use crate::supervisor::spec::ExecMode;
use crate::supervisor::vocabulary::{EnvChange, Failure, Instead, Redefinition};

const STOP: Action = Action::Stop { kill_timeout: None };
const RELOAD: Action = Action::Reload { change: None };

fn ready_app(instances: u32) -> Rc<AppSpec> {
    spec_with("web", |it| {
        it.wait_ready = true;
        it.instances = instances;
    })
}

/// A world in which all instances of an app with readiness are ready.
fn ready_world(instances: u32) -> World {
    let mut world = World::with([ready_app(instances)]);
    for child in world.alive.clone() {
        world.handle(Input::Ready { child });
    }
    world.pass(millis(5000));
    world.forget_effects();
    world
}

/// The youngest child.
fn newest(world: &World) -> ChildId {
    *world.alive.last().unwrap()
}

#[test]
fn the_new_child_is_ready_before_the_old_one_is_stopped() {
    let mut world = ready_world(1);
    let old = world.pid("web");
    let to = world.command(RELOAD, "web");
    assert_eq!(world.words(), ["spawn"]);
    assert_eq!((world.alive.len(), world.pid("web")), (2, old));
    let successor = newest(&world);
    assert_eq!(world.supervisor.process_of(successor).unwrap().name().as_ref(), "web");
    world.handle(Input::Ready { child: successor });
    assert_eq!(world.words(), ["spawn", "reloaded!", "signal", "sweep", "release", "reply"]);
    assert_eq!(world.alive.len(), 1);
    let outcome = world.outcome(to);
    assert_eq!((outcome.was_pid, outcome.pid), (Some(old), Some(pid(successor))));
    assert!(outcome.restarted_instead.is_none() && outcome.failure.is_none());
    assert_eq!(world.process("web").restarts(), 1);
    assert_eq!(world.process("web").exits().len(), 1);
    assert_eq!(world.supervisor.next_deadline(), None);
}

#[test]
fn the_next_instance_only_when_the_last_is_ready() {
    let mut world = ready_world(3);
    let to = world.command(RELOAD, "web");
    for _ in 0..3 {
        assert!(!world.answered(to));
        assert_eq!(world.alive.len(), 4, "one at a time");
        let child = newest(&world);
        world.handle(Input::Ready { child });
    }
    assert_eq!(world.outcomes(to).len(), 3);
    assert_eq!(world.alive.len(), 3);
}

#[test]
fn a_successor_that_is_not_ready_in_time_is_stopped_and_the_old_one_stays() {
    let mut world = ready_world(2);
    let old = world.pid("web");
    let to = world.command(RELOAD, "web");
    assert_eq!(world.wait(), millis(3000));
    let outcomes = world.outcomes(to);
    assert_eq!(outcomes[0].failure, Some(Failure::NotReady));
    assert_eq!(
        outcomes[1].failure,
        Some(Failure::Dependency("web:0".to_owned())),
        "the others are left alone"
    );
    assert_eq!(world.pid("web"), old);
    assert_eq!(world.alive.len(), 2);
    assert_eq!(world.statuses("web"), []);
}

#[test]
fn a_successor_that_dies_is_not_restarted() {
    let mut world = ready_world(1);
    let old = world.pid("web");
    let to = world.command(RELOAD, "web");
    let child = newest(&world);
    world.exit_child(child, ExitStatus::Code(9));
    let Some(Failure::Died { status, restart_in, .. }) = world.outcome(to).failure else {
        panic!()
    };
    assert_eq!((status, restart_in), (ExitStatus::Code(9), None));
    assert_eq!(world.pid("web"), old);
    assert_eq!(world.supervisor.next_deadline(), None);
}

#[test]
fn a_successor_that_cannot_be_spawned_changes_nothing() {
    let mut world = ready_world(1);
    for error in [NO_PROGRAM, NO_PROCESS_SLOT] {
        world.spawns.insert("web".to_owned(), error);
        let to = world.command(RELOAD, "web");
        assert_eq!(world.outcome(to).failure, Some(Failure::Spawn(error)));
    }
    assert_eq!((world.alive.len(), world.status("web")), (1, Status::Online));
}

#[test]
fn a_new_environment_counts_only_when_the_successor_took_over() {
    let mut world = ready_world(1);
    let change =
        EnvChange { env: vec![("PORT".to_owned(), "2".to_owned())], ..EnvChange::default() };
    let reload = Action::Reload { change: Some(Redefinition::Environment(change)) };
    world.command(reload.clone(), "web");
    world.wait();
    assert_eq!(world.process("web").spec().env.get("PORT"), None);
    world.command(reload, "web");
    world.forget_effects();
    let child = newest(&world);
    world.handle(Input::Ready { child });
    assert_eq!(world.process("web").spec().env.get("PORT"), Some("2"));
    assert_eq!(world.words()[..2], ["config changed!", "reloaded!"]);
    assert!(world.words().contains(&"save"));
}

#[test]
fn without_readiness_it_is_a_restart_one_at_a_time() {
    let mut world = World::with([spec_with("web", |it| it.instances = 2)]);
    world.deaf.insert("web".to_owned());
    let to = world.command(RELOAD, "web");
    let stopping = |world: &World| {
        let processes = world.supervisor.processes();
        processes.filter(|process| process.status() == Status::Stopping).count()
    };
    assert_eq!(stopping(&world), 1);
    world.wait();
    assert_eq!(stopping(&world), 1);
    world.wait();
    assert!(world.outcomes(to).iter().all(|outcome| outcome.restarted_instead.is_some()));
}

#[test]
fn a_reload_of_what_is_stopped_is_a_start() {
    let mut world = World::with([ready_app(1)]);
    world.command(STOP, "web");
    let to = world.command(RELOAD, "web");
    world.ready("web");
    assert!(world.outcome(to).restarted_instead.is_none() && world.outcome(to).failure.is_none());
    assert_eq!(world.alive.len(), 1);
}

#[test]
fn stop_delete_restart_and_shutdown_end_the_successor_too() {
    let requests: [(&str, Option<Action>); 4] = [
        ("stop", Some(STOP)),
        ("delete", Some(Action::Delete)),
        ("restart", Some(Action::Restart { change: None, kill_timeout: None })),
        ("shutdown", None),
    ];
    for (name, action) in requests {
        let mut world = ready_world(1);
        let reload = world.command(RELOAD, "web");
        let child = newest(&world);
        let to = match action {
            Some(action) => world.command(action, "web"),
            None => world.request(Request::Shutdown),
        };
        assert!(!world.alive.contains(&child), "{name}");
        assert_eq!(world.outcome(reload).failure, Some(Failure::Superseded), "{name}");
        if name == "restart" {
            world.ready("web");
        }
        assert!(world.answered(to), "{name}");
        assert_eq!(world.alive.len(), usize::from(name == "restart"), "{name}");
    }
}

#[test]
fn a_stop_is_done_when_the_deaf_predecessor_is_gone_too() {
    let mut world = ready_world(1);
    world.deaf.insert("web".to_owned());
    world.command(RELOAD, "web");
    let child = newest(&world);
    world.handle(Input::Ready { child });
    assert_eq!(world.alive.len(), 2, "the old one does not listen");
    world.deaf.clear();
    let to = world.command(STOP, "web");
    assert_eq!((world.status("web"), world.alive.len()), (Status::Stopped, 1));
    assert!(!world.answered(to));
    assert_eq!(world.wait(), millis(1600));
    assert!(world.outcome(to).failure.is_none() && world.alive.is_empty());
}

#[test]
fn a_second_reload_waits_for_the_first() {
    let mut world = ready_world(1);
    let first = world.command(RELOAD, "web");
    let second = world.command(RELOAD, "web");
    assert_eq!(world.alive.len(), 2);
    let child = newest(&world);
    world.handle(Input::Ready { child });
    assert!(world.answered(first) && !world.answered(second));
    let child = newest(&world);
    world.handle(Input::Ready { child });
    assert!(world.outcome(second).failure.is_none());
    assert_eq!(world.process("web").restarts(), 2);
}

#[test]
fn a_crash_of_the_old_one_does_not_disturb_the_successor() {
    let mut world = ready_world(1);
    let to = world.command(RELOAD, "web");
    let successor = newest(&world);
    world.exit("web", 1);
    assert_eq!(world.alive.len(), 2, "restarted at once, as ever");
    world.handle(Input::Ready { child: successor });
    assert_eq!(world.process("web").child(), Some(successor));
    assert_eq!(world.statuses("web"), [Status::Restarting, Status::Starting, Status::Online]);
    assert!(world.outcome(to).failure.is_none());
    assert_eq!(world.alive.len(), 1);
    assert_eq!(world.supervisor.next_deadline(), None);
}

#[test]
fn a_successor_takes_over_from_a_process_in_a_pause() {
    let mut world = ready_world(1);
    world.command(Action::Restart { change: None, kill_timeout: None }, "web");
    world.ready("web");
    world.command(RELOAD, "web");
    let successor = newest(&world);
    world.exit("web", 1);
    assert_eq!(world.status("web"), Status::Backoff);
    world.handle(Input::Ready { child: successor });
    assert_eq!((world.status("web"), world.alive.len()), (Status::Online, 1));
    assert_eq!(world.supervisor.next_deadline(), None);
}

#[test]
fn an_unstoppable_predecessor_is_reported() {
    let mut world = ready_world(1);
    world.deaf.insert("web".to_owned());
    world.undead.insert("web".to_owned());
    let to = world.command(RELOAD, "web");
    let child = newest(&world);
    world.handle(Input::Ready { child });
    world.wait();
    world.wait();
    assert_eq!(world.outcome(to).failure, Some(Failure::Unstoppable { left: 1 }));
    assert_eq!(world.status("web"), Status::Online);
    let old = *world.alive.first().unwrap();
    world.exit_child(old, killed_by(Signal::KILL));
    assert!(world.supervisor.process_of(old).is_none());
    assert_eq!(world.alive.len(), 1);
}

#[test]
fn a_delete_that_fails_because_of_the_predecessor_is_saved_as_such() {
    let mut world = ready_world(1);
    world.deaf.insert("web".to_owned());
    world.undead.insert("web".to_owned());
    world.command(RELOAD, "web");
    let child = newest(&world);
    world.handle(Input::Ready { child });
    world.deaf.clear();
    let to = world.command(Action::Delete, "web");
    world.wait();
    world.forget_effects();
    world.wait();
    assert_eq!(world.outcome(to).failure, Some(Failure::Unstoppable { left: 1 }));
    assert_eq!(world.process("web").goal(), Goal::Down);
    assert!(world.words().contains(&"save"));
}

fn cluster() -> Rc<AppSpec> {
    spec_with("web", |it| it.exec_mode = ExecMode::Cluster)
}

/// A world in which the worker of a cluster runs, and listens or does not.
fn cluster_world(listens: bool) -> (World, ChildId) {
    let mut world = World::with([cluster()]);
    let old = newest(&world);
    assert_eq!(world.process("web").status(), Status::Online, "a first start waits for nothing");
    if listens {
        world.handle(Input::Listening { child: old });
    }
    world.pass(millis(5000));
    world.forget_effects();
    (world, old)
}

#[test]
fn a_worker_is_dismissed_when_its_successor_listens() {
    let (mut world, old) = cluster_world(true);
    let to = world.command(RELOAD, "web");
    assert_eq!(world.words(), ["spawn"]);
    world.handle(Input::Ready { child: newest(&world) });
    world.handle(Input::Listening { child: newest(&world) });
    assert!(!world.words().contains(&"signal"), "it has something to finish");
    assert!(matches!(
        world.done.iter().rev().find(|it| !matches!(it, Effect::Publish(_))),
        Some(Effect::Dismiss { child }) if *child == old
    ));
    // It has finished: now it may be told to end.
    world.forget_effects();
    world.handle(Input::Left { child: old });
    assert_eq!(world.words(), ["signal", "sweep", "release", "reply"]);
    assert!(world.outcome(to).failure.is_none());
    assert_eq!(world.supervisor.next_deadline(), None);
}

#[test]
fn a_worker_that_does_not_finish_is_told_to_end_and_then_killed() {
    let (mut world, _) = cluster_world(true);
    world.deaf.insert("web".to_owned());
    world.command(RELOAD, "web");
    world.handle(Input::Listening { child: newest(&world) });
    world.forget_effects();
    assert_eq!(world.wait(), millis(1600));
    assert_eq!(world.words(), ["signal"]);
    assert_eq!(world.wait(), millis(1600));
    assert_eq!(world.words()[..2], ["signal", "kill"]);
    assert_eq!(world.alive.len(), 1);
}

#[test]
fn who_never_listened_is_replaced_by_who_lives_a_while() {
    let (mut world, old) = cluster_world(false);
    let to = world.command(RELOAD, "web");
    assert_eq!(world.wait(), millis(1000), "the time in which it may listen after all");
    world.handle(Input::Left { child: old });
    assert!(world.outcome(to).failure.is_none());
    // Who did is not.
    world.handle(Input::Listening { child: newest(&world) });
    let to = world.command(RELOAD, "web");
    assert_eq!(world.wait(), millis(3000));
    assert_eq!(world.outcome(to).failure, Some(Failure::NotReady));
}

#[test]
fn what_becomes_a_cluster_or_is_none_any_more_is_restarted() {
    let (mut world, _) = cluster_world(true);
    let change = Some(Redefinition::Whole(spec_with("web", |it| it.wait_ready = true)));
    let to = world.command(Action::Reload { change }, "web");
    assert_eq!(world.alive.len(), 1, "not two at a time");
    world.handle(Input::Ready { child: newest(&world) });
    assert_eq!(world.outcome(to).restarted_instead, Some(Instead::SamePort));
}

#[test]
fn who_is_to_stop_does_not_wait_for_the_clients_of_a_predecessor() {
    let (mut world, _) = cluster_world(true);
    world.command(RELOAD, "web");
    world.handle(Input::Listening { child: newest(&world) });
    world.forget_effects();
    let to = world.command(STOP, "web");
    assert_eq!(world.alive.len(), 0);
    assert!(world.outcome(to).failure.is_none());
}
