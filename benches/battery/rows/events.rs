//! events: from SIGKILL to the event at the first and the last of many WebSockets; a hundred deaths
//! at once; and what a subscriber costs.
//!
//! The limit is a bare fan-out: as many bytes to as many sockets, one write each, and the same
//! reader.

use std::io::Write;
use std::thread::{self, sleep};
use std::time::Duration;

use super::Bench;
use crate::os;
use crate::process;
use crate::stage::{Scene, Stage, Subject};
use crate::subscribers::{Heard, Subscribers};
use crate::table::{Goal, Line, Table, percentile};

const CHILDREN: usize = 100;
const MIN_UPTIME: Duration = Duration::from_millis(20);
/// Kills of one round.
const KILLS: usize = 20;
/// Between them.
const PAUSE: Duration = Duration::from_millis(50);
/// Bytes that one death is told in: two events, two changes of status.
const DEATH_BYTES: usize = 1600;
/// What tells of a death, in the first of them.
const MARK: &[u8] = b"\"event\":\"crashed\"";

pub fn run(bench: &Bench) -> Table {
    os::raise_descriptors();
    let mut table = Table::new("events");
    let mut memory = Vec::new();
    for subscribers in [1, 100, 1000] {
        let who = if subscribers == 1 { "1 subscriber".into() } else { format!("{subscribers}") };
        let lines = [
            (format!("kill to the first of {who}, p50"), "us", Goal::None),
            (format!("kill to the last of {who}, p50"), "us", Goal::None),
            (format!("100 deaths at once, until the last of {who} has all"), "ms", Goal::None),
        ];
        bench.compare(&mut table, bench.rounds, &lines, |subject| match subject {
            Subject::Limit => fan_out(subscribers),
            Subject::Pmd => {
                let (figures, each) = deaths(bench, subscribers);
                if subscribers == 1000 {
                    memory.push(each);
                }
                figures
            }
        });
    }
    let label = "memory a subscriber".to_owned();
    let goal = Goal::Value(4.0);
    table.lines.push(Line { label, unit: "KiB", limit: Vec::new(), pmd: memory, goal });
    table
}

/// The three figures of a bare fan-out.
fn fan_out(count: usize) -> Vec<f64> {
    let (mut subscribers, mut sockets) = Subscribers::bare(count);
    let mut event = vec![b'x'; DEATH_BYTES - MARK.len()];
    event.splice(0..0, MARK.iter().copied());
    let mut tell = |deaths: usize| -> (u64, Heard) {
        let bytes = event.repeat(deaths);
        let told = os::now();
        let heard = thread::scope(|scope| {
            scope.spawn(|| {
                for socket in &mut sockets {
                    socket.write_all(&bytes).expect("a connection");
                }
            });
            subscribers.hear(MARK, deaths)
        });
        (told, heard)
    };
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for _ in 0..KILLS {
        let (told, heard) = tell(1);
        first.push((heard.first - told) as f64 / 1e3);
        last.push((heard.last - told) as f64 / 1e3);
    }
    let (told, heard) = tell(CHILDREN);
    let all = (heard.last - told) as f64 / 1e6;
    vec![percentile(&first, 0.5), percentile(&last, 0.5), all]
}

/// The three figures of pmd, and the KiB of each subscriber.
fn deaths(bench: &Bench, count: usize) -> (Vec<f64>, f64) {
    let scene = Scene { min_uptime: MIN_UPTIME, web: true, ..Scene::sleepers(CHILDREN) };
    let (mut stage, _) = Stage::open_and_wait(Subject::Pmd, &bench.programs, &scene);
    let resident = |stage: &Stage| process::holding(&stage.family()).resident_kib as f64;
    sleep(Duration::from_secs(1));
    let before = resident(&stage);
    let mut subscribers = Subscribers::of_pmd(stage.web(), count);
    sleep(Duration::from_secs(2));
    let each = (resident(&stage) - before) / count as f64;
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for turn in 0..KILLS {
        let killed = os::now();
        os::kill(stage.life(turn).0, libc::SIGKILL);
        let heard = subscribers.hear(MARK, 1);
        first.push((heard.first - killed) as f64 / 1e3);
        last.push((heard.last - killed) as f64 / 1e3);
        let report = stage.reports.collect(1)[0];
        stage.note(&report);
        sleep(PAUSE);
    }
    let pids: Vec<u32> = (0..CHILDREN).map(|id| stage.life(id).0).collect();
    let killed = os::now();
    pids.iter().for_each(|pid| os::kill(*pid, libc::SIGKILL));
    let heard = subscribers.hear(MARK, CHILDREN);
    let all = (heard.last - killed) as f64 / 1e6;
    stage.reports.collect(CHILDREN).iter().for_each(|report| stage.note(report));
    (vec![percentile(&first, 0.5), percentile(&last, 0.5), all], each)
}
