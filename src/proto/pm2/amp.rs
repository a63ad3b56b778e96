//! AMP messages, as PM2's RPC and bus sockets carry them.
//!
//! One byte with the version (high nibble, 1) and the number of arguments (low nibble), then each
//! argument with its length before it, 32 bits, big-endian. An argument is text after `s:`, JSON
//! after `j:`, or raw bytes. A message never ends with an argument without bytes: the parsers of
//! the clients would wait for one more.
//!
//! Source: node-amp and amp-message as used by pm2-axon; observed with pm2 7.0.4.

use crate::proto::buffer::Frame;

/// A longer message ends the connection, in bytes.
pub const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// The most arguments that the head can count.
const MAX_ARGUMENTS: usize = 15;
/// Version 1, two arguments: the head of all messages that the daemon sends.
const HEAD: u8 = 0x12;
const LENGTH: usize = 4;
/// Most messages are shorter, in bytes.
const USUAL: usize = 512;

/// One whole message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Message<'a> {
    arguments: [&'a [u8]; MAX_ARGUMENTS],
    count: usize,
    /// Bytes it takes in all.
    pub length: usize,
}

/// The bytes cannot become a message: it would be too long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TooLong;

impl<'a> Message<'a> {
    /// The message at the beginning of `bytes`; `None`: it is not whole yet. Looks at the lengths
    /// alone, however many bytes there are.
    ///
    /// # Errors
    ///
    /// [`TooLong`] as soon as the lengths say so, whether the bytes have come or not.
    pub fn first(bytes: &'a [u8]) -> Result<Option<Self>, TooLong> {
        let Some(&head) = bytes.first() else { return Ok(None) };
        let count = usize::from(head & 0x0f);
        let mut message = Self { arguments: [&[]; MAX_ARGUMENTS], count, length: 1 };
        for argument in message.arguments.iter_mut().take(count) {
            let Some(length) = bytes.get(message.length..).and_then(<[u8]>::first_chunk) else {
                return Ok(None);
            };
            let begin = message.length + LENGTH;
            let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| TooLong)?;
            let end = begin.checked_add(length).filter(|&end| end <= MAX_MESSAGE).ok_or(TooLong)?;
            let Some(found) = bytes.get(begin..end) else { return Ok(None) };
            *argument = found;
            message.length = end;
        }
        Ok(Some(message))
    }

    /// All arguments, as they came.
    #[must_use]
    pub fn arguments(&self) -> &[&'a [u8]] {
        self.arguments.get(..self.count).unwrap_or_default()
    }
}

/// The JSON text of an argument; `None`: it is something else.
#[must_use]
pub fn json(argument: &[u8]) -> Option<&[u8]> {
    argument.strip_prefix(b"j:")
}

/// A message of two arguments that is being written, the JSON text of one of them in place.
///
/// Text that lies ready can be shared instead of copied ([`Self::share`]): then the message is in
/// several pieces.
#[derive(Debug)]
pub struct Pair {
    /// What is written, but for `bytes`, in order. The first piece is nobody else's.
    pieces: Vec<Frame>,
    bytes: Vec<u8>,
    /// Where the length of the JSON argument stands in the first piece.
    place: usize,
    /// Bytes of all pieces.
    before: usize,
}

impl Pair {
    /// Begins a bus message: the event's name, then JSON.
    #[must_use]
    pub fn event(name: &str) -> Self {
        let mut pair = Self::begin();
        pair.argument(&[b"s:", name.as_bytes()]);
        pair.open();
        pair
    }

    /// Begins a reply: JSON, then the id of the request, which [`Self::close_reply`] adds.
    #[must_use]
    pub fn reply() -> Self {
        let mut pair = Self::begin();
        pair.open();
        pair
    }

    fn begin() -> Self {
        let mut bytes = Vec::with_capacity(USUAL);
        bytes.push(HEAD);
        Self { pieces: Vec::new(), bytes, place: 0, before: 0 }
    }

    /// Where the JSON text goes.
    pub fn json(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Goes on with JSON text that lies ready.
    pub fn share(&mut self, text: &Frame) {
        self.cut();
        self.before += text.len();
        self.pieces.push(text.clone());
    }

    /// Ends the JSON of an event.
    #[must_use]
    pub fn close(mut self) -> Frame {
        self.settle();
        match self.pieces.as_slice() {
            [] => Frame::from(self.bytes),
            pieces => Frame::from([&pieces.concat(), self.bytes.as_slice()].concat()),
        }
    }

    /// Ends the JSON of a reply; `id`: the last argument of the request, as it came. The pieces of
    /// the message.
    #[must_use]
    pub fn close_reply(mut self, id: &[u8]) -> Vec<Frame> {
        self.settle();
        self.argument(&[id]);
        self.cut();
        self.pieces
    }

    /// What is in `bytes` becomes a piece.
    fn cut(&mut self) {
        if !self.bytes.is_empty() {
            self.before += self.bytes.len();
            self.pieces.push(Frame::from(std::mem::take(&mut self.bytes)));
        }
    }

    fn argument(&mut self, parts: &[&[u8]]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        self.bytes.extend_from_slice(&length_field(length));
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
    }

    fn open(&mut self) {
        self.place = self.bytes.len();
        self.bytes.extend_from_slice(&[0; LENGTH]);
        self.bytes.extend_from_slice(b"j:");
    }

    fn settle(&mut self) {
        let length = length_field(self.before + self.bytes.len() - self.place - LENGTH);
        let first = match self.pieces.first_mut() {
            Some(first) => Frame::get_mut(first),
            None => Some(self.bytes.as_mut_slice()),
        };
        if let Some(field) = first.and_then(|it| it.get_mut(self.place..self.place + LENGTH)) {
            field.copy_from_slice(&length);
        }
    }
}

/// Nothing that the daemon sends comes near 4 GiB.
fn length_field(length: usize) -> [u8; LENGTH] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `ping` as the `pm2` command sends it, captured.
    pub(in crate::proto::pm2) const PING: &[u8] = b"\x12\0\0\0\x2dj:{\"type\":\"call\",\"method\":\
        \"ping\",\"args\":[{}]}\0\0\0\x08s:4711:0";
    /// PM2's own reply to it, captured.
    const PONG: &[u8] = b"\x12\0\0\0\x1bj:{\"args\":[{\"msg\":\"pong\"}]}\0\0\0\x08s:4711:0";
    /// An event of PM2's bus, captured.
    const EVENT: &[u8] = b"\x12\0\0\0\x09s:log:out\0\0\0\x70j:{\"process\":{\"pm_id\":0,\"name\":\
        \"demo\",\"rev\":null,\"namespace\":\"default\"},\"at\":1795318312065,\"data\":\
        \"hello out\\n\"}";

    #[test]
    fn a_captured_request_is_understood() {
        let message = Message::first(PING).unwrap().unwrap();
        assert_eq!(message.length, 62);
        let [body, id] = message.arguments() else { panic!("{message:?}") };
        assert_eq!(json(body), Some(&br#"{"type":"call","method":"ping","args":[{}]}"#[..]));
        assert_eq!(*id, b"s:4711:0");
        assert_eq!(json(id), None);
    }

    #[test]
    fn what_is_sent_is_what_pm2_sends() {
        let mut reply = Pair::reply();
        reply.json().extend_from_slice(br#"{"args":[{"msg":"pong"}]}"#);
        assert_eq!(reply.close_reply(b"s:4711:0").concat(), PONG);
        let mut reply = Pair::reply();
        reply.json().extend_from_slice(br#"{"args":["#);
        reply.share(&Frame::from(&br#"{"msg":"#[..]));
        reply.share(&Frame::from(&br#""pong"}"#[..]));
        reply.json().extend_from_slice(b"]}");
        let pieces = reply.close_reply(b"s:4711:0");
        assert_eq!((pieces.len(), pieces.concat().as_slice()), (4, PONG));
        let mut event = Pair::event("log:out");
        let (_, text) = EVENT.split_at(20);
        event.json().extend_from_slice(text);
        assert_eq!(*event.close(), *EVENT);
    }

    #[test]
    fn a_message_is_whole_with_its_last_byte_and_not_before() {
        for whole in [PING, PONG, EVENT] {
            for end in 0..whole.len() {
                assert_eq!(Message::first(&whole[..end]), Ok(None), "{end}");
            }
            let more = [whole, b"\x12rest"].concat();
            let message = Message::first(&more).unwrap().unwrap();
            assert_eq!(message.length, whole.len());
        }
    }

    #[test]
    fn altered_bytes_are_a_message_or_incomplete_or_too_long() {
        for whole in [PING, EVENT] {
            for at in 0..whole.len() {
                for value in [0, 1, 0x1f, 0x7f, 0x80, 0xff] {
                    let mut altered = whole.to_vec();
                    altered[at] = value;
                    if let Ok(Some(message)) = Message::first(&altered) {
                        assert!(message.length <= altered.len());
                        assert!(message.arguments().len() <= MAX_ARGUMENTS);
                    }
                }
            }
        }
    }

    #[test]
    fn a_message_that_would_be_too_long_is_refused_before_it_has_come() {
        assert_eq!(Message::first(b"\x11\xff\xff\xff\xff"), Err(TooLong));
        // Many that are long enough together.
        let mut many = b"\x12\x00\x00\x00\x01x".to_vec();
        many.extend_from_slice(&length_field(MAX_MESSAGE - 9));
        assert_eq!(Message::first(&many), Err(TooLong));
        let at = many.len() - LENGTH;
        many[at..].copy_from_slice(&length_field(MAX_MESSAGE - 10));
        assert_eq!(Message::first(&many), Ok(None));
    }

    #[test]
    fn a_message_without_arguments_is_one_byte() {
        let message = Message::first(b"\x10\x12").unwrap().unwrap();
        assert_eq!((message.length, message.arguments().len()), (1, 0));
    }
}
