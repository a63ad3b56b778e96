//! What a script is and what runs it, by looking at the file.
//!
//! Reads at most the head of a file; starts nothing.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The `PATH` of an app whose environment has none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How much of a file is looked at, in bytes. The kernel looks at 256 for `#!`; the program
/// headers of an ELF file come right behind its own.
const HEAD: u64 = 4096;

/// What the name of a script ends in, and what runs it; of several the first one in `PATH`.
const INTERPRETERS: &[(&str, &[&str])] = &[
    ("js", &["node"]),
    ("cjs", &["node"]),
    ("mjs", &["node"]),
    ("py", &["python3", "python"]),
    ("sh", &["bash", "sh"]),
    ("rb", &["ruby"]),
    ("php", &["php"]),
    ("pl", &["perl"]),
    ("ts", &["bun", "tsx"]),
    ("tsx", &["bun", "tsx"]),
];

/// The programs that run files with this one's extension.
#[must_use]
pub fn interpreters(script: &Path) -> Option<&'static [&'static str]> {
    let extension = script.extension()?.to_str()?;
    INTERPRETERS.iter().find(|(known, _)| *known == extension).map(|&(_, programs)| programs)
}

/// What runs `script` when nobody says it: nothing, if it is a program or has a `#!` line and
/// may be executed; else what its extension asks for.
///
/// `by_extension`: leave the `#!` line aside (there are arguments for the interpreter).
#[must_use]
pub fn interpreter_for(script: &Path, path: &str, by_extension: bool) -> Option<&'static str> {
    let programs = interpreters(script)?;
    if is_executable(script) {
        match Head::read(script) {
            Some(Head { content: Content::Elf(_), .. }) => return None,
            Some(Head { content: Content::Script(_), .. }) if !by_extension => return None,
            Some(_) | None => {}
        }
    }
    let present = |name: &&&str| find_in_path(name, path, Path::new("/")).is_some();
    programs.iter().find(present).or_else(|| programs.first()).copied()
}

/// The first executable file called `name` in the directories of `path`; relative ones are below
/// `cwd`.
#[must_use]
pub fn find_in_path(name: &str, path: &str, cwd: &Path) -> Option<PathBuf> {
    if name.is_empty() || name.contains('/') {
        return None;
    }
    path.split(':').map(|dir| cwd.join(dir).join(name)).find(|file| is_executable(file))
}

/// Programs that speak over the channel that `NODE_CHANNEL_FD` names.
const RUNTIMES: [&str; 4] = ["node", "nodejs", "bun", "deno"];

/// Whether a program is one of Node's kind; `look_inside`: or a script that one of them runs.
#[must_use]
pub fn is_node(program: &Path, look_inside: bool) -> bool {
    let is_runtime =
        |path: &Path| path.file_name().is_some_and(|name| RUNTIMES.iter().any(|&it| name == it));
    if is_runtime(program) || !look_inside {
        return is_runtime(program);
    }
    match Head::read(program).map(|head| head.content) {
        Some(Content::Script(line)) => line
            .by_env()
            .map_or_else(|| is_runtime(&line.program), |name| is_runtime(Path::new(name))),
        Some(Content::Elf(_) | Content::Foreign(_) | Content::Other) | None => false,
    }
}

/// Whether somebody may execute this file.
#[must_use]
pub fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// What the first bytes of a file tell.
#[derive(Debug)]
pub struct Head {
    pub content: Content,
}

/// The kinds of executable files.
#[derive(Debug, Eq, PartialEq)]
pub enum Content {
    Elf(Elf),
    /// Begins with `#!`.
    Script(Shebang),
    /// A program of another system: its name.
    Foreign(&'static str),
    Other,
}

/// An ELF file's wants.
#[derive(Debug, Eq, PartialEq)]
pub struct Elf {
    /// The architecture by Rust's name; `None`: one that is not in the table.
    pub machine: Option<&'static str>,
    /// The dynamic loader (`PT_INTERP`).
    pub loader: Option<PathBuf>,
}

/// A `#!` line.
#[derive(Debug, Eq, PartialEq)]
pub struct Shebang {
    pub program: PathBuf,
    /// What follows, as the one argument the kernel makes of it.
    pub argument: Option<String>,
    /// The line ends in CR LF, and the kernel takes the CR for part of the name.
    pub crlf: bool,
}

impl Head {
    /// Looks at the head of a regular file; `None` if it cannot be read.
    #[must_use]
    pub fn read(path: &Path) -> Option<Self> {
        if !std::fs::metadata(path).ok()?.is_file() {
            return None;
        }
        let mut bytes = Vec::new();
        File::open(path).ok()?.take(HEAD).read_to_end(&mut bytes).ok()?;
        Some(Self { content: Content::of(&bytes) })
    }
}

impl Content {
    /// Judges a file by its first bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        if bytes.starts_with(b"\x7fELF") {
            return Self::Elf(Elf::of(bytes));
        }
        if let Some(rest) = bytes.strip_prefix(b"#!") {
            return Shebang::of(rest).map_or(Self::Other, Self::Script);
        }
        if bytes.starts_with(b"MZ") {
            return Self::Foreign("Windows");
        }
        let mach_o = [[0xcf, 0xfa, 0xed, 0xfe], [0xce, 0xfa, 0xed, 0xfe], [0xca, 0xfe, 0xba, 0xbe]];
        if mach_o.iter().any(|magic| bytes.starts_with(magic)) {
            return Self::Foreign("macOS");
        }
        Self::Other
    }
}

impl Shebang {
    fn of(bytes: &[u8]) -> Option<Self> {
        let line = bytes.split(|&byte| byte == b'\n').next()?;
        let crlf = line.ends_with(b"\r");
        let line = String::from_utf8_lossy(line);
        let line = line.trim();
        let (program, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let argument = argument.trim();
        (!program.is_empty()).then(|| Self {
            program: PathBuf::from(program),
            argument: (!argument.is_empty()).then(|| argument.to_owned()),
            crlf,
        })
    }

    /// The program that `env` is to look up, for `#!/usr/bin/env [-S] NAME`.
    #[must_use]
    pub fn by_env(&self) -> Option<&str> {
        if self.program.file_name()? != "env" {
            return None;
        }
        self.argument
            .as_deref()?
            .split_ascii_whitespace()
            .find(|word| !word.starts_with('-') && !word.contains('='))
    }
}

impl Elf {
    /// `EM_*` numbers of the ELF specification.
    const MACHINES: [(u16, &'static str); 9] = [
        (3, "x86"),
        (8, "mips"),
        (20, "powerpc"),
        (21, "powerpc64"),
        (22, "s390x"),
        (40, "arm"),
        (62, "x86_64"),
        (183, "aarch64"),
        (243, "riscv64"),
    ];

    fn of(bytes: &[u8]) -> Self {
        let view = View { bytes, big: bytes.get(5) == Some(&2) };
        let machine = view.number(18, 2).and_then(|raw| {
            Self::MACHINES.iter().find(|&&(id, _)| u64::from(id) == raw).map(|&(_, name)| name)
        });
        Self { machine, loader: view.loader() }
    }
}

/// Numbers inside an ELF file's head; everything outside of it is `None`.
struct View<'a> {
    bytes: &'a [u8],
    big: bool,
}

impl View<'_> {
    fn number(&self, at: usize, size: usize) -> Option<u64> {
        let field = self.bytes.get(at..at.checked_add(size)?)?;
        let join = |number: u64, &byte: &u8| (number << 8) | u64::from(byte);
        Some(if self.big { field.iter().fold(0, join) } else { field.iter().rev().fold(0, join) })
    }

    fn offset(&self, at: usize, size: usize) -> Option<usize> {
        usize::try_from(self.number(at, size)?).ok()
    }

    /// The path in the `PT_INTERP` segment.
    fn loader(&self) -> Option<PathBuf> {
        let wide = self.bytes.get(4) == Some(&2);
        let table = if wide { self.offset(32, 8)? } else { self.offset(28, 4)? };
        let (entry_size, count) = if wide {
            (self.offset(54, 2)?, self.offset(56, 2)?)
        } else {
            (self.offset(42, 2)?, self.offset(44, 2)?)
        };
        for index in 0..count.min(64) {
            let entry = table.checked_add(index.checked_mul(entry_size)?)?;
            if self.number(entry, 4)? != 3 {
                continue;
            }
            let (start, size) = if wide {
                (self.offset(entry + 8, 8)?, self.offset(entry + 32, 8)?)
            } else {
                (self.offset(entry + 4, 4)?, self.offset(entry + 16, 4)?)
            };
            let name = self.bytes.get(start..start.checked_add(size)?)?;
            let name = name.split(|&byte| byte == 0).next()?;
            return Some(PathBuf::from(std::str::from_utf8(name).ok()?));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_bang_line_is_understood() {
        let shebang = |line: &str| match Content::of(line.as_bytes()) {
            Content::Script(shebang) => shebang,
            other @ (Content::Elf(_) | Content::Foreign(_) | Content::Other) => panic!("{other:?}"),
        };
        let env = shebang("#!/usr/bin/env node\nrest");
        assert_eq!(env.by_env(), Some("node"));
        assert!(!env.crlf);
        assert_eq!(shebang("#! /usr/bin/env -S A=1 deno run\n").by_env(), Some("deno"));
        let crlf = shebang("#!/bin/sh -e\r\nrest");
        assert_eq!(crlf.program, Path::new("/bin/sh"));
        assert_eq!(crlf.argument.as_deref(), Some("-e"));
        assert!(crlf.crlf);
        assert_eq!(crlf.by_env(), None);
        assert_eq!(Content::of(b"#!"), Content::Other);
        assert_eq!(Content::of(b"#!\n"), Content::Other);
    }

    #[test]
    fn a_program_tells_its_machine_and_loader() {
        let own = Head::read(&std::env::current_exe().unwrap()).unwrap();
        let Content::Elf(elf) = own.content else { panic!("not ELF") };
        assert_eq!(elf.machine, Some(std::env::consts::ARCH));
        if let Some(loader) = elf.loader {
            assert!(loader.is_absolute());
        }
    }

    #[test]
    fn a_damaged_program_is_still_only_a_file() {
        let mut bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        bytes.truncate(4096);
        for at in 4..256 {
            let old = bytes[at];
            for value in [0, 1, 2, 0x7f, 0xff] {
                bytes[at] = value;
                let _ = Content::of(&bytes);
            }
            bytes[at] = old;
            let _ = Content::of(&bytes[..at]);
        }
    }

    #[test]
    fn an_executable_with_its_own_interpreter_needs_no_other() {
        let dir = std::env::temp_dir().join(format!("pmd-program-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("app.pl");
        std::fs::write(&file, "#!/bin/sh\n").unwrap();
        assert_eq!(interpreter_for(&file, "/nonexistent", false), Some("perl"));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(interpreter_for(&file, "/nonexistent", false), None);
        assert_eq!(interpreter_for(&file, "/nonexistent", true), Some("perl"));
        std::fs::write(&file, "print 1").unwrap();
        assert_eq!(interpreter_for(&file, "/nonexistent", false), Some("perl"));
        assert_eq!(interpreter_for(&dir.join("x.py"), "/nonexistent", false), Some("python3"));
        std::fs::write(dir.join("python"), "").unwrap();
        std::fs::set_permissions(dir.join("python"), std::fs::Permissions::from_mode(0o755))
            .unwrap();
        let path = dir.to_str().unwrap();
        assert_eq!(interpreter_for(&dir.join("x.py"), path, false), Some("python"));
        assert_eq!(interpreter_for(&dir.join("x.bin"), path, false), None);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
