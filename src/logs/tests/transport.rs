//! Bytes from the pipe to the file, each way.

use super::*;

/// Writes `text` in pieces and pumps with budgets of random sizes.
fn send(world: &mut World, id: StreamId, text: &[u8], seed: u64) {
    let mut dice = Dice::new(seed);
    let mut rest = text;
    let mut waiting = 0;
    while !rest.is_empty() || waiting > 0 {
        let (part, after) = rest.split_at(rest.len().min(dice.below(9000)).min(30_000 - waiting));
        world.write(id, part);
        waiting += part.len();
        rest = after;
        waiting -= world.pump_some(id, 1 + dice.below(12_000)).moved;
    }
    world.pump(id);
    assert_eq!(world.left_in_pipe(id), 0);
}

fn with_both(place: &Place, plan: &mut StreamPlan) {
    plan.both = Some(place.file("both.log"));
}

#[test]
fn every_byte_of_a_raw_stream_is_in_the_file() {
    let mut world = World::of(|_, _| {});
    let text: Vec<u8> =
        (0..300_000_u32).map(|n| u8::try_from(n.wrapping_mul(n) % 251).unwrap()).collect();
    send(&mut world, id(0), &text, 1);
    world.finish(id(0));
    assert_eq!(fs::read(world.place.file("app.log")).unwrap(), text);
}

#[test]
fn lines_that_pass_a_stage_are_all_there_in_order() {
    let mut world = World::of(with_both);
    let text = numbered_lines(4000, 150);
    send(&mut world, id(0), &text, 2);
    assert!(fs::read(world.place.file("app.log")).unwrap() == text);
    assert!(fs::read(world.place.file("both.log")).unwrap() == text);
    assert_eq!(fs::metadata(world.place.file("stage/0-out.stage")).unwrap().len(), 0);
}

#[test]
fn small_files_rotate_and_no_line_is_torn_lost_or_doubled() {
    for (name, staged) in [("raw", false), ("stage", true)] {
        for max_size in [200, 1000, 4096] {
            let mut world = World::of(|_, plan| {
                plan.shared = staged;
                plan.max_size = max_size;
            });
            let text = numbered_lines(400, 120);
            send(&mut world, id(0), &text, max_size);
            let pieces = pieces(&world.place.file("app.log"));
            assert!(pieces.len() > 5, "{name}");
            for piece in &pieces {
                assert!(piece.len() as u64 <= max_size, "{name} {max_size}: {}", piece.len());
                assert!(piece.is_empty() || piece.ends_with(b"\n"), "{name} {max_size}");
            }
            assert!(pieces.concat() == text, "{name} {max_size}");
        }
    }
}

#[test]
fn streams_that_share_a_file_keep_their_lines_whole() {
    let mut world = World::new();
    let ids = [0, 1, 2].map(|_| world.add(|_, plan| plan.shared = true));
    let mut dice = Dice::new(3);
    let texts = ids.map(|id| {
        let line = |n: usize| format!("{id:?} {n} {}\n", "y".repeat(n % 90));
        (0..500).map(line).collect::<String>()
    });
    let mut sent = [0; 3];
    while sent.iter().zip(&texts).any(|(sent, text)| *sent < text.len()) {
        let which = dice.below(3);
        let rest = &texts[which].as_bytes()[sent[which]..];
        let part = &rest[..rest.len().min(dice.below(300))];
        world.say(ids[which], part);
        sent[which] += part.len();
    }
    let all = world.read("app.log");
    for (id, text) in ids.iter().zip(&texts) {
        let mine = format!("{id:?}");
        let found: String =
            all.lines().filter(|line| line.starts_with(&mine)).map(|l| format!("{l}\n")).collect();
        assert!(found == *text);
    }
}

#[test]
fn a_second_stream_on_a_raw_file_makes_both_write_whole_lines() {
    let mut world = World::of(|_, _| {});
    world.say(id(0), b"first alone\n");
    let second = world.add(|_, _| {});
    world.say(id(0), b"unfinis");
    world.say(second, b"from the second\n");
    world.say(id(0), b"hed\n");
    assert_eq!(world.read("app.log"), "first alone\nfrom the second\nunfinished\n");
}

#[test]
fn a_prefix_stands_before_every_line_and_an_unfinished_one_ends_with_its_child() {
    let mut world = World::of(|_, plan| plan.date = Some(DatePattern::compile("[at] x").0));
    world.say(id(0), b"one\ntw");
    assert_eq!(world.read("app.log"), format!("at {}: one\n", START + 1));
    world.say(id(0), b"o\nthree");
    world.finish(id(0));
    assert_eq!(
        world.read("app.log"),
        format!("at {0}: one\nat {1}: two\nat {1}: three\n", START + 1, START + 2)
    );
}

#[test]
fn json_lines_are_objects() {
    let mut world = World::of(|_, plan| plan.format = LogFormat::Json);
    world.say(id(0), b"say \"hi\"\r\n\xff\n");
    let text = world.read("app.log");
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["message"], "say \"hi\"");
    assert_eq!(lines[0]["type"], "out");
    assert_eq!(lines[1]["message"], "\u{fffd}");
}

#[test]
fn a_line_without_an_end_is_written_in_pieces_and_never_held() {
    let mut world = World::of(|_, plan| plan.format = LogFormat::Json);
    let long = vec![b'z'; 500_000];
    world.say(id(0), &long);
    world.say(id(0), b"\nnext\n");
    let text = world.read("app.log");
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let message = |line: &serde_json::Value| line["message"].as_str().unwrap().to_owned();
    assert_eq!(lines[..lines.len() - 1].iter().map(message).collect::<String>().len(), 500_000);
    assert!(lines[..lines.len() - 2].iter().all(|line| line["partial"] == true));
    assert_eq!(message(&lines[lines.len() - 1]), "next");
    let stage = fs::metadata(world.place.file("stage/0-out.stage")).unwrap().len();
    assert!(stage <= 256 * 1024);
}

#[test]
fn nothing_is_opened_before_the_first_byte() {
    let mut world = World::of(|place, plan| plan.target = Some(place.file("deep/er/app.log")));
    world.add(|place, plan| {
        plan.target = Some(place.file("other.log"));
        plan.format = LogFormat::Json;
    });
    assert!(!world.place.file("deep").exists());
    assert!(!world.place.file("stage").exists());
    world.say(id(0), b"x");
    let mode = |path: &Path| {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode(&world.place.file("deep/er/app.log")) & 0o137, 0);
    assert_eq!(mode(&world.place.file("deep/er")) & 0o027, 0);
    assert!(!world.place.file("other.log").exists());
}

#[test]
fn a_stream_that_goes_nowhere_is_emptied_and_still_seen() {
    let mut world = World::of(|_, plan| plan.target = None);
    world.say(id(0), &[b'x'; 50_000]);
    world.logs.watch(id(0), true);
    world.say(id(0), b"seen\nlast");
    world.finish(id(0));
    assert_eq!(world.shown(), ["seen", "last"]);
    world.logs.watch(id(0), false);
    world.say(id(0), b"not seen\n");
    assert_eq!(world.shown(), [""; 0]);
}

#[test]
fn a_deleted_process_leaves_its_log_and_nothing_else() {
    let mut world = World::of(|_, plan| plan.shared = true);
    world.say(id(0), b"one\ntwo");
    assert!(world.place.file("stage/0-out.stage").exists());
    world.logs.close(id(0));
    assert_eq!(world.read("app.log"), "one\ntwo\n");
    assert!(!world.place.file("stage/0-out.stage").exists());
    assert!(world.map.words().iter().all(|word| word.load(Ordering::Relaxed) == 0));
}

#[test]
fn a_new_plan_takes_over_what_waited_under_the_old_one() {
    let mut world = World::of(|_, plan| plan.shared = true);
    world.say(id(0), b"one\nunfinished");
    world.plans[0].shared = false;
    world.reopen(0);
    world.say(id(0), b"raw");
    assert_eq!(world.read("app.log"), "one\nunfinished\nraw");
}

#[test]
fn a_file_that_is_named_twice_gets_each_line_once() {
    let mut world = World::of(|_, plan| plan.both.clone_from(&plan.target));
    world.say(id(0), b"one\ntwo\n");
    assert_eq!(world.read("app.log"), "one\ntwo\n");
}
