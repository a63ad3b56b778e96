//! The client's half of a WebSocket (RFC 6455): what PM2's agent sends and understands.
//!
//! Frames that go out are masked, whole and text; what comes in may be text or binary, in fragments
//! or not. No extension is offered, so none may be used.

use std::io::Cursor;

use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::proto::agent::answer::{self, Head};
use crate::proto::agent::endpoint::Endpoint;
use crate::proto::buffer::{Frame, Inbox};
use crate::proto::ws;

/// A longer message ends the connection, in bytes.
pub const MAX_MESSAGE: usize = 16 * 1024 * 1024;
/// Bytes that may arrive at once behind a message.
const SLACK: usize = 64 * 1024;
/// Bytes of the longest head of a frame.
const MAX_HEAD: usize = 14;

/// The request that begins a WebSocket. `key`: as `Sec-WebSocket-Key` has it.
#[must_use]
pub fn request(to: &Endpoint, key: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut headers = vec![
        ("Host", to.authority.as_str()),
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", key),
    ];
    headers.extend_from_slice(more);
    answer::request(&format!("GET {}", to.target), &headers)
}

/// The length of the head that accepts the request with `key`; `None`: it is not whole yet.
///
/// # Errors
///
/// Why there is no WebSocket.
pub fn accepted(bytes: &[u8], key: &str) -> Result<Option<usize>, String> {
    let Some(head) = Head::parse(bytes)? else { return Ok(None) };
    if head.status != 101 {
        return Err(format!("the server answers the upgrade with status {}", head.status));
    }
    if head.accept.as_deref() != Some(&derive_accept_key(key.as_bytes())) {
        return Err("the server does not prove that it speaks WebSocket".to_owned());
    }
    Ok(Some(head.length))
}

/// What came.
#[derive(Debug, Eq, PartialEq)]
pub enum Received {
    Message(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    /// The peer says good-bye.
    Close,
}

/// Frames of a server, put together to messages.
#[derive(Debug)]
pub struct Reader {
    inbox: Inbox,
    /// Fragments of a message that is not whole.
    partial: Option<Vec<u8>>,
}

impl Default for Reader {
    fn default() -> Self {
        Self { inbox: Inbox::new(MAX_MESSAGE + MAX_HEAD + SLACK), partial: None }
    }
}

impl Reader {
    /// Takes what came.
    ///
    /// # Errors
    ///
    /// More than a message may have.
    pub fn extend(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        self.inbox.extend(bytes).map_err(|_| "a message is too long")
    }

    /// The next thing that is whole.
    ///
    /// # Errors
    ///
    /// What breaks the protocol: the connection is of no use any more.
    pub fn take(&mut self) -> Result<Option<Received>, &'static str> {
        loop {
            let mut cursor = Cursor::new(self.inbox.pending());
            let header = FrameHeader::parse(&mut cursor).map_err(|_| "an unknown op code")?;
            let Some((header, length)) = header else { return Ok(None) };
            let start = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            self.check(&header, length)?;
            let Some(payload) = self.inbox.pending().get(start..start + length) else {
                return Ok(None);
            };
            let payload = payload.to_vec();
            self.inbox.consume(start + length);
            match header.opcode {
                OpCode::Control(Control::Close) => return Ok(Some(Received::Close)),
                OpCode::Control(Control::Ping) => return Ok(Some(Received::Ping(payload))),
                OpCode::Control(_) => return Ok(Some(Received::Pong)),
                OpCode::Data(_) => {
                    let message = ws::frame::join(&mut self.partial, payload, header.is_final);
                    if let Some(message) = message {
                        return Ok(Some(Received::Message(message)));
                    }
                }
            }
        }
    }

    fn check(&self, header: &FrameHeader, length: usize) -> Result<(), &'static str> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err("reserved bits");
        }
        if header.mask.is_some() {
            return Err("a masked frame");
        }
        match header.opcode {
            OpCode::Control(_) if !header.is_final || length > 125 => Err("a long control frame"),
            OpCode::Control(_) => Ok(()),
            OpCode::Data(data) if (data == Data::Continue) != self.partial.is_some() => {
                Err("fragments out of order")
            }
            OpCode::Data(_) => {
                let before = self.partial.as_ref().map_or(0, Vec::len);
                if length > MAX_MESSAGE - before { Err("a message is too long") } else { Ok(()) }
            }
        }
    }
}

/// A message in one masked frame; its text is in `parts`.
#[must_use]
pub fn text(parts: &[&[u8]], mask: [u8; 4]) -> Frame {
    frame(OpCode::Data(Data::Text), parts, mask)
}

#[must_use]
pub fn ping(mask: [u8; 4]) -> Frame {
    frame(OpCode::Control(Control::Ping), &[], mask)
}

#[must_use]
pub fn pong(payload: &[u8], mask: [u8; 4]) -> Frame {
    frame(OpCode::Control(Control::Pong), &[payload], mask)
}

/// Good-bye, with the code for "all is said".
#[must_use]
pub fn close(mask: [u8; 4]) -> Frame {
    frame(OpCode::Control(Control::Close), &[&1000_u16.to_be_bytes()], mask)
}

fn frame(opcode: OpCode, parts: &[&[u8]], mask: [u8; 4]) -> Frame {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let header = FrameHeader { opcode, mask: Some(mask), ..FrameHeader::default() };
    let mut bytes = Vec::with_capacity(MAX_HEAD + length);
    // Writing to memory does not fail.
    let _ = header.format(u64::try_from(length).unwrap_or(u64::MAX), &mut bytes);
    let mut at = mask.iter().cycle();
    for part in parts {
        bytes.extend(part.iter().zip(&mut at).map(|(byte, mask)| byte ^ mask));
    }
    Frame::from(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::agent::endpoint::Kind;

    /// The example of RFC 6455, section 1.3.
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPT: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    #[test]
    fn an_upgrade_is_asked_for_and_proven() {
        let to = Endpoint::parse("ws://h:1/x?y", Kind::WebSocket).unwrap();
        let text = String::from_utf8(request(&to, KEY, &[("X-KM-SERVER", "\u{e9}dge")])).unwrap();
        assert!(text.starts_with("GET /x?y HTTP/1.1\r\nHost: h:1\r\n"), "{text}");
        assert!(text.contains("\r\nX-KM-SERVER: \u{e9}dge\r\n"), "{text}");
        assert_eq!(accepted(ACCEPT.as_bytes(), KEY), Ok(Some(ACCEPT.len())));
        assert_eq!(accepted(&ACCEPT.as_bytes()[..90], KEY), Ok(None));
        assert!(accepted(ACCEPT.as_bytes(), "AAAAAAAAAAAAAAAAAAAAAA==").is_err());
        assert!(accepted(b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", KEY).is_err());
    }

    #[test]
    fn messages_come_out_the_same_however_the_bytes_are_cut() {
        let bytes = b"\x01\x03abc\x89\x01p\x80\x03def\x82\x01x\x8a\x00\x88\x02\x03\xe8";
        for cut in 0..bytes.len() {
            let mut reader = Reader::default();
            let mut all = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                reader.extend(part).unwrap();
                while let Some(received) = reader.take().unwrap() {
                    all.push(received);
                }
            }
            let message = |text: &[u8]| Received::Message(text.to_vec());
            assert_eq!(
                all,
                [
                    Received::Ping(b"p".to_vec()),
                    message(b"abcdef"),
                    message(b"x"),
                    Received::Pong,
                    Received::Close
                ],
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn what_breaks_the_protocol_ends_it_before_its_payload_is_waited_for() {
        let long = [&b"\x82\x7f"[..], &(17_u64 << 20).to_be_bytes()].concat();
        for wrong in [
            &b"\xc1\x00"[..],
            b"\x81\x81aaaab",
            b"\x80\x00",
            b"\x89\x7e\x00\x80",
            b"\x83\x00",
            &long,
        ] {
            let mut reader = Reader::default();
            reader.extend(wrong).unwrap();
            assert!(reader.take().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn frames_are_masked_over_all_their_parts() {
        let bytes = text(&[b"ab", b"cde"], [1, 2, 3, 4]);
        assert_eq!(&*bytes, b"\x81\x85\x01\x02\x03\x04\x60\x60\x60\x60\x64");
        assert_eq!(&*close([0; 4]), b"\x88\x82\0\0\0\0\x03\xe8");
        assert_eq!(&*ping([0; 4]), b"\x89\x80\0\0\0\0");
        assert_eq!(&*pong(b"x", [0; 4]), b"\x8a\x81\0\0\0\0x");
    }

    #[test]
    fn altered_bytes_never_panic() {
        let bytes = b"\x01\x03abc\x89\x01p\x80\x03def";
        for at in 0..bytes.len() {
            for byte in 0..=255 {
                let mut altered = bytes.to_vec();
                altered[at] = byte;
                let mut reader = Reader::default();
                reader.extend(&altered).unwrap();
                while let Ok(Some(_)) = reader.take() {}
            }
        }
    }
}
