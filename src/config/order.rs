//! In which order apps start: what they depend on comes first.
//!
//! Pure, and without recursion.

use std::collections::HashMap;
use std::fmt;

use crate::supervisor::spec::AppSpec;

/// Apps that wait for each other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cycle {
    /// Each depends on the next one, the last one on the first.
    pub names: Vec<String>,
}

/// `dependency cycle: web -> db -> web`.
impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dependency cycle: ")?;
        for name in &self.names {
            write!(f, "{name} -> ")?;
        }
        f.write_str(self.names.first().map_or("", String::as_str))
    }
}

impl std::error::Error for Cycle {}

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    New,
    /// On the way from the root that is looked at.
    Open,
    Done,
}

/// The positions of `apps` in the order in which they start; otherwise as they stand.
/// Dependencies that are not among `apps` do not count.
///
/// # Errors
///
/// The first cycle.
pub fn order(apps: &[AppSpec]) -> Result<Vec<usize>, Cycle> {
    let position: HashMap<&str, usize> =
        apps.iter().enumerate().rev().map(|(index, app)| (&*app.name, index)).collect();
    let mut marks = vec![Mark::New; apps.len()];
    let mut order = Vec::with_capacity(apps.len());
    for root in 0..apps.len() {
        if marks[root] != Mark::New {
            continue;
        }
        // The way down: each app, and how many of its dependencies have been looked at.
        let mut way = vec![(root, 0)];
        marks[root] = Mark::Open;
        while let Some((app, looked_at)) = way.last_mut() {
            let app = *app;
            let Some(dependency) = apps[app].depends_on.get(*looked_at) else {
                marks[app] = Mark::Done;
                order.push(app);
                way.pop();
                continue;
            };
            *looked_at += 1;
            let Some(&next) = position.get(dependency.name.as_str()) else { continue };
            match marks[next] {
                Mark::Done => {}
                Mark::New => {
                    marks[next] = Mark::Open;
                    way.push((next, 0));
                }
                Mark::Open => {
                    let start = way.iter().position(|&(app, _)| app == next).unwrap_or(0);
                    let names =
                        way[start..].iter().map(|&(app, _)| apps[app].name.as_ref().to_owned());
                    return Err(Cycle { names: names.collect() });
                }
            }
        }
    }
    Ok(order)
}
