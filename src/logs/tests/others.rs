//! Others touch the files too: logrotate, `rm`, editors.

use super::*;

#[test]
fn a_file_cut_by_others_goes_on_at_its_new_end() {
    for staged in [false, true] {
        let mut world = World::of(|_, plan| plan.shared = staged);
        world.say(id(0), b"before\n");
        File::options().write(true).open(world.place.file("app.log")).unwrap().set_len(0).unwrap();
        world.say(id(0), b"after\n");
        assert_eq!(world.read("app.log"), "after\n");
    }
}

#[test]
fn a_file_removed_by_others_is_made_anew_with_its_directory() {
    for staged in [false, true] {
        let mut world = World::of(|place, plan| {
            plan.target = Some(place.file("sub/app.log"));
            plan.shared = staged;
        });
        world.say(id(0), b"before\n");
        fs::remove_dir_all(world.place.file("sub")).unwrap();
        world.say(id(0), b"after\n");
        assert_eq!(world.read("sub/app.log"), "after\n");
    }
}

#[test]
fn a_file_renamed_by_others_is_followed_until_it_is_reopened() {
    let mut world = World::of(|_, _| {});
    world.say(id(0), b"one\n");
    fs::rename(world.place.file("app.log"), world.place.file("app.log-2023")).unwrap();
    world.say(id(0), b"two\n");
    world.logs.reopen();
    world.say(id(0), b"three\n");
    assert_eq!(world.read("app.log-2023"), "one\ntwo\n");
    assert_eq!(world.read("app.log"), "three\n");
}

#[test]
fn rotated_files_that_others_removed_are_not_missed() {
    let mut world = World::of(|_, plan| {
        plan.max_size = 10;
        plan.keep = 4;
    });
    for number in 0..5 {
        world.say(id(0), format!("line {number:03}\n").as_bytes());
    }
    fs::remove_file(world.place.file("app.log.1")).unwrap();
    fs::remove_file(world.place.file("app.log.3")).unwrap();
    for number in 5..15 {
        world.say(id(0), format!("line {number:03}\n").as_bytes());
    }
    assert_eq!(pieces(&world.place.file("app.log")).len(), 5);
    assert!(world.events().is_empty());
}

#[test]
fn what_is_no_file_is_refused_with_a_reason() {
    let mut world = World::of(|_, plan| plan.target = Some("/dev/zero".into()));
    world.write(id(0), b"x\n");
    world.pump(id(0));
    assert!(matches!(&world.events()[..], [LogEvent::Full { reason, .. }]
        if &**reason == "not a regular file"));
    assert_eq!(world.logs.trouble(id(0)), Some(("not a regular file", false)));
}

#[test]
fn root_does_not_follow_a_link_in_a_directory_of_others() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    if sys::process::effective_uid() != 0 {
        return;
    }
    let mut world = World::of(|place, plan| plan.target = Some(place.file("open/app.log")));
    let open = world.place.file("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    symlink(world.place.file("precious"), open.join("app.log")).unwrap();
    world.write(id(0), b"x\n");
    world.pump(id(0));
    assert!(!world.place.file("precious").exists());
    assert!(matches!(&world.events()[..], [LogEvent::Full { .. }]));
    fs::remove_file(open.join("app.log")).unwrap();
    world.pass(60_000);
    world.say(id(0), b"y\n");
    assert_eq!(world.read("open/app.log"), "pmd: 2 bytes dropped\ny\n");
    let mode = fs::metadata(open.join("app.log")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
}

#[test]
fn a_stage_that_somebody_left_is_not_taken_for_ours() {
    let mut world = World::of(|_, plan| plan.shared = true);
    fs::create_dir(world.place.file("stage")).unwrap();
    fs::write(world.place.file("stage/0-out.stage"), "not\nours\n").unwrap();
    world.restart();
    world.say(id(0), b"ours\n");
    assert_eq!(world.read("app.log"), "ours\n");
}
