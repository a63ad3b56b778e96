//! The control protocol: JSON messages as lines over the Unix socket.
//!
//! UTF-8, one object per line, `\n`; a `\r` before it and empty lines are ignored. The daemon speaks
//! first, with `hello`. Source of the limits: the control protocol document, section 2.

use crate::json::json;
use crate::proto::buffer::Inbox;
use crate::proto::messages::error::{Code, ErrorReply};
use crate::proto::messages::event::Publication;
use crate::proto::messages::session::{Answer, Session};
use crate::proto::messages::stamp::MessageIds;
use crate::proto::protocol::{Context, Conversation, Hangup, MESSAGES_PER_TURN};

/// The version of the protocol that this daemon speaks; grows only when an old client would
/// misunderstand.
pub const PROTOCOL: u64 = 1;

/// A line from a client, in bytes.
pub const MAX_LINE: usize = 1024 * 1024;

/// One control client.
#[derive(Debug)]
pub struct Control {
    session: Session,
    inbox: Inbox,
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
    pub fn greet(hello: &Hello<'_>, cx: &mut Context<'_>) -> Self {
        let session = Session::default();
        // An empty outbox takes any single frame.
        let _ = session.tell(&Answer::Data("hello", hello_data(hello, cx.ids)), cx);
        Self { session, inbox: Inbox::new(MAX_LINE) }
    }
}

impl Control {
    /// Says something that nobody asked for.
    ///
    /// # Errors
    ///
    /// [`Hangup::TooSlow`].
    pub fn tell(&self, answer: &Answer, cx: &mut Context<'_>) -> Result<(), Hangup> {
        self.session.tell(answer, cx)
    }
}

impl Conversation for Control {
    fn receive(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Result<(), Hangup> {
        if self.inbox.extend(bytes).is_err() {
            let error = ErrorReply::new(Code::InvalidMessage, "the line is longer than 1 MiB");
            self.session.tell(&Answer::Error(error), cx)?;
            return Err(Hangup::Malformed("a line is too long"));
        }
        self.understand(cx)
    }

    fn understand(&mut self, cx: &mut Context<'_>) -> Result<(), Hangup> {
        let mut left = MESSAGES_PER_TURN;
        while left > 0 {
            let Some(line) = self.inbox.take_line() else { return Ok(()) };
            if line.is_empty() {
                continue;
            }
            left -= 1;
            self.session.receive(&line, cx)?;
        }
        Ok(())
    }

    fn has_more(&self) -> bool {
        self.inbox.has_line()
    }

    fn reply(&mut self, tag: u64, answer: &Answer, cx: &mut Context<'_>) -> Result<(), Hangup> {
        self.session.reply(tag, answer, cx)
    }

    fn publish(&mut self, news: &Publication, cx: &mut Context<'_>) -> Result<(), Hangup> {
        self.session.publish(news, cx);
        Ok(())
    }

    fn sent(&mut self, cx: &mut Context<'_>) -> Result<(), Hangup> {
        self.session.catch_up(cx);
        Ok(())
    }

    fn say_good_bye(&mut self, reason: &str, cx: &mut Context<'_>) {
        let data = json!({"reason": reason}).to_string();
        let _ = self.session.tell(&Answer::Data("shutdown", data), cx);
    }

    fn session(&self) -> Option<&Session> {
        Some(&self.session)
    }

    fn session_mut(&mut self) -> Option<&mut Session> {
        Some(&mut self.session)
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
