//! What one client wants to hear and is still owed.
//!
//! A session knows no socket: it takes the text of whole messages and gives back requests; it takes
//! answers and publications and puts frames into the client's outbox.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use crate::base::WallTime;
use crate::config::web::Level;
use crate::json::json;
use crate::json::object;
use crate::proto::buffer::{Class, Frame};
use crate::proto::ipc::pattern;
use crate::proto::messages::carrier::{Carrier, Envelope};
use crate::proto::messages::error::{Code, ErrorReply};
use crate::proto::messages::event::{EVENTS, Publication, is_periodic, millis};
use crate::proto::messages::request::{self, Ask, Limits, RequestId, Right};
use crate::proto::messages::stamp::timestamp;
use crate::proto::protocol::{Context, Demand, Hangup};
use crate::sorted::SortedMap;
use crate::supervisor::vocabulary::Target;

/// Requests of one client that are not yet answered.
pub const MAX_IN_PROGRESS: usize = 64;
/// Messages in a row that are no JSON objects before the client is given up.
pub const MAX_NONSENSE: u32 = 20;
/// A line to a control client, in bytes; a longer reply becomes an error.
pub const MAX_REPLY: usize = 16 * 1024 * 1024;

/// What a control client may ask for at once.
pub const LIMITS: Limits = Limits { targets: 4096, lines: 10_000 };
/// What a client over the network may.
pub const REMOTE_LIMITS: Limits = Limits { targets: 256, lines: 1000 };

/// An answer to one request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// `type` and the `data` object as JSON text.
    Data(&'static str, String),
    Error(ErrorReply),
}

/// What a client wants to hear of one event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Subscription {
    /// `None`: every process.
    pub processes: Option<Vec<Target>>,
    /// How often; means something to events that come at an interval.
    pub interval: Duration,
    /// Patterns of names of a `channel_event`; `None`: all of them.
    pub names: Option<Rc<[String]>>,
}

impl Subscription {
    /// Whether news under this name is wanted.
    fn wants_name(&self, news: &Publication) -> bool {
        let (Some(patterns), Some(name)) = (&self.names, &news.name) else { return true };
        patterns.iter().any(|wanted| {
            let inner = news.inner.as_ref();
            pattern::matches(wanted, name, pattern::DELIMITER)
                || inner.is_some_and(|inner| match inner.wildcard {
                    true => pattern::matches(wanted, &inner.name, &inner.delimiter),
                    false => **wanted == *inner.name,
                })
        })
    }
}

/// What a client subscribed to.
#[derive(Clone, Debug, Default)]
pub struct Subscriptions(SortedMap<&'static str, Subscription>);

impl Subscriptions {
    /// Whether this client wants to hear `event` at all.
    #[must_use]
    pub fn has(&self, event: &str) -> bool {
        self.0.contains_key(event)
    }

    /// `None`: not subscribed.
    #[must_use]
    pub fn get(&self, event: &str) -> Option<&Subscription> {
        self.0.get(event)
    }

    /// The filter for `event`: outer `None`: not subscribed; inner `None`: every process.
    #[must_use]
    pub fn filter(&self, event: &str) -> Option<Option<&[Target]>> {
        self.0.get(event).map(|subscription| subscription.processes.as_deref())
    }
}

/// One client.
#[derive(Debug)]
pub struct Session {
    carrier: Carrier,
    level: Level,
    in_progress: SortedMap<u64, Question>,
    next_tag: u64,
    nonsense: u32,
    subscriptions: Subscriptions,
    wishes: Wishes,
    lag: Option<Box<Lag>>,
}

/// A request that is not answered yet.
#[derive(Debug)]
struct Question {
    /// The `type`, for an error.
    kind: String,
    id: Option<RequestId>,
}

/// What a client said about the events it wants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wishes {
    None,
    /// Nothing; it got the default subscription.
    Default,
    Said,
}

/// The events of a client that names none, and how often.
fn default_subscription() -> (Vec<String>, Subscription) {
    let events =
        EVENTS.into_iter().filter(|&event| !matches!(event, "log_message" | "channel_event"));
    let wish = Subscription { processes: None, interval: Duration::from_secs(2), names: None };
    (events.map(str::to_owned).collect(), wish)
}

/// What a slow client missed since when.
#[derive(Debug)]
struct Lag {
    since: WallTime,
    dropped: SortedMap<&'static str, u64>,
    /// The newest of each kind that comes at an interval.
    newest: SortedMap<&'static str, Frame>,
    /// It missed changes of status: what matters of them is how things are in the end.
    missed_status: bool,
}

impl Default for Session {
    /// A control client.
    fn default() -> Self {
        Self::new(Carrier::Line, Level::Full)
    }
}

impl Session {
    /// A client that may do what `level` says.
    #[must_use]
    pub fn new(carrier: Carrier, level: Level) -> Self {
        Self {
            carrier,
            level,
            in_progress: SortedMap::new(),
            next_tag: 0,
            nonsense: 0,
            subscriptions: Subscriptions::default(),
            wishes: match carrier {
                Carrier::Line => Wishes::Said,
                Carrier::WebSocket => Wishes::None,
            },
            lag: None,
        }
    }

    /// Whether it is to get the default subscription when it goes on saying nothing.
    #[must_use]
    pub fn awaits_default(&self) -> bool {
        self.wishes == Wishes::None
    }

    /// Gives it what most clients want.
    pub fn subscribe_by_default(&mut self) {
        let (events, wish) = default_subscription();
        let _ = self.subscribe(&events, &wish);
        self.wishes = Wishes::Default;
    }

    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// The client has shown what it may do.
    pub fn set_level(&mut self, level: Level) {
        self.level = level;
    }

    /// Whether its messages come over a WebSocket: from further away than the control socket.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.carrier == Carrier::WebSocket
    }

    /// Understands one message: a demand, or an answer by itself.
    ///
    /// # Errors
    ///
    /// [`Hangup`] when the client has sent too much nonsense, or takes no replies.
    pub fn receive(&mut self, text: &[u8], cx: &mut Context<'_>) -> Result<(), Hangup> {
        let limits = if self.is_remote() { REMOTE_LIMITS } else { LIMITS };
        let message = match request::parse(text, limits) {
            Ok(message) => message,
            Err(error) => {
                let is_json = error.code != Code::InvalidJson;
                self.nonsense = if is_json { 0 } else { self.nonsense + 1 };
                self.send(&Answer::Error(error), None, cx)?;
                return if self.nonsense >= MAX_NONSENSE {
                    Err(Hangup::Malformed("too many messages that are no JSON objects"))
                } else {
                    Ok(())
                };
            }
        };
        self.nonsense = 0;
        let refusal = match message.ask.and_then(|ask| self.admit(ask, &message.kind)) {
            Ok(_) if self.in_progress.len() >= MAX_IN_PROGRESS => {
                ErrorReply::new(Code::RateLimited, "too many requests in progress")
            }
            Ok(ask) => {
                self.next_tag += 1;
                let question = Question { kind: message.kind, id: message.id };
                self.in_progress.insert(self.next_tag, question);
                cx.demands.push((self.next_tag, Demand::Ask(ask)));
                return Ok(());
            }
            Err(error) => error,
        };
        let error = ErrorReply { request: Some(message.kind), ..refusal };
        self.send(&Answer::Error(error), message.id.as_ref(), cx)
    }

    /// Refuses a message, whatever it says.
    ///
    /// # Errors
    ///
    /// As [`Self::reply`].
    pub fn refuse(
        &mut self,
        text: &[u8],
        error: ErrorReply,
        cx: &mut Context<'_>,
    ) -> Result<(), Hangup> {
        let message = request::parse(text, REMOTE_LIMITS).ok();
        let (kind, id) = message.map_or((None, None), |one| (Some(one.kind), one.id));
        let error = ErrorReply { request: kind, ..error };
        self.send(&Answer::Error(error), id.as_ref(), cx)
    }

    /// Whether this client may ask that.
    fn admit(&self, ask: Ask, kind: &str) -> Result<Ask, ErrorReply> {
        let right = ask.right();
        if self.level == Level::None && right != Right::Connect {
            return Err(ErrorReply::new(
                Code::Unauthorized,
                "a token is needed: send 'auth' first",
            ));
        }
        match right {
            Right::Connect if !self.is_remote() => {
                let text = format!("unknown type '{kind}'");
                Err(ErrorReply::new(Code::UnknownType, text).with("type", kind))
            }
            Right::Control if self.is_remote() => {
                let text = format!("'{kind}' is for the control socket only");
                Err(ErrorReply::new(Code::Unsupported, text))
            }
            Right::Act if self.level == Level::Read => {
                Err(ErrorReply::new(Code::PermissionDenied, "this connection may only look"))
            }
            Right::Connect | Right::Look | Right::Act | Right::Control => Ok(ask),
        }
    }

    /// Answers the request that carried `tag`; a tag that was answered is ignored.
    ///
    /// # Errors
    ///
    /// [`Hangup::TooSlow`] if the client's replies do not fit any more.
    pub fn reply(&mut self, tag: u64, answer: &Answer, cx: &mut Context<'_>) -> Result<(), Hangup> {
        let Some(Question { kind, id }) = self.in_progress.remove(&tag) else { return Ok(()) };
        if let Answer::Error(error) = answer {
            let error = ErrorReply { request: Some(kind), ..error.clone() };
            return self.send(&Answer::Error(error), id.as_ref(), cx);
        }
        self.send(answer, id.as_ref(), cx)
    }

    /// Says something that nobody asked for.
    ///
    /// # Errors
    ///
    /// As [`Self::reply`].
    pub fn tell(&self, answer: &Answer, cx: &mut Context<'_>) -> Result<(), Hangup> {
        self.send(answer, None, cx)
    }

    #[must_use]
    pub fn subscriptions(&self) -> &Subscriptions {
        &self.subscriptions
    }

    /// Replaces the entries of the named events; the answer tells the whole state.
    pub fn subscribe(&mut self, events: &[String], wish: &Subscription) -> Answer {
        let every = events.iter().any(|event| event == "all" || event == "*");
        let known = |name: &'static str| every || events.iter().any(|event| event == name);
        let unknown: Vec<_> = events
            .iter()
            .filter(|event| !EVENTS.contains(&event.as_str()) && *event != "all" && *event != "*")
            .cloned()
            .collect();
        if !EVENTS.into_iter().any(known) {
            return Answer::Error(
                ErrorReply::new(Code::UnknownEvent, "no known event in 'events'")
                    .with("unknown_events", unknown),
            );
        }
        if std::mem::replace(&mut self.wishes, Wishes::Said) == Wishes::Default {
            self.subscriptions = Subscriptions::default();
        }
        for event in EVENTS.into_iter().filter(|&event| known(event)) {
            self.subscriptions.0.insert(event, wish.clone());
        }
        self.subscription_state(unknown)
    }

    /// Ends the named subscriptions, or all. Of a client that has said nothing yet, those of the
    /// default.
    pub fn unsubscribe(&mut self, events: Option<&[String]>) -> Answer {
        if self.awaits_default() {
            self.subscribe_by_default();
        }
        self.wishes = Wishes::Said;
        let every =
            events.is_none_or(|names| names.iter().any(|name| name == "all" || name == "*"));
        self.subscriptions.0.retain(|event, _| {
            !every && events.is_none_or(|names| names.iter().all(|name| name != event))
        });
        self.subscription_state(Vec::new())
    }

    fn subscription_state(&self, unknown: Vec<String>) -> Answer {
        let events = object(self.subscriptions.0.iter().map(|(&event, subscription)| {
            let names = subscription
                .processes
                .as_ref()
                .map(|targets| targets.iter().map(ToString::to_string).collect::<Vec<_>>());
            let interval = is_periodic(event).then(|| millis(subscription.interval));
            (event, json!({"processes": names, "interval": interval}))
        }));
        let data = json!({"events": events, "unknown_events": unknown, "warnings": []});
        Answer::Data("subscription", data.to_string())
    }

    /// Passes on news if this client asked for it; of what comes at an interval only what is meant
    /// for it is handed in. What does not fit is dropped and counted; the gap is reported as
    /// `lagged` before the next event that fits.
    pub fn publish(&mut self, news: &Publication, cx: &mut Context<'_>) {
        let Some(wish) = self.subscriptions.get(news.event) else { return };
        let filter = wish.processes.as_deref();
        if news.subject.as_ref().is_some_and(|subject| !subject.is_wanted(filter))
            || !wish.wants_name(news)
        {
            return;
        }
        self.offer(news, cx);
    }

    /// Passes on news that this client is known to want. What does not fit is left out: of what
    /// comes at an interval the newest is kept, changes of status are made good for, the rest is
    /// counted. [`Self::catch_up`] tells the client.
    pub fn offer(&mut self, news: &Publication, cx: &mut Context<'_>) {
        let frame = news.frame(self.carrier, cx.ids);
        let lag = match &mut self.lag {
            Some(lag) => lag,
            None if cx.out.push(frame.clone(), Class::Event).is_ok() => {
                if self.is_remote() {
                    cx.ids.tally.sent.add(news.event);
                }
                return;
            }
            none => none.insert(Box::new(Lag {
                since: news.at,
                dropped: SortedMap::new(),
                newest: SortedMap::new(),
                missed_status: false,
            })),
        };
        if is_periodic(news.event) {
            lag.newest.insert(news.event, frame);
        } else if news.event == "process_status" {
            lag.missed_status = true;
        } else {
            *lag.dropped.get_or_default(news.event) += 1;
            if self.carrier == Carrier::WebSocket {
                cx.ids.tally.dropped.add(news.event);
            }
        }
    }

    /// Passes on what a new subscriber is to know first.
    pub fn give(&mut self, news: &Publication, cx: &mut Context<'_>) {
        match self.carrier {
            // As long a backlog as it asked for.
            Carrier::Line => {
                let _ = cx.out.push(news.frame(self.carrier, cx.ids), Class::Reply);
            }
            Carrier::WebSocket => self.offer(news, cx),
        }
    }

    /// Tells a client that was too slow what it missed, once half of its queue is free again.
    pub fn catch_up(&mut self, cx: &mut Context<'_>) {
        if self.lag.is_none() || cx.out.is_half_full(Class::Event) {
            return;
        }
        let Some(lag) = self.lag.take() else { return };
        let at = cx.now.wall;
        let dropped = lag.dropped.iter().map(|(&event, &count)| (event, count.into()));
        let data = json!({
            "dropped": object(dropped), "since": timestamp(lag.since),
            "duration": at.0.saturating_sub(lag.since.0),
        });
        let data = data.to_string();
        let envelope = Envelope { kind: "lagged", data: &data, at, reply_to: None };
        if cx.out.push(self.carrier.message(&envelope, cx.ids), Class::Event).is_err() {
            self.lag = Some(lag);
            return;
        }
        for (_, frame) in lag.newest {
            let _ = cx.out.push(frame, Class::Event);
        }
        if lag.missed_status {
            cx.demands.push((0, Demand::Statuses));
        }
    }

    fn send(
        &self,
        answer: &Answer,
        reply_to: Option<&RequestId>,
        cx: &mut Context<'_>,
    ) -> Result<(), Hangup> {
        let too_large;
        let (kind, data): (&'static str, Cow<'_, str>) = match answer {
            Answer::Data(kind, data) if data.len() <= MAX_REPLY - 256 => (kind, data.into()),
            Answer::Data(..) => {
                let text = "the reply is longer than 16 MiB";
                too_large =
                    ErrorReply::new(Code::OperationFailed, text).with("reason", "too-large");
                ("error", json!(too_large).to_string().into())
            }
            Answer::Error(error) => ("error", json!(error).to_string().into()),
        };
        let envelope = Envelope { kind, data: &data, at: cx.now.wall, reply_to };
        let frame = self.carrier.message(&envelope, cx.ids);
        if self.is_remote() {
            cx.ids.tally.sent.add(kind);
        }
        cx.out.push(frame, Class::Reply).map_err(|_| Hangup::TooSlow)
    }
}

/// Bytes of events that wait for one control client at most.
pub const EVENT_QUEUE: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subscription_is_replaced_alone_and_tells_its_interval_where_it_has_one() {
        let mut session = Session::default();
        let mut subscribe = |events: &[&str], millis: u64| {
            let events: Vec<String> = events.iter().map(|&event| event.to_owned()).collect();
            let processes = Some(vec![Target::parse("api:1")]);
            let interval = Duration::from_millis(millis);
            let wish = Subscription { processes, interval, names: None };
            match session.subscribe(&events, &wish) {
                Answer::Data(_, data) => serde_json::from_str::<serde_json::Value>(&data).unwrap(),
                Answer::Error(error) => json!(error),
            }
        };
        let first = subscribe(&["system_metrics", "process_status", "nonsense"], 500);
        assert_eq!(first["unknown_events"], json!(["nonsense"]));
        let second = subscribe(&["process_metrics", "system_metrics"], 2000);
        let processes = json!(["api:1"]);
        assert_eq!(
            second["events"],
            json!({"process_metrics": {"processes": processes, "interval": 2000},
                   "process_status": {"processes": processes, "interval": null},
                   "system_metrics": {"processes": processes, "interval": 2000}})
        );
        assert_eq!(subscribe(&["nonsense"], 500)["code"], "UNKNOWN_EVENT");
    }
}
