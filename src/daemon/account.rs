//! The user and groups an app runs as.

use std::io;

use crate::supervisor::spec::AppSpec;
use crate::sys::users::{self, Credentials, User};

/// Linux's number for "operation not permitted": there is no such user or group.
const NOT_PERMITTED: i32 = 1;

/// Another user, with what the environment says about it.
#[derive(Debug)]
pub struct Account {
    pub credentials: Credentials,
    /// `None`: a number without an entry in the password file.
    user: Option<User>,
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
    let (uid, user) = match spec.user.as_deref() {
        None => (users::effective_uid(), None),
        Some(word) => match (users::user_by_name(word)?, word.parse()) {
            (Some(user), _) => (user.uid, Some(user)),
            (None, Ok(uid)) => (uid, users::user_by_id(uid)?),
            (None, Err(_)) => return Err(unknown()),
        },
    };
    let gid = match spec.group.as_deref() {
        None => user.as_ref().map_or_else(users::effective_gid, |user| user.gid),
        Some(word) => match (users::group_by_name(word)?, word.parse()) {
            (Some(gid), _) | (None, Ok(gid)) => gid,
            (None, Err(_)) => return Err(unknown()),
        },
    };
    let groups = match &user {
        Some(user) => users::groups_of(&user.name, gid)?,
        None => vec![gid],
    };
    Ok(Some(Account { credentials: Credentials { uid, gid, groups }, user }))
}

impl Account {
    /// What the environment of its processes says about a user.
    #[must_use]
    pub fn variables(&self) -> Vec<(&'static str, &str)> {
        self.user.as_ref().map_or_else(Vec::new, |user| {
            vec![
                ("HOME", user.home.to_str().unwrap_or("/")),
                ("USER", user.name.as_str()),
                ("LOGNAME", user.name.as_str()),
                ("SHELL", user.shell.to_str().unwrap_or("/bin/sh")),
            ]
        })
    }
}
