//! What one client wants to hear and is still owed.
//!
//! A session knows no socket: it takes the text of whole messages and gives back requests; it takes
//! answers and publications and puts frames into the client's outbox.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::base::WallTime;
use crate::config::json::object;
use crate::proto::buffer::Class;
use crate::proto::messages::error::{Code, ErrorReply};
use crate::proto::messages::event::{EVENTS, Publication, envelope, is_periodic, millis};
use crate::proto::messages::request::{self, RequestId};
use crate::proto::messages::stamp::timestamp;
use crate::proto::protocol::{Context, Demand, Hangup};
use crate::supervisor::vocabulary::Target;

/// Requests of one client that are not yet answered.
pub const MAX_IN_PROGRESS: usize = 64;
/// Messages in a row that are no JSON objects before the client is given up.
pub const MAX_NONSENSE: u32 = 20;
/// A line to a control client, in bytes; a longer reply becomes an error.
pub const MAX_REPLY: usize = 16 * 1024 * 1024;

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
}

/// What a client subscribed to.
#[derive(Clone, Debug, Default)]
pub struct Subscriptions(BTreeMap<&'static str, Subscription>);

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
#[derive(Debug, Default)]
pub struct Session {
    in_progress: BTreeMap<u64, Option<RequestId>>,
    next_tag: u64,
    nonsense: u32,
    subscriptions: Subscriptions,
    lagging: Option<Lag>,
}

/// What a slow client missed since when.
#[derive(Debug)]
struct Lag {
    since: WallTime,
    dropped: BTreeMap<&'static str, u64>,
}

impl Session {
    /// Understands one message: a demand, or an answer by itself.
    ///
    /// # Errors
    ///
    /// [`Hangup`] when the client has sent too much nonsense, or takes no replies.
    pub fn receive(&mut self, text: &[u8], cx: &mut Context<'_>) -> Result<(), Hangup> {
        let message = match request::parse(text) {
            Ok(message) => message,
            Err(error) => {
                if error.code == Code::InvalidJson {
                    self.nonsense += 1;
                }
                send(&Answer::Error(error), None, cx)?;
                return if self.nonsense >= MAX_NONSENSE {
                    Err(Hangup::Malformed("too many messages that are no JSON objects"))
                } else {
                    Ok(())
                };
            }
        };
        self.nonsense = 0;
        let refuse = match message.ask {
            Ok(_) if self.in_progress.len() >= MAX_IN_PROGRESS => {
                ErrorReply::new(Code::RateLimited, "too many requests in progress")
            }
            Ok(ask) => {
                self.next_tag += 1;
                self.in_progress.insert(self.next_tag, message.id);
                cx.demands.push((self.next_tag, Demand::Ask(ask)));
                return Ok(());
            }
            Err(error) => error,
        };
        let error = ErrorReply { request: Some(message.kind), ..refuse };
        send(&Answer::Error(error), message.id.as_ref(), cx)
    }

    /// Answers the request that carried `tag`; a tag that was answered is ignored.
    ///
    /// # Errors
    ///
    /// [`Hangup::TooSlow`] if the client's replies do not fit any more.
    pub fn reply(&mut self, tag: u64, answer: &Answer, cx: &mut Context<'_>) -> Result<(), Hangup> {
        match self.in_progress.remove(&tag) {
            Some(id) => send(answer, id.as_ref(), cx),
            None => Ok(()),
        }
    }

    /// Whether a request is not yet answered.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.in_progress.is_empty()
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
        for event in EVENTS.into_iter().filter(|&event| known(event)) {
            self.subscriptions.0.insert(event, wish.clone());
        }
        self.subscription_state(unknown)
    }

    /// Ends the named subscriptions, or all.
    pub fn unsubscribe(&mut self, events: Option<&[String]>) -> Answer {
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
        let Some(filter) = self.subscriptions.filter(news.event) else { return };
        if news.subject.as_ref().is_some_and(|subject| !subject.is_wanted(filter)) {
            return;
        }
        self.catch_up(cx);
        if self.lagging.is_some() || cx.out.push(news.line(cx.ids), Class::Event).is_err() {
            let lag = self
                .lagging
                .get_or_insert_with(|| Lag { since: news.at, dropped: BTreeMap::new() });
            *lag.dropped.entry(news.event).or_default() += 1;
        }
    }

    /// Tells a client that was too slow what it missed, once half of its queue is free again.
    pub fn catch_up(&mut self, cx: &mut Context<'_>) {
        if self.lagging.is_none() || cx.out.queued_events() > EVENT_QUEUE / 2 {
            return;
        }
        let Some(lag) = self.lagging.take() else { return };
        let at = cx.now.wall;
        let data = json!({
            "dropped": lag.dropped, "since": timestamp(lag.since),
            "duration": at.0.saturating_sub(lag.since.0),
        });
        let line = envelope("lagged", &data.to_string(), at, None, cx.ids);
        if cx.out.push(line, Class::Event).is_err() {
            self.lagging = Some(lag);
        }
    }
}

/// Bytes of events that wait for one client at most.
pub const EVENT_QUEUE: usize = 1024 * 1024;

fn send(answer: &Answer, reply_to: Option<&RequestId>, cx: &mut Context<'_>) -> Result<(), Hangup> {
    let frame = |kind: &str, data: &str| envelope(kind, data, cx.now.wall, reply_to, cx.ids);
    let frame = match answer {
        Answer::Data(kind, data) if data.len() <= MAX_REPLY - 256 => frame(kind, data),
        Answer::Data(..) => {
            let error = ErrorReply::new(Code::OperationFailed, "the reply is longer than 16 MiB")
                .with("reason", "too-large");
            frame("error", &json!(error).to_string())
        }
        Answer::Error(error) => frame("error", &json!(error).to_string()),
    };
    cx.out.push(frame, Class::Reply).map_err(|_| Hangup::TooSlow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subscription_is_replaced_alone_and_tells_its_interval_where_it_has_one() {
        let mut session = Session::default();
        let mut subscribe = |events: &[&str], millis: u64| {
            let events: Vec<String> = events.iter().map(|&event| event.to_owned()).collect();
            let processes = Some(vec![Target::parse("api:1")]);
            let wish = Subscription { processes, interval: Duration::from_millis(millis) };
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
