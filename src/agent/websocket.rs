//! The transporter `websocket`: messages both ways, `{"payload":..,"channel":..}`.

use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;

use crate::agent::line::{Line, State, Wire};
use crate::agent::queue::{self, Packet, Queue};
use crate::agent::{Agent, OFFLINE, QUEUE, USER_AGENT};
use crate::base::{Now, Time};
use crate::proto::agent::patch;
use crate::proto::agent::websocket::{self, Reader, Received};
use crate::proto::buffer::{Class, Frame};
use crate::proto::pm2::object::{self, Object, is_truthy};

/// Between two pings.
const PING_EVERY: Duration = Duration::from_secs(5);
/// Who says nothing for so long after a ping is gone.
const SILENCE: Duration = Duration::from_secs(20);
/// Bytes in the outbox; more wait in the queue, where the least can go.
const WINDOW: usize = 64 * 1024;

/// What is known of the connection beside the line.
#[derive(Debug)]
pub struct Talk {
    pub queue: Queue,
    key: String,
    /// What came before the upgrade was whole.
    head: Vec<u8>,
    reader: Reader,
    ping_at: Time,
    /// Until when the other end may be silent.
    silent_until: Option<Time>,
    /// The status that was sent last, where patches are.
    pub told: Option<Value>,
}

impl Default for Talk {
    fn default() -> Self {
        Self {
            queue: Queue::new(QUEUE),
            key: String::new(),
            head: Vec::new(),
            reader: Reader::default(),
            ping_at: Time(0),
            silent_until: None,
            told: None,
        }
    }
}

impl Talk {
    /// The connection is no more; what waits stays.
    pub fn reset(&mut self) {
        self.head = Vec::new();
        self.reader = Reader::default();
        self.silent_until = None;
        self.told = None;
    }

    pub fn next_deadline(&self, line: &Line) -> Option<Time> {
        line.is_open().then(|| self.silent_until.map_or(self.ping_at, |it| it.min(self.ping_at)))
    }
}

impl Agent {
    pub(super) fn ask_upgrade(&mut self) {
        self.socket.key = self.dice.key();
        let Some(to) = &self.line(Wire::WebSocket).to else { return };
        let config = &self.config;
        let request = websocket::request(
            to,
            &self.socket.key,
            &[
                ("X-KM-PUBLIC", &config.public_key),
                ("X-KM-SECRET", &config.secret_key.0),
                ("X-KM-SERVER", &config.machine_name),
                ("X-PM2-VERSION", &config.pm2_version),
                ("X-PROTOCOL-VERSION", "1"),
                ("User-Agent", USER_AGENT),
            ],
        );
        let _ = self.out(Wire::WebSocket).push(Frame::from(request), Class::Reply);
    }

    pub(super) fn hear_websocket(&mut self, bytes: &[u8], now: Now) -> Result<(), String> {
        self.socket.silent_until = None;
        if let State::Greeting(_) = self.line(Wire::WebSocket).state {
            self.socket.head.extend_from_slice(bytes);
            let Some(end) = websocket::accepted(&self.socket.head, &self.socket.key)? else {
                return Ok(());
            };
            let rest = std::mem::take(&mut self.socket.head).split_off(end);
            self.socket.reader.extend(&rest)?;
            self.socket.ping_at = now.mono.after(PING_EVERY);
            self.opened(Wire::WebSocket, now);
        } else {
            self.socket.reader.extend(bytes)?;
        }
        self.understand_websocket(now)
    }

    /// Understands what came, as long as there is room for what it asks.
    pub(super) fn understand_websocket(&mut self, now: Now) -> Result<(), String> {
        while self.wants_input() && self.line(Wire::WebSocket).is_open() {
            match self.socket.reader.take()? {
                None => break,
                Some(Received::Message(message)) => self.hear_message(&message, now),
                Some(Received::Ping(payload)) => {
                    let pong = websocket::pong(&payload, self.dice.mask());
                    let _ = self.out(Wire::WebSocket).push_first(pong);
                }
                Some(Received::Pong) => {}
                Some(Received::Close) => {
                    self.say_good_bye();
                    return Err("the back end closed the connection".to_owned());
                }
            }
        }
        Ok(())
    }

    /// What is no message is not worth a word.
    fn hear_message(&mut self, message: &[u8], now: Now) {
        let Ok(message) = serde_json::from_slice::<Value>(message) else { return };
        let payload = message.get("payload").filter(|payload| is_truthy(payload));
        let channel = message.get("channel").and_then(Value::as_str);
        if let (Some(payload), Some(channel)) = (payload, channel) {
            self.hear(Wire::WebSocket, channel, payload, now);
        }
    }

    pub(super) fn attend_websocket(&mut self, now: Now) {
        if !self.line(Wire::WebSocket).is_open() {
            return;
        }
        if !self.wants_input() {
            // Who is not read may have said something.
            self.socket.silent_until = None;
        }
        if self.socket.silent_until.is_some_and(|until| until <= now.mono) {
            return self.lost(Wire::WebSocket, "no sign of life for 20 s", now);
        }
        if self.socket.ping_at <= now.mono {
            self.socket.ping_at = now.mono.after(PING_EVERY);
            self.socket.silent_until.get_or_insert_with(|| now.mono.after(SILENCE));
            let ping = websocket::ping(self.dice.mask());
            let _ = self.out(Wire::WebSocket).push_first(ping);
        }
    }

    pub(super) fn say_good_bye(&mut self) {
        if self.line(Wire::WebSocket).is_open() {
            let close = websocket::close(self.dice.mask());
            let _ = self.out(Wire::WebSocket).push(close, Class::Reply);
        }
    }

    pub(super) fn queue_for_websocket(&mut self, packet: Packet) {
        let is_open = self.line(Wire::WebSocket).is_open();
        self.socket.queue.push(packet, if is_open { usize::MAX } else { OFFLINE });
        self.fill_websocket();
    }

    pub(super) fn fill_websocket(&mut self) {
        if !self.line(Wire::WebSocket).is_open() {
            return;
        }
        while self.line(Wire::WebSocket).out.queued_events() < WINDOW {
            let Some(packet) = self.socket.queue.pop() else { return };
            self.send_to_websocket(&packet);
        }
    }

    fn send_to_websocket(&mut self, packet: &Packet) {
        let mut end = b",\"channel\":".to_vec();
        object::string(&mut end, &packet.channel);
        end.push(b'}');
        let frame = websocket::text(&[b"{\"payload\":", &packet.payload, &end], self.dice.mask());
        let _ = self.out(Wire::WebSocket).push(frame, Class::Event);
    }

    /// A file is too large to wait.
    pub(super) fn file_to_websocket(&mut self, about: &Value, content: &[u8]) {
        let line = self.line(Wire::WebSocket);
        if !line.is_open() || line.out.queued_events() >= WINDOW {
            self.socket.queue.dropped += u64::from(self.config.websocket.is_some());
            return;
        }
        let mut payload = about.to_string().into_bytes();
        // Less its end.
        payload.pop();
        let mut object = Object::resume(&mut payload);
        object.text("data", &String::from_utf8_lossy(content));
        object.end();
        self.send_to_websocket(&Packet {
            class: queue::Class::Event,
            channel: "profiling".into(),
            payload: payload.into(),
        });
    }

    /// The status is as it is now, or nothing: it never waits behind something else.
    pub(super) fn status_to_websocket(&mut self, payload: &Rc<[u8]>) {
        let line = self.line(Wire::WebSocket);
        if !line.is_open() || line.out.queued_events() >= WINDOW || !self.socket.queue.is_empty() {
            return;
        }
        let mut packet = Packet {
            class: queue::Class::Figure,
            channel: "status".into(),
            payload: payload.clone(),
        };
        if self.config.patches {
            let Ok(new) = serde_json::from_slice::<Value>(payload) else { return };
            if let Some(old) = &self.socket.told {
                let mut text = Vec::new();
                patch::write(&mut text, old, &new);
                packet.channel = "status:patch".into();
                packet.payload = text.into();
            }
            self.socket.told = Some(new);
        }
        self.send_to_websocket(&packet);
    }
}
