use serde_json::{Value, json};

use super::*;
use crate::base::{Now, WallTime};
use crate::proto::buffer::Outbox;
use crate::proto::messages::request::Ask;
use crate::proto::messages::session::Subscription;

const LIMITS: WsLimits = WsLimits { message: 1024, queue: 64 * 1024 };

/// A conversation without a socket, at a settable time.
struct World {
    ws: Ws,
    out: Outbox,
    ids: MessageIds,
    demands: Vec<(u64, Demand)>,
    now: u64,
}

impl World {
    fn new(level: Level) -> Self {
        let ids = MessageIds::new("9f3c2a71".into());
        let mut out = Outbox::new(REPLY_QUEUE, LIMITS.queue);
        let mut demands = vec![];
        let now = Now { mono: Time(0), wall: WallTime(0) };
        let mut cx = Context { now, ids: &ids, out: &mut out, demands: &mut demands };
        let ws = Ws::greet(level, LIMITS, Inbox::new(16), &mut cx);
        let mut world = Self { ws, out, ids, demands, now: 0 };
        world.take();
        world
    }

    fn act<R>(&mut self, act: impl FnOnce(&mut Ws, &mut Context<'_>) -> R) -> R {
        let now = Now { mono: Time(self.now), wall: WallTime(self.now) };
        let (ids, out, demands) = (&self.ids, &mut self.out, &mut self.demands);
        act(&mut self.ws, &mut Context { now, ids, out, demands })
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<(), Hangup> {
        self.act(|ws, cx| ws.receive(bytes, cx))
    }

    fn say(&mut self, text: &str) -> Result<(), Hangup> {
        self.receive(&frame(0x81, text.as_bytes()))
    }

    fn wait(&mut self, until: u64) -> Result<(), Hangup> {
        self.now = until;
        self.act(Ws::handle_timeout)
    }

    /// What was sent, frame by frame: op code and payload.
    fn take(&mut self) -> Vec<(u8, Vec<u8>)> {
        let mut bytes = vec![];
        while !self.out.is_empty() {
            self.out.send(&mut bytes).unwrap();
        }
        let mut frames = vec![];
        let mut rest = bytes.as_slice();
        while let [first, length, more @ ..] = rest {
            let (length, more) = match length {
                126 => (usize::from(u16::from_be_bytes([more[0], more[1]])), &more[2..]),
                127 => panic!("so long"),
                short => (usize::from(*short), more),
            };
            frames.push((first & 0xf, more[..length].to_vec()));
            rest = &more[length..];
        }
        frames
    }

    fn messages(&mut self) -> Vec<Value> {
        let frames = self.take();
        frames.iter().map(|(_, payload)| serde_json::from_slice(payload).unwrap()).collect()
    }

    /// The code of the close frame, the last that was sent.
    fn closed(&mut self) -> Option<u16> {
        let frames = self.take();
        let (opcode, payload) = frames.last()?;
        (*opcode == 8).then(|| u16::from_be_bytes([payload[0], payload[1]]))
    }
}

/// A frame as a client sends it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..126 => bytes.push(0x80 | u8::try_from(short).unwrap()),
        long @ 126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(long).unwrap().to_be_bytes());
        }
        huge => {
            bytes.push(0x80 | 127);
            bytes.extend(u64::try_from(huge).unwrap().to_be_bytes());
        }
    }
    let mask = [1, 2, 3, 4];
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

#[test]
fn hello_comes_first_and_says_what_is_allowed() {
    let mut world = World::new(Level::Read);
    world.act(|ws, cx| ws.session.tell(&ws.hello(cx.ids), cx)).unwrap();
    let hello = &world.messages()[0];
    assert_eq!((&hello["type"], &hello["data"]["access"]), (&json!("hello"), &json!("read")));
    assert_eq!(hello["data"]["auth_required"], false);
    assert_eq!(hello["data"]["limits"]["max_message"], 1024);
}

#[test]
fn messages_are_understood_however_they_are_cut() {
    let mut stream = frame(0x81, br#"{"type":"ping","id":1}"#);
    stream.extend(frame(0x01, br#"{"type":"pi"#));
    stream.extend(frame(0x89, b"payload"));
    stream.extend(frame(0x80, br#"ng","id":2}"#));
    stream.extend(frame(0x8a, b"unasked"));
    stream.extend(frame(0x81, br#"{"type":"subscribe","data":{"events":["all"]}}"#));
    for cut in 0..stream.len() {
        let mut world = World::new(Level::Full);
        world.receive(&stream[..cut]).unwrap();
        world.receive(&stream[cut..]).unwrap();
        assert_eq!(world.demands.len(), 3, "cut {cut}");
        assert_eq!(world.take(), [(0xa, b"payload".to_vec())], "cut {cut}");
        assert!(!world.ws.has_more() && world.ws.inbox.pending().is_empty());
    }
}

#[test]
fn what_breaks_the_protocol_ends_it_with_its_code() {
    let long = "x".repeat(LIMITS.message + 1);
    let unmasked = [0x81, 0x02, b'{', b'}'];
    for (bytes, code) in [
        (unmasked.to_vec(), 1002),
        (frame(0x83, b""), 1002),
        (frame(0x8b, b""), 1002),
        (frame(0xc1, b"{}"), 1002),
        (frame(0x80, b"{}"), 1002),
        (frame(0x09, b""), 1002),
        (frame(0x89, &[0; 126]), 1002),
        ([frame(0x01, b"{"), frame(0x81, b"}")].concat(), 1002),
        (frame(0x82, b"{}"), 1003),
        (frame(0x81, b"\xff"), 1007),
        ([frame(0x01, b"\"\xe2\x82"), frame(0x80, b"\"")].concat(), 1007),
        (frame(0x81, long.as_bytes()), 1009),
        ([frame(0x01, &[b' '; 1000]), frame(0x80, &[b' '; 25])].concat(), 1009),
        // Only the head of a message that would fill the memory.
        (vec![0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], 1009),
    ] {
        let mut world = World::new(Level::Full);
        let end = world.receive(&bytes);
        assert!(matches!(end, Err(Hangup::Malformed(_))), "{code}: {end:?}");
        assert_eq!(world.closed(), Some(code));
    }
}

#[test]
fn a_message_as_long_as_the_limit_is_taken() {
    let mut world = World::new(Level::Full);
    let text = format!(r#"{{"type":"ping","timestamp":"{}"}}"#, "x".repeat(LIMITS.message - 30));
    assert_eq!(text.len(), LIMITS.message);
    world.say(&text).unwrap();
    assert_eq!(world.demands.len(), 1);
}

#[test]
fn altered_bytes_never_panic() {
    let stream = [
        frame(0x01, br#"{"type":"ping","#),
        frame(0x89, b"abc"),
        frame(0x80, br#""id":2}"#),
        frame(0x81, br#"{"type":"command","data":{"action":"stop","process":"a"}}"#),
        frame(0x88, b"\x03\xe8bye"),
    ]
    .concat();
    for at in 0..stream.len() {
        for byte in [0, 1, 0x7e, 0x7f, 0x80, 0x81, 0xfe, 0xff] {
            let mut altered = stream.clone();
            altered[at] = byte;
            let mut world = World::new(Level::Full);
            let _ = world.receive(&altered);
            let _ = world.receive(&altered);
        }
    }
}

#[test]
fn a_close_is_answered_and_ends() {
    let mut world = World::new(Level::Full);
    assert_eq!(world.receive(&frame(0x88, &4000_u16.to_be_bytes())), Err(Hangup::Done));
    assert_eq!(world.closed(), Some(4000));

    let mut world = World::new(Level::Full);
    world.act(|ws, cx| ws.close(1001, "shutdown", cx));
    // What the peer sent before it heard of it does not count.
    world.say(r#"{"type":"ping"}"#).unwrap();
    assert!(world.demands.is_empty());
    assert_eq!(world.receive(&frame(0x88, b"")), Err(Hangup::Done));
}

#[test]
fn a_peer_that_does_not_answer_a_close_is_left_after_a_second() {
    let mut world = World::new(Level::Full);
    world.act(|ws, cx| ws.close(1001, "shutdown", cx));
    assert_eq!(world.ws.next_deadline(), Some(Time(1000)));
    assert_eq!(world.wait(1000), Err(Hangup::TooSlow));
}

#[test]
fn silence_is_asked_about_and_then_ended() {
    let mut world = World::new(Level::Full);
    world.wait(1000).unwrap();
    assert_eq!(world.ws.next_deadline(), Some(Time(30_000)));
    world.wait(30_000).unwrap();
    assert_eq!(world.take(), [(9, vec![])]);
    world.receive(&frame(0x8a, b"")).unwrap();
    world.wait(60_000).unwrap();
    assert_eq!(world.take().len(), 1);
    assert_eq!(world.ws.next_deadline(), Some(Time(70_000)));
    assert_eq!(world.wait(70_000), Err(Hangup::TooSlow));
}

#[test]
fn who_says_nothing_gets_the_default_after_a_second() {
    let mut world = World::new(Level::Full);
    assert_eq!(world.ws.next_deadline(), Some(Time(1000)));
    world.wait(1000).unwrap();
    assert!(matches!(world.demands[..], [(0, Demand::DefaultSubscription)]));

    world.ws.session.subscribe_by_default();
    let has = |world: &World, event| world.ws.session.subscriptions().has(event);
    assert!(has(&world, "process_metrics") && !has(&world, "log_message"));
    // The first subscription replaces it.
    let wish = Subscription { names: None, processes: None, interval: Duration::from_secs(1) };
    let _ = world.ws.session.subscribe(&["log_message".into()], &wish);
    assert!(!has(&world, "process_metrics") && has(&world, "log_message"));
}

#[test]
fn who_said_something_gets_no_default() {
    let mut world = World::new(Level::Full);
    let _ = world.ws.session.unsubscribe(Some(&["process_status".into()]));
    assert!(!world.ws.session.subscriptions().has("process_status"));
    assert!(world.ws.session.subscriptions().has("process_event"));
    world.wait(1000).unwrap();
    assert!(world.demands.is_empty());
}

#[test]
fn a_client_without_a_token_may_only_show_one() {
    let mut world = World::new(Level::None);
    world.say(r#"{"type":"ping","id":1}"#).unwrap();
    assert_eq!(world.messages()[0]["data"]["code"], "UNAUTHORIZED");
    world.say(r#"{"type":"auth","data":{"token":"x"},"id":2}"#).unwrap();
    let [(tag, Demand::Ask(Ask::Auth(_)))] = world.demands[..] else { panic!() };
    world.act(|ws, cx| ws.prove(tag, Ok(Level::Full), cx)).unwrap();
    let hello = &world.messages()[0];
    assert_eq!((&hello["data"]["access"], &hello["reply_to"]), (&json!("full"), &json!(2)));
    world.now = 500;
    assert!(!world.ws.is_unproven());
}

#[test]
fn a_client_that_shows_no_token_or_a_wrong_one_is_sent_away() {
    let mut world = World::new(Level::None);
    world.wait(5000).unwrap();
    assert_eq!(world.closed(), Some(4401));

    let mut world = World::new(Level::None);
    world.say(r#"{"type":"auth","data":{"token":"x"}}"#).unwrap();
    let error = ErrorReply::new(Code::Unauthorized, "wrong token");
    world.act(|ws, cx| ws.prove(1, Err(error), cx)).unwrap();
    let frames = world.take();
    assert_eq!(frames.len(), 2);
    assert_eq!(frames[1].1[..2], 4401_u16.to_be_bytes());
}

#[test]
fn who_may_look_may_not_act_and_nobody_may_what_is_for_the_control_socket() {
    let mut world = World::new(Level::Read);
    for (text, code) in [
        (r#"{"type":"command","data":{"action":"stop","process":"a"}}"#, "PERMISSION_DENIED"),
        (r#"{"type":"shutdown"}"#, "UNSUPPORTED"),
        (r#"{"type":"get_env","data":{"process":"a"}}"#, "UNSUPPORTED"),
        (r#"{"type":"frobnicate"}"#, "UNKNOWN_TYPE"),
    ] {
        world.say(text).unwrap();
        assert_eq!(world.messages()[0]["data"]["code"], code, "{text}");
    }
    world.say(r#"{"type":"get_info"}"#).unwrap();
    assert_eq!(world.demands.len(), 1);
}

#[test]
fn a_flood_is_refused_and_then_ended() {
    let mut world = World::new(Level::Full);
    for _ in 0..BURST {
        world.say(r#"{"type":"nonsense"}"#).unwrap();
    }
    assert!(world.messages().iter().all(|one| one["data"]["code"] == "UNKNOWN_TYPE"));
    world.say(r#"{"type":"ping","id":7}"#).unwrap();
    let refused = &world.messages()[0];
    assert_eq!(
        (&refused["data"]["code"], &refused["reply_to"]),
        (&json!("RATE_LIMITED"), &json!(7))
    );
    // A message each 20 ms is what is taken.
    world.now = 20;
    world.say(r#"{"type":"ping"}"#).unwrap();
    assert_eq!(world.demands.len(), 1);
    world.now = 9_000;
    let mut end = Ok(());
    while end.is_ok() && world.now < 12_000 {
        world.now += 1;
        for _ in 0..10 {
            end = end.and_then(|()| world.say(r#"{"type":"nonsense"}"#));
        }
        world.out = Outbox::new(REPLY_QUEUE, LIMITS.queue);
    }
    assert!(end.is_ok(), "it was quiet for long in between");
    while end.is_ok() && world.now < 30_000 {
        world.now += 1;
        end = world.say(r#"{"type":"nonsense"}"#);
        if end.is_ok() {
            world.out = Outbox::new(REPLY_QUEUE, LIMITS.queue);
        }
    }
    assert_eq!(world.closed(), Some(1008));
    assert!((19_000..20_000).contains(&world.now), "{}", world.now);
}

#[test]
fn nonsense_in_a_row_is_ended() {
    let mut world = World::new(Level::Full);
    for _ in 0..19 {
        world.say("[]").unwrap();
    }
    world.say(r#"{"type":"ping"}"#).unwrap();
    for _ in 0..19 {
        world.say("{").unwrap();
    }
    world.take();
    assert!(world.say("nope").is_err());
    assert_eq!(world.closed(), Some(1008));
}

#[test]
fn replies_that_nobody_takes_end_the_conversation_with_a_last_word() {
    let mut world = World::new(Level::Full);
    let text = format!(r#"{{"type":"{}"}}"#, "x".repeat(900));
    let mut end = Ok(());
    for at in 0..2000 {
        world.now = at * 20;
        end = end.and_then(|()| world.say(&text));
    }
    assert_eq!(end, Err(Hangup::TooSlow));
    world.act(Ws::give_up);
    assert_eq!(world.closed(), Some(4408));
}

#[test]
fn a_slow_client_is_told_of_the_gap_where_it_is() {
    let mut world = World::new(Level::Full);
    world.act(|ws, _| {
        let wish = Subscription { names: None, processes: None, interval: Duration::from_secs(1) };
        let _ = ws.session.subscribe(&["*".to_owned()], &wish);
    });
    let tell = |world: &mut World, event, text: &str| {
        let data = json!({"text": text, "padding": "x".repeat(15_000)}).to_string();
        let news = Publication::periodic(event, WallTime(world.now), data);
        world.act(|ws, cx| ws.publish(&news, cx)).unwrap();
    };
    let heard = |world: &mut World| -> Vec<String> {
        let text = |one: &Value| one["data"]["text"].as_str().map(str::to_owned);
        let kind = |one: Value| text(&one).unwrap_or_else(|| one["type"].to_string());
        world.messages().into_iter().map(kind).collect()
    };
    // Four fit.
    for number in 1..=6 {
        tell(&mut world, "log_message", &number.to_string());
    }
    tell(&mut world, "process_status", "changed");
    tell(&mut world, "system_metrics", "old");
    tell(&mut world, "system_metrics", "new");
    // Nothing has been sent: it is too early to speak of it.
    world.act(Ws::sent).unwrap();
    assert_eq!(heard(&mut world), ["1", "2", "3", "4"]);
    // What happens before it is told of the gap belongs to the gap.
    tell(&mut world, "log_message", "7");
    world.now = 50;
    world.act(Ws::sent).unwrap();
    assert!(matches!(world.demands[..], [(0, Demand::Statuses)]));
    tell(&mut world, "log_message", "8");
    let messages = world.messages();
    assert_eq!(messages[0]["type"], "lagged");
    assert_eq!(messages[0]["data"]["dropped"], json!({"log_message": 3}));
    assert_eq!(messages[0]["data"]["duration"], 50);
    assert_eq!((&messages[1]["data"]["text"], messages.len()), (&json!("new"), 3));
    assert_eq!(messages[2]["data"]["text"], "8");
}
