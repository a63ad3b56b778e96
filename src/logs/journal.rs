//! What must be known of a stream after the daemon was killed: eight words in shared memory.
//!
//! The words outlive the process that writes them. Every change of meaning is one atomic store, so
//! that a kill between any two instructions leaves either the old meaning or the new one:
//!
//! | word | means                                                              |
//! |------|--------------------------------------------------------------------|
//! | 0    | bit 0: which position is valid; bits 1 and 2: what was going on;   |
//! |      | bit 3: there is a stage                                            |
//! | 1, 2 | two positions in the stage: everything before is in the log files  |
//! | 3, 4 | lengths of the log files before the write that was going on        |
//! | 5    | inode numbers of these files, the low halves                       |
//! | 6, 7 | bytes dropped and not yet reported, for each file                  |
//!
//! Eight zeroes are a stream that has done nothing.

use std::fmt;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sys::map::SharedMap;

/// Words that each stream needs.
pub const WORDS: usize = 8;

const SLOT: u64 = 0b001;
const WRITING: u64 = 0b010;
const COMPACTING: u64 = 0b100;
const STAGED: u64 = 0b1000;

/// The words of one stream.
#[derive(Clone)]
pub struct Journal {
    map: Rc<SharedMap>,
    at: usize,
}

/// What was going on when the words were last written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// Nothing: files and position agree.
    Clean,
    /// Lines were being written: the files may have more than these lengths.
    Writing { targets: [Target; 2] },
    /// The unfinished line was being moved to the front of the stage; it is `length` bytes.
    Compacting { length: u64 },
}

/// A log file as it was before a write.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Target {
    pub length: u64,
    /// The low half of its inode number, to know it again; 0: no such target.
    pub inode: u32,
}

impl Journal {
    /// The words `at` to `at + 7` of `map`, which must be there; zero for a stream that is new.
    #[must_use]
    pub fn new(map: Rc<SharedMap>, at: usize) -> Self {
        Self { map, at }
    }

    /// What was going on.
    pub fn phase(&self) -> Phase {
        let state = self.load(0);
        if state & WRITING != 0 {
            let inodes = self.load(5);
            let (first, second) = (low(inodes >> 32), low(inodes));
            Phase::Writing {
                targets: [
                    Target { length: self.load(3), inode: first },
                    Target { length: self.load(4), inode: second },
                ],
            }
        } else if state & COMPACTING != 0 {
            Phase::Compacting { length: self.load(2 - slot(state)) }
        } else {
            Phase::Clean
        }
    }

    /// Whether the stage belongs to these words. A file found in its place otherwise was left by
    /// somebody else.
    pub fn has_stage(&self) -> bool {
        self.load(0) & STAGED != 0
    }

    /// The stage exists from now on, empty.
    pub fn begin_stage(&self) {
        self.store(1, 0);
        self.store(0, clean(0));
    }

    /// How much of the stage is in the log files.
    pub fn position(&self) -> u64 {
        self.load(1 + slot(self.load(0)))
    }

    /// Sets the position, in one step. Only while clean, and with a stage.
    pub fn set_position(&self, position: u64) {
        self.store(1 + slot(self.load(0)), position);
    }

    /// Lines up to `position` are about to be written to these files.
    pub fn begin(&self, targets: [Target; 2], position: u64) {
        let slot = slot(self.load(0));
        self.store(3, targets[0].length);
        self.store(4, targets[1].length);
        self.store(5, u64::from(targets[0].inode) << 32 | u64::from(targets[1].inode));
        self.store(2 - slot, position);
        self.store(0, clean(slot) | WRITING);
    }

    /// They are written: one store makes the new position valid and the files right.
    pub fn commit(&self) {
        self.store(0, clean(1 - slot(self.load(0))));
    }

    /// They are not, and the files are as they were before.
    pub fn undo(&self) {
        self.store(0, clean(slot(self.load(0))));
    }

    /// The `length` bytes of the unfinished line stand at the front of the stage as well, and are
    /// to become all of it.
    pub fn begin_compacting(&self, length: u64) {
        let slot = slot(self.load(0));
        self.store(2 - slot, length);
        self.store(0, clean(slot) | COMPACTING);
    }

    /// The stage holds the unfinished line and nothing else.
    pub fn compacted(&self) {
        let slot = slot(self.load(0));
        self.store(1 + slot, 0);
        self.store(0, clean(slot));
    }

    /// Bytes dropped and not yet reported in the file `target`, 0 or 1.
    pub fn dropped(&self, target: usize) -> u64 {
        self.load(6 + target.min(1))
    }

    /// Notes how many bytes are missing in the file `target`, 0 or 1.
    pub fn set_dropped(&self, target: usize, bytes: u64) {
        self.store(6 + target.min(1), bytes);
    }

    /// The stream is gone: the words are as new.
    pub fn clear(&self) {
        for word in 0..WORDS {
            self.store(word, 0);
        }
    }

    fn word(&self, index: usize) -> Option<&AtomicU64> {
        self.map.words().get(self.at + index)
    }

    fn load(&self, index: usize) -> u64 {
        self.word(index).map_or(0, |word| word.load(Ordering::SeqCst))
    }

    /// The strongest order: it also keeps the compiler from moving a store over a system call.
    fn store(&self, index: usize, value: u64) {
        if let Some(word) = self.word(index) {
            word.store(value, Ordering::SeqCst);
        }
        super::crash::point();
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("at", &self.at)
            .field("phase", &self.phase())
            .field("position", &self.position())
            .finish_non_exhaustive()
    }
}

fn slot(state: u64) -> usize {
    usize::from(state & SLOT != 0)
}

/// The state in which nothing is going on and this position is valid.
fn clean(slot: usize) -> u64 {
    if slot == 0 { STAGED } else { STAGED | SLOT }
}

fn low(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or(0)
}
