//! Which files are configuration files, whose dialect they speak, and reading them within limits.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::json;
use crate::config::problem::{Kind, Problem, shorten};
use crate::config::procfile;
use crate::config::resolve::Dialect;
use crate::sys::describe;

/// Looked for in the current directory when no file is named; the first one counts.
pub const DEFAULT_FILES: [&str; 9] = [
    "pmd.json",
    "pmd.toml",
    "pmd.yml",
    "ecosystem.config.js",
    "ecosystem.config.cjs",
    "ecosystem.config.mjs",
    "ecosystem.config.json",
    "process.json",
    "Procfile",
];

/// What a configuration file is written in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    Json,
    /// To be evaluated by the user's node; the result is JSON.
    JavaScript,
    Procfile,
    Toml,
    Yaml,
}

impl Format {
    /// The format of a configuration file by its name; `None`: not a configuration file.
    ///
    /// A plain `.js` file is a program; only `*.config.js` (`cjs`, `mjs`) is configuration.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        if name.starts_with("Procfile") {
            return Some(Self::Procfile);
        }
        let (stem, extension) = name.rsplit_once('.')?;
        match extension {
            "json" => Some(Self::Json),
            "toml" => Some(Self::Toml),
            "yml" | "yaml" => Some(Self::Yaml),
            "js" | "cjs" | "mjs" if stem.ends_with(".config") => Some(Self::JavaScript),
            _ => None,
        }
    }
}

impl Dialect {
    /// Who the file was written for, by its name: PM2 for `ecosystem.*`, `*.config.*`,
    /// `process.json` and what is no pmd format, pmd for the rest.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        let is_pm2 = name.starts_with("ecosystem.")
            || name.starts_with("Procfile")
            || name.contains(".config.")
            || name == "process.json";
        if is_pm2 { Self::Pm2 } else { Self::Pmd }
    }
}

/// Reads a configuration file into one JSON value, and the text in which its positions are (empty
/// for a Procfile); `shown` is its name in errors.
///
/// JavaScript is refused: who may evaluate it does so before, and hands the result to
/// [`json::parse`].
///
/// # Errors
///
/// Everything that is wrong with the file itself; nothing of what its fields mean.
pub fn document(path: &Path, shown: &str) -> Result<(Value, String), Vec<Problem>> {
    let one = |problem: Problem| vec![problem];
    let bytes = content(path, shown).map_err(one)?;
    match Format::of(path) {
        Some(Format::Procfile) => {
            let text = json::text(shown, &bytes).map_err(one)?;
            let beside = path.with_file_name(".env");
            let env_file = beside.is_file().then_some(beside.as_path());
            procfile::document(shown, text, env_file).map(|value| (value, String::new()))
        }
        Some(Format::Toml) => Err(one(not_built("TOML"))),
        Some(Format::Yaml) => Err(one(not_built("YAML"))),
        Some(Format::JavaScript) => {
            let message = format!("{} needs node to be read", shorten(shown));
            let hint = "on a host with node: pmd export --format json > pmd.json";
            Err(one(Problem::new(message).hint(hint)))
        }
        Some(Format::Json) | None => {
            let text = json::text(shown, &bytes).map_err(one)?;
            Ok((json::parse_text(shown, text)?, text.to_owned()))
        }
    }
}

/// The content of a configuration file; `shown` is its name in errors.
///
/// # Errors
///
/// Missing, a directory, unreadable, or larger than [`json::MAX_SIZE`].
pub fn content(path: &Path, shown: &str) -> Result<Vec<u8>, Problem> {
    let name = shorten(shown);
    read(path, json::MAX_SIZE as u64).map_err(|error| match error {
        ReadError::Missing => Problem::new(format!("no such file: '{name}'")),
        ReadError::Directory => Problem::new(format!("'{name}' is a directory")),
        ReadError::NotRegular => Problem::new(format!("'{name}' is not a regular file")),
        ReadError::TooLarge(limit) => {
            Problem::new(format!("'{name}' is too large: the limit is {} MiB", limit >> 20))
        }
        ReadError::Other(error) => {
            Problem::new(format!("cannot read '{name}': {}", describe(&error)))
                .of_kind(kind(&error))
        }
    })
}

/// A format that this build does not read.
#[must_use]
pub fn not_built(format: &str) -> Problem {
    Problem::new(format!("this pmd was built without {format}")).hint("pmd.json, or the full build")
}

/// Why a file could not be read.
#[derive(Debug)]
pub enum ReadError {
    Missing,
    Directory,
    /// A pipe, a device, a socket: reading it might never end.
    NotRegular,
    /// The limit, in bytes.
    TooLarge(u64),
    Other(io::Error),
}

impl ReadError {
    /// What a failure to read means for who asked.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Missing | Self::Directory | Self::NotRegular | Self::TooLarge(_) => Kind::Invalid,
            Self::Other(error) => kind(error),
        }
    }
}

/// The end of a sentence that begins with the file's name.
impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("it does not exist"),
            Self::Directory => f.write_str("it is a directory"),
            Self::NotRegular => f.write_str("it is not a regular file"),
            Self::TooLarge(limit) => {
                write!(f, "it is too large: the limit is {} MiB", limit >> 20)
            }
            Self::Other(error) => f.write_str(&describe(error)),
        }
    }
}

/// As [`read`], but never waits: what is no regular file is not opened.
///
/// # Errors
///
/// See [`ReadError`].
pub fn read_regular(path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() && !metadata.is_dir() => Err(ReadError::NotRegular),
        Ok(_) | Err(_) => read(path, limit),
    }
}

/// Reads a whole file of at most `limit` bytes; waits for a pipe.
///
/// # Errors
///
/// See [`ReadError`].
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
    let missing = |error: io::Error| {
        let is_missing = error.kind() == io::ErrorKind::NotFound;
        if is_missing { ReadError::Missing } else { ReadError::Other(error) }
    };
    let file = File::open(path).map_err(missing)?;
    let metadata = file.metadata().map_err(ReadError::Other)?;
    if metadata.is_dir() {
        return Err(ReadError::Directory);
    }
    if metadata.len() > limit {
        return Err(ReadError::TooLarge(limit));
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(ReadError::Other)?;
    if bytes.len() as u64 > limit {
        return Err(ReadError::TooLarge(limit));
    }
    Ok(bytes)
}

fn kind(error: &io::Error) -> Kind {
    let is_permission = error.kind() == io::ErrorKind::PermissionDenied;
    if is_permission { Kind::NotPermitted } else { Kind::Failed }
}

/// `path` below `dir`, `~/` meaning `home`; without looking at the file system.
#[must_use]
pub fn absolute(dir: &Path, home: Option<&str>, path: &str) -> PathBuf {
    let below_home = if path == "~" { Some("") } else { path.strip_prefix("~/") };
    let full = match (below_home, home) {
        (Some(rest), Some(home)) => Path::new(home).join(rest),
        (Some(_) | None, _) => dir.join(path),
    };
    // Components drop `.` inside; `..` stays, since a symbolic link may stand before it.
    full.components().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_format_and_dialect() {
        for (name, format, dialect) in [
            ("pmd.json", Some(Format::Json), Dialect::Pmd),
            ("conf/apps.json", Some(Format::Json), Dialect::Pmd),
            ("process.json", Some(Format::Json), Dialect::Pm2),
            ("ecosystem.json", Some(Format::Json), Dialect::Pm2),
            ("my.config.cjs", Some(Format::JavaScript), Dialect::Pm2),
            ("ecosystem.config.mjs", Some(Format::JavaScript), Dialect::Pm2),
            ("Procfile", Some(Format::Procfile), Dialect::Pm2),
            ("Procfile.dev", Some(Format::Procfile), Dialect::Pm2),
            ("pmd.toml", Some(Format::Toml), Dialect::Pmd),
            ("pmd.yaml", Some(Format::Yaml), Dialect::Pmd),
            ("app.js", None, Dialect::Pmd),
            ("config.js", None, Dialect::Pmd),
            ("json", None, Dialect::Pmd),
        ] {
            assert_eq!(Format::of(Path::new(name)), format, "{name}");
            assert_eq!(Dialect::of(Path::new(name)), dialect, "{name}");
        }
    }

    #[test]
    fn a_file_that_is_no_configuration_gets_one_sentence() {
        let dir = std::env::temp_dir().join(format!("pmd-files-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("d.json")).unwrap();
        let error = |name: &str| {
            let problems = document(&dir.join(name), name).unwrap_err();
            assert_eq!(problems.len(), 1);
            problems[0].to_string()
        };
        assert_eq!(error("none.json"), "no such file: 'none.json'");
        assert_eq!(error("d.json"), "'d.json' is a directory");
        std::fs::write(dir.join("big.json"), b"").unwrap();
        File::options()
            .write(true)
            .open(dir.join("big.json"))
            .unwrap()
            .set_len(100 * 1024 * 1024)
            .unwrap();
        assert_eq!(error("big.json"), "'big.json' is too large: the limit is 16 MiB");
        std::fs::write(dir.join("x.yml"), b"apps: []").unwrap();
        assert_eq!(
            error("x.yml"),
            "this pmd was built without YAML (try: pmd.json, or the full build)"
        );
        std::fs::write(dir.join("x.toml"), b"[[apps]]").unwrap();
        std::fs::write(dir.join("x.config.js"), b"module.exports = {}").unwrap();
        assert!(error("x.config.js").starts_with("x.config.js needs node to be read"));
        assert!(error("x.toml").starts_with("this pmd was built without TOML"));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn paths_become_absolute() {
        let full = |path: &str| absolute(Path::new("/srv"), Some("/home/u"), path);
        assert_eq!(full("app.js"), Path::new("/srv/app.js"));
        assert_eq!(full("./a/./b.js"), Path::new("/srv/a/b.js"));
        assert_eq!(full("~/x"), Path::new("/home/u/x"));
        assert_eq!(full("~"), Path::new("/home/u"));
        assert_eq!(full("/abs"), Path::new("/abs"));
        assert_eq!(full("~x"), Path::new("/srv/~x"));
    }
}
