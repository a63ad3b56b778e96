//! What tests of this folder share: files without names, small disks, real children.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::base::{ExitStatus, Pid};
use crate::sys::args::CArgs;
use crate::sys::pidfd::PidFd;
use crate::sys::spawn::{Spawn, Spawner};
use crate::sys::{fds, proc, process, wait};

/// A path that nobody else uses.
pub fn unique_path(kind: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("pmd-{kind}-{}-{count}", std::process::id()))
}

/// An empty file without a name, on the same file system as `directory`.
pub fn nameless_file(directory: &Path) -> File {
    let path = directory.join(unique_path("file").file_name().unwrap());
    let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    file
}

/// A tmpfs of its own size, gone with the value.
#[derive(Debug)]
pub struct SmallDisk(pub PathBuf);

impl SmallDisk {
    /// `None` without the right to mount.
    pub fn mount(bytes: usize) -> Option<Self> {
        let path = unique_path("disk");
        fs::create_dir(&path).unwrap();
        let target = CString::new(path.to_str().unwrap()).unwrap();
        let options = CString::new(format!("size={bytes}")).unwrap();
        let (kind, data) = (c"tmpfs".as_ptr(), options.as_ptr().cast());
        // SAFETY: all arguments are C strings that live for the whole call.
        if unsafe { libc::mount(kind, target.as_ptr(), kind, 0, data) } != 0 {
            fs::remove_dir(&path).unwrap();
            return None;
        }
        Some(Self(path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let target = CString::new(self.0.to_str().unwrap()).unwrap();
        // SAFETY: the target is a C string that lives for the whole call.
        unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
        fs::remove_dir(&self.0).unwrap();
    }
}

pub fn strings(strings: &[&str]) -> CArgs {
    let mut args = CArgs::new();
    for string in strings {
        args.push(string).unwrap();
    }
    args
}

/// Whether this test may do what only root may.
pub fn is_root() -> bool {
    process::effective_uid() == 0
}

/// A shell with a script, what it prints and how it ends. Its standard output is a pipe of which
/// it holds the writing end alone; its standard input ends when the value does.
#[derive(Debug)]
pub struct Shell {
    pub pid: Pid,
    pub output: File,
    input: File,
}

/// A child with nothing particular about it, to be changed by struct update; program, arguments,
/// environment and descriptors are set by whoever starts it.
pub fn plain() -> Spawn<'static> {
    static NONE: CArgs = CArgs::new();
    Spawn::new(c"", &NONE, &NONE, c"/")
}

impl Shell {
    /// Starts `script`, otherwise as `spec` says.
    pub fn start(script: &str, spec: Spawn<'_>) -> Self {
        let args = strings(&["sh", "-c", script]);
        let env = strings(&["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
        Self::start_with(c"/bin/sh", &args, &env, spec)
    }

    pub fn start_with(program: &CStr, args: &CArgs, env: &CArgs, spec: Spawn<'_>) -> Self {
        let (output, theirs) = fds::pipe().unwrap();
        let (stdin, input) = fds::pipe().unwrap();
        let fds = [(0, stdin.as_fd()), (1, theirs.as_fd()), (2, theirs.as_fd())];
        let spec = Spawn { program, args, env, fds: &fds, ..spec };
        let pid = Spawner::new().unwrap().spawn(&spec).unwrap().pid;
        Self { pid, output: output.into(), input: input.into() }
    }

    /// Ends its input. All it prints then, until every holder of its output has closed it, and its
    /// end.
    pub fn finish(mut self) -> (String, ExitStatus) {
        drop(self.input);
        let mut text = String::new();
        self.output.read_to_string(&mut text).unwrap();
        (text, wait::wait_for(self.pid).unwrap())
    }

    /// The next line it prints.
    pub fn line(&mut self) -> String {
        let mut line = vec![];
        let mut byte = [0];
        while self.output.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap()
    }
}

/// What `script` prints as a child that is as `spec` says.
pub fn run(script: &str, spec: Spawn<'_>) -> String {
    let (text, status) = Shell::start(script, spec).finish();
    assert_eq!(status, ExitStatus::Code(0), "{text}");
    text
}

/// Waits until a process has ended, without reaping it.
pub fn await_end(pidfd: &PidFd) {
    wait_readable(pidfd);
}

/// Waits until there is something to be read.
pub fn wait_readable(from: &impl AsRawFd) {
    let mut poll = libc::pollfd { fd: from.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: `poll` is one valid entry for the whole call.
    assert_eq!(unsafe { libc::poll(&raw mut poll, 1, 10_000) }, 1);
}

/// Waits until a descendant is gone: reaped here, or by the parent it had.
pub fn await_gone(pid: Pid) {
    while wait::wait_for(pid).is_err() && proc::stat(pid).unwrap().is_some() {
        std::thread::yield_now();
    }
}
