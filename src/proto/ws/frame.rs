//! WebSocket frames as a server sends them: whole, unmasked, the same bytes for every peer.
//!
//! Source: RFC 6455, 5.2 and 5.5.

use std::rc::Rc;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use crate::proto::buffer::Frame;

/// The longest head of a frame that is not masked, in bytes.
pub const MAX_HEAD: usize = 10;

/// Makes a text frame of a text that follows [`MAX_HEAD`] bytes kept free for the head.
#[must_use]
pub fn finish(mut bytes: Vec<u8>) -> Frame {
    let head = head(OpCode::Data(Data::Text), bytes.len().saturating_sub(MAX_HEAD));
    let start = MAX_HEAD - head.len();
    if let Some(room) = bytes.get_mut(start..MAX_HEAD) {
        room.copy_from_slice(&head);
    }
    Rc::from(bytes.get(start..).unwrap_or_default())
}

/// Asks the peer whether it is there.
#[must_use]
pub fn ping() -> Frame {
    control(Control::Ping, &[])
}

/// Answers a ping with its own payload.
#[must_use]
pub fn pong(payload: &[u8]) -> Frame {
    control(Control::Pong, payload)
}

/// Ends the conversation; a reason is cut at what a control frame holds.
#[must_use]
pub fn close(code: u16, reason: &str) -> Frame {
    let end = (0..=reason.len().min(123)).rev().find(|&at| reason.is_char_boundary(at));
    let reason = reason.get(..end.unwrap_or(0)).unwrap_or_default();
    control(Control::Close, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}

/// What answers a peer's close frame with this payload: its code, if it may use it.
#[must_use]
pub fn close_in_answer(payload: &[u8]) -> Frame {
    match payload {
        [] => control(Control::Close, &[]),
        [high, low, reason @ ..]
            if CloseCode::from(u16::from_be_bytes([*high, *low])).is_allowed()
                && std::str::from_utf8(reason).is_ok() =>
        {
            control(Control::Close, &[*high, *low])
        }
        _ => close(PROTOCOL_ERROR, "not a close code"),
    }
}

/// The close code for a peer that breaks the protocol.
pub const PROTOCOL_ERROR: u16 = 1002;

fn control(kind: Control, payload: &[u8]) -> Frame {
    let mut bytes = head(OpCode::Control(kind), payload.len());
    bytes.extend_from_slice(payload);
    Rc::from(bytes)
}

fn head(opcode: OpCode, length: usize) -> Vec<u8> {
    let header = FrameHeader { opcode, ..FrameHeader::default() };
    let mut bytes = Vec::with_capacity(MAX_HEAD);
    // Writing to memory does not fail.
    let _ = header.format(u64::try_from(length).unwrap_or(u64::MAX), &mut bytes);
    bytes
}

/// Puts a fragment to those before it; gives the message with its last one.
pub fn join(partial: &mut Option<Vec<u8>>, payload: Vec<u8>, is_last: bool) -> Option<Vec<u8>> {
    let mut message = partial.take().unwrap_or_default();
    if message.is_empty() {
        message = payload;
    } else {
        message.extend_from_slice(&payload);
    }
    if is_last {
        return Some(message);
    }
    *partial = Some(message);
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(payload: &str) -> Vec<u8> {
        let bytes = [&[b' '; MAX_HEAD], payload.as_bytes()].concat();
        finish(bytes).to_vec()
    }

    #[test]
    fn a_text_frame_has_the_shortest_head_that_fits() {
        assert_eq!(text("hi"), b"\x81\x02hi");
        let longer = text(&"x".repeat(126));
        assert_eq!((&longer[..5], longer.len()), (&b"\x81\x7e\x00\x7ex"[..], 4 + 126));
        let longest = text(&"x".repeat(65_536));
        assert_eq!(&longest[..11], b"\x81\x7f\0\0\0\0\0\x01\0\0x");
        assert_eq!(longest.len(), 10 + 65_536);
    }

    #[test]
    fn control_frames_are_short_whatever_they_are_given() {
        assert_eq!(&*ping(), b"\x89\x00");
        assert_eq!(&*pong(b"abc"), b"\x8a\x03abc");
        assert_eq!(&*close(1001, "shutdown"), b"\x88\x0a\x03\xe9shutdown");
        assert_eq!(close(1008, &"\u{e9}".repeat(100)).len(), 2 + 2 + 122);
    }

    #[test]
    fn a_close_is_answered_with_its_code_unless_that_is_none() {
        assert_eq!(&*close_in_answer(b""), b"\x88\x00");
        assert_eq!(&*close_in_answer(b"\x03\xe8bye"), b"\x88\x02\x03\xe8");
        assert_eq!(&*close_in_answer(&4000_u16.to_be_bytes()), b"\x88\x02\x0f\xa0");
        for wrong in [&b"\x03"[..], b"\x03\xed", b"\x00\x01", b"\x03\xe8\xff"] {
            assert_eq!(&close_in_answer(wrong)[2..4], b"\x03\xea", "{wrong:?}");
        }
    }
}
