//! Looks whether every numbered line of a child is in its files: once, whole, in order.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use crate::stage::Writes;

/// Bytes of a line, its newline included: see `benches/child/child.rs`.
pub const SMALL: u64 = 100;
pub const BIG: u64 = 128;

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Account {
    pub lines: u64,
    pub lost: u64,
    /// Doubled lines are among these.
    pub disordered: u64,
    pub broken: u64,
}

impl Account {
    /// Lines that are not there, whole, once and in order.
    pub fn faults(self) -> u64 {
        self.lost + self.disordered + self.broken
    }

    pub fn add(&mut self, other: Self) {
        self.lines += other.lines;
        self.lost += other.lost;
        self.disordered += other.disordered;
        self.broken += other.broken;
    }
}

/// Reads the files of child `id`, which wrote `bytes`, in the order of their first lines.
pub fn check(files: &[PathBuf], id: usize, writes: Writes, bytes: u64) -> Account {
    let length = if writes == Writes::Small { SMALL } else { BIG };
    let expected = bytes / length;
    let mut files: Vec<(u64, &PathBuf)> =
        files.iter().map(|path| (first_serial(path, id, length), path)).collect();
    files.sort();

    let mut account = Account::default();
    let mut next = 0;
    let mut right = 0;
    let mut line = Vec::new();
    for (_, path) in files {
        let Ok(file) = File::open(path) else { continue };
        let mut reader = BufReader::with_capacity(256 * 1024, file);
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line).unwrap_or(0) == 0 {
                break;
            }
            account.lines += 1;
            match parse(&line, id, length) {
                None => account.broken += 1,
                Some((serial, last)) => {
                    if serial < next {
                        account.disordered += 1;
                    } else {
                        right += 1;
                        next = serial + 1;
                    }
                    if last != (serial + 1 == expected) {
                        account.broken += 1;
                    }
                }
            }
        }
    }
    account.lost = expected.saturating_sub(right);
    account
}

/// The serial number of a whole line, and whether it is marked as the last.
fn parse(line: &[u8], id: usize, length: u64) -> Option<(u64, bool)> {
    if line.len() as u64 != length {
        return None;
    }
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<u64>().ok();
    let (head, serial, tail) = (&line[..2], &line[3..15], &line[16..line.len() - 1]);
    let whole = line[2] == b' ' && line[15] == b' ' && line[line.len() - 1] == b'\n';
    let last = tail.starts_with(b"END");
    let filled = tail[if last { 3 } else { 0 }..].iter().all(|byte| *byte == b'x');
    let right = whole && filled && number(head)? == id as u64;
    right.then_some((number(serial)?, last))
}

fn first_serial(path: &Path, id: usize, length: u64) -> u64 {
    let mut line = Vec::new();
    let Ok(file) = File::open(path) else { return u64::MAX };
    if BufReader::new(file).read_until(b'\n', &mut line).is_err() {
        return u64::MAX;
    }
    parse(&line, id, length).map_or(u64::MAX, |(serial, _)| serial)
}
