//! What Node loads before a program: it says which Node that is, and what the program dies of.
//!
//! PM2 starts a wrapper in place of the program for this. Here it is a file that is loaded first
//! and only looks on; where it could do harm, it is left out.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::paths::Paths;
use crate::daemon::settings::replace;
use crate::supervisor::spec::AppSpec;

const CODE: &str = include_str!("preload.js");
const FILE: &str = "preload.js";

/// Modes of Node in which what is loaded first is not loaded by the program, or may not be.
const UNFIT: [&str; 5] = ["permission", "policy", "snapshot", "test", "watch"];

/// Whether Node is to load it before this app; `program`: what is executed.
///
/// Another user's process could not read the file.
#[must_use]
pub fn suits(spec: &AppSpec, program: &Path) -> bool {
    let is_node = program.file_name().is_some_and(|name| name == "node" || name == "nodejs");
    let is_unfit = |text: &str| UNFIT.iter().any(|word| text.contains(word));
    let options = spec.env.get("NODE_OPTIONS").or_else(|| spec.inherited.get("NODE_OPTIONS"));
    spec.pmx
        && spec.interpreter.is_some()
        && is_node
        && spec.user.is_none()
        && spec.group.is_none()
        && !spec.interpreter_args.iter().chain(options).any(is_unfit)
}

/// The file, as this daemon has it; `None`: there is no place for it.
#[must_use]
pub fn file(paths: &Paths) -> Option<PathBuf> {
    // What lies in a runtime directory goes when its user logs out, and the programs stay.
    [&paths.state, &paths.runtime].into_iter().map(|dir| dir.join(FILE)).find(|path| {
        let is_there = fs::read(path).is_ok_and(|bytes| bytes == CODE.as_bytes());
        is_there || replace(path, CODE.as_bytes(), 0o600).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(change: impl FnOnce(&mut AppSpec)) -> AppSpec {
        let mut spec = AppSpec { script: "/app.js".into(), ..AppSpec::default() };
        spec.interpreter = Some("node".to_owned());
        change(&mut spec);
        spec
    }

    #[test]
    fn only_where_it_does_no_harm() {
        let node = Path::new("/usr/bin/node");
        assert!(suits(&spec(|_| {}), node));
        assert!(!suits(&spec(|_| {}), Path::new("/usr/bin/bun")));
        let changes: [fn(&mut AppSpec); 7] = [
            |it| it.interpreter = None,
            |it| it.pmx = false,
            |it| it.user = Some("nobody".to_owned()),
            |it| it.group = Some("nogroup".to_owned()),
            |it| it.interpreter_args = ["--watch"].into_iter().collect(),
            |it| it.interpreter_args = ["-r", "x", "--permission"].into_iter().collect(),
            |it| it.env.set("NODE_OPTIONS", "--experimental-permission"),
        ];
        for (at, change) in changes.into_iter().enumerate() {
            assert!(!suits(&spec(change), node), "{at}");
        }
    }
}
