//! The daemon is killed at every step there is, and another takes over.

use super::*;
use crate::logs::crash;

/// Runs the script once for each step at which it can be killed; `check` sees what is left after
/// another daemon has gone on to the end.
fn at_every_step(
    change: impl Fn(&Place, &mut StreamPlan) + Copy,
    chunks: &[&[u8]],
    check: impl Fn(&World, &str),
) {
    let mut killed = true;
    let mut step = 0;
    while killed {
        killed = false;
        let mut world = World::of(change);
        let mut next = 0;
        // A second kill, soon after the first, hits the recovery.
        for at in [Some(step), Some(step % 7), None] {
            let mut run = || {
                if next > 0 {
                    world.restart();
                    world.pump(id(0));
                }
                while let Some(chunk) = chunks.get(next) {
                    next += 1; // it is in the pipe, whatever happens
                    world.write(id(0), chunk);
                    world.pump(id(0));
                }
                world.finish(id(0));
            };
            match at {
                Some(at) => killed |= crash::run(at, run).is_none(),
                None => run(),
            }
        }
        check(&world, &format!("killed at step {step}"));
        assert!(!world.place.file("app.log.rotating").exists(), "killed at step {step}");
        step += 1;
    }
    assert!(step > 20, "only {step} steps");
}

fn chunks(text: &[u8], size: usize) -> Vec<&[u8]> {
    text.chunks(size).collect()
}

fn same_bytes<'a>(text: &'a [u8], name: &'static str) -> impl Fn(&World, &str) + 'a {
    move |world, when| {
        let found = whole(&world.place.file(name));
        assert!(
            found == text,
            "{name} {when}: {} bytes, expected {}:\n{}",
            found.len(),
            text.len(),
            String::from_utf8_lossy(&found)
        );
    }
}

#[test]
fn a_raw_log_that_rotates_loses_and_doubles_nothing() {
    let text = numbered_lines(60, 40);
    let plan = |_: &Place, plan: &mut StreamPlan| plan.max_size = 300;
    at_every_step(plan, &chunks(&text, 271), same_bytes(&text, "app.log"));
}

#[test]
fn a_staged_log_that_rotates_loses_and_doubles_nothing() {
    let text = numbered_lines(60, 40);
    let plan = |_: &Place, plan: &mut StreamPlan| {
        plan.max_size = 300;
        plan.shared = true;
    };
    at_every_step(plan, &chunks(&text, 271), same_bytes(&text, "app.log"));
}

#[test]
fn two_files_of_one_stream_stay_alike() {
    let text = numbered_lines(40, 40);
    let plan = |place: &Place, plan: &mut StreamPlan| {
        plan.both = Some(place.file("both.log"));
        plan.max_size = 500;
    };
    at_every_step(plan, &chunks(&text, 333), |world, when| {
        same_bytes(&text, "app.log")(world, when);
        same_bytes(&text, "both.log")(world, when);
    });
}

#[test]
fn formatted_lines_come_once_each() {
    let text = numbered_lines(60, 40);
    let plan = |_: &Place, plan: &mut StreamPlan| plan.format = LogFormat::Json;
    at_every_step(plan, &chunks(&text, 300), |world, when| {
        let mut messages = String::new();
        for line in world.read("app.log").lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            messages.push_str(value["message"].as_str().unwrap());
            messages.push('\n');
        }
        assert_eq!(messages.as_bytes(), text, "{when}");
    });
}

#[test]
fn an_unfinished_line_survives_its_move_to_the_front() {
    // Each chunk ends within a line, and each second one passes the mark where the stage is
    // compacted.
    let text = numbered_lines(300, 1500);
    let plan = |_: &Place, plan: &mut StreamPlan| plan.shared = true;
    at_every_step(plan, &chunks(&text, 59_999), same_bytes(&text, "app.log"));
}

#[test]
fn lines_that_wait_for_their_file_survive() {
    let mut world = World::of(|place, plan| {
        plan.target = Some(place.file("blocked/app.log"));
        plan.shared = true;
        plan.full = LogFull::Block;
    });
    fs::write(world.place.file("blocked"), "").unwrap();
    world.write(id(0), b"one\ntwo\nthr");
    assert_eq!(world.pump(id(0)).moved, 11);
    world.restart();
    world.write(id(0), b"ee\n");
    fs::remove_file(world.place.file("blocked")).unwrap();
    world.pass(60_000);
    world.pump(id(0));
    assert_eq!(world.read("blocked/app.log"), "one\ntwo\nthree\n");
}

#[test]
fn what_was_dropped_is_still_reported_after_a_restart() {
    let mut world = World::of(|place, plan| plan.target = Some(place.file("blocked/app.log")));
    fs::write(world.place.file("blocked"), "").unwrap();
    world.write(id(0), b"lost\n");
    world.pump(id(0));
    world.restart();
    fs::remove_file(world.place.file("blocked")).unwrap();
    world.say(id(0), b"kept\n");
    assert_eq!(world.read("blocked/app.log"), "pmd: 5 bytes dropped\nkept\n");
}
