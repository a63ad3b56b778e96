//! The body of a request, of known length or in chunks, taken as it comes.

use crate::proto::buffer::Inbox;
use crate::proto::http::Problem;
use crate::proto::http::head::{BODY_TOO_LARGE, Length, MAX_BODY};

/// Bytes of a chunk's first line, and of all lines behind the last chunk.
const MAX_LINE: usize = 1024;

/// What has come of a body.
#[derive(Debug)]
pub struct Body {
    bytes: Vec<u8>,
    next: Next,
    /// Bytes of lines that are no content.
    overhead: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Next {
    /// So many bytes, then the end.
    Rest(usize),
    /// A line with the length of the next chunk.
    Size,
    /// So many bytes of a chunk.
    Chunk(usize),
    /// The line end behind a chunk.
    ChunkEnd,
    /// Lines behind the last chunk.
    Trailer,
    End,
}

impl Body {
    #[must_use]
    pub fn new(length: Length) -> Self {
        let next = match length {
            Length::Known(0) => Next::End,
            Length::Known(length) => Next::Rest(length),
            Length::Chunked => Next::Size,
        };
        Self { bytes: Vec::new(), next, overhead: 0 }
    }

    /// Takes what there is of it. True when it is whole.
    ///
    /// # Errors
    ///
    /// What is wrong with it, as a status.
    pub fn take(&mut self, from: &mut Inbox) -> Result<bool, Problem> {
        loop {
            match self.next {
                Next::End => return Ok(true),
                Next::Rest(left) => match self.content(left, from) {
                    0 => self.next = Next::End,
                    left => {
                        self.next = Next::Rest(left);
                        return Ok(false);
                    }
                },
                Next::Chunk(left) => match self.content(left, from) {
                    0 => self.next = Next::ChunkEnd,
                    left => {
                        self.next = Next::Chunk(left);
                        return Ok(false);
                    }
                },
                Next::Size => {
                    let Some(line) = self.line(from)? else { return Ok(false) };
                    let size = line.split(|&byte| byte == b';').next().unwrap_or_default();
                    let size = std::str::from_utf8(size).ok().map(str::trim);
                    let size = size.filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
                    let size = size.and_then(|digits| usize::from_str_radix(digits, 16).ok());
                    let size = size.ok_or(Problem(400, "not the length of a chunk"))?;
                    if size > MAX_BODY - self.bytes.len() {
                        return Err(BODY_TOO_LARGE);
                    }
                    self.next = if size == 0 { Next::Trailer } else { Next::Chunk(size) };
                }
                Next::ChunkEnd => match self.line(from)? {
                    None => return Ok(false),
                    Some(line) if line.is_empty() => self.next = Next::Size,
                    Some(_) => return Err(Problem(400, "a chunk of another length")),
                },
                Next::Trailer => match self.line(from)? {
                    None => return Ok(false),
                    Some(line) if line.is_empty() => self.next = Next::End,
                    Some(_) => {}
                },
            }
        }
    }

    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Takes up to `left` bytes; gives how many are missing still.
    fn content(&mut self, left: usize, from: &mut Inbox) -> usize {
        let pending = from.pending();
        let part = pending.get(..left.min(pending.len())).unwrap_or_default();
        self.bytes.extend_from_slice(part);
        let taken = part.len();
        from.consume(taken);
        left - taken
    }

    fn line(&mut self, from: &mut Inbox) -> Result<Option<Vec<u8>>, Problem> {
        let before = from.pending().len();
        let line = from.take_line();
        let taken = if line.is_some() { before - from.pending().len() } else { before };
        if taken > MAX_LINE || self.overhead > MAX_BODY {
            return Err(Problem(400, "too much around the chunks"));
        }
        if line.is_some() {
            self.overhead += taken;
        }
        Ok(line)
    }
}
