//! Entering apps, names, instances, new definitions.

use super::*;
use crate::supervisor::Goal;
use crate::supervisor::spec::MAX_INSTANCES;
use crate::supervisor::vocabulary::{Failure, Refusal, Scale};

fn refusal(world: &World, to: ReplyTo) -> &Refusal {
    match &world.replies[&to] {
        Reply::Refused(refusal) => refusal,
        other @ (Reply::Outcomes(_) | Reply::Stopped) => panic!("not refused: {other:?}"),
    }
}

fn instances(world: &World, name: &str) -> Vec<u32> {
    let ids = world.supervisor.resolve(&Target::Name(name.to_owned()));
    ids.iter().map(|&id| world.supervisor.process(id).unwrap().instance()).collect()
}

#[test]
fn ids_count_up_and_begin_anew_with_an_empty_table() {
    let mut world = World::with([spec_with("a", |_| {}), spec_with("b", |_| {})]);
    world.command(Action::Delete, "b");
    world.create(vec![spec_with("c", |_| {})]);
    assert_eq!(ids(&world.supervisor.resolve(&Target::All)), [0, 2]);
    world.command(Action::Delete, "all");
    world.create(vec![spec_with("d", |_| {})]);
    assert_eq!(ids(&world.supervisor.resolve(&Target::All)), [0]);
}

#[test]
fn without_autostart_it_is_entered_and_left_alone() {
    let mut world = World::new();
    let to = world.create(vec![spec_with("web", |it| it.autostart = false)]);
    assert_eq!(world.words(), ["stopped", "save", "reply"]);
    assert!(world.outcome(to).changed);
    assert_eq!(world.process("web").goal(), Goal::Down);
}

#[test]
fn the_same_definition_again_starts_what_does_not_run() {
    let mut world = World::with([spec_with("web", |it| it.instances = 2)]);
    world.command(Action::Stop { kill_timeout: None }, "web:1");
    let to = world.create(vec![spec_with("web", |it| it.instances = 2)]);
    let changed: Vec<bool> = world.outcomes(to).iter().map(|it| it.changed).collect();
    assert_eq!(changed, [false, true]);
    assert_eq!(world.status("web:1"), Status::Online);
}

#[test]
fn a_name_in_use_refuses_the_whole_request() {
    let mut world = World::with([spec_with("web", |_| {})]);
    let apps = vec![
        spec_with("new", |_| {}),
        spec_with("web", |it| {
            it.args = ["-v"].iter().collect();
            it.wait_ready = true;
        }),
    ];
    let to = world.create(apps);
    let expected =
        Refusal::NameTaken { name: "web".to_owned(), fields: vec!["args", "wait_ready"] };
    assert_eq!(refusal(&world, to), &expected);
    assert_eq!(world.supervisor.processes().count(), 1);
}

#[test]
fn requests_that_cannot_be_are_refused_as_a_whole() {
    let depends = |on: &str| {
        let on = on.to_owned();
        move |it: &mut AppSpec| it.depends_on = vec![needs(&on, Condition::Ready)]
    };
    let cases = [
        (vec![spec_with("a", |_| {}), spec_with("a", |_| {})], "a is defined twice"),
        (
            vec![spec_with("a", |it| it.instances = MAX_INSTANCES + 1)],
            "a cannot have 1025 instances: 1 to 1024",
        ),
        (vec![spec_with("a", depends("b"))], "a depends on b, which does not exist"),
        (
            vec![
                spec_with("a", depends("b")),
                spec_with("b", depends("c")),
                spec_with("c", depends("b")),
            ],
            "apps depend on each other in a circle: b, c",
        ),
    ];
    for (apps, reason) in cases {
        let mut world = World::new();
        let to = world.create(apps);
        assert_eq!(refusal(&world, to), &Refusal::Invalid(reason.to_owned()));
        assert_eq!(world.words(), ["reply"]);
    }
}

#[test]
fn what_is_being_deleted_is_neither_taken_over_nor_depended_on() {
    let mut world = World::with([spec_with("web", |_| {})]);
    world.deaf.insert("web".to_owned());
    world.command(Action::Delete, "web");
    let to = world.create(vec![spec_with("web", |_| {})]);
    assert_eq!(refusal(&world, to), &Refusal::Invalid("web is being deleted".to_owned()));
    let depends = |it: &mut AppSpec| it.depends_on = vec![needs("web", Condition::Ready)];
    let to = world.create(vec![spec_with("a", depends)]);
    let reason = "a depends on web, which does not exist".to_owned();
    assert_eq!(refusal(&world, to), &Refusal::Invalid(reason));
    world.wait();
    world.create(vec![spec_with("web", |_| {})]);
    assert_eq!(world.status("web:0"), Status::Online);
}

#[test]
fn rename_takes_the_first_free_name() {
    let mut world = World::with([spec_with("web", |_| {}), spec_with("web-2", |_| {})]);
    let apps =
        vec![spec_with("web", |it| it.args = ["x"].iter().collect()), spec_with("web", |_| {})];
    world.create_as(apps, Existing::Rename);
    let names: Vec<&str> = world.supervisor.processes().map(|it| it.name().as_ref()).collect();
    assert_eq!(names, ["web", "web-2", "web-3", "web-4"]);
    assert_eq!(&*world.process("web-3").spec().name, "web-3");
}

#[test]
fn replace_takes_over_definition_and_instances_and_restarts() {
    let mut world = World::with([spec_with("web", |it| it.instances = 3)]);
    let pids: Vec<_> = world.supervisor.processes().map(|it| it.pid()).collect();
    world.forget_effects();
    let apps = vec![spec_with("web", |it| {
        it.instances = 2;
        it.args = ["x"].iter().collect();
        it.namespace = "other".into();
    })];
    let to = world.create_as(apps, Existing::Replace);
    assert_eq!(world.outcomes(to).len(), 3);
    assert_eq!(instances(&world, "web"), [0, 1]);
    for (process, pid) in world.supervisor.processes().zip(pids) {
        assert_ne!(process.pid(), pid);
        assert_eq!(process.spec().args, ["x"]);
        assert_eq!(process.running_spec().args, ["x"]);
        assert_eq!(process.namespace().as_ref(), "other");
    }
    let fields = vec!["args", "namespace", "instances"];
    assert!(
        world
            .notices()
            .iter()
            .any(|it| it.kind == NoticeKind::ConfigChanged { fields: fields.clone() })
    );
}

#[test]
fn the_old_child_is_stopped_as_its_own_definition_says() {
    let mut world = World::with([spec_with("web", |it| it.kill_signal = Signal::TERM)]);
    world.forget_effects();
    world.create_as(vec![spec_with("web", |it| it.kill_signal = Signal::INT)], Existing::Replace);
    assert!(
        matches!(world.done[1], Effect::Signal { signal: Signal::TERM, .. }),
        "{:?}",
        world.done[1]
    );
}

#[test]
fn apply_leaves_what_is_unchanged_and_reloads_what_changed() {
    let mut world = World::with([spec_with("same", |_| {}), spec_with("web", |_| {})]);
    let same = world.pid("same");
    let apps = vec![
        spec_with("same", |_| {}),
        spec_with("web", |it| it.args = ["x"].iter().collect()),
        spec_with("new", |_| {}),
    ];
    let to = world.create_as(apps, Existing::Apply);
    assert_eq!(world.pid("same"), same);
    assert_eq!(world.process("web").spec().args, ["x"]);
    let changed: Vec<bool> = world.outcomes(to).iter().map(|it| it.changed).collect();
    assert_eq!(changed, [false, true, true]);
    assert!(world.outcomes(to)[1].restarted_instead.is_some());
}

#[test]
fn apply_of_another_number_of_instances_only_scales() {
    let mut world = World::with([spec_with("web", |it| it.instances = 2)]);
    let pid = world.pid("web:0");
    let to = world.create_as(vec![spec_with("web", |it| it.instances = 3)], Existing::Apply);
    assert_eq!(world.outcomes(to).len(), 3);
    assert_eq!(world.pid("web:0"), pid);
    assert_eq!(world.status("web:2"), Status::Online);
    assert!(world.supervisor.processes().all(|it| it.spec().instances == 3));
    world.create_as(vec![spec_with("web", |it| it.instances = 1)], Existing::Apply);
    assert_eq!(instances(&world, "web"), [0]);
    assert_eq!(world.pid("web:0"), pid);
}

#[test]
fn scale_takes_the_lowest_free_numbers_and_gives_back_the_highest() {
    let mut world = World::with([spec_with("web", |it| it.instances = 3)]);
    world.command(Action::Delete, "web:1");
    world.command(Action::Scale(Scale::Up(2)), "web");
    assert_eq!(instances(&world, "web"), [0, 2, 1, 3]);
    let to = world.command(Action::Scale(Scale::Down(3)), "web");
    assert_eq!(instances(&world, "web"), [0]);
    assert_eq!(world.outcomes(to).len(), 3);
    let to = world.command(Action::Scale(Scale::To(1)), "web");
    assert!(!world.outcome(to).changed);
    assert_eq!(world.process("web").spec().instances, 1);
}

#[test]
fn scale_has_limits() {
    let mut world = World::with([spec_with("web", |_| {})]);
    for scale in [Scale::To(0), Scale::Down(2), Scale::Up(u32::MAX), Scale::To(MAX_INSTANCES + 1)] {
        let to = world.command(Action::Scale(scale), "web");
        assert!(matches!(world.outcome(to).failure, Some(Failure::Invalid(_))), "{scale:?}");
    }
    assert_eq!(instances(&world, "web"), [0]);
    world.command(Action::Scale(Scale::To(MAX_INSTANCES)), "web");
    assert_eq!(instances(&world, "web").len(), 1024);
}

#[test]
fn instances_share_one_definition_and_stay_small() {
    let world = World::with([spec_with("web", |it| it.instances = 1000)]);
    let first = world.process("web:0").spec();
    assert!(world.supervisor.processes().all(|it| Rc::ptr_eq(it.spec(), first)));
    let size = size_of::<Process>();
    assert!(size <= 400, "{size} bytes");
}
