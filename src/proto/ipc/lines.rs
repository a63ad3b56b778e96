//! Lines out of chunks, with a limit on each; and lines on their way out.

use crate::proto::buffer::Overflow;

/// What was read of one channel and is not yet a line.
#[derive(Debug, Default)]
pub struct Lines {
    partial: Vec<u8>,
    /// `partial` was handed out as a line.
    given: bool,
    /// A line was too long: everything up to its end is thrown away.
    skipping: bool,
}

/// What stands before a line's end.
#[derive(Debug, Eq, PartialEq)]
pub enum Piece<'a> {
    Line(&'a [u8]),
    /// A line passed the limit; the rest of it will be thrown away. Told once of each.
    TooLong,
}

impl Lines {
    /// The next line of what was held back and `chunk`, which is shortened by what is used up;
    /// `None`: `chunk` is used up. A line that ends with `chunk` is not copied. `limit`: bytes of a
    /// line without its end.
    pub fn next<'a, 'b: 'a>(&'a mut self, chunk: &mut &'b [u8], limit: usize) -> Option<Piece<'a>> {
        if std::mem::take(&mut self.given) {
            // An idle channel costs no buffer.
            self.partial = Vec::new();
        }
        let end = chunk.iter().position(|&byte| byte == b'\n');
        let (head, rest) = match end {
            Some(at) => (chunk.get(..at)?, chunk.get(at + 1..)?),
            None => (*chunk, &[][..]),
        };
        *chunk = rest;
        if self.skipping {
            self.skipping = end.is_none();
            return if end.is_some() { self.next(chunk, limit) } else { None };
        }
        if self.partial.len() + head.len() > limit {
            self.partial = Vec::new();
            self.skipping = end.is_none();
            return Some(Piece::TooLong);
        }
        if end.is_none() {
            self.partial.extend_from_slice(head);
            return None;
        }
        if self.partial.is_empty() {
            return Some(Piece::Line(head));
        }
        self.partial.extend_from_slice(head);
        self.given = true;
        Some(Piece::Line(&self.partial))
    }
}

/// Lines on their way to a child; only the kernel ever cuts one.
#[derive(Debug, Default)]
pub struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    /// Where the line begins that a handle goes with.
    mark: Option<usize>,
}

impl Outgoing {
    /// Queues a line, its end included.
    ///
    /// # Errors
    ///
    /// [`Overflow`] if more than `limit` bytes would wait; nothing is queued.
    pub fn push(&mut self, line: &[u8], limit: usize) -> Result<(), Overflow> {
        if self.waiting().len() + line.len() > limit {
            return Err(Overflow);
        }
        self.append(line);
        Ok(())
    }

    /// Queues a line whose first byte a handle goes with, whatever waits already. Not a second one
    /// before the first is sent ([`Self::is_marked`]).
    pub fn push_marked(&mut self, line: &[u8]) {
        self.append(line);
        self.mark = Some(self.bytes.len() - line.len());
    }

    /// A handle waits for its line to be sent.
    #[must_use]
    pub fn is_marked(&self) -> bool {
        self.mark.is_some()
    }

    fn append(&mut self, line: &[u8]) {
        // Not for each line: what waits may be long.
        if self.sent > self.bytes.len() / 2 {
            self.bytes.drain(..self.sent);
            self.mark = self.mark.map(|mark| mark - self.sent);
            self.sent = 0;
        }
        self.bytes.extend_from_slice(line);
    }

    /// What is to be sent next, and whether the handle goes with it.
    #[must_use]
    pub fn next(&self) -> (&[u8], bool) {
        match self.mark {
            Some(mark) if mark > self.sent => {
                (self.bytes.get(self.sent..mark).unwrap_or_default(), false)
            }
            mark => (self.waiting(), mark.is_some()),
        }
    }

    /// All that is to be sent.
    #[must_use]
    pub fn waiting(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    /// The child has taken so many bytes.
    pub fn advance(&mut self, sent: usize) {
        self.mark = self.mark.filter(|&mark| mark != self.sent || sent == 0);
        self.sent += sent;
        if self.waiting().is_empty() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines in `text`, read in chunks that end at `cuts`. `None`: one that was too long.
    fn lines(text: &[u8], cuts: &[usize], limit: usize) -> Vec<Option<Vec<u8>>> {
        let mut lines = Lines::default();
        let mut found = vec![];
        let ends = cuts.iter().copied().chain([text.len()]);
        let mut start = 0;
        for end in ends {
            let mut chunk = &text[start..end];
            start = end;
            while let Some(piece) = lines.next(&mut chunk, limit) {
                found.push(match piece {
                    Piece::Line(line) => Some(line.to_vec()),
                    Piece::TooLong => None,
                });
            }
            assert!(chunk.is_empty());
            assert!(lines.partial.len() <= limit);
        }
        found
    }

    #[test]
    fn lines_come_out_the_same_however_they_are_cut() {
        let text = b"\"a\"\n\n{\"long\":\"line\"}\n{}\n[1]\nrest";
        let whole = lines(text, &[], 8);
        let line = |text: &str| Some(text.as_bytes().to_vec());
        assert_eq!(whole, [line("\"a\""), line(""), None, line("{}"), line("[1]")]);
        for first in 0..text.len() {
            for second in first..text.len() {
                assert_eq!(lines(text, &[first, second], 8), whole, "{first} {second}");
            }
        }
    }

    #[test]
    fn a_line_of_the_limit_passes_and_one_byte_more_does_not() {
        assert_eq!(lines(b"1234\n", &[], 4), [Some(b"1234".to_vec())]);
        assert_eq!(lines(b"12345\n1\n", &[], 4), [None, Some(b"1".to_vec())]);
    }

    #[test]
    fn a_handle_goes_with_the_first_byte_of_its_line() {
        let mut out = Outgoing::default();
        out.push(b"1234\n", 9).unwrap();
        out.push_marked(b"abc\n");
        assert_eq!(out.next(), (&b"1234\n"[..], false));
        out.advance(2);
        out.push(b"5\n", 9).unwrap();
        assert_eq!(out.next(), (&b"34\n"[..], false));
        out.advance(3);
        assert_eq!(out.next(), (&b"abc\n5\n"[..], true));
        out.advance(1);
        assert_eq!((out.next(), out.is_marked()), ((&b"bc\n5\n"[..], false), false));
    }

    #[test]
    fn a_queue_takes_lines_whole_up_to_its_limit() {
        let mut out = Outgoing::default();
        assert_eq!(out.push(b"12345\n", 6), Ok(()));
        assert_eq!(out.push(b"1\n", 6), Err(Overflow));
        out.advance(4);
        assert_eq!(out.push(b"1\n", 6), Ok(()));
        assert_eq!(out.waiting(), b"5\n1\n");
        out.advance(4);
        assert_eq!(out.bytes.capacity(), 0);
        assert_eq!(out.push(b"1234567\n", 6), Err(Overflow));
    }
}
