//! Points in time: as the protocol writes them, as people read and type them.

use std::time::Duration;

use crate::base::{WallTime, civil};
use crate::config::units;
use crate::sys::clock::{self, LocalTime};

const DAY_MS: u64 = 86_400_000;
const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// Reads RFC 3339: `2026-01-15T14:30:25.123Z`, with an offset or any number of decimals too.
/// `None` for anything else and for times before 1970.
#[must_use]
pub fn parse(text: &str) -> Option<WallTime> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let (time, offset_minutes) = match time.strip_suffix(['Z', 'z']) {
        Some(time) => (time, 0),
        None => {
            let sign_at = time.rfind(['+', '-'])?;
            let (time, offset) = time.split_at(sign_at);
            let (hours, minutes) = offset[1..].split_once(':')?;
            let minutes = number(hours, 23)? * 60 + number(minutes, 59)?;
            (time, if offset.starts_with('-') { -minutes } else { minutes })
        }
    };
    let millis = day_number(date)? * 86_400_000 + time_of_day(time)? - offset_minutes * 60_000;
    u64::try_from(millis).ok().map(WallTime)
}

/// RFC 3339 in UTC with milliseconds, as the protocol writes it.
#[must_use]
pub fn rfc3339(wall: WallTime) -> String {
    let (year, month, day) = civil(wall.0 / DAY_MS);
    let of_day = wall.0 % DAY_MS;
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, millis) = (of_day / 1000 % 60, of_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// What a user may give to `--since`: a duration before `now`, `HH:MM[:SS]` of today,
/// `YYYY-MM-DD`, `YYYY-MM-DD HH:MM[:SS]` of this host's zone, or RFC 3339.
#[must_use]
pub fn typed(text: &str, now: WallTime) -> Option<WallTime> {
    if let Some(ago) = units::duration(text) {
        let ago = u64::try_from(ago.as_millis()).ok()?;
        return Some(WallTime(now.0.saturating_sub(ago)));
    }
    if let Some(wall) = parse(text) {
        return Some(wall);
    }
    let (days, millis) = if let Some(millis) = time_of_day(text) {
        let today = clock::local(now);
        let date = format!("{:04}-{:02}-{:02}", today.year, today.month, today.day);
        (day_number(&date)?, millis)
    } else if let Some((date, time)) = text.split_once(['T', ' ']) {
        (day_number(date)?, time_of_day(time)?)
    } else {
        (day_number(text)?, 0)
    };
    Some(of_local(days * 86_400_000 + millis))
}

/// The moment at which the clocks of this host show `local`, in ms since 1970 as if that were UTC.
fn of_local(local: i64) -> WallTime {
    let shifted = |offset: i32| u64::try_from(local - i64::from(offset) * 60_000).unwrap_or(0);
    let guess = shifted(clock::local(WallTime(u64::try_from(local).unwrap_or(0))).offset_minutes);
    // Near a change of the clocks the first guess may have used the other offset.
    WallTime(shifted(clock::local(WallTime(guess)).offset_minutes))
}

/// `02:00` today, `Tue 02:00` within a week, else `2026-01-15 02:00`.
#[must_use]
pub fn short(wall: WallTime, now: WallTime) -> String {
    let (then, today) = (clock::local(wall), clock::local(now));
    let time = format!("{:02}:{:02}", then.hour, then.minute);
    if (then.year, then.day_of_year) == (today.year, today.day_of_year) {
        return time;
    }
    if now.0.abs_diff(wall.0) < 6 * DAY_MS {
        let weekday = WEEKDAYS.get(usize::from(then.weekday)).copied().unwrap_or("");
        return format!("{weekday} {time}");
    }
    format!("{} {time}", date(&then))
}

/// `12:00:01.204`.
#[must_use]
pub fn clock_time(wall: WallTime) -> String {
    let LocalTime { hour, minute, second, millisecond, .. } = clock::local(wall);
    format!("{hour:02}:{minute:02}:{second:02}.{millisecond:03}")
}

/// `2026-01-15 12:00:01`.
#[must_use]
pub fn full(wall: WallTime) -> String {
    let then = clock::local(wall);
    format!("{} {:02}:{:02}:{:02}", date(&then), then.hour, then.minute, then.second)
}

/// A short pause before something happens: `0.9s`, `12s`, `3m`.
#[must_use]
pub fn pause(duration: Duration) -> String {
    let tenths = duration.as_millis().div_ceil(100);
    if tenths < 100 { format!("{}.{}s", tenths / 10, tenths % 10) } else { units::uptime(duration) }
}

fn date(local: &LocalTime) -> String {
    format!("{:04}-{:02}-{:02}", local.year, local.month, local.day)
}

/// `HH:MM`, `HH:MM:SS`, `HH:MM:SS.fff...` in milliseconds.
fn time_of_day(text: &str) -> Option<i64> {
    let mut parts = text.split(':');
    let hour = number(parts.next()?, 23)?;
    let minute = number(parts.next()?, 59)?;
    let (second, millis) = match parts.next() {
        None => (0, 0),
        Some(part) => match part.split_once('.') {
            None => (number(part, 60)?, 0),
            Some((second, decimals)) => (number(second, 60)?, thousandths(decimals)?),
        },
    };
    if parts.next().is_some() {
        return None;
    }
    Some(((hour * 60 + minute) * 60 + second) * 1000 + millis)
}

/// The first three decimals of a fraction.
fn thousandths(decimals: &str) -> Option<i64> {
    if decimals.is_empty() || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let three: String = decimals.chars().chain("00".chars()).take(3).collect();
    three.parse().ok()
}

/// Exactly two digits, at most `most`.
fn number(text: &str, most: i64) -> Option<i64> {
    let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|&number| number <= most)
}

/// Days since 1970 of `YYYY-MM-DD` (proleptic Gregorian; Howard Hinnant's formula).
fn day_number(date: &str) -> Option<i64> {
    let mut parts = date.split('-');
    let year: i64 = parts.next().filter(|year| year.len() == 4)?.parse().ok()?;
    let month = number(parts.next()?, 12).filter(|&month| month > 0)?;
    let day = number(parts.next()?, 31).filter(|&day| day > 0)?;
    if parts.next().is_some() {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocol_times_are_read_and_written_alike() {
        for (text, millis) in [
            ("1970-01-01T00:00:00.000Z", 0),
            ("2024-01-15T14:30:25.123Z", 1_705_329_025_123),
            ("2024-02-29T23:59:59.999Z", 1_709_251_199_999),
            ("2100-03-01T00:00:00.000Z", 4_107_542_400_000),
        ] {
            assert_eq!(parse(text), Some(WallTime(millis)), "{text}");
            assert_eq!(rfc3339(WallTime(millis)), text);
        }
        assert_eq!(parse("2024-01-15T15:30:25+01:00"), Some(WallTime(1_705_329_025_000)));
        assert_eq!(parse("2024-01-15T14:30:25.1234567Z"), Some(WallTime(1_705_329_025_123)));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in
            ["", "T", "2024-13-01T00:00:00Z", "2024-01-15T25:00:00Z", "x", "12:3", "1:2:3:4"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        for text in ["", "soon", "25:00", "12:00:61.5.5", "2024-1-1", "-5s"] {
            assert_eq!(typed(text, WallTime(0)), None, "{text}");
        }
    }

    #[test]
    fn times_are_typed_as_durations_or_as_clocks_show_them() {
        let now = WallTime(1_705_329_025_123);
        assert_eq!(typed("10m", now), Some(WallTime(now.0 - 600_000)));
        let then = typed("2024-01-15 08:09:10", now).unwrap();
        assert_eq!(full(then), "2024-01-15 08:09:10");
        let today = typed("00:05", now).unwrap();
        assert_eq!(short(today, now), "00:05");
    }

    #[test]
    fn a_moment_is_shown_as_short_as_possible() {
        let now = typed("2026-01-15 12:00", WallTime(0)).unwrap();
        assert_eq!(short(typed("2026-01-15 02:00", now).unwrap(), now), "02:00");
        assert_eq!(short(typed("2026-01-13 02:00", now).unwrap(), now), "Tue 02:00");
        assert_eq!(short(typed("2025-12-01 02:00", now).unwrap(), now), "2025-12-01 02:00");
    }

    #[test]
    fn pauses_have_a_decimal_while_they_are_short() {
        assert_eq!(pause(Duration::from_millis(850)), "0.9s");
        assert_eq!(pause(Duration::from_secs(12)), "12s");
    }
}
