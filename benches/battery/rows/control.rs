//! control: requests over one open connection, one after the other, with 100 children.

use super::Bench;
use crate::control::Control;
use crate::os;
use crate::stage::{Scene, Stage, Subject};
use crate::table::{Goal, Line, Table, percentile};

const REQUESTS: usize = 1000;
/// Requests before the first that counts.
const WARM_UP: usize = 50;
const LISTS: usize = 200;

pub fn run(bench: &Bench) -> Table {
    let mut table = Table::new("control");
    let lines = [
        ("smallest request, p50".to_owned(), "us", Goal::Ratio(1.3)),
        ("smallest request, p99".to_owned(), "us", Goal::None),
    ];
    let mut lists: Vec<Vec<f64>> = vec![Vec::new(); 3];
    bench.compare(&mut table, bench.rounds, &lines, |subject| {
        let scene = Scene::sleepers(100);
        let (stage, _) = Stage::open_and_wait(subject, &bench.programs, &scene);
        let mut control = connect(subject, &stage);
        let ping: &[u8] = match subject {
            Subject::Limit => b"ping\n",
            Subject::Pmd => b"{\"type\":\"ping\",\"id\":1}\n",
        };
        let (times, _) = round_trips(&mut control, ping, REQUESTS);
        if subject == Subject::Pmd {
            let list = b"{\"type\":\"get_info\",\"data\":{},\"id\":2}\n";
            let (times, bytes) = round_trips(&mut control, list, LISTS);
            lists[0].push(percentile(&times, 0.5));
            lists[1].push(percentile(&times, 0.99));
            lists[2].push(bytes as f64 / 1024.0);
        }
        vec![percentile(&times, 0.5), percentile(&times, 0.99)]
    });
    let labels = [("p50", "us"), ("p99", "us"), ("size", "KiB")];
    for ((label, unit), pmd) in labels.into_iter().zip(lists) {
        let label = format!("full list of 100, {label}");
        table.lines.push(Line { label, unit, limit: Vec::new(), pmd, goal: Goal::None });
    }
    table
}

fn connect(subject: Subject, stage: &Stage) -> Control {
    let control = match subject {
        Subject::Limit => Control::connect_silent(&stage.socket()),
        Subject::Pmd => Control::connect(&stage.socket()),
    };
    control.expect("nobody listens on the control socket")
}

/// Microseconds of each round trip, and the bytes of the last answer.
fn round_trips(control: &mut Control, line: &[u8], count: usize) -> (Vec<f64>, usize) {
    let mut times = Vec::new();
    let mut bytes = 0;
    for turn in 0..count + WARM_UP {
        let before = os::now();
        bytes = control.round_trip(line);
        let after = os::now();
        assert!(bytes > 0, "the connection is closed");
        if turn >= WARM_UP {
            times.push((after - before) as f64 / 1e3);
        }
    }
    (times, bytes)
}
