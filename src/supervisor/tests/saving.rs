//! What is written down, and beginning again from it.

use super::*;
use crate::supervisor::spec::{Environment, Restart};
use crate::supervisor::{Adopted, Goal, Snapshot};

fn adopted(process: u32, child: u64) -> Adopted {
    Adopted {
        process: ProcId(process),
        child: ChildId(child),
        pid: pid(ChildId(child)),
        started: Now::default(),
        restarts: 4,
        unstable: 1,
        ready: true,
        port: None,
    }
}

fn restore(snapshot: Snapshot, adopted: &[Adopted], start: bool) -> World {
    let mut world = World::new();
    let mut effects = Vec::new();
    world.supervisor =
        Supervisor::new().restore(world.clock(), snapshot, adopted, start, &mut effects);
    world.alive = adopted.iter().map(|it| it.child).collect();
    world.carry_out(effects);
    world
}

fn environment(shell: &str) -> Rc<Environment> {
    Rc::new([("SHELL", shell)].into_iter().collect())
}

#[test]
fn a_snapshot_survives_being_written_down() {
    let mut world = World::with([
        spec_with("web", |it| {
            it.instances = 2;
            it.inherited = environment("/bin/sh");
        }),
        spec_with("db", |it| it.inherited = environment("/bin/sh")),
        spec_with("job", |it| {
            it.inherited = environment("/bin/dash");
            it.restart = Restart::Once;
        }),
    ]);
    world.exit("job", 0);
    let snapshot = world.supervisor.snapshot();
    let text = serde_json::to_string(&snapshot).unwrap();
    assert_eq!(text.matches("/bin/sh").count(), 1, "each environment once: {text}");
    assert_eq!(text.matches("/bin/app").count(), 3, "each definition once: {text}");
    let read: Snapshot = serde_json::from_str(&text).unwrap();

    let world = restore(read, &[], true);
    let again = world.supervisor.snapshot();
    assert_eq!(serde_json::to_string(&again).unwrap().matches("/bin/sh").count(), 1);
    let process = world.process("web:1");
    assert_eq!(process.spec().inherited.get("SHELL"), Some("/bin/sh"));
    assert!(Rc::ptr_eq(process.spec(), world.process("web:0").spec()));
    assert_eq!(world.status("web:1"), Status::Online);
    assert!(world.process("job").is_done());
    assert_eq!(world.process("job").goal(), Goal::Down);
}

#[test]
fn what_survived_is_adopted_and_the_rest_is_started() {
    let mut world =
        World::with([spec_with("a", |_| {}), spec_with("b", |_| {}), spec_with("c", |_| {})]);
    world.command(Action::Stop { kill_timeout: None }, "c");
    let snapshot = world.supervisor.snapshot();

    let mut world = restore(snapshot, &[adopted(0, 90)], true);
    assert_eq!(
        world.words(),
        ["online", "adopted!", "spawn", "starting", "stopped", "online", "started!"]
    );
    assert_eq!(world.process("a").child(), Some(ChildId(90)));
    assert_eq!(world.process("a").restarts(), 4);
    assert_eq!(world.process("b").child(), Some(ChildId(91)), "numbers are never used again");
    assert_eq!(world.status("c"), Status::Stopped);
    world.pass(millis(5000));
    world.exit("a", 1);
    assert_eq!(world.status("a"), Status::Online);
}

#[test]
fn child_numbers_can_be_reserved() {
    let mut world = World::new();
    world.supervisor.reserve_children(ChildId(500));
    world.create(vec![spec_with("a", |_| {})]);
    assert_eq!(world.process("a").child(), Some(ChildId(501)));
}

#[test]
fn without_start_everything_keeps_its_goal_and_waits_to_be_asked() {
    let world = World::with([spec_with("a", |_| {})]);
    let mut world = restore(world.supervisor.snapshot(), &[], false);
    assert_eq!((world.status("a"), world.process("a").goal()), (Status::Stopped, Goal::Up));
    world.command(Action::Start, "all");
    assert_eq!(world.status("a"), Status::Online);
}

#[test]
fn an_adopted_child_that_should_not_run_is_stopped() {
    let mut world = World::with([spec_with("a", |_| {}), spec_with("b", |_| {})]);
    world.deaf.insert("b".to_owned());
    world.command(Action::Stop { kill_timeout: None }, "a");
    world.command(Action::Delete, "b");
    let world = restore(world.supervisor.snapshot(), &[adopted(0, 90), adopted(1, 91)], true);
    assert_eq!(world.status("a"), Status::Stopped);
    assert_eq!(world.supervisor.processes().count(), 1, "what was to go goes");
    assert!(world.alive.is_empty());
}

#[test]
fn a_restored_table_starts_in_order() {
    let web = spec_with("web", |it| it.depends_on = vec![needs("db", Condition::Ready)]);
    let db = spec_with("db", |it| it.wait_ready = true);
    let world = World::with([web, db]);
    let mut world = restore(world.supervisor.snapshot(), &[], true);
    assert!(world.process("web").is_waiting());
    world.ready("db");
    assert_eq!(world.status("web"), Status::Online);
}

#[test]
fn of_two_children_of_one_process_the_one_that_is_ready_stays() {
    let world = World::with([spec_with("web", |it| it.wait_ready = true)]);
    let snapshot = world.supervisor.snapshot();
    let starting = Adopted { ready: false, ..adopted(0, 91) };
    let world = restore(snapshot.clone(), &[adopted(0, 90), starting], true);
    assert_eq!(world.process("web").child(), Some(ChildId(90)));
    assert_eq!(world.alive.len(), 1);
    let world = restore(snapshot, &[adopted(0, 91), adopted(0, 90)], true);
    assert_eq!(world.process("web").child(), Some(ChildId(91)));
    assert_eq!(world.alive.len(), 1);
}

#[test]
fn a_state_file_that_makes_no_sense_is_survived() {
    let text = r#"{"next_id":0,"next_child":0,"environments":[],"definitions":[],
        "processes":[{"id":3,"instance":0,"goal":"up","created_at":0,"definition":7}]}"#;
    let world = restore(serde_json::from_str(text).unwrap(), &[adopted(3, 5)], true);
    assert_eq!(world.supervisor.processes().count(), 0);
    assert_eq!(world.words(), ["release"]);
}

#[test]
fn a_circle_in_a_state_file_does_not_hang_the_shutdown() {
    let mut world = World::with([
        spec_with("a", |_| {}),
        spec_with("b", |it| {
            it.depends_on = vec![needs("a", Condition::Ready)];
        }),
    ]);
    let mut text = serde_json::to_value(world.supervisor.snapshot()).unwrap();
    text["definitions"][0]["spec"]["depends_on"] =
        serde_json::json!([{ "name": "b", "condition": "ready" }]);
    world = restore(serde_json::from_value(text).unwrap(), &[adopted(0, 90), adopted(1, 91)], true);
    let to = world.request(Request::Shutdown);
    assert_eq!(world.replies[&to], Reply::Stopped);
}

#[test]
fn automatic_restarts_are_not_saved() {
    let mut world = World::with([spec_with("a", |_| {})]);
    world.forget_effects();
    for _ in 0..3 {
        world.exit("a", 1);
        world.wait();
    }
    assert!(!world.words().contains(&"save"));
}
