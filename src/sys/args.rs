//! Vectors of C strings for a program's arguments and environment.
//!
//! All strings of a vector lie in one buffer, each with its NUL. The table of pointers that
//! `execve` wants is made by the spawner, in memory it keeps: a vector costs its bytes and nothing
//! more, and filling it again allocates nothing once it has reached its size.

use std::error::Error;
use std::ffi::{CStr, c_char};
use std::fmt;
use std::io;

/// A vector of C strings, in the order in which they were pushed.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct CArgs {
    /// Each string followed by its NUL.
    bytes: Vec<u8>,
    /// Where each string begins.
    starts: Vec<usize>,
}

/// A string with a NUL byte in it cannot be an argument or a variable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NulError {
    /// Where in the string it is.
    pub position: usize,
}

impl fmt::Display for NulError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NUL byte at position {}", self.position)
    }
}

impl Error for NulError {}

impl From<NulError> for io::Error {
    fn from(_: NulError) -> Self {
        io::ErrorKind::InvalidInput.into()
    }
}

impl CArgs {
    /// An empty vector; allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), starts: Vec::new() }
    }

    /// Takes all strings out and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.starts.clear();
    }

    /// Adds one string.
    ///
    /// # Errors
    ///
    /// [`NulError`] if there is a NUL in it; the vector is unchanged.
    pub fn push(&mut self, string: impl AsRef<[u8]>) -> Result<(), NulError> {
        let string = string.as_ref();
        check(string)?;
        self.starts.push(self.bytes.len());
        self.bytes.extend_from_slice(string);
        self.finish();
        Ok(())
    }

    /// Adds `name=value`.
    ///
    /// # Errors
    ///
    /// [`NulError`] if there is a NUL in either; the vector is unchanged.
    pub fn push_pair(
        &mut self,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<(), NulError> {
        let (name, value) = (name.as_ref(), value.as_ref());
        check(name)?;
        check(value)?;
        self.starts.push(self.bytes.len());
        self.bytes.extend_from_slice(name);
        self.bytes.push(b'=');
        self.bytes.extend_from_slice(value);
        self.finish();
        Ok(())
    }

    /// How many strings there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Bytes of all strings, NULs included: what counts against the kernel's limit, besides one
    /// pointer for each.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The strings, in order.
    pub fn iter(&self) -> impl Iterator<Item = &CStr> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let string = CStr::from_bytes_until_nul(rest).ok()?;
            rest = &rest[string.count_bytes() + 1..];
            Some(string)
        })
    }

    /// Fills `table` with a pointer to each string and the null pointer that ends it. The pointers
    /// are good as long as this vector is neither changed nor dropped.
    pub(super) fn point(&self, table: &mut Vec<*const c_char>) {
        table.clear();
        table.reserve(self.starts.len() + 1);
        let bytes = self.bytes.as_ptr();
        table.extend(self.starts.iter().map(|&start| bytes.wrapping_add(start).cast()));
        table.push(std::ptr::null());
    }

    fn finish(&mut self) {
        self.bytes.push(0);
    }
}

fn check(string: &[u8]) -> Result<(), NulError> {
    // Two looks: the first is the fast one.
    if !string.contains(&0) {
        return Ok(());
    }
    let position = string.iter().position(|&byte| byte == 0).unwrap_or_default();
    Err(NulError { position })
}

/// The number of strings only: a debug print must not show an environment's secrets.
impl fmt::Debug for CArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CArgs({} strings, {} bytes)", self.len(), self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_come_back_in_order() {
        let mut args = CArgs::new();
        args.push(b"sh").unwrap();
        args.push(b"").unwrap();
        args.push_pair(b"A", b"b=c").unwrap();
        let strings: Vec<&[u8]> = args.iter().map(CStr::to_bytes).collect();
        assert_eq!(strings, [b"sh".as_slice(), b"", b"A=b=c"]);
        assert_eq!((args.len(), args.len_bytes()), (3, 10));
    }

    #[test]
    fn a_string_with_a_nul_is_refused_and_leaves_no_trace() {
        let mut args = CArgs::new();
        assert_eq!(args.push(b"a\0b"), Err(NulError { position: 1 }));
        assert_eq!(args.push_pair(b"A", b"\0"), Err(NulError { position: 0 }));
        assert_eq!(args, CArgs::new());
    }

    #[test]
    fn the_table_of_pointers_ends_with_null() {
        let mut args = CArgs::new();
        let mut table = vec![];
        args.push(b"one").unwrap();
        args.push(b"two").unwrap();
        args.point(&mut table);
        assert_eq!(table.len(), 3);
        assert!(table[2].is_null());
        // SAFETY: the pointer is to a string of `args`, which is alive and unchanged.
        assert_eq!(unsafe { CStr::from_ptr(table[1]) }, c"two");
    }

    #[test]
    fn filling_a_vector_again_keeps_its_memory() {
        let mut args = CArgs::new();
        args.push([b'x'; 100]).unwrap();
        let (memory, capacity) = (args.bytes.as_ptr(), args.bytes.capacity());
        args.clear();
        assert!(args.is_empty() && args.iter().next().is_none());
        args.push([b'y'; 100]).unwrap();
        assert_eq!((args.bytes.as_ptr(), args.bytes.capacity()), (memory, capacity));
    }
}
