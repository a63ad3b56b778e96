//! Users and groups, from the files.
//!
//! `/etc/passwd` and `/etc/group` are parsed here, without the C library's name service: a static
//! program has none, and where there is one it may wait for the network.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::sys::process;

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

/// A user of this host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Account {
    pub name: String,
    pub uid: u32,
    /// `None` for a number without an entry.
    pub gid: Option<u32>,
    pub home: String,
    pub shell: String,
}

impl Account {
    /// What a program that runs as this user finds in its environment.
    #[must_use]
    pub fn variables(&self) -> [(&'static str, &str); 4] {
        [
            ("HOME", &self.home),
            ("LOGNAME", &self.name),
            ("SHELL", &self.shell),
            ("USER", &self.name),
        ]
    }
}

/// The user with this name or number. A number needs no entry; it has no group of its own then.
///
/// # Errors
///
/// Those of reading `/etc/passwd`.
pub fn user(name_or_number: &str) -> io::Result<Option<Account>> {
    let text = passwd()?;
    if let Some(found) = accounts(&text).find(|account| account.name == name_or_number) {
        return Ok(Some(found));
    }
    let Some(uid) = number(name_or_number) else { return Ok(None) };
    let found = accounts(&text).find(|account| account.uid == uid);
    Ok(Some(found.unwrap_or_else(|| Account {
        name: uid.to_string(),
        uid,
        gid: None,
        home: "/".into(),
        shell: "/bin/sh".into(),
    })))
}

/// The first user with this number that has an entry.
///
/// # Errors
///
/// As [`user`].
pub fn user_by_id(uid: u32) -> io::Result<Option<Account>> {
    Ok(accounts(&passwd()?).find(|account| account.uid == uid))
}

/// The number of the group with this name or number. A number needs no entry.
///
/// # Errors
///
/// Those of reading `/etc/group`.
pub fn group(name_or_number: &str) -> io::Result<Option<u32>> {
    let text = group_file()?;
    let found = groups(&text).find(|group| group.name == name_or_number).map(|group| group.gid);
    Ok(found.or_else(|| number(name_or_number)))
}

/// Who a process is that runs as `account` (`None`: as ourselves) and in `group` (`None`: in the
/// user's own). `None` if there is no such group, or the user has none.
///
/// # Errors
///
/// As [`group`].
pub fn credentials(
    account: Option<&Account>,
    group_name: Option<&str>,
) -> io::Result<Option<Credentials>> {
    let uid = account.map_or_else(process::effective_uid, |account| account.uid);
    let gid = match group_name {
        Some(name) => group(name)?,
        None => account.and_then(|account| account.gid),
    };
    let Some(gid) = gid else { return Ok(None) };
    let groups = match account {
        Some(account) => groups_of(&account.name, gid)?,
        None => vec![gid],
    };
    Ok(Some(Credentials { uid, gid, groups }))
}

/// The name of the group with this number.
///
/// # Errors
///
/// As [`group`].
pub fn group_by_id(gid: u32) -> io::Result<Option<String>> {
    Ok(groups(&group_file()?).find(|group| group.gid == gid).map(|group| group.name.to_owned()))
}

/// All groups that list `user`, and `primary` before them: what `initgroups(3)` would set.
///
/// # Errors
///
/// As [`group`].
pub fn groups_of(user: &str, primary: u32) -> io::Result<Vec<u32>> {
    Ok(groups_in(&group_file()?, user, primary))
}

fn passwd() -> io::Result<String> {
    read(Path::new("/etc/passwd"))
}

fn group_file() -> io::Result<String> {
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

/// An id. The highest number means "leave it" to the kernel.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&id| digits && id != u32::MAX)
}

/// `name:password:uid:gid:comment:home:shell`; other lines are passed over.
fn accounts(text: &str) -> impl Iterator<Item = Account> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = fields.nth(1).and_then(number)?;
        let gid = Some(fields.next().and_then(number)?);
        let home = fields.nth(1)?;
        let shell = fields.next().filter(|shell| !shell.is_empty()).unwrap_or("/bin/sh");
        Some(Account { name: name.into(), uid, gid, home: home.into(), shell: shell.into() })
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
        let gid = fields.nth(1).and_then(number)?;
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
        let names: Vec<_> = accounts(PASSWD).map(|user| (user.name, user.uid)).collect();
        assert_eq!(names, [("root".into(), 0), ("web".into(), 1000), ("noshell".into(), 1001)]);
        let web = accounts(PASSWD).find(|user| user.name == "web").unwrap();
        assert_eq!((web.gid, web.home.as_str()), (Some(100), "/srv/web"));
        let found = web.variables().map(|(name, value)| format!("{name}={value}"));
        assert_eq!(found, ["HOME=/srv/web", "LOGNAME=web", "SHELL=/usr/sbin/nologin", "USER=web"]);
    }

    #[test]
    fn only_numbers_that_mean_someone_are_ids() {
        assert_eq!(number("0"), Some(0));
        for text in ["", "-1", "+1", "4294967295", "4294967296", "1x"] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    #[test]
    fn a_user_is_in_its_own_group_and_in_those_that_list_it() {
        assert_eq!(groups_in(GROUP, "web", 100), [100, 7, 8]);
        assert_eq!(groups_in(GROUP, "nobody", 65_534), [65_534]);
    }

    #[test]
    fn this_host_knows_root() {
        let root = user_by_id(0).unwrap().unwrap();
        assert_eq!(user(&root.name).unwrap().as_ref(), Some(&root));
        assert_eq!(user("0").unwrap(), Some(root));
        assert_eq!(user("no such user").unwrap(), None);
        let name = group_by_id(0).unwrap().unwrap();
        assert_eq!(group(&name).unwrap(), Some(0));
        assert_eq!(group("no such group").unwrap(), None);
    }

    #[test]
    fn a_number_without_an_entry_needs_a_group() {
        let nobody = user("3999999999").unwrap().unwrap();
        assert_eq!((nobody.uid, nobody.gid), (3_999_999_999, None));
        assert_eq!(credentials(Some(&nobody), None).unwrap(), None);
        assert_eq!(credentials(Some(&nobody), Some("no such group")).unwrap(), None);
        let found = credentials(Some(&nobody), Some("3999999998")).unwrap().unwrap();
        assert_eq!((found.uid, found.gid), (3_999_999_999, 3_999_999_998));
        assert_eq!(found.groups, [3_999_999_998]);
        let ours = credentials(None, Some("7")).unwrap().unwrap();
        assert_eq!((ours.uid, ours.gid), (process::effective_uid(), 7));
        assert_eq!(credentials(None, None).unwrap(), None);
    }

    #[test]
    fn a_file_without_end_is_refused() {
        let error = read(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EFBIG));
    }
}
