//! The list as PM2 saves it, for the way back.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use serde_json::Value;

use crate::daemon::Daemon;
use crate::sys::describe;

impl Daemon {
    /// Writes `dump.pm2`, as PM2 does when a signal ends it. Only where PM2's clients are at home:
    /// the list of a PM2 that nobody has left yet stays as it is.
    pub(in crate::daemon) fn dump_pm2(&mut self) {
        if self.supervisor.processes().all(|process| process.spec().pm2.is_none()) {
            return;
        }
        let Some(path) = self.pm2.paths.as_ref().map(|paths| paths.dump.clone()) else { return };
        let records: Vec<Value> =
            self.all_ids().into_iter().filter_map(|id| self.saved_record(id)).collect();
        let text = Value::Array(records).to_string();
        let write = || -> io::Result<()> {
            let new = path.with_added_extension("new");
            let _ = std::fs::remove_file(&new);
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            let _ = std::fs::rename(&path, path.with_added_extension("bak"));
            std::fs::rename(&new, &path)
        };
        if let Err(error) = write() {
            let place = path.display();
            self.own_log.warn(format_args!("cannot write {place}: {}", describe(&error)));
        }
    }
}
