//! The WebSocket API: JSON messages as text messages of RFC 6455, after the upgrade.
//!
//! tungstenite knows the frame heads, op codes and close codes; what arrives waits in an inbox
//! that is empty, and costs nothing, between messages. So a head that breaks a rule ends the
//! conversation before its payload is waited for. Source of the limits: the WebSocket API document,
//! A3, A4 and A10.

use std::io::Cursor;
use std::time::Duration;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::base::Time;
use crate::config::web::Level;
use crate::json::json;
use crate::proto::buffer::{Class, Inbox};
use crate::proto::control::PROTOCOL;
use crate::proto::messages::carrier::Carrier;
use crate::proto::messages::error::{Code, ErrorReply};
use crate::proto::messages::event::{EVENTS, Publication, millis};
use crate::proto::messages::request::INTERVALS;
use crate::proto::messages::session::{Answer, Session};
use crate::proto::messages::stamp::MessageIds;
use crate::proto::protocol::{Context, Conversation, Demand, Hangup, MESSAGES_PER_TURN};

/// Frames as a server sends them.
pub mod frame;

/// Bytes of replies that wait for one client.
pub const REPLY_QUEUE: usize = 256 * 1024;

/// How long a client may take to show its token.
const AUTH_TIME: Duration = Duration::from_secs(5);
/// How long a client may take to say what it wants, before it gets what most want.
const DEFAULT_AFTER: Duration = Duration::from_secs(1);
/// Silence after which a client is asked whether it is there, and how long it may take to answer.
const SILENCE: Duration = Duration::from_secs(30);
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// How long the peer may take to answer a close.
const CLOSE_TIME: Duration = Duration::from_secs(1);
/// Messages a second, and how many at once.
const RATE: u64 = 50;
const BURST: u64 = 200;
/// Who goes on for that long after being told is sent away.
const FLOOD_TIME: Duration = Duration::from_secs(10);
/// Bytes of the longest head of a frame.
const MAX_HEAD: usize = 14;
/// Bytes that may arrive at once behind a message.
const SLACK: usize = 16 * 1024;

/// Close codes beyond those of the RFC.
pub mod code {
    pub const NOT_AUTHENTICATED: u16 = 4401;
    pub const WITHDRAWN: u16 = 4403;
    pub const TOO_SLOW: u16 = 4408;
    pub const SHUTDOWN: u16 = 1001;
    pub const UNSUPPORTED: u16 = 1003;
    pub const NOT_UTF8: u16 = 1007;
    pub const POLICY: u16 = 1008;
    pub const TOO_BIG: u16 = 1009;
}

/// How much a client may have.
#[derive(Clone, Copy, Debug)]
pub struct WsLimits {
    /// Bytes of one message.
    pub message: usize,
    /// Bytes of events that wait.
    pub queue: usize,
}

/// One client.
#[derive(Debug)]
pub struct Ws {
    session: Session,
    inbox: Inbox,
    /// Fragments of a message that is not whole.
    partial: Option<Vec<u8>>,
    max_message: usize,
    stage: Stage,
    /// When anything was received.
    heard: Time,
    pinged: bool,
    rate: Rate,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// It has to show its token.
    Unproven {
        until: Time,
    },
    /// It has not said what it wants.
    New {
        until: Time,
    },
    Open,
    /// We said good-bye.
    Closing {
        until: Time,
    },
}

/// Why a conversation ends: a close code and a reason.
type Fault = (u16, &'static str);

impl Ws {
    /// A client after the upgrade, with `hello` queued. `rest`: what it sent behind its request.
    /// `Level::None`: it has to show a token first.
    #[must_use]
    pub fn greet(level: Level, limits: WsLimits, rest: Inbox, cx: &mut Context<'_>) -> Self {
        let now = cx.now.mono;
        let mut inbox = Inbox::new(limits.message + MAX_HEAD + SLACK);
        // The rest is no longer than one read.
        let _ = inbox.extend(rest.pending());
        let ws = Self {
            session: Session::new(Carrier::WebSocket, level),
            inbox,
            partial: None,
            max_message: limits.message,
            stage: match level {
                Level::None => Stage::Unproven { until: now.after(AUTH_TIME) },
                Level::Read | Level::Full => Stage::New { until: now.after(DEFAULT_AFTER) },
            },
            heard: now,
            pinged: false,
            rate: Rate { tokens: BURST * 1000, at: now, over_since: None },
        };
        cx.out.set_limits(REPLY_QUEUE, limits.queue);
        let _ = ws.session.tell(&ws.hello(cx.ids), cx);
        ws
    }

    fn hello(&self, ids: &MessageIds) -> Answer {
        let level = self.session.level();
        let data = json!({
            "server": "pmd", "version": env!("CARGO_PKG_VERSION"), "protocol": PROTOCOL,
            "boot": ids.boot(), "access": level.name(), "auth_required": level == Level::None,
            "events": EVENTS,
            "limits": {
                "max_message": self.max_message,
                "interval_min": millis(*INTERVALS.start()),
                "interval_max": millis(*INTERVALS.end()),
            },
        });
        Answer::Data("hello", data.to_string())
    }

    /// Whether it has yet to show a token.
    #[must_use]
    pub fn is_unproven(&self) -> bool {
        matches!(self.stage, Stage::Unproven { .. })
    }

    /// Answers `auth`: with what the client may do from now on, or with its end.
    ///
    /// # Errors
    ///
    /// [`Hangup::TooSlow`] if the client takes no replies.
    pub fn prove(
        &mut self,
        tag: u64,
        level: Result<Level, ErrorReply>,
        cx: &mut Context<'_>,
    ) -> Result<(), Hangup> {
        match level {
            Ok(level) => {
                self.session.set_level(level);
                if self.is_unproven() {
                    self.stage = Stage::New { until: cx.now.mono.after(DEFAULT_AFTER) };
                }
                let hello = self.hello(cx.ids);
                self.session.reply(tag, &hello, cx)
            }
            Err(error) => {
                let is_final = error.code == Code::Unauthorized;
                self.session.reply(tag, &Answer::Error(error), cx)?;
                if is_final {
                    self.close(code::NOT_AUTHENTICATED, "not authenticated", cx);
                }
                Ok(())
            }
        }
    }

    /// Says good-bye; the peer has a second to do the same.
    pub fn close(&mut self, code: u16, reason: &str, cx: &mut Context<'_>) {
        if !matches!(self.stage, Stage::Closing { .. }) {
            let _ = cx.out.push(frame::close(code, reason), Class::Reply);
            self.stage = Stage::Closing { until: cx.now.mono.after(CLOSE_TIME) };
        }
    }

    /// The next whole frame without its mask: what it is and what it holds. `None`: not yet.
    fn take_frame(&mut self) -> Result<Option<(OpCode, bool, Vec<u8>)>, Fault> {
        let Some((header, start, end)) = self.look()? else { return Ok(None) };
        let Some(payload) = self.inbox.pending().get(start..end) else { return Ok(None) };
        let mask = header.mask.unwrap_or_default();
        let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        let payload = payload.collect();
        self.inbox.consume(end);
        Ok(Some((header.opcode, header.is_final, payload)))
    }

    /// The head of the next frame, checked, and where its payload lies.
    fn look(&self) -> Result<Option<(FrameHeader, usize, usize)>, Fault> {
        let mut cursor = Cursor::new(self.inbox.pending());
        let Ok(header) = FrameHeader::parse(&mut cursor) else {
            return Err((frame::PROTOCOL_ERROR, "unknown op code"));
        };
        let Some((header, length)) = header else { return Ok(None) };
        let start = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err((frame::PROTOCOL_ERROR, "reserved bits"));
        }
        if header.mask.is_none() {
            return Err((frame::PROTOCOL_ERROR, "unmasked"));
        }
        match header.opcode {
            OpCode::Control(_) if !header.is_final || length > 125 => {
                return Err((frame::PROTOCOL_ERROR, "long control frame"));
            }
            OpCode::Control(_) => {}
            OpCode::Data(Data::Binary) => return Err((code::UNSUPPORTED, "binary")),
            OpCode::Data(data) => {
                if (data == Data::Continue) != self.partial.is_some() {
                    return Err((frame::PROTOCOL_ERROR, "fragments out of order"));
                }
                let before = self.partial.as_ref().map_or(0, Vec::len);
                if length > self.max_message - before {
                    return Err((code::TOO_BIG, "message too big"));
                }
            }
        }
        Ok(Some((header, start, start + length)))
    }

    /// Deals with one frame; false when there is none yet.
    fn step(&mut self, cx: &mut Context<'_>) -> Result<bool, Hangup> {
        let (opcode, is_final, payload) = match self.take_frame() {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(false),
            Err(fault) => return self.fail(fault, cx).map(|()| false),
        };
        let is_closing = matches!(self.stage, Stage::Closing { .. });
        match opcode {
            OpCode::Control(Control::Close) => {
                if !is_closing {
                    let _ = cx.out.push(frame::close_in_answer(&payload), Class::Reply);
                }
                return Err(Hangup::Done);
            }
            _ if is_closing => {}
            OpCode::Control(Control::Ping) => {
                cx.out.push_first(frame::pong(&payload)).map_err(|_| Hangup::TooSlow)?;
            }
            OpCode::Control(_) => {}
            OpCode::Data(_) => {
                if let Some(message) = frame::join(&mut self.partial, payload, is_final) {
                    self.hear(&message, cx)?;
                }
            }
        }
        Ok(true)
    }

    /// Understands one whole message.
    fn hear(&mut self, message: &[u8], cx: &mut Context<'_>) -> Result<(), Hangup> {
        if std::str::from_utf8(message).is_err() {
            return self.fail((code::NOT_UTF8, "not UTF-8"), cx);
        }
        match self.rate.admit(cx.now.mono) {
            Pace::Fine => match self.session.receive(message, cx) {
                Err(Hangup::Malformed(why)) => self.fail((code::POLICY, why), cx),
                other => other,
            },
            Pace::Over => self.session.refuse(
                message,
                ErrorReply::new(Code::RateLimited, "too many messages, 50 a second are taken"),
                cx,
            ),
            Pace::Flood => self.fail((code::POLICY, "too many messages"), cx),
        }
    }

    fn fail(&mut self, (code, reason): Fault, cx: &mut Context<'_>) -> Result<(), Hangup> {
        if matches!(self.stage, Stage::Closing { .. }) {
            return Err(Hangup::Done);
        }
        // Nothing that follows can be trusted to be frames.
        self.inbox.clear();
        self.partial = None;
        self.close(code, reason, cx);
        Err(Hangup::Malformed(reason))
    }
}

impl Conversation for Ws {
    fn receive(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Result<(), Hangup> {
        self.heard = cx.now.mono;
        self.pinged = false;
        if self.inbox.extend(bytes).is_err() {
            return self.fail((code::TOO_BIG, "message too big"), cx);
        }
        self.understand(cx)
    }

    fn understand(&mut self, cx: &mut Context<'_>) -> Result<(), Hangup> {
        for _ in 0..MESSAGES_PER_TURN {
            if !self.step(cx)? {
                break;
            }
        }
        Ok(())
    }

    fn has_more(&self) -> bool {
        match self.look() {
            Ok(Some((_, _, end))) => self.inbox.pending().len() >= end,
            Ok(None) => false,
            Err(_) => true,
        }
    }

    fn reply(&mut self, tag: u64, answer: &Answer, cx: &mut Context<'_>) -> Result<(), Hangup> {
        self.session.reply(tag, answer, cx)
    }

    fn publish(&mut self, news: &Publication, cx: &mut Context<'_>) -> Result<(), Hangup> {
        if !matches!(self.stage, Stage::Closing { .. }) {
            self.session.publish(news, cx);
        }
        Ok(())
    }

    fn sent(&mut self, cx: &mut Context<'_>) -> Result<(), Hangup> {
        self.session.catch_up(cx);
        Ok(())
    }

    fn next_deadline(&self) -> Option<Time> {
        let patience = if self.pinged { SILENCE + ANSWER_TIME } else { SILENCE };
        let silence = self.heard.after(patience);
        Some(match self.stage {
            Stage::Unproven { until } | Stage::New { until } => until.min(silence),
            Stage::Closing { until } => until,
            Stage::Open => silence,
        })
    }

    fn handle_timeout(&mut self, cx: &mut Context<'_>) -> Result<(), Hangup> {
        let now = cx.now.mono;
        match self.stage {
            Stage::Unproven { until } if until <= now => {
                self.close(code::NOT_AUTHENTICATED, "not authenticated", cx);
                return Ok(());
            }
            Stage::New { until } if until <= now => {
                self.stage = Stage::Open;
                if self.session.awaits_default() {
                    cx.demands.push((0, Demand::DefaultSubscription));
                }
            }
            Stage::Closing { until } if until <= now => return Err(Hangup::TooSlow),
            Stage::Unproven { .. } | Stage::New { .. } | Stage::Closing { .. } | Stage::Open => {}
        }
        if self.pinged && self.heard.after(SILENCE + ANSWER_TIME) <= now {
            return Err(Hangup::TooSlow);
        }
        if !self.pinged && self.heard.after(SILENCE) <= now {
            self.pinged = true;
            let _ = cx.out.push_first(frame::ping());
        }
        Ok(())
    }

    fn give_up(&mut self, cx: &mut Context<'_>) {
        if !matches!(self.stage, Stage::Closing { .. }) {
            cx.out.drop_unsent();
            self.close(code::TOO_SLOW, "too slow", cx);
        }
    }

    fn say_good_bye(&mut self, reason: &str, cx: &mut Context<'_>) {
        let data = json!({"reason": reason}).to_string();
        let _ = self.session.tell(&Answer::Data("shutdown", data), cx);
        self.close(code::SHUTDOWN, "shutdown", cx);
    }

    fn session(&self) -> Option<&Session> {
        Some(&self.session)
    }

    fn session_mut(&mut self) -> Option<&mut Session> {
        Some(&mut self.session)
    }
}

/// How fast messages come.
#[derive(Debug)]
struct Rate {
    /// Thousandths of messages that may still come.
    tokens: u64,
    at: Time,
    over_since: Option<Time>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Pace {
    Fine,
    Over,
    /// Over for too long.
    Flood,
}

impl Rate {
    fn admit(&mut self, now: Time) -> Pace {
        let millis = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        self.tokens = self.tokens.saturating_add(millis.saturating_mul(RATE)).min(BURST * 1000);
        self.at = now;
        if self.tokens >= RATE * 1000 {
            self.over_since = None;
        }
        if self.tokens >= 1000 {
            self.tokens -= 1000;
            return Pace::Fine;
        }
        let since = *self.over_since.get_or_insert(now);
        if now.since(since) >= FLOOD_TIME { Pace::Flood } else { Pace::Over }
    }
}

#[cfg(test)]
mod tests;
