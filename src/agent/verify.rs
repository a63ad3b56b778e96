//! The call to the root: who we are, and where to go.

use std::time::Duration;

use serde_json::Value;

use crate::agent::line::{PATIENCE, State, Wire};
use crate::agent::{Agent, Effect, USER_AGENT};
use crate::base::{Now, Time};
use crate::json::json;
use crate::proto::agent::answer::{self, Answer};
use crate::proto::agent::endpoint::{self, Endpoint, Kind};
use crate::proto::buffer::{Class, Frame};
use crate::proto::pm2::object::is_truthy;

/// Between two calls once one was answered.
const EVERY: Duration = Duration::from_secs(60);
/// The first failures are followed by pauses that grow by this.
const STEP: Duration = Duration::from_millis(200);
const STEPS: u32 = 30;
const PATH: &str = "/api/node/verifyPM2";

/// See the module.
#[derive(Debug, Default)]
pub struct Verify {
    /// When the root is asked next; none while it is being asked.
    pub due: Option<Time>,
    failures: u32,
    told: bool,
    inbox: Vec<u8>,
    /// It was answered once.
    known: bool,
    pub endpoints: Value,
}

impl Verify {
    /// Whether the root has let us in, and the last call went well.
    pub fn is_fine(&self) -> bool {
        self.known && self.failures == 0
    }
}

impl Agent {
    pub(super) fn begin_verify(&mut self, now: Now) {
        self.verify.due = None;
        self.verify.inbox = Vec::new();
        let root = self.config.root.as_deref().unwrap_or_default();
        match Endpoint::parse(root, Kind::Http) {
            Ok(root) => {
                let to = root.below(PATH);
                let line = self.line_mut(Wire::Verify);
                line.to = Some(to.clone());
                line.state = State::Connecting(now.mono.after(PATIENCE));
                self.effects.push_back(Effect::Connect(Wire::Verify, to));
            }
            Err(why) => self.not_verified(format!("the root {why}"), now),
        }
    }

    pub(super) fn ask_root(&mut self) {
        let body = json!({
            "public_id": self.config.public_key, "private_id": self.config.secret_key.0,
            "data": self.metadata(false),
        })
        .to_string();
        let Some(to) = &self.line(Wire::Verify).to else { return };
        let mut request = answer::request(
            &format!("POST {}", to.target),
            &[
                ("Host", &to.authority),
                ("Content-Type", "application/json"),
                ("Content-Length", &body.len().to_string()),
                ("User-Agent", USER_AGENT),
                ("Connection", "close"),
            ],
        );
        request.extend_from_slice(body.as_bytes());
        let _ = self.out(Wire::Verify).push(Frame::from(request), Class::Reply);
    }

    pub(super) fn hear_root(&mut self, bytes: &[u8], now: Now) -> Result<(), String> {
        self.verify.inbox.extend_from_slice(bytes);
        if let Some(answer) = answer::whole(&self.verify.inbox, false)? {
            self.root_answered(&answer, now);
        }
        Ok(())
    }

    /// The root has closed the connection. True: that was the end of its answer.
    pub(super) fn hear_root_end(&mut self, now: Now) -> bool {
        match answer::whole(&self.verify.inbox, true) {
            Ok(Some(answer)) => {
                self.root_answered(&answer, now);
                true
            }
            Ok(None) | Err(_) => false,
        }
    }

    fn root_answered(&mut self, answer: &Answer, now: Now) {
        self.verify.inbox = Vec::new();
        let line = self.line_mut(Wire::Verify);
        line.state = State::Off;
        let out = line.take_out();
        self.effects.push_back(Effect::Disconnect(Wire::Verify, out));
        let status = answer.status;
        match serde_json::from_slice(&answer.body) {
            Ok(body) => self.judge(&body, now),
            Err(_) => self.not_verified(format!("status {status}, and no JSON"), now),
        }
    }

    fn judge(&mut self, said: &Value, now: Now) {
        let says = |key: &str| said.get(key).is_some_and(is_truthy);
        if said.get("active") == Some(&Value::Bool(false)) && !says("pending") {
            if says("error") {
                self.follow_nowhere(now);
            }
            // Nobody is let in, and that is an answer: it is asked again in a minute.
            return self.not_verified("the bucket is not active".to_owned(), now);
        }
        for (key, why) in [("disabled", "the bucket is disabled"), ("pending", "the bucket waits")]
        {
            if says(key) {
                return self.not_verified(why.to_owned(), now);
            }
        }
        let Some(endpoints) = said.get("endpoints").filter(|it| it.is_object()) else {
            return self.not_verified("the answer names no end points".to_owned(), now);
        };
        let verify = &mut self.verify;
        (verify.failures, verify.told, verify.known) = (0, false, true);
        verify.due = Some(now.mono.after(EVERY));
        self.line_mut(Wire::Verify).error = None;
        let endpoints = endpoints.clone();
        self.follow(&endpoints, now);
        self.verify.endpoints = endpoints;
    }

    /// The root said no, or nothing. What is connected stays so.
    pub(super) fn not_verified(&mut self, why: String, now: Now) {
        let verify = &mut self.verify;
        verify.failures = verify.failures.saturating_add(1);
        let pause = match (verify.known, verify.failures) {
            (true, _) => EVERY,
            (false, failures @ 0..=STEPS) => STEP * failures,
            (false, _) => self.dice.within(EVERY).max(STEP),
        };
        verify.due = Some(now.mono.after(pause));
        if !std::mem::replace(&mut verify.told, true) {
            let root = self.config.root.as_deref().unwrap_or_default();
            let root = crate::config::secrets::mask_urls(root).into_owned();
            self.tell(true, format!("agent: {root}: {why}; it is asked again"));
        }
        self.line_mut(Wire::Verify).error = Some(why);
    }

    /// Leads the transporters to where `endpoints` says.
    pub(super) fn follow(&mut self, endpoints: &Value, now: Now) {
        let resolve = |place: &str| {
            let found = endpoints.get(place).and_then(Value::as_str);
            found.unwrap_or(place).to_owned()
        };
        let mut wanted = Vec::new();
        if let Some(place) = &self.config.websocket {
            wanted.push((Wire::WebSocket, resolve(place), Kind::WebSocket));
        }
        if let Some([push, reverse]) = &self.config.axon {
            wanted.push((Wire::Push, resolve(push), Kind::Axon));
            wanted.push((Wire::Reverse, resolve(reverse), Kind::Axon));
        }
        for (wire, place, kind) in wanted {
            let found = match endpoint::is_literal(&place) {
                true => Endpoint::parse(&place, kind),
                false => Err(format!("'{place}' is not among the end points of the root")),
            };
            match found {
                Ok(to) => self.lead(wire, Some(to), now),
                Err(why) => self.leads_nowhere(wire, why, now),
            }
        }
    }

    /// There is no place for a transporter.
    pub(super) fn leads_nowhere(&mut self, wire: Wire, why: String, now: Now) {
        let is_new = self.line(wire).error.as_ref() != Some(&why);
        self.lead(wire, None, now);
        if is_new {
            self.tell(true, format!("agent: {}: the end point {why}", wire.name()));
        }
        self.line_mut(wire).error = Some(why);
    }

    fn follow_nowhere(&mut self, now: Now) {
        for wire in [Wire::WebSocket, Wire::Push, Wire::Reverse] {
            self.lead(wire, None, now);
        }
    }
}
