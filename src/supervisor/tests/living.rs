//! Starts, deaths, restarts, readiness.

use super::*;
use crate::supervisor::ExitReason;
use crate::supervisor::spec::Restart;
use crate::supervisor::vocabulary::{ErroredReason, Failure, RestartReason};

#[test]
fn an_app_is_started_and_the_answer_comes_when_it_is_online() {
    let mut world = World::new();
    let to = world.create(vec![spec_with("web", |_| {})]);
    assert_eq!(world.statuses("web"), [Status::Starting, Status::Online]);
    assert_eq!(world.words(), ["spawn", "starting", "save", "online", "started!", "reply"]);
    let outcome = world.outcome(to);
    assert_eq!((outcome.status, outcome.pid), (Status::Online, Some(world.pid("web"))));
    assert!(outcome.changed && outcome.ready && outcome.failure.is_none());
    assert_eq!(world.supervisor.next_deadline(), None);
}

#[test]
fn a_crash_is_answered_by_a_spawn_before_anybody_is_told() {
    let mut world = World::with([spec_with("web", |_| {})]);
    world.pass(millis(5000));
    world.forget_effects();
    world.exit("web", 1);
    assert_eq!(
        world.words(),
        ["spawn", "release", "crashed!", "restarting", "online", "restarted!"]
    );
    assert_eq!(world.process("web").restarts(), 1);
    assert_eq!(world.process("web").last_exit().unwrap().uptime, millis(5000));
}

#[test]
fn the_status_chain_has_no_gap() {
    let mut world = World::with([spec_with("web", |it| it.max_restarts = 3)]);
    for code in [1, 2] {
        world.exit("web", code);
        world.wait();
    }
    world.command(Action::Restart { change: None, kill_timeout: None }, "web");
    world.exit("web", 3);
    world.command(Action::Start, "web");
    world.command(Action::Delete, "web");
    let mut last = None;
    for notice in world.notices() {
        if let NoticeKind::Status { from, to } = notice.kind {
            assert_eq!(from, last);
            assert_ne!(from, Some(to));
            last = Some(to);
        }
    }
    assert_eq!(last, Some(Status::Stopped));
}

#[test]
fn quick_deaths_back_off_and_then_give_up() {
    let mut world = World::with([spec_with("web", |it| it.max_restarts = 4)]);
    let mut pauses = vec![];
    for _ in 0..3 {
        world.exit("web", 1);
        assert_eq!(world.status("web"), Status::Backoff);
        assert_eq!(world.process("web").retry_at(), world.supervisor.next_deadline());
        pauses.push(world.wait().as_millis());
    }
    assert_eq!(pauses, [100, 150, 225]);
    world.exit("web", 7);
    assert_eq!(world.status("web"), Status::Errored);
    let reason = ErroredReason::MaxRestarts { last: Some(ExitStatus::Code(7)) };
    assert_eq!(world.process("web").errored(), Some(reason));
    assert_eq!(world.process("web").unstable_restarts(), 4);
    assert_eq!(world.supervisor.next_deadline(), None);
    assert!(world.supervisor.is_idle());
}

#[test]
fn a_restart_by_hand_is_no_crash() {
    let mut world = World::with([spec_with("web", |it| it.max_restarts = 2)]);
    for _ in 0..5 {
        world.command(Action::Restart { change: None, kill_timeout: None }, "web");
    }
    assert_eq!(world.status("web"), Status::Online);
    assert_eq!((world.process("web").restarts(), world.process("web").unstable_restarts()), (5, 0));
}

#[test]
fn a_start_by_hand_forgets_earlier_failures() {
    let mut world = World::with([spec_with("web", |it| it.max_restarts = 1)]);
    world.exit("web", 1);
    assert_eq!(world.status("web"), Status::Errored);
    world.command(Action::Start, "web");
    assert_eq!(world.status("web"), Status::Online);
    assert_eq!(world.process("web").unstable_restarts(), 0);
}

#[test]
fn a_start_ends_the_pause() {
    let mut world = World::with([spec_with("web", |_| {})]);
    world.exit("web", 1);
    let to = world.command(Action::Start, "web");
    assert_eq!(world.status("web"), Status::Online);
    assert!(world.outcome(to).changed);
    assert_eq!(world.supervisor.next_deadline(), None);
}

#[test]
fn a_final_exit_code_stops_it_for_good() {
    let mut world = World::with([spec_with("web", |it| it.stop_exit_codes = vec![42])]);
    world.forget_effects();
    world.exit("web", 42);
    assert_eq!(world.words(), ["release", "stopped", "stopped!", "save"]);
    assert_eq!(world.process("web").goal(), crate::supervisor::Goal::Down);
    assert!(world.supervisor.is_idle());
}

#[test]
fn a_job_that_fails_is_told_as_a_crash_and_not_run_again() {
    let mut world = World::with([spec_with("job", |it| it.restart = Restart::Once)]);
    world.forget_effects();
    world.exit("job", 3);
    assert_eq!(world.words(), ["release", "crashed!", "stopped", "stopped!", "save"]);
    assert!(!world.process("job").is_done());
    world.command(Action::Start, "job");
    world.exit("job", 0);
    assert!(world.process("job").is_done());
}

#[test]
fn a_program_that_is_not_there_is_never_shown_as_running() {
    let mut world = World::new();
    world.spawns.insert("web".to_owned(), NO_PROGRAM);
    let to = world.create(vec![spec_with("web", |_| {})]);
    assert_eq!(world.outcome(to).failure, Some(Failure::Spawn(NO_PROGRAM)));
    assert_eq!(world.statuses("web"), [Status::Starting, Status::Errored]);
    let reason = ErroredReason::SpawnFailed(NO_PROGRAM);
    assert_eq!(world.process("web").errored(), Some(reason));
}

#[test]
fn a_host_that_is_short_of_something_is_asked_again() {
    let mut world = World::new();
    world.spawns.insert("web".to_owned(), NO_PROCESS_SLOT);
    let to = world.create(vec![spec_with("web", |it| it.max_restarts = 3)]);
    assert_eq!(world.outcome(to).failure, Some(Failure::Spawn(NO_PROCESS_SLOT)));
    assert_eq!(world.outcome(to).status, Status::Backoff);
    assert_eq!(world.wait(), millis(100));
    world.spawns.clear();
    assert_eq!(world.wait(), millis(150));
    assert_eq!(world.statuses("web"), [Status::Starting, Status::Backoff, Status::Online]);
    assert_eq!(world.words().iter().filter(|word| **word == "started!").count(), 1);
}

#[test]
fn so_many_failed_spawns_are_enough() {
    let mut world = World::new();
    world.spawns.insert("web".to_owned(), NO_PROCESS_SLOT);
    world.create(vec![spec_with("web", |it| it.max_restarts = 3)]);
    world.wait();
    world.wait();
    assert_eq!(world.process("web").errored(), Some(ErroredReason::SpawnFailed(NO_PROCESS_SLOT)));
}

#[test]
fn with_readiness_it_is_online_when_it_says_so() {
    let mut world = World::with([spec_with("web", |it| it.wait_ready = true)]);
    assert_eq!(world.status("web"), Status::Starting);
    world.pass(millis(200));
    world.forget_effects();
    world.ready("web");
    assert_eq!(world.words(), ["online", "started!", "reply"]);
    let NoticeKind::Started { took, .. } = world.notices()[1].kind else { panic!() };
    assert_eq!(took, millis(200));
    assert_eq!(world.supervisor.next_deadline(), None);
}

#[test]
fn readiness_that_does_not_come_leaves_it_online_with_a_warning() {
    let mut world = World::new();
    let to = world.create(vec![spec_with("web", |it| it.wait_ready = true)]);
    assert_eq!(world.wait(), millis(3000));
    assert_eq!(world.status("web"), Status::Online);
    assert!(!world.outcome(to).ready && world.outcome(to).failure.is_none());
    assert!(world.words().ends_with(&["online", "started!", "not ready!", "reply"]));
    world.ready("web");
    assert!(world.process("web").is_ready());
}

#[test]
fn a_death_before_readiness_fails_the_start_and_is_restarted() {
    let mut world = World::new();
    let to = world.create(vec![spec_with("web", |it| it.wait_ready = true)]);
    world.pass(millis(40));
    world.exit("web", 3);
    let failure = Failure::Died {
        status: ExitStatus::Code(3),
        uptime: millis(40),
        restart_in: Some(millis(100)),
        unstable: 1,
    };
    assert_eq!(world.outcome(to).failure, Some(failure));
    assert_eq!(world.outcome(to).exit, Some(ExitStatus::Code(3)));
    world.wait();
    world.ready("web");
    let restarted = world.notices().last().unwrap().kind.clone();
    assert!(matches!(
        restarted,
        NoticeKind::Restarted { restarts: 1, reason: RestartReason::Crash, .. }
    ));
}

#[test]
fn a_patient_start_waits_until_it_has_settled() {
    let mut world = World::new();
    let apps = vec![spec_with("web", |_| {})];
    let to = world.request(Request::Create { apps, existing: Existing::Refuse, options: STABLE });
    assert!(!world.answered(to));
    assert_eq!(world.wait(), millis(1000));
    assert!(world.outcome(to).failure.is_none());
    assert_eq!(world.outcome(to).took, millis(1000));
}

#[test]
fn a_patient_start_is_told_of_a_quick_death() {
    let mut world = World::new();
    let apps = vec![spec_with("web", |_| {})];
    let to = world.request(Request::Create { apps, existing: Existing::Refuse, options: STABLE });
    world.pass(millis(41));
    world.exit("web", 3);
    assert!(matches!(world.outcome(to).failure, Some(Failure::Died { unstable: 1, .. })));
    assert_eq!(world.wait(), millis(100));
    assert_eq!(world.supervisor.next_deadline(), None, "nobody waits for it to settle");
}

#[test]
fn a_patient_start_is_told_when_it_gave_up() {
    let mut world = World::with([spec_with("web", |it| it.max_restarts = 2)]);
    world.exit("web", 1);
    let apps = vec![spec_with("web", |it| it.max_restarts = 2)];
    world.wait();
    world.pass(millis(900));
    let failed = Failure::GaveUp { status: Some(ExitStatus::Code(1)), runs: 2, over: millis(1000) };
    // A start of what is online is done at once; a restart is not.
    let to = world.request(Request::Create { apps, existing: Existing::Refuse, options: STABLE });
    assert!(!world.outcome(to).changed);
    let action = Action::Restart { change: None, kill_timeout: None };
    let to = world.command_with(action, &["web"], STABLE);
    world.exit("web", 1);
    assert_eq!(world.outcome(to).failure, Some(failed));
}

#[test]
fn a_job_is_started_when_it_is_spawned_however_patient_the_caller() {
    let mut world = World::new();
    let apps = vec![spec_with("job", |it| it.restart = Restart::Once)];
    let to = world.request(Request::Create { apps, existing: Existing::Refuse, options: STABLE });
    assert!(world.outcome(to).failure.is_none());
}

#[test]
fn a_short_program_that_ended_as_wanted_has_not_failed() {
    let mut world = World::new();
    let apps = vec![spec_with("web", |it| it.restart = Restart::OnFailure)];
    let to = world.request(Request::Create { apps, existing: Existing::Refuse, options: STABLE });
    world.exit("web", 0);
    assert!(world.outcome(to).failure.is_none());
    assert_eq!(world.outcome(to).exit, Some(ExitStatus::Code(0)));
}

#[test]
fn news_of_unknown_children_is_harmless() {
    let mut world = World::with([spec_with("web", |_| {})]);
    world.forget_effects();
    let child = ChildId(77);
    for input in [
        Input::Spawned { child, pid: pid(child), port: None },
        Input::SpawnFailed { child, error: NO_PROGRAM },
        Input::Ready { child },
        Input::Exited { child, status: ExitStatus::Unknown },
        Input::Swept { child, left: 3 },
    ] {
        world.handle(input);
    }
    assert_eq!(world.words(), [""; 0]);
}

#[test]
fn late_news_of_the_child_before_is_harmless() {
    let mut world = World::with([spec_with("web", |_| {})]);
    let first = world.process("web").child().unwrap();
    world.pass(millis(2000));
    world.exit("web", 1);
    world.forget_effects();
    world.handle(Input::Exited { child: first, status: ExitStatus::Code(0) });
    world.handle(Input::Swept { child: first, left: 0 });
    assert_eq!(world.words(), [""; 0]);
    assert_eq!(world.status("web"), Status::Online);
}

#[test]
fn a_thousand_exits_at_one_moment_give_a_thousand_restarts() {
    let mut world = World::with([spec_with("web", |it| it.instances = 1000)]);
    world.pass(millis(2000));
    world.forget_effects();
    let children: Vec<ChildId> = world.alive.iter().copied().collect();
    for child in children {
        world.exit_child(child, killed_by(Signal::KILL));
    }
    assert_eq!(world.words().iter().filter(|word| **word == "spawn").count(), 1000);
    assert!(world.supervisor.processes().all(|process| process.restarts() == 1));
}

#[test]
fn a_tree_above_its_memory_limit_is_restarted_and_that_is_no_crash() {
    let limited = |it: &mut AppSpec| {
        it.max_memory_restart = Some(100);
        it.max_restarts = 1;
    };
    let mut world = World::with([spec_with("web", limited), spec_with("free", |_| {})]);
    world.forget_effects();
    let measured = |world: &mut World, name: &str, memory| {
        let child = world.process(name).child().unwrap();
        world.handle(Input::Measured { child, memory });
        child
    };
    measured(&mut world, "web", 100);
    measured(&mut world, "free", u64::MAX);
    assert!(world.done.is_empty(), "{:?}", world.words());
    let old = measured(&mut world, "web", 101);
    assert_eq!(
        world.words(),
        [
            "memory!",
            "signal",
            "stopping",
            "sweep",
            "spawn",
            "restarting",
            "release",
            "online",
            "restarted!"
        ]
    );
    let kinds: Vec<_> = world.notices().into_iter().map(|notice| notice.kind.clone()).collect();
    assert_eq!(kinds[0], NoticeKind::MemoryLimitExceeded { memory: 101, limit: 100 });
    let reason = RestartReason::Memory;
    let told = |kind: &NoticeKind| matches!(kind, NoticeKind::Restarted { reason: it, .. } if *it == reason);
    assert!(kinds.iter().any(told), "{kinds:?}");
    let process = world.process("web");
    assert_eq!((process.restarts(), process.unstable_restarts()), (1, 0));
    assert_eq!(process.last_exit().map(|exit| exit.reason), Some(ExitReason::Memory));
    // Late news of the old child.
    world.forget_effects();
    world.handle(Input::Measured { child: old, memory: 500 });
    assert!(world.done.is_empty(), "{:?}", world.words());
}

#[test]
fn who_is_on_the_way_out_is_not_measured() {
    let mut world = World::with([spec_with("web", |it| it.max_memory_restart = Some(1))]);
    world.deaf.insert("web".to_owned());
    world.command(Action::Stop { kill_timeout: None }, "web");
    world.forget_effects();
    let child = world.process("web").child().unwrap();
    world.handle(Input::Measured { child, memory: 2 });
    assert!(world.done.is_empty(), "{:?}", world.words());
    assert_eq!(world.status("web"), Status::Stopping);
}
