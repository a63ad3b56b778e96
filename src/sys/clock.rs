//! Both clocks, read together, and local time.
//!
//! The only place where the time enters pmd.

use std::mem;

use crate::base::{Now, Time, WallTime};

/// One reading of `CLOCK_MONOTONIC` and `CLOCK_REALTIME`.
#[must_use]
pub fn now() -> Now {
    Now { mono: Time(millis(libc::CLOCK_MONOTONIC)), wall: WallTime(millis(libc::CLOCK_REALTIME)) }
}

fn millis(clock: libc::clockid_t) -> u64 {
    let mut reading = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `reading` is valid for writes for the whole call. Both clocks exist on every kernel,
    // so the call cannot fail; if it did, the reading would be zero.
    unsafe { libc::clock_gettime(clock, &raw mut reading) };
    let seconds = u64::try_from(reading.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(reading.tv_nsec).unwrap_or(0);
    seconds * 1000 + nanos / 1_000_000
}

/// A moment as a wall clock of this host shows it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LocalTime {
    pub year: i32,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 60: a leap second.
    pub second: u8,
    /// 0 to 999.
    pub millisecond: u16,
    /// 0 is Sunday.
    pub weekday: u8,
    /// 0 is the first of January.
    pub day_of_year: u16,
    /// East of Greenwich, in minutes.
    pub offset_minutes: i32,
}

/// `wall` in the time zone of this host (`TZ`, else `/etc/localtime`).
///
/// The zone is read once, at the first call. UTC where it cannot be read.
#[must_use]
pub fn local(wall: WallTime) -> LocalTime {
    let seconds = wall.0 / 1000;
    // SAFETY: `tm` is plain data (numbers and one pointer), for which all zeroes is a value.
    let mut parts: libc::tm = unsafe { mem::zeroed() };
    // A 32-bit `time_t` ends in 2038: stay at its end rather than wrap.
    let moment = seconds.try_into().unwrap_or_else(|_| i32::MAX.into());
    // SAFETY: both pointers are valid for the call. `localtime_r` reads the zone itself when it
    // has not been read yet (glibc, musl), under the C library's own lock.
    let done = unsafe { libc::localtime_r(&raw const moment, &raw mut parts) };
    if done.is_null() {
        parts.tm_mday = 1;
        parts.tm_year = 70;
    }
    let small = |number: libc::c_int| u8::try_from(number).unwrap_or(0);
    LocalTime {
        year: parts.tm_year.saturating_add(1900),
        month: small(parts.tm_mon) + 1,
        day: small(parts.tm_mday),
        hour: small(parts.tm_hour),
        minute: small(parts.tm_min),
        second: small(parts.tm_sec),
        millisecond: u16::try_from(wall.0 % 1000).unwrap_or(0),
        weekday: small(parts.tm_wday),
        day_of_year: u16::try_from(parts.tm_yday).unwrap_or(0),
        offset_minutes: i32::try_from(parts.tm_gmtoff / 60).unwrap_or(0),
    }
}

/// How far the clocks of this host are ahead of UTC, in seconds (whole minutes), at so many seconds
/// since 1970.
#[must_use]
pub fn offset(seconds: u64) -> i64 {
    i64::from(local(WallTime(seconds.saturating_mul(1000))).offset_minutes) * 60
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Days since the epoch of a civil date, by Howard Hinnant's formula.
    fn days(year: i64, month: i64, day: i64) -> i64 {
        let year = if month <= 2 { year - 1 } else { year };
        let era = year.div_euclid(400);
        let of_era = year.rem_euclid(400);
        let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
    }

    #[test]
    fn the_monotonic_clock_does_not_go_back() {
        let (one, two) = (now(), now());
        assert!(one.mono <= two.mono);
        assert!(one.wall.0 > 1_700_000_000_000);
    }

    #[test]
    fn local_time_less_its_offset_is_the_moment() {
        for seconds in [0, 951_782_399, 951_782_400, 1_735_689_599, 1_900_000_000] {
            let local = local(WallTime(seconds * 1000 + 7));
            let total = days(local.year.into(), local.month.into(), local.day.into()) * 86_400
                + i64::from(local.hour) * 3600
                + i64::from(local.minute) * 60
                + i64::from(local.second)
                - i64::from(local.offset_minutes) * 60;
            assert_eq!(u64::try_from(total).unwrap(), seconds, "{local:?}");
            assert_eq!(local.millisecond, 7);
        }
    }
}
