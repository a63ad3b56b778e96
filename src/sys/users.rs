//! Users and groups, from the files.
//!
//! `/etc/passwd` and `/etc/group` are parsed here, without the C library's name service: a static
//! program has none, and where there is one it may wait for the network.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The larger a file, the likelier it is none of these, in bytes.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// Who a process is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Credentials {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// A line of `/etc/passwd`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: PathBuf,
    pub shell: PathBuf,
}

/// The user with this name.
///
/// # Errors
///
/// Those of reading `/etc/passwd`.
pub fn user_by_name(name: &str) -> io::Result<Option<User>> {
    Ok(users(&passwd()?).find(|user| user.name == name))
}

/// The first user with this number.
///
/// # Errors
///
/// As [`user_by_name`].
pub fn user_by_id(uid: u32) -> io::Result<Option<User>> {
    Ok(users(&passwd()?).find(|user| user.uid == uid))
}

/// The number of the group with this name.
///
/// # Errors
///
/// Those of reading `/etc/group`.
pub fn group_by_name(name: &str) -> io::Result<Option<u32>> {
    Ok(groups(&group()?).find(|group| group.name == name).map(|group| group.gid))
}

/// The name of the group with this number.
///
/// # Errors
///
/// As [`group_by_name`].
pub fn group_by_id(gid: u32) -> io::Result<Option<String>> {
    Ok(groups(&group()?).find(|group| group.gid == gid).map(|group| group.name.to_owned()))
}

/// All groups that list `user`, and `primary` before them: what `initgroups(3)` would set.
///
/// # Errors
///
/// As [`group_by_name`].
pub fn groups_of(user: &str, primary: u32) -> io::Result<Vec<u32>> {
    Ok(groups_in(&group()?, user, primary))
}

/// The user in whose name this process acts.
#[must_use]
pub fn effective_uid() -> u32 {
    // SAFETY: reads a number of this process; cannot fail.
    unsafe { libc::geteuid() }
}

/// The group in whose name this process acts.
#[must_use]
pub fn effective_gid() -> u32 {
    // SAFETY: reads a number of this process; cannot fail.
    unsafe { libc::getegid() }
}

fn passwd() -> io::Result<String> {
    read(Path::new("/etc/passwd"))
}

fn group() -> io::Result<String> {
    read(Path::new("/etc/group"))
}

fn read(path: &Path) -> io::Result<String> {
    let mut bytes = vec![];
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::from_raw_os_error(libc::EFBIG));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `name:password:uid:gid:comment:home:shell`; other lines are passed over.
fn users(text: &str) -> impl Iterator<Item = User> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1)?;
        let shell = fields.next().unwrap_or("");
        Some(User { name: name.into(), uid, gid, home: home.into(), shell: shell.into() })
    })
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// `name:password:gid:member,member`; other lines are passed over.
fn groups(text: &str) -> impl Iterator<Item = Group<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some(Group { name, gid, members: fields.next().unwrap_or("") })
    })
}

fn groups_in(text: &str, user: &str, primary: u32) -> Vec<u32> {
    let mut found = vec![primary];
    for group in groups(text) {
        let listed = group.members.split(',').any(|member| member.trim() == user);
        if listed && !found.contains(&group.gid) {
            found.push(group.gid);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
        # a comment\n\
        +nis::::::\n\
        short:x:5\n\
        web:x:1000:100:Web,,,:/srv/web:/usr/sbin/nologin\n\
        noshell:x:1001:100::/srv:\n\
        minus:x:-2:100::/:/bin/sh\n";

    const GROUP: &str = "root:x:0:\nweb:x:100:\nlog:x:7:web,other\nadm:x:8:other,web\n\
        same:x:100:web\nnear:x:9:webmaster\n";

    #[test]
    fn users_are_read_and_nonsense_is_passed_over() {
        let names: Vec<_> = users(PASSWD).map(|user| (user.name, user.uid)).collect();
        assert_eq!(names, [("root".into(), 0), ("web".into(), 1000), ("noshell".into(), 1001)]);
        let web = users(PASSWD).find(|user| user.name == "web").unwrap();
        assert_eq!((web.gid, web.home.to_str()), (100, Some("/srv/web")));
    }

    #[test]
    fn a_user_is_in_its_own_group_and_in_those_that_list_it() {
        assert_eq!(groups_in(GROUP, "web", 100), [100, 7, 8]);
        assert_eq!(groups_in(GROUP, "nobody", 65_534), [65_534]);
    }

    #[test]
    fn this_host_knows_root() {
        let root = user_by_id(0).unwrap().unwrap();
        assert_eq!(user_by_name(&root.name).unwrap(), Some(root));
        assert_eq!(user_by_name("no such user").unwrap(), None);
        let name = group_by_id(0).unwrap().unwrap();
        assert_eq!(group_by_name(&name).unwrap(), Some(0));
    }

    #[test]
    fn a_file_without_end_is_refused() {
        let error = read(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EFBIG));
    }
}
