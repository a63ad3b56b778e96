//! MQTT 3.1.1: what a client sends and hears that uses QoS 0 and 1.
//!
//! One byte with the kind (high nibble) and flags (low nibble), the length of the rest in up to four
//! bytes of seven bits, lowest first, then the rest. Texts have their length before them, 16 bits,
//! big-endian. Source: the OASIS standard of 2014, sections 2 and 3.

use crate::proto::buffer::Frame;

/// A longer packet ends the connection, in bytes.
pub const MAX_PACKET: usize = 256 * 1024;
/// A topic is no longer, in bytes.
pub const MAX_TOPIC: usize = 1024;

/// What comes from a broker.
#[derive(Debug, Eq, PartialEq)]
pub enum Packet<'a> {
    /// 0: the connection is accepted; else why not.
    Accepted(u8),
    Message {
        topic: &'a str,
        payload: &'a [u8],
        /// It was kept by the broker, and is not new.
        retained: bool,
        /// It is to be acknowledged by this number.
        id: Option<u16>,
    },
    Acknowledged(u16),
    /// What became of each filter: the QoS, or 128 for a refusal.
    Subscribed(&'a [u8]),
    Alive,
}

/// What a client says first.
#[derive(Debug)]
pub struct Connect<'a> {
    pub client: &'a str,
    pub user: Option<(&'a str, &'a str)>,
    /// In seconds.
    pub keep_alive: u16,
    /// What the broker says, retained and with QoS 1, when the client is lost.
    pub will: (&'a str, &'a [u8]),
}

const BROKEN: &str = "a broken packet";

impl<'a> Packet<'a> {
    /// The packet at the begin of `bytes` and its length; `None`: it is not whole yet.
    ///
    /// # Errors
    ///
    /// What is no packet, too long, or not for a client of this kind.
    pub fn first(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, &'static str> {
        let Some((&head, rest)) = bytes.split_first() else { return Ok(None) };
        let (mut length, mut digits) = (0_usize, 0);
        loop {
            let Some(&digit) = rest.get(digits) else { return Ok(None) };
            length |= usize::from(digit & 0x7f) << (7 * digits);
            digits += 1;
            if digit & 0x80 == 0 {
                break;
            }
            if digits == 4 {
                return Err(BROKEN);
            }
        }
        if length > MAX_PACKET {
            return Err("a packet is too long");
        }
        let Some(body) = rest.get(digits..digits + length) else { return Ok(None) };
        Ok(Some((Self::of(head, body)?, 1 + digits + length)))
    }

    fn of(head: u8, body: &'a [u8]) -> Result<Self, &'static str> {
        Ok(match (head, body) {
            (0x20, &[flags, code]) if flags <= 1 => Self::Accepted(code),
            (0x40, &[high, low]) => Self::Acknowledged(u16::from_be_bytes([high, low])),
            (0x90, &[_, _, ref codes @ ..]) => Self::Subscribed(codes),
            (0xd0, &[]) => Self::Alive,
            (0x30..=0x3f, body) => {
                let (topic, mut payload) = text(body).ok_or(BROKEN)?;
                let topic = std::str::from_utf8(topic).map_err(|_| BROKEN)?;
                let id = match head >> 1 & 3 {
                    0 => None,
                    1 => {
                        let (id, rest) = payload.split_first_chunk().ok_or(BROKEN)?;
                        payload = rest;
                        Some(u16::from_be_bytes(*id))
                    }
                    // Not asked for: QoS 2 is not subscribed to.
                    _ => return Err(BROKEN),
                };
                Self::Message { topic, payload, retained: head & 1 == 1, id }
            }
            _ => return Err(BROKEN),
        })
    }
}

/// A text and what follows it.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

#[must_use]
pub fn connect(with: &Connect<'_>) -> Frame {
    // A will, kept, with QoS 1; the session is kept too.
    let mut flags = 0x04 | 0x08 | 0x20;
    if with.user.is_some() {
        flags |= 0xc0;
    }
    let mut body = b"\0\x04MQTT\x04".to_vec();
    body.push(flags);
    body.extend_from_slice(&with.keep_alive.to_be_bytes());
    push(&mut body, with.client.as_bytes());
    push(&mut body, with.will.0.as_bytes());
    push(&mut body, with.will.1);
    if let Some((user, password)) = with.user {
        push(&mut body, user.as_bytes());
        push(&mut body, password.as_bytes());
    }
    packet(0x10, &[&body])
}

/// A message; with `id` it is to be acknowledged. `again`: it has been sent before.
#[must_use]
pub fn message(topic: &str, payload: &[u8], retain: bool, id: Option<u16>, again: bool) -> Frame {
    let mut begin = Vec::with_capacity(topic.len() + 4);
    push(&mut begin, topic.as_bytes());
    let mut head = 0x30 | u8::from(retain) | u8::from(again) << 3;
    if let Some(id) = id {
        head |= 0x02;
        begin.extend_from_slice(&id.to_be_bytes());
    }
    packet(head, &[&begin, payload])
}

#[must_use]
pub fn acknowledge(id: u16) -> Frame {
    packet(0x40, &[&id.to_be_bytes()])
}

/// Subscribes with QoS 1.
#[must_use]
pub fn subscribe(id: u16, filters: &[&str]) -> Frame {
    let mut body = id.to_be_bytes().to_vec();
    for filter in filters {
        push(&mut body, filter.as_bytes());
        body.push(1);
    }
    packet(0x82, &[&body])
}

/// Asks whether the broker is there.
#[must_use]
pub fn ping() -> Frame {
    packet(0xc0, &[])
}

/// Good-bye: the will is not to be said.
#[must_use]
pub fn disconnect() -> Frame {
    packet(0xe0, &[])
}

/// Why a broker does not accept a connection.
#[must_use]
pub fn refusal(code: u8) -> &'static str {
    match code {
        1 => "the broker does not speak MQTT 3.1.1",
        2 => "the broker does not accept the client id",
        3 => "the broker is not available",
        4 => "the broker does not know this user and password",
        5 => "the broker does not let this user in",
        _ => "the broker refuses the connection",
    }
}

/// A level of a topic: what would be read as something else is percent-encoded.
#[must_use]
pub fn level(name: &str) -> String {
    let mut level = String::with_capacity(name.len());
    for letter in name.chars() {
        match letter {
            '%' | '/' | '+' | '#' | '\0'..='\x1f' | '\x7f' => {
                level.push_str(&format!("%{:02X}", u32::from(letter)));
            }
            letter => level.push(letter),
        }
    }
    level
}

fn push(out: &mut Vec<u8>, text: &[u8]) {
    // Longer ones are not made: names and settings are shorter.
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.get(..usize::from(length)).unwrap_or_default());
}

fn packet(head: u8, parts: &[&[u8]]) -> Frame {
    let mut length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(length + 5);
    out.push(head);
    loop {
        let digit = u8::try_from(length & 0x7f).unwrap_or(0);
        length >>= 7;
        out.push(digit | if length > 0 { 0x80 } else { 0 });
        if length == 0 {
            break;
        }
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    Frame::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_introduces_itself_with_its_will() {
        let with = Connect { client: "c", user: None, keep_alive: 60, will: ("t", b"{}") };
        assert_eq!(&*connect(&with), b"\x10\x14\0\x04MQTT\x04\x2c\0\x3c\0\x01c\0\x01t\0\x02{}");
        let with = Connect { user: Some(("u", "p")), ..with };
        assert!(connect(&with).ends_with(b"\0\x02{}\0\x01u\0\x01p"));
        assert_eq!(connect(&with)[9], 0xec);
    }

    #[test]
    fn messages_go_and_come() {
        assert_eq!(&*message("a/b", b"x", true, None, false), b"\x31\x06\0\x03a/bx");
        assert_eq!(&*message("a/b", b"x", false, Some(258), true), b"\x3a\x08\0\x03a/b\x01\x02x");
        let frame = message("a/b", &[b'x'; 200], true, Some(7), false);
        let found = Packet::first(&frame).unwrap().unwrap();
        let message =
            Packet::Message { topic: "a/b", payload: &[b'x'; 200], retained: true, id: Some(7) };
        assert_eq!(found, (message, frame.len()));
        for cut in 0..frame.len() {
            assert_eq!(Packet::first(&frame[..cut]), Ok(None), "cut at {cut}");
        }
    }

    #[test]
    fn small_packets_are_those_of_the_standard() {
        assert_eq!(&*acknowledge(1), b"\x40\x02\0\x01");
        assert_eq!(&*subscribe(2, &["a/+", "b"]), b"\x82\x0c\0\x02\0\x03a/+\x01\0\x01b\x01");
        assert_eq!((&*ping(), &*disconnect()), (&b"\xc0\0"[..], &b"\xe0\0"[..]));
        let read = |bytes| Packet::first(bytes).unwrap().unwrap().0;
        assert_eq!(read(b"\x20\x02\x01\x00"), Packet::Accepted(0));
        assert_eq!(read(b"\x20\x02\x00\x05"), Packet::Accepted(5));
        assert_eq!(read(b"\x40\x02\x01\x02"), Packet::Acknowledged(258));
        assert_eq!(read(b"\x90\x04\0\x01\x01\x80"), Packet::Subscribed(&[1, 128]));
        assert_eq!(read(b"\xd0\0"), Packet::Alive);
    }

    #[test]
    fn what_is_no_packet_is_told_and_never_panics() {
        for wrong in [
            &b"\x00\x00"[..],
            b"\x30\xff\xff\xff\xff\x01",
            b"\x30\xff\xff\x7f",
            b"\x20\x01\x00",
            b"\x20\x02\x02\x00",
            b"\x30\x02\x00\x05",
            b"\x34\x05\0\x01ab\x01",
            b"\x32\x03\0\x01a",
            b"\x30\x03\0\x01\xff",
            b"\xd0\x01x",
            b"\x10\x00",
        ] {
            assert!(Packet::first(wrong).is_err(), "{wrong:?}");
        }
        let frame = message("a/b", b"payload", false, Some(7), false);
        for at in 0..frame.len() {
            for byte in 0..=255 {
                let mut altered = frame.to_vec();
                altered[at] = byte;
                let _ = Packet::first(&altered);
            }
        }
    }

    #[test]
    fn a_level_holds_any_name() {
        assert_eq!(level("web/1 + #5%\n\u{e9}"), "web%2F1 %2B %235%25%0A\u{e9}");
    }
}
