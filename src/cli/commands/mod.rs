//! What the commands do, one file for each family.

/// stop, restart, reload, delete, scale, signal, reset, send, trigger.
pub mod act;
/// link, unlink, agent.
pub mod agent;
/// apply.
pub mod apply;
/// daemon.
pub mod daemon;
/// doctor.
pub mod doctor;
/// events.
pub mod events;
/// resurrect --from-pm2.
pub mod from_pm2;
/// help and version.
pub mod help;
/// init and check.
pub mod init;
/// ipc.
pub mod ipc;
/// install-links.
pub mod links;
/// list.
pub mod list;
/// logs.
pub mod logs;
/// show, slist, env, pid, id, jlist, prettylist.
pub mod look;
/// How actions are asked for and reported.
pub mod outcome;
/// What PM2 prints.
pub mod pm2;
/// run.
pub mod run;
/// is-online, wait, ping.
pub mod script;
/// start.
pub mod settings;
pub mod start;
/// The options of start as fields of an app file.
pub mod start_options;
/// flush, rotate, reloadLogs, save, resurrect, export, kill.
pub mod state;
pub mod web_options;
