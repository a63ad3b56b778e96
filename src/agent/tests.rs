//! The agent against back ends that are nothing but bytes, in a time of their own.

use super::*;
use crate::base::WallTime;
use crate::config::agent::{Secret, TlsFiles};
use crate::json::json;

/// An agent, what it wants connected, and what it said.
struct World {
    agent: Agent,
    now: Now,
    connects: Vec<Wire>,
    disconnects: Vec<Wire>,
    told: Vec<String>,
}

fn config() -> AgentConfig {
    AgentConfig {
        root: Some("http://root:1".to_owned()),
        public_key: "pub".to_owned(),
        secret_key: Secret("sec".to_owned()),
        machine_name: "edge".to_owned(),
        pm2_version: "7.0.4".to_owned(),
        websocket: Some("ws".to_owned()),
        axon: None,
        mqtt: None,
        patches: false,
        tls: TlsFiles::default(),
        context: true,
        remote_methods: None,
    }
}

const GOOD: &str = r#"{"active":true,"endpoints":{"ws":"ws://a:1/x","web":"http://w",
    "push":"http://p:2","reverse":"http://r:3"}}"#;

impl World {
    fn new(config: AgentConfig) -> Self {
        let now = Now { mono: Time(1000), wall: WallTime(5000) };
        let agent = Agent::new(config, "boot".to_owned(), 7, now);
        let mut world = Self { agent, now, connects: vec![], disconnects: vec![], told: vec![] };
        world.effects();
        world
    }

    fn effects(&mut self) {
        while let Some(effect) = self.agent.take_effect() {
            match effect {
                Effect::Connect(wire, _) => self.connects.push(wire),
                Effect::Disconnect(wire, _) => self.disconnects.push(wire),
                Effect::Tell { text, .. } => self.told.push(text),
                Effect::Logging => {}
            }
        }
    }

    /// Everything that was to be sent.
    fn sent(&mut self, wire: Wire) -> Vec<u8> {
        let mut all = Vec::new();
        while !self.agent.out(wire).is_empty() {
            let mut part = Vec::new();
            self.agent.out(wire).send(&mut part).unwrap();
            self.agent.sent(wire);
            all.extend(part);
        }
        all
    }

    /// Text frames that were to be sent, as channel and payload.
    fn messages(&mut self) -> Vec<(String, Value)> {
        let mut bytes = self.sent(Wire::WebSocket);
        let mut all = Vec::new();
        while bytes.len() >= 2 {
            let (head, length) = match bytes[1] & 0x7f {
                126 => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
                127 => (
                    10,
                    usize::try_from(u64::from_be_bytes(bytes[2..10].try_into().unwrap())).unwrap(),
                ),
                short => (2, usize::from(short)),
            };
            let mask: Vec<u8> = bytes[head..head + 4].to_vec();
            let payload: Vec<u8> = bytes[head + 4..head + 4 + length]
                .iter()
                .zip(mask.iter().cycle())
                .map(|(byte, mask)| byte ^ mask)
                .collect();
            if bytes[0] == 0x81 {
                let mut value: Value = serde_json::from_slice(&payload).unwrap();
                all.push((value["channel"].as_str().unwrap().to_owned(), value["payload"].take()));
            }
            bytes.drain(..head + 4 + length);
        }
        all
    }

    fn answer_root(&mut self, body: &str) {
        assert_eq!(self.connects.pop(), Some(Wire::Verify));
        self.agent.connected(Wire::Verify, self.now);
        let request = String::from_utf8(self.sent(Wire::Verify)).unwrap();
        assert!(request.starts_with("POST /api/node/verifyPM2 HTTP/1.1\r\n"), "{request}");
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        self.agent.received(Wire::Verify, answer.as_bytes(), self.now);
        self.effects();
    }

    fn upgrade(&mut self) {
        assert_eq!(self.connects.pop(), Some(Wire::WebSocket));
        self.agent.connected(Wire::WebSocket, self.now);
        let request = String::from_utf8(self.sent(Wire::WebSocket)).unwrap();
        let key =
            request.split("Sec-WebSocket-Key: ").nth(1).unwrap().split("\r\n").next().unwrap();
        let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
        let head = format!(
            "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        self.agent.received(Wire::WebSocket, head.as_bytes(), self.now);
        self.effects();
    }

    fn connected() -> Self {
        let mut world = Self::new(config());
        world.answer_root(GOOD);
        world.upgrade();
        world
    }

    fn say(&mut self, channel: &str, payload: &Value) {
        let text = json!({"channel": channel, "payload": payload}).to_string();
        let length = u16::try_from(text.len()).unwrap().to_be_bytes();
        let bytes = [&[0x81, 126][..], &length, text.as_bytes()].concat();
        self.agent.received(Wire::WebSocket, &bytes, self.now);
        self.effects();
    }

    /// Goes on to the next thing that happens by itself.
    fn wait(&mut self) -> u64 {
        let at = self.agent.next_deadline().expect("something is due");
        let waited = at.0 - self.now.mono.0;
        self.now.mono = at;
        self.agent.handle_timeout(self.now);
        self.effects();
        waited
    }

    /// Until a connection is wanted; the root goes on to answer.
    fn until(&mut self, wire: Wire) {
        while self.connects.last() != Some(&wire) {
            match self.connects.last() {
                Some(Wire::Verify) => self.answer_root(GOOD),
                _ => drop(self.wait()),
            }
        }
    }

    fn method(&mut self, name: &str, parameters: &Value) {
        self.say("trigger:pm2:action", &json!({"method_name": name, "parameters": parameters}));
    }
}

#[test]
fn the_root_says_where_to_go_and_the_status_follows() {
    let mut world = World::connected();
    assert_eq!(world.agent.status_at(), Some(world.now.mono.after(STATUS_EVERY)));
    let status: Rc<[u8]> = br#"{"a":1}"#.as_slice().into();
    world.agent.tell_status(&status, world.now);
    assert_eq!(world.messages(), [("status".to_owned(), json!({"a": 1}))]);
    assert_eq!(world.agent.status_at(), Some(world.now.mono.after(STATUS_EVERY)));
    assert!(world.agent.is_connected() && world.agent.is_verified());
    assert_eq!(world.agent.remote_host(), Some("http://w"));
}

#[test]
fn a_root_that_talks_nonsense_is_asked_with_growing_pauses_and_one_warning() {
    let mut world = World::new(config());
    let mut waits = Vec::new();
    for body in ["oops", "[]", r#"{"active":true}"#, r#"{"disabled":true,"endpoints":{}}"#] {
        world.answer_root(body);
        waits.push(world.wait());
    }
    assert_eq!(waits, [200, 400, 600, 800]);
    assert_eq!(world.told.len(), 1, "{:?}", world.told);
    assert!(world.told[0].contains("status 200, and no JSON"), "{:?}", world.told);
    world.answer_root(GOOD);
    assert_eq!(world.connects, [Wire::WebSocket]);
}

#[test]
fn a_root_that_is_silent_is_given_up() {
    let mut world = World::new(config());
    world.agent.connected(Wire::Verify, world.now);
    assert_eq!(world.wait(), 10_000);
    assert_eq!((world.disconnects.pop(), world.wait()), (Some(Wire::Verify), 200));
}

#[test]
fn an_end_point_that_refuses_is_tried_for_ever_with_one_warning() {
    let mut world = World::new(config());
    world.answer_root(GOOD);
    let begin = world.now.mono.0;
    for _ in 0..20 {
        world.until(Wire::WebSocket);
        world.connects.pop();
        world.agent.lost(Wire::WebSocket, "connection refused", world.now);
        world.effects();
    }
    let total = world.now.mono.0 - begin;
    assert!(total > 60_000, "{total}");
    assert_eq!(world.told.len(), 1, "{:?}", world.told);
}

#[test]
fn a_silent_back_end_is_left_after_twenty_seconds() {
    let mut world = World::connected();
    let mut waited = 0;
    while world.disconnects.last() != Some(&Wire::WebSocket) {
        waited += world.wait();
    }
    // The first ping goes after five.
    assert_eq!(waited, 25_000);
    assert!(world.agent.status_at().is_none());
}

#[test]
fn events_wait_while_nobody_is_connected_and_come_in_order() {
    let mut world = World::connected();
    world.agent.lost(Wire::WebSocket, "x", world.now);
    for at in 0..260 {
        world.agent.tell_event("custom", at.to_string().into_bytes(), Class::Event);
    }
    world.agent.tell_status(&b"{}".as_slice().into(), world.now);
    world.until(Wire::WebSocket);
    world.upgrade();
    let got: Vec<u64> = world.messages().iter().map(|(_, at)| at.as_u64().unwrap()).collect();
    assert_eq!(got, (60..260).collect::<Vec<u64>>());
    let link = world.agent.links().find(|link| link.wire == Wire::WebSocket).unwrap();
    assert_eq!(link.dropped, 60);
}

#[test]
fn a_back_end_that_does_not_read_costs_no_more_than_its_bytes() {
    let mut world = World::connected();
    let status: Rc<[u8]> = format!("\"{}\"", "x".repeat(4000)).into_bytes().into();
    for _ in 0..5000 {
        world.agent.tell_event(
            "logs",
            json!("x".repeat(1000)).to_string().into_bytes(),
            Class::Log,
        );
        world.agent.tell_event("x", b"1".to_vec(), Class::Event);
        world.agent.tell_status(&status, world.now);
    }
    let (waiting, bytes) = world.agent.socket.queue.waiting();
    assert!(bytes <= QUEUE, "{waiting} {bytes}");
    assert!(world.agent.out(Wire::WebSocket).queued_events() < 2 * 64 * 1024);
    let events = world.messages().iter().filter(|(channel, _)| channel == "x").count();
    assert_eq!(events, 5000, "logs go first");
}

#[test]
fn actions_are_answered_in_order_whatever_they_are() {
    let mut world = World::connected();
    world.method("ping", &json!({}));
    world.method("restart", &json!({"name": "a"}));
    world.method("delete", &json!({"name": "a"}));
    world.say("trigger:action", &json!({"action_name": "hello"}));
    world.method("scale", &json!({"name": "a", "number": "x"}));
    world.say("no:such:channel", &json!({"a": 1}));
    let order = world.agent.next_order(world.now).unwrap();
    assert_eq!(order.deed, orders::Deed::Restart);
    assert!(world.agent.next_order(world.now).is_none(), "one at a time");
    world.agent.answer(Err(Refusal::new("not_found", "no such app")), world.now);
    assert!(world.agent.next_order(world.now).is_none());
    let said: Vec<Value> = world
        .messages()
        .into_iter()
        .map(|(channel, payload)| match payload.get("ret") {
            Some(ret) => json!([payload["meta"]["method_name"], ret["err"]["code"]]),
            None => json!([channel, payload["success"]]),
        })
        .collect();
    assert_eq!(
        said,
        [
            json!(["ping", null]),
            json!(["restart", "not_found"]),
            json!(["delete", "not_allowed"]),
            json!(["trigger:action:failure", false]),
            json!(["scale", "bad_args"]),
        ]
    );
}

#[test]
fn a_burst_is_answered_and_never_held_at_once() {
    let mut world = World::connected();
    for _ in 0..500 {
        world.method("restart", &json!({"id": 1}));
    }
    assert!(world.agent.tasks.len() <= MAX_TASKS && !world.agent.wants_input());
    let mut count = 0;
    while world.agent.next_order(world.now).is_some() {
        count += 1;
        world.agent.answer(Ok(()), world.now);
    }
    assert_eq!((count, world.messages().len()), (500, 500));
}

#[test]
fn who_is_not_read_is_not_called_silent_and_nothing_spins() {
    let mut world = World::connected();
    for _ in 0..MAX_TASKS {
        world.method("restart", &json!({"id": 1}));
    }
    assert!(world.agent.next_order(world.now).is_some());
    world.method("restart", &json!({"id": 1}));
    for _ in 0..10 {
        assert!(world.wait() > 0);
    }
    assert!(!world.disconnects.contains(&Wire::WebSocket));
}

#[test]
fn an_owners_own_list_is_the_whole_list() {
    let own = AgentConfig { remote_methods: Some(vec!["stop".to_owned()]), ..config() };
    let mut world = World::new(own);
    world.answer_root(GOOD);
    world.upgrade();
    world.method("stop", &json!({"id": "3"}));
    let order = world.agent.next_order(world.now).unwrap();
    assert_eq!(order.whom, orders::Whom::Id("3".to_owned()));
    world.agent.answer(Ok(()), world.now);
    world.method("ping", &json!({}));
    world.say("trigger:action", &json!({"action_name": "a", "process_id": 1}));
    assert!(world.agent.next_order(world.now).is_none());
    let said = world.messages();
    assert_eq!(said[1].1["ret"]["err"]["code"], "not_allowed");
    assert_eq!(said[2].1["success"], false);
}

#[test]
fn malformed_frames_and_messages_do_no_harm() {
    let mut world = World::connected();
    for text in ["null", "[]", "not json", "{}", "\"x\"", r#"{"channel":1,"payload":1}"#] {
        let head = [0x81, u8::try_from(text.len()).unwrap()];
        world.agent.received(Wire::WebSocket, &[&head, text.as_bytes()].concat(), world.now);
    }
    world.method("restart", &Value::Null);
    assert!(world.agent.next_order(world.now).is_none());
    assert_eq!(world.messages()[0].1["ret"]["err"]["code"], "bad_args");
    world.agent.received(Wire::WebSocket, b"\xc1\x00", world.now);
    world.effects();
    assert_eq!(world.disconnects.last(), Some(&Wire::WebSocket));
}

#[test]
fn new_end_points_mean_one_connection_to_the_new_place() {
    let mut world = World::connected();
    while world.connects.is_empty() {
        world.agent.received(Wire::WebSocket, b"\x8a\x00", world.now);
        world.wait();
    }
    world.disconnects.clear();
    world.answer_root(&GOOD.replace("ws://a:1", "ws://b:1"));
    assert_eq!(world.disconnects, [Wire::Verify, Wire::WebSocket]);
    world.upgrade();
    assert_eq!(world.agent.line(Wire::WebSocket).to.as_ref().unwrap().host, "b");
}

#[test]
fn who_is_thrown_out_stays_out_until_he_is_let_in() {
    let mut world = World::connected();
    while world.connects.is_empty() {
        world.agent.received(Wire::WebSocket, b"\x8a\x00", world.now);
        world.wait();
    }
    world.answer_root(r#"{"active":false,"error":true}"#);
    assert_eq!(world.disconnects.last(), Some(&Wire::WebSocket));
    world.agent.tell_event("x", b"1".to_vec(), Class::Event);
    assert_eq!(world.wait(), 60_000);
    world.answer_root(GOOD);
    world.upgrade();
    assert_eq!(world.messages(), [("x".to_owned(), json!(1))]);
}

#[test]
fn patches_begin_with_a_whole_status_after_each_connection_and_when_asked() {
    let mut world = World::new(AgentConfig { patches: true, ..config() });
    world.answer_root(GOOD);
    world.upgrade();
    let tell = |world: &mut World, text: &str| {
        world.agent.tell_status(&text.as_bytes().into(), world.now);
        world.messages().pop().unwrap()
    };
    assert_eq!(tell(&mut world, r#"{"a":1}"#).0, "status");
    let (channel, patch) = tell(&mut world, r#"{"a":2}"#);
    assert_eq!(channel, "status:patch");
    assert_eq!(patch, json!([{"op": "replace", "path": "/a", "value": 2}]));
    world.say("status:resend", &json!({"please": true}));
    assert_eq!(tell(&mut world, r#"{"a":3}"#), ("status".to_owned(), json!({"a": 3})));
}

#[test]
fn an_end_says_good_bye() {
    let mut world = World::connected();
    world.agent.stop(world.now);
    let Some(Effect::Disconnect(Wire::WebSocket, mut out)) = world.agent.take_effect() else {
        panic!("it does not hang up")
    };
    let mut bytes = Vec::new();
    out.send(&mut bytes).unwrap();
    assert_eq!(bytes[0], 0x88);
    assert!(world.agent.next_deadline().is_none());
}

#[cfg(not(feature = "tls"))]
#[test]
fn tls_is_a_clear_error() {
    let mut world = World::new(config());
    world.answer_root(&GOOD.replace("ws://", "wss://"));
    assert!(world.connects.is_empty());
    assert!(world.told[0].contains("speaks no TLS"), "{:?}", world.told);
}

#[cfg(feature = "agent-axon")]
#[test]
fn batches_are_ciphered_and_orders_come_only_with_the_secret() {
    use crate::proto::agent::cipher::Cipher;
    let both = ["push".to_owned(), "reverse".to_owned()];
    let mut world = World::new(AgentConfig { websocket: None, axon: Some(both), ..config() });
    world.answer_root(GOOD);
    assert_eq!(world.connects, [Wire::Push, Wire::Reverse]);
    world.agent.tell_event("x", b"1".to_vec(), Class::Event);
    for wire in [Wire::Push, Wire::Reverse] {
        world.agent.connected(wire, world.now);
    }
    world.agent.tell_event("x", b"2".to_vec(), Class::Event);
    world.agent.tell_status(&b"{}".as_slice().into(), world.now);
    let cipher = Cipher::new("sec");
    let open = |bytes: &[u8]| {
        let said: Value = serde_json::from_slice(&bytes[7..]).unwrap();
        let plain = cipher.decrypt(said["data"].as_str().unwrap()).unwrap();
        serde_json::from_slice::<Value>(&plain).unwrap()
    };
    let batch = open(&world.sent(Wire::Push));
    assert_eq!(batch, json!({"x": [1, 2], "status": {}, "server_name": "edge"}));
    let order = json!({"method_name": "restart", "parameters": {"id": 1}}).to_string();
    let wrong = Cipher::new("other").encrypt(order.as_bytes());
    let right = cipher.encrypt(order.as_bytes());
    let lines = format!(
        "[\"ask\",null]\n[\"trigger:pm2:action\",\"{wrong}\"]\nnonsense\n[\"trigger:pm2:action\",\"{right}\"]\n"
    );
    for part in lines.as_bytes().chunks(7) {
        world.agent.received(Wire::Reverse, part, world.now);
    }
    assert!(world.agent.next_order(world.now).is_some());
    assert!(world.agent.next_order(world.now).is_none());
    world.agent.answer(Ok(()), world.now);
    let said = String::from_utf8(world.sent(Wire::Reverse)).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    let ask: Value = serde_json::from_str(lines[0]).unwrap();
    let meta = cipher.decrypt(ask[1]["data"].as_str().unwrap()).unwrap();
    let meta: Value = serde_json::from_slice(&meta).unwrap();
    assert_eq!((&ask[0], &meta["machine_name"]), (&json!("ask:rep"), &json!("edge")));
    assert!(lines[1].starts_with(r#"["trigger:pm2:result",{"meta""#), "{}", lines[1]);
    world.agent.received(Wire::Reverse, &vec![b'x'; 1024 * 1024 + 1], world.now);
    assert!(!world.agent.line(Wire::Reverse).is_open());
}
