//! Declarations: app files, settings and command lines to valid specs.
//!
//! A file becomes a JSON value (`files`, `json`, `procfile`), the value becomes specs (`resolve`),
//! and a spec says before it is started why it cannot run (`preflight`). Reads files; starts
//! nothing, keeps nothing.

/// What users may write about an app.
pub mod agent;
pub mod app;
/// One app's fields to a spec.
mod assemble;
/// Its environment.
mod assemble_env;
/// Its output.
mod assemble_logs;
/// Its ports and its health check.
mod assemble_serving;
mod assemble_sharing;
/// When it is started again by itself.
mod assemble_times;
/// A spec as the fields of an app file again.
pub mod definition;
/// Changing a settings file.
pub mod edit;
/// Environment files.
pub mod envfile;
/// What is inherited, and `${NAME}`.
pub mod environment;
/// What runs, as a file of another tool.
pub mod export;
/// Compose services and systemd units.
mod export_units;
/// The fields of one app, each with its type.
mod fields;
/// Configuration files by name, and reading them.
pub mod files;
/// Patterns of paths.
pub mod glob;
/// Users, mounts and limits of this host.
mod host;
/// The hub of ipevents.
pub mod hub;
/// JSON text to a value, with limits.
pub mod json;
/// Where things stand in a JSON text.
pub mod locate;
/// What may be a name.
pub mod names;
/// In which order apps start.
pub mod order;
/// Where everything lies.
pub mod paths;
/// What PM2's client declares, as a spec.
pub mod pm2;
/// Why a program cannot run.
pub mod preflight;
/// What is wrong with a declaration, and where.
pub mod problem;
/// Procfiles.
pub mod procfile;
/// What a script is and what runs it.
pub mod program;
/// Declarations to specs.
pub mod resolve;
/// Which values are not shown.
pub mod secrets;
/// The daemon's settings.
pub mod settings;
/// "Did you mean".
pub mod suggest;
/// Times and sizes.
pub mod units;
/// URLs of health checks.
pub mod url;
/// The web interface.
pub mod web;
/// Command lines as words.
pub mod words;

pub use definition::{definition, effective};
pub use environment::{base_environment, strip_shell_noise};
pub use order::order;
pub use paths::Paths;
pub use problem::Problem;
pub use resolve::{Defaults, Dialect, Origin, Resolved, app, apps};
pub use settings::Settings;

#[cfg(test)]
mod tests;
