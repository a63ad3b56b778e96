//! The control protocol: JSON messages as lines over the Unix socket.
//!
//! UTF-8, one object per line, `\n`; a `\r` before it and empty lines are ignored. The daemon speaks
//! first, with `hello`. Source of the limits: the control protocol document, section 2.

use serde_json::json;

use crate::base::WallTime;
use crate::proto::buffer::{Class, Inbox, Outbox};
use crate::proto::messages::error::{Code, ErrorReply};
use crate::proto::messages::event::envelope;
use crate::proto::messages::request::Ask;
use crate::proto::messages::session::{EVENT_QUEUE, Hangup, MAX_REPLY, Session};
use crate::proto::messages::stamp::MessageIds;

/// The version of the protocol that this daemon speaks; grows only when an old client would
/// misunderstand.
pub const PROTOCOL: u64 = 1;

/// A line from a client, in bytes.
pub const MAX_LINE: usize = 1024 * 1024;

/// Messages understood in one go, before other connections have theirs.
pub const MESSAGES_PER_TURN: usize = 64;

/// One control client.
#[derive(Debug)]
pub struct Control {
    pub session: Session,
    inbox: Inbox,
    pub out: Outbox,
}

/// What `hello` says about the daemon.
#[derive(Debug)]
pub struct Hello<'a> {
    pub pid: i32,
    pub home: &'a str,
    /// Whether the client is the daemon's own user or root.
    pub owner: bool,
}

impl Control {
    /// A new client, with `hello` queued.
    #[must_use]
    pub fn greet(hello: &Hello<'_>, at: WallTime, ids: &MessageIds) -> Self {
        let data = hello_data(hello, ids);
        let mut out = Outbox::new(MAX_REPLY, EVENT_QUEUE);
        // An empty outbox takes any single frame.
        let _ = out.push(envelope("hello", &data, at, None, ids), Class::Reply);
        Self { session: Session::default(), inbox: Inbox::new(MAX_LINE), out }
    }

    /// Appends what was received and understands up to [`MESSAGES_PER_TURN`] lines of it.
    ///
    /// # Errors
    ///
    /// [`Hangup`]: tell the client what is in `out`, then close.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        at: WallTime,
        ids: &MessageIds,
        asks: &mut Vec<(u64, Ask)>,
    ) -> Result<(), Hangup> {
        if self.inbox.extend(bytes).is_err() {
            let error = ErrorReply::new(Code::InvalidMessage, "the line is longer than 1 MiB");
            let line = envelope("error", &json!(error).to_string(), at, None, ids);
            self.out.push(line, Class::Reply).map_err(|_| Hangup::TooSlow)?;
            return Err(Hangup::Malformed("a line is too long"));
        }
        self.understand(at, ids, asks)
    }

    /// Understands more of what was received; see [`Self::receive`].
    ///
    /// # Errors
    ///
    /// As [`Self::receive`].
    pub fn understand(
        &mut self,
        at: WallTime,
        ids: &MessageIds,
        asks: &mut Vec<(u64, Ask)>,
    ) -> Result<(), Hangup> {
        let mut left = MESSAGES_PER_TURN;
        while left > 0 {
            let Some(line) = self.inbox.take_line() else { return Ok(()) };
            if line.is_empty() {
                continue;
            }
            left -= 1;
            if let Some(ask) = self.session.receive(&line, at, ids, &mut self.out)? {
                asks.push(ask);
            }
        }
        Ok(())
    }

    /// Whether whole lines still wait to be understood.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.inbox.has_line()
    }
}

/// The `data` of `hello`.
#[must_use]
pub fn hello_data(hello: &Hello<'_>, ids: &MessageIds) -> String {
    json!({
        "server": "pmd", "version": env!("CARGO_PKG_VERSION"), "protocol": PROTOCOL,
        "boot": ids.boot(), "access": "full", "owner": hello.owner, "pid": hello.pid,
        "keeper_pid": null, "home": hello.home,
    })
    .to_string()
}
