use super::head::{Length, MAX_BODY, Name};
use super::*;
use crate::base::{Now, WallTime};
use crate::proto::buffer::Outbox;
use crate::proto::messages::stamp::MessageIds;

struct World {
    http: Http,
    out: Outbox,
    ids: MessageIds,
    demands: Vec<(u64, Demand)>,
    now: u64,
}

impl World {
    fn new() -> Self {
        Self {
            http: Http::new(Time(0)),
            out: Outbox::new(BODY_QUEUE, HEAD_QUEUE),
            ids: MessageIds::new("9f3c2a71".into()),
            demands: vec![],
            now: 0,
        }
    }

    fn act<R>(&mut self, act: impl FnOnce(&mut Http, &mut Context<'_>) -> R) -> R {
        let now = Now { mono: Time(self.now), wall: WallTime(self.now) };
        let (ids, out, demands) = (&self.ids, &mut self.out, &mut self.demands);
        act(&mut self.http, &mut Context { now, ids, out, demands })
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<(), Hangup> {
        self.act(|http, cx| http.receive(bytes, cx))
    }

    /// Answers what was asked, `ok`; gives the request.
    fn answer(&mut self) -> (Request, Result<(), Hangup>) {
        let (tag, demand) = self.demands.remove(0);
        let Demand::Http(request) = demand else { panic!("{demand:?}") };
        let response = Response::new(200, "text/plain", *b"ok");
        (*request, self.act(|http, cx| http.respond(tag, &response, cx)))
    }

    fn sent(&mut self) -> String {
        let mut bytes = vec![];
        while !self.out.is_empty() {
            self.out.send(&mut bytes).unwrap();
        }
        String::from_utf8(bytes).unwrap()
    }

    /// The status of what was sent.
    fn status(&mut self) -> u16 {
        self.sent().get(9..12).and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }
}

fn head(text: &str) -> Result<Head, Problem> {
    Head::parse(text.as_bytes()).map(|head| head.expect("it is whole").0)
}

#[test]
fn a_request_is_understood_however_it_is_cut() {
    let text =
        b"POST /api/processes?x=1 HTTP/1.1\r\nHost: localhost\r\ncontent-length: 4\r\n\r\nbody\
                 \r\nGET /next HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for cut in 0..text.len() {
        let mut world = World::new();
        world.receive(&text[..cut]).unwrap();
        world.receive(&text[cut..]).unwrap();
        let (request, _) = world.answer();
        assert_eq!(
            (request.head.path.as_str(), request.head.query.as_str()),
            ("/api/processes", "x=1")
        );
        assert_eq!(request.body, b"body", "cut {cut}");
        assert!(world.demands.is_empty(), "one after the other");
        assert!(world.http.has_more());
        world.act(Http::understand).unwrap();
        assert_eq!(world.answer().0.head.path, "/next");
        assert_eq!(world.sent().matches("HTTP/1.1 200 OK\r\n").count(), 2);
    }
}

#[test]
fn chunks_are_put_together_however_they_are_cut() {
    let text = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                 3;ext=1\r\nabc\r\n0a\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n";
    for cut in 0..text.len() {
        let mut world = World::new();
        world.receive(&text[..cut]).unwrap();
        world.receive(&text[cut..]).unwrap();
        assert_eq!(world.answer().0.body, b"abc0123456789", "cut {cut}");
    }
}

#[test]
fn altered_bytes_never_panic() {
    let text = b"POST /%41?b=%42 HTTP/1.1\r\nHost: [::1]:80\r\nTransfer-Encoding: chunked\r\n\r\n\
                 3\r\nabc\r\n0\r\n\r\n";
    for at in 0..text.len() {
        for byte in [0, b'\r', b'\n', b' ', b':', b'%', b'9', b'f', 0x7f, 0xff] {
            let mut altered = text.to_vec();
            altered[at] = byte;
            let _ = World::new().receive(&altered);
        }
    }
}

#[test]
fn what_is_no_request_is_refused_with_its_status() {
    let host = "Host: a\r\n";
    let many = "X: y\r\n".repeat(70);
    let long = format!("X: {}\r\n", "y".repeat(9000));
    let big = format!("Content-Length: {}\r\n", MAX_BODY + 1);
    for (text, status) in [
        ("\0\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        (format!("GET / HTTP/1.1\r\n{host}{host}\r\n"), 400),
        (format!("GET nowhere HTTP/1.1\r\n{host}\r\n"), 400),
        (format!("GET / HTTP/1.1\r\n{host}X : y\r\n\r\n"), 400),
        (format!("GET / HTTP/1.1\r\n{host} folded\r\n\r\n"), 400),
        (format!("POST / HTTP/1.1\r\n{host}Content-Length: 1\r\nContent-Length: 2\r\n\r\n"), 400),
        (format!("POST / HTTP/1.1\r\n{host}Content-Length: -1\r\n\r\n"), 400),
        (
            format!(
                "POST / HTTP/1.1\r\n{host}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
            ),
            400,
        ),
        (format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\nxyz\r\n"), 400),
        (format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n"), 400),
        (format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: gzip\r\n\r\n"), 501),
        (format!("GET / HTTP/2.0\r\n{host}\r\n"), 505),
        (format!("GET / HTTP/1.1\r\n{host}{many}\r\n"), 431),
        (format!("GET / HTTP/1.1\r\n{host}{long}\r\n"), 431),
        (format!("POST / HTTP/1.1\r\n{host}{big}\r\n"), 413),
        (format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\nfffff\r\n"), 413),
    ] {
        let mut world = World::new();
        let end = world.receive(text.as_bytes());
        assert!(matches!(end, Err(Hangup::Malformed(_))), "{text:?}: {end:?}");
        let sent = world.sent();
        assert!(sent.starts_with(&format!("HTTP/1.1 {status} ")), "{text:?}: {sent}");
        assert!(sent.contains("\r\nConnection: close\r\n") && sent.contains("\"success\":false"));
    }
}

#[test]
fn old_and_closing_peers_are_answered_once() {
    for (text, again) in [
        ("GET / HTTP/1.0\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n\r\n", true),
    ] {
        let mut world = World::new();
        world.receive(text.as_bytes()).unwrap();
        assert!(world.http.owes());
        assert_eq!(world.answer().1.is_ok(), again, "{text}");
    }
}

#[test]
fn the_head_alone_answers_head() {
    let mut world = World::new();
    world.receive(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    world.answer().1.unwrap();
    let sent = world.sent();
    assert!(sent.contains("Content-Length: 2\r\n") && sent.ends_with("\r\n\r\n"), "{sent}");
}

#[test]
fn a_peer_that_waits_for_a_word_gets_it() {
    let mut world = World::new();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    world.receive(head).unwrap();
    assert_eq!(world.sent(), "HTTP/1.1 100 Continue\r\n\r\n");
    world.receive(b"{}").unwrap();
    assert_eq!(world.answer().0.body, b"{}");
}

#[test]
fn slow_peers_are_told_and_idle_ones_closed() {
    let late = |bytes: &[u8], until: u64| {
        let mut world = World::new();
        world.receive(bytes).unwrap();
        assert_eq!(world.http.next_deadline(), Some(Time(until)));
        world.now = until;
        let end = world.act(Http::handle_timeout);
        (end, world.status())
    };
    let slow = (Err(Hangup::Malformed("the request did not come in time")), 408);
    assert_eq!(late(b"", 5000), slow);
    assert_eq!(late(b"GET / HT", 5000), slow);
    assert_eq!(late(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{", 30_000), slow);

    let mut world = World::new();
    world.receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(world.http.next_deadline(), None, "the answer takes what it takes");
    world.answer().1.unwrap();
    world.now = 15_000;
    assert_eq!(world.http.next_deadline(), Some(Time(15_000)));
    assert_eq!(world.act(Http::handle_timeout), Err(Hangup::Done));
}

#[test]
fn a_peer_that_asks_on_and_takes_no_answers_is_closed() {
    let mut world = World::new();
    let mut end = Ok(());
    for _ in 0..1000 {
        world.receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        end = world.answer().1;
        if end.is_err() {
            break;
        }
    }
    assert_eq!(end, Err(Hangup::TooSlow));
}

#[test]
fn heads_are_cut_down_to_what_counts() {
    let found = head("GET http://box:80/a?b HTTP/1.1\r\nHost: other\r\n\r\n").unwrap();
    assert_eq!((found.path.as_str(), found.query.as_str()), ("/a", "b"));
    assert_eq!(found.get(Name::Host), Some("box:80"), "the target's host counts");
    let found =
        head("GET / HTTP/1.1\r\nHost: a\r\nUPGRADE: WebSocket\r\nconnection: a, UPGRADE\r\n\r\n");
    let found = found.unwrap();
    assert!(found.lists(Name::Upgrade, "websocket") && found.lists(Name::Connection, "upgrade"));
    assert!(!found.lists(Name::Connection, "up"));
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n";
    assert_eq!(head(chunked).unwrap().length, Length::Chunked);
}

#[test]
fn the_handshake_of_a_websocket_is_checked() {
    let base = "GET /ws HTTP/1.1\r\nHost: a\r\n";
    let whole = "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let accept = |lines: &str| upgrade::accept(&head(&format!("{base}{lines}\r\n")).unwrap());
    let response = accept(whole).unwrap();
    let text = response.head(&Manner::default(), WallTime(0));
    let text = String::from_utf8(text.to_vec()).unwrap();
    assert!(text.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{text}");
    assert!(!text.contains("Protocol:") && !text.contains("Content-"), "{text}");

    let offers = format!("{whole}Sec-WebSocket-Protocol: pmd.v1, pmd.auth.YWJj\r\n");
    let text = accept(&offers).unwrap().head(&Manner::default(), WallTime(0));
    let text = String::from_utf8(text.to_vec()).unwrap();
    assert!(text.contains("Sec-WebSocket-Protocol: pmd.v1\r\n"), "{text}");
    assert!(!text.contains("pmd.auth"), "{text}");

    for (lines, status) in [
        (String::new(), 426),
        (whole.replace("keep-alive, Upgrade", "keep-alive"), 426),
        (whole.replace("13", "12"), 426),
        (whole.replace("dGhlIHNhbXBsZSBub25jZQ==", "x"), 400),
        (format!("{whole}Content-Length: 2\r\n"), 400),
    ] {
        let refused = accept(&lines).unwrap_err();
        assert_eq!(refused.status, status, "{lines}");
    }
}
