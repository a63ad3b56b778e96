//! Real children.

use std::fs::{self, File};
use std::os::fd::{AsFd, FromRawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread;

use super::*;
use crate::base::{ExitStatus, Signal};
use crate::sys::testing::{Shell, is_root, plain, run, strings, unique_path};
use crate::sys::{kill, limits, process, signals};

/// What becomes of a child that is as `spec` says and should execute `program`.
fn try_spawn(program: &CStr, spec: Spawn<'_>) -> Result<ExitStatus, SpawnError> {
    let args = strings(&["program"]);
    let spawned = Spawner::new().unwrap().spawn(&Spawn { program, args: &args, ..spec })?;
    Ok(wait::wait_for(spawned.pid).unwrap())
}

/// Like [`try_spawn`], for a program that was written just now: a child that another test has
/// between clone and exec may hold the file open for writing.
fn try_new_program(program: &Program) -> Result<ExitStatus, SpawnError> {
    loop {
        match try_spawn(&program.path(), plain()) {
            Err(error) if error.errno == libc::ETXTBSY => thread::yield_now(),
            other => return other,
        }
    }
}

fn failure(program: &CStr, spec: Spawn<'_>) -> (Stage, i32) {
    let error = try_spawn(program, spec).unwrap_err();
    (error.stage, error.errno)
}

/// A file with this text, executable by all, gone with the value.
struct Program(PathBuf);

impl Program {
    fn new(text: &str) -> Self {
        let path = unique_path("program");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }

    fn path(&self) -> std::ffi::CString {
        std::ffi::CString::new(self.0.to_str().unwrap()).unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

/// A field of `/proc/self/status` as the child sees it.
fn status_field(text: &str, name: &str) -> String {
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_ascii_whitespace().skip(1).collect::<Vec<_>>().join(" ")
}

const NOBODY: u32 = 65_534;

#[test]
fn a_program_is_executed() {
    let (args, env) = (strings(&["true"]), CArgs::new());
    let spec = Spawn::new(c"/bin/true", &args, &env, c"/");
    let pid = Spawner::new().unwrap().spawn(&spec).unwrap().pid;
    assert_eq!(wait::wait_for(pid).unwrap(), ExitStatus::Code(0));
    assert_eq!(try_spawn(c"/bin/false", plain()), Ok(ExitStatus::Code(1)));
}

#[test]
fn arguments_environment_and_directory_arrive() {
    let args = strings(&[
        "sh",
        "-c",
        "printf '%s.' \"$0\" \"$@\" \"$A\" \"$PWD\"; env | wc -l",
        "x",
        "",
        "a b",
    ]);
    let env = strings(&["A=1=2", "PATH=/usr/bin:/bin"]);
    let shell = Shell::start_with(c"/bin/sh", &args, &env, Spawn { cwd: c"/usr", ..plain() });
    let (text, _) = shell.finish();
    // The shell adds PWD (and others may add `_` or SHLVL): at least the two are there.
    assert!(text.starts_with("x..a b.1=2./usr."), "{text}");
}

#[test]
fn every_stage_that_fails_is_told_with_its_errno() {
    assert_eq!(failure(c"/no/such/program", plain()), (Stage::Exec, libc::ENOENT));
    assert_eq!(failure(c"/etc/passwd", plain()), (Stage::Exec, libc::EACCES));
    assert_eq!(failure(c"/", plain()), (Stage::Exec, libc::EACCES));
    let no_interpreter = Program::new("#!/no/such/interpreter\n");
    let error = |stage, errno| Err(SpawnError { stage, errno });
    assert_eq!(try_new_program(&no_interpreter), error(Stage::Exec, libc::ENOENT));
    let no_program = Program::new("echo hello\n");
    assert_eq!(try_new_program(&no_program), error(Stage::Exec, libc::ENOEXEC));

    let at = |cwd| failure(c"/bin/true", Spawn { cwd, ..plain() });
    assert_eq!(at(c"/no/such/directory"), (Stage::Directory, libc::ENOENT));
    assert_eq!(at(c"/etc/passwd"), (Stage::Directory, libc::ENOTDIR));

    let out_of_range = failure(c"/bin/true", Spawn { oom_score_adj: Some(1001), ..plain() });
    assert_eq!(out_of_range, (Stage::Limits, libc::EINVAL));
    let (input, _output) = fds::pipe().unwrap();
    let bad_number = [(-1, input.as_fd())];
    let error = failure(c"/bin/true", Spawn { fds: &bad_number, ..plain() });
    assert_eq!(error, (Stage::Descriptors, libc::EBADF));
}

#[test]
fn a_program_that_is_being_written_is_told_as_such() {
    let program = Program::new("");
    fs::copy("/bin/true", &program.0).unwrap();
    let writing = File::options().write(true).open(&program.0).unwrap();
    let (stage, errno) = failure(&program.path(), plain());
    assert_eq!((stage, errno), (Stage::Exec, libc::ETXTBSY));
    assert!(SpawnError { stage, errno }.is_transient());
    drop(writing);
    assert_eq!(try_new_program(&program), Ok(ExitStatus::Code(0)));
}

#[test]
fn arguments_that_are_too_long_are_told_as_such() {
    let args = strings(&["true", &"x".repeat(200 * 1024)]);
    let env = CArgs::new();
    let spec = Spawn::new(c"/bin/true", &args, &env, c"/");
    let error = Spawner::new().unwrap().spawn(&spec).unwrap_err();
    assert_eq!((error.stage, error.errno), (Stage::Exec, libc::E2BIG));
}

#[test]
fn a_child_that_could_not_start_leaves_no_zombie() {
    assert_eq!(failure(c"/no/such/program", plain()).0, Stage::Exec);
    let own = process::own_pid();
    // Others run in this process at the same time; none of them is called like this thread's.
    let zombies: Vec<_> = crate::sys::proc::children(own)
        .unwrap()
        .into_iter()
        .filter(|&pid| {
            let stat = crate::sys::proc::stat(pid).ok().flatten();
            stat.is_some_and(|stat| stat.exit_status() == Some(ExitStatus::Code(127)))
        })
        .collect();
    assert_eq!(zombies, []);
}

#[test]
fn a_child_leads_a_session_and_a_group_of_its_own() {
    let mut shell = Shell::start("echo up; read x", plain());
    assert_eq!(shell.line(), "up");
    let stat = crate::sys::proc::stat(shell.pid).unwrap().unwrap();
    assert_eq!((stat.group, stat.session), (shell.pid.raw(), shell.pid.raw()));
    shell.finish();
}

#[test]
fn a_child_starts_clean_whatever_its_parent_is_like() {
    let null = fds::null_device().unwrap();
    // SAFETY: makes a copy of a descriptor that is open, one that is not close-on-exec.
    let leak = cvt(unsafe { libc::fcntl(null.as_raw_fd(), libc::F_DUPFD, 300) }).unwrap();
    // SAFETY: the kernel has just made this descriptor for us.
    let _leak = unsafe { OwnedFd::from_raw_fd(leak) };
    let urg = Signal::new(23).unwrap();
    signals::ignore(urg);
    let script = "cat /proc/self/status; ls /proc/self/fd | sed 's/^/fd /'";
    let text = thread::spawn(move || {
        let _signals = signals::Signals::install(&[Signal::TERM, Signal::USR2]).unwrap();
        run(script, plain())
    })
    .join()
    .unwrap();
    for field in ["SigIgn:", "SigBlk:", "SigCgt:"] {
        assert_eq!(status_field(&text, field), "0000000000000000", "{field}");
    }
    let open: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("fd ")).collect();
    // The last is the directory that `ls` reads.
    assert_eq!(open, ["0", "1", "2", "3"]);
}

#[test]
fn old_kernels_without_close_range_close_one_by_one() {
    let (leak, other) = fds::pipe().unwrap();
    // SAFETY: sets a flag of a descriptor that is open.
    unsafe { libc::fcntl(leak.as_raw_fd(), libc::F_SETFD, 0) };
    let (args, env) = (strings(&["ls", "/proc/self/fd"]), CArgs::new());
    let streams = [(1, other.as_fd()), (7, other.as_fd())];
    let spec = Spawn { fds: &streams, ..Spawn::new(c"/bin/ls", &args, &env, c"/") };
    let mut spawner = Spawner::new().unwrap();
    spawner.has_close_range = false;
    let child = spawner.spawn(&spec).unwrap();
    drop(other);
    let mut text = String::new();
    io::Read::read_to_string(&mut File::from(leak), &mut text).unwrap();
    assert_eq!(wait::wait_for(child.pid).unwrap(), ExitStatus::Code(0));
    // 0 is what `ls` has opened: the lowest that was free.
    assert_eq!(text, "0\n1\n7\n");
}

/// The way of a parent with thousands of descriptors: the child shares the table at first.
#[test]
fn a_child_of_a_parent_with_many_descriptors_gets_its_own_and_no_others() {
    let (output, theirs) = fds::pipe().unwrap();
    // SAFETY: makes a copy of a descriptor that is open.
    let high = cvt(unsafe { libc::fcntl(theirs.as_raw_fd(), libc::F_DUPFD, 600) }).unwrap();
    // SAFETY: the kernel has just made this descriptor for us.
    let high = unsafe { OwnedFd::from_raw_fd(high) };
    drop(theirs);
    let (args, env) = (strings(&["ls", "/proc/self/fd"]), CArgs::new());
    let streams = [(1, high.as_fd()), (2, high.as_fd()), (7, high.as_fd())];
    let spec = Spawn { fds: &streams, ..Spawn::new(c"/bin/ls", &args, &env, c"/") };
    let mut spawner = Spawner::new().unwrap();
    let mut moves = [child::Move { target: 1, source: high.as_raw_fd() }];
    assert!(!spawner.low.slots.is_empty(), "no low number was free");
    assert!(spawner.low.lend(&mut moves).is_some());
    spawner.low.take_back(1);
    let child = spawner.spawn(&spec).unwrap();
    let failed = Spawn { program: c"/nonexistent", ..spec };
    assert_eq!(spawner.spawn(&failed).unwrap_err().stage, Stage::Exec);
    // Nothing but ours and the child's holds the pipe: it ends with them.
    drop(high);
    let mut text = String::new();
    io::Read::read_to_string(&mut File::from(output), &mut text).unwrap();
    assert_eq!(wait::wait_for(child.pid).unwrap(), ExitStatus::Code(0));
    assert_eq!(text, "0\n1\n2\n7\n");
}

/// Three files with a letter each, on numbers that are turned around among themselves.
#[test]
fn descriptors_that_trade_places_arrive_where_they_should() {
    let letters: Vec<File> = ["a", "b", "c"]
        .iter()
        .map(|letter| {
            let path = unique_path("letter");
            fs::write(&path, letter).unwrap();
            let file = File::open(&path).unwrap();
            fs::remove_file(&path).unwrap();
            file
        })
        .collect();
    let numbers: Vec<i32> = letters.iter().map(AsRawFd::as_raw_fd).collect();
    let (output, theirs) = fds::pipe().unwrap();
    let [a, b, c] = numbers.as_slice() else { panic!() };
    let fds = [
        (*b, letters[0].as_fd()),
        (*c, letters[1].as_fd()),
        (*a, letters[2].as_fd()),
        (0, letters[1].as_fd()),
        (1, theirs.as_fd()),
        (theirs.as_raw_fd(), theirs.as_fd()),
    ];
    let script =
        format!("cat /dev/fd/{a} /dev/fd/{b} /dev/fd/{c} /dev/fd/0; echo >&{}", theirs.as_raw_fd());
    let args = strings(&["sh", "-c", &script]);
    let env = strings(&["PATH=/usr/bin:/bin"]);
    // Some shells know only numbers of one digit after >&: bash knows all.
    let spec = Spawn { fds: &fds, ..Spawn::new(c"/bin/bash", &args, &env, c"/") };
    let child = Spawner::new().unwrap().spawn(&spec).unwrap();
    drop(theirs);
    let mut text = String::new();
    io::Read::read_to_string(&mut File::from(output), &mut text).unwrap();
    wait::wait_for(child.pid).unwrap();
    assert_eq!(text, "cabb\n");
}

#[test]
fn output_that_did_not_block_blocks_for_the_child() {
    let (output, theirs) = fds::pipe().unwrap();
    fds::set_nonblocking(&theirs, true).unwrap();
    let (args, env) = (strings(&["cat", "/proc/self/fdinfo/1"]), CArgs::new());
    let streams = [(1, theirs.as_fd())];
    let spec = Spawn { fds: &streams, ..Spawn::new(c"/bin/cat", &args, &env, c"/") };
    let child = Spawner::new().unwrap().spawn(&spec).unwrap();
    drop(theirs);
    let mut text = String::new();
    io::Read::read_to_string(&mut File::from(output), &mut text).unwrap();
    wait::wait_for(child.pid).unwrap();
    assert_eq!(status_field(&text, "flags:"), "01");
}

#[test]
fn a_thousand_starts_leave_no_descriptor_behind() {
    let mut spawner = Spawner::new().unwrap();
    let (args, env) = (strings(&["true"]), CArgs::new());
    let null = fds::null_device().unwrap();
    let streams = [(0, null.as_fd()), (1, null.as_fd()), (2, null.as_fd())];
    let good = Spawn { fds: &streams, ..Spawn::new(c"/bin/true", &args, &env, c"/") };
    let bad = Spawn { program: c"/no/such/program", ..good };
    for _ in 0..500 {
        let pid = spawner.spawn(&good).unwrap().pid;
        assert_eq!(wait::wait_for(pid).unwrap(), ExitStatus::Code(0));
        spawner.spawn(&bad).unwrap_err();
    }
    // The lowest free number is given out: had each start left one behind, we were past 500. (Other
    // tests have some open, too.)
    let next = fds::null_device().unwrap().as_raw_fd();
    assert!(next < 400, "{next}");
}

#[test]
fn umask_niceness_and_badness_are_set() {
    let before = (process::oom_score_adj().unwrap(), process::set_umask(0o077));
    process::set_umask(before.1);
    let text = run(
        "umask; cut -d' ' -f19 /proc/self/stat; cat /proc/self/oom_score_adj",
        Spawn { umask: Some(0o027), nice: Some(7), oom_score_adj: Some(900), ..plain() },
    );
    assert_eq!(text, "0027\n7\n900\n");
    let now = (process::oom_score_adj().unwrap(), process::set_umask(before.1));
    assert_eq!(now, before);
}

#[test]
fn limits_are_set_hard_but_open_files_may_be_raised_by_the_program() {
    let hard = limits::limit(Resource::OpenFiles).unwrap().hard;
    let set = [
        (Resource::OpenFiles, 100),
        (Resource::Core, 0),
        (Resource::FileSize, 4096 * 512),
        (Resource::Processes, 30_000),
    ];
    let text = run(
        "ulimit -S -n; ulimit -H -n; ulimit -H -c; ulimit -H -f",
        Spawn { rlimits: &set, ..plain() },
    );
    assert_eq!(text, format!("100\n{hard}\n0\n4096\n"));
}

#[test]
fn a_limit_above_what_is_allowed_is_told() {
    if !is_root() {
        let more = [(Resource::Core, limits::UNLIMITED), (Resource::OpenFiles, 1 << 40)];
        let result = failure(c"/bin/true", Spawn { rlimits: &more, ..plain() });
        assert_eq!(result, (Stage::Limits, libc::EPERM));
    }
    // Not even root may have more than the kernel's own limit, `nr_open`.
    let most = [(Resource::OpenFiles, 1 << 40)];
    let result = failure(c"/bin/true", Spawn { rlimits: &most, ..plain() });
    assert_eq!(result, (Stage::Limits, libc::EPERM));
}

#[test]
fn a_child_of_another_user_has_no_way_back() {
    if !is_root() {
        return;
    }
    let user = Credentials { uid: NOBODY, gid: NOBODY, groups: vec![NOBODY, 7] };
    let text = run(
        "cat /proc/self/status",
        Spawn { credentials: Some(&user), no_new_privs: true, ..plain() },
    );
    let four = "65534 65534 65534 65534";
    assert_eq!(status_field(&text, "Uid:"), four);
    assert_eq!(status_field(&text, "Gid:"), four);
    assert_eq!(status_field(&text, "Groups:"), "7 65534");
    assert_eq!(status_field(&text, "NoNewPrivs:"), "1");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(status_field(&text, set), "0000000000000000", "{set}");
    }
    // The memory that was shared is as it was, but for the moments in which another test has such
    // a child.
    assert!((0..1_000_000).any(|_| {
        thread::yield_now();
        dumpable()
    }));
}

#[test]
fn a_user_we_may_not_become_is_told() {
    let user = Credentials { uid: u32::MAX - 1, gid: NOBODY, groups: vec![] };
    if !is_root() {
        let result = failure(c"/bin/true", Spawn { credentials: Some(&user), ..plain() });
        assert_eq!(result, (Stage::Credentials, libc::EPERM));
        return;
    }
    assert_eq!(
        try_spawn(c"/bin/true", Spawn { credentials: Some(&user), ..plain() }),
        Ok(ExitStatus::Code(0))
    );
    let invalid = Credentials { uid: NOBODY, gid: u32::MAX, groups: vec![u32::MAX] };
    let result = failure(c"/bin/true", Spawn { credentials: Some(&invalid), ..plain() });
    assert_eq!(result, (Stage::Credentials, libc::EINVAL));
}

#[test]
fn a_directory_is_entered_as_the_childs_user() {
    if !is_root() {
        return;
    }
    let path = unique_path("private");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    let cwd = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    let user = Credentials { uid: NOBODY, gid: NOBODY, groups: vec![] };
    let result = failure(c"/bin/true", Spawn { credentials: Some(&user), cwd: &cwd, ..plain() });
    fs::remove_dir(&path).unwrap();
    assert_eq!(result, (Stage::Directory, libc::EACCES));
}

/// The one who spawns is a thread here; its end is what counts.
#[test]
fn a_child_dies_with_the_thread_that_spawned_it() {
    for user in [None, is_root().then(|| Credentials { uid: NOBODY, gid: NOBODY, groups: vec![] })]
    {
        let shell = thread::spawn(move || {
            let mut shell = Shell::start(
                "echo up; sleep 60",
                Spawn { die_with_parent: true, credentials: user.as_ref(), ..plain() },
            );
            assert_eq!(shell.line(), "up");
            shell
        })
        .join()
        .unwrap();
        let pid = shell.pid;
        let status = wait::wait_for(pid).unwrap();
        assert_eq!(status, ExitStatus::Signal { signal: Signal::KILL, core: false });
        // What it had started lives: end it too.
        let _ = kill::kill_group(pid, Signal::KILL);
    }
}

#[test]
fn the_signal_mask_of_the_caller_is_as_before() {
    let before = set_mask(0);
    set_mask(before | 1 << 40);
    assert_eq!(try_spawn(c"/bin/true", plain()), Ok(ExitStatus::Code(0)));
    assert_eq!(set_mask(before), before | 1 << 40);
}

#[test]
fn several_threads_may_spawn_at_once() {
    let threads: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(|| {
                let mut spawner = Spawner::new().unwrap();
                let (args, env) = (strings(&["true"]), CArgs::new());
                for turn in 0..50 {
                    let program = if turn % 2 == 0 { c"/bin/true" } else { c"/bin/false" };
                    let spec = Spawn::new(program, &args, &env, c"/");
                    let pid = spawner.spawn(&spec).unwrap().pid;
                    assert_eq!(wait::wait_for(pid).unwrap(), ExitStatus::Code(turn % 2));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_detached_program_has_the_null_device_and_says_when_it_is_ready() {
    let (ours, theirs) = fds::pipe().unwrap();
    let script =
        "x=$(readlink /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2 /proc/$$/cwd); echo \"$x\" >&5";
    let args = strings(&["sh", "-c", script]);
    let env = strings(&["PATH=/usr/bin:/bin"]);
    let pid = detach(c"/bin/sh", &args, &env, Some((5, theirs.as_fd()))).unwrap();
    drop(theirs);
    let mut text = String::new();
    io::Read::read_to_string(&mut File::from(ours), &mut text).unwrap();
    assert_eq!(text, "/dev/null\n/dev/null\n/dev/null\n/\n");
    assert_eq!(wait::wait_for(pid).unwrap(), ExitStatus::Code(0));
}

#[test]
fn a_child_can_find_its_own_pid_in_its_environment() {
    let script = "echo $$ $LISTEN_PID; env | grep -c LISTEN_PID";
    let said = run(script, Spawn { listen_pid: true, ..plain() });
    let (pids, count) = said.split_once('\n').unwrap();
    let (own, told) = pids.split_once(' ').unwrap();
    assert_eq!((own, count.trim()), (told, "1"));
    assert_eq!(run("echo ${LISTEN_PID-none}", plain()).trim(), "none");
}
