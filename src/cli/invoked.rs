//! The name by which this program was called. PM2's names are links to it.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// PM2's names.
pub const NAMES: [&str; 3] = ["pm2", "pm2-runtime", "pm2-docker"];

/// Who it is to be.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Invoked {
    #[default]
    Pmd,
    /// The same commands; a daemon is started by any of them, exit codes are 0 and 1, and what
    /// scripts are known to read looks as PM2 prints it.
    Pm2,
    /// `pmd run`.
    Runtime,
}

impl Invoked {
    /// By the first word of the command line.
    #[must_use]
    pub fn by(first: Option<&OsStr>) -> Self {
        let name = first.map(Path::new).and_then(Path::file_name).and_then(OsStr::to_str);
        match name {
            Some("pm2") => Self::Pm2,
            Some("pm2-runtime" | "pm2-docker") => Self::Runtime,
            Some(_) | None => Self::Pmd,
        }
    }

    /// The words after the name, as `pmd` would be given them.
    #[must_use]
    pub fn words(self, mut words: Vec<OsString>) -> Vec<OsString> {
        if self == Self::Runtime {
            let is_word = |word: &OsString| !word.to_string_lossy().starts_with('-');
            // `pm2-runtime start app.js` is `pm2-runtime app.js`.
            if words.first().is_some_and(|word| word == "start")
                && words.get(1).is_some_and(is_word)
            {
                words.remove(0);
            }
            let asks = |word: &OsString| word == "--help" || word == "--version" || word == "-V";
            if !words.first().is_some_and(asks) {
                words.insert(0, "run".into());
            }
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(name: &str, rest: &[&str]) -> Vec<String> {
        let rest = rest.iter().map(OsString::from).collect();
        let words = Invoked::by(Some(OsStr::new(name))).words(rest);
        words.into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn a_name_decides_whatever_lies_before_it() {
        for (first, invoked) in [
            ("/usr/bin/pm2", Invoked::Pm2),
            ("pm2-docker", Invoked::Runtime),
            ("./pmd", Invoked::Pmd),
            ("pm2x", Invoked::Pmd),
        ] {
            assert_eq!(Invoked::by(Some(OsStr::new(first))), invoked, "{first}");
        }
        assert_eq!(Invoked::by(None), Invoked::Pmd);
    }

    #[test]
    fn the_runtime_runs() {
        assert_eq!(words("pm2-runtime", &["app.js", "-i", "2"]), ["run", "app.js", "-i", "2"]);
        assert_eq!(words("pm2-docker", &["start", "app.js"]), ["run", "app.js"]);
        assert_eq!(words("pm2-runtime", &["start"]), ["run", "start"]);
        assert_eq!(words("pm2-runtime", &["--version"]), ["--version"]);
        assert_eq!(words("pm2", &["ls"]), ["ls"]);
    }
}
