//! Names, numbers and limits of rotated files.

use super::*;

#[test]
fn five_old_files_are_kept_and_the_newest_is_number_one() {
    let mut world = World::of(|_, plan| {
        plan.max_size = 10;
        plan.keep = 5;
    });
    for number in 0..9 {
        world.say(id(0), format!("line {number:03}\n").as_bytes());
    }
    assert_eq!(world.read("app.log"), "line 008\n");
    for number in 1..=5 {
        assert_eq!(world.read(&format!("app.log.{number}")), format!("line {:03}\n", 8 - number));
    }
    assert!(!world.place.file("app.log.6").exists());
}

#[test]
fn without_old_files_the_file_is_emptied() {
    for staged in [false, true] {
        let mut world = World::of(|_, plan| {
            plan.max_size = 10;
            plan.keep = 0;
            plan.shared = staged;
        });
        for number in 0..4 {
            world.say(id(0), format!("line {number:03}\n").as_bytes());
        }
        assert_eq!(world.read("app.log"), "line 003\n");
        assert!(!world.place.file("app.log.1").exists());
        world.say(id(0), b"begun");
        world.say(id(0), b" and ended\n");
        if !staged {
            assert_eq!(world.read("app.log"), "begun and ended\n");
        }
    }
}

#[test]
fn old_files_beyond_a_lowered_number_go() {
    let mut world = World::of(|_, plan| {
        plan.max_size = 10;
        plan.keep = 2;
    });
    for number in 1..=8 {
        fs::write(world.place.file(&format!("app.log.{number}")), "old\n").unwrap();
    }
    world.say(id(0), b"line 1111\nline 2222\n");
    assert_eq!(pieces(&world.place.file("app.log")).len(), 3);
    assert!(!world.place.file("app.log.8").exists());
}

#[test]
fn a_line_longer_than_the_file_may_be_stays_whole_up_to_its_own_limit() {
    let mut world = World::of(|_, plan| plan.max_size = 100);
    let line = "w".repeat(1000) + "\n";
    world.say(id(0), line.as_bytes());
    world.say(id(0), b"next\n");
    world.say(id(0), line.as_bytes());
    let pieces = pieces(&world.place.file("app.log"));
    assert_eq!(pieces[0], line.as_bytes());
    assert_eq!(pieces.concat(), [line.as_bytes(), b"next\n", line.as_bytes()].concat());
    assert!(pieces.iter().all(|piece| piece.is_empty() || piece.ends_with(b"\n")));
}

#[test]
fn one_endless_line_does_not_grow_a_file_for_ever() {
    let mut world = World::of(|_, plan| plan.max_size = 100_000);
    let text = vec![b'e'; 1_000_000];
    world.say(id(0), &text);
    let pieces = pieces(&world.place.file("app.log"));
    assert!(pieces.len() >= 10);
    assert!(pieces.iter().all(|piece| piece.len() <= 100_000));
    assert_eq!(pieces.concat().len(), text.len());
}

#[test]
fn rotating_by_hand_moves_an_unfinished_line_along() {
    let mut world = World::of(|_, _| {});
    world.logs.rotate(id(0)).unwrap();
    assert!(!world.place.file("app.log.1").exists());
    world.say(id(0), b"one\ntwo and");
    world.logs.rotate(id(0)).unwrap();
    world.say(id(0), b" more\n");
    assert_eq!(world.read("app.log.1"), "one\n");
    assert_eq!(world.read("app.log"), "two and more\n");
}

#[test]
fn flushing_empties_everything() {
    let mut world = World::of(|_, plan| plan.max_size = 10);
    world.say(id(0), b"line 0001\nline 0002\nline 0003\n");
    world.logs.flush(id(0)).unwrap();
    assert_eq!(whole(&world.place.file("app.log")), b"");
    world.say(id(0), b"again\n");
    assert_eq!(world.read("app.log"), "again\n");
}

#[test]
fn all_files_together_stay_below_the_cap_and_the_oldest_go_first() {
    let mut world = World::with_total(Some(200_000));
    let ids = [0, 1].map(|n| {
        world.add(|place, plan| {
            plan.target = Some(place.file(&format!("app{n}.log")));
            plan.max_size = 20_000;
            plan.keep = 50;
        })
    });
    let mut written = [0; 2];
    for round in 0..200 {
        let which = usize::from(round % 4 == 0);
        let text = numbered_lines(40, 100);
        world.say(ids[which], &text);
        written[which] += text.len();
        let sizes = [0, 1].map(|n| whole(&world.place.file(&format!("app{n}.log"))).len());
        assert!(sizes.iter().sum::<usize>() <= 200_000 + 2500, "round {round}: {sizes:?}");
    }
    assert!(written.iter().sum::<usize>() > 300_000);
    let newest = pieces(&world.place.file("app0.log"));
    assert!(newest.len() > 2, "only {} files are left", newest.len());
}

/// On a disk of 512 KiB the cap is 51 KiB: a file that is being written must be able to pass it.
#[test]
fn the_cap_takes_nothing_from_a_file_that_is_being_written() {
    let mut world = World::with_total(Some(100_000));
    world.add(|_, plan| plan.keep = 3);
    let mut written = 0;
    for _ in 0..100 {
        let text = numbered_lines(50, 100);
        world.say(id(0), &text);
        written += text.len();
    }
    assert_eq!(whole(&world.place.file("app.log")).len(), written);
}

#[test]
fn a_file_that_cannot_be_rotated_grows_on_and_is_told_of_once() {
    let mut world = World::of(|_, plan| {
        plan.max_size = 10;
        plan.keep = 1;
    });
    // A directory with something in it where the rotated file should go.
    fs::create_dir_all(world.place.file("app.log.1/full")).unwrap();
    world.say(id(0), b"line 0001\nline 0002\nline 0003\n");
    world.say(id(0), b"line 0004\n");
    assert_eq!(world.read("app.log").lines().count(), 4);
    let events = world.events();
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(matches!(&events[0], LogEvent::RotateFailed { .. }));
}
