//! Which files a process writes to. Pure: names in, paths out.

use std::path::{Path, PathBuf};

use crate::base::ProcId;
use crate::supervisor::spec::{AppSpec, LogBoth, LogTarget};

/// Bytes of an app's name that are used in the name of a file.
const MAX_NAME: usize = 64;

/// Files of one process.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Files {
    /// For stdout and stderr; `None`: nowhere.
    pub logs: [Option<PathBuf>; 2],
    /// Gets both streams too.
    pub both: Option<PathBuf>,
    /// Other streams write to these files as well.
    pub shared: bool,
    pub pid_file: Option<PathBuf>,
}

impl Files {
    /// Whether a log is one of these.
    #[must_use]
    pub fn has(&self, path: &Path) -> bool {
        self.logs.iter().flatten().chain(&self.both).any(|log| log == path)
    }
}

/// Directories in which files are made that nobody named.
#[derive(Debug)]
pub struct Places {
    pub logs: PathBuf,
    pub pids: PathBuf,
    /// On a file system that is memory; found when the first log is kept there.
    pub memory: Option<PathBuf>,
    /// A container has only files that were asked for by name.
    pub container: bool,
}

impl Places {
    /// The files of an instance; see [`files`].
    #[must_use]
    pub fn files(&self, spec: &AppSpec, instance: u32, id: ProcId, distinct: bool) -> Files {
        if self.container {
            return files_of_container(spec, instance, self);
        }
        files(spec, instance, id, distinct, self)
    }

    /// What is kept in memory of one stream: a small file where files are memory. So it is moved,
    /// read, followed and found again as every other log.
    fn memory_file(&self, id: ProcId, suffix: &str) -> Option<PathBuf> {
        Some(self.memory.as_ref()?.join(format!("{id}-{suffix}.log")))
    }
}

/// Chooses the files of an instance. `distinct`: another app's name gives the same file names, so
/// the id follows the name.
fn files(spec: &AppSpec, instance: u32, id: ProcId, distinct: bool, places: &Places) -> Files {
    let Places { logs, pids, .. } = places;
    let mut stem = file_name(&spec.name);
    if distinct {
        stem = format!("{stem}-{id}");
    }
    if spec.pm2.is_some() {
        return files_of_pm2(spec, id, &stem, places);
    }
    let several = spec.instances > 1;
    let numbered = several && !spec.logs.merge;
    let own = if numbered { format!("{stem}-{instance}") } else { stem.clone() };
    let target = |target: &LogTarget, suffix: &str| match target {
        LogTarget::Default => Some(logs.join(format!("{own}-{suffix}.log"))),
        LogTarget::Nowhere => None,
        LogTarget::Memory => places.memory_file(id, suffix),
        LogTarget::File(path) if numbered => Some(with_instance(path, instance)),
        LogTarget::File(path) => Some(path.clone()),
    };
    let pair = [target(&spec.logs.out, "out"), target(&spec.logs.error, "error")];
    let both = match &spec.logs.both {
        LogBoth::No => None,
        LogBoth::Default => Some(logs.join(format!("{own}.log"))),
        LogBoth::File(path) if numbered => Some(with_instance(path, instance)),
        LogBoth::File(path) => Some(path.clone()),
    };
    let pid_file = match &spec.pid_file {
        Some(path) if several => with_instance(path, instance),
        Some(path) => path.clone(),
        None if several => pids.join(format!("{stem}-{instance}.pid")),
        None => pids.join(format!("{stem}.pid")),
    };
    let same = pair[0].is_some() && pair[0] == pair[1];
    let shared = (several && spec.logs.merge) || same;
    Files { logs: pair, both, shared, pid_file: Some(pid_file) }
}

/// The files of a process that PM2's client declared: the names that PM2 makes of the client's.
fn files_of_pm2(spec: &AppSpec, id: ProcId, stem: &str, places: &Places) -> Files {
    let Places { logs, pids, .. } = places;
    let numbered = |path: PathBuf| match spec.logs.merge {
        true => path,
        false => with_id(&path, id, "log"),
    };
    let target = |target: &LogTarget, suffix: &str| match target {
        LogTarget::Default => Some(numbered(logs.join(format!("{stem}-{suffix}.log")))),
        LogTarget::Nowhere => None,
        LogTarget::Memory => places.memory_file(id, suffix),
        LogTarget::File(path) => Some(numbered(path.clone())),
    };
    let pair = [target(&spec.logs.out, "out"), target(&spec.logs.error, "error")];
    let both = match &spec.logs.both {
        LogBoth::No => None,
        LogBoth::Default => Some(numbered(logs.join(format!("{stem}.log")))),
        LogBoth::File(path) => Some(numbered(path.clone())),
    };
    let pid_file = spec.pid_file.clone().unwrap_or_else(|| pids.join(format!("{stem}.pid")));
    let shared = pair[0].is_some() && pair[0] == pair[1];
    Files { logs: pair, both, shared, pid_file: Some(with_id(&pid_file, id, "pid")) }
}

/// `web.log` of process 2 is `web-2.log`, and so is `web-1.log`; what does not end in `extension`
/// stays.
fn with_id(path: &Path, id: ProcId, extension: &str) -> PathBuf {
    if path.extension().is_none_or(|found| found != extension) {
        return path.to_path_buf();
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let base = match stem.rsplit_once('-') {
        Some((base, digits))
            if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) =>
        {
            base
        }
        Some(_) | None => &*stem,
    };
    path.with_file_name(format!("{base}-{id}.{extension}"))
}

/// The files of an instance in a container: only those that were asked for by name.
fn files_of_container(spec: &AppSpec, instance: u32, places: &Places) -> Files {
    let all = files(spec, instance, ProcId(0), false, places);
    let keep = |path: &Option<PathBuf>, target: &LogTarget| match target {
        LogTarget::File(_) => path.clone(),
        LogTarget::Default | LogTarget::Nowhere | LogTarget::Memory => None,
    };
    let logs = [keep(&all.logs[0], &spec.logs.out), keep(&all.logs[1], &spec.logs.error)];
    let both = match &spec.logs.both {
        LogBoth::File(_) => all.both,
        LogBoth::No | LogBoth::Default => None,
    };
    Files { logs, both, pid_file: spec.pid_file.is_some().then_some(all.pid_file).flatten(), ..all }
}

/// An app's name as a part of a file name: harmless characters only.
#[must_use]
pub fn file_name(name: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let text: String =
        name.chars().take(MAX_NAME).map(|c| if harmless(c) { c } else { '-' }).collect();
    match text.strip_prefix('.') {
        Some(rest) => format!("-{rest}"),
        None => text,
    }
}

/// `web.log` of instance 2 is `web-2.log`.
fn with_instance(path: &Path, instance: u32) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let name = match path.extension() {
        Some(extension) => format!("{stem}-{instance}.{}", extension.to_string_lossy()),
        None => format!("{stem}-{instance}"),
    };
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_directory() {
        for (name, expected) in [
            ("web", "web"),
            ("a/../b", "a-..-b"),
            ("..", "-."),
            (".hidden", "-hidden"),
            ("sp ace\u{e9}", "sp-ace-"),
        ] {
            assert_eq!(file_name(name), expected);
        }
        assert_eq!(file_name(&"x".repeat(10_000)).len(), MAX_NAME);
    }

    #[test]
    fn an_id_takes_the_place_of_the_one_before() {
        for (path, expected) in [
            ("/l/web-out.log", "/l/web-out-7.log"),
            ("/l/web-out-3.log", "/l/web-out-7.log"),
            ("/l/web-.log", "/l/web--7.log"),
            ("/l/web.txt", "/l/web.txt"),
        ] {
            assert_eq!(with_id(Path::new(path), ProcId(7), "log"), Path::new(expected));
        }
    }

    #[test]
    fn instances_have_files_of_their_own() {
        assert_eq!(with_instance(Path::new("/l/web.log"), 2), Path::new("/l/web-2.log"));
        assert_eq!(with_instance(Path::new("/l/web"), 2), Path::new("/l/web-2"));
    }
}
