//! The supervised program of the battery.
//!
//! Its first act is to read CLOCK_MONOTONIC; what it then tells the battery is that moment, so that
//! a latency ends at the first instruction of the child and not at a log line of the supervisor.
//! It reports with one `write` of 24 bytes to a FIFO and sleeps until a signal ends it. It is built
//! by `rustc` alone, without the standard library, as a static program at a fixed address: what it
//! costs to start is part of every figure and should be little.
//!
//! ```text
//! child                          exits at once: the empty static program of the CLI row
//! child FIFO ID                  reports, sleeps
//! child FIFO ID small|big BYTES  reports, writes BYTES of numbered lines to stdout as writes of
//!                                100 bytes or of 64 KiB, reports again, sleeps
//! ```
//!
//! A report is, in the byte order of the machine: `u32` ID, `u32` pid, `u64` nanoseconds of
//! CLOCK_MONOTONIC, `u32` kind (0 started, 1 written), `u32` zero. A line is `II SSSSSSSSSSSS xxx`
//! with the ID and a serial number from 0, padded with `x` to 100 bytes (`small`) or 128 (`big`),
//! its newline included; the last line has `END` in place of the first three `x`.

#![no_std]
#![no_main]
#![allow(unsafe_code)]

use core::ffi::{c_char, c_int, c_void};

// What the C library gives; declared here so that one `rustc` call builds the file.
#[link(name = "c", kind = "static", modifiers = "-bundle")]
unsafe extern "C" {
    fn clock_gettime(clock: c_int, now: *mut Timespec) -> c_int;
    fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    fn write(fd: c_int, bytes: *const c_void, count: usize) -> isize;
    fn getpid() -> c_int;
    fn pause() -> c_int;
    fn _exit(status: c_int) -> !;
}

#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

#[repr(C)]
struct Report {
    id: u32,
    pid: u32,
    nanoseconds: u64,
    kind: u32,
    zero: u32,
}

const CLOCK_MONOTONIC: c_int = 1;
/// `O_WRONLY | O_CLOEXEC`; the FIFO stays open so that the battery sees when the last child ended.
const WRITE_ONLY: c_int = 0o2_000_001;

/// Bytes of one line in mode `small`, and of one `write`.
const SMALL_LINE: usize = 100;
/// Bytes of one line in mode `big`: 512 of them are one `write`.
const BIG_LINE: usize = 128;
const BIG_WRITE: usize = 64 * 1024;
/// Where the serial number begins and ends in a line.
const SERIAL: core::ops::Range<usize> = 3..15;
/// Where the last line says that it is the last.
const MARK: core::ops::Range<usize> = 16..19;

#[unsafe(no_mangle)]
extern "C" fn main(count: c_int, arguments: *const *const c_char) -> c_int {
    let started = now();
    let argument = |index: c_int| {
        // SAFETY: the C library passes `count` strings, each ended by a NUL byte.
        (index < count).then(|| unsafe { *arguments.add(index as usize) })
    };
    let (Some(fifo), Some(id)) = (argument(1), argument(2)) else { return 0 };
    let id = number(id);
    // SAFETY: the path is a string ended by a NUL byte.
    let fifo = unsafe { open(fifo, WRITE_ONLY) };
    if fifo < 0 {
        return 1;
    }
    report(fifo, id as u32, started, 0);
    if let (Some(mode), Some(total)) = (argument(3), argument(4)) {
        // SAFETY: an argument has at least its NUL byte.
        let big = unsafe { *mode } as u8 == b'b';
        let (line, block) = if big { (BIG_LINE, BIG_WRITE) } else { (SMALL_LINE, SMALL_LINE) };
        write_lines(id, line, block, number(total) / block as u64);
        report(fifo, id as u32, now(), 1);
    }
    loop {
        // SAFETY: takes nothing, touches nothing.
        unsafe { pause() };
    }
}

/// Nanoseconds of CLOCK_MONOTONIC.
fn now() -> u64 {
    let mut time = Timespec { seconds: 0, nanoseconds: 0 };
    // SAFETY: the pointer is to a whole timespec.
    unsafe { clock_gettime(CLOCK_MONOTONIC, &mut time) };
    time.seconds as u64 * 1_000_000_000 + time.nanoseconds as u64
}

fn report(fifo: c_int, id: u32, nanoseconds: u64, kind: u32) {
    // SAFETY: getpid takes nothing and cannot fail.
    let report = Report { id, pid: unsafe { getpid() } as u32, nanoseconds, kind, zero: 0 };
    let bytes = (&raw const report).cast();
    // SAFETY: as many bytes as the report has; at most PIPE_BUF, so it arrives whole.
    if unsafe { write(fifo, bytes, size_of::<Report>()) } != size_of::<Report>() as isize {
        // SAFETY: ends the process, nothing runs after it.
        unsafe { _exit(2) };
    }
}

/// Writes `blocks` blocks of `block` bytes, each of whole lines of `line` bytes. Not inlined: its buffer
/// is on the stack, whose pages would otherwise be touched before anything else, the clock included.
#[inline(never)]
fn write_lines(id: u64, line: usize, block: usize, blocks: u64) {
    let mut buffer = [b'x'; BIG_WRITE];
    let mut serial = [b'0'; SERIAL.end - SERIAL.start];
    for text in buffer[..block].chunks_exact_mut(line) {
        text[0] = b'0' + (id / 10 % 10) as u8;
        text[1] = b'0' + (id % 10) as u8;
        text[2] = b' ';
        text[SERIAL.end] = b' ';
        text[line - 1] = b'\n';
    }
    for turn in 0..blocks {
        for text in buffer[..block].chunks_exact_mut(line) {
            text[SERIAL].copy_from_slice(&serial);
            increment(&mut serial);
        }
        if turn + 1 == blocks {
            let last = block - line;
            buffer[last + MARK.start..last + MARK.end].copy_from_slice(b"END");
        }
        write_all(&buffer[..block]);
    }
}

/// Adds one to a number in decimal digits.
fn increment(digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return;
        }
        *digit = b'0';
    }
}

fn write_all(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        // SAFETY: pointer and length are those of the slice.
        let written = unsafe { write(1, bytes.as_ptr().cast(), bytes.len()) };
        if written < 0 {
            // SAFETY: ends the process, nothing runs after it.
            unsafe { _exit(3) };
        }
        bytes = &bytes[written as usize..];
    }
}

/// A decimal number, as far as the digits go.
fn number(text: *const c_char) -> u64 {
    let mut value = 0;
    for place in 0.. {
        // SAFETY: stops at the NUL byte that ends the string.
        let digit = unsafe { *text.add(place) } as u8;
        if !digit.is_ascii_digit() {
            break;
        }
        value = value * 10 + u64::from(digit - b'0');
    }
    value
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: ends the process, nothing runs after it.
    unsafe { _exit(4) }
}
