//! Files that cannot be written: dropped or kept waiting, told once, never silent, never a spin.

use super::*;

/// A file stands where the log's directory should be, until it is removed.
fn blocked(place: &Place, plan: &mut StreamPlan) {
    fs::write(place.file("dir"), "").unwrap();
    plan.target = Some(place.file("dir/app.log"));
}

fn unblock(world: &World) {
    fs::remove_file(world.place.file("dir")).unwrap();
    world.pass(60_000);
}

#[test]
fn bytes_are_dropped_counted_and_reported() {
    for staged in [false, true] {
        let mut world = World::of(|place, plan| {
            blocked(place, plan);
            plan.shared = staged;
        });
        for _ in 0..5 {
            world.write(id(0), b"lost\n");
            let pumped = world.pump(id(0));
            assert!(pumped.drained && pumped.retry.is_some(), "{staged} {pumped:?}");
        }
        assert_eq!(world.logs.dropped_bytes(id(0)), 25);
        let path: Rc<Path> = world.place.file("dir/app.log").into();
        let (policy, reason) = (LogFull::Drop, "not a directory".into());
        let full = LogEvent::Full { id: id(0), path: path.clone(), policy, reason };
        assert_eq!(world.events(), [full]);
        unblock(&world);
        world.write(id(0), b"kept\n");
        assert_eq!(world.pump(id(0)), Pumped { moved: 5, drained: true, retry: None });
        assert_eq!(world.read("dir/app.log"), "pmd: 25 bytes dropped\nkept\n");
        assert_eq!(world.events(), [LogEvent::Resumed { id: id(0), path, dropped: 25 }]);
        assert_eq!(world.logs.trouble(id(0)), None);
    }
}

#[test]
fn the_report_is_written_even_if_the_app_stays_silent() {
    for staged in [false, true] {
        let mut world = World::of(|place, plan| {
            blocked(place, plan);
            plan.shared = staged;
        });
        world.write(id(0), b"lost\n");
        assert!(world.pump(id(0)).retry.is_some());
        unblock(&world);
        assert_eq!(world.pump(id(0)).retry, None);
        assert_eq!(world.read("dir/app.log"), "pmd: 5 bytes dropped\n");
    }
}

#[test]
fn bytes_wait_in_the_pipe_where_the_log_is_the_record() {
    let mut world = World::of(|place, plan| {
        blocked(place, plan);
        plan.full = LogFull::Block;
    });
    world.write(id(0), b"waits\n");
    let pumped = world.pump(id(0));
    assert_eq!((pumped.moved, pumped.drained), (0, false));
    assert!(pumped.retry.is_some());
    assert_eq!(world.left_in_pipe(id(0)), 6);
    unblock(&world);
    world.pump(id(0));
    assert_eq!(world.read("dir/app.log"), "waits\n");
    let events = world.events();
    assert!(matches!(events[0], LogEvent::Full { .. }));
    assert!(matches!(events[1], LogEvent::Resumed { dropped: 0, .. }));
    assert_eq!(events.len(), 2);
}

#[test]
fn a_waiting_stream_fills_its_stage_and_then_its_pipe() {
    let mut world = World::of(|place, plan| {
        blocked(place, plan);
        plan.full = LogFull::Block;
        plan.shared = true;
    });
    let text = numbered_lines(5000, 100);
    let mut sent = 0;
    for part in text.chunks(10_000) {
        world.write(id(0), part);
        sent += part.len();
        world.pump(id(0));
        if world.left_in_pipe(id(0)) > 0 {
            break;
        }
    }
    assert_eq!(sent - world.left_in_pipe(id(0)), 256 * 1024);
    let pumped = world.pump(id(0));
    assert_eq!((pumped.moved, pumped.drained), (0, false));
    unblock(&world);
    world.pump(id(0));
    world.finish(id(0));
    let kept = fs::read(world.place.file("dir/app.log")).unwrap();
    assert!(kept.starts_with(&text[..sent]));
}

#[test]
fn an_unfinished_line_that_must_wait_is_not_joined_to_the_next_childs() {
    let mut world = World::of(|place, plan| {
        blocked(place, plan);
        plan.full = LogFull::Block;
        plan.shared = true;
    });
    for words in ["first child", "second child"] {
        world.write(id(0), words.as_bytes());
        world.pump(id(0));
        world.finish(id(0));
    }
    unblock(&world);
    world.pump(id(0));
    assert_eq!(world.read("dir/app.log"), "first child\nsecond child\n");
}

#[test]
fn a_file_that_failed_is_left_alone_for_growing_pauses() {
    let mut world = World::of(blocked);
    let mut pauses = Vec::new();
    for _ in 0..10 {
        world.write(id(0), b"x");
        let pause = world.pump(id(0)).retry.unwrap().as_millis();
        pauses.push(pause);
        world.pass(u64::try_from(pause).unwrap());
    }
    assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000, 5000]);
    assert_eq!(world.events().len(), 1);
}

#[test]
fn one_of_two_files_fails_and_the_other_goes_on() {
    let mut world = World::of(|place, plan| {
        blocked(place, plan);
        plan.both = Some(place.file("both.log"));
    });
    world.write(id(0), b"one\n");
    assert!(world.pump(id(0)).retry.is_some());
    assert_eq!(world.read("both.log"), "one\n");
    assert_eq!(world.logs.dropped_bytes(id(0)), 4);
    unblock(&world);
    world.say(id(0), b"two\n");
    assert_eq!(world.read("both.log"), "one\ntwo\n");
    assert_eq!(world.read("dir/app.log"), "pmd: 4 bytes dropped\ntwo\n");
}

#[test]
fn watchers_see_what_the_disk_does_not_take() {
    let mut world = World::of(blocked);
    world.logs.watch(id(0), true);
    world.write(id(0), b"seen\n");
    world.pump(id(0));
    assert_eq!(world.shown(), ["seen"]);
}

#[test]
fn a_stage_that_cannot_be_written_is_like_a_full_disk() {
    let mut world = World::of(|_, plan| plan.shared = true);
    fs::write(world.place.file("stage"), "").unwrap();
    world.write(id(0), b"lost\n");
    let pumped = world.pump(id(0));
    assert!(pumped.drained && pumped.retry.is_some());
    fs::remove_file(world.place.file("stage")).unwrap();
    world.say(id(0), b"kept\n");
    assert_eq!(world.read("app.log"), "pmd: 5 bytes dropped\nkept\n");
    assert_eq!(world.events().len(), 2);
}

/// A file system of its own, of so many bytes.
struct Disk(PathBuf);

impl Disk {
    /// `None`: this needs root.
    #[allow(clippy::disallowed_methods)] // a test may run `mount`
    fn new(at: PathBuf, size: u64) -> Option<Self> {
        fs::create_dir(&at).unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "pmd-test"]).arg(&at);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then_some(Self(at))
    }
}

impl Drop for Disk {
    #[allow(clippy::disallowed_methods)]
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// A stream on a small disk; `None` without the right to mount one.
fn on_small_disk(change: impl FnOnce(&mut StreamPlan)) -> Option<(World, Disk)> {
    on_disk(1024 * 1024, change)
}

fn on_disk(size: u64, change: impl FnOnce(&mut StreamPlan)) -> Option<(World, Disk)> {
    let mut world = World::with_total(Some(1 << 40));
    let disk = Disk::new(world.place.file("disk"), size)?;
    world.add(|place, plan| {
        plan.target = Some(place.file("disk/app.log"));
        change(plan);
    });
    Some((world, disk))
}

/// Told once, however many files went.
fn assert_only_room_was_made(world: &mut World) {
    let events = world.events();
    assert!(matches!(events.as_slice(), [LogEvent::SpaceLow { removed: 1.., .. }]), "{events:?}");
}

#[test]
fn rotated_files_make_room_on_a_full_disk() {
    for staged in [false, true] {
        let Some((mut world, _disk)) = on_small_disk(|plan| {
            plan.max_size = 100_000;
            plan.keep = 1000;
            plan.shared = staged;
        }) else {
            return;
        };
        let text = numbered_lines(60_000, 100);
        world.say(id(0), &text);
        assert_only_room_was_made(&mut world);
        assert_eq!(world.logs.dropped_bytes(id(0)), 0);
        let kept = whole(&world.place.file("disk/app.log"));
        assert!(kept.len() > 500_000, "{}", kept.len());
        assert!(text.ends_with(&kept));
    }
}

#[test]
fn rotated_files_leave_some_of_the_disk_free() {
    let size = 8 * 1024 * 1024;
    let Some((mut world, disk)) = on_disk(size, |plan| plan.max_size = 500_000) else {
        return;
    };
    for part in numbered_lines(200_000, 100).chunks(20_000) {
        world.say(id(0), part);
        let room = sys::dir::space_at(&disk.0).unwrap();
        assert!(room.free * 100 >= room.total, "{room:?}");
    }
    assert!(whole(&world.place.file("disk/app.log")).len() > 5_000_000);
}

#[test]
fn a_disk_that_others_fill_gets_the_rotated_files_back() {
    for staged in [false, true] {
        let Some((mut world, disk)) = on_small_disk(|plan| {
            plan.max_size = 50_000;
            plan.shared = staged;
        }) else {
            return;
        };
        world.say(id(0), &numbered_lines(6000, 100));
        let free = sys::dir::space_at(&disk.0).unwrap().free;
        fs::write(disk.0.join("ballast"), vec![0; usize::try_from(free).unwrap()]).unwrap();
        world.say(id(0), &numbered_lines(200, 100));
        assert_only_room_was_made(&mut world);
        assert!(whole(&world.place.file("disk/app.log")).ends_with(&numbered_lines(200, 100)));
    }
}

#[test]
fn on_a_full_disk_every_byte_is_written_or_counted() {
    for staged in [false, true] {
        let Some((mut world, _disk)) = on_small_disk(|plan| plan.shared = staged) else {
            return;
        };
        let text = numbered_lines(40_000, 100);
        for part in text.chunks(50_000) {
            world.write(id(0), part);
            assert!(world.pump(id(0)).drained);
        }
        assert!(matches!(&world.events()[..], [LogEvent::Full { reason, .. }]
            if &**reason == "no space left on device"));
        let dropped = usize::try_from(world.logs.dropped_bytes(id(0))).unwrap();
        let kept = fs::read(world.place.file("disk/app.log")).unwrap();
        assert!(text.starts_with(&kept));
        world.finish(id(0));
        let dropped_later = usize::try_from(world.logs.dropped_bytes(id(0))).unwrap();
        assert!(kept.len() + dropped_later >= text.len() && dropped > 500_000);
        assert_eq!(kept.len() + dropped_later, text.len() + dropped_later - dropped);
        // Room again, by another's hand.
        let copy = world.place.file("copy");
        fs::write(&copy, &kept).unwrap();
        world.logs.flush(id(0)).unwrap();
        world.pass(60_000);
        world.say(id(0), b"again\n");
        let expected = format!("pmd: {dropped_later} bytes dropped\nagain\n");
        assert_eq!(world.read("disk/app.log"), expected);
    }
}

#[test]
fn on_a_full_disk_the_record_waits() {
    for staged in [false, true] {
        let Some((mut world, _disk)) = on_small_disk(|plan| {
            plan.full = LogFull::Block;
            plan.shared = staged;
        }) else {
            return;
        };
        let text = numbered_lines(40_000, 100);
        let mut rest = &text[..];
        while world.left_in_pipe(id(0)) == 0 {
            let (part, after) = rest.split_at(50_000);
            world.write(id(0), part);
            world.pump(id(0));
            rest = after;
        }
        let before = fs::read(world.place.file("disk/app.log")).unwrap();
        world.logs.flush(id(0)).unwrap();
        world.pass(60_000);
        world.pump(id(0));
        world.say(id(0), rest.get(..100_000).unwrap());
        let after = fs::read(world.place.file("disk/app.log")).unwrap();
        let all = [before, after].concat();
        assert!(text.starts_with(&all));
        assert!(all.len() + 200 >= text.len() - rest.len() + 100_000);
        assert_eq!(world.logs.dropped_bytes(id(0)), 0);
    }
}
