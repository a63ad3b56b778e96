//! Many who listen: connections whose ends this thread reads as fast as it can.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use crate::os::{self, Watch};

/// How long an event may take, in nanoseconds.
const PATIENCE: u64 = 60_000_000_000;
/// What is asked for after the upgrade.
const WISH: &str = r#"{"type":"subscribe","data":{"events":["process_event","process_status"]}}"#;

pub struct Subscribers {
    streams: Vec<TcpStream>,
    watch: Watch,
    buffer: Vec<u8>,
    /// The last bytes of each, in which a mark may begin.
    tails: Vec<Vec<u8>>,
}

/// When the first and the last had all they were to have.
pub struct Heard {
    pub first: u64,
    pub last: u64,
}

impl Subscribers {
    fn over(streams: Vec<TcpStream>) -> Self {
        for stream in &streams {
            stream.set_nonblocking(true).expect("a socket");
        }
        let watch = Watch::new(streams.iter().map(AsRawFd::as_raw_fd));
        let tails = vec![Vec::new(); streams.len()];
        Self { streams, watch, buffer: vec![0; 256 * 1024], tails }
    }

    /// WebSockets of pmd that follow what happens to processes.
    pub fn of_pmd(address: SocketAddr, count: usize) -> Self {
        let streams = (0..count).map(|_| {
            let mut stream = TcpStream::connect(address).expect("no web interface");
            let request = format!(
                "GET /ws HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\n\
                 Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).expect("a connection");
            // A mask of zeros is a mask.
            let length = u8::try_from(WISH.len()).expect("a short wish");
            stream.write_all(&[0x81, 0x80 | length, 0, 0, 0, 0]).expect("a connection");
            stream.write_all(WISH.as_bytes()).expect("a connection");
            stream
        });
        let mut subscribers = Self::over(streams.collect());
        subscribers.hear(b"\"type\":\"subscription\"", 1);
        subscribers
    }

    /// Sockets without anything behind them, and their other ends.
    pub fn bare(count: usize) -> (Self, Vec<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..count {
            ours.push(TcpStream::connect(address).expect("a connection"));
            let (other, _) = listener.accept().expect("a connection");
            other.set_nodelay(true).expect("a socket");
            theirs.push(other);
        }
        (Self::over(ours), theirs)
    }

    /// Reads until everyone has seen `mark` so many times.
    pub fn hear(&mut self, mark: &[u8], times: usize) -> Heard {
        let mut missing: Vec<usize> = vec![times; self.streams.len()];
        let (mut left, mut first) = (self.streams.len(), 0);
        let deadline = os::now() + PATIENCE;
        while left > 0 {
            assert!(os::now() < deadline, "{left} subscribers heard nothing");
            for at in self.watch.ready() {
                let length = match self.streams[at].read(&mut self.buffer) {
                    Ok(0) => panic!("a subscriber was sent away"),
                    Ok(length) => length,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                    Err(error) => panic!("a subscriber cannot read: {error}"),
                };
                let tail = &mut self.tails[at];
                tail.extend_from_slice(&self.buffer[..length]);
                let seen = tail.windows(mark.len()).filter(|part| *part == mark).count();
                // What is left is too short for a mark.
                let keep = tail.len().saturating_sub(mark.len() - 1);
                tail.drain(..keep);
                if missing[at] > 0 {
                    missing[at] = missing[at].saturating_sub(seen);
                    if missing[at] == 0 {
                        left -= 1;
                        if first == 0 {
                            first = os::now();
                        }
                    }
                }
            }
        }
        self.tails.iter_mut().for_each(Vec::clear);
        Heard { first, last: os::now() }
    }
}
