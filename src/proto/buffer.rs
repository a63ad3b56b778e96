//! Bytes not yet understood ([`Inbox`]) and bytes not yet sent ([`Outbox`]).

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::rc::Rc;

/// One encoded message, shared by every connection it goes to.
pub type Frame = Rc<[u8]>;

/// More than the limit; nothing was taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Overflow;

/// Received and not yet understood, at most `limit` bytes.
#[derive(Debug)]
pub struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    /// Up to here the pending bytes are known to hold no line end.
    scanned: usize,
    limit: usize,
}

impl Inbox {
    /// `limit` in bytes. Nothing is allocated before something arrives.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), start: 0, scanned: 0, limit }
    }

    #[must_use]
    pub fn pending(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// Drops the first `n` pending bytes: they are understood.
    pub fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.bytes.len());
        self.scanned = self.scanned.max(self.start);
        if self.start == self.bytes.len() {
            self.clear();
        }
    }

    /// Appends what was received.
    ///
    /// # Errors
    ///
    /// [`Overflow`] if more than the limit would be pending: the peer sends a message that is too
    /// long and is to be told so and closed.
    pub fn extend(&mut self, more: &[u8]) -> Result<(), Overflow> {
        if self.pending().len() + more.len() > self.limit {
            return Err(Overflow);
        }
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
        }
        self.bytes.extend_from_slice(more);
        Ok(())
    }

    /// Forgets everything. An idle peer costs no buffer.
    pub fn clear(&mut self) {
        *self = Self::new(self.limit);
    }

    /// Whether a whole line is pending. Looks only at what nobody has looked at before.
    #[must_use]
    pub fn has_line(&self) -> bool {
        self.bytes.get(self.scanned.max(self.start)..).unwrap_or_default().contains(&b'\n')
    }

    /// Takes the next whole line out, without its `\n` (and a `\r` before it).
    pub fn take_line(&mut self) -> Option<Vec<u8>> {
        let from = self.scanned.max(self.start);
        let Some(at) = self.bytes.get(from..)?.iter().position(|&byte| byte == b'\n') else {
            self.scanned = self.bytes.len();
            return None;
        };
        let end = from + at;
        let line = self.bytes.get(self.start..end).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
        let line_length = end + 1 - self.start;
        self.consume(line_length);
        Some(line)
    }
}

/// How many frames one vectored write carries at most.
const BATCH: usize = 256;

/// Queued for one peer.
///
/// Replies and events have a budget each, in bytes: an event that does not fit is refused (the
/// caller counts it and reports the gap), a reply that does not fit ends the connection.
#[derive(Debug)]
pub struct Outbox {
    frames: VecDeque<(Frame, Class)>,
    /// Bytes of the first frame that are sent.
    sent: usize,
    queued: [usize; 2],
    limits: [usize; 2],
}

/// What a frame is, for its budget.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    Reply,
    Event,
}

impl Class {
    fn index(self) -> usize {
        match self {
            Self::Reply => 0,
            Self::Event => 1,
        }
    }
}

impl Outbox {
    /// Limits in bytes.
    #[must_use]
    pub fn new(replies: usize, events: usize) -> Self {
        Self { frames: VecDeque::new(), sent: 0, queued: [0, 0], limits: [replies, events] }
    }

    /// Other limits, in bytes, for what is queued from now on.
    pub fn set_limits(&mut self, replies: usize, events: usize) {
        self.limits = [replies, events];
    }

    /// Queues a frame for the peer; it counts until it is sent whole.
    ///
    /// # Errors
    ///
    /// [`Overflow`] if the budget of its class would be passed; the frame is not queued. A single
    /// frame is always taken when nothing of its class waits.
    pub fn push(&mut self, frame: Frame, class: Class) -> Result<(), Overflow> {
        let queued = &mut self.queued[class.index()];
        if *queued > 0 && *queued + frame.len() > self.limits[class.index()] {
            return Err(Overflow);
        }
        *queued += frame.len();
        self.frames.push_back((frame, class));
        Ok(())
    }

    /// Queues a reply before everything that is not yet on its way.
    ///
    /// # Errors
    ///
    /// As [`Self::push`].
    pub fn push_first(&mut self, frame: Frame) -> Result<(), Overflow> {
        self.push(frame, Class::Reply)?;
        let at = usize::from(self.sent > 0);
        if let Some(last) = self.frames.pop_back() {
            self.frames.insert(at.min(self.frames.len()), last);
        }
        Ok(())
    }

    /// Forgets what waits, but for the rest of a frame that is on its way.
    pub fn drop_unsent(&mut self) {
        let keep = usize::from(self.sent > 0);
        for (frame, class) in self.frames.drain(keep..) {
            self.queued[class.index()] -= frame.len();
        }
    }

    /// Queues one message that is in several frames, whole or not at all; see [`Self::push`].
    ///
    /// # Errors
    ///
    /// As [`Self::push`], for all of them together.
    pub fn push_all(&mut self, frames: Vec<Frame>, class: Class) -> Result<(), Overflow> {
        let length: usize = frames.iter().map(|frame| frame.len()).sum();
        let queued = &mut self.queued[class.index()];
        if *queued > 0 && *queued + length > self.limits[class.index()] {
            return Err(Overflow);
        }
        *queued += length;
        self.frames.extend(frames.into_iter().map(|frame| (frame, class)));
        Ok(())
    }

    /// Bytes of events that wait.
    #[must_use]
    pub fn queued_events(&self) -> usize {
        self.queued[Class::Event.index()]
    }

    /// Whether frames of this class take more than half of their budget: enough for the peer for
    /// now.
    #[must_use]
    pub fn is_half_full(&self, class: Class) -> bool {
        self.queued[class.index()] > self.limits[class.index()] / 2
    }

    /// Bytes of this class that wait.
    #[must_use]
    pub fn waiting(&self, class: Class) -> usize {
        self.queued[class.index()]
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Sends what the peer takes of up to [`BATCH`] frames, with one vectored write; returns the
    /// number of bytes.
    ///
    /// # Errors
    ///
    /// Those of the peer's `write`: `WouldBlock` when it takes nothing now.
    pub fn send(&mut self, to: &mut impl Write) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); BATCH];
        let mut count = 0;
        for (slot, (frame, _)) in slices.iter_mut().zip(&self.frames) {
            let from = if count == 0 { self.sent } else { 0 };
            *slot = IoSlice::new(frame.get(from..).unwrap_or_default());
            count += 1;
        }
        if count == 0 {
            return Ok(0);
        }
        let written = loop {
            match to.write_vectored(slices.get(..count).unwrap_or_default()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.advance(written);
        Ok(written)
    }

    fn advance(&mut self, mut written: usize) {
        while let Some((frame, class)) = self.frames.front() {
            let left = frame.len() - self.sent;
            if written < left {
                self.sent += written;
                return;
            }
            written -= left;
            self.queued[class.index()] -= frame.len();
            self.sent = 0;
            self.frames.pop_front();
        }
        self.frames = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_the_same_however_the_bytes_are_cut() {
        let text = b"{\"a\":1}\r\n\n{}\nrest";
        for cut in 0..text.len() {
            let mut inbox = Inbox::new(64);
            let mut lines = vec![];
            for part in [&text[..cut], &text[cut..]] {
                inbox.extend(part).unwrap();
                while let Some(line) = inbox.take_line() {
                    lines.push(line);
                }
            }
            assert_eq!(lines, [b"{\"a\":1}".to_vec(), b"".to_vec(), b"{}".to_vec()], "cut {cut}");
            assert_eq!(inbox.pending(), b"rest");
        }
    }

    #[test]
    fn an_inbox_refuses_what_passes_its_limit() {
        let mut inbox = Inbox::new(4);
        assert_eq!(inbox.extend(b"12345"), Err(Overflow));
        assert_eq!(inbox.extend(b"1234"), Ok(()));
        assert_eq!(inbox.extend(b"5"), Err(Overflow));
    }

    /// Takes `room` bytes in all, a few at a time.
    struct Narrow {
        room: usize,
        taken: Vec<u8>,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let n = bytes.len().min(3).min(self.room);
            if n == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.room -= n;
            self.taken.extend_from_slice(&bytes[..n]);
            Ok(n)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn frames_arrive_whole_and_in_order_through_a_narrow_peer() {
        let mut outbox = Outbox::new(100, 100);
        for text in ["hello ", "wide ", "world"] {
            outbox.push(Rc::from(text.as_bytes()), Class::Reply).unwrap();
        }
        let mut peer = Narrow { room: 0, taken: vec![] };
        while !outbox.is_empty() {
            peer.room += 4;
            match outbox.send(&mut peer) {
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                Ok(sent) => assert!(sent > 0),
            }
        }
        assert_eq!(peer.taken, b"hello wide world");
        assert_eq!(outbox.queued, [0, 0]);
    }

    #[test]
    fn what_is_urgent_goes_before_what_waits_but_into_no_frame() {
        let frame = |text: &str| -> Frame { Rc::from(text.as_bytes()) };
        let mut outbox = Outbox::new(100, 100);
        outbox.push_first(frame("0")).unwrap();
        outbox.push(frame("1234"), Class::Event).unwrap();
        outbox.push(frame("56"), Class::Event).unwrap();
        outbox.push_first(frame("a")).unwrap();
        let mut peer = Narrow { room: 3, taken: vec![] };
        while peer.room > 0 {
            outbox.send(&mut peer).unwrap();
        }
        outbox.push_first(frame("b")).unwrap();
        peer.room = 100;
        while !outbox.is_empty() {
            outbox.send(&mut peer).unwrap();
        }
        assert_eq!(peer.taken, b"a01234b56");

        outbox.push(frame("1234"), Class::Event).unwrap();
        outbox.push(frame("56"), Class::Reply).unwrap();
        peer = Narrow { room: 2, taken: vec![] };
        outbox.send(&mut peer).unwrap();
        outbox.drop_unsent();
        assert_eq!(outbox.queued, [0, 4]);
        peer.room = 2;
        outbox.send(&mut peer).unwrap();
        assert_eq!((peer.taken.as_slice(), outbox.is_empty()), (&b"1234"[..], true));
    }

    #[test]
    fn each_class_has_its_own_budget() {
        let mut outbox = Outbox::new(10, 5);
        let frame = |n: usize| -> Frame { Rc::from(vec![0; n]) };
        assert_eq!(outbox.push(frame(5), Class::Event), Ok(()));
        assert_eq!(outbox.push(frame(1), Class::Event), Err(Overflow));
        assert_eq!(outbox.push(frame(10), Class::Reply), Ok(()));
        assert_eq!(outbox.push(frame(1), Class::Reply), Err(Overflow));
        assert!(outbox.is_half_full(Class::Event) && outbox.is_half_full(Class::Reply));
    }
}
