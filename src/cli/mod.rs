//! The user: what is typed, what is printed, what the shell is told.
//!
//! Talks to the daemon over its control socket and knows nothing of its inside.

/// Configuration files to definitions.
mod app_files;
/// Words to a command.
mod args;
/// Programs that the command line itself starts.
/// The control socket.
mod client;
/// What the commands do.
mod commands;
/// Which daemon.
mod daemons;
/// One process as the daemon describes it.
mod entry;
/// What goes wrong, as the user reads it.
mod error;
/// Exit codes.
mod exit;
/// Patterns for names.
mod glob;
/// The table of commands and options.
mod grammar;
/// By which name it was called.
mod invoked;
/// Configuration files that are programs.
mod javascript;
/// What people read.
mod output;
/// A process as the REST interface shows it.
mod rest_view;
/// stdout and stderr.
mod screen;
/// One run.
mod session;
/// What the user names.
mod targets;

use std::ffi::OsString;
use std::process::ExitCode;

use args::{Global, Wish};
use commands::help;
use error::{End, Failure};
use exit::Exit;
use invoked::Invoked;
use screen::Screen;
use session::Session;

use crate::base::Signal;
use crate::json::json;
use crate::keeper;
use crate::sys::signals;

/// What a command ends with.
type Run = Result<Exit, End>;

/// Runs the command line.
#[must_use]
pub fn main() -> ExitCode {
    let mut words = std::env::args_os();
    if std::env::args_os().next().is_some_and(|name| name == keeper::NAME) {
        return keeper::run(&words.skip(1).collect::<Vec<_>>());
    }
    let invoked = Invoked::by(words.next().as_deref());
    let words: Vec<OsString> = invoked.words(words.collect());
    let json = args::wants_json(&words);
    let wish = args::parse(words);
    let mut global = match &wish {
        Ok(Wish::Run(parsed)) => parsed.global(),
        Ok(Wish::Help(_) | Wish::Version | Wish::Nothing | Wish::BuiltIn(_)) | Err(_) => {
            Global { json, ..Global::default() }
        }
    };
    global.invoked = invoked;
    let screen = Screen::new(&global);
    let mut session = Session::new(global, screen);
    carry_out(&mut session, wish)
}

/// Does what is wished, and tells what goes wrong with it.
fn carry_out(session: &mut Session, wish: Result<Wish, Failure>) -> ExitCode {
    let run = match wish {
        Ok(wish) => fulfil(session, wish),
        Err(failure) => Err(failure.into()),
    };
    let run = run.and_then(|exit| {
        session.screen.flush()?;
        Ok(exit)
    });
    let exit_code = |session: &Session, exit: Exit| match session.global.invoked {
        Invoked::Pm2 if exit != Exit::Done => ExitCode::from(1),
        Invoked::Pm2 | Invoked::Pmd | Invoked::Runtime => exit.into(),
    };
    match run {
        Ok(exit) => exit_code(session, exit),
        Err(End::PipeClosed) => Exit::Done.into(),
        Err(End::WasDaemon(code)) => code,
        Err(End::Failed(failure)) => {
            if session.screen.json {
                let document = json!({"ok": false, "error": failure.to_json()});
                // Nobody is left to tell of a stdout that cannot be written.
                let _ = session.screen.document(&document);
                let _ = session.screen.flush();
            } else {
                session.screen.failure(&failure);
            }
            exit_code(session, failure.exit)
        }
    }
}

fn fulfil(session: &mut Session, wish: Wish) -> Run {
    match wish {
        Wish::Run(parsed) => {
            // The daemon has an orderly end of its own; nothing else has anything to tidy up.
            if !matches!(parsed.command.name, "daemon" | "run") {
                signals::exit_on(&[Signal::INT, Signal::TERM]);
            }
            if session.global.invoked == Invoked::Pm2 && parsed.command.is_about_processes() {
                session.need_daemon()?;
            }
            (parsed.command.run)(session, &parsed)
        }
        Wish::Help(Some(command)) => help::of_command(session, command),
        Wish::Help(None) => help::print(session),
        Wish::Version => {
            if session.screen.json {
                session.screen.document(&json!({"version": help::VERSION}))?;
            } else {
                session.screen.line(&format!("pmd {}", help::VERSION))?;
            }
            Ok(Exit::Done)
        }
        Wish::BuiltIn(text) => {
            if session.screen.json {
                session.screen.document(&json!({"ok": true, "message": text}))?;
            } else {
                session.screen.result(text)?;
            }
            Ok(Exit::Done)
        }
        Wish::Nothing if session.screen.json => {
            Err(Failure::usage("no command").hint("pmd help").into())
        }
        Wish::Nothing => {
            session.screen.say(help::short().trim_end());
            Ok(Exit::Usage)
        }
    }
}
