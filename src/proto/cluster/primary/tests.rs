use super::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Sockets are numbers from 1 on, connections from 1000 on.
type Handle = u32;

const KEY: &str = "127.0.0.1:80:4:undefined:0";

/// The world around a primary: workers that do as Node's do, of processes with the same number;
/// processes of one app have the same number of tens.
#[derive(Default)]
struct Stage {
    primary: Primary<Handle>,
    host: Host,
    /// What was done and not looked at yet.
    done: Vec<Deed<Handle>>,
    sockets: BTreeMap<SocketId, Handle>,
    wanted: BTreeSet<SocketId>,
}

#[derive(Default)]
struct Host {
    /// The app of the worker that is heard.
    app: u32,
    taken: BTreeSet<Wish2>,
    opened: Handle,
    in_turn: bool,
    is_ending: bool,
}

type Wish2 = String;

impl World<Handle> for Host {
    fn is_kin(&self, process: ProcId) -> bool {
        process.0 / 10 == self.app
    }

    fn open(&mut self, wish: &Wish) -> Result<Opened<Handle>, i32> {
        if !self.taken.insert(format!("{wish:?}")) {
            return Err(98);
        }
        self.opened += 1;
        let name = Some("{\"port\":80}".to_owned());
        let has_connections = !matches!(wish, Wish::Udp { .. });
        Ok(Opened { handle: self.opened, name, port: Some(80), has_connections })
    }

    fn in_turn(&self) -> bool {
        self.in_turn
    }

    fn is_ending(&self) -> bool {
        self.is_ending
    }
}

impl Stage {
    fn new(in_turn: bool) -> Self {
        Self { host: Host { in_turn, ..Host::default() }, ..Self::default() }
    }

    fn enter(&mut self, worker: u64) {
        self.primary.enter(ChildId(worker), ProcId(u32::try_from(worker % 100).unwrap()));
    }

    fn say(&mut self, worker: u64, message: &Value) -> bool {
        self.host.app = u32::try_from(worker % 100 / 10).unwrap();
        let text = message.to_string();
        let said = Said::read(&text);
        let listens = self.primary.hear(ChildId(worker), said, &mut self.host);
        self.settle();
        listens
    }

    fn settle(&mut self) {
        while let Some(deed) = self.primary.next_deed() {
            match &deed {
                Deed::Watch { socket, handle } => drop(self.sockets.insert(*socket, *handle)),
                Deed::Want { socket, wanted: true } => drop(self.wanted.insert(*socket)),
                Deed::Want { socket, wanted: false } => drop(self.wanted.remove(socket)),
                Deed::Close { socket, .. } => drop(self.wanted.remove(socket)),
                Deed::Tell { .. } | Deed::Hand { .. } => {}
            }
            self.done.push(deed);
        }
    }

    fn listen(&mut self, worker: u64, address: &str, port: u16) {
        self.say(
            worker,
            &json!({"act": "queryServer", "index": 0, "address": address, "port": port,
                "addressType": 4, "seq": 1}),
        );
    }

    fn answer(&mut self, worker: u64, ack: u64, accepted: bool) {
        self.say(worker, &json!({"ack": ack, "accepted": accepted}));
    }

    fn arrive(&mut self, connection: Handle) {
        let socket = *self.wanted.first().expect("nobody is free");
        self.primary.arrived(socket, connection);
        self.settle();
    }

    fn leave(&mut self, worker: u64) {
        self.primary.left(ChildId(worker));
        self.settle();
    }

    /// What was told since: worker, errno or act, handle.
    fn told(&mut self) -> Vec<(u64, String, Option<Handle>)> {
        let all = std::mem::take(&mut self.done);
        let told = all.into_iter().filter_map(|deed| match deed {
            Deed::Tell { worker, line } => Some((worker.0, word(&line), None)),
            Deed::Hand { worker, parcel } => {
                Some((worker.0, word(&parcel.line), Some(parcel.handle)))
            }
            Deed::Watch { .. } | Deed::Want { .. } | Deed::Close { .. } => None,
        });
        told.collect()
    }

    fn is_open(&self) -> bool {
        !self.primary.sockets.is_empty()
    }
}

fn word(line: &str) -> String {
    let mut message: Value = serde_json::from_str(line).unwrap();
    if message["cmd"] == "NODE_HANDLE" {
        message = message["msg"].take();
    }
    assert_eq!(message["cmd"], "NODE_CLUSTER");
    assert!(message["seq"].is_u64());
    match (&message["act"], message.get("errno")) {
        (Value::String(act), _) => act.clone(),
        (_, Some(errno)) => errno.to_string(),
        _ => format!("ack {}", message["ack"]),
    }
}

fn row(worker: u64, word: &str, handle: Option<Handle>) -> (u64, String, Option<Handle>) {
    (worker, word.to_owned(), handle)
}

#[test]
fn workers_of_an_app_share_a_socket_and_those_of_another_do_not() {
    let mut stage = Stage::new(false);
    for worker in [10, 11, 20] {
        stage.enter(worker);
        stage.listen(worker, "127.0.0.1", 80);
    }
    let told = stage.told();
    assert_eq!(told, [row(10, "0", Some(1)), row(11, "0", Some(1)), row(20, "-98", None)]);
    stage.listen(11, "127.0.0.1", 81);
    assert_eq!(stage.told(), [row(11, "0", Some(2))]);
    assert!(stage.primary.has_port(ProcId(10), 80) && !stage.primary.has_port(ProcId(20), 80));
    assert!(stage.say(10, &json!({"act": "listening"})));
}

#[test]
fn what_is_asked_twice_by_one_worker_is_opened_twice() {
    let mut stage = Stage::new(false);
    stage.enter(10);
    stage.listen(10, "127.0.0.1", 80);
    stage.listen(10, "127.0.0.1", 80);
    assert_eq!(stage.told(), [row(10, "0", Some(1)), row(10, "-98", None)]);
}

#[test]
fn what_the_first_one_leaves_is_given_to_the_next() {
    let mut stage = Stage::new(false);
    let query = |data: Value| {
        json!({"act": "queryServer", "index": 0, "port": 0, "addressType": 4, "seq": 1,
            "data": data})
    };
    for worker in [10, 11] {
        stage.enter(worker);
        stage.say(worker, &query(json!({"keys": worker})));
    }
    for deed in &stage.done {
        let Deed::Hand { parcel, .. } = deed else { panic!("{deed:?}") };
        assert!(parcel.line.contains(r#""data":{"keys":10}"#), "{parcel:?}");
    }
}

#[test]
fn a_socket_stays_open_as_long_as_a_process_is_to_run() {
    let mut stage = Stage::new(false);
    stage.enter(10);
    stage.listen(10, "127.0.0.1", 80);
    stage.leave(10);
    assert!(stage.is_open(), "a crash");
    stage.enter(110);
    stage.listen(110, "127.0.0.1", 80);
    assert_eq!(stage.told(), [row(10, "0", Some(1)), row(110, "0", Some(1))]);
    stage.host.is_ending = true;
    stage.say(110, &json!({"act": "close", "key": KEY}));
    assert!(stage.is_open(), "it is about to be replaced");
    stage.leave(110);
    stage.primary.release(ProcId(10));
    assert!(!stage.is_open());
}

#[test]
fn a_program_that_stops_listening_is_taken_at_its_word() {
    let mut stage = Stage::new(false);
    for worker in [10, 11] {
        stage.enter(worker);
        stage.listen(worker, "127.0.0.1", 80);
    }
    stage.say(10, &json!({"act": "close", "key": KEY}));
    stage.say(10, &json!({"act": "close", "key": KEY}));
    assert!(stage.is_open(), "the other one listens");
    stage.say(11, &json!({"act": "close", "key": KEY}));
    assert!(!stage.is_open());
}

#[test]
fn who_leaves_is_answered_and_opens_nothing_any_more() {
    let mut stage = Stage::new(false);
    stage.enter(10);
    stage.say(10, &json!({"act": "exitedAfterDisconnect", "seq": 4}));
    stage.enter(11);
    assert!(stage.primary.dismiss(ChildId(11)) && !stage.primary.dismiss(ChildId(12)));
    stage.settle();
    stage.listen(10, "127.0.0.1", 80);
    stage.listen(11, "127.0.0.1", 80);
    assert_eq!(stage.told(), [row(10, "ack 4", None), row(11, "disconnect", None)]);
}

#[test]
fn connections_go_round() {
    let mut stage = Stage::new(true);
    for worker in [10, 11] {
        stage.enter(worker);
        stage.listen(worker, "127.0.0.1", 80);
    }
    assert_eq!(stage.told(), [row(10, "null", None), row(11, "null", None)]);
    stage.arrive(1000);
    stage.arrive(1001);
    assert!(stage.wanted.is_empty(), "nobody is free");
    let new = |worker, handle| row(worker, "newconn", Some(handle));
    assert_eq!(stage.told(), [new(10, 1000), new(11, 1001)]);
    stage.answer(11, 1, true);
    stage.arrive(1002);
    stage.answer(10, 1, true);
    stage.arrive(1003);
    assert_eq!(stage.told(), [new(11, 1002), new(10, 1003)]);
}

#[test]
fn datagrams_do_not_go_round() {
    let mut stage = Stage::new(true);
    stage.enter(10);
    stage.say(
        10,
        &json!({"act": "queryServer", "index": 0, "address": "127.0.0.1", "port": 53,
        "addressType": "udp4", "seq": 1}),
    );
    assert_eq!(stage.told(), [row(10, "0", Some(1))]);
}

#[test]
fn a_connection_that_is_refused_or_orphaned_goes_to_another() {
    let mut stage = Stage::new(true);
    for worker in [10, 11] {
        stage.enter(worker);
        stage.listen(worker, "127.0.0.1", 80);
    }
    stage.arrive(1000);
    stage.told();
    let new = |worker, handle| row(worker, "newconn", Some(handle));
    // It had closed before.
    stage.say(10, &json!({"act": "close", "key": KEY}));
    stage.answer(10, 1, false);
    assert_eq!(stage.told(), [new(11, 1000)]);
    stage.leave(11);
    assert!(stage.told().is_empty() && stage.wanted.is_empty());
    stage.enter(12);
    stage.listen(12, "127.0.0.1", 80);
    assert_eq!(stage.told(), [row(12, "null", None), new(12, 1000)]);
}

#[test]
fn a_connection_nobody_has_room_for_is_given_up() {
    let mut stage = Stage::new(true);
    for worker in [10, 11] {
        stage.enter(worker);
        stage.listen(worker, "127.0.0.1", 80);
    }
    stage.arrive(1000);
    stage.answer(10, 1, false);
    stage.answer(11, 1, false);
    assert_eq!(stage.told().len(), 4);
    assert_eq!(stage.wanted.len(), 1);
    // Nor is one that every worker dies of.
    for (life, worker) in [10, 11, 12, 13].into_iter().enumerate() {
        if life > 1 {
            stage.enter(worker);
            stage.listen(worker, "127.0.0.1", 80);
        }
    }
    stage.arrive(1001);
    for worker in [10, 11, 12] {
        stage.leave(worker);
    }
    let told = stage.told();
    let given: Vec<_> = told.iter().filter(|(.., handle)| *handle == Some(1001)).collect();
    assert_eq!(given.len(), MAX_DEATHS, "{told:?}");
}

#[test]
fn what_does_not_arrive_is_answered_for() {
    let mut stage = Stage::new(false);
    stage.enter(10);
    stage.listen(10, "127.0.0.1", 80);
    let Some(Deed::Hand { parcel, .. }) = stage.done.pop() else { panic!() };
    stage.primary.undelivered(ChildId(10), &parcel.kind);
    stage.settle();
    assert_eq!(stage.told(), [row(10, "-24", None)]);
}

#[test]
fn an_app_has_so_many_sockets_and_no_more() {
    let mut stage = Stage::new(false);
    stage.enter(10);
    for port in 1..=u16::try_from(MAX_SOCKETS).unwrap() + 1 {
        stage.listen(10, "127.0.0.1", port);
    }
    let told = stage.told();
    assert_eq!(told.last(), Some(&row(10, "-24", None)));
    assert_eq!(told.iter().filter(|(.., handle)| handle.is_some()).count(), MAX_SOCKETS);
}

/// A generator of which every run is the same.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Whatever workers do, as long as they do not all refuse: a connection is with one of them at a
/// time, and none is lost.
#[test]
fn no_connection_is_lost_and_none_is_served_twice() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let mut stage = Stage::new(true);
        let mut alive: Vec<u64> = vec![];
        // Connection to the worker and message it is with.
        let mut with: BTreeMap<Handle, (u64, u64)> = BTreeMap::new();
        let mut deaths: BTreeMap<Handle, usize> = BTreeMap::new();
        let (mut accepted, mut lost) = (BTreeSet::new(), 0);
        let (mut next_worker, mut next_connection) = (0, 1000);
        for _ in 0..200 {
            match random.below(6) {
                0 if alive.len() < 4 => {
                    let worker = 10 + next_worker % 10 + 100 * next_worker;
                    next_worker += 1;
                    alive.push(worker);
                    stage.enter(worker);
                    stage.listen(worker, "127.0.0.1", 80);
                }
                1 if alive.len() > 1 => {
                    let at = usize::try_from(random.below(alive.len() as u64)).unwrap();
                    let worker = alive.remove(at);
                    for (connection, _) in with.iter().filter(|(_, (by, _))| *by == worker) {
                        let count = deaths.entry(*connection).or_default();
                        *count += 1;
                        lost += usize::from(*count == MAX_DEATHS);
                    }
                    with.retain(|_, (by, _)| *by != worker);
                    stage.leave(worker);
                }
                2..=3 if !stage.wanted.is_empty() => {
                    stage.arrive(next_connection);
                    next_connection += 1;
                }
                _ => {
                    if let Some((&connection, &(worker, seq))) = with.iter().next() {
                        with.remove(&connection);
                        assert!(accepted.insert(connection), "served twice");
                        stage.answer(worker, seq, true);
                    }
                }
            }
            for deed in std::mem::take(&mut stage.done) {
                if let Deed::Hand { worker, parcel } = deed {
                    let Kind::Connection { seq } = parcel.kind else { panic!() };
                    assert!(alive.contains(&worker.0), "handed to the dead");
                    let before = with.insert(parcel.handle, (worker.0, seq));
                    assert!(before.is_none() && !accepted.contains(&parcel.handle));
                }
            }
            let waiting: usize =
                stage.primary.sockets.values().map(|socket| socket.returned.len()).sum();
            let all = usize::try_from(next_connection - 1000).unwrap();
            assert_eq!(all, accepted.len() + with.len() + waiting + lost, "seed {seed}");
        }
    }
}
