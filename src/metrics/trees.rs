//! Which process of the host belongs to which child.
//!
//! Pure: looks at numbers that were read. The rules are those by which a tree is found when it is
//! to be ended (`sys::tree`): a process belongs to a child if it is in the session or the group
//! that the child leads, if its parent belongs to it, or if it is an orphan with the child's cookie
//! in its environment.

/// A process of which it is not known whose it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unknown {
    pub pid: i32,
    pub parent: i32,
    pub group: i32,
    pub session: i32,
    pub owner: Owner,
}

/// Whose a process is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Owner {
    /// The target's place in the table.
    Target(usize),
    /// It descends from the daemon but from no target that is known yet: asked again next time.
    Unclear,
    Nobody,
}

/// What is known already.
pub trait Known {
    /// The target whose main process this is.
    fn leader(&self, pid: i32) -> Option<usize>;
    /// The target whose tree this process is in.
    fn member(&self, pid: i32) -> Option<usize>;
    /// Whether orphans of the targets come to this process.
    fn takes_orphans(&self, pid: i32) -> bool;
    /// The target whose cookie this process carries.
    fn by_cookie(&mut self, pid: i32) -> Option<usize>;
}

/// Finds the owners of `unknown`, which is in the order of pids.
pub fn settle(unknown: &mut [Unknown], known: &mut dyn Known) {
    for one in &mut *unknown {
        let led = [one.session, one.group].into_iter().find_map(|number| known.leader(number));
        one.owner = match led.or_else(|| known.member(one.parent)) {
            Some(target) => Owner::Target(target),
            None => Owner::Nobody,
        };
    }
    inherit(unknown);
    for one in &mut *unknown {
        if one.owner == Owner::Nobody && known.takes_orphans(one.parent) {
            one.owner = known.by_cookie(one.pid).map_or(Owner::Unclear, Owner::Target);
        }
    }
    inherit(unknown);
}

/// Gives to each process without an owner that of its parent, until nothing changes. Parents mostly
/// have the lower numbers, so that one pass is enough.
fn inherit(unknown: &mut [Unknown]) {
    let mut changed = true;
    while changed {
        changed = false;
        for index in 0..unknown.len() {
            let one = unknown[index];
            if one.owner != Owner::Nobody {
                continue;
            }
            let Ok(parent) = unknown.binary_search_by_key(&one.parent, |other| other.pid) else {
                continue;
            };
            if unknown[parent].owner != Owner::Nobody {
                unknown[index].owner = unknown[parent].owner;
                changed = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const DAEMON: i32 = 50;

    /// Targets 0 and 1 are led by 100 and 200; 110 is in the tree of 100.
    struct World {
        cookies: BTreeMap<i32, usize>,
    }

    impl Known for World {
        fn leader(&self, pid: i32) -> Option<usize> {
            [100, 200].iter().position(|&leader| leader == pid)
        }
        fn member(&self, pid: i32) -> Option<usize> {
            if pid == 110 { Some(0) } else { self.leader(pid) }
        }
        fn takes_orphans(&self, pid: i32) -> bool {
            pid == DAEMON
        }
        fn by_cookie(&mut self, pid: i32) -> Option<usize> {
            self.cookies.get(&pid).copied()
        }
    }

    fn owners(rows: &[(i32, i32, i32, i32)], cookies: &[(i32, usize)]) -> Vec<Owner> {
        let mut unknown: Vec<Unknown> = rows
            .iter()
            .map(|&(pid, parent, group, session)| Unknown {
                pid,
                parent,
                group,
                session,
                owner: Owner::Nobody,
            })
            .collect();
        settle(&mut unknown, &mut World { cookies: cookies.iter().copied().collect() });
        unknown.iter().map(|one| one.owner).collect()
    }

    #[test]
    fn session_group_and_parent_each_make_a_member() {
        let rows = [
            (120, 1, 300, 100),
            (121, 1, 200, 300),
            (122, 110, 300, 300),
            (123, 122, 301, 301),
            (400, 1, 400, 400),
            (401, 400, 400, 400),
        ];
        let (zero, one) = (Owner::Target(0), Owner::Target(1));
        assert_eq!(owners(&rows, &[]), [zero, one, zero, zero, Owner::Nobody, Owner::Nobody]);
    }

    #[test]
    fn an_orphan_is_known_by_its_cookie_and_its_children_by_it() {
        // 130 left session, group and parent; 129 is its child though its number is lower.
        let rows = [(129, 130, 129, 129), (130, DAEMON, 130, 130), (131, 129, 129, 129)];
        assert_eq!(owners(&rows, &[(130, 1)]), [Owner::Target(1); 3]);
    }

    #[test]
    fn what_descends_from_the_daemon_alone_is_asked_again() {
        let rows = [(140, DAEMON, 140, 140), (141, 140, 140, 140), (142, 1, 142, 142)];
        assert_eq!(owners(&rows, &[]), [Owner::Unclear, Owner::Unclear, Owner::Nobody]);
        assert_eq!(owners(&rows[..2], &[(142, 0)]), [Owner::Unclear; 2]);
    }

    #[test]
    fn a_circle_of_parents_ends() {
        assert_eq!(owners(&[(7, 8, 7, 7), (8, 7, 8, 8)], &[]), [Owner::Nobody; 2]);
    }
}
