//! Lines read back: by watchers as they come, from the files afterwards.

use super::*;

fn texts(lines: &[LogLine]) -> Vec<String> {
    lines.iter().map(|line| String::from_utf8_lossy(&line.bytes).into_owned()).collect()
}

#[test]
fn watchers_see_each_line_once_it_is_whole() {
    for staged in [false, true] {
        let mut world = World::of(|_, plan| plan.shared = staged);
        world.say(id(0), b"unseen\n");
        world.logs.watch(id(0), true);
        world.say(id(0), b"one\r\ntw");
        assert_eq!(world.shown(), ["one"]);
        world.say(id(0), b"o\n\nlast");
        assert_eq!(world.shown(), ["two", ""]);
        world.finish(id(0));
        assert_eq!(world.shown(), ["last"]);
        world.logs.watch(id(0), false);
        world.say(id(0), b"x\n");
        assert_eq!(world.shown(), [""; 0]);
    }
}

#[test]
fn a_line_that_had_begun_before_anybody_watched_is_shown_whole() {
    let mut world = World::of(|_, _| {});
    world.say(id(0), b"done\nhalf ");
    world.logs.watch(id(0), true);
    world.say(id(0), b"line\n");
    assert_eq!(world.shown(), ["half line"]);
}

#[test]
fn watchers_see_all_lines_of_a_file_that_rotates() {
    for staged in [false, true] {
        let mut world = World::of(|_, plan| {
            plan.max_size = 500;
            plan.keep = 2;
            plan.shared = staged;
        });
        world.logs.watch(id(0), true);
        let text = numbered_lines(500, 100);
        world.say(id(0), &text);
        let shown: String = world.shown().iter().map(|line| format!("{line}\n")).collect();
        assert!(shown.as_bytes() == text);
    }
}

#[test]
fn lines_nobody_takes_are_counted_and_not_kept() {
    let mut world = World::of(|_, plan| plan.target = None);
    world.logs.watch(id(0), true);
    let text = vec![b'\n'; 50_000];
    for _ in 0..6 {
        world.say(id(0), &text);
    }
    let kept = world.lines().len();
    assert!(kept < 300_000 && kept > 50_000);
    world.say(id(0), b"\n");
    let unseen = u64::try_from(300_000 - kept).unwrap();
    assert_eq!(world.events(), [LogEvent::Unseen { id: id(0), lines: unseen }]);
}

#[test]
fn a_very_long_line_is_shown_in_pieces() {
    let mut world = World::of(|_, _| {});
    world.logs.watch(id(0), true);
    world.say(id(0), &[b'l'; 150_000]);
    world.say(id(0), b"\n");
    let shape: Vec<_> = world.lines().iter().map(|line| (line.bytes.len(), line.partial)).collect();
    assert_eq!(shape, [(LINE_CAP, true), (LINE_CAP, true), (150_000 - 2 * LINE_CAP, false)]);
}

#[test]
fn the_last_lines_of_both_streams_come_in_the_order_of_time() {
    let mut world = World::new();
    let out = world.add(|_, _| {});
    let err = world.add(|place, plan| plan.target = Some(place.file("err.log")));
    for number in 0..10 {
        let id = if number % 3 == 0 { err } else { out };
        world.say(id, format!("{number}\n").as_bytes());
    }
    let lines = world.logs.tail(&[out, err], &TailQuery::last(5));
    assert_eq!(texts(&lines), ["5", "6", "7", "8", "9"]);
    assert_eq!(lines[1].id, err);
    assert_eq!(lines[1].at, Some(WallTime(START + 7)));
}

#[test]
fn the_limit_counts_for_each_process() {
    let mut world = World::new();
    for number in 0..4 {
        world.add(|place, plan| plan.target = Some(place.file(&format!("{number}.log"))));
    }
    for round in 0..5 {
        for number in 0..4 {
            world.say(id(number), format!("{number}.{round}\n").as_bytes());
        }
    }
    let ids: Vec<_> = (0..4).map(id).collect();
    let lines = texts(&world.logs.tail(&ids, &TailQuery::last(2)));
    assert_eq!(lines, ["0.4", "1.4", "2.4", "3.4"]);
}

#[test]
fn a_span_of_time_is_cut_out() {
    let mut world = World::of(|_, _| {});
    for number in 0..10 {
        world.say(id(0), format!("{number}\n").as_bytes());
    }
    let at = |number: u64| Some(WallTime(START + number + 1));
    let query = TailQuery { since: at(3), until: at(6), ..TailQuery::last(100) };
    assert_eq!(texts(&world.logs.tail(&[id(0)], &query)), ["3", "4", "5", "6"]);
    let query = TailQuery { until: at(6), ..TailQuery::last(2) };
    assert_eq!(texts(&world.logs.tail(&[id(0)], &query)), ["5", "6"]);
}

#[test]
fn rotated_files_are_read_and_keep_their_times() {
    let mut world = World::of(|_, plan| {
        plan.max_size = 10;
        plan.keep = 20;
    });
    for number in 0..8 {
        world.say(id(0), format!("line {number}\n").as_bytes());
    }
    let lines = world.logs.tail(&[id(0)], &TailQuery::last(6));
    assert_eq!(texts(&lines), (2..8).map(|n| format!("line {n}")).collect::<Vec<_>>());
    let times: Vec<_> = lines.iter().map(|line| line.at.unwrap().0 - START).collect();
    assert_eq!(times, [3, 4, 5, 6, 7, 8]);
}

#[test]
fn what_was_written_before_this_daemon_is_read_without_times() {
    let mut world = World::of(|_, _| {});
    fs::write(world.place.file("app.log"), "old 1\nold 2").unwrap();
    let lines = world.logs.tail(&[id(0)], &TailQuery::last(10));
    assert_eq!(texts(&lines), ["old 1", "old 2"]);
    assert!(lines.iter().all(|line| line.at.is_none()));
    world.say(id(0), b"\nnew\n");
    let lines = world.logs.tail(&[id(0)], &TailQuery::last(10));
    assert_eq!(texts(&lines), ["old 1", "old 2", "new"]);
    assert_eq!(lines[2].at, Some(WallTime(START + 1)));
    assert_eq!(lines[1].at, None);
}

#[test]
fn an_empty_or_missing_file_has_no_lines() {
    let mut world = World::of(|_, _| {});
    assert_eq!(world.logs.tail(&[id(0)], &TailQuery::last(10)), []);
    assert_eq!(world.logs.tail(&[id(9)], &TailQuery::last(10)), []);
    world.say(id(0), b"\n\n");
    assert_eq!(texts(&world.logs.tail(&[id(0)], &TailQuery::last(10))), ["", ""]);
    assert_eq!(world.logs.tail(&[id(0)], &TailQuery::last(0)), []);
}

#[test]
fn lines_are_found_wherever_the_blocks_are_cut() {
    let mut world = World::of(|_, _| {});
    let text = numbered_lines(5000, 100);
    fs::write(world.place.file("app.log"), &text).unwrap();
    let expected: Vec<_> = String::from_utf8(text).unwrap().lines().map(String::from).collect();
    for count in [1, 2, 1000, 4999, 5000, 6000] {
        let query = TailQuery::last(count);
        let found = texts(&world.logs.tail(&[id(0)], &query));
        assert!(found == expected[5000 - count.min(5000)..], "{count}");
    }
    world.say(id(0), b"");
}

#[test]
fn a_line_larger_than_memory_should_be_is_not_loaded() {
    let mut world = World::of(|_, _| {});
    let file = File::create(world.place.file("app.log")).unwrap();
    file.set_len(3_000_000_000).unwrap(); // three gigabytes of zeroes: one line, no newline
    let query = TailQuery::last(10);
    let lines = world.logs.tail(&[id(0)], &query);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].bytes.len(), LINE_CAP);
    assert!(lines[0].partial);
    world.say(id(0), b"\nnext\n");
    assert_eq!(texts(&world.logs.tail(&[id(0)], &query))[1], "next");
}

#[test]
fn a_limit_in_bytes_is_kept() {
    let mut world = World::of(|_, _| {});
    world.say(id(0), &numbered_lines(1000, 100));
    let query = TailQuery { max_bytes: 500, ..TailQuery::last(1000) };
    let lines = world.logs.tail(&[id(0)], &query);
    let bytes: usize = lines.iter().map(|line| line.bytes.len()).sum();
    assert!(bytes <= 500 && bytes > 300);
}

#[test]
fn a_crash_report_gets_the_last_words() {
    let mut world = World::of(|_, _| {});
    world.say(id(0), &numbered_lines(100, 20));
    world.say(id(0), b"panic: no");
    let lines = world.logs.last_lines(id(0), 30, 8192);
    assert_eq!(lines.len(), 30);
    assert_eq!(lines[29], b"panic: no");
    world.say(id(0), &[b'q'; 20_000]);
    let lines = world.logs.last_lines(id(0), 30, 8192);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].len(), 8192);
}

#[test]
fn streams_that_share_a_file_are_read_once() {
    let mut world = World::new();
    let ids = [0, 1].map(|_| world.add(|_, plan| plan.shared = true));
    world.say(ids[0], b"one\n");
    world.say(ids[1], b"two\n");
    assert_eq!(texts(&world.logs.tail(&ids, &TailQuery::last(10))), ["one", "two"]);
    let paths: Vec<_> = world.logs.paths(ids[1]).map(|path| path.to_path_buf()).collect();
    assert_eq!(paths, [world.place.file("app.log")]);
}
