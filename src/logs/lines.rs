//! Bytes to lines: split, cap, remember the unfinished one.
//!
//! Pure. A line longer than [`LINE_CAP`] comes in pieces marked partial, the last piece not. What
//! is held back is never more than one line's cap.

use std::io::BufRead;

/// The longest line that stays whole, in bytes without its newline.
pub const LINE_CAP: usize = 64 * 1024;

/// Memory that an unfinished line may leave behind for the next one, in bytes.
const KEPT: usize = 1024;

/// Cuts one stream into lines, however its bytes arrive.
#[derive(Debug, Default)]
pub struct Splitter {
    /// The unfinished line; never longer than the cap.
    held: Vec<u8>,
}

impl Splitter {
    /// Takes the next bytes of the stream; `emit` gets each line without its newline (and without
    /// a carriage return before it), and whether it is only a piece.
    pub fn feed(&mut self, mut bytes: &[u8], mut emit: impl FnMut(&[u8], bool)) {
        while !bytes.is_empty() {
            let (line, whole) = match first_line(bytes) {
                Some(line) => (line, true),
                None => (bytes, false),
            };
            bytes = bytes.get(line.len() + usize::from(whole)..).unwrap_or_default();
            self.extend(line, &mut emit);
            if whole {
                self.end(&mut emit);
            }
        }
    }

    /// The stream ended: whatever is held is its last line.
    pub fn finish(&mut self, mut emit: impl FnMut(&[u8], bool)) {
        if !self.held.is_empty() {
            self.end(&mut emit);
        }
    }

    fn extend(&mut self, mut part: &[u8], emit: &mut impl FnMut(&[u8], bool)) {
        while self.held.len() + part.len() > LINE_CAP {
            let (head, rest) = part.split_at(LINE_CAP - self.held.len());
            part = rest;
            self.held.extend_from_slice(head);
            emit(&self.held, true);
            self.held.clear();
        }
        self.held.extend_from_slice(part);
    }

    fn end(&mut self, emit: &mut impl FnMut(&[u8], bool)) {
        emit(without_return(&self.held), false);
        self.held.clear();
        self.held.shrink_to(KEPT);
    }
}

/// The bytes before the first newline, if there is one.
pub fn first_line(bytes: &[u8]) -> Option<&[u8]> {
    // `skip_until` finds the newline with the library's vectorised search.
    let mut rest = bytes;
    let skipped = rest.skip_until(b'\n').unwrap_or(0);
    bytes.get(..skipped)?.strip_suffix(b"\n")
}

/// `line` without the carriage return at its end.
pub fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(pieces: &[&[u8]]) -> Vec<(Vec<u8>, bool)> {
        let mut splitter = Splitter::default();
        let mut lines = Vec::new();
        for piece in pieces {
            splitter.feed(piece, |line, partial| lines.push((line.to_vec(), partial)));
        }
        splitter.finish(|line, partial| lines.push((line.to_vec(), partial)));
        lines
    }

    #[test]
    fn lines_are_the_same_however_the_bytes_are_cut() {
        let text = b"one\r\n\ntwo\xff\x00three\nlast";
        let expected = split(&[text]);
        assert_eq!(expected.len(), 4);
        assert_eq!(expected[0].0, b"one");
        assert_eq!(expected[2].0, b"two\xff\x00three");
        for cut in 0..text.len() {
            let (head, tail) = text.split_at(cut);
            assert_eq!(split(&[head, tail]), expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_line_of_exactly_the_cap_stays_whole() {
        let mut text = vec![b'x'; LINE_CAP];
        text.push(b'\n');
        let lines = split(&[&text]);
        assert_eq!(lines.len(), 1);
        assert!(!lines[0].1);
    }

    #[test]
    fn a_longer_line_comes_in_pieces() {
        let mut text = vec![b'x'; 2 * LINE_CAP + 1];
        text.push(b'\n');
        let lines = split(&[&text]);
        let shape: Vec<_> = lines.iter().map(|(line, partial)| (line.len(), *partial)).collect();
        assert_eq!(shape, [(LINE_CAP, true), (LINE_CAP, true), (1, false)]);
    }

    #[test]
    fn an_endless_line_holds_no_more_than_the_cap() {
        let mut splitter = Splitter::default();
        for _ in 0..64 {
            splitter.feed(&[b'x'; 10_000], |_, _| {});
            assert!(splitter.held.len() <= LINE_CAP);
        }
        assert!(splitter.held.capacity() <= 2 * LINE_CAP);
    }
}
