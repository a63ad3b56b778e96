//! The transporter `mqtt`: this host as one of many, on a broker that the owner runs.
//!
//! Below `PREFIX/GROUP/HOST`: `online` (birth, will, end), `host` and `state` are retained; `metrics`,
//! `event/KIND`, `log/PROCESS` and `reply/WHO` are not. Commands come on `cmd/ACTION` there and on
//! `PREFIX/GROUP/_all/cmd/ACTION`. After the broker has accepted us: subscribe, `online`, `host`,
//! `state`, then the events that waited.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::agent::line::{Line, State, Wire};
use crate::agent::orders::{self, Asker, Deed, Refusal};
use crate::agent::queue::{self, Packet as Waiting, Queue};
use crate::agent::{Agent, Effect, OFFLINE, QUEUE, Task};
use crate::base::{Now, Time};
use crate::config::agent::{AgentConfig, MqttConfig};
use crate::json::json;
use crate::proto::agent::endpoint::{Endpoint, Kind};
use crate::proto::agent::mqtt::{self, Connect, Packet};
use crate::proto::buffer::{Class, Inbox};
use crate::proto::pm2::object::Object;

/// Commands that are obeyed, unless the owner says otherwise.
const USUAL: [&str; 8] = ["ping", "state", "restart", "reload", "reset", "scale", "action", "logs"];
/// Events and answers that the broker has not acknowledged; with birth and state at most 16.
const IN_FLIGHT: usize = 12;
/// Bytes in the outbox; more wait in the queue.
const WINDOW: usize = 64 * 1024;
/// Commands that are remembered, not to be obeyed twice.
const REMEMBERED: usize = 256;
/// Bytes of an id, or of the name of who asks.
const MAX_WORD: usize = 128;
/// Commands to all hosts are spread over so long.
const SPREAD: Duration = Duration::from_secs(5);
/// Of those, so many wait.
const MAX_DELAYED: usize = 64;
/// A command is obeyed for so long after it was sent, in milliseconds.
const TTL: u64 = 60_000;
/// How long logs are told, in seconds: by default, and at most.
const LOG_SECONDS: u64 = 120;
const MOST_LOG_SECONDS: u64 = 600;
/// Wishes for logs.
const MAX_LOG_WISHES: usize = 64;
/// Between two states.
const STATE_PACE: Duration = Duration::from_secs(1);

/// What the owner is to tell.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Say {
    /// Members `procs`.
    State,
    /// Members `host` and `procs`.
    Metrics,
}

/// A message that may have to be sent again.
#[derive(Debug)]
struct Sent {
    id: u16,
    topic: String,
    payload: Rc<[u8]>,
}

/// What is known of the connection beside the line.
#[derive(Debug)]
pub struct Talk {
    config: MqttConfig,
    base: String,
    all: String,
    client: String,
    inbox: Inbox,
    pub queue: Queue,
    in_flight: VecDeque<Sent>,
    last_id: u16,
    seq: u64,
    /// Of the queue's losses, those that `seq` has a gap for.
    gaps: u64,
    ping_at: Time,
    /// Until when the broker may be silent.
    silent_until: Option<Time>,
    state_at: Time,
    refresh_at: Time,
    told_at: Time,
    /// Members of the last state.
    told: Vec<u8>,
    metrics_at: Time,
    /// The state was told on this connection.
    is_born: bool,
    seen: VecDeque<String>,
    delayed: Vec<(Time, Task, Asker)>,
    /// Whose logs are told (`None`: everybody's), and until when.
    logs: Vec<(Option<String>, Time)>,
}

impl Talk {
    pub fn new(config: &AgentConfig) -> Option<Box<Self>> {
        let own = config.mqtt.clone()?;
        let [group, host] = [&own.group, &config.machine_name].map(|name| mqtt::level(name));
        let client = own.client_id.clone();
        Some(Box::new(Self {
            base: format!("{}/{group}/{host}", own.prefix),
            all: format!("{}/{group}/_all", own.prefix),
            client: client.unwrap_or_else(|| format!("pmd-{}-{}", own.group, config.machine_name)),
            config: own,
            inbox: Inbox::new(mqtt::MAX_PACKET + 64 * 1024),
            queue: Queue::new(QUEUE),
            in_flight: VecDeque::new(),
            last_id: 0,
            seq: 0,
            gaps: 0,
            ping_at: Time(0),
            silent_until: None,
            state_at: Time(0),
            refresh_at: Time(0),
            told_at: Time(0),
            told: Vec::new(),
            metrics_at: Time(0),
            is_born: false,
            seen: VecDeque::new(),
            delayed: Vec::new(),
            logs: Vec::new(),
        }))
    }

    /// The connection is no more; what waits stays, and what was not acknowledged.
    pub fn reset(&mut self) {
        self.inbox.clear();
        self.silent_until = None;
        self.is_born = false;
    }

    pub fn next_deadline(&self, line: &Line) -> Option<Time> {
        let is_open = line.is_open();
        let ping = is_open.then(|| self.silent_until.unwrap_or(self.ping_at).min(self.ping_at));
        let delayed = self.delayed.iter().map(|(at, ..)| *at);
        let logs = self.logs.iter().map(|(_, until)| *until);
        delayed.chain(logs).chain(ping).min()
    }

    fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.wrapping_add(1).max(1);
            if self.in_flight.iter().all(|sent| sent.id != self.last_id) {
                return self.last_id;
            }
        }
    }

    fn keep_alive(&self) -> Duration {
        Duration::from_secs(self.config.keep_alive.into())
    }

    fn is_allowed(&self, action: &str) -> bool {
        match &self.config.remote_methods {
            Some(own) => own.iter().any(|word| word == action),
            None => USUAL.contains(&action),
        }
    }
}

impl Agent {
    pub(super) fn lead_fleet(&mut self, now: Now) {
        let Some(fleet) = &self.fleet else { return };
        match Endpoint::parse(&fleet.config.endpoint.0, Kind::Mqtt) {
            Ok(to) => self.lead(Wire::Mqtt, Some(to), now),
            Err(why) => self.leads_nowhere(Wire::Mqtt, why, now),
        }
    }

    /// Says who we are, and what is to be said when we are lost.
    pub(super) fn greet_broker(&mut self) {
        let Some(fleet) = &self.fleet else { return };
        let user = self.line(Wire::Mqtt).to.as_ref().and_then(|to| to.user.clone());
        let will = json!({"v": 1, "online": false, "boot": self.boot}).to_string();
        let frame = mqtt::connect(&Connect {
            client: &fleet.client,
            user: user.as_ref().map(|(user, password)| (user.as_str(), password.as_str())),
            keep_alive: fleet.config.keep_alive,
            will: (&format!("{}/online", fleet.base), will.as_bytes()),
        });
        let _ = self.out(Wire::Mqtt).push(frame, Class::Reply);
    }

    pub(super) fn hear_broker(&mut self, bytes: &[u8], now: Now) -> Result<(), String> {
        let Some(fleet) = &mut self.fleet else { return Ok(()) };
        fleet.silent_until = None;
        fleet.inbox.extend(bytes).map_err(|_| "a packet is too long")?;
        self.understand_broker(now)
    }

    /// Understands what came, as long as there is room for what it asks.
    pub(super) fn understand_broker(&mut self, now: Now) -> Result<(), String> {
        while self.wants_input() {
            let Some(mut fleet) = self.fleet.take() else { break };
            let read = self.understand_packet(&mut fleet, now);
            self.fleet = Some(fleet);
            match read? {
                None => break,
                Some(Heard::Accepted) => self.be_born(now),
                Some(Heard::Command { action, all, payload }) => {
                    self.hear_command(&action, all, &payload, now);
                }
                Some(Heard::Nothing) => self.fill_mqtt(),
            }
        }
        Ok(())
    }

    fn understand_packet(&mut self, fleet: &mut Talk, now: Now) -> Result<Option<Heard>, String> {
        let Some((packet, length)) = Packet::first(fleet.inbox.pending())? else { return Ok(None) };
        let is_greeting = matches!(self.line(Wire::Mqtt).state, State::Greeting(_));
        let heard = match packet {
            Packet::Accepted(0) if is_greeting => Heard::Accepted,
            Packet::Accepted(code) if is_greeting => return Err(mqtt::refusal(code).to_owned()),
            _ if is_greeting => return Err("the broker does not say that it accepts us".to_owned()),
            Packet::Accepted(_) => return Err("the broker accepts us twice".to_owned()),
            Packet::Message { topic, payload, retained, id } => {
                if let Some(id) = id {
                    let _ = self.out(Wire::Mqtt).push(mqtt::acknowledge(id), Class::Reply);
                }
                let below = |base: &str| topic.strip_prefix(base)?.strip_prefix("/cmd/");
                let (own, all) = (below(&fleet.base), below(&fleet.all));
                match own.or(all).filter(|_| !retained) {
                    Some(action) => Heard::Command {
                        action: action.to_owned(),
                        all: own.is_none(),
                        payload: payload.to_vec(),
                    },
                    None => Heard::Nothing,
                }
            }
            Packet::Acknowledged(id) => {
                fleet.in_flight.retain(|sent| sent.id != id);
                Heard::Nothing
            }
            Packet::Subscribed(codes) => {
                if codes.contains(&128) {
                    let text = "agent: mqtt: the broker does not let us subscribe to commands";
                    self.tell(true, text.to_owned());
                }
                Heard::Nothing
            }
            Packet::Alive => Heard::Nothing,
        };
        fleet.inbox.consume(length);
        let _ = now;
        Ok(Some(heard))
    }

    /// The broker has accepted us.
    fn be_born(&mut self, now: Now) {
        self.opened(Wire::Mqtt, now);
        let Some(mut fleet) = self.fleet.take() else { return };
        let id = fleet.next_id();
        let filters = [&fleet.base, &fleet.all].map(|base| format!("{base}/cmd/+"));
        let _ = self
            .out(Wire::Mqtt)
            .push(mqtt::subscribe(id, &filters.each_ref().map(String::as_str)), Class::Reply);
        let online = json!({
            "v": 1, "online": true, "boot": self.boot, "ts": now.wall.0,
            "version": env!("CARGO_PKG_VERSION"),
        });
        self.keep(&mut fleet, "online", &online);
        let facts = &self.facts;
        let host = json!({
            "v": 1, "boot": self.boot, "hostname": facts.hostname, "arch": facts.machine,
            "kernel": facts.kernel, "cpus": facts.cpus.as_array().map_or(0, Vec::len),
            "mem": facts.memory,
        });
        self.keep(&mut fleet, "host", &host);
        fleet.ping_at = now.mono.after(fleet.keep_alive());
        (fleet.state_at, fleet.refresh_at) = (now.mono, now.mono);
        fleet.metrics_at = now.mono.after(fleet.config.metrics_interval);
        self.fleet = Some(fleet);
    }

    /// Has the broker keep what is true from now on. It is never sent again: it would not be true.
    fn keep(&mut self, fleet: &mut Talk, topic: &str, payload: &Value) {
        let (id, topic) = (fleet.next_id(), format!("{}/{topic}", fleet.base));
        let payload = payload.to_string();
        let frame = mqtt::message(&topic, payload.as_bytes(), true, Some(id), false);
        let _ = self.out(Wire::Mqtt).push(frame, Class::Event);
    }

    /// What the owner is to tell now, or when it is.
    #[must_use]
    pub fn fleet_wants(&self) -> Option<(Time, Say)> {
        let fleet = self.fleet.as_ref().filter(|_| self.line(Wire::Mqtt).is_open())?;
        Some(match fleet.state_at <= fleet.metrics_at {
            true => (fleet.state_at, Say::State),
            false => (fleet.metrics_at, Say::Metrics),
        })
    }

    /// Something about processes has changed, perhaps.
    pub fn touch_state(&mut self, now: Now) {
        if let Some(fleet) = &mut self.fleet {
            let soon = fleet.told_at.after(STATE_PACE).max(now.mono);
            fleet.state_at = fleet.state_at.min(soon);
        }
    }

    /// Tells what [`Self::fleet_wants`] wanted; `members`: JSON members, without a comma before them.
    pub fn tell_fleet(&mut self, say: Say, members: &[u8], now: Now) {
        let Some(mut fleet) = self.fleet.take() else { return };
        let mut payload = Vec::with_capacity(members.len() + 128);
        let mut object = Object::begin(&mut payload);
        object.number("v", 1);
        object.text("boot", &self.boot);
        if say == Say::State {
            fleet.state_at = fleet.refresh_at;
            let is_due = fleet.refresh_at <= now.mono;
            if is_due || fleet.told != members {
                fleet.seq += 1;
                object.number("seq", i64::try_from(fleet.seq).unwrap_or(i64::MAX));
                object.number("ts", i64::try_from(now.wall.0).unwrap_or(i64::MAX));
                payload.push(b',');
                payload.extend_from_slice(members);
                payload.push(b'}');
                let (id, topic) = (fleet.next_id(), format!("{}/state", fleet.base));
                let frame = mqtt::message(&topic, &payload, true, Some(id), false);
                let _ = self.out(Wire::Mqtt).push(frame, Class::Event);
                fleet.told = members.to_vec();
                fleet.told_at = now.mono;
                fleet.refresh_at = now.mono.after(fleet.config.state_refresh);
                fleet.state_at = fleet.refresh_at;
            }
        } else {
            fleet.metrics_at = now.mono.after(fleet.config.metrics_interval);
            object.number("ts", i64::try_from(now.wall.0).unwrap_or(i64::MAX));
            payload.push(b',');
            payload.extend_from_slice(members);
            payload.push(b'}');
            if self.line(Wire::Mqtt).out.queued_events() < WINDOW {
                let topic = format!("{}/metrics", fleet.base);
                let frame = mqtt::message(&topic, &payload, false, None, false);
                let _ = self.out(Wire::Mqtt).push(frame, Class::Event);
            }
        }
        if !std::mem::replace(&mut fleet.is_born, true) {
            for sent in &fleet.in_flight {
                let frame = mqtt::message(&sent.topic, &sent.payload, false, Some(sent.id), true);
                let _ = self.out(Wire::Mqtt).push(frame, Class::Event);
            }
        }
        self.fleet = Some(fleet);
        self.fill_mqtt();
    }

    /// Tells an event of a process, as the bus has it.
    pub fn tell_fleet_event(
        &mut self,
        channel: &str,
        id: u32,
        name: &str,
        event: &Map<String, Value>,
    ) {
        if self.fleet.is_none() {
            return;
        }
        let member = |key: &str| event.get(key).cloned().unwrap_or_default();
        let word;
        let (kind, data) = match channel {
            "process:event" => {
                word =
                    event.get("event").and_then(Value::as_str).unwrap_or("other").replace(' ', "_");
                let more = ["manually", "uptime", "last_output"];
                let data = more
                    .into_iter()
                    .filter_map(|key| Some((key.to_owned(), event.get(key)?.clone())));
                (word.as_str(), Value::Object(data.collect()))
            }
            "process:exception" => ("exception", member("data")),
            "process:msg" => ("custom", member("raw")),
            "axm:reply" => ("reply", member("data")),
            _ => ("custom", member("data")),
        };
        // The begin comes when it is sent: numbers grow in the order of that.
        let mut rest = Vec::new();
        let mut object = Object::begin(&mut rest);
        object.value("ts", &member("at"));
        object.value("proc", &json!({"id": id, "name": name}));
        object.value("code", &member("exit_code"));
        object.value("signal", &member("signal"));
        object.value("data", &data);
        if kind == "custom" {
            object.text("type", channel);
        }
        object.end();
        let topic = format!("event/{}", mqtt::level(kind));
        self.queue_for_fleet(&topic, rest, queue::Class::Event);
    }

    /// Whether the logs of a process are wanted over MQTT.
    #[must_use]
    pub fn fleet_wants_logs(&self, name: &str) -> bool {
        let logs = self.fleet.as_ref().map(|fleet| fleet.logs.as_slice()).unwrap_or_default();
        logs.iter().any(|(whose, _)| whose.as_deref().is_none_or(|whose| whose == name))
    }

    /// Tells what a process wrote; `payload`: JSON.
    pub fn tell_fleet_log(&mut self, name: &str, payload: Vec<u8>) {
        self.queue_for_fleet(&format!("log/{}", mqtt::level(name)), payload, queue::Class::Log);
    }

    fn queue_for_fleet(&mut self, topic: &str, payload: Vec<u8>, class: queue::Class) {
        let is_open = self.line(Wire::Mqtt).is_open();
        let Some(fleet) = &mut self.fleet else { return };
        let packet = Waiting { class, channel: topic.into(), payload: payload.into() };
        fleet.queue.push(packet, if is_open { usize::MAX } else { OFFLINE });
        self.fill_mqtt();
    }

    pub(super) fn fill_mqtt(&mut self) {
        if !self.line(Wire::Mqtt).is_open() {
            return;
        }
        let Some(mut fleet) = self.fleet.take() else { return };
        while fleet.is_born
            && fleet.in_flight.len() < IN_FLIGHT
            && self.line(Wire::Mqtt).out.queued_events() < WINDOW
        {
            let Some(packet) = fleet.queue.pop() else { break };
            let topic = format!("{}/{}", fleet.base, packet.channel);
            let mut payload = packet.payload;
            if packet.channel.starts_with("event/") {
                // Who counts sees how many are missing.
                fleet.seq += 1 + fleet.queue.lost_events - fleet.gaps;
                fleet.gaps = fleet.queue.lost_events;
                let begin = format!("{{\"v\":1,\"boot\":\"{}\",\"seq\":{},", self.boot, fleet.seq);
                payload = [begin.as_bytes(), payload.get(1..).unwrap_or_default()].concat().into();
            }
            let id = (packet.class != queue::Class::Log).then(|| fleet.next_id());
            let frame = mqtt::message(&topic, &payload, false, id, false);
            let _ = self.out(Wire::Mqtt).push(frame, Class::Event);
            if let Some(id) = id {
                fleet.in_flight.push_back(Sent { id, topic, payload });
            }
        }
        self.fleet = Some(fleet);
    }

    /// Pings, gives up a broker that is silent, lets commands come due and wishes end.
    pub(super) fn attend_broker(&mut self, now: Now) {
        let is_open = self.line(Wire::Mqtt).is_open();
        let reads = self.wants_input();
        let Some(fleet) = &mut self.fleet else { return };
        let wishes = fleet.logs.len();
        fleet.logs.retain(|(_, until)| *until > now.mono);
        if fleet.logs.len() < wishes {
            self.effects.push_back(Effect::Logging);
        }
        let (due, later) =
            std::mem::take(&mut fleet.delayed).into_iter().partition(|(at, ..)| *at <= now.mono);
        fleet.delayed = later;
        let due: Vec<(Time, Task, Asker)> = due;
        self.tasks.extend(due.into_iter().map(|(_, task, asker)| (task, asker)));
        if !is_open {
            return;
        }
        if !reads {
            // Who is not read may have said something.
            fleet.silent_until = None;
        }
        if fleet.silent_until.is_some_and(|until| until <= now.mono) {
            return self.lost(Wire::Mqtt, "the broker does not answer", now);
        }
        if fleet.ping_at <= now.mono {
            fleet.ping_at = now.mono.after(fleet.keep_alive());
            let patience = now.mono.after(fleet.keep_alive() / 2);
            fleet.silent_until.get_or_insert(patience);
            let _ = self.out(Wire::Mqtt).push_first(mqtt::ping());
        }
    }

    /// The last words of an orderly end: the will is not needed.
    pub(super) fn leave_broker(&mut self, now: Now) {
        if !self.line(Wire::Mqtt).is_open() {
            return;
        }
        let Some(mut fleet) = self.fleet.take() else { return };
        let end = json!({
            "v": 1, "online": false, "boot": self.boot, "reason": "stopped", "ts": now.wall.0,
        });
        self.keep(&mut fleet, "online", &end);
        let _ = self.out(Wire::Mqtt).push(mqtt::disconnect(), Class::Event);
        self.fleet = Some(fleet);
    }

    fn hear_command(&mut self, action: &str, all: bool, payload: &[u8], now: Now) {
        let Ok(command) = serde_json::from_slice::<Value>(payload) else { return };
        let word = |key: &str| {
            let word = command.get(key).and_then(Value::as_str)?;
            (1..=MAX_WORD).contains(&word.len()).then(|| word.to_owned())
        };
        // Without an id it could neither be answered nor be known again.
        let Some(id) = word("id") else { return };
        let Some(fleet) = &mut self.fleet else { return };
        if fleet.seen.contains(&id) {
            return;
        }
        if fleet.seen.len() == REMEMBERED {
            fleet.seen.pop_front();
        }
        fleet.seen.push_back(id.clone());
        self.asked += 1;
        let from = word("from").unwrap_or_else(|| "unknown".to_owned());
        let asker = Asker::Command { id, from, action: action.to_owned() };
        let number = |key: &str| command.get(key).and_then(Value::as_u64);
        let age = number("ts").map_or(0, |sent| now.wall.0.saturating_sub(sent));
        let ttl = number("ttl").unwrap_or(TTL);
        let none = Value::Null;
        let task = if !fleet.is_allowed(action) {
            Task::Say(Err(Refusal::not_allowed()))
        } else if ttl > 0 && age > ttl {
            Task::Say(Err(Refusal::new("expired", "the command is too old")))
        } else {
            self.task_of(action, command.get("args").unwrap_or(&none), now)
        };
        let Some(fleet) = &mut self.fleet else { return };
        if !all || matches!(task, Task::Say(_)) {
            self.tasks.push_back((task, asker));
        } else if fleet.delayed.len() < MAX_DELAYED {
            let at = now.mono.after(self.dice.within(SPREAD));
            fleet.delayed.push((at, task, asker));
        } else {
            let refusal = Refusal::new("failed", "too many commands wait");
            self.tasks.push_back((Task::Say(Err(refusal)), asker));
        }
    }

    fn task_of(&mut self, action: &str, args: &Value, now: Now) -> Task {
        let wrong = |why: &str| Task::Say(Err(Refusal::new("bad_args", why)));
        let Some(fleet) = &mut self.fleet else { return wrong("no fleet") };
        match action {
            "ping" => Task::Say(Ok(json!({"pong": true}))),
            "state" => {
                let text = [b"{", fleet.told.as_slice(), b"}"].concat();
                (fleet.state_at, fleet.refresh_at) = (now.mono, now.mono);
                Task::Say(Ok(serde_json::from_slice(&text).unwrap_or_default()))
            }
            "logs" => {
                let seconds = args.get("seconds").map_or(Some(LOG_SECONDS), Value::as_u64);
                let Some(seconds) = seconds.filter(|it| (1..=MOST_LOG_SECONDS).contains(it)) else {
                    return wrong("'seconds' must be a number from 1 to 600");
                };
                let name = args.get("name").and_then(Value::as_str).map(str::to_owned);
                match args.get("on").map_or(Some(true), Value::as_bool) {
                    Some(on) => {
                        let is_other = |whose: &Option<String>| name.is_some() && *whose != name;
                        fleet.logs.retain(|(whose, _)| is_other(whose));
                        if on && fleet.logs.len() < MAX_LOG_WISHES {
                            let until = now.mono.after(Duration::from_secs(seconds));
                            fleet.logs.push((name, until));
                        }
                        self.effects.push_back(Effect::Logging);
                        Task::Say(Ok(Value::Null))
                    }
                    None => wrong("'on' must be true or false"),
                }
            }
            "action" => {
                let whom = args.get("id").or_else(|| args.get("name"));
                let action = args.get("action").filter(|action| action.is_string());
                match (whom.filter(|it| it.is_string() || it.is_u64()), action) {
                    (Some(whom), Some(action)) => {
                        let opts = args.get("opts").filter(|opts| !opts.is_null());
                        let mut order = orders::child_order(whom, action, opts, None);
                        if args.get("id").is_none()
                            && let Deed::Message(Value::Object(command)) = &mut order.deed
                        {
                            command.remove("id");
                            command.insert("name".to_owned(), whom.clone());
                        }
                        Task::Do(order)
                    }
                    _ => wrong("'id' or 'name', and 'action' are needed"),
                }
            }
            _ => match orders::order(action, args) {
                Some(Ok(order)) => Task::Do(order),
                Some(Err(refusal)) => Task::Say(Err(refusal)),
                None => Task::Say(Err(Refusal::not_allowed())),
            },
        }
    }

    pub(super) fn reply_over_mqtt(
        &mut self,
        (id, from, action): (&str, &str, &str),
        answer: Result<Value, Refusal>,
        now: Now,
    ) {
        let mut reply = Vec::new();
        let mut object = Object::begin(&mut reply);
        object.number("v", 1);
        object.text("id", id);
        object.text("action", action);
        object.flag("ok", answer.is_ok());
        match &answer {
            Ok(data) => object.value("data", data),
            Err(refusal) => object.value("err", &refusal.json()),
        }
        object.number("ts", i64::try_from(now.wall.0).unwrap_or(i64::MAX));
        object.end();
        self.queue_for_fleet(&format!("reply/{}", mqtt::level(from)), reply, queue::Class::Event);
    }
}

/// What a packet came to.
enum Heard {
    Accepted,
    Command { action: String, all: bool, payload: Vec<u8> },
    Nothing,
}
