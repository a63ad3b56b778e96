//! More log files than descriptors: those of others are closed, nothing is dropped.
//!
//! Alone in its program, because the limit is the whole process's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::rc::Rc;

use pmd::base::{ProcId, Stream};
use pmd::logs::{JOURNAL_WORDS, Journal, LogSettings, Logs, StreamId, StreamPlan};
use pmd::supervisor::spec::{LogFormat, LogFull};
use pmd::sys::limits::{self, Limit, Resource};
use pmd::sys::map::SharedMap;
use pmd::sys::{clock, fds};

const STREAMS: u32 = 30;

#[test]
fn streams_take_turns_when_descriptors_run_out() {
    let place = std::env::temp_dir().join(format!("pmd-descriptors-{}", std::process::id()));
    fs::create_dir(&place).unwrap();
    let map = SharedMap::open(&place.join("journal"), 1 << 16).unwrap();
    map.ensure(STREAMS as usize * JOURNAL_WORDS * 8).unwrap();
    let map = Rc::new(map);
    let mut logs = Logs::new(LogSettings { stage_dir: place.join("stage"), total: None });
    let pipes: Vec<_> = (0..STREAMS).map(|_| fds::open_pipe_rdwr().unwrap()).collect();
    let ends: Vec<_> = pipes.iter().map(|pipe| File::from(pipe.try_clone().unwrap())).collect();
    let id = |number| StreamId { process: ProcId(number), stream: Stream::Out };
    for number in 0..STREAMS {
        let plan = StreamPlan {
            app: "app".into(),
            target: Some(place.join(format!("{number}.log"))),
            both: None,
            shared: false,
            format: LogFormat::Raw,
            date: None,
            max_size: 0,
            keep: 0,
            full: LogFull::Drop,
        };
        logs.open(id(number), plan, Journal::new(map.clone(), number as usize * JOURNAL_WORDS));
    }
    let most = limits::limit(Resource::OpenFiles).unwrap();
    let soft = u64::try_from(fds::open_descriptors()).unwrap() + 5 + fds::RESERVE;
    limits::set_limit(Resource::OpenFiles, Limit { soft, ..most }).unwrap();
    for round in 0..3 {
        for (number, mut end) in (0..).zip(&ends) {
            writeln!(end, "line {round} of {number}").unwrap();
            let pipe = pipes[number as usize].as_fd();
            assert!(logs.pump(id(number), pipe, 1000, clock::now()).drained);
        }
    }
    limits::set_limit(Resource::OpenFiles, most).unwrap();
    let mut events = Vec::new();
    logs.take_events(&mut events);
    assert_eq!(events, []);
    for number in 0..STREAMS {
        let text = fs::read_to_string(place.join(format!("{number}.log"))).unwrap();
        let expected: String = (0..3).map(|r| format!("line {r} of {number}\n")).collect();
        assert_eq!(text, expected);
    }
    fs::remove_dir_all(&place).unwrap();
}
