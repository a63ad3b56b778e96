//! `channel_event`: what programs say over their channel.
//!
//! What they said is copied as the JSON text it came as.

use crate::base::{ChildId, WallTime};
use crate::proto::messages::event::Subject;
use crate::proto::pm2::object::Object;

/// What a program said, as JSON text.
#[derive(Clone, Copy, Debug)]
pub enum Said<'a> {
    /// A message without a name of its own.
    Raw(&'a str),
    /// The data of one that has a name.
    Data(&'a str),
}

/// The `payload` of a message.
#[must_use]
pub fn payload(subject: &Subject, said: Said<'_>, at: WallTime) -> String {
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    object.number("at", i64::try_from(at.0).unwrap_or(i64::MAX));
    match said {
        Said::Raw(json) => object.raw("raw", json.as_bytes()),
        Said::Data(json) => object.raw("data", json.as_bytes()),
    }
    speaker(object.key("process"), subject);
    object.end();
    String::from_utf8(out).unwrap_or_default()
}

/// The `process` of PM2's events.
pub fn speaker(out: &mut Vec<u8>, subject: &Subject) {
    let mut process = Object::begin(out);
    process.number("pm_id", subject.id.0.into());
    process.text("name", &subject.name);
    process.text("namespace", &subject.namespace);
    process.raw("versioning", b"null");
    process.end();
}

/// The `data` of a `channel_event` of somebody who is no process. `payload`: JSON text.
#[must_use]
pub fn of_nobody(event: &str, payload: &str) -> String {
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    object.text("event", event);
    for key in ["process", "id", "namespace", "instance", "generation"] {
        object.raw(key, b"null");
    }
    object.raw("payload", payload.as_bytes());
    object.end();
    String::from_utf8(out).unwrap_or_default()
}

/// The `data` of a `channel_event`. `payload`: JSON text.
#[must_use]
pub fn event(subject: &Subject, child: ChildId, event: &str, payload: &str) -> String {
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    object.text("event", event);
    object.text("process", &subject.name);
    object.number("id", subject.id.0.into());
    object.text("namespace", &subject.namespace);
    object.number("instance", subject.instance.into());
    object.number("generation", i64::try_from(child.0).unwrap_or(i64::MAX));
    object.raw("payload", payload.as_bytes());
    object.end();
    String::from_utf8(out).unwrap_or_default()
}
