//! The transporter `mqtt` against a broker that is nothing but bytes, in a time of its own.

use serde_json::{Map, Value};

use super::fleet::Say;
use super::*;
use crate::agent::orders::Deed;
use crate::base::WallTime;
use crate::config::agent::{MqttConfig, Secret, TlsFiles};
use crate::proto::agent::mqtt::{self, Packet as Wired};

const B: &str = "pmd/v1/shop/edge";

struct Fleet {
    agent: Agent,
    now: Now,
    connects: usize,
    lost: usize,
}

/// A message that the broker was sent.
#[derive(Debug, PartialEq)]
struct Got {
    topic: String,
    retained: bool,
    again: bool,
    id: Option<u16>,
    json: Value,
}

fn config() -> AgentConfig {
    AgentConfig {
        root: None,
        public_key: String::new(),
        secret_key: Secret::default(),
        machine_name: "edge".to_owned(),
        pm2_version: "7.0.4".to_owned(),
        websocket: None,
        axon: None,
        mqtt: Some(MqttConfig {
            endpoint: Secret("mqtt://u:p@h".to_owned()),
            group: "shop".to_owned(),
            prefix: "pmd/v1".to_owned(),
            client_id: None,
            keep_alive: 60,
            metrics_interval: Duration::from_secs(30),
            state_refresh: Duration::from_secs(300),
            tls: TlsFiles::default(),
            remote_methods: None,
        }),
        patches: false,
        tls: TlsFiles::default(),
        context: true,
        remote_methods: None,
    }
}

impl Fleet {
    fn new() -> Self {
        let now = Now { mono: Time(1000), wall: WallTime(1_000_000) };
        let agent = Agent::new(config(), "boot".to_owned(), 7, now);
        let mut fleet = Self { agent, now, connects: 0, lost: 0 };
        fleet.effects();
        fleet
    }

    fn effects(&mut self) {
        while let Some(effect) = self.agent.take_effect() {
            match effect {
                Effect::Connect(..) => self.connects += 1,
                Effect::Disconnect(..) => self.lost += 1,
                Effect::Tell { .. } | Effect::Logging => {}
            }
        }
    }

    fn sent(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while !self.agent.out(Wire::Mqtt).is_empty() {
            self.agent.out(Wire::Mqtt).send(&mut all).unwrap();
            self.agent.sent(Wire::Mqtt);
        }
        all
    }

    fn got(&mut self) -> Vec<Got> {
        let bytes = self.sent();
        let (mut rest, mut all) = (bytes.as_slice(), Vec::new());
        while !rest.is_empty() {
            // Only messages are understood by a client.
            let (mut length, mut digits) = (0, 1);
            while rest[digits] & 0x80 != 0 {
                length |= usize::from(rest[digits] & 0x7f) << (7 * (digits - 1));
                digits += 1;
            }
            length |= usize::from(rest[digits]) << (7 * (digits - 1));
            let whole = digits + 1 + length;
            if rest[0] & 0xf0 == 0x30 {
                let (packet, _) = Wired::first(&rest[..whole]).unwrap().unwrap();
                let Wired::Message { topic, payload, retained, id } = packet else { panic!() };
                all.push(Got {
                    topic: topic.strip_prefix(B).unwrap().to_owned(),
                    retained,
                    again: rest[0] & 8 != 0,
                    id,
                    json: serde_json::from_slice(payload).unwrap(),
                });
            }
            rest = &rest[whole..];
        }
        all
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.agent.received(Wire::Mqtt, bytes, self.now);
        self.effects();
    }

    /// Connected, and accepted.
    fn accepted(mut self) -> Self {
        self.agent.connected(Wire::Mqtt, self.now);
        let hello = self.sent();
        assert!(hello.starts_with(b"\x10"), "{hello:?}");
        self.hear(b"\x20\x02\x00\x00");
        self
    }

    fn say_state(&mut self, members: &str) {
        assert_eq!(self.agent.fleet_wants().unwrap().1, Say::State);
        self.agent.tell_fleet(Say::State, members.as_bytes(), self.now);
    }

    /// Accepted, and what is told then is out of the way.
    fn born() -> Self {
        let mut fleet = Self::new().accepted();
        fleet.say_state(r#""procs":[]"#);
        fleet.got();
        fleet
    }

    fn event(&mut self, number: u64) {
        let mut event = Map::new();
        event.insert("data".to_owned(), number.into());
        event.insert("at".to_owned(), 5.into());
        self.agent.tell_fleet_event("custom:x", 3, "web", &event);
    }

    fn command(&mut self, topic: &str, command: &Value, retained: bool) {
        let text = command.to_string();
        let frame = mqtt::message(topic, text.as_bytes(), retained, Some(9), false);
        self.hear(&frame);
    }

    fn own(&mut self, action: &str, command: &Value) {
        self.command(&format!("{B}/cmd/{action}"), command, false);
    }

    fn wait(&mut self) -> u64 {
        let at = self.agent.next_deadline().expect("something is due");
        let waited = at.0.saturating_sub(self.now.mono.0);
        self.now.mono = at;
        self.agent.handle_timeout(self.now);
        self.effects();
        waited
    }
}

fn topics(got: &[Got]) -> Vec<&str> {
    got.iter().map(|got| got.topic.as_str()).collect()
}

#[test]
fn birth_comes_before_the_state_and_that_before_what_waited() {
    let mut fleet = Fleet::new();
    fleet.event(1);
    fleet = fleet.accepted();
    let got = fleet.got();
    assert_eq!(topics(&got), ["/online", "/host"]);
    assert!(got.iter().all(|got| got.retained && got.id.is_some()));
    assert_eq!(got[0].json["boot"], "boot");
    fleet.say_state(r#""procs":[]"#);
    let got = fleet.got();
    assert_eq!(topics(&got), ["/state", "/event/custom"]);
    assert_eq!((got[0].retained, got[1].retained), (true, false));
    assert_eq!((&got[0].json["seq"], &got[1].json["seq"]), (&json!(1), &json!(2)));
    assert_eq!(got[1].json["proc"], json!({"id": 3, "name": "web"}));
    assert_eq!((&got[1].json["data"], &got[1].json["type"]), (&json!(1), &json!("custom:x")));
}

#[test]
fn the_state_is_told_when_it_differs_and_at_most_each_second() {
    let mut fleet = Fleet::born();
    fleet.agent.touch_state(fleet.now);
    let (at, say) = fleet.agent.fleet_wants().unwrap();
    assert_eq!((at.since(fleet.now.mono).as_millis(), say), (1000, Say::State));
    fleet.now.mono = at;
    fleet.say_state(r#""procs":[]"#);
    assert_eq!(fleet.got(), []);
    fleet.agent.touch_state(fleet.now);
    fleet.say_state(r#""procs":[1]"#);
    assert_eq!(topics(&fleet.got()), ["/state"]);
    assert_eq!(fleet.agent.fleet_wants().unwrap().1, Say::Metrics);
}

#[test]
fn what_was_not_acknowledged_is_sent_again_and_no_more_than_fits() {
    let mut fleet = Fleet::born();
    for number in 0..40 {
        fleet.event(number);
    }
    let first = fleet.got();
    assert_eq!(first.len(), 12);
    fleet.hear(&[&[0x40, 2][..], &first[0].id.unwrap().to_be_bytes()].concat());
    assert_eq!(fleet.got().len(), 1);
    fleet.agent.lost(Wire::Mqtt, "x", fleet.now);
    while fleet.connects < 2 {
        fleet.wait();
        fleet.effects();
    }
    fleet = fleet.accepted();
    fleet.got();
    fleet.say_state(r#""procs":[]"#);
    let again = fleet.got();
    assert_eq!(again.iter().filter(|got| got.again).count(), 12);
    assert_eq!(again[1].json["data"], 1);
    assert_eq!(again[1].id, first[1].id);
}

#[test]
fn numbers_tell_how_many_events_are_missing() {
    let mut fleet = Fleet::born();
    fleet.agent.lost(Wire::Mqtt, "x", fleet.now);
    for number in 0..230 {
        fleet.event(number);
    }
    while fleet.connects < 2 {
        fleet.wait();
    }
    fleet = fleet.accepted();
    fleet.got();
    fleet.say_state(r#""procs":[]"#);
    let got = fleet.got();
    let seq = |at: usize| got[at].json["seq"].as_u64().unwrap();
    assert_eq!((seq(1) - seq(0), seq(2) - seq(1)), (31, 1), "30 went");
    assert_eq!(got[1].json["data"], 30);
}

#[test]
fn a_command_is_obeyed_once_and_only_while_it_is_new() {
    let mut fleet = Fleet::born();
    let restart = json!({"id": "a", "from": "desk", "args": {"name": "web"}});
    fleet.own("restart", &restart);
    fleet.own("restart", &restart);
    fleet.command(&format!("{B}/cmd/restart"), &json!({"id": "r", "args": {"id": 1}}), true);
    let order = fleet.agent.next_order(fleet.now).unwrap();
    assert_eq!(order.deed, Deed::Restart);
    fleet.agent.answer(Ok(()), fleet.now);
    assert!(fleet.agent.next_order(fleet.now).is_none());
    let got = fleet.got();
    assert_eq!(topics(&got), ["/reply/desk"]);
    assert_eq!((&got[0].json["id"], &got[0].json["ok"]), (&json!("a"), &json!(true)));
    let old = fleet.now.wall.0 - 60_001;
    for (id, action, more, code) in [
        ("b", "restart", json!({"ts": old}), "expired"),
        ("c", "delete", json!({}), "not_allowed"),
        ("d", "constructor", json!({}), "not_allowed"),
        ("e", "restart", json!({}), "bad_args"),
        ("f", "logs", json!({"args": {"seconds": 601}}), "bad_args"),
        ("g", "action", json!({"args": {"id": 1}}), "bad_args"),
    ] {
        let mut command = json!({"id": id, "from": "a/b"});
        command.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        fleet.own(action, &command);
        assert!(fleet.agent.next_order(fleet.now).is_none());
        let got = fleet.got();
        assert_eq!(topics(&got), ["/reply/a%2Fb"]);
        assert_eq!(got[0].json["err"]["code"], code, "{id}");
    }
    fleet.own("restart", &json!({"id": "h", "ts": old, "ttl": 0, "args": {"id": 1}}));
    assert!(fleet.agent.next_order(fleet.now).is_some());
    for broken in [&b"not json"[..], b"[]", b"{\"id\":7}", b"{}"] {
        let topic = format!("{B}/cmd/ping");
        fleet.hear(&mqtt::message(&topic, broken, false, None, false));
    }
    fleet.agent.answer(Ok(()), fleet.now);
    assert!(fleet.agent.next_order(fleet.now).is_none());
    assert_eq!(fleet.got().len(), 1);
}

#[test]
fn what_all_hosts_are_to_do_is_spread_out() {
    let mut fleet = Fleet::born();
    let all = "pmd/v1/shop/_all/cmd";
    fleet.command(&format!("{all}/ping"), &json!({"id": "p"}), false);
    assert!(fleet.agent.next_order(fleet.now).is_none());
    assert_eq!(topics(&fleet.got()), ["/reply/unknown"]);
    for number in 0..20 {
        let command = json!({"id": number.to_string(), "args": {"id": 1}});
        fleet.command(&format!("{all}/restart"), &command, false);
    }
    let mut waited = Vec::new();
    while waited.len() < 20 {
        waited.push(fleet.wait());
        while fleet.agent.next_order(fleet.now).is_some() {
            fleet.agent.answer(Ok(()), fleet.now);
        }
        fleet.hear(b"\xd0\x00");
    }
    let total: u64 = waited.iter().sum();
    assert!((2500..=5000).contains(&total), "{waited:?}");
}

#[test]
fn logs_are_told_while_they_are_wanted() {
    let mut fleet = Fleet::born();
    assert!(!fleet.agent.fleet_wants_logs("web"));
    let args = json!({"on": true, "name": "web", "seconds": 2});
    fleet.own("logs", &json!({"id": "l", "args": args}));
    assert!(fleet.agent.fleet_wants_logs("web") && !fleet.agent.fleet_wants_logs("db"));
    assert_eq!(fleet.wait(), 2000);
    assert!(!fleet.agent.fleet_wants_logs("web"));
}

#[test]
fn a_broker_that_is_silent_or_breaks_the_rules_is_left() {
    let mut fleet = Fleet::born();
    while fleet.lost == 0 {
        fleet.wait();
        if let Some((_, Say::Metrics)) = fleet.agent.fleet_wants() {
            fleet.agent.tell_fleet(Say::Metrics, b"\"procs\":[]", fleet.now);
        }
    }
    // A ping after 60 seconds, and half of that for the answer.
    assert_eq!(fleet.now.mono.0, 91_000);
    for first in [&b"\x20\x02\x00\x05"[..], b"\xd0\x00", b"\x00\x00"] {
        let mut fleet = Fleet::new();
        fleet.agent.connected(Wire::Mqtt, fleet.now);
        fleet.hear(first);
        assert_eq!(fleet.lost, 1, "{first:?}");
    }
}

#[test]
fn an_orderly_end_is_said_before_the_good_bye() {
    let mut fleet = Fleet::born();
    fleet.agent.stop(fleet.now);
    let Some(Effect::Disconnect(Wire::Mqtt, mut out)) = fleet.agent.take_effect() else { panic!() };
    let mut bytes = Vec::new();
    out.send(&mut bytes).unwrap();
    assert!(bytes.ends_with(b"\xe0\x00"));
    assert!(String::from_utf8_lossy(&bytes).contains(r#""reason":"stopped""#));
}
