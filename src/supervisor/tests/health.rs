//! Health: when a process is looked at, what counts, and what follows.

use super::*;
use crate::supervisor::spec::{Check, HealthCheck, OnFail, Ports, Restart, Serving};
use crate::supervisor::vocabulary::{Finding, HealthStatus, Instead, Probe, RestartReason, Until};
use crate::supervisor::{Adopted, ExitReason, Health};

/// Looked at each ten seconds; unhealthy at the second failure.
fn checked(name: &str, change: impl FnOnce(&mut AppSpec, &mut HealthCheck)) -> Rc<AppSpec> {
    spec_with(name, |spec| {
        let mut health = HealthCheck {
            check: Check::Http("http://127.0.0.1/".to_owned()),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            retries: 2,
            start_period: Duration::ZERO,
            on_fail: OnFail::Restart,
        };
        change(spec, &mut health);
        let serving = spec.serving.get_or_insert_default();
        serving.health = Some(health);
    })
}

fn seen(found: Finding) -> Probe {
    let error = (found != Finding::Passed).then(|| Rc::from("connection refused"));
    Probe { found, took: millis(3), code: None, error }
}

impl World {
    /// Waits for the next look, and answers it.
    fn look(&mut self, name: &str, found: Finding) -> Duration {
        let child = self.process(name).child().unwrap();
        let since = self.now;
        while !self.asked.contains(&child) {
            self.wait();
        }
        self.answer(child, found);
        self.now.since(since)
    }

    fn answer(&mut self, child: ChildId, found: Finding) {
        assert!(self.asked.remove(&child));
        self.handle(Input::Probed { child, probe: seen(found) });
    }

    fn looks<const N: usize>(&mut self, name: &str, found: [Finding; N]) -> [u128; N] {
        found.map(|found| self.look(name, found).as_millis())
    }

    fn health(&self, name: &str) -> HealthStatus {
        self.process(name).health().map(Health::status).unwrap()
    }

    fn failures_told(&self) -> usize {
        let kinds = self.notices().into_iter().map(|notice| &notice.kind);
        kinds.filter(|kind| matches!(kind, NoticeKind::HealthCheckFailed { .. })).count()
    }
}

const PASS: Finding = Finding::Passed;
const FAIL: Finding = Finding::Failed;

#[test]
fn without_a_check_nothing_is_due() {
    let world = World::with([spec_with("web", |_| {})]);
    assert_eq!(world.supervisor.next_deadline(), None);
    assert!(world.process("web").health().is_none());
    assert_eq!(world.process("web").health_status(), None);
}

#[test]
fn a_server_that_is_soon_up_is_soon_known_to_be() {
    let mut world = World::with([checked("web", |_, _| {})]);
    assert_eq!(world.looks("web", [FAIL, FAIL, PASS]), [100, 150, 225]);
    assert_eq!(world.health("web"), HealthStatus::Healthy);
    assert_eq!(world.failures_told(), 0);
    // From then on the interval counts.
    assert_eq!(world.looks("web", [PASS, PASS]), [10_000, 10_000]);
    assert_eq!(world.process("web").health().unwrap().totals(), (3, 2));
}

#[test]
fn a_server_that_never_comes_is_blamed_from_the_first_regular_check_on() {
    let mut world = World::with([checked("web", |_, health| health.on_fail = OnFail::None)]);
    let begin = world.now;
    while world.failures_told() == 0 {
        world.look("web", FAIL);
    }
    let first = world.now.since(begin);
    assert!(first >= Duration::from_secs(10) && first < Duration::from_secs(11), "{first:?}");
    assert_eq!(world.health("web"), HealthStatus::Unknown);
    assert_eq!(world.look("web", FAIL), Duration::from_secs(10));
    assert_eq!(world.health("web"), HealthStatus::Unhealthy);
    assert_eq!(world.status("web"), Status::Online);
    // It is still looked at, and may recover.
    world.looks("web", [FAIL, PASS]);
    assert_eq!(world.failures_told(), 3);
    assert_eq!(world.health("web"), HealthStatus::Healthy);
    assert_eq!(world.process("web").restarts(), 0);
}

#[test]
fn failures_in_the_start_period_do_not_count_even_after_a_success() {
    let mut world = World::with([checked("web", |_, health| {
        health.start_period = Duration::from_secs(25);
    })]);
    let begin = world.now;
    world.looks("web", [PASS, FAIL, FAIL]);
    assert_eq!((world.health("web"), world.failures_told()), (HealthStatus::Healthy, 0));
    world.look("web", FAIL);
    assert!(world.now.since(begin) > Duration::from_secs(25));
    assert_eq!(world.failures_told(), 1);
}

#[test]
fn an_unhealthy_process_is_restarted_and_begins_anew() {
    let mut world = World::with([checked("web", |_, _| {})]);
    world.look("web", PASS);
    world.forget_effects();
    world.looks("web", [FAIL, PASS, FAIL, FAIL]);
    let words = world.words();
    let from = words.iter().position(|word| *word == "unhealthy").unwrap();
    assert_eq!(
        words[from..],
        [
            "unhealthy",
            "signal",
            "stopping",
            "unknown",
            "sweep",
            "release",
            "spawn",
            "restarting",
            "online",
            "restarted!"
        ]
    );
    assert_eq!(world.failures_told(), 3);
    let last = world.notices().last().map(|notice| notice.kind.clone());
    assert!(matches!(
        last,
        Some(NoticeKind::Restarted { restarts: 1, reason: RestartReason::Health, .. })
    ));
    assert_eq!(world.process("web").last_exit().unwrap().reason, ExitReason::Unhealthy);
    // The next child settles first, too.
    assert_eq!(world.looks("web", [FAIL, PASS]), [100, 150]);
    assert_eq!(world.health("web"), HealthStatus::Healthy);
}

#[test]
fn what_is_unhealthy_too_soon_too_often_is_given_up() {
    let mut world = World::with([checked("web", |spec, health| {
        health.interval = millis(50);
        health.retries = 1;
        spec.max_restarts = 3;
    })]);
    let mut pauses = vec![];
    while world.status("web") != Status::Errored {
        match world.process("web").retry_at() {
            Some(at) => {
                pauses.push(at.since(world.now).as_millis());
                world.wait();
            }
            None => {
                world.look("web", FAIL);
            }
        }
    }
    assert_eq!(pauses, [100, 150]);
    assert_eq!(world.supervisor.next_deadline(), None);
}

#[test]
fn what_is_never_restarted_by_itself_is_only_reported() {
    for restart in [Restart::Never, Restart::Once] {
        let mut world = World::with([checked("web", |spec, _| spec.restart = restart)]);
        world.looks("web", [PASS, FAIL, FAIL]);
        assert_eq!(world.health("web"), HealthStatus::Unhealthy);
        assert_eq!(world.status("web"), Status::Online);
    }
}

#[test]
fn a_check_that_could_not_be_made_says_nothing() {
    let mut world = World::with([checked("web", |_, _| {})]);
    world.looks("web", [PASS, FAIL, Finding::Nothing, Finding::Nothing]);
    assert_eq!((world.health("web"), world.failures_told()), (HealthStatus::Healthy, 1));
    world.look("web", FAIL);
    assert_eq!(world.process("web").restarts(), 1);
}

#[test]
fn the_first_success_is_readiness() {
    let mut world = World::with([checked("web", |spec, _| spec.wait_ready = true)]);
    assert_eq!(world.status("web"), Status::Starting);
    world.look("web", FAIL);
    assert_eq!(world.status("web"), Status::Starting);
    world.look("web", PASS);
    assert_eq!(world.status("web"), Status::Online);
    assert!(world.process("web").is_ready());
}

#[test]
fn a_success_may_come_after_readiness_was_overdue() {
    let mut world = World::with([checked("web", |spec, _| spec.wait_ready = true)]);
    while world.status("web") == Status::Starting {
        world.look("web", FAIL);
    }
    assert!(!world.process("web").is_ready());
    assert_eq!(world.failures_told(), 0);
    world.look("web", PASS);
    assert!(world.process("web").is_ready());
}

#[test]
fn a_stop_ends_the_checks_and_a_late_answer_is_harmless() {
    let mut world = World::with([checked("web", |_, _| {})]);
    world.deaf.insert("web".to_owned());
    world.look("web", PASS);
    let child = world.process("web").child().unwrap();
    while !world.asked.contains(&child) {
        world.wait();
    }
    world.command(Action::Stop { kill_timeout: None }, "web");
    assert_eq!(world.health("web"), HealthStatus::Unknown);
    world.answer(child, FAIL);
    world.pass(Duration::from_secs(100));
    assert_eq!((world.status("web"), world.failures_told()), (Status::Stopped, 0));
    assert_eq!(world.process("web").health_status(), Some(HealthStatus::Unknown));
    assert_eq!(world.supervisor.next_deadline(), None);
}

#[test]
fn a_check_that_needs_a_port_is_not_made_without_one() {
    let app = checked("web", |spec, health| {
        spec.instances = 2;
        spec.serving = Some(Box::new(Serving { port: Some(Ports::One(3000)), health: None }));
        health.check = Check::Tcp { host: "127.0.0.1".to_owned(), port: None };
    });
    let mut world = World::new();
    let effects = world.create(vec![app]);
    assert!(world.answered(effects));
    // The world gives no ports: neither has one.
    assert!(world.process("web:0").health().is_none());
    assert_eq!(world.process("web:1").health_status(), None);
    let app = checked("api", |spec, health| {
        spec.env.set("PORT", "3000");
        health.check = Check::Tcp { host: "127.0.0.1".to_owned(), port: None };
    });
    world.create(vec![app]);
    assert_eq!(world.process("api").serving_port(), Some(3000));
    assert_eq!(world.health("api"), HealthStatus::Unknown);
}

#[test]
fn who_waits_for_health_is_answered_when_it_comes() {
    let mut world = World::with([checked("web", |_, _| {}), spec_with("plain", |_| {})]);
    let wait = |world: &mut World, name: &str| {
        let targets = vec![Target::parse(name)];
        world.request(Request::Wait { targets, until: Until::Healthy, timeout: Some(millis(300)) })
    };
    let to = wait(&mut world, "web");
    world.look("web", FAIL);
    assert!(!world.answered(to));
    world.look("web", PASS);
    assert!(world.outcome(to).failure.is_none());
    let to = wait(&mut world, "plain");
    assert!(world.outcome(to).failure.is_some());
}

#[test]
fn a_dependent_waits_for_health() {
    let app = spec_with("app", |spec| spec.depends_on = vec![needs("db", Condition::Healthy)]);
    let db = checked("db", |_, health| health.on_fail = OnFail::None);
    let mut world = World::new();
    let to = world.create(vec![db, Rc::clone(&app)]);
    world.look("db", FAIL);
    assert!(world.process("app").is_waiting());
    world.look("db", PASS);
    assert_eq!(world.status("app"), Status::Online);
    assert!(world.answered(to));
    // What has turned unhealthy is no help to anybody.
    world.command(Action::Stop { kill_timeout: None }, "app");
    world.looks("db", [FAIL, FAIL]);
    let to = world.command(Action::Start, "app");
    assert!(world.outcome(to).failure.is_some());
    assert!(world.process("app").is_waiting());
    world.look("db", PASS);
    assert_eq!(world.status("app"), Status::Online);
    // Without a check, to be ready is enough.
    let world = World::with([spec_with("db", |_| {}), app]);
    assert_eq!(world.status("app"), Status::Online);
}

#[test]
fn a_successor_that_passes_takes_over_with_its_health() {
    let mut world = World::with([checked("web", |spec, _| spec.wait_ready = true)]);
    world.look("web", PASS);
    let old = world.process("web").child().unwrap();
    let to = world.command(Action::Reload { change: None }, "web");
    let new = *world.alive.last().unwrap();
    assert_ne!(new, old);
    while !world.asked.contains(&new) {
        world.wait();
    }
    world.answer(new, FAIL);
    assert_eq!(world.process("web").child(), Some(old));
    while !world.asked.contains(&new) {
        world.wait();
    }
    world.answer(new, PASS);
    assert!(world.outcome(to).failure.is_none());
    assert_eq!(world.process("web").child(), Some(new));
    assert_eq!(world.health("web"), HealthStatus::Healthy);
    // It is looked at as before.
    assert_eq!(world.look("web", PASS), Duration::from_secs(10));
    assert!(!world.alive.contains(&old));
}

#[test]
fn a_port_that_cannot_be_shared_makes_a_reload_a_restart() {
    let app = spec_with("web", |spec| {
        spec.wait_ready = true;
        spec.serving = Some(Box::new(Serving { port: Ports::parse("3000"), health: None }));
    });
    let mut world = World::new();
    world.ports = true;
    world.create(vec![app]);
    world.ready("web");
    assert_eq!(world.process("web").port(), Some(3000));
    let to = world.command(Action::Reload { change: None }, "web");
    assert_eq!(world.alive.len(), 1);
    world.ready("web");
    assert_eq!(world.outcome(to).restarted_instead, Some(Instead::SamePort));
}

#[test]
fn an_adopted_child_is_looked_at_again() {
    let world = World::with([checked("web", |_, _| {})]);
    let (snapshot, child) = (world.supervisor.snapshot(), world.process("web").child().unwrap());
    let adopted = Adopted {
        process: ProcId(0),
        child,
        pid: pid(child),
        started: world.clock(),
        restarts: 0,
        unstable: 0,
        ready: true,
        port: None,
    };
    let mut next = World::new();
    next.now = world.now.after(Duration::from_secs(60));
    let mut effects = Vec::new();
    next.alive.insert(child);
    next.supervisor =
        Supervisor::new().restore(next.clock(), snapshot, &[adopted], true, &mut effects);
    next.carry_out(effects);
    assert_eq!(next.look("web", FAIL), millis(100));
    assert_eq!(next.failures_told(), 1);
    next.look("web", PASS);
    assert_eq!(next.health("web"), HealthStatus::Healthy);
}
