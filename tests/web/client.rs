//! A daemon with a web interface, and clients that say what a test wants them to say.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::Home;

/// Until this has passed, nothing is called missing.
const PATIENCE: Duration = Duration::from_secs(30);

/// A home with a daemon whose web interface listens on a port of its own.
pub struct Web {
    pub home: Home,
    pub address: SocketAddr,
}

impl Web {
    pub fn new() -> Self {
        Self::with(&[], &[])
    }

    /// With more options and variables for the daemon.
    pub fn with(options: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut home = Home::without_daemon();
        let address = boot(&mut home, options, variables);
        Self { home, address }
    }

    /// Starts the daemon again, on another port.
    pub fn reboot(&mut self) {
        self.address = boot(&mut self.home, &[], &[]);
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends bytes and reads one response.
    pub fn raw(&self, request: &[u8]) -> Response {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        Response::read(&mut stream)
    }

    /// One request with these header lines besides `Host`.
    pub fn request(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Response {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.address);
        for header in headers {
            text.push_str(header);
            text.push_str("\r\n");
        }
        if !body.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        text.push_str(body);
        self.raw(text.as_bytes())
    }

    pub fn get(&self, path: &str) -> Response {
        self.request("GET", path, &[], "")
    }

    pub fn post(&self, path: &str, body: &Value) -> Response {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let json = "Content-Type: application/json";
        let headers: &[&str] = if body.is_empty() { &[] } else { &[json] };
        self.request("POST", path, headers, &body)
    }

    /// A WebSocket, after `hello`.
    pub fn socket(&self) -> Socket {
        let mut socket = Socket::open(self, &[]).unwrap_or_else(|response| panic!("{response:?}"));
        assert_eq!(socket.next()["type"], "hello");
        socket
    }
}

fn boot(home: &mut Home, options: &[&str], variables: &[(&str, &str)]) -> SocketAddr {
    let mut command = home.daemon_command();
    command.env_remove("PMD_WEB").args(["--web", "127.0.0.1:0"]).args(options);
    command.envs(variables.iter().copied());
    let before = home.read("daemon.err").len();
    home.boot_with(command);
    let mark = "web interface on: ";
    let log = home.await_text_after("daemon.err", before, mark);
    let address = log.split(mark).nth(1).unwrap().split_whitespace().next().unwrap();
    address.parse().unwrap()
}

/// What a server answered.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    head: String,
    pub body: Vec<u8>,
}

impl Response {
    /// Reads one, with the body that its length says. Status 0: the server hung up.
    pub fn read(stream: &mut TcpStream) -> Self {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                Ok(_) => break,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
                Err(error) => panic!("no response: {error}"),
            }
        }
        let head = String::from_utf8(head).unwrap();
        let status = head.get(9..12).and_then(|digits| digits.parse().ok()).unwrap_or(0);
        let mut response = Self { status, head, body: Vec::new() };
        let length = response.header("content-length").map_or(0, |length| length.parse().unwrap());
        response.body = vec![0; length];
        stream.read_exact(&mut response.body).unwrap();
        response
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// Status and `code` of a refusal.
    pub fn refusal(&self) -> (u16, String) {
        (self.status, self.json()["code"].as_str().unwrap_or_default().to_owned())
    }
}

/// A WebSocket.
pub struct Socket {
    stream: TcpStream,
    next_id: u64,
}

/// One frame of a server: op code and payload.
pub type Frame = (u8, Vec<u8>);

pub const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

impl Socket {
    /// Opens one, with more header lines.
    pub fn open(web: &Web, headers: &[&str]) -> Result<Self, Response> {
        let mut text = format!(
            "GET /ws HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\n{KEY}\r\n",
            web.address
        );
        for header in headers {
            text.push_str(header);
            text.push_str("\r\n");
        }
        let mut stream = web.connect();
        stream.write_all(format!("{text}\r\n").as_bytes()).unwrap();
        let response = Response::read(&mut stream);
        if response.status == 101 { Ok(Self { stream, next_id: 0 }) } else { Err(response) }
    }

    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Sends a frame with its first byte as given.
    pub fn frame(&mut self, first: u8, payload: &[u8]) {
        // A server that has hung up has said why before.
        let _ = self.stream.write_all(&masked(first, payload));
    }

    pub fn say(&mut self, kind: &str, data: &Value) {
        self.frame(0x81, json!({"type": kind, "data": data}).to_string().as_bytes());
    }

    /// Asks and waits for the reply.
    pub fn ask(&mut self, kind: &str, data: &Value) -> Value {
        self.next_id += 1;
        let id = self.next_id;
        let message = json!({"type": kind, "data": data, "id": id});
        self.frame(0x81, message.to_string().as_bytes());
        self.until(|message| message["reply_to"] == id)
    }

    pub fn until(&mut self, mut is: impl FnMut(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let message = self.next();
            if is(&message) {
                return message;
            }
            assert!(Instant::now() < end, "it never came");
        }
    }

    /// The next message; pings are answered.
    #[track_caller]
    pub fn next(&mut self) -> Value {
        loop {
            match self.take() {
                Some((1, payload)) => return serde_json::from_slice(&payload).unwrap(),
                Some((9, payload)) => self.frame(0x8a, &payload),
                Some((0xa, _)) => {}
                other => panic!("no message but {other:?}"),
            }
        }
    }

    /// The next frame; `None` at the end.
    pub fn take(&mut self) -> Option<Frame> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).ok()?;
        assert_eq!(head[0] & 0xf0, 0x80, "whole frames without extensions");
        let length = match head[1] {
            126 => {
                let mut bytes = [0; 2];
                self.stream.read_exact(&mut bytes).ok()?;
                usize::from(u16::from_be_bytes(bytes))
            }
            127 => {
                let mut bytes = [0; 8];
                self.stream.read_exact(&mut bytes).ok()?;
                usize::try_from(u64::from_be_bytes(bytes)).unwrap()
            }
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).ok()?;
        Some((head[0] & 0xf, payload))
    }

    /// Reads to the end: the code of the close frame, 1006 where there was none.
    pub fn close_code(&mut self) -> u16 {
        let mut code = 1006;
        while let Some((opcode, payload)) = self.take() {
            if opcode == 8 {
                code = payload.get(..2).map_or(1005, |b| u16::from_be_bytes([b[0], b[1]]));
            }
        }
        code
    }
}

/// After a handshake by hand.
impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        Self { stream, next_id: 0 }
    }
}

/// A frame as a client sends it.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
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
    let mask = [0x5a, 0x11, 0, 0xff];
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}
