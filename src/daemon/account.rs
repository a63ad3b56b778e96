//! The user and groups an app runs as.

use std::io;

use crate::supervisor::spec::AppSpec;
use crate::sys::users::{self, Credentials};

/// Linux's number for "operation not permitted": there is no such user or group.
const NOT_PERMITTED: i32 = 1;

/// Somebody else than the daemon's own user.
#[derive(Debug)]
pub struct Account {
    pub credentials: Credentials,
    /// `None`: only the group is another.
    pub user: Option<users::Account>,
}

/// Looks up the user and group of an app, by name or number; `None`: it stays with the daemon's.
///
/// # Errors
///
/// `EPERM` for a name that does not exist; those of reading the files.
pub fn of(spec: &AppSpec) -> io::Result<Option<Account>> {
    if spec.user.is_none() && spec.group.is_none() {
        return Ok(None);
    }
    let unknown = || io::Error::from_raw_os_error(NOT_PERMITTED);
    let user = match spec.user.as_deref() {
        None => None,
        Some(word) => Some(users::user(word)?.ok_or_else(unknown)?),
    };
    let credentials =
        users::credentials(user.as_ref(), spec.group.as_deref())?.ok_or_else(unknown)?;
    Ok(Some(Account { credentials, user }))
}
