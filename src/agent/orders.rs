//! What is asked from afar, and how it is answered.
//!
//! Nothing is done but what is on a list: without one of the owner's own, what does no lasting harm.
//! Every action is answered, in the order in which they came.

use serde_json::{Map, Value};

use crate::agent::line::Wire;
use crate::json::json;
use crate::proto::pm2::object::{is_truthy, text};
use crate::supervisor::vocabulary::Scale;

/// Actions that the back ends of PM2's agent may ask for, unless the owner says otherwise.
pub const USUAL: [&str; 7] =
    ["restart", "reload", "reset", "scale", "startLogging", "stopLogging", "ping"];

/// Something to be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    pub deed: Deed,
    pub whom: Whom,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Deed {
    Start,
    Stop,
    Restart,
    Reload,
    Reset,
    Delete,
    Scale(Scale),
    /// An action of a child's own: a command as PM2's `msgProcess` takes it.
    Message(Value),
}

/// Processes as they are named from afar.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Whom {
    Id(String),
    /// A name, or the path of a script.
    Name(String),
}

/// Why something was not done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    pub code: &'static str,
    pub message: String,
}

impl Refusal {
    #[must_use]
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    fn arguments(message: &str) -> Self {
        Self::new("bad_args", message)
    }

    #[must_use]
    pub fn not_allowed() -> Self {
        Self::new("not_allowed", "Method not allowed")
    }

    pub(super) fn json(&self) -> Value {
        json!({"message": self.message, "code": self.code})
    }
}

/// Who waits for the answer.
#[derive(Clone, Debug)]
pub enum Asker {
    /// `trigger:pm2:action`.
    Method { wire: Wire, method: Value, app: Value },
    /// `trigger:action`.
    Trigger { wire: Wire, id: Value, action: Value },
    /// A command over MQTT.
    Command { id: String, from: String, action: String },
}

/// The order that a method and its parameters make; `None`: there is no such method.
///
/// # Errors
///
/// Parameters that are missing or wrong.
pub fn order(method: &str, parameters: &Value) -> Option<Result<Order, Refusal>> {
    let deed = match method {
        "start" => Deed::Start,
        "stop" => Deed::Stop,
        "restart" => Deed::Restart,
        "reload" | "gracefulReload" => Deed::Reload,
        "reset" => Deed::Reset,
        "delete" => Deed::Delete,
        "scale" => match parameters.get("number").and_then(scale) {
            Some(scale) => Deed::Scale(scale),
            None => {
                let why = "'number' must be a number, or one with + or - before it";
                return Some(Err(Refusal::arguments(why)));
            }
        },
        _ => return None,
    };
    let given = |key| parameters.get(key).filter(|value| value.is_string() || value.is_u64());
    let whom = match (given("id").filter(|_| method != "scale"), given("name")) {
        (Some(id), _) => Whom::Id(text(id)),
        (None, Some(name)) => Whom::Name(text(name)),
        (None, None) => return Some(Err(Refusal::arguments("'name' or 'id' is missing"))),
    };
    Some(Ok(Order { deed, whom }))
}

fn scale(number: &Value) -> Option<Scale> {
    let word = text(number);
    let (sign, digits) = match word.as_bytes().first()? {
        b'+' => (1, &word[1..]),
        b'-' => (-1, &word[1..]),
        _ => (0, word.as_str()),
    };
    let number =
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
    Some(match sign {
        0 => Scale::To(number),
        1 => Scale::Up(number),
        _ => Scale::Down(number),
    })
}

/// An action of a child's own, as a back end asks for it: the command for the child.
///
/// # Errors
///
/// No process, or no name of an action.
pub fn message(asked: &Value) -> Result<(Value, Order), Refusal> {
    let id = asked.get("process_id").or_else(|| asked.pointer("/process/pm_id"));
    let id = id.filter(|id| id.is_u64() || id.is_string());
    let id = id.ok_or_else(|| Refusal::arguments("no process id is given"))?;
    let action = asked.get("action_name").filter(|action| action.is_string());
    let action = action.ok_or_else(|| Refusal::arguments("no action is named"))?;
    let member = |name: &str| asked.get(name).filter(|value| !value.is_null());
    Ok((
        id.clone(),
        child_order(id, action, member("opts").or_else(|| member("options")), member("uuid")),
    ))
}

/// The order that has a child told of an action.
#[must_use]
pub fn child_order(
    id: &Value,
    action: &Value,
    opts: Option<&Value>,
    uuid: Option<&Value>,
) -> Order {
    let mut command = Map::new();
    let mut set = |key: &str, value: &Value| command.insert(key.to_owned(), value.clone());
    set("id", id);
    set("msg", action);
    set("action_name", action);
    if let Some(opts) = opts {
        set("opts", opts);
    }
    if let Some(uuid) = uuid.filter(|uuid| is_truthy(uuid)) {
        set("uuid", uuid);
    }
    Order { deed: Deed::Message(Value::Object(command)), whom: Whom::Id(text(id)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_needs_to_be_told_whom_it_is_about() {
        let named = |whom| Order { deed: Deed::Restart, whom };
        let read = |parameters| order("restart", &parameters).unwrap();
        assert_eq!(read(json!({"name": "a"})), Ok(named(Whom::Name("a".to_owned()))));
        assert_eq!(read(json!({"id": 0, "name": "a"})), Ok(named(Whom::Id("0".to_owned()))));
        for wrong in [json!(null), json!({}), json!({"name": {}}), json!([1]), json!({"id": -1})] {
            assert_eq!(read(wrong).unwrap_err().code, "bad_args");
        }
        for unknown in ["killMe", "__proto__", "", "dump"] {
            assert!(order(unknown, &json!({"name": "a"})).is_none(), "{unknown}");
        }
    }

    #[test]
    fn a_scale_is_a_number_or_a_difference() {
        for (number, expected) in [
            (json!(3), Scale::To(3)),
            (json!("3"), Scale::To(3)),
            (json!("+1"), Scale::Up(1)),
            (json!("-2"), Scale::Down(2)),
        ] {
            let read = order("scale", &json!({"name": "a", "number": number})).unwrap().unwrap();
            assert_eq!(read.deed, Deed::Scale(expected));
        }
        for wrong in
            [json!("x"), json!("++1"), json!(1.5), json!(-1), json!("99999999999"), json!("")]
        {
            let found = order("scale", &json!({"name": "a", "number": wrong}));
            assert!(matches!(&found, Some(Ok(_))) == (wrong == json!(-1)), "{wrong}: {found:?}");
        }
    }

    #[test]
    fn a_child_is_told_all_that_was_asked() {
        let asked = json!({"action_name": "add", "process": {"pm_id": 3}, "options": {"a": 1}, "uuid": "u"});
        let (id, order) = message(&asked).unwrap();
        assert_eq!(id, json!(3));
        let command =
            json!({"id": 3, "msg": "add", "action_name": "add", "opts": {"a": 1}, "uuid": "u"});
        assert_eq!(order.deed, Deed::Message(command));
        for wrong in
            [json!({"action_name": "x"}), json!({"process_id": 1}), json!(null), json!("x")]
        {
            assert_eq!(message(&wrong).unwrap_err().code, "bad_args");
        }
    }
}
