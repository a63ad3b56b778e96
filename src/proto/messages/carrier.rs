//! How one JSON message lies in the bytes of a connection.

use std::fmt::Write as _;
use std::rc::Rc;

use serde_json::Value;

use crate::base::WallTime;
use crate::proto::buffer::Frame;
use crate::proto::messages::stamp::{MessageIds, timestamp};
use crate::proto::ws::frame;

/// What carries the messages of a client.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Carrier {
    /// A line each, over the control socket.
    #[default]
    Line,
    /// A text message each.
    WebSocket,
}

/// One message, `data` as JSON text. `number` makes its id.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    pub kind: &'a str,
    pub data: &'a str,
    pub at: WallTime,
    /// The client's id of the request that this answers.
    pub reply_to: Option<&'a Value>,
}

impl Carrier {
    /// The bytes of a message.
    #[must_use]
    pub fn frame(self, envelope: &Envelope<'_>, boot: &str, number: u64) -> Frame {
        let mut text = String::with_capacity(frame::MAX_HEAD + envelope.data.len() + 160);
        if self == Self::WebSocket {
            text.extend([' '; frame::MAX_HEAD]);
        }
        let Envelope { kind, data, at, reply_to } = envelope;
        let at = timestamp(*at);
        let _ = write!(
            text,
            r#"{{"type":"{kind}","data":{data},"timestamp":"{at}","id":"{boot}-{number}""#
        );
        if let Some(id) = reply_to {
            let _ = write!(text, r#","reply_to":{id}"#);
        }
        text.push('}');
        match self {
            Self::Line => {
                text.push('\n');
                Rc::from(text.into_bytes())
            }
            Self::WebSocket => frame::finish(text.into_bytes()),
        }
    }

    /// The bytes of a message with an id of its own.
    #[must_use]
    pub fn message(self, envelope: &Envelope<'_>, ids: &MessageIds) -> Frame {
        self.frame(envelope, ids.boot(), ids.take())
    }
}
