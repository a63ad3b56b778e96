//! What belongs to several files of `config`: whole documents, each row of the error catalogue,
//! and declarations nobody meant to write.

mod definition;
mod export;
mod fuzz;
mod pm2;
mod preflight;
mod programs;
mod resolve;
mod serving;

use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::Value;

use crate::config::{Defaults, Dialect, Origin, Resolved, apps, json};
use crate::supervisor::spec::{AppSpec, Environment};

/// A directory of its own, gone when dropped.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("pmd-config-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir.canonicalize().unwrap())
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    fn program(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.write(name, content);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A caller's environment.
fn caller() -> Rc<Environment> {
    let vars = [("PATH", "/usr/bin:/bin"), ("HOME", "/home/u"), ("LANG", "C"), ("PORT", "9")];
    Rc::new(vars.into_iter().collect())
}

const DEFAULTS: Defaults = Defaults {
    cpus: 4,
    log_format: crate::supervisor::spec::LogFormat::Raw,
    log_targets: crate::config::settings::LogTargets::DEFAULT,
};

/// Resolves a text as the file `name` in `dir`.
fn resolve_in(dir: &Path, name: &str, text: &str) -> Resolved {
    let environment = caller();
    let value = json::parse_text(name, text).unwrap();
    let origin = Origin {
        dialect: Dialect::of(Path::new(name)),
        dir,
        environment: &environment,
        profile: None,
        source: None,
        file: Some((name, text)),
        strict: false,
        defaults: &DEFAULTS,
    };
    apps(&value, &origin)
}

fn resolve(name: &str, text: &str) -> Resolved {
    resolve_in(Path::new("/srv"), name, text)
}

/// Resolves one app as a client sends it.
fn client(dir: &Path, value: &Value) -> Resolved {
    let environment = caller();
    let origin = Origin {
        dialect: Dialect::Client,
        dir,
        environment: &environment,
        profile: None,
        source: None,
        file: None,
        strict: false,
        defaults: &DEFAULTS,
    };
    crate::config::app(value.as_object().unwrap(), &origin)
}

/// The one app of a text that has nothing wrong.
fn only(name: &str, text: &str) -> AppSpec {
    let mut resolved = resolve(name, text);
    assert_eq!(lines(&resolved.problems), [""; 0]);
    assert_eq!(resolved.apps.len(), 1);
    resolved.apps.remove(0)
}

fn lines(problems: &[crate::config::Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

/// What is wrong with a text, one line each.
fn problems(name: &str, text: &str) -> Vec<String> {
    let resolved = resolve(name, text);
    lines(&resolved.problems)
}

fn warnings(name: &str, text: &str) -> Vec<String> {
    let resolved = resolve(name, text);
    assert_eq!(lines(&resolved.problems), [""; 0]);
    lines(&resolved.warnings)
}

/// A small generator with a seed (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn chance(&mut self) -> bool {
        self.next() & (1 << 20) != 0
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}
