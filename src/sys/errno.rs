//! Names and texts of error numbers.
//!
//! The texts are lower-case and short, so that they can end a sentence: `cannot open
//! /var/log/web.log: no such file or directory`. They do not depend on the C library or a locale.

use std::io;

/// The symbol of an error number, `ENOENT`; `E?` for one that is not in the table.
#[must_use]
pub fn errno_name(errno: i32) -> &'static str {
    find(errno).map_or("E?", |entry| entry.1)
}

/// What an error number means, in lower-case words; `unknown error` for one that is not in the
/// table.
#[must_use]
pub fn errno_text(errno: i32) -> &'static str {
    find(errno).map_or("unknown error", |entry| entry.2)
}

/// What went wrong, in words that may end a sentence: no capital, no full stop, no
/// `(os error 13)`.
#[must_use]
pub fn describe(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => match find(errno) {
            Some(entry) => entry.2.to_owned(),
            None => format!("error {errno}"),
        },
        None => lower_first(&error.to_string()),
    }
}

/// Leaves words such as `JSON` alone.
fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    match (letters.next(), letters.next()) {
        (Some(first), Some(second))
            if first.is_ascii_uppercase() && second.is_ascii_lowercase() =>
        {
            std::iter::once(first.to_ascii_lowercase()).chain(text.chars().skip(1)).collect()
        }
        _ => text.to_owned(),
    }
}

fn find(errno: i32) -> Option<&'static (i32, &'static str, &'static str)> {
    ERRORS.iter().find(|entry| entry.0 == errno)
}

/// Every number a call of this program, or an `execve` on behalf of a child, may answer.
const ERRORS: &[(i32, &str, &str)] = &[
    (libc::EPERM, "EPERM", "operation not permitted"),
    (libc::ENOENT, "ENOENT", "no such file or directory"),
    (libc::ESRCH, "ESRCH", "no such process"),
    (libc::EINTR, "EINTR", "interrupted"),
    (libc::EIO, "EIO", "input/output error"),
    (libc::ENXIO, "ENXIO", "no such device or address"),
    (libc::E2BIG, "E2BIG", "arguments and environment too long"),
    (libc::ENOEXEC, "ENOEXEC", "not a program (no #! line and no known format)"),
    (libc::EBADF, "EBADF", "bad file descriptor"),
    (libc::ECHILD, "ECHILD", "no child process"),
    (libc::EAGAIN, "EAGAIN", "resource temporarily unavailable"),
    (libc::ENOMEM, "ENOMEM", "out of memory"),
    (libc::EACCES, "EACCES", "permission denied"),
    (libc::EFAULT, "EFAULT", "bad address"),
    (libc::EBUSY, "EBUSY", "device or resource busy"),
    (libc::EEXIST, "EEXIST", "file exists"),
    (libc::EXDEV, "EXDEV", "on another file system"),
    (libc::ENODEV, "ENODEV", "no such device"),
    (libc::ENOTDIR, "ENOTDIR", "not a directory"),
    (libc::EISDIR, "EISDIR", "is a directory"),
    (libc::EINVAL, "EINVAL", "invalid argument"),
    (libc::ENFILE, "ENFILE", "too many open files in the system"),
    (libc::EMFILE, "EMFILE", "too many open files"),
    (libc::ENOTTY, "ENOTTY", "not a terminal"),
    (libc::ETXTBSY, "ETXTBSY", "program file is being written"),
    (libc::EFBIG, "EFBIG", "file too large"),
    (libc::ENOSPC, "ENOSPC", "no space left on device"),
    (libc::ESPIPE, "ESPIPE", "cannot seek"),
    (libc::EROFS, "EROFS", "read-only file system"),
    (libc::EMLINK, "EMLINK", "too many links"),
    (libc::EPIPE, "EPIPE", "broken pipe"),
    (libc::EDOM, "EDOM", "argument out of domain"),
    (libc::ERANGE, "ERANGE", "result out of range"),
    (libc::EDEADLK, "EDEADLK", "would deadlock"),
    (libc::ENAMETOOLONG, "ENAMETOOLONG", "file name too long"),
    (libc::ENOLCK, "ENOLCK", "no locks available"),
    (libc::ENOSYS, "ENOSYS", "not supported by this kernel"),
    (libc::ENOTEMPTY, "ENOTEMPTY", "directory not empty"),
    (libc::ELOOP, "ELOOP", "too many symbolic links"),
    (libc::ENODATA, "ENODATA", "no data available"),
    (libc::ETIME, "ETIME", "timer expired"),
    (libc::ELIBBAD, "ELIBBAD", "damaged shared library or interpreter"),
    (libc::EILSEQ, "EILSEQ", "invalid byte sequence"),
    (libc::EOVERFLOW, "EOVERFLOW", "value too large"),
    (libc::EUSERS, "EUSERS", "too many users"),
    (libc::ENOTSOCK, "ENOTSOCK", "not a socket"),
    (libc::EDESTADDRREQ, "EDESTADDRREQ", "destination address required"),
    (libc::EMSGSIZE, "EMSGSIZE", "message too long"),
    (libc::EPROTOTYPE, "EPROTOTYPE", "wrong kind of socket"),
    (libc::ENOPROTOOPT, "ENOPROTOOPT", "protocol not available"),
    (libc::EPROTONOSUPPORT, "EPROTONOSUPPORT", "protocol not supported"),
    (libc::EPROTO, "EPROTO", "protocol error"),
    (libc::EOPNOTSUPP, "EOPNOTSUPP", "operation not supported"),
    (libc::EAFNOSUPPORT, "EAFNOSUPPORT", "address family not supported"),
    (libc::EADDRINUSE, "EADDRINUSE", "address already in use"),
    (libc::EADDRNOTAVAIL, "EADDRNOTAVAIL", "address not available"),
    (libc::ENETDOWN, "ENETDOWN", "network is down"),
    (libc::ENETUNREACH, "ENETUNREACH", "network is unreachable"),
    (libc::ECONNABORTED, "ECONNABORTED", "connection aborted"),
    (libc::ECONNRESET, "ECONNRESET", "connection reset"),
    (libc::ENOBUFS, "ENOBUFS", "no buffer space available"),
    (libc::EISCONN, "EISCONN", "already connected"),
    (libc::ENOTCONN, "ENOTCONN", "not connected"),
    (libc::ETIMEDOUT, "ETIMEDOUT", "timed out"),
    (libc::ECONNREFUSED, "ECONNREFUSED", "connection refused"),
    (libc::EHOSTDOWN, "EHOSTDOWN", "host is down"),
    (libc::EHOSTUNREACH, "EHOSTUNREACH", "no route to host"),
    (libc::EALREADY, "EALREADY", "already in progress"),
    (libc::EINPROGRESS, "EINPROGRESS", "in progress"),
    (libc::ESTALE, "ESTALE", "stale file handle"),
    (libc::EDQUOT, "EDQUOT", "disk quota exceeded"),
    (libc::ECANCELED, "ECANCELED", "cancelled"),
    (libc::ENOKEY, "ENOKEY", "required key not available"),
    (libc::EOWNERDEAD, "EOWNERDEAD", "owner died"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_described_without_its_number() {
        let denied = io::Error::from_raw_os_error(libc::EACCES);
        assert_eq!(describe(&denied), "permission denied");
        assert_eq!(describe(&io::Error::from_raw_os_error(9999)), "error 9999");
        let own = io::Error::new(io::ErrorKind::InvalidData, "Bad thing");
        assert_eq!(describe(&own), "bad thing");
        let word = io::Error::new(io::ErrorKind::InvalidData, "JSON is bad");
        assert_eq!(describe(&word), "JSON is bad");
    }

    #[test]
    fn names_and_texts_stand_alone() {
        assert_eq!(errno_name(libc::ENOENT), "ENOENT");
        assert_eq!(errno_name(0), "E?");
        for (errno, name, text) in ERRORS {
            assert!(name.starts_with('E'), "{errno}");
            assert!(!text.ends_with('.') && !text.starts_with(char::is_uppercase), "{text}");
            assert_eq!(errno_name(*errno), *name, "listed twice: {name}");
        }
    }
}
