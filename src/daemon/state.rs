//! The state file: what users asked for, so that it runs again after any end.
//!
//! One JSON document, `{"format":1,"checksum":"…","state":…}`; the checksum is over the exact bytes
//! of `state`. Written as if the power failed after every byte: new file, `fdatasync`, the old one
//! kept as `.bak`, rename, `fsync` of the directory. What cannot be read is moved aside, never
//! overwritten.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::supervisor::Snapshot;
use crate::sys::dir::Dir;
use crate::sys::{crash, describe};

/// The file in the state directory.
pub const FILE: &str = "state.json";
const BACKUP: &str = "state.json.bak";
const NEW: &str = "state.json.tmp";

/// The version of the format this daemon writes.
const FORMAT: u64 = 1;

/// A state file is never longer, in bytes.
const MAX_SIZE: u64 = 256 * 1024 * 1024;

/// What was found at start.
#[derive(Debug, Default)]
pub struct Loaded {
    pub snapshot: Option<Snapshot>,
    /// There was a state, and it cannot be read: what runs may well have been in it.
    pub lost: bool,
    /// What a person should be told: a damaged file, the backup used.
    pub warnings: Vec<String>,
}

/// Renders the document.
///
/// # Errors
///
/// None in practice: a snapshot is plain data.
pub fn encode(snapshot: &Snapshot) -> io::Result<Vec<u8>> {
    let state = serde_json::to_vec(snapshot)?;
    let mut bytes = Vec::with_capacity(state.len() + 64);
    write!(bytes, r#"{{"format":{FORMAT},"checksum":"{:016x}","state":"#, checksum(&state))?;
    bytes.extend_from_slice(&state);
    bytes.extend_from_slice(b"}\n");
    Ok(bytes)
}

/// Reads a document back.
///
/// # Errors
///
/// A sentence that says what is wrong with it.
pub fn decode(bytes: &[u8]) -> Result<Snapshot, String> {
    let rest = bytes.strip_prefix(br#"{"format":"#).ok_or("it is no state file")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = rest.split_at(digits);
    let format: u64 = std::str::from_utf8(number)
        .ok()
        .and_then(|text| text.parse().ok())
        .filter(|&format| format > 0)
        .ok_or("it is no state file")?;
    if format > FORMAT {
        return Err(format!("it is of a newer version (format {format}, this pmd knows {FORMAT})"));
    }
    let rest = rest.strip_prefix(br#","checksum":""#).ok_or("it is no state file")?;
    let (sum, rest) = rest.split_at_checked(16).ok_or("it is cut short")?;
    let rest = rest.strip_prefix(br#"","state":"#).ok_or("it is no state file")?;
    let state = rest.strip_suffix(b"}\n").ok_or("it is cut short")?;
    if format!("{:016x}", checksum(state)).as_bytes() != sum {
        return Err("its checksum is wrong".to_owned());
    }
    serde_json::from_slice(state).map_err(|error| format!("it does not fit this version: {error}"))
}

/// FNV-1a, 64 bits: finds truncation and damage, not forgery.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Loads the state, or its backup.
#[must_use]
pub fn load(directory: &Path) -> Loaded {
    let mut loaded = Loaded::default();
    for name in [FILE, BACKUP] {
        let path = directory.join(name);
        let bytes = match Dir::open(directory).and_then(|dir| read(&dir, name)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                loaded.lost = true;
                loaded.warnings.push(format!(
                    "cannot read {}: {}",
                    path.display(),
                    describe(&error)
                ));
                continue;
            }
        };
        match decode(&bytes) {
            Ok(snapshot) => {
                if name == BACKUP {
                    loaded.warnings.push(format!("using {}", path.display()));
                }
                loaded.snapshot = Some(snapshot);
                loaded.lost = false;
                return loaded;
            }
            Err(why) => {
                loaded.lost = true;
                let aside = set_aside(&path);
                loaded.warnings.push(format!(
                    "cannot use {}: {why}; kept as {}",
                    path.display(),
                    aside.display()
                ));
            }
        }
    }
    loaded
}

fn read(directory: &Dir, name: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    directory.read(name)?.take(MAX_SIZE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Moves a file that cannot be used out of the way, under a name that is free.
fn set_aside(path: &Path) -> PathBuf {
    let free = (1..1000)
        .map(|n| path.with_added_extension(format!("damaged-{n}")))
        .find(|aside| !aside.exists())
        .unwrap_or_else(|| path.with_added_extension("damaged"));
    let _ = fs::rename(path, &free);
    free
}

/// Makes `bytes` the state, whole or not at all.
///
/// # Errors
///
/// Those of the step that failed; the state on disk is then the old one.
pub fn write(directory: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = Dir::open(directory)?;
    dir.remove(NEW)?;
    let written = write_new(&dir, bytes).and_then(|()| {
        crash::point("state-synced");
        dir.remove(BACKUP)?;
        crash::point("state-backup");
        // Without a backup: the first state ever, or a file system without links.
        let _ = fs::hard_link(directory.join(FILE), directory.join(BACKUP));
        dir.rename(NEW, FILE)
    });
    if let Err(error) = written {
        let _ = dir.remove(NEW);
        return Err(error);
    }
    crash::point("state-renamed");
    dir.sync()?;
    crash::point("state-saved");
    Ok(())
}

fn write_new(dir: &Dir, bytes: &[u8]) -> io::Result<()> {
    let mut file = dir.create_new(NEW)?;
    file.write_all(bytes)?;
    crash::point("state-written");
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("pmd-state-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn document() -> Vec<u8> {
        encode(&Snapshot::default()).unwrap()
    }

    #[test]
    fn every_cut_and_every_altered_byte_is_noticed() {
        let whole = document();
        assert!(decode(&whole).is_ok());
        for at in 0..whole.len() {
            assert!(decode(&whole[..at]).is_err(), "cut at {at}");
            let mut altered = whole.clone();
            altered[at] ^= 1;
            assert!(decode(&altered).is_err(), "altered at {at}");
        }
    }

    #[test]
    fn a_newer_format_is_named() {
        let text = String::from_utf8(document()).unwrap().replace("\"format\":1", "\"format\":9");
        assert!(decode(text.as_bytes()).unwrap_err().contains("newer version (format 9"));
    }

    #[test]
    fn a_damaged_state_is_kept_and_the_backup_used() {
        let path = directory("damaged");
        write(&path, &document()).unwrap();
        write(&path, &document()).unwrap();
        fs::write(path.join(FILE), b"garbage").unwrap();
        let loaded = load(&path);
        assert!(loaded.snapshot.is_some() && !loaded.lost);
        assert_eq!(loaded.warnings.len(), 2, "{:?}", loaded.warnings);
        assert_eq!(fs::read(path.join("state.json.damaged-1")).unwrap(), b"garbage");
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn an_empty_directory_is_no_reason_to_warn() {
        let path = directory("empty");
        let loaded = load(&path);
        assert!(loaded.snapshot.is_none() && loaded.warnings.is_empty());
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_failed_write_leaves_the_old_state() {
        let path = directory("failed");
        write(&path, &document()).unwrap();
        // A directory in the place of the new file cannot be written.
        fs::create_dir(path.join(NEW)).unwrap();
        assert!(write(&path, b"new").is_err());
        assert_eq!(fs::read(path.join(FILE)).unwrap(), document());
        fs::remove_dir_all(path).unwrap();
    }
}
