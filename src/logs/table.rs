//! All log files, each once, however many streams are written to it.

use std::path::Path;
use std::rc::Rc;

use crate::logs::file::LogFile;
use crate::sorted::SortedMap;

/// Names an entry of [`Files`] for as long as it has users.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FileId(usize);

/// The table of log files.
#[derive(Debug, Default)]
pub struct Files {
    slots: Vec<Option<LogFile>>,
    free: Vec<usize>,
    by_path: SortedMap<Rc<Path>, FileId>,
}

impl Files {
    /// Counts one more user of `path`; the entry is made for the first. Sizes are those of the
    /// latest user.
    pub fn share(&mut self, path: &Path, max_size: u64, keep: u32) -> FileId {
        let id = match self.by_path.get(path) {
            Some(&id) => id,
            None => self.insert(LogFile::new(path.into(), max_size, keep)),
        };
        if let Some(file) = self.get_mut(id) {
            file.users += 1;
            file.max_size = max_size;
            file.keep = keep;
        }
        id
    }

    fn insert(&mut self, file: LogFile) -> FileId {
        let path = file.path().clone();
        let index = self.free.pop().unwrap_or(self.slots.len());
        match self.slots.get_mut(index) {
            Some(slot) => *slot = Some(file),
            None => self.slots.push(Some(file)),
        }
        self.by_path.insert(path, FileId(index));
        FileId(index)
    }

    /// Counts one user less; the last closes the file.
    pub fn release(&mut self, id: FileId) {
        let Some(file) = self.get_mut(id) else {
            return;
        };
        file.users = file.users.saturating_sub(1);
        if file.users == 0 {
            let path = file.path().clone();
            self.by_path.remove(&path);
            if let Some(slot) = self.slots.get_mut(id.0) {
                *slot = None;
                self.free.push(id.0);
            }
        }
    }

    pub fn get(&self, id: FileId) -> Option<&LogFile> {
        self.slots.get(id.0)?.as_ref()
    }

    pub fn get_mut(&mut self, id: FileId) -> Option<&mut LogFile> {
        self.slots.get_mut(id.0)?.as_mut()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut LogFile> {
        self.slots.iter_mut().flatten()
    }

    /// Closes all descriptors but one; whether there were any.
    pub fn close_others(&mut self, but: FileId) -> bool {
        let mut any = false;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if index != but.0
                && let Some(file) = slot
            {
                any |= file.close();
            }
        }
        any
    }
}
