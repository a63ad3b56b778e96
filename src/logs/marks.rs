//! When what was written: a ring of (offset, time) per file.
//!
//! At most 512 bytes, made with the file's first output. Offsets are logical: they go on counting
//! through rotations. Old marks are overwritten; bytes before the oldest have no known time.

use crate::base::WallTime;

/// Marks kept per file: as many as fit in 512 bytes.
const CAPACITY: usize = 31;

#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    offset: u64,
    at: WallTime,
}

/// The marks of one file.
#[derive(Debug, Default)]
pub struct Marks {
    ring: [Mark; CAPACITY],
    /// Index of the oldest.
    first: u8,
    len: u8,
}

impl Marks {
    /// Notes that the bytes from `offset` on were written at `at`.
    pub fn push(&mut self, offset: u64, at: WallTime) {
        if self.newest().is_some_and(|mark| mark.at == at) {
            return; // the same turn: the earlier offset says it all
        }
        let len = usize::from(self.len);
        let slot = (usize::from(self.first) + len) % CAPACITY;
        self.ring[slot] = Mark { offset, at };
        if len < CAPACITY {
            self.len += 1;
        } else {
            self.first = u8::try_from((slot + 1) % CAPACITY).unwrap_or(0);
        }
    }

    /// When the byte at `offset` was written; `None`: before the oldest mark.
    #[must_use]
    pub fn time_of(&self, offset: u64) -> Option<WallTime> {
        self.iter().take_while(|mark| mark.offset <= offset).last().map(|mark| mark.at)
    }

    /// The time of the oldest mark: everything before it was written earlier.
    #[must_use]
    pub fn oldest(&self) -> Option<WallTime> {
        self.iter().next().map(|mark| mark.at)
    }

    fn newest(&self) -> Option<Mark> {
        self.iter().last()
    }

    fn iter(&self) -> impl Iterator<Item = Mark> {
        (0..usize::from(self.len)).map(|n| self.ring[(usize::from(self.first) + n) % CAPACITY])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_no_larger_than_512_bytes() {
        assert!(size_of::<Marks>() <= 512);
    }

    #[test]
    fn a_byte_has_the_time_of_the_last_mark_before_it() {
        let mut marks = Marks::default();
        marks.push(10, WallTime(100));
        marks.push(20, WallTime(100));
        marks.push(30, WallTime(200));
        let times = [9, 10, 29, 30, 1000].map(|offset| marks.time_of(offset).map(|at| at.0));
        assert_eq!(times, [None, Some(100), Some(100), Some(200), Some(200)]);
    }

    #[test]
    fn a_full_ring_forgets_the_oldest() {
        let mut marks = Marks::default();
        for n in 0..100 {
            marks.push(n * 10, WallTime(n));
        }
        assert_eq!(marks.oldest(), Some(WallTime(69)));
        assert_eq!(marks.time_of(689), None);
        assert_eq!(marks.time_of(695), Some(WallTime(69)));
        assert_eq!(marks.time_of(5000), Some(WallTime(99)));
    }
}
