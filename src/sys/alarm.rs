//! A descriptor that is readable at a time of day: `timerfd_create(2)` on `CLOCK_REALTIME`.
//!
//! It keeps its time while the host sleeps, and says when somebody has set the clock
//! (`TFD_TIMER_CANCEL_ON_SET`, Linux 3.0).

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd, FromRawFd as _, OwnedFd, RawFd};
use std::{mem, ptr};

use crate::base::WallTime;
use crate::sys::{cvt, is};

/// An alarm clock of its own.
#[derive(Debug)]
pub struct Alarm(File);

/// What made it readable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Heard {
    /// Nothing did, yet.
    Nothing,
    /// The time has come.
    Time,
    /// The clock was set; what was asked for is void.
    ClockSet,
}

impl Alarm {
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: two plain numbers go in, a descriptor or -1 comes out.
        let raw = cvt(unsafe { libc::timerfd_create(libc::CLOCK_REALTIME, flags) })?;
        // SAFETY: `raw` was opened just now and is nobody else's.
        Ok(Self(File::from(unsafe { OwnedFd::from_raw_fd(raw) })))
    }

    /// From now on it is readable at `at`, and when the clock is set; `None`: neither.
    ///
    /// # Errors
    ///
    /// None that a valid descriptor has.
    pub fn set(&self, at: Option<WallTime>) -> io::Result<()> {
        // SAFETY: `itimerspec` is plain numbers; all zeroes: no alarm.
        let mut when: libc::itimerspec = unsafe { mem::zeroed() };
        if let Some(at) = at {
            // Before 1970 there is nothing, and zero would mean: never.
            let millis = at.0.max(1);
            when.it_value.tv_sec = (millis / 1000).try_into().unwrap_or_else(|_| i32::MAX.into());
            when.it_value.tv_nsec = u32::try_from(millis % 1000).unwrap_or(0).into();
            when.it_value.tv_nsec *= 1_000_000;
        }
        let flags = libc::TFD_TIMER_ABSTIME | libc::TFD_TIMER_CANCEL_ON_SET;
        // SAFETY: `when` is valid for reads for the whole call; the old value is not asked for.
        let done = unsafe {
            libc::timerfd_settime(self.0.as_raw_fd(), flags, &raw const when, ptr::null_mut())
        };
        cvt(done).map(drop)
    }

    /// Says what has happened since it was asked last.
    ///
    /// # Errors
    ///
    /// None that a valid descriptor has.
    pub fn heard(&mut self) -> io::Result<Heard> {
        match self.0.read(&mut [0; 8]) {
            Ok(_) => Ok(Heard::Time),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Heard::Nothing),
            Err(error) if is(&error, libc::ECANCELED) => Ok(Heard::ClockSet),
            Err(error) => Err(error),
        }
    }
}

impl AsRawFd for Alarm {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock;
    use crate::sys::testing::wait_readable;

    #[test]
    fn it_is_readable_when_the_time_has_come_and_not_before() {
        let mut alarm = Alarm::new().unwrap();
        assert_eq!(alarm.heard().unwrap(), Heard::Nothing);
        let at = WallTime(clock::now().wall.0 + 30);
        alarm.set(Some(at)).unwrap();
        assert_eq!(alarm.heard().unwrap(), Heard::Nothing);
        wait_readable(&alarm);
        assert_eq!(alarm.heard().unwrap(), Heard::Time);
        assert!(clock::now().wall >= at);
        assert_eq!(alarm.heard().unwrap(), Heard::Nothing);
    }

    #[test]
    fn a_time_that_is_past_has_come() {
        let mut alarm = Alarm::new().unwrap();
        alarm.set(Some(WallTime(5))).unwrap();
        wait_readable(&alarm);
        alarm.set(None).unwrap();
        assert_eq!(alarm.heard().unwrap(), Heard::Nothing);
    }
}
