//! restart: from SIGKILL to the first instruction of the successor; and a burst of 1000 at once.

use std::thread::sleep;
use std::time::Duration;

use super::Bench;
use crate::os;
use crate::stage::{Scene, Stage, Subject};
use crate::table::{Goal, Table, percentile};

/// Kills of one round.
const KILLS: usize = 100;
/// Long enough that a child is quiet before it is killed, short enough for 100 kills of one child.
const MIN_UPTIME: Duration = Duration::from_millis(20);
/// Pause after a restart: the machine is quiet again.
const PAUSE: Duration = Duration::from_millis(5);

pub fn run(bench: &Bench) -> Table {
    let mut table = Table::new("restart");
    for children in [1, 100, 1000] {
        let lines = [
            (format!("p50, {}", super::count(children)), "us", Goal::Ratio(1.25)),
            (format!("p90, {}", super::count(children)), "us", Goal::None),
            (format!("p99, {}", super::count(children)), "us", Goal::Ratio(2.0)),
        ];
        bench.compare(&mut table, bench.rounds, &lines, |subject| {
            let times = kill_one_by_one(bench, subject, children);
            [0.5, 0.9, 0.99].iter().map(|share| percentile(&times, *share)).collect()
        });
    }
    table
}

pub fn burst(bench: &Bench) -> Table {
    let mut table = Table::new("burst");
    let line = ("1000 killed at once, until all are back".to_owned(), "ms", Goal::Ratio(1.3));
    bench.compare(&mut table, bench.rounds, &[line], |subject| vec![kill_all(bench, subject)]);
    table
}

/// Microseconds of each restart.
fn kill_one_by_one(bench: &Bench, subject: Subject, children: usize) -> Vec<f64> {
    let (mut stage, last) = Stage::open_and_wait(subject, &bench.programs, &scene(children));
    sleep_until(last + 1_000_000_000);
    let mut times = Vec::new();
    for turn in 0..KILLS {
        // Spread over all, none twice in a row where there are several.
        let id = turn * 7 % children;
        let (pid, started) = stage.life(id);
        sleep_until(started + 2 * nanoseconds(MIN_UPTIME));
        let killed = os::now();
        os::kill(pid, libc::SIGKILL);
        let report = stage.reports.collect(1)[0];
        assert_eq!(report.id, id, "another child came up");
        stage.note(&report);
        times.push((report.time - killed) as f64 / 1e3);
        sleep(PAUSE);
    }
    times
}

/// Milliseconds until all are back.
fn kill_all(bench: &Bench, subject: Subject) -> f64 {
    let children = 1000;
    let (mut stage, last) = Stage::open_and_wait(subject, &bench.programs, &scene(children));
    sleep_until(last + 1_000_000_000);
    let pids: Vec<u32> = (0..children).map(|id| stage.life(id).0).collect();
    let killed = os::now();
    pids.iter().for_each(|pid| os::kill(*pid, libc::SIGKILL));
    let reports = stage.reports.collect(children);
    reports.iter().for_each(|report| stage.note(report));
    let back = reports.iter().map(|report| report.time).max().unwrap_or(killed);
    (back - killed) as f64 / 1e6
}

fn scene(children: usize) -> Scene {
    Scene { min_uptime: MIN_UPTIME, ..Scene::sleepers(children) }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).expect("a short time")
}

fn sleep_until(moment: u64) {
    sleep(Duration::from_nanos(moment.saturating_sub(os::now())));
}
