//! What back ends ask, and how they are answered: each in its turn.

use serde_json::Value;

use crate::agent::line::Wire;
use crate::agent::orders::{self, Asker, Refusal};
use crate::agent::queue::{Class, Packet};
use crate::agent::{Agent, Effect, LOGGING, Task};
use crate::base::Now;
use crate::json::json;
use crate::proto::pm2::object::is_truthy;

impl Agent {
    /// A message of a back end.
    pub(super) fn hear(&mut self, wire: Wire, channel: &str, payload: &Value, now: Now) {
        match channel {
            "trigger:action" | "trigger:scoped_action" => self.hear_trigger(wire, payload),
            "trigger:pm2:action" => self.hear_method(wire, payload, now),
            "status:resend" if is_truthy(payload) => self.socket.told = None,
            _ => {}
        }
    }

    fn hear_trigger(&mut self, wire: Wire, payload: &Value) {
        self.asked += 1;
        let member = |name: &str| payload.get(name).cloned().unwrap_or_default();
        let asker = |id| Asker::Trigger { wire, id, action: member("action_name") };
        let own = self.config.remote_methods.as_ref();
        if own.is_some_and(|list| !list.iter().any(|word| word == "action")) {
            let task = Task::Say(Err(Refusal::not_allowed()));
            return self.tasks.push_back((task, asker(member("process_id"))));
        }
        self.tasks.push_back(match orders::message(payload) {
            Ok((id, order)) => (Task::Do(order), asker(id)),
            Err(refusal) => (Task::Say(Err(refusal)), asker(member("process_id"))),
        });
    }

    fn hear_method(&mut self, wire: Wire, payload: &Value, now: Now) {
        self.asked += 1;
        let none = Value::Null;
        let parameters = payload.get("parameters").unwrap_or(&none);
        let member = |of: &Value, name: &str| of.get(name).cloned().unwrap_or_default();
        let method = member(payload, "method_name");
        let asker = Asker::Method { wire, app: member(parameters, "name"), method: method.clone() };
        let word = method.as_str().filter(|word| match &self.config.remote_methods {
            Some(list) => list.iter().any(|known| known == word),
            None => orders::USUAL.contains(word),
        });
        let answer = match word {
            Some("ping") => Ok(json!({"msg": "pong"})),
            Some("startLogging") => {
                self.logging_until = Some(now.mono.after(LOGGING));
                self.effects.push_back(Effect::Logging);
                Ok("Log streaming enabled".into())
            }
            Some("stopLogging") => {
                self.logging_until = None;
                self.effects.push_back(Effect::Logging);
                Ok("Log streaming disabled".into())
            }
            Some(word) => match orders::order(word, parameters) {
                Some(Ok(order)) => return self.tasks.push_back((Task::Do(order), asker)),
                Some(Err(refusal)) => Err(refusal),
                None => Err(Refusal::not_allowed()),
            },
            None => Err(Refusal::not_allowed()),
        };
        self.tasks.push_back((Task::Say(answer), asker));
    }

    pub(super) fn reply(&mut self, asker: &Asker, answer: Result<Value, Refusal>, now: Now) {
        match asker {
            Asker::Method { wire, method, app } => {
                let (error, data) = match answer {
                    Ok(Value::Null) => (Value::Null, json!({"success": true})),
                    Ok(data) => (Value::Null, data),
                    Err(refusal) => (refusal.json(), Value::Null),
                };
                let payload = json!({
                    "ret": {"err": error, "data": data},
                    "meta": {"method_name": method, "app_name": app,
                             "machine_name": self.config.machine_name,
                             "public_key": self.config.public_key},
                });
                self.reply_on(*wire, "trigger:pm2:result", &payload);
            }
            Asker::Trigger { wire, id, action } => match answer {
                Ok(_) => {
                    let payload = json!({"success": true, "id": id, "action_name": action});
                    self.reply_on(*wire, "trigger:action:success", &payload);
                }
                Err(refusal) => {
                    let payload = json!({"success": false, "err": refusal.message, "id": id,
                                         "action_name": action});
                    self.reply_on(*wire, "trigger:action:failure", &payload);
                }
            },
            Asker::Command { id, from, action } => {
                self.reply_over_mqtt((id, from, action), answer, now);
            }
        }
    }

    fn reply_on(&mut self, wire: Wire, channel: &str, payload: &Value) {
        let payload = payload.to_string().into_bytes();
        match wire {
            #[cfg(feature = "agent-axon")]
            Wire::Reverse => self.say_on_reverse(channel, &payload),
            _ => self.queue_for_websocket(Packet {
                class: Class::Event,
                channel: channel.into(),
                payload: payload.into(),
            }),
        }
    }
}
