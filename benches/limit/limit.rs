//! The reference supervisor: what the work itself costs, and nothing else.
//!
//! Every time of the battery is a ratio to this program, run beside pmd at one sitting. It reads a
//! list of commands, starts each one with `clone(CLONE_VM | CLONE_VFORK)` and `execve`, waits in
//! epoll on a signalfd, the output pipes of the children, one timerfd and a Unix listener, reaps
//! with `waitpid(-1, WNOHANG)` until nothing is left, starts a dead child again at once if it had
//! run long enough (else that long after its last start), copies the pipes to files and answers
//! one line on its socket. One thread. No configuration, no metrics, no state, no JSON.
//!
//! ```text
//! limit LIST SOCKET LOGS MIN_UPTIME_MS
//! ```
//!
//! A line of LIST is a program and its arguments, split at blanks. The output of line N, both
//! streams, goes to LOGS/N.log. When all are started it writes the CLOCK_MONOTONIC of its own first
//! instruction to stdout, 8 bytes. SIGTERM (or SIGINT) is passed on to every child as SIGTERM; when the last is gone
//! `limit` ends too. What goes wrong ends it: this is a measuring rod, not a supervisor.
//!
//! It is built by `rustc` alone, so the few functions of the C library that it needs are declared
//! at the end.

#![no_main]
#![allow(unsafe_code)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{null, null_mut};

/// What one read takes at most, and the only buffer there is.
const BUFFER: usize = 256 * 1024;
/// A read below this says that the writer makes small writes: its pipe waits for the tick.
const SMALL_READ: usize = 16 * 1024;
/// Pause between two looks at the pipes that wait, in nanoseconds.
const TICK: u64 = 1_000_000;
/// Size of a pipe at first, and the size it may grow to.
const PIPE: usize = 64 * 1024;
const LARGE_PIPE: usize = 1024 * 1024;

/// Epoll tokens: the children are 0, 1, ...; connections carry their descriptor.
const SIGNALS: u64 = 1 << 32;
const TIMER: u64 = 2 << 32;
const LISTENER: u64 = 3 << 32;
const CONNECTION: u64 = 4 << 32;

struct Child {
    path: CString,
    /// Ends with a null pointer; points into `_words`.
    arguments: Vec<*const c_char>,
    _words: Vec<CString>,
    /// Both ends stay here over all lives of the child.
    output: c_int,
    input: c_int,
    pipe_size: usize,
    log: c_int,
    /// 0: none runs.
    pid: c_int,
    started: u64,
}

struct Limit {
    children: Vec<Child>,
    /// Child by pid; as long as there are pids, touched only where there are children.
    by_pid: Vec<u32>,
    alive: usize,
    stopping: bool,
    min_uptime: u64,
    /// Children that ended too early, by the time at which they start again.
    early: BinaryHeap<Reverse<(u64, usize)>>,
    /// Pipes out of the poll set, read at `next_tick`.
    busy: Vec<usize>,
    next_tick: u64,
    /// What the timerfd is set to; 0: off.
    armed: u64,
    buffer: Vec<u8>,
    stack: Vec<u128>,
    environment: Vec<*const c_char>,
    epoll: c_int,
    signals: c_int,
    timer: c_int,
    listener: c_int,
}

#[unsafe(no_mangle)]
extern "C" fn main(count: c_int, arguments: *const *const c_char) -> c_int {
    let born = now();
    if count != 5 {
        return 2;
    }
    // SAFETY: the C library passes `count` strings, each ended by a NUL byte.
    let argument = |index| unsafe { CStr::from_ptr(*arguments.add(index)) };
    let text = |index| argument(index).to_str().unwrap_or_default();
    let Ok(list) = std::fs::read_to_string(text(1)) else { return 2 };
    let Ok(min_uptime) = text(4).parse::<u64>() else { return 2 };
    let mut limit = Limit::new(text(2), min_uptime * 1_000_000);
    for (number, line) in list.lines().enumerate() {
        limit.add(line, &format!("{}/{number}.log", text(3)));
    }
    for index in 0..limit.children.len() {
        limit.start(index);
    }
    // SAFETY: eight bytes of a local.
    unsafe { write(1, (&raw const born).cast(), 8) };
    limit.run()
}

impl Limit {
    fn new(socket_path: &str, min_uptime: u64) -> Self {
        // SAFETY: plain system calls; every pointer is to a local of the type the call expects.
        unsafe {
            let mut files = [0_u64; 2];
            getrlimit(RLIMIT_NOFILE, &mut files);
            files[0] = files[1];
            setrlimit(RLIMIT_NOFILE, &files);
            let mut set = [0_u64; 16];
            set[0] = 1 << (SIGCHLD - 1) | 1 << (SIGTERM - 1) | 1 << (SIGINT - 1);
            sigprocmask(SIG_BLOCK, &set, null_mut());
            let limit = Self {
                children: Vec::new(),
                by_pid: vec![0; pid_max()],
                alive: 0,
                stopping: false,
                min_uptime,
                early: BinaryHeap::new(),
                busy: Vec::new(),
                next_tick: 0,
                armed: 0,
                buffer: vec![0; BUFFER],
                stack: vec![0; 1024],
                environment: vec![c"PATH=/usr/local/bin:/usr/bin:/bin".as_ptr(), null()],
                epoll: must(epoll_create1(CLOEXEC)),
                signals: must(signalfd(-1, &set, CLOEXEC | NONBLOCK)),
                timer: must(timerfd_create(CLOCK_MONOTONIC, CLOEXEC | NONBLOCK)),
                listener: must(socket(AF_UNIX, SOCK_STREAM | CLOEXEC | NONBLOCK, 0)),
            };
            let mut address = SocketAddress { family: AF_UNIX as u16, path: [0; 108] };
            address.path[..socket_path.len()].copy_from_slice(socket_path.as_bytes());
            must(bind(limit.listener, &address, size_of::<SocketAddress>() as u32));
            must(listen(limit.listener, 16));
            limit.watch(EPOLL_CTL_ADD, limit.signals, SIGNALS);
            limit.watch(EPOLL_CTL_ADD, limit.timer, TIMER);
            limit.watch(EPOLL_CTL_ADD, limit.listener, LISTENER);
            limit
        }
    }

    fn watch(&self, operation: c_int, fd: c_int, token: u64) {
        let mut event = Event { events: EPOLLIN, token };
        // SAFETY: the pointer is to a whole event.
        must(unsafe { epoll_ctl(self.epoll, operation, fd, &mut event) });
    }

    fn add(&mut self, line: &str, log: &str) {
        let words: Vec<_> = line
            .split_ascii_whitespace()
            .map(|word| CString::new(word).unwrap_or_default())
            .collect();
        let Some(path) = words.first().cloned() else { return };
        let mut arguments: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
        arguments.push(null());
        let log = CString::new(log).unwrap_or_default();
        let mut ends = [0; 2];
        // SAFETY: the pointers are to a pair of descriptors and to a string ended by NUL.
        let log = unsafe {
            must(pipe2(ends.as_mut_ptr(), CLOEXEC));
            must(fcntl(ends[0], F_SETFL, NONBLOCK));
            must(open(log.as_ptr(), O_WRONLY | O_CREAT | O_APPEND | CLOEXEC, 0o640))
        };
        self.watch(EPOLL_CTL_ADD, ends[0], self.children.len() as u64);
        self.children.push(Child {
            path,
            arguments,
            _words: words,
            output: ends[0],
            input: ends[1],
            pipe_size: PIPE,
            log,
            pid: 0,
            started: 0,
        });
    }

    fn start(&mut self, index: usize) {
        let child = &mut self.children[index];
        child.started = now();
        let life = Life {
            path: child.path.as_ptr(),
            arguments: child.arguments.as_ptr(),
            environment: self.environment.as_ptr(),
            output: child.input,
        };
        let flags = CLONE_VM | CLONE_VFORK | SIGCHLD;
        // SAFETY: the child runs `become_child` on a stack of its own while this thread is held, and
        // reads only `life` until execve; the stack grows down from its (aligned) end.
        let pid = unsafe {
            let top = self.stack.as_mut_ptr().add(self.stack.len());
            clone(become_child, top.cast(), flags, (&raw const life).cast_mut().cast())
        };
        child.pid = must(pid);
        self.by_pid[pid as usize] = index as u32;
        self.alive += 1;
    }

    fn run(&mut self) -> c_int {
        let mut events = [Event { events: 0, token: 0 }; 64];
        loop {
            self.arm();
            // SAFETY: room for 64 events; no signal interrupts, they are blocked.
            let count = must(unsafe { epoll_wait(self.epoll, events.as_mut_ptr(), 64, -1) });
            for event in &events[..count as usize] {
                let token = event.token;
                match token {
                    SIGNALS => self.signals(),
                    TIMER => self.timer(),
                    LISTENER => self.accept(),
                    _ if token >= CONNECTION => self.answer((token - CONNECTION) as c_int),
                    _ => self.readable(token as usize),
                }
            }
            if self.stopping && self.alive == 0 {
                for index in 0..self.children.len() {
                    while self.copy(index, BUFFER) > 0 {}
                }
                return 0;
            }
        }
    }

    /// Sets the timerfd to what comes first: the next tick or the next start.
    fn arm(&mut self) {
        let tick = if self.busy.is_empty() { u64::MAX } else { self.next_tick };
        let start = self.early.peek().map_or(u64::MAX, |Reverse((time, _))| *time);
        let first = tick.min(start);
        let first = if first == u64::MAX { 0 } else { first };
        if first != self.armed {
            let time = [0, 0, first / 1_000_000_000, first % 1_000_000_000];
            // SAFETY: four words are an itimerspec: interval, then first expiry.
            must(unsafe { timerfd_settime(self.timer, TFD_TIMER_ABSTIME, &time, null_mut()) });
            self.armed = first;
        }
    }

    fn timer(&mut self) {
        let mut count = 0_u64;
        // SAFETY: eight bytes of a local.
        unsafe { read(self.timer, (&raw mut count).cast(), 8) };
        self.armed = 0;
        let now = now();
        while let Some(&Reverse((time, index))) = self.early.peek() {
            if time > now {
                break;
            }
            self.early.pop();
            if !self.stopping {
                self.start(index);
            }
        }
        if !self.busy.is_empty() && self.next_tick <= now {
            self.next_tick = now + TICK;
            let mut busy = std::mem::take(&mut self.busy);
            busy.retain(|index| self.tick(*index));
            self.busy = busy;
        }
    }

    fn signals(&mut self) {
        let mut information = [0_u32; 32];
        // SAFETY: 128 bytes are one signalfd_siginfo; its first word is the signal.
        while unsafe { read(self.signals, information.as_mut_ptr().cast(), 128) } == 128 {
            if information[0] != SIGCHLD as u32 {
                self.stopping = true;
                for child in self.children.iter().filter(|child| child.pid != 0) {
                    // SAFETY: kill touches no memory; the pid is of a child not yet reaped.
                    unsafe { kill(child.pid, SIGTERM) };
                }
            }
        }
        let mut status = 0;
        loop {
            // SAFETY: the pointer is to an int.
            let pid = unsafe { waitpid(-1, &mut status, WNOHANG) };
            if pid <= 0 {
                return;
            }
            let index = self.by_pid[pid as usize] as usize;
            self.children[index].pid = 0;
            self.alive -= 1;
            if self.stopping {
                continue;
            }
            let due = self.children[index].started + self.min_uptime;
            if due <= now() {
                self.start(index);
            } else {
                self.early.push(Reverse((due, index)));
            }
        }
    }

    /// A pipe of the poll set has bytes: copied at once. After a small read it waits for the tick.
    fn readable(&mut self, index: usize) {
        if self.copy(index, BUFFER) < SMALL_READ {
            self.watch(EPOLL_CTL_DEL, self.children[index].output, 0);
            if self.busy.is_empty() {
                self.next_tick = now() + TICK;
            }
            self.busy.push(index);
        }
    }

    /// A pipe that waited. False: it is back in the poll set.
    fn tick(&mut self, index: usize) -> bool {
        let child = &mut self.children[index];
        let mut waiting: c_int = 0;
        // SAFETY: FIONREAD stores an int.
        must(unsafe { ioctl(child.output, FIONREAD, &mut waiting) });
        let mut waiting = waiting as usize;
        let mut stays = waiting > 0;
        if waiting >= child.pipe_size / 4 * 3 {
            // SAFETY: fcntl with a plain number; refused means that the pipe stays as it is.
            let grown = unsafe { fcntl(child.output, F_SETPIPE_SZ, LARGE_PIPE) } > 0;
            if child.pipe_size < LARGE_PIPE && grown {
                child.pipe_size = LARGE_PIPE;
            } else {
                stays = false;
            }
        }
        while waiting > 0 {
            waiting = waiting.saturating_sub(self.copy(index, waiting));
        }
        if !stays {
            self.watch(EPOLL_CTL_ADD, self.children[index].output, index as u64);
        }
        stays
    }

    /// Moves at most `most` bytes from a pipe to its file; returns how many there were.
    fn copy(&mut self, index: usize, most: usize) -> usize {
        let child = &self.children[index];
        // SAFETY: at most as many bytes as the buffer has.
        unsafe {
            let count = read(child.output, self.buffer.as_mut_ptr().cast(), most.min(BUFFER));
            if count <= 0 {
                return 0;
            }
            let mut done = 0;
            while done < count {
                let rest = self.buffer.as_ptr().add(done as usize).cast();
                done += must(write(child.log, rest, (count - done) as usize) as c_int) as isize;
            }
            count as usize
        }
    }

    fn accept(&self) {
        // SAFETY: no address is asked for.
        let fd = unsafe { accept4(self.listener, null_mut(), null_mut(), CLOEXEC | NONBLOCK) };
        if fd >= 0 {
            self.watch(EPOLL_CTL_ADD, fd, CONNECTION + fd as u64);
        }
    }

    /// One line answers each read that ends a line.
    fn answer(&mut self, fd: c_int) {
        // SAFETY: at most as many bytes as the buffer has; the answer is a constant.
        unsafe {
            let count = read(fd, self.buffer.as_mut_ptr().cast(), 4096);
            if count <= 0 {
                close(fd);
            } else if self.buffer[count as usize - 1] == b'\n' {
                write(fd, c"ok\n".as_ptr().cast(), 3);
            }
        }
    }
}

/// What the child needs between clone and execve.
#[repr(C)]
struct Life {
    path: *const c_char,
    arguments: *const *const c_char,
    environment: *const *const c_char,
    output: c_int,
}

/// The child's first and only steps: system calls, no allocation, the parent is held meanwhile.
extern "C" fn become_child(life: *mut c_void) -> c_int {
    // SAFETY: `start` passes a `Life` that outlives this, all strings ended by NUL bytes.
    unsafe {
        let life = &*life.cast::<Life>();
        sigprocmask(SIG_SETMASK, &[0; 16], null_mut());
        dup2(life.output, 1);
        dup2(life.output, 2);
        execve(life.path, life.arguments, life.environment);
        _exit(127)
    }
}

/// Ends the program when a call that cannot sensibly fail failed.
fn must(result: c_int) -> c_int {
    if result < 0 {
        // SAFETY: ends the process, nothing runs after it.
        unsafe { _exit(70) };
    }
    result
}

/// Nanoseconds of CLOCK_MONOTONIC.
fn now() -> u64 {
    let mut time = [0_u64; 2];
    // SAFETY: two words are a timespec.
    unsafe { clock_gettime(CLOCK_MONOTONIC, time.as_mut_ptr().cast()) };
    time[0] * 1_000_000_000 + time[1]
}

fn pid_max() -> usize {
    let path = Path::new(OsStr::from_bytes(b"/proc/sys/kernel/pid_max"));
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.trim().parse().unwrap_or(4 * 1024 * 1024) + 1
}

#[derive(Clone, Copy)]
#[cfg_attr(target_arch = "x86_64", repr(C, packed))]
#[cfg_attr(not(target_arch = "x86_64"), repr(C))]
struct Event {
    events: u32,
    token: u64,
}

#[repr(C)]
struct SocketAddress {
    family: u16,
    path: [u8; 108],
}

// Numbers of the Linux ABI that x86-64 and arm64 share.
const CLOEXEC: c_int = 0o2_000_000;
const NONBLOCK: c_int = 0o4_000;
const O_WRONLY: c_int = 1;
const O_CREAT: c_int = 0o100;
const O_APPEND: c_int = 0o2_000;
const SIGINT: c_int = 2;
const SIGTERM: c_int = 15;
const SIGCHLD: c_int = 17;
const SIG_BLOCK: c_int = 0;
const SIG_SETMASK: c_int = 2;
const WNOHANG: c_int = 1;
const RLIMIT_NOFILE: c_int = 7;
const CLOCK_MONOTONIC: c_int = 1;
const TFD_TIMER_ABSTIME: c_int = 1;
const CLONE_VM: c_int = 0x100;
const CLONE_VFORK: c_int = 0x4000;
const AF_UNIX: c_int = 1;
const SOCK_STREAM: c_int = 1;
const EPOLLIN: u32 = 1;
const EPOLL_CTL_ADD: c_int = 1;
const EPOLL_CTL_DEL: c_int = 2;
const F_SETFL: c_int = 4;
const F_SETPIPE_SZ: c_int = 1031;
const FIONREAD: c_int = 0x541B;

unsafe extern "C" {
    fn clock_gettime(clock: c_int, time: *mut c_void) -> c_int;
    fn clone(
        start: extern "C" fn(*mut c_void) -> c_int,
        stack: *mut c_void,
        flags: c_int,
        life: *mut c_void,
        ...
    ) -> c_int;
    fn execve(
        path: *const c_char,
        arguments: *const *const c_char,
        environment: *const *const c_char,
    ) -> c_int;
    fn _exit(status: c_int) -> !;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn kill(pid: c_int, signal: c_int) -> c_int;
    fn sigprocmask(how: c_int, set: *const [u64; 16], old: *mut [u64; 16]) -> c_int;
    fn signalfd(fd: c_int, set: *const [u64; 16], flags: c_int) -> c_int;
    fn timerfd_create(clock: c_int, flags: c_int) -> c_int;
    fn timerfd_settime(fd: c_int, flags: c_int, new: *const [u64; 4], old: *mut [u64; 4]) -> c_int;
    fn epoll_create1(flags: c_int) -> c_int;
    fn epoll_ctl(epoll: c_int, operation: c_int, fd: c_int, event: *mut Event) -> c_int;
    fn epoll_wait(epoll: c_int, events: *mut Event, room: c_int, timeout: c_int) -> c_int;
    fn getrlimit(resource: c_int, limit: *mut [u64; 2]) -> c_int;
    fn setrlimit(resource: c_int, limit: *const [u64; 2]) -> c_int;
    fn pipe2(ends: *mut c_int, flags: c_int) -> c_int;
    fn dup2(from: c_int, to: c_int) -> c_int;
    fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    fn close(fd: c_int) -> c_int;
    fn fcntl(fd: c_int, command: c_int, ...) -> c_int;
    fn ioctl(fd: c_int, request: c_int, ...) -> c_int;
    fn read(fd: c_int, bytes: *mut c_void, count: usize) -> isize;
    fn write(fd: c_int, bytes: *const c_void, count: usize) -> isize;
    fn socket(family: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn bind(fd: c_int, address: *const SocketAddress, size: u32) -> c_int;
    fn listen(fd: c_int, backlog: c_int) -> c_int;
    fn accept4(fd: c_int, address: *mut SocketAddress, size: *mut u32, flags: c_int) -> c_int;
}
