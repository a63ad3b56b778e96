//! A peer of the hub of ipevents on a socket: JSON lines, both ways.

use crate::proto::ipc::{Class, Lines, Message, Piece};
use crate::proto::protocol::{Context, Conversation, Demand, Hangup};

/// Lines that are no messages of ipevents before the peer is given up.
const MAX_BAD: u8 = 16;

/// What is known of one peer before the hub has it.
#[derive(Debug)]
pub struct HubPeer {
    lines: Lines,
    /// In bytes.
    max_line: usize,
    bad: u8,
}

impl HubPeer {
    #[must_use]
    pub fn new(max_line: usize) -> Self {
        Self { lines: Lines::default(), max_line, bad: 0 }
    }
}

impl Conversation for HubPeer {
    fn receive(&mut self, mut bytes: &[u8], cx: &mut Context<'_>) -> Result<(), Hangup> {
        let limit = self.max_line;
        while let Some(piece) = self.lines.next(&mut bytes, limit) {
            let line = match piece {
                Piece::Line(line) if line.trim_ascii().is_empty() => continue,
                Piece::Line(line) => Some(line),
                Piece::TooLong => None,
            };
            let fits = |line: &&[u8]| {
                Message::read(line).is_some_and(|it| it.class(false) == Class::Ipevents)
            };
            match line.filter(fits) {
                Some(line) => cx.demands.push((0, Demand::Hub(line.to_vec()))),
                None => {
                    self.bad += 1;
                    if self.bad >= MAX_BAD {
                        return Err(Hangup::Malformed("too many lines that are no messages"));
                    }
                }
            }
        }
        Ok(())
    }
}
