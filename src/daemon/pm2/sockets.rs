//! Where PM2's clients look for a daemon, and who may come in.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use mio::net::{UnixListener, UnixStream};

use crate::config::paths::{MAX_SOCKET_PATH, Pm2Paths};
use crate::daemon::Daemon;
use crate::daemon::accept::Door;
use crate::daemon::key::ConnId;
use crate::daemon::socket::{Acceptor, Peer};
use crate::proto::buffer::Outbox;
use crate::proto::pm2::bus::{self, Bus};
use crate::proto::pm2::methods::METHODS;
use crate::proto::pm2::rpc::{REPLY_QUEUE, Rpc};
use crate::proto::protocol::Protocol;
use crate::sys::{describe, kill, peer, process};

/// The one who asks for another owner of the sockets.
pub(in crate::daemon) struct Owner {
    uid: u32,
    gid: u32,
}

/// What is to listen where.
type Places = Vec<(PathBuf, Door)>;

impl Daemon {
    /// Begins to serve PM2's clients, unless that is switched off or a daemon of PM2 does it. What
    /// goes wrong is said once; supervision goes on without.
    pub(in crate::daemon) fn open_pm2(&mut self) {
        if self.pm2.paths.is_some() || self.container.is_some() || !self.settings.pm2.enabled {
            return;
        }
        let paths = match &self.settings.pm2.home {
            Some(home) => Some(Pm2Paths::below(home)),
            None => self.paths.pm2.clone(),
        };
        let Some(paths) = paths else { return };
        self.pm2.version.clone_from(&self.settings.pm2.version);
        self.pm2.trouble = None;
        if let Err(why) = self.serve_pm2(&paths) {
            for path in self.pm2.files.drain(..) {
                let _ = fs::remove_file(path);
            }
            self.own_log.warn(format_args!("PM2 interface off: {why}"));
            self.pm2.trouble = Some(why);
            return;
        }
        self.pm2.paths = Some(paths);
        // `PM2_HOME` is among their variables from now on.
        self.launcher.start_afresh();
    }

    fn serve_pm2(&mut self, paths: &Pm2Paths) -> Result<(), String> {
        let cannot = |what: &Path, error: &io::Error| {
            format!("cannot use {}: {}", what.display(), describe(error))
        };
        let mut places: Places =
            vec![(paths.rpc.clone(), Door::Pm2Rpc), (paths.bus.clone(), Door::Pm2Bus)];
        let mut homes = vec![paths.home.clone()];
        if let Some(second) = paths.second_home() {
            let also = Pm2Paths::below(&second);
            homes.push(second);
            places.extend([(also.rpc, Door::Pm2Rpc), (also.bus, Door::Pm2Bus)]);
        }
        for home in &homes {
            directory(home).map_err(|error| cannot(home, &error))?;
        }
        // Where one home is a link to the other.
        places.dedup_by_key(|(path, _)| real(path));
        if let Some((path, pid)) = places.iter().find_map(|(path, _)| Some((path, lives(path)?))) {
            let home = path.parent().unwrap_or(path).display();
            return Err(match pid {
                Some(pid) => format!("a PM2 daemon (pid {pid}) owns {home}"),
                None => format!("a PM2 daemon owns {home}"),
            });
        }
        let owner = owner();
        self.pm2.open = owner.is_some();
        for (path, door) in places {
            let listener = listen(&path, owner.as_ref()).map_err(|error| cannot(&path, &error))?;
            self.pm2.files.push(path.clone());
            self.connections
                .listen(&mut self.reactor, Acceptor::Unix(listener), door)
                .map_err(|error| cannot(&path, &error))?;
        }
        // For people, and for PM2's own checks; never read here.
        let pid = process::own_pid().to_string();
        fs::write(&paths.pid, pid).map_err(|error| cannot(&paths.pid, &error))?;
        self.pm2.files.push(paths.pid.clone());
        Ok(())
    }

    /// The protocol behind a door of PM2's; `None`: this peer may not come in.
    pub(in crate::daemon) fn greet_pm2(
        &self,
        peer: &Peer,
        bus: bool,
    ) -> Option<(Protocol, Outbox)> {
        if !peer.is_owner() && !self.pm2.open {
            return None;
        }
        Some(if bus {
            (Protocol::Pm2Bus(Bus), Outbox::new(bus::NEWS_QUEUE, bus::QUEUE))
        } else {
            (Protocol::Pm2Rpc(Rpc::new(METHODS)), Outbox::new(REPLY_QUEUE, 0))
        })
    }

    /// A connection has ended. Where its client had said that it would end the daemon, it has gone
    /// without doing it.
    pub(in crate::daemon) fn pm2_hung_up(&mut self, id: ConnId) {
        self.pm2.being_killed = self.pm2.being_killed.filter(|&killer| killer != id);
    }

    /// Leaves nothing behind that says a daemon of PM2 is there, and tells who waits for that.
    pub(in crate::daemon) fn close_pm2(&mut self) {
        for path in self.pm2.files.drain(..) {
            let _ = fs::remove_file(path);
        }
        if let Some(pid) = self.pm2.farewell.take() {
            let _ = kill::kill(pid, crate::base::Signal::QUIT);
        }
    }
}

/// Makes a home of PM2's, as PM2's own client does.
fn directory(home: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(home)?;
    for name in ["logs", "pids"] {
        DirBuilder::new().recursive(true).mode(0o700).create(home.join(name))?;
    }
    Ok(())
}

fn real(path: &Path) -> PathBuf {
    let parent = path.parent().and_then(|parent| parent.canonicalize().ok());
    parent.unwrap_or_default().join(path.file_name().unwrap_or_default())
}

/// Whether a daemon listens there, and which process it is.
pub(in crate::daemon) fn lives(path: &Path) -> Option<Option<i32>> {
    match UnixStream::connect(path) {
        Ok(stream) => Some(peer::peer_credentials(&stream).ok()?.pid.map(crate::base::Pid::raw)),
        // So many wait for it that it must be there.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Some(None),
        Err(_) => None,
    }
}

/// Listens for the daemon's own user and root.
pub(in crate::daemon) fn listen_for_owner(path: &Path) -> io::Result<UnixListener> {
    listen(path, None)
}

/// Nobody listens there: a socket of this name is what a dead daemon left.
fn listen(path: &Path, owner: Option<&Owner>) -> io::Result<UnixListener> {
    if path.as_os_str().len() > MAX_SOCKET_PATH {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    if fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    let mode = match owner {
        Some(owner) => {
            chown(path, Some(owner.uid), Some(owner.gid))?;
            0o660
        }
        None => 0o600,
    };
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(listener)
}

/// Whom PM2's variables name, where they name both a user and a group.
fn owner() -> Option<Owner> {
    let number = |name| std::env::var(name).ok()?.parse().ok();
    Some(Owner { uid: number("PM2_SOCKET_USER")?, gid: number("PM2_SOCKET_GROUP")? })
}
