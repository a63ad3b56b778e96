//! Finds or builds the three programs: pmd, the reference supervisor, the supervised child.
//!
//! `limit` and `child` are single files that `rustc` builds without any package, so that they weigh
//! nothing in pmd's own dependency tree.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Programs {
    /// Absent: only the limit is measured.
    pub pmd: Option<PathBuf>,
    pub limit: PathBuf,
    pub child: PathBuf,
}

impl Programs {
    /// `pmd`: a binary to measure instead of the release build of this tree.
    pub fn build(pmd: Option<PathBuf>, limit_only: bool) -> Self {
        let pmd = (!limit_only).then(|| pmd.unwrap_or_else(build_pmd));
        Self {
            pmd: pmd.map(|path| path.canonicalize().expect("no such pmd")),
            limit: build_single("limit"),
            child: build_single("child"),
        }
    }
}

/// Static, for the machine this runs on.
fn target() -> String {
    format!("{}-unknown-linux-musl", env::consts::ARCH)
}

fn tree() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| tree().join("target"), PathBuf::from)
}

fn build_pmd() -> PathBuf {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--bin", "pmd", "--target", &target()]);
    run(command.current_dir(tree()));
    target_dir().join(target()).join("release/pmd")
}

fn build_single(name: &str) -> PathBuf {
    let folder = target_dir().join("bench");
    std::fs::create_dir_all(&folder).expect("cannot make target/bench");
    let output = folder.join(name);
    let mut command = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command.args(["--edition", "2024", "--target", &target(), "-C", "opt-level=3"]);
    command.args(["-C", "panic=abort", "-C", "relocation-model=static", "-C", "lto=fat"]);
    command.args(["-C", "strip=symbols", "-o"]).arg(&output);
    run(command.arg(tree().join("benches").join(name).join(format!("{name}.rs"))));
    output
}

fn run(command: &mut Command) {
    let status = command.status().expect("cannot run the compiler");
    assert!(status.success(), "{command:?} failed; is the target {} installed?", target());
}
