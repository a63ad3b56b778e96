//! `pmd install-links`: PM2's names for this program.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::cli::Run;
use crate::cli::args::Parsed;
use crate::cli::error::{Failure, in_words};
use crate::cli::exit::Exit;
use crate::cli::invoked::NAMES;
use crate::cli::session::Session;
use crate::json::json;

/// Runs `pmd install-links`.
pub fn install(session: &mut Session, parsed: &Parsed) -> Run {
    let program =
        std::env::current_exe().map_err(|error| Failure::new(Exit::Failed, in_words(&error)))?;
    let beside = program.parent().unwrap_or_else(|| Path::new("/")).to_path_buf();
    let directory = parsed.operands.first().map_or(beside, PathBuf::from);
    let mut made = Vec::new();
    for name in NAMES {
        let link = directory.join(name);
        place(&link, &program, parsed.flag("force")).map_err(|error| {
            let text = format!("cannot make {}: {}", link.display(), in_words(&error));
            let refused = error.kind() == io::ErrorKind::PermissionDenied;
            let exit = if refused { Exit::NotPermitted } else { Exit::Failed };
            let mut failure = Failure::new(exit, text);
            if error.kind() == io::ErrorKind::AlreadyExists {
                failure = failure.hint("--force replaces what is there");
            }
            failure
        })?;
        if !session.screen.json {
            session.screen.result(&format!("{} -> {}", link.display(), program.display()))?;
        }
        made.push(link);
    }
    if session.screen.json {
        session.screen.document(&json!({"ok": true, "command": "install-links", "links": made}))?;
    }
    Ok(Exit::Done)
}

/// Makes a link; one that leads here already is fine, anything else stays unless `force`.
fn place(link: &Path, program: &Path, force: bool) -> io::Result<()> {
    match symlink(program, link) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if fs::canonicalize(link).is_ok_and(|there| there == program) {
                return Ok(());
            }
            if !force {
                return Err(error);
            }
            fs::remove_file(link)?;
            symlink(program, link)
        }
        other => other,
    }
}
