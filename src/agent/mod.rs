//! The agent: tells back ends and brokers elsewhere what happens here, and takes orders from there.
//!
//! A pure state machine: it is told what connections brought and that time has passed; it says
//! through [`Effect`] which connections it wants, fills their outboxes, and hands out orders. It
//! knows no socket and no process.
//!
//! *Verify*: the root is asked where to go, again and again (every minute once it has answered). What
//! it says moves the transporters. *Transporters* are tried for ever, each with pauses of its own.
//! What is to be told waits in queues of so many bytes ([`queue`]), whether nobody is connected or
//! somebody does not read.
//!
//! | file        | what it knows                                       |
//! |-------------|-----------------------------------------------------|
//! | `line`      | one connection: how far it is, when it is tried     |
//! | `verify`    | the call to the root, and what its answer means     |
//! | `websocket` | the transporter `websocket`                         |
//! | `axon`      | the transporter `axon`                              |
//! | `asked`     | messages of back ends, and their answers            |
//! | `fleet`     | the transporter `mqtt`                              |
//! | `orders`    | what they ask to be done                            |
//! | `shown`     | how the connections are, for people                 |
//! | `queue`     | what waits, within bytes                            |
//! | `dice`      | pauses that differ from those of other hosts        |
//!
//! Source: @pm2/agent 0.5.22 and 2.1.1, observed; what they do wrong is not copied.

mod asked;
#[cfg(feature = "agent-axon")]
mod axon;
mod dice;
pub mod fleet;
pub mod line;
pub mod orders;
pub mod queue;
pub mod shown;
mod verify;
mod websocket;

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;

use crate::agent::dice::Dice;
use crate::agent::line::{Line, PATIENCE, State, Wire};
use crate::agent::orders::{Asker, Order, Refusal};
use crate::agent::queue::{Class, Packet};
use crate::base::{Now, Time};
use crate::config::agent::AgentConfig;
use crate::json::json;
use crate::proto::agent::endpoint::Endpoint;
use crate::proto::buffer::Outbox;

/// Bytes that wait for one transporter.
pub const QUEUE: usize = 1024 * 1024;
/// Packets that wait for one that is not connected.
const OFFLINE: usize = 200;
/// Tasks that wait; while there are so many, nothing is read.
const MAX_TASKS: usize = 64;
/// Between two statuses.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// How long logs are told after it was asked for.
const LOGGING: Duration = Duration::from_secs(120);

/// What the agent calls itself to back ends.
const USER_AGENT: &str = concat!("PM2 Agent v2.1.1 (pmd/", env!("CARGO_PKG_VERSION"), ")");

/// Something the owner has to do.
#[derive(Debug)]
pub enum Effect {
    Connect(Wire, Endpoint),
    /// What is in the outbox is sent as far as it goes at once.
    Disconnect(Wire, Outbox),
    /// For the log.
    Tell {
        warning: bool,
        text: String,
    },
    /// Who wants logs has changed.
    Logging,
}

/// What was asked for, in its turn.
#[derive(Debug)]
enum Task {
    Do(Order),
    /// Nothing is left but to answer.
    Say(Result<Value, Refusal>),
}

/// About this host, as back ends want to know.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub hostname: String,
    /// `x86_64`.
    pub machine: String,
    pub kernel: String,
    /// In bytes.
    pub memory: u64,
    /// A JSON list.
    pub cpus: Value,
}

/// See the module.
#[derive(Debug)]
pub struct Agent {
    pub config: AgentConfig,
    /// A UUID of this start.
    pub boot: String,
    pub facts: Facts,
    lines: [Line; Wire::ALL.len()],
    dice: Dice,
    effects: VecDeque<Effect>,
    verify: verify::Verify,
    socket: websocket::Talk,
    fleet: Option<Box<fleet::Talk>>,
    #[cfg(feature = "agent-axon")]
    axon: axon::Talk,
    tasks: VecDeque<(Task, Asker)>,
    /// Whose order is being carried out.
    current: Option<Asker>,
    status_at: Option<Time>,
    logging_until: Option<Time>,
    /// Actions that were asked for.
    pub asked: u64,
}

impl Agent {
    /// An agent that begins to connect. `boot`: a UUID.
    #[must_use]
    pub fn new(config: AgentConfig, boot: String, seed: u64, now: Now) -> Self {
        #[cfg(feature = "agent-axon")]
        let axon = axon::Talk::new(&config);
        let fleet = fleet::Talk::new(&config);
        let mut agent = Self {
            config,
            boot,
            facts: Facts::default(),
            lines: Wire::ALL.map(|_| Line::default()),
            dice: Dice::new(seed),
            effects: VecDeque::new(),
            verify: verify::Verify::default(),
            socket: websocket::Talk::default(),
            fleet,
            #[cfg(feature = "agent-axon")]
            axon,
            tasks: VecDeque::new(),
            current: None,
            status_at: None,
            logging_until: None,
            asked: 0,
        };
        #[cfg(not(feature = "agent-axon"))]
        if agent.config.axon.take().is_some() {
            agent.tell(true, "agent: this pmd was built without the transporter axon".to_owned());
        }
        match agent.config.root.is_some() {
            true => agent.begin_verify(now),
            false => agent.follow(&Value::Null, now),
        }
        agent.lead_fleet(now);
        agent
    }

    /// When something is to be done by itself.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let lines = self.lines.iter().map(Line::next_deadline);
        let own = [
            self.verify.due,
            self.logging_until,
            self.socket.next_deadline(self.line(Wire::WebSocket)),
            self.fleet.as_ref().and_then(|fleet| fleet.next_deadline(self.line(Wire::Mqtt))),
        ];
        lines.chain(own).flatten().min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Now) {
        for wire in Wire::ALL {
            match self.line(wire).state {
                State::Waiting(at) if at <= now.mono => self.connect(wire, now),
                State::Connecting(until) | State::Greeting(until) if until <= now.mono => {
                    self.lost(wire, "no answer for 10 s", now);
                }
                State::Off
                | State::Waiting(_)
                | State::Connecting(_)
                | State::Greeting(_)
                | State::Open(_) => {}
            }
        }
        if self.verify.due.is_some_and(|due| due <= now.mono) {
            self.begin_verify(now);
        }
        if self.logging_until.is_some_and(|until| until <= now.mono) {
            self.logging_until = None;
            self.effects.push_back(Effect::Logging);
        }
        self.attend_websocket(now);
        self.attend_broker(now);
    }

    /// What is to be done next.
    pub fn take_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// A connection is there.
    pub fn connected(&mut self, wire: Wire, now: Now) {
        if !matches!(self.line(wire).state, State::Connecting(_)) {
            return;
        }
        self.line_mut(wire).state = State::Greeting(now.mono.after(PATIENCE));
        match wire {
            Wire::Verify => self.ask_root(),
            Wire::WebSocket => self.ask_upgrade(),
            Wire::Push | Wire::Reverse => self.opened(wire, now),
            Wire::Mqtt => self.greet_broker(),
        }
    }

    /// Something came.
    pub fn received(&mut self, wire: Wire, bytes: &[u8], now: Now) {
        if !self.line(wire).is_live() {
            return;
        }
        let understood = match wire {
            Wire::Verify => self.hear_root(bytes, now),
            Wire::WebSocket => self.hear_websocket(bytes, now),
            #[cfg(feature = "agent-axon")]
            Wire::Reverse => self.hear_reverse(bytes, now),
            Wire::Mqtt => self.hear_broker(bytes, now),
            // Whoever is pushed to has nothing to say.
            _ => Ok(()),
        };
        if let Err(why) = understood {
            self.lost(wire, &why, now);
        }
    }

    /// The other end has closed the connection.
    pub fn ended(&mut self, wire: Wire, now: Now) {
        if wire == Wire::Verify && self.hear_root_end(now) {
            return;
        }
        self.lost(wire, "the connection was closed", now);
    }

    /// The connection is no more, or of no use.
    pub fn lost(&mut self, wire: Wire, why: &str, now: Now) {
        if !self.line(wire).is_live() {
            return;
        }
        let out = self.line_mut(wire).take_out();
        self.effects.push_back(Effect::Disconnect(wire, out));
        if wire == Wire::Verify {
            self.line_mut(wire).state = State::Off;
            return self.not_verified(why.to_owned(), now);
        }
        let (line, dice) = (&mut self.lines[wire.index()], &mut self.dice);
        if line.fail(wire, why, dice, now.mono) {
            let place = line.to.as_ref().map(ToString::to_string).unwrap_or_default();
            self.tell(true, format!("agent: {} {place}: {why}; it is tried again", wire.name()));
        }
        self.after_loss(wire);
    }

    fn after_loss(&mut self, wire: Wire) {
        match wire {
            Wire::WebSocket => self.socket.reset(),
            Wire::Mqtt => {
                if let Some(fleet) = &mut self.fleet {
                    fleet.reset();
                }
            }
            #[cfg(feature = "agent-axon")]
            Wire::Push | Wire::Reverse => self.axon.reset(wire),
            _ => {}
        }
        if !self.is_told_statuses() {
            self.status_at = None;
        }
    }

    /// A transporter can be used from now on.
    fn opened(&mut self, wire: Wire, now: Now) {
        let line = self.line_mut(wire);
        line.open(now.mono);
        let place = line.to.as_ref().map(ToString::to_string).unwrap_or_default();
        let first = std::mem::take(&mut line.told) || line.failures == 0;
        if first {
            self.tell(false, format!("agent: {} connected to {place}", wire.name()));
        }
        if matches!(wire, Wire::WebSocket | Wire::Push) {
            self.status_at.get_or_insert_with(|| now.mono.after(STATUS_EVERY));
        }
        self.sent(wire);
    }

    /// The other end took something, or may: what waits is put into the outbox, as far as that is
    /// not full.
    pub fn sent(&mut self, wire: Wire) {
        match wire {
            Wire::WebSocket => self.fill_websocket(),
            Wire::Mqtt => self.fill_mqtt(),
            Wire::Verify | Wire::Push | Wire::Reverse => {}
        }
    }

    /// What is to be sent.
    pub fn out(&mut self, wire: Wire) -> &mut Outbox {
        &mut self.line_mut(wire).out
    }

    /// Whether more is welcome. While it is not, it waits in the kernel.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        self.tasks.len() < MAX_TASKS
    }

    /// Ends everything in order; what is left to be sent goes with the effects.
    pub fn stop(&mut self, now: Now) {
        self.verify.due = None;
        self.leave_broker(now);
        for wire in Wire::ALL {
            self.lead(wire, None, now);
        }
        self.status_at = None;
    }

    /// When the status is to be told; `None`: nobody would hear it.
    #[must_use]
    pub fn status_at(&self) -> Option<Time> {
        self.status_at
    }

    fn is_told_statuses(&self) -> bool {
        self.line(Wire::WebSocket).is_open() || self.line(Wire::Push).is_open()
    }

    /// Tells how everything is, to those who are connected; `payload`: JSON.
    pub fn tell_status(&mut self, payload: &Rc<[u8]>, now: Now) {
        if self.status_at.is_some() {
            self.status_at = Some(now.mono.after(STATUS_EVERY));
        }
        self.status_to_websocket(payload);
        #[cfg(feature = "agent-axon")]
        self.push_batch(payload, now);
    }

    /// Tells what happened; `payload`: JSON.
    pub fn tell_event(&mut self, channel: &str, payload: Vec<u8>, class: Class) {
        let packet = Packet { class, channel: channel.into(), payload: payload.into() };
        #[cfg(feature = "agent-axon")]
        if self.config.axon.is_some() {
            let most = if self.line(Wire::Push).is_open() { usize::MAX } else { OFFLINE };
            self.axon.queue.push(packet.clone(), most);
        }
        if self.config.websocket.is_some() {
            self.queue_for_websocket(packet);
        }
    }

    /// Tells what is in a file, to those who are connected; others do not get it. `about`: an object.
    pub fn tell_file(&mut self, about: &Value, content: &[u8]) {
        #[cfg(feature = "agent-axon")]
        self.push_file(about, content);
        self.file_to_websocket(about, content);
    }

    /// Whether the logs of everything are wanted.
    #[must_use]
    pub fn wants_logs(&self) -> bool {
        self.logging_until.is_some()
    }

    /// The next order, if none is being carried out. It is answered by [`Self::answer`].
    pub fn next_order(&mut self, now: Now) -> Option<Order> {
        while self.current.is_none() {
            match self.tasks.pop_front()? {
                (Task::Do(order), asker) => {
                    self.current = Some(asker);
                    return Some(order);
                }
                (Task::Say(answer), asker) => self.reply(&asker, answer, now),
            }
            self.understand_rest(now);
        }
        None
    }

    /// The order that was handed out is done, or was not.
    pub fn answer(&mut self, done: Result<(), Refusal>, now: Now) {
        if let Some(asker) = self.current.take() {
            self.reply(&asker, done.map(|()| Value::Null), now);
        }
        // Messages that had to wait.
        self.understand_rest(now);
    }

    fn understand_rest(&mut self, now: Now) {
        let result = self.understand_websocket(now);
        if let Err(why) = result {
            self.lost(Wire::WebSocket, &why, now);
        }
        if let Err(why) = self.understand_broker(now) {
            self.lost(Wire::Mqtt, &why, now);
        }
        #[cfg(feature = "agent-axon")]
        if let Err(why) = self.understand_reverse(now) {
            self.lost(Wire::Reverse, &why, now);
        }
    }

    /// Leads a connection somewhere else, or nowhere.
    fn lead(&mut self, wire: Wire, to: Option<Endpoint>, now: Now) {
        if self.line(wire).to == to {
            return;
        }
        if self.line(wire).is_live() {
            if wire == Wire::WebSocket {
                self.say_good_bye();
            }
            let out = self.line_mut(wire).take_out();
            self.effects.push_back(Effect::Disconnect(wire, out));
        }
        *self.line_mut(wire) = Line { to, ..Line::default() };
        self.after_loss(wire);
        self.connect(wire, now);
    }

    fn connect(&mut self, wire: Wire, now: Now) {
        let line = self.line_mut(wire);
        let Some(to) = line.to.clone() else { return };
        line.state = State::Connecting(now.mono.after(PATIENCE));
        self.effects.push_back(Effect::Connect(wire, to));
    }

    fn line(&self, wire: Wire) -> &Line {
        &self.lines[wire.index()]
    }

    fn line_mut(&mut self, wire: Wire) -> &mut Line {
        &mut self.lines[wire.index()]
    }

    fn tell(&mut self, warning: bool, text: String) {
        self.effects.push_back(Effect::Tell { warning, text });
    }

    /// What is told about the host and who it belongs to; keys in lower case for the old
    /// transporter.
    fn metadata(&self, lower: bool) -> Value {
        #[allow(clippy::cast_precision_loss)]
        let memory = self.facts.memory as f64 / 1e6;
        let mut all = serde_json::Map::new();
        for (key, value) in [
            ("MACHINE_NAME", json!(self.config.machine_name)),
            ("PUBLIC_KEY", json!(self.config.public_key)),
            ("RECYCLE", json!(false)),
            ("PM2_VERSION", json!(self.config.pm2_version)),
            ("MEMORY", json!(memory)),
            ("HOSTNAME", json!(self.facts.hostname)),
            ("CPUS", self.facts.cpus.clone()),
        ] {
            all.insert(if lower { key.to_ascii_lowercase() } else { key.to_owned() }, value);
        }
        Value::Object(all)
    }
}

#[cfg(test)]
mod fleet_tests;
#[cfg(test)]
mod tests;
