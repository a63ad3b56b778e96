//! The transporter `axon`: batches are pushed on one connection, actions come on another.

use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;

use crate::agent::line::Wire;
use crate::agent::queue::Queue;
use crate::agent::{Agent, QUEUE};
use crate::base::{Now, Time};
use crate::config::agent::AgentConfig;
use crate::proto::agent::axon;
use crate::proto::agent::cipher::Cipher;
use crate::proto::buffer::{Class, Inbox};
use crate::proto::pm2::object::Object;

/// With more bytes unsent no batch is made: its events wait.
const FULL: usize = 290_000;
/// So long; then the connection is made anew.
const STUCK: Duration = Duration::from_secs(20);

/// What is known of both connections beside the lines.
#[derive(Debug)]
pub struct Talk {
    pub queue: Queue,
    cipher: Option<Cipher>,
    inbox: Inbox,
    full_since: Option<Time>,
}

impl Talk {
    pub fn new(config: &AgentConfig) -> Self {
        Self {
            queue: Queue::new(QUEUE),
            cipher: config.axon.as_ref().map(|_| Cipher::new(&config.secret_key.0)),
            inbox: Inbox::new(axon::MAX_LINE + 64 * 1024),
            full_since: None,
        }
    }

    /// A connection is no more; what waits stays.
    pub fn reset(&mut self, wire: Wire) {
        if wire == Wire::Push {
            self.full_since = None;
        } else {
            self.inbox.clear();
        }
    }
}

impl Agent {
    /// Pushes the events of the last second and how everything is.
    pub(super) fn push_batch(&mut self, status: &Rc<[u8]>, now: Now) {
        if !self.line(Wire::Push).is_open() {
            return;
        }
        if self.line(Wire::Push).out.queued_events() > FULL {
            let since = *self.axon.full_since.get_or_insert(now.mono);
            if now.mono.since(since) >= STUCK {
                self.lost(Wire::Push, "nothing is taken for 20 s", now);
            }
            return;
        }
        self.axon.full_since = None;
        let mut channels: Vec<(Rc<str>, Vec<u8>)> = Vec::new();
        while let Some(packet) = self.axon.queue.pop() {
            let known = channels.iter_mut().find(|(channel, _)| *channel == packet.channel);
            match known {
                Some((_, list)) => {
                    list.push(b',');
                    list.extend_from_slice(&packet.payload);
                }
                None => channels.push((packet.channel, [b"[", &*packet.payload].concat())),
            }
        }
        let mut text = Vec::new();
        let mut batch = Object::begin(&mut text);
        for (channel, mut list) in channels {
            list.push(b']');
            batch.raw(&channel, &list);
        }
        batch.raw("status", status);
        batch.text("server_name", &self.config.machine_name);
        batch.end();
        let Some(cipher) = &self.axon.cipher else { return };
        let frame = axon::batch(&self.config.public_key, &cipher.encrypt(&text));
        let _ = self.out(Wire::Push).push(frame, Class::Event);
    }

    pub(super) fn push_file(&mut self, about: &Value, content: &[u8]) {
        if self.line(Wire::Push).is_open() && self.line(Wire::Push).out.queued_events() <= FULL {
            let frame = axon::file(about.to_string().as_bytes(), content);
            let _ = self.out(Wire::Push).push(frame, Class::Event);
        }
    }

    pub(super) fn hear_reverse(&mut self, bytes: &[u8], now: Now) -> Result<(), String> {
        self.axon.inbox.extend(bytes).map_err(|_| "a line is too long")?;
        self.understand_reverse(now)
    }

    /// Understands what came, as long as there is room for what it asks.
    pub(super) fn understand_reverse(&mut self, now: Now) -> Result<(), String> {
        while self.wants_input() {
            match self.axon.inbox.take_line() {
                Some(line) if line.len() > axon::MAX_LINE => {
                    return Err("a line is too long".to_owned());
                }
                Some(line) => self.hear_line(&line, now),
                None if self.axon.inbox.pending().len() > axon::MAX_LINE => {
                    return Err("a line is too long".to_owned());
                }
                None => break,
            }
        }
        Ok(())
    }

    fn hear_line(&mut self, line: &[u8], now: Now) {
        let Some((name, data)) = axon::understand(line) else { return };
        let Some(cipher) = &self.axon.cipher else { return };
        if name == "ask" {
            let mut reply = Vec::new();
            let mut object = Object::begin(&mut reply);
            let metadata = self.metadata(true).to_string();
            object.text("data", &cipher.encrypt(metadata.as_bytes()));
            object.text("public_key", &self.config.public_key);
            object.end();
            return self.say_on_reverse("ask:rep", &reply);
        }
        // Whoever does not have the secret is nobody.
        let plain = data.as_str().and_then(|hex| cipher.decrypt(hex));
        if let Some(payload) = plain.and_then(|it| serde_json::from_slice::<Value>(&it).ok()) {
            self.hear(Wire::Reverse, &name, &payload, now);
        }
    }

    /// An answer to somebody who is gone is none.
    pub(super) fn say_on_reverse(&mut self, channel: &str, payload: &[u8]) {
        if self.line(Wire::Reverse).is_open()
            && self.line(Wire::Reverse).out.queued_events() < QUEUE
        {
            let frame = axon::line(channel, payload);
            let _ = self.out(Wire::Reverse).push(frame, Class::Event);
        }
    }
}
