//! HTTP/1.1: requests one after the other over one connection, each answered before the next is
//! looked at.
//!
//! httparse reads the heads. The conversation turns into [`crate::proto::ws`] when a request asks
//! for it and may. Source of the limits: the WebSocket API document, A10 and part B.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::base::Time;
use crate::proto::buffer::{Class, Frame, Inbox};
use crate::proto::messages::session::Answer;
use crate::proto::protocol::{Context, Conversation, Demand, Hangup};

use body::Body;
use exposition::Format;
use head::{Head, MAX_HEAD};
use response::{Manner, Response};
use route::Route;

/// Who may come in.
pub mod access;
/// Bodies of requests.
mod body;
/// Metrics for Prometheus.
pub mod exposition;
/// Heads of requests.
pub mod head;
/// Processes as REST shows them.
pub mod record;
/// Responses.
pub mod response;
/// Paths and what they mean.
pub mod route;
/// The upgrade to a WebSocket.
pub mod upgrade;

/// A head must be whole then.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// And the body behind it.
const BODY_TIME: Duration = Duration::from_secs(30);
/// How long a connection is kept for the next request.
const KEEP_TIME: Duration = Duration::from_secs(15);
/// Bytes of heads and of bodies that wait for a peer, beyond one of each.
pub const HEAD_QUEUE: usize = 64 * 1024;
pub const BODY_QUEUE: usize = 1024 * 1024;
/// Bytes that may arrive at once.
const SLACK: usize = 16 * 1024;

/// What is wrong with a request: a status and a sentence.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Problem(pub u16, pub &'static str);

/// One whole request.
#[derive(Debug)]
pub struct Request {
    pub head: Head,
    pub body: Vec<u8>,
}

/// A request that changes nothing and has been let in.
#[derive(Debug)]
pub struct View {
    pub route: Route,
    /// How metrics are to be written.
    pub format: Format,
}

/// One peer.
#[derive(Debug)]
pub struct Http {
    inbox: Inbox,
    stage: Stage,
    /// The request that is answered, by number.
    tag: u64,
    manner: Manner,
    route: Option<Route>,
}

#[derive(Debug)]
enum Stage {
    /// Nothing of a request is there.
    Idle {
        until: Time,
    },
    Head {
        until: Time,
    },
    Body {
        head: Box<Head>,
        body: Body,
        until: Time,
    },
    /// The request waits for its answer.
    Asked,
}

impl Http {
    #[must_use]
    pub fn new(now: Time) -> Self {
        let inbox = Inbox::new(MAX_HEAD + 2 * SLACK);
        let stage = Stage::Idle { until: now.after(HEAD_TIME) };
        Self { inbox, stage, tag: 0, manner: Manner::default(), route: None }
    }

    /// What the response to the present request depends on.
    pub fn manner(&mut self) -> &mut Manner {
        &mut self.manner
    }

    /// Remembers what the present request is about, for its answer.
    pub fn set_route(&mut self, route: Route) {
        self.route = Some(route);
    }

    /// What the present request is about.
    pub fn take_route(&mut self) -> Option<Route> {
        self.route.take()
    }

    /// Answers the request that carried `tag`.
    ///
    /// # Errors
    ///
    /// [`Hangup::Done`] when it was the last one.
    pub fn respond(
        &mut self,
        tag: u64,
        response: &Response,
        cx: &mut Context<'_>,
    ) -> Result<(), Hangup> {
        if tag != self.tag || !matches!(self.stage, Stage::Asked) {
            return Ok(());
        }
        self.write(response, cx)?;
        if !self.manner.keep_alive {
            return Err(Hangup::Done);
        }
        let now = cx.now.mono;
        self.stage = match self.inbox.pending().is_empty() {
            true => Stage::Idle { until: now.after(KEEP_TIME) },
            false => Stage::Head { until: now.after(HEAD_TIME) },
        };
        Ok(())
    }

    /// Queues a response. A peer that asks on and takes no answers meets the outbox's limits.
    fn write(&self, response: &Response, cx: &mut Context<'_>) -> Result<(), Hangup> {
        let mut push = |frame, class| cx.out.push(frame, class).map_err(|_| Hangup::TooSlow);
        push(response.head(&self.manner, cx.now.wall), Class::Event)?;
        if self.manner.head_only || response.body.is_empty() {
            return Ok(());
        }
        push(response.body.clone(), Class::Reply)
    }

    /// Answers the present request by turning into something else, and gives what was received
    /// behind it.
    ///
    /// # Errors
    ///
    /// [`Hangup::TooSlow`].
    pub fn turn(&mut self, response: &Response, cx: &mut Context<'_>) -> Result<Inbox, Hangup> {
        self.write(response, cx)?;
        Ok(std::mem::replace(&mut self.inbox, Inbox::new(0)))
    }

    fn refuse(&mut self, problem: Problem, cx: &mut Context<'_>) -> Hangup {
        self.manner = Manner::default();
        match self.write(&Response::problem(problem), cx) {
            Ok(()) => Hangup::Malformed(problem.1),
            Err(hangup) => hangup,
        }
    }

    /// Goes one step; false when more bytes are needed, or an answer.
    fn step(&mut self, cx: &mut Context<'_>) -> Result<bool, Problem> {
        let now = cx.now.mono;
        match &mut self.stage {
            Stage::Asked => Ok(false),
            Stage::Idle { .. } | Stage::Head { .. } => {
                // Empty lines before a request are the end of a careless peer's last body.
                let blank = self.inbox.pending().iter().take_while(|b| b"\r\n".contains(b)).count();
                self.inbox.consume(blank);
                if self.inbox.pending().is_empty() {
                    return Ok(false);
                }
                if let Stage::Idle { .. } = self.stage {
                    self.stage = Stage::Head { until: now.after(HEAD_TIME) };
                }
                let Some((head, length)) = Head::parse(self.inbox.pending())? else {
                    return Ok(false);
                };
                self.inbox.consume(length);
                let body = Body::new(head.length);
                if head.expects_continue && self.inbox.pending().is_empty() {
                    let go_on: Frame = b"HTTP/1.1 100 Continue\r\n\r\n".as_slice().into();
                    let _ = cx.out.push(go_on, Class::Event);
                }
                let until = now.after(BODY_TIME);
                self.stage = Stage::Body { head: Box::new(head), body, until };
                Ok(true)
            }
            Stage::Body { body, .. } => {
                if !body.take(&mut self.inbox)? {
                    return Ok(false);
                }
                if let Stage::Body { head, body, .. } =
                    std::mem::replace(&mut self.stage, Stage::Asked)
                {
                    self.tag += 1;
                    self.manner = Manner {
                        head_only: head.method == "HEAD",
                        keep_alive: head.keep_alive,
                        origin: None,
                    };
                    let request = Request { head: *head, body: body.into_bytes() };
                    cx.demands.push((self.tag, Demand::Http(Box::new(request))));
                }
                Ok(false)
            }
        }
    }
}

impl Conversation for Http {
    fn receive(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Result<(), Hangup> {
        if self.inbox.extend(bytes).is_err() {
            // No more is read while so much waits.
            return Err(Hangup::Malformed("too much at once"));
        }
        self.understand(cx)
    }

    fn understand(&mut self, cx: &mut Context<'_>) -> Result<(), Hangup> {
        loop {
            match self.step(cx) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(problem) => return Err(self.refuse(problem, cx)),
            }
        }
    }

    /// Of several requests that came at once, the next is looked at when the last is answered.
    fn has_more(&self) -> bool {
        let fresh = matches!(self.stage, Stage::Head { .. }) && self.tag > 0;
        fresh && matches!(Head::parse(self.inbox.pending()), Ok(Some(_)) | Err(_))
    }

    fn wants_input(&self) -> bool {
        !matches!(self.stage, Stage::Asked) || self.inbox.pending().len() < SLACK
    }

    fn reply(&mut self, tag: u64, answer: &Answer, cx: &mut Context<'_>) -> Result<(), Hangup> {
        let response = match answer {
            Answer::Error(error) => Response::error(error),
            Answer::Data(_, data) => {
                let mut members = Map::new();
                members
                    .insert("data".to_owned(), serde_json::from_str(data).unwrap_or(Value::Null));
                Response::success(200, members)
            }
        };
        self.respond(tag, &response, cx)
    }

    fn owes(&self) -> bool {
        matches!(self.stage, Stage::Asked)
    }

    fn next_deadline(&self) -> Option<Time> {
        match self.stage {
            Stage::Idle { until } | Stage::Head { until } | Stage::Body { until, .. } => {
                Some(until)
            }
            Stage::Asked => None,
        }
    }

    fn handle_timeout(&mut self, cx: &mut Context<'_>) -> Result<(), Hangup> {
        match self.stage {
            Stage::Idle { until } if until <= cx.now.mono && self.tag > 0 => Err(Hangup::Done),
            Stage::Idle { until } | Stage::Head { until } | Stage::Body { until, .. }
                if until <= cx.now.mono =>
            {
                Err(self.refuse(Problem(408, "the request did not come in time"), cx))
            }
            Stage::Idle { .. } | Stage::Head { .. } | Stage::Body { .. } | Stage::Asked => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
