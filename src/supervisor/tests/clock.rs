//! Restarts by the clock and because files changed, and jobs that have their times.

use super::*;
use crate::supervisor::ExitReason;
use crate::supervisor::schedule::Schedule;
use crate::supervisor::spec::{Overlap, Restart};
use crate::supervisor::vocabulary::{Failure, RestartReason};

/// Restarted every minute. The world begins at half past ten in the evening.
fn restarted(change: impl FnOnce(&mut AppSpec)) -> Rc<AppSpec> {
    spec_with("web", |it| {
        it.cron_restart = Schedule::parse("* * * * *").ok();
        change(it);
    })
}

/// Run every minute.
fn job(change: impl FnOnce(&mut AppSpec)) -> Rc<AppSpec> {
    spec_with("job", |it| {
        it.schedule = Schedule::parse("* * * * *").ok();
        it.restart = Restart::Once;
        change(it);
    })
}

fn restart_reason(kind: &NoticeKind) -> Option<RestartReason> {
    if let NoticeKind::Restarted { reason, .. } = kind { Some(*reason) } else { None }
}

fn spawns(world: &World) -> usize {
    world.words().iter().filter(|word| **word == "spawn").count()
}

#[test]
fn a_program_is_restarted_when_it_is_time() {
    let mut world = World::with([restarted(|_| {})]);
    assert_eq!(world.supervisor.next_run(ProcId(0)), Some(WallTime(1_700_001_060_000)));
    let before = world.pid("web");
    world.ring();
    assert_ne!(world.pid("web"), before);
    assert_eq!(world.process("web").last_exit().unwrap().reason, ExitReason::Cron);
    let reasons: Vec<_> =
        world.notices().iter().filter_map(|it| restart_reason(&it.kind)).collect();
    assert_eq!(reasons, [RestartReason::Cron]);
    // And again a minute later: nothing ticks in between.
    assert_eq!(world.supervisor.next_alarm(), Some(WallTime(1_700_001_120_000)));
    assert_eq!(world.supervisor.next_deadline(), None);
}

#[test]
fn who_waits_for_a_start_is_answered_however_soon_it_is_time() {
    let mut world = World::new();
    let spec = restarted(|it| {
        it.cron_restart = Schedule::parse("* * * * * *").ok();
        it.min_uptime = millis(5000);
    });
    world.create(vec![spec]);
    world.command(Action::Stop { kill_timeout: None }, "web");
    world.pass(millis(300));
    let to = world.command_with(Action::Start, &["web"], STABLE);
    let before = world.pid("web");
    world.ring();
    assert_eq!(world.pid("web"), before);
    while !world.answered(to) {
        world.wait();
    }
    world.ring();
    assert_ne!(world.pid("web"), before);
}

#[test]
fn what_was_stopped_stays_so_and_what_ended_is_started() {
    let mut world = World::with([restarted(|it| it.restart = Restart::Never)]);
    world.exit("web", 1);
    assert_eq!(world.status("web"), Status::Stopped);
    world.ring();
    assert_eq!(world.status("web"), Status::Online);
    world.command(Action::Stop { kill_timeout: None }, "web");
    assert_eq!(world.supervisor.next_alarm(), None);
    world.command(Action::Start, "web");
    world.exit("web", 0);
    // It has ended by itself, but then somebody wanted it stopped.
    world.command(Action::Stop { kill_timeout: None }, "web");
    assert_eq!(world.supervisor.next_alarm(), None);
}

#[test]
fn what_gave_up_or_waits_is_tried_when_it_is_time() {
    let mut world = World::with([restarted(|it| it.max_restarts = 1)]);
    world.exit("web", 1);
    assert_eq!(world.status("web"), Status::Errored);
    world.ring();
    assert_eq!(world.status("web"), Status::Online);
    let mut world = World::with([restarted(|it| it.restart_delay = millis(90_000))]);
    world.exit("web", 1);
    assert_eq!(world.status("web"), Status::Backoff);
    world.ring();
    assert_eq!(world.status("web"), Status::Online);
}

#[test]
fn to_pm2_a_stop_does_not_stop_the_clock() {
    let mut world = World::with([restarted(|it| it.pm2 = Some("{}".into()))]);
    world.command(Action::Stop { kill_timeout: None }, "web");
    world.ring();
    assert_eq!(world.status("web"), Status::Online);
    world.command(Action::Delete, "web");
    assert_eq!(world.supervisor.next_alarm(), None);
}

#[test]
fn another_definition_has_other_times() {
    let mut world = World::with([restarted(|_| {})]);
    let hourly = restarted(|it| it.cron_restart = Schedule::parse("@hourly").ok());
    world.create_as(vec![hourly], Existing::Apply);
    assert_eq!(world.supervisor.next_alarm(), Some(WallTime(1_700_002_800_000)));
    world.create_as(vec![restarted(|it| it.cron_restart = None)], Existing::Replace);
    assert_eq!(world.supervisor.next_alarm(), None);
}

#[test]
fn a_job_runs_at_its_times_and_not_when_it_is_entered() {
    let mut world = World::new();
    let to = world.create(vec![job(|_| {})]);
    assert_eq!((world.outcome(to).status, spawns(&world)), (Status::Stopped, 0));
    assert!(!world.supervisor.is_idle());
    world.ring();
    assert_eq!(world.status("job"), Status::Online);
    world.exit("job", 0);
    assert!(world.process("job").is_done());
    world.ring();
    world.exit("job", 3);
    // A failed run is not repeated before its time.
    assert_eq!((world.status("job"), spawns(&world)), (Status::Stopped, 2));
    assert_eq!(world.supervisor.next_deadline(), None);
    world.ring();
    assert_eq!(spawns(&world), 3);
    // Nothing of this had to be written down.
    let saves = world.words().iter().filter(|word| **word == "save").count();
    assert_eq!(saves, 1);
}

#[test]
fn the_same_file_again_starts_no_job_but_lets_a_stopped_one_run() {
    let mut world = World::with([job(|_| {})]);
    let to = world.create(vec![job(|_| {})]);
    assert!(!world.outcome(to).changed);
    let to = world.command(Action::Stop { kill_timeout: None }, "job");
    assert!(world.outcome(to).changed);
    assert_eq!(world.supervisor.next_alarm(), None);
    let to = world.create(vec![job(|_| {})]);
    assert!(world.outcome(to).changed && world.supervisor.next_alarm().is_some());
    assert_eq!(spawns(&world), 0);
    // Another definition, another number: as little a reason to run it.
    world.create_as(vec![job(|it| it.script = "/bin/other".into())], Existing::Replace);
    world.command(Action::Scale(crate::supervisor::vocabulary::Scale::To(2)), "job");
    assert_eq!(spawns(&world), 0);
    // By hand it runs at once.
    world.command(Action::Start, "job:0");
    assert_eq!((world.status("job"), spawns(&world)), (Status::Online, 1));
}

#[test]
fn while_a_run_goes_on_the_next_is_left_out_or_waits_or_takes_its_place() {
    for (overlap, begun, after) in
        [(Overlap::Skip, 1, 1), (Overlap::Queue, 1, 2), (Overlap::Kill, 3, 3)]
    {
        let mut world = World::with([job(|it| it.overlap = overlap)]);
        world.ring();
        world.ring();
        world.ring();
        assert_eq!(spawns(&world), begun, "{overlap:?}");
        world.exit("job", 0);
        assert_eq!(spawns(&world), after, "{overlap:?}");
        if after > begun {
            // One waited, not two.
            world.exit("job", 0);
            assert_eq!(spawns(&world), after, "{overlap:?}");
        }
    }
}

#[test]
fn a_run_that_waits_is_forgotten_when_the_job_is_stopped() {
    let mut world = World::with([job(|it| it.overlap = Overlap::Queue)]);
    world.ring();
    world.ring();
    world.command(Action::Stop { kill_timeout: None }, "job");
    assert_eq!((world.status("job"), spawns(&world)), (Status::Stopped, 1));
}

#[test]
fn a_run_that_lasts_too_long_is_stopped_and_has_failed() {
    let mut world = World::with([job(|it| it.timeout = Some(millis(1500)))]);
    world.deaf.insert("job".to_owned());
    world.ring();
    assert_eq!(world.wait(), millis(1500));
    assert_eq!(world.status("job"), Status::Stopping);
    assert_eq!(world.wait(), millis(1600));
    let exit = *world.process("job").last_exit().unwrap();
    assert_eq!((world.status("job"), exit.reason), (Status::Stopped, ExitReason::Overrun));
    assert!(!world.process("job").is_done());
    assert_eq!(world.supervisor.next_deadline(), None);
    // That was no stop of somebody's: it runs again when it is time.
    world.ring();
    assert_eq!(world.status("job"), Status::Online);
    // In time it is not stopped.
    world.exit("job", 0);
    assert_eq!(world.supervisor.next_deadline(), None);
}

#[test]
fn who_waits_for_a_run_that_lasts_too_long_is_told() {
    let mut world = World::with([job(|it| {
        it.timeout = Some(millis(100));
        it.wait_ready = true;
    })]);
    let to = world.command_with(Action::Start, &["job"], STABLE);
    assert!(world.answered(to));
    let to = world.command_with(Action::Start, &["job"], Options::default());
    world.wait();
    assert!(matches!(world.outcome(to).failure, Some(Failure::Died { restart_in: None, .. })));
}

#[test]
fn what_was_missed_is_not_made_up_unless_it_is_a_moment_ago() {
    let mut world = World::with([job(|it| it.schedule = Schedule::parse("@hourly").ok())]);
    let at = world.supervisor.next_alarm().unwrap();
    let look = |world: &mut World, wall: u64, was_set| {
        let now = Now { mono: world.now, wall: WallTime(wall) };
        world.look_at_the_clock(now, was_set);
        spawns(world)
    };
    // The host was asleep for two minutes more.
    assert_eq!(look(&mut world, at.0 + 120_000, false), 0);
    let at = world.supervisor.next_alarm().unwrap();
    // Somebody corrected the clock, past the time by a moment.
    assert_eq!(look(&mut world, at.0 + 300, true), 1);
    world.exit("job", 0);
    // Back again, before it, and on: it has been.
    assert_eq!(look(&mut world, at.0 - 200, true), 1);
    assert_eq!(look(&mut world, at.0, false), 1);
    // A day back is another matter.
    look(&mut world, at.0 - 86_400_000 - 1, true);
    assert_eq!(world.supervisor.next_alarm(), Some(WallTime(at.0 - 86_400_000)));
}

#[test]
fn a_job_comes_back_with_the_daemon_as_it_was_wanted() {
    let mut world = World::with([
        job(|_| {}),
        spec_with("stopped", |it| {
            it.schedule = Schedule::parse("@hourly").ok();
            it.restart = Restart::Once;
        }),
    ]);
    world.command(Action::Stop { kill_timeout: None }, "stopped");
    world.ring();
    let snapshot = world.supervisor.snapshot();
    let text = serde_json::to_string(&snapshot).unwrap();
    let restored = |adopted: &[crate::supervisor::Adopted]| {
        let mut effects = Vec::new();
        let mut world = World::new();
        let snapshot = serde_json::from_str(&text).unwrap();
        world.supervisor =
            Supervisor::new().restore(world.clock(), snapshot, adopted, true, &mut effects);
        world.carry_out(effects);
        world
    };
    // A run that went on meanwhile goes on; one that did not is not made up.
    let new = restored(&[]);
    assert_eq!((spawns(&new), new.status("job")), (0, Status::Stopped));
    assert!(new.supervisor.next_run(ProcId(0)).is_some());
    assert_eq!(new.supervisor.next_run(ProcId(1)), None);
    let child = world.process("job").child().unwrap();
    let adopted = crate::supervisor::Adopted {
        process: ProcId(0),
        child,
        pid: pid(child),
        started: Now { mono: Time(1), wall: WallTime(0) },
        restarts: 0,
        unstable: 0,
        ready: true,
        port: None,
    };
    let new = restored(&[adopted]);
    assert_eq!(new.status("job"), Status::Online);
    assert!(!new.words().contains(&"signal"));
}

fn watched(change: impl FnOnce(&mut AppSpec)) -> Rc<AppSpec> {
    spec_with("web", |it| {
        it.watch = vec!["/srv".to_owned()];
        change(it);
    })
}

/// Files of the first process change; whether it is another child then.
fn change_files(world: &mut World) -> bool {
    let before = world.process("web").child();
    world.handle(Input::Changed { process: ProcId(0) });
    world.process("web").child() != before
}

#[test]
fn what_is_wanted_is_restarted_when_its_files_change() {
    let mut world = World::with([watched(|it| it.max_restarts = 1)]);
    assert!(world.supervisor.take_watched_changed().contains(&ProcId(0)));
    assert!(change_files(&mut world));
    assert_eq!(world.process("web").last_exit().unwrap().reason, ExitReason::Watch);
    // That changes nothing about who is watched.
    assert!(world.supervisor.take_watched_changed().is_empty());
    // What gave up is tried again.
    world.exit("web", 1);
    assert_eq!(world.status("web"), Status::Errored);
    assert!(change_files(&mut world));
    world.command(Action::Stop { kill_timeout: None }, "web");
    assert!(!world.supervisor.take_watched_changed().is_empty());
    assert!(!change_files(&mut world) && world.supervisor.watched().count() == 0);
    world.command(Action::Start, "web");
    assert!(change_files(&mut world));
    world.command(Action::Delete, "web");
    assert_eq!(world.supervisor.watched().count(), 0);
}

#[test]
fn what_ended_by_itself_is_started_when_its_files_change() {
    let mut world = World::with([watched(|it| it.restart = Restart::Never)]);
    world.exit("web", 1);
    assert_eq!(world.status("web"), Status::Stopped);
    assert!(change_files(&mut world));
    let mut world = World::with([watched(|it| it.autostart = false)]);
    assert!(!change_files(&mut world));
}

#[test]
fn who_waits_for_a_start_is_answered_before_files_count() {
    let mut world = World::with([watched(|_| {})]);
    world.command(Action::Stop { kill_timeout: None }, "web");
    let to = world.command_with(Action::Start, &["web"], STABLE);
    assert!(!change_files(&mut world));
    let before = world.pid("web");
    while !world.answered(to) {
        world.wait();
    }
    assert_ne!(world.pid("web"), before);
}

#[test]
fn watching_is_switched_whatever_the_definition_says() {
    let mut world = World::with([watched(|it| it.watch = Vec::new())]);
    assert!(!change_files(&mut world));
    world.supervisor.switch_watch(ProcId(0), Some(true));
    assert!(change_files(&mut world) && world.supervisor.is_watch_on(ProcId(0)));
    world.supervisor.switch_watch(ProcId(0), None);
    assert!(!change_files(&mut world));
    let mut world = World::with([watched(|_| {})]);
    world.supervisor.switch_watch(ProcId(0), Some(false));
    assert!(!change_files(&mut world));
}
